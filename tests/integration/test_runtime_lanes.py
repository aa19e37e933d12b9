"""Lanes and tenants on real servers: backlogs do not delay customers, nor one tenant another."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import timedelta
from uuid import UUID

import pytest

from orch8.engine.outcome import Answer, Verdict
from orch8.handlers.request import StepRequest
from orch8.runtime.low_water import SELDOM, LowWater
from orch8.runtime.pump import Pump
from orch8.runtime.turns import Turns
from orch8.storage import queues, steps
from tests.support.house import LANE, House, until

LIMIT = {"max": 20, "window_seconds": 0.5}
CALL = {"type": "step", "handler": "call"}


class Calls:
    """A handler that knows who called in which order, and holds calls until their door opens."""

    def __init__(self, house: House) -> None:
        self.order: list[str] = []
        self.doors: dict[str, threading.Event] = {}
        house.handler("call", self)

    def __call__(self, request: StepRequest) -> dict[str, object]:
        who = request.context["data"]["who"]
        self.order.append(who)
        door = self.doors.get(who)
        assert door is None or door.wait(30)
        return {}


@pytest.fixture
def calls(house: House) -> Calls:
    """The limiter's server is known, and the sequence of one call published."""
    made = Calls(house)
    warm = {**CALL, "rate_limit_key": "warm", "rate_limit": LIMIT}
    house.run(warm, name="warm", data={"who": "warm"})
    house.publish(CALL)
    return made


def working(pump: Pump, *lanes: str) -> threading.Thread:
    """The pump works on these lanes, the first of them in a thread of its own."""
    thread = threading.Thread(target=pump.work, args=(lanes[0],))
    thread.start()
    until(lambda: not pump._idle.is_set())
    for lane in lanes[1:]:
        pump.work(lane)
    return thread


def start_many(house: House, count: int, who: str, **more: object) -> list[UUID]:
    return [house.start({"who": who}, **more) for _ in range(count)]


# -- slots ---------------------------------------------------------------------------------------
def test_customer_has_the_first_slot_that_becomes_free(house: House, calls: Calls) -> None:
    """Renewals have borrowed every slot; one of their calls ends, and it is the customer's."""
    doors = calls.doors = {f"r{n}": threading.Event() for n in range(8)}
    for who in doors:
        house.start({"who": who})
    start_many(house, 40, "renewal")
    thread = working(house.pump, LANE)
    until(lambda: len(calls.order) == 9)  # with that of the warm-up
    customer = house.start({"who": "customer"}, lane="interactive")
    house.pump.work("interactive")
    assert calls.order[-1] != "customer"
    doors["r3"].set()
    until(lambda: house.state(customer) == "completed")
    assert calls.order[9] == "customer"
    for door in doors.values():
        door.set()
    thread.join(30)
    assert Counter(calls.order)["renewal"] == 40


def test_follow_ups_of_a_long_chain_leave_a_slot_to_a_customer(house: House, calls: Calls) -> None:
    """Chains of renewals go on inline without a look at the queue, but not past who is owed."""
    house.publish(*[{**CALL, "id": f"s{n}"} for n in range(40)], name="chain")
    start_many(house, 8, "chain", name="chain")
    thread = working(house.pump, LANE)
    until(lambda: len(calls.order) > 20)
    house.start({"who": "customer"}, lane="interactive")
    house.pump.work("interactive")
    before = len(calls.order)
    until(lambda: "customer" in calls.order)
    assert calls.order.index("customer") < before + 100  # of three hundred that are to come
    thread.join(30)
    assert Counter(calls.order)["chain"] == 8 * 40


def test_lanes_with_backlogs_share_the_slots_of_a_process(house: House, calls: Calls) -> None:
    """Seven slots are free: the renewals' reserve is three, one is each other's, and the one that
    is nobody's goes to a customer.
    """
    lanes = {"interactive": 2, LANE: 3, "bulk": 1, "backfill": 1}
    doors = calls.doors = {lane: threading.Event() for lane in lanes}
    for lane in lanes:
        start_many(house, 20, lane, lane=lane)
    doors["first"] = threading.Event()
    house.start({"who": "first"}, lane="elsewhere")
    pump = house.another_pump()
    thread = working(pump, "elsewhere")
    until(lambda: calls.order[-1] == "first")
    pump._lanes.update(dict.fromkeys(lanes))  # all at once, whatever the pump is doing
    pump.work("elsewhere")
    until(lambda: len(calls.order) == 2 + 7)
    assert Counter(calls.order[2:]) == lanes
    for door in doors.values():
        door.set()
    thread.join(30)
    assert Counter(calls.order[2:]) == dict.fromkeys(lanes, 20)


