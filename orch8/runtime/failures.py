"""failures: failed instances in groups of one cause, and retrying a group, a sample of it first."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from orch8.engine.lifecycle import InstanceState
from orch8.errors import Conflict, NotFound, Orch8Error
from orch8.runtime.because import Because
from orch8.runtime.office import Office
from orch8.runtime.retry import retry
from orch8.storage import failures
from orch8.storage.transaction import Row, Tx

LOOKED_AT: Final = 5000  # failed instances that are grouped, the newest
SAMPLES: Final = 5  # instances that a group names
MOST: Final = 1000  # instances that one request retries

UNKNOWN: Final = "unknown"
# What an error's own code says, as (class, code).
_BY_CODE: Final[Mapping[str, tuple[str, str]]] = {
    "timeout": ("timeout", "TIMEOUT"),
    "deadline": ("timeout", "TIMEOUT"),
    "late": ("timeout", "TIMEOUT"),
    "ssrf_blocked": ("policy", "URL_POLICY"),
    "fence_taken": ("policy", UNKNOWN),
    "credential": ("credential", "CREDENTIAL"),
    "circuit_open": ("external_dependency", "CIRCUIT_OPEN"),
    "rate_limited": ("external_dependency", "RATE_LIMITED"),
    "budget_exceeded": ("policy", "BUDGET_EXCEEDED"),
    "configuration": ("configuration", "CONFIGURATION"),
    "expression_error": ("configuration", "CONFIGURATION"),
    "invalid_argument": ("configuration", "CONFIGURATION"),
    "no_celery": ("configuration", "CONFIGURATION"),
    "cancelled": ("cancelled", "CANCELLED"),
    "engine": ("internal", UNKNOWN),
    "internal": ("internal", UNKNOWN),
}
_TOO_MANY: Final = 429
_REFUSED: Final = frozenset({401, 403})
# What differs from one failure to the next with the same cause: ids, amounts, times.
_PARTICULAR: Final = re.compile(r"[0-9a-fA-F-]{16,}|\d+")
_FNV_OFFSET: Final = 0xCBF29CE484222325
_FNV_PRIME: Final = 0x100000001B3


class Mode(StrEnum):
    """How much of a group is retried."""

    SAMPLE = "sample"  # the oldest, to see whether the cause is gone
    BULK = "bulk"  # everything, once a sample has completed


@dataclass(frozen=True, slots=True)
class Cause:
    """Why an instance failed: what failures of one group have in common."""

    sequence_id: UUID
    sequence_name: str
    sequence_version: int
    block_id: str | None
    handler: str | None
    kind: str  # application, configuration, worker, credential, policy, ...
    code: str  # HTTP_STATUS, TIMEOUT, ...
    status: int | None
    reason: str | None  # the error's own code
    message: str  # what differs from one to the next left out; of a known code ""

    @property
    def fingerprint(self) -> str:
        """FNV-1a over its parts, in hexadecimal: 16 digits."""
        parts = (
            self.sequence_id, self.sequence_version, self.block_id, self.handler, self.kind,
            self.code, self.status, self.reason, self.message,
        )  # fmt: skip
        return fnv1a("\x1f".join("" if part is None else str(part) for part in parts))


@dataclass(frozen=True, slots=True)
class Group:
    """Failed instances of one cause. ``message`` is the newest's; ``samples`` are the newest."""

    cause: Cause
    message: str
    count: int
    first_at: datetime
    last_at: datetime
    samples: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class Retried:
    """The instances of a group that go on, how many do not, and where there is work."""

    retried: tuple[UUID, ...]
    skipped: int
    lanes: tuple[str, ...]


def groups(tx: Tx, tenant_id: str | None) -> list[Group]:
    """The causes of the newest failures, the most frequent first."""
    found: dict[Cause, list[Row]] = {}
    for row in failures.failures(tx, tenant_id, limit=LOOKED_AT):
        found.setdefault(cause_of(row), []).append(row)
    made = [
        Group(
            cause,
            str((rows[0].error or {}).get("message", "")),
            len(rows),
            rows[-1].updated_at,
            rows[0].updated_at,
            tuple(row.id for row in rows[:SAMPLES]),
        )
        for cause, rows in found.items()
    ]
    return sorted(made, key=lambda group: (-group.count, group.cause.fingerprint))


