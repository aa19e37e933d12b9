"""The shipped dunning when nobody knows whether a charge happened: it is found out, or parked."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from orch8.engine.outcome import Answer, Verdict
from orch8.errors import InvalidArgument
from orch8.testing import crash, time_out
from orch8.testing.scripts import http
from tests.support.dunning import BACKUP, BERLIN, HARD, PAID, SOFT, START, Dunning

YES = {"found": "yes", "outcome": "succeeded", "provider_ref": "ch_1", "output": {"charge": "ch_1"}}
NO = {"found": "no"}
CANNOT_TELL = {"found": "cannot_tell"}


@pytest.mark.parametrize("lost", [time_out(), crash(), http(500), http(502, "x")], ids=repr)
def test_dunning_asks_what_became_of_a_charge(lost: Any) -> None:
    """However the answer was lost, the charge is asked about and not repeated, and what is found is
    its result.
    """
    dunning = Dunning(lost, find_charge=YES)
    assert dunning.finish() == "paid_first_try"
    assert len(dunning.charges) == 1
    (asked,) = dunning.calls("find_charge")
    assert asked.at - START < timedelta(minutes=2)
    assert asked.key != dunning.charges[0].key


@pytest.mark.parametrize("said", [http(200), http(204), "<html>", {"outcome": "fine"}], ids=repr)
def test_dunning_does_not_take_a_strange_success_for_a_decline(said: Any) -> None:
    """A success without a body is one; what cannot be read is asked about. Neither is charged
    again.
    """
    dunning = Dunning(said, SOFT, find_charge={"found": "yes", "outcome": "succeeded"})
    assert dunning.finish() == "paid_first_try"
    assert len(dunning.charges) == 1


def test_dunning_believes_a_found_decline() -> None:
    """A decline that is found goes the way of any decline."""
    found = {"found": "yes", "outcome": "declined", "output": HARD}
    dunning = Dunning(time_out(), PAID, data=BACKUP, find_charge=found)
    assert dunning.finish() == "recovered"
    assert dunning.cards == ["pm_1", "pm_2"]


def test_dunning_sends_a_charge_again_that_surely_did_not_happen() -> None:
    """Absent means absent twice, after a while; then it is the same attempt under the same key."""
    dunning = Dunning(time_out(), PAID, find_charge=NO)
    assert dunning.finish() == "paid_first_try"
    first, second = dunning.charges
    assert first.key == second.key
    assert second.at - first.at >= timedelta(minutes=5)
    assert len(dunning.calls("find_charge")) >= 3


def test_dunning_takes_a_new_key_when_the_old_one_may_be_forgotten() -> None:
    """Stripe keeps a key for a day: what is found absent after that is a new attempt."""
    answers = [CANNOT_TELL] * 5 + [NO]
    dunning = Dunning(
        time_out(), PAID, find_charge=lambda _: answers.pop(0) if len(answers) > 1 else answers[0]
    )
    assert dunning.finish() == "paid_first_try"
    first, second = dunning.charges
    assert first.key != second.key
    assert (first.generation, second.generation) == (1, 2)
    assert second.at - first.at > timedelta(hours=21)


def test_dunning_waits_for_a_person_when_nobody_can_tell() -> None:
    """It is asked for days, then parked: neither failed nor charged again, until a person says."""
    dunning = Dunning(time_out(), find_charge=CANNOT_TELL)
    assert dunning.finish() is None
    assert dunning.run.attention is not None
    assert dunning.run.attention["reason"] == "reconcile_exhausted"
    assert len(dunning.calls("find_charge")) == 9
    assert (dunning.run.state, len(dunning.charges)) == ("waiting", 1)
    dunning.sim.answer(dunning.run, "charge", PAID)
    assert dunning.finish() == "paid_first_try"


def test_dunning_goes_on_when_a_person_says_that_it_was_declined() -> None:
    """The days of the doubt do not make the next tries a storm: each has a day of its own."""
    dunning = Dunning(SOFT, time_out(), SOFT, find_charge=CANNOT_TELL)
    dunning.finish()
    dunning.wait("6d")
    assert len(dunning.charges) == 2
    dunning.sim.answer(dunning.run, "retry_charge[0]", SOFT)
    assert dunning.finish() == "downgraded"
    days = [call.at.astimezone(BERLIN).date() for call in dunning.charges]
    assert len(days) == len(set(days)) == 7


@pytest.mark.parametrize("after", ["10s", "3h"])
def test_dunning_resolves_a_doubt_before_it_ends_as_paid_elsewhere(after: str) -> None:
    """A doubt is not forgotten because the invoice was paid: if the charge was made as well, a
    person pays one back.
    """
    answers = [CANNOT_TELL] * 3 + [YES]
    dunning = Dunning(
        SOFT, time_out(), find_charge=lambda _: answers.pop(0) if len(answers) > 1 else answers[0]
    )
    dunning.until("retry_charge[0]")
    dunning.wait(after)
    dunning.paid_elsewhere()
    dunning.invoice["amount_overpaid_minor"] = 9900
    assert dunning.run.state != "completed"
    assert dunning.finish() == "recovered"
    assert dunning.reviews == ["overpaid"]
    assert len(dunning.charges) == 2


def test_dunning_ends_as_paid_elsewhere_when_its_own_charge_did_not_happen() -> None:
    """A charge that surely was not made is not made any more once the invoice is paid."""
    dunning = Dunning(SOFT, time_out(), find_charge=NO)
    dunning.until("retry_charge[0]")
    dunning.wait("1m")
    dunning.paid_elsewhere()
    assert dunning.finish() == "recovered_externally"
    assert len(dunning.charges) == 2
    assert dunning.reviews == []


def test_dunning_survives_a_worker_that_dies_between_charge_and_commit() -> None:
    """The charge was made and nothing was written: it is found, once, and the run goes on."""
    charged: dict[str, int] = {}

    def charge(request: Any) -> Any:
        charged[request.idempotency_key] = charged.get(request.idempotency_key, 0) + 1
        return crash()

    def find(request: Any) -> Any:
        known = request.attempt["idempotency_key"] in charged
        return YES if known else NO

    dunning = Dunning(PAID, charge_payment_method=charge, find_charge=find)
    assert dunning.finish() == "paid_first_try"
    assert list(charged.values()) == [1]


def test_dunning_waits_for_word_on_a_charge_that_is_pending() -> None:
    """A payment that is accepted and not final is asked about until it is."""
    answers: list[Any] = [{"found": "yes", "outcome": "pending"}, YES]
    dunning = Dunning({"outcome": "pending"}, find_charge=lambda _: answers.pop(0))
    assert dunning.finish() == "paid_first_try"
    assert answers == []
    with pytest.raises(InvalidArgument):
        dunning.sim.answer(dunning.run, "charge", Answer(Verdict.DECLINED))
