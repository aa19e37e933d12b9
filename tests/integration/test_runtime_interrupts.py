"""Interrupts and sla with a real database: what holds when signals, pumps and people meet."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from orch8.errors import InvalidArgument
from tests.support.house import House, until

DAY = timedelta(days=1)
CHARGE = {"type": "step", "handler": "charge", "effect": "money", "fence": "invoice:1"}
WAIT = {"type": "wait", "id": "next_try", "delay": {"days": 3}}
RESTORE = {"type": "step", "handler": "restore", "params": {"paid": "{{signal.payload.amount}}"}}
PAID = {"signal": "paid", "blocks": [RESTORE, {"type": "end", "outcome": "recovered"}]}
VOIDED = {"signal": "voided", "blocks": [{"type": "end", "outcome": "voided"}]}
NOTIFY = {"type": "step", "handler": "notify", "params": {"text": "{{signal.payload}}"}}
NOTICE = {"signal": "notice", "blocks": [NOTIFY]}
UPDATED = {
    "signal": "updated",
    "set": {"context.data.card": "{{signal.payload.card}}"},
    "wake": ["next_try"],
}


class Calls:
    """Functions in place of handlers; what they were asked, in order."""

    def __init__(self, house: House, *names: str) -> None:
        self.asked: list[tuple[str, Any]] = []
        for name in names:
            house.handler(name, self.take)

    def take(self, request: Any) -> Any:
        """The call is noted and succeeds."""
        self.asked.append((request.step, request.params))
        return {"ok": True}


@contextmanager
def in_flight(house: House, handler: str = "charge") -> Iterator[None]:
    """Inside the block the handler's call is under way; after it the call is answered, settled."""
    called, answer = threading.Event(), threading.Event()

    def slow(_: Any) -> Any:
        called.set()
        assert answer.wait(30)
        return {"charged": True}

    house.handler(handler, slow)
    thread = threading.Thread(target=house.work)
    thread.start()
    try:
        assert called.wait(10)
        yield
    finally:
        answer.set()
        thread.join(30)


def inbox(house: House, instance_id: Any) -> list[tuple[str, str | None]]:
    """Each signal's name and what consumed it."""
    rows = house.sql(
        "SELECT name, consumed_by FROM signals WHERE instance_id = %s ORDER BY id", instance_id
    )
    return [(row.name, row.consumed_by) for row in rows]


def test_a_payment_that_arrives_while_a_charge_is_in_flight(house: House) -> None:
    """The charge is answered and kept, what stands behind it does not start, the run is closed."""
    made = Calls(house, "restore")
    house.publish(CHARGE, WAIT, interrupts=[PAID], sla={"max_duration": "9d"})
    instance_id = house.start()
    with in_flight(house):
        house.signal(instance_id, name="paid", payload={"amount": 5})
        assert house.state(instance_id) == "running"
        assert made.asked == []
    house.work()
    row = house.instance(instance_id)
    assert (row.state, row.outcome) == ("completed", "recovered")
    steps = house.steps(instance_id)
    assert (steps["charge"].state, steps["charge"].output) == ("completed", {"charged": True})
    assert "next_try" not in steps
    assert made.asked == [("restore[0]", {"paid": 5})]
    assert inbox(house, instance_id) == [("paid", "interrupt:0")]
    assert house.sql("SELECT 1 FROM incidents") == []


def test_a_payment_ends_a_wait_at_once(house: House) -> None:
    """No timer of the run is left."""
    made = Calls(house, "charge", "restore")
    instance_id = house.run(CHARGE, WAIT, interrupts=[PAID])
    assert house.state(instance_id) == "scheduled"
    house.signal(instance_id, name="paid", payload={"amount": 5})
    house.work()
    assert house.instance(instance_id).outcome == "recovered"
    assert house.step(instance_id, "next_try").state == "cancelled"
    assert [step for step, _ in made.asked] == ["charge", "restore[0]"]
    assert house.sql("SELECT 1 FROM steps WHERE due_at IS NOT NULL") == []
    with pytest.raises(InvalidArgument, match="terminal state"):
        house.signal(instance_id, name="paid")


def test_an_interrupt_during_a_pause_takes_effect_on_resume(house: House) -> None:
    """The context is new at once; nothing is called before somebody resumes the run."""
    made = Calls(house, "again")
    again = {"type": "step", "handler": "again", "params": {"card": "{{data.card}}"}}
    instance_id = house.run(WAIT, again, data={"card": "old"}, interrupts=[UPDATED, PAID])
    house.signal(instance_id, "pause")
    house.signal(instance_id, name="updated", payload={"card": "new"})
    house.work()
    assert (house.state(instance_id), made.asked) == ("paused", [])
    house.signal(instance_id, "resume")
    house.work()
    assert house.state(instance_id) == "completed"
    assert made.asked == [("again", {"card": "new"})]
    assert house.step(instance_id, "next_try").output["woken"] is True


