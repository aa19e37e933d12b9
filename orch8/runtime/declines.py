"""What an instance knows of its declines: `decline` and `last_decline`, kept with the settle."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, Final

from orch8.blocks.step import Effect
from orch8.engine.expressions.values import timestamp
from orch8.engine.outcome import Answer, Verdict
from orch8.engine.scope import DECLINE, LAST_DECLINE, STATE
from orch8.errors import ConfigurationError
from orch8.money.decline import Decline, DeclineClass, Policy, built_in, read_policy
from orch8.runtime import budgets
from orch8.runtime.run import Run
from orch8.storage.rows import StepRow

MAX_POLICY: Final = 1_000_000  # bytes of an operator's policy file
# After these the latest money answer was no decline. The others say nothing about the instrument.
_NO_DECLINE: Final = frozenset({Verdict.SUCCEEDED, Verdict.REQUIRES_ACTION, Verdict.FAILED})


def note(run: Run, row: StepRow, got: Answer) -> None:
    """What an answer to a step with effect money says about declines and budgets is kept; answers
    to other steps cost nothing. Called before the answer takes effect, so that the conditions of
    what follows see it.
    """
    if row.effect != Effect.MONEY:
        return
    if got.verdict is Verdict.DECLINED:
        unknown = _unknown_before(run, row)
        decline = policy_at(run.around.settings.decline_policy).classify(
            got.output,
            got.error,
            getattr(run.block(row), "provider", None),
            network=_money(row, "network"),
            unknown_before=unknown,
        )
        shown = _shown(run, row, decline, unknown)
        _keep(run, {DECLINE: shown, LAST_DECLINE: shown})
        budgets.judge(run, row, got.verdict, barred=decline.never)
        return
    # The latest decline is looked up only where it can be read: that costs a statement.
    reads = "decline" in run.published.sequence.roots
    if reads and got.verdict in _NO_DECLINE and DECLINE in run.known.get(STATE):
        _forget(run)
    budgets.judge(run, row, got.verdict)


def _shown(run: Run, row: StepRow, decline: Decline, unknown: int) -> dict[str, Any]:
    after = decline.earliest_retry_after
    return {
        "class": decline.klass.value,
        **{each.value: each is decline.klass for each in DeclineClass},
        "code": decline.code,
        "advice": decline.advice,
        "earliest_retry_at": timestamp(run.now + after) if after is not None else None,
        "retriable": decline.retriable,
        "unknown_in_a_row": 0 if decline.known else unknown + 1,
        "instrument": _money(row, "instrument"),
        "step": row.node_key,
        "at": timestamp(run.now),
    }


def _unknown_before(run: Run, row: StepRow) -> int:
    """How many declines just before, of the same instrument, had codes that nobody knew."""
    before = run.known.get(STATE).get(DECLINE)
    if before is None or before["instrument"] != _money(row, "instrument"):
        return 0
    return int(before["unknown_in_a_row"])


def _keep(run: Run, entries: dict[str, Any]) -> None:
    for key, value in entries.items():
        run.changes.keep_state(run.row.id, key, run.row.tenant_id, value)
    run.known.replace(STATE, {**run.known.get(STATE), **entries})


def _forget(run: Run) -> None:
    run.changes.forget_state(run.row.id, DECLINE)
    kept = run.known.get(STATE)
    run.known.replace(STATE, {key: value for key, value in kept.items() if key != DECLINE})


def _money(row: StepRow, name: str) -> str | None:
    value = row.money.get(name) if isinstance(row.money, dict) else None
    return str(value) if value else None


@cache
def policy_at(path: str) -> Policy:
    """The operator's policy laid over the built-in one, which an empty path stands for.
    ConfigurationError when the file cannot be read or does not describe one.
    """
    if not path:
        return built_in()
    name = f"ORCH8_DECLINE_POLICY {path}"
    try:
        raw = Path(path).read_bytes()
    except OSError as problem:
        raise ConfigurationError(f"{name}: cannot be read: {problem.strerror}") from None
    if len(raw) > MAX_POLICY:
        raise ConfigurationError(f"{name}: is longer than {MAX_POLICY} bytes")
    try:
        given = json.loads(raw)
    except ValueError as problem:
        raise ConfigurationError(f"{name}: is not JSON: {problem}") from None
    return read_policy(given, name, built_in())
