"""CONTRACT 19.1 and 19.2: tasks of pull workers, who polls for them, and lists of both."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.support.desk import Desk, seated
from tests.support.house import House
from tests.support.pullers import Puller, again, begun, external, flow

NOOP = {"type": "step", "id": "after", "handler": "noop", "params": {}}
SHORT = {"max_attempts": 3, "initial_backoff": 1, "max_backoff": 1}
OTHER = {"X-Tenant-Id": "other"}


@pytest.fixture
def desk(houses: Callable[..., House]) -> Iterator[Desk]:
    """A desk in a house whose unknown handlers wait for pull workers."""
    with seated(houses(handler_url="", insecure=True)) as found:
        yield found


@pytest.fixture
def worker(desk: Desk) -> Puller:
    """A worker that charges."""
    return Puller(desk)


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
