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
