"""Customers behind a backlog: starts on an interactive lane while renewals wait for the same key.

The backlog is one step that was really deferred, multiplied in SQL without its audit entries. What
is measured is the time from the API's answer to a start until the provider has its call, and what
the provider saw in its fullest window meanwhile.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg2

from tests.bench import load
from tests.bench.road import Road, sequence
from tests.bench.strictness import MAX, WINDOW, idle_seconds, peak
from tests.support.stack import Client, until

WORKERS = 2
RATE = 5.0  # customers a second
TARGET = 1.0  # seconds: the 99th percentile of accepted to arrived
_KEY = "acquirer"
_LATE = 15.0  # seconds after the last start in which its call must have come
_MEMBERS: Final = {
    "rate_limit_key": _KEY, "rate_limit": {"max": MAX, "window_seconds": WINDOW},
}  # fmt: skip

_WAITING = """
SELECT id, instance_id FROM steps
WHERE limit_key = %s AND due_at IS NULL AND state = 'scheduled' LIMIT 1
"""
_UUID7 = """
(lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0')
 || '7' || left(md5(random()::text), 3) || 'a' || left(md5(random()::text), 15))::uuid
"""
_COPIES = f"""
CREATE TEMP TABLE copies AS
SELECT n, {_UUID7} AS instance_id, {_UUID7} AS step_id FROM generate_series(1, %s) n
"""
# What each table's copy has of its own; the other columns are as they were.
_OWN: Final = {
    "instances": {"id": "c.instance_id", "idempotency_key": "'copy-' || c.n"},
    "contexts": {"instance_id": "c.instance_id"},
    "steps": {
        "instance_id": "c.instance_id",
        "id": "c.step_id",
        "queued_at": "t.queued_at + c.n * interval '10 microseconds'",
        "progress": "jsonb_set(jsonb_set(t.progress - 'free_at', '{limit,1}', to_jsonb(%(max)s)),"
        " '{limit,2}', to_jsonb(%(window)s))",
    },
}


@dataclass(frozen=True, slots=True)
class Behind:
    """What customers and the provider saw; seconds from the answer to the arrival, ascending."""

    waits: Sequence[float]
    renewals_per_s: float
    peak: int  # calls in the fullest window
    deferrals: int  # the most that one step was sent back to the queue
    idle: float  # share of the machine's time that nobody used meanwhile

    @property
    def holds(self) -> bool:
        """Whether the limit was kept, nobody sent back too often, and customers hardly waited."""
        late = percentile(self.waits, 0.99) >= TARGET
        return self.peak <= MAX and self.deferrals <= 2 and not late


def measure(folder: Path, backlog: int, seconds: float) -> Behind:
    """Customers have come for some seconds while ``backlog`` renewals wait for their key."""
    road = Road(folder, workers=WORKERS)
    with road.world, closing(Client(road.world.handlers.url)) as handler:
        world = road.world
        world.publish(sequence("renewal", _MEMBERS, steps=1))
        world.publish(sequence("customer", {**_MEMBERS, "priority": "Critical"}, steps=1))
        _fill(road, backlog)
        handler.send("PUT", "/record", {})
        world.client.send("PUT", f"/rate-limits/{_KEY}", {"max": MAX, "window_seconds": WINDOW})
        time.sleep(2 * WINDOW)  # the backlog is on its way
        began, idle = time.monotonic(), idle_seconds()
        url = world.stack.urls.http
        made = load.create_paced(url, "bench_customer", "customer", RATE, seconds)
        ended = time.monotonic()
        spare = (idle_seconds() - idle) / (ended - began) / (os.cpu_count() or 1)
        mine = [one.instance_id for one in made]
        left = "SELECT FROM instances WHERE id = ANY(%s::uuid[]) AND state <> 'completed' LIMIT 1"
        until(lambda: not world.rows(left, (mine,)), _LATE, "customers are served")
        arrivals = handler.get("/arrivals")
        (found,) = world.rows("SELECT max(deferrals) AS most FROM steps")
    first: dict[str, float] = {}
    for at, instance_id in arrivals:
        first.setdefault(instance_id, at)
    waits = sorted(first[one.instance_id] - one.answered_at for one in made)
    others = sum(began < at <= ended for each, at in first.items() if each not in set(mine))
    return Behind(
        waits, others / (ended - began), peak([at for at, _ in arrivals]), found["most"], spare
    )


def percentile(ascending: Sequence[float], share: float) -> float:
    """The smallest value that is not exceeded by ``share`` of them."""
    return ascending[min(int(share * len(ascending)), len(ascending) - 1)]


def _fill(road: Road, backlog: int) -> None:
    """So many renewals wait for the key."""
    world = road.world
    world.client.send("PUT", f"/rate-limits/{_KEY}", {"max": 1, "window_seconds": 3600})
    for number in range(3):
        world.begin("bench_renewal", f"first-{number}")
    (one,) = until(lambda: world.rows(_WAITING, (_KEY,)), 30.0, "a step is deferred")
    with closing(psycopg2.connect(world.stack.urls.owner)) as connection:
        with connection, connection.cursor() as cursor:
            cursor.execute(_COPIES, (backlog,))
            for table, own in _OWN.items():
                _copy(cursor, table, own, one["instance_id"])
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE instances, contexts, steps")


def _copy(cursor: Any, table: str, own: dict[str, str], instance_id: str) -> None:
    cursor.execute(
        "SELECT column_name FROM information_schema.columns"
        " WHERE table_name = %s AND is_generated = 'NEVER'",
        (table,),
    )
    names = [name for (name,) in cursor.fetchall()]
    values = ", ".join(own.get(name, f't."{name}"') for name in names)
    columns = ", ".join(f'"{name}"' for name in names)
    key = "id" if table == "instances" else "instance_id"
    cursor.execute(
        f"INSERT INTO {table} ({columns}) SELECT {values} FROM {table} t, copies c"
        f" WHERE t.{key} = %(instance)s",
        {"instance": instance_id, "max": MAX, "window": WINDOW},
    )
