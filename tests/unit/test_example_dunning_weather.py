"""The shipped dunning in any weather: whatever is answered, lost or paid elsewhere, nobody is
charged twice, and only who has not paid is downgraded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st

from orch8.testing import TryAgain, crash, http, time_out
from orch8.testing.instance import SimInstance
from tests.support.dunning import (
    BACKUP,
    BERLIN,
    EXPIRED,
    FRAUD,
    HARD,
    PAID,
    SCA,
    SOFT,
    START,
    Dunning,
    declined,
)

RESULTS = {
    "paid": PAID, "soft": SOFT, "hard": HARD, "expired": EXPIRED, "fraud": FRAUD, "sca": SCA,
    "technical": declined("processing_error"),
}  # fmt: skip
LOST = {"silence": time_out(), "death": crash(), "a 500": http(500), "garbage": "<html>"}
REFUSED = frozenset({"hard", "expired"})

# What becomes of a new attempt: its result, or nothing (None), and how the answer is lost, if so.
deeds = st.tuples(
    st.sampled_from(["soft", "sca", *RESULTS, None]),
    st.sampled_from([None, None, *LOST, "busy"]),
)
EVENTS = ("paid", "paid quietly", "card", "voided", "canceled", "authenticated")
events = st.lists(st.tuples(st.integers(0, 40 * 24 * 60), st.sampled_from(EVENTS)), max_size=3).map(
    sorted
)


@dataclass
class Bank:
    """A provider that remembers its keys, and what the billing system makes of it. It refuses to be
    asked for what must not be asked: it is where a second charge would be noticed.
    """

    deeds: list[tuple[str | None, str | None]]
    fog: int  # questions that it cannot answer, of each attempt
    authenticates: bool  # before the link is withdrawn, without telling
    book: dict[str, str | None] = field(default_factory=dict)
    questions: dict[str, int] = field(default_factory=dict)
    elsewhere: bool = False
    told: bool = False  # of the payment elsewhere
    voided: bool = False
    refused: set[str] = field(default_factory=set)
    run: SimInstance | None = None

    @property
    def paid(self) -> int:
        """How often it charged."""
        return list(self.book.values()).count("paid")

    def charge(self, request: Any) -> Any:
        """One dispatch; an attempt that it knows has its first result again."""
        key, card = request.idempotency_key, request.params["payment_method_id"]
        assert request.money["amount"] == 9900
        if key not in self.book:
            self._must_be_allowed(request, card)
            result, lost = self.deeds.pop(0) if self.deeds else ("soft", None)
        else:
            result, lost = self.book[key] or "soft", None
        if lost == "busy":
            self.book[key] = None
            return TryAgain
        self.book[key] = result
        if result in REFUSED:
            self.refused.add(card)
        if result is None or lost is not None:
            return LOST[lost or "silence"]
        return dict(RESULTS[result])

    def _must_be_allowed(self, request: Any, card: str) -> None:
        assert self.run is not None
        open_ = [row.node_key for row in self.run.steps if row.effect == "money"]
        settled = [n for n in open_ if any(r.node_key == n and r.outcome for r in self.run.steps)]
        assert len(open_) - len(settled) <= 1, "two attempts are open"
        assert not self.paid, "charged again after a charge that succeeded"
        assert not self.told, "charged although it was paid elsewhere"
        # Only a try reads the invoice before; the first charge does not, nor one that is repeated.
        reads = request.step != "charge" and request.generation == 1
        assert not (reads and self.elsewhere), "charged although the invoice says paid"
        assert not self.voided, "charged although nothing is owed"
        assert "sca" not in self.book.values(), "charged while a payment is open to its customer"
        assert "fraud" not in self.book.values(), "charged after suspected fraud"
        assert card not in self.refused, "charged a card that was refused for good"

    def find(self, request: Any) -> Any:
        """What became of an attempt, as far as the fog allows."""
        key = request.attempt["idempotency_key"]
        self.questions[key] = self.questions.get(key, 0) + 1
        if self.questions[key] <= self.fog:
            return {"found": "cannot_tell"}
        result = self.book[key]
        if result is None:
            return {"found": "no"}
        answer = RESULTS[result]
        return {"found": "yes", "outcome": answer["outcome"], "output": answer}

    def cancel(self, _request: Any) -> Any:
        """The open payment cannot be made any more, unless it was made."""
        if self.authenticates:
            self.authenticate()
        for key, result in self.book.items():
            if result == "sca":
                self.book[key] = "withdrawn"
        return {"status": "succeeded" if self.paid else "canceled"}

    def authenticate(self) -> bool:
        """The customer follows the link, if there is one."""
        for key, result in self.book.items():
            if result == "sca":
                self.book[key] = "paid"
                return True
        return False

    def invoice(self, _request: Any) -> Any:
        """The invoice as the billing system has it."""
        payments = self.paid + self.elsewhere
        if self.voided and not payments:
            return {"status": "void"}
        status = "paid" if payments else "open"
        return {"status": status, "amount_overpaid_minor": 9900 * max(payments - 1, 0)}


def happen(what: str, dunning: Dunning, bank: Bank) -> None:
    """One thing has happened outside, and the run was told."""
    if what == "paid":
        bank.elsewhere = bank.told = True
        dunning.signal("invoice.paid")
    elif what == "paid quietly":
        bank.elsewhere = True
    elif what == "card":
        bank.refused.clear()
        dunning.new_card()
    elif what == "authenticated":
        if bank.authenticate():
            dunning.signal("payment_intent.succeeded")
    else:
        bank.voided = True
        dunning.signal("invoice.voided" if what == "voided" else "subscription.canceled")


def settle(dunning: Dunning, bank: Bank) -> None:
    """A person who looks at the bank's book has said what became of every parked attempt."""
    dunning.finish()
    for _ in range(20):
        parked = [row for row in dunning.run.steps if row.state == "parked"]
        if not parked:
            return
        result = bank.book[str(parked[0].idempotency_key)]
        bank.book[str(parked[0].idempotency_key)] = result or "soft"
        dunning.sim.answer(dunning.run, parked[0].node_key, dict(RESULTS[result or "soft"]))
        dunning.finish()
    raise AssertionError("parked again and again")


