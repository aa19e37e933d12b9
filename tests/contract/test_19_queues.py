"""CONTRACT 19.2 and 19.7: commands, version pins, routing rules, and queues that are told."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest

from orch8.runtime.pusher import PAUSES, Pusher
from tests.support.api import Api, serving
from tests.support.desk import Desk, seated
from tests.support.house import House, until
from tests.support.pullers import Puller, begun, external
from tests.support.receiver import Receiver, receiving
from tests.support.servers import Database

OTHER = {"X-Tenant-Id": "other"}
DUE = "UPDATE task_pushes SET next_attempt_at = clock_timestamp()"
SECRET = "a secret between two"
KEYED: dict[str, Any] = {
    "insecure": False, "api_key": "root", "require_tenant_header": False,
    "allow_no_tenant_isolation": True,
}  # fmt: skip


@pytest.fixture
def desk(houses: Callable[..., House]) -> Iterator[Desk]:
    """A desk in a house whose unknown handlers wait for pull workers."""
    house = houses(handler_url="", insecure=True, allow_internal_urls=True)
    with seated(house) as found:
        yield found


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver on a port of its own."""
    with receiving() as found:
        yield found


@pytest.fixture
def pusher(desk: Desk) -> Iterator[Pusher]:
    """A pusher of the house."""
    found = Pusher(desk.house.office)
    yield found
    found.stop(5)


def said(desk: Desk, path: str, body: Any) -> Any:
    """What was stated, which holds from now on in the house."""
    found = desk.api.post(path, body)
    desk.house.office.queues.forget()
    return found


# -- commands ------------------------------------------------------------------------------------
def test_command_is_for_its_worker(api: Api) -> None:
    """It is listed for that worker, the oldest first, until it is deleted."""
    made = [
        api.post("/workers/commands", {"worker_id": "w1", "command": command, "payload": {"n": 1}})
        for command in ("drain", "reload", "ping", "place")
    ]
    assert made[0].items() >= {"worker_id": "w1", "command": "drain", "payload": {"n": 1}}.items()
    assert api.get("/workers/w1/commands") == made
    assert api.get("/workers/w2/commands") == []
    answer = api.send("DELETE", f"/workers/commands/{made[0]['id']}")
    assert (answer.status_code, answer.data) == (204, b"")
    assert api.get("/workers/w1/commands") == made[1:]
    api.refused(404, "DELETE", f"/workers/commands/{made[0]['id']}")


def test_command_has_its_shape(api: Api) -> None:
    """422 for an unknown one, or without its worker; the payload may be left out."""
    api.refused(422, "POST", "/workers/commands", {"worker_id": "w", "command": "explode"})
    api.refused(422, "POST", "/workers/commands", {"command": "ping"})
    made = api.post("/workers/commands", {"worker_id": "w", "command": "ping"})
    assert made["payload"] is None


def test_commands_and_pins_are_the_root_keys(postgres: Database) -> None:
    """403 for every key of a tenant, whatever it may do otherwise."""
    with serving(postgres, **KEYED) as api:
        root = {"x-api-key": "root"}
        body = {"tenant_id": "acme", "capabilities": ["operator", "worker"]}
        key = {"x-api-key": api.post("/api-keys", body, headers=root)["secret"]}
        for method, path in (
            ("POST", "/workers/commands"),
            ("GET", "/workers/w1/commands"),
            ("DELETE", f"/workers/commands/{uuid4()}"),
            ("POST", "/workers/version-pins"),
            ("GET", "/workers/version-pins"),
            ("DELETE", "/workers/version-pins/acme/charge"),
        ):
            answer = api.send(method, path, {} if method == "POST" else None, headers=key)
            assert answer.status_code == 403
        assert api.get("/workers/w1/commands", headers=root) == []
        assert api.send("GET", "/routing-rules", headers=key).status_code == 200


