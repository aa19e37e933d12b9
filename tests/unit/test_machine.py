"""The machine itself: events at odd moments, `when`, errors in expressions, and size."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from orch8.blocks.cancellation_scope import CancellationScope
from orch8.blocks.end import End
from orch8.blocks.for_each import ForEach
from orch8.blocks.loop import Loop
from orch8.blocks.parallel import Parallel
from orch8.blocks.race import Race
from orch8.blocks.router import Router
from orch8.blocks.try_catch import TryCatch
from orch8.engine.block import Block, Chain, Index
from orch8.engine.events import CancelRequested, Event, LeafSettled, Retried, Started
from orch8.engine.keys import NodeKey
from orch8.engine.machine import advance, error_at
from orch8.engine.moves import CancelLeaf, Schedule, Settled
from orch8.engine.outcome import CANCELLED, COMPLETED, SKIPPED, Status
from orch8.engine.snapshot import EMPTY, Frame, Snapshot
from orch8.errors import ExpressionError
from tests.support.definitions import Said, chain, index_of, task, word
from tests.support.shell import BOOM, Shell, always, failing, started

ROOT, PAY = NodeKey("@root"), NodeKey("pay")
_WIDE = (
    ForEach(id="each", collection=word("items:9"), body=chain("b", "pay", "ship"), concurrency=4),
)


def test_start_schedules_the_first_leaf_and_nothing_else() -> None:
    """Blocks of a chain run one after another."""
    decision = advance(index_of("pay", "ship"), EMPTY, Started(), Said())
    assert decision.effects == (Schedule(PAY),)
    assert decision.snapshot.frames == {ROOT: Frame(None, {"c": 0}), PAY: Frame(ROOT)}


def test_empty_definition_completes_at_once() -> None:
    """Nothing to do is done."""
    assert started().snapshot.outcome == COMPLETED


def test_chain_goes_on_when_a_leaf_completes() -> None:
    """The next block starts in the transition that ends the one before."""
    shell = started("pay", "ship")
    decision = shell.answer("pay")
    assert decision.effects == (Settled(PAY, COMPLETED), Schedule(NodeKey("ship")))


def test_chain_stops_at_the_first_failure() -> None:
    """What stands behind a failed block never starts, and the failure is the instance's."""
    shell = started("pay", "ship", answers=failing("pay"))
    assert shell.run() == BOOM
    assert shell.scheduled == ["pay"]


@pytest.mark.parametrize("event", [CancelRequested(), Retried(), LeafSettled(PAY, COMPLETED)])
def test_event_before_the_start_changes_nothing(event: Event) -> None:
    """There is nothing to cancel, retry or settle yet."""
    decision = advance(index_of("pay"), EMPTY, event, Said())
    assert (decision.snapshot, decision.effects) == (EMPTY, ())


def test_second_start_changes_nothing() -> None:
    """An instance is started once, however often it is told to."""
    shell = started("pay")
    assert shell.feed(Started()).effects == ()


def test_answer_for_a_composite_changes_nothing() -> None:
    """Only leaves have answers."""
    shell = started(CancellationScope(id="scope", body=chain("body", "pay")))
    assert shell.feed(LeafSettled(NodeKey("scope"), COMPLETED)).effects == ()
    assert len(shell.snapshot.frames) == 4


def test_second_answer_changes_nothing() -> None:
    """A redelivered result finds its node gone."""
    shell = started("pay", "ship")
    shell.answer("pay")
    assert shell.feed(LeafSettled(PAY, BOOM)).effects == ()


@pytest.mark.parametrize("event", [Started(), CancelRequested(), Retried()])
def test_completed_instance_is_deaf(event: Event) -> None:
    """No event changes an instance that completed."""
    shell = started("pay")
    shell.run()
    before = shell.snapshot
    assert shell.feed(event).effects == ()
    assert shell.snapshot == before


def test_second_cancel_changes_nothing() -> None:
    """A leaf is asked to stop once."""
    shell = started("pay")
    shell.call("pay")
    assert shell.feed(CancelRequested()).effects == (CancelLeaf(PAY),)
    assert shell.feed(CancelRequested()).effects == ()


