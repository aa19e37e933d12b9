"""The shipped dunning, branch by branch: who is charged, when, with what, and how it ends."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from orch8.definition import load
from orch8.errors import Unprocessable
from orch8.testing import Refused, Simulator, TryAgain, takes, time_out
from tests.support.dunning import (
    BACKUP,
    BERLIN,
    DUNNING,
    EXPIRED,
    FRAUD,
    HARD,
    OPEN,
    PAID,
    SCA,
    SOFT,
    START,
    Dunning,
    declined,
)


def test_dunning_publishes_strictly_without_a_remark() -> None:
    """The example is one that a reviewer of money definitions has nothing to say about."""
    sequence = load(json.loads(DUNNING.read_text()), strict=True)
    assert (sequence.name, sequence.warnings) == ("payment_dunning", ())


def test_dunning_refuses_a_start_without_an_amount() -> None:
    """What the charge needs is asked for before anything is called."""
    with pytest.raises(Unprocessable, match="not of type"):
        Dunning(PAID, data={"amount_minor": "99.00"})


# -- the first charge --------------------------------------------------------------------------
def test_dunning_ends_when_the_first_charge_succeeds() -> None:
    """A good card is charged once, with everything that money safety needs."""
    dunning = Dunning(PAID)
    assert dunning.finish() == "paid_first_try"
    (row,) = [row for row in dunning.run.steps if row.effect == "money"]
    assert row.fence == "invoice:in_1"
    assert row.idempotency_key
    assert row.money == {
        "amount": 9900, "currency": "USD", "instrument": "fp_1", "network": "visa",
        "merchant": "default",
    }  # fmt: skip
    assert [call.handler for call in dunning.run.calls] == [
        "charge_payment_method", "activate_subscription",
    ]  # fmt: skip


def test_dunning_of_an_instance_that_exists_is_not_started_again() -> None:
    """Two starts for one invoice are one run, and one charge."""
    dunning = Dunning(takes("5s", PAID))
    again = dunning.sim.start({"data": dunning.data | {"amount_minor": 1}})
    assert again == dunning.run
    assert dunning.finish() == "paid_first_try"
    assert len(dunning.sim.calls) == 2


def test_dunning_tries_a_busy_provider_again_under_the_same_key() -> None:
    """A charge that surely was not made is made later, as the same attempt."""
    dunning = Dunning(TryAgain, TryAgain, PAID)
    assert dunning.finish() == "paid_first_try"
    assert len(dunning.charges) == 3
    assert len({call.key for call in dunning.charges}) == 1


def test_dunning_fails_rather_than_blames_the_customer() -> None:
    """A request that the provider refuses is our fault: a person looks, nobody is downgraded, and
    the run goes on where it stopped.
    """
    dunning = Dunning(Refused("no such parameter"), PAID)
    assert dunning.finish() is None
    assert dunning.run.state == "failed"
    dunning.sim.retry(dunning.run)
    assert dunning.finish() == "paid_first_try"


# -- the customer has to authenticate ------------------------------------------------------------
def test_dunning_awaits_the_customer_who_has_to_authenticate() -> None:
    """The link is mailed at once; who follows it has paid, and is never past due."""
    dunning = Dunning(SCA)
    dunning.wait("2d")
    assert dunning.mails == ["sca_required"]
    dunning.signal("payment_intent.succeeded")
    assert dunning.finish() == "paid_after_sca"
    assert not dunning.done("mark_past_due")
    assert not dunning.calls("cancel_payment")


def test_dunning_withdraws_the_open_payment_before_it_tries_again() -> None:
    """After three days the link must not pay any more, or it could pay as well as the next try."""
    dunning = Dunning(SCA, PAID)
    assert dunning.finish() == "recovered"
    withdrawn, retried = dunning.calls("cancel_payment")[0], dunning.charges[1]
    assert withdrawn.at - START == timedelta(days=3)
    assert withdrawn.params["payment"]["payment_intent"] == "pi_1"
    assert withdrawn.at < retried.at
    assert retried.at - withdrawn.at == timedelta(days=1)


def test_dunning_hears_of_a_late_authentication_when_it_withdraws() -> None:
    """The link was followed and nobody said so: what can no longer be withdrawn has paid."""
    dunning = Dunning(SCA, cancel_payment={"status": "succeeded"})
    assert dunning.finish() == "paid_after_sca"
    assert len(dunning.charges) == 1


def test_dunning_retry_may_need_authentication_too() -> None:
    """A retry has the same way to the customer as the first charge."""
    dunning = Dunning(SOFT, SCA)
    dunning.until("send_retry_sca_link[0]")
    dunning.wait("1d")
    dunning.signal("payment_intent.succeeded")
    assert dunning.finish() == "recovered_after_sca"
    assert dunning.cards == ["pm_1", "pm_1"]


def test_dunning_retry_withdraws_its_open_payment() -> None:
    """A retry whose customer did not authenticate is withdrawn, and the next try comes."""
    dunning = Dunning(SOFT, SCA, PAID)
    assert dunning.finish() == "recovered"
    assert [call.step for call in dunning.calls("cancel_payment")] == ["withdraw_retry_sca[0]"]


def test_dunning_retry_hears_of_a_late_authentication() -> None:
    """A retry that can no longer be withdrawn has paid."""
    dunning = Dunning(SOFT, SCA, cancel_payment={"status": "succeeded"})
    assert dunning.finish() == "recovered_after_sca"


# -- which card ----------------------------------------------------------------------------------
@pytest.mark.parametrize("paid_at", range(1, 7))
def test_dunning_stops_at_the_try_that_is_paid(paid_at: int) -> None:
    """A card that was short of money is tried until it pays, and not once more."""
    dunning = Dunning(*[SOFT] * paid_at, PAID)
    assert dunning.finish() == "recovered"
    assert dunning.cards == ["pm_1"] * (1 + paid_at)
    assert len({call.key for call in dunning.charges}) == 1 + paid_at
    assert dunning.mails == [f"dunning_{n}" for n in range(1, paid_at)]
    assert not dunning.done("downgrade")


def test_dunning_uses_the_backup_of_a_card_that_is_lost() -> None:
    """The lost card is never charged again, and the backup is judged by its own network."""
    dunning = Dunning(HARD, PAID, data=BACKUP)
    assert dunning.finish() == "recovered"
    assert dunning.cards == ["pm_1", "pm_2"]
    (row,) = [row for row in dunning.run.steps if row.node_key == "retry_charge[0]"]
    assert (row.money["instrument"], row.money["network"]) == ("fp_2", "mastercard")


def test_dunning_stays_with_the_backup_that_is_short_of_money() -> None:
    """A soft decline of the backup does not lead back to the card that is lost."""
    dunning = Dunning(HARD, SOFT, SOFT, PAID, data=BACKUP)
    assert dunning.finish() == "recovered"
    assert dunning.cards == ["pm_1", "pm_2", "pm_2", "pm_2"]


def test_dunning_gives_up_cards_when_both_are_lost() -> None:
    """Two lost cards are charged once each, and the rest is mail."""
    dunning = Dunning(HARD, HARD, data=BACKUP)
    assert dunning.finish() == "downgraded"
    assert dunning.cards == ["pm_1", "pm_2"]


@pytest.mark.parametrize(
    "same",
    [{}, {"backup_payment_method_id": "pm_1"}, {**BACKUP, "backup_card_fingerprint": "fp_1"}],
    ids=["none", "the same method", "the same card"],
)
def test_dunning_without_a_backup_only_mails(same: dict[str, str]) -> None:
    """A lost card without another one is not tried: the customer is asked, then downgraded."""
    dunning = Dunning(HARD, data=same)
    assert dunning.finish() == "downgraded"
    assert dunning.cards == ["pm_1"]
    assert dunning.mails == [*(f"dunning_{n}" for n in range(1, 6)), "final_notice"]


def test_dunning_charges_a_new_card_at_once() -> None:
    """An expired card is not tried; the new one is, when it is given and not on the next date."""
    dunning = Dunning(EXPIRED, PAID)
    dunning.wait({"days": 3, "hours": 20})
    assert dunning.cards == ["pm_1"]
    dunning.new_card()
    assert dunning.finish() == "recovered"
    assert dunning.cards == ["pm_1", "pm_9"]
    assert dunning.charges[1].at - START == timedelta(days=3, hours=20)


def test_dunning_prefers_a_new_card_to_the_backup() -> None:
    """What the customer gave last is what the customer wants to pay with."""
    dunning = Dunning(HARD, PAID, data=BACKUP)
    dunning.wait("1h")
    dunning.new_card()
    assert dunning.finish() == "recovered"
    assert dunning.cards == ["pm_1", "pm_9"]


def test_dunning_tries_a_card_again_that_was_given_anew() -> None:
    """An expired card that was renewed may keep its name: giving it again is a new card."""
    dunning = Dunning(EXPIRED, PAID)
    dunning.wait("1h")
    dunning.signal("payment_method.updated")
    assert dunning.finish() == "recovered"
    assert dunning.cards == ["pm_1", "pm_1"]


def test_dunning_does_not_blame_a_new_card_for_the_old_one() -> None:
    """A card that is given while the old one is being charged is tried, though that one is lost."""
    dunning = Dunning(takes("20s", HARD), PAID)
    dunning.wait("5s")
    dunning.new_card()
    assert dunning.finish() == "recovered"
    assert dunning.cards == ["pm_1", "pm_9"]
    assert dunning.charges[1].at - START == timedelta(seconds=20)


def test_dunning_wakes_when_a_card_comes_while_mail_waits_for_the_morning() -> None:
    """A card that is given on a weekend is charged then, and no mail asks for it on Monday."""
    dunning = Dunning(EXPIRED, PAID)
    dunning.wait({"days": 5, "hours": 10})  # Sunday: the mail of Saturday waits
    assert dunning.mails == ["dunning_1", "dunning_2"]
    dunning.new_card()
    assert dunning.finish() == "recovered"
    assert dunning.charges[1].at - START == timedelta(days=5, hours=10)
    assert dunning.mails == ["dunning_1", "dunning_2"]


def test_dunning_charges_a_new_card_in_the_grace_period() -> None:
    """After the final notice a new card is tried at once; the old ones are not."""
    dunning = Dunning(*[SOFT] * 7, PAID)
    dunning.until("final_notice[5]")
    dunning.wait("4d")
    dunning.new_card()
    assert dunning.finish() == "recovered"
    assert dunning.cards == ["pm_1"] * 7 + ["pm_9"]


def test_dunning_keeps_its_grace_period_when_a_new_card_is_declined() -> None:
    """A declined new card shortens nothing, and the next one is tried as well."""
    dunning = Dunning(*[SOFT] * 9)
    dunning.until("final_notice[5]")
    noticed = dunning.sim.now
    for card in ("pm_8", "pm_9"):
        dunning.wait("1d")
        dunning.new_card(card)
    assert dunning.finish() == "downgraded"
    assert dunning.cards == ["pm_1"] * 7 + ["pm_8", "pm_9"]
    assert dunning.calls("downgrade_account")[0].at - noticed >= timedelta(days=15, hours=23)


@pytest.mark.parametrize("before", [0, 1, 4])
def test_dunning_stops_for_suspected_fraud(before: int) -> None:
    """Not even the backup is charged, nobody is mailed, and a person is asked to look."""
    dunning = Dunning(*[SOFT] * before, FRAUD, data=BACKUP)
    assert dunning.finish() == "stopped_for_review"
    assert len(dunning.charges) == before + 1
    assert dunning.reviews == ["suspected_fraud"]
    assert len(dunning.mails) == max(before - 1, 0)
    assert not dunning.done("downgrade")


# -- the budget ------------------------------------------------------------------------------------
def test_dunning_respects_a_card_that_its_network_has_barred() -> None:
    """No date is a reason to charge a card whose network forbids it; mails go on."""
    barred = declined("do_not_honor") | {"network_advice_code": "03"}
    dunning = Dunning(barred, data={"card_network": "mastercard"})
    assert dunning.finish() == "downgraded"
    assert len(dunning.charges) == 1


def test_dunning_counts_what_others_charged_on_the_card() -> None:
    """The budget is the card's: the tries of twenty other invoices leave none for this one."""
    dunning = Dunning(SOFT)
    for n in range(2, 22):
        dunning.sim.start({"data": dunning.data | {"invoice_id": f"in_{n}"}})
    dunning.wait("2d")
    assert dunning.run.outputs["budget[0]"]["allowed"] is False
    assert len(dunning.charges) == 1
    assert dunning.mails == ["dunning_1"]


