"""What each block type's JSON becomes."""

# ruff: noqa: DTZ001 - local times have no zone
from __future__ import annotations

import math
from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from orch8.blocks.ab_split import AbSplit
from orch8.blocks.cancellation_scope import CancellationScope
from orch8.blocks.end import End
from orch8.blocks.for_each import ForEach
from orch8.blocks.loop import Loop
from orch8.blocks.money import Idempotency, OnFence, OnUnknown, Policy
from orch8.blocks.parallel import Parallel
from orch8.blocks.race import Race
from orch8.blocks.router import Router
from orch8.blocks.saga import Saga
from orch8.blocks.step import Effect, Step
from orch8.blocks.sub_sequence import SubSequence
from orch8.blocks.try_catch import TryCatch
from orch8.definition import load
from orch8.engine.block import Chain
from orch8.engine.duration import Duration
from orch8.engine.outcome import Verdict
from orch8.engine.timing import Delay, SendWindow
from orch8.errors import DefinitionRejected
from tests.support.documents import CHARGE, loaded, only, step

THREE_DAYS = Duration(days=3)
FIVE_SECONDS = Duration(absolute=timedelta(seconds=5))


def ids(chain: Chain | None) -> list[str]:
    assert chain is not None
    return [block.id for block in chain.blocks]


def test_step_has_its_defaults() -> None:
    """A step that says only its handler has nothing else."""
    assert step() == Step(id="charge", handler="charge")


def test_step_takes_every_member() -> None:
    """Each member of a step arrives in the Step, in the units that it documents."""
    block = step(
        id="pay",
        when="{{data.amount > 0}}",
        params={"amount": 1},
        timeout="30s",
        not_before="{{data.earliest}}",
        priority="High",
        queue_name="eu",
        deadline="2d",
        on_deadline_breach={"handler": "page", "params": {"who": "ops"}},
        effect="money",
        provider="stripe",
        idempotency={
            "header": "X-Key",
            "field": "meta.key",
            "key": "pay:{{data.id}}",
            "ttl": "24h",
            "replay": "only_success",
            "scope": "iteration",
        },
        fence="invoice:{{data.id}}",
        on_fence="fail",
        money={"amount": 9900, "currency": "USD"},
        context_access={"data": {"fields": ["amount"]}},
        cancellable=False,
        output_schema={"required": ["id"]},
        on_unknown={
            "policy": "reconcile",
            "handler": "find_charge",
            "schedule": ["30s", "5m"],
            "settle_delay": "1m",
            "confirmations": 3,
            "signals": {"charge.done": "succeeded"},
        },
    )
    assert (block.id, block.timeout, block.lane, block.queue_name) == (
        "pay",
        30.0,
        "interactive",
        "eu",
    )
    assert (block.deadline, block.effect, block.provider) == (
        Duration(days=2),
        Effect.MONEY,
        "stripe",
    )
    assert block.on_deadline_breach is not None
    assert block.on_deadline_breach.handler == "page"
    assert not block.cancellable
    assert block.context_access == {"data": {"fields": ["amount"]}}
    assert block.output_schema == {"required": ["id"]}
    for template in (block.params, block.not_before, block.fence, block.money, block.when):
        assert template is not None
    key = block.idempotency
    assert (key.header, key.field, key.ttl) == ("X-Key", "meta.key", 86_400.0)
    assert (key.replay, key.per_iteration, block.on_fence) == ("only_success", True, OnFence.FAIL)
    assert key.key is not None
    assert block.on_unknown == OnUnknown(
        Policy.RECONCILE,
        "find_charge",
        (timedelta(seconds=30), timedelta(minutes=5)),
        settle_delay=60.0,
        confirmations=3,
        signals={"charge.done": Verdict.SUCCEEDED},
    )


def test_automatic_key_is_no_template() -> None:
    """`key: auto` is the default."""
    assert step(idempotency={"key": "auto"}).idempotency == Idempotency()


