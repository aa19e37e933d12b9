"""CONTRACT 19.1 to 19.6: tasks of pull workers, from the poll to the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.support.desk import Desk, seated
from tests.support.house import House
from tests.support.pullers import Puller, again, begun, external, flow, silence

NOOP = {"type": "step", "id": "after", "handler": "noop", "params": {}}
SHORT = {"max_attempts": 3, "initial_backoff": 1, "max_backoff": 1}
OTHER = {"X-Tenant-Id": "other"}


@pytest.fixture
def desk(houses: Callable[..., House]) -> Iterator[Desk]:
    """A desk in a house whose unknown handlers wait for pull workers."""
    with seated(houses(handler_url="", max_context=4096, insecure=True)) as found:
        yield found


@pytest.fixture
def worker(desk: Desk) -> Puller:
    """A worker that charges."""
    return Puller(desk)


def outputs(desk: Desk, instance: Any) -> dict[str, Any]:
    """What the blocks of an instance put out."""
    found = desk.api.get(f"/instances/{instance['id']}/outputs")
    return {each["block_id"]: each["output"] for each in found}


# -- 19.1 ----------------------------------------------------------------------------------------
def test_task_has_its_members(desk: Desk, worker: Puller) -> None:
    """Parameters are rendered; what there is none of is null, or left out where that is said."""
    step = external(params={"cents": "{{ context.data.cents }}"}, timeout=30_000)
    instance = begun(desk, step, data={"cents": 5})
    task = worker.take()
    assert task.items() >= {
        "instance_id": instance["id"], "block_id": "a", "handler_name": "charge",
        "params": {"cents": 5}, "attempt": 0, "timeout_ms": 30_000, "state": "claimed",
        "worker_id": "w1", "claim_epoch": 1, "checkpoint_seq": 0, "completed_at": None,
        "output": None, "error_message": None, "error_retryable": None,
    }.items()  # fmt: skip
    assert task["context"]["data"] == {"cents": 5}
    assert task["claimed_at"] is not None
    assert not {"queue_name", "resume_checkpoint"} & set(task)


def test_task_sees_what_its_step_may_see(desk: Desk, worker: Puller) -> None:
    """context_access filters the context."""
    access = {"data": {"fields": ["cents"]}, "config": False}
    begun(desk, external(context_access=access), data={"cents": 5, "name": "x"})
    context = worker.take()["context"]
    assert context["data"] == {"cents": 5}
    assert "config" not in context


def test_task_secrets_are_for_who_claims_it(desk: Desk, worker: Puller) -> None:
    """Whoever takes the task has the secret; lists have the reference."""
    credential = {"id": "psp", "name": "PSP", "value": "sk_secret", "tenant_id": "default"}
    desk.api.post("/credentials", credential)
    begun(desk, external(params={"key": "credentials://psp"}))
    (listed,) = desk.api.get("/workers/tasks")
    assert listed["params"] == {"key": "credentials://psp"}
    task = worker.take()
    assert task["params"] == {"key": "sk_secret"}
    assert "sk_secret" not in desk.api.send("GET", "/workers/tasks").text
    worker.complete(task, {"ok": 1})
    assert "sk_secret" not in desk.api.send("GET", "/workers/tasks").text


def test_block_has_one_live_task(desk: Desk, worker: Puller) -> None:
    """However often the instance is looked at."""
    begun(desk, external())
    desk.house.work()
    desk.house.tick()
    assert len(desk.api.get("/workers/tasks")) == 1
    assert len(worker.poll(limit=10)) == 1


# -- 19.2: polling -------------------------------------------------------------------------------
def test_poll_gives_the_oldest_first_and_each_once(desk: Desk, worker: Puller) -> None:
    """Claimed, with the epoch one higher; unknown handlers have none."""
    published = desk.api.post("/sequences", flow(external()))
    ids = [again(desk, published)["id"] for _ in range(3)]
    assert [task["instance_id"] for task in worker.poll(limit=2)] == ids[:2]
    assert [task["instance_id"] for task in Puller(desk, "w2").poll(limit=9)] == ids[2:]
    assert worker.poll() == []
    assert Puller(desk, handler="nobody").poll() == []


def test_poll_takes_from_every_queue(desk: Desk, worker: Puller) -> None:
    """The plain poll ignores queues, the other is for one queue and one handler."""
    begun(desk, external(queue_name="eu"))
    assert worker.poll(queue_name="us") == []
    assert Puller(desk, handler="refund").poll(queue_name="eu") == []
    assert worker.take()["queue_name"] == "eu"
    begun(desk, external(queue_name="eu"), version=2)
    assert worker.take(queue_name="eu")["queue_name"] == "eu"


def test_poll_needs_its_members(desk: Desk, worker: Puller) -> None:
    """422 without the handler, the worker or the queue; more than 1000 are asked for as 1000."""
    for body in ({"worker_id": "w"}, {"handler_name": "charge"}):
        desk.api.refused(422, "POST", "/workers/tasks/poll", body)
    both = {"handler_name": "charge", "worker_id": "w"}
    desk.api.refused(422, "POST", "/workers/tasks/poll/queue", both)
    assert worker.poll(limit=100_000) == []


def test_poll_is_scoped_to_a_tenant(desk: Desk, worker: Puller) -> None:
    """With X-Tenant-Id a worker gets that tenant's tasks; without it everybody's."""
    begun(desk, external(), tenant_id="acme")
    body = {"handler_name": "charge", "worker_id": "w1"}
    assert desk.api.post("/workers/tasks/poll", body, status=200, headers=OTHER) == []
    assert len(worker.poll()) == 1


def test_poll_registers_the_worker(desk: Desk, worker: Puller) -> None:
    """With its handlers, queues and version, and what it has now; /handlers names the handlers."""
    begun(desk, external())
    worker.poll(version="1.2.0")
    Puller(desk, handler="refund").poll(queue_name="eu", version="1.3.0")
    (known,) = desk.api.get("/workers")
    assert known.items() >= {
        "worker_id": "w1", "handlers": ["charge", "refund"], "queues": ["eu"], "version": "1.3.0",
        "alive": True, "in_flight": 1,
    }.items()  # fmt: skip
    handlers = desk.api.get("/handlers")
    assert set(handlers["external"]) == {"charge", "refund"}
    assert "noop" in handlers["builtin"]


def test_worker_that_was_not_seen_lately_is_left_out(desk: Desk, worker: Puller) -> None:
    """Unless it is asked for; the newest stands first."""
    worker.poll()
    old = "UPDATE pull_workers SET last_seen_at = clock_timestamp() - interval '2 minutes'"
    desk.house.sql(old)
    Puller(desk, "w2").poll()
    assert [each["worker_id"] for each in desk.api.get("/workers")] == ["w2"]
    every = desk.api.get("/workers?include_stale=true")
    assert [(each["worker_id"], each["alive"]) for each in every] == [("w2", True), ("w1", False)]
    assert len(desk.api.get("/workers?alive_within_secs=600")) == 2


# -- 19.2: lists ---------------------------------------------------------------------------------
def test_tasks_are_listed_the_newest_first(desk: Desk, worker: Puller) -> None:
    """In each of their states, with what they were given and what they came to."""
    published = desk.api.post("/sequences", flow(external(params={"n": "{{ context.data.n }}"})))
    for n in range(4):
        again(desk, published, data={"n": n})
    done, failed, held = worker.poll(limit=3)
    worker.complete(done, {"paid": True})
    worker.fail(failed, "stolen")
    found = desk.api.get("/workers/tasks")
    assert [each["state"] for each in found] == ["pending", "claimed", "failed", "completed"]
    assert [each["params"] for each in found] == [{"n": 3}, {"n": 2}, {"n": 1}, {"n": 0}]
    assert [each["worker_id"] for each in found] == [None, "w1", "w1", "w1"]
    assert (found[3]["output"], found[3]["completed_at"] is None) == ({"paid": True}, False)
    assert (found[2]["error_message"], found[2]["error_retryable"]) == ("stolen", False)
    assert (found[1]["id"], found[1]["claim_epoch"]) == (held["id"], 1)
    assert found[1]["heartbeat_at"] is not None
    assert found[0]["claimed_at"] is None


@pytest.mark.parametrize(
    ("query", "blocks"),
    [
        ("state=pending", ["b"]),
        ("state=pending,claimed", ["b", "a"]),
        ("state=completed", []),
        ("handler_name=refund", ["b"]),
        ("worker_id=w1", ["a"]),
        ("queue_name=eu", ["b"]),
        ("tenant_id=default", ["b", "a"]),
        ("tenant_id=other", []),
        ("limit=1", ["b"]),
        ("limit=1&offset=1", ["a"]),
    ],
)
def test_tasks_are_filtered(desk: Desk, worker: Puller, query: str, blocks: list[str]) -> None:
    """By state, handler, worker, queue and tenant, in pages."""
    begun(desk, external())
    begun(desk, external("b", "refund", queue_name="eu"), name="second")
    worker.take()
    found = desk.api.get(f"/workers/tasks?{query}")
    assert [each["block_id"] for each in found] == blocks


def test_tasks_of_another_tenant_are_not_listed(desk: Desk) -> None:
    """The tenant of the caller wins; an unknown state is 400."""
    begun(desk, external())
    assert desk.api.get("/workers/tasks?tenant_id=default", headers=OTHER) == []
    assert desk.api.get("/workers/tasks/stats", headers=OTHER)["by_state"]["pending"] == 0
    desk.api.refused(400, "GET", "/workers/tasks?state=done")


def test_tasks_are_counted(desk: Desk, worker: Puller) -> None:
    """By state, and by handler; and the workers that have some."""
    begun(desk, external())
    begun(desk, external("b", "refund"), name="second")
    worker.take()
    found = desk.api.get("/workers/tasks/stats")
    assert found["by_state"] == {"pending": 1, "claimed": 1, "completed": 0, "failed": 0}
    assert found["by_handler"] == {"charge": {"claimed": 1}, "refund": {"pending": 1}}
    assert found["active_workers"] == ["w1"]


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
    """Not retryable, without a policy, or with none left; it is in the audit log and the DLQ."""
    instance = begun(desk, external(**({"retry": retry} if retry else {})))
    worker.fail(worker.take(), "stolen", retryable=retryable)
    assert desk.read(instance)["state"] == "failed"
    assert [each["id"] for each in desk.api.get("/instances/dlq")] == [instance["id"]]
    told = [each["event_type"] for each in desk.api.get(f"/instances/{instance['id']}/audit")]
    assert told[0] == "state_transition"
    assert "step.failed" in told


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
