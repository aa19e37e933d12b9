"""CONTRACT 19.3 to 19.6: claims of pull workers, what they report, and what comes of that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.support.desk import Desk, seated
from tests.support.house import House
from tests.support.pullers import Puller, begun, external, flow, silence

NOOP = {"type": "step", "id": "after", "handler": "noop", "params": {}}
SHORT = {"max_attempts": 3, "initial_backoff": 1, "max_backoff": 1}
OTHER = {"X-Tenant-Id": "other"}
SETTINGS: dict[str, Any] = {
    "handler_url": "", "max_context": 4096, "webhook_urls": "http://127.0.0.1:1/told",
    "allow_internal_urls": True,
}  # fmt: skip


@pytest.fixture
def desk(houses: Callable[..., House]) -> Iterator[Desk]:
    """A desk in a house whose unknown handlers wait for pull workers."""
    with seated(houses(**SETTINGS)) as found:
        yield found


@pytest.fixture
def worker(desk: Desk) -> Puller:
    """A worker that charges."""
    return Puller(desk)


def outputs(desk: Desk, instance: Any) -> dict[str, Any]:
    """What the blocks of an instance put out."""
    found = desk.api.get(f"/instances/{instance['id']}/outputs")
    return {each["block_id"]: each["output"] for each in found}


# -- 19.3 ----------------------------------------------------------------------------------------
def test_story_of_a_reclaimed_task(desk: Desk, worker: Puller) -> None:
    """claimed, reclaimed, claimed, stale_mutation_rejected, completed, with their epochs."""
    begun(desk, external())
    first = worker.take()
    silence(desk)
    second = Puller(desk, "w2")
    task = second.take()
    assert (task["id"], task["claim_epoch"]) == (first["id"], 2)
    assert worker.say("complete", first, output=1).status_code == 409
    second.complete(task, {"ok": 1})
    assert worker.story(task) == [
        ("claimed", 1), ("reclaimed", 1), ("claimed", 2), ("stale_mutation_rejected", 1),
        ("completed", 2),
    ]  # fmt: skip
    found = desk.api.get(f"/workers/tasks/{task['id']}/attempts?limit=1")
    (only,) = found
    assert (only["task_id"], only["worker_id"], only["event"]) == (task["id"], "w1", "claimed")


def test_old_claim_changes_nothing(desk: Desk, worker: Puller) -> None:
    """complete, fail and heartbeat of an old epoch, or of another worker, are 409."""
    instance = begun(desk, external())
    old = worker.take()
    silence(desk)
    task = worker.take()
    for who, claim in ((worker, old), (Puller(desk, "w2"), task)):
        for verb in ("complete", "fail", "heartbeat"):
            answer = who.say(verb, claim, message="x")
            assert answer.status_code == 409
            assert answer.json["error"] == "conflict: worker task lease changed"
    assert desk.read(instance)["state"] == "waiting"
    assert [event for event, _ in worker.story(task)][-6:] == ["stale_mutation_rejected"] * 6


def test_task_that_is_pending_cannot_be_completed(desk: Desk, worker: Puller) -> None:
    """Not even by the worker that had it."""
    begun(desk, external())
    task = worker.take()
    silence(desk)
    assert worker.say("complete", task, output=1).status_code == 409
    worker.take()


def test_unknown_task_is_404(desk: Desk, worker: Puller) -> None:
    """On every route; another tenant's is unknown, too."""
    begun(desk, external())
    task = worker.take()
    for wanted, headers in ((str(uuid4()), {}), (task["id"], OTHER)):
        path = f"/workers/tasks/{wanted}"
        claim = {"worker_id": "w1", "claim_epoch": 1}
        desk.api.refused(404, "POST", f"{path}/complete", {**claim, "output": 1}, headers=headers)
        desk.api.refused(404, "POST", f"{path}/fail", {**claim, "message": "x"}, headers=headers)
        desk.api.refused(404, "POST", f"{path}/heartbeat", claim, headers=headers)
        desk.api.refused(404, "GET", f"{path}/attempts", headers=headers)
    desk.api.refused(400, "GET", "/workers/tasks/17/attempts")


