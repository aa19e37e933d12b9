"""The root of a run with interrupts: what a signal starts, stops and decides."""

from __future__ import annotations

from typing import Any

import pytest

from orch8.blocks.end import End
from orch8.blocks.interrupt import SLA, Interrupt, Root
from orch8.blocks.saga import Saga
from orch8.blocks.try_catch import TryCatch
from orch8.engine.block import Block, Index
from orch8.engine.events import CancelRequested, Interrupted, LeafSettled, Retried
from orch8.engine.keys import NodeKey
from orch8.engine.machine import advance
from orch8.engine.moves import CancelLeaf, Memo, Overdue, Schedule, Settled
from orch8.engine.outcome import CANCELLED, COMPLETED, Status
from orch8.engine.snapshot import EMPTY, Stop
from tests.support.definitions import Said, chain, task
from tests.support.shell import BOOM, Answers, Shell, always, failing

CLOSED = End(id="closed", outcome="recovered")
SIGNAL = {"name": "paid", "payload": 7, "received_at": "2026-01-01T00:00:00+00:00"}


def rooted(*main: Block | str, bodies: Any = (), sla: bool = False, **more: Any) -> Index:
    """A run of these blocks with an interrupt for each body (None is one without blocks)."""
    interrupts = tuple(
        Interrupt(
            id=f"@interrupt@{n}", signal="paid", body=body and chain(f"@interrupt@{n}.b", *body)
        )
        for n, body in enumerate(bodies)
    )
    clock = task(SLA) if sla else None
    return Index(
        Root(id="@root", main=chain("@main", *main), interrupts=interrupts, sla=clock, **more)
    )


def started(*main: Block | str, answers: Answers | None = None, **more: Any) -> Shell:
    """A started run of these blocks."""
    return Shell(rooted(*main, **more), Said(), answers or always()).start()


# -- beside the main blocks ----------------------------------------------------------------------
def test_blocks_without_an_end_run_beside_the_main_ones() -> None:
    """Nothing of the main chain is stopped, and the run ends when both have."""
    shell = started("pay", bodies=[["notify"]])
    decision = shell.interrupt()
    assert [e for e in decision.effects if isinstance(e, CancelLeaf)] == []
    assert shell.scheduled == ["pay", "notify[0]"]
    shell.answer("pay")
    assert shell.snapshot.outcome is None
    shell.answer("notify[0]")
    assert shell.snapshot.outcome == COMPLETED


def test_each_signal_is_an_iteration_and_is_memoized() -> None:
    """The n-th signal has index n - 1, whether the ones before have ended or not."""
    shell = started("pay", bodies=[["notify"]])
    memo = next(e for e in shell.interrupt().effects if isinstance(e, Memo))
    assert memo == Memo(
        NodeKey("@interrupt@0@signal", (0,)), [SIGNAL | {"name": "s", "payload": None}]
    )
    shell.interrupt()
    shell.answer("notify[0]")
    shell.interrupt()
    assert shell.scheduled == ["pay", "notify[0]", "notify[1]", "notify[2]"]
    interrupt = shell.index["@interrupt@0"]
    assert interrupt.item_ref((2,)) == ("signal", NodeKey("@interrupt@0@signal", (2,)), 0)


def test_a_failure_beside_the_main_blocks_fails_the_run_at_its_end() -> None:
    """It is neither lost nor in a hurry; the first failure is the run's."""
    shell = started("pay", "ship", bodies=[["notify"]], answers=failing("notify"))
    shell.interrupt()
    shell.answer("notify[0]")
    assert shell.run() == BOOM
    assert shell.settled(Status.COMPLETED) == ["pay", "ship", "@main"]


def test_a_failure_counts_for_more_than_what_was_cancelled() -> None:
    """A run that is cancelled and failed has failed."""
    shell = started("pay", bodies=[["notify"]], answers=failing("pay"))
    shell.interrupt()
    shell.call("pay")
    shell.feed(CancelRequested())
    shell.answer("pay")
    assert shell.snapshot.outcome == BOOM


def test_an_interrupt_without_blocks_is_none_of_the_machines_business() -> None:
    """The shell sets and wakes; the frames stay as they are."""
    shell = started("pay", bodies=[None])
    before = shell.snapshot
    assert shell.interrupt().effects == ()
    assert shell.snapshot == before
    assert not shell.index.root.interrupts[0].closing


# -- closing -------------------------------------------------------------------------------------
def test_blocks_with_an_end_stop_what_can_be_stopped_and_run_then() -> None:
    """A wait ends at once, and the blocks start in its place."""
    shell = started("wait", "pay", bodies=[["restore", CLOSED]])
    decision = shell.interrupt()
    assert [type(e) for e in decision.effects] == [Memo, CancelLeaf]
    assert shell.scheduled == ["wait", "restore[0]"]
    assert shell.run() == COMPLETED
    assert shell.snapshot.finish == "recovered"
    assert shell.outcome_of("wait") == CANCELLED


