"""The checker of `make chaos-money`: each kind of damage is found, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.chaos_money.checker import Finding, check, last_line, quantile
from tests.chaos_money.counts import Counts
from tests.chaos_money.history import Book, Doubt, History, Payment

POINT = "before_send"
MADE = Book(charged=1, first_at=10.0, charge_ids=frozenset({"ch_1"}))
PAID = Payment(
    instance_id="i-1",
    node_key="charge",
    point=POINT,
    invoice="before_send/1",
    kind="announced",  # a sequence of one step
    state="completed",
    outcome="succeeded",
    output={"charge_id": "ch_1"},
    waits_for=None,
    parked_for=None,
    book=MADE,
    ended_at=11.0,
    ends=1,
)


def found(*payments: Payment, **more: Any) -> Finding:
    """What the checker finds of these payments."""
    begun = len({payment.instance_id for payment in payments})
    past = History(payments, more.pop("doubts", ()), more.pop("incidents", ()))
    return check(past, POINT, 7, more.pop("begun", begun), **more)


def test_checker_finds_nothing_wrong_with_a_charge_that_was_made_once() -> None:
    """One success, one charge, its output: that holds, and the last line says so."""
    finding = found(PAID)
    assert finding.holds
    assert last_line(POINT, finding) == (
        "chaos-money: point=before_send kills=7 asked=1 charged=1 "
        "duplicates=0 unresolved=0 people=0"
    )


def test_checker_finds_nothing_wrong_with_a_decline_that_moved_nothing() -> None:
    """A decline is counted apart and asks for no charge."""
    finding = found(replace(PAID, outcome="declined", book=Book(declined=3, first_at=10.0)))
    assert (finding.holds, finding.asked, finding.declined) == (True, 0, 1)


@pytest.mark.parametrize(
    ("payment", "words"),
    [
        (replace(PAID, book=replace(MADE, charged=2)), "charged 2 times"),
        (replace(PAID, book=Book()), "succeeded and never charged"),
        (replace(PAID, outcome="declined"), "declined and charged"),
        (replace(PAID, output={"charge_id": "ch_2"}), "its output is not its charge"),
        (replace(PAID, ends=2), "ended 2 times"),
        (replace(PAID, state="failed", outcome="failed"), "failed as failed"),
        (replace(PAID, state="running", outcome=None, ended_at=None), "running for ever"),
        (replace(PAID, state="parked", outcome="unknown", ended_at=None), "parked for"),
        (replace(PAID, kind="keyed"), "nothing follows"),
    ],
)
def test_checker_finds_each_damage_to_one_payment(payment: Payment, words: str) -> None:
    """What contradicts the provider's book, or has no end, does not hold and is told."""
    finding = found(payment)
    assert not finding.holds
    assert words in finding.problems[0]


def test_checker_finds_two_payments_at_once_behind_a_fence() -> None:
    """The second may reach its provider only after the first has ended."""
    second = replace(PAID, instance_id="i-2", ended_at=20.0)
    late = replace(second, book=replace(MADE, first_at=11.5))
    early = replace(second, book=replace(MADE, first_at=10.5))
    assert found(PAID, late).holds
    assert (found(PAID, early).overlaps, found(PAID, early).holds) == (1, False)
    elsewhere = replace(early, invoice="before_send/2")
    assert found(PAID, elsewhere).holds


def test_checker_excuses_a_parked_payment_only_where_nothing_else_is_left() -> None:
    """Beyond the horizon a key alone is no way out, a webhook still is; its twin waits rightly."""
    parked = replace(PAID, kind="keyed", state="parked", outcome="unknown", ended_at=None)
    twin = replace(
        parked, instance_id="i-2", state="scheduled", waits_for="fence", book=Book(), ends=0
    )
    finding = found(parked, twin, beyond_horizon=True)
    assert (finding.holds, finding.people, finding.parked) == (True, 0, 2)
    assert found(parked).people == 1
    assert found(replace(parked, kind="announced"), beyond_horizon=True).people == 1


def test_checker_counts_doubts_incidents_and_lost_instances() -> None:
    """A resolved doubt has its time; one that outlives its payment, an incident and an instance
    that is not there are damage.
    """
    resolved = Doubt("i-1", "charge", "claim_lost", "retry", 1.5)
    finding = found(PAID, doubts=[resolved])
    assert (finding.holds, finding.took, finding.resolved_by) == (True, [1.5], {"retry": 1})
    still = replace(resolved, resolved_by=None, took=None)
    assert found(PAID, doubts=[still]).unresolved == 1
    incident = {"instance_id": "i-1", "node_key": "charge", "kind": "contrary_evidence", "body": {}}
    assert found(PAID, incidents=[incident]).people == 1
    assert not found(PAID, begun=2).holds


def test_checker_leaves_other_points_alone() -> None:
    """What was begun at another point is that one's affair."""
    assert found(replace(PAID, point="in_settle", ends=9), begun=0) == Finding(7)


def test_counts_go_on_where_an_earlier_run_stopped(tmp_path: Path) -> None:
    """What was kept is added up by the next run, unless it begins afresh."""
    file = tmp_path / "kept" / "counts.jsonl"
    first = Finding(kills=20, asked=5, charged=5, took=[1.0], problems=["odd"])
    Counts(file).keep(POINT, first, seed=1)
    second = Counts(file)
    second.keep(POINT, replace(first, took=[3.0]))
    third = Counts(file).of(POINT)
    assert third == second.of(POINT)
    assert (third.kills, third.asked, third.took) == (40, 10, [1.0, 3.0])
    assert Counts(file, fresh=True).of(POINT) == Finding()


def test_quantile_is_one_of_the_values() -> None:
    """The median of none is 0."""
    assert (quantile([], 0.5), quantile([3, 1, 2], 0.5), quantile([1, 2], 0.95)) == (0.0, 2, 2)
