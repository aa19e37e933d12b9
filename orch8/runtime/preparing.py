"""From a due step to its call: parameters rendered, key derived, limits named. No I/O.

What is rendered here is the attempt's request. What moves money is frozen with the intent and sent
again byte for byte; of anything else a fingerprint is kept, and a later dispatch of the same
attempt that would send something else is not sent but parked.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid5

from orch8.blocks.money import KEY_HEADER, OnFence
from orch8.blocks.references import Path
from orch8.blocks.step import MAX_COST, Effect, Step
from orch8.engine.outcome import Answer, Verdict
from orch8.errors import ExpressionError, InvalidArgument, KeyReused
from orch8.handlers.request import StepRequest
from orch8.limits.grant import MAX_KEY_LENGTH, MAX_LEASE, Limit
from orch8.money.evidence import Rule
from orch8.money.presets import preset
from orch8.runtime.doubts import UNRESOLVED
from orch8.runtime.horizon import call_time, still_known
from orch8.runtime.routes import Kind, Route
from orch8.runtime.run import Run
from orch8.runtime.sandbox import own_key, seen
from orch8.runtime.visible import scope_of, visible
from orch8.storage.rows import StepRow

if TYPE_CHECKING:
    from orch8.engine.expressions import Template

LEASE_MARGIN: Final = 10.0  # seconds of a lease besides the time-out of its call
LONGEST_KEY: Final = 255  # Stripe's bound
CALM: Final = 0.25  # seconds that a token is good for at a key that is far from its limit
_WHOLE: Final = re.compile(r"[0-9]{1,18}")


@dataclass(eq=False)
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
    unlimited: tuple[str, ...] = ()  # keys that nobody states a limit for
    under: Limits | None = None  # what was stated when these were named
    park: str | None = None  # why this must not be sent, but looked at by a person
    too_late: bool = False  # the key of an attempt in doubt may be forgotten by now
    answer: Answer | None = (
        None  # known before anything was sent: a parameter that cannot be rendered
    )
    key_header: str = KEY_HEADER
    provider: str | None = None  # whose evidence table reads the answer
    outcome_map: tuple[Rule, ...] = ()  # what the step says about answers, before that table
    on_fence: OnFence = OnFence.WAIT
    references: tuple[Path, ...] = ()  # where the params name credentials: runtime/reveal.py
    late: int = 0  # tokens that it was too late to use

    @property
    def claim(self) -> tuple[UUID, int]:
        """Which step was claimed, and under which epoch."""
        return self.row.id, self.row.epoch

    @property
    def sends(self) -> bool:
        """Whether this is one more dispatch of the step's attempt, which is yet to be made."""
        unmade = self.request is not None and self.answer is None and self.park is None
        return unmade and self.row.asking is None

    @property
    def effect(self) -> str:
        """What the call may do to the world: asking about an attempt only reads."""
        return Effect.READ if self.row.asking else self.row.effect


@dataclass
class Limits:
    """The limits in force, by tenant and key: the operator's, else the smallest published one."""

    stated: dict[tuple[str, str], Limit] = field(default_factory=dict)
    changed_by: int = -1  # what stated them as they are: storage/rate_limits.py

    def of(
        self,
        tenant_id: str,
        key: str,
        inline: tuple[int, float] | None,
        in_flight: int | None = None,
    ) -> Limit | None:
        """The limit of a key, ``inline`` and ``in_flight`` being the step's own; None when nobody
        states one.
        """
        stated = self.stated.get((tenant_id, key))
        if stated is not None and stated.max is not None:
            most = stated.max_in_flight or in_flight
            return stated if most == stated.max_in_flight else replace(stated, max_in_flight=most)
        most = (stated.max_in_flight if stated is not None else None) or in_flight
        if inline is None:
            return None if most is None else Limit(key, None, max_in_flight=most)
        return Limit(key, inline[0], inline[1], max_in_flight=most)