def test_cancel_ends_a_leaf_that_was_not_called() -> None:
    """An unclaimed step ends at once, and the instance with it."""
    shell = started("pay", "ship")
    shell.feed(CancelRequested())
    assert shell.snapshot.outcome == CANCELLED
    assert shell.scheduled == ["pay"]


def test_cancel_waits_for_a_call_in_flight() -> None:
    """The answer of a call is awaited; what stands behind it does not start."""
    shell = started("pay", "ship")
    shell.call("pay")
    shell.feed(CancelRequested())
    assert shell.snapshot.outcome is None
    shell.answer("pay")
    assert shell.snapshot.outcome == CANCELLED
    assert shell.outcome_of("pay") == COMPLETED
    assert shell.scheduled == ["pay"]


def test_cancel_behind_the_last_call_does_not_undo_success() -> None:
    """When everything was done, the instance completed."""
    shell = started("pay")
    shell.call("pay")
    shell.feed(CancelRequested())
    shell.answer("pay")
    assert shell.snapshot.outcome == COMPLETED


def test_leaf_that_may_not_be_cancelled_is_not_asked() -> None:
    """``cancellable: false`` shields a leaf that runs, not one that stands behind it."""
    shell = started(task("pay", cancellable=False), task("ship", cancellable=False))
    assert shell.feed(CancelRequested()).effects == ()
    shell.answer("pay")
    assert shell.snapshot.outcome == CANCELLED
    assert shell.scheduled == ["pay"]


def test_leaf_that_never_started_is_not_asked_to_stop() -> None:
    """Where a race is decided before a branch starts, nobody hears of that branch's leaf."""
    shell = started(Race(id="race", branches=(chain("a"), chain("b", "pay"))))
    assert shell.snapshot.outcome == COMPLETED
    assert not [e for e in shell.effects if isinstance(e, Schedule | CancelLeaf)]
    assert shell.outcome_of("pay") == CANCELLED


def test_block_whose_when_is_false_is_skipped() -> None:
    """Skipped is as good as completed: what follows starts."""
    shell = started(task("pay", when="false"), "ship")
    assert shell.outcome_of("pay") == SKIPPED
    assert shell.scheduled == ["ship"]


def test_composite_whose_when_is_false_starts_nothing_inside() -> None:
    """``when`` guards every type of block."""
    shell = started(Parallel(id="all", when=word("false"), branches=(chain("a", "pay"),)))
    assert shell.snapshot.outcome == COMPLETED
    assert shell.outcome_of("all") == SKIPPED
    assert shell.scheduled == []


def test_expression_that_cannot_be_evaluated_fails_the_block() -> None:
    """A broken ``when`` is a failure like any other: it can be caught."""
    broken = task("pay", when="broken")
    shell = Shell(
        index_of(TryCatch(id="try", try_=chain("t", broken), catch=chain("c", "call_a_person"))),
        Said(broken_until=9),
    ).start()
    assert shell.outcome_of("pay").status is Status.FAILED
    assert shell.outcome_of("pay").error == {"message": "broken", "code": "expression_error"}
    assert shell.scheduled == ["call_a_person"]


def test_expression_that_breaks_between_iterations_fails_the_loop() -> None:
    """The iteration that completed stays completed: a retry goes on behind it."""
    loop = Loop(id="loop", body=chain("b", "pay"), break_on=word("broken"), max_iterations=2)
    shell = Shell(index_of(loop), Said(broken_until=1)).start()
    shell.answer("pay[0]")
    assert shell.snapshot.outcome is not None
    assert shell.snapshot.outcome.status is Status.FAILED
    shell.values = Said(known={"broken": False})
    shell.feed(Retried())
    assert shell.scheduled == ["pay[0]", "pay[1]~2"]


def test_expressions_see_the_error_that_is_being_handled() -> None:
    """Inside a catch, and in nothing else, ``_error`` is the failure of the try."""
    seen: list[Any] = []

    def look(_: NodeKey, error: Any) -> bool:
        seen.append(error)
        return True

    shell = started(
        task("before", when="look"),
        TryCatch(id="try", try_=chain("t", "pay"), catch=chain("c", task("inform", when="look"))),
        task("after", when="look"),
        answers=failing("pay"),
        look=look,
    )
    shell.run()
    assert [error and error["message"] for error in seen] == [None, "boom", None]
    assert error_at(shell.index, {}, PAY) is None


