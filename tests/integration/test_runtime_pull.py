"""Pull workers: claims with epochs and leases, checkpoints, time-outs, silence."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from orch8.errors import Conflict, LeaseLost, NotFound, PayloadTooLarge
from orch8.runtime import pull
from orch8.runtime.claim import claim
from orch8.runtime.pull import PullTask
from orch8.runtime.registry import put_handler
from tests.support.house import LANE, House

REVIEW = {"type": "step", "handler": "review", "params": {"n": "{{data.n}}"}}
NOOP = {"type": "step", "handler": "noop"}
HOUR = timedelta(hours=1)


class Worker:
    """A pull worker: what it says, it says under the epoch of the task it was given."""

    def __init__(self, house: House, name: str = "w1") -> None:
        self.house, self.name = house, name

    def poll(
        self, limit: int = 1, *, handler: str = "review", queue: str | None = None
    ) -> list[PullTask]:
        with self.house.office.begin() as tx:
            return pull.poll(self.house.office, tx, tenant_id="default", handler=handler,
                             worker_id=self.name, limit=limit, queue=queue)  # fmt: skip

    def _say(self, verb: Callable[..., Any], task: PullTask, **more: Any) -> Any:
        try:
            with self.house.office.begin() as tx:
                said = {"tenant_id": "default", "worker_id": self.name, "epoch": task.row.epoch}
                return verb(self.house.office, tx, task.row.id, **(said | more))
        except LeaseLost as problem:
            pull.keep_stale(self.house.office, problem)
            raise

    def heartbeat(self, task: PullTask, **more: Any) -> Any:
        return self._say(pull.heartbeat, task, **more)

    def complete(self, task: PullTask, output: Any = None, **more: Any) -> Any:
        return self._say(pull.complete, task, output=output, **more)

    def fail(self, task: PullTask, message: str = "no", **more: Any) -> Any:
        return self._say(pull.fail, task, message=message, **more)


@pytest.fixture
def house(houses: Callable[..., House]) -> House:
    """A house without handlers of its own: steps wait for pull workers."""
    return houses(handler_url="", allow_internal_urls=True)


@pytest.fixture
def worker(house: House) -> Worker:
    return Worker(house)


def silence(house: House, instance_id: UUID) -> None:
    """The worker of the instance's step was not heard from for too long."""
    house.sql("UPDATE steps SET lease_until = '-infinity' WHERE instance_id = %s AND pull"
              " AND lease_until IS NOT NULL", str(instance_id))  # fmt: skip
    house.tick()


def test_pull_step_waits_for_a_worker_and_ends_with_its_word(house: House, worker: Worker) -> None:
    """A step without an address is offered; whoever polls gets it once, and its output counts."""
    instance_id = house.run(REVIEW, NOOP, data={"n": 3})
    assert (house.state(instance_id), house.step(instance_id, "review").state) == (
        "waiting",
        "waiting",
    )
    (task,) = worker.poll()
    assert Worker(house, "w2").poll() == []
    assert (task.params, task.row.epoch, task.row.dispatches) == ({"n": 3}, 1, 1)
    assert task.row.idempotency_key
    assert house.state(instance_id) == "waiting"
    worker.complete(task, {"ok": True})
    row = house.step(instance_id, "review")
    assert (row.state, row.output, row.outcome) == ("completed", {"ok": True}, "succeeded")
    house.work()
    assert house.state(instance_id) == "completed"
    with pytest.raises(LeaseLost):
        worker.complete(task, {"ok": False})


def test_pull_gives_the_oldest_first_and_no_more_than_asked(house: House, worker: Worker) -> None:
    """Tasks come in the order in which they were offered; a queue narrows the choice."""
    house.publish(REVIEW)
    house.publish({**REVIEW, "queue_name": "eu"}, name="eu")
    ids = [house.start({"n": n}) for n in range(3)]
    own = house.start(name="eu")
    assert [task.row.instance_id for task in worker.poll(1, queue="eu")] == [own]
    assert [task.row.instance_id for task in worker.poll(2)] == ids[:2]
    assert [task.row.instance_id for task in worker.poll(5)] == ids[2:]
    assert worker.poll(5, handler="other") == []


