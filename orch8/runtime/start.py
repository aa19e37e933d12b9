"""start: an instance of a sequence exists, once per idempotency key."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import orjson

from orch8.blocks.interrupt import SLA
from orch8.engine.events import Started
from orch8.engine.scope import CONTEXT
from orch8.errors import (
    BusinessKeyTaken,
    IdempotencyMismatch,
    InvalidArgument,
    NotFound,
    Orch8Error,
    PayloadTooLarge,
    Problem,
    Unavailable,
    Unprocessable,
)
from orch8.runtime import sessions
from orch8.runtime.due import postpone
from orch8.runtime.hooks import concluded
from orch8.runtime.identity import claim, holder_of
from orch8.runtime.inputs import LANES, validate
from orch8.runtime.library import Published
from orch8.runtime.office import Office
from orch8.runtime.run import Run
from orch8.runtime.sandbox import DRY, marked
from orch8.runtime.zone import zone_of
from orch8.storage import instances
from orch8.storage.changes import write
from orch8.storage.ids import uuid7
from orch8.storage.rows import InstanceRow, Moment
from orch8.storage.transaction import Row, Tx

TRIES = 3  # of taking a business key that others take and give back at the same moment


@dataclass(frozen=True, kw_only=True)
class StartRequest:
    """What a caller asks for. ``strict_key``: the same key with another body is an error."""

    sequence: str  # a name, or a version's id
    tenant_id: str = "default"
    namespace: str = "default"
    version: int | None = None
    context: Any = field(default_factory=dict)
    idempotency_key: str | None = None
    priority: str = "Normal"
    lane: str | None = None
    timezone: str | None = None
    metadata: Any = None
    next_fire_at: datetime | None = None
    session_id: UUID | None = None
    concurrency_key: str | None = None
    max_concurrency: int | None = None
    budget: Mapping[str, int] | None = None
    actor: str = "api"
    request_id: str | None = None
    strict_key: bool = True
    dry_run: bool = False
    auto_approve: bool = False  # the gates of a dry run open by themselves

    def __post_init__(self) -> None:
        told = marked(self.context, dry_run=self.dry_run, auto_approve=self.auto_approve)
        object.__setattr__(self, "context", told)

    @property
    def key(self) -> str | None:
        """The key under which the instance is kept: dry runs have keys of their own."""
        given = self.idempotency_key
        return f"{DRY}{given}" if self.dry_run and given else given

    @property
    def takes_a_dry_key(self) -> bool:
        """Whether a real run is asked for under a key that would find a dry one."""
        return not self.dry_run and (self.idempotency_key or "").startswith(DRY)

    @property
    def terms(self) -> dict[str, Any] | None:
        """What is asked for besides the run itself; None if that is nothing."""
        asked = {
            "concurrency_key": self.concurrency_key, "max_concurrency": self.max_concurrency,
            "budget": self.budget,
        }  # fmt: skip
        return {name: value for name, value in asked.items() if value is not None} or None

    def fingerprint(self) -> bytes:
        """SHA-256 of the canonical JSON of what was asked, without the key and the version."""
        asked = {
            "sequence": self.sequence, "context": self.context, "priority": self.priority,
            "lane": self.lane, "timezone": self.timezone, "metadata": self.metadata,
            "next_fire_at": self.next_fire_at,
        }  # fmt: skip
        if self.session_id is not None:
            asked["session_id"] = self.session_id
        asked |= self.terms or {}
        return hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).digest()


@dataclass(frozen=True)
class StartResult:
    """The instance that stands for the request, and whether it was there before.

    ``shown`` is the instance as lists show it; ``lanes`` are those whose workers have something to
    do.
    """

    instance: InstanceRow
    deduplicated: bool
    shown: Row
    lanes: tuple[str, ...] = ()


class _Duplicate(Exception):
    """There is an instance with this key already."""


def start(office: Office, request: StartRequest) -> StartResult:
    """The instance exists and its first step is scheduled. A key that was used before gives the
    instance of then, whatever has changed since; with another body it raises IdempotencyMismatch.
    Another instance with its business key is given instead if its sequence says so; otherwise that
    raises BusinessKeyTaken.
    """
    for attempt in range(TRIES):
        try:
            check(office, request)
            with office.begin() as tx:
                return _create(office, tx, request)
        except (_Duplicate, Orch8Error) as problem:
            taken = problem if isinstance(problem, BusinessKeyTaken) else None
            if isinstance(problem, Unavailable) or not (request.idempotency_key or taken):
                raise
            holder = holder_of(taken) if taken else None
            with office.begin() as tx:
                found = _earlier(tx, request) or _existing(office, tx, request, holder)
            if found is not None:
                return found
            free = isinstance(problem, _Duplicate) or (taken and not holder)
            if not free or attempt == TRIES - 1:
                raise
    raise AssertionError  # pragma: no cover - the last try returns or raises


def _create(office: Office, tx: Tx, request: StartRequest) -> StartResult:
    """The instance with its first steps, its context and its audit entry: one statement."""
    published, moment = find(office, tx, request)
    check_session(tx, request)
    run = newborn(office, request, published, moment)
    office.loader.carry_out(tx, [(run, begin(request))])
    if run.row.id not in write(tx, run.collected):
        raise _Duplicate
    return result_of(run, request)


def result_of(run: Run, request: StartRequest) -> StartResult:
    """What is told of a run that was just written."""
    published = run.published
    entered = [row for row in run.entered.values() if row.due_at is not None]
    shown = instances.shown_now(
        run.row,
        sequence=(published.name, published.version),
        context=request.context,
        next_fire_at=min(
            (row.due_at for row in entered if row.due_at and row.block_id != SLA), default=None
        ),
    )
    return StartResult(run.row, deduplicated=False, shown=shown, lanes=tuple(lanes_of(run)))


def newborn(office: Office, request: StartRequest, published: Published, moment: Moment) -> Run:
    """The run of a new instance, to which nothing has happened yet. Raises Unprocessable if the
    sequence's input schema refuses the data.
    """
    validate(published, request.context)
    row = InstanceRow(
        id=uuid7(), tenant_id=request.tenant_id, namespace=published.namespace,
        sequence_id=published.id, state="scheduled", snapshot={"f": {}},
        lane=request.lane or LANES[request.priority], priority=request.priority,
        timezone=zone_of(published, request.context, moment, request.timezone),
        created_at=moment.at, updated_at=moment.at, metadata=request.metadata,
        idempotency_key=request.key, dry_run=request.dry_run,
        request_sha256=request.fingerprint(), session_id=request.session_id,
        terms=request.terms,
    )  # fmt: skip
    run = Run(office.around, row, published, moment, created=True)
    run.known.values[CONTEXT] = request.context
    return run


def lanes_of(run: Run) -> set[str]:
    """The lanes whose workers have something to do for a new instance."""
    return {row.lane for row in run.entered.values() if row.due_at is not None and not row.pull}


def begin(request: StartRequest) -> Callable[[Run], None]:
    """The work that creates an instance: its first steps are entered, its context is kept. Pure.

    It raises BusinessKeyTaken if another instance has the business key.
    """

    def begin(run: Run) -> None:
        claim(run, run.known)
        run.fire(Started())
        if request.next_fire_at is not None:
            for row in run.entered.values():
                postpone(run, row, request.next_fire_at)
        run.changes.contexts.append((run.row.id, 1, run.row.tenant_id, request.context))
        run.audit("instance.created", "success", actor=request.actor, request_id=request.request_id)
        run.collected = concluded(run)

    return begin


def find(office: Office, tx: Tx, request: StartRequest) -> tuple[Published, Moment]:
    """The version that a request means (by id, or the newest of a name that is not deprecated), and
    what time it is.
    """
    try:
        published: Published | None
        published, moment = office.library.standing_now(tx, UUID(request.sequence))
    except (ValueError, NotFound):
        published, moment = office.library.named_now(
            tx, request.tenant_id, request.namespace, request.sequence, request.version
        )
    if published is None or published.tenant_id != request.tenant_id:
        raise NotFound(f"sequence {request.sequence!r}; publish it first: POST /sequences")
    return published, moment


def check_session(tx: Tx, request: StartRequest) -> None:
    """Raises NotFound if the request names a session that is not its tenant's."""
    if request.session_id is not None:
        sessions.found(tx, request.session_id, request.tenant_id)


