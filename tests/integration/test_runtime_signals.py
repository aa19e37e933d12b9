"""Signals: pause, resume, cancel, update_context, and those that a wait consumes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from orch8.errors import InvalidArgument, NotFound, Unprocessable
from orch8.runtime.claim import claim
from orch8.storage.ids import uuid7
from tests.support.house import LANE, House, until

CHARGE = {"type": "step", "handler": "charge"}
NOTIFY = {"type": "step", "handler": "notify"}
DAY = timedelta(days=1)
SAGA = {
    "type": "saga",
    "steps": [{"action": CHARGE, "compensation": {"type": "step", "handler": "refund"}}],
}


@contextmanager
def in_flight(house: House, output: Any = None, handler: str = "charge") -> Iterator[None]:
    """Inside the block the handler's call is under way; after it the call is answered, settled."""
    called, answer = threading.Event(), threading.Event()

    def slow(request: Any) -> Any:
        called.set()
        assert answer.wait(30)
        return output

    house.handler(handler, slow)
    thread = threading.Thread(target=house.work)
    thread.start()
    try:
        assert called.wait(10)
        yield
    finally:
        answer.set()
        thread.join(30)


# -- pause and resume --------------------------------------------------------------------------
def test_pause_holds_what_is_due(house: House) -> None:
    """A paused instance is not claimed; resumed it goes on where it stood."""
    house.publish(CHARGE, NOTIFY)
    instance_id = house.start()
    house.signal(instance_id, "pause", actor="anna", reason="audit")
    assert house.state(instance_id) == "paused"
    house.work()
    assert house.totals()["asked"] == 0
    house.signal(instance_id, "pause")
    house.signal(instance_id, "resume")
    assert house.state(instance_id) == "scheduled"
    house.work()
    assert house.state(instance_id) == "completed"
    actions = house.actions(instance_id)
    assert (actions.count("instance.paused"), actions.count("instance.resumed")) == (1, 1)


def test_pause_lets_answers_settle(house: House) -> None:
    """A call in flight is answered during a pause; its follow-up waits for the resume."""
    house.publish(CHARGE, NOTIFY)
    instance_id = house.start()
    with in_flight(house, {"paid": True}):
        house.signal(instance_id, "pause")
    assert house.state(instance_id) == "paused"
    assert house.step(instance_id).state == "completed"
    notify = house.step(instance_id, "notify")
    assert (notify.state, notify.due_at) == ("scheduled", None)
    assert notify.held_due_at is not None
    house.work()
    assert house.step(instance_id, "notify").epoch == 0
    house.signal(instance_id, "resume")
    house.work()
    assert house.state(instance_id) == "completed"


def test_pause_does_not_stop_the_clock(house: House) -> None:
    """A timer that ran out during a pause fires on resume; one that did not keeps its time."""
    block = {
        "type": "parallel",
        "branches": [[{"type": "wait", "duration": "1d"}], [{"type": "wait", "duration": "9d"}]],
    }
    instance_id = house.run(block)
    long = house.step(instance_id, "wait_2").due_at
    house.signal(instance_id, "pause")
    house.advance(2 * DAY)
    house.work()
    assert house.state(instance_id) == "paused"
    house.signal(instance_id, "resume")
    house.work()
    rows = house.steps(instance_id)
    assert rows["wait"].state == "completed"
    assert (rows["wait_2"].state, rows["wait_2"].due_at) == ("scheduled", long)


# -- cancel ------------------------------------------------------------------------------------
def test_cancel_ends_at_once_what_nobody_called(house: House) -> None:
    """Waits and unclaimed steps end with the signal."""
    house.publish(CHARGE)
    instance_id = house.start()
    house.signal(instance_id, "cancel")
    assert house.state(instance_id) == "cancelled"
    assert house.step(instance_id).state == "cancelled"
    waiting = house.run({"type": "wait", "duration": "3d"}, NOTIFY, name="w")
    house.signal(waiting, "cancel")
    assert house.state(waiting) == "cancelled"
    assert house.instance(waiting).finished_at is not None
    house.advance(4 * DAY)
    house.work()
    assert house.totals()["asked"] == 0


