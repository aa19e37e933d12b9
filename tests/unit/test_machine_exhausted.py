"""A run that has used up what it may use fails, whatever would catch it."""

from __future__ import annotations

from orch8.blocks.cancellation_scope import CancellationScope
from orch8.blocks.try_catch import TryCatch
from orch8.engine.events import CancelRequested, Exhausted, Retried
from orch8.engine.keys import NodeKey
from orch8.engine.machine import advance
from orch8.engine.moves import CancelLeaf
from orch8.engine.outcome import CANCELLED, COMPLETED, Outcome, Status
from orch8.engine.snapshot import EMPTY
from tests.support.definitions import Said, chain, index_of
from tests.support.shell import started

ERROR = {"message": "the instance has run 9 steps", "code": "too_many_steps"}
ENOUGH = Exhausted(ERROR)
FAILED = Outcome(Status.FAILED, ERROR)


def test_run_fails_and_what_is_live_is_cancelled() -> None:
    """What stands behind it never starts."""
    shell = started("pay", "ship")
    assert CancelLeaf(NodeKey("pay")) in shell.feed(ENOUGH).effects
    assert shell.run() == FAILED
    assert shell.scheduled == ["pay"]


def test_call_in_flight_is_awaited() -> None:
    """It may have moved money."""
    shell = started("pay")
    shell.call("pay")
    shell.feed(ENOUGH)
    assert shell.snapshot.outcome is None
    shell.answer("pay")
    assert shell.snapshot.outcome == FAILED


def test_nothing_catches_it_and_what_is_shielded_runs() -> None:
    """A catch is for failures of its blocks; a finally is for everything."""
    careful = TryCatch(
        id="careful",
        try_=chain("try", "pay"),
        catch=chain("catch", "plan_b"),
        finally_=chain("finally", "clean_up"),
    )
    shell = started(careful, "ship")
    shell.feed(ENOUGH)
    assert shell.run() == FAILED
    assert shell.scheduled == ["pay", "clean_up"]


def test_run_that_is_coming_to_its_end_already_is_left_alone() -> None:
    """The first reason is the one that counts."""
    scope = CancellationScope(id="scope", body=chain("body", "clean_up", "report"))
    shell = started(scope, "ship")
    shell.feed(CancelRequested())
    assert shell.feed(ENOUGH).effects == ()
    assert shell.run() == CANCELLED
    again = started(scope)
    again.feed(ENOUGH)
    again.feed(Exhausted({"message": "again"}))
    assert again.run() == FAILED


def test_before_the_start_and_after_the_end_it_means_nothing() -> None:
    """There is nothing to stop."""
    assert advance(index_of("pay"), EMPTY, ENOUGH, Said()).effects == ()
    shell = started("pay")
    shell.run()
    assert shell.feed(ENOUGH).effects == ()
    assert shell.snapshot.outcome == COMPLETED


def test_retry_goes_on_where_it_was_stopped() -> None:
    """With what it may use by then."""
    shell = started("pay", "ship")
    shell.answer("pay")
    shell.feed(ENOUGH)
    shell.feed(Retried())
    assert shell.run() == COMPLETED
    assert shell.scheduled == ["pay", "ship", "ship~2"]
