"""CONTRACT 9: creating instances one by one and in batches, reading what they did, editing them."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.support.api import CHARGE, NOOP, WAITING, Api, serving
from tests.support.desk import Desk
from tests.support.servers import Database

FUTURE = "2999-01-01T00:00:00Z"
CHECKED = {
    "id": "checked",
    "input_schema": {"type": "object", "required": ["amount"]},
    "blocks": [{"type": "step", "handler": "noop"}],
}
LOGGING = {
    "id": "logging",
    "blocks": [
        {"type": "step", "id": "say", "handler": "log", "params": {"message": "paid"}},
        {"type": "step", "id": "say_nothing", "handler": "log"},
    ],
}


def item(published: Any, **members: Any) -> dict[str, Any]:
    """What creates an instance."""
    return {
        "sequence_id": published["id"],
        "tenant_id": "default",
        "namespace": "default",
        "next_fire_at": FUTURE,
        **members,
    }


def batch(api: Api, *items: Any, status: int = 201, **more: Any) -> Any:
    """What a batch is answered."""
    return api.post("/instances/batch", {"instances": list(items), **more}, status=status)


def count(api: Api) -> int:
    """How many instances there are."""
    ((found,),) = api.rows("SELECT count(*) FROM instances")
    return int(found)


# -- 9.3 batch -----------------------------------------------------------------------------------
def test_batch_creates_every_instance(api: Api) -> None:
    """The answer says how many, and each has its context, its step and its audit entry."""
    published = api.post("/sequences", NOOP)
    items = [item(published, context={"data": {"n": n}}) for n in range(3)]
    assert batch(api, *items) == {"count": 3, "deduplicated": 0}
    found = api.get("/instances")["items"]
    assert sorted(each["context"]["data"]["n"] for each in found) == [0, 1, 2]
    assert {each["state"] for each in found} == {"scheduled"}
    assert {each["next_fire_at"] for each in found} == {FUTURE}
    assert api.rows("SELECT count(*) FROM audit_log WHERE action = 'instance.created'") == [(3,)]
    assert api.announced == ["renewal"]


def test_empty_batch_is_no_error(api: Api) -> None:
    """200, and none was created."""
    assert batch(api, status=200) == {"count": 0}


def test_batch_has_a_largest_size(api: Api) -> None:
    """More than ten thousand are refused before they are looked at."""
    body = {"instances": [{}] * 10_001}
    answer = api.refused(400, "POST", "/instances/batch", body)
    assert "batch size must not exceed 10,000" in answer["error"]


def test_batch_of_thousands_is_one_transaction(postgres: Database) -> None:
    """Ten thousand fit into one request."""
    with serving(postgres, max_body=10 * 1024 * 1024) as api:
        published = api.post("/sequences", NOOP)
        assert batch(api, *[item(published)] * 10_000)["count"] == 10_000
        assert api.rows("SELECT count(DISTINCT xid) FROM audit_log WHERE instance_id NOTNULL") == [
            (1,)
        ]


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"namespace": ""}, 400, "instances[1]: namespace must not be empty"),
        ({"context": {"data": "x" * 300_000}}, 413, "instances[1]: context too large"),
        ({"sequence_id": str(uuid4())}, 404, "instances[1]: sequence "),
        ({"tenant_id": "other"}, 403, "instances[1]: sequence "),
        ({"tenant_id": " "}, 400, "instances[1]: tenant_id must not be empty"),
        ({"priority": 3}, 422, "instances[1]: priority "),
        ({"timezone": "Mars"}, 400, "instances[1]: timezone "),
        ({"context": {"data": {}}}, 422, "instances[1]: context.data failed input_schema"),
    ],
)
def test_batch_with_one_wrong_instance_creates_none(
    postgres: Database, change: dict[str, Any], status: int, said: str
) -> None:
    """The error says which one it is, and points into it."""
    with serving(postgres, max_body=2_000_000) as api:
        published = api.post("/sequences", CHECKED)
        good = item(published, context={"data": {"amount": 1}})
        body = {"instances": [good, good | change, good]}
        answer = api.refused(status, "POST", "/instances/batch", body)
        assert said in answer["error"]
        assert all(each["pointer"].startswith("/instances/1") for each in answer["errors"])


def test_batch_may_mix_tenants_without_a_header(api: Api) -> None:
    """With a header, another tenant's instance is refused."""
    ours = api.post("/sequences", NOOP)
    theirs = api.post("/sequences", NOOP, headers={"X-Tenant-Id": "acme"})
    both = [item(ours), item(theirs, tenant_id="acme")]
    assert batch(api, *both)["count"] == 2
    headers = {"X-Tenant-Id": "acme"}
    api.refused(403, "POST", "/instances/batch", {"instances": both}, headers=headers)


