"""cancellation_scope: blocks that run to their end even when the instance is cancelled."""

from __future__ import annotations

from orch8.blocks.cancellation_scope import CancellationScope
from orch8.blocks.parallel import Parallel
from orch8.blocks.race import Race
from orch8.engine.events import CancelRequested, Retried
from orch8.engine.outcome import CANCELLED, COMPLETED
from tests.support.definitions import chain
from tests.support.shell import BOOM, failing, started


def _scope() -> CancellationScope:
    return CancellationScope(id="scope", body=chain("body", "charge", "book"))


def test_scope_runs_its_blocks_in_order() -> None:
    """It is a chain as long as nobody cancels."""
    shell = started(_scope())
    assert shell.run() == COMPLETED
    assert shell.scheduled == ["charge", "book"]


def test_scope_fails_with_its_body() -> None:
    """A shield against cancels is none against failures."""
    assert started(_scope(), answers=failing("charge")).run() == BOOM


def test_scope_runs_to_its_end_under_a_cancel() -> None:
    """Its later blocks start though the instance is being cancelled; what follows does not."""
    shell = started(_scope(), "ship")
    assert shell.feed(CancelRequested()).effects == ()
    assert shell.run() == CANCELLED
    assert shell.scheduled == ["charge", "book"]
    assert shell.outcome_of("scope") == COMPLETED


def test_scope_that_was_not_reached_does_not_start_under_a_cancel() -> None:
    """It protects what runs, not what might have."""
    shell = started("quote", _scope())
    shell.call("quote")
    shell.feed(CancelRequested())
    shell.answer("quote")
    assert shell.snapshot.outcome == CANCELLED
    assert shell.scheduled == ["quote"]


def test_scope_in_a_losing_branch_runs_to_its_end() -> None:
    """The race completes behind it."""
    shell = started(Race(id="race", branches=(chain("a", _scope()), chain("b", "bank"))), "after")
    shell.answer("bank")
    assert shell.live() == shell.live("charge")
    shell.answer("charge")
    shell.answer("book")
    assert shell.scheduled == ["bank", "charge", "book", "after"]


def test_race_inside_a_scope_still_cancels_its_losers() -> None:
    """The shield is against the outside."""
    race = Race(id="race", branches=(chain("a", "card"), chain("b", "bank")))
    shell = started(CancellationScope(id="scope", body=chain("body", race)))
    shell.answer("card")
    assert shell.snapshot.outcome == COMPLETED
    assert shell.outcome_of("bank") == CANCELLED


def test_scope_is_shielded_after_a_retry_too() -> None:
    """Going back into it brings its shield along."""
    shell = started(
        Parallel(id="all", branches=(chain("a", _scope()), chain("b", "pay"))),
        answers=failing("charge", until=1),
    )
    shell.run()
    shell.feed(Retried())
    shell.feed(CancelRequested())
    assert shell.run() == COMPLETED
    assert shell.scheduled[-2:] == ["charge~2", "book~2"]