def test_a_closing_interrupt_awaits_the_call_in_flight() -> None:
    """The charge is answered first; what stands behind it does not start."""
    shell = started("charge", "ship", bodies=[["restore", CLOSED]])
    shell.call("charge")
    shell.interrupt()
    assert shell.scheduled == ["charge"]
    assert shell.snapshot.frames[NodeKey("charge")].stop is Stop.FINISH
    shell.answer("charge")
    assert shell.outcome_of("charge") == COMPLETED
    assert shell.scheduled == ["charge", "restore[0]"]


def test_a_call_that_fails_while_it_is_awaited_does_not_fail_the_run() -> None:
    """How the run ends is for the interrupt to say."""
    shell = started("charge", bodies=[["restore", CLOSED]], answers=failing("charge"))
    shell.call("charge")
    shell.interrupt()
    assert shell.run() == COMPLETED
    assert shell.snapshot.dormant == {}


def test_a_saga_that_is_stopped_by_an_interrupt_compensates_nothing() -> None:
    """The run ends well elsewhere."""
    saga = Saga(
        id="saga", steps=((chain("a", "charge"), chain("u", "refund")), (chain("b", "ship"), None))
    )
    shell = started(saga, bodies=[[CLOSED]])
    shell.answer("charge")
    shell.interrupt()
    assert shell.snapshot.outcome == COMPLETED
    assert shell.scheduled == ["charge", "ship"]


def test_a_finally_runs_before_a_closing_interrupt() -> None:
    """Shielded parts run out first."""
    block = TryCatch(id="try", try_=chain("t", "charge"), catch=None, finally_=chain("f", "unlock"))
    shell = started(block, bodies=[["restore", CLOSED]])
    shell.interrupt()
    assert shell.scheduled == ["charge", "unlock"]
    assert shell.run() == COMPLETED
    assert shell.scheduled == ["charge", "unlock", "restore[0]"]


def test_a_second_closing_interrupt_changes_nothing() -> None:
    """The first one decides, while it waits and while it runs; others are not taken either."""
    shell = started("charge", bodies=[["restore", CLOSED], [End(id="void")], ["notify"]])
    shell.call("charge")
    shell.interrupt()
    for _ in range(2):
        for number in range(3):
            before = shell.snapshot
            assert shell.interrupt(number).effects == ()
            assert shell.snapshot == before
        if "charge" in {key.block_id for key in shell.rows}:
            shell.answer("charge")
    shell.run()
    assert shell.snapshot.finish == "recovered"


def test_a_cancel_does_not_reach_a_closing_interrupt() -> None:
    """Its blocks are shielded, also when the cancel comes while they still wait for a call."""
    shell = started("charge", bodies=[["restore", CLOSED]])
    shell.call("charge")
    shell.interrupt()
    shell.feed(CancelRequested())
    shell.answer("charge")
    shell.feed(CancelRequested())
    assert shell.run() == COMPLETED
    assert shell.outcome_of("restore[0]") == COMPLETED


def test_a_closing_interrupt_stops_the_others() -> None:
    """What runs beside the main blocks is part of what has to stop."""
    shell = started("wait", bodies=[["remind"], [CLOSED]])
    shell.interrupt(0)
    shell.interrupt(1)
    assert shell.snapshot.outcome == COMPLETED
    assert shell.outcome_of("remind[0]") == CANCELLED


def test_a_failed_closing_interrupt_is_what_a_retry_repeats() -> None:
    """Nothing of the main blocks comes back."""
    shell = started(
        "wait", bodies=[["restore", CLOSED]], answers=failing("restore", until=1), sla=True
    )
    shell.interrupt()
    shell.answer("restore[0]")
    assert shell.snapshot.outcome == BOOM
    shell.feed(Retried())
    assert shell.scheduled == [SLA, "wait", "restore[0]", "restore[0]~2"]
    shell.answer("restore[0]")
    assert shell.snapshot.outcome == COMPLETED
    assert shell.snapshot.finish == "recovered"


def test_an_end_that_is_skipped_leaves_the_run_completed_without_a_name() -> None:
    """The interrupt has closed the run all the same."""
    shell = started("wait", bodies=[["restore", End(id="e", outcome="x", when="false")]])  # type: ignore[arg-type]
    shell.interrupt()
    assert shell.run() == COMPLETED
    assert shell.snapshot.finish is None


# -- when it is taken ----------------------------------------------------------------------------
def test_nothing_is_interrupted_before_the_start_or_after_the_end() -> None:
    """There is no run to interrupt."""
    index = rooted("pay", bodies=[["notify"]])
    decision = advance(index, EMPTY, Interrupted(0, SIGNAL), Said())
    assert (decision.snapshot, decision.effects) == (EMPTY, ())
    shell = started("pay", bodies=[["notify"]])
    shell.run()
    assert shell.interrupt().effects == ()


