"""send_signal and query_instance: steps that tell another instance something, or look at it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from orch8.engine.lifecycle import ENDED, StepState
from orch8.engine.outcome import COMPLETED, Verdict, failed
from orch8.engine.scope import CONTEXT
from orch8.errors import ExpressionError
from orch8.runtime.elsewhere import Target, instance_part, target_part, told_of
from orch8.runtime.errand import CONTROLS, MAX_NAME, RECHECK, Errand
from orch8.runtime.run import Run
from orch8.storage.rows import StepRow
from orch8.storage.transaction import dumps


def send_signal(run: Run, row: StepRow, params: Any) -> None:
    """send_signal: the target has the signal once. It is sent after the commit, and the step ends
    when it looks again and finds it there.
    """
    given = params if isinstance(params, Mapping) else {}
    to, (control, name) = _instance_id(given), _kind(given.get("signal_type"))
    payload = _storable(given.get("payload"))
    key = f"send_signal:{row.id}"
    target = _target(run, to, key)
    if target is None or target.tenant_id != row.tenant_id:
        run.end(row, failed("target instance not found", code="not_found"))
    elif target.signal_id is not None:
        output = {"signal_id": str(target.signal_id)}
        run.end(row, COMPLETED, output=output, verdict=Verdict.SUCCEEDED)
    elif target.state in ENDED:
        message = f"cannot send signal to instance {to}: target is in a terminal state"
        run.end(row, failed(f"{message} ({target.state})", code="terminal"))
    else:
        run.errands.append(
            Errand(
                to=to, tenant_id=row.tenant_id, control=control, name=name, payload=payload,
                actor=f"instance:{row.instance_id}", dedupe_key=key,
                asked_by=(row.instance_id, row.node_key),
            )
        )  # fmt: skip
        row.state = StepState.SCHEDULED
        run.schedule(row, run.now + RECHECK)


def query_instance(run: Run, row: StepRow, params: Any) -> None:
    """query_instance: the state and context of an instance of the same tenant."""
    wanted = _instance_id(params if isinstance(params, Mapping) else {})
    child = _newborn(run, wanted)
    if child is None:
        found = run.known.get(instance_part(wanted))
    else:
        at = next((each.block_id for each in child.arrivals if "@" not in each.block_id), None)
        found = told_of(child.row, child.known.get(CONTEXT), at)
    output = {"found": False} if found is None else {"found": True, **found}
    run.end(row, COMPLETED, output=output, verdict=Verdict.SUCCEEDED)


def _target(run: Run, to: UUID, dedupe_key: str) -> Target | None:
    child = _newborn(run, to)
    if child is not None:
        return Target(child.row.tenant_id, child.row.state)
    target: Target | None = run.known.get(target_part(to, dedupe_key))
    return target


def _newborn(run: Run, wanted: UUID) -> Run | None:
    """The instance, if the same transaction starts it: then it is not stored yet."""
    return next((child for child in run.children if child.row.id == wanted), None)


def _instance_id(given: Mapping[str, Any]) -> UUID:
    value = given.get("instance_id")
    try:
        return UUID(value)
    except (TypeError, ValueError, AttributeError):
        raise ExpressionError(f"instance_id came to {value!r:.100}; it must be a UUID") from None


def _kind(value: Any) -> tuple[str | None, str]:
    """What is sent, as the wire spells it (CONTRACT 17.1): a control, or {"custom": name}."""
    if isinstance(value, str) and value in CONTROLS:
        return value, ""
    name = value.get("custom") if isinstance(value, Mapping) else None
    if isinstance(name, str) and 0 < len(name) <= MAX_NAME:
        return None, name
    raise ExpressionError(
        f"signal_type came to {value!r:.100}; it must be one of {', '.join(CONTROLS)}, "
        f'or {{"custom": name}} with 1 to {MAX_NAME} characters'
    )


def _storable(payload: Any) -> Any:
    try:
        dumps(payload)
    except TypeError as problem:
        raise ExpressionError(f"payload cannot be written as JSON: {problem}") from None
    return payload
