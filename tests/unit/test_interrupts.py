"""Interrupts and sla on a virtual clock: what a signal from outside does to a run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orch8.errors import Conflict
from orch8.runtime.interrupt import MOST_AT_ONCE
from orch8.testing import SimInstance, Simulator, takes, time_out
from tests.support.documents import seed

START = datetime(2026, 1, 1, 9, tzinfo=UTC)
DAY = timedelta(days=1)
CHARGE = {
    "type": "step", "handler": "charge", "effect": "money",
    "params": {"card": "{{data.card}}"},
}  # fmt: skip
WAIT = {"type": "wait", "id": "next_try", "delay": {"days": 3}}
RESTORE = {"type": "step", "handler": "restore", "params": {"paid": "{{signal.payload.amount}}"}}
PAID = {"signal": "paid", "blocks": [RESTORE, {"type": "end", "outcome": "recovered"}]}
UPDATED = {
    "signal": "card.updated",
    "set": {
        "context.data.card": "{{signal.payload.card}}",
        "context.data.seen.at": "{{signal.received_at}}",
    },
    "wake": ["next_try"],
}
TOLD = {"n": "{{iteration}}", "text": "{{signal.payload}}"}
NOTICE = {
    "signal": "notice",
    "blocks": [{"type": "step", "handler": "notify", "params": TOLD}],
}
HANDLERS: dict[str, Any] = {"charge": {"ok": 1}, "restore": {"ok": 2}, "notify": {"ok": 3}}


def simulator(*blocks: Any, interrupts: Any, handlers: Any = None, **members: Any) -> Simulator:
    """These blocks, with these interrupts."""
    body = seed(*blocks, interrupts=list(interrupts), **members)
    return Simulator(body, HANDLERS | (handlers or {}))


def start(sim: Simulator, **data: Any) -> SimInstance:
    """An instance whose first step has run."""
    instance = sim.start({"data": {"card": "old", **data}, "config": {}})
    sim.run_for("1s")
    return instance


def calls(sim: Simulator) -> list[tuple[str, Any]]:
    """Each call's node key and params."""
    return [(call.step, call.params) for call in sim.calls]


def noted(instance: SimInstance, action: str) -> list[tuple[str, Any, Any]]:
    """What the audit log tells of an action: outcome, reason and body."""
    return [(e.outcome, e.reason, e.body) for e in instance.timeline if e.action == action]


def test_a_payment_from_elsewhere_ends_a_dunning_at_once() -> None:
    """The wait ends, access is restored, and no further charge is made."""
    sim = simulator(CHARGE, WAIT, {**CHARGE, "id": "again"}, interrupts=[PAID])
    instance = start(sim)
    sim.signal(instance, "paid", {"amount": 5})
    sim.run()
    assert (instance.state, instance.outcome) == ("completed", "recovered")
    assert calls(sim) == [("charge", {"card": "old"}), ("restore[0]", {"paid": 5})]
    assert sim.now < START + DAY
    assert noted(instance, "signal.paid") == [
        ("success", None, {"interrupt": 0, "blocks": "closing"})
    ]


def test_a_payment_from_elsewhere_awaits_the_charge_in_flight() -> None:
    """Its answer is known before anything else happens."""
    sim = simulator(CHARGE, WAIT, interrupts=[PAID], handlers={"charge": takes("10s", {"ok": 1})})
    instance = start(sim)
    sim.signal(instance, "paid", {"amount": 5})
    sim.run_for("5s")
    assert instance.state == "running"
    assert calls(sim) == [("charge", {"card": "old"})]
    sim.run()
    states = {row.node_key: row.state for row in instance.steps}
    assert states["charge"] == "completed"
    assert "next_try" not in states
    assert instance.outcome == "recovered"


