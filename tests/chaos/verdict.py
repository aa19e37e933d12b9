"""The verdict: the provider's ledger against the database, key by key and step by step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.support.stack import ProviderProcess, World

SHOWN = 20  # problems

_UNFINISHED = "SELECT count(*) AS left FROM instances WHERE state NOT IN ('completed', 'failed')"
_INSTANCES = "SELECT id, idempotency_key, state, attention, error FROM instances"
_STEPS = """
SELECT instance_id, node_key, state, idempotency_key, output FROM steps
WHERE idempotency_key IS NOT NULL
"""
_SETTLED_TWICE = """
SELECT instance_id, node_key, count(*) AS times FROM audit_log WHERE action = 'step.completed'
GROUP BY 1, 2 HAVING count(*) > 1
"""
_RECOVERED = """
SELECT count(*) AS claims, count(DISTINCT body->>'worker') AS workers FROM evidence
WHERE kind = 'claim_lost'
"""


@dataclass
class Verdict:
    """What came of it all. ``asked`` are the keys that the provider was asked to charge and did not
    decline, ``charged`` those of them with exactly one charge.
    """

    instances: int = 0
    asked: int = 0
    charged: int = 0
    declined: int = 0
    requests: int = 0
    duplicates: int = 0
    lost: int = 0
    stuck: int = 0
    claims_taken_back: int = 0
    kills_in_flight: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether nothing was done twice, nothing was lost and nothing is stuck."""
        return not (self.duplicates or self.lost or self.stuck or self.problems)

    def last_line(self, kills: int) -> str:
        """The line that programs look for."""
        return (
            f"chaos: kills={kills} asked={self.asked} charged={self.charged} "
            f"duplicates={self.duplicates} lost={self.lost} stuck={self.stuck}"
        )


def unfinished(world: World[ProviderProcess]) -> int:
    """How many instances have not come to an end."""
    return int(world.rows(_UNFINISHED)[0]["left"])


def judge(world: World[ProviderProcess], accepted: Mapping[str, str]) -> Verdict:
    """The verdict on instances that have come to their end, or have had the time to."""
    verdict = Verdict()
    entries = {entry["key"]: entry for entry in world.handlers.entries()}
    _judge_effects(verdict, entries)
    _judge_instances(verdict, world.rows(_INSTANCES), accepted)
    _judge_steps(verdict, world.rows(_STEPS), entries)
    for row in world.rows(_SETTLED_TWICE):
        verdict.duplicates += 1
        verdict.problems.append(f"settled {row['times']} times: {row}")
    (recovered,) = world.rows(_RECOVERED)
    verdict.claims_taken_back, verdict.kills_in_flight = recovered["claims"], recovered["workers"]
    return verdict


def _judge_effects(verdict: Verdict, entries: Mapping[str, dict[str, Any]]) -> None:
    for entry in entries.values():
        verdict.requests += entry["asked"]
        effects = entry["charged"] + entry["declined"]
        verdict.declined += entry["declined"] > 0
        verdict.asked += entry["declined"] == 0
        verdict.charged += (entry["charged"], entry["declined"]) == (1, 0)
        if effects > 1:
            verdict.duplicates += effects - 1
            verdict.problems.append(f"more than one effect: {entry}")
        elif effects == 0:
            verdict.lost += 1
            verdict.problems.append(f"asked for and never done: {entry}")
    keys = Counter(entry["subject"] for entry in entries.values() if entry["charged"])
    for subject, count in keys.items():
        if count > 1:
            verdict.duplicates += count - 1
            verdict.problems.append(f"charged with {count} keys: {subject}")


def _judge_instances(
    verdict: Verdict, rows: Sequence[Mapping[str, Any]], accepted: Mapping[str, str]
) -> None:
    verdict.instances = len(rows)
    by_key = {row["idempotency_key"]: row for row in rows}
    for key, instance_id in accepted.items():
        if key not in by_key or str(by_key[key]["id"]) != instance_id:
            verdict.lost += 1
            verdict.problems.append(f"accepted and not there: {key}, {instance_id}")
    for row in rows:
        if row["state"] != "completed":
            verdict.stuck += 1
            verdict.problems.append(f"not completed: {dict(row)}")


def _judge_steps(
    verdict: Verdict, rows: Sequence[Mapping[str, Any]], entries: Mapping[str, dict[str, Any]]
) -> None:
    for row in rows:
        if row["state"] != "completed":
            continue  # its instance is among those that are stuck
        entry = entries.get(row["idempotency_key"])
        kept = entry["result"][1] if entry and entry["result"] else None
        if kept is None or not _contains(row["output"], kept):
            verdict.lost += 1
            verdict.problems.append(f"the memo is not the provider's result: {dict(row)}, {kept}")


def _contains(output: Any, kept: Any) -> bool:
    if not (isinstance(output, dict) and isinstance(kept, dict)):
        return bool(output == kept)
    return all(name in output and output[name] == value for name, value in kept.items())
