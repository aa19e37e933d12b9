"""The attempts on instruments that a simulation has counted, for its guards."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from orch8.money.networks import BARRED, VOID, NetworkAttempt
from orch8.storage.budgets import Counted, Judged


class Attempts:
    """What the table network_attempts is in production."""

    def __init__(self) -> None:
        self._of: dict[tuple[object, str, int], tuple[Counted, NetworkAttempt]] = {}

    def write(self, counted: Iterable[Counted], judged: Iterable[Judged]) -> None:
        """The attempts are counted, and have these verdicts."""
        for each in counted:
            made = NetworkAttempt(
                each.at, each.network, each.merchant, each.amount, each.currency
            )  # fmt: skip
            self._of[each.instance_id, each.node_key, each.generation] = each, made
        for instance_id, node_key, generation, verdict in judged:
            at = instance_id, node_key, generation
            if at in self._of:
                row, made = self._of[at]
                self._of[at] = row, replace(made, verdict=verdict)

    def on(self, tenant_id: str, instrument: str, since: datetime) -> list[NetworkAttempt]:
        """What storage/budgets.py reads of an instrument."""
        return [
            made
            for row, made in self._of.values()
            if (row.tenant_id, row.instrument) == (tenant_id, instrument)
            and made.verdict != VOID
            and (made.at > since or made.verdict == BARRED)
        ]
