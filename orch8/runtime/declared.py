"""declared: plugins, rollback policies and releases are kept as callers declare them.

Nothing here runs a plugin, rolls back or routes to a release: what is declared is shown again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from orch8.errors import AlreadyExists, Conflict, InvalidArgument, NotFound
from orch8.runtime.because import Because
from orch8.storage import declarations, sequences
from orch8.storage.ids import uuid7
from orch8.storage.transaction import Row, Tx

PLUGIN: Final = "plugin"
ROLLBACK_POLICY: Final = "rollback_policy"
RELEASE: Final = "release"
DRAFT: Final = "draft"  # the state of every release: nothing takes one further


def create(
    tx: Tx, kind: str, tenant_id: str, name: str, body: Mapping[str, Any], because: Because
) -> Row:
    """The tenant has one more declaration. Raises AlreadyExists if it has one of this name."""
    row = declarations.insert(tx, kind, tenant_id, name, body)
    if row is None:
        raise AlreadyExists(f"{_words(kind)} {name[:60]!r}")
    _note(tx, row, "created", because)
    return row


def put(
    tx: Tx, kind: str, tenant_id: str, name: str, body: Mapping[str, Any], because: Because
) -> Row:
    """As create, and instead of the one that the tenant had of this name."""
    row = declarations.put(tx, kind, tenant_id, name, body)
    _note(tx, row, "set", because)
    return row


def found(tx: Tx, kind: str, name: str, tenant_id: str | None) -> Row:
    """The declaration of a tenant (None: of whichever has one). Raises NotFound, and Conflict if
    several tenants have one and nobody said which is meant.
    """
    rows = declarations.named(tx, kind, name, tenant_id)
    if not rows:
        raise NotFound(f"{_words(kind)} {name[:60]!r}")
    if len(rows) > 1:
        raise Conflict(f"several tenants have a {_words(kind)} {name[:60]!r}: send X-Tenant-Id")
    return rows[0]


def change(
    tx: Tx, kind: str, name: str, members: Mapping[str, Any], because: Because, *,
    tenant_id: str | None,
) -> Row:  # fmt: skip
    """The declaration has these members from now on. Raises NotFound and Conflict."""
    row = found(tx, kind, name, tenant_id)
    if members:
        row = declarations.merge(tx, row, members)
    _note(tx, row, "changed", because)
    return row


def delete(tx: Tx, kind: str, name: str, because: Because, *, tenant_id: str | None) -> None:
    """The declaration is gone. Raises NotFound and Conflict."""
    row = found(tx, kind, name, tenant_id)
    declarations.delete(tx, row)
    _note(tx, row, "deleted", because)


def release(
    tx: Tx, tenant_id: str, baseline_id: UUID, candidate_id: UUID, body: Mapping[str, Any],
    because: Because,
) -> Row:  # fmt: skip
    """The tenant has one more release, a draft, from one version of a sequence to another.

    Raises NotFound for a version that the tenant has not, and InvalidArgument for two that are not
    of one sequence, or are the same.
    """
    baseline, candidate = (_version(tx, each, tenant_id) for each in (baseline_id, candidate_id))
    if (baseline.namespace, baseline.name) != (candidate.namespace, candidate.name):
        raise InvalidArgument(
            f"a release leads from one version of a sequence to another, not from "
            f"{baseline.name!r} to {candidate.name!r}"
        )
    if baseline.id == candidate.id:
        raise InvalidArgument("baseline and candidate are the same version")
    about = {
        "namespace": baseline.namespace,
        "sequence_name": baseline.name,
        "baseline_sequence_id": str(baseline.id),
        "baseline_version": baseline.version,
        "candidate_sequence_id": str(candidate.id),
        "candidate_version": candidate.version,
        "state": DRAFT,
    }
    return create(tx, RELEASE, tenant_id, str(uuid7()), {**body, **about}, because)


def _version(tx: Tx, sequence_id: UUID, tenant_id: str) -> Row:
    row = sequences.standing(tx, sequence_id)
    if row is None or row.tenant_id != tenant_id:
        raise NotFound(f"sequence {sequence_id}")
    return row


def _words(kind: str) -> str:
    return kind.replace("_", " ")


def _note(tx: Tx, row: Row, what: str, because: Because) -> None:
    because.note(tx, row.tenant_id, f"{row.kind}.{what}", {row.kind: row.name})