def test_retry_reads_both_spellings() -> None:
    """`backoff` and `initial_backoff` mean the same; retry_if is compiled."""
    short = step(retry={"max_attempts": 3, "backoff": "5s", "on": ["failed_safe"]}).retry
    assert short is not None
    assert (short.max_attempts, short.initial.total_seconds(), short.multiplier) == (3, 5.0, 2.0)
    assert short.on == {Verdict.FAILED_SAFE, Verdict.NOT_SENT}
    block = step(
        retry={
            "max_attempts": 3,
            "initial_backoff": 100,
            "max_backoff": 1000,
            "retry_if": "data._error.message != 'no'",
        }
    )
    assert block.retry is not None
    assert block.retry.initial.total_seconds() == 0.1
    assert block.retry_if is not None


DELAYS: list[tuple[Any, Delay]] = [
    ({"days": 3}, Delay(THREE_DAYS)),
    ("3d", Delay(THREE_DAYS)),
    (5000, Delay(FIVE_SECONDS)),
    ({"duration": "3d", "jitter": "30s"}, Delay(THREE_DAYS, jitter=30.0)),
    (
        {"duration": "3d", "business_days_only": True, "holidays": ["2026-12-25"]},
        Delay(THREE_DAYS, business_days_only=True, holidays=frozenset({date(2026, 12, 25)})),
    ),
    (
        {"fire_at_local": "2026-12-25T09:00:00", "timezone": "Europe/Berlin"},
        Delay(Duration(), at_local=datetime(2026, 12, 25, 9), zone=ZoneInfo("Europe/Berlin")),
    ),
]


@pytest.mark.parametrize(("given", "delay"), DELAYS)
def test_delay_has_two_forms(given: Any, delay: Delay) -> None:
    """A delay is a duration, or an object around one."""
    assert step(delay=given).delay == delay


WINDOWS: list[tuple[dict[str, Any], SendWindow]] = [
    ({}, SendWindow(time(9), time(17))),
    (
        {"start_hour": 22, "end_hour": 6, "days": [0, 6]},
        SendWindow(time(22), time(6), frozenset({0, 6})),
    ),
    (
        {"start": "00:05", "end": "21:00", "days": ["Mon", "sun"]},
        SendWindow(time(0, 5), time(21), frozenset({0, 6})),
    ),
]


@pytest.mark.parametrize(("given", "window"), WINDOWS)
def test_send_window_has_two_spellings(given: dict[str, Any], window: SendWindow) -> None:
    """Hours and numbered days, or clock times and named days."""
    assert step(send_window=given).send_window == window


@pytest.mark.parametrize(
    ("priority", "lane"),
    [
        ("interactive", "interactive"), ("renewal", "renewal"), ("bulk", "bulk"),
        ("backfill", "backfill"), ("Critical", "interactive"), ("High", "interactive"),
        ("Normal", "renewal"), ("Low", "bulk"),
    ],
)  # fmt: skip
def test_priority_is_a_lane(priority: str, lane: str) -> None:
    """Both vocabularies lead to the four lanes."""
    assert step(priority=priority).lane == lane


def test_rate_limits_are_one_or_several() -> None:
    """`rate_limit_key` with `rate_limit` and the list `rate_limits` add up."""
    block = step(
        rate_limit_key="a",
        rate_limit={"max": 95, "window_seconds": 1},
        rate_limits=[{"key": "b", "max": 24, "window_seconds": 0.5}],
    )
    assert [(each.max, each.window) for each in block.rate_limits] == [(95, 1.0), (24, 0.5)]


@pytest.mark.parametrize(
    ("params", "seconds"),
    [
        ({"timeout_ms": 90_000}, 90.0),
        ({"timeout_ms": "{{data.patience}}"}, math.inf),
        ("{{data.request}}", math.inf),
        ({}, None),
    ],
)
def test_params_may_say_how_long_an_http_call_takes(params: Any, seconds: float | None) -> None:
    """A template may say anything."""
    assert step(handler="tool_call", params=params).call_timeout == seconds


