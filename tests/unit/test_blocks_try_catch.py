"""try_catch: try; on failure catch; always finally."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orch8.blocks.parallel import Parallel
from orch8.blocks.race import Race
from orch8.blocks.try_catch import TryCatch
from orch8.engine.events import CancelRequested
from orch8.engine.outcome import CANCELLED, COMPLETED, failed
from orch8.errors import ExpressionError
from tests.support.definitions import chain, task
from tests.support.shell import BOOM, failing, started

if TYPE_CHECKING:
    from orch8.engine.keys import NodeKey

CAUGHT = {
    "message": "boom", "failed_blocks": ["pay"], "source": "try_catch", "block_id": "guard",
}  # fmt: skip


def _guard(*, catch: Any = ("inform",), finally_: Any = ("close",)) -> TryCatch:
    return TryCatch(
        id="guard",
        try_=chain("try", "pay", "ship"),
        catch=None if catch is None else chain("catch", *catch),
        finally_=None if finally_ is None else chain("finally", *finally_),
    )


def test_catch_does_not_run_when_the_try_completes() -> None:
    """The finally does."""
    shell = started(_guard())
    assert shell.run() == COMPLETED
    assert shell.scheduled == ["pay", "ship", "close"]


def test_catch_runs_on_failure_and_makes_it_good() -> None:
    """What stands behind the failed block is left out; then the finally runs."""
    shell = started(_guard(), answers=failing("pay"))
    assert shell.run() == COMPLETED
    assert shell.scheduled == ["pay", "inform", "close"]


def test_empty_catch_swallows_the_failure() -> None:
    """Nothing to do is done well."""
    assert started(_guard(catch=()), answers=failing("pay")).run() == COMPLETED


def test_try_without_a_catch_fails_behind_its_finally() -> None:
    """The failure of the try is the block's."""
    shell = started(_guard(catch=None), "after", answers=failing("pay"))
    assert shell.run() == BOOM
    assert shell.scheduled == ["pay", "close"]


def test_try_with_neither_passes_its_failure_on() -> None:
    """It is a chain then."""
    shell = started(_guard(catch=None, finally_=None), answers=failing("pay"))
    assert shell.run() == BOOM


def test_finally_runs_when_the_catch_fails() -> None:
    """The block fails as the catch did."""
    shell = started(_guard())
    shell.answer("pay", failed("first"))
    shell.answer("inform", failed("second"))
    assert shell.live("close")
    shell.answer("close")
    assert shell.snapshot.outcome == failed("second")


def test_failed_finally_fails_the_block() -> None:
    """Even when all before it went well."""
    assert started(_guard(), answers=failing("close")).run() == BOOM


def test_catch_reads_the_failure_of_the_try() -> None:
    """``_error`` is there in the catch and in the finally behind it, not in the try."""
    seen: dict[str, Any] = {}

    def look(at: NodeKey, error: Any) -> bool:
        seen[at.block_id] = error
        return True

    blocks = [task(name, when="look") for name in ("pay", "inform", "close")]
    guard = TryCatch(
        id="guard",
        try_=chain("try", blocks[0]),
        catch=chain("catch", blocks[1]),
        finally_=chain("finally", blocks[2]),
    )
    started(guard, answers=failing("pay"), look=look).run()
    assert seen == {"pay": None, "inform": CAUGHT, "close": CAUGHT}


def test_cancel_is_not_caught_but_finally_runs_to_its_end() -> None:
    """The catch is for failures; the finally is shielded."""
    shell = started(_guard(finally_=("close", "report")))
    shell.feed(CancelRequested())
    assert shell.live("close")
    assert shell.run() == CANCELLED
    assert shell.scheduled == ["pay", "close", "report"]


def test_call_that_fails_while_it_is_cancelled_is_not_caught() -> None:
    """Nothing new starts but the finally; the failure is told."""
    shell = started(_guard())
    shell.call("pay")
    shell.feed(CancelRequested())
    shell.answer("pay", BOOM)
    assert shell.run() == BOOM
    assert shell.scheduled == ["pay", "close"]


