"""What became of a payment: orch8's timeline as lines, the provider's book as numbers. No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

CHARGING: Final = frozenset({"charge_payment_method", "retry_with_backup_method"})
KEY_SHOWN: Final = 8  # characters of an idempotency key


@dataclass(frozen=True, slots=True)
class Moment:
    """A line of a timeline; ``after`` counts from the start of the instance."""

    after: timedelta
    who: str
    what: str
    step: str
    why: str
    mark: bool = False  # what the audience shall look at


@dataclass(frozen=True, slots=True)
class Count:
    """What one payment came to."""

    payment: str
    asked: int
    made: int
    declined: int
    duplicates: int
    lost: int


def time_of(text: str) -> datetime:
    """The time that the API wrote."""
    return datetime.fromisoformat(text)


def opened_at(told: Mapping[str, Any]) -> datetime:
    """When the instance of a timeline was created, in real time."""
    return time_of(told["audit"][0]["at"])


def moments(told: Mapping[str, Any], nodes: Sequence[Mapping[str, Any]]) -> list[Moment]:
    """The lines for GET /instances/{id}/timeline, with the nodes of its /tree.

    Their times are the engine's: where days pass on a moved clock, they are days.
    """
    by_key = {node["node_key"]: node for node in nodes}
    return [_moment(entry, told, by_key) for entry in told["audit"]]


def count(
    payment: str,
    instance: Mapping[str, Any],
    outputs: Iterable[Mapping[str, Any]],
    book: Iterable[Mapping[str, Any]],
) -> Count:
    """An instance and its outputs against the entries of the provider's book that are about it.

    Duplicates are charges beyond the first of a step, whatever their keys. Lost is a charge that
    orch8 has no success for, and an instance that has not completed.
    """
    entries = [entry for entry in book if entry["handler"] in CHARGING]
    made: Counter[str] = Counter()
    for entry in entries:
        made[entry["subject"].partition("/")[2]] += entry["charged"]
    recorded = {row["node_key"] for row in outputs if row["outcome"] == "succeeded"}
    unrecorded = sum(1 for step, times in made.items() if times and step not in recorded)
    return Count(
        payment,
        asked=sum(entry["asked"] for entry in entries),
        made=made.total(),
        declined=sum(entry["declined"] for entry in entries),
        duplicates=sum(times - 1 for times in made.values() if times > 1),
        lost=unrecorded + (instance["state"] != "completed"),
    )


def _moment(
    entry: Mapping[str, Any], told: Mapping[str, Any], nodes: Mapping[str, Mapping[str, Any]]
) -> Moment:
    instance, action = told["instance"], str(entry["action"])
    node = nodes.get(entry["node_key"] or "", {})
    ends = {
        "step.completed": node.get("completed_at"),
        "instance.completed": instance["finished_at"],
    }
    if end := ends.get(action):
        after = time_of(end) - time_of(instance["created_at"])
    else:
        after = time_of(entry["at"]) - opened_at(told)
    what = action.removeprefix("step.").replace(".", " ").replace("_", " ")
    why = _why(entry, node)
    mark = action == "step.claim_lost"
    return Moment(after, entry["actor"], what, entry["node_key"] or "", why, mark)


def _why(entry: Mapping[str, Any], node: Mapping[str, Any]) -> str:
    if entry["reason"]:
        return str(entry["reason"])
    if entry["action"] != "step.completed":
        return ""
    if node.get("handler") == "wait":
        days = (time_of(node["completed_at"]) - time_of(node["started_at"])) / timedelta(days=1)
        return f"{days:.0f} days are over"
    details = entry["details"] or {}
    sent = details.get("dispatches", 1)
    times = f", sent {sent} times" if sent > 1 else ""
    return f"{entry['outcome']}{times}, key {details.get('idempotency_key', '')[:KEY_SHOWN]}"