def test_step_has_at_most_sixteen_limits() -> None:
    """`rate_limit_key` counts, too; what was published before is read all the same."""
    many = [{"key": f"k{n}", "max": 1, "window_seconds": 1} for n in range(16)]
    step = {"type": "step", "id": "a", "handler": "h", "rate_limits": many}
    body = {"id": "t", "blocks": [{**step, "rate_limit_key": "k"}]}
    with pytest.raises(DefinitionRejected) as refused:
        load(body)
    (problem,) = refused.value.errors
    assert (problem.pointer, problem.code) == ("/blocks/0/rate_limits", "too_many_limits")
    assert problem.message == 'block "a": a step has at most 16 limits, with rate_limit_key 17'
    assert "too_many_limits" in {each.code for each in load(body, lenient=True).warnings}
    assert load({"id": "t", "blocks": [step]}).warnings == ()


def test_rate_limit_may_cost_more_than_one_and_bound_what_is_in_flight() -> None:
    """A cost is a number or an expression; calls at a time are bounded with or without a key."""
    block = step(
        rate_limits=[{"key": "a", "max": 9, "window_seconds": 1, "cost": 2},
                     {"key": "b", "max": 9, "window_seconds": 1, "cost": "{{data.items}}"}],
        max_in_flight=30,
    )  # fmt: skip
    fixed, given = (each.cost for each in block.rate_limits)
    assert fixed is not None
    assert given is not None
    assert (fixed.is_constant, given.is_constant, block.max_in_flight) == (True, False, 30)


def test_wait_is_a_step_that_becomes_due() -> None:
    """The short form, its two spellings and the seed's step are the same block."""
    written = only({"type": "step", "handler": "wait", "delay": {"days": 3}})
    assert written == Step(id="wait", handler="wait", delay=Delay(THREE_DAYS))
    assert only({"type": "wait", "delay": {"days": 3}}) == written
    assert only({"type": "wait", "duration": "3d"}) == written


def test_wait_until_is_not_before() -> None:
    """A wait for a moment is a step that is not due before it."""
    block = only({"type": "wait", "until": "{{data.trial_end - days(3)}}"})
    assert isinstance(block, Step)
    assert block.not_before is not None
    assert block.not_before.roots == {"data"}


def test_wait_signal_is_a_step_with_params() -> None:
    """The members of the short form are the handler's params, its time-out in milliseconds."""
    sequence = loaded(
        {
            "type": "wait_signal",
            "signal": "paid",
            "timeout": "1h",
            "on_timeout": "continue",
            "match": {"invoice": "{{data.invoice}}"},
        }
    )
    block = sequence.index["wait_signal"]
    assert isinstance(block, Step)
    assert (block.handler, block.timeout) == ("wait_signal", None)
    assert block.params is not None
    assert block.params.roots == {"data"}
    assert sequence.canonical["blocks"][0]["params"]["on_timeout"] == "continue"


@pytest.mark.parametrize("condition", ["{{data.a == 1}}", "data.a == 1"])
def test_assert_has_its_condition_compiled(condition: str) -> None:
    """The condition of an assert is evaluated as one; among the params it stays text."""
    block = step(handler="assert", params={"condition": condition, "message": "no"})
    assert block.assertion is not None
    assert block.assertion.roots == {"data"}
    assert block.params is not None
    assert block.params.is_constant


def test_parallel_and_race_have_a_chain_for_each_branch() -> None:
    """Branches keep their order and may be empty."""
    both = only({"type": "parallel", "id": "p", "branches": [[CHARGE], []], "fail": "fast"})
    assert isinstance(both, Parallel)
    assert ([b.id for b in both.branches], both.fail) == (["@p.0", "@p.1"], "fast")
    first = only(
        {"type": "race", "branches": [[CHARGE], [CHARGE]], "semantics": "first_to_succeed"}
    )
    assert isinstance(first, Race)
    assert ([ids(b) for b in first.branches], first.semantics) == (
        [["charge"], ["charge_2"]],
        "first_to_succeed",
    )


