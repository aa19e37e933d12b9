"""CONTRACT 14.4: of the instances with a concurrency key only so many run at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from tests.support.api import CHARGE, Api
from tests.support.desk import Desk, seated
from tests.support.house import House, until

KEY = {"concurrency_key": "customer-7", "max_concurrency": 1}
FUTURE = "2999-01-01T00:00:00Z"
WAITING = {"id": "waiting", "blocks": [{"type": "wait_signal", "signal": "paid"}]}
FAILING = {
    "id": "failing",
    "blocks": [
        {"type": "step", "id": "no", "handler": "fail"},
    ],
}


def sleeper(ms: int) -> Any:
    """A sequence that sleeps so long."""
    step = {"type": "step", "id": "nap", "handler": "sleep", "params": {"duration_ms": ms}}
    return {"id": f"sleeps_{ms}", "blocks": [step]}


def started(desk: Desk, definition: Any = WAITING, count: int = 1, **members: Any) -> list[Any]:
    """New instances of one key, in their order."""
    return [desk.api.started(definition, **(KEY | members)) for _ in range(count)]


def states(desk: Desk, instances: list[Any]) -> list[str]:
    """What each of them shows."""
    return [desk.read(each)["state"] for each in instances]


def tell(desk: Desk, instance: Any, signal: Any) -> None:
    """The signal is sent, and all that follows is done."""
    desk.api.post(f"/instances/{instance['id']}/signals", {"signal_type": signal})
    desk.house.work()


@contextmanager
def at_work(desk: Desk) -> Iterator[None]:
    """Meanwhile a pump works in another thread."""
    ends = threading.Event()

    def work() -> None:
        while not ends.is_set():
            desk.house.work()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join(20)


def most_at_once(desk: Desk, count: int) -> int:
    """How many instances were shown as running at most, until all of them completed."""
    most, done = 0, 0
    deadline = time.monotonic() + 20
    while done < count:
        assert time.monotonic() < deadline
        sql = "SELECT state, count(*) FROM instances GROUP BY state"
        found = dict(desk.api.rows(sql))
        most, done = max(most, found.get("running", 0)), found.get("completed", 0)
    return most


def test_one_at_a_time_runs(desk: Desk) -> None:
    """Never more than one is shown as running, and all of them complete."""
    started(desk, sleeper(200), 3)
    with at_work(desk):
        assert most_at_once(desk, 3) == 1


def test_two_at_a_time_run(desk: Desk) -> None:
    """Of many, and all of them complete."""
    started(desk, sleeper(30), 12, max_concurrency=2)
    with at_work(desk):
        assert most_at_once(desk, 12) == 2


def test_instance_that_waits_keeps_its_place(desk: Desk) -> None:
    """From its first step to its end, whatever it waits for: the next one is not begun before."""
    first, second = started(desk, count=2)
    desk.house.work()
    assert states(desk, [first, second]) == ["waiting", "scheduled"]
    tell(desk, first, {"custom": "paid"})
    assert states(desk, [first, second]) == ["completed", "waiting"]


def test_instance_that_waits_for_a_worker_keeps_its_place(houses: Callable[..., House]) -> None:
    """A worker gets the next task of a key when the one before is done."""
    with seated(houses(handler_url="")) as desk:
        instances = started(desk, CHARGE, 3)
        body = {"handler_name": "charge", "worker_id": "w", "limit": 9}
        for place, each in enumerate(instances):
            (task,) = desk.api.post("/workers/tasks/poll", body, status=200)
            assert task["instance_id"] == each["id"]
            assert desk.api.post("/workers/tasks/poll", body, status=200) == []
            done = {"worker_id": "w", "claim_epoch": task["claim_epoch"], "output": {}}
            desk.api.post(f"/workers/tasks/{task['id']}/complete", done, status=200)
            assert states(desk, instances[: place + 1]) == ["completed"] * (place + 1)


def test_time_in_line_is_none_of_a_tasks_time(houses: Callable[..., House]) -> None:
    """What is offered to workers for an hour is offered from when it has its place."""
    with seated(houses(handler_url="")) as desk:
        step = {**CHARGE["blocks"][0], "timeout": "1h", "effect": "none"}
        first, second = started(desk, {"id": "offered", "blocks": [step]}, 2)
        body = {"handler_name": "charge", "worker_id": "w", "limit": 9}
        (task,) = desk.api.post("/workers/tasks/poll", body, status=200)
        desk.house.advance(timedelta(minutes=50))
        done = {"worker_id": "w", "claim_epoch": task["claim_epoch"], "output": {}}
        desk.api.post(f"/workers/tasks/{task['id']}/complete", done, status=200)
        desk.house.advance(timedelta(minutes=50))
        desk.house.tick()
        assert (states(desk, [first]), desk.read(second)["error"]) == (["completed"], None)
        desk.house.advance(timedelta(minutes=20))
        desk.house.tick()
        assert desk.read(second)["error"]["code"] == "timeout"


def test_task_in_line_is_sent_when_its_handler_has_an_address(
    houses: Callable[..., House],
) -> None:
    """It was offered to workers when it came to stand there."""
    with seated(houses(handler_url="", allow_internal_urls=True)) as desk:
        first, second = started(desk, CHARGE, 2)
        body = {"handler_name": "charge", "worker_id": "w", "limit": 9}
        (task,) = desk.api.post("/workers/tasks/poll", body, status=200)
        assert desk.api.post("/workers/tasks/poll", body, status=200) == []
        url = f"{desk.house.provider.url}/charge"
        assert desk.api.send("PUT", "/handlers/charge", {"url": url}).status_code in {200, 201}
        done = {"worker_id": "w", "claim_epoch": task["claim_epoch"], "output": {}}
        desk.api.post(f"/workers/tasks/{task['id']}/complete", done, status=200)
        desk.house.office.routes.forget()
        desk.house.work()
        assert states(desk, [first, second]) == ["completed", "completed"]
        assert desk.house.totals()["charged"] == 1


def test_line_is_in_the_order_of_creation(desk: Desk) -> None:
    """Strictly, however they come to be asked."""
    instances = started(desk, count=4)
    desk.house.work()
    for place, each in enumerate(instances):
        waits = ["completed"] * place + ["waiting"] + ["scheduled"] * (3 - place)
        assert states(desk, instances) == waits
        tell(desk, each, {"custom": "paid"})


def test_instance_that_begins_later_has_no_place_yet(desk: Desk) -> None:
    """Its first step takes it, not its creation."""
    (later,) = started(desk, next_fire_at=FUTURE)
    (now,) = started(desk)
    desk.house.work()
    assert states(desk, [later, now]) == ["scheduled", "waiting"]


def test_instance_that_fails_or_is_cancelled_gives_its_place_back(desk: Desk) -> None:
    """Whatever its end is."""
    failing = started(desk, FAILING)
    first, second, third = started(desk, count=3)
    desk.house.work()
    assert states(desk, [*failing, first, second]) == ["failed", "waiting", "scheduled"]
    tell(desk, first, "cancel")
    assert states(desk, [first, second, third]) == ["cancelled", "waiting", "scheduled"]


def test_every_step_of_an_instance_goes_on_with_its_place(desk: Desk) -> None:
    """Also those that came to stand in line before the one that asked last."""
    later = {"type": "step", "id": "later", "handler": "noop", "delay": {"duration": 3_600_000}}
    now = {"type": "step", "id": "now", "handler": "noop"}
    parallel = {"type": "parallel", "id": "p", "branches": [[now], [later]]}
    (first,) = started(desk)
    (second,) = started(desk, {"id": "two", "blocks": [parallel]})
    desk.house.work()
    with locked(desk, second):
        tell(desk, first, {"custom": "paid"})
    assert states(desk, [first, second]) == ["completed", "scheduled"]
    desk.house.advance(timedelta(hours=1))
    desk.house.work()
    assert states(desk, [second]) == ["completed"]


def test_instance_in_line_can_be_cancelled(desk: Desk) -> None:
    """At once, and those behind it move up."""
    first, second, third = started(desk, count=3)
    desk.house.work()
    tell(desk, second, "cancel")
    assert states(desk, [first, second, third]) == ["waiting", "cancelled", "scheduled"]
    tell(desk, first, {"custom": "paid"})
    assert states(desk, [third]) == ["waiting"]


def test_instance_in_line_that_is_paused_holds_up_nobody(desk: Desk) -> None:
    """Resumed, it has the place in line that its creation gave it."""
    first, second, third, fourth = started(desk, count=4)
    desk.house.work()
    tell(desk, second, "pause")
    assert states(desk, [second]) == ["paused"]
    tell(desk, first, {"custom": "paid"})
    assert states(desk, [second, third, fourth]) == ["paused", "waiting", "scheduled"]
    tell(desk, second, "resume")
    assert states(desk, [second, third, fourth]) == ["scheduled", "waiting", "scheduled"]
    tell(desk, third, {"custom": "paid"})
    assert states(desk, [second, third, fourth]) == ["waiting", "completed", "scheduled"]


def test_instance_that_is_paused_with_its_place_keeps_it(desk: Desk) -> None:
    """What it began may be half done."""
    first, second = started(desk, count=2)
    desk.house.work()
    tell(desk, first, "pause")
    assert states(desk, [first, second]) == ["paused", "scheduled"]


def test_retry_stands_in_line_again(desk: Desk) -> None:
    """A failed instance has given its place back."""
    (failed,) = started(desk, FAILING)
    desk.house.work()
    (running,) = started(desk)
    desk.house.work()
    desk.api.post(f"/instances/{failed['id']}/retry", status=200)
    desk.house.work()
    assert states(desk, [failed, running]) == ["scheduled", "waiting"]
    tell(desk, running, {"custom": "paid"})
    assert states(desk, [failed]) == ["failed"]
    assert desk.read(failed)["round"] == 2


def test_bound_is_the_instances_own(desk: Desk) -> None:
    """Of instances with one key each goes by its own bound; nobody overtakes."""
    (first,) = started(desk)
    (second,) = started(desk, max_concurrency=2)
    (third,) = started(desk, max_concurrency=1)
    (fourth,) = started(desk, max_concurrency=9)
    desk.house.work()
    found = states(desk, [first, second, third, fourth])
    assert found == ["waiting", "waiting", "scheduled", "scheduled"]
    tell(desk, first, {"custom": "paid"})
    assert states(desk, [third, fourth]) == ["scheduled", "scheduled"]
    tell(desk, second, {"custom": "paid"})
    assert states(desk, [third, fourth]) == ["waiting", "waiting"]


def test_key_without_a_bound_bounds_nothing(desk: Desk) -> None:
    """It counts for those that have one."""
    free = started(desk, count=2, max_concurrency=None)
    (bound,) = started(desk, max_concurrency=2)
    desk.house.work()
    assert states(desk, [*free, bound]) == ["waiting", "waiting", "scheduled"]
    assert "max_concurrency" not in free[0]


def test_keys_and_tenants_have_nothing_to_do_with_each_other(desk: Desk) -> None:
    """Each key of each tenant has its own places."""
    (first,) = started(desk)
    (second,) = started(desk, concurrency_key="customer-8")
    headers = {"X-Tenant-Id": "other"}
    desk.api.post("/sequences", WAITING, headers=headers)
    third = desk.api.post("/sequences/waiting/instances", KEY, headers=headers)
    desk.house.work()
    assert states(desk, [first, second, third]) == ["waiting"] * 3


def test_children_need_no_place(desk: Desk) -> None:
    """Or a parent would wait for its own child."""
    desk.api.post("/sequences", {"id": "child", "blocks": [{"type": "step", "handler": "noop"}]})
    calls = {"type": "sub_sequence", "id": "sub", "sequence_name": "child"}
    (parent,) = started(desk, {"id": "parent", "blocks": [calls]})
    desk.house.work()
    assert states(desk, [parent]) == ["completed"]
    (child,) = desk.api.get(f"/instances/{parent['id']}/children")
    assert "concurrency_key" not in child


def test_members_are_shown_if_they_were_given(desk: Desk) -> None:
    """And left out if not."""
    (one,) = started(desk)
    assert (one["concurrency_key"], one["max_concurrency"]) == ("customer-7", 1)
    assert desk.read(one)["concurrency_key"] == "customer-7"
    plain = desk.api.started(CHARGE)
    assert plain.keys().isdisjoint({"concurrency_key", "max_concurrency", "budget", "terms"})


@pytest.mark.parametrize(
    ("members", "status"),
    [
        ({"max_concurrency": 0}, 400),
        ({"max_concurrency": "2"}, 422),
        ({"concurrency_key": " "}, 400),
        ({"concurrency_key": 7}, 422),
    ],
)
def test_wrong_members_are_refused(api: Api, members: Any, status: int) -> None:
    """A bound of 0 would let nobody run."""
    api.post("/sequences", CHARGE)
    api.refused(status, "POST", "/sequences/charge_once/instances", KEY | members)


def test_batch_of_one_key_runs_one_after_the_other(desk: Desk) -> None:
    """In the order in which they stand in it."""
    sequence = desk.api.post("/sequences", WAITING)
    body = {"sequence_id": sequence["id"], "tenant_id": "default", "namespace": "default"} | KEY
    given = [body | {"metadata": {"n": str(n)}} for n in range(3)]
    desk.api.post("/instances/batch", {"instances": given})
    desk.house.work()
    for n in range(3):
        (waiting,) = desk.api.get("/instances?state=waiting")["items"]
        assert waiting["metadata"] == {"n": str(n)}
        tell(desk, waiting, {"custom": "paid"})
    assert len(desk.api.get("/instances?state=completed")["items"]) == 3


def test_same_key_with_another_bound_is_another_request(desk: Desk) -> None:
    """Of an idempotency key, on the route of a sequence's name."""
    (first,) = started(desk, idempotency_key="k")
    path = "/sequences/waiting/instances"
    again = desk.api.post(path, KEY | {"idempotency_key": "k"}, status=200)
    assert again["id"] == first["id"]
    desk.api.refused(422, "POST", path, KEY | {"idempotency_key": "k", "max_concurrency": 2})


