"""unentered: nodes of the blocks that an instance has not come to, or passed by. Values only.

They are kept nowhere: what became of a block follows from what became of those around it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from orch8.blocks.interrupt import Root
from orch8.engine.block import Block, Chain, Index, Leaf
from orch8.engine.keys import NodeKey

Node = dict[str, Any]

_ENDED: Final = frozenset({"completed", "failed", "cancelled", "skipped"})
_CHOOSING: Final = frozenset({"router", "ab_split", "try_catch", "saga"})  # one branch or another
_AT_ONCE: Final = frozenset({"router", "ab_split"})  # those that have chosen once they are entered


def unentered(
    index: Index, entered: Sequence[Node], state: str, outcome: str | None
) -> Iterator[Node]:
    """A node for each block without one, parents before what is inside them. The instance shows the
    ``state``; ``outcome`` is the name under which an `end` block finished it, if one did.
    """
    latest = {node["block_id"]: node for node in entered}
    whole: Node = {"state": state if state in _ENDED else "running", "node_key": None}
    main = index.root.main if isinstance(index.root, Root) else index.root
    through = state == "completed" and outcome is None
    pending: deque[tuple[Block, Block, Node, int | None, bool]]
    pending = deque([(main, index.root, whole, None, through)])
    while pending:
        chain, around, parent, branch, through = pending.popleft()
        blocks = list(chain.chains())
        states = [_state_of(latest.get(block.id)) for block in blocks]
        for place, block in enumerate(blocks):
            node = latest.get(block.id)
            if node is None:
                passed = through or any(states[place + 1 :])
                became = _passed(block) if passed else _missed(around, parent, any(states), latest)
                node = _node(block, parent, branch, became)
                yield node
            several = len(list(block.chains())) > 1
            for number, inner in block.numbered():
                if not isinstance(inner, Chain):  # the pause of a loop
                    continue
                own = [_state_of(latest.get(each.id)) for each in inner.chains()]
                ran = next((each for each in reversed(own) if each), None)
                well = node["state"] == "completed" and ran in ("completed", "skipped")
                pending.append((inner, block, node, number if several else None, well))


def _state_of(node: Mapping[str, Any] | None) -> str | None:
    return None if node is None else node["state"]


def _passed(block: Block) -> str:
    """What became of a block that was passed without a trace: its condition did not hold, or, if it
    has none, there was nothing to do inside.
    """
    return "skipped" if isinstance(block, Leaf) or block.when is not None else "completed"


def _missed(
    around: Block, parent: Mapping[str, Any], begun: bool, latest: Mapping[str, Any]
) -> str:  # fmt: skip
    """What became of a block that was not come to: ``begun`` says whether others in its branch."""
    state = parent["state"]
    if state in ("pending", "skipped"):
        return str(state)
    if state not in _ENDED:
        elsewhere = any(each.id in latest for chain in around.chains() for each in chain.chains())
        chosen = around.type in _AT_ONCE and not begun and elsewhere
        return "skipped" if chosen else "pending"
    if state == "completed":
        return "cancelled" if around.type == "race" else "skipped"
    return "skipped" if around.type in _CHOOSING and not begun else "cancelled"


def _node(block: Block, parent: Node, branch: int | None, state: str) -> Node:
    above = parent["node_key"]
    key = NodeKey(block.id, () if above is None else NodeKey.parse(above).path)
    return {
        "node_key": str(key), "block_id": block.id, "block_type": block.type, "parent": above,
        "branch_index": branch, "cancelling": False, "state": state,
    }  # fmt: skip
