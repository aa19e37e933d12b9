"""Declines and card-network budgets on a real database: counted when sent, shared by instances."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from orch8.handlers.python import TryAgain
from tests.support.house import House

CARD = {"card": "fp_1"}
MONEY = {"amount": 500, "currency": "eur", "instrument": "{{data.card}}", "network": "visa"}
CHARGE = {
    "type": "step", "id": "charge", "handler": "pay", "effect": "money", "money": MONEY,
    "fence": "{{instance_id}}", "retry": {"max_attempts": 2, "backoff": "1h", "jitter": 0},
}  # fmt: skip
DECLINED = {"outcome": "declined", "decline_code": "insufficient_funds"}


def guard(most: int, on_exhausted: str = "fail") -> dict[str, Any]:
    """A guard of so many attempts in ten days."""
    budget = {"instrument": "{{data.card}}", "visa": {"max": most, "window": "10d"}}
    return {
        "type": "guard", "id": "budget", "network_budget": budget, "on_exhausted": on_exhausted,
    }  # fmt: skip


def attempts(house: House) -> list[tuple[Any, ...]]:
    """What is counted: network, instrument, amount, currency, verdict."""
    columns = "network, instrument, amount, currency, verdict"
    return [tuple(row) for row in house.sql(f"SELECT {columns} FROM network_attempts ORDER BY at")]


def test_two_instances_share_the_budget_of_an_instrument(house: House) -> None:
    """The first uses up what there is; the second is told so, and another card is not concerned."""
    house.handler("pay", lambda _: DECLINED)
    first = house.run(guard(1), CHARGE, data=CARD)
    assert house.state(first) == "completed"
    second = house.start(CARD)
    other = house.start({"card": "fp_2"})
    house.work()
    assert (house.state(second), house.state(other)) == ("failed", "completed")
    assert house.instance(second).error["code"] == "budget_exhausted"
    assert attempts(house) == [
        ("visa", "fp_1", 500, "EUR", "declined"),
        ("visa", "fp_2", 500, "EUR", "declined"),
    ]


def test_budget_is_free_again_when_the_window_has_passed(house: House) -> None:
    """A deferred guard wakes up at the moment at which the attempt leaves the window."""
    house.handler("pay", lambda _: DECLINED)
    house.run(guard(1, "defer"), CHARGE, data=CARD)
    second = house.start(CARD)
    house.work()
    assert house.state(second) == "scheduled"
    house.advance(timedelta(days=9, hours=23))
    house.work()
    assert house.state(second) == "scheduled"
    house.advance(timedelta(hours=1))
    house.work()
    assert house.state(second) == "completed"
    assert len(attempts(house)) == 2


def test_attempt_is_counted_once_and_not_while_it_surely_failed(house: House) -> None:
    """A dispatch that failed safely voids the count; its re-send counts the same attempt again."""
    answers: list[Any] = [TryAgain("busy"), {"ok": True}]

    def pay(_: Any) -> Any:
        said = answers.pop(0)
        if isinstance(said, Exception):
            raise said
        return said

    house.handler("pay", pay)
    house.run(CHARGE, data=CARD)
    assert [row[-1] for row in attempts(house)] == ["void"]
    house.advance(timedelta(hours=1))
    house.work()
    assert [row[-1] for row in attempts(house)] == ["succeeded"]


def test_follow_up_is_counted_too(house: House) -> None:
    """A charge that is claimed in the settle of the step before it counts like any other."""
    house.handler("pay", lambda _: DECLINED)
    house.handler("note", lambda _: {})
    house.run({"type": "step", "id": "note", "handler": "note"}, CHARGE, data=CARD)
    assert len(attempts(house)) == 1


def test_guard_breaks_its_loop(house: House) -> None:
    """The loop ends as completed with the budget, and decline is there for what follows."""
    house.handler("pay", lambda _: DECLINED)
    body = {"type": "loop", "id": "again", "max_iterations": 9, "body": [guard(2, "break"), CHARGE]}
    after = {
        "type": "step", "id": "after", "handler": "transform",
        "params": {"soft": "{{decline.soft}}", "last": "{{last_decline.step}}", "s": "{{state}}"},
    }  # fmt: skip
    instance_id = house.run(body, after, data=CARD)
    rows = house.steps(instance_id)
    assert house.state(instance_id) == "completed"
    assert [key for key in rows if key.startswith("charge")] == ["charge[0]", "charge[1]"]
    assert (rows["budget[2]"].state, rows["budget[2]"].output["left"]) == ("completed", 0)
    assert rows["after"].output == {"soft": True, "last": "charge[1]", "s": {}}


def test_barred_instrument_is_barred_beyond_its_window(house: House) -> None:
    """What the network forbids to repeat is remembered longer than any window."""
    house.handler("pay", lambda _: {"outcome": "declined", "network_decline_code": "43"})
    house.run(guard(5), CHARGE, data=CARD)
    house.advance(timedelta(days=100))
    second = house.start(CARD)
    house.work()
    assert house.state(second) == "failed"
    assert house.instance(second).error["details"]["earliest_at"] is None


def test_step_without_an_instrument_counts_nothing(house: House) -> None:
    """Money without an instrument, and effects other than money, leave no row."""
    house.handler("pay", lambda _: DECLINED)
    house.run({**CHARGE, "money": {"amount": 1, "currency": "EUR"}}, data=CARD)
    house.run({**CHARGE, "effect": "external"}, data=CARD)
    assert attempts(house) == []
