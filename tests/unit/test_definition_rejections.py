"""Every rejection: its status, its JSON Pointer, its message and what it advises."""

# ruff: noqa: E501 - one case, one line
from __future__ import annotations

from typing import Any

import pytest

from orch8.definition import Limits, load
from tests.support.documents import CHARGE, contract, refusal, seed

FOUR_HUNDRED, SHAPE = 400, 422


def charge(**members: Any) -> dict[str, Any]:
    return seed({**CHARGE, **members})


def loop(**members: Any) -> dict[str, Any]:
    return seed({"type": "loop", "body": [CHARGE], "until": "true", **members})


def each(**members: Any) -> dict[str, Any]:
    return seed({"type": "for_each", "collection": "{{data.items}}", "body": [CHARGE], **members})


def routes(*given: Any, **members: Any) -> dict[str, Any]:
    return seed({"type": "router", "routes": list(given), **members})


VARIANT = {"name": "a", "weight": 1, "blocks": []}
# body, status, pointer, part of the message, part of the hint
REJECTIONS: list[tuple[Any, int, str, str, str]] = [
    # the sequence
    ([], SHAPE, "", "must be an object", "payment_dunning"),
    (None, SHAPE, "", "must be an object", ""),
    ({"blocks": [CHARGE]}, SHAPE, "/id", "id is required", ""),
    ({"id": "t"}, SHAPE, "/blocks", "blocks is required", ""),
    ({"id": "t", "blocks": {}}, SHAPE, "/blocks", "a list of blocks", ""),
    (seed(), FOUR_HUNDRED, "/blocks", "must not be empty", ""),
    ({"id": " ", "blocks": [CHARGE]}, FOUR_HUNDRED, "/id", "must not be blank", ""),
    ({"id": "a/b", "blocks": [CHARGE]}, FOUR_HUNDRED, "/id", "printable", "letters"),
    (seed(CHARGE, version=1.0), SHAPE, "/version", "whole number", ""),
    (seed(CHARGE, version=True), SHAPE, "/version", "whole number", ""),
    (seed(CHARGE, version=0), FOUR_HUNDRED, "/version", "version must be > 0", ""),
    (seed(CHARGE, timezone="Europe/Berln"), FOUR_HUNDRED, "/timezone", "no time zone", "Europe/Berlin"),
    (seed(CHARGE, timezone="America"), FOUR_HUNDRED, "/timezone", "no time zone", "did you mean"),
    (seed(CHARGE, input_schema=5), FOUR_HUNDRED, "/input_schema", "must be an object", ""),
    (seed(CHARGE, input_schema={"type": "x"}), FOUR_HUNDRED, "/input_schema/type", "'x'", ""),
    (seed(CHARGE, blokcs=1), FOUR_HUNDRED, "/blokcs", "unknown member", "did you mean blocks?"),
    (seed(CHARGE, effect="money"), FOUR_HUNDRED, "/effect", "unknown", "belongs on a step"),
    # any block
    (seed(3), SHAPE, "/blocks/0", "must be an object", ""),
    (seed({}), SHAPE, "/blocks/0/type", "type is required", "step"),
    (seed({"type": 3}), SHAPE, "/blocks/0/type", "must be a string", "step"),
    (seed({"type": "ruoter"}), SHAPE, "/blocks/0/type", "'ruoter'", "did you mean router?"),
    (seed({"type": "zzz"}), SHAPE, "/blocks/0/type", "'zzz'", "use one of a_b_split"),
    (charge(id=""), FOUR_HUNDRED, "/blocks/0/id", "must not be blank", ""),
    (charge(id=7), SHAPE, "/blocks/0/id", "must be a string", ""),
    (charge(id="x" * 201), FOUR_HUNDRED, "/blocks/0/id", "longer than 200", ""),
    (charge(id="a\tb"), FOUR_HUNDRED, "/blocks/0/id", "printable", ""),
    (seed({**CHARGE, "id": "a"}, {**CHARGE, "id": "a"}), FOUR_HUNDRED, "/blocks/1/id", "taken by /blocks/0/id", "its own"),
    (charge(when=True), SHAPE, "/blocks/0/when", "must be a string", ""),
    # step
    (seed({"type": "step"}), SHAPE, "/blocks/0/handler", "handler is required", ""),
    (seed({"type": "step", "handler": None}), SHAPE, "/blocks/0/handler", "handler is required", ""),
    (charge(handler="a\n"), FOUR_HUNDRED, "/blocks/0/handler", "printable", "control"),
    (charge(handler=" "), FOUR_HUNDRED, "/blocks/0/handler", "must not be blank", ""),
    (charge(retires={}), FOUR_HUNDRED, "/blocks/0/retires", "unknown member", "retry"),
    (charge(retry=5), SHAPE, "/blocks/0/retry", "must be an object", ""),
    (charge(retry={"max_attempts": 0}), FOUR_HUNDRED, "/blocks/0/retry/max_attempts", "from 1", "executions"),
    (charge(retry={"max_attempts": 2, "backof": "5s"}), FOUR_HUNDRED, "/blocks/0/retry/backof", "unknown", "backoff"),
    (charge(retry={"max_attempts": 2, "backoff": "9s", "max_backoff": "5s"}), FOUR_HUNDRED, "/blocks/0/retry/max_backoff", "below the first", ""),
    (charge(retry={"max_attempts": 2, "retry_if": " "}), FOUR_HUNDRED, "/blocks/0/retry/retry_if", "blank", ""),
    (charge(retry={"max_attempts": 2, "retry_if": "nope"}), FOUR_HUNDRED, "/blocks/0/retry/retry_if", "unknown root", ""),
    (charge(retry={"max_attempts": 2, "non_retryable_codes": [" "]}), FOUR_HUNDRED, "/blocks/0/retry/non_retryable_codes/0", "blank", ""),
    (charge(retry={"max_attempts": 2, "non_retryable_codes": 5}), SHAPE, "/blocks/0/retry/non_retryable_codes", "must be a list", ""),
    (charge(timeout="soon"), SHAPE, "/blocks/0/timeout", "'soon' is no duration", ""),
    (charge(timeout=True), SHAPE, "/blocks/0/timeout", "no duration", ""),
    (charge(timeout=-1), SHAPE, "/blocks/0/timeout", "negative", ""),
    (charge(timeout="0s"), FOUR_HUNDRED, "/blocks/0/timeout", "longer than nothing", ""),
    (charge(timeout={"months": 1}), FOUR_HUNDRED, "/blocks/0/timeout", "months", "use days"),
    (charge(delay={"dayz": 3}), SHAPE, "/blocks/0/delay", "'dayz' is no unit", ""),
    (charge(delay={"jitter": "1s"}), SHAPE, "/blocks/0/delay/duration", "is required", "3d"),
    (charge(delay={"duration": "1d", "jiter": 1}), FOUR_HUNDRED, "/blocks/0/delay/jiter", "unknown", "jitter"),
    (charge(delay={"duration": "1d", "holidays": ["x"]}), FOUR_HUNDRED, "/blocks/0/delay/holidays/0", "no date", "2026-12-25"),
    (charge(delay={"fire_at_local": "noon"}), FOUR_HUNDRED, "/blocks/0/delay/fire_at_local", "no local time", "without a zone"),
    (charge(delay={"fire_at_local": "2026-01-01T00:00:00Z"}), FOUR_HUNDRED, "/blocks/0/delay/fire_at_local", "no local time", "without a zone"),
    (charge(delay={"duration": "1d", "timezone": "Mars"}), FOUR_HUNDRED, "/blocks/0/delay/timezone", "no time zone", ""),
    (charge(send_window={"start_hour": 24}), FOUR_HUNDRED, "/blocks/0/send_window/start_hour", "<= 23", ""),
    (charge(send_window={"start": "9"}), FOUR_HUNDRED, "/blocks/0/send_window/start", "no time of day", "09:00"),
    (charge(send_window={"end": "09:00Z"}), FOUR_HUNDRED, "/blocks/0/send_window/end", "no time of day", "09:00"),
    (charge(rate_limit_key="k", rate_limit={"max": 5, "window_seconds": "1"}), SHAPE, "/blocks/0/rate_limit/window_seconds", "must be a number", ""),
    (charge(rate_limits=[{"key": "{{nope}}", "max": 1, "window_seconds": 1}]), FOUR_HUNDRED, "/blocks/0/rate_limits/0/key", "unknown root", ""),
    (charge(rate_limit_key="{{nope}}"), FOUR_HUNDRED, "/blocks/0/rate_limit_key", "unknown root", ""),
    (each(collection="{{nope}}"), FOUR_HUNDRED, "/blocks/0/collection", "unknown root", ""),
    (charge(send_window={"start": "09:00", "start_hour": 9}), FOUR_HUNDRED, "/blocks/0/send_window/start", "say the same", ""),
    (charge(send_window={"start_hour": 9, "end_hour": 9}), FOUR_HUNDRED, "/blocks/0/send_window", "never opens", "exclusive"),
    (charge(send_window={"days": ["funday"]}), FOUR_HUNDRED, "/blocks/0/send_window/days/0", "no day", "mon"),
    (charge(send_window={"days": [7]}), FOUR_HUNDRED, "/blocks/0/send_window/days/0", "no day", "6 for Sunday"),
    (charge(rate_limit={"max": 1, "window_seconds": 1}), FOUR_HUNDRED, "/blocks/0/rate_limit_key", "needs a rate_limit_key", "stripe"),
    (charge(rate_limit_key="k", rate_limit={"max": 0, "window_seconds": 1}), FOUR_HUNDRED, "/blocks/0/rate_limit/max", "max must be > 0", ""),
    (charge(rate_limit_key="k", rate_limit={"max": 5.0, "window_seconds": 1}), SHAPE, "/blocks/0/rate_limit/max", "whole number", ""),
    (charge(rate_limit_key="k", rate_limit={"max": 5, "window_seconds": 0}), FOUR_HUNDRED, "/blocks/0/rate_limit/window_seconds", "> 0", ""),
    (charge(rate_limits=[{"key": "k", "max": 1}]), SHAPE, "/blocks/0/rate_limits/0/window_seconds", "is required", ""),
    (charge(rate_limits=[{"key": "k", "max": 2, "window_seconds": 1, "cost": 3}]), FOUR_HUNDRED, "/blocks/0/rate_limits/0/cost", "more than max 2", "lower cost"),
    (charge(rate_limits=[{"key": "k", "max": 2, "window_seconds": 1, "cost": 0}]), FOUR_HUNDRED, "/blocks/0/rate_limits/0/cost", "from 1 to 100", "such as 2"),
    (charge(rate_limit_key="k", rate_limit={"max": 2, "window_seconds": 1, "cost": 1.5}), SHAPE, "/blocks/0/rate_limit/cost", "whole number", ""),
    (charge(rate_limit_key="k", rate_limit={"max": 2, "window_seconds": 1, "cost": "{{nope}}"}), FOUR_HUNDRED, "/blocks/0/rate_limit/cost", "unknown root", ""),
    (charge(max_in_flight=0), FOUR_HUNDRED, "/blocks/0/max_in_flight", "must be > 0", ""),
    (charge(max_in_flight="3"), SHAPE, "/blocks/0/max_in_flight", "whole number", ""),
    (charge(rate_limits=[7]), SHAPE, "/blocks/0/rate_limits/0", "must be an object", ""),
    (charge(priority="urgent"), SHAPE, "/blocks/0/priority", "'urgent'", "interactive"),
    (charge(effect="mony"), SHAPE, "/blocks/0/effect", "'mony'", "money"),
    (charge(cancellable="true"), SHAPE, "/blocks/0/cancellable", "true or false", ""),
    (charge(cancellable=1), SHAPE, "/blocks/0/cancellable", "true or false", ""),
    (charge(idempotency={"ttl": "0s"}), FOUR_HUNDRED, "/blocks/0/idempotency/ttl", "longer than nothing", ""),
    (charge(idempotency={"scope": "x"}), SHAPE, "/blocks/0/idempotency/scope", "'x'", "attempt"),
    (charge(context_access={"data": "some"}), SHAPE, "/blocks/0/context_access/data", "not understood", "fields"),
    (charge(context_access={"data": {"fields": [1]}}), SHAPE, "/blocks/0/context_access/data", "not understood", ""),
    (charge(on_deadline_breach={}), SHAPE, "/blocks/0/on_deadline_breach/handler", "is required", ""),
    (charge(output_schema=[]), FOUR_HUNDRED, "/blocks/0/output_schema", "must be an object", ""),
    (charge(output_schema={"pattern": "("}), FOUR_HUNDRED, "/blocks/0/output_schema/pattern", "regex", ""),
    (charge(output_schema={"$ref": "https://example.com/s"}), FOUR_HUNDRED, "/blocks/0/output_schema/$ref", "leads nowhere", "#/$defs"),
    # the money members: near misses are refused
    (charge(idempotency={"header": "My Key"}), FOUR_HUNDRED, "/blocks/0/idempotency/header", "no header name", ""),
    (charge(on_fence="fail"), FOUR_HUNDRED, "/blocks/0/on_fence", "without a fence", "invoice:"),
    (charge(fence="{{nope.x}}"), FOUR_HUNDRED, "/blocks/0/fence", "nope", ""),
    (charge(money={"amount": 1}), SHAPE, "/blocks/0/money/currency", "currency is required", ""),
    (charge(on_unknown={"policy": "reconcile"}), FOUR_HUNDRED, "/blocks/0/on_unknown/handler", "needs a handler", "find_charge"),
    (charge(on_unknown={"policy": "guess"}), SHAPE, "/blocks/0/on_unknown/policy", "'guess'", "park"),
    (charge(on_unknown={"policy": "park", "signals": {"s": "maybe"}}), FOUR_HUNDRED, "/blocks/0/on_unknown/signals/s", "'maybe'", "succeeded"),
    (charge(idempotancy={}), FOUR_HUNDRED, "/blocks/0/idempotancy", "unknown", "idempotency"),
    (charge(rateLimit={}), FOUR_HUNDRED, "/blocks/0/rateLimit", "unknown", "rate_limit"),
    # wait and wait_signal
    (seed({"type": "wait"}), FOUR_HUNDRED, "/blocks/0", "needs a delay", "days"),
    (seed({"type": "wait", "delay": "1d", "duration": "1d"}), FOUR_HUNDRED, "/blocks/0/duration", "say the same", ""),
    (seed({"type": "wait", "until": "{{when}}"}), FOUR_HUNDRED, "/blocks/0/until", "unknown root when", ""),
    (charge(handler="wait", params={"days": 3}), FOUR_HUNDRED, "/blocks/0/params/days", "does not read 'days'", "delay"),
    (charge(handler="wait", params={"duration": "x"}), FOUR_HUNDRED, "/blocks/0/params/duration", "no duration", ""),
    (charge(handler="assert", params={"condition": "{{now ==}}"}), FOUR_HUNDRED, "/blocks/0/params/condition", "at column", ""),
    (seed({"type": "wait_signal"}), SHAPE, "/blocks/0/signal", "signal is required", ""),
    (seed({"type": "wait_signal", "signal": " "}), SHAPE, "/blocks/0/signal", "must be a name", "invoice.paid"),
    (seed({"type": "wait_signal", "signal": "a", "on_timeout": "contine"}), FOUR_HUNDRED, "/blocks/0/on_timeout", "not supported", 'write "continue"'),
    (charge(handler="wait_signal", params={"signal": "a", "timeout": "x"}), SHAPE, "/blocks/0/params/timeout", "no duration", ""),
    (charge(handler="wait_signal", params=[]), SHAPE, "/blocks/0/params", "must be an object", "signal"),
    # loop
    (loop(max_iterations=0), FOUR_HUNDRED, "/blocks/0/max_iterations", "max_iterations must be > 0", ""),
    (loop(max_iterations=100_001), FOUR_HUNDRED, "/blocks/0/max_iterations", "<= 100000", ""),
    (loop(max_iterations=3.0), SHAPE, "/blocks/0/max_iterations", "whole number", ""),
    (loop(condition=""), FOUR_HUNDRED, "/blocks/0/condition", "must not be blank", ""),
    (loop(break_on="true"), FOUR_HUNDRED, "/blocks/0/until", "say the same", ""),
    (loop(body=[]), FOUR_HUNDRED, "/blocks/0/body", "must not be empty", ""),
    (loop(until="{{outputs.chrge.ok}}"), FOUR_HUNDRED, "/blocks/0/until", "names no block", "did you mean outputs.charge?"),
    (loop(poll_interval="x"), SHAPE, "/blocks/0/poll_interval", "no duration", ""),
    # for_each
    (each(body=[]), FOUR_HUNDRED, "/blocks/0/body", "must not be empty", ""),
    (each(collection=" "), FOUR_HUNDRED, "/blocks/0/collection", "must not be blank", ""),
    (each(collection=5), SHAPE, "/blocks/0/collection", "a string or a list", "context.data.items"),
    (each(item_var=""), FOUR_HUNDRED, "/blocks/0/item_var", "must not be blank", ""),
    (each(item_var="1x"), FOUR_HUNDRED, "/blocks/0/item_var", "is no name", "item"),
    (each(max_iterations=0), FOUR_HUNDRED, "/blocks/0/max_iterations", "max_iterations must be > 0", ""),
    (each(concurrency=0), FOUR_HUNDRED, "/blocks/0/concurrency", "must be > 0", ""),
    # router
    (seed({"type": "router"}), FOUR_HUNDRED, "/blocks/0/routes", "needs a route or a default", ""),
    (routes({"blocks": []}), SHAPE, "/blocks/0/routes/0/condition", "condition is required", "default"),
    (routes({"condition": " ", "blocks": []}), FOUR_HUNDRED, "/blocks/0/routes/0/condition", "must not be blank", ""),
    (routes({"condition": "true"}), SHAPE, "/blocks/0/routes/0/blocks", "blocks is required", ""),
    (routes({"condition": "now ==", "blocks": []}), FOUR_HUNDRED, "/blocks/0/routes/0/condition", "at column", ""),
    (routes({"condition": "now", "default": True, "blocks": []}), FOUR_HUNDRED, "/blocks/0/routes/0/condition", "has no condition", ""),
    (routes({"default": True, "blocks": []}, default=[]), FOUR_HUNDRED, "/blocks/0/routes", "more than one default", ""),
    (routes(None), SHAPE, "/blocks/0/routes/0", "entry 0 is required", ""),
    (routes(7), SHAPE, "/blocks/0/routes/0", "must be an object", ""),
    # parallel, race
    (seed({"type": "parallel", "branches": []}), FOUR_HUNDRED, "/blocks/0/branches", "must not be empty", ""),
    (seed({"type": "parallel", "branches": [[]] * 257}), FOUR_HUNDRED, "/blocks/0/branches", "more than 256", ""),
    (seed({"type": "parallel", "branches": [[], {}]}), SHAPE, "/blocks/0/branches/1", "a list of blocks", ""),
    (seed({"type": "parallel", "branches": [[]], "fail": "x"}), SHAPE, "/blocks/0/fail", "'x'", "fast"),
    (seed({"type": "race", "branches": [[]], "semantics": "x"}), SHAPE, "/blocks/0/semantics", "'x'", "first_to_succeed"),
    (seed({"type": "race"}), SHAPE, "/blocks/0/branches", "branches is required", ""),
    # try_catch, saga, cancellation_scope, ab_split, sub_sequence, end
    (seed({"type": "try_catch"}), SHAPE, "/blocks/0/try_block", "is required", "list of blocks"),
    (seed({"type": "try_catch", "try": []}), FOUR_HUNDRED, "/blocks/0/try", "must not be empty", ""),
    (seed({"type": "try_catch", "try": [CHARGE], "catch": [], "catch_block": []}), FOUR_HUNDRED, "/blocks/0/catch", "say the same", ""),
    (seed({"type": "saga", "steps": [{}]}), SHAPE, "/blocks/0/steps/0/action", "is required", ""),
    (seed({"type": "saga", "steps": [{"id": "a", "action": []}, {"id": "a", "action": []}]}), FOUR_HUNDRED, "/blocks/0/steps/1/id", "taken by", ""),
    (seed({"type": "cancellation_scope", "blocks": []}), FOUR_HUNDRED, "/blocks/0/blocks", "must not be empty", ""),
    (seed({"type": "ab_split", "variants": [VARIANT]}), FOUR_HUNDRED, "/blocks/0/variants", "at least 2", ""),
    (seed({"type": "ab_split", "variants": [VARIANT, VARIANT]}), FOUR_HUNDRED, "/blocks/0/variants/1/name", "two variants 'a'", ""),
    (seed({"type": "ab_split", "variants": [{**VARIANT, "weight": 0}, {**VARIANT, "name": "b", "weight": 0}]}), FOUR_HUNDRED, "/blocks/0/variants", "must not all be 0", ""),
    (seed({"type": "ab_split", "variants": [VARIANT, 7]}), SHAPE, "/blocks/0/variants/1", "must be an object", ""),
    (seed({"type": "ab_split", "variants": 7}), SHAPE, "/blocks/0/variants", "must be a list", ""),
    (seed({"type": "saga", "steps": 7}), SHAPE, "/blocks/0/steps", "must be a list", ""),
    (seed({"type": "sub_sequence"}), SHAPE, "/blocks/0/sequence_name", "is required", "name"),
    (seed({"type": "sub_sequence", "sequence": "a", "sequence_name": "a"}), FOUR_HUNDRED, "/blocks/0/sequence", "say the same", ""),
    (seed({"type": "sub_sequence", "sequence_name": "a", "version": "1"}), SHAPE, "/blocks/0/version", "whole number", "newest"),
    (seed({"type": "sub_sequence", "sequence_name": "a", "version": 0}), FOUR_HUNDRED, "/blocks/0/version", "> 0", ""),
    (seed({"type": "end", "outcome": ""}), FOUR_HUNDRED, "/blocks/0/outcome", "must not be blank", ""),
    # the contract's form
    (contract({**CHARGE}), SHAPE, "/blocks/0/id", "id is required", ""),
    (contract({**CHARGE, "id": "a"}, id="x"), SHAPE, "/id", "a UUID", ""),
    (contract({**CHARGE, "id": "a"}, created_at="x"), SHAPE, "/created_at", "a timestamp", "2026"),
    (contract({**CHARGE, "id": "a"}, created_at=None), SHAPE, "/created_at", "is required", ""),
    (contract({**CHARGE, "id": "a"}, status="live"), SHAPE, "/status", "'live'", "production"),
    (contract({**CHARGE, "id": "a"}, tenant_id=" "), FOUR_HUNDRED, "/tenant_id", "must not be blank", ""),
    (contract({**CHARGE, "id": "a", "fenc": "x"}), FOUR_HUNDRED, "/blocks/0/fenc", "unknown", "fence"),
    (contract({**CHARGE, "id": "a", "retry": {"max_attempts": 2, "max_backoff": 5}}), SHAPE, "/blocks/0/retry/initial_backoff", "initial_backoff", ""),
    (contract({"id": "t", "type": "try_catch", "try_block": [{**CHARGE, "id": "a"}]}), SHAPE, "/blocks/0/catch_block", "is required", "swallows"),
    (contract({"id": "s", "type": "saga", "steps": [{"action": {**CHARGE, "id": "a"}}]}), SHAPE, "/blocks/0/steps/0/id", "is required", ""),
]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "status", "pointer", "message", "hint"),
    REJECTIONS,
    ids=[f"{r[2] or 'whole'}: {r[3]}" for r in REJECTIONS],
)
def test_rejection_says_where_what_and_what_to_do(
    body: Any, status: int, pointer: str, message: str, hint: str
) -> None:
    """Each wrong document is refused with one problem that names the place, and with a hint."""
    got, problems = refusal(body)
    found = {problem.pointer: problem for problem in problems}
    assert pointer in found, problems
    assert message in found[pointer].message
    assert hint in found[pointer].hint
    assert (got, len(problems)) == (status, 1), problems