def retry_group(
    office: Office, fingerprint: str, mode: Mode, because: Because, *, tenant_id: str | None,
    verified: UUID | None = None, force: bool = False, limit: int = MOST,
) -> Retried:  # fmt: skip
    """The oldest failure of the group goes on, or with Mode.BULK up to ``limit`` of them; one that
    changed meanwhile is skipped. Raises NotFound for a group without failures, and Conflict for
    Mode.BULK unless ``verified`` is an instance that failed like these and has completed since, or
    ``force`` says that nobody needs that.
    """
    with office.begin() as tx:
        rows = [
            row
            for row in failures.failures(tx, tenant_id, limit=LOOKED_AT)
            if cause_of(row).fingerprint == fingerprint
        ]
        if not rows:
            raise NotFound(f"failures with the fingerprint {fingerprint!r}")
        if mode is Mode.BULK and not force:
            _check_sample(tx, fingerprint, verified, tenant_id)
    oldest = rows[::-1][: 1 if mode is Mode.SAMPLE else limit]
    return _retry(office, oldest, because, tenant_id)


def cause_of(row: Row) -> Cause:
    """Why an instance failed, as failures reads it. Pure."""
    error = row.error or {}
    status, reason = error.get("status"), error.get("code")
    status = status if isinstance(status, int) else None
    kind, code = _kind(row, status, reason)
    told = str(error.get("message", ""))
    return Cause(
        row.sequence_id, row.sequence_name, row.sequence_version, row.block_id, row.handler, kind,
        code, status, None if reason is None else str(reason),
        _PARTICULAR.sub("#", told)[:500] if code == UNKNOWN else "",
    )  # fmt: skip


def fnv1a(text: str) -> str:
    """The 64-bit FNV-1a hash of the text's UTF-8, in 16 hexadecimal digits."""
    found = _FNV_OFFSET
    for byte in text.encode():
        found = ((found ^ byte) * _FNV_PRIME) % 2**64
    return f"{found:016x}"


def _kind(row: Row, status: int | None, reason: Any) -> tuple[str, str]:
    if status == _TOO_MANY:
        return _BY_CODE["rate_limited"]
    if status is not None:
        kind = "credential" if status in _REFUSED else "external_dependency"
        return kind, "HTTP_STATUS"
    if row.pull and reason == "timeout":
        return "worker", "NO_WORKER"
    if str(reason) in _BY_CODE:
        return _BY_CODE[str(reason)]
    if row.outcome == "not_sent":
        return "external_dependency", "TRANSPORT"
    return "application", UNKNOWN


def _check_sample(tx: Tx, fingerprint: str, verified: UUID | None, tenant_id: str | None) -> None:
    row = None if verified is None else failures.last_failure(tx, verified)
    if row is None or (tenant_id is not None and row.tenant_id != tenant_id):
        raise Conflict(
            "retry a sample first and name it in sample_verified_instance_id once it has completed"
        )
    if row.state != InstanceState.COMPLETED or cause_of(row).fingerprint != fingerprint:
        raise Conflict(
            f"instance {verified} is no verified sample: it is {row.state}, and must have failed "
            "like these and completed since"
        )


def _retry(office: Office, rows: Iterable[Row], because: Because, tenant_id: str | None) -> Retried:
    retried, skipped, lanes = list[UUID](), 0, set[str]()
    for row in rows:
        try:
            with office.begin() as tx:
                retry(
                    office, tx, row.id, tenant_id=tenant_id, actor=because.actor,
                    reason=because.reason, request_id=because.request_id,
                )  # fmt: skip
        except Orch8Error as problem:
            if problem.retryable:
                raise
            skipped += 1
            continue
        retried.append(row.id)
        lanes.add(row.lane)
    return Retried(tuple(retried), skipped, tuple(sorted(lanes)))
