"""open_breakers: which handlers of an instance's tenant are left alone, as the doctor tells it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from orch8.runtime.finding import Category, Confidence, Finding, Health, Severity, Sign
from orch8.storage import breakers
from orch8.storage.breakers import Breaker
from orch8.storage.rows import StepRow
from orch8.storage.transaction import Tx

MOST: Final = 20


def open_breakers(
    tx: Tx, tenant_id: str, live: Sequence[StepRow], now: datetime
) -> Iterator[Finding]:
    """A finding for each: surely so where a live step of the instance calls the handler."""
    for found in breakers.opened(tx, tenant_id, MOST):
        own = next((row for row in live if row.handler == found.handler), None)
        yield _finding(found, own, now)


def _finding(found: Breaker, own: StepRow | None, now: datetime) -> Finding:
    left = max(((found.retry_at or now) - now).total_seconds(), 0.0)
    return Finding(
        category=Category.DIRECT if own is not None else Category.WARNING,
        code="OPEN_CIRCUIT_BREAKER",
        summary=f"the circuit breaker of handler '{found.handler}' is {found.state} after "
        f"{found.failure_count} failures in a row; retries resume in {left:.0f} s",
        observed_at=now,
        health=Health.DEGRADED,
        severity=Severity.WARNING,
        confidence=Confidence.HIGH if own is not None else Confidence.LOW,
        evidence=(Sign("opened_at", str(found.opened_at), observed_at=found.opened_at),),
        affected=None if own is None else own.node_key,
    )
