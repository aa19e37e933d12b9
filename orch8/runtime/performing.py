"""What a claimed step does inside the transaction that settles it: built-ins, timers, time-outs.

Durable built-ins are part of the machine: what they do and what they leave behind is one commit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from orch8.blocks.step import Effect, Step
from orch8.blocks.sub_sequence import SubSequence
from orch8.engine.duration import parse_duration
from orch8.engine.events import Started
from orch8.engine.lifecycle import StepState
from orch8.engine.outcome import COMPLETED, Answer, Outcome, Status, Verdict, failed
from orch8.engine.scope import RESERVED, STATE, Part
from orch8.errors import BusinessKeyTaken, ExpressionError, InvalidArgument
from orch8.handlers.builtin import Pure
from orch8.handlers.registry import HANDLERS
from orch8.runtime import budgets, identity
from orch8.runtime.answering import answer, park
from orch8.runtime.doubts import in_doubt
from orch8.runtime.library import Published
from orch8.runtime.routes import Kind
from orch8.runtime.run import CHILD, Run
from orch8.runtime.visible import scope_of
from orch8.runtime.zone import zone_of
from orch8.storage.rows import InstanceRow, StepRow

MAX_DEPTH: Final = 16  # of sub-sequences within each other (CONTRACT 12.7)
RECHECK: Final = timedelta(seconds=5)


def perform(run: Run, row: StepRow) -> None:
    """A due step that calls nobody has done its part: it ended, or it waits on."""
    if row.deadline_at is not None and run.now >= row.deadline_at:
        _breach(run, row)
        return
    kind = run.route(row).kind
    try:
        params = _params(run, row)
        if kind is Kind.PURE:
            builtin = run.route(row).builtin
            assert isinstance(builtin, Pure)
            answer(run, row.key, builtin.run(_ready(run, row, params)))
        elif kind is Kind.DURABLE:
            DURABLE[row.handler](run, row, params)
        else:  # its address is gone since it was scheduled: it is offered to pull workers
            run.offer(row)
    except ExpressionError as problem:
        run.end(row, Outcome(Status.FAILED, {"message": problem.detail, "code": problem.code}))


def _params(run: Run, row: StepRow) -> Any:
    block = run.block(row)
    template = block.input if isinstance(block, SubSequence) else block.params
    if template is None:
        return None
    return scope_of(run, block).render(template, row.key, run.error(row.key))


def _ready(run: Run, row: StepRow, params: Any) -> Mapping[str, Any]:
    given = params if isinstance(params, Mapping) else {} if params is None else {"value": params}
    if row.handler != "assert":
        return given
    block = run.block(row)
    assert isinstance(block, Step)
    condition = given.get("condition")
    if block.assertion is not None:
        holds = run.scope.truthy(block.assertion, row.key, run.error(row.key))
        return {**given, "condition": condition, "condition_result": holds}
    return {**given, "condition_result": bool(condition)}


def _breach(run: Run, row: StepRow, *, in_flight: bool = False) -> None:
    elapsed = run.now - row.created_at
    limit = row.deadline_at - row.created_at if row.deadline_at else timedelta()
    output = {
        "_error": "sla_deadline_breached",
        "_deadline_ms": round(limit.total_seconds() * 1000),
        "_elapsed_ms": round(elapsed.total_seconds() * 1000),
    }
    if in_doubt(row) or in_flight:
        park(run, row, "outcome_unknown", Verdict.UNKNOWN)
        return
    _escalate(run, row, output)
    error = {"message": "the step's deadline passed", "code": "deadline", "details": output}
    run.end(row, Outcome(Status.FAILED, error), output=output, verdict=Verdict.FAILED)


def _escalate(run: Run, row: StepRow, breach: Mapping[str, Any]) -> None:
    """The built-in that the step names for this case has run; whatever it comes to, the step fails
    (CONTRACT 15).
    """
    block = run.block(row)
    wanted = block.on_deadline_breach if isinstance(block, Step) else None
    builtin = HANDLERS.get(wanted.handler) if wanted is not None else None
    if wanted is None or not isinstance(builtin, Pure):
        return
    more = {
        "_breach_block_id": row.block_id,
        "_breach_instance_id": str(row.instance_id),
        "_breach_elapsed_ms": breach["_elapsed_ms"],
        "_breach_deadline_ms": breach["_deadline_ms"],
    }
    try:
        params = None if wanted.params is None else run.scope.render(wanted.params, row.key, None)
        given = params if isinstance(params, Mapping) else {}
        came = builtin.run({**given, **more}).verdict.value
    except ExpressionError as problem:
        came = problem.detail
    run.audit("step.escalated", came[:100], row, reason=f"{wanted.handler} ran for the deadline")


def expire(run: Run, row: StepRow) -> None:
    """The time of a pull step's worker, or of the step, is over. A silent worker's call is in doubt
    and is offered again under the same key; the crash of a worker uses up no attempt.
    """
    if row.deadline_at is not None and run.now >= row.deadline_at:
        repeatable = Effect(row.effect).repeatable
        _breach(run, row, in_flight=row.state == StepState.RUNNING and not repeatable)
    elif row.expires_at is not None and run.now >= row.expires_at:
        error = {"message": "no worker completed the step in time", "code": "timeout"}
        verdict = Verdict.UNKNOWN if row.dispatches else Verdict.FAILED_SAFE
        answer(run, row.key, Answer(verdict, error=error))
    else:
        row.crashes += 1
        run.observe(
            row, "claim_lost", Verdict.UNKNOWN, {"worker": row.worker, "crashes": row.crashes}
        )
        run.audit("step.claim_lost", "unknown", row, reason=f"worker {row.worker} is silent")
        row.state, row.worker, row.lease_until = StepState.WAITING, None, None
        row.outcome = Verdict.UNKNOWN.value
        run.schedule(row, run.now)


# -- durable built-ins ---------------------------------------------------------------------------
def _wait(run: Run, row: StepRow, params: Any) -> None:
    """wait: the step was not due before its delay was over, unless it was woken."""
    if isinstance(row.progress, Mapping) and row.progress.get("woken"):
        output = {"waited_until": run.now.isoformat(), "woken": True}
        run.end(row, COMPLETED, output=output, verdict=Verdict.SUCCEEDED)
        return
    until = _until(run, row, params, "duration", "until")
    if until is not None and until > run.now:
        run.schedule(_sleeping(row, StepState.SCHEDULED), until)
        return
    run.end(row, COMPLETED, output={"waited_until": run.now.isoformat()}, verdict=Verdict.SUCCEEDED)


def _sleep(run: Run, row: StepRow, params: Any) -> None:
    """sleep: a durable timer that shows as running and holds no worker."""
    ms = (params or {}).get("duration_ms", 100)
    if row.progress is None:
        if isinstance(ms, bool) or not isinstance(ms, int) or ms < 0:
            raise ExpressionError(
                f"duration_ms came to {ms!r}; it must be a whole number of milliseconds"
            )
        row.progress = {"until": (run.now + timedelta(milliseconds=ms)).isoformat()}
    until = datetime.fromisoformat(row.progress["until"])
    if until > run.now:
        run.schedule(_sleeping(row, StepState.SLEEPING), until)
        return
    run.end(row, COMPLETED, output={"slept_ms": ms}, verdict=Verdict.SUCCEEDED)


def _wait_signal(run: Run, row: StepRow, params: Any) -> None:
    """wait_signal: consumes the oldest matching signal, also one that came before the wait."""
    given = params or {}
    name = given.get("signal")
    if not isinstance(name, str) or not name:
        raise ExpressionError(
            f"wait_signal: signal came to {name!r}; it must be the name of a signal"
        )
    taken = {consumed[0] for consumed in run.changes.consumed}
    for signal in run.known.get(Part("signals")):
        if (
            signal.name == name
            and signal.id not in taken
            and matches(given.get("match"), signal.payload)
        ):
            run.changes.consumed.append((signal.id, run.now, row.node_key))
            output = {
                "signal": name,
                "payload": signal.payload,
                "received_at": signal.received_at.isoformat(),
            }
            run.end(row, COMPLETED, output=output, verdict=Verdict.SUCCEEDED, actor=signal.actor)
            return
    if row.progress is None:
        until = _until(run, row, given, "timeout", None)
        row.progress = {"until": until.isoformat() if until else None}
    until = datetime.fromisoformat(row.progress["until"]) if row.progress["until"] else None
    if until is not None and until <= run.now:
        if given.get("on_timeout", "fail") == "continue":
            run.end(
                row,
                COMPLETED,
                output={"signal": None, "timed_out": True},
                verdict=Verdict.SUCCEEDED,
            )
        else:
            run.end(row, failed(f"signal {name!r} did not come in time", code="timeout"))
        return
    row.state, row.waits_for, row.claimed_by = StepState.WAITING, f"signal:{name}", None
    if until is None and row.deadline_at is None:
        row.due_at = row.held_due_at = None
    else:
        run.schedule(row, min(moment for moment in (until, row.deadline_at) if moment is not None))


def _set_state(run: Run, row: StepRow, params: Any) -> None:
    key, value = _key(params), params.get("value")
    run.changes.keep_state(run.row.id, key, run.row.tenant_id, value)
    run.known.replace(STATE, {**run.known.get(STATE), key: value})
    run.end(row, COMPLETED, output={"key": key, "value": value}, verdict=Verdict.SUCCEEDED)


def _get_state(run: Run, row: StepRow, params: Any) -> None:
    key = _key(params)
    output = {"key": key, "value": run.known.get(STATE).get(key)}
    run.end(row, COMPLETED, output=output, verdict=Verdict.SUCCEEDED)


def _delete_state(run: Run, row: StepRow, params: Any) -> None:
    key = _key(params)
    run.changes.forget_state(run.row.id, key)
    run.known.replace(STATE, {k: v for k, v in run.known.get(STATE).items() if k != key})
    run.end(row, COMPLETED, output={"key": key, "deleted": True}, verdict=Verdict.SUCCEEDED)


def _sub_sequence(run: Run, row: StepRow, params: Any) -> None:
    """sub_sequence: starts the child once, then waits for its end, which is this step's end."""
    block = run.block(row)
    assert isinstance(block, SubSequence)
    if row.progress is None:
        if run.row.depth >= MAX_DEPTH:
            run.end(
                row,
                failed(f"more than {MAX_DEPTH} sub-sequences within each other", code="too_deep"),
            )
            return
        child = _spawn(run, row, block.sequence_name, block.version, params, parent=True)
        if child is None:
            return
        row.progress = {"child": str(child.id)}
        row.state, row.waits_for, row.claimed_by = StepState.WAITING, CHILD, None
        row.due_at = row.held_due_at = None
        return
    ended = run.known.get(Part(f"child:{row.progress['child']}"))
    if ended is None or ended["state"] not in ("completed", "failed", "cancelled"):
        row.state, row.waits_for, row.claimed_by = StepState.WAITING, CHILD, None
        row.due_at = row.held_due_at = None
        if run.cancelling(
            row.key
        ):  # the child is cancelled first; looked at again in case that is lost
            run.cancel_children.append(UUID(row.progress["child"]))
            run.schedule(row, run.now + RECHECK)
        return
    if ended["state"] == "completed":
        run.end(row, COMPLETED, output=ended["outputs"], verdict=Verdict.SUCCEEDED)
    elif run.cancelling(row.key) and ended["state"] == "cancelled":
        run.end(row, Outcome(Status.CANCELLED))
    else:
        error = {
            "message": f"child instance {ended['state']}",
            "code": "child",
            "details": ended["error"],
        }
        run.end(row, Outcome(Status.FAILED, error))


