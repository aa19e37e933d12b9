"""Card-network budgets: attempts are counted when they are sent, and a guard asks what is left.

A guard looks and does not reserve: two instances that ask at the same moment are told the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from orch8.blocks.guard import BREAK, DEFER, spans
from orch8.blocks.step import Effect, Step
from orch8.engine.expressions.values import timestamp
from orch8.engine.lifecycle import StepState
from orch8.engine.outcome import COMPLETED, Verdict, broken_off, failed
from orch8.engine.scope import Part
from orch8.errors import ExpressionError
from orch8.money.networks import (
    BARRED,
    VOID,
    Budget,
    NetworkRule,
    Planned,
    budget_left,
    called,
    limited,
    longest,
    networks,
)
from orch8.runtime.preparing import Task
from orch8.runtime.run import Run
from orch8.storage.budgets import Counted
from orch8.storage.rows import StepRow

# An answer that says that the request surely never reached the network.
UNREACHED: Final = frozenset({Verdict.NOT_SENT, Verdict.REFUSED, Verdict.FAILED_SAFE})
MAX_NAME: Final = 255  # characters of an instrument, a network, a merchant or a currency
_HISTORY: Final = "attempts"


# -- counting ------------------------------------------------------------------------------------
def counted(tasks: Iterable[Task], at: datetime) -> list[Counted]:
    """What the tasks that are about to be sent count against the budgets of their instruments: each
    attempt once, whatever its dispatches, from the first that may have reached its network. A step
    without effect money, or whose money names no instrument, counts nothing.
    """
    return [
        _counted(task.row, instrument, at)
        for task in tasks
        if (instrument := _instrument(task.row)) is not None and task.sends and _first(task.row)
    ]


def _first(row: StepRow) -> bool:
    return row.asking is None and (row.dispatches <= 1 or row.outcome in UNREACHED)


def _counted(row: StepRow, instrument: str, at: datetime) -> Counted:
    money = row.money
    amount = money.get("amount")
    return Counted(
        row.instance_id, row.node_key, row.generation, row.tenant_id,
        called(str(money.get("network") or ""))[:MAX_NAME], instrument,
        str(money.get("merchant") or "")[:MAX_NAME],
        amount if isinstance(amount, int) and not isinstance(amount, bool) else None,
        _currency(money.get("currency")), at,
    )  # fmt: skip


def judge(run: Run, row: StepRow, verdict: Verdict, *, barred: bool = False) -> None:
    """The counted attempt has this verdict: it is not counted any more if it surely never reached
    the network. ``barred``: it was declined in a way that the network forbids to repeat.
    """
    if _instrument(row) is None:
        return
    said = VOID if verdict in UNREACHED else BARRED if barred else verdict.value
    run.changes.judged.append((row.instance_id, row.node_key, row.generation, said))


def void(run: Run, row: StepRow) -> None:
    """A dispatch was given back unsent: if it was the first that could have reached the network,
    its attempt is not counted any more.
    """
    if row.dispatches == 0 or row.outcome in UNREACHED:
        judge(run, row, Verdict.NOT_SENT)


def _instrument(row: StepRow) -> str | None:
    money = row.money if row.effect == Effect.MONEY else None
    found = money.get("instrument") if isinstance(money, Mapping) else None
    return str(found)[:MAX_NAME] if found else None


def _currency(given: Any) -> str | None:
    return str(given).upper()[:MAX_NAME] if given else None


# -- guarding ------------------------------------------------------------------------------------
def history(instrument: str, since: datetime) -> Part:
    """What a run asks for to know the attempts on an instrument after a moment."""
    return Part(f"{_HISTORY}:{json.dumps([instrument, since.isoformat()])}")


def asked_history(ref: Part) -> tuple[str, datetime] | None:
    """The instrument and the moment that ``history`` was asked with; None of any other part."""
    kind, _, rest = ref.name.partition(":")
    if kind != _HISTORY:
        return None
    instrument, since = json.loads(rest)
    return instrument, datetime.fromisoformat(since)


def guard(run: Run, row: StepRow, params: Any) -> None:
    """guard: ended, and the run goes on; or else its loop ends, it fails, or it is asked again when
    the budget allows another attempt.
    """
    block = run.block(row)
    assert isinstance(block, Step)
    if block.assertion is not None:
        holds = run.scope.truthy(block.assertion, row.key, run.error(row.key))
        output = _told(holds, Budget(), None)
        said = None if holds else "the guard's condition does not hold"
        _go_on(run, row, params["on_exhausted"], output, said, None)
        return
    wanted = params["network_budget"]
    named = _text(wanted, "network")
    network = called(named) if named is not None else None
    rules = _rules(run, wanted["limits"], network)
    instrument = _text(wanted, "instrument")
    if instrument is None:
        raise ExpressionError("network_budget.instrument came to null; it must be a text")
    seen = run.known.get(history(instrument, run.now - longest(rules)))
    currency = _text(wanted, "currency")
    planned = Planned(_text(wanted, "merchant"), _amount(wanted), _currency(currency))
    budget = budget_left(rules, seen, run.now, planned)
    rule = budget.exhausted_by
    output = _told(rule is None, budget, network)
    reason = None if rule is None else f"{rule.network}: {rule.max} {rule.counts} are used up"
    _go_on(run, row, params["on_exhausted"], output, reason, budget.earliest_at)


def _go_on(
    run: Run, row: StepRow, on_exhausted: str, output: Any, exhausted: str | None,
    earliest_at: datetime | None,
) -> None:  # fmt: skip
    if exhausted is None or on_exhausted == "continue":
        run.end(row, COMPLETED, output=output, verdict=Verdict.SUCCEEDED)
    elif on_exhausted == BREAK:
        run.end(row, broken_off(exhausted), output=output, verdict=Verdict.SUCCEEDED)
        row.error = None  # the loop ends as planned: nothing went wrong
    elif on_exhausted == DEFER and earliest_at is not None:
        row.state = StepState.SCHEDULED
        run.schedule(row, earliest_at)
        run.audit("step.deferred", "deferred", row, reason=exhausted)
    else:
        error = failed(exhausted, code="budget_exhausted", details=output)
        run.end(row, error, output=output)


def _rules(
    run: Run, limits: Mapping[str, Mapping[str, Any]], network: str | None
) -> list[NetworkRule]:
    """The rules that may hold: the network's, else those of all that are named, else all known."""
    names = [network] if network is not None else list(limits) or list(networks())
    today = run.now.date()
    return [rule for each in names for rule in limited(each, spans(limits.get(each, {})), today)]


def _told(allowed: bool, budget: Budget, network: str | None) -> dict[str, Any]:
    rule, at = budget.exhausted_by, budget.earliest_at
    return {
        "allowed": allowed,
        "left": budget.left,
        "network": network,
        "exhausted_by": None
        if rule is None
        else {
            "network": rule.network,
            "counts": rule.counts.value,
            "max": rule.max,
            "window_seconds": rule.window.total_seconds() if rule.window else None,
            "why": rule.why,
        },
        "earliest_at": timestamp(at) if at is not None else None,
    }


def _text(wanted: Mapping[str, Any], name: str) -> str | None:
    value = wanted.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > MAX_NAME:
        raise ExpressionError(
            f"network_budget.{name} came to {str(value)[:60]!r}; it must be a text of at most "
            f"{MAX_NAME} characters"
        )
    return value


def _amount(wanted: Mapping[str, Any]) -> int | None:
    value = wanted.get("amount")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise ExpressionError(
            f"network_budget.amount came to {value!r}; it must be a whole number of minor units"
        )
    return value
