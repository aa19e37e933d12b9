"""Rewind: where an instance is in its outermost list of blocks, and how it goes on from another
place in there.
"""

from __future__ import annotations

from typing import NamedTuple

from orch8.engine.block import Chain, Index
from orch8.engine.keys import NodeKey
from orch8.engine.outcome import Outcome
from orch8.engine.snapshot import Frame, Snapshot


class Standing(NamedTuple):
    """How many blocks of a list are ``done``, and how many have ``begun``; in their order."""

    done: int
    begun: int


def standing(chain: Chain, snapshot: Snapshot) -> Standing:
    """How far the instance has come in a list that it enters once. A list of which there is nothing
    to be seen is done.
    """
    for key, frame in (*snapshot.frames.items(), *snapshot.dormant.items()):
        if key.block_id != chain.id:
            continue
        if "c" not in frame.data:
            return Standing(0, 0)
        at: int = frame.data["c"]
        live = key in snapshot.frames
        behind = live or any(each.parent == key for each in snapshot.dormant.values())
        return Standing(at + (not behind), at + 1)
    return Standing(len(chain.blocks), len(chain.blocks))


def rewound(
    index: Index,
    chain: Chain,
    place: int,
    in_round: int,
    outcome: Outcome,
    finish: str | None = None,
) -> Snapshot:
    """The snapshot as if the instance had ended, with ``outcome``, between two blocks of the chain,
    which is the root or stands right in it: a retry enters the block at ``place``, in the round
    after ``in_round``.
    """
    root = NodeKey(index.root.id, (), in_round)
    dormant = {root: Frame(None)}
    key = root
    if chain.id != root.block_id:
        key = root.child(chain.id)
        dormant[key] = Frame(root)
    if place:
        dormant[key] = dormant[key].noting({"c": place - 1})
    return Snapshot({}, dormant, outcome, finish)