def test_batch_with_a_used_key_creates_none(api: Api) -> None:
    """Whether an instance has the key or an earlier one of the batch."""
    published = api.post("/sequences", NOOP)
    for keys in (["a", "b", "a"], ["c", "d"]):
        if "c" in keys:
            batch(api, item(published, idempotency_key="d"))
        body = {"instances": [item(published, idempotency_key=key) for key in keys]}
        answer = api.refused(409, "POST", "/instances/batch", body)
        assert f"instances[{len(keys) - 1}]" in answer["error"]


def test_batch_can_be_sent_again(api: Api) -> None:
    """With on_duplicate=skip only what is new is created, for who never got the answer."""
    published = api.post("/sequences", NOOP)
    items = [item(published, idempotency_key=f"k{n % 4}") for n in range(5)]
    skip = {"on_duplicate": "skip"}
    assert batch(api, *items, **skip) == {"count": 4, "deduplicated": 1}
    fresh = item(published, idempotency_key="new")
    assert batch(api, *items, fresh, item(published), **skip) == {"count": 2, "deduplicated": 5}
    assert count(api) == 6


# -- 9.2 creation --------------------------------------------------------------------------------
def test_creation_never_runs_the_instance(api: Api) -> None:
    """It is scheduled when the answer comes."""
    published = api.post("/sequences", NOOP)
    created = api.post("/instances", item(published))
    assert created["state"] == "scheduled"
    assert created["next_fire_at"] == FUTURE


def test_creation_needs_a_namespace(api: Api) -> None:
    """A blank one is named in the error."""
    published = api.post("/sequences", NOOP)
    answer = api.refused(400, "POST", "/instances", item(published, namespace=" "))
    assert "namespace must not be empty" in answer["error"]


# -- 9.4 reads -----------------------------------------------------------------------------------
def test_fresh_instance_has_no_outputs(api: Api) -> None:
    """Nothing was executed yet."""
    assert api.get(f"/instances/{api.started()['id']}/outputs") == []


def test_executed_step_has_exactly_one_output(desk: Desk) -> None:
    """A step that was skipped has none."""
    skipped = {"type": "step", "id": "b", "handler": "noop", "when": "context.data.n == 2"}
    blocks = [{"type": "step", "id": "a", "handler": "noop"}, skipped]
    found = desk.run({"id": "two", "blocks": blocks}, context={"data": {"n": 1}})
    assert found["state"] == "completed"
    rows = desk.api.get(f"/instances/{found['id']}/outputs")
    assert [row["block_id"] for row in rows] == ["a"]


def test_failed_step_has_an_output_only_in_a_list_of_steps(desk: Desk) -> None:
    """There it shows why it failed, until it is tried again; inside another block it has none."""
    fail = {"type": "step", "id": "no", "handler": "fail"}
    flat = desk.run({"id": "flat", "blocks": [fail]})
    for _ in range(2):
        (row,) = desk.api.get(f"/instances/{flat['id']}/outputs")
        assert (row["block_id"], row["state"]) == ("no", "failed")
        assert row["error"]["message"]
        desk.api.post(f"/instances/{flat['id']}/retry", status=200)
        assert desk.api.get(f"/instances/{flat['id']}/outputs") == []
        desk.house.work()
    block = {"type": "try_catch", "id": "careful", "try_block": [fail], "catch_block": []}
    caught = desk.run({"id": "caught", "blocks": [block]})
    assert caught["state"] == "completed"
    assert desk.api.get(f"/instances/{caught['id']}/outputs") == []


def test_children_are_those_that_an_instance_started(desk: Desk) -> None:
    """Their parent is named in them; of an instance without any the list is empty."""
    desk.api.post("/sequences", NOOP)
    calls = {"type": "sub_sequence", "id": "sub", "sequence_name": NOOP["id"]}
    parent = desk.run({"id": "parent", "blocks": [calls]})
    assert parent["state"] == "completed"
    (child,) = desk.api.get(f"/instances/{parent['id']}/children")
    assert child["parent_instance_id"] == parent["id"]
    assert desk.api.get(f"/instances/{child['id']}/children") == []


