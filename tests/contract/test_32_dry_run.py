"""CONTRACT 32, and 7.3 and 9.2 where they tell of it: dry runs call nobody."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.api import NOOP, Api
from tests.support.desk import Desk

URL = "http://127.0.0.1:9/tool"


def step(handler: str, **params: Any) -> dict[str, Any]:
    """A step that calls the handler."""
    return {"type": "step", "id": "s", "handler": handler, "params": params}


def dry(desk: Desk, *blocks: Any, name: str = "dry", **members: Any) -> Any:
    """A dry run of these blocks, worked on."""
    return desk.run({"id": name, "blocks": list(blocks)}, dry_run=True, **members)


def outputs(desk: Desk, instance: Any) -> dict[str, Any]:
    """What an instance's blocks put out."""
    found = desk.api.get(f"/instances/{instance['id']}/outputs")
    return {each["block_id"]: each["output"] for each in found}


def of(desk: Desk, *blocks: Any, **members: Any) -> Any:
    """What the step ``s`` of a dry run that completed put out."""
    made = dry(desk, *blocks, **members)
    assert made["state"] == "completed", made
    return outputs(desk, made)["s"]


def polled(api: Api, handler: str) -> list[dict[str, Any]]:
    """The tasks that a worker gets."""
    body = {"handler_name": handler, "worker_id": "w", "limit": 10}
    found: list[dict[str, Any]] = api.post("/workers/tasks/poll", body, status=200)
    return found


# -- 9.2, 7.3: the mark ---------------------------------------------------------------------------
def test_dry_run_is_told_by_its_context(desk: Desk) -> None:
    """In the answer, in what is read later, and to templates."""
    block = {"type": "step", "id": "s", "handler": "transform", "params": {
        "dry": "{{runtime.dry_run}}", "attempt": "{{runtime.attempt}}",
        "step": "{{runtime.current_step}}", "began": "{{runtime.started_at}}"}}  # fmt: skip
    made = desk.api.started({"id": "told", "blocks": [block]}, dry_run=True)
    assert made["context"]["runtime"] == {"dry_run": True, "dry_run_auto_approve": False}
    desk.house.work()
    assert desk.read(made)["context"] == made["context"]
    found = outputs(desk, made)["s"]
    assert found == {"dry": True, "attempt": 0, "step": "s", "began": found["began"]}
    assert found["began"].startswith("20")
    real = desk.run({"id": "told", "blocks": [block]}, dry_run=False)
    assert "runtime" not in real["context"]
    assert outputs(desk, real)["s"]["dry"] is False


def test_auto_approval_is_a_dry_runs_alone(api: Api) -> None:
    """It is kept in the context; a real run's gates never open by themselves."""
    made = api.started(NOOP, dry_run=True, dry_run_auto_approve=True)
    assert made["context"]["runtime"]["dry_run_auto_approve"] is True
    assert "runtime" not in api.started(NOOP, dry_run_auto_approve=True)["context"]


def test_nobody_can_take_a_real_run_for_a_dry_one(desk: Desk) -> None:
    """What a caller writes under runtime about it is left out, at the start and later."""
    lie = {"data": {}, "runtime": {"dry_run": True, "dry_run_auto_approve": True, "mine": 1}}
    block = {"type": "step", "id": "s", "handler": "charge"}
    made = desk.run({"id": "lied", "blocks": [block]}, context=lie)
    assert made["context"]["runtime"] == {"mine": 1}
    assert len(desk.house.keys()) == 1
    plain = desk.api.started(NOOP)
    path = f"/instances/{plain['id']}/context"
    assert desk.api.send("PATCH", path, {"context": lie}).status_code == 200
    assert desk.read(plain)["context"]["runtime"] == {"mine": 1}
    kept = desk.api.started(NOOP, dry_run=True)
    path = f"/instances/{kept['id']}/context"
    assert desk.api.send("PATCH", path, {"context": {"runtime": {}}}).status_code == 200
    assert desk.read(kept)["context"]["runtime"]["dry_run"] is True


@pytest.mark.parametrize("wrong", ["yes", 1, {}])
def test_dry_run_is_true_or_false(api: Api, wrong: Any) -> None:
    """Anything else is 422."""
    api.post("/sequences", NOOP)
    for name in ("dry_run", "dry_run_auto_approve"):
        api.refused(422, "POST", f"/sequences/{NOOP['id']}/instances", {name: wrong})


