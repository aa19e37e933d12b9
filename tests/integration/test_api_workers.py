"""Pull workers over REST (CONTRACT 19)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.api import CHARGE, Api

QUEUED = {
    "id": "queued",
    "blocks": [{"type": "step", "handler": "charge", "queue_name": "eu west/1"}],
}


def poll(api: Api, path: str = "/workers/tasks/poll", **members: Any) -> list[Any]:
    """The tasks that a worker gets."""
    found: list[Any] = api.post(
        path, {"handler_name": "charge", "worker_id": "w1", **members}, status=200
    )
    return found


def claim(task: Any, **members: Any) -> dict[str, Any]:
    """What the worker of a task sends about it."""
    return {"worker_id": task["worker_id"], "claim_epoch": task["claim_epoch"], **members}


def test_worker_gets_each_waiting_step_once(api: Api) -> None:
    """A task has what the handler needs; whoever asks next gets none."""
    started = api.started(CHARGE, context={"data": {"amount": 5}})
    (task,) = poll(api, limit=10, version="1.2")
    assert task["instance_id"] == started["id"]
    assert task["context"]["data"] == {"amount": 5}
    assert (task["attempt"], task["claim_epoch"], task["timeout_ms"]) == (0, 1, 30_000)
    assert task["idempotency_key"]
    assert poll(api, worker_id="w2") == []
    assert poll(api, handler_name="nobody") == []


def test_worker_without_a_tenant_gets_everybodys_steps(api: Api) -> None:
    """With X-Tenant-Id a worker gets that tenant's steps, without it those of all tenants."""
    for tenant in ("acme", "b/c", "default"):
        headers = {"X-Tenant-Id": tenant}
        api.post("/sequences", CHARGE, headers=headers)
        api.post("/sequences/charge_once/instances", {}, headers=headers)
    path, body = "/workers/tasks/poll", {"handler_name": "charge", "worker_id": "w1", "limit": 10}
    own = api.post(path, body, status=200, headers={"X-Tenant-Id": "acme"})
    assert len(own) == 1
    assert len(poll(api, limit=1)) == 1
    assert len(poll(api, limit=10)) == 1
    assert poll(api, limit=10) == []


def test_worker_of_a_queue_gets_its_steps_only(api: Api) -> None:
    """A queue's name is whatever the step says; the plain poll takes from every queue."""
    api.started(QUEUED)
    assert poll(api, "/workers/tasks/poll/queue", queue_name="other") == []
    (task,) = poll(api, "/workers/tasks/poll/queue", queue_name="eu west/1")
    assert task["queue_name"] == "eu west/1"
    api.post("/sequences/queued/instances", {})
    assert len(poll(api)) == 1


def test_worker_completes_a_task_and_its_lane_is_announced(api: Api) -> None:
    """The answer has no body; the instance goes on."""
    started = api.started(CHARGE)
    (task,) = poll(api)
    api.announced.clear()
    answer = api.send("POST", f"/workers/tasks/{task['id']}/complete", claim(task, output={"n": 1}))
    assert (answer.status_code, answer.data) == (200, b"")
    assert api.announced == ["renewal"]
    assert api.get(f"/instances/{started['id']}")["state"] == "completed"


def test_worker_may_leave_the_epoch_out(api: Api) -> None:
    """Older clients send none: the current claim is meant, if it is the worker's."""
    api.started(CHARGE)
    (task,) = poll(api)
    path = f"/workers/tasks/{task['id']}"
    assert api.send("POST", f"{path}/heartbeat", {"worker_id": "w2"}).status_code == 409
    assert api.post(f"{path}/heartbeat", {"worker_id": "w1"}, status=200) == {"checkpoint_seq": 0}
    assert api.send("POST", f"{path}/complete", {"worker_id": "w1"}).status_code == 200