def test_loop_until_is_its_break_condition() -> None:
    """`until` is short for `break_on`; a poll interval is a wait inside the loop."""
    block = only(
        {
            "type": "loop",
            "id": "l",
            "until": "{{outputs.charge.ok}}",
            "body": [CHARGE],
            "poll_interval": 5,
        }
    )
    assert isinstance(block, Loop)
    assert block.break_on is not None
    assert (block.break_on.outputs, block.condition) == ({"charge"}, None)
    assert (block.max_iterations, block.continue_on_error) == (1000, False)
    assert block.pause == Step(id="@l.pause", handler="wait", delay=Delay(FIVE_SECONDS))
    assert [child.id for child in block.chains()] == ["@l.body", "@l.pause"]


@pytest.mark.parametrize("nothing", [0, "0s", None])
def test_loop_without_an_interval_has_no_pause(nothing: Any) -> None:
    """No interval, no wait."""
    block = only({"type": "loop", "condition": "true", "body": [CHARGE], "poll_interval": nothing})
    assert isinstance(block, Loop)
    assert block.pause is None


@pytest.mark.parametrize(
    ("given", "roots", "outputs"),
    [
        ("{{data.items}}", {"data"}, set()),
        ("items", {"context"}, set()),
        ("outputs.charge.items", set(), {"charge"}),
        (["{{data.a}}", 2], {"data"}, set()),
    ],
)
def test_for_each_collection_is_an_expression(
    given: Any, roots: set[str], outputs: set[str]
) -> None:
    """A template, a bare path into the data or from a root, or a list."""
    sequence = loaded(CHARGE, {"type": "for_each", "collection": given, "body": [{"type": "end"}]})
    block = sequence.index["for_each"]
    assert isinstance(block, ForEach)
    assert (block.collection.roots, block.collection.outputs) == (roots, outputs)


def test_for_each_item_is_readable_inside_only() -> None:
    """The item's name is a root for the blocks inside, at any depth, and for nothing else."""
    inner = {**CHARGE, "params": {"a": "{{p.id}}", "b": "{{q.id}}"}}
    nested = {"type": "for_each", "collection": "{{p.parts}}", "item_var": "q", "body": [inner]}
    sequence = loaded(
        {
            "type": "for_each",
            "collection": "{{data.x}}",
            "item_var": "p",
            "concurrency": 5,
            "body": [nested],
        }
    )
    outer = sequence.index["for_each"]
    assert isinstance(outer, ForEach)
    assert (outer.item_var, outer.concurrency) == ("p", 5)


def test_router_has_routes_and_a_default() -> None:
    """A default stands beside the routes or among them."""
    beside = only(
        {"type": "router", "routes": [{"condition": "true", "blocks": [CHARGE]}], "default": []}
    )
    among = only(
        {
            "type": "router",
            "routes": [{"condition": "true", "blocks": [CHARGE]}, {"default": True, "blocks": []}],
        }
    )
    for block in (beside, among):
        assert isinstance(block, Router)
        assert [chain.id for _, chain in block.routes] == ["@router.0"]
        assert ids(block.default) == []


def test_router_without_a_default_has_none() -> None:
    """`default: false` on a route says nothing."""
    block = only(
        {"type": "router", "routes": [{"condition": "now", "default": False, "blocks": []}]}
    )
    assert isinstance(block, Router)
    assert block.default is None


@pytest.mark.parametrize("suffix", ["", "_block"])
def test_try_catch_has_long_and_short_names(suffix: str) -> None:
    """try, catch and finally may be spelled with _block."""
    block = only(
        {
            "type": "try_catch",
            f"try{suffix}": [CHARGE],
            f"catch{suffix}": [],
            f"finally{suffix}": [CHARGE],
        }
    )
    assert isinstance(block, TryCatch)
    assert (ids(block.try_), ids(block.catch), ids(block.finally_)) == (
        ["charge"],
        [],
        ["charge_2"],
    )