def prepare(run: Run, row: StepRow, limits: Limits, *, calls: bool = False) -> Task:
    """The call of a due step, with its key and fingerprint noted on the row; ``calls``: whoever
    asks makes the call, whatever the route.

    The row is the run's working copy, already marked as claimed.
    """
    route = run.route(row)
    block = run.block(row)
    if not (calls or route.kind.calls_out) or not isinstance(block, Step):
        return Task(row, route)
    timeout = call_time(block, route, run.around.settings)
    effect = Effect(row.effect)
    try:
        if row.asking is not None:
            request = _question(run, row)
            named = _limits(run, row, block, limits, timeout)
            return Task(
                row, route, request, request.body(), timeout, _stated(named),
                references=block.references,
            )  # fmt: skip
        if row.outcome in UNRESOLVED and not effect.repeatable and not still_known(run, row):
            return Task(row, route, too_late=True)
        request, body = _frozen(run, row) or _rendered(run, row, block)
        named = _limits(run, row, block, limits, timeout)
    except (ExpressionError, InvalidArgument) as problem:
        # Nothing was sent; but an earlier dispatch of this attempt may be unresolved.
        verdict = Verdict.REFUSED if row.dispatches <= 1 else Verdict.UNKNOWN
        error = {"message": problem.detail, "code": problem.code}
        return Task(row, route, answer=Answer(verdict, error=error))
    fingerprint = hashlib.sha256(body).hexdigest()
    if row.fingerprint not in (None, fingerprint) and not effect.repeatable:
        return Task(row, route, park="request_changed")
    row.fingerprint = fingerprint
    if effect.frozen:
        row.request = run.around.cipher.seal_request(row, body)
    keys = _stated(named)
    if not calls:  # a pull worker calls when it likes: it is not limited
        _note_uses(row, keys)
    return Task(
        row, route, request, body, timeout, keys,
        unlimited=tuple(key for key, limit in named.items() if limit is None), under=limits,
        key_header=_key_header(block, route),
        provider=block.provider, outcome_map=block.outcome_map, on_fence=block.on_fence,
        references=block.references,
    )  # fmt: skip


def _key_header(block: Step, route: Route) -> str:
    """The header that carries the key: as the step says; a provider that is called without a
    handler in between reads its own.
    """
    known = preset(block.provider) if block.provider and route.kind is Kind.HTTP else None
    own = known.key.header if known is not None else None
    return block.idempotency.header or own or KEY_HEADER


def _frozen(run: Run, row: StepRow) -> tuple[StepRequest, bytes] | None:
    """The request that was written with the attempt's intent, if it was."""
    if row.request is None:
        return None
    body = run.around.cipher.open_request(row)
    return StepRequest.read(row.handler, body, row.dispatches), body


def _rendered(run: Run, row: StepRow, block: Step) -> tuple[StepRequest, bytes]:
    error = run.error(row.key)
    params = None
    if block.params is not None:
        params = scope_of(run, block).render(block.params, row.key, error)
    # After that the fence is held, and the amount is on record. A dry run has neither.
    first = row.dispatches <= 1 and not run.row.dry_run
    if block.money is not None and first:
        row.money = _money(run.scope.render(block.money, row.key, error))
    if block.fence is not None and first:
        row.fence = _text(run.scope.render(block.fence, row.key, error), "fence", 1000)
    _note_key(run, row, block, error)
    if block.idempotency.field is not None:
        params = _with_key(params, block.idempotency.field, row.idempotency_key)
    used = block.params.outputs if block.params is not None else ()
    context = visible(run.scope.context_at(row.key, error), block.context_access)
    request = StepRequest(
        handler=row.handler,
        instance_id=str(row.instance_id),
        step=row.node_key,
        idempotency_key=row.idempotency_key or "",
        generation=row.generation,
        params=params,
        context=seen(context) if run.row.dry_run else context,
        outputs=run.scope.outputs_at(used, row.key),
        dispatch=row.dispatches,
        money=row.money,
    )
    return request, request.body()


def _question(run: Run, row: StepRow) -> StepRequest:
    """What a read handler is asked about an attempt; under a key of its own, since it is another
    call than the one it asks about.
    """
    assert row.asking is not None
    sent = _frozen(run, row)
    params = sent[0].params if sent is not None else None
    return StepRequest(
        handler=row.asking,
        instance_id=str(row.instance_id),
        step=row.node_key,
        idempotency_key=str(uuid5(row.id, f"{row.generation}/{row.epoch}")),
        generation=row.generation,
        params=params,
        context=run.scope.context_at(row.key, run.error(row.key)),
        money=row.money,
        attempt={
            "id": f"{row.instance_id}/{row.node_key}/{row.generation}",
            "handler": row.handler,
            "idempotency_key": row.idempotency_key,
            "request_sha256": row.fingerprint,
            "first_dispatched_at": _time(row.first_dispatched_at),
            "last_dispatched_at": _time(row.last_dispatched_at),
            "dispatches": row.dispatches,
            "provider_ref": row.provider_ref,
            "answer": row.output,
            "error": row.error,
        },
    )


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _text(value: Any, what: str, longest: int) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= longest or "\0" in value:
        raise ExpressionError(
            f"{what} came to {value!r:.200}; it must be a text of 1 to {longest} characters"
        )
    return value


