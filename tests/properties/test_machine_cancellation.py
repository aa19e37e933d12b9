"""Cancellation: nothing new starts, nothing is abandoned, and what was done is undone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given

from orch8.blocks.cancellation_scope import CancellationScope
from orch8.blocks.saga import Saga
from orch8.blocks.try_catch import TryCatch
from orch8.engine.events import CancelRequested
from orch8.engine.moves import CancelLeaf, Schedule, Settled
from orch8.engine.outcome import Outcome, Status
from orch8.engine.snapshot import Stop
from tests.support.definitions import DURABLE, EVERYTHING, LEAVES, above, shielded_ids
from tests.support.shell import Shell, Story, stories

if TYPE_CHECKING:
    from orch8.engine.keys import NodeKey

WITHOUT_END = EVERYTHING - {"end"}
# Few types, so that most definitions have what these properties are about.
SHIELDED = LEAVES | DURABLE | {"parallel", "fast"}
SAGAS = LEAVES | {"saga", "parallel", "fast"}


@given(stories(WITHOUT_END, cancelled=True))
def test_nothing_unshielded_starts_under_a_cancel(story: Story) -> None:
    """After a cancel leaves start only below a shield, in a part that was reached before."""
    shell = story.told()
    shields = shielded_ids(shell.index)
    reached: frozenset[NodeKey] | None = None
    for turn in shell.turns:
        if isinstance(turn.event, CancelRequested):
            reached = frozenset(turn.before.frames)
        if reached is None:
            continue
        for effect in turn.decision.effects:
            if isinstance(effect, Schedule):
                path = list(above(shell.index, effect.key))
                outermost = max(i for i, key in enumerate(path) if key.block_id in shields)
                assert path[outermost + 1] in reached


@given(stories(cancelled=True) | stories(SHIELDED, cancelled=True, retries=2))
def test_a_shielded_leaf_is_never_asked_to_stop_by_a_cancel(story: Story) -> None:
    """What a cancel asks to stop has no shield above it, and may be cancelled."""
    shell = story.told()
    shields = shielded_ids(shell.index)
    for turn in shell.turns:
        if not isinstance(turn.event, CancelRequested):
            continue
        for effect in turn.decision.effects:
            if isinstance(effect, CancelLeaf):
                assert not shell.index[effect.key.block_id].shields()
                assert not shields & {key.block_id for key in above(shell.index, effect.key)}


@given(stories(cancelled=True, retries=1))
def test_a_cancel_reaches_everything_below_that_has_no_shield(story: Story) -> None:
    """No child of a stopping or closing node goes on unasked; its leaves were told so."""
    shell, told = story.told(), set()
    for turn in shell.turns:
        told |= {e.key for e in turn.decision.effects if isinstance(e, CancelLeaf)}
        frames = turn.decision.snapshot.frames
        for key, frame in frames.items():
            parent = frames.get(frame.parent) if frame.parent else None
            stops = parent is not None and (parent.stop is not Stop.NO or parent.closing)
            assert not stops or frame.shielded or frame.cancelling
            assert not (frame.cancelling and key in shell.rows) or key in told


@given(stories(WITHOUT_END) | stories(SHIELDED, cancelled=True, retries=2))
def test_a_finally_runs_to_its_end(story: Story) -> None:
    """Whatever happened to the try, its finally ran behind it, and was not cancelled."""
    shell = story.told()
    ends = _ends(shell)
    for key, (block, _) in _entered(shell, ends).items():
        if isinstance(block, TryCatch) and block.finally_ and key.child(block.try_.id) in ends:
            assert ends[key.child(block.finally_.id)].status is not Status.CANCELLED
        if isinstance(block, CancellationScope) and key.child(block.body.id) in ends:
            assert ends[key.child(block.body.id)].status is not Status.CANCELLED


@given(stories(WITHOUT_END) | stories(SAGAS, certain="saga", cancelled=True))
def test_a_saga_that_does_not_complete_undoes_what_completed(story: Story) -> None:
    """Exactly the completed actions are compensated, the last first: also one that completed while
    it was being cancelled. A saga that completes compensates nothing.
    """
    shell = story.told()
    ends = _ends(shell)
    for key, (block, outcome) in _entered(shell, ends).items():
        if not isinstance(block, Saga):
            continue
        done = [undo for action, undo in block.steps if _ok(ends, key.child(action.id))]
        due = [] if outcome.ok else [key.child(undo.id) for undo in reversed(done) if undo]
        undo_ids = {undo.id for _, undo in block.steps if undo}
        undone = [k for k in ends if k.block_id in undo_ids and k.path == key.path]
        assert undone == due
        assert not outcome.ok or (len(done) == len(block.steps) and not undone)


def _ends(shell: Shell) -> dict[NodeKey, Outcome]:
    return {e.key: e.outcome for e in shell.effects if isinstance(e, Settled)}


def _entered(shell: Shell, ends: dict[NodeKey, Outcome]) -> dict[NodeKey, tuple[object, Outcome]]:
    """Every node that something happened below, with its block and outcome."""
    below = {parent for key in ends for parent in list(above(shell.index, key))[:1]}
    return {key: (shell.index[key.block_id], ends[key]) for key in below}


def _ok(ends: dict[NodeKey, Outcome], key: NodeKey) -> bool:
    return key in ends and ends[key].ok
