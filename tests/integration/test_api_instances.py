"""Starting, listing, reading and retrying instances over REST."""

from __future__ import annotations

import importlib.resources
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest

from tests.support.api import CHARGE, NOOP, WAITING, Api

EXAMPLES = importlib.resources.files("orch8") / "examples"


def create_body(published: Any, **members: Any) -> dict[str, Any]:
    """What a client of the contract sends."""
    return {
        "sequence_id": published["id"],
        "tenant_id": "default",
        "namespace": "default",
        **members,
    }


def fail_task(api: Api, handler: str = "charge") -> None:
    """A worker says that the handler's waiting step failed for good."""
    (task,) = api.post(
        "/workers/tasks/poll", {"handler_name": handler, "worker_id": "w"}, status=200
    )
    body = {"worker_id": "w", "claim_epoch": task["claim_epoch"], "message": "card stolen"}
    assert api.send("POST", f"/workers/tasks/{task['id']}/fail", body).status_code == 200


def test_instance_of_the_seed_page_starts(api: Api) -> None:
    """The seed's request gives the whole instance, and its lane is announced."""
    api.post("/sequences", json.loads((EXAMPLES / "payment_dunning.json").read_text()))
    body = json.loads((EXAMPLES / "create_instance.json").read_text())
    answer = api.send("POST", "/sequences/payment_dunning/instances", body)
    started = answer.json
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"/instances/{started['id']}"
    assert started["context"]["data"] == body["context"]["data"]
    assert started["sequence"]["name"] == "payment_dunning"
    assert (started["state"], started["deduplicated"]) in {("scheduled", False), ("waiting", False)}
    assert api.announced == []  # its first step waits for a pull worker, whom nobody can wake


def test_instance_exists_once_per_key(api: Api) -> None:
    """The same request again gives the same instance and says so; the key may be a header."""
    first = api.started(idempotency_key="k", context={"data": {"n": 1}})
    path = "/sequences/noop_once/instances"
    for request in (
        {"json": {"idempotency_key": "k", "context": {"data": {"n": 1}}}},
        {"json": {"context": {"data": {"n": 1}}}, "headers": {"Idempotency-Key": "k"}},
    ):
        answer = api.send("POST", path, **request)
        assert (answer.status_code, answer.headers["Idempotent-Replayed"]) == (200, "true")
        assert (answer.json["id"], answer.json["deduplicated"]) == (first["id"], True)
    assert api.rows("SELECT count(*) FROM instances") == [(1,)]


def test_instance_key_with_another_body_is_refused(api: Api) -> None:
    """On the seed's route a key stands for one body."""
    api.started(idempotency_key="k", context={"data": {"n": 1}})
    answer = api.refused(422, "POST", "/sequences/noop_once/instances", {"idempotency_key": "k"})
    assert answer["code"] == "idempotency_mismatch"


def test_instance_key_in_header_and_body_must_agree(api: Api) -> None:
    """Two different keys for one request are an error."""
    api.post("/sequences", NOOP)
    path, headers = "/sequences/noop_once/instances", {"Idempotency-Key": "a"}
    answer = api.refused(400, "POST", path, {"idempotency_key": "b"}, headers=headers)
    assert "Idempotency-Key" in answer["error"]
    api.refused(400, "POST", path, {}, headers={"Idempotency-Key": " "})
    api.post(path, {"idempotency_key": "a"}, headers=headers)


def test_instance_of_the_contract_is_created_and_deduplicated(api: Api) -> None:
    """201 and id; the same key with any body 200, id and deduplicated."""
    published = api.post("/sequences", NOOP)
    body = create_body(
        published,
        idempotency_key="k",
        context={"data": {"n": 1}, "priority": "low"},
        unknown=1,
        priority="High",
    )
    created = api.post("/instances", body)
    assert (created["priority"], created["lane"]) == ("High", "interactive")
    assert created["context"] == {"data": {"n": 1}, "config": {}}
    again = api.post("/api/v1/instances", {**body, "context": {"data": {"n": 2}}}, status=200)
    assert (again["id"], again["deduplicated"]) == (created["id"], True)


