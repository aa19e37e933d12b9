"""versions: what becomes of published versions: their status, their promotion, their deletion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from uuid import UUID

from orch8.errors import Conflict, InvalidArgument, NotFound
from orch8.runtime.because import Because
from orch8.runtime.library import Published
from orch8.runtime.office import Office
from orch8.runtime.publish import publish
from orch8.storage import sequences
from orch8.storage.ids import uuid7
from orch8.storage.transaction import Row, Tx

DRAFT, STAGING, PRODUCTION, UNPUBLISHED = STATUSES = (
    "draft", "staging", "production", "unpublished",
)  # fmt: skip
_MOVES: Final[Mapping[str, tuple[str, ...]]] = {
    DRAFT: (STAGING, UNPUBLISHED),
    STAGING: (PRODUCTION, UNPUBLISHED),
    PRODUCTION: (UNPUBLISHED,),
    UNPUBLISHED: (),
}
MOST_VERSIONS: Final = 1000


def set_status(
    tx: Tx, sequence_id: UUID, status: str, because: Because, *, tenant_id: str | None
) -> None:
    """The version has this status; one that is unpublished is deprecated, too. Raises NotFound, and
    InvalidArgument for a status that its present one does not lead to.
    """
    row = _found(tx, sequence_id, tenant_id)
    if status not in _MOVES[row.status]:
        allowed = " or ".join(_MOVES[row.status]) or "nothing else"
        raise InvalidArgument(
            f"cannot make a version {status} that is {row.status}: it can become {allowed}"
        )
    _set(tx, row, status, because)


def unpublish(
    tx: Tx, tenant_id: str, namespace: str, name: str, because: Because, *, delete_too: bool
) -> None:
    """Every version of the name is unpublished and deprecated, and, if asked for, deleted. Raises
    NotFound for a name without versions, and Conflict, with nothing done, as delete does.
    """
    rows = sequences.list_sequences(
        tx, tenant_id=tenant_id, namespace=namespace, name=name, limit=MOST_VERSIONS
    )
    if not rows:
        raise NotFound(f"sequence {name[:60]!r}")
    for row in rows:
        if row.status != UNPUBLISHED or not row.deprecated:
            _set(tx, row, UNPUBLISHED, because)
        if delete_too:
            delete(tx, row.id, because, tenant_id=tenant_id)


def promote(
    office: Office, tx: Tx, tenant_id: str, namespace: str, name: str, because: Because
) -> Published:
    """The newest version, which is staging, is published once more as the next one, in production.
    Raises NotFound, and InvalidArgument when the newest is not staging.
    """
    rows = sequences.list_sequences(
        tx, tenant_id=tenant_id, namespace=namespace, name=name, limit=1
    )
    if not rows:
        raise NotFound(f"sequence {name[:60]!r}")
    newest = rows[0]
    if newest.status != STAGING:
        raise InvalidArgument(
            f"version {newest.version} of {name[:60]!r} is {newest.status}: only one that is "
            "staging can be promoted"
        )
    own = {"id": str(uuid7()), "version": newest.version + 1, "status": PRODUCTION}
    made = publish(
        office, tx, {**newest.body, **own, "deprecated": False}, tenant_id=tenant_id,
        actor=because.actor, lenient=True, request_id=because.request_id,
    ).published  # fmt: skip
    _note(tx, newest, "sequence.promoted", because, {"to_version": made.version})
    return made


def delete(tx: Tx, sequence_id: UUID, because: Because, *, tenant_id: str | None) -> None:
    """Nobody finds the version any more, and its name and number are free. What ran by it stays as
    it is. Raises NotFound, and Conflict while an instance of it has not ended.
    """
    row = _found(tx, sequence_id, tenant_id)
    if not sequences.delete(tx, row.id):
        raise Conflict(
            f"version {row.version} of {row.name!r} has instances that have not ended: let them "
            "end, migrate them, or deprecate the version instead"
        )
    _note(tx, row, "sequence.deleted", because)


def _found(tx: Tx, sequence_id: UUID, tenant_id: str | None) -> Row:
    row = sequences.standing(tx, sequence_id, lock=True)
    if row is None or tenant_id not in (None, row.tenant_id):
        raise NotFound(f"sequence {sequence_id}")
    return row


def _set(tx: Tx, row: Row, status: str, because: Because) -> None:
    sequences.set_status(tx, row.id, status, deprecated=status == UNPUBLISHED)
    more = {"from_status": row.status, "to_status": status}
    _note(tx, row, "sequence.status_changed", because, more)


def _note(
    tx: Tx, row: Row, action: str, because: Because, more: Mapping[str, object] | None = None
) -> None:
    body = {"id": str(row.id), "name": row.name, "version": row.version, **(more or {})}
    because.note(tx, row.tenant_id, action, body)
