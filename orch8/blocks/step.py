"""step: the leaf that calls a handler."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Final

from orch8.blocks.align import AlignSchema
from orch8.blocks.approval import Approval, ApprovalSchema, read_approval
from orch8.blocks.compensation import CompensationSchema, check_compensation
from orch8.blocks.due import DelayMember, ScheduleSchema, SendWindowSchema, SpreadMember, read_due
from orch8.blocks.fields import (
    Anything,
    Choice,
    Flag,
    Known,
    Many,
    Object,
    Part,
    Positive,
    Span,
    Text,
    Whole,
)
from orch8.blocks.instead import read_cache_key, with_fallback
from orch8.blocks.money import (
    NO_KEY_WISHES,
    Idempotency,
    MoneyMembers,
    OnFence,
    OnUnknown,
    read_money,
)
from orch8.blocks.references import Path, references
from orch8.blocks.schema import Base, BlockSchema, Draft
from orch8.engine.align import Align
from orch8.engine.block import Leaf
from orch8.engine.retry import RETRY_FIELDS, RetryPolicy, parse_retry
from orch8.engine.spread import Spread
from orch8.engine.timing import Delay, Schedule, SendWindow

if TYPE_CHECKING:
    from orch8.engine.duration import Duration
    from orch8.engine.expressions import Condition, Template
    from orch8.money.evidence import Rule


class Effect(StrEnum):
    """What a call may do to the world; it decides what happens when its outcome is unknown."""

    NONE = "none"
    READ = "read"
    NOTIFY = "notify"
    EXTERNAL = "external"
    MONEY = "money"
    IRREVOCABLE = "irrevocable"

    @property
    def repeatable(self) -> bool:
        """Whether an unanswered call may be counted as failed and simply made again."""
        return self in (Effect.NONE, Effect.READ, Effect.NOTIFY)

    @property
    def frozen(self) -> bool:
        """Whether an attempt's request is stored with its intent and sent again byte for byte."""
        return self in (Effect.MONEY, Effect.IRREVOCABLE)


@dataclass(frozen=True, slots=True)
class RateLimit:
    """No more than ``max`` calls in any ``window`` seconds share the rendered key."""

    key: Template
    max: int | None = None  # None: the limit is configured elsewhere, or there is none
    window: float = 1.0
    cost: Template | None = None  # None: a call uses one


@dataclass(frozen=True, slots=True)
class Breach:
    """What to run when a deadline passes."""

    handler: str
    params: Template | None = None


@dataclass(frozen=True, kw_only=True)
class Step(Leaf):
    """One call of a handler, made until its outcome is known, and never again after that.

    Seconds are floats, ``lane`` is where its calls queue (None: the instance's lane).
    """

    type: ClassVar[str] = "step"

    handler: str
    params: Template | None = None
    references: tuple[Path, ...] = ()  # where params name credentials
    retry: RetryPolicy | None = None  # None: the default of the kind of handler
    timeout: float | None = None
    call_timeout: float | None = None  # what params say of one HTTP call; inf: a template does
    delay: Delay | None = None
    not_before: Template | None = None
    schedule: Schedule | None = None
    align: Align | None = None
    send_window: SendWindow | None = None
    spread: Spread | None = None
    rate_limits: tuple[RateLimit, ...] = ()
    max_in_flight: int | None = None  # calls at a time that share its keys, else its handler
    lane: str | None = None
    queue_name: str | None = None
    output_schema: Mapping[str, Any] | None = None
    deadline: Duration | None = None
    on_deadline_breach: Breach | None = None
    effect: Effect | None = None  # None: what the handler says of itself, else external
    provider: str | None = None
    retry_if: Condition | None = None
    assertion: Condition | None = None  # the condition of the built-in assert, compiled
    idempotency: Idempotency = NO_KEY_WISHES
    fence: Template | None = None
    on_fence: OnFence = OnFence.WAIT
    on_unknown: OnUnknown | None = None
    money: Template | None = None
    outcome_map: tuple[Rule, ...] = ()
    context_access: Mapping[str, Any] | None = None
    approval: Approval | None = None  # what has to be answered before its handler is called
    cache_key: Template | None = None
    fallback: Step | None = None  # this step, as it calls its fallback_handler


MAX_IN_FLIGHT: Final = 10_000
MAX_COST: Final = 100
MAX_LIMITS: Final = 16
TOO_MANY_LIMITS: Final = "too_many_limits"
LANES: Final = {
    "interactive": "interactive",
    "renewal": "renewal",
    "bulk": "bulk",
    "backfill": "backfill",
    "Critical": "interactive",
    "High": "interactive",
    "Normal": "renewal",
    "Low": "bulk",
}


