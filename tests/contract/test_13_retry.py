"""CONTRACT 13.1 to 13.5: retries, what they count, what stops them, and what is never run again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from orch8.handlers.python import Refused, TryAgain
from orch8.storage import fleet
from tests.support.desk import Desk, seated
from tests.support.documents import contract

NOW = {"max_attempts": 3, "initial_backoff": 1, "max_backoff": 1}
SLOWLY = {"max_attempts": 4, "initial_backoff": 3_600_000, "max_backoff": 10_800_000}
WHOLE = {"type": "object", "properties": {"n": {"type": "integer"}}}
FAIL = {"type": "step", "id": "no", "handler": "fail",
        "params": {"message": "forced failure", "retryable": True}}  # fmt: skip


def failing(**members: Any) -> dict[str, Any]:
    """A step that fails each time so that it may be tried again."""
    return {**FAIL, **members}


def run(desk: Desk, *blocks: Any, data: Any = None, **members: Any) -> Any:
    """An instance of these blocks, in the contract's form, has been worked on."""
    mine = {"id": str(uuid4()), "name": str(uuid4()), "tenant_id": "default"}
    made = desk.api.post("/sequences", contract(*blocks, **mine, **members))
    started = {
        "sequence_id": made["id"], "tenant_id": "default", "namespace": "billing",
        "context": {"data": data or {}},
    }  # fmt: skip
    instance = desk.api.post("/instances", started)
    desk.house.work()
    return desk.read(instance)


def tried(desk: Desk, instance: Any, node_key: str = "no") -> int:
    """How often a step has failed so that it was tried again, and the last time besides."""
    actions = desk.house.actions(instance["id"], node_key)
    return actions.count("step.retry") + actions.count("step.failed")


def calls(desk: Desk, name: str, *ends: Any) -> list[Any]:
    """The calls of a handler that ends like this one time after the other, then well."""
    made: list[Any] = []

    def handler(request: Any) -> Any:
        made.append(request)
        end = ends[len(made) - 1] if len(made) <= len(ends) else {}
        if isinstance(end, Exception):
            raise end
        return end

    desk.house.handler(name, handler)
    return made


# -- 13.1: totals --------------------------------------------------------------------------------
def test_max_attempts_are_all_executions(desk: Desk) -> None:
    """The first one included; then the instance has failed."""
    instance = run(desk, failing(retry=NOW))
    assert instance["state"] == "failed"
    assert tried(desk, instance) == 3


def test_failure_without_a_policy_is_final(desk: Desk) -> None:
    """Though it could be tried again."""
    instance = run(desk, FAIL)
    assert (instance["state"], tried(desk, instance)) == ("failed", 1)


def test_permanent_failure_is_final(desk: Desk) -> None:
    """Whatever the policy says."""
    instance = run(desk, failing(params={"message": "no"}, retry=NOW))
    assert (instance["state"], tried(desk, instance)) == ("failed", 1)


def test_template_that_cannot_be_rendered_is_not_tried_again(desk: Desk) -> None:
    """Neither is a credential that cannot be used."""
    made = calls(desk, "work")
    for params in ({"x": "{{ no_such_root.x }}"}, {"x": "credentials://unknown"}):
        step = {"type": "step", "id": "no", "handler": "work", "params": params, "retry": NOW}
        instance = run(desk, step)
        assert (instance["state"], tried(desk, instance)) == ("failed", 1)
    assert made == []


def test_attempt_counts_from_zero_in_each_activation(desk: Desk) -> None:
    """Also in a loop, and though it grows with each failure."""
    calls(desk, "work", {}, TryAgain("busy"), {})
    step = {"type": "step", "id": "work", "handler": "work", "retry": NOW}
    loop = {"type": "loop", "id": "twice", "condition": "true", "max_iterations": 2, "body": [step]}
    instance = run(desk, loop)
    rows = desk.api.get(f"/instances/{instance['id']}/outputs")
    assert [row["attempt"] for row in rows if row["block_id"] == "work"] == [0, 1]


def test_time_out_of_a_call_may_be_tried_again(desk: Desk) -> None:
    """Where the call can do no harm, as a failure; else under the same key until it is known."""
    calls(desk, "slow", TimeoutError("no answer"), {"ok": True})
    step = {"type": "step", "id": "slow", "handler": "slow", "effect": "read", "retry": NOW}
    instance = run(desk, step)
    assert instance["state"] == "completed"
    assert desk.house.step(instance["id"], "slow").failures == 1