def _earlier(tx: Tx, request: StartRequest) -> StartResult | None:
    if request.key is None or request.takes_a_dry_key:
        return None
    row = instances.instance_by_key(tx, request.tenant_id, request.key)
    if row is None:
        instances.free_keys(tx, [(request.tenant_id, request.key)])
        return None
    if request.strict_key and bytes(row.request_sha256 or b"") != request.fingerprint():
        raise IdempotencyMismatch(
            f"idempotency key {request.idempotency_key!r} was used for instance {row.id} with a "
            "different body; use a new key for a new request",
            errors=[
                Problem(
                    "/idempotency_key",
                    "used before with a different body",
                    code="idempotency_mismatch",
                )
            ],
        )
    return StartResult(row, deduplicated=True, shown=instances.shown_instance(tx, row.id))


def _existing(
    office: Office, tx: Tx, request: StartRequest, holder: UUID | None
) -> StartResult | None:
    """The instance that has the business key, if the sequence gives it instead of a new one."""
    if holder is None:
        return None
    unique = find(office, tx, request)[0].sequence.unique
    row = instances.read_instances(tx, [holder]).get(holder)
    if unique is None or not unique.returns_existing or row is None:
        return None
    return StartResult(row, deduplicated=True, shown=instances.shown_instance(tx, row.id))


def check(office: Office, request: StartRequest) -> None:
    """Raises what is wrong with a request, whatever the sequence: its words, key and size."""
    if request.priority not in LANES:
        raise Unprocessable(
            f"priority must be one of {', '.join(LANES)}, not {request.priority!r}",
            errors=[
                Problem(
                    "/priority", "unknown priority", f"use one of {', '.join(LANES)}", shape=True
                )
            ],
        )
    if request.timezone is not None:
        try:
            ZoneInfo(request.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise InvalidArgument(
                f"timezone {request.timezone!r} is not an IANA zone such as Europe/Vienna",
                errors=[
                    Problem("/timezone", "unknown zone", "use an IANA name such as Europe/Vienna")
                ],
            ) from None
    if "\0" in (request.idempotency_key or ""):
        raise InvalidArgument(
            "idempotency_key holds a NUL character",
            errors=[Problem("/idempotency_key", "NUL character", "use printable text")],
        )
    if request.takes_a_dry_key:
        raise InvalidArgument(
            f"idempotency_key begins with {DRY}, as those of dry runs do",
            errors=[Problem("/idempotency_key", "taken for dry runs", "choose another key")],
        )
    size = len(orjson.dumps(request.context))
    if size > office.settings.max_context:
        raise PayloadTooLarge(
            f"context too large: {size} bytes, the limit is {office.settings.max_context}"
        )