def test_children_all_start_before_one_may_report() -> None:
    """An empty branch that ends at once does not keep the others from being entered."""
    shell = started(Parallel(id="all", branches=(chain("a"), chain("b", "pay"), chain("c"))))
    assert shell.scheduled == ["pay"]
    assert shell.snapshot.outcome is None


# -- retry ------------------------------------------------------------------------------------
def test_retry_enters_the_failed_leaf_in_a_new_round() -> None:
    """What completed before it keeps its key; what failed, and what follows, is of round 2."""
    shell = started("quote", "pay", "ship", answers=failing("pay", until=1))
    assert shell.run() == BOOM
    assert shell.retry() == COMPLETED
    assert shell.scheduled == ["quote", "pay", "pay~2", "ship~2"]
    assert shell.snapshot.dormant == {}


def test_retry_of_a_retry_is_round_three() -> None:
    """Rounds count on, and a leaf that failed in the second is entered in the third."""
    shell = started("pay", "ship", answers=failing("pay", "ship", until=2))
    shell.run()
    shell.retry()
    shell.retry()
    assert shell.scheduled == ["pay", "pay~2", "pay~3", "ship~3"]


def test_retry_goes_on_behind_a_call_that_was_answered_after_the_cancel() -> None:
    """A card that was charged while its branch was being stopped is not charged again."""
    branches = (chain("a", "charge", "ship"), chain("b", "check"))
    shell = started(Parallel(id="all", branches=branches, fail="fast"))
    shell.call("charge")
    shell.answer("check", BOOM)
    shell.answer("charge")
    assert shell.snapshot.outcome == BOOM
    assert shell.outcome_of("a") == CANCELLED
    assert shell.retry() == COMPLETED
    assert shell.scheduled == ["charge", "check", "check~2", "ship~2"]


def test_retry_starts_what_was_stopped_before_it_started() -> None:
    """A block that was entered, but had no time to start, begins at its beginning."""
    inner = Race(id="inner", branches=(chain("i", "pay"),))
    outer = Race(id="outer", branches=(chain("o", inner),))
    shell = started(
        Parallel(
            id="all",
            branches=(chain("b", outer), chain("a", task("check", when="fine"))),
            fail="fast",
        ),
        fine=lambda at, _: _raise() if at.round == 1 else True,
    )
    assert shell.scheduled == []
    assert shell.outcome_of("i") == CANCELLED
    assert shell.retry() == COMPLETED
    assert shell.scheduled == ["check~2", "pay~2"]


def test_node_stopped_again_before_it_went_on_still_knows_its_place() -> None:
    """A retry that fails before a stopped branch could go on loses nothing of the branch."""
    later = chain("b", "charge", "ship")
    shell = started(
        Parallel(id="all", branches=(chain("a", task("check", when="fine")), later), fail="fast"),
        fine=lambda at, _: _raise() if at.round in (2, 3) else True,
    )
    shell.answer("charge")
    shell.answer("check", BOOM)
    for _ in range(2):
        shell.feed(Retried())
        assert shell.run().status is Status.FAILED
    assert shell.retry() == COMPLETED
    assert [key for key in shell.scheduled if "charge" in key] == ["charge"]


def test_cancelled_instance_cannot_be_retried() -> None:
    """A retry is for failures."""
    shell = started("pay")
    shell.feed(CancelRequested())
    assert shell.feed(Retried()).effects == ()


# -- blocks and the index ---------------------------------------------------------------------
def test_block_without_a_start_of_its_own_cannot_be_entered() -> None:
    """A type of block says at least what entering it leads to."""
    index = index_of(Block(id="nothing"))
    with pytest.raises(NotImplementedError):
        advance(index, EMPTY, Started(), Said())


