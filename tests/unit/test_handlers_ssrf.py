"""The guard against internal addresses."""

from __future__ import annotations

import pytest

from orch8.errors import InvalidArgument, SsrfBlocked
from orch8.handlers.ssrf import check_form, check_headers, check_url, is_blocked

INTERNAL = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.2.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.7",
    "203.0.113.9",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::a00:1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "not an address",
    "",
]
PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "100.63.255.255",
    "100.128.0.1",
    "172.15.255.255",
    "172.32.0.1",
    "192.169.0.1",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2606:4700:4700::1111",
    "2a00:1450:4001::1",
]


@pytest.mark.parametrize("address", INTERNAL)
def test_internal_address_is_blocked(address: str) -> None:
    """Every special-purpose network is out of reach, in each of its spellings."""
    assert is_blocked(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_address_is_allowed(address: str) -> None:
    """Ordinary addresses are not blocked, not even the neighbours of special ones."""
    assert not is_blocked(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://localhost:8080/",
        "http://[::1]/",
        "http://[::ffff:10.0.0.1]/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://0/",
    ],
)
def test_url_with_an_internal_address_is_blocked_in_every_spelling(url: str) -> None:
    """Names and numbers that come to an internal address are found by resolving them."""
    with pytest.raises(SsrfBlocked, match="internal"):
        check_url(url, allow_internal=False)
    check_url(url, allow_internal=True)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "//example.com/",
        "example.com",
        "http://",
        "http:///path",
        "http://user@example.com/",
        "http://user:pass@example.com/",
        "http://example.com\\@127.0.0.1/",
        "http://example.com/a b",
        "http://example.com/\r\nHost: x",
        "http://example.com:0/",
        "http://example.com:99999/",
        "http://[::1/",
        "http://example.com/" + "a" * 9000,
    ],
)
def test_url_of_another_form_is_refused_even_when_internal_ones_are_allowed(url: str) -> None:
    """Only absolute http and https addresses without credentials can be called."""
    with pytest.raises(SsrfBlocked, match="url"):
        check_url(url, allow_internal=True)


def test_url_with_a_public_address_passes() -> None:
    """A public address passes without any request being made."""
    check_url("https://1.1.1.1:8443/path?q=1#f", allow_internal=False)
    assert check_form("HTTPS://Example.com/").hostname == "example.com"


def test_name_that_cannot_be_resolved_is_refused() -> None:
    """A name without an address cannot be checked, so it is refused."""
    with pytest.raises(SsrfBlocked, match="resolved"):
        check_url("http://no-such-name.invalid/", allow_internal=False)


@pytest.mark.parametrize(
    "header",
    [
        ("Host", "internal"),
        ("hOsT", "internal"),
        ("Content-Length", "5"),
        ("Transfer-Encoding", "chunked"),
        ("Connection", "close"),
        ("Proxy-Authorization", "x"),
        ("X-A\r\nHost", "x"),
        ("X-A:", "x"),
        ("", "x"),
        ("X A", "x"),
        ("X-A", "a\r\nHost: b"),
        ("X-A", "a\x00"),
    ],
)
def test_header_that_moves_or_splits_the_request_is_refused(header: tuple[str, str]) -> None:
    """Host, framing headers and control characters are refused by name."""
    with pytest.raises(InvalidArgument, match="headers"):
        check_headers([("Accept", "ok"), header])


def test_ordinary_headers_pass() -> None:
    """Headers that users need are accepted."""
    check_headers([("Authorization", "Bearer x"), ("X-Trace", "a\tb"), ("X-Empty", "")])