@pytest.mark.parametrize(
    ("change", "status", "pointer"),
    [
        ({"sequence_id": None}, 422, "/sequence_id"),
        ({"sequence_id": "x"}, 422, "/sequence_id"),
        ({"tenant_id": 5}, 422, "/tenant_id"),
        ({"tenant_id": " "}, 400, "/tenant_id"),
        ({"namespace": ""}, 400, "/namespace"),
        ({"priority": 1}, 422, "/priority"),
        ({"priority": "high"}, 422, "/priority"),
        ({"context": []}, 422, "/context"),
        ({"dry_run": "yes"}, 422, "/dry_run"),
        ({"next_fire_at": "tomorrow"}, 422, "/next_fire_at"),
        ({"timezone": "Mars/Olympus"}, 400, "/timezone"),
        ({"idempotency_key": ""}, 400, "/idempotency_key"),
        ({"idempotency_key": "k" * 256}, 400, "/idempotency_key"),
        ({"idempotency_key": 1.0}, 422, "/idempotency_key"),
    ],
)
def test_instance_with_a_wrong_member_is_refused(
    api: Api, change: dict[str, Any], status: int, pointer: str
) -> None:
    """The answer points at the member that is wrong."""
    published = api.post("/sequences", NOOP)
    answer = api.refused(status, "POST", "/instances", create_body(published, **change))
    assert [each["pointer"] for each in answer["errors"]] == [pointer]


@pytest.mark.parametrize("version", [1.0, 1.9, "1", True, 0, 2**40])
def test_instance_version_is_a_whole_number(api: Api, version: Any) -> None:
    """A float, a text or a truth value is not taken for a number."""
    api.post("/sequences", NOOP)
    path = "/sequences/noop_once/instances"
    status = 400 if version in (0, 2**40) and version is not True else 422
    answer = api.refused(status, "POST", path, {"version": version})
    assert answer["errors"][0]["pointer"] == "/version"


def test_instance_with_an_unknown_member_is_refused_unless_lenient(api: Api) -> None:
    """A slip in idempotency_key could charge twice: the seed's route says what was meant."""
    api.post("/sequences", NOOP)
    path = "/sequences/noop_once/instances"
    answer = api.refused(400, "POST", path, {"idempotency-key": "k"})
    assert answer["errors"][0]["hint"] == "did you mean idempotency_key?"
    api.post(path + "?lenient=true", {"idempotency-key": "k"})


def test_instance_needs_a_sequence_that_is_there(api: Api) -> None:
    """Unknown names, ids, versions and other tenants' sequences are 404."""
    published = api.post("/sequences", NOOP)
    for path in ("nope", str(uuid4())):
        answer = api.refused(404, "POST", f"/sequences/{path}/instances", {})
        assert answer["error"].startswith("not found: sequence")
    api.refused(404, "POST", "/sequences/noop_once/instances", {"version": 2})
    api.refused(404, "POST", "/sequences/noop_once/instances", {}, headers={"X-Tenant-Id": "other"})
    api.refused(404, "POST", "/instances", create_body(published, tenant_id="other"))
    headers = {"X-Tenant-Id": "acme"}
    api.refused(403, "POST", "/instances", create_body(published), headers=headers)


def test_instance_context_is_checked_against_the_input_schema(api: Api) -> None:
    """What a sequence says about its input is held to."""
    schema = {
        "type": "object",
        "required": ["amount"],
        "properties": {"amount": {"type": "integer"}},
    }
    api.post("/sequences", {**NOOP, "input_schema": schema})
    path = "/sequences/noop_once/instances"
    answer = api.refused(422, "POST", path, {"context": {"data": {"amount": "9"}}})
    assert answer["errors"][0]["pointer"] == "/context/data/amount"
    assert "context.data failed input_schema validation" in answer["error"]
    api.post(path, {"context": {"data": {"amount": 9}}})