def test_cancel_during_the_finally_does_not_reach_it() -> None:
    """It runs to its end, and what the try came to stands."""
    shell = started(_guard(finally_=("close", "report")), "after")
    shell.answer("pay")
    shell.answer("ship")
    shell.feed(CancelRequested())
    assert shell.run() == CANCELLED
    assert shell.outcome_of("guard") == COMPLETED
    assert shell.scheduled == ["pay", "ship", "close", "report"]


def test_retry_goes_back_into_the_try_and_runs_finally_again() -> None:
    """The finally of the new round is a node of its own."""
    shell = started(_guard(catch=None), answers=failing("ship", until=1))
    shell.run()
    assert shell.retry() == COMPLETED
    assert shell.scheduled == ["pay", "ship", "close", "ship~2", "close~2"]


def test_retry_goes_back_into_the_catch_that_failed() -> None:
    """Not into the try: its failure is being handled, and the catch still reads it."""
    seen: list[Any] = []
    catch = (task("inform", when="look"),)

    def look(_: NodeKey, error: Any) -> bool:
        seen.append(error)
        return True

    shell = started(
        _guard(catch=catch),
        answers=failing("pay", "inform", until=1),
        look=look,
    )
    shell.run()
    assert shell.retry() == COMPLETED
    assert shell.scheduled == ["pay", "inform", "close", "inform~2", "close~2"]
    assert seen == [CAUGHT, CAUGHT]


def test_retry_repeats_only_a_finally_that_failed_by_itself() -> None:
    """Try and catch are behind it, also a try whose failure was caught."""
    shell = started(_guard(), answers=failing("pay", "close", until=1))
    shell.run()
    assert shell.retry() == COMPLETED
    assert shell.scheduled == ["pay", "inform", "close", "close~2"]


def test_retry_goes_back_into_the_try_when_finally_failed_too() -> None:
    """First what failed first, then the whole finally once more."""
    shell = started(
        _guard(catch=None, finally_=("close", "report")),
        answers=failing("pay", "report", until=1),
    )
    shell.run()
    assert shell.retry() == COMPLETED
    assert shell.scheduled == ["pay", "close", "report", "pay~2", "ship~2", "close~2", "report~2"]


def test_guard_that_was_stopped_before_it_started_starts_anew() -> None:
    """There is nothing to go back into."""
    race = Race(id="race", branches=(chain("r", _guard()),))
    branches = (chain("a", task("check", when="fine")), chain("b", race))
    shell = started(Parallel(id="all", branches=branches, fail="fast"), fine=_broken_at_first)
    assert shell.outcome_of("guard") == CANCELLED
    assert shell.retry() == COMPLETED
    assert shell.scheduled == ["check~2", "pay~2", "ship~2", "close~2"]


def _broken_at_first(at: NodeKey, _: object) -> bool:
    if at.round == 1:
        raise ExpressionError("broken")
    return True


def test_error_names_what_failed_from_the_outside_in() -> None:
    """Blocks that were cancelled for it, and chains, are left out."""
    seen: list[Any] = []

    def look(_: NodeKey, error: Any) -> bool:
        seen.append(error["failed_blocks"])
        return True

    inner = Parallel(id="both", branches=(chain("l", "pay"), chain("r", "wait")), fail="fast")
    guard = TryCatch(
        id="guard", try_=chain("@try", inner), catch=chain("@catch", task("inform", when="look"))
    )
    shell = started(guard, answers=failing("pay"), look=look)
    shell.answer("pay")
    shell.run()
    assert seen == [["both", "l", "pay"]]


def test_parts_keep_their_numbers() -> None:
    """Finally is 2, also without a catch."""
    numbers = [number for number, _ in _guard(catch=None).numbered()]
    assert numbers == [0, 2]
