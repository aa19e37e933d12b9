"""The gate on a real server: feedback reaches the keys it concerns, and losses are made good."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from orch8.engine.outcome import Answer, Verdict
from orch8.handlers.pressure import Pressure
from orch8.limits import Grant, Limit, Limiter
from orch8.runtime.gate import Gate
from orch8.runtime.preparing import Limits, Task, holder
from orch8.runtime.routes import Kind, Route
from orch8.runtime.settle import Deferral, Item
from orch8.storage.ids import uuid7
from orch8.storage.rows import StepRow
from tests.support.house import until
from tests.support.valkey import Valkey

WIDE, NARROW = Limit("account", 100, 30), Limit("endpoint", 50, 30)
METHOD = Limit("method:live:acme:payments", 120, 60)
ROUTE = Route(Kind.PUSH, "charge", "http://localhost")
TENANT = "acme"


@dataclass
class Known:
    """What the database would say."""

    ages: list[float] = field(default_factory=list)
    holders: list[str] = field(default_factory=list)
    processes: int | None = 1
    asked: list[str] = field(default_factory=list)
    stated: Limits = field(default_factory=Limits)

    def used(
        self, tenant_id: str, limit: Limit, waiting: Sequence[UUID]
    ) -> tuple[list[float], list[str]]:
        """The ages and holders that the test has put here."""
        assert tenant_id == TENANT
        assert waiting
        self.asked.append(limit.key)
        return self.ages, self.holders

    def limits(self) -> Limits:
        """Nobody has changed a limit."""
        return self.stated

    def live(self) -> int | None:
        """How many processes there are."""
        return self.processes


def task(*limits: Limit) -> Task:
    """A claimed step with these limits."""
    row = StepRow(
        uuid7(), "charge", uuid7(), TENANT, "charge", "charge", "money", "running", "renewal",
        datetime.now(UTC), epoch=1,
    )  # fmt: skip
    name = holder(row.id, row.epoch)
    return Task(row, ROUTE, limits=tuple(replace(limit, holder=name) for limit in limits))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Valkey]:
    """A server of the test's own."""
    with Valkey(tmp_path) as running:
        yield running


@pytest.fixture
def limiter(server: Valkey) -> Iterator[Limiter]:
    """A limiter that knows the keys, all unused."""
    with closing(Limiter(server.url)) as made:
        for limit in (WIDE, NARROW):
            made.restore(TENANT, limit, [])
        yield made


def pushed_back(told: Pressure, **error: Any) -> Answer:
    evidence = {"http_status": 429, "pressure": told.to_json()}
    return Answer(Verdict.FAILED_SAFE, error={"message": "no", **error}, evidence=evidence)


@pytest.mark.parametrize(
    ("told", "error", "blocked"),
    [
        (Pressure(9.0), {}, {"account", "endpoint"}),
        (Pressure(9.0, "global"), {}, {"account"}),
        (Pressure(9.0, "endpoint"), {}, {"endpoint"}),
        (Pressure(9.0, "resource"), {}, set()),
        (Pressure(9.0), {"code": "lock_timeout"}, set()),
        (Pressure(), {}, set()),
        (Pressure(9.0, concurrent=True), {}, set()),
    ],
)
def test_refusal_blocks_the_keys_it_concerns(
    limiter: Limiter, told: Pressure, error: dict[str, Any], blocked: set[str]
) -> None:
    """The widest key for the whole account, the narrowest for an endpoint, none for one object."""
    gate = Gate(limiter, Known())
    ((call, grant),), back = gate.admit([task(WIDE, NARROW)])
    assert back == []
    gate.ended(call, grant, pushed_back(told, **error))
    gate.report()
    limits = {limit.key: limit for limit in (WIDE, NARROW)}
    assert {k for k, limit in limits.items() if limiter.peek(TENANT, limit).blocked} == blocked
    if blocked:
        granted, (item,) = gate.admit([task(WIDE, NARROW)])
        assert granted == []
        assert isinstance(item.came, Deferral)
        assert item.came.after == pytest.approx(9.0, abs=1.0)


@pytest.mark.parametrize(
    ("limits", "status", "retry_after", "seconds"),
    [
        ([METHOD], 429, None, 60.0),
        ([METHOD], 429, 7.0, 7.0),
        ([METHOD], 503, None, 0.0),
        ([WIDE], 429, None, 0.0),
        ([WIDE], 429, 7.0, 7.0),
    ],
    ids=["published", "stated", "not a refusal for it", "unknown", "stated of any"],
)
def test_refusal_without_a_wait_blocks_as_the_provider_publishes(
    limiter: Limiter, limits: list[Limit], status: int, retry_after: float | None, seconds: float
) -> None:
    """Or as the step's outcome_map states."""
    gate = Gate(limiter, Known())
    limiter.restore(TENANT, METHOD, [])
    ((call, grant),), _ = gate.admit([task(*limits)])
    evidence = {"http_status": status, "pressure": Pressure().to_json()}
    answer = Answer(Verdict.FAILED_SAFE, retry_after=retry_after, evidence=evidence)
    gate.ended(call, grant, answer)
    gate.report()
    assert limiter.peek(TENANT, limits[0]).blocked == pytest.approx(seconds, abs=1.0)