# -- version pins --------------------------------------------------------------------------------
def test_worker_below_a_pin_gets_nothing(desk: Desk) -> None:
    """Nor one without a version; from the pinned one on they do. The doctor says so."""
    instance = begun(desk, external())
    pin = {"tenant_id": "default", "handler_name": "charge", "min_version": "1.4.0"}
    made = desk.api.post("/workers/version-pins", pin)
    assert made.items() >= pin.items()
    worker = Puller(desk)
    for version in ({}, {"version": "1.3.9"}, {"version": "1.4.0-rc.1"}, {"version": "dev"}):
        assert worker.poll(**version) == []
        assert worker.poll(queue_name="eu", **version) == []
    (found,) = desk.api.get(f"/instances/{instance['id']}/diagnosis")["diagnoses"]
    assert found["code"] == "WORKER_BELOW_VERSION_PIN"
    assert "'charge'" in found["summary"]
    assert found["remediation"][0]["action"] == "manual"
    assert len(worker.poll(version="v1.10")) == 1


def test_pin_is_replaced_listed_and_deleted(desk: Desk) -> None:
    """One for each tenant and handler; then any version will do."""
    pin = {"tenant_id": "acme", "handler_name": "charge", "min_version": "1"}
    desk.api.post("/workers/version-pins", pin)
    desk.api.post("/workers/version-pins", pin | {"min_version": "2"})
    (found,) = desk.api.get("/workers/version-pins")
    assert found["min_version"] == "2"
    assert desk.api.get("/workers/version-pins?tenant_id=other") == []
    path = "/workers/version-pins/acme/charge"
    desk.api.refused(404, "DELETE", path, headers=OTHER)
    assert desk.api.send("DELETE", path).status_code == 204
    desk.api.refused(404, "DELETE", path)
    assert desk.api.get("/workers/version-pins") == []


def test_pin_needs_a_version(desk: Desk) -> None:
    """400 for one that cannot be read, 422 without one; a blank tenant is the default one."""
    pin = {"tenant_id": " ", "handler_name": "charge", "min_version": "1.0"}
    desk.api.refused(400, "POST", "/workers/version-pins", pin | {"min_version": "new"})
    desk.api.refused(422, "POST", "/workers/version-pins", {"handler_name": "charge"})
    assert desk.api.post("/workers/version-pins", pin)["tenant_id"] == "default"


# -- routing rules -------------------------------------------------------------------------------
def test_first_rule_that_fits_chooses_the_queue(desk: Desk) -> None:
    """The greatest priority first; a rule may be for one queue, or be switched off."""
    rule = {"tenant_id": "default", "handler_name": "charge"}
    said(desk, "/routing-rules", rule | {"queue_override": "any"})
    said(desk, "/routing-rules", rule | {"queue_override": "off", "priority": 9, "enabled": False})
    eu = rule | {"queue_override": "eu-fast", "match_queue": "eu", "priority": 5}
    said(desk, "/routing-rules", eu)
    begun(desk, external("plain"), name="one")
    begun(desk, external("own", queue_name="eu"), name="two")
    begun(desk, external("else", handler="refund", queue_name="eu"), name="three")
    found = {t["block_id"]: t.get("queue_name") for t in desk.api.get("/workers/tasks")}
    assert found == {"plain": "any", "own": "eu-fast", "else": "eu"}
    assert Puller(desk).take(queue_name="eu-fast")["block_id"] == "own"


def test_rule_is_read_listed_and_deleted(desk: Desk) -> None:
    """By its tenant; what is offered afterwards goes where its step says."""
    rule = {"tenant_id": "default", "handler_name": "charge", "queue_override": "q"}
    made = said(desk, "/routing-rules", rule)
    assert made.items() >= {**rule, "match_queue": None, "priority": 0, "enabled": True}.items()
    path = f"/routing-rules/{made['id']}"
    assert desk.api.get(path) == made
    assert desk.api.get("/routing-rules") == [made]
    assert desk.api.get("/routing-rules", headers=OTHER) == []
    desk.api.refused(404, "GET", path, headers=OTHER)
    desk.api.refused(404, "DELETE", path, headers=OTHER)
    assert desk.api.send("DELETE", path).status_code == 204
    desk.api.refused(404, "GET", path)
    desk.house.office.queues.forget()
    begun(desk, external())
    assert "queue_name" not in Puller(desk).take()


