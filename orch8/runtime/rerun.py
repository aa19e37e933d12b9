"""rerun: which blocks of an instance a person's word would run anew, and whether they may be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import orjson

from orch8.config import Settings
from orch8.engine.block import Block
from orch8.engine.keys import escape_id, unescape_id
from orch8.engine.lifecycle import ENDED
from orch8.engine.rewind import standing
from orch8.engine.snapshot import Snapshot
from orch8.errors import Conflict, InvalidArgument, PayloadTooLarge, Problem
from orch8.runtime.derive import main_of
from orch8.runtime.library import Published
from orch8.runtime.office import Office
from orch8.runtime.signal import SignalRequest, deliver
from orch8.storage import history, instances
from orch8.storage.rows import InstanceRow
from orch8.storage.transaction import Tx

ACKNOWLEDGE: Final = "acknowledge_side_effect_risk"


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """From which block, with what merged into ``context.data``, and which signals to send then.
    ``acknowledged``: what had an effect outside may have it again.
    """

    block_id: str
    data: Mapping[str, Any] | None = None
    signals: tuple[SignalRequest, ...] = ()
    acknowledged: bool = False


@dataclass(frozen=True, slots=True)
class Cut:
    """The ids of a list's blocks before a place in it, and of those from there on; and of all that
    is inside of these.
    """

    place: int
    before: tuple[str, ...]
    after: tuple[str, ...]
    kept: frozenset[str]
    rerun: frozenset[str]


def cut_at(tx: Tx, row: InstanceRow, published: Published, block_id: str) -> Cut:
    """The instance's list, cut before a block of it. Raises InvalidArgument if that does not stand
    there, and Conflict if the instance has not come that far: nothing is ever skipped.
    """
    chain = main_of(published.sequence.index)
    wanted = escape_id(block_id)
    places = {block.id: place for place, block in enumerate(chain.blocks)}
    if wanted not in places:
        message = f"block {block_id[:60]!r} is not one of the sequence's outermost list"
        known = ", ".join(unescape_id(each) for each in list(places)[:20])
        raise InvalidArgument(message, errors=[Problem("", message, f"one of {known}")])
    place = places[wanted]
    snapshot = Snapshot.from_json(row.snapshot)
    done = standing(chain, snapshot).done
    if snapshot.finish is not None and not snapshot.dormant:
        ids = history.entered(tx, row.id)  # it ended early: it came as far as there are steps
        reached = [n for n, each in enumerate(chain.blocks) if not ids.isdisjoint(_ids([each]))]
        done = max(reached, default=0)
    if place > done:
        at = unescape_id(chain.blocks[done].id)
        raise Conflict(
            f"instance {row.id} has not come to block {block_id!r} yet: it stands at {at!r}"
        )
    before, after = chain.blocks[:place], chain.blocks[place:]
    return Cut(
        place, _named(before), _named(after), frozenset(_ids(before)), frozenset(_ids(after))
    )


def check_effects(tx: Tx, row: InstanceRow, cut: Cut, *, acknowledged: bool) -> list[str]:
    """The nodes whose effect may happen again. Raises Conflict if there are some and nobody has
    acknowledged that; and, whatever was acknowledged, while an attempt is in doubt.
    """
    doubted = history.in_doubt(tx, row.id)
    if doubted:
        raise Conflict(
            f"instance {row.id} has attempts in doubt: {', '.join(doubted)}; decide what became of "
            "them first: POST /instances/{id}/resolve",
            extra={"steps": doubted},
        )
    if row.dry_run:
        return []
    found = history.repeated_effects(tx, row.id, cut.rerun)
    if found and not acknowledged:
        message = f"{', '.join(found)} may have had an effect that would happen again"
        hint = f'send "{ACKNOWLEDGE}": true if that is meant'
        raise Conflict(
            f"{message}; {hint}",
            errors=[Problem(f"/{ACKNOWLEDGE}", message, hint)],
            extra={"steps": found},
        )
    return found


def merged(context: Any, data: Mapping[str, Any] | None, settings: Settings) -> Any:
    """The context with the members of ``data`` put into its data. Raises PayloadTooLarge."""
    if not data:
        return context
    made = {**context, "data": {**(context.get("data") or {}), **data}}
    size = len(orjson.dumps(made))
    if size > settings.max_context:
        raise PayloadTooLarge(
            f"context too large: {size} bytes, the limit is {settings.max_context}"
        )
    return made


def send(office: Office, tx: Tx, instance_id: UUID, signals: Sequence[SignalRequest]) -> int:
    """The instance, which goes on now, has the signals; how many, as it may come to its end."""
    for sent, request in enumerate(signals):
        found, moment = instances.lock_instances(tx, [instance_id])
        if found[instance_id].state in ENDED:
            return sent
        deliver(office, tx, found[instance_id], moment, request)
    return len(signals)


def only_of(block_id: str) -> str:
    """The id of the block that a step's row is of, or that a memo is about."""
    return block_id.split("@", 1)[0]


def _named(blocks: Iterable[Block]) -> tuple[str, ...]:
    return tuple(unescape_id(block.id) for block in blocks)


def _ids(blocks: Iterable[Block]) -> Iterator[str]:
    """The ids of the blocks and of all that is inside of them; not those of the engine's lists."""
    pending = list(blocks)
    while pending:
        block = pending.pop()
        if "@" not in block.id:
            yield block.id
        pending.extend(block.chains())
