"""Errands: what one instance tells another after its commit is told once, whatever is lost."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any
from uuid import UUID

from orch8.errors import Unavailable
from orch8.runtime.errand import RECHECK, Errand
from orch8.runtime.signal import run_errand
from tests.support.house import LANE, House

WAIT = {"type": "wait_signal", "id": "paid", "signal": "paid"}


def sends(to: UUID, kind: Any) -> dict[str, Any]:
    """A step that sends a signal."""
    params = {"instance_id": str(to), "signal_type": kind, "payload": {"n": 1}}
    return {"type": "step", "id": "tell", "handler": "send_signal", "params": params}


def waiting(house: House) -> UUID:
    """An instance that waits for a signal."""
    return house.run(WAIT, name="waits")


def inbox(house: House, instance_id: UUID) -> list[Any]:
    """The signals that an instance was sent."""
    return house.sql("SELECT * FROM signals WHERE instance_id = %s", instance_id)


def with_errands(house: House, run: Any) -> None:
    """A pump that carries out errands in this way has worked."""
    pump = house.another_pump()
    pump._run_errand = run
    pump.work(LANE)


def test_errand_that_is_lost_is_asked_for_again(house: House) -> None:
    """The process ends right after the commit: the step is due again, and the signal is sent."""
    other = waiting(house)
    house.publish(sends(other, {"custom": "paid"}), name="tells")
    teller = house.start(name="tells")
    asked: list[Errand] = []
    stops = house.another_pump()

    def ends(errand: Errand) -> None:
        asked.append(errand)
        stops.wind_down(0.0)

    stops._run_errand = ends
    stops.work(LANE)
    assert len(asked) == 1
    row = house.step(teller, "tell")
    assert (row.state, inbox(house, other)) == ("scheduled", [])
    house.advance(RECHECK)
    house.work()
    assert (house.state(teller), house.state(other)) == ("completed", "completed")
    assert len(inbox(house, other)) == 1


def test_errand_that_fails_is_asked_for_again(house: House) -> None:
    """Whatever it is that breaks, the pump goes on."""
    other = waiting(house)
    house.publish(sends(other, {"custom": "paid"}), name="tells")
    teller = house.start(name="tells")
    tries: list[Errand] = []

    def breaks(errand: Errand) -> None:
        tries.append(errand)
        if len(tries) == 1:
            raise Unavailable("the database is away")
        if len(tries) == 2:
            raise RuntimeError("a bug")
        run_errand(house.office, errand)

    house.advance(rate=50.0)
    with_errands(house, breaks)
    house.work()
    assert (len(tries), house.state(teller)) == (3, "completed")
    assert len(inbox(house, other)) == 1


def test_errand_that_is_done_twice_counts_once(house: House) -> None:
    """Its dedupe key is the step's own."""
    other = waiting(house)
    house.publish(sends(other, {"custom": "paid"}), name="tells")
    teller = house.start(name="tells")

    def twice(errand: Errand) -> None:
        for _ in range(2):
            run_errand(house.office, errand)

    with_errands(house, twice)
    house.work()
    (signal,) = inbox(house, other)
    assert house.step(teller, "tell").output == {"signal_id": str(signal.id)}
    assert house.state(other) == "completed"


def test_errand_to_an_instance_that_ends_meanwhile_fails_the_step(house: House) -> None:
    """It looked open when the step asked; nothing is sent to what has ended."""
    other = waiting(house)
    house.publish(sends(other, {"custom": "paid"}), name="tells")
    teller = house.start(name="tells")

    def late(errand: Errand) -> None:
        house.signal(other, "cancel")
        run_errand(house.office, errand)

    with_errands(house, late)
    house.work()
    assert house.state(teller) == "failed"
    assert house.step(teller, "tell").error["code"] == "terminal"


def test_errand_of_a_step_that_was_cancelled_wakes_nobody(house: House) -> None:
    """What it told is told; the step stays cancelled."""
    other = waiting(house)
    house.publish(sends(other, {"custom": "seen"}), name="tells")
    teller = house.start(name="tells")

    def meanwhile(errand: Errand) -> None:
        house.signal(teller, "cancel")
        run_errand(house.office, errand)

    with_errands(house, meanwhile)
    house.work()
    assert house.state(teller) == "cancelled"
    assert house.step(teller, "tell").due_at is None
    assert len(inbox(house, other)) == 1


def test_instances_that_tell_each_other_do_not_lock_each_other_out(house: House) -> None:
    """Each of twenty tells the next one, in several processes at once."""
    house.publish(
        {"type": "wait", "id": "first", "duration": "1s"},
        {"type": "step", "id": "tell", "handler": "send_signal",
         "params": {"instance_id": "{{data.to}}", "signal_type": {"custom": "paid"}}},
        WAIT,
        name="ring",
    )  # fmt: skip
    ids = [house.start(name="ring") for _ in range(20)]
    for mine, following in zip(ids, [*ids[1:], ids[0]], strict=True):
        house.signal(mine, "update_context", payload={"data": {"to": str(following)}})
    pumps = [house.another_pump(house.another_office()) for _ in range(3)]
    threads = [threading.Thread(target=partial(pump.work, LANE)) for pump in pumps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    house.work()
    assert {house.state(each) for each in ids} == {"completed"}
    assert {len(inbox(house, each)) for each in ids} == {2}


def test_cancelled_parent_tells_its_child_by_an_errand(house: House) -> None:
    """Which is in the child's inbox once, however often the parent asks."""
    house.publish({"type": "wait", "duration": "9d"}, name="child")
    parent = house.run({"type": "sub_sequence", "id": "sub", "sequence_name": "child"}, name="p")
    child = UUID(house.step(parent, "sub").progress["child"])
    house.signal(parent, "cancel")
    with_errands(house, lambda errand: [run_errand(house.office, errand) for _ in range(2)])
    house.work()
    assert (house.state(child), house.state(parent)) == ("cancelled", "cancelled")
    (told,) = inbox(house, child)
    assert (told.name, told.consumed_by) == ("cancel", "engine")
