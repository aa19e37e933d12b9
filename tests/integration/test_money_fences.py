"""Every way in which a charge can be sent asks for its fence, and counts when it is sent."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from orch8.engine.outcome import Answer, Verdict
from orch8.runtime import pull
from orch8.runtime.claim import claim
from orch8.runtime.preparing import Task
from orch8.runtime.run import Claimer
from orch8.runtime.settle import Deferral, Item, settle
from orch8.storage import fences
from orch8.testing.misbehaviour import Do
from tests.support.house import LANE, House

MINUTE = timedelta(minutes=1)
NOTIFY = {"type": "step", "handler": "notify", "effect": "none"}
MONEY = {"amount": 500, "currency": "eur", "instrument": "{{data.card}}", "network": "visa"}
IN_1 = {"invoice": "in_1", "card": "fp_1"}


def charge(name: str = "charge", fence: str = "{{data.invoice}}", **more: Any) -> dict[str, Any]:
    """A charge behind a fence; unanswered, it is tried again a long time later."""
    retry = {"max_attempts": 3, "backoff": "1d", "jitter": 0}
    return {
        "type": "step", "id": name, "handler": "charge", "effect": "money", "fence": fence,
        "money": MONEY, "retry": retry, **more,
    }  # fmt: skip


def take(house: House) -> list[Task]:
    """What a worker would call now: due steps are claimed, and not called."""
    worker_id = house.pump.lease.hold()
    with house.office.begin() as tx:
        return claim(house.office, tx, LANE, worker_id, 8)


def held(house: House) -> list[str]:
    """The fences that are taken."""
    with house.office.begin() as tx:
        return [row.fence for row in fences.held(tx, None)]


def counted(house: House) -> list[str | None]:
    """What became of each attempt that is counted against its card."""
    found = house.sql("SELECT verdict FROM network_attempts ORDER BY at")
    return [row.verdict for row in found if row.verdict != "void"]


def test_fence_is_free_as_soon_as_its_charge_has_ended(house: House) -> None:
    """Not only when its instance has: one that goes on for days holds up nobody."""
    wait = {"type": "wait", "id": "later", "delay": "30d"}
    first = house.run(charge(), wait, data=IN_1)
    assert house.step(first).state == "completed"
    assert held(house) == []
    second = house.start(IN_1)
    house.work()
    assert house.step(second).state == "completed"


def test_fence_stops_a_follow_up_too(house: House) -> None:
    """A charge that follows on another step in one commit waits like any other."""
    house.provider_does(Do.COMMIT_THEN_HANG_UP)
    house.run(charge(), data=IN_1)
    house.publish(NOTIFY, charge(), name="second")
    second = house.start(IN_1, name="second")
    (notify,) = take(house)
    worker_id = house.pump.lease.hold()
    with house.office.begin() as tx:
        sent = Item(notify, Answer(Verdict.SUCCEEDED, {}))
        settled = settle(house.office, tx, [sent], Claimer(worker_id, 8))
    assert settled.tasks == []
    row = house.step(second)
    assert (row.state, row.waits_for, row.dispatches) == ("scheduled", "fence", 0)
    assert house.state(second) == "scheduled"


def test_fence_stops_a_pull_worker_too(houses: Callable[..., House]) -> None:
    """A task behind a fence is not handed out, however often workers ask for one."""
    house = houses(handler_url="")
    house.publish(charge())
    first, second = house.start(IN_1), house.start(IN_1)
    given = poll(house)
    assert [task.row.instance_id for task in given] == [first]
    house.advance(MINUTE)
    assert poll(house) == []
    row = house.step(second)
    assert (row.waits_for, row.dispatches) == ("fence", 0)


def poll(house: House) -> list[pull.PullTask]:
    """What a pull worker is given."""
    with house.office.begin() as tx:
        return pull.poll(
            house.office, tx, tenant_id="default", handler="charge", worker_id="w", limit=5,
            queue=None,
        )  # fmt: skip


def test_fence_holds_back_the_other_branch_of_a_charge_in_doubt(house: House) -> None:
    """Being of the same instance is no reason to charge beside a charge that may have been made."""
    house.publish({"type": "parallel", "branches": [[charge("left")], [charge("right")]]})
    instance_id = house.start(IN_1)
    (one,) = take(house)
    with house.office.begin() as tx:
        settle(house.office, tx, [Item(one, Answer(Verdict.UNKNOWN))], None)
    house.advance(MINUTE)
    house.work()
    rows = house.steps(instance_id)
    other = rows["left" if one.row.node_key == "right" else "right"]
    assert rows[one.row.node_key].outcome == "unknown"
    assert (other.waits_for, other.dispatches) == ("fence", 0)
    assert house.totals()["asked"] == 0


def test_fence_of_one_step_is_not_freed_by_another(house: House) -> None:
    """A branch that has ended lets go of its own fence and of nobody else's."""
    house.provider_does(Do.COMMIT_THEN_HANG_UP)
    both = [[charge("left", "left-{{data.invoice}}")], [charge("right", "right-{{data.invoice}}")]]
    instance_id = house.run({"type": "parallel", "branches": both}, data=IN_1)
    rows = house.steps(instance_id)
    (doubtful,) = [key for key in ("left", "right") if rows[key].outcome == "unknown"]
    assert held(house) == [f"{doubtful}-in_1"]


def test_fence_of_another_tenant_is_another_fence(house: House) -> None:
    """Two tenants that call their invoices alike never wait for each other."""
    house.provider_does(Do.COMMIT_THEN_HANG_UP)
    house.run(charge(), data=IN_1)
    house.sql("UPDATE fences SET tenant_id = 'other'")
    mine = house.start(IN_1)
    house.work()
    assert house.state(mine) == "completed"


def test_charge_behind_a_fence_is_not_counted(house: House) -> None:
    """Card networks count what reaches them: of two charges, one of which waits, that is one."""
    house.provider_does(Do.COMMIT_THEN_HANG_UP)
    house.run(charge(), data=IN_1)
    second = house.start(IN_1)
    house.advance(MINUTE)
    house.work()
    assert house.step(second).waits_for == "fence"
    assert len(counted(house)) == 1


def test_charge_in_doubt_is_counted(house: House) -> None:
    """It may have reached the network, so it uses up what the network allows."""
    house.provider_does(Do.COMMIT_THEN_HANG_UP)
    instance_id = house.run(charge(), data=IN_1)
    assert house.step(instance_id).outcome == "unknown"
    assert counted(house) == ["unknown"]


def test_charge_that_was_given_back_is_not_counted(house: House) -> None:
    """A charge that its rate limit sends back to the queue has not reached any network."""
    house.publish(charge())
    instance_id = house.start(IN_1)
    (task,) = take(house)
    assert counted(house) == [None]  # from the claim on, since the claimer may die
    with house.office.begin() as tx:
        settle(house.office, tx, [Item(task, Deferral(60.0))], None)
    assert house.step(instance_id).dispatches == 0
    assert counted(house) == []