def _start_sequence(run: Run, row: StepRow, params: Any) -> None:
    """start_sequence: starts an independent instance and goes on."""
    given = params or {}
    name = given.get("sequence_name") or given.get("sequence")
    if not isinstance(name, str):
        raise ExpressionError(f"start_sequence: sequence came to {name!r}; it must be a name")
    child = _spawn(run, row, name, given.get("version"), given.get("input"), parent=False)
    if child is not None:
        output: dict[str, Any] = {"instance_id": str(child.id), "sequence": name}
        if child.existing:
            output["deduplicated"] = True
        run.end(row, COMPLETED, output=output, verdict=Verdict.SUCCEEDED)


class _Child(NamedTuple):
    """The instance that a step asked for: a new one, or the one that has its business key."""

    id: UUID
    existing: bool = False


def _spawn(
    run: Run, row: StepRow, name: str, version: int | None, data: Any, *, parent: bool
) -> _Child | None:
    """A new instance in the same transaction; None, and the step failed, without a sequence or
    with its business key taken. An instance that lives on its own may be an existing one; nobody's
    child is.
    """
    published: Published | None = run.known.get(Part(f"sequence:{name}:{version or ''}"))
    if published is None:
        run.end(row, failed(f"there is no sequence {name!r}", code="unknown_sequence"))
        return None
    mine = run.row
    context = {"data": data if data is not None else {}, "config": {}}
    try:
        timezone = zone_of(published, context, run.moment)
    except InvalidArgument as problem:
        run.end(row, failed(problem.detail, code=problem.code))
        return None
    child = Run(
        run.around,
        InstanceRow(
            id=run.around.new_id(), tenant_id=mine.tenant_id, namespace=mine.namespace,
            sequence_id=published.id, state="scheduled", snapshot={"f": {}}, lane=mine.lane,
            priority=mine.priority, timezone=timezone, created_at=run.now, updated_at=run.now,
            parent_instance_id=mine.id if parent else None,
            parent_node_key=row.node_key if parent else None, depth=mine.depth + 1,
            session_id=mine.session_id,
            metadata={"_parent_block_id": row.block_id, "_parent_instance_id": str(mine.id)},
        ),
        published, run.moment, created=True,
    )  # fmt: skip
    child.known.values |= {Part("context"): context, STATE: {}}
    child.known.complete = True  # it is not stored yet, so there is nothing to load
    try:
        identity.claim(child, run.known, run.children)
    except BusinessKeyTaken as taken:
        unique, holder = published.sequence.unique, identity.holder_of(taken)
        if holder is not None and unique is not None and unique.returns_existing and not parent:
            return _Child(holder, existing=True)
        run.end(row, failed(taken.detail, code=taken.code, details=taken.extra))
        return None
    child.fire(Started())
    child.audit("instance.created", "success", actor=f"instance:{mine.id}")
    run.changes.contexts.append((child.row.id, 1, mine.tenant_id, context))
    run.children.append(child)
    return _Child(child.row.id)


