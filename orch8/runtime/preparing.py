"""From a due step to its call: parameters rendered, key derived, limits named. No I/O.

What is rendered here is the attempt's request. It is fingerprinted when the intent is written, and
a later dispatch of the same attempt that would send something else is not sent but parked.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from orch8.blocks.step import Effect, Step
from orch8.engine.outcome import Answer, Verdict
from orch8.errors import ExpressionError, InvalidArgument
from orch8.handlers.request import StepRequest
from orch8.limits import Limit
from orch8.runtime.routes import Route
from orch8.runtime.run import Run
from orch8.storage.rows import StepRow


@dataclass(frozen=True)
class Task:
    """A claimed step on its way: to a caller thread, or (without a request) straight to settling.

    ``row`` is the row as it was claimed; its epoch and key are those of this dispatch.
    """

    row: StepRow
    route: Route
    request: StepRequest | None = None
    body: bytes = b""
    timeout: float = 30.0
    limits: tuple[Limit, ...] = ()
    park: str | None = None  # why this must not be sent, but looked at by a person
    answer: Answer | None = (
        None  # known before anything was sent: a parameter that cannot be rendered
    )


@dataclass
class Limits:
    """The limits in force, by tenant and key: the operator's, else the smallest published one."""

    stated: dict[tuple[str, str], Limit] = field(default_factory=dict)

    def of(self, tenant_id: str, key: str, inline: tuple[int, float] | None) -> Limit | None:
        """The limit of a key; None when nobody states one."""
        stated = self.stated.get((tenant_id, key))
        if stated is not None:
            return stated
        return Limit(key, inline[0], inline[1]) if inline is not None else None


def prepare(run: Run, row: StepRow, limits: Limits, *, calls: bool = False) -> Task:
    """The call of a due step, with its key and fingerprint noted on the row; ``calls``: whoever
    asks makes the call, whatever the route.

    The row is the run's working copy, already marked as claimed.
    """
    route = run.route(row)
    block = run.block(row)
    if not (calls or route.kind.calls_out) or not isinstance(block, Step):
        return Task(row, route)
    settings = run.around.settings
    timeout = block.timeout or route.timeout or settings.handler_timeout
    try:
        params = (
            None
            if block.params is None
            else run.scope.render(block.params, row.key, run.error(row.key))
        )
        _note_key(run, row, block)
        used = block.params.outputs if block.params is not None else ()
        request = StepRequest(
            handler=row.handler,
            instance_id=str(row.instance_id),
            step=row.node_key,
            idempotency_key=row.idempotency_key or "",
            generation=row.generation,
            params=params,
            context=_visible(
                run.scope.context_at(row.key, run.error(row.key)), block.context_access
            ),
            outputs=run.scope.outputs_at(used, row.key),
            dispatch=row.dispatches,
        )
        body = request.body()
        keys = tuple(_limits(run, row, block, limits))
    except (ExpressionError, InvalidArgument) as problem:
        # Nothing was sent; but an earlier dispatch of this attempt may be unresolved.
        verdict = Verdict.REFUSED if row.dispatches <= 1 else Verdict.UNKNOWN
        error = {"message": problem.detail, "code": problem.code}
        return Task(row, route, answer=Answer(verdict, error=error))
    fingerprint = hashlib.sha256(body).hexdigest()
    if (
        row.fingerprint is not None
        and row.fingerprint != fingerprint
        and not Effect(row.effect).repeatable
    ):
        return Task(row, route, park="request_changed")
    row.fingerprint = fingerprint
    return Task(row, route, request, body, timeout, keys)


def limited(run: Run, row: StepRow) -> bool:
    """Whether the step's calls need rate-limit tokens."""
    block = run.block(row)
    return isinstance(block, Step) and bool(block.rate_limits)


def _note_key(run: Run, row: StepRow, block: Step) -> None:
    if row.idempotency_key is not None:
        return
    if block.key is not None:
        key = run.scope.render(block.key, row.key, run.error(row.key))
        if not isinstance(key, str) or not 0 < len(key) <= 255:  # noqa: PLR2004 - Stripe's bound
            raise ExpressionError(
                f"idempotency.key came to {key!r}; it must be a text of 1 to 255 characters"
            )
        row.idempotency_key = key
    else:
        row.idempotency_key = run.around.keys.key(run.row, run.published.name, row)


def _limits(run: Run, row: StepRow, block: Step, limits: Limits) -> Any:
    seen = set()
    for stated in block.rate_limits:
        key = run.scope.render(stated.key, row.key, run.error(row.key))
        if not isinstance(key, str) or not key:
            raise ExpressionError(f"a rate limit key came to {key!r}; it must be a text")
        inline = None if stated.max is None else (stated.max, stated.window)
        limit = limits.of(row.tenant_id, key, inline)
        if limit is not None and key not in seen:
            seen.add(key)
            yield limit


def _visible(context: Any, access: Any) -> Any:
    """The part of the context that a step may see (CONTRACT 5.3, context_access)."""
    if access is None or not isinstance(context, dict):
        return context
    shown = {}
    for part, default in (("data", True), ("config", True), ("audit", False), ("runtime", False)):
        allowed = access.get(part, default)
        if part not in context or allowed in (False, "none"):
            continue
        value = context[part]
        if isinstance(allowed, dict) and isinstance(value, dict):
            value = {name: value[name] for name in allowed.get("fields", ()) if name in value}
        shown[part] = value
    return shown
