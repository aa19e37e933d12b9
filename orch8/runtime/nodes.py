"""nodes: the tree of an instance: what was entered, and what was not or will be. Reads only.

Only live nodes are kept anywhere; a composite that settled is told by the steps inside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final
from uuid import UUID

from orch8.engine.block import Block, Index
from orch8.engine.keys import NodeKey
from orch8.engine.lifecycle import StepState
from orch8.engine.snapshot import Snapshot
from orch8.runtime.office import Office, only
from orch8.runtime.unentered import unentered
from orch8.storage import instances, steps
from orch8.storage.rows import StepRow
from orch8.storage.transaction import Tx

Node = dict[str, Any]

MEMO: Final = "@memo"
_SKIPPED: Final = "skipped"
# What the rows call it, and what clients know (CONTRACT 10.2).
_STATES: Final[Mapping[str, str]] = {
    StepState.SCHEDULED: "pending",
    StepState.SLEEPING: "running",
    StepState.PARKED: "waiting",
}
_FORGIVING: Final = frozenset({"try_catch", "race", "loop", "for_each"})


def tree(
    office: Office, tx: Tx, instance_id: UUID, *, tenant_id: str | None, flat: bool = False,
    limit: int = 10_000,
) -> list[Node]:  # fmt: skip
    """Every node that was entered, then one for each other block; parents before what is inside
    them. Of a sequence that is one list of steps there are none, unless ``flat``.

    Members: node_key, block_id, block_type, parent (node key), branch_index, state, started_at,
    completed_at, cancelling; for steps handler, step_state, attempt, due_at, error and attention,
    too.
    """
    row = only(instances.read_instances(tx, [instance_id]), instance_id, tenant_id)
    published = office.library.get(tx, row.sequence_id)
    if published.flat and not flat:
        return []
    made = _Tree(published.sequence.index, Snapshot.from_json(row.snapshot))
    for key in made.snapshot.frames:
        made.composite(key)
    for step in steps.steps_of(tx, instance_id, limit=limit, pages=False, outer_first=True):
        made.add(step)
    entered = made.nodes()
    return entered + list(unentered(published.sequence.index, entered, row.state, row.outcome))


class _Tree:
    """The nodes as they are found; the state of a composite is asked of its children at the end."""

    def __init__(self, index: Index, snapshot: Snapshot) -> None:
        self.index, self.snapshot = index, snapshot
        self._above = dict(_parents(index))
        self._found: dict[NodeKey, Node] = {}
        self._inside: dict[NodeKey, list[Node]] = {}

    def add(self, step: StepRow) -> None:
        """The node of a step's row, and of everything around it; a memo tells of its block only."""
        key = NodeKey(step.block_id, tuple(step.path), step.round)
        if step.handler == MEMO:
            if step.state != StepState.SUPERSEDED:
                self.composite(key)
            return
        hidden = not _is_shown(key.block_id) or key.block_id not in self.index
        if hidden or step.state == StepState.SUPERSEDED:
            return
        skipped = step.state == StepState.COMPLETED and step.outcome == _SKIPPED
        self._enter(key, {
            "id": step.id, "state": _SKIPPED if skipped else _STATES.get(step.state, step.state),
            "step_state": step.state, "handler": step.handler, "attempt": step.failures,
            "dispatches": step.dispatches, "started_at": step.created_at,
            "completed_at": step.finished_at, "due_at": step.due_at or step.held_due_at,
            "error": step.error, "attention": step.attention,
        })  # fmt: skip

    def composite(self, key: NodeKey) -> None:
        """The node of a block that has others inside it, and of everything around it."""
        block = self.index.get(key.block_id)
        if block is not None and any(block.chains()) and _is_shown(key.block_id):
            self._enter(key, {"state": None})

    def nodes(self) -> list[Node]:
        """The nodes, each composite with what became of it."""
        for key in reversed(self._found):
            if self._found[key]["state"] is None:
                self._found[key] |= self._became(key)
        return list(self._found.values())

    def _enter(self, key: NodeKey, more: Node) -> None:
        if key in self._found:
            return
        parent, branch = self._parent(key)
        if parent is not None:
            self._enter(parent, {"state": None})
        frame = self.snapshot.frames.get(key)
        node = self._found[key] = {
            "node_key": str(key), "block_id": key.block_id,
            "block_type": self.index[key.block_id].type,
            "parent": None if parent is None else str(parent), "branch_index": branch,
            "cancelling": frame is not None and frame.cancelling, **more,
        }  # fmt: skip
        if parent is not None:
            self._inside.setdefault(parent, []).append(node)

    def _parent(self, key: NodeKey) -> tuple[NodeKey | None, int | None]:
        """The composite around a node, and in which of its branches the node is, if it has some."""
        block_id, branch = key.block_id, None
        while block_id in self._above:
            parent, place = self._above[block_id]
            if _is_shown(parent):
                branch = place if len(list(self.index[parent].chains())) > 1 else None
                path = key.path[: len(self.index.loops[parent])]
                return NodeKey(parent, path, key.round), branch
            block_id = parent
        return None, None

    def _became(self, key: NodeKey) -> Node:
        """The state of a composite: its own while it is live, else as what is inside it ended."""
        inside = self._inside.get(key, [])
        live = key in self.snapshot.frames
        started = [node["started_at"] for node in inside if node.get("started_at")]
        ended = [node["completed_at"] for node in inside if node.get("completed_at")]
        return {
            "state": "running" if live else self._ended(key, {node["state"] for node in inside}),
            "started_at": min(started, default=None),
            "completed_at": None if live else max(ended, default=None),
        }

    def _ended(self, key: NodeKey, states: set[str]) -> str:
        dormant = self.snapshot.dormant.get(key)
        if dormant is not None:
            stopped = dormant.cancelling and "failed" not in states
            return "cancelled" if stopped else "failed"
        if self.index[key.block_id].type in _FORGIVING and "completed" in states:
            return "completed"
        return next((each for each in ("failed", "cancelled") if each in states), "completed")


def _parents(index: Index) -> Iterator[tuple[str, tuple[str, int]]]:
    """Each block's id with that of the block that it stands in, and which of its chains it is."""
    pending: list[Block] = [index.root]
    while pending:
        block = pending.pop()
        for place, child in block.numbered():
            yield child.id, (block.id, place)
            pending.append(child)


def _is_shown(block_id: str) -> bool:
    return "@" not in block_id
