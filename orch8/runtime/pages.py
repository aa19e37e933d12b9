"""Pages of collections that this process has used: a for_each reads its items from memos."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, Final
from uuid import UUID

from orch8.engine.scope import Ref

INSTANCES: Final = 64  # of which pages are kept
EACH: Final = 32  # pages of an instance: enough for 1,000 items at a time, and those ahead

_NONE: Final[Mapping[Ref, Any]] = {}


class Pages:
    """The pages used last, by instance and round: a page that was written never changes in one.

    Without them each batch of items would be carried out up to the first that is not loaded, and
    then once more.
    """

    def __init__(self, instances: int = INSTANCES, each: int = EACH) -> None:
        self._kept: OrderedDict[tuple[UUID, int], Mapping[Ref, Any]] = OrderedDict()
        self._instances, self._each = instances, each
        self._lock = threading.Lock()

    def of(self, instance_id: UUID, round: int) -> Mapping[Ref, Any]:  # noqa: A002
        """The pages that are kept of an instance."""
        with self._lock:
            return self._kept.get((instance_id, round), _NONE)

    def keep(self, instance_id: UUID, round: int, pages: Iterable[tuple[Ref, Any]]) -> None:  # noqa: A002
        """The pages are kept as the newest; beyond the capacities the oldest are dropped."""
        at = instance_id, round
        with self._lock:
            merged = [*self._kept.pop(at, _NONE).items(), *pages]
            self._kept[at] = dict(merged[-self._each :])
            while len(self._kept) > self._instances:
                self._kept.popitem(last=False)
