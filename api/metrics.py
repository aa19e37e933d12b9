"""GET /metrics: what this process did, and what Postgres says is waiting, for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Final

from flask import Blueprint, Flask, Response, g, request
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from api.auth import caller
from api.operations import operation
from api.surface import surface
from api.tallies import Tallies
from orch8.errors import Orch8Error
from orch8.runtime.forecast import MOST_KEYS, forecast
from orch8.runtime.office import Office
from orch8.storage import breakers, fleet, gauges, queued
from orch8.storage.breakers import Breaker
from orch8.storage.transaction import Row

blueprint: Final = Blueprint("metrics", __name__)

RESOLVERS: Final = ("retry", "reconcile", "webhook", "signal", "person", "late_answer")
BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Counters:
    """What one process counts. Several processes are scraped one by one, or sampled."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "orch8_http_requests",
            "HTTP requests answered.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "orch8_http_request_seconds",
            "Time to answer.",
            ("method", "route"),
            buckets=BUCKETS,
            registry=self.registry,
        )
        self._instances = Counter(
            "orch8_instances_created",
            "Instances asked for; deduplicated: the key was known.",
            ("deduplicated",),
            registry=self.registry,
        )
        self._kept: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._fresh, self._known = (self._instances.labels(flag) for flag in ("false", "true"))

    def started(self, *, deduplicated: bool, count: int = 1) -> None:
        """So many more instances were asked for."""
        (self._known if deduplicated else self._fresh).inc(count)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """One more request was answered."""
        known = method if method in _METHODS else "other"
        kept = self._kept.get((known, route, status))
        if kept is None:
            requests = self._requests.labels(known, route, str(status))
            kept = self._kept[known, route, status] = requests, self._seconds.labels(known, route)
        kept[0].inc()
        kept[1].observe(seconds)


class Backlog(Collector):
    """What Postgres says at the moment of a scrape: the same, whichever process is asked."""

    def __init__(self, office: Office) -> None:
        self._office = office

    def collect(self) -> Iterator[Metric]:
        """The gauges; only orch8_database_up when the database is away."""
        up = GaugeMetricFamily("orch8_database_up", "Whether Postgres answered this scrape.")
        try:
            found = list(self._read())
        except Orch8Error:
            up.add_metric((), 0)
            yield up
            return
        up.add_metric((), 1)
        yield up
        yield from found

    def _read(self) -> Iterator[Metric]:
        with self._office.database.begin() as tx:
            lanes = gauges.backlog(tx)
            live = sum(1 for row in fleet.fleet(tx) if row.alive)
            queues, unlimited = queued.keys(tx), fleet.unlimited(tx, None, gauges.LANES)
            in_doubt, resolved = gauges.doubts(tx), gauges.resolutions(tx)
            people = gauges.needing_people(tx)
            open_breakers = breakers.opened(tx)
        due = GaugeMetricFamily(
            "orch8_due_steps", f"Steps due now, counted up to {gauges.MOST}.", labels=("lane",)
        )
        oldest = GaugeMetricFamily(
            "orch8_oldest_due_seconds",
            "How long the longest due step has waited.",
            labels=("lane",),
        )
        for row in lanes:
            due.add_metric((row.lane,), row.due)
            oldest.add_metric((row.lane,), row.oldest_seconds)
        workers = GaugeMetricFamily("orch8_live_workers", "Worker processes whose lease holds.")
        workers.add_metric((), live)
        waiting = GaugeMetricFamily(
            "orch8_rate_limit_waiting",
            f"Steps that wait for a key, counted up to {queued.MOST_OF_KEY}; "
            f"the {gauges.LANES} keys with the longest queues.",
            labels=("tenant", "key"),
        )
        for row in queues[: gauges.LANES]:
            waiting.add_metric((row.tenant_id, row.limit_key), row.waiting)
        keys = GaugeMetricFamily(
            "orch8_rate_limit_queues",
            f"Keys that steps wait for, also those left out above; up to {queued.MOST_KEYS}.",
        )
        keys.add_metric((), len(queues))
        yield from (
            due,
            oldest,
            workers,
            waiting,
            keys,
            _unlimited(unlimited),
            _open(open_breakers),
        )
        yield from self._ahead()
        yield from _doubts(in_doubt, resolved)
        yield from _people(people)

    def _ahead(self) -> Iterator[Metric]:
        """What becomes of the queues; nothing if that takes too long, the rest is told anyway."""
        try:
            with self._office.database.begin() as tx:
                found = forecast(self._office, tx, tenant_id=None, idle=False)
        except Orch8Error:
            return
        labels = ("tenant", "key")
        drain = GaugeMetricFamily(
            "orch8_rate_limit_drain_seconds",
            "Until the last step that waits for a key has its turn; "
            f"the {MOST_KEYS} keys with the longest queues.",
            labels=labels,
        )
        late = GaugeMetricFamily(
            "orch8_rate_limit_will_miss",
            "Steps that wait for a key and whose deadline, SLA or send window ends before their "
            "turn.",
            labels=labels,
        )
        for each in found.keys:
            drain.add_metric((each.tenant_id, each.key), each.drain)
            late.add_metric((each.tenant_id, each.key), each.will_miss)
        yield from (drain, late)