# -- 13.2: back-off ------------------------------------------------------------------------------
def test_backoff_grows_to_its_ceiling(desk: Desk) -> None:
    """initial x multiplier^attempt, no more than max, no jitter."""
    calls(desk, "work", *[TryAgain("busy")] * 4)
    step = {"type": "step", "id": "work", "handler": "work",
            "retry": {**SLOWLY, "max_attempts": 5, "backoff_multiplier": 2.0}}  # fmt: skip
    instance = run(desk, step)
    waits = []
    for _ in range(4):
        row = desk.house.step(instance["id"], "work")
        waits.append(row.due_at - row.last_dispatched_at)
        desk.house.advance(timedelta(hours=3, seconds=1))
        desk.house.work()
    hours = [round(wait / timedelta(hours=1), 2) for wait in waits]
    assert hours == [1, 2, 3, 3]
    assert desk.read(instance)["state"] == "completed"


def test_instance_is_scheduled_between_two_tries(desk: Desk) -> None:
    """For the moment of the next one."""
    calls(desk, "work", TryAgain("busy"))
    step = {"type": "step", "id": "work", "handler": "work", "retry": SLOWLY}
    instance = run(desk, step)
    row = desk.house.step(instance["id"], "work")
    assert (instance["state"], row.state) == ("scheduled", "scheduled")
    assert row.due_at is not None
    assert instance["next_fire_at"] is not None


# -- 13.3: conditional retry ---------------------------------------------------------------------
TRUTHY = [
    "true", "1", "data.flag", "data.n > 2", "!data.missing", "true && data.flag",
    "data.missing || data.flag", "data._error.message == 'forced failure'",
    "starts_with(data._error.message, 'forced')", "contains(data._error.message, 'fail')",
    "data._error", "data.n == 3 && starts_with(data._error.message, 'forced')", "data.text == 'x'",
]  # fmt: skip
FALSY = [
    "false", "0", "data.missing", "data.n > 5", "!data.flag", "true && data.missing",
    "false || data.missing", "data._error.message == 'other'",
    "starts_with(data._error.message, 'other')", "data.missing.deeper", "data._error.details",
    "data.text == 'y'", "nothing.known",
]  # fmt: skip
DATA = {"flag": True, "n": 3, "text": "x"}


@pytest.mark.parametrize("condition", TRUTHY)
def test_condition_that_holds_lets_it_try_again(desk: Desk, condition: str) -> None:
    """Until the attempts are used up; then it has failed all the same."""
    instance = run(desk, failing(retry={**NOW, "retry_if": condition}), data=DATA)
    assert (instance["state"], tried(desk, instance)) == ("failed", 3)


@pytest.mark.parametrize("condition", FALSY)
def test_condition_that_does_not_hold_fails_at_once(desk: Desk, condition: str) -> None:
    """A member that is missing is false, and is no error."""
    instance = run(desk, failing(retry={**NOW, "retry_if": condition}), data=DATA)
    assert (instance["state"], tried(desk, instance)) == ("failed", 1)


def test_condition_is_not_asked_about_permanent_failures(desk: Desk) -> None:
    """They are final, whatever it says."""
    step = failing(params={"message": "no"}, retry={**NOW, "retry_if": "true"})
    assert tried(desk, run(desk, step)) == 1


@pytest.mark.parametrize(("condition", "times"), [("true", 3), ("false", 1)])
@pytest.mark.parametrize("composite", ["router", "parallel"])
def test_condition_works_inside_composites(
    desk: Desk, composite: str, condition: str, times: int
) -> None:
    """As it does outside of them."""
    step = failing(retry={**NOW, "retry_if": condition})
    inside: dict[str, Any] = {"type": composite, "id": "around"}
    if composite == "router":
        inside["routes"] = [{"condition": "true", "blocks": [step]}]
    else:
        inside["branches"] = [[step], [{"type": "step", "id": "yes", "handler": "noop"}]]
    instance = run(desk, inside)
    assert (instance["state"], tried(desk, instance)) == ("failed", times)


@pytest.mark.parametrize(
    "params",
    [
        {"code": "card_stolen"}, {"details": {"error_code": "card_stolen"}},
        {"details": {"code": "card_stolen"}}, {"details": {"status": "card_stolen"}},
    ],
)  # fmt: skip
def test_code_that_is_not_to_be_retried_ends_it(desk: Desk, params: Any) -> None:
    """Wherever the failure names it."""
    step = failing(
        params={**FAIL["params"], **params}, retry={**NOW, "non_retryable_codes": ["card_stolen"]}
    )
    assert tried(desk, run(desk, step)) == 1