def test_rule_has_its_shape(desk: Desk) -> None:
    """422 without its members, 403 for another tenant; a blank tenant is the default one."""
    rule = {"tenant_id": "acme", "handler_name": "charge", "queue_override": "q"}
    desk.api.refused(422, "POST", "/routing-rules", {"tenant_id": "acme", "handler_name": "x"})
    desk.api.refused(403, "POST", "/routing-rules", rule, headers=OTHER)
    made = desk.api.post("/routing-rules", rule | {"tenant_id": ""})
    assert made["tenant_id"] == "default"


# -- queues --------------------------------------------------------------------------------------
def told(desk: Desk, receiver: Receiver, **members: Any) -> Any:
    """The queue eu is told to the receiver."""
    queue = {"tenant_id": "default", "queue_name": "eu", "mode": "push", "push_url": receiver.url}
    return said(desk, "/queues/dispatch", queue | members)


def test_queue_is_told_of_its_task(desk: Desk, receiver: Receiver, pusher: Pusher) -> None:
    """Signed; the task stays pending, and whoever was told polls for it."""
    told(desk, receiver, secret=SECRET)
    params = {"cents": "{{ context.data.cents }}", "key": "credentials://psp"}
    step = external(queue_name="eu", params=params, timeout=30_000)
    instance = begun(desk, step, data={"cents": 5})
    assert pusher.round("default", "eu") == 1
    (headers, body), *others = receiver.got
    assert not others
    task = json.loads(body)
    assert task.pop("context")["data"] == {"cents": 5}
    assert task == {
        "task_id": task["task_id"], "instance_id": instance["id"], "block_id": "a",
        "handler_name": "charge", "queue_name": "eu", "attempt": 0, "timeout_ms": 30_000,
        "params": {"cents": 5, "key": "credentials://psp"},
    }  # fmt: skip
    signed = f"{headers['x-orch8-timestamp']}.".encode() + body
    digest = hmac.digest(SECRET.encode(), signed, hashlib.sha256).hex()
    assert headers["x-orch8-signature"] == f"sha256={digest}"
    (listed,) = desk.api.get("/workers/tasks")
    assert (listed["state"], listed["id"]) == ("pending", task["task_id"])
    desk.api.post("/credentials", {"id": "psp", "name": "p", "value": "v", "tenant_id": "default"})
    assert Puller(desk).take(queue_name="eu")["id"] == task["task_id"]
    assert pusher.round("default", "eu") == 0


def test_queue_without_a_secret_is_told_unsigned(
    desk: Desk, receiver: Receiver, pusher: Pusher
) -> None:
    """With the time all the same."""
    told(desk, receiver)
    begun(desk, external(queue_name="eu"))
    pusher.round("default", "eu")
    ((headers, _),) = receiver.got
    assert "x-orch8-signature" not in headers
    assert headers["x-orch8-timestamp"].isdecimal()


def test_queue_that_fails_is_told_four_times(
    desk: Desk, receiver: Receiver, pusher: Pusher
) -> None:
    """Then no more; the task waits for whoever polls."""
    assert PAUSES == (0.5, 1.0, 1.5)
    told(desk, receiver)
    receiver.statuses = [500] * 9
    begun(desk, external(queue_name="eu"))
    while pusher.round("default", "eu"):
        desk.house.sql(DUE)
    assert len(receiver.got) == 4
    assert desk.house.sql("SELECT FROM task_pushes") == []
    assert len(Puller(desk).poll()) == 1


def test_queue_is_not_told_of_what_was_taken(
    desk: Desk, receiver: Receiver, pusher: Pusher
) -> None:
    """Nor of what waits in another queue, or in one that is polled only."""
    told(desk, receiver)
    begun(desk, external(queue_name="eu"))
    Puller(desk).take()
    begun(desk, external(queue_name="us"), name="second")
    pusher.round("default", "eu")
    assert receiver.got == []
    told(desk, receiver, mode="poll")
    begun(desk, external(queue_name="eu"), name="third")
    assert pusher.round("default", "eu") == 0
    assert receiver.got == []


