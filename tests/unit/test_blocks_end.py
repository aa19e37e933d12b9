"""end: finish the instance now, under a name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from orch8.blocks.cancellation_scope import CancellationScope
from orch8.blocks.end import End
from orch8.blocks.loop import Loop
from orch8.blocks.parallel import Parallel
from orch8.blocks.router import Router
from orch8.blocks.try_catch import TryCatch
from orch8.engine.events import CancelRequested
from orch8.engine.outcome import CANCELLED, COMPLETED
from tests.support.definitions import chain, task, word
from tests.support.shell import BOOM, failing, started

if TYPE_CHECKING:
    from orch8.engine.block import Block

END = End(id="end", outcome="written_off")


def test_end_completes_the_instance_under_its_name() -> None:
    """What stands behind it never starts."""
    shell = started("pay", END, "ship")
    assert shell.run() == COMPLETED
    assert shell.snapshot.finish == "written_off"
    assert shell.scheduled == ["pay"]


def test_end_stops_everything_beside_it() -> None:
    """Unclaimed leaves end at once, calls in flight are awaited."""
    branches = (chain("a", "decide", END), chain("b", "pay", "ship"), chain("c", "remind"))
    shell = started(Parallel(id="all", branches=branches), "after")
    shell.call("pay")
    shell.answer("decide")
    assert shell.outcome_of("remind") == CANCELLED
    assert shell.snapshot.outcome is None
    shell.answer("pay")
    assert shell.snapshot.outcome == COMPLETED
    assert shell.scheduled == ["decide", "pay", "remind"]


def test_end_lets_finally_and_shielded_parts_run_out() -> None:
    """The instance completes behind them, well, even if one of them fails."""
    guard = TryCatch(
        id="guard", try_=chain("try", "decide", END, "ship"), finally_=chain("fin", "close")
    )
    scope = CancellationScope(id="scope", body=chain("body", "charge", "book"))
    shell = started(
        Parallel(id="all", branches=(chain("a", guard), chain("b", scope))), answers=failing("book")
    )
    shell.answer("decide")
    assert {key.block_id for key in shell.live()} == {"close", "charge"}
    assert shell.run() == COMPLETED
    assert shell.outcome_of("book") == BOOM


@pytest.mark.parametrize(
    "inside",
    [
        CancellationScope(id="x", body=chain("x1", END, "ship")),
        CancellationScope(
            id="x", body=chain("x1", Router(id="y", default=chain("y1", END)), "ship")
        ),
        CancellationScope(id="x", body=chain("x1", Loop(id="y", body=chain("y1", END, "ship")))),
        CancellationScope(
            id="x",
            body=chain("x1", Parallel(id="y", branches=(chain("y1", END), chain("y2", "ship")))),
        ),
        TryCatch(id="x", try_=chain("x1"), finally_=chain("x2", END, "ship")),
    ],
)
def test_end_is_not_held_up_by_the_shield_it_stands_in(inside: Block) -> None:
    """The shield that is around the end itself is down; it stops there too."""
    shell = started(inside, "after")
    assert shell.snapshot.outcome == COMPLETED
    assert shell.snapshot.finish == "written_off"
    assert not shell.live()


def test_end_under_a_cancel_completes_the_instance() -> None:
    """It is reached in a part that a cancel does not stop, and it is the last word."""
    scope = CancellationScope(id="scope", body=chain("body", "charge", END, "book"))
    shell = started(scope)
    shell.feed(CancelRequested())
    shell.answer("charge")
    assert shell.snapshot.outcome == COMPLETED
    assert shell.snapshot.finish == "written_off"


def test_end_whose_when_is_false_does_nothing() -> None:
    """It is a block like any other."""
    shell = started(End(id="end", when=word("false")), task("ship"))
    assert shell.scheduled == ["ship"]
    assert shell.snapshot.finish is None