def test_a_new_card_is_used_at_once() -> None:
    """The context has a new version, and the wait is over."""
    sim = simulator(CHARGE, WAIT, {**CHARGE, "id": "again"}, interrupts=[UPDATED])
    instance = start(sim)
    sim.signal(instance, "card.updated", {"card": "new"})
    sim.run_for("1s")
    assert calls(sim)[1] == ("again", {"card": "new"})
    assert instance.context["data"] == {"card": "new", "seen": {"at": "2026-01-01T09:00:01+00:00"}}
    assert instance.outputs["next_try"]["woken"] is True
    assert noted(instance, "signal.card.updated")[0][2] == {
        "interrupt": 0,
        "set": ["context.data.card", "context.data.seen.at"],
        "woken": ["next_try"],
    }


def test_a_wait_that_is_not_waiting_is_not_woken() -> None:
    """Before it is entered and after it ended there is nothing to wake."""
    sim = simulator(CHARGE, WAIT, interrupts=[UPDATED], handlers={"charge": takes("10s", {})})
    instance = start(sim)
    sim.signal(instance, "card.updated", {"card": "new"})
    sim.run_for("1d")
    assert instance.state == "scheduled"
    assert noted(instance, "signal.card.updated")[0][2]["woken"] == []


def test_a_shielded_wait_can_be_woken_while_the_run_is_being_closed() -> None:
    """The closing blocks, which wait for it, start."""
    sim = simulator({**WAIT, "cancellable": False}, interrupts=[PAID, UPDATED])
    instance = start(sim)
    sim.signal(instance, "paid", {"amount": 5})
    sim.run_for("1d")
    assert (instance.state, sim.calls) == ("scheduled", [])
    sim.signal(instance, "card.updated", {"card": "new"})
    sim.run_for("1s")
    assert (instance.state, instance.outcome) == ("completed", "recovered")


def test_pause_holds_what_an_interrupt_wakes_and_starts() -> None:
    """It takes effect; nothing is called before the resume."""
    sim = simulator(CHARGE, WAIT, {**CHARGE, "id": "again"}, interrupts=[UPDATED, NOTICE])
    instance = start(sim)
    sim.pause(instance)
    sim.signal(instance, "card.updated", {"card": "new"})
    sim.signal(instance, "notice", "hello")
    sim.run_for("1d")
    assert (instance.state, len(sim.calls)) == ("paused", 1)
    sim.resume(instance)
    sim.run_for("1s")
    assert instance.state == "completed"
    assert calls(sim)[1:] == [("notify[0]", {"n": 1, "text": "hello"}), ("again", {"card": "new"})]


def test_every_signal_runs_the_blocks_once_more_beside_the_run() -> None:
    """Each reads its own signal, and the run ends when all have."""
    long = {**NOTICE, "blocks": [*NOTICE["blocks"], {"type": "wait", "delay": "9d"}]}
    sim = simulator(WAIT, interrupts=[long])
    instance = start(sim)
    for text in ("one", "two"):
        sim.signal(instance, "notice", text)
    sim.run_for("4d")
    assert instance.state == "scheduled"
    sim.run()
    assert instance.state == "completed"
    assert calls(sim) == [
        ("notify[0]", {"n": 1, "text": "one"}),
        ("notify[1]", {"n": 2, "text": "two"}),
    ]


def test_an_interrupt_takes_a_signal_before_a_wait_for_it() -> None:
    """The wait goes on waiting; a signal that does not match comes to it as ever."""
    block = {"type": "wait_signal", "id": "w", "signal": "paid"}
    sim = simulator(
        block, interrupts=[{**NOTICE, "signal": "paid", "match": {"kind": "{{data.kind}}"}}]
    )
    instance = start(sim, kind="wire")
    sim.signal(instance, "paid", {"kind": "wire"})
    sim.run_for("1s")
    assert (instance.state, len(sim.calls)) == ("waiting", 1)
    sim.signal(instance, "paid", {"kind": "card"})
    sim.run_for("1s")
    assert (instance.state, len(sim.calls)) == ("completed", 1)


