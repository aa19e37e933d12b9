"""The guard against calls into private networks (server-side request forgery).

A name is checked when it is configured and the peer's address again when the connection is made,
so that a name which resolves differently the second time (DNS rebinding) reaches nothing.
Source of the networks: the IANA special-purpose address registries (RFC 6890).
"""

from __future__ import annotations

import ipaddress
import re
import socket
import threading
from collections.abc import Iterable
from typing import Final
from urllib.parse import SplitResult, urlsplit

from orch8.errors import InvalidArgument, SsrfBlocked

MAX_URL: Final = 8192
RESOLVE_TIMEOUT: Final = 5.0
MAX_LOOKUPS: Final = 16

BLOCKED: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",  # this network, unspecified
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local, cloud metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarking
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
        "::/96",  # unspecified, loopback, IPv4-compatible
        "64:ff9b:1::/48",  # local NAT64
        "100::/64",  # discard
        "2001::/23",  # Teredo and other protocol assignments
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
        "5f00::/16",  # segment routing
        "fc00::/7",  # unique local
        "fe80::/10",  # link-local
        "fec0::/10",  # site-local
        "ff00::/8",  # multicast
    )
)
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_UNSAFE_IN_URL: Final = re.compile(r"[\x00-\x20\x7f\\]")
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, section 5.6.2
_UNSAFE_IN_VALUE: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
# Each of these decides where a request goes or where it ends.
FORBIDDEN_HEADERS: Final = frozenset(
    {"host", "connection", "content-length", "transfer-encoding", "te", "upgrade", "expect"}
)
_lookups = threading.BoundedSemaphore(MAX_LOOKUPS)


def is_blocked(address: str) -> bool:
    """Whether an IP address is one that a guarded call must not reach; not an address: True."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return True
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif ip in _NAT64:
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
    return any(ip in network for network in BLOCKED if network.version == ip.version)


def check_url(url: str, *, allow_internal: bool, timeout: float = RESOLVE_TIMEOUT) -> None:
    """The URL is one that orch8 may call, by its form and by every address of its name.

    Raises SsrfBlocked otherwise, also when the name has no address within ``timeout`` seconds.
    ``allow_internal`` leaves only the check of the form.
    """
    parts = check_form(url)
    if allow_internal:
        return
    host = parts.hostname or ""
    for address in _resolve(host, timeout):
        if is_blocked(address):
            raise SsrfBlocked(
                f"url: {host} is the internal address {address}; use a public address, or set "
                "ORCH8_ALLOW_INTERNAL_URLS=true"
            )


def check_form(url: str) -> SplitResult:
    """The URL is absolute http or https without credentials; its parts are returned.

    Raises SsrfBlocked otherwise. Resolves nothing.
    """
    if not isinstance(url, str) or not url:
        raise SsrfBlocked("url: must be a text such as https://example.com/path")
    if len(url) > MAX_URL:
        raise SsrfBlocked(f"url: is longer than {MAX_URL} characters")
    if _UNSAFE_IN_URL.search(url):
        raise SsrfBlocked("url: contains a blank, a backslash or a control character; encode it")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise SsrfBlocked(f"url: cannot be read ({error})") from None
    if parts.scheme not in {"http", "https"}:
        raise SsrfBlocked("url: must begin with http:// or https://")
    if "@" in parts.netloc:
        raise SsrfBlocked("url: must not contain credentials; send them in a header")
    if not parts.hostname or port == 0:
        raise SsrfBlocked("url: names no host and port that can be called")
    return parts


def check_headers(headers: Iterable[tuple[str, str]]) -> None:
    """Every header may be sent as it stands.

    Raises InvalidArgument naming the first that may not.
    """
    for name, value in headers:
        if not _TOKEN.fullmatch(name):
            raise InvalidArgument(f"headers: {name!r} is not a header name")
        if name.lower() in FORBIDDEN_HEADERS or name.lower().startswith("proxy-"):
            raise InvalidArgument(f"headers: {name} is set by orch8 and cannot be given")
        if _UNSAFE_IN_VALUE.search(value):
            raise InvalidArgument(f"headers: the value of {name} contains a control character")


def _resolve(host: str, timeout: float) -> list[str]:
    # getaddrinfo has no time-out of its own: a thread that may outlive this call gives it one.
    if not _lookups.acquire(timeout=timeout):
        raise SsrfBlocked(f"url: {host} cannot be looked up now; too many lookups are waiting")
    found: list[str] = []
    done = threading.Event()

    def look_up() -> None:
        try:
            infos = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            found.extend(str(info[4][0]) for info in infos)
        except (OSError, UnicodeError):
            pass
        finally:
            _lookups.release()
            done.set()

    threading.Thread(target=look_up, name="orch8-resolve", daemon=True).start()
    if not done.wait(timeout) or not found:
        raise SsrfBlocked(f"url: {host} cannot be resolved; check the name")
    return found