def test_codes_are_compared_as_texts(desk: Desk) -> None:
    """A status that is a number matches its digits; another code does not."""
    params = {**FAIL["params"], "details": {"status": 404}}
    stops = failing(params=params, retry={**NOW, "non_retryable_codes": ["404"]})
    goes_on = failing(params=params, retry={**NOW, "non_retryable_codes": ["500"]})
    assert tried(desk, run(desk, stops)) == 1
    assert tried(desk, run(desk, goes_on)) == 3


def test_codes_hold_for_pull_workers_too(houses: Callable[..., Any]) -> None:
    """Which name them with a failure."""
    with seated(houses(handler_url="")) as desk:
        retry = {**NOW, "non_retryable_codes": ["card_stolen"]}
        instance = run(desk, {"type": "step", "id": "no", "handler": "pulled", "retry": retry})
        asked = {"handler_name": "pulled", "worker_id": "w"}
        (task,) = desk.api.post("/workers/tasks/poll", asked, status=200)
        said = {
            "worker_id": "w", "claim_epoch": task["claim_epoch"], "message": "no",
            "retryable": True, "code": "card_stolen",
        }  # fmt: skip
        desk.api.send("POST", f"/workers/tasks/{task['id']}/fail", said)
        assert desk.read(instance)["state"] == "failed"


# -- 13.4, 13.5: what is kept --------------------------------------------------------------------
def test_step_that_succeeded_after_a_retry_has_one_output(desk: Desk) -> None:
    """What failed before is not listed."""
    calls(desk, "work", TryAgain("busy"), {"ok": True})
    instance = run(desk, {"type": "step", "id": "work", "handler": "work", "retry": NOW})
    rows = desk.api.get(f"/instances/{instance['id']}/outputs")
    assert [(row["block_id"], row["output"]) for row in rows] == [("work", {"ok": True})]


@pytest.mark.parametrize("composite", [False, True])
def test_what_completed_is_never_run_again(desk: Desk, *, composite: bool) -> None:
    """Across a retry of the instance, whatever its shape; it keeps its context and its one row."""
    made = calls(desk, "first")
    calls(desk, "second", Refused("no"))
    steps: list[Any] = [
        {"type": "step", "id": each, "handler": each} for each in ("first", "second")
    ]
    blocks = [{"type": "cancellation_scope", "id": "in", "blocks": steps}] if composite else steps
    instance = run(desk, *blocks, data={"n": 1})
    assert instance["state"] == "failed"
    desk.api.post(f"/instances/{instance['id']}/retry", status=200)
    desk.house.work()
    after = desk.read(instance)
    assert (after["state"], after["context"]["data"]["n"]) == ("completed", 1)
    rows = desk.api.get(f"/instances/{instance['id']}/outputs")
    assert [row["block_id"] for row in rows].count("first") == 1
    assert len(made) == 1


def test_output_that_breaks_its_schema_fails_the_step(desk: Desk) -> None:
    """For good, and with a message that says so, where the call can do no harm."""
    calls(desk, "read", {"n": "x"})
    step = {"type": "step", "id": "read", "handler": "read", "effect": "read", "retry": NOW,
            "output_schema": WHOLE}  # fmt: skip
    instance = run(desk, step)
    assert instance["state"] == "failed"
    row = desk.house.step(instance["id"], "read")
    assert row.dispatches == 1
    assert row.error["message"].startswith("output failed output_schema validation: ")


def test_output_of_a_call_that_may_have_moved_money_is_in_doubt(desk: Desk) -> None:
    """When it breaks its schema: it is sent again under its key, never failed by guessing."""
    made = calls(desk, "pay", {"n": "x"}, {"n": 1})
    step = {"type": "step", "id": "pay", "handler": "pay", "effect": "money",
            "output_schema": WHOLE}  # fmt: skip
    instance = run(desk, step)
    desk.house.advance(timedelta(minutes=1))
    desk.house.work()
    assert desk.read(instance)["state"] == "completed"
    assert len({request.idempotency_key for request in made}) == 1


# -- 13.5: cache_key -----------------------------------------------------------------------------
def cached(block_id: str, key: str = "rate:{{data.n}}", **members: Any) -> dict[str, Any]:
    """A step whose output is kept."""
    return {"type": "step", "id": block_id, "handler": "quote", "cache_key": key, **members}