def test_idempotency_keys_of_dry_runs_are_their_own(desk: Desk) -> None:
    """A dry run with a payment's key stands in the way of no payment."""
    first = dry(desk, step("charge"), idempotency_key="inv-1")
    assert first["idempotency_key"] == "dryrun:inv-1"
    path, body = "/sequences/dry/instances", {"idempotency_key": "inv-1"}
    again = desk.api.post(path, body | {"dry_run": True}, status=200)
    assert (again["id"], again["deduplicated"]) == (first["id"], True)
    real = desk.api.post(path, body)
    assert (real["deduplicated"], real["idempotency_key"]) == (False, "inv-1")
    desk.house.work()
    assert len(desk.house.keys()) == 1
    desk.api.refused(400, "POST", path, {"idempotency_key": "dryrun:inv-1"})


def test_batch_may_hold_dry_runs(desk: Desk) -> None:
    """Beside real ones with the same keys."""
    made = desk.api.post("/sequences", {"id": "both", "blocks": [step("charge")]})
    asked = {"sequence_id": made["id"], "tenant_id": "default", "namespace": "default",
             "idempotency_key": "k"}  # fmt: skip
    body = {"instances": [asked, {**asked, "dry_run": True}]}
    assert desk.api.post("/instances/batch", body)["count"] == 2
    body["on_duplicate"] = "skip"  # type: ignore[assignment]
    assert desk.api.post("/instances/batch", body)["deduplicated"] == 2
    desk.house.work()
    assert len(desk.house.keys()) == 1


# -- 32: stubs -------------------------------------------------------------------------------------
def test_http_request_is_not_made(desk: Desk) -> None:
    """Its output has the members of a real one."""
    assert of(desk, step("http_request", url=URL, method="POST", body="{}")) == {
        "dry_run": True, "handler": "http_request", "would": {"url": URL, "method": "POST"},
        "status": None, "body": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("handler", "params", "output"),
    [
        (
            "self_modify", {"blocks": [{"type": "step", "id": "x", "handler": "noop"}]},
            {"would": {"inject": 1, "position": None}, "_self_modify": True,
             "blocks": [{"type": "step", "id": "x", "handler": "noop"}], "position": None,
             "injected_count": 0},
        ),
        (
            "start_sequence", {"sequence": "dry", "input": {"a": 1}},
            {"would": {"sequence": "dry", "version": None, "input": {"a": 1}},
             "instance_id": None, "sequence": "dry"},
        ),
        ("anything", {"amount": 1}, {"would": {"params": {"amount": 1}}}),
    ],
)  # fmt: skip
def test_stub_says_what_would_be_done(
    desk: Desk, handler: str, params: Any, output: dict[str, Any]
) -> None:
    """With what, and the members of a real output as far as they are known."""
    assert of(desk, step(handler, **params)) == {"dry_run": True, "handler": handler, **output}
    assert len(desk.api.get("/instances")["items"]) == 1
    assert desk.house.keys(handler) == []


def test_push_handlers_and_money_are_never_called(desk: Desk) -> None:
    """No call, so no intent, no fence, no budget and no token."""
    block = {
        **step("charge", amount=1), "effect": "money", "fence": "invoice-1",
        "money": {"amount": 1, "currency": "EUR", "instrument": "card-1", "network": "visa"},
        "rate_limit_key": "psp", "rate_limit": {"max": 1, "window_seconds": 3600},
        "output_schema": {"required": ["charge_id"]},
    }  # fmt: skip
    for _ in range(3):
        assert of(desk, block)["would"] == {"params": {"amount": 1}}
    assert desk.house.keys() == []
    for table in ("fences", "network_attempts", "evidence", "doubts"):
        assert desk.api.rows(f"SELECT count(*) FROM {table}") == [(0,)]
    (row,) = desk.api.rows("SELECT dispatches, idempotency_key, money FROM steps LIMIT 1")
    assert row == (0, None, None)


def test_parameters_are_rendered(desk: Desk) -> None:
    """What they came to is told."""
    output = of(desk, step("charge", amount="{{context.data.n}}"), context={"data": {"n": 7}})
    assert output["would"] == {"params": {"amount": 7}}


def test_what_stays_inside_the_instance_is_done(desk: Desk) -> None:
    """State, waits and conditions; they show where the run would go."""
    made = dry(
        desk,
        {"type": "step", "id": "keep", "handler": "set_state", "params": {"key": "k", "value": 1}},
        {"type": "step", "id": "peek", "handler": "get_state", "params": {"key": "k"}},
        {"type": "wait_signal", "id": "w", "signal": "go"},
    )
    assert made["state"] == "waiting"
    assert outputs(desk, made)["peek"] == {"key": "k", "value": 1}
    desk.api.post(f"/instances/{made['id']}/signals", {"signal_type": {"custom": "go"}})
    desk.house.work()
    assert desk.read(made)["state"] == "completed"


