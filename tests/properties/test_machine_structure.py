"""Structure: whatever happens in whatever order, the machine keeps its books."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from hypothesis import given

from orch8.engine.block import Leaf
from orch8.engine.events import Event, LeafSettled, Retried, Started
from orch8.engine.machine import advance
from orch8.engine.moves import CancelLeaf, Memo, Schedule, Settled
from orch8.engine.outcome import COMPLETED
from orch8.engine.snapshot import EMPTY, Snapshot
from tests.support.definitions import INTERRUPTED, Said, above
from tests.support.shell import Story, stories

if TYPE_CHECKING:
    from orch8.engine.keys import NodeKey


@given(stories(retries=2) | stories(INTERRUPTED, retries=2))
def test_a_node_is_scheduled_once_settles_once_and_never_comes_back(story: Story) -> None:
    """Within a round a node has one entry, one end, and no life after that."""
    shell = story.told()
    for kind in (Schedule, CancelLeaf, Memo, Settled):
        keys = [effect.key for effect in shell.effects if isinstance(effect, kind)]
        assert len(keys) == len(set(keys)), f"{kind.__name__} twice"
    dead = set()
    for turn in shell.turns:
        dead |= {e.key for e in turn.decision.effects if isinstance(e, Settled)}
        assert not dead & turn.decision.snapshot.frames.keys()


@given(stories(retries=2) | stories(INTERRUPTED, retries=2))
def test_an_instance_ends_with_nothing_left_behind(story: Story) -> None:
    """No node is live, every leaf that was entered settled, and the root told the outcome."""
    shell = story.told()
    assert shell.snapshot.outcome is not None
    assert not shell.snapshot.frames
    assert not shell.rows
    assert bool(shell.snapshot.dormant) == (not shell.snapshot.outcome.ok)
    (*_, last) = shell.effects
    assert isinstance(last, Settled)
    assert last.key.block_id == "@root"
    assert last.outcome == shell.snapshot.outcome
    entered = {e.key for e in shell.effects if isinstance(e, Schedule)}
    assert entered <= {e.key for e in shell.effects if isinstance(e, Settled)}


@given(stories(retries=2) | stories(INTERRUPTED, retries=2))
def test_effects_make_sense_in_their_order(story: Story) -> None:
    """A leaf is cancelled between its schedule and its end; below a settled node all is quiet."""
    shell = story.told()
    scheduled: set[NodeKey] = set()
    ended: set[NodeKey] = set()
    for effect in shell.effects:
        assert effect.key not in ended
        assert not ended.intersection(above(shell.index, effect.key))
        match effect:
            case Schedule(key):
                assert isinstance(shell.index[key.block_id], Leaf)
                scheduled.add(key)
            case CancelLeaf(key):
                assert key in scheduled
            case Settled(key):
                ended.add(key)


@given(stories(retries=2) | stories(INTERRUPTED, retries=2))
def test_a_snapshot_is_a_tree_of_one_round(story: Story) -> None:
    """It has one root, every parent is known, and all live nodes are of one round."""
    for turn in (shell := story.told()).turns:
        snapshot = turn.decision.snapshot
        everything = {**snapshot.dormant, **snapshot.frames}
        assert len(everything) == len(snapshot.frames) + len(snapshot.dormant)
        for key, frame in everything.items():
            parent = next(above(shell.index, key), None)
            assert (frame.parent and frame.parent._replace(round=key.round)) == parent
            assert frame.parent is None or frame.parent in everything
        roots = [key for key, frame in snapshot.frames.items() if frame.parent is None]
        assert len(roots) == (snapshot.outcome is None)
        assert len({key.round for key in snapshot.frames}) <= 1


@given(stories(retries=2) | stories(INTERRUPTED, retries=2))
def test_a_snapshot_survives_json_at_every_transition(story: Story) -> None:
    """What is stored is what was decided: a crash between two events loses nothing."""
    for turn in story.told().turns:
        stored = json.dumps(turn.decision.snapshot.to_json())
        assert Snapshot.from_json(json.loads(stored)) == turn.decision.snapshot


@given(stories(retries=1) | stories(INTERRUPTED, retries=1))
def test_the_machine_is_a_function(story: Story) -> None:
    """The same snapshot and event lead to the same decision, and neither is changed by it."""
    shell = story.told()
    for turn in shell.turns:
        body = json.dumps(turn.before.to_json())
        assert advance(shell.index, turn.before, turn.event, shell.values) == turn.decision
        assert json.dumps(turn.before.to_json()) == body


@given(stories(retries=1) | stories(INTERRUPTED, retries=1))
def test_spending_the_snapshot_before_leads_to_the_same_decisions(story: Story) -> None:
    """Event by event on one snapshot that is used up each time, as within a transaction."""
    shell = story.told()
    now = EMPTY
    for turn in shell.turns:
        now = now if now == turn.before else Snapshot.from_json(turn.before.to_json())
        decision = advance(shell.index, now, turn.event, shell.values, spend=now is not EMPTY)
        assert decision == turn.decision
        now = decision.snapshot


@given(stories(retries=1) | stories(INTERRUPTED, retries=1))
def test_an_event_for_a_node_that_is_not_live_changes_nothing(story: Story) -> None:
    """Late, repeated and misdirected events are harmless at any moment."""
    shell = story.told()
    known = {e.key for e in shell.effects if isinstance(e, Settled)}
    for turn in shell.turns:
        now = turn.decision.snapshot
        dead: list[Event] = [
            LeafSettled(key, COMPLETED)
            for key in known
            if key not in now.frames or not isinstance(shell.index[key.block_id], Leaf)
        ]
        if now.outcome is None:
            dead.append(Retried())
        if now.outcome is None or now.outcome.ok:
            dead += [Started(), Retried()]
        for event in dead:
            decision = advance(shell.index, now, event, Said())
            assert (decision.snapshot, decision.effects) == (now, ())
