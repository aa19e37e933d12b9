"""CONTRACT 36: the processes of an installation, taking one out of service, and its metrics."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from api.tallies import Tallies
from orch8.runtime.office import Office
from orch8.runtime.sweep import Sweep
from orch8.storage.ids import first_of
from tests.support.api import NOOP, Api, serving
from tests.support.house import LANE, House, until
from tests.support.servers import Database

CHARGE = {"type": "step", "handler": "charge"}
ONCE_MORE = {"max_attempts": 2, "backoff": "1ms"}
BEAT = 0.05  # seconds between heartbeats, where a test waits for one


@pytest.fixture
def node(postgres: Database) -> Iterator[Api]:
    """The app with a quick heartbeat; it leaves the list of nodes in the end."""
    with serving(postgres, heartbeat=BEAT) as found:
        yield found
        found.app.extensions["orch8"].node.release()


def own(api: Api) -> Any:
    """The process that answers, as it lists itself."""
    wanted = str(api.app.extensions["orch8"].node.hold())
    (found,) = [each for each in api.get("/cluster/nodes") if each["id"] == wanted]
    return found


# -- nodes ---------------------------------------------------------------------------------------
def test_running_server_lists_itself(node: Api) -> None:
    """From the first question on, and as active."""
    found = own(node)
    assert (found["status"], found["drain"], found["role"]) == ("active", False, "api")
    assert not found["capabilities_withdrawn"]
    assert found["name"].startswith("api@")
    assert found["last_heartbeat_at"] >= found["registered_at"]
    assert "drain_started_at" not in found
    assert "stopped_at" not in found


def test_ready_server_is_listed(node: Api) -> None:
    """Whoever is asked for its readiness need not be asked for nodes to be known."""
    assert node.get("/health/ready") == {"status": "ok"}
    wanted = str(node.app.extensions["orch8"].node.worker_id)
    assert node.rows("SELECT role FROM workers WHERE id = %s", wanted) == [("api",)]


def test_server_tells_that_it_lives(node: Api) -> None:
    """Its last heartbeat moves on."""
    first = own(node)["last_heartbeat_at"]
    until(lambda: own(node)["last_heartbeat_at"] > first)


def test_web_process_is_no_worker(node: Api, house: House) -> None:
    """It holds no claims, so it counts for nothing where calls are shared out."""
    own(node)
    assert "orch8_live_workers 0.0" in node.client.get("/metrics").text
    house.run(CHARGE)
    assert [row.id for row in house.workers()] == [house.pump.lease.worker_id]


@pytest.mark.parametrize("unknown", ["9435da30-5f45-4872-8bae-dfc82930d0d1", "no-such-node"])
def test_draining_an_unknown_node_is_no_error(node: Api, unknown: str) -> None:
    """200, and the answer says that there is none."""
    answer = node.post(f"/cluster/nodes/{unknown}/drain", status=200)
    assert answer == {"id": unknown, "drain": False}


def test_drained_web_process_is_not_ready(node: Api) -> None:
    """It is sent nothing any more, answers what comes all the same, and stays drained."""
    found = own(node)
    assert node.post(f"/cluster/nodes/{found['id']}/drain", status=200)["drain"]
    answer = until(lambda: (a := node.send("GET", "/health/ready")).status_code == 503 and a)
    assert answer.json["reasons"] == ["draining"]
    assert node.client.get("/health/live").status_code == 200
    drained = own(node)
    assert drained["id"] == found["id"]
    assert drained["drain"]
    assert drained["drain_started_at"] >= found["registered_at"]


def test_drain_is_audited_once(node: Api) -> None:
    """With who asked for it, and why."""
    path = f"/cluster/nodes/{own(node)['id']}/drain"
    for _ in range(2):
        node.post(path, {"reason": "new disks"}, status=200, headers={"X-Actor": "Ann"})
    sql = "SELECT actor, reason, body ->> 'node' FROM audit_log WHERE action = 'node.draining'"
    assert node.rows(sql) == [("Ann", "new disks", path.split("/")[3])]


# -- draining a worker ---------------------------------------------------------------------------
def drain(house: House) -> None:
    """The pump's process was told, and knows."""
    house.sql(
        "UPDATE workers SET draining_at = clock_timestamp() WHERE id = %s",
        house.pump.lease.worker_id,
    )
    until(lambda: house.pump.lease.draining)


def test_drained_worker_claims_nothing(houses: Any) -> None:
    """What is due is left to the others; it comes to rest, which ends its process."""
    house, ended = houses(heartbeat=BEAT), threading.Event()
    house.pump = house.another_pump(drained=ended.set)
    house.run(CHARGE)
    drain(house)
    waiting = house.start()
    assert not house.pump.work(LANE)
    assert house.state(waiting) == "scheduled"
    assert ended.wait(10)
    ((drained_at,),) = house.sql("SELECT drained_at FROM workers")
    assert drained_at is not None
    house.another_pump().work(LANE)
    assert house.state(waiting) == "completed"


