"""Admission: every key with a queue has its turn, however many there are, whatever fails."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from orch8.errors import Unavailable
from orch8.limits import Ended, Limit, Limiter
from orch8.runtime import admission, flights
from orch8.runtime.eyes import Eyes
from orch8.runtime.preparing import Task
from orch8.runtime.registry import put_limit
from orch8.runtime.rounds import Rounds
from orch8.runtime.routes import Kind, Route
from orch8.runtime.tick import tick
from orch8.storage.ids import uuid7
from orch8.storage.rows import StepRow
from orch8.storage.transaction import dumps
from tests.support.house import House

KEYS = 250
BLOCK = {"type": "step", "handler": "noop-call", "rate_limit_key": "x", "max_in_flight": 1}


class Clock:
    """A clock that the test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def queue_up(house: House, keys: int) -> set[tuple[str, str]]:
    """So many steps wait, each for a key of its own."""
    house.handler("noop-call", lambda _request: {})
    house.publish(BLOCK)
    for _ in range(keys):
        house.start()
    house.sql(
        """UPDATE steps s SET due_at = NULL, queued_at = orch8_now(), limit_key = 'item:' || r.n
           FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM steps) r WHERE r.id = s.id"""
    )
    return {("default", f"item:{n + 1}") for n in range(keys)}


def _newcomer(key: str) -> Task:
    row = StepRow(
        uuid7(), "call", uuid7(), "default", "call", "call", "none", "running", "renewal",
        datetime.now(UTC),
    )  # fmt: skip
    return Task(row, Route(Kind.PUSH, "call", "http://localhost"), limits=(Limit(key, 1),))


def test_each_of_many_keys_is_admitted(house: House) -> None:
    """A look is at four pages of fifty; the first key is not looked at again before the last."""
    keys = queue_up(house, KEYS)
    waiting = "SELECT count(*) AS n FROM steps WHERE due_at IS NULL"
    assert admission.admit_waiting(house.office) is None
    assert house.sql(waiting)[0].n == KEYS - 200
    assert admission.admit_waiting(house.office) == keys
    assert house.sql(waiting)[0].n == 0


def test_each_step_of_a_queue_takes_as_long_as_it_costs(house: House) -> None:
    """Steps that cost one, two and three units of ten a second, by turns: the next one is due when
    there are units for it, whatever the first in line costs.
    """
    queue_up(house, 7)
    costs = [1, 2, 3, 1, 2, 3, 1]
    told = [{"key": "mixed", "max": 10, "window": 0.98, "weight": cost} for cost in costs]
    house.sql(
        """UPDATE steps s SET limit_key = 'mixed', queued_at = orch8_now(),
               progress = jsonb_build_object('deferred_under', t.told)
           FROM jsonb_array_elements(%s::jsonb) WITH ORDINALITY AS t(told, n)
           WHERE s.limit_key = 'item:' || t.n""",
        dumps(told),
    )
    admission.admit_waiting(house.office)
    rows = house.sql(
        """SELECT extract(epoch FROM due_at - min(due_at) OVER ())::float8 AS at
           FROM steps ORDER BY id"""
    )
    units = [sum(costs[:n]) for n in range(len(costs))]
    assert [row.at for row in rows] == pytest.approx(
        [each / 10 / admission.AHEAD_OF_PACE for each in units], abs=1e-3
    )


def test_nobody_is_admitted_for_places_that_are_stuck(house: House) -> None:
    """Six at a time, half a second each, are twelve a second, of which two seconds are admitted; of
    a worker that died five places are left, and one place alone comes free: two a second.
    """
    queue_up(house, 60)
    told = {"deferred_under": flights.pace("places", 6, 0.5, 6, 1).to_json()}
    house.sql("UPDATE steps SET limit_key = 'places', progress = %s", dumps(told))
    clock, bound = Clock(), Limit("places", None, max_in_flight=6, lease=30.0)
    due = "SELECT count(due_at) AS n FROM steps"
    with closing(Limiter(house.office.settings.redis_url, clock=clock)) as limiter:
        limiter.restore("default", bound, [], [])
        grants = limiter.acquire("default", [[bound]] * 6)
        limiter.ended([("default", Ended([bound], grants[0], 0.5))])
        clock.now += 2.5
        admission.admit_waiting(house.office, Eyes(limiter))
    assert house.sql(due)[0].n == 4
    admission.admit_waiting(house.office)  # what was told to the first in line
    assert house.sql(due)[0].n == 25


def test_pace_of_who_was_refused_holds_while_redis_is_away(house: House) -> None:
    """A queue of places goes on without it, and it is not asked again with each look."""
    queue_up(house, 60)
    told = {"deferred_under": flights.pace("places", 6, 0.5, 6, 1).to_json()}
    house.sql("UPDATE steps SET limit_key = 'places', progress = %s", dumps(told))
    with closing(Limiter("redis://127.0.0.1:1/0")) as limiter, capture_logs() as logs:
        eyes = Eyes(limiter)
        for _ in range(2):
            admission.admit_waiting(house.office, eyes)
    assert house.sql("SELECT count(due_at) AS n FROM steps")[0].n == 25
    assert [each["event"] for each in logs] == ["eyes.limiter_away"]


