"""An instance is carried over to another version of its definition, or it is said why not."""

from __future__ import annotations

from typing import Any

import pytest

from orch8.blocks.cancellation_scope import CancellationScope
from orch8.blocks.parallel import Parallel
from orch8.engine.block import Block, Index
from orch8.engine.events import LeafSettled, Started
from orch8.engine.keys import NodeKey
from orch8.engine.machine import advance
from orch8.engine.moves import Schedule
from orch8.engine.outcome import COMPLETED, failed
from orch8.engine.snapshot import EMPTY, Snapshot
from orch8.engine.transplant import Misfit, transplant
from tests.support.definitions import Said, chain, index_of

VALUES: Any = Said()


def after(index: Index, *ended: str) -> Snapshot:
    """Where an instance is once these leaves have completed."""
    snapshot = advance(index, EMPTY, Started(), VALUES).snapshot
    for name in ended:
        event = LeafSettled(NodeKey(name), COMPLETED)
        snapshot = advance(index, snapshot, event, VALUES).snapshot
    return snapshot


def goes_on(index: Index, snapshot: Snapshot, leaf: str) -> list[str]:
    """What is entered when the leaf completes."""
    decision = advance(index, snapshot, LeafSettled(NodeKey(leaf), COMPLETED), VALUES)
    return [each.key.block_id for each in decision.effects if isinstance(each, Schedule)]


def test_list_goes_on_after_the_block_that_it_is_at() -> None:
    """Wherever that stands now; what was put before it is not entered."""
    old, new = index_of("a", "b", "c"), index_of("x", "a", "y", "b", "z", "c")
    moved = transplant(after(old, "a"), old, new)
    assert goes_on(new, moved, "b") == ["z"]
    assert moved.frames.keys() == after(old, "a").frames.keys()


def branches(*blocks: Block) -> Parallel:
    """A parallel of chains."""
    return Parallel(id="p", branches=tuple(blocks))  # type: ignore[arg-type]


def test_branches_are_carried_over() -> None:
    """If they are the same ones; each goes on by itself."""
    old = index_of(branches(chain("l", "a"), chain("r", "b")))
    new = index_of("first", branches(chain("l", "a", "more"), chain("r", "b")), "last")
    moved = transplant(after(old), old, new)
    assert goes_on(new, moved, "a") == ["more"]


def test_failed_path_is_carried_over() -> None:
    """A retry finds its way in the new version."""
    old, new = index_of("a", "b"), index_of("a", "x", "b")
    event = LeafSettled(NodeKey("b"), failed("boom"))
    ended = advance(old, after(old, "a"), event, VALUES).snapshot
    moved = transplant(ended, old, new)
    assert (moved.outcome, moved.finish) == (ended.outcome, ended.finish)
    assert moved.dormant.keys() == ended.dormant.keys()


def scope(*blocks: str) -> CancellationScope:
    """A scope of leaves."""
    return CancellationScope(id="s", body=chain("inner", *blocks))


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (index_of("a"), index_of("b"), "no block 'a' where the instance is"),
        (index_of(scope("a")), index_of("s"), "'s' is a task there"),
        (index_of(scope("a")), index_of(scope("b"), "a"), "no block 'a' where"),
        (index_of(branches(chain("l", "a"))), index_of(branches(chain("l", "a"), chain("r"))),
         "'p' has other branches"),
        (index_of(scope("a")), Index(chain("@other", scope("a"))), "no block '@root'"),
    ],
)  # fmt: skip
def test_misfit_is_named(old: Index, new: Index, why: str) -> None:
    """Which block has no place, and why."""
    with pytest.raises(Misfit, match=why):
        transplant(after(old), old, new)


def test_list_that_has_entered_nothing_is_carried_over() -> None:
    """Its frame has no cursor yet."""
    old, new = index_of("a"), index_of("b")
    frames = {NodeKey("@root"): after(old).frames[NodeKey("@root")].noting({})}
    assert transplant(Snapshot(frames), old, new) == Snapshot(frames)
