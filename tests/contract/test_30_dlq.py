"""CONTRACT 30: failed instances, why they failed, and retrying them."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest

from orch8.handlers.python import Refused
from orch8.runtime.failures import fnv1a
from tests.support.api import NOOP, Api
from tests.support.desk import Desk

FAIL = {"id": "failing", "blocks": [{"type": "step", "id": "no", "handler": "fail"}]}
GROUPS = "/instances/dlq/groups"


def paying(desk: Desk, *, broken: bool = True) -> dict[str, Any]:
    """A sequence whose handler fails for as long as ``broken`` is set in what is returned."""
    state = {"broken": broken}

    def pay(_: Any) -> dict[str, Any]:
        if state["broken"]:
            raise Refused("request 4711 is malformed", code="malformed")
        return {"paid": True}

    desk.house.handler("pay", pay)
    return state


PAYING = {"id": "paying", "blocks": [{"type": "step", "handler": "pay"}]}


def ids(found: list[Any]) -> list[str]:
    """The ids of instances."""
    return [each["id"] for each in found]


def retried(api: Api, fingerprint: str, mode: str, **more: Any) -> Any:
    """What retrying a group is answered."""
    return api.post(f"{GROUPS}/{fingerprint}/retry", {"mode": mode, **more}, status=200)


# -- the list ------------------------------------------------------------------------------------
def test_failed_instance_is_listed(desk: Desk) -> None:
    """The last changed first, as a plain array; others are not."""
    first, second, _ = desk.run(FAIL), desk.run(FAIL), desk.run(NOOP)
    assert ids(desk.api.get("/instances/dlq")) == [second["id"], first["id"]]
    assert ids(desk.api.get("/instances/dlq?limit=1&offset=1")) == [first["id"]]


def test_list_is_narrowed(desk: Desk) -> None:
    """By tenant, namespace and sequence."""
    found = desk.run(FAIL)
    sequence = found["sequence_id"]
    for query in (f"sequence_id={sequence}", "namespace=default", "tenant_id=default"):
        assert ids(desk.api.get(f"/instances/dlq?{query}")) == [found["id"]]
    for query in (f"sequence_id={uuid4()}", "namespace=x", "tenant_id=other"):
        assert desk.api.get(f"/instances/dlq?{query}") == []
    assert desk.api.get("/instances/dlq", headers={"X-Tenant-Id": "other"}) == []


# -- retry ---------------------------------------------------------------------------------------
def test_retry_is_only_for_what_failed(desk: Desk) -> None:
    """400 says what the instance is; an unknown one is 404."""
    found = desk.run(NOOP)
    answer = desk.api.refused(400, "POST", f"/instances/{found['id']}/retry")
    assert "can only retry failed instances, current state: completed" in answer["error"]
    desk.api.refused(404, "POST", f"/instances/{uuid4()}/retry")


def test_instance_that_keeps_failing_can_be_retried_again(desk: Desk) -> None:
    """Each time it fails, it is in the list again."""
    found = desk.run(FAIL)
    for _ in range(3):
        again = desk.api.post(f"/instances/{found['id']}/retry", status=200)
        assert again["state"] == "scheduled"
        assert desk.api.get("/instances/dlq") == []
        desk.house.work()
        assert ids(desk.api.get("/instances/dlq")) == [found["id"]]


def test_retry_goes_on_behind_what_completed(desk: Desk) -> None:
    """What completed has exactly one output, before and after, and the context is kept."""
    keys = paying(desk)
    blocks = [{"type": "step", "id": "first", "handler": "noop"}, *PAYING["blocks"]]
    found = desk.run({"id": "both", "blocks": blocks}, context={"data": {"n": 1}})
    assert found["state"] == "failed"
    keys["broken"] = False
    desk.api.post(f"/instances/{found['id']}/retry", status=200)
    desk.house.work()
    after = desk.read(found)
    assert (after["state"], after["context"]["data"]) == ("completed", {"n": 1})
    rows = desk.api.get(f"/instances/{found['id']}/outputs")
    assert [row["block_id"] for row in rows].count("first") == 1


# -- groups --------------------------------------------------------------------------------------
def test_failures_of_one_cause_are_one_group(desk: Desk) -> None:
    """Whatever ids and amounts their messages name; with how many, since when, and some of them."""
    paying(desk)
    found = [desk.run(PAYING)["id"] for _ in range(2)]
    other = desk.run(FAIL)["id"]
    groups = desk.api.get(GROUPS)
    assert [(group["count"], group["handler"]) for group in groups] == [(2, "pay"), (1, "fail")]
    assert groups[0]["sample_instance_ids"] == found[::-1]
    assert groups[1]["sample_instance_ids"] == [other]
    assert groups[0]["reason"] == "malformed"
    assert groups[0]["message"] == "request 4711 is malformed"
    assert groups[0]["first_at"] < groups[0]["last_at"]
    assert desk.api.get(GROUPS, headers={"X-Tenant-Id": "other"}) == []


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"message": "HTTP status 503", "status": 503}, ("external_dependency", "HTTP_STATUS")),
        ({"message": "HTTP status 401", "status": 401}, ("credential", "HTTP_STATUS")),
        ({"message": "HTTP status 429", "status": 429}, ("external_dependency", "RATE_LIMITED")),
        ({"message": "late", "code": "timeout"}, ("timeout", "TIMEOUT")),
        ({"message": "no", "code": "ssrf_blocked"}, ("policy", "URL_POLICY")),
        ({"message": "no x", "code": "expression_error"}, ("configuration", "CONFIGURATION")),
        ({"message": "oops", "code": "engine"}, ("internal", "unknown")),
        ({"message": "oops"}, ("application", "unknown")),
    ],
)
def test_group_has_a_class_and_a_code(
    desk: Desk, error: dict[str, Any], expected: tuple[str, str]
) -> None:
    """By what the error says of itself."""
    found = desk.run(FAIL)
    desk.house.sql_as_admin(
        "UPDATE steps SET error = %s WHERE instance_id = %s", json.dumps(error), found["id"]
    )
    (group,) = desk.api.get(GROUPS)
    assert (group["class"], group["code"]) == expected
    assert len(group["fingerprint"]) == 16


def test_fingerprint_is_fnv_1a() -> None:
    """The values that its authors publish."""
    assert fnv1a("") == "cbf29ce484222325"
    assert fnv1a("a") == "af63dc4c8601ec8c"
    assert fnv1a("foobar") == "85944171f73967e8"


def test_group_is_retried_by_a_sample_first(desk: Desk) -> None:
    """In bulk only once the sample has completed."""
    state = paying(desk)
    first, second, third = (desk.run(PAYING)["id"] for _ in range(3))
    fingerprint = desk.api.get(GROUPS)[0]["fingerprint"]
    path = f"{GROUPS}/{fingerprint}/retry"
    state["broken"] = False
    desk.api.refused(409, "POST", path, {"mode": "bulk"})
    assert retried(desk.api, fingerprint, "sample")["retried"] == [first]
    sample = {"mode": "bulk", "sample_verified_instance_id": first}
    assert "verified sample" in desk.api.refused(409, "POST", path, sample)["error"]
    desk.house.work()
    done = retried(desk.api, fingerprint, "bulk", sample_verified_instance_id=first)
    assert (done["retried"], done["skipped"]) == ([second, third], 0)
    desk.house.work()
    assert desk.api.get(GROUPS) == []
    desk.api.refused(404, "POST", path, {"mode": "sample"})


def test_group_needs_a_sample_of_its_own(desk: Desk) -> None:
    """An instance that never failed like these proves nothing."""
    desk.run(FAIL)
    completed = desk.run(NOOP)
    fingerprint = desk.api.get(GROUPS)[0]["fingerprint"]
    body = {"mode": "bulk", "sample_verified_instance_id": completed["id"]}
    desk.api.refused(409, "POST", f"{GROUPS}/{fingerprint}/retry", body)


def test_group_can_be_forced_and_bounded(desk: Desk) -> None:
    """The oldest first, up to the limit."""
    oldest = [desk.run(FAIL)["id"] for _ in range(3)][:2]
    fingerprint = desk.api.get(GROUPS)[0]["fingerprint"]
    done = retried(desk.api, fingerprint, "bulk", force=True, limit=2)
    assert done["retried"] == oldest
    body = {"mode": "everything"}
    desk.api.refused(422, "POST", f"{GROUPS}/{fingerprint}/retry", body)