def test_drained_worker_finishes_what_it_holds(houses: Any) -> None:
    """A call in flight is waited for, however long it takes, and settled; then all is at rest."""
    house, ended = houses(heartbeat=BEAT), threading.Event()
    began, go = threading.Event(), threading.Event()

    def slow(_: Any) -> dict[str, str]:
        began.set()
        assert go.wait(20)
        return {"status": "succeeded"}

    house.pump = house.another_pump(drained=ended.set)
    house.handler("slow", slow)
    house.publish({"type": "step", "handler": "slow"}, CHARGE)
    instance = house.start()
    working = threading.Thread(target=house.pump.work, args=(LANE,))
    working.start()
    assert began.wait(10)
    drain(house)
    assert not ended.wait(5 * BEAT)
    go.set()
    working.join(10)
    assert not working.is_alive()
    assert ended.wait(10)
    assert [row.state for row in house.steps(instance).values()] == ["completed", "scheduled"]


def test_list_follows_a_drain_to_its_end(houses: Any) -> None:
    """active, draining, stopped, by what the process itself has told."""
    house = houses(heartbeat=BEAT)
    house.run(CHARGE)
    with serving(house.database) as api:
        (found,) = api.get("/cluster/nodes")[:1]
        assert (found["role"], found["status"], found["lanes"]) == ("worker", "active", [LANE])
        api.post(f"/cluster/nodes/{found['id']}/drain", status=200)
        (found,) = api.get("/cluster/nodes")[:1]
        assert found["status"] in {"draining", "stopped"}
        until(lambda: api.get("/cluster/nodes")[0]["status"] == "stopped")
        (found,) = api.get("/cluster/nodes")[:1]
        assert found["capabilities_withdrawn"]
        assert found["stopped_at"] >= found["drain_started_at"]
        api.app.extensions["orch8"].node.release()


# -- metrics -------------------------------------------------------------------------------------
COUNTERS = (
    "orch8_instances_completed_total", "orch8_instances_failed_total",
    "orch8_steps_executed_total", "orch8_steps_failed_total", "orch8_steps_retried_total",
    "orch8_signals_delivered_total", "orch8_rate_limits_exceeded_total",
    "orch8_recovery_stale_instances_total", 'orch8_sla_breached_total{type="instance"}',
    "orch8_instances_claimed_total", "orch8_webhooks_sent_total", "orch8_webhooks_failed_total",
    "orch8_webhooks_parked_total",
)  # fmt: skip
GAUGES = ("orch8_queue_depth", "orch8_active_tasks")
HISTOGRAMS = tuple(
    f"orch8_{name}_seconds_{part}"
    for name in ("tick_duration", "step_duration", "instance_processing")
    for part in ("count", "sum", 'bucket{le="+Inf"}')
)


@pytest.mark.parametrize("name", [*COUNTERS, *GAUGES, *HISTOGRAMS])
def test_metric_has_the_name_that_dashboards_know(api: Api, name: str) -> None:
    """It is there from the first scrape on, so that a rate is, too."""
    lines = api.client.get("/metrics").text.splitlines()
    assert [line for line in lines if line.startswith(f"{name} ")]


def counted(house: House) -> dict[str, float]:
    """The counters of the installation, with nothing held back."""
    scrape = CollectorRegistry()
    scrape.register(Tallies(house.office, behind=timedelta(0)))
    return {s.name: s.value for metric in scrape.collect() for s in metric.samples}


def test_counters_tell_what_became_of_instances(house: House) -> None:
    """Each end, each failure and each retry is counted once, however often it is asked."""
    house.handler("bad", lambda _: 1 / 0)
    house.run(CHARGE, {"type": "step", "handler": "notify"})
    house.run({"type": "step", "handler": "bad", "effect": "none", "retry": ONCE_MORE})
    found = until(lambda: (c := counted(house))["orch8_instances_failed_total"] and c)
    assert found == counted(house)
    assert found["orch8_instances_completed_total"] == 1
    assert found["orch8_steps_executed_total"] == 3
    assert found["orch8_steps_failed_total"] == 1
    assert found["orch8_steps_retried_total"] == 1


def test_counters_wait_for_entries_that_may_still_be_written(house: House) -> None:
    """What is too young to be sure of is told by a later scrape, and so none is left out."""
    house.run(CHARGE)
    scrape = CollectorRegistry()
    scrape.register(Tallies(house.office))
    assert "orch8_instances_completed_total 0.0" in generate_latest(scrape).decode()
    until(lambda: counted(house)["orch8_instances_completed_total"] == 1)


def buckets_of(house: House, name: str) -> dict[str, float]:
    """The buckets of a histogram, by their upper bounds, with what holds nothing left out."""
    scrape = CollectorRegistry()
    scrape.register(Tallies(house.office, behind=timedelta(0)))
    samples = [s for metric in scrape.collect() for s in metric.samples]
    return {s.labels["le"]: s.value for s in samples if s.name == f"{name}_bucket" and s.value}


