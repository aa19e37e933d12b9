"""The shipped dunning on the real thing: published over REST, charged by a pump, told of events."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from orch8.runtime.run import JANITOR
from orch8.testing.misbehaviour import Do, Rule
from tests.support.api import Api
from tests.support.dunning import DATA, DUNNING
from tests.support.house import House

CHARGE = "charge_payment_method"
DEFINITION = json.loads(DUNNING.read_text())
UTC_DATA = DATA | {"customer_timezone": None, "country": None}


def test_dunning_is_published_strictly_and_started_over_rest(api: Api) -> None:
    """The shipped file is accepted without a remark, and two starts for an invoice are one run."""
    published = api.post("/sequences?strict=true", DEFINITION)
    assert (published["version"], published.get("warnings", [])) == (1, [])
    first = api.post("/sequences/payment_dunning/instances", {"context": {"data": DATA}})
    again = api.post(
        "/sequences/payment_dunning/instances", {"context": {"data": DATA}}, status=200
    )
    assert again["deduplicated"] is True
    assert again["id"] == first["id"]


@pytest.fixture
def dunning(house: House) -> UUID:
    """A dunning of an invoice that is open; nothing was called yet. Mail goes out at any hour."""
    open_ = json.loads(DUNNING.read_text())
    house.handler("get_invoice", lambda _: {"status": "open"})
    house.handler("send_email", lambda _: {})
    members = {name: value for name, value in open_.items() if name not in ("id", "blocks")}
    house.publish(*open_["blocks"], name=open_["id"], **members)
    return house.start(UTC_DATA, name=open_["id"])


def charged(house: House) -> int:
    """How often the provider charged the card."""
    return sum(len(entry["charges"]) for entry in house.keys(CHARGE))


def test_dunning_charges_once_and_activates(house: House, dunning: UUID) -> None:
    """A first charge that succeeds ends the run."""
    house.work()
    row = house.instance(dunning)
    assert (row.state, row.outcome) == ("completed", "paid_first_try")
    assert charged(house) == 1
    assert house.sql("SELECT count(*) FROM fences")[0][0] == 0
    (counted,) = house.sql("SELECT network, instrument, amount FROM network_attempts")
    assert tuple(counted) == ("visa", "fp_1", 9900)


def test_dunning_finds_a_charge_whose_answer_was_lost(house: House, dunning: UUID) -> None:
    """The provider charged and hung up: the janitor finds the charge, and it is not repeated."""
    house.provider_does(Rule(Do.COMMIT_THEN_HANG_UP, handler=CHARGE, times=1))
    house.work()
    assert house.step(dunning).waits_for == "reconcile"
    house.advance(timedelta(minutes=1))
    house.work(JANITOR)
    house.work()
    assert house.instance(dunning).outcome == "paid_first_try"
    assert charged(house) == 1


def test_dunning_recovers_on_the_day_after(house: House, dunning: UUID) -> None:
    """A declined card is tried again when it is due, under another key."""
    house.provider_does(Rule(Do.DECLINE, handler=CHARGE, times=1))
    house.work()
    assert house.step(dunning, "next_try[0]").state == "scheduled"
    for _ in range(5):  # a payday may be near, and the window of charges closes at night
        house.advance(timedelta(days=1))
        house.work()
    row = house.instance(dunning)
    assert (row.state, row.outcome) == ("completed", "recovered")
    assert [len(entry["charges"]) for entry in house.keys(CHARGE)].count(1) == charged(house)
    assert len(house.keys(CHARGE)) == 2


def test_dunning_ends_by_a_correlated_signal(house: House, dunning: UUID) -> None:
    """Whoever receives the webhook knows the invoice and not the instance."""
    house.provider_does(Rule(Do.DECLINE, handler=CHARGE))
    house.work()
    found: list[Any] = house.sql(
        "SELECT instance_id FROM correlations WHERE name = 'invoice_id' AND value = 'in_1'"
    )
    assert [row.instance_id for row in found] == [dunning]
    house.handler("get_invoice", lambda _: {"status": "paid", "amount_overpaid_minor": 0})
    house.signal(dunning, name="invoice.paid")
    house.work()
    assert house.instance(dunning).outcome == "recovered_externally"
    assert len(house.keys(CHARGE)) == 1


def test_dunning_does_not_charge_behind_another_run_s_back(house: House, dunning: UUID) -> None:
    """An invoice that another sequence is paying just now is not paid by this one as well, nor
    after it from a look at the invoice that is out of date: a person decides.
    """
    fence = {"fence": "invoice:in_2", "effect": "money"}
    house.provider_does(Rule(Do.HANG_UP, handler="pay_by_hand"))
    house.publish({"type": "step", "id": "pay", "handler": "pay_by_hand", **fence}, name="other")
    other = house.start(name="other")
    house.work()
    assert house.instance(dunning).outcome == "paid_first_try"
    assert house.step(other, "pay").outcome == "unknown"
    behind = house.start(UTC_DATA | {"invoice_id": "in_2"}, name="payment_dunning")
    house.work()
    row = house.instance(behind)
    assert row.state == "failed"
    assert row.error["code"] == "fence_taken"
    assert charged(house) == 1