@pytest.mark.parametrize("closing", [False, True])
def test_a_run_that_is_being_cancelled_takes_no_interrupt(closing: bool) -> None:
    """Whoever cancelled it has decided."""
    shell = started("charge", bodies=[["notify", *([CLOSED] if closing else [])]])
    shell.call("charge")
    shell.feed(CancelRequested())
    assert shell.interrupt().effects == ()


def test_a_definition_without_interrupts_takes_none() -> None:
    """A chain at the root has nothing to say to signals."""
    shell = Shell(Index(chain("@main", "pay"))).start()
    assert shell.interrupt().effects == ()


# -- retry ---------------------------------------------------------------------------------------
def test_a_retry_goes_on_with_what_failed_and_counts_on() -> None:
    """A completed body stays completed; the next signal is the next iteration."""
    shell = started("pay", bodies=[["notify"]], answers=failing("pay", until=1))
    shell.interrupt()
    shell.answer("notify[0]")
    shell.answer("pay")
    assert shell.snapshot.outcome == BOOM
    shell.feed(Retried())
    shell.interrupt()
    assert shell.run() == COMPLETED
    assert shell.scheduled == ["pay", "notify[0]", "pay~2", "notify[1]~2"]


# -- the clock -----------------------------------------------------------------------------------
def test_the_clock_runs_beside_and_is_stopped_at_the_end() -> None:
    """A run that is done in time never hears of it."""
    shell = started("pay", sla=True)
    assert shell.scheduled == [SLA, "pay"]
    shell.answer("pay")
    assert shell.snapshot.outcome == COMPLETED
    assert shell.outcome_of(SLA) == CANCELLED


def test_a_late_run_is_told_of_once_and_goes_on() -> None:
    """An alert changes nothing else."""
    shell = started("pay", sla=True)
    assert Overdue(NodeKey("@root")) in shell.answer(SLA).effects
    assert shell.run() == COMPLETED


def test_a_late_run_is_cancelled_if_it_says_so() -> None:
    """As if somebody had asked for it: calls in flight are awaited."""
    shell = started("charge", "ship", sla=True, on_breach="cancel")
    shell.call("charge")
    shell.answer(SLA)
    assert shell.snapshot.outcome is None
    shell.answer("charge")
    assert shell.snapshot.outcome == CANCELLED


def test_a_late_run_fails_if_it_says_so_and_a_retry_starts_the_clock_anew() -> None:
    """What was stopped goes on, with as much time again."""
    shell = started("pay", sla=True, on_breach="fail")
    shell.answer(SLA)
    outcome = shell.snapshot.outcome
    assert outcome is not None
    assert (outcome.status, (outcome.error or {})["code"]) == (Status.FAILED, "sla_breached")
    shell.feed(Retried())
    assert shell.scheduled == [SLA, "pay", f"{SLA}~2", "pay~2"]
    shell.answer("pay")
    assert shell.snapshot.outcome == COMPLETED


def test_a_retry_of_a_late_run_that_completed_after_all_repeats_nothing() -> None:
    """The charge that was answered while the run was failing is not made again."""
    shell = started("charge", sla=True, on_breach="fail")
    shell.call("charge")
    shell.answer(SLA)
    shell.answer("charge")
    assert shell.snapshot.outcome is not None
    assert shell.snapshot.outcome.status is Status.FAILED
    shell.feed(Retried())
    assert shell.snapshot.outcome == COMPLETED
    assert shell.scheduled == [SLA, "charge"]


def test_a_closing_interrupt_is_not_hurried_by_the_clock() -> None:
    """The breach is told; the run ends as the interrupt says."""
    for on_breach in ("cancel", "fail"):
        shell = started("charge", bodies=[["restore", CLOSED]], sla=True, on_breach=on_breach)
        shell.call("charge")
        shell.interrupt()
        assert Overdue(NodeKey("@root")) in shell.answer(SLA).effects
        assert shell.run() == COMPLETED


def test_a_clock_that_breaks_stops_nothing() -> None:
    """The run goes on without one."""
    shell = started("pay", sla=True)
    shell.feed(LeafSettled(NodeKey(SLA), BOOM))
    assert shell.run() == COMPLETED
    assert not [e for e in shell.effects if isinstance(e, Overdue)]


def test_a_cancel_stops_the_clock_too() -> None:
    """Nothing is left behind."""
    shell = started("pay", sla=True)
    shell.call("pay")
    shell.feed(CancelRequested())
    shell.answer("pay", BOOM)
    assert shell.snapshot.outcome == BOOM
    assert {e.key.block_id for e in shell.effects if isinstance(e, Schedule)} == {"pay", SLA}
    assert Settled(NodeKey(SLA), CANCELLED) in shell.effects
