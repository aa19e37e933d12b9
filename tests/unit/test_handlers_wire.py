"""The signed request that pushes a step."""

from __future__ import annotations

import base64
import hashlib
import hmac

import orjson
import pytest

from orch8.errors import ConfigurationError, InvalidArgument
from orch8.handlers.http import Call
from orch8.handlers.request import StepRequest
from orch8.handlers.wire import build_push, handler_url, sign, verify

KEY = b"0123456789abcdef01234567"
SECRET = "whsec_" + base64.b64encode(KEY).decode()
OTHER = "whsec_" + base64.b64encode(b"another secret of some length").decode()
NOW = 1_700_000_000
BODY = b'{"amount":9900}'


def headers(signature: str, stamp: int = NOW) -> dict[str, str]:
    return {
        "Webhook-Id": "msg_1",
        "webhook-timestamp": str(stamp),
        "WEBHOOK-SIGNATURE": signature,
    }


def test_signature_is_what_the_standard_says() -> None:
    """The signature is v1 and the base64 HMAC-SHA256 of id.timestamp.body under the decoded key."""
    content = b"msg_1." + str(NOW).encode() + b"." + BODY
    wanted = base64.b64encode(hmac.new(KEY, content, hashlib.sha256).digest()).decode()
    assert sign("msg_1", NOW, BODY, [SECRET]) == f"v1,{wanted}"


def test_signature_agrees_with_the_published_vector() -> None:
    """The example of the standard's documentation, comes out the same."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    body = b'{"test": 2432232314}'
    signature = sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body, [secret])
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_secret_may_lack_its_padding() -> None:
    """Base64 without its trailing = signs the same."""
    padded = "whsec_" + base64.b64encode(b"sixteen bytes 16").decode()
    assert padded.endswith("=")
    assert sign("m", 1, b"", [padded.rstrip("=")]) == sign("m", 1, b"", [padded])


@pytest.mark.parametrize("age", [-300, -1, 0, 299, 300])
def test_verify_accepts_300_seconds_either_way(age: int) -> None:
    """A message up to 300 seconds old or early is accepted."""
    signature = sign("msg_1", NOW, BODY, [SECRET])
    assert verify(headers(signature), BODY, [SECRET], now=lambda: NOW + age)


@pytest.mark.parametrize("age", [-301, 301, 100_000])
def test_verify_refuses_what_is_too_old_or_too_early(age: int) -> None:
    """A message outside the tolerance is refused although its signature is right."""
    signature = sign("msg_1", NOW, BODY, [SECRET])
    assert not verify(headers(signature), BODY, [SECRET], now=lambda: NOW + age)


def test_verify_accepts_any_of_several_secrets_and_signatures() -> None:
    """While a secret is rotated, old and new sign and verify each other's messages."""
    both = sign("msg_1", NOW, BODY, [OTHER, SECRET])
    assert verify(headers(both), BODY, [SECRET], now=lambda: NOW)
    one = sign("msg_1", NOW, BODY, [SECRET])
    assert verify(headers("v1a,xyz " + one), BODY, [OTHER, SECRET], now=lambda: NOW)
    assert not verify(headers(one), BODY, [OTHER], now=lambda: NOW)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"webhook-id": "msg_1"},
        {"webhook-id": "msg_1", "webhook-timestamp": "soon", "webhook-signature": "v1,x"},
        {"webhook-id": "msg_1", "webhook-timestamp": "²", "webhook-signature": "v1,x"},
        {"webhook-id": "msg_1", "webhook-timestamp": "9" * 5000, "webhook-signature": "v1,x"},
        {"webhook-id": "msg_1", "webhook-timestamp": str(NOW), "webhook-signature": "v1,ü"},
        {"webhook-id": "msg_1", "webhook-timestamp": str(NOW)},
    ],
)
def test_verify_refuses_damaged_headers(given: dict[str, str]) -> None:
    """Missing or unreadable headers are a refusal, not an exception."""
    assert not verify(given, BODY, [SECRET], now=lambda: NOW)


