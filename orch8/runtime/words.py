"""words: what somebody outside says about an attempt, taking effect on a run. Values only.

The first conclusive word wins, whoever says it: a webhook, a signal, a person.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from orch8.blocks.step import Effect, Step
from orch8.engine.lifecycle import LIVE, StepState
from orch8.engine.outcome import Answer, Verdict
from orch8.engine.scope import StepRef
from orch8.runtime.answering import answer
from orch8.runtime.doubts import UNRESOLVED
from orch8.runtime.run import Run
from orch8.storage.rows import StepRow

if TYPE_CHECKING:
    from orch8.runtime.signal import SignalRequest

TELLING: Final = frozenset(
    {Verdict.SUCCEEDED, Verdict.DECLINED, Verdict.REQUIRES_ACTION, Verdict.FAILED}
)


@dataclass(frozen=True, kw_only=True)
class Word:
    """How an attempt ended, and by which names the teller knows it.

    ``source`` is webhook, signal or person; ``event_id`` makes telling it twice harmless.
    """

    outcome: Verdict
    idempotency_key: str | None = None
    provider_ref: str | None = None
    at: tuple[UUID, str] | None = None  # instance and node key
    output: Any = None
    event_id: str | None = None
    source: str = "webhook"
    actor: str = "api"
    request_id: str | None = None


def open_to_words(row: StepRow) -> bool:
    """Whether a step's present attempt may have been made and is not known to have ended."""
    if row.state not in LIVE or not row.dispatches or Effect(row.effect).repeatable:
        return False
    return row.state in (StepState.RUNNING, StepState.PARKED) or row.outcome in UNRESOLVED


def resolve(run: Run, row: StepRow, word: Word) -> None:
    """The word has taken effect on its open attempt, as an answer of the provider."""
    step = run.step(row.key)
    step.epoch += 1  # whatever is still on its way is evidence from now on
    step.claimed_by = None
    error = {"message": f"{word.source}: {word.outcome}", "code": word.source}
    reference = {"provider_ref": word.provider_ref} if word.provider_ref else {}
    run.observe(step, word.source, word.outcome, body_of(word))
    run.audit(
        "step.resolved", word.outcome, step, actor=word.actor, request_id=word.request_id,
        reason=f"told by {word.source}" + (f" {word.event_id}" if word.event_id else ""),
    )  # fmt: skip
    answer(
        run,
        step.key,
        Answer(word.outcome, word.output, error, evidence=reference),
        actor=word.actor,
        by=word.source,
    )


def heed(run: Run, request: SignalRequest) -> None:
    """A custom signal that tells how one of the instance's attempts ended has taken effect on it:
    by the key or the reference in its payload, or because the step says what such a signal means
    and only one attempt can be meant. Whatever else waits for the signal gets it, too.
    """
    payload = request.payload if isinstance(request.payload, dict) else {}
    named = {name: payload.get(name) for name in ("idempotency_key", "provider_ref")}
    said = payload.get("outcome")
    candidates = []
    for key in run.snapshot.frames:
        block = run.index[key.block_id]
        means = block.on_unknown.signals if isinstance(block, Step) and block.on_unknown else {}
        verdict = means.get(request.name)
        if verdict is None and named["idempotency_key"] and said in TELLING:
            verdict = Verdict(said)
        if isinstance(block, Step) and verdict is not None:
            row = run.known.get(StepRef(key))
            if row is not None and open_to_words(row) and _meant(row, named):
                candidates.append((row, verdict))
    if len(candidates) == 1:
        row, verdict = candidates[0]
        word = Word(
            outcome=verdict, provider_ref=_text(named["provider_ref"]), source="signal",
            output=payload.get("output", payload or None), event_id=_text(request.dedupe_key),
            actor=request.actor, request_id=request.request_id,
        )  # fmt: skip
        resolve(run, row, word)


def _meant(row: StepRow, named: dict[str, Any]) -> bool:
    """Whether the names in a payload, if there are any, are those of the step's attempt."""
    key, reference = named["idempotency_key"], named["provider_ref"]
    if key is not None:
        return bool(key == row.idempotency_key)
    return reference is None or row.provider_ref in (None, reference)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)[:255]


def body_of(word: Word) -> dict[str, Any]:
    """The word as evidence keeps it."""
    told_ = {
        "event_id": word.event_id,
        "provider_ref": word.provider_ref,
        "actor": word.actor,
        "output": word.output,
    }
    return {name: value for name, value in told_.items() if value is not None}