def test_a_payment_during_a_pause_waits_for_the_resume(house: House) -> None:
    """The waits end with the signal; the closing blocks are held like everything else."""
    made = Calls(house, "restore")
    instance_id = house.run(WAIT, interrupts=[PAID])
    house.signal(instance_id, "pause")
    house.signal(instance_id, name="paid", payload={"amount": 5})
    house.work()
    assert (house.state(instance_id), made.asked) == ("paused", [])
    assert house.step(instance_id, "next_try").state == "cancelled"
    house.signal(instance_id, "resume")
    house.work()
    assert house.instance(instance_id).outcome == "recovered"
    assert made.asked == [("restore[0]", {"paid": 5})]


def test_a_signal_with_a_known_dedupe_key_interrupts_once(house: House) -> None:
    """The repeated one gives the id of the first and does nothing."""
    made = Calls(house, "notify")
    instance_id = house.run(WAIT, interrupts=[NOTICE])
    first = house.signal(instance_id, name="notice", payload=1, dedupe_key="evt_1")
    assert house.signal(instance_id, name="notice", payload=1, dedupe_key="evt_1") == first
    house.signal(instance_id, name="notice", payload=2, dedupe_key="evt_2")
    house.work()
    assert made.asked == [("notify[0]", {"text": 1}), ("notify[1]", {"text": 2})]
    assert inbox(house, instance_id) == [("notice", "interrupt:0"), ("notice", "interrupt:0")]


def test_two_closing_interrupts_at_once_do_not_argue(house: House) -> None:
    """Whichever is written first closes the run; both signals are consumed."""
    made = Calls(house, "restore")
    house.publish(CHARGE, interrupts=[PAID, VOIDED])
    instance_id = house.start()
    gate = threading.Barrier(2)

    def send(name: str) -> None:
        gate.wait(10)
        house.signal(instance_id, name=name, payload={"amount": 5})

    with in_flight(house):
        senders = [threading.Thread(target=send, args=(name,)) for name in ("paid", "voided")]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join(20)
    until(lambda: (house.work(), house.state(instance_id) == "completed")[1])
    outcome = house.instance(instance_id).outcome
    assert outcome in ("recovered", "voided")
    assert len(made.asked) == (outcome == "recovered")
    assert {by for _, by in inbox(house, instance_id)} == {"interrupt:0", "interrupt:1"}
    bodies = house.sql(
        "SELECT body->>'blocks' AS became FROM audit_log WHERE action LIKE 'signal.%%' ORDER BY id"
    )
    assert sorted(row.became for row in bodies) == ["closing", "ignored: the run is ending"]


def test_many_interrupts_at_once_are_an_iteration_each(house: House) -> None:
    """The instance is locked for each, so that none is lost and none counted twice."""
    made = Calls(house, "notify")
    instance_id = house.run(WAIT, interrupts=[NOTICE, UPDATED])
    senders = [
        threading.Thread(
            target=house.signal, args=(instance_id,), kwargs={"name": "notice", "payload": n}
        )
        for n in range(8)
    ]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(20)
    house.work()
    assert sorted(step for step, _ in made.asked) == [f"notify[{n}]" for n in range(8)]
    assert sorted(params["text"] for _, params in made.asked) == list(range(8))


def test_a_late_run_is_an_incident(house: House) -> None:
    """It goes on; the clock shows neither in its state nor in when it is due next."""
    Calls(house, "notify")
    house.publish(WAIT, NOTIFY | {"params": None}, sla={"max_duration": "2d"})
    started = house.request()
    instance_id = started.instance.id
    assert started.shown.next_fire_at == house.step(instance_id, "next_try").due_at
    shown = house.sql("SELECT due_at FROM steps WHERE block_id = '@sla'")
    assert shown[0].due_at < started.shown.next_fire_at
    house.advance(2 * DAY)
    house.work()
    assert house.state(instance_id) == "scheduled"
    (incident,) = house.sql("SELECT instance_id, kind, body, closed_at FROM incidents")
    assert (incident.kind, incident.closed_at) == ("sla_breached", None)
    assert incident.body["cancelled"] is False
    house.advance(DAY)
    house.work()
    assert house.state(instance_id) == "completed"
    assert house.actions(instance_id).count("instance.sla_breached") == 1


def test_a_late_run_is_cancelled_and_its_charge_awaited(house: House) -> None:
    """The money is known before the run ends."""
    house.publish(
        {"type": "wait", "delay": "1d"}, CHARGE, sla={"max_duration": "2d", "on_breach": "cancel"}
    )
    instance_id = house.start()
    house.work()
    house.advance(DAY)
    with in_flight(house):
        house.advance(DAY)
        house.another_pump().work("renewal")
        row = house.instance(instance_id)
        assert (row.state, row.cancelling) == ("running", True)
    assert house.step(instance_id).state == "completed"
    assert house.state(instance_id) in ("completed", "cancelled")
    assert house.sql("SELECT body FROM incidents")[0].body["cancelled"] is True
