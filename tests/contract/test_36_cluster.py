"""CONTRACT 36: the processes of an installation, taking one out of service, and its metrics."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from api.tallies import Tallies
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
)  # fmt: skip
GAUGES = ("orch8_queue_depth", "orch8_active_tasks")


@pytest.mark.parametrize("name", [*COUNTERS, *GAUGES])
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
