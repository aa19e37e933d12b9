"""Queues: in which queue a pull step is offered by the rules, and whose tasks are told to somebody.

Both are stated by operators, kept fresh in each process as the addresses of handlers are.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping

from orch8.runtime.routes import REFRESH
from orch8.storage import routing
from orch8.storage.transaction import Row, Tx


class Queues:
    """What is stated about queues, nothing at first; safe to share between threads."""

    def __init__(self) -> None:
        self._rules: Mapping[tuple[str, str], list[Row]] = {}
        self._pushed: frozenset[tuple[str, str]] = frozenset()
        self._read_at = float("-inf")

    def refresh(self, tx: Tx) -> None:
        """What is stated is at most REFRESH seconds old."""
        if time.monotonic() - self._read_at <= REFRESH:
            return
        rules: dict[tuple[str, str], list[Row]] = defaultdict(list)
        for row in routing.rules(tx):
            if row.enabled:
                rules[row.tenant_id, row.handler_name].append(row)
        pushed = ((q.tenant_id, q.queue_name) for q in routing.queues(tx) if q.mode == "push")
        self._rules, self._pushed = rules, frozenset(pushed)
        self._read_at = time.monotonic()

    def forget(self) -> None:
        """The next refresh reads anew."""
        self._read_at = float("-inf")

    def choose(self, tenant_id: str, handler: str, asked: str | None) -> str | None:
        """The queue of the first rule for the handler that fits, else the one that was asked for,
        if any.
        """
        for rule in self._rules.get((tenant_id, handler), ()):
            if rule.match_queue is None or rule.match_queue == asked:
                found: str = rule.queue_override
                return found
        return asked

    def tells(self, tenant_id: str, queue: str | None) -> bool:
        """Whether an address is told of the queue's tasks."""
        return queue is not None and (tenant_id, queue) in self._pushed