def _key(params: Any) -> str:
    key = params.get("key") if isinstance(params, Mapping) else None
    if not isinstance(key, str) or not key:
        raise ExpressionError(f"key came to {key!r}; it must be a text")
    if key.startswith(RESERVED):
        raise ExpressionError(f"key came to {key!r}; keys that begin with @ are the engine's own")
    return key


def _until(run: Run, row: StepRow, params: Any, span: str, moment: str | None) -> datetime | None:
    given = params if isinstance(params, Mapping) else {}
    if moment is not None and given.get(moment) is not None:
        try:
            until = datetime.fromisoformat(str(given[moment]))
        except ValueError:
            raise ExpressionError(
                f"{moment} came to {given[moment]!r}; it must be a timestamp"
            ) from None
        return until if until.tzinfo else until.replace(tzinfo=run.zone)
    if given.get(span) is None:
        return None
    try:
        return parse_duration(given[span]).after(row.created_at, run.zone)
    except ValueError as problem:
        raise ExpressionError(f"{span}: {problem}") from None


def _sleeping(row: StepRow, state: StepState) -> StepRow:
    row.state = state
    return row


def matches(wanted: Any, payload: Any) -> bool:
    """Whether the payload has every member that ``match`` names, with that value."""
    if wanted is None:
        return True
    if not isinstance(wanted, Mapping) or not isinstance(payload, Mapping):
        return bool(wanted == payload)
    return all(name in payload and payload[name] == value for name, value in wanted.items())


DURABLE: Final[Mapping[str, Callable[[Run, StepRow, Any], None]]] = {
    "wait": _wait,
    "sleep": _sleep,
    "wait_signal": _wait_signal,
    "guard": budgets.guard,
    "set_state": _set_state,
    "get_state": _get_state,
    "delete_state": _delete_state,
    "sub_sequence": _sub_sequence,
    "start_sequence": _start_sequence,
}