def _money(value: Any) -> dict[str, Any]:
    """What the step moves, checked: amount in minor units, currency, and what networks count by."""
    given = value if isinstance(value, dict) else {}
    amount = given.get("amount")
    if isinstance(amount, str) and _WHOLE.fullmatch(amount):
        amount = int(amount)
    if isinstance(amount, bool) or not isinstance(amount, int) or not 0 <= amount < 2**63:
        raise ExpressionError(
            f"money.amount came to {given.get('amount')!r:.60}; it must be a whole number of minor "
            "units, such as 9900 for 99.00"
        )
    currency = _text(given.get("currency"), "money.currency", 3).upper()
    money: dict[str, Any] = {"amount": amount, "currency": currency}
    for name in ("instrument", "network", "merchant"):
        if given.get(name) is not None:
            money[name] = _text(str(given[name]), f"money.{name}", 255)
    return money


def _with_key(params: Any, path: str, key: str | None) -> Any:
    """The params with the attempt's key at a dotted path, objects on the way made as needed."""
    if params is not None and not isinstance(params, dict):
        raise ExpressionError(f"idempotency.field {path!r}: params is not an object")
    name, _, rest = path.partition(".")
    made = dict(params or {})
    made[name] = _with_key(made.get(name), rest, key) if rest else key
    return made


def handler_key(handler: str) -> str:
    """The key that calls of a handler share when their step names none."""
    return f"handler:{handler}"


def holder(step_id: UUID, epoch: int) -> str:
    """The name under which a claimed step holds the leases of its keys."""
    return f"{step_id}/{epoch}"


def _note_key(run: Run, row: StepRow, block: Step, error: Mapping[str, Any] | None) -> None:
    if row.idempotency_key is not None:
        return
    wishes = block.idempotency
    if wishes.key is None:
        row.idempotency_key = run.around.keys.key(
            run.row, run.published.name, row, per_iteration=wishes.per_iteration
        )
        return
    key = run.scope.render(wishes.key, row.key, error)
    key = _text(key, "idempotency.key", LONGEST_KEY)
    if run.row.dry_run or run.row.fork_id is not None:
        key = _text(own_key(run.row, key), "idempotency.key", LONGEST_KEY)
    if key == (row.progress or {}).get("previous_key") and not wishes.per_iteration:
        raise KeyReused(
            f"idempotency.key came to {key!r:.100} again, for a new attempt: the provider would "
            'answer as it did before; leave key out, or set "scope": "iteration" if that is meant'
        )
    row.idempotency_key = key


def _limits(
    run: Run, row: StepRow, block: Step, limits: Limits, timeout: float
) -> dict[str, Limit | None]:
    """The limit of each key of the step; None for a key that nobody states one for. A question
    about the step's attempt counts, too, as one call whatever the step's own cost.
    """
    found: dict[str, Limit | None] = {}
    if not block.rate_limits and block.max_in_flight is None:
        return found
    lease, held_by = min(timeout + LEASE_MARGIN, MAX_LEASE), holder(row.id, row.epoch)

    def name(key: str, inline: tuple[int, float] | None, weight: int) -> None:
        limit = limits.of(row.tenant_id, key, inline, block.max_in_flight)
        found[key] = limit and replace(
            limit, weight=weight, lease=lease, holder=held_by, calm=min(CALM, limit.window / 4)
        )

    for stated in block.rate_limits:
        key = run.scope.render(stated.key, row.key, run.error(row.key))
        key = _text(key, "a rate limit key", MAX_KEY_LENGTH)
        if key not in found:
            inline = None if stated.max is None else (stated.max, stated.window)
            name(key, inline, 1 if row.asking is not None else _cost(run, row, stated.cost))
    if block.max_in_flight is not None and not block.rate_limits:
        name(handler_key(row.handler), None, 1)
    return found


def _stated(named: Mapping[str, Limit | None]) -> tuple[Limit, ...]:
    return tuple(limit for limit in named.values() if limit is not None)


def _cost(run: Run, row: StepRow, cost: Template | None) -> int:
    if cost is None:
        return 1
    value = run.scope.render(cost, row.key, run.error(row.key))
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_COST:
        raise ExpressionError(
            f"the cost of a rate limit came to {value!r:.60}; it must be a whole number from 1 to "
            f"{MAX_COST}"
        )
    return value


def _note_uses(row: StepRow, limits: tuple[Limit, ...]) -> None:
    """The row tells what has to be counted from the database if Redis loses it."""
    uses = {
        limit.key: limit.weight for limit in limits if limit.long or limit.max_in_flight is not None
    }
    before = row.progress or {}
    if uses != before.get("uses", {}):
        others = {name: value for name, value in before.items() if name != "uses"}
        row.progress = {**others, "uses": uses} if uses else others or None
