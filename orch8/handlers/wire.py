"""The request that pushes a step to its handler, signed by Standard Webhooks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

from orch8 import __version__
from orch8.errors import ConfigurationError, InvalidArgument
from orch8.handlers.classify import Classify, generic
from orch8.handlers.http import Call

KEY_HEADER: Final = "Idempotency-Key"
TOLERANCE: Final = 300.0
MAX_SIGNATURES: Final = 16
USER_AGENT: Final = f"orch8/{__version__}"
_PREFIX: Final = "whsec_"


def sign(message_id: str, timestamp: int, body: bytes, secrets: Iterable[str]) -> str:
    """The webhook-signature of a message: one ``v1,<base64>`` per secret, separated by blanks.

    ``timestamp`` is in Unix seconds. Raises ConfigurationError for a secret that is not
    ``whsec_<base64>``. Source: Standard Webhooks 1.0.0.
    """
    content = f"{message_id}.{timestamp}.".encode() + body
    return " ".join(f"v1,{_digest(_key(secret), content)}" for secret in secrets)


def verify(
    headers: Mapping[str, str],
    body: bytes,
    secrets: Sequence[str],
    *,
    now: Callable[[], float] = time.time,
    tolerance: float = TOLERANCE,
) -> bool:
    """Whether any of the secrets signed this message within ``tolerance`` seconds of now.

    Header names are compared without case. Compares in constant time.
    """
    given = {name.lower(): value for name, value in headers.items()}
    message_id, stamp = given.get("webhook-id", ""), given.get("webhook-timestamp", "")
    if not message_id or not (stamp.isascii() and stamp.isdigit()) or len(stamp) > 12:  # noqa: PLR2004
        return False
    if abs(now() - int(stamp)) > tolerance:
        return False
    content = f"{message_id}.{stamp}.".encode() + body
    wanted = [_digest(_key(secret), content).encode() for secret in secrets]
    candidates = given.get("webhook-signature", "").split()[:MAX_SIGNATURES]
    signatures = [c.removeprefix("v1,").encode() for c in candidates if c.startswith("v1,")]
    # Every pair is compared, so that the time taken tells nothing about which one matched.
    return sum(hmac.compare_digest(w, s) for w in wanted for s in signatures) > 0


def handler_url(base: str, handler: str) -> str:
    """The address of a handler below a base URL: its name is one path segment, quoted."""
    if not handler or handler in {".", ".."}:
        raise InvalidArgument(f"handler: {handler!r} cannot be part of an address")
    parts = urlsplit(base)
    path = f"{parts.path.rstrip('/')}/{quote(handler, safe='')}"
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def build_push(
    base: str,
    handler: str,
    body: bytes,
    *,
    idempotency_key: str,
    dispatch: int,
    timeout: float,
    connect_timeout: float,
    max_response: int,
    secrets: Sequence[str] = (),
    traceparent: str | None = None,
    guard: bool = False,
    not_after: float | None = None,
    key_header: str = KEY_HEADER,
    classify: Classify = generic,
    now: Callable[[], float] = time.time,
) -> Call:
    """The call that dispatches a step: ``POST <base>/<handler>`` with its key and signature.

    The key travels in Idempotency-Key, and in ``key_header`` if that is another.
    ``dispatch`` counts the sends of this attempt from 1. The message id of the signature is the
    idempotency key: a re-send of the attempt is the same message.
    """
    headers = [
        ("Content-Type", "application/json"),
        ("Accept", "application/json"),
        ("User-Agent", USER_AGENT),
        (KEY_HEADER, idempotency_key),
        ("Orch8-Dispatch", str(dispatch)),
    ]
    if key_header.lower() != KEY_HEADER.lower():
        headers.append((key_header, idempotency_key))
    if traceparent is not None:
        headers.append(("traceparent", traceparent))
    if secrets:
        stamp = int(now())
        headers += [
            ("webhook-id", idempotency_key),
            ("webhook-timestamp", str(stamp)),
            ("webhook-signature", sign(idempotency_key, stamp, body, secrets)),
        ]
    return Call(
        url=handler_url(base, handler),
        body=body,
        headers=tuple(headers),
        timeout=timeout,
        connect_timeout=connect_timeout,
        max_response=max_response,
        guard=guard,
        not_after=not_after,
        classify=classify,
    )


def _key(secret: str) -> bytes:
    try:
        text = secret.removeprefix(_PREFIX)
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)  # often unpadded
    except ValueError:
        key = b""
    if not key or not secret.startswith(_PREFIX):
        raise ConfigurationError(
            "ORCH8_HANDLER_SECRET must be whsec_ followed by base64, as Standard Webhooks writes it"
        )
    return key


def _digest(key: bytes, content: bytes) -> str:
    return base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()