def test_doctor_says_whom_it_waits_for(desk: Desk) -> None:
    """The key, how many are under way and how many come before."""
    instances = started(desk, count=3)
    desk.house.work()
    (found,) = desk.api.get(f"/instances/{instances[2]['id']}/diagnosis")["diagnoses"]
    assert found["code"] == "WAITING_PLACE"
    assert "'customer-7'" in found["summary"]
    data = found["evidence"][0]["data"]
    assert (data["under_way"], data["ahead"], data["most"]) == (1, 1, 1)


def test_deadline_counts_from_the_place(desk: Desk) -> None:
    """Standing in line is none of the step's own time."""
    params = {"signal": "paid"}
    step = {"type": "step", "handler": "wait_signal", "params": params, "deadline": "1h"}
    first, second = started(desk, {"id": "short", "blocks": [step]}, 2)
    desk.house.work()
    tell(desk, first, {"custom": "nothing"})
    desk.house.advance(timedelta(minutes=50))
    tell(desk, first, {"custom": "paid"})
    desk.house.advance(timedelta(minutes=50))
    tell(desk, second, {"custom": "paid"})
    assert states(desk, [first, second]) == ["completed", "completed"]


def test_place_that_could_not_be_passed_on_is_given_by_the_tick(desk: Desk) -> None:
    """Such as when the next in line was being changed just then: nobody waits for ever."""
    first, second = started(desk, count=2)
    desk.house.work()
    with locked(desk, second):
        tell(desk, first, {"custom": "paid"})
        assert states(desk, [first, second]) == ["completed", "scheduled"]
    desk.house.tick()
    desk.house.work()
    assert states(desk, [second]) == ["waiting"]


@contextmanager
def locked(desk: Desk, instance: Any) -> Iterator[None]:
    """Somebody is changing the steps of an instance meanwhile."""
    with desk.house.office.begin() as tx:
        tx.rows("SELECT 1 FROM steps WHERE instance_id = %(id)s FOR UPDATE", {"id": instance["id"]})
        yield


def test_crowd_of_one_key_shares_its_places_among_pumps(desk: Desk) -> None:
    """Pumps that claim at the same moment never let one too many run."""
    started(desk, sleeper(20), 20, max_concurrency=3)
    pumps = [desk.house.another_pump() for _ in range(3)]
    ends = threading.Event()
    works: list[Callable[[], None]] = [
        lambda pump=pump: [pump.work("renewal") for _ in iter(ends.is_set, True)]  # type: ignore[misc]
        for pump in pumps
    ]
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    try:
        assert most_at_once(desk, 20) <= 3
    finally:
        ends.set()
        for thread in threads:
            thread.join(20)
    until(lambda: desk.api.rows("SELECT count(*) FROM places") == [(0,)])