def test_cancel_awaits_a_charge_in_flight_and_refunds_it(house: House) -> None:
    """The charge may succeed after all: only then is it known what must be undone."""
    house.publish(SAGA, NOTIFY)
    instance_id = house.start()
    with in_flight(house, {"charge_id": "ch_1"}):
        house.signal(instance_id, "cancel")
        row = house.instance(instance_id)
        assert (row.state, row.cancelling) == ("running", True)
        assert house.step(instance_id).state == "running"
    rows = house.steps(instance_id)
    assert (rows["charge"].state, rows["refund"].state) == ("completed", "completed")
    assert "notify" not in rows
    assert house.state(instance_id) == "cancelled"
    assert [entry["handler"] for entry in house.provider.ledger.page()] == ["refund"]


def test_cancel_asks_on_for_a_charge_in_doubt(house: House) -> None:
    """A cancelled instance with an unknown charge is not over before it is known."""

    def lost(request: Any) -> Any:
        if request.dispatch == 1:
            raise RuntimeError("lost")
        return {"charge_id": "ch_1"}

    house.handler("charge", lost)
    saga = {**SAGA, "steps": [{**SAGA["steps"][0], "action": {  # type: ignore[index]
        **CHARGE, "retry": {"max_attempts": 1, "backoff": "1h"}}}]}  # fmt: skip
    instance_id = house.run(saga)
    house.signal(instance_id, "cancel")
    row = house.step(instance_id)
    assert (row.state, row.outcome) == ("scheduled", "unknown")
    assert house.state(instance_id) != "cancelled"
    house.advance(DAY / 12)
    house.work()
    assert house.step(instance_id, "refund").state == "completed"
    assert house.state(instance_id) == "cancelled"


def test_cancel_does_not_miss_a_claim_of_the_same_moment(house: House) -> None:
    """A step that is being claimed while the cancel comes is not ended under the caller's hands."""
    house.publish(SAGA)
    instance_id = house.start()
    worker_id = house.pump.lease.hold()
    with house.office.begin() as tx:
        assert len(claim(house.office, tx, LANE, worker_id, 1)) == 1
        canceller = threading.Thread(target=house.signal, args=(instance_id, "cancel"))
        canceller.start()
        blocked = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = %s"
        until(lambda: house.sql(blocked, house.database.name), 1.5)
    canceller.join(10)
    assert house.step(instance_id).state == "running"
    assert house.instance(instance_id).cancelling


def test_cancel_of_a_paused_instance_ends_it(house: House) -> None:
    """Cancelling needs no resume."""
    house.publish(CHARGE)
    instance_id = house.start()
    house.signal(instance_id, "pause")
    house.signal(instance_id, "cancel")
    row = house.instance(instance_id)
    assert (row.state, row.paused_at) == ("cancelled", None)
    for control in ("pause", "resume", "cancel", "update_context"):
        with pytest.raises(InvalidArgument, match="terminal state"):
            house.signal(instance_id, control)


# -- custom signals ----------------------------------------------------------------------------
WAIT = {"type": "wait_signal", "signal": "paid"}


def test_signal_wakes_the_wait_for_it(house: House) -> None:
    """A waiting instance goes on with the payload, and the signal is used up."""
    see = {**NOTIFY, "params": {"by": "{{outputs.wait_signal.payload.by}}"}}
    instance_id = house.run(WAIT, see)
    assert house.state(instance_id) == "waiting"
    assert house.step(instance_id, "wait_signal").due_at is None
    house.signal(instance_id, name="other")
    house.work()
    assert house.state(instance_id) == "waiting"
    house.signal(instance_id, name="paid", payload={"by": "bank"}, actor="bank")
    house.work()
    assert house.state(instance_id) == "completed"
    output = house.step(instance_id, "wait_signal").output
    assert (output["signal"], output["payload"]) == ("paid", {"by": "bank"})
    open_ = house.sql("SELECT name FROM signals WHERE consumed_at IS NULL")
    assert [row.name for row in open_] == ["other"]