# -- the promise -----------------------------------------------------------------------------------
def test_dunning_that_takes_too_long_is_told_of() -> None:
    """After 45 days somebody hears of it, and nothing else changes."""
    dunning = Dunning(time_out(), find_charge={"found": "cannot_tell"})
    dunning.wait("44d")
    assert [e for e in dunning.run.timeline if e.action == "instance.sla_breached"] == []
    dunning.wait("30d")
    (breach,) = [e for e in dunning.run.timeline if e.action == "instance.sla_breached"]
    assert breach.at.astimezone(BERLIN) == START + timedelta(days=45)  # on the calendar
    dunning.sim.answer(dunning.run, "charge", PAID)
    assert dunning.finish() == "paid_first_try"


def test_dunning_runs_with_the_least_that_it_asks_for() -> None:
    """Without fingerprint, network, country and zone it works: in UTC, and by the card's name."""
    least = {"invoice_id": "in_2", "customer_id": "c", "payment_method_id": "pm_7",
             "amount_minor": 500, "currency": "EUR"}  # fmt: skip
    sim = Simulator(
        DUNNING,
        {
            "charge_payment_method": [SOFT, PAID],
            "get_invoice": OPEN,
            "set_subscription_state": {},
            "send_email": {},
            "activate_subscription": {},
        },
    )
    run = sim.start({"data": least})
    sim.run()
    assert run.outcome == "recovered"
    assert {row.money["instrument"] for row in run.steps if row.effect == "money"} == {"pm_7"}