def test_epoch_may_be_left_out(desk: Desk, worker: Puller) -> None:
    """The current claim is meant, if it is the worker's (appendix D)."""
    begun(desk, external())
    task = worker.take()
    path = f"/workers/tasks/{task['id']}"
    assert desk.api.post(f"{path}/heartbeat", {"worker_id": "w1"}, status=200)
    stranger = {"worker_id": "w2", "output": 1}
    assert desk.api.send("POST", f"{path}/complete", stranger).status_code == 409
    mine = {"worker_id": "w1", "output": 1}
    assert desk.api.send("POST", f"{path}/complete", mine).status_code == 200


def test_heartbeat_keeps_a_checkpoint(desk: Desk, worker: Puller) -> None:
    """Its number counts from 0; a wrong one is 409, none 400, more than 256 KiB 413."""
    begun(desk, external())
    task = worker.take()
    assert worker.say("heartbeat", task).json == {"checkpoint_seq": 0}
    kept = {"checkpoint": {"page": 3}, "checkpoint_seq": 0}
    assert worker.say("heartbeat", task, **kept).json == {"checkpoint_seq": 1}
    assert worker.say("heartbeat", task, **kept).status_code == 409
    assert worker.say("heartbeat", task, checkpoint=1).status_code == 400
    large = {"checkpoint": "x" * 262_145, "checkpoint_seq": 1}
    assert worker.say("heartbeat", task, **large).status_code == 413
    silence(desk)
    resumed = worker.take()
    assert (resumed["resume_checkpoint"], resumed["checkpoint_seq"]) == ({"page": 3}, 1)


def test_worker_that_is_heard_of_keeps_its_task(desk: Desk, worker: Puller) -> None:
    """Silence is measured from the last heartbeat."""
    begun(desk, external())
    task = worker.take()
    desk.house.sql("UPDATE steps SET lease_until = '-infinity' WHERE pull")
    worker.say("heartbeat", task)
    desk.house.tick()
    assert worker.story(task) == [("claimed", 1)]
    worker.complete(task)


def test_silence_is_as_long_as_it_is_set(houses: Callable[..., House]) -> None:
    """ORCH8_WORKER_REAPER_STALE_SECS is how long a worker has a task unheard."""
    house = houses(handler_url="", worker_reaper_stale=0.0)
    with seated(house) as desk:
        begun(desk, external())
        task = Puller(desk).take()
        house.tick()
        assert Puller(desk).take()["claim_epoch"] == task["claim_epoch"] + 1


# -- 19.4 ----------------------------------------------------------------------------------------
def test_output_goes_into_the_context(desk: Desk, worker: Puller) -> None:
    """The members of an object overwrite those of context.data; what follows sees them."""
    route = {
        "type": "router", "id": "r", "default": [],
        "routes": [{"condition": "data.paid == true", "blocks": [NOOP]}],
    }  # fmt: skip
    instance = begun(desk, external(), route, data={"cents": 5, "paid": False})
    worker.complete(worker.take(), {"paid": True, "ref": "r1"})
    found = desk.read(instance)
    assert found["context"]["data"] == {"cents": 5, "paid": True, "ref": "r1"}
    assert found["state"] == "completed"
    assert set(outputs(desk, instance)) == {"a", "after"}


@pytest.mark.parametrize("output", [None, 7, "text", [1], {}])
def test_output_that_is_no_object_is_kept_as_output(
    desk: Desk, worker: Puller, output: Any
) -> None:
    """And nowhere else."""
    instance = begun(desk, external(), data={"cents": 5})
    worker.complete(worker.take(), output)
    found = desk.read(instance)
    assert (found["state"], found["context"]["data"]) == ("completed", {"cents": 5})
    assert outputs(desk, instance) == {"a": output}


def test_output_in_the_seeds_form_is_read_as_output(desk: Desk, worker: Puller) -> None:
    """There the context is what it was (38)."""
    body = {"id": "seed", "blocks": [{"type": "step", "id": "a", "handler": "charge"}]}
    instance = desk.run(body, context={"data": {"cents": 5}})
    worker.complete(worker.take(), {"paid": True})
    assert desk.read(instance)["context"]["data"] == {"cents": 5}
    assert outputs(desk, instance) == {"a": {"paid": True}}