def test_round_goes_on_behind_the_last_page_and_begins_anew(house: House) -> None:
    """Pages of two cover five keys in three looks; what is known is the last whole round, and what
    this one has found.
    """
    keys = queue_up(house, 5)
    times = iter([10.0, 13.0, 20.0])
    rounds = Rounds(2, clock=lambda: next(times))
    with house.office.begin() as tx:
        pages = [rounds.next(tx) for _ in range(2)]
        assert (rounds.known, rounds.over) == (None, False)
        pages.append(rounds.next(tx))
        assert [len(page) for page in pages] == [2, 2, 1]
        assert {key for page in pages for key in page} == rounds.known == keys
        assert (rounds.took, rounds.over) == (3.0, True)
        assert rounds.next(tx) == pages[0]
        assert rounds.known == keys


def test_queue_on_a_later_page_is_not_thought_to_be_gone(house: House) -> None:
    """While the first round is under way, and after it, newcomers join the queue of the last key;
    of a key without one they do not.
    """
    queue_up(house, 5)
    house.office.rounds = Rounds(1)
    newcomers = house.pump._gate._newcomers
    last, idle = (_newcomer(key) for key in ("item:5", "idle"))
    newcomers.refused("default", "item:5", 0.0)
    newcomers.refused("default", "idle", 0.0)
    for _ in range(3):
        house.pump._admit_at = 0.0
        house.pump._admit()
        assert newcomers.arrive(last) is not None
    assert newcomers.arrive(idle) is None


def test_long_round_admits_further_ahead(house: House) -> None:
    """A key that is looked after every ten seconds has twenty seconds of its steps admitted."""
    queue_up(house, 5)
    house.sql("UPDATE steps SET limit_key = 'one'")
    with house.office.begin() as tx:
        put_limit(tx, "one", tenant_id="default", maximum=2, window=9.98, actor="test")
    times = iter([10.0, 20.0, 30.0])
    house.office.rounds = Rounds(2, clock=lambda: next(times))
    admission.admit_waiting(house.office)
    due = "SELECT count(*) AS n FROM steps WHERE due_at IS NOT NULL"
    assert house.sql(due)[0].n == 4


@pytest.mark.parametrize(
    "progress",
    ['{"limit": 7}', '{"deferred_under": {"key": "item:1", "max": -1}}'],
    ids=["another shape", "an impossible limit"],
)
def test_key_that_cannot_be_looked_after_keeps_nobody_waiting(house: House, progress: str) -> None:
    """What the first key's step says of its limit cannot be read: the others are admitted in the
    same look, and the log names the one that is not.
    """
    keys = queue_up(house, 3)
    house.sql("UPDATE steps SET progress = %s::jsonb WHERE limit_key = 'item:1'", progress)
    with capture_logs() as logs:
        assert admission.admit_waiting(house.office) == keys
    assert [(e["event"], e["key"]) for e in logs] == [("admission.broke_alone", "item:1")]
    left = house.sql("SELECT limit_key FROM steps WHERE due_at IS NULL")
    assert [row.limit_key for row in left] == ["item:1"]
    assert house.tick() is not None


def test_limit_from_another_version_is_read_as_far_as_it_is_known(house: House) -> None:
    """A process of a later version says more of a limit, one of an earlier version says less; both
    queues are admitted at the pace that was meant.
    """
    queue_up(house, 4)
    house.sql("UPDATE steps SET limit_key = CASE WHEN limit_key < 'item:3' THEN 'a' ELSE 'b' END")
    later = {"key": "a", "max": 1, "window": 9.98, "slack": 0.02, "colour": "red"}
    earlier = ["b", 1, 9.98, 0.02, 1, None, 60.0, "", False, 0.0, "red"]
    house.sql("UPDATE steps SET progress = %s::jsonb", dumps({"limit": earlier}))
    house.sql(
        "UPDATE steps SET progress = %s::jsonb WHERE limit_key = 'a'",
        dumps({"deferred_under": later}),
    )
    admission.admit_waiting(house.office)
    due = house.sql("SELECT limit_key AS k FROM steps WHERE due_at IS NOT NULL ORDER BY k")
    assert [row.k for row in due] == ["a", "b"]


def test_part_of_a_tick_that_fails_keeps_nobody_from_the_others(house: House) -> None:
    """The alarms cannot be read: the queue is admitted, the lane woken, and the tick says so."""
    queue_up(house, 3)
    woken: list[str] = []
    house.sql("ALTER TABLE alarms RENAME TO mislaid")
    try:
        ticked = tick(house.office, lambda lane, *_: woken.append(lane))
    finally:
        house.sql("ALTER TABLE mislaid RENAME TO alarms")
    assert (ticked.failed, woken) == (("alarms",), ["renewal"])
    assert house.sql("SELECT count(*) AS n FROM steps WHERE due_at IS NULL")[0].n == 0


def test_tick_gives_up_when_the_database_is_away(house: House) -> None:
    """No part is tried in vain after the first."""
    office = house.another_office(database_url="postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(Unavailable):
        tick(office, lambda *_: None)