def test_calls_are_counted_and_timed_by_whoever_makes_them(houses: Callable[..., House]) -> None:
    """Each process adds what it counted with its heartbeat, and the rest when it ends."""
    house = houses(heartbeat=BEAT)
    house.run(CHARGE, {"type": "step", "handler": "notify"})
    house.office.meter.write(house.office.begin, now=True)
    found = counted(house)
    assert found["orch8_instances_claimed_total"] >= 2
    assert found["orch8_step_duration_seconds_count"] == 2
    assert 0 < found["orch8_step_duration_seconds_sum"] < 20
    assert buckets_of(house, "orch8_step_duration_seconds")["+Inf"] == 2
    house.run(CHARGE)
    house.pump.lease.release()
    assert counted(house)["orch8_step_duration_seconds_count"] == 3


def test_ticks_are_timed(house: House) -> None:
    """Each of them; what a process could not write it writes later."""
    for _ in range(3):
        house.tick()
    away = replace(house.settings, database_url="postgresql://nobody@127.0.0.1:1/none")
    nowhere = Office(away)
    house.office.meter.write(nowhere.begin, now=True)
    assert counted(house)["orch8_tick_duration_seconds_count"] == 0
    house.office.meter.write(house.office.begin, now=True)
    assert counted(house)["orch8_tick_duration_seconds_count"] == 3
    house.office.meter.write(house.office.begin, now=True)
    assert counted(house)["orch8_tick_duration_seconds_count"] == 3
    nowhere.close()


def test_ends_of_instances_are_timed_from_their_beginning(house: House) -> None:
    """Waits and all, whoever ends them; a bucket holds those of the smaller ones, too."""
    for hours in (0, 2, 50):
        instance_id = house.run(CHARGE)
        sql = """UPDATE audit_log SET at = at + make_interval(hours => %s)
                 WHERE instance_id = %s AND action = 'instance.completed'"""
        unlocked = "SET session_replication_role = replica;"
        house.sql_as_admin(unlocked + sql, hours, instance_id)
    name = "orch8_instance_processing_seconds"
    assert until(lambda: counted(house)[f"{name}_count"] == 3)
    found = buckets_of(house, name)
    assert (found["3600.0"], found["21600.0"], found["604800.0"], found["+Inf"]) == (1, 2, 3, 3)
    hour = 3600
    assert 52 * hour <= counted(house)[f"{name}_sum"] < 52 * hour + 60


# -- what is kept for a time -----------------------------------------------------------------------
def test_old_deliveries_and_events_go(house: House) -> None:
    """With the tick, after 30 days, unless they still matter to somebody."""
    ages = {"old": 32, "young": 29}
    for name, days in ages.items():
        made = first_of(datetime.now(UTC) - timedelta(days=days))
        for consumed in (None, uuid4()):
            house.sql(
                "INSERT INTO events (id, tenant_id, event_name, producer_event_id,"
                " correlation_key, payload, received_at, consumed_by) VALUES (%s, 'acme', %s, %s,"
                " 'k', '{}', orch8_now() - make_interval(days => %s), %s)",
                UUID(int=made.int + (consumed is None)), name, str(consumed), days, consumed,
            )  # fmt: skip
        house.sql(
            "INSERT INTO deliveries (id, tenant_id, url, event_type, instance_id, delivered,"
            " attempts) VALUES (%s, 'acme', 'http://a', %s, %s, true, '[]')",
            made, name, uuid4(),
        )  # fmt: skip
    house.tick()
    kept = house.sql("SELECT event_name, consumed_by IS NULL AS waits FROM events")
    assert sorted((row.event_name, row.waits) for row in kept) == [
        ("old", False), ("young", False), ("young", True),
    ]  # fmt: skip
    assert [row.event_type for row in house.sql("SELECT event_type FROM deliveries")] == ["young"]


def test_sweep_is_bounded(house: House) -> None:
    """A thousand rows at once, every five minutes."""
    house.sql(
        "INSERT INTO events (id, tenant_id, event_name, producer_event_id, correlation_key,"
        " payload, received_at)"
        " SELECT ('01900000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, 'acme', 'e',"
        " n::text, 'k', '{}',"
        " orch8_now() - interval '40 days' FROM generate_series(1, 1500) n"
    )
    sweep = Sweep()
    assert sweep.look(house.office.begin)["events"] == 1000
    assert sweep.look(house.office.begin) == {}
    assert Sweep().look(house.office.begin)["events"] == 500


def test_tenant_sees_no_others_metrics(api: Api) -> None:
    """Samples that name a tenant are shown to that tenant, and to whoever sees all."""
    api.started(NOOP)
    api.rows("UPDATE steps SET limit_key = 'k', queued_at = now() RETURNING 1")
    sample = 'orch8_rate_limit_waiting{key="k",tenant="default"} 1.0'
    assert sample in api.client.get("/metrics").text
    assert sample in api.client.get("/metrics", headers={"X-Tenant-Id": "default"}).text
    other = api.client.get("/metrics", headers={"X-Tenant-Id": "acme"}).text
    assert 'tenant="default"' not in other
    assert "orch8_due_steps" in other
