"""holdups: what holds up a whole instance, as findings: its budget, or its concurrency key."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from orch8.engine.lifecycle import InstanceState
from orch8.runtime.finding import Finding, Sign
from orch8.runtime.stops import BREACH, BUDGET, REASON
from orch8.storage import places
from orch8.storage.rows import InstanceRow, StepRow
from orch8.storage.transaction import Tx

Make = Callable[..., Finding]


def over_budget(direct: Make, row: InstanceRow) -> Iterator[Finding]:
    """That the instance is paused because it ran more than it may, if it is."""
    told = row.metadata if isinstance(row.metadata, Mapping) else {}
    if row.state != InstanceState.PAUSED or told.get(REASON) != BUDGET:
        return
    breach = told.get(BREACH)
    breach = breach if isinstance(breach, Mapping) else {}
    what = f"{breach.get('limit')} is {breach.get('limit_value')}, it is at {breach.get('actual')}"
    yield direct(
        "BUDGET_PAUSED",
        f"the instance ran more than its budget allows: {what}; resumed, it goes one step further",
        evidence=(Sign("budget_breach", what, dict(breach), row.paused_at),),
    )


def in_line(direct: Make, tx: Tx, row: StepRow) -> Finding:
    """That the step waits until its instance has a place of its concurrency key."""
    found = places.standing(tx, row.instance_id)
    if found is None:
        return direct("WAITING_PLACE", f"step {row.node_key!r} waits for a place of its key")
    return direct(
        "WAITING_PLACE",
        f"step {row.node_key!r} waits for a place of the key {found.key!r}: {found.under_way} "
        f"instances are under way, {found.ahead} come before it, {found.most} may run at a time",
        evidence=(Sign("concurrency_key", found.key, found._asdict(), found.asked_at),),
    )