def test_a_repeated_dedupe_key_does_nothing() -> None:
    """A webhook that comes twice interrupts once."""
    sim = simulator(WAIT, interrupts=[NOTICE])
    instance = start(sim)
    for _ in range(2):
        sim.signal(instance, "notice", "x", dedupe_key="evt_1")
    sim.run_for("1s")
    assert len(sim.calls) == 1


def test_the_first_interrupt_that_matches_takes_the_signal() -> None:
    """Like a router: the others do not see it."""
    first = {"signal": "s", "match": {"a": 1}, "set": {"context.data.first": True}}
    second = {"signal": "s", "set": {"context.data.second": {"got": "{{signal.payload.a}}"}}}
    sim = simulator(WAIT, interrupts=[first, second])
    instance = start(sim)
    sim.signal(instance, "s", {"a": 1})
    assert instance.context["data"] == {"card": "old", "first": True}
    sim.signal(instance, "s", {"a": 2})
    assert instance.context["data"] == {"card": "old", "first": True, "second": {"got": 2}}


def test_a_value_that_is_set_from_what_was_there_counts_once() -> None:
    """However often the transition has to begin anew for values it finds missing."""
    count = {"context.data.n": "{{data.n + 1}}"}
    sim = simulator(
        {**CHARGE, "id": "first"},
        WAIT,
        {"type": "step", "handler": "log", "params": {"message": "{{outputs.first.ok}}"}},
        WAIT | {"id": "last"},
        interrupts=[
            {"signal": "s", "set": count, "wake": ["next_try"], "blocks": NOTICE["blocks"]}
        ],
    )
    instance = start(sim, n=0)
    for n in range(1, 4):
        sim.signal(instance, "s")
        assert instance.context["data"]["n"] == n


def test_state_that_is_set_from_what_was_there_counts_once() -> None:
    """What set_state keeps is not counted twice when a follow-up finds values missing."""
    keep = {
        "type": "step",
        "handler": "set_state",
        "params": {"key": "n", "value": "{{state.n + 1}}"},
    }
    tell = {
        "type": "step",
        "handler": "transform",
        "params": {"n": "{{state.n}}", "b": "{{outputs.first.ok}}"},
    }
    init = {"type": "step", "handler": "set_state", "params": {"key": "n", "value": 0}}
    sim = simulator({**CHARGE, "id": "first"}, init, WAIT, keep, tell, interrupts=[])
    instance = start(sim)
    sim.run()
    assert instance.outputs["transform"]["n"] == 1


def test_what_cannot_be_set_is_told_and_keeps_nothing_else_from_happening() -> None:
    """A payload that does not fit never holds up the payment that came with it."""
    wrong = {
        **PAID,
        "set": {
            "context.data.card.id": "x",
            "context.data.n": "{{trigger.x}}",
            "context.data.ok": True,
        },
    }
    sim = simulator(WAIT, interrupts=[wrong])
    instance = start(sim, n=1)
    sim.signal(instance, "paid", {"amount": 1})
    sim.run()
    assert instance.outcome == "recovered"
    assert instance.context["data"] == {"card": "old", "n": 1, "ok": True}
    ((outcome, reason, body),) = noted(instance, "signal.paid")
    assert (outcome, body["set"]) == ("failed", ["context.data.ok"])
    assert "card is no object, so id cannot be set in it" in reason
    assert "context.data.n: " in reason


def test_a_context_does_not_grow_beyond_its_bound() -> None:
    """The old one stays."""
    sim = simulator(
        WAIT, interrupts=[{"signal": "s", "set": {"context.data.x": "{{signal.payload}}"}}]
    )
    instance = start(sim)
    sim.signal(instance, "s", "x" * 2_000_000)
    assert instance.context["data"] == {"card": "old"}
    assert "larger than" in noted(instance, "signal.s")[0][1]