def test_output_that_is_too_large_for_the_context_completes_all_the_same(
    desk: Desk, worker: Puller
) -> None:
    """It stands among the outputs, and the audit log tells."""
    instance = begun(desk, external(), data={"cents": 5})
    worker.complete(worker.take(), {"page": "x" * 4096})
    found = desk.read(instance)
    assert (found["state"], found["context"]["data"]) == ("completed", {"cents": 5})
    assert outputs(desk, instance)["a"] == {"page": "x" * 4096}
    told = [each["event_type"] for each in desk.api.get(f"/instances/{instance['id']}/audit")]
    assert "context.not_merged" in told


def test_completion_during_a_pause_is_kept(desk: Desk, worker: Puller) -> None:
    """The output is there and the step is not done again after the resume."""
    instance = begun(desk, external(), NOOP)
    task = worker.take()
    path = f"/instances/{instance['id']}/signals"
    desk.api.send("POST", path, {"signal_type": "pause"})
    worker.complete(task, {"paid": True})
    assert desk.read(instance)["state"] == "paused"
    assert outputs(desk, instance) == {"a": {"paid": True}}
    desk.api.send("POST", path, {"signal_type": "resume"})
    desk.house.work()
    assert desk.read(instance)["state"] == "completed"
    assert worker.poll() == []


def test_completion_after_the_end_is_kept_as_evidence(desk: Desk, worker: Puller) -> None:
    """200; the instance stays as it is, and the operator finds what the worker said."""
    instance = begun(desk, external(effect="read"))
    task = worker.take()
    desk.api.send("POST", f"/instances/{instance['id']}/signals", {"signal_type": "cancel"})
    assert desk.read(instance)["state"] == "cancelled"
    worker.complete(task, {"paid": True})
    assert desk.read(instance)["state"] == "cancelled"
    (kept,) = desk.api.get(f"/instances/{instance['id']}/timeline")["evidence"]
    assert (kept["kind"], kept["body"]["output"]) == ("late_worker", {"paid": True})
    assert worker.story(task) == [("claimed", 1), ("cancelled", 1)]


def test_lines_that_come_with_a_task_are_in_the_log(desk: Desk, worker: Puller) -> None:
    """In the order of their times; what a task has too much of is left out, and that is said."""
    instance = begun(desk, external(retry=SHORT))
    line = {"ts": "2020-01-01T00:00:00Z", "level": "warn", "message": "asked the bank"}
    worker.fail(worker.take(), retryable=True, logs=[line])
    task = retried(desk, worker)
    worker.complete(task, 1, logs=[{"message": "x" * 100}] * 1500)
    path = f"/instances/{instance['id']}/logs"
    first, *rest = desk.api.get(f"{path}?limit=1000")
    assert (first["block_id"], first["level"], first["message"]) == ("a", "warn", "asked the bank")
    assert sum(each["message"] == "x" * 100 for each in rest) < 700
    assert any("lines were left out" in str(each["message"]) for each in rest)


# -- 19.5 ----------------------------------------------------------------------------------------
def retried(desk: Desk, worker: Puller) -> Any:
    """The task that comes back after a failure, once its pause is over."""
    desk.house.advance(timedelta(seconds=1))
    desk.house.work()
    return worker.take()


def test_retryable_failure_is_offered_once_more(desk: Desk, worker: Puller) -> None:
    """The instance is scheduled, then waiting with one task; in all there are max_attempts."""
    instance = begun(desk, external(retry={**SHORT, "initial_backoff": 400, "max_backoff": 400}))
    task = worker.take()
    for attempt in (1, 2):
        worker.fail(task, "busy", retryable=True)
        assert desk.read(instance)["state"] == "scheduled"
        assert worker.poll() == []
        task = retried(desk, worker)
        assert desk.read(instance)["state"] == "waiting"
        assert (task["attempt"], task["block_id"]) == (attempt, "a")
        assert worker.poll(limit=10) == []
    worker.fail(task, "busy", retryable=True)
    assert desk.read(instance)["state"] == "failed"
    assert worker.poll() == []