def test_worker_keeps_a_checkpoint(api: Api) -> None:
    """Its number counts up; a wrong number is a conflict, one that is missing too."""
    api.started(CHARGE)
    (task,) = poll(api)
    path = f"/workers/tasks/{task['id']}/heartbeat"
    beat = claim(task, checkpoint={"page": 3}, checkpoint_seq=0)
    assert api.post(path, beat, status=200) == {"checkpoint_seq": 1}
    assert api.refused(409, "POST", path, beat)["error"].startswith("conflict: ")
    large = claim(task, checkpoint="x" * 150_000 + "y" * 150_000, checkpoint_seq=1)
    api.refused(413, "POST", path, large)


def test_worker_whose_claim_is_old_changes_nothing(api: Api) -> None:
    """409 in the contract's words; what it said is kept as evidence."""
    started = api.started(CHARGE)
    (task,) = poll(api)
    for verb, more in (("complete", {"output": 1}), ("fail", {"message": "no"})):
        body = {**claim(task, **more), "claim_epoch": 7}
        answer = api.send("POST", f"/workers/tasks/{task['id']}/{verb}", body)
        assert (answer.status_code, answer.json["error"]) == (
            409,
            "conflict: worker task lease changed",
        )
    assert api.get(f"/instances/{started['id']}")["state"] == "waiting"
    story = api.get(f"/instances/{started['id']}/timeline")
    assert [each["kind"] for each in story["evidence"]] == ["stale_worker", "stale_worker"]


def test_worker_that_fails_a_task_fails_the_instance(api: Api) -> None:
    """Without a retry policy a failure that cannot be retried ends the instance."""
    started = api.started(CHARGE)
    (task,) = poll(api)
    body = claim(
        task, message="card stolen", code="stolen", retryable=False, logs=[{"message": "x"}]
    )
    assert api.send("POST", f"/api/v1/workers/tasks/{task['id']}/fail", body).status_code == 200
    shown = api.get(f"/instances/{started['id']}")
    assert (shown["state"], shown["error"]["code"]) == ("failed", "stolen")


NOBODY = "0192b5a8-0000-7000-8000-000000000000"  # a step id that no step has


@pytest.mark.parametrize(
    ("verb", "body", "status"),
    [
        ("poll", {"worker_id": "w"}, 422),
        ("poll", {"handler_name": "charge"}, 422),
        ("poll", {"handler_name": "charge", "worker_id": "w", "limit": 0}, 400),
        ("poll", {"handler_name": "charge", "worker_id": "w", "limit": 1.0}, 422),
        ("poll/queue", {"handler_name": "charge", "worker_id": "w"}, 422),
        (f"{NOBODY}/complete", {"worker_id": "w"}, 404),
        (f"{NOBODY}/complete", {}, 422),
        (f"{NOBODY}/complete", {"worker_id": "w", "claim_epoch": "1"}, 422),
        (f"{NOBODY}/fail", {"worker_id": "w"}, 422),
        (f"{NOBODY}/heartbeat", {"worker_id": "w"}, 404),
        ("x/heartbeat", {"worker_id": "w"}, 400),
    ],
)
def test_worker_is_told_what_is_wrong(api: Api, verb: str, body: Any, status: int) -> None:
    """Each wrong request has its status and changes nothing."""
    api.refused(status, "POST", f"/workers/tasks/{verb}", body)


def test_workers_are_listed_with_what_they_do(api: Api) -> None:
    """Each pull worker that polled lately, by tenant."""
    poll(api, version="2")
    poll(api, "/workers/tasks/poll/queue", queue_name="q")
    (worker,) = api.get("/workers")
    assert (worker["worker_id"], worker["handlers"], worker["queues"]) == ("w1", ["charge"], ["q"])
    assert worker["alive"]
    assert api.get("/workers", headers={"X-Tenant-Id": "other"}) == []
    assert api.get("/handlers")["external"] == ["charge"]
    api.rows("UPDATE pull_workers SET last_seen_at = now() - interval '2 minutes' RETURNING 1")
    assert api.get("/workers") == []
    (worker,) = api.get("/workers?include_stale=true")
    assert not worker["alive"]
    assert api.get("/workers?alive_within_secs=600")[0]["alive"]