def test_pull_of_a_silent_worker_comes_back_with_its_checkpoint(
    house: House, worker: Worker
) -> None:
    """The next worker has the next epoch, the same key, and what the first one had kept."""
    instance_id = house.run(REVIEW)
    (task,) = worker.poll()
    assert worker.heartbeat(task, checkpoint={"page": 7}, checkpoint_seq=0) == 1
    with pytest.raises(Conflict):
        worker.heartbeat(task, checkpoint={"page": 8}, checkpoint_seq=0)
    with pytest.raises(PayloadTooLarge):
        worker.heartbeat(task, checkpoint="x" * 300_000, checkpoint_seq=1)
    silence(house, instance_id)
    row = house.step(instance_id, "review")
    assert (row.state, row.crashes, row.failures, row.outcome) == ("waiting", 1, 0, "unknown")
    second = Worker(house, "w2")
    (again,) = second.poll()
    assert (again.row.epoch, again.row.idempotency_key) == (2, task.row.idempotency_key)
    assert again.row.progress["checkpoint"] == {"page": 7}
    for said in (worker.complete, worker.fail, worker.heartbeat):
        with pytest.raises(LeaseLost) as refused:
            said(task)
        assert refused.value.http_status == 409
    assert [e.kind for e in house.evidence(instance_id)] == ["claim_lost"] + ["stale_worker"] * 3
    second.complete(again, {"by": "w2"})
    assert house.step(instance_id, "review").output == {"by": "w2"}


def test_pull_of_a_worker_that_is_heard_is_left_alone(house: House, worker: Worker) -> None:
    """A heartbeat between the look for silence and its settling keeps the claim."""
    instance_id = house.run(REVIEW)
    (task,) = worker.poll()
    house.sql("UPDATE steps SET lease_until = '-infinity' WHERE pull")
    worker.heartbeat(task)
    assert house.tick().silent == 0
    assert house.step(instance_id, "review").epoch == 1
    worker.complete(task)


def test_pull_failure_is_tried_again_if_it_may_help(house: House, worker: Worker) -> None:
    """A retryable failure follows the step's policy, another one fails it."""
    retry = {"max_attempts": 3, "backoff": "1h"}
    instance_id = house.run({**REVIEW, "retry": retry})
    (task,) = worker.poll()
    worker.fail(task, "busy", retryable=True, code="busy")
    row = house.step(instance_id, "review")
    assert (row.state, row.failures) == ("scheduled", 1)
    assert worker.poll() == []
    house.advance(HOUR)
    house.work()  # the pause is over: it is offered once more
    assert house.state(instance_id) == "waiting"
    (again,) = worker.poll()
    assert again.row.epoch > task.row.epoch
    assert again.row.idempotency_key == task.row.idempotency_key
    worker.fail(again, "broken", code="broken", details={"a": 1})
    row = house.step(instance_id, "review")
    assert row.error == {"message": "broken", "code": "broken", "details": {"a": 1}}
    assert house.state(instance_id) == "failed"


def test_pull_step_that_is_about_to_be_offered_outlives_its_process(
    house: House, worker: Worker
) -> None:
    """The process that found it due called nobody: nothing is in doubt, and it is offered."""
    instance_id = house.run({**REVIEW, "retry": {"max_attempts": 3, "backoff": "1h"}})
    (task,) = worker.poll()
    worker.fail(task, "busy", retryable=True)
    house.advance(HOUR)
    other = house.another_pump()
    worker_id = other.lease.hold()
    with house.office.begin() as tx:
        assert claim(house.office, tx, LANE, worker_id, 8)
    house.lose(other)
    house.tick()
    assert house.step(instance_id, "review").outcome == "failed_safe"
    house.work()
    (again,) = worker.poll()
    assert (again.row.crashes, again.row.idempotency_key) == (0, task.row.idempotency_key)
    assert [each.kind for each in house.evidence(instance_id)] == ["answer"]