class Scoped(Collector):
    """What a collector tells, without the samples of other tenants than ``tenant`` (None: all)."""

    def __init__(self, inner: Collector, tenant: str | None) -> None:
        self._inner, self._tenant = inner, tenant

    def collect(self) -> Iterator[Metric]:
        """The metrics that the tenant may see."""
        for metric in self._inner.collect():
            if self._tenant is not None:
                mine = {None, self._tenant}
                metric.samples = [s for s in metric.samples if s.labels.get("tenant") in mine]
            yield metric


def _doubts(in_doubt: Sequence[Row], resolved: Sequence[Row]) -> Iterator[Metric]:
    unknown = GaugeMetricFamily(
        "orch8_unknown_effects",
        f"Attempts whose outcome is not known, counted up to {gauges.MOST}.",
        labels=("provider",),
    )
    for row in in_doubt:
        unknown.add_metric((row.provider,), row.doubts)
    oldest = GaugeMetricFamily(
        "orch8_unknown_effects_oldest_seconds", "How long the oldest of them is in doubt."
    )
    oldest.add_metric((), max((row.oldest_seconds for row in in_doubt), default=0.0))
    ways = CounterMetricFamily(
        "orch8_doubts_resolved", "Attempts in doubt by what resolved them.", labels=("by",)
    )
    counts = {row.resolved_by: row.doubts for row in resolved}
    for way in RESOLVERS:  # all of them, so that a rate is there from the first one on
        ways.add_metric((way,), counts.pop(way, 0))
    ways.add_metric(("other",), sum(counts.values()))
    yield from (unknown, oldest, ways)


def _unlimited(rows: Sequence[Row]) -> Metric:
    calls = GaugeMetricFamily(
        "orch8_rate_limit_unlimited_calls",
        "About how many calls were made with a rate-limit key that nobody states a limit for.",
        labels=("tenant", "key"),
    )
    for row in rows:
        calls.add_metric((row.tenant_id, row.key), row.calls)
    return calls


def _open(found: Sequence[Breaker]) -> Metric:
    gauge = GaugeMetricFamily(
        "orch8_circuit_breakers_open",
        "1 for each handler that is left alone, since it failed too often in a row.",
        labels=("tenant", "handler"),
    )
    for each in found:
        gauge.add_metric((each.tenant_id, each.handler), 1)
    return gauge


def _people(row: Row) -> Iterator[Metric]:
    incidents = GaugeMetricFamily(
        "orch8_incidents_open", f"Incidents nobody has closed, counted up to {gauges.MOST}."
    )
    incidents.add_metric((), row.incidents)
    parked = GaugeMetricFamily(
        "orch8_parked_steps", f"Steps that wait for a person, counted up to {gauges.MOST}."
    )
    parked.add_metric((), row.parked)
    yield from (incidents, parked)


def install(app: Flask, counters: Counters) -> None:
    """Every request is counted, under its route's pattern."""

    def begin() -> None:
        g.began_at = time.perf_counter()

    def end(response: Response) -> Response:
        route = request.url_rule.rule.removeprefix("/api/v1") if request.url_rule else "unknown"
        counters.answered(
            request.method, route, response.status_code, time.perf_counter() - g.began_at
        )
        return response

    app.before_request(begin)
    app.after_request(end)


@blueprint.get("/metrics")
@operation("Read the metrics, in Prometheus' text format", answers={200: "text/plain"})
def metrics() -> Response:
    """Counters of this process and gauges of the whole installation; of other tenants than the
    caller's nothing that names them.
    """
    here = surface()
    scrape = CollectorRegistry()
    scrape.register(here.counters.registry)
    for part in (Backlog(here.office), Tallies(here.office)):
        scrape.register(Scoped(part, caller().tenant))
    return Response(generate_latest(scrape), content_type=CONTENT_TYPE_PLAIN_0_0_4)
