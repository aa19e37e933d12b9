"""Interrupts at random moments: nothing in flight is dropped, and the run ends as they say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given

from orch8.blocks.end import End
from orch8.blocks.interrupt import SLA, Interrupt, Root
from orch8.engine.block import Leaf
from orch8.engine.events import CancelRequested, Interrupted, LeafSettled
from orch8.engine.moves import Memo, Schedule, Settled
from orch8.engine.outcome import COMPLETED, Status
from tests.support.definitions import (
    INTERRUPTED,
    LEAVES,
    above,
    closing_ids,
    shielded_ids,
)
from tests.support.shell import Shell, Story, Turn, stories

if TYPE_CHECKING:
    from orch8.engine.keys import NodeKey

# Few types and no other ends, so that interrupts decide most runs.
SIMPLE = LEAVES | {"interrupts", "parallel", "cancellation_scope", "loop"}


@given(stories(INTERRUPTED, retries=1) | stories(SIMPLE, retries=1))
def test_a_call_in_flight_is_never_dropped(story: Story) -> None:
    """Whatever interrupts a run, a leaf that was scheduled settles by its own answer alone."""
    shell = story.told()
    scheduled = {e.key for e in shell.effects if isinstance(e, Schedule)}
    for turn in shell.turns:
        own = turn.event.key if isinstance(turn.event, LeafSettled) else None
        for effect in turn.decision.effects:
            if isinstance(effect, Settled) and isinstance(shell.index[effect.key.block_id], Leaf):
                assert effect.key == own or effect.key not in scheduled


@given(stories(INTERRUPTED, retries=1) | stories(SIMPLE, retries=1))
def test_a_closing_interrupt_runs_alone(story: Story) -> None:
    """Its blocks start when nothing is live any more but the root and the clock."""
    shell = story.told()
    closing = closing_ids(shell.index)
    for turn in shell.turns:
        frames = turn.decision.snapshot.frames
        if closing & {key.block_id for key in frames}:
            others = [
                key
                for key in frames
                if key.block_id not in (SLA, "@root")
                and not closing & {k.block_id for k in (key, *above(shell.index, key))}
            ]
            assert others == []


@given(stories(SIMPLE, retries=1))
def test_after_a_closing_interrupt_nothing_else_starts(story: Story) -> None:
    """Leaves that are scheduled behind it are its own, or were shielded before."""
    shell = story.told()
    closed: Turn | None = None
    shields = shielded_ids(shell.index)
    for turn in shell.turns:
        if closed is not None:
            for effect in turn.decision.effects:
                if isinstance(effect, Schedule):
                    up = [key.block_id for key in above(shell.index, effect.key)]
                    assert shields & set(up)
        if _closes(shell, turn):
            closed = turn


@given(stories(SIMPLE))
def test_a_run_ends_as_its_first_closing_interrupt_says(story: Story) -> None:
    """Completed under the name of its end, or failed where its own blocks failed."""
    shell = story.told()
    first = next((turn for turn in shell.turns if _closes(shell, turn)), None)
    if first is None:
        return
    assert isinstance(first.event, Interrupted)
    interrupt = _root(shell).interrupts[first.event.number]
    assert interrupt.body is not None
    (body,) = {
        e.key: e.outcome
        for e in shell.effects
        if isinstance(e, Settled) and e.key.block_id == interrupt.body.id
    }.values()
    assert shell.snapshot.outcome == body
    skipped = all(e.when is not None for e in interrupt.body.blocks if isinstance(e, End))
    assert body.status is Status.FAILED or skipped or shell.snapshot.finish == "closed"


@given(stories(INTERRUPTED, retries=2))
def test_the_nth_signal_is_iteration_n(story: Story) -> None:
    """Signals that an interrupt took are counted from 0, through all rounds; each is memoized."""
    shell = story.told()
    taken: dict[str, list[int]] = {}
    for effect in shell.effects:
        block = shell.index.get(effect.key.block_id.removesuffix("@signal"))
        if isinstance(effect, Memo) and isinstance(block, Interrupt):
            taken.setdefault(block.id, []).extend(effect.key.path)
    assert all(numbers == list(range(len(numbers))) for numbers in taken.values())
    fired = sum(isinstance(t.event, Interrupted) and bool(t.decision.effects) for t in shell.turns)
    assert sum(map(len, taken.values())) == fired


@given(stories(INTERRUPTED, cancelled=True, retries=1))
def test_a_run_that_is_ending_takes_no_interrupt(story: Story) -> None:
    """After a cancel, an end, or a closing interrupt, a signal changes nothing."""
    shell = story.told()
    ending = False
    for turn in shell.turns:
        if isinstance(turn.event, Interrupted) and ending:
            assert (turn.decision.snapshot, turn.decision.effects) == (turn.before, ())
        root = next((f for f in turn.decision.snapshot.frames.values() if f.parent is None), None)
        ending = root is None or root.cancelling or root.closing is not None or "by" in root.data


@given(stories(SIMPLE, retries=1))
def test_a_run_without_failures_that_is_not_stopped_completes(story: Story) -> None:
    """Interrupts that run beside the main blocks are waited for, and take nothing from them."""
    shell = story.told()
    root = _root(shell)
    stopped = any(isinstance(t.event, CancelRequested) or _closes(shell, t) for t in shell.turns)
    breached = root.on_breach == "fail" and any(
        isinstance(e, Settled) and e.key.block_id == SLA and e.outcome.ok for e in shell.effects
    )
    bad = any(
        isinstance(e, Settled) and e.key.block_id != SLA and e.outcome.status is Status.FAILED
        for e in shell.effects
    )
    if not (stopped or breached or bad):
        assert shell.snapshot.outcome == COMPLETED
        done = {_at(e.key) for e in shell.effects if isinstance(e, Settled)}
        assert {(block.id, ()) for block in root.main.blocks} <= done


def _root(shell: Shell) -> Root:
    root = shell.index.root
    assert isinstance(root, Root)
    return root


def _closes(shell: Shell, turn: Turn) -> bool:
    """Whether the turn is a closing interrupt that was taken."""
    if not isinstance(turn.event, Interrupted) or not turn.decision.effects:
        return False
    return _root(shell).interrupts[turn.event.number].closing


def _at(key: NodeKey) -> tuple[str, tuple[int, ...]]:
    return key.block_id, key.path
