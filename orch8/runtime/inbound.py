"""inbound: whether a public webhook comes from one who knows its trigger's secret, and is new."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from orch8.errors import NotFound, Unauthorized
from orch8.runtime import triggers
from orch8.runtime.office import Office
from orch8.runtime.start import StartResult
from orch8.runtime.triggers import Firing, Kind
from orch8.storage.transaction import Row

OLDEST: Final = 300  # seconds that a time stamp may be in the past
NEWEST: Final = 60  # seconds that it may be in the future: clocks differ
SHORTEST_NONCE, LONGEST_NONCE = 16, 128
_DIGITS: Final = 15  # of a time stamp; more is no time
PUBLIC: Final = "public_webhook"


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """What was sent to a public webhook; ``now`` is in seconds since 1970."""

    timestamp: str
    nonce: str
    signature: str
    raw: bytes
    now: float


def receiver(office: Office, slug: str) -> Row:
    """The trigger that takes in webhooks under this slug. Raises NotFound."""
    with office.begin() as tx:
        row = triggers.found(tx, slug, None)
    if row.trigger_type != Kind.WEBHOOK or not row.enabled:
        raise NotFound(f"trigger {slug[:60]!r}")
    return row


def verify(trigger: Row, delivery: Delivery) -> None:
    """Raises Unauthorized unless the delivery is signed with the trigger's secret, and of now."""
    if not trigger.secret:
        raise Unauthorized("the trigger has no secret, so nobody can sign for it")
    stamp = delivery.timestamp
    if not (stamp.isascii() and stamp.isdecimal() and len(stamp) <= _DIGITS):
        raise Unauthorized("x-trigger-timestamp must be the time in seconds since 1970")
    if not -NEWEST <= delivery.now - int(stamp) <= OLDEST:
        raise Unauthorized("x-trigger-timestamp is too far from now")
    nonce = delivery.nonce
    printable = nonce.isascii() and nonce.isprintable()
    if not (SHORTEST_NONCE <= len(nonce) <= LONGEST_NONCE and printable):
        raise Unauthorized(
            f"x-trigger-nonce must have {SHORTEST_NONCE} to {LONGEST_NONCE} printable characters"
        )
    expected = signature(trigger.secret, stamp, nonce, delivery.raw)
    if not hmac.compare_digest(expected.encode(), delivery.signature.encode()):
        raise Unauthorized("x-orch8-signature is not that of this request")


def signature(secret: str, timestamp: str, nonce: str, raw: bytes) -> str:
    """What a sender who knows the secret puts into x-orch8-signature."""
    signed = f"{timestamp}.{nonce}.".encode() + raw
    digest = hmac.new(secret.encode(), signed, sha256).digest()
    return "v1=" + urlsafe_b64encode(digest).decode().rstrip("=")


def take_in(
    office: Office, trigger: Row, nonce: str, payload: Any, *, user_agent: str, request_id: str
) -> StartResult:
    """An instance runs with the payload as its data. Raises Unauthorized for a nonce that has
    started one before: the nonce names the instance, so a delivery is used up by what it starts and
    by nothing less, and one that could not be taken in can be sent again.
    """
    firing = Firing(
        payload=payload,
        meta={"source": PUBLIC, "user_agent": user_agent},
        key=f"nonce:{nonce}",
        strict_key=False,
        actor=f"webhook:{trigger.slug}",
        request_id=request_id,
    )
    result = triggers.fire(office, trigger, firing)
    used = result.instance.idempotency_key == triggers.key_of(trigger, f"nonce:{nonce}")
    if result.deduplicated and used:
        raise Unauthorized("x-trigger-nonce was used before")
    return result
