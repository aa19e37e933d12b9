"""start_many: a batch of instances exists, all of them or none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final
from uuid import UUID

from orch8.errors import AlreadyExists, Forbidden, NotFound, Orch8Error
from orch8.runtime.library import Published
from orch8.runtime.loading import Work
from orch8.runtime.office import Office
from orch8.runtime.run import Run
from orch8.runtime.start import StartRequest, begin, check, check_session, lanes_of, newborn
from orch8.storage import instances
from orch8.storage.changes import Changes, write
from orch8.storage.transaction import Tx

LARGEST: Final = 10_000  # instances in a batch
CHUNK: Final = 500  # instances that one statement writes


class OnDuplicate(StrEnum):
    """What becomes of a request whose idempotency key was used before."""

    ERROR = "error"  # nothing of the batch is created
    SKIP = "skip"  # it is left out: sending the same batch again is safe


@dataclass(frozen=True, slots=True)
class Batch:
    """How many instances were created, how many were there before, and where there is work."""

    created: int
    deduplicated: int
    lanes: tuple[str, ...]


def start_many(
    office: Office,
    requests: Sequence[StartRequest],
    on_duplicate: OnDuplicate = OnDuplicate.ERROR,
) -> Batch:
    """Every instance exists and its first step is scheduled; or none does, and the error says of
    which request it is: NotFound, Forbidden for another tenant's sequence, Unprocessable,
    PayloadTooLarge, AlreadyExists.
    """
    for index, request in enumerate(requests):
        with placed(index):
            check(office, request)
    created, lanes, seen = 0, set[str](), set[tuple[str, str]]()
    with office.begin() as tx:
        for first in range(0, len(requests), CHUNK):
            chunk = list(enumerate(requests[first : first + CHUNK], first))
            instances.free_keys(tx, _keys(chunk))
            if on_duplicate is OnDuplicate.SKIP:
                chunk = _unknown(tx, chunk, seen)
            runs = _create(office, tx, chunk)
            created += len(runs)
            lanes.update(*(lanes_of(run) for run in runs))
    return Batch(created, len(requests) - created, tuple(sorted(lanes)))


@contextmanager
def placed(index: int) -> Iterator[None]:
    """What goes wrong inside says which request of a batch it is about."""
    try:
        yield
    except Orch8Error as problem:
        inside = [
            replace(each, pointer=f"/instances/{index}{each.pointer}") for each in problem.errors
        ]
        raise type(problem)(
            f"instances[{index}]: {problem.detail}",
            errors=inside,
            retry_after=problem.retry_after,
            extra=problem.extra,
        ) from problem


def _create(office: Office, tx: Tx, chunk: Sequence[tuple[int, StartRequest]]) -> list[Run]:
    if not chunk:
        return []
    moment = instances.now(tx)
    works: list[Work] = []
    versions: dict[tuple[str, str], Published] = {}
    for index, request in chunk:
        with placed(index):
            named = request.sequence, request.tenant_id
            published = versions[named] = versions.get(named) or _version(office, tx, request)
            check_session(tx, request)
            run = newborn(office, request, published, moment)
            works.append((run, _begin(index, request)))
    office.loader.carry_out(tx, works)
    changes = Changes()
    for run, _ in works:
        changes.extend(run.collected)
    made = write(tx, changes)
    for (index, request), (run, _) in zip(chunk, works, strict=True):
        if run.row.id not in made:
            raise AlreadyExists(
                f"instances[{index}]: an instance has the idempotency key "
                f"{request.idempotency_key!r} already; nothing of the batch was created"
            )
    return [run for run, _ in works]


def _begin(index: int, request: StartRequest) -> Callable[[Run], None]:
    work = begin(request)

    def begun(run: Run) -> None:
        with placed(index):
            work(run)

    return begun


def _version(office: Office, tx: Tx, request: StartRequest) -> Published:
    try:
        published, _ = office.library.standing_now(tx, UUID(request.sequence))
    except NotFound:
        raise NotFound(
            f"sequence {request.sequence!r}; publish it first: POST /sequences"
        ) from None
    if published.tenant_id != request.tenant_id:
        raise Forbidden(f"sequence {request.sequence} is another tenant's")
    return published


def _unknown(
    tx: Tx, chunk: Sequence[tuple[int, StartRequest]], seen: set[tuple[str, str]]
) -> list[tuple[int, StartRequest]]:
    """The requests whose key neither an instance has nor an earlier request of the batch."""
    seen |= instances.known_keys(tx, _keys(chunk))
    fresh = []
    for index, request in chunk:
        if request.key is not None:
            key = request.tenant_id, request.key
            if key in seen:
                continue
            seen.add(key)
        fresh.append((index, request))
    return fresh


def _keys(chunk: Sequence[tuple[int, StartRequest]]) -> list[tuple[str, str]]:
    return [(request.tenant_id, request.key) for _, request in chunk if request.key is not None]
