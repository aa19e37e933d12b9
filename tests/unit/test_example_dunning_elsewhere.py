"""The shipped dunning when the world moves on: paid, voided or cancelled by another road."""

from __future__ import annotations

import pytest

from orch8.testing import takes
from tests.support.dunning import OPEN, PAID, SCA, SOFT, Dunning


# -- paid, voided or cancelled elsewhere -----------------------------------------------------------
@pytest.mark.parametrize("after", ["1h", "8d", "14d", "20d"])
def test_dunning_ends_when_it_is_paid_elsewhere(after: str) -> None:
    """Between tries, after the last one and during the grace period, money that comes by another
    road ends the run, and nobody is charged or downgraded after it.
    """
    dunning = Dunning(SOFT)
    dunning.wait(after)
    charged = len(dunning.charges)
    dunning.paid_elsewhere()
    assert dunning.finish() == "recovered_externally"
    assert len(dunning.charges) == charged
    assert dunning.done("restore_access")
    assert dunning.reviews == []


def test_dunning_awaits_its_own_charge_when_it_is_paid_elsewhere() -> None:
    """A charge in flight is not abandoned: if both paid, a person is asked to pay one back."""
    dunning = Dunning(SOFT, takes("20s", PAID))
    dunning.until("retry_charge[0]")
    dunning.paid_elsewhere()
    dunning.invoice["amount_overpaid_minor"] = 9900
    assert dunning.finish() == "recovered"
    assert dunning.reviews == ["overpaid"]


def test_dunning_knows_its_own_payment_in_the_provider_s_word() -> None:
    """The provider announces the payment before it answers the call: it is one payment."""
    dunning = Dunning(takes("20s", PAID))
    dunning.wait("5s")
    dunning.paid_elsewhere()
    assert dunning.finish() == "paid_first_try"
    assert (len(dunning.charges), dunning.reviews) == (1, [])


def test_dunning_withdraws_the_open_payment_when_it_is_paid_elsewhere() -> None:
    """The link in the customer's mailbox must not pay a second time."""
    dunning = Dunning(SCA)
    dunning.wait("1d")
    dunning.paid_elsewhere()
    assert dunning.finish() == "recovered_externally"
    assert [call.step for call in dunning.calls("cancel_payment")] == ["withdraw_open_payment[0]"]


@pytest.mark.parametrize(
    ("signal", "outcome", "reason"),
    [
        ("invoice.voided", "voided", "paid_although_voided"),
        ("subscription.canceled", "customer_canceled", "paid_although_canceled"),
    ],
)
def test_dunning_ends_when_nothing_is_owed_any_more(signal: str, outcome: str, reason: str) -> None:
    """Nothing is charged after it; what was charged meanwhile, a person looks at."""
    quiet, charged, open_ = Dunning(SOFT), Dunning(takes("20s", PAID)), Dunning(SOFT, SCA)
    quiet.wait("4d")
    charged.wait("5s")
    open_.until("send_retry_sca_link[0]")
    for dunning in (quiet, charged, open_):
        dunning.signal(signal)
        assert dunning.finish() == outcome
    assert (len(quiet.charges), quiet.reviews) == (3, [])
    assert (len(charged.charges), charged.reviews) == (1, [reason])
    assert (len(open_.calls("cancel_payment")), open_.reviews) == (1, [])


# -- the invoice is read again ---------------------------------------------------------------------
@pytest.mark.parametrize(
    ("invoice", "outcome"),
    [
        ({"status": "paid"}, "recovered_externally"),
        ({"status": "open", "amount_remaining_minor": 0}, "recovered_externally"),
        ({"status": "void"}, "voided"),
        ({"status": "uncollectible"}, "voided"),
    ],
)
def test_dunning_reads_the_invoice_before_each_try(
    invoice: dict[str, object], outcome: str
) -> None:
    """Nobody said that it was paid; the billing system knows."""
    dunning = Dunning(SOFT)
    dunning.wait("2d")
    dunning.invoice = invoice
    assert dunning.finish() == outcome
    assert len(dunning.charges) == 2
    assert not dunning.done("downgrade")


def test_dunning_charges_what_is_left_of_the_invoice() -> None:
    """Who paid a part of it owes the rest, and the budget counts the rest."""
    dunning = Dunning(SOFT, PAID)
    dunning.invoice["amount_remaining_minor"] = 4000
    assert dunning.finish() == "recovered"
    assert dunning.charges[1].params["amount_minor"] == 4000
    (row,) = [row for row in dunning.run.steps if row.node_key == "retry_charge[0]"]
    assert row.money["amount"] == 4000


def test_dunning_does_not_charge_what_it_cannot_read() -> None:
    """An invoice in a state that nobody foresaw is neither charged nor downgraded for: the run
    fails, and goes on when the answer makes sense.
    """
    dunning = Dunning(SOFT)
    dunning.invoice = {"status": "in_dispute"}
    assert dunning.finish() is None
    assert (dunning.run.state, len(dunning.charges)) == ("failed", 1)
    dunning.invoice = {"status": "paid"}
    dunning.sim.retry(dunning.run)
    assert dunning.finish() == "recovered_externally"


@pytest.mark.parametrize(
    ("invoice", "outcome"),
    [
        ({"status": "paid"}, "recovered_externally"),
        ({"status": "uncollectible"}, "voided"),
        ({"status": "past_due"}, "downgraded"),
    ],
)
def test_dunning_downgrades_only_who_has_not_paid(invoice: dict[str, object], outcome: str) -> None:
    """The last look is right before the downgrade, whatever the look before it said."""
    looks = []

    def get_invoice(request: object) -> dict[str, object]:
        looks.append(request)
        return invoice if len(looks) == 8 else dict(OPEN)

    dunning = Dunning(SOFT, get_invoice=get_invoice)
    assert dunning.finish() == outcome
    assert len(looks) == 8
    assert dunning.done("downgrade") == (outcome == "downgraded")