def test_children_inherit_the_dry_run_and_not_the_approval(desk: Desk) -> None:
    """They call nobody, either."""
    desk.api.post("/sequences", {"id": "child", "blocks": [step("charge")]})
    call = {"type": "sub_sequence", "id": "sub", "sequence_name": "child"}
    made = dry(desk, call, dry_run_auto_approve=True)
    assert made["state"] == "completed"
    (child,) = desk.api.get(f"/instances/{made['id']}/children")
    assert child["context"]["runtime"] == {"dry_run": True, "dry_run_auto_approve": False}
    assert outputs(desk, child)["s"]["dry_run"] is True
    assert desk.house.keys() == []


def test_pull_worker_gets_the_task_and_sees_that_it_is_a_dry_run(api: Api) -> None:
    """Whatever its step hides from it; under a key that is no real run's."""
    block = {**step("ship"), "idempotency": {"key": "ship-1"}, "fence": "ship-1",
             "context_access": {"data": False, "runtime": False}}  # fmt: skip
    api.started({"id": "shipped", "blocks": [block]}, dry_run=True)
    (task,) = polled(api, "ship")
    assert task["context"]["runtime"]["dry_run"] is True
    assert "data" not in task["context"]
    assert task["idempotency_key"] == "dryrun:ship-1"
    api.started({"id": "shipped", "blocks": [block]})
    (real,) = polled(api, "ship")
    assert (real["idempotency_key"], "runtime" in real["context"]) == ("ship-1", False)


@pytest.mark.parametrize("effect", ["money", "irrevocable"])
def test_pull_worker_gets_no_task_that_moves_money(api: Api, effect: str) -> None:
    """Safer than the contract: one that does not look would move it."""
    api.started({"id": "paid", "blocks": [{**step("pay"), "effect": effect}]}, dry_run=True)
    assert polled(api, "pay") == []


def test_business_keys_and_correlations_are_no_real_runs(desk: Desk) -> None:
    """A dry run takes no key that a payment needs, and no message about one reaches it."""
    body = {"id": "keyed", "unique": {"key": "inv:{{context.data.inv}}"},
            "correlation": {"inv": "{{context.data.inv}}"},
            "blocks": [{"type": "wait_signal", "signal": "paid"}]}  # fmt: skip
    context = {"data": {"inv": "in_1"}}
    first = desk.run(body, dry_run=True, context=context)
    path = "/sequences/keyed/instances"
    real = desk.api.post(path, {"context": context})
    desk.api.refused(409, "POST", path, {"context": context, "dry_run": True})
    desk.house.work()
    sent = desk.api.post("/signals", {"signal": "paid", "correlate": {"inv": "in_1"}}, status=200)
    assert [each["instance_id"] for each in sent["signals"]] == [real["id"]]
    desk.house.work()
    assert [desk.read(each)["state"] for each in (first, real)] == ["waiting", "completed"]


def test_retry_of_a_dry_run_is_dry(desk: Desk) -> None:
    """So is what follows."""
    check = {"type": "step", "id": "c", "handler": "assert", "params": {"condition": "data.ok"}}
    made = dry(desk, check, step("charge"))
    assert made["state"] == "failed"
    path = f"/instances/{made['id']}"
    desk.api.send("PATCH", f"{path}/context", {"context": {"data": {"ok": True}}})
    desk.api.post(f"{path}/retry", status=200)
    desk.house.work()
    assert outputs(desk, made)["s"]["dry_run"] is True
    assert desk.house.keys() == []


def test_dry_run_takes_no_event_from_a_real_one(desk: Desk) -> None:
    """It waits until a person lets it go on; what producers told is still there."""
    told = {
        "tenant_id": "default", "event_name": "paid", "producer_event_id": "e1",
        "correlation_key": "in_1", "payload": {},
    }  # fmt: skip
    event = desk.api.post("/events", told)["event_id"]
    block = step("wait_for_event", events="paid", correlation_key="in_1") | {"wait_for_input": {}}
    made = dry(desk, block)
    assert made["state"] == "waiting"
    answer = {"signal_type": {"custom": "human_input:s"}, "payload": {"value": "yes"}}
    desk.api.post(f"/instances/{made['id']}/signals", answer)
    desk.house.work()
    assert desk.read(made)["state"] == "completed"
    assert outputs(desk, made)["s"]["satisfied"] is False
    assert desk.api.get(f"/events/{event}")["status"] == "pending"


def test_real_runs_wait_takes_the_event_that_a_dry_one_left(desk: Desk) -> None:
    """The same wait, not dry, has it at once."""
    told = {
        "tenant_id": "default", "event_name": "paid", "producer_event_id": "e1",
        "correlation_key": "in_1", "payload": {},
    }  # fmt: skip
    desk.api.post("/events", told)
    block = step("wait_for_event", events="paid", correlation_key="in_1") | {"wait_for_input": {}}
    assert dry(desk, block)["state"] == "waiting"
    made = desk.run({"id": "real", "blocks": [block]})
    assert made["state"] == "completed"
