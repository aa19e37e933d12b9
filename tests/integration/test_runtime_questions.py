"""Questions about attempts in doubt count against the limits of their steps, as calls do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from orch8.engine.outcome import Answer, Verdict
from orch8.runtime.run import JANITOR
from tests.support.house import House, until

LIMIT = {"max": 2, "window_seconds": 0.5, "cost": 2}
ACCOUNT = {"rate_limit_key": "asked", "rate_limit": LIMIT}
RECONCILE = {
    "policy": "reconcile",
    "handler": "find_charge",
    "schedule": ["1s"],
    "confirmations": 1,
}
CHARGE = {"type": "step", "handler": "charge", "effect": "money", "on_unknown": RECONCILE}


class Account:
    """An account at a provider that was away: no charge is answered, every question is."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.here = self.most = 0
        self._lock = threading.Lock()

    def charge(self, _request: object) -> Answer:
        """Nobody knows what came of it."""
        return Answer(Verdict.UNKNOWN, error={"message": "no answer"})

    def find(self, _request: object) -> dict[str, Any]:
        """It happened."""
        with self._lock:
            self.asked.append(time.monotonic())
            self.here += 1
            self.most = max(self.most, self.here)
        threading.Event().wait(0.02)  # long enough for others to come in meanwhile
        with self._lock:
            self.here -= 1
        return {"found": "yes", "output": {}}


@pytest.fixture
def house(houses: Callable[..., House]) -> House:
    """A house whose breakers do not open after five calls without an answer."""
    return houses(breaker_threshold=100)


@pytest.fixture
def account(house: House) -> Account:
    """The account that the handlers ``charge`` and ``find_charge`` call; no window is spent."""
    account = Account()
    house.handler("charge", account.charge)
    house.handler("find_charge", account.find)
    house.handler("noop-call", lambda _request: {})
    house.run({"type": "step", "handler": "noop-call", **ACCOUNT}, name="warm")
    return account


def in_doubt(house: House, many: int) -> list[Any]:
    """So many charges whose outcome is to be asked for now."""
    ids = [house.start() for _ in range(many)]
    thread = threading.Thread(target=house.work)
    thread.start()
    until(lambda: all(house.step(each).asking for each in ids))
    house.pump.wind_down(1.0)
    thread.join(20)
    house.pump = house.another_pump()
    house.advance(timedelta(minutes=1))
    return ids


def test_questions_keep_the_limit_of_their_step(house: House, account: Account) -> None:
    """However many there are after an outage; each costs one call, and hardly any comes in vain."""
    house.publish({**CHARGE, **ACCOUNT, "rate_limit": {**LIMIT, "cost": 1}})
    ids = in_doubt(house, 8)
    deferred = {each: house.step(each).deferrals for each in ids}
    until(lambda: house.work(JANITOR) or len(account.asked) == 8)
    until(lambda: [house.state(each) for each in ids] == ["completed"] * 8)
    asked = sorted(account.asked)
    assert min(b - a for a, b in zip(asked, asked[2:], strict=False)) > 0.45
    again = [house.step(each).deferrals - deferred[each] for each in ids]
    assert max(again) <= 2
    assert sum(again) >= 4


def test_questions_are_among_the_calls_in_flight_of_their_step(
    house: House, account: Account
) -> None:
    """One at a time means the questions, too."""
    house.publish({**CHARGE, "max_in_flight": 1})
    ids = in_doubt(house, 4)
    until(lambda: house.work(JANITOR) or len(account.asked) == 4)
    until(lambda: [house.state(each) for each in ids] == ["completed"] * 4)
    assert account.most == 1


def test_question_costs_one_call_whatever_its_step_costs(house: House, account: Account) -> None:
    """Two questions pass in a window that has room for one charge."""
    house.publish({**CHARGE, **ACCOUNT})
    in_doubt(house, 2)
    until(lambda: house.work(JANITOR) or len(account.asked) == 2)
    first, second = account.asked
    assert second - first < 0.45