def test_index_finds_every_block_and_its_loops() -> None:
    """The loops of a block are those that add an index to its key, outermost first."""
    inner = ForEach(id="each", collection=word("items:2"), body=chain("eb", "pay"))
    route = Router(id="router", routes=((word("true"), chain("r", inner)),))
    index = index_of(Loop(id="loop", body=chain("lb", route)), "ship")
    assert set(index) == {"@root", "loop", "lb", "router", "r", "each", "eb", "pay", "ship"}
    assert len(index) == 9
    assert index["each"] is inner
    assert index.loops["pay"] == ("loop", "each")
    assert index.loops["each"] == ("loop",)
    assert index.loops["ship"] == ()
    assert "id='pay'" in repr(index)


def test_block_of_any_type_has_no_items_unless_it_says_so() -> None:
    """Only a for_each lays a variable over what blocks inside it read."""
    assert Loop(id="loop", body=chain("b")).item_ref((0,)) is None


def test_index_refuses_two_blocks_of_one_id() -> None:
    """Ids are what keys are made of."""
    with pytest.raises(ValueError, match="duplicate block id 'pay'"):
        index_of("pay", "pay")


# -- size -------------------------------------------------------------------------------------
def test_long_loop_of_nothing_needs_no_stack() -> None:
    """Fifty thousand iterations that end at once are one transition."""
    loop = Loop(id="loop", body=chain("body"), max_iterations=50_000)
    shell = Shell(index_of(loop), keep=False).start()
    assert shell.snapshot.outcome == COMPLETED


def test_deep_nesting_needs_no_stack() -> None:
    """A thousand blocks inside each other start, stop and end."""
    block: Block = task("pay")
    for n in range(1_000):
        block = CancellationScope(id=f"s{n}", body=Chain(id=f"c{n}", blocks=(block,)))
    index = Index(Chain(id="@root", blocks=(block, task("ship"))))
    decision = advance(index, EMPTY, Started(), Said())
    decision = advance(index, decision.snapshot, LeafSettled(PAY, COMPLETED), Said())
    assert decision.effects[-1] == Schedule(NodeKey("ship"))


def test_ten_thousand_items_keep_the_snapshot_small_and_a_transition_flat() -> None:
    """Only a window of items is live: the last transitions cost what the first ones did."""
    each = ForEach(
        id="payouts",
        collection=word("items:10000"),
        body=chain("body", "submit"),
        concurrency=10,
        max_iterations=10_000,
    )
    shell = Shell(index_of(each), answers=always(), keep=False).start()
    shell.largest = 0
    spent = []
    while shell.snapshot.outcome is None:
        begin = time.process_time()
        for key in list(shell.rows):
            shell.feed(LeafSettled(key, COMPLETED))
        spent.append(time.process_time() - begin)
    assert shell.largest < 4_000
    third = len(spent) // 3
    first, last = sorted(spent[:third])[third // 2], sorted(spent[-third:])[third // 2]
    assert last < 3 * first


def test_finish_is_remembered_by_its_first_name() -> None:
    """Two branches that end the instance do not argue."""
    ends = (chain("a", End(id="one", outcome="paid")), chain("b", End(id="two", outcome="void")))
    shell = started(Parallel(id="all", branches=ends))
    assert shell.snapshot.outcome == COMPLETED
    assert shell.snapshot.finish == "paid"
    assert replace(shell.snapshot, finish=None) != shell.snapshot


def _raise() -> bool:
    raise ExpressionError("broken")


def test_snapshot_that_is_spent_leads_to_the_same_decisions() -> None:
    """Who stands in whom is kept from one turn to the next, and made anew after a resume."""
    kept = advance(index_of(*_WIDE), EMPTY, Started(), Said()).snapshot
    while kept.frames:
        leaf = next(key for key in kept.frames if key.block_id in {"pay", "ship"})
        event = LeafSettled(leaf, COMPLETED)
        resumed = Snapshot.from_json(kept.to_json())
        anew = advance(index_of(*_WIDE), resumed, event, Said())
        assert advance(index_of(*_WIDE), resumed, event, Said()) == anew  # it is as it was
        decision = advance(index_of(*_WIDE), kept, event, Said(), spend=True)
        assert decision == anew
        assert decision.snapshot.frames is kept.frames
        kept = decision.snapshot
    assert kept.outcome == COMPLETED
    assert not any((kept.below or {}).values())