def test_queue_is_told_again_of_what_comes_back(
    desk: Desk, receiver: Receiver, pusher: Pusher
) -> None:
    """After a retry, and after a worker went silent; of a paused instance when it goes on."""
    told(desk, receiver)
    instance = begun(desk, external(queue_name="eu", retry={"max_attempts": 3, "backoff": "1ms"}))
    path = f"/instances/{instance['id']}/signals"
    desk.api.send("POST", path, {"signal_type": "pause"})
    pusher.round("default", "eu")
    assert receiver.got == []
    desk.api.send("POST", path, {"signal_type": "resume"})
    desk.house.sql(DUE)
    pusher.round("default", "eu")
    worker = Puller(desk)
    worker.fail(worker.take(), retryable=True)
    desk.house.work()
    pusher.round("default", "eu")
    worker.take()
    desk.house.sql("UPDATE steps SET lease_until = '-infinity' WHERE pull")
    desk.house.tick()
    pusher.round("default", "eu")
    assert [json.loads(body)["attempt"] for _, body in receiver.got] == [0, 1, 1]


def test_pusher_serves_what_is_due_by_itself(
    desk: Desk, receiver: Receiver, pusher: Pusher
) -> None:
    """A tick sets it going; what is due within seconds is waited for."""
    told(desk, receiver)
    receiver.statuses = [500]
    begun(desk, external(queue_name="eu"))
    pusher.go()
    until(lambda: len(receiver.got) == 2)


def test_queue_is_listed_and_deleted(desk: Desk, receiver: Receiver) -> None:
    """Its secret is never shown, and is sealed where there is a key."""
    made = told(desk, receiver, secret=SECRET)
    assert made.items() >= {"mode": "push", "push_url": receiver.url, "has_secret": True}.items()
    assert "secret" not in made
    (listed,) = desk.api.get("/queues/dispatch")
    assert listed == made
    assert desk.api.get("/queues/dispatch", headers=OTHER) == []
    desk.api.refused(404, "DELETE", "/queues/dispatch/default/eu", headers=OTHER)
    assert desk.api.send("DELETE", "/queues/dispatch/default/eu").status_code == 204
    desk.api.refused(404, "DELETE", "/queues/dispatch/default/eu")


def test_queue_has_its_shape(api: Api) -> None:
    """422 for an unknown mode, 400 without an address or for an internal one."""
    queue = {"tenant_id": "default", "queue_name": "eu", "mode": "push"}
    api.refused(422, "POST", "/queues/dispatch", queue | {"mode": "shout"})
    api.refused(422, "POST", "/queues/dispatch", {"tenant_id": "default", "mode": "poll"})
    api.refused(400, "POST", "/queues/dispatch", queue)
    for url in ("http://127.0.0.1:1/", "http://10.0.0.1/", "ftp://example.com"):
        api.refused(400, "POST", "/queues/dispatch", queue | {"push_url": url})
    made = api.post("/queues/dispatch", queue | {"mode": "poll", "tenant_id": ""})
    assert (made["tenant_id"], made["push_url"]) == ("default", None)


def test_secret_of_a_queue_is_sealed(postgres: Database) -> None:
    """With the encryption key; without one it is refused where the installation is secure."""
    queue = {"tenant_id": "t", "queue_name": "q", "mode": "poll", "secret": SECRET}
    with serving(postgres, encryption_key="b2" * 32) as api:
        api.post("/queues/dispatch", queue)
        ((sealed,),) = api.rows("SELECT secret FROM queue_dispatch")
        assert sealed.startswith("enc:v1:")
    with serving(postgres, **KEYED) as api:
        api.refused(503, "POST", "/queues/dispatch", queue, headers={"x-api-key": "root"})