@settings(max_examples=settings().max_examples // 2)  # a run is a whole dunning
@given(
    st.lists(deeds, min_size=2, max_size=8),
    events,
    st.sampled_from([0, 0, 1, 3, 20]),
    st.booleans(),
    st.booleans(),
)
def test_dunning_never_charges_twice_nor_downgrades_who_paid(
    script: list[tuple[str | None, str | None]],
    happenings: list[tuple[int, str]],
    fog: int,
    authenticates: bool,
    backup: bool,
) -> None:
    """At most one attempt succeeds, at most one is open, each has a key and a fence; who paid by
    any road is not downgraded, and who paid twice is told to a person.
    """
    bank = Bank(list(script), fog, authenticates)
    dunning = Dunning(
        data=BACKUP if backup else {},
        charge_payment_method=bank.charge,
        find_charge=bank.find,
        cancel_payment=bank.cancel,
        get_invoice=bank.invoice,
    )
    bank.run = dunning.run
    for minute, what in happenings:
        at = START + timedelta(minutes=minute)
        if at > dunning.sim.now:
            dunning.sim.run_until(at)
        if dunning.run.state == "completed":
            break
        happen(what, dunning, bank)
    settle(dunning, bank)
    run = dunning.run
    event(str(run.outcome))
    assert run.state == "completed", run
    assert bank.paid <= 1
    money = [row for row in run.steps if row.effect == "money"]
    assert all(row.fence == "invoice:in_1" and row.idempotency_key for row in money)
    assert [row.outcome for row in money].count("succeeded") <= 1
    if run.outcome == "downgraded":
        assert not bank.paid
        assert not bank.elsewhere
    assert dunning.done("downgrade") == (run.outcome == "downgraded")
    if bank.paid and (bank.told or bank.voided):
        assert dunning.reviews
        assert bank.voided or dunning.reviews == ["overpaid"]
    if not {"card"} & {what for _, what in happenings}:
        first = {call.key: call.at.astimezone(BERLIN).date() for call in reversed(dunning.charges)}
        assert len(set(first.values())) == len(first)
