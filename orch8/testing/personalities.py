"""How well-known providers word their answers and treat their keys, for a pretend one to imitate.

Each imitates what a caller can observe of a key: header, life, replay, and the status and shape of
answers. Everything else about the provider is left out. Sources: the documentation of each
provider's API on idempotent requests and errors, read in 2026.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

from orch8.errors import InvalidArgument
from orch8.testing.entry import Ending
from orch8.testing.ledger import Replay
from orch8.testing.replies import Reply, error

DAY: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Facts:
    """What an answer is about; ``code`` is the reason of a decline, None for the usual one."""

    charge_id: str
    amount: Any = None
    currency: Any = None
    code: str | None = None

    def base(self) -> dict[str, Any]:
        """The members that every answer about a charge has, so that checkers need one name."""
        return {"charge_id": self.charge_id, "amount": self.amount, "currency": self.currency}


Words = Callable[[Ending, Facts], tuple[int, dict[str, Any]]]


def _native(ending: Ending, facts: Facts) -> tuple[int, dict[str, Any]]:
    match ending:
        case Ending.SUCCEEDED:
            return 200, {"status": "succeeded"}
        case Ending.DECLINED:
            code = facts.code or "insufficient_funds"
            return 200, {"status": "failed", "decline_code": code, "outcome": "declined"}
        case Ending.PENDING:
            return 202, {"status": "processing", "outcome": "pending"}
        case Ending.REQUIRES_ACTION:
            return 200, {"status": "requires_action", "outcome": "requires_action"}


def _stripe(ending: Ending, facts: Facts) -> tuple[int, dict[str, Any]]:
    if ending is Ending.DECLINED:
        refusal = error(
            "card_declined",
            "Your card was declined.",
            type="card_error",
            decline_code=facts.code or "insufficient_funds",
            charge=facts.charge_id,
        )
        return 402, refusal
    status = "processing" if ending is Ending.PENDING else ending.value
    return 200, {"id": facts.charge_id, "object": "payment_intent", "status": status}


# An outbound payment has no customer who could be asked for anything: it is on its way.
_STRIPE_V2: Final[Mapping[Ending, str]] = {
    Ending.SUCCEEDED: "posted",
    Ending.PENDING: "processing",
    Ending.REQUIRES_ACTION: "processing",
}


def _stripe_v2(ending: Ending, facts: Facts) -> tuple[int, dict[str, Any]]:
    if ending is Ending.DECLINED:
        return _stripe(ending, facts)
    kind = "v2.money_management.outbound_payment"
    return 200, {"id": facts.charge_id, "object": kind, "status": _STRIPE_V2[ending]}


_ADYEN: Final[Mapping[Ending, str]] = {
    Ending.SUCCEEDED: "Authorised",
    Ending.DECLINED: "Refused",
    Ending.PENDING: "Pending",
    Ending.REQUIRES_ACTION: "RedirectShopper",
}


def _adyen(ending: Ending, facts: Facts) -> tuple[int, dict[str, Any]]:
    body = {"pspReference": facts.charge_id, "resultCode": _ADYEN[ending]}
    if ending is Ending.DECLINED:
        body |= {"refusalReason": "Refused", "refusalReasonCode": facts.code or "12"}
    if ending is Ending.REQUIRES_ACTION:
        return 200, {**body, "action": {"type": "redirect", "method": "GET"}}
    return 200, body


def _checkout(ending: Ending, facts: Facts) -> tuple[int, dict[str, Any]]:
    match ending:
        case Ending.SUCCEEDED:
            more: dict[str, Any] = {"approved": True, "status": "Authorized"}
            return 201, {"id": facts.charge_id, **more, "response_code": "10000"}
        case Ending.DECLINED:
            more = {"approved": False, "status": "Declined"}
            return 201, {"id": facts.charge_id, **more, "response_code": facts.code or "20051"}
        case Ending.PENDING | Ending.REQUIRES_ACTION:
            link = {"_links": {"redirect": {"href": "https://3ds.example/session"}}}
            more = link if ending is Ending.REQUIRES_ACTION else {}
            return 202, {"id": facts.charge_id, "status": "Pending", **more}


_GOCARDLESS: Final[Mapping[Ending, str]] = {
    Ending.SUCCEEDED: "confirmed",
    Ending.DECLINED: "failed",
    Ending.PENDING: "pending_submission",
    Ending.REQUIRES_ACTION: "pending_customer_approval",
}


def _gocardless(ending: Ending, facts: Facts) -> tuple[int, dict[str, Any]]:
    return 201, {"payments": {"id": facts.charge_id, "status": _GOCARDLESS[ending]}}


_QONTO: Final[Mapping[Ending, str]] = {
    Ending.SUCCEEDED: "settled",
    Ending.DECLINED: "declined",
    Ending.PENDING: "processing",
}


def _qonto(ending: Ending, facts: Facts) -> tuple[int, dict[str, Any]]:
    if ending is Ending.REQUIRES_ACTION:
        return 428, {"code": "sca_required", "message": "confirm the transfer first"}
    return 200, {"transfer": {"id": facts.charge_id, "status": _QONTO[ending]}}


_HEADER: Final = "idempotency-key"
_BUSY: Final = Reply(409, error("idempotency_key_in_use", "a request with this key is in flight"))
_MISMATCH: Final = Reply(400, error("idempotency_error", "this key had other parameters"))


def _exists(charge_id: str | None) -> Reply:
    links = {"conflicting_resource_id": charge_id}
    return Reply(409, error("idempotent_creation_conflict", "it was made before", links=links))


def _gocardless_exists(charge_id: str | None) -> Reply:
    reason = {
        "reason": "idempotent_creation_conflict",
        "message": "this key has made a resource before",
        "links": {"conflicting_resource_id": charge_id},
    }
    whole = error("409", "it was made before", type="invalid_state", errors=[reason])
    whole["error"]["code"] = 409
    return Reply(409, whole)


@dataclass(frozen=True, slots=True)
class Personality:
    """How a provider treats keys and words its answers; ``key_ttl`` in seconds.

    ``header`` in small letters carries the key; a request without it may use Idempotency-Key or
    the body's ``idempotency_key``. ``replayed`` are the headers of a replayed answer.
    """

    name: str
    words: Words = _native
    header: str = _HEADER
    replay: Replay = Replay.FIRST_RESULT
    key_ttl: float = DAY
    checks_body: bool = True
    busy: Reply = _BUSY
    mismatch: Reply = _MISMATCH
    exists: Callable[[str | None], Reply] = _exists
    refused: Reply = field(
        default_factory=lambda: Reply(422, error("parameter_invalid", "a parameter is wrong"))
    )
    server_error: Reply = field(
        default_factory=lambda: Reply(500, error("api_error", "something went wrong"))
    )
    replayed: Mapping[str, str] = field(
        default_factory=lambda: MappingProxyType({"Idempotent-Replayed": "true"})
    )

    def tell(self, ending: Ending, facts: Facts) -> tuple[int, dict[str, Any]]:
        """Status and body of the answer about a charge that stands so."""
        status, body = self.words(ending, facts)
        return status, {**facts.base(), **body}


_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})
_STRIPE_V1: Final = Personality(
    "stripe_v1",
    _stripe,
    mismatch=Reply(
        400, error("idempotency_error", "this key had other parameters", type="idempotency_error")
    ),
    refused=Reply(
        400, error("parameter_invalid_integer", "invalid amount", type="invalid_request_error")
    ),
    busy=Reply(
        409,
        error("idempotency_key_in_use", "this key is in use", type="invalid_request_error"),
        {"Stripe-Should-Retry": "true"},
    ),
    server_error=Reply(500, {"error": {"type": "api_error", "message": "something broke"}}),
)
_ADYEN_TROUBLE: Final = {"errorType": "internal", "errorCode": "905", "message": "not available"}
_ADYEN_BUSY: Final = {
    "status": 422,
    "errorType": "validation",
    "errorCode": "704",
    "message": "request already processed or in progress",
}

_ALL: Final = (
    Personality("none"),
    _STRIPE_V1,
    # Version 2 tries failed work again; what it made stays as it was.
    replace(
        _STRIPE_V1,
        name="stripe_v2",
        words=_stripe_v2,
        replay=Replay.ONLY_SUCCESS,
        key_ttl=30 * DAY,
    ),
    Personality(
        "adyen",
        _adyen,
        key_ttl=31 * DAY,
        checks_body=False,
        busy=Reply(422, _ADYEN_BUSY),
        refused=Reply(422, {"status": 422, "errorType": "validation", "errorCode": "100"}),
        server_error=Reply(500, {"status": 500, **_ADYEN_TROUBLE}),
        replayed=_NO_HEADERS,
    ),
    Personality(
        "checkout",
        _checkout,
        header="cko-idempotency-key",
        replay=Replay.ONLY_SUCCESS,
        busy=Reply(409, {"error_type": "request_conflict", "error_codes": ["request_in_progress"]}),
        refused=Reply(422, {"error_type": "request_invalid", "error_codes": ["amount_invalid"]}),
        server_error=Reply(500, None),
        replayed=_NO_HEADERS,
    ),
    Personality(
        "gocardless",
        _gocardless,
        replay=Replay.CONFLICT,
        exists=_gocardless_exists,
        replayed=_NO_HEADERS,
    ),
    Personality(
        "qonto",
        _qonto,
        header="x-qonto-idempotency-key",
        replay=Replay.ONLY_SUCCESS,
        key_ttl=1800.0,
        checks_body=False,
        replayed=_NO_HEADERS,
    ),
)
PERSONALITIES: Final[Mapping[str, Personality]] = {one.name: one for one in _ALL}


def personality(name: str) -> Personality:
    """The personality of this name; raises InvalidArgument when there is none."""
    found = PERSONALITIES.get(name)
    if found is None:
        names = ", ".join(PERSONALITIES)
        raise InvalidArgument(f"preset: {name!r} is unknown; there are {names}")
    return found
