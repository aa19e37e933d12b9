"""publish: a definition becomes a new, immutable version; the same body again is no new one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from orch8.blocks.step import Step
from orch8.definition import Sequence, load
from orch8.errors import AlreadyExists, Forbidden, Problem
from orch8.limits import Limit
from orch8.runtime import registry
from orch8.runtime.library import Published
from orch8.runtime.office import Office
from orch8.runtime.preparing import handler_key
from orch8.storage import rate_limits, sequences
from orch8.storage.changes import Changes, write
from orch8.storage.ids import uuid7
from orch8.storage.rows import AuditEntry
from orch8.storage.transaction import Tx


@dataclass(frozen=True)
class Publication:
    """The version that stands for the body now, whether it is new, and what is odd about it."""

    published: Published
    created: bool
    warnings: tuple[Problem, ...]


def publish(
    office: Office,
    tx: Tx,
    body: Any,
    *,
    tenant_id: str | None,
    actor: str,
    lenient: bool = False,
    strict: bool = False,
    request_id: str | None = None,
) -> Publication:
    """The body is a published version. Raises DefinitionRejected or Unprocessable with every
    problem, AlreadyExists when its id or version number stands for another body.
    """
    stated = _limited(tx, tenant_id, body)
    sequence = load(body, lenient=lenient, strict=strict, stated=stated)
    tenant = _tenant(sequence, tenant_id)
    same = _same(office, tx, tenant, sequence)
    if same is not None:
        return Publication(same, created=False, warnings=sequence.warnings)
    row = sequences.insert_sequence(
        tx,
        sequence_id=UUID(sequence.id) if sequence.id else uuid7(),
        tenant_id=tenant,
        namespace=sequence.namespace,
        name=sequence.name,
        version=sequence.version,
        form=sequence.form,
        status=body.get("status", "production") if isinstance(body, dict) else "production",
        body=sequence.body,
        sha256=sequence.sha256,
    )
    if row is None:
        raise AlreadyExists(
            f"sequence {sequence.name!r}: this id or version {sequence.version} is published with "
            "another body; versions never change, so raise the version or leave it out"
        )
    published = office.library.keep(row)
    rate_limits.put(
        tx, tenant, str(row.id), [registry.stated(limit) for limit in inline_limits(sequence)]
    )
    entry = AuditEntry(
        tenant, actor, "sequence.published", "success", sequence_id=row.id, request_id=request_id,
        body={"name": row.name, "version": row.version, "sha256": bytes(row.sha256).hex()},
    )  # fmt: skip
    write(tx, Changes(audit=[entry]))
    return Publication(published, created=True, warnings=sequence.warnings)


def inline_limits(sequence: Sequence) -> list[Limit]:
    """The limits that a definition states for keys that are known when it is published: of each key
    the smallest.
    """
    found: dict[str, Limit] = {}
    for block in sequence.index.values():
        if not isinstance(block, Step):
            continue
        most = block.max_in_flight
        if most is not None and not block.rate_limits:
            _keep(found, Limit(handler_key(block.handler), None, max_in_flight=most))
        for limit in block.rate_limits:
            if limit.key.is_constant and (limit.max, most) != (None, None):
                key = limit.key.render(None)  # type: ignore[arg-type] # a constant reads nothing
                _keep(found, Limit(key, limit.max, limit.window, max_in_flight=most))
    return list(found.values())


def _keep(found: dict[str, Limit], limit: Limit) -> None:
    known = found.get(limit.key, limit)
    smaller = limit if limit.pace < known.pace else known
    in_flight = [each.max_in_flight for each in (known, limit) if each.max_in_flight is not None]
    found[limit.key] = replace(smaller, max_in_flight=min(in_flight, default=None))


def _limited(tx: Tx, tenant_id: str | None, body: Any) -> set[str]:
    """The keys of the publisher's tenant that somebody states a limit for already."""
    told = body.get("tenant_id") or body.get("tenant") if isinstance(body, dict) else None
    tenant = tenant_id or told or "default"
    return {row.key for row in rate_limits.in_force(tx, tenant)}


def _tenant(sequence: Sequence, tenant_id: str | None) -> str:
    if tenant_id is not None and sequence.tenant is not None and sequence.tenant != tenant_id:
        raise Forbidden(f"the body's tenant {sequence.tenant!r} is not the caller's {tenant_id!r}")
    return sequence.tenant or tenant_id or "default"


def _same(office: Office, tx: Tx, tenant: str, sequence: Sequence) -> Published | None:
    """The version that an identical body was published as."""
    if sequence.form == "seed" or sequence.id is None:
        row = sequences.sequence_by_name(
            tx, tenant, sequence.namespace, sequence.name, sequence.version
        )
    else:
        return None
    return (
        office.library.keep(row)
        if row is not None and bytes(row.sha256) == sequence.sha256
        else None
    )
