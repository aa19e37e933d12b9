"""From outside: pull workers, their leases, breakers and effects."""

from __future__ import annotations

import pytest

from tests.outside.caller import Caller, block, step

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("stack")]

RETRY = {"max_attempts": 3, "initial_backoff": 10, "max_backoff": 50}


def test_task_is_polled_completed_and_its_output_merged(caller: Caller) -> None:
    """The worker sees resolved parameters; the instance gets the output's members as data."""
    handler = f"h-{caller.tenant}"
    instance = caller.run(
        step("work", handler, params={"n": "{{context.data.n}}"}),
        step("say", "log", params={"message": "{{context.data.sum}}"}), n=2,
    )  # fmt: skip
    task = caller.poll(handler)
    assert (task["params"], task["attempt"], task["claim_epoch"]) == ({"n": 2}, 0, 1)
    assert (task["instance_id"], task["block_id"], task["state"]) == (instance, "work", "claimed")
    assert caller.instance(instance)["state"] == "waiting"
    assert caller.complete(task, {"sum": 5}).status == 200
    shown = caller.ended(instance)
    assert shown["state"] == "completed"
    assert shown["context"]["data"] == {"n": 2, "sum": 5}
    assert caller.outputs(instance, "say") == [{"message": 5}]


def test_lease_is_fenced(caller: Caller) -> None:
    """Another worker, another epoch, another task: refused, and the claim stays."""
    handler = f"h-{caller.tenant}"
    instance = caller.run(step("work", handler))
    task = caller.poll(handler)
    assert caller.complete(task, {}, worker="thief").status == 409
    stale = caller.complete({**task, "claim_epoch": 9}, {})
    assert stale.status == 409
    assert "lease changed" in stale.body["error"]
    missing = {"worker_id": "w1", "claim_epoch": 1, "output": {}}
    unknown = "/workers/tasks/00000000-0000-7000-8000-000000000000/complete"
    assert caller.send("POST", unknown, missing).status == 404
    assert caller.complete(task, {}).status == 200
    assert caller.ended(instance)["state"] == "completed"


def test_silent_worker_loses_its_task_and_what_it_had_noted_is_kept(caller: Caller) -> None:
    """The same task comes back under the next epoch with the checkpoint; the old one is refused."""
    handler = f"h-{caller.tenant}"
    instance = caller.run(step("work", handler))
    task = caller.poll(handler)
    beat = {
        "worker_id": "w1", "claim_epoch": task["claim_epoch"], "checkpoint": {"at": 3},
        "checkpoint_seq": 0,
    }  # fmt: skip
    path = f"/workers/tasks/{task['id']}"
    assert caller.post(f"{path}/heartbeat", beat)["checkpoint_seq"] == 1
    again = caller.poll(handler, "w2")
    assert again["id"] == task["id"]
    assert again["claim_epoch"] == task["claim_epoch"] + 1
    assert again["resume_checkpoint"] == {"at": 3}
    assert caller.complete(task, {}).status == 409
    assert caller.complete(again, {}, worker="w2").status == 200
    assert caller.ended(instance)["state"] == "completed"
    events = [each["event"] for each in caller.get(f"{path}/attempts")]
    wanted = ["claimed", "reclaimed", "claimed", "stale_mutation_rejected", "completed"]
    assert events in (wanted, wanted[::-1])


def test_retryable_failures_are_tried_as_often_as_they_may(caller: Caller) -> None:
    """Three executions in all, then the instance is failed and among the dead letters."""
    handler = f"h-{caller.tenant}"
    instance = caller.run(step("work", handler, retry=RETRY))
    for attempt in range(3):
        task = caller.poll(handler)
        assert task["attempt"] == attempt
        assert caller.fail(task, retryable=True).status == 200
    assert caller.ended(instance)["state"] == "failed"
    dead = caller.get(f"/instances/dlq?tenant_id={caller.tenant}")
    assert [d["id"] for d in dead] == [instance]


def test_failure_that_is_final_can_be_caught(caller: Caller) -> None:
    """Inside try, it leads to the catch."""
    handler = f"h-{caller.tenant}"
    instance = caller.run(
        block("try_catch", "t", try_block=[step("work", handler)], catch_block=[step("caught")])
    )
    caller.fail(caller.poll(handler), retryable=False)
    assert caller.ended(instance)["state"] == "completed"
    assert caller.outputs(instance, "caught") == [{}]


def test_branches_offer_their_tasks_at_once(caller: Caller) -> None:
    """Both can be polled before either is done."""
    handler = f"h-{caller.tenant}"
    instance = caller.run(
        block("parallel", "p", branches=[[step("l", handler)], [step("r", handler)]])
    )
    tasks = [caller.poll(handler), caller.poll(handler)]
    assert {t["block_id"] for t in tasks} == {"l", "r"}
    for task in tasks:
        caller.complete(task, {})
    assert caller.ended(instance)["state"] == "completed"


def test_queue_has_its_own_poll(caller: Caller) -> None:
    """A queue's task is for who asks for the queue."""
    handler = f"h-{caller.tenant}"
    instance = caller.run(step("work", handler, queue_name="gold"))
    body = {"queue_name": "gold", "handler_name": handler, "worker_id": "w1"}
    (task,) = caller.until(
        lambda: caller.post("/workers/tasks/poll/queue", body), "the task is there"
    )
    assert task["queue_name"] == "gold"
    caller.complete(task, None)
    caller.ended(instance, "completed")


def test_breaker_counts_opens_and_is_reset(caller: Caller) -> None:
    """Not known before a dispatch; closed with one after one failure; open after five."""
    handler = f"h-{caller.tenant}"
    path = f"/tenants/{caller.tenant}/circuit-breakers/{handler}"
    assert caller.send("GET", path).status == 404
    for failures in range(1, 6):
        instance = caller.run(step("work", handler))
        caller.fail(caller.poll(handler), retryable=False)
        caller.ended(instance, "failed")
        shown = caller.get(path)
        assert shown["failure_count"] == failures
        assert shown["state"] == ("open" if failures == 5 else "closed")
    assert shown["failure_threshold"] == 5
    assert shown["opened_at"]
    assert caller.send("POST", f"{path}/reset").status == 200
    shown = caller.get(path)
    assert (shown["state"], shown["failure_count"]) == ("closed", 0)


def test_statistics_and_registry_know_the_worker(caller: Caller) -> None:
    """Who polled is listed with what it handles; tasks are counted by state and handler."""
    handler = f"h-{caller.tenant}"
    instance = caller.run(step("work", handler))
    caller.complete(caller.poll(handler, f"w-{caller.tenant}"), {}, worker=f"w-{caller.tenant}")
    caller.ended(instance, "completed")
    assert handler in caller.get("/handlers")["external"]
    workers = {w["worker_id"]: w for w in caller.get("/workers?include_stale=true")}
    assert handler in workers[f"w-{caller.tenant}"]["handlers"]
    stats = caller.get("/workers/tasks/stats")
    assert {"by_state", "by_handler", "active_workers"} <= set(stats)
    listed = caller.get(f"/workers/tasks?tenant_id={caller.tenant}&state=completed")
    assert [t["instance_id"] for t in listed] == [instance]
