"""Node keys: where in the execution tree a node is. A node's key is its memo key."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

_RESERVED = re.compile(r"[\[\]~/@%]")
_KEY = re.compile(
    r"(?P<id>[^\[\]~]+)(?:\[(?P<path>[0-9]+(?:,[0-9]+)*)\])?(?:~(?P<round>[1-9][0-9]*))?\Z"
)


class NodeKey(NamedTuple):
    """A block id, the index of each enclosing iteration, and the round; ``submit[17,2]~2``.

    The round is absent in the first one. A node is entered once per round.
    """

    block_id: str
    path: tuple[int, ...] = ()
    round: int = 1

    def __str__(self) -> str:
        text = self.block_id
        if self.path:
            text += f"[{','.join(map(str, self.path))}]"
        return text if self.round == 1 else f"{text}~{self.round}"

    @staticmethod
    @lru_cache(maxsize=16_384)
    def parse(text: str) -> NodeKey:
        """The key that ``text`` spells; ValueError when it spells none."""
        found = _KEY.match(text)
        if found is None:
            raise ValueError(f"not a node key: {text!r}")
        path = tuple(int(i) for i in found["path"].split(",")) if found["path"] else ()
        return NodeKey(found["id"], path, int(found["round"] or 1))

    def child(self, block_id: str) -> NodeKey:
        """The node of a block that stands inside this one, in the same iteration and round."""
        return NodeKey(block_id, self.path, self.round)

    def nth(self, block_id: str, index: int) -> NodeKey:
        """The node of a body's iteration ``index`` inside this one."""
        return NodeKey(block_id, (*self.path, index), self.round)

    def again(self) -> NodeKey:
        """The same node in the next round."""
        return NodeKey(self.block_id, self.path, self.round + 1)


def escape_id(given: str) -> str:
    """A block id as node keys spell it: the characters that keys use themselves become %XX."""
    return _RESERVED.sub(lambda m: f"%{ord(m[0]):02X}", given)


def unescape_id(block_id: str) -> str:
    """The id that was given, from the one that node keys spell."""
    return re.sub(r"%([0-9A-F]{2})", lambda m: chr(int(m[1], 16)), block_id)
