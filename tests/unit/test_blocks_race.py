"""race: every branch at once, one of them decides."""

from __future__ import annotations

from typing import Any

import pytest

from orch8.blocks.race import Race
from orch8.engine.outcome import CANCELLED, COMPLETED, failed
from tests.support.definitions import chain
from tests.support.shell import BOOM, Shell, failing, started


def _race(semantics: Any = "first_to_resolve") -> Race:
    return Race(
        id="race", branches=(chain("a", "card", "book"), chain("b", "bank")), semantics=semantics
    )


def test_race_starts_every_branch_at_once() -> None:
    """They run beside each other until one decides."""
    assert started(_race()).scheduled == ["card", "bank"]


def test_race_is_won_by_the_first_branch_that_ends() -> None:
    """A branch ends with its last block; the rest is cancelled, then the race completes."""
    shell = started(_race(), "inform")
    shell.answer("card")
    assert shell.live("bank")
    shell.answer("bank")
    assert shell.outcome_of("book") == CANCELLED
    assert shell.outcome_of("race") == COMPLETED
    assert shell.scheduled == ["card", "bank", "book", "inform"]


def test_race_waits_for_the_loser_whose_call_is_in_flight() -> None:
    """It completes once the loser's answer is known, whatever that is."""
    shell = started(_race(), "inform")
    shell.call("card")
    shell.answer("bank")
    assert not shell.live("inform")
    shell.answer("card")
    assert shell.live("inform")
    assert "book" not in shell.scheduled


def test_race_to_resolve_fails_with_the_first_failure() -> None:
    """The first end decides, well or badly."""
    shell = started(_race())
    shell.answer("card", BOOM)
    assert shell.snapshot.outcome == BOOM
    assert shell.outcome_of("bank") == CANCELLED


def test_race_to_succeed_ignores_failures_while_others_run() -> None:
    """A fast failure and a later success make a success."""
    shell = started(_race("first_to_succeed"))
    shell.answer("card", BOOM)
    assert shell.snapshot.outcome is None
    shell.answer("bank")
    assert shell.snapshot.outcome == COMPLETED


def test_race_to_succeed_fails_when_all_fail() -> None:
    """It fails as the last branch did."""
    shell = started(_race("first_to_succeed"))
    shell.answer("card", BOOM)
    shell.answer("bank", failed("last"))
    assert shell.snapshot.outcome == failed("last")


@pytest.mark.parametrize("branches", [(), (chain("a"), chain("b", "pay"))])
def test_race_of_nothing_completes(branches: Any) -> None:
    """No branches have nothing to decide; an empty one wins."""
    assert started(Race(id="race", branches=branches)).snapshot.outcome == COMPLETED


def test_race_retried_lets_those_that_did_not_complete_go_on() -> None:
    """Both branches go on where they stopped."""
    shell = Shell(started(_race()).index, answers=failing("bank", until=1)).start()
    shell.answer("card")
    shell.answer("bank")
    assert shell.retry() == COMPLETED
    assert shell.scheduled[:5] == ["card", "bank", "book", "bank~2", "book~2"]