def test_step_that_has_waited_is_known_by_its_age(house: House, calls: Calls) -> None:
    """Due steps are counted by lane and by minutes of waiting; what is not due does not count."""
    ids = start_many(house, 5, "x") + start_many(house, 2, "x", lane="bulk")
    ages = (0, 61, 125, 3600, -60, 0, 70)
    for each, age in zip(ids, ages, strict=True):
        house.sql(
            "UPDATE steps SET due_at = now() - %s * interval '1 second' WHERE instance_id = %s",
            age, each,
        )  # fmt: skip
    with house.office.begin() as tx:
        turns = Turns()
        found = turns.waiting(tx, [LANE, "bulk", "backfill"], 100)
        assert found == {LANE: [1, 1, 1, 1], "bulk": [1, 1, 0, 0]}
        assert turns.waiting(tx, [LANE], 2) == {LANE: [0, 0, 1, 1]}


# -- tenants -------------------------------------------------------------------------------------
def tenants(rows: list[steps.StepRow]) -> Counter[str]:
    return Counter(row.tenant_id for row in rows)


def crowd(house: House, **counts: int) -> None:
    """So many due steps of each tenant, in the order of the names given."""
    for tenant, count in counts.items():
        ids = start_many(house, count, tenant)
        for table, column in (
            ("steps", "instance_id"),
            ("instances", "id"),
            ("contexts", "instance_id"),
        ):
            house.sql(f"UPDATE {table} SET tenant_id = %s WHERE {column} = ANY(%s)", tenant, ids)


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_tenants_take_turns_behind_a_giants_backlog(house: House, calls: Calls) -> None:
    """A claim that leaves others due is followed by one in which everybody has a turn."""
    crowd(house, giant=60, small=3, other=9)
    turns = Turns(clock=Clock())
    taken = []
    for _ in range(4):
        with house.office.begin() as tx:
            rows = turns.take(tx, LANE, 10)
            taken.append(tenants(rows))
            steps.mark_claimed(tx, [_claimed(row) for row in rows])
    assert taken[0] == {"giant": 10}  # the longest due: nobody knows of the others yet
    assert taken[1]["small"] == 3
    assert taken[2].keys() == {"giant", "other"}
    assert sum(taken[1:], Counter()) == {"giant": 18, "small": 3, "other": 9}


def test_tenants_turns_follow_their_weights(house: House, calls: Calls) -> None:
    """Three times the weight, three times the steps."""
    crowd(house, giant=60, heavy=60)
    turns = Turns({"heavy": 3.0}, clock=Clock())
    with house.office.begin() as tx:
        turns.take(tx, LANE, 8)
        assert tenants(turns.take(tx, LANE, 40)) == {"giant": 10, "heavy": 30}


def test_lone_tenant_is_looked_at_twice_a_second_only(house: House, calls: Calls) -> None:
    """In a backlog of one tenant a claim is one statement; in half a second others are seen."""
    crowd(house, giant=60)
    clock = Clock()
    turns = Turns(clock=clock)
    with house.office.begin() as tx:
        for _ in range(3):
            turns.take(tx, LANE, 8)
    crowd(house, small=2)
    with house.office.begin() as tx:
        assert tenants(turns.take(tx, LANE, 8)) == {"giant": 8}
        clock.now += 0.5
        assert tenants(turns.take(tx, LANE, 8)) == {"giant": 6, "small": 2}


def test_look_at_tenants_goes_on_where_it_ended(house: House, calls: Calls) -> None:
    """However many tenants there are: a bounded number at a time, those without due steps at 0."""
    crowd(house, a=2, b=1, c=5, d=1)
    house.sql("UPDATE steps SET due_at = now() + interval '1 day' WHERE tenant_id = 'b'")
    with house.office.begin() as tx:
        first = queues.tenants(tx, LANE, after="", visits=3, most=4)
        assert [(row.tenant_id, row.due) for row in first] == [("a", 2), ("b", 0), ("c", 4)]
        rest = queues.tenants(tx, LANE, after="c", visits=3, most=4)
        assert [(row.tenant_id, row.due) for row in rest] == [("d", 1)]


def test_costly_looks_begin_above_what_is_gone_and_miss_nothing_for_long(
    house: House, calls: Calls
) -> None:
    """What comes to lie below the mark is claimed by the next whole look, by each way of taking."""
    ids = start_many(house, 3, "x")
    clock = Clock()
    water = LowWater(clock=clock)
    turns = Turns(low_water=water)
    lower = "UPDATE steps SET due_at = due_at - interval '1 hour' WHERE instance_id = %s"

    def looks() -> tuple[int, int, bool]:
        """What a count, a claim (given back) and a question for the next due step come to."""
        with house.office.database.begin() as tx:
            counted = turns.waiting(tx, [LANE], 10)
            rows = turns.take(tx, LANE, 10)
            near = turns.next_due(tx, [LANE])
        late = near.now - near.at > timedelta(minutes=30)
        return sum(counted.get(LANE, [])), len(rows), late

    assert looks() == (3, 3, False)
    with water.look(LANE):
        clock.now += 1.0  # a costly one
    house.sql(lower, ids[0])
    assert looks() == (2, 2, False)
    clock.now += SELDOM
    assert looks() == (3, 3, True)