NOT_YET: list[tuple[dict[str, Any], str]] = [
    *(
        (charge(**{name: value}), f"/blocks/0/{name}")
        for name, value in {
            "compensation": {"handler": "h"},
            "output_schema": "invoice.v1",
        }.items()
    ),
    (charge(delay={"business_days": 2}), "/blocks/0/delay"),
    (seed({"type": "batch", "collection": [], "body": [CHARGE]}), "/blocks/0/type"),
    (seed({"type": "approval", "prompt": "ok?"}), "/blocks/0/type"),
    (seed({"type": "approval_chain", "tiers": [{}]}), "/blocks/0/type"),
    (seed({"type": "wait_signal", "signal": "a", "on_timeout": "park"}), "/blocks/0/on_timeout"),
    (seed({"type": "wait_signal", "signal": ["a", "b"]}), "/blocks/0/signal"),
    (seed({"type": "parallel", "branches": [[CHARGE]], "fail": "collect_all"}), "/blocks/0/fail"),
    (seed({"type": "end", "outcome": "{{signal.status}}"}), "/blocks/0/outcome"),
]


@pytest.mark.parametrize(("body", "pointer"), NOT_YET, ids=[pointer for _, pointer in NOT_YET])
def test_feature_of_a_later_version_is_named_as_such(body: Any, pointer: str) -> None:
    """What the language has and this version has not is refused as that, with what works today."""
    status, problems = refusal(body)
    assert [(each.code, each.pointer) for each in problems] == [("not_yet", pointer)]
    assert status == FOUR_HUNDRED
    assert problems[0].hint


