"""How far an instance has come in its outermost list, and how it goes on from another place."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orch8.blocks.interrupt import rooted
from orch8.engine.block import Chain, Index
from orch8.engine.duration import parse_duration
from orch8.engine.events import CancelRequested, Event, LeafSettled, Retried, Started
from orch8.engine.keys import NodeKey
from orch8.engine.machine import advance
from orch8.engine.moves import Schedule
from orch8.engine.outcome import CANCELLED, COMPLETED, failed
from orch8.engine.rewind import Standing, rewound, standing
from orch8.engine.snapshot import EMPTY, Frame, Snapshot
from tests.support.definitions import Said, chain, index_of

VALUES: Any = Said()
ABC = index_of("a", "b", "c")
# A list that stands in a root of its own, beside the clock of the run.
CLOCKED = Index(rooted(chain("@main", "a", "b"), (), {"max_duration": parse_duration("1h")}))


def fed(index: Index, *events: Event) -> Snapshot:
    """Where an instance is after it was started and these events."""
    snapshot = EMPTY
    for event in (Started(), *events):
        snapshot = advance(index, snapshot, event, VALUES).snapshot
    return snapshot


def done(*names: str) -> list[Event]:
    """These leaves completed."""
    return [LeafSettled(NodeKey(name), COMPLETED) for name in names]


def main(index: Index) -> Chain:
    """The outermost list."""
    found = index.get("@main", index.root)
    assert isinstance(found, Chain)
    return found


@pytest.mark.parametrize(
    ("events", "stands"),
    [
        ([], Standing(0, 1)),
        (done("a"), Standing(1, 2)),
        (done("a", "b", "c"), Standing(3, 3)),
        ([*done("a"), LeafSettled(NodeKey("b"), failed("no"))], Standing(1, 2)),
        ([CancelRequested(), LeafSettled(NodeKey("a"), CANCELLED)], Standing(0, 1)),
        ([CancelRequested(), *done("a")], Standing(1, 1)),
    ],
)
def test_standing_is_how_far_it_has_come(events: list[Event], stands: Standing) -> None:
    """Of what ended otherwise, too; what completed while it was being cancelled is done."""
    assert standing(ABC.root, fed(ABC, *events)) == stands  # type: ignore[arg-type]


def test_list_that_has_entered_nothing_stands_at_its_beginning() -> None:
    """Its frame has no cursor yet."""
    assert standing(main(ABC), Snapshot({NodeKey("@root"): Frame(None)})) == Standing(0, 0)


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("index", [ABC, CLOCKED])
def test_retry_of_what_was_rewound_enters_the_block(index: Index, place: int) -> None:
    """In the next round, and with it what stands beside the list; at its end nothing is left."""
    place = min(place, len(main(index).blocks))
    snapshot = rewound(index, main(index), place, 4, failed("again"))
    assert standing(main(index), snapshot).done == place
    decision = advance(index, snapshot, Retried(), VALUES)
    entered = [each.key for each in decision.effects if isinstance(each, Schedule)]
    blocks = [block.id for block in main(index).blocks[place : place + 1]]
    assert [key.block_id for key in entered if "@" not in key.block_id] == blocks
    assert {key.round for key in entered} <= {5}
    live = {key.block_id for key in decision.snapshot.frames}
    assert (main(index).id in live) == bool(blocks)


def test_what_completed_goes_on_only_where_more_was_put_behind_it() -> None:
    """Else there is no way back; what was cancelled has none in any case."""
    over = fed(ABC, *done("a", "b", "c"))
    assert advance(ABC, over, Retried(), VALUES).effects == ()
    longer = index_of("a", "b", "c", "d")
    back = rewound(longer, main(longer), 3, 1, COMPLETED, "paid")
    assert back.finish == "paid"
    (effect,) = (
        each for each in advance(longer, back, Retried(), VALUES).effects
        if isinstance(each, Schedule)
    )  # fmt: skip
    assert effect.key == NodeKey("d", (), 2)
    stopped = replace(back, outcome=CANCELLED)
    assert advance(longer, stopped, Retried(), VALUES).snapshot == stopped