def test_retried_task_waits_for_its_worker(desk: Desk, worker: Puller) -> None:
    """The instance shows waiting once the pause is over, before anybody polls."""
    instance = begun(desk, external(retry=SHORT))
    worker.fail(worker.take(), retryable=True)
    desk.house.work()
    assert desk.read(instance)["state"] == "waiting"
    (task,) = desk.api.get("/workers/tasks?state=pending")
    assert task["attempt"] == 1


def test_checkpoint_stays_over_a_retry(desk: Desk, worker: Puller) -> None:
    """With the parameters and the context."""
    begun(desk, external(retry=SHORT, params={"n": "{{ context.data.n }}"}), data={"n": 1})
    task = worker.take()
    worker.say("heartbeat", task, checkpoint=[7], checkpoint_seq=0)
    worker.fail(task, retryable=True)
    task = retried(desk, worker)
    assert (task["resume_checkpoint"], task["params"]) == ([7], {"n": 1})


@pytest.mark.parametrize(
    ("retry", "retryable"), [(SHORT, False), (None, True), ({**SHORT, "max_attempts": 1}, True)]
)
def test_final_failure_fails_the_instance(
    desk: Desk, worker: Puller, retry: Any, retryable: bool
) -> None:
    """Not retryable, without a policy, or with none left. It is in the audit log and the DLQ, and
    receivers are told.
    """
    instance = begun(desk, external(**({"retry": retry} if retry else {})))
    worker.fail(worker.take(), "stolen", retryable=retryable)
    assert desk.read(instance)["state"] == "failed"
    assert [each["id"] for each in desk.api.get("/instances/dlq")] == [instance["id"]]
    told = [each["event_type"] for each in desk.api.get(f"/instances/{instance['id']}/audit")]
    assert told[0] == "state_transition"
    assert "step.failed" in told
    (event,) = desk.api.get("/webhooks/outbox")
    assert (event["event_type"], event["instance_id"]) == ("instance.failed", instance["id"])


def test_failure_in_a_tree_can_be_caught(desk: Desk, worker: Puller) -> None:
    """A node that failed is no failed instance."""
    block = {
        "type": "try_catch", "id": "t", "try_block": [external()], "catch_block": [NOOP],
    }  # fmt: skip
    instance = begun(desk, block)
    worker.fail(worker.take(), "stolen")
    desk.house.work()
    assert desk.read(instance)["state"] == "completed"


def test_parent_of_a_failed_instance_is_woken(desk: Desk, worker: Puller) -> None:
    """A worker's failure goes the same road as every other."""
    desk.api.post("/sequences", flow(external(), name="child"))
    parent = begun(desk, {"type": "sub_sequence", "id": "s", "sequence_name": "child"}, name="p")
    worker.fail(worker.take(), "stolen")
    desk.house.work()
    assert desk.read(parent)["state"] == "failed"


# -- 19.6 ----------------------------------------------------------------------------------------
def test_time_out_counts_from_the_offer(desk: Desk, worker: Puller) -> None:
    """Nobody took it: a retryable failure. Somebody did: it is offered again, under its key."""
    step = external(timeout=60_000, retry={**SHORT, "max_attempts": 2})
    alone = begun(desk, step)
    for _ in range(2):
        desk.house.advance(timedelta(minutes=2))
        desk.house.tick()
        desk.house.work()
    assert desk.read(alone)["state"] == "failed"
    held = begun(desk, step, name="second")
    task = worker.take()
    desk.house.advance(timedelta(minutes=2))
    desk.house.tick()
    assert worker.story(task) == [("claimed", 1), ("timed_out", 1)]
    assert desk.read(held)["state"] in {"scheduled", "waiting"}
    desk.house.advance(timedelta(minutes=1))
    desk.house.work()
    assert worker.take()["idempotency_key"] == task["idempotency_key"]