def test_logs_have_what_the_sequence_says(desk: Desk) -> None:
    """The oldest first, each with its block, level and time."""
    found = desk.run(LOGGING)
    lines = desk.api.get(f"/instances/{found['id']}/logs")
    told = [(line["block_id"], line["level"], line["message"]) for line in lines]
    assert told == [("say", "info", "paid"), ("say_nothing", "info", "no message")]


def test_logs_have_failures(desk: Desk) -> None:
    """A step that failed says why."""
    fail = {"type": "step", "id": "no", "handler": "fail", "params": {"message": "never"}}
    found = desk.run({"id": "failing", "blocks": [fail]})
    (line,) = desk.api.get(f"/instances/{found['id']}/logs")
    assert (line["block_id"], line["level"]) == ("no", "error")
    assert "never" in line["message"]


def test_timeline_is_paged_and_tells_of_states(desk: Desk) -> None:
    """What steps came to, a page of them, with outputs or without; and the changes of state."""
    found = desk.run(LOGGING)
    path = f"/instances/{found['id']}/timeline"
    whole = desk.api.get(path)
    assert [each["block_id"] for each in whole["entries"]] == ["say", "say_nothing"]
    assert whole["entries"][0]["output"] == {"message": "paid"}
    assert (whole["offset"], whole["limit"], whole["has_more"]) == (0, 200, False)
    states = [(each["from_state"], each["to_state"]) for each in whole["state_transitions"]]
    assert states == [(None, "scheduled"), ("scheduled", "completed")]
    page = desk.api.get(f"{path}?offset=0&limit=1&include_outputs=false")
    assert [each["block_id"] for each in page["entries"]] == ["say"]
    assert "output" not in page["entries"][0]
    assert page["has_more"]


@pytest.mark.parametrize("view", ["children", "logs", "timeline", "outputs", "tree"])
def test_views_of_an_unknown_instance_are_404(api: Api, view: str) -> None:
    """And so are those of another tenant's."""
    api.refused(404, "GET", f"/instances/{uuid4()}/{view}")
    path = f"/instances/{api.started()['id']}/{view}"
    api.refused(404, "GET", path, headers={"X-Tenant-Id": "other"})
    api.refused(400, "GET", f"/instances/nope/{view}")


# -- 9.5 context ---------------------------------------------------------------------------------
def test_context_is_replaced_whole(api: Api) -> None:
    """Nothing of the old one stays; who did it is in the audit log."""
    started = api.started(WAITING, context={"data": {"old": 1}, "config": {"c": 1}})
    path = f"/instances/{started['id']}"
    body = {"context": {"data": {"new": 2}, "more": 3}, "reason": "typing error"}
    answer = api.send("PATCH", f"{path}/context", body, headers={"X-Actor": "ana"})
    assert (answer.status_code, answer.data) == (200, b"")
    assert api.get(path)["context"] == {"data": {"new": 2}, "config": {}}
    entry = api.get(f"{path}/audit")[0]
    assert (entry["action"], entry["actor"]) == ("context.replaced", "ana")
    assert entry["reason"] == "typing error"


def test_context_is_replaced_in_any_state(desk: Desk) -> None:
    """Of an instance that completed, too; its state stays."""
    found = desk.run(NOOP)
    path = f"/instances/{found['id']}/context"
    assert desk.api.send("PATCH", path, {"context": {"data": 5}}).status_code == 200
    again = desk.read(found)
    assert (again["state"], again["context"]["data"]) == ("completed", 5)
    assert again["finished_at"] == found["finished_at"]


def test_context_that_is_too_large_is_refused(postgres: Database) -> None:
    """413, and nothing changes."""
    with serving(postgres, max_body=2_000_000) as api:
        path = f"/instances/{api.started()['id']}/context"
        answer = api.refused(413, "PATCH", path, {"context": {"data": "x" * 300_000}})
        assert "context too large" in answer["error"]
        api.refused(422, "PATCH", path, {"context": []})
        api.refused(422, "PATCH", path, {})
        api.refused(404, "PATCH", f"/instances/{uuid4()}/context", {"context": {}})


def test_context_of_a_retry_is_the_replaced_one(api: Api) -> None:
    """A worker gets the corrected data."""
    started = api.started(CHARGE, context={"data": {"amount": 1}})
    path = f"/instances/{started['id']}/context"
    assert api.send("PATCH", path, {"context": {"data": {"amount": 2}}}).status_code == 200
    body = {"handler_name": "charge", "worker_id": "w"}
    (task,) = api.post("/workers/tasks/poll", body, status=200)
    assert task["context"]["data"] == {"amount": 2}