def test_pull_step_that_has_an_address_by_the_time_is_sent_there(
    house: House, worker: Worker
) -> None:
    """Until it is offered it is nobody's task, whatever it was before."""
    instance_id = house.run({**REVIEW, "retry": {"max_attempts": 3, "backoff": "1h"}})
    (task,) = worker.poll()
    worker.fail(task, "busy", retryable=True)
    put_handler(house.office, "review", tenant_id="default", url=house.provider.url, actor="test")
    house.advance(HOUR)
    house.work()
    row = house.step(instance_id, "review")
    assert (row.state, row.pull, row.dispatches) == ("completed", False, 2)
    assert [entry["handler"] for entry in house.provider.ledger.page()] == ["review"]


def test_pull_time_out_before_and_after_a_worker_took_it(house: House, worker: Worker) -> None:
    """Nobody came in time: a failure. Somebody took too long: in doubt, and asked again."""
    step = {**REVIEW, "timeout": "1h"}
    alone = house.run(step)
    house.advance(2 * HOUR)
    house.tick()
    row = house.step(alone, "review")
    assert (row.state, row.error["code"]) == ("failed", "timeout")
    taken = house.start()
    (task,) = worker.poll()
    house.advance(2 * HOUR)
    house.tick()
    row = house.step(taken, "review")
    assert (row.outcome, row.failures, row.epoch) == ("unknown", 0, 1)
    house.advance(HOUR / 4)
    house.work()
    (again,) = worker.poll()
    assert again.row.idempotency_key == task.row.idempotency_key
    worker.complete(again)
    assert house.state(taken) == "completed"


def test_pull_deadline_never_fails_what_a_worker_holds(house: House, worker: Worker) -> None:
    """A deadline fails what nobody took, and parks what may have happened."""
    step = {**REVIEW, "deadline": "1h"}
    alone = house.run(step)
    house.advance(2 * HOUR)
    house.tick()
    row = house.step(alone, "review")
    assert (row.state, row.output["_error"]) == ("failed", "sla_deadline_breached")
    held = house.start()
    assert worker.poll()
    house.advance(2 * HOUR)
    house.tick()
    row = house.step(held, "review")
    assert (row.state, row.attention["reason"]) == ("parked", "outcome_unknown")


def test_pull_completion_during_a_pause_is_kept(house: House, worker: Worker) -> None:
    """A worker may end its task during a pause; nothing new is offered until the resume."""
    instance_id = house.run(REVIEW, {**REVIEW, "id": "second"})
    (task,) = worker.poll()
    house.signal(instance_id, "pause")
    worker.complete(task, {"ok": 1})
    assert house.state(instance_id) == "paused"
    assert house.step(instance_id, "review").state == "completed"
    assert worker.poll() == []
    house.advance(HOUR)
    assert worker.poll() == []
    house.signal(instance_id, "resume")
    (second,) = worker.poll()
    worker.complete(second)
    assert house.state(instance_id) == "completed"


def test_pull_cancel_waits_for_the_worker_that_has_it(house: House, worker: Worker) -> None:
    """An offered step ends at once; one that a worker holds is cancelled with its word."""
    offered = house.run(REVIEW)
    house.signal(offered, "cancel")
    assert house.state(offered) == "cancelled"
    assert worker.poll() == []
    held = house.start()
    (task,) = worker.poll()
    house.signal(held, "cancel")
    assert (house.state(held), house.instance(held).cancelling) == ("waiting", True)
    worker.fail(task, "stopped", retryable=True)
    assert house.state(held) == "cancelled"


def test_pull_step_that_cannot_be_rendered_fails_by_itself(house: House, worker: Worker) -> None:
    """A worker never sees a task without parameters; the others come."""
    bad = house.run({**REVIEW, "idempotency": {"key": "{{data.n}}"}}, data={"n": 5}, name="bad")
    good = house.run(REVIEW)
    assert [task.row.instance_id for task in worker.poll(5)] == [good]
    assert house.state(bad) == "failed"


def test_pull_task_belongs_to_its_tenant_and_worker(house: House, worker: Worker) -> None:
    """Another tenant does not find the task; another worker does not hold it."""
    house.run(REVIEW)
    (task,) = worker.poll()
    with pytest.raises(NotFound):
        worker.complete(task, tenant_id="other")
    with pytest.raises(LeaseLost):
        Worker(house, "w2").complete(task)
    worker.complete(task)
