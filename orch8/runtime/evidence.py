"""evidence: a word from outside says how an attempt ended: a webhook, a signal, a person.

The first conclusive word wins, whoever says it. A later one that says otherwise opens an incident
and overwrites nothing; one that says the same is kept, and that is all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from orch8.engine.outcome import Verdict
from orch8.errors import InvalidArgument
from orch8.runtime.doubts import contradiction, told
from orch8.runtime.office import Office
from orch8.runtime.signal import change
from orch8.runtime.words import TELLING, Word, body_of, open_to_words, resolve
from orch8.storage import attempts, instances, steps
from orch8.storage.changes import Changes, write
from orch8.storage.fences import Hold
from orch8.storage.rows import AuditEntry, Evidence, StepRow
from orch8.storage.transaction import Row, Tx


class Standing(StrEnum):
    """What became of a word."""

    RESOLVED = "resolved"  # the attempt was open, and is not any more
    AGREES = "agrees"  # it says what is recorded already
    CONTRARY = "contrary"  # it contradicts what is recorded: an incident is open
    SEEN = "seen"  # the same event was told before
    UNMATCHED = "unmatched"  # no attempt is known by these names


@dataclass(frozen=True, slots=True)
class Testimony:
    """What a word did, and the step that it is about."""

    state: Standing
    instance_id: UUID | None = None
    node_key: str | None = None


def testify(office: Office, tx: Tx, word: Word, *, tenant_id: str) -> Testimony:
    """The word is kept as evidence of the attempt it is about, and resolves it if it is open."""
    if word.outcome not in TELLING:
        raise InvalidArgument(
            f"outcome {word.outcome.value!r} says nothing certain: use one of "
            f"{', '.join(sorted(TELLING))}"
        )
    found = _find(tx, word, tenant_id)
    if found is None:
        return Testimony(Standing.UNMATCHED)
    instance_id, node_key, generation = found
    locked, moment = instances.lock_instances(tx, [instance_id])
    row = next(iter(steps.lock_steps(tx, [(instance_id, node_key)])), None)
    instance = locked.get(instance_id)
    if row is None or instance is None or row.tenant_id != tenant_id:
        return Testimony(Standing.UNMATCHED)
    generation = row.generation if generation is None else generation
    if word.event_id and attempts.seen_before(tx, instance_id, node_key, word.event_id):
        return Testimony(Standing.SEEN, instance_id, node_key)
    if generation == row.generation and open_to_words(row):
        change(office, tx, instance, moment, lambda run: resolve(run, row, word), [row])
        return Testimony(Standing.RESOLVED, instance_id, node_key)
    return Testimony(_keep(tx, row, generation, word), instance_id, node_key)


def _find(tx: Tx, word: Word, tenant_id: str) -> tuple[UUID, str, int | None] | None:
    if word.idempotency_key:
        rows = attempts.by_key(tx, tenant_id, word.idempotency_key)
    elif word.at is not None:
        return (*word.at, None)
    elif word.provider_ref:
        rows = attempts.by_reference(tx, tenant_id, word.provider_ref)
    else:
        raise InvalidArgument(
            "name the attempt: its idempotency_key, its provider_ref, or instance_id and step"
        )
    return _only(rows)


def _only(rows: Sequence[Row]) -> tuple[UUID, str, int] | None:
    """The attempt that the rows mean: a key that was kept over a retry means its latest round."""
    if not rows:
        return None
    last = rows[-1]
    return last.instance_id, last.node_key, last.generation


def _keep(tx: Tx, row: StepRow, generation: int, word: Word) -> Standing:
    """The word about an attempt that has ended is kept; whether it contradicts what is recorded."""
    kept = Evidence(
        row.tenant_id, row.instance_id, row.node_key, row.epoch, word.source, word.outcome,
        body_of(word),
    )  # fmt: skip
    changes = Changes(evidence=[kept])
    against = contradiction(row, generation, word.outcome)
    if against is not None:
        changes.incidents.append(against)
        changes.audit.append(told(against))
    elif row.outcome == Verdict.REQUIRES_ACTION and row.fence is not None:
        changes.let_go.append(Hold(row.tenant_id, row.fence, row.instance_id, row.node_key))
        changes.audit.append(
            AuditEntry(
                row.tenant_id, word.actor, "fence.released", "success", row.instance_id,
                row.node_key, reason=f"the customer has acted: {word.outcome}",
            )
        )  # fmt: skip
    write(tx, changes)
    return Standing.AGREES if against is None else Standing.CONTRARY