def test_pump_serves_a_small_tenant_beside_a_giant(house: House, calls: Calls) -> None:
    """Five steps behind a hundred of another's are called among the next twenty or so."""
    crowd(house, giant=100, small=5)
    house.work()
    order = calls.order[1:]
    assert len(order) == 105
    assert max(place for place, who in enumerate(order) if who == "small") < 40


def _claimed(row: steps.StepRow) -> steps.StepRow:
    row.due_at, row.state = None, "running"
    return row


# -- rate limits ---------------------------------------------------------------------------------
def test_customer_does_not_wait_behind_a_backlog_of_the_same_key(
    house: House, calls: Calls
) -> None:
    """A hundred and fifty renewals queue for a key; each customer who comes passes them, and no
    step is sent back more than twice.
    """
    limited = {**CALL, "rate_limit_key": "acquirer", "rate_limit": LIMIT}
    house.publish(limited, name="limited")
    backlog = start_many(house, 150, "renewal", name="limited")
    thread = working(house.pump, LANE, "interactive")
    other = working(house.another_pump(), LANE, "interactive")
    until(lambda: len(calls.order) > 25)
    passed = []
    for _ in range(4):
        at = len(calls.order)
        customer = house.start({"who": "customer"}, name="limited", lane="interactive")
        house.pump.work("interactive")
        until(lambda each=customer: house.state(each) == "completed")
        passed.append(calls.order.index("customer", at) - at)
        assert house.step(customer, "call").deferrals == 0
    assert Counter(house.state(each) for each in backlog)["completed"] < 150
    assert max(passed) <= 20  # what one window holds
    until(lambda: house.tick() and {house.state(each) for each in backlog} == {"completed"})
    for each in (thread, other):
        each.join(30)
    rows = [house.step(each, "call") for each in backlog]
    assert max(row.deferrals for row in rows) <= 2
    assert sum(row.deferrals for row in rows) <= 150 * 1.5
    # Claimed once more than sent back, but for calls that a busy machine was late with.
    assert sum(row.epoch - row.deferrals - 1 for row in rows) <= 15
    assert all(house.actions(each).count("step.deferred") <= 1 for each in backlog)


def test_lines_of_a_key_are_told_apart_by_lane_and_age(house: House, calls: Calls) -> None:
    """Each lane has its own line; who is admitted, paused or gone does not wait in it."""
    ids = start_many(house, 4, "x") + start_many(house, 2, "x", lane="bulk")
    house.sql(
        """UPDATE steps SET limit_key = 'acquirer', queued_at = now(), due_at = NULL,
           progress = '{"limit": ["acquirer", 5, 1.0]}'"""
    )
    late = "UPDATE steps SET queued_at = now() - interval '65 seconds' WHERE instance_id = %s"
    house.sql(late, ids[0])
    house.sql("UPDATE steps SET due_at = now() WHERE instance_id = %s", ids[1])
    house.signal(ids[2], "pause")
    with house.office.begin() as tx:
        bulk, renewal = queues.lines(tx, [("default", "acquirer")], age=60.0, ages=4)
        assert (renewal.lane, renewal.admitted, renewal.waiting) == (LANE, 1, [1, 1, 0, 0])
        assert (bulk.lane, bulk.admitted, bulk.waiting) == ("bulk", 0, [2, 0, 0, 0])
        rows = queues.next_in_line(tx, {("default", "acquirer", "bulk"): 5})
        assert queues.admit(tx, [(row, renewal.now) for row in rows]) == 2
        assert queues.queue_state(tx, "default", "acquirer").admitted == 3


def test_answer_of_one_lane_is_counted_where_it_was_taken(house: House, calls: Calls) -> None:
    """After everything is done no slot is in use, in any lane."""
    house.handler("call", lambda _: Answer(Verdict.SUCCEEDED, {}))
    for lane in ("interactive", LANE, "bulk"):
        start_many(house, 12, "x", lane=lane)
    thread = working(house.pump, LANE, "interactive", "bulk")
    thread.join(30)
    assert +house.pump._slots._busy == Counter()
    assert min(house.pump._slots._busy.values()) == 0
