"""Counters of the whole installation for /metrics: what the audit log tells, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from orch8.errors import Orch8Error
from orch8.runtime.meter import BOUNDS, CLAIMED, STEP, TICK
from orch8.runtime.office import Office
from orch8.runtime.postman import FAILED, PARKED, SENT
from orch8.storage import buckets, fleet, gauges
from orch8.storage.buckets import LAST, SUM
from orch8.storage.ids import first_of
from orch8.storage.tallies import LASTED, LASTED_BOUNDS, LIMITED, SIGNAL, lasted, tally

# An entry is written with its transaction, a moment after its id was made.
BEHIND: Final = timedelta(seconds=15)
MOST: Final = 100_000  # entries counted in one scrape; a backlog takes several

# Each counter: what it means, and the actions of the audit log that are counted.
COUNTERS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "orch8_instances_completed": ("Instances that completed.", ("instance.completed",)),
    "orch8_instances_failed": ("Instances that failed.", ("instance.failed",)),
    "orch8_steps_executed": (
        "Steps that ended, completed or failed.",
        ("step.completed", "step.failed"),
    ),
    "orch8_steps_failed": ("Steps that failed.", ("step.failed",)),
    "orch8_steps_retried": ("Attempts that were made again.", ("step.retry", "step.resend")),
    "orch8_signals_delivered": ("Signals that reached an instance.", (SIGNAL,)),
    "orch8_rate_limits_exceeded": ("Steps that had to wait for a rate limit.", (LIMITED,)),
    "orch8_recovery_stale_instances": (
        "Claims taken back from worker processes that were lost.",
        ("step.claim_lost",),
    ),
    "orch8_credentials_not_renewed": (
        "Times that a token could not be renewed.",
        ("credential.not_renewed",),
    ),
    "orch8_cron_triggered": ("Fires of schedules that started an instance.", ("cron.fired",)),
    "orch8_cron_skipped": ("Fires of schedules that were passed over.", ("cron.skipped",)),
}
SLA: Final = {"instance": "instance.sla_breached", "step": "step.sla_breached"}
# What processes count and time themselves, and add up in Postgres.
METERED: Final[Mapping[str, str]] = {
    CLAIMED: "Claims of an instance's steps by worker processes.",
    SENT: "Lifecycle events that their receiver took.",
    FAILED: "Attempts to deliver a lifecycle event that were in vain.",
    PARKED: "Lifecycle events that are not sent again by themselves.",
}
TIMED: Final[Mapping[str, str]] = {
    TICK: "Time of a tick, the look for due work.",
    STEP: "Time of a call that a worker process makes for a step.",
}
PROCESSING: Final = (
    "orch8_instance_processing_seconds",
    "From the creation of an instance to its end, waits and all.",
)


class Tallies(Collector):
    """What the audit log and the fleet tell at the moment of a scrape: the same, whichever web
    process is asked. The counters are ``behind`` by as long as entries may take to be written.
    """

    def __init__(self, office: Office, behind: timedelta = BEHIND) -> None:
        self._office, self._behind = office, behind

    def collect(self) -> Iterator[Metric]:
        """The counters and gauges; nothing when the database is away."""
        until = first_of(datetime.now(UTC) - self._behind)
        try:
            with self._office.database.begin() as tx:
                counts = tally(tx, until, MOST)
                due = sum(row.due for row in gauges.backlog(tx))
                calls = sum(row.calls for row in fleet.fleet(tx) if row.alive)
                metered = buckets.read(tx)
        except Orch8Error:
            return
        for name, (about, actions) in COUNTERS.items():
            counter = CounterMetricFamily(name, about)
            counter.add_metric((), sum(counts.get(action, 0) for action in actions))
            yield counter
        for name, about in METERED.items():
            counter = CounterMetricFamily(name, about)
            counter.add_metric((), metered.get((name, LAST), 0))
            yield counter
        for name, about in TIMED.items():
            amounts = {bound: metered.get((name, bound), 0.0) for bound in (*BOUNDS[name], SUM)}
            yield _histogram(name, about, amounts)
        ages = {bound: counts.get(lasted(bound), 0.0) for bound in (*LASTED_BOUNDS, LAST)}
        yield _histogram(*PROCESSING, {**ages, SUM: counts.get(LASTED, 0.0)})
        breached = CounterMetricFamily(
            "orch8_sla_breached", "Runs and steps that took longer than promised.", labels=("type",)
        )
        for kind, action in SLA.items():
            breached.add_metric((kind,), counts.get(action, 0))
        depth = GaugeMetricFamily("orch8_queue_depth", "Steps due now, in every lane.")
        depth.add_metric((), due)
        active = GaugeMetricFamily(
            "orch8_active_tasks", "Calls in flight, as of the workers' last heartbeats."
        )
        active.add_metric((), calls)
        yield from (breached, depth, active)


def _histogram(name: str, about: str, amounts: Mapping[float, float]) -> Metric:
    """A histogram of what is in each bucket, by its upper bound, and under SUM in all."""
    histogram = HistogramMetricFamily(name, about)
    below, cumulated = 0.0, []
    for bound in sorted(set(amounts) - {SUM}):
        below += amounts[bound]
        cumulated.append(("+Inf" if bound == LAST else str(bound), below))
    histogram.add_metric((), cumulated, amounts[SUM])
    return histogram
