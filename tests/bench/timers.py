"""How late timers are: many instances wait on a delay, and so many of them come due each second.

The lag of a timer is from the moment at which it is due to the arrival of its call at the handler.
All but those that come due while it is measured are due from two hours later on.
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import click

from tests.bench import cpu
from tests.bench.figures import Figures, Say, common, conditions_of, spread, started
from tests.bench.handler import MAX_RECORDED
from tests.bench.multiply import Due, Multiplier
from tests.bench.road import Road
from tests.support.stack import Client, until

_DELAY: Final = {"days": 30}
_LATER, _OVER = timedelta(hours=2), timedelta(hours=22)  # when the others are due
_LATE: Final = 60.0  # seconds after the last is due in which its call must have come
_LEAD: Final = 3.0  # seconds between the last copy and the first that is due, and
_FILLED: Final = 4000.0  # copies that the slowest machine makes in a second meanwhile
_DUE: Final = """
SELECT extract(epoch FROM due_at)::float8 AS at, instance_id::text AS id FROM steps
WHERE lane = %(lane)s AND due_at < %(until)s AND instance_id <> %(template)s
"""
_WAITING: Final = """
SELECT EXISTS (SELECT FROM steps WHERE lane = %(lane)s AND due_at < %(until)s) AS due,
       EXISTS (SELECT FROM steps WHERE claimed_by IS NOT NULL) AS claimed
"""
_ENDED: Final = (
    "SELECT count(*) AS ended FROM instances WHERE id > %(since)s AND state = 'completed'"
)


def measure(road: Road, *, timers: int, rate: int, seconds: int, say: Say = print) -> Figures:
    """``rate`` of the ``timers`` came due each second. RuntimeError unless each ran just once."""
    count = min(rate * seconds, timers, MAX_RECORDED)
    block = {"type": "step", "handler": "s1", "delay": _DELAY}
    road.world.publish({"id": "bench_timer", "blocks": [block]})
    template = road.world.begin("bench_timer")
    (one,) = road.world.rows(
        "SELECT lane FROM steps WHERE instance_id = %s AND due_at > now()", (template,)
    )
    with Multiplier(road.server) as multiplier:
        say(f"making {timers} instances")
        with multiplier.filling():
            due = Due(datetime.now(UTC) + _LATER, _OVER / max(timers - count, 1))
            multiplier.multiply(template, timers - count, due=due)
        say(f"making {count} of them, which come due")
        begin = datetime.now(UTC) + timedelta(seconds=_LEAD + count / _FILLED)
        multiplier.multiply(template, count, due=Due(begin, timedelta(seconds=1 / rate)))
    asked = {"lane": one["lane"], "until": begin + _LATER / 2, "template": template}
    due_at = {row["id"]: row["at"] for row in road.world.rows(_DUE, asked)}
    if datetime.now(UTC) >= begin:
        raise RuntimeError(f"{count} copies took too long: the first was due meanwhile")
    say(f"{rate} a second come due for {count / rate:g} s")
    arrived, used = _work(road, asked, begin.timestamp() + count / rate)
    (found,) = road.world.rows(_ENDED, {"since": template})
    calls = Counter(instance_id for _, instance_id in arrived)
    once = sum(calls[instance_id] == 1 for instance_id in due_at)
    if not once == count == len(arrived) == found["ended"]:
        raise RuntimeError(
            f"{count} were due, {len(arrived)} calls came, {once} of them as the only one, "
            f"{found['ended']} instances ended"
        )
    lags = [1000 * (at - due_at[instance_id]) for at, instance_id in arrived]
    numbers = {
        "pending": timers, "due": count, "rate_per_s": rate, **spread("lag", lags), "once": once,
        "worker_us": 1e6 * used.get("workers", 0.0) / count,
        "postgres_us": 1e6 * used.get("postgres", 0.0) / count,
    }  # fmt: skip
    conditions = conditions_of(road, timers=timers, rate=rate, seconds=seconds)
    return Figures("timers", numbers, conditions, {"lag_ms": lags, "cpu_seconds": used})


def _work(
    road: Road, asked: dict[str, Any], last: float
) -> tuple[list[tuple[float, str]], dict[str, float]]:
    """The arrivals, by the wall clock, and the CPU seconds until nothing was due any more."""
    with closing(Client(road.world.handlers.url, timeout=120.0)) as handler:
        handler.send("PUT", "/record", {})
        wall = time.time() - time.monotonic()
        before = cpu.look(road.parts())
        time.sleep(max(last - time.time(), 0.0))
        until(
            lambda: not any(road.world.rows(_WAITING, asked)[0].values()),
            _LATE, "every timer has run", poll=0.5,
        )  # fmt: skip
        used = cpu.look(road.parts()).since(before)
        return [(wall + at, of) for at, of in handler.get("/arrivals")], used


@click.command()
@click.option("--timers", default=1_000_000, show_default=True, type=click.IntRange(100, 10**8))
@click.option("--rate", default=1000, show_default=True, type=click.IntRange(1, 100_000))
@click.option("--seconds", default=120, show_default=True, type=click.IntRange(1, 900))
@common
def timers(
    *, timers: int, rate: int, seconds: int, workers: int, quick: bool, file: Path | None
) -> None:
    """How late timers are, of many that wait."""
    if quick:
        timers, rate, seconds = 2000, 100, 3
    with started(workers) as (road, say):
        found = measure(road, timers=timers, rate=rate, seconds=seconds, say=say)
    found.tell(file)