def test_signal_that_comes_early_is_kept_for_its_wait(house: House) -> None:
    """Each wait takes one signal, the oldest first, whenever it came."""
    house.publish({"type": "wait", "duration": "1d"}, WAIT, WAIT)
    instance_id = house.start()
    house.signal(instance_id, name="paid", payload=1)
    house.signal(instance_id, name="paid", payload=2)
    house.advance(DAY)
    house.work()
    rows = house.steps(instance_id)
    assert [rows[key].output["payload"] for key in ("wait_signal", "wait_signal_2")] == [1, 2]
    assert house.state(instance_id) == "completed"


def test_signal_with_the_same_dedupe_key_counts_once(house: House) -> None:
    """A webhook that is delivered twice wakes one wait."""
    instance_id = house.run(WAIT, WAIT)
    first = house.signal(instance_id, name="paid", dedupe_key="evt_1")
    assert house.signal(instance_id, name="paid", dedupe_key="evt_1") == first
    house.work()
    assert house.state(instance_id) == "waiting"


def test_signal_must_match_what_the_wait_asks_for(house: House) -> None:
    """Of several signals of a name the one that matches is taken."""
    instance_id = house.run({**WAIT, "match": {"invoice": "{{data.invoice}}"}}, data={"invoice": 7})
    house.signal(instance_id, name="paid", payload={"invoice": 6})
    house.work()
    assert house.state(instance_id) == "waiting"
    house.signal(instance_id, name="paid", payload={"invoice": 7, "more": True})
    house.work()
    assert house.step(instance_id, "wait_signal").output["payload"]["invoice"] == 7


@pytest.mark.parametrize(("on_timeout", "state"), [("fail", "failed"), ("continue", "completed")])
def test_signal_that_does_not_come_times_out(house: House, on_timeout: str, state: str) -> None:
    """A wait ends on its time, as a failure or with timed_out."""
    instance_id = house.run({**WAIT, "timeout": "3d", "on_timeout": on_timeout})
    assert house.state(instance_id) == "waiting"
    house.advance(3 * DAY)
    house.work()
    assert house.state(instance_id) == state
    if on_timeout == "continue":
        assert house.step(instance_id, "wait_signal").output == {"signal": None, "timed_out": True}


def test_signal_during_a_pause_is_consumed_on_resume(house: House) -> None:
    """A paused wait looks when it is resumed."""
    instance_id = house.run(WAIT)
    house.signal(instance_id, "pause")
    house.signal(instance_id, name="paid")
    house.work()
    assert house.state(instance_id) == "paused"
    house.signal(instance_id, "resume")
    house.work()
    assert house.state(instance_id) == "completed"


def test_signal_merges_the_context(house: House) -> None:
    """update_context changes members for later steps, in a new version; a retry sees it too."""
    seen: list[Any] = []
    house.handler("charge", lambda request: seen.append(request.params))
    params = {"card": "{{data.card}}", "amount": "{{data.amount}}"}
    step = {**CHARGE, "params": params, "delay": "1d"}
    instance_id = house.run(step, data={"card": "old", "amount": 5})
    house.signal(instance_id, "update_context", payload={"data": {"card": "new"}})
    house.signal(instance_id, "update_context", payload={"data": {"more": 1}})
    house.advance(DAY)
    house.work()
    assert seen == [{"card": "new", "amount": 5}]
    assert house.instance(instance_id).context_version == 3
    for payload in (None, {}, {"data": [1]}):
        other = house.start()
        house.signal(other, "update_context", payload=payload)
        assert house.instance(other).context_version == 1


def test_signal_needs_an_instance_and_a_name(house: House) -> None:
    """A signal to nobody, or without a name, is refused."""
    with pytest.raises(NotFound):
        house.signal(uuid7(), "pause")
    house.publish(WAIT)
    with pytest.raises(Unprocessable):
        house.signal(house.start(), name="")
