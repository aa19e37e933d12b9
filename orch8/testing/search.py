"""The read side of a pretend provider: what became of a charge, as far as its search knows."""

from __future__ import annotations

from typing import Any

import orjson

from orch8.testing.entry import Charge, Turn
from orch8.testing.ledger import Ledger
from orch8.testing.misbehaviour import Do, Rule, Script, Stage
from orch8.testing.replies import MAX_SILENCE, Reply, error


class Search:
    """Answers what orch8's reconcile handlers answer. ``lag`` is in seconds.

    It is eventually consistent: what has happened less than ``lag`` ago it does not know, and says
    "no" of a charge that is so young.
    """

    def __init__(self, ledger: Ledger, script: Script, *, lag: float = 0.0) -> None:
        self._ledger, self._script, self._lag = ledger, script, lag

    def delay(self, handler: str, key: str) -> tuple[Rule | None, float]:
        """The rule of this search, and the seconds to wait before its answer."""
        rule = self._script.pick(Stage.SEARCH, handler, key)
        slow = rule is not None and rule.do is not Do.SEARCH_LAG
        return rule, rule.delay_ms / 1000 if rule is not None and slow else 0.0

    def answer(self, key: str, rule: Rule | None) -> Reply:
        """What the search says of the charges under a key."""
        match rule.do if rule is not None else None:
            case Do.SEARCH_FAIL:
                return Reply(500, error("api_error", "the search failed"))
            case Do.SEARCH_TIME_OUT:
                return Reply(0, silence=MAX_SILENCE)
            case Do.SEARCH_CANNOT_TELL:
                return Reply(200, _finding("cannot_tell"))
        charges = self._ledger.search(key)
        lag = self._lag
        if rule is not None and rule.do is Do.SEARCH_LAG:
            lag = rule.delay_ms / 1000
        moment = self._ledger.now() - lag
        seen = [(charge, turn) for charge in charges if (turn := charge.seen_at(moment))]
        if not seen or (rule is not None and rule.do is Do.SEARCH_MISS):
            return Reply(200, _finding("no"))
        return Reply(200, _finding("yes", *_most_telling(seen)))

    def show(self, charge_id: str) -> Reply:
        """One charge by its id, which is never late."""
        charge = self._ledger.charge(charge_id)
        if charge is None:
            return Reply(404, error("resource_missing", "there is no charge with this id"))
        return Reply(200, {**charge.last.body, **charge.to_json()})


def sought(raw: bytes) -> str | None:
    """The idempotency key that the body of a search asks for; None when it names none."""
    try:
        body = orjson.loads(raw or b"{}")
    except orjson.JSONDecodeError:
        return None
    if not isinstance(body, dict):
        return None
    params = body.get("params")
    places = [body.get("attempt"), params]
    if isinstance(params, dict):
        places.insert(1, params.get("attempt"))
    for place in places:
        key = place.get("idempotency_key") if isinstance(place, dict) else None
        if isinstance(key, str) and key:
            return key
    return None


def _most_telling(seen: list[tuple[Charge, Turn]]) -> tuple[Charge, Turn]:
    # Money that moved is what a caller must learn of, also when a later try was declined.
    return next((pair for pair in seen if pair[1].ending == "succeeded"), seen[-1])


def _finding(found: str, charge: Charge | None = None, turn: Turn | None = None) -> dict[str, Any]:
    return {
        "found": found,
        "outcome": turn.ending if turn is not None else None,
        "provider_ref": charge.charge_id if charge is not None else None,
        "output": turn.body if turn is not None else None,
    }