@pytest.mark.parametrize(("limits", "seconds"), [([WIDE], 9.0), ([WIDE, NARROW], 0.0)])
def test_last_call_that_is_let_through_blocks_its_key(
    limiter: Limiter, limits: list[Limit], seconds: float
) -> None:
    """If there is only one: of several, nobody knows which is meant."""
    gate = Gate(limiter, Known())
    ((call, grant),), _ = gate.admit([task(*limits)])
    told = {"pressure": Pressure(9.0, last=True).to_json()}
    gate.ended(call, grant, Answer(Verdict.SUCCEEDED, output={}, evidence=told))
    gate.report()
    assert limiter.peek(TENANT, WIDE).blocked == pytest.approx(seconds, abs=1.0)
    assert limiter.peek(TENANT, NARROW).blocked == 0.0


def test_crowded_provider_halves_what_is_in_flight(limiter: Limiter) -> None:
    """A refusal for concurrency lowers the calls at a time; it stops nobody."""
    gate = Gate(limiter, Known())
    calls, _ = gate.admit([task(WIDE) for _ in range(6)])
    gate.ended(*calls[0], pushed_back(Pressure(scope="global", concurrent=True)))
    gate.report()
    usage = limiter.peek(TENANT, WIDE)
    assert (usage.room, usage.blocked) == (3, 0.0)
    granted, _ = gate.admit([task(WIDE) for _ in range(5)])
    assert len(granted) == 3  # the others have no leases: they were called before there was a bound
    assert gate.held == 2


@pytest.mark.parametrize(
    ("verdict", "evidence", "room"),
    [
        (Verdict.SUCCEEDED, {}, 2),
        (Verdict.DECLINED, {}, 2),
        (Verdict.REFUSED, {"http_status": 422}, 2),
        (Verdict.REFUSED, {}, 1),
        (Verdict.NOT_SENT, {}, 1),
        (Verdict.FAILED_SAFE, {"http_status": 503}, 1),
        (Verdict.UNKNOWN, {}, 1),
    ],
)
def test_only_calls_that_were_dealt_with_win_room_back(
    limiter: Limiter, verdict: Verdict, evidence: dict[str, Any], room: int
) -> None:
    """A connection that fails says nothing of how many calls the provider stands."""
    gate = Gate(limiter, Known())
    (first,), _ = gate.admit([task(WIDE)])
    gate.ended(*first, pushed_back(Pressure(scope="global", concurrent=True)))
    gate.report()
    assert limiter.peek(TENANT, WIDE).room == 1
    (second,), _ = gate.admit([task(WIDE)])
    gate.ended(*second, Answer(verdict, evidence=evidence))
    gate.report()
    assert limiter.peek(TENANT, WIDE).room == room


def test_crowded_key_has_the_pace_of_its_room(limiter: Limiter) -> None:
    """Who goes back joins the queue at the pace of what is left, not of what is stated."""
    bound = Limit("crowded", 1000, 1.0, max_in_flight=8)
    limiter.restore(TENANT, bound, [], [])
    gate = Gate(limiter, Known())
    calls, _ = gate.admit([task(bound) for _ in range(8)])
    gate.ended(*calls[0], pushed_back(Pressure(scope="global", concurrent=True)))
    gate.report()
    gate.admit([task(bound)])
    came = until(lambda: gate.admit([])[1])[0].came
    assert isinstance(came, Deferral)
    assert came.limit is not None
    assert (came.limit.max, came.limit.max_in_flight) == (4, 8)
    assert came.limit.pace < bound.pace


def test_call_keeps_its_place_for_as_long_as_it_takes(limiter: Limiter, server: Valkey) -> None:
    """Its leases are renewed while it is in flight, also after Redis was away; not afterwards."""
    one = Limit("one", None, max_in_flight=1, lease=0.4)
    brief = replace(one, key="brief", lease=1.2, holder="gone/1")
    for limit in (one, brief):
        limiter.restore(TENANT, limit, [], [])
    gate = Gate(limiter, Known())
    limiter.acquire(TENANT, [[brief]])
    ((call, grant),), _ = gate.admit([task(one)])
    until(lambda: gate.report() or limiter.peek(TENANT, brief).in_flight == 0)
    assert limiter.peek(TENANT, one).in_flight == 1
    server.stop()
    server.start()
    assert limiter.peek(TENANT, one).in_flight == 0
    until(lambda: gate.report() or limiter.peek(TENANT, one).in_flight == 1)
    gate.ended(call, grant, Answer(Verdict.SUCCEEDED))
    gate.report()
    assert limiter.peek(TENANT, one).in_flight == 0