class LimitSchema(Base):
    """A limit for ``rate_limit_key``."""

    max = Whole(required=True, least=1)
    window_seconds = Positive(required=True)
    cost = Anything()


class KeyedLimitSchema(Base):
    """A key and its limit, which may be stated elsewhere."""

    key = Text(required=True, blank=False)
    max = Whole(least=1)
    window_seconds = Positive()
    cost = Anything()


class BreachSchema(Base):
    """What to run when a deadline passes."""

    handler = Text(required=True, blank=False)
    params = Anything()


class AccessSchema(Base):
    """Which parts of the context a handler sees."""

    data = Anything()
    config = Flag()
    audit = Flag()
    runtime = Flag()


class LeafSchema(BlockSchema):
    """What every leaf can say about when it becomes due and whether a cancel reaches it."""

    delay = DelayMember()
    not_before = Text(blank=False)
    schedule = Part(ScheduleSchema)
    align = Part(AlignSchema)
    send_window = Part(SendWindowSchema)
    spread = SpreadMember()
    cancellable = Flag()
    cutoff = Object(later="use send_window")


class StepSchema(LeafSchema, MoneyMembers):
    """``{"type": "step", "handler": "charge", "params": {...}, "retry": {...}}``."""

    type = "step"
    block = Step

    handler = Text(required=True, blank=False, printable=True, longest=200)
    params = Anything()
    retry = Known(RETRY_FIELDS)
    timeout = Span(fixed=True, positive=True)
    rate_limit_key = Text(blank=False)
    rate_limit = Part(LimitSchema)
    rate_limits = Many(Part(KeyedLimitSchema), most=MAX_LIMITS)
    max_in_flight = Whole(least=1, most=MAX_IN_FLIGHT)
    priority = Choice(*LANES)
    queue_name = Text(blank=False, longest=200)
    output_schema = Anything()
    deadline = Span(positive=True)
    on_deadline_breach = Part(BreachSchema)
    effect = Choice(*Effect)
    provider = Text(blank=False, longest=100)
    context_access = Part(AccessSchema)

    wait_for_input = Part(ApprovalSchema)
    cache_key = Text(blank=False, longest=1000)
    fallback_handler = Text(blank=False, printable=True, longest=200)
    compensation = Part(CompensationSchema)
    record = Many(Text(), later="the output is kept whole")
    on_exhausted = Text(later="use a try_catch block")
    on_assert_failed = Text(later="use a try_catch block")
    assert_ = Text(data_key="assert", later='use a step with the handler "assert"')
    visibility = Text(later="leave it out")
    store_output = Text(later="leave it out")
    output_max_bytes = Whole(later="leave it out: the largest answer is a setting of the server")
    once = Flag(later='leave it out: a step with effect "irrevocable" is never sent again blindly')

    def name(self, values: Mapping[str, Any]) -> str:
        return str(values.get("handler", self.type))

    def build(self, draft: Draft) -> Step:
        values = draft.values
        params, assertion = _assertion(draft)
        retry, retry_if = _retry(draft)
        _check_access(draft)
        check_compensation(draft)
        timeout = values.get("timeout")
        effect = values.get("effect")
        step = Step(
            handler=values.get("handler", ""),
            params=draft.template(params, "/params"),
            references=references(params),
            assertion=assertion,
            retry=retry,
            retry_if=retry_if,
            timeout=timeout.total_ms() / 1000 if timeout else None,
            call_timeout=_call_timeout(params),
            rate_limits=tuple(_rate_limits(draft)),
            max_in_flight=values.get("max_in_flight"),
            lane=LANES.get(values.get("priority", "")),
            queue_name=values.get("queue_name"),
            output_schema=values.get("output_schema"),
            deadline=values.get("deadline"),
            on_deadline_breach=_breach(draft),
            effect=Effect(effect) if effect is not None else None,
            provider=values.get("provider"),
            context_access=values.get("context_access"),
            approval=read_approval(draft),
            cache_key=read_cache_key(draft),
            **read_money(draft),
            **read_leaf(draft),
        )
        return with_fallback(step, draft)


def _call_timeout(params: Any) -> float | None:
    given = params.get("timeout_ms") if isinstance(params, dict) else params
    if isinstance(given, int):
        return given / 1000
    return math.inf if isinstance(given, str) else None


def read_leaf(draft: Draft) -> dict[str, Any]:
    """What every leaf has: its id, its guard, when it becomes due and whether it is cancellable."""
    return {
        "id": draft.id,
        "when": draft.when,
        "cancellable": draft.values.get("cancellable", True),
        **read_due(draft),
    }


