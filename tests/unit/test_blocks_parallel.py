"""parallel: every branch at once."""

from __future__ import annotations

import pytest

from orch8.blocks.parallel import Parallel
from orch8.engine.outcome import CANCELLED, COMPLETED, Outcome, failed
from tests.support.definitions import chain
from tests.support.shell import BOOM, Shell, failing, started


def _both(**more: object) -> Parallel:
    return Parallel(id="all", branches=(chain("a", "pay"), chain("b", "ship")), **more)  # type: ignore[arg-type]


def test_parallel_starts_every_branch_at_once() -> None:
    """The first leaves of all branches are scheduled in one transition."""
    assert started(_both()).scheduled == ["pay", "ship"]


def test_parallel_completes_when_every_branch_did() -> None:
    """What stands behind it waits for the last branch."""
    shell = started(_both(), "inform")
    shell.answer("ship")
    assert not shell.live("inform")
    shell.answer("pay")
    assert shell.live("inform")


@pytest.mark.parametrize("branches", [(), (chain("a"), chain("b"))])
def test_parallel_of_nothing_completes(branches: tuple[object, ...]) -> None:
    """No branches, or empty ones, are nothing to wait for."""
    shell = started(Parallel(id="all", branches=branches))  # type: ignore[arg-type]
    assert shell.snapshot.outcome == COMPLETED


def test_parallel_waits_for_all_and_keeps_the_work_of_the_others() -> None:
    """A failed branch fails it in the end, and stops no other."""
    shell = started(_both(), "inform")
    shell.answer("pay", BOOM)
    assert shell.snapshot.outcome is None
    shell.answer("ship")
    assert shell.outcome_of("ship") == COMPLETED
    assert shell.snapshot.outcome == BOOM


def test_parallel_fails_as_the_first_branch_that_failed() -> None:
    """The error does not depend on which branch is the slowest."""
    shell = started(_both())
    shell.answer("ship", failed("first"))
    shell.answer("pay", failed("second"))
    assert shell.snapshot.outcome == failed("first")


@pytest.mark.parametrize("order", ["pay ship", "ship pay"])
def test_parallel_prefers_a_failure_to_a_cancel(order: str) -> None:
    """One branch failed and one was cancelled: it failed, in whichever order they ended."""
    ends: dict[str, Outcome] = {"pay": BOOM, "ship": CANCELLED}
    shell = started(_both())
    for name in order.split():
        shell.answer(name, ends[name])
    assert shell.snapshot.outcome == BOOM


def test_parallel_that_fails_fast_stops_the_rest() -> None:
    """Unclaimed leaves of the other branches end at once."""
    shell = started(_both(fail="fast"))
    shell.answer("pay", BOOM)
    assert shell.snapshot.outcome == BOOM
    assert shell.outcome_of("ship") == CANCELLED


def test_parallel_that_fails_fast_waits_for_calls_in_flight() -> None:
    """It fails once the last answer is known."""
    shell = started(_both(fail="fast"))
    shell.call("ship")
    shell.answer("pay", BOOM)
    assert shell.snapshot.outcome is None
    shell.answer("ship")
    assert shell.snapshot.outcome == BOOM
    assert shell.outcome_of("ship") == COMPLETED


def test_parallel_retried_goes_into_the_failed_branches_only() -> None:
    """The branches that completed stay as they are."""
    shell = Shell(started(_both()).index, answers=failing("ship", until=1)).start()
    assert shell.run() == BOOM
    assert shell.retry() == COMPLETED
    assert shell.scheduled == ["pay", "ship", "ship~2"]


def test_branches_are_numbered_in_their_order() -> None:
    """From 0, as of most blocks."""
    block = Parallel(id="all", branches=(chain("a", "pay"), chain("b", "ship")))
    assert [(number, branch.id) for number, branch in block.numbered()] == [(0, "a"), (1, "b")]