def test_lost_history_is_told_and_asked_for_again_at_once(limiter: Limiter) -> None:
    """The step does not go back first, and what was in flight counts."""
    hourly = Limit("hourly", 3, 3600, max_in_flight=2)
    known = Known(ages=[10.0], holders=["other/1"])
    gate = Gate(limiter, known)
    granted, back = gate.admit([task(hourly) for _ in range(2)])
    assert (len(granted), len(back), gate.held) == (1, 0, 1)
    assert known.asked == ["hourly"]
    usage = limiter.peek(TENANT, hourly)
    assert (usage.used, usage.in_flight) == (2, 2)
    (call, grant) = granted[0]
    gate.release(call, grant)
    usage = limiter.peek(TENANT, hourly)
    assert (usage.used, usage.in_flight) == (1, 1)


def test_step_that_waits_too_long_for_room_joins_its_queue(limiter: Limiter) -> None:
    """A quarter of a second it is held; then it goes back, with the pace of the calls in flight."""
    one = Limit("one", None, max_in_flight=1)
    gate = Gate(limiter, Known())
    gate.admit([task(one)])
    gate.admit([task(one)])
    assert gate.held == 1
    came = until(lambda: gate.admit([])[1])[0].came
    assert isinstance(came, Deferral)
    assert came.limit is not None
    assert (came.limit.key, came.limit.max, came.limit.max_in_flight) == ("one", 1, 1)


def test_share_is_used_while_redis_is_away_and_told_when_it_is_back(
    limiter: Limiter, server: Valkey
) -> None:
    """Nothing for one window, then half; afterwards the window counts as spent."""
    limit = Limit("brief", 10, 0.2)
    gate = Gate(limiter, Known())
    limiter.restore(TENANT, limit, [])
    server.stop()
    calls: list[tuple[Task, Grant]] = []

    def go(wanted: Callable[[], bool]) -> Callable[[], bool]:
        def more() -> bool:
            calls.extend(gate.admit([task(limit)] if not gate.held else [])[0])
            return wanted()

        return more

    assert gate.admit([task(limit)])[0] == []
    until(go(lambda: len(calls) >= 1))
    server.start()
    refused = until(lambda: _refused(gate, task(Limit("brief", 10, 5.0))), 5)
    assert refused.after > 3  # spent, though the server has never seen a call of it


def test_unknown_number_of_processes_means_no_share(limiter: Limiter, server: Valkey) -> None:
    """Without Redis and without Postgres nobody knows who else is calling."""
    gate = Gate(limiter, Known(processes=None))
    server.stop()
    for _ in range(3):
        granted, back = gate.admit([task(Limit("brief", 10, 0.01))])
        assert granted == []
        assert len(back) == 1
        threading.Event().wait(0.02)


def _refused(gate: Gate, asked: Task) -> Deferral | None:
    granted, back = gate.admit([asked])
    for call, grant in granted:
        gate.release(call, grant)
    came = back[0].came if back else None
    return came if isinstance(came, Deferral) and came.after > 2 else None


def test_call_that_was_too_late_for_its_token_asks_for_another_here(limiter: Limiter) -> None:
    """Nothing is written for it; after three tokens another process may try."""
    gate = Gate(limiter, Known())
    late = task(WIDE)
    granted, back = gate.admit([late])
    for _ in range(3):
        ((call, grant),) = granted
        gate.release(call, grant)
        assert gate.hold(call)
        assert gate.held == 1
        granted, back = gate.admit([])
        assert (len(granted), back) == (1, [])
    gate.release(*granted[0])
    assert not gate.hold(late)
    assert (gate.held, limiter.peek(TENANT, WIDE).used) == (0, 0)


def test_held_call_goes_back_when_another_limit_is_stated_for_its_key(limiter: Limiter) -> None:
    """It is claimed again under what holds by then. What concerns other keys, or says the same as
    before, leaves it at the gate.
    """
    known = Known(stated=Limits({(TENANT, "account"): WIDE}))
    gate, call = Gate(limiter, known), task(WIDE)
    call.under = known.stated
    others = {(TENANT, "endpoint"): NARROW, ("other", "account"): NARROW}
    known.stated = Limits({(TENANT, "account"): replace(WIDE), **others})
    assert gate.hold(call)
    assert [each for each, _ in gate.admit(())[0]] == [call]
    known.stated = Limits({(TENANT, "account"): replace(WIDE, max=1), **others})
    assert gate.hold(call)
    assert gate.admit(()) == ([], [Item(call, Deferral())])
    assert gate.held == 0