def _assertion(draft: Draft) -> tuple[Any, Condition | None]:
    """The params, and the compiled condition among them if the handler is ``assert``.

    The params keep its text.
    """
    params = draft.values.get("params")
    if draft.values.get("handler") != "assert" or not isinstance(params, dict):
        return params, None
    given = params.get("condition")
    if not isinstance(given, str):
        return params, None
    text = given.strip()
    shown = text[2:-2].strip() if text.startswith("{{") and text.endswith("}}") else text
    return {**params, "condition": shown}, draft.condition(given, "/params/condition")


def _retry(draft: Draft) -> tuple[RetryPolicy | None, Condition | None]:
    given = draft.values.get("retry")
    if given is None:
        return None, None
    policy, problems = parse_retry(given, contract=draft.contract)
    for each in problems:
        draft.problem(
            f"/retry{each.pointer}", each.message, each.hint, code=each.code, shape=each.shape
        )
    too_low = policy.max_backoff is not None and policy.initial > policy.max_backoff
    if too_low and not problems:
        draft.problem("/retry/max_backoff", "max_backoff must not be below the first wait")
    if policy.retry_if is not None and not policy.retry_if.strip():
        draft.problem("/retry/retry_if", "retry_if must not be blank")
        return policy, None
    codes = given.get("non_retryable_codes")
    for i, code in enumerate(codes if isinstance(codes, list) else ()):
        if isinstance(code, str) and not code.strip():
            draft.problem(f"/retry/non_retryable_codes/{i}", "a code must not be blank")
    return policy, draft.condition(policy.retry_if, "/retry/retry_if")


def _rate_limits(draft: Draft) -> list[RateLimit]:
    values, limits = draft.values, []
    key, limit = values.get("rate_limit_key"), values.get("rate_limit")
    if key is not None:
        template = draft.template(key, "/rate_limit_key")
        if template is not None:
            limits.append(_rate_limit(draft, template, limit or {}, "/rate_limit"))
    elif limit is not None:
        hint = 'such as "stripe:charges"; calls with the same key share the limit'
        draft.problem("/rate_limit_key", "rate_limit needs a rate_limit_key", hint)
    for i, each in enumerate(values.get("rate_limits", ())):
        template = draft.template((each or {}).get("key"), f"/rate_limits/{i}/key")
        if template is not None:
            limits.append(_rate_limit(draft, template, each, f"/rate_limits/{i}"))
    if len(limits) > MAX_LIMITS:
        message = f"a step has at most {MAX_LIMITS} limits, with rate_limit_key {len(limits)}"
        draft.problem("/rate_limits", message, "leave one out", code=TOO_MANY_LIMITS)
    return limits


def _rate_limit(draft: Draft, key: Template, given: Mapping[str, Any], pointer: str) -> RateLimit:
    cost, most = given.get("cost"), given.get("max")
    if cost is not None and not (isinstance(cost, str) and "{{" in cost):
        whole = isinstance(cost, int) and not isinstance(cost, bool)
        if not whole or not 1 <= cost <= MAX_COST:
            hint = 'how many of the limit\'s calls one call uses, such as 2 or "{{data.items}}"'
            message = f"cost must be a whole number from 1 to {MAX_COST}"
            draft.problem(f"{pointer}/cost", message, hint, shape=not whole)
        elif isinstance(most, int) and cost > most:
            message = f"cost {cost} is more than max {most}: the step could never be called"
            draft.problem(f"{pointer}/cost", message, "raise max, or lower cost")
    for name, other in (("max", "window_seconds"), ("window_seconds", "max")):
        if name not in given and other in given:
            hint = "leave out both if the limit is set with /rate-limits"
            draft.problem(f"{pointer}/{name}", f"{name} is required", hint, shape=True)
    template = None if cost is None else draft.template(cost, f"{pointer}/cost")
    return RateLimit(key, most, given.get("window_seconds", 1.0), template)


def _breach(draft: Draft) -> Breach | None:
    given = draft.values.get("on_deadline_breach")
    if given is None:
        return None
    if "deadline" not in draft.values:
        draft.warn("/on_deadline_breach", "it never runs: there is no deadline", "add a deadline")
    params = draft.template(given.get("params"), "/on_deadline_breach/params")
    return Breach(given.get("handler", ""), params)


def _check_access(draft: Draft) -> None:
    data = (draft.values.get("context_access") or {}).get("data")
    if data is None or isinstance(data, bool) or data in ("all", "none"):
        return
    fields = data.get("fields") if isinstance(data, dict) and set(data) == {"fields"} else None
    if not isinstance(fields, list) or not all(isinstance(each, str) for each in fields):
        hint = 'write true, false, "all", "none" or {"fields": ["amount"]}'
        draft.problem("/context_access/data", "data is not understood", hint, shape=True)
