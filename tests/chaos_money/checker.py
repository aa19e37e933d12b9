"""The checker: the provider's books against the engine's word, payment by payment."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from tests.chaos_money.history import Doubt, History, Payment
from tests.chaos_money.payments import KINDS

SHOWN: Final = 20  # problems
_ENDED: Final = frozenset({"completed", "failed", "cancelled"})


@dataclass
class Finding:
    """What came of the payments of one crash point.

    ``asked`` counts those that were to be made and are not parked or declined, ``charged`` those of
    them with exactly one charge, ``people`` the parked ones that had a way out and the open
    incidents, ``parked`` the others. ``took``: seconds to the resolution of each doubt.
    """

    kills: int = 0
    asked: int = 0
    charged: int = 0
    declined: int = 0
    duplicates: int = 0
    unresolved: int = 0
    people: int = 0
    parked: int = 0
    overlaps: int = 0
    took: list[float] = field(default_factory=list)
    resolved_by: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether no money moved twice or is lost, and nobody has to look."""
        bad = self.duplicates or self.unresolved or self.people or self.problems
        return not bad and self.asked == self.charged

    def add(self, other: Finding) -> None:
        """What the other one found is part of this one."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.took += other.took
        self.resolved_by.update(other.resolved_by)
        self.problems += other.problems


_COUNTS: Final = (
    "kills", "asked", "charged", "declined", "duplicates", "unresolved", "people", "parked",
    "overlaps",
)  # fmt: skip


def check(
    past: History, point: str, kills: int, begun: int, *, beyond_horizon: bool = False
) -> Finding:
    """What came of the ``begun`` instances that were started while processes died at this point."""
    found = Finding(kills)
    payments = [payment for payment in past.payments if payment.point == point]
    _look_for_gaps(found, payments, begun)
    names = {(p.instance_id, p.node_key): p for p in payments}
    parked = {payment.invoice for payment in payments if payment.state == "parked"}
    for payment in payments:
        if payment.waits_for == "fence" and payment.invoice in parked:
            found.parked += 1  # rightly: whether the one before it was made is not known
        else:
            _weigh(found, payment, beyond_horizon=beyond_horizon)
    _look_for_overlaps(found, payments)
    for doubt in past.doubts:
        owner = names.get((doubt.instance_id, doubt.node_key))
        if owner is not None:
            _weigh_doubt(found, doubt, owner)
    for incident in past.incidents:
        owner = names.get((incident["instance_id"], incident["node_key"]))
        if owner is not None:
            found.people += 1
            found.problems.append(f"incident {incident['kind']}: {owner.name}: {incident['body']}")
    return found


def _weigh(found: Finding, payment: Payment, *, beyond_horizon: bool) -> None:
    book = payment.book
    if book.charged > 1:
        found.duplicates += book.charged - 1
        found.problems.append(f"charged {book.charged} times: {payment.name}")
    if payment.ends > 1:
        found.problems.append(f"ended {payment.ends} times: {payment.name}")
    if payment.state == "parked":
        kind = KINDS[payment.kind]
        if kind.lasting or not beyond_horizon:
            found.people += 1
            found.problems.append(f"parked for {payment.parked_for}: {payment.name}, {book}")
        else:
            found.parked += 1
    elif payment.state not in _ENDED:
        found.asked += 1
        found.unresolved += 1
        found.problems.append(f"{payment.state} for ever: {payment.name}, {book}")
    elif payment.outcome == "declined":
        found.declined += 1
        if book.charged:
            found.problems.append(f"declined and charged: {payment.name}, {book}")
    else:
        found.asked += 1
        found.charged += book.charged == 1
        _weigh_success(found, payment)


def _weigh_success(found: Finding, payment: Payment) -> None:
    book, output = payment.book, payment.output
    if payment.outcome != "succeeded":
        found.problems.append(f"{payment.state} as {payment.outcome}: {payment.name}, {book}")
    elif not book.charged:
        found.problems.append(f"succeeded and never charged: {payment.name}")
    elif not isinstance(output, dict) or output.get("charge_id") not in book.charge_ids:
        found.problems.append(f"its output is not its charge: {payment.name}, {output!r:.200}")


def _weigh_doubt(found: Finding, doubt: Doubt, payment: Payment) -> None:
    if doubt.took is not None:
        found.took.append(doubt.took)
        found.resolved_by[str(doubt.resolved_by)] += 1
    elif payment.state in _ENDED:
        found.unresolved += 1
        found.problems.append(f"ended and still in doubt ({doubt.reason}): {payment.name}")


def _look_for_gaps(found: Finding, payments: Iterable[Payment], begun: int) -> None:
    """Every instance that was accepted is there, and has made all its payments or hangs at one."""
    steps: dict[str, list[Payment]] = defaultdict(list)
    for payment in payments:
        steps[payment.instance_id].append(payment)
    if len(steps) != begun:
        found.problems.append(f"{begun} instances were begun and {len(steps)} are there")
    for made in steps.values():
        all_ended = all(payment.state in _ENDED for payment in made)
        if all_ended and len(made) < len(KINDS[made[0].kind].steps):
            found.problems.append(f"nothing follows: {made[-1].name}")


def _look_for_overlaps(found: Finding, payments: Iterable[Payment]) -> None:
    """Behind one fence a payment begins only when the one before has ended."""
    behind: dict[str, list[Payment]] = defaultdict(list)
    for payment in payments:
        if payment.book.first_at is not None:
            behind[payment.invoice].append(payment)
    for those in behind.values():
        those.sort(key=_begun)
        for before, after in pairwise(those):
            if before.ended_at is None or before.ended_at > _begun(after):
                found.overlaps += 1
                found.problems.append(f"two at once behind a fence: {before.name}, {after.name}")


def _begun(payment: Payment) -> float:
    assert payment.book.first_at is not None
    return payment.book.first_at


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which this share of the values lies; 0 when there are none."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0


def last_line(point: str, found: Finding, *, beyond_horizon: bool = False) -> str:
    """The line that programs look for."""
    name, more = "chaos-money", ""
    if beyond_horizon:
        name, more = "chaos-money-horizon", f" parked={found.parked}"
    return (
        f"{name}: point={point} kills={found.kills} asked={found.asked} charged={found.charged} "
        f"duplicates={found.duplicates} unresolved={found.unresolved} people={found.people}{more}"
    )


def to_json(found: Finding) -> dict[str, Any]:
    """The finding as a line of the ledger of counts keeps it."""
    counts: dict[str, Any] = {name: getattr(found, name) for name in _COUNTS}
    took = [round(each, 3) for each in found.took]
    kept = {"took": took, "resolved_by": dict(found.resolved_by)}
    return {**counts, **kept, "problems": found.problems[:SHOWN]}


def from_json(kept: dict[str, Any]) -> Finding:
    """The finding that a line of the ledger of counts keeps."""
    given = {name: kept[name] for name in (*_COUNTS, "took", "problems")}
    return Finding(**given, resolved_by=Counter(kept["resolved_by"]))