def test_try_without_catch_catches_nothing() -> None:
    """A missing catch is not an empty one: an empty one swallows the failure."""
    block = only({"type": "try_catch", "try": [CHARGE], "finally": [CHARGE]})
    assert isinstance(block, TryCatch)
    assert block.catch is None


def test_saga_lends_its_step_ids_to_lone_actions() -> None:
    """An action without an id is called after the saga's step, so that outputs.<id> works."""
    block = only(
        {
            "type": "saga",
            "steps": [
                {
                    "id": "reserve",
                    "action": CHARGE,
                    "compensation": {**CHARGE, "handler": "release"},
                },
                {"id": "two", "action": [CHARGE, CHARGE]},
                {"action": {**CHARGE, "id": "own"}},
            ],
        }
    )
    assert isinstance(block, Saga)
    assert [ids(action) for action, _ in block.steps] == [
        ["reserve"],
        ["charge", "charge_2"],
        ["own"],
    ]
    assert [undo and ids(undo) for _, undo in block.steps] == [["release"], None, None]


def test_other_composites_take_their_members() -> None:
    """cancellation_scope, sub_sequence, both spellings of ab_split, and end."""
    scope = only({"type": "cancellation_scope", "blocks": [CHARGE]})
    assert isinstance(scope, CancellationScope)
    assert ids(scope.body) == ["charge"]
    child = only(
        {"type": "sub_sequence", "sequence": "kyc", "version": "latest", "input": {"a": 1}}
    )
    assert isinstance(child, SubSequence)
    assert (child.sequence_name, child.version) == ("kyc", None)
    for kind in ("ab_split", "a_b_split"):
        variants = [{"name": n, "weight": w, "blocks": [CHARGE]} for n, w in (("a", 1), ("b", 3))]
        split = only({"type": kind, "variants": variants})
        assert isinstance(split, AbSplit)
        assert [(name, weight, ids(chain)) for name, weight, chain in split.variants] == [
            ("a", 1, ["charge"]),
            ("b", 3, ["charge_2"]),
        ]
    assert only({"type": "end", "outcome": "paid"}) == End(id="end", outcome="paid")


EVERY_TYPE: list[dict[str, Any]] = [
    {"type": "wait", "id": "w", "until": "{{now + days(2)}}"},
    {"type": "wait_signal", "id": "s", "signal": "a", "timeout": {"days": 1}},
    {"type": "parallel", "branches": [[CHARGE], [], [CHARGE, CHARGE]]},
    {"type": "race", "branches": [[CHARGE], [CHARGE]]},
    {"type": "loop", "until": "true", "body": [CHARGE], "poll_interval": 3},
    {"type": "for_each", "collection": "items", "body": [CHARGE]},
    {
        "type": "router",
        "routes": [{"default": True, "blocks": [CHARGE]}, {"condition": "now", "blocks": [CHARGE]}],
    },
    {"type": "try_catch", "finally": [CHARGE], "try": [CHARGE], "catch": [CHARGE]},
    {"type": "saga", "steps": [{"id": "x", "action": CHARGE, "compensation": [CHARGE, CHARGE]}]},
    {"type": "sub_sequence", "sequence": "kyc", "version": "latest"},
    {"type": "a_b_split", "variants": [{"name": n, "weight": 1, "blocks": [CHARGE]} for n in "ab"]},
    {"type": "cancellation_scope", "blocks": [CHARGE]},
    {"type": "end", "when": "{{data.done}}"},
]


@pytest.mark.parametrize("block", EVERY_TYPE, ids=[block["type"] for block in EVERY_TYPE])
def test_canonical_block_is_a_fixed_point(block: dict[str, Any]) -> None:
    """The long form of a block loads to the same block, and its long form is itself."""
    once = loaded(block)
    twice = load(once.canonical)
    assert twice.canonical == once.canonical
    assert set(twice.index) == set(once.index)
    assert twice.sha256 == once.sha256
