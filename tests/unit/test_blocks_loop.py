"""loop: the body again and again while the condition holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from orch8.blocks.loop import Loop
from orch8.blocks.parallel import Parallel
from orch8.engine.events import CancelRequested
from orch8.engine.outcome import CANCELLED, COMPLETED
from tests.support.definitions import chain, task, word
from tests.support.shell import BOOM, Shell, failing, started

if TYPE_CHECKING:
    from orch8.engine.keys import NodeKey


def test_loop_runs_its_body_up_to_the_cap_and_completes() -> None:
    """Reaching ``max_iterations`` is no failure."""
    shell = started(Loop(id="loop", body=chain("b", "pay"), max_iterations=3))
    assert shell.run() == COMPLETED
    assert shell.scheduled == ["pay[0]", "pay[1]", "pay[2]"]


def test_loop_of_no_iterations_completes() -> None:
    """A cap of zero runs nothing."""
    shell = started(Loop(id="loop", body=chain("b", "pay"), max_iterations=0))
    assert shell.snapshot.outcome == COMPLETED


def test_loop_whose_condition_is_false_runs_nothing() -> None:
    """The condition is checked before the first iteration."""
    shell = started(Loop(id="loop", body=chain("b", "pay"), condition=word("false")))
    assert shell.snapshot.outcome == COMPLETED
    assert shell.scheduled == []


def test_loop_checks_its_condition_before_each_iteration() -> None:
    """It ends when the condition does not hold any more; it is asked at the loop."""
    asked = []

    def unpaid(at: NodeKey, _: object) -> bool:
        asked.append(str(at))
        return at.path[-1] < 2

    shell = started(
        Loop(id="loop", body=chain("b", "pay"), condition=word("unpaid")), unpaid=unpaid
    )
    shell.run()
    assert asked == ["loop[0]", "loop[1]", "loop[2]"]
    assert shell.scheduled == ["pay[0]", "pay[1]"]


def test_loop_breaks_behind_the_iteration_that_said_so() -> None:
    """``break_on`` is checked after the body."""
    loop = Loop(id="loop", body=chain("b", "pay"), break_on=word("paid"), pause=task("pause"))
    shell = started(loop, paid=lambda at, _: at.path[-1] == 1)
    shell.run()
    assert shell.scheduled == ["pay[0]", "pause[0]", "pay[1]"]


def test_loop_pauses_between_iterations_only() -> None:
    """Neither before the first nor behind the last."""
    shell = started(Loop(id="loop", body=chain("b", "pay"), pause=task("pause"), max_iterations=2))
    shell.run()
    assert shell.scheduled == ["pay[0]", "pause[0]", "pay[1]"]


def test_loop_fails_with_its_body() -> None:
    """A failed iteration is the last one."""
    shell = started(
        Loop(id="loop", body=chain("b", "pay"), max_iterations=3), answers=failing("pay")
    )
    assert shell.run() == BOOM
    assert shell.scheduled == ["pay[0]"]


@pytest.mark.parametrize("fails", ["pay", "pause"])
def test_loop_that_continues_on_error_counts_a_failure_as_an_iteration(fails: str) -> None:
    """It completes, and forgets the way back into what failed."""
    loop = Loop(
        id="loop",
        body=chain("b", "pay"),
        pause=task("pause"),
        max_iterations=2,
        continue_on_error=True,
    )
    shell = started(loop, answers=failing(fails))
    assert shell.run() == COMPLETED
    assert shell.scheduled == ["pay[0]", "pause[0]", "pay[1]"]
    assert shell.snapshot.dormant == {}


def test_loop_that_continues_on_error_does_not_forgive_a_cancel() -> None:
    """A cancel ends it like any other block."""
    loop = Loop(id="loop", body=chain("b", "pay"), max_iterations=2, continue_on_error=True)
    shell = started(loop)
    shell.feed(CancelRequested())
    assert shell.snapshot.outcome == CANCELLED
    assert shell.scheduled == ["pay[0]"]


def test_loop_in_a_loop_has_an_index_for_each() -> None:
    """The key says the iteration of every loop, outermost first."""
    inner = Loop(id="inner", body=chain("ib", "pay"), max_iterations=2)
    shell = started(Loop(id="outer", body=chain("ob", inner), max_iterations=2))
    shell.run()
    assert shell.scheduled == ["pay[0,0]", "pay[0,1]", "pay[1,0]", "pay[1,1]"]


def test_loop_retried_goes_on_in_the_failed_iteration() -> None:
    """The iterations before it are not repeated."""
    loop = Loop(id="loop", body=chain("b", "pay", "book"), max_iterations=3)
    shell = started(loop)
    for _ in range(2):
        shell.answer("pay")
        shell.answer("book", BOOM if "book[1]" in shell.scheduled else None)
    assert shell.retry() == COMPLETED
    assert shell.scheduled[3:] == ["book[1]", "book[1]~2", "pay[2]~2", "book[2]~2"]


@pytest.mark.parametrize(
    ("called", "goes_on"), [("pay[0]", "pause[0]~2"), ("pause[0]", "pay[1]~2")]
)
def test_loop_stopped_between_two_parts_goes_on_with_the_next(called: str, goes_on: str) -> None:
    """A retry repeats neither an iteration nor a pause that completed while being stopped."""
    loop = Loop(id="loop", body=chain("b", "pay"), pause=task("pause"), max_iterations=2)
    branches = (chain("x", loop), chain("y", "check"))
    shell = Shell(started(Parallel(id="all", branches=branches, fail="fast")).index).start()
    if called == "pause[0]":
        shell.answer("pay")
    shell.call(called)
    shell.answer("check", BOOM)
    shell.answer(called)
    assert shell.outcome_of("loop") == CANCELLED
    assert shell.retry() == COMPLETED
    assert goes_on in shell.scheduled
    assert len(shell.scheduled) == len({key.split("~")[0] for key in shell.scheduled}) + 1