def test_instance_context_has_a_largest_size(postgres: Any, api: Api) -> None:
    """A context beyond the limit is 413."""
    api.post("/sequences", NOOP)
    object.__setattr__(api.office.settings, "max_context", 1000)
    answer = api.refused(
        413, "POST", "/sequences/noop_once/instances", {"context": {"data": {"x": "y" * 2000}}}
    )
    assert "context too large" in answer["error"]


def test_instances_are_paged_by_cursor(api: Api) -> None:
    """Following next_cursor shows every instance once, the last changed first."""
    ids = [api.started(idempotency_key=f"k{n}", metadata={"n": str(n % 2)})["id"] for n in range(5)]
    seen, cursor = [], ""
    while True:
        page = api.get(f"/instances?limit=2&cursor={cursor}")
        seen += [each["id"] for each in page["items"]]
        assert page["has_more"] == (page["next_cursor"] is not None)
        if not page["has_more"]:
            break
        cursor = page["next_cursor"]
    assert seen == ids[::-1]
    assert [each["id"] for each in api.get("/instances?offset=3")["items"]] == ids[1::-1]


def test_instances_are_narrowed_by_filters(api: Api) -> None:
    """Each filter shows what it says and nothing else."""
    one = api.started(idempotency_key="a", metadata={"region": "eu"})
    two = api.started(WAITING, idempotency_key="b", metadata={"region": "us"})

    def ids(query: str, **more: Any) -> list[str]:
        return [each["id"] for each in api.get(f"/instances?{query}", **more)["items"]]

    assert ids("sequence=noop_once") == [one["id"]]
    assert ids(f"sequence_id={two['sequence_id']}") == [two["id"]]
    assert ids("metadata.region=eu") == [one["id"]]
    assert ids("idempotency_key=b") == [two["id"]]
    assert ids("state=completed,failed") == []
    assert ids("state=&namespace=&tenant_id=default") == [two["id"], one["id"]]
    assert ids("tenant_id=default", headers={"X-Tenant-Id": "other"}) == []


@pytest.mark.parametrize(
    "query",
    [
        "state=sleepy",
        "limit=0",
        "limit=x",
        "offset=-1",
        "sequence_id=x",
        "cursor=zzz",
        "cursor=x%C3%A4",
        "limit=1e3",
    ],
)
def test_instances_say_what_is_wrong_with_a_query(api: Api, query: str) -> None:
    """A parameter that cannot be read is 400 and named."""
    name = query.partition("=")[0]
    assert name in api.refused(400, "GET", f"/instances?{query}")["error"]


def test_instance_is_read_with_all_its_views(api: Api) -> None:
    """The instance, its outputs, tree, timeline and audit log tell the same story."""
    started = api.started(CHARGE, context={"data": {"amount": 5}})
    path = f"/instances/{started['id']}"
    task = api.post(
        "/workers/tasks/poll", {"handler_name": "charge", "worker_id": "w"}, status=200
    )[0]
    body = {"worker_id": "w", "claim_epoch": task["claim_epoch"], "output": {"charge_id": "ch_1"}}
    assert api.send("POST", f"/workers/tasks/{task['id']}/complete", body).status_code == 200
    shown = api.get(path)
    assert (shown["state"], shown["outcome"]) == ("completed", shown["outcome"])
    (output,) = api.get(f"{path}/outputs")
    assert (output["block_id"], output["output"]) == ("charge", {"charge_id": "ch_1"})
    (node,) = api.get(f"{path}/tree?flat=true")
    assert (node["block_id"], node["block_type"], node["state"]) == ("charge", "step", "completed")
    actions = [entry["action"] for entry in api.get(f"{path}/audit")]
    assert actions[0] == "instance.completed"
    assert actions[-1] == "instance.created"
    story = api.get(f"{path}/timeline")
    assert [entry["action"] for entry in story["audit"]] == actions[::-1]
    assert story["instance"]["id"] == started["id"]