def test_verify_refuses_a_changed_body() -> None:
    """One changed byte breaks the signature."""
    signature = sign("msg_1", NOW, BODY, [SECRET])
    assert not verify(headers(signature), BODY + b" ", [SECRET], now=lambda: NOW)


@pytest.mark.parametrize(
    "secret", ["", "plain", "whsec_", "whsec_%%%", base64.b64encode(KEY).decode()]
)
def test_secret_of_another_form_names_its_setting(secret: str) -> None:
    """A secret that is not whsec_ and base64 is a configuration error that says so."""
    with pytest.raises(ConfigurationError, match="ORCH8_HANDLER_SECRET"):
        sign("m", NOW, b"", [secret])


@pytest.mark.parametrize(
    ("base", "handler", "url"),
    [
        ("http://h:1", "charge", "http://h:1/charge"),
        ("http://h:1/", "charge", "http://h:1/charge"),
        ("http://h/workers/", "a b/c?d#e", "http://h/workers/a%20b%2Fc%3Fd%23e"),
        ("http://h/w?tenant=1", "charge", "http://h/w/charge?tenant=1"),
        ("https://h", "zahlung-ä", "https://h/zahlung-%C3%A4"),
    ],
)
def test_handler_name_is_one_quoted_path_segment(base: str, handler: str, url: str) -> None:
    """Whatever a handler is called, its request stays below the base address."""
    assert handler_url(base, handler) == url


@pytest.mark.parametrize("handler", ["", ".", ".."])
def test_handler_name_that_would_leave_the_base_is_refused(handler: str) -> None:
    """Dot segments are not handler names."""
    with pytest.raises(InvalidArgument, match="handler"):
        handler_url("http://h/w", handler)


def push(**more: object) -> Call:
    given: dict[str, object] = {
        "idempotency_key": "k-1",
        "dispatch": 3,
        "timeout": 2.0,
        "connect_timeout": 1.0,
        "max_response": 10,
        "now": lambda: NOW + 0.9,
    }
    return build_push("http://h", "charge", BODY, **(given | more))  # type: ignore[arg-type]


def test_push_carries_key_dispatch_trace_and_signature() -> None:
    """A push names its attempt, its dispatch and its trace, and is signed as it is sent."""
    call = push(secrets=[SECRET], traceparent="00-a-b-01")
    sent = dict(call.headers)
    assert (call.method, call.url, call.body) == ("POST", "http://h/charge", BODY)
    assert sent["Idempotency-Key"] == "k-1"
    assert sent["Orch8-Dispatch"] == "3"
    assert sent["traceparent"] == "00-a-b-01"
    assert sent["Content-Type"] == "application/json"
    assert sent["User-Agent"].startswith("orch8/")
    assert verify(sent, call.body, [SECRET], now=lambda: NOW)


def test_push_without_secret_is_not_signed() -> None:
    """Without a secret there are no webhook headers."""
    assert not [name for name, _ in push().headers if name.startswith("webhook")]


def test_request_body_does_not_depend_on_the_order_of_members() -> None:
    """Equal requests have equal bytes, so that a fingerprint survives a database."""
    one = StepRequest("charge", "i", "s", "k", params={"a": 1, "b": 2}, context={"x": 1, "y": 2})
    two = StepRequest(
        "charge", "i", "s", "k", params={"b": 2, "a": 1}, context={"y": 2, "x": 1}, dispatch=9
    )
    assert one.body() == two.body()
    members = {
        "context", "params", "outputs", "instance_id", "step", "generation", "idempotency_key"
    }  # fmt: skip
    assert set(orjson.loads(one.body())) == members


def test_request_that_has_no_json_form_names_the_step() -> None:
    """An integer beyond 64 bits is reported with its step instead of being rounded."""
    with pytest.raises(InvalidArgument, match="step s:"):
        StepRequest("charge", "i", "s", "k", params={"n": 2**70}).body()