def outputs(desk: Desk, instance: Any) -> list[Any]:
    """What the instance's steps put out, in order."""
    return [row["output"] for row in desk.api.get(f"/instances/{instance['id']}/outputs")]


def test_second_step_with_the_same_key_calls_nobody(desk: Desk) -> None:
    """It has the output of the first; another key is another call."""
    made = calls(desk, "quote", {"n": 1}, {"n": 2})
    instance = run(desk, cached("a"), cached("b"), cached("c", "other"), data={"n": 7})
    assert instance["state"] == "completed"
    assert outputs(desk, instance) == [{"n": 1}, {"n": 1}, {"n": 2}]
    assert len(made) == 2
    assert desk.house.step(instance["id"], "b").dispatches == 0


def test_iteration_with_the_same_key_calls_nobody(desk: Desk) -> None:
    """The key is rendered for each."""
    made = calls(desk, "quote", {"n": 1}, {"n": 2})
    each = {"type": "for_each", "id": "all", "collection": "items", "item_var": "item",
            "body": [cached("a", "k:{{data.item}}")]}  # fmt: skip
    instance = run(desk, each, data={"items": ["x", "y", "x", "x"]})
    assert instance["state"] == "completed"
    assert len(made) == 2


def test_cache_is_the_instances_own(desk: Desk) -> None:
    """Another instance calls for itself; what is kept can be read as state."""
    made = calls(desk, "quote", {"n": 1}, {"n": 2})
    params = {"key": "_cache:k"}
    read = {"type": "step", "id": "kept", "handler": "get_state", "params": params}
    for n in (1, 2):
        assert outputs(desk, run(desk, cached("a", "k"), read))[1]["value"] == {"n": n}
    assert len(made) == 2


def test_failure_is_not_kept(desk: Desk) -> None:
    """Only what succeeded is."""
    made = calls(desk, "quote", TryAgain("busy"), {"n": 2})
    instance = run(desk, cached("a", retry=NOW), cached("b"), data={"n": 7})
    assert outputs(desk, instance) == [{"n": 2}, {"n": 2}]
    assert len(made) == 2


def test_built_in_can_be_kept_too(desk: Desk) -> None:
    """One that computes something."""
    steps = [
        {"type": "step", "id": each, "handler": "transform", "params": {"by": each},
         "cache_key": "k"} for each in ("a", "b")
    ]  # fmt: skip
    assert outputs(desk, run(desk, *steps)) == [{"by": "a"}, {"by": "a"}]


def test_key_that_comes_to_nothing_fails_the_step(desk: Desk) -> None:
    """Nothing is called."""
    made = calls(desk, "quote")
    assert run(desk, cached("a", "{{data.missing}}"))["state"] == "failed"
    assert made == []


@pytest.mark.parametrize("effect", ["money", "irrevocable"])
def test_cached_charge_is_refused(desk: Desk, effect: str) -> None:
    """400 says what to write instead: a charge that was made is none of another step's."""
    body = contract(cached("a", "k", effect=effect))
    refused = desk.api.refused(400, "POST", "/sequences", body)
    assert "never answered from a cache" in refused["error"]


def test_registered_money_is_never_cached(desk: Desk) -> None:
    """Though the definition did not say what the handler does."""
    with desk.house.office.begin() as tx:
        fleet.put_handler(tx, "default", "charge", url=None, effect="money",
                          timeout=None)  # fmt: skip
    desk.house.office.routes.forget()
    steps = [{"type": "step", "id": each, "handler": "charge", "cache_key": "k"} for each in "ab"]
    assert run(desk, *steps)["state"] == "completed"
    assert desk.house.totals()["charged"] == 2


def test_cached_step_of_a_pull_worker_needs_none(houses: Callable[..., Any]) -> None:
    """The second is never offered."""
    with seated(houses(handler_url="")) as desk:
        instance = run(desk, cached("a", "k"), cached("b", "k"))
        assert instance["state"] == "waiting"
        asked = {"handler_name": "quote", "worker_id": "w"}
        (task,) = desk.api.post("/workers/tasks/poll", asked, status=200)
        said = {"worker_id": "w", "claim_epoch": task["claim_epoch"], "output": {"n": 1}}
        desk.api.send("POST", f"/workers/tasks/{task['id']}/complete", said)
        desk.house.work()
        assert desk.read(instance)["state"] == "completed"
        assert outputs(desk, instance) == [{"n": 1}, {"n": 1}]