def test_instance_dates_are_utc_with_a_z(api: Api) -> None:
    """Every date is RFC 3339 in UTC."""
    shown = api.started()
    for name in ("created_at", "updated_at", "next_fire_at"):
        assert shown[name].endswith("Z")


def test_instance_of_another_tenant_is_not_found(api: Api) -> None:
    """404 for every view, never 403."""
    path = f"/instances/{api.started()['id']}"
    headers = {"X-Tenant-Id": "other"}
    for view in ("", "/outputs", "/tree", "/timeline", "/audit", "/signals"):
        api.refused(404, "GET", path + view, headers=headers)
        api.get(path + view, headers={"X-Tenant-Id": "default"})
        api.get("/api/v1" + path + view)
    api.refused(404, "POST", path + "/signals", {"signal": "cancel"}, headers=headers)
    api.refused(404, "POST", path + "/retry", headers=headers)


@pytest.mark.parametrize("view", ["", "/outputs", "/tree", "/timeline", "/audit", "/signals"])
def test_instance_id_must_be_a_uuid(api: Api, view: str) -> None:
    """A path that cannot name an instance is 400, an instance that is not there 404."""
    assert "UUID" in api.refused(400, "GET", f"/instances/42{view}")["error"]
    api.refused(404, "GET", f"/instances/{uuid4()}{view}")


def test_instance_that_failed_is_retried(api: Api) -> None:
    """Its failed step runs again in the next round; who asked and why is in the audit log."""
    path = f"/instances/{api.started(CHARGE)['id']}"
    answer = api.refused(400, "POST", f"{path}/retry")
    assert "can only retry failed instances, current state: " in answer["error"]
    fail_task(api)
    assert api.get(path)["state"] == "failed"
    assert api.get(path)["error"]["message"] == "card stolen"
    retried = api.post(
        f"{path}/retry", {"reason": "new card"}, status=200, headers={"X-Actor": "ann"}
    )
    assert (retried["state"], retried["round"]) == ("waiting", 2)
    entry = next(e for e in api.get(f"{path}/audit") if e["action"] == "instance.retried")
    assert (entry["actor"], entry["reason"]) == ("ann", "new card")


def test_instance_of_a_key_is_one_however_many_ask_at_once(api: Api) -> None:
    """Requests with one key that race give one 201 and the same instance to all."""
    api.post("/sequences", NOOP)
    body = {"idempotency_key": "k", "context": {"data": {"n": 1}}}

    def ask(_: int) -> tuple[int, str]:
        answer = api.app.test_client().post("/sequences/noop_once/instances", json=body)
        return answer.status_code, answer.get_json()["id"]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(24)))
    assert sorted(status for status, _ in answers) == [200] * 23 + [201]
    assert len({found for _, found in answers}) == 1
    assert api.rows("SELECT count(*) FROM instances") == [(1,)]
    assert api.rows("SELECT count(*) FROM steps") == [(1,)]


def test_parked_step_is_decided_by_a_person(api: Api) -> None:
    """A decision needs a reason and a step in doubt; what it may be is said in the refusal."""
    pay = {"type": "step", "id": "pay", "handler": "charge"}
    started = api.started({"id": "paying", "blocks": [pay]})
    path = f"/instances/{started['id']}/resolve"
    body = {"step": "pay", "decision": "happened", "reason": "seen in the dashboard"}
    assert api.refused(409, "POST", path, body)["code"] == "conflict"
    assert api.refused(404, "POST", path, body | {"step": "nope"})["code"] == "not_found"
    assert "decision" in api.refused(422, "POST", path, body | {"decision": "maybe"})["error"]
    assert "reason" in api.refused(422, "POST", path, {"step": "pay", "decision": "retry"})["error"]
