"""elsewhere: what a step asks about another instance, or about a trigger; loaded as parts of a run.

What is asked of another instance is read unlocked, as it was committed last.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote
from uuid import UUID

from orch8.engine.lifecycle import ENDED
from orch8.engine.scope import Part
from orch8.runtime.library import Library, Published
from orch8.storage import emissions, instances, signals, steps, triggers
from orch8.storage.rows import InstanceRow
from orch8.storage.transaction import Tx

INSTANCE, TARGET, TRIGGER, EMITTED = "instance", "target", "trigger", "emitted"


@dataclass(frozen=True, slots=True)
class Target:
    """Whom a signal is for, and under which id it has the signal, if it has."""

    tenant_id: str
    state: str
    signal_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Aim:
    """A trigger, and the version that it would start now, if there is one."""

    slug: str
    tenant_id: str
    kind: str
    enabled: bool
    sequence_name: str
    published: Published | None


def instance_part(instance_id: UUID) -> Part:
    """What query_instance tells of an instance; None unless it is the same tenant's."""
    return Part(f"{INSTANCE}:{instance_id}")


def target_part(instance_id: UUID, dedupe_key: str) -> Part:
    """The Target of a signal; None if there is no such instance."""
    return Part(f"{TARGET}:{instance_id}:{dedupe_key}")


def trigger_part(slug: str) -> Part:
    """The Aim of a trigger, whoever has it; None if there is none of this slug."""
    return Part(f"{TRIGGER}:{slug}")


def emitted_part(scope: str, key: str) -> Part:
    """The instance that was started under a key; None if there is none."""
    return Part(f"{EMITTED}:{scope}:{key}")


def told_of(row: InstanceRow, context: Any, block_id: str | None) -> dict[str, Any]:
    """What query_instance tells of an instance (CONTRACT 18); ``block_id`` is where it is."""
    ended = row.state in ENDED
    return {
        "state": row.state,
        "context": context,
        "started_at": row.created_at.isoformat(),
        "completed_at": row.updated_at.isoformat() if ended else None,
        "current_node": None if ended or block_id is None else unquote(block_id),
    }


def _instance(tx: Tx, _library: Library, tenant_id: str, rest: str) -> dict[str, Any] | None:
    instance_id = UUID(rest)
    row = instances.read_instances(tx, [instance_id]).get(instance_id)
    if row is None or row.tenant_id != tenant_id:
        return None
    context = instances.read_contexts(tx, [(row.id, row.context_version)]).get(row.id)
    return told_of(row, context, steps.first_live(tx, row.id))


def _target(tx: Tx, _library: Library, _tenant_id: str, rest: str) -> Target | None:
    instance_id, _, dedupe_key = rest.partition(":")
    found = signals.target(tx, UUID(instance_id), dedupe_key)
    return None if found is None else Target(found.tenant_id, found.state, found.signal_id)


def _trigger(tx: Tx, library: Library, _tenant_id: str, slug: str) -> Aim | None:
    found = triggers.read(tx, slug, None)
    if found is None:
        return None
    published = library.named(
        tx, found.tenant_id, found.namespace, found.sequence_name, found.version
    )
    return Aim(
        found.slug, found.tenant_id, found.trigger_type, found.enabled, found.sequence_name,
        published,
    )  # fmt: skip


def _emitted(tx: Tx, _library: Library, tenant_id: str, rest: str) -> UUID | None:
    scope, _, key = rest.partition(":")
    return emissions.first_under(tx, tenant_id, scope, key)


READERS: Final[Mapping[str, Callable[[Tx, Library, str, str], Any]]] = {
    INSTANCE: _instance,
    TARGET: _target,
    TRIGGER: _trigger,
    EMITTED: _emitted,
}
