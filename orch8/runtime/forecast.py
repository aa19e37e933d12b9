"""forecast: when the queue of each rate-limit key will have drained, and who comes too late for it.

It supposes that no call fails and nothing else joins the line, that each call costs what the first
in line does, and that the lanes share the pace as they do now (runtime/drain.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID
from zoneinfo import ZoneInfo

from orch8.blocks.interrupt import SLA
from orch8.blocks.step import Step
from orch8.engine.timing import SendWindow, closing
from orch8.limits import Limit, Limiter, Usage
from orch8.runtime.admission import HORIZON, MAX_AHEAD, in_force, since, turn
from orch8.runtime.drain import Drain
from orch8.runtime.eyes import Eyes
from orch8.runtime.lanes import AGE, AGES
from orch8.runtime.office import Office, read_limits
from orch8.storage import queued, queues
from orch8.storage.transaction import Row, Tx

MOST_KEYS: Final = 100


@dataclass(frozen=True, slots=True)
class _Depth:
    """How closely a key is looked at: ``looked`` steps at the end of each of its lines, and the
    first ``named`` of the late ones among them.
    """

    looked: int
    named: int


ONE_KEY: Final = _Depth(20_000, 100)
MANY_KEYS: Final = _Depth(5_000, 10)


@dataclass(frozen=True, slots=True)
class Miss:
    """A waiting step whose turn comes after its time: ``what`` ends before it, and when."""

    instance_id: UUID
    node_key: str
    lane: str
    what: str  # deadline, sla, send_window
    ends_at: datetime
    turn_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What becomes of one key's queue; ``waiting`` is by lane. Without a limit all go at once.

    ``will_miss`` counts the late ones at the ends of the lines (``_Depth``), ``misses`` are the
    first of those by their turn.
    """

    tenant_id: str
    key: str
    limit: Limit | None
    usage: Usage | None  # None: Redis was not asked, or is away
    waiting: Mapping[str, int]
    paused: int
    drain: float  # seconds until the last one's turn
    drains_at: datetime | None  # None: nobody waits
    will_miss: int
    misses: tuple[Miss, ...]


@dataclass(frozen=True, slots=True)
class Outlook:
    """The forecasts of the keys that were asked for, and how many keys were ``left_out``."""

    keys: Sequence[Forecast]
    left_out: int


def forecast(
    office: Office,
    tx: Tx,
    *,
    tenant_id: str | None,
    key: str | None = None,
    limiter: Limiter | None = None,
    idle: bool = True,
) -> Outlook:
    """The forecast of one key, or of at most MOST_KEYS: those that steps wait for, the longest
    queue first, then, if ``idle``, those for which a limit is stated.
    """
    limits = read_limits(tx, tenant_id, key).stated
    waited = {(row.tenant_id, row.limit_key): None for row in queued.keys(tx, tenant_id, key)}
    found = list(waited | dict.fromkeys(sorted(limits))) if idle else list(waited)
    eyes, depth = Eyes(limiter), MANY_KEYS if key is None else ONE_KEY
    told = [_of_key(office, tx, at, limits.get(at), eyes, depth) for at in found[:MOST_KEYS]]
    return Outlook(told, len(found) - len(told))


def _of_key(
    office: Office, tx: Tx, at: tuple[str, str], stated: Limit | None, eyes: Eyes, depth: _Depth
) -> Forecast:
    tenant_id, key = at
    lanes = queued.lengths(tx, tenant_id, key, age=AGE, ages=AGES)
    if not lanes:
        return Forecast(
            tenant_id=tenant_id, key=key, limit=stated, usage=_usage(eyes, tenant_id, stated),
            waiting={}, paused=0, drain=0.0, drains_at=None, will_miss=0, misses=(),
        )  # fmt: skip
    state = queues.queue_state(tx, tenant_id, key)
    refused = Limit.of_json(state.deferred_under) if state.deferred_under else None
    shown = stated or _own(refused)
    usage = _usage(eyes, tenant_id, shown)
    limit, now = in_force(stated, refused, since(state), usage), state.now
    every = 0.0 if limit is None else turn(limit, state.cost)
    drain = Drain({row.lane: row.in_line for row in lanes}, every, _width(every))
    blocked = usage.blocked if usage is not None else 0.0
    # Whoever is admitted has the next units.
    begin = now + timedelta(seconds=max(every * sum(row.admitted for row in lanes), blocked))
    unchanged = limit is not None and refused is not None and limit.pace == refused.pace
    if unchanged and state.free_at is not None:
        begin = max(begin, state.free_at)
    ends = [max(row.last, now) for row in lanes if row.last is not None]
    ends += [
        begin + timedelta(seconds=drain.at(row.lane, drain.lengths[row.lane]))
        for row in lanes
        if any(row.in_line)
    ]
    late = _late(office, tx, at, begin, drain, depth.looked)
    return Forecast(
        tenant_id=tenant_id, key=key, limit=shown, usage=usage,
        waiting={row.lane: count for row in lanes if (count := row.admitted + sum(row.in_line))},
        paused=sum(row.paused for row in lanes),
        drain=(max(ends) - now).total_seconds() if ends else 0.0,
        drains_at=max(ends, default=None),
        will_miss=len(late), misses=tuple(late[: depth.named]),
    )  # fmt: skip


def _usage(eyes: Eyes, tenant_id: str, limit: Limit | None) -> Usage | None:
    return None if limit is None else eyes.usages([(tenant_id, limit)])[0]


def _width(every: float) -> int:
    """How many turns are shared out at a time."""
    return int(HORIZON / every) if every else MAX_AHEAD


def _own(refused: Limit | None) -> Limit | None:
    """The limit that the steps of a key state for themselves, as far as a refusal tells it."""
    if refused is None or refused.max_in_flight is None:
        return refused
    return replace(refused, max=None)  # there it is a pace, and no limit


def _late(
    office: Office, tx: Tx, at: tuple[str, str], begin: datetime, drain: Drain, most: int
) -> list[Miss]:
    """Those who come too late, by their turn; of each line the last ``most`` are looked at."""
    windows: dict[tuple[UUID, str], SendWindow] = {}
    clocked: set[UUID] = set()
    for sequence_id, block_id in queued.blocks(tx, *at, drain.lengths, most):
        index = office.library.get(tx, sequence_id).sequence.index
        block = index.get(block_id)
        if isinstance(block, Step) and block.send_window is not None:
            windows[sequence_id, block_id] = block.send_window
        if SLA in index:
            clocked.add(sequence_id)
    rows = queued.perhaps_late(
        tx, *at, drain.lengths, most, begin=begin, segments=map(astuple, drain.segments),
        windowed=list(windows), clocked=list(clocked),
    )  # fmt: skip
    found = (_miss(row, windows.get((row.sequence_id, row.block_id))) for row in rows)
    return [each for each in found if each is not None]


def _miss(row: Row, window: SendWindow | None) -> Miss | None:
    """What the step's turn comes too late for, the earliest of it; None if for nothing.

    The window is the one that was open when the step came: a limit does not move it to the next.
    """
    closes = None if window is None else closing(window, row.queued_at, ZoneInfo(row.timezone))
    ends = (("deadline", row.deadline_at), ("sla", row.sla_at), ("send_window", closes))
    passed = [(end, what) for what, end in ends if end is not None and end < row.turn_at]
    if not passed:
        return None
    end, what = min(passed)
    return Miss(row.instance_id, row.node_key, row.lane, what, end, row.turn_at)