def test_every_problem_is_listed_in_document_order() -> None:
    """One answer lists all that is wrong, wherever it stands."""
    body = seed(
        {**CHARGE, "timeout": "x", "params": {"a": "{{nope}}", "b": ["{{", "{{outputs.q.x}}"]}},
        {"type": "router", "routes": [{"condition": "a b", "blocks": [{"type": "stpe"}]}]},
        timezone="Mars",
    )
    status, problems = refusal(body)
    assert status == SHAPE
    assert [each.pointer for each in problems] == [
        "/blocks/0/params/a",
        "/blocks/0/params/b/0",
        "/blocks/0/params/b/1",
        "/blocks/0/timeout",
        "/blocks/1/routes/0/blocks/0/type",
        "/blocks/1/routes/0/condition",
        "/timezone",
    ]


def test_message_names_the_block() -> None:
    """A reader finds the block without counting brackets."""
    _, problems = refusal(loop(id="again", max_iterations=0))
    assert problems[0].message == 'block "again": max_iterations must be > 0'


def test_number_of_listed_problems_is_bounded() -> None:
    """A thousand mistakes are not a thousand lines."""
    body = seed(*({"type": "step"} for _ in range(300)))
    _, problems = refusal(body, limits=Limits(problems=10))
    assert len(problems) == 10


def test_lenient_loading_only_warns_of_unknown_members() -> None:
    """With lenient an unknown member passes, unless it may be meant to be about money."""
    sequence = load(charge(colour="red", effect="none"), lenient=True)
    assert [(each.code, each.pointer) for each in sequence.warnings] == [
        ("unknown_member", "/blocks/0/colour")
    ]
    status, problems = refusal(charge(effct="money"), lenient=True)
    assert (status, problems[0].hint) == (FOUR_HUNDRED, "did you mean effect?")
