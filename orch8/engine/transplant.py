"""Transplant: the live part of an instance, carried over to another version of its definition."""

from __future__ import annotations

from orch8.engine.block import Chain, Index
from orch8.engine.keys import NodeKey
from orch8.engine.snapshot import Frame, Snapshot


class Misfit(ValueError):
    """The other version has no place for a block that the instance is in."""


def transplant(snapshot: Snapshot, old: Index, new: Index) -> Snapshot:
    """The snapshot as one of ``new``: its blocks are found by their ids, and a list of blocks goes
    on after the one that it is at, wherever that stands now. Raises Misfit.

    A block that an instance is in must be of the same type there, and where it is one of several
    branches, these must be the same ones. So from the root on each stands where it stood.
    """
    return Snapshot(
        {key: _moved(key, frame, old, new) for key, frame in snapshot.frames.items()},
        {key: _moved(key, frame, old, new) for key, frame in snapshot.dormant.items()},
        snapshot.outcome,
        snapshot.finish,
    )


def _moved(key: NodeKey, frame: Frame, old: Index, new: Index) -> Frame:
    block_id = key.block_id
    was, now = old[block_id], new.get(block_id)
    if now is None:
        raise Misfit(f"it has no block {block_id!r}")
    if was.type != now.type:
        raise Misfit(f"block {block_id!r} is a {now.type} there, and was a {was.type}")
    if isinstance(was, Chain) and isinstance(now, Chain):
        return _at_its_place(frame, was, now)
    if [child.id for child in was.chains()] != [child.id for child in now.chains()]:
        raise Misfit(f"block {block_id!r} has other branches there")
    return frame


def _at_its_place(frame: Frame, was: Chain, now: Chain) -> Frame:
    if "c" not in frame.data:
        return frame
    present = was.blocks[frame.data["c"]].id
    places = [block.id for block in now.blocks]
    if present not in places:
        raise Misfit(f"it has no block {present!r} where the instance is")
    return frame.noting({**frame.data, "c": places.index(present)})