def test_a_match_that_cannot_be_evaluated_matches_nothing() -> None:
    """The signal goes the way of all others, and the audit log says why."""
    broken = {**NOTICE, "match": {"n": "{{trigger.x}}"}}
    sim = simulator({"type": "wait_signal", "signal": "notice"}, interrupts=[broken])
    instance = start(sim, n=1)
    sim.signal(instance, "notice", {"n": 1})
    sim.run_for("1s")
    assert instance.state == "completed"
    ((outcome, reason, _),) = noted(instance, "interrupt.match")
    assert outcome == "failed"
    assert reason.startswith("match: ")


def test_a_second_payment_changes_nothing_but_is_noted() -> None:
    """The signal is consumed, and the audit log says what became of it."""
    sim = simulator(CHARGE, interrupts=[PAID], handlers={"charge": takes("10s", {})})
    instance = start(sim)
    for amount in (5, 6):
        sim.signal(instance, "paid", {"amount": amount})
    sim.run()
    assert calls(sim)[1:] == [("restore[0]", {"paid": 5})]
    assert [body["blocks"] for _, _, body in noted(instance, "signal.paid")] == [
        "closing",
        "ignored: the run is ending",
    ]


def test_a_charge_in_doubt_keeps_a_closing_interrupt_waiting() -> None:
    """A person's word on the charge lets the run end; neither is forgotten."""
    in_doubt = {**CHARGE, "on_unknown": {"policy": "park"}}
    sim = simulator(in_doubt, interrupts=[PAID], handlers={"charge": time_out()})
    instance = start(sim)
    sim.run_for("2d")
    assert instance.state == "waiting"
    sim.signal(instance, "paid", {"amount": 5})
    sim.run_for("1d")
    assert instance.state == "waiting"
    sim.answer(instance, "charge", {"ok": 1})
    sim.run()
    assert (instance.state, instance.outcome) == ("completed", "recovered")


def test_runs_of_an_interrupt_beside_each_other_are_bounded() -> None:
    """The sender is told to come again; nothing of the signal has happened."""
    sim = simulator(WAIT, interrupts=[NOTICE])
    instance = start(sim)
    for n in range(MOST_AT_ONCE):
        sim.signal(instance, "notice", n)
    with pytest.raises(Conflict, match="send the signal again"):
        sim.signal(instance, "notice", "one more")


# -- sla -----------------------------------------------------------------------------------------
def test_a_run_that_takes_too_long_is_told_of_and_goes_on() -> None:
    """Once, with an entry in the audit log; the state shown is that of its blocks."""
    late = {"max_duration": {"days": 2}}
    sim = simulator(CHARGE, WAIT, interrupts=[], sla=late)
    instance = start(sim)
    assert instance.state == "scheduled"
    sim.run()
    assert instance.state == "completed"
    assert len(noted(instance, "instance.sla_breached")) == 1
    assert sim.now == START + timedelta(days=3)


def test_a_run_in_time_is_not_told_of() -> None:
    """And its clock keeps nothing going."""
    sim = simulator(CHARGE, interrupts=[], sla={"max_duration": "2d"})
    instance = start(sim)
    assert instance.state == "completed"
    assert sim.next_due is None


def test_a_wait_for_a_signal_shows_as_waiting_beside_the_clock() -> None:
    """The clock, which is scheduled, does not show."""
    sim = simulator(
        {"type": "wait_signal", "signal": "s"}, interrupts=[], sla={"max_duration": "2d"}
    )
    assert start(sim).state == "waiting"


@pytest.mark.parametrize(("on_breach", "state"), [("cancel", "cancelled"), ("fail", "failed")])
def test_a_run_that_takes_too_long_can_be_stopped(on_breach: str, state: str) -> None:
    """Its waits end at once."""
    sla = {"max_duration": "2d", "on_breach": on_breach}
    sim = simulator(CHARGE, WAIT, interrupts=[], sla=sla)
    instance = start(sim)
    sim.run()
    assert instance.state == state
    assert sim.now == START + 2 * DAY
