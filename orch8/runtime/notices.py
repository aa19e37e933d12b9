"""notices: what receivers are told of instances, written with the change that it tells of.

Pure: a notice is one more row among a run's changes. The postman carries it out of the house later.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from orch8.config import Settings
from orch8.engine.expressions.values import timestamp
from orch8.engine.lifecycle import InstanceState, StepState
from orch8.engine.outcome import Outcome
from orch8.errors import ConfigurationError, SsrfBlocked
from orch8.handlers import ssrf
from orch8.runtime.redact import redact
from orch8.storage.outbox import Notice

if TYPE_CHECKING:
    from orch8.runtime.run import Run

COMPLETED: Final = "instance.completed"
FAILED: Final = "instance.failed"
SLA_BREACHED: Final = "instance.sla_breached"
MOST_URLS: Final = 16


def receivers(settings: Settings) -> tuple[str, ...]:
    """The addresses in ORCH8_WEBHOOK_URLS. Raises ConfigurationError for one of a wrong form."""
    urls = tuple(dict.fromkeys(u.strip() for u in settings.webhook_urls.split(",") if u.strip()))
    if len(urls) > MOST_URLS:
        raise ConfigurationError(f"ORCH8_WEBHOOK_URLS names {len(urls)} addresses, the limit is 16")
    for url in urls:
        try:
            ssrf.check_form(url)
        except SsrfBlocked as problem:
            raise ConfigurationError(f"ORCH8_WEBHOOK_URLS: {problem.detail}") from None
    return urls


def ended(run: Run, state: str, outcome: Outcome) -> None:
    """Receivers will be told that the instance completed or failed; of a cancelled one, nothing."""
    if not run.around.settings.webhook_urls:
        return
    if state == InstanceState.COMPLETED:
        _tell(run, COMPLETED, {})
    elif state == InstanceState.FAILED:
        _tell(run, FAILED, _failure(run, outcome))


def breached(
    run: Run, kind: str, limit: timedelta | None, elapsed: timedelta, step_id: str | None
) -> None:
    """Receivers will be told that the run, or one of its steps, takes longer than it should."""
    if not run.around.settings.webhook_urls:
        return
    _tell(run, SLA_BREACHED, {
        "type": kind,
        "limit_ms": None if limit is None else round(limit.total_seconds() * 1000),
        "elapsed_ms": round(elapsed.total_seconds() * 1000),
        "step_id": step_id,
        "sequence_id": str(run.published.shown_id),
        "tenant_id": run.row.tenant_id,
    })  # fmt: skip


def _failure(run: Run, outcome: Outcome) -> dict[str, Any]:
    """Why, and of which step, sent how often: the last that failed in this transaction, if any."""
    error = outcome.error or {}
    data: dict[str, Any] = {"error": redact(error.get("message"))} if "message" in error else {}
    rows = (*run.entered.values(), *run.touched.values())
    failed = [row for row in rows if row.state == StepState.FAILED]
    if failed:
        last = failed[-1]
        data |= {"block_id": last.block_id, "attempts": last.dispatches}
    return data


def _tell(run: Run, event_type: str, data: Mapping[str, Any]) -> None:
    row = run.row
    if row.dry_run:  # nobody is to take it for real
        return
    payload = {
        "event_type": event_type,
        "instance_id": str(row.id),
        "timestamp": timestamp(run.now),
        "data": data,
    }
    run.changes.told += [
        Notice(row.tenant_id, url, event_type, row.id, payload)
        for url in receivers(run.around.settings)
    ]
