"""The library: published versions by id, loaded once per process. A version never changes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from uuid import UUID

from orch8.blocks.step import Step
from orch8.definition import Sequence, load
from orch8.errors import NotFound
from orch8.storage import sequences
from orch8.storage.derived import Derived
from orch8.storage.rows import Moment
from orch8.storage.transaction import Row, Tx

CAPACITY = 1000


@dataclass(frozen=True)
class Published:
    """One version of a sequence, ready to run."""

    id: UUID
    tenant_id: str
    namespace: str
    name: str
    version: int
    sequence: Sequence
    derived_from: UUID | None = None  # the version that it has more blocks than
    injected: int = 0  # how many at the end of its list those are

    @property
    def shown_id(self) -> UUID:
        """The id of the version that people know."""
        return self.derived_from or self.id

    @cached_property
    def fenced(self) -> bool:
        """Whether any of its steps has a fence."""
        blocks = self.sequence.index.values()
        return any(isinstance(block, Step) and block.fence is not None for block in blocks)

    @cached_property
    def flat(self) -> bool:
        """Whether every block is a step."""
        index = self.sequence.index
        return all(block.type == Step.type for block in index.values() if "@" not in block.id)

    @cached_property
    def watched(self) -> bool:
        """Whether interceptors leave anything around its steps, signals or ends."""
        return bool(self.sequence.interceptors)

    @cached_property
    def hooked(self) -> bool:
        """Whether it says what is done at the end of an instance."""
        return bool(self.sequence.hooks or self.sequence.interceptors)


class Library:
    """The most recently used versions; safe to share between threads."""

    def __init__(self) -> None:
        self._kept: OrderedDict[UUID, Published] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, tx: Tx, sequence_id: UUID) -> Published:
        """The version with this id."""
        with self._lock:
            kept = self._kept.get(sequence_id)
            if kept is not None:
                self._kept.move_to_end(sequence_id)
                return kept
        row = sequences.sequence_by_id(tx, sequence_id)
        if row is None:
            raise NotFound(f"sequence {sequence_id}")
        return self.keep(row)

    def standing_now(self, tx: Tx, sequence_id: UUID) -> tuple[Published, Moment]:
        """As get, of a version that was not deleted; and what time it is."""
        row = sequences.standing_now(tx, sequence_id)
        if not row.stands:
            raise NotFound(f"sequence {sequence_id}")
        return self.get(tx, sequence_id), Moment(row.moment, row.rate)

    def named(
        self, tx: Tx, tenant_id: str, namespace: str, name: str, version: int | None = None
    ) -> Published | None:
        """The version asked for; without one the newest that is not deprecated."""
        return self.named_now(tx, tenant_id, namespace, name, version)[0]

    def named_now(
        self, tx: Tx, tenant_id: str, namespace: str, name: str, version: int | None = None
    ) -> tuple[Published | None, Moment]:
        """As named, and what time it is."""
        row = sequences.version_now(tx, tenant_id, namespace, name, version)
        found = None if row.id is None else self.get(tx, row.id)
        return found, Moment(row.moment, row.rate)

    def keep(self, row: Row) -> Published:
        """The published version of a row, from now on at hand."""
        with self._lock:
            kept = self._kept.get(row.id)
            if kept is not None:
                return kept
        published = published_of(row)
        with self._lock:
            self._kept[row.id] = published
            while len(self._kept) > CAPACITY:
                self._kept.popitem(last=False)
        return published


def published_of(row: Row | Derived) -> Published:
    """The version that a row holds, ready to run."""
    return Published(
        row.id, row.tenant_id, row.namespace, row.name, row.version, read_body(row.body),
        row.derived_from, row.injected,
    )  # fmt: skip


def read_body(body: Any) -> Sequence:
    """A body that was accepted when it was published; what newer versions object to is let pass."""
    return load(body, lenient=True)
