"""CONTRACT 23: receivers are told how instances ended, at least once, signed, and within bounds."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

import pytest

from orch8.config import Settings
from orch8.errors import ConfigurationError
from orch8.runtime.notices import receivers
from orch8.runtime.postman import RETRIES, Postman
from tests.support.api import Api, serving
from tests.support.house import House, until

CHARGE = {"type": "step", "handler": "charge"}
BAD = {"type": "step", "id": "bad", "handler": "bad", "effect": "none"}
WAITING = {"type": "wait_signal", "signal": "paid"}
SECRET = "a secret between two"
DUE = "UPDATE outbox SET next_attempt_at = clock_timestamp() WHERE next_attempt_at IS NOT NULL"


@dataclass
class Receiver:
    """An HTTP server that keeps what it is sent, and answers ``statuses`` in turn, then 200."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    got: list[tuple[Mapping[str, str], bytes]] = field(default_factory=list)

    @property
    def events(self) -> list[Any]:
        """The bodies that came."""
        return [json.loads(body) for _, body in self.got]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver on a port of its own."""
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.got.append(({n.lower(): v for n, v in self.headers.items()}, body))
            self.send_response(found.statuses.pop(0) if found.statuses else 200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as in the base
            """Nothing is logged."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.url = f"http://127.0.0.1:{server.server_port}/orch8"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield found
        server.shutdown()
        thread.join()


@dataclass
class Scene:
    """A house that tells a receiver, its API and its postman."""

    house: House
    api: Api
    receiver: Receiver
    postman: Postman

    def delivered(self) -> list[Any]:
        """Everything due has been sent once; the events that came so far."""
        while self.postman.round(self.receiver.url):
            pass
        return self.receiver.events

    def waiting(self) -> list[Any]:
        """What the outbox lists."""
        found: list[Any] = self.api.get("/webhooks/outbox")
        return found

    def until_parked(self) -> Any:
        """Every attempt was made, without the pauses; what then waits for a person."""
        self.house.run(CHARGE)
        for _ in range(RETRIES + 1):
            self.house.sql(DUE)
            self.delivered()
        (event,) = self.waiting()
        return event


@pytest.fixture
def scenes(houses: Callable[..., House]) -> Iterator[Callable[..., Scene]]:
    """Makes a scene with the given settings."""
    made: list[Callable[[], None]] = []

    def make(**settings: Any) -> Scene:
        receiver = receivers_open.pop()
        given = {"webhook_urls": receiver.url, "allow_internal_urls": True} | settings
        house = houses(**given)
        api = serving(house.database, **given)
        postman = Postman(house.office)
        made.append(lambda: postman.stop(5))
        opened = api.__enter__()
        made.append(lambda: api.__exit__(None, None, None))
        return Scene(house, opened, receiver, postman)

    with receiving() as one:
        receivers_open = [one]
        yield make
        for end in reversed(made):
            end()


@pytest.fixture
def scene(scenes: Callable[..., Scene]) -> Scene:
    """A scene with a secret."""
    return scenes(webhook_secret=SECRET)


# -- what is told --------------------------------------------------------------------------------
def test_completion_is_told(scene: Scene) -> None:
    """With these four members, and no data."""
    instance = scene.house.run(CHARGE)
    (event,) = scene.delivered()
    assert event.pop("timestamp").endswith("Z")
    assert event == {
        "event_type": "instance.completed", "instance_id": str(instance), "data": {},
    }  # fmt: skip


def test_failure_is_told_with_its_reason(scene: Scene) -> None:
    """The error, the step, and how often it was tried."""
    scene.house.handler("bad", lambda _: 1 / 0)
    scene.house.run(CHARGE, BAD | {"retry": {"max_attempts": 2, "backoff": "1ms"}})
    (event,) = scene.delivered()
    assert event["event_type"] == "instance.failed"
    assert (event["data"]["block_id"], event["data"]["attempts"]) == ("bad", 2)
    assert "division by zero" in event["data"]["error"]


def test_failure_after_a_retry_is_told_again(scene: Scene) -> None:
    """Each end of an instance is an event of its own."""
    scene.house.handler("bad", lambda _: 1 / 0)
    instance = scene.house.run(BAD | {"retry": {"max_attempts": 1}})
    scene.house.retry(instance)
    scene.house.work()
    assert [e["event_type"] for e in scene.delivered()] == ["instance.failed"] * 2


def test_breach_of_the_sla_is_told(scene: Scene) -> None:
    """Once, while the run goes on, with what was promised and how long it took so far."""
    scene.house.publish(WAITING, sla={"max_duration": "40m"})
    instance = scene.house.start()
    scene.house.work()
    scene.house.advance(timedelta(hours=1))
    scene.house.work()
    (event,) = scene.delivered()
    data = event["data"]
    assert (event["event_type"], event["instance_id"]) == ("instance.sla_breached", str(instance))
    assert (data["type"], data["limit_ms"], data["step_id"]) == ("runtime", 40 * 60_000, None)
    assert data["elapsed_ms"] >= 3_600_000
    assert data["tenant_id"] == "default"
    assert data["sequence_id"] == str(scene.house.instance(instance).sequence_id)


def test_nothing_else_is_told(scene: Scene) -> None:
    """Neither of pausing, nor of cancelling, nor of steps."""
    scene.house.publish(WAITING)
    instance = scene.house.start()
    scene.house.work()
    for control in ("pause", "resume", "cancel"):
        scene.house.signal(instance, control)
    scene.house.work()
    assert scene.house.state(instance) == "cancelled"
    assert scene.delivered() == []


def test_without_receivers_nothing_is_kept(house: House) -> None:
    """And nothing is asked."""
    house.run(CHARGE)
    assert house.sql("SELECT 1 FROM outbox") == []
    postman = Postman(house.office)
    postman.go()
    postman.stop(0)


def test_event_is_written_with_what_it_tells_of(scene: Scene) -> None:
    """In one transaction: the outbox has it as soon as the instance has ended."""
    instance = scene.house.run(CHARGE)
    sql = """SELECT 1 FROM outbox o JOIN instances i ON i.id = o.instance_id
             AND i.xmin::text = o.xmin::text WHERE i.id = %s"""
    assert len(scene.house.sql(sql, instance)) == 1


def test_every_receiver_is_told(scenes: Callable[..., Scene]) -> None:
    """Each has a delivery of its own; one that is away holds up nobody."""
    with receiving() as other:
        away = "http://127.0.0.1:1/away"
        scene = scenes(webhook_urls=f"{away}, {other.url}")
        scene.house.run(CHARGE)
        scene.postman.go()
        until(lambda: other.events)
    until(lambda: [e["url"] for e in scene.waiting()] == [away])


@pytest.mark.parametrize("url", ["ftp://a.example/", "https://user:pw@a.example/", "a.example"])
def test_receiver_that_cannot_be_called_stops_the_process(url: str) -> None:
    """With a message that names the setting."""
    with pytest.raises(ConfigurationError, match="ORCH8_WEBHOOK_URLS"):
        receivers(Settings(webhook_urls=url))


# -- how it is sent ------------------------------------------------------------------------------
def test_event_is_signed(scene: Scene) -> None:
    """HMAC-SHA256 over the time, a dot and the body, in hex; the time is that of the attempt."""
    scene.house.run(CHARGE)
    scene.delivered()
    ((headers, body),) = scene.receiver.got
    at = headers["x-orch8-timestamp"]
    wanted = hmac.new(SECRET.encode(), at.encode() + b"." + body, hashlib.sha256).hexdigest()
    assert headers["x-orch8-signature"] == f"sha256={wanted}"
    assert abs(time.time() - int(at)) < 60
    assert headers["content-type"] == "application/json"


def test_without_a_secret_there_is_no_signature(scenes: Callable[..., Scene]) -> None:
    """A signature that proves nothing would be worse than none."""
    scene = scenes()
    scene.house.run(CHARGE)
    scene.delivered()
    ((headers, _),) = scene.receiver.got
    assert "x-orch8-signature" not in headers
    assert "x-orch8-timestamp" in headers


def test_every_attempt_is_the_same_delivery(scene: Scene) -> None:
    """Its id and its bytes are the same, so that a receiver can leave out what it had before."""
    scene.receiver.statuses = [500, 200]
    scene.house.run(CHARGE)
    scene.delivered()
    scene.house.sql(DUE)
    scene.delivered()
    (first, one), (second, two) = scene.receiver.got
    assert first["x-orch8-delivery-id"] == second["x-orch8-delivery-id"]
    assert one == two


def test_internal_address_is_not_called(scenes: Callable[..., Scene]) -> None:
    """Unless that is allowed; it would be refused the same way again, so the event is parked."""
    scene = scenes(allow_internal_urls=False)
    scene.house.run(CHARGE)
    assert scene.delivered() == []
    (event,) = scene.waiting()
    assert event["status"] == "parked"
    assert "ORCH8_ALLOW_INTERNAL_URLS" in event["last_error"]


# -- what follows --------------------------------------------------------------------------------
def test_delivered_event_leaves_the_outbox(scene: Scene) -> None:
    """Its delivery is kept."""
    scene.house.run(CHARGE)
    scene.delivered()
    assert scene.waiting() == []
    assert [d["delivered"] for d in scene.api.get("/webhooks/deliveries")] == [True]


@pytest.mark.parametrize("status", [400, 404, 410, 301])
def test_refused_event_is_parked_at_once(scene: Scene, status: int) -> None:
    """What was refused is refused again; a redirect is not followed."""
    scene.receiver.statuses = [status]
    scene.house.run(CHARGE)
    scene.delivered()
    (event,) = scene.waiting()
    assert (event["status"], event["attempts"]) == ("parked", 1)
    assert str(status) in event["last_error"]
    assert "next_attempt_at" not in event


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_event_is_sent_again_when_the_receiver_is_in_trouble(scene: Scene, status: int) -> None:
    """After half a second."""
    scene.receiver.statuses = [status]
    scene.house.run(CHARGE)
    scene.delivered()
    (event,) = scene.waiting()
    assert (event["status"], event["attempts"]) == ("pending", 1)
    assert "next_attempt_at" in event
    scene.postman.go()
    until(lambda: not scene.waiting())
    assert len(scene.receiver.got) == 2


def test_pauses_double(scene: Scene) -> None:
    """Half a second, one, two: three retries in all."""
    scene.receiver.statuses = [500] * 4
    scene.house.run(CHARGE)
    pauses = []
    for _ in range(RETRIES):
        scene.house.sql(DUE)
        scene.delivered()
        (row,) = scene.house.sql(
            "SELECT extract(epoch FROM next_attempt_at - updated_at)::float8 AS pause"
            " FROM outbox JOIN deliveries USING (id)"
        )
        pauses.append(round(row.pause, 1))
    assert pauses == [0.5, 1.0, 2.0]


def test_event_that_nobody_takes_is_parked(scene: Scene) -> None:
    """After three retries; then a person decides."""
    scene.receiver.statuses = [500] * 9
    event = scene.until_parked()
    assert (event["status"], event["attempts"]) == ("parked", 1 + RETRIES)
    scene.delivered()
    assert len(scene.receiver.got) == 1 + RETRIES


def test_deliveries_are_counted(scene: Scene) -> None:
    """What was taken, what was in vain, and what nobody sends any more."""
    scene.receiver.statuses = [500, 200, 404]
    for _ in range(2):
        scene.house.run(CHARGE)
        for _ in range(2):
            scene.house.sql(DUE)
            scene.delivered()
    (event,) = scene.waiting()
    scene.receiver.statuses = [200]
    scene.api.post(f"/webhooks/outbox/{event['id']}/redeliver", status=200)
    told = scene.api.client.get("/metrics").text
    for name, count in (("sent", 2), ("failed", 2), ("parked", 1)):
        assert f"orch8_webhooks_{name}_total {count}.0" in told


def test_event_of_a_lost_process_is_sent_again(scene: Scene) -> None:
    """It was claimed, and nothing was heard of it: at least once, and so perhaps twice."""
    scene.house.run(CHARGE)
    claimed = "UPDATE outbox SET status = 'in_flight', attempts = 1, claimed_at = now()"
    scene.house.sql(f"{claimed}, next_attempt_at = clock_timestamp() + interval '1 minute'")
    assert scene.delivered() == []
    scene.house.sql(DUE)
    assert len(scene.delivered()) == 1
    assert scene.waiting() == []


def test_event_whose_processes_are_lost_is_parked(scene: Scene) -> None:
    """It may be what kills them: it is not sent for ever."""
    scene.house.run(CHARGE)
    scene.house.sql(f"UPDATE outbox SET status = 'in_flight', attempts = {1 + RETRIES}")
    assert scene.delivered() == []
    assert scene.waiting()[0]["status"] == "parked"


# -- what operators do ---------------------------------------------------------------------------
def test_outbox_shows_what_waits(scene: Scene) -> None:
    """The event as it will be sent, and where it stands."""
    instance = scene.house.run(CHARGE)
    (event,) = scene.waiting()
    assert (event["status"], event["attempts"]) == ("pending", 0)
    assert event["payload"]["instance_id"] == event["instance_id"] == str(instance)
    assert (event["url"], event["event_type"]) == (scene.receiver.url, "instance.completed")
    assert event["delivery_id"] == event["id"]
    assert "claimed_at" not in event
    assert "last_error" not in event
    assert len(scene.api.get("/webhooks/outbox?limit=1")) == 1


def test_event_can_be_sent_once_more(scene: Scene) -> None:
    """By a person, who is in the audit log with the reason; the delivery stays the same."""
    scene.receiver.statuses = [404]
    scene.house.run(CHARGE)
    scene.delivered()
    (event,) = scene.waiting()
    path = f"/webhooks/outbox/{event['id']}/redeliver"
    done = scene.api.post(path, {"reason": "mended"}, status=200, headers={"X-Actor": "Ann"})
    assert done == {"redelivered": True, "delivery_id": event["delivery_id"]}
    assert scene.waiting() == []
    sql = "SELECT actor, reason FROM audit_log WHERE action = 'webhook.redelivered'"
    assert scene.api.rows(sql) == [("Ann", "mended")]
    assert {h["x-orch8-delivery-id"] for h, _ in scene.receiver.got} == {event["delivery_id"]}


def test_event_that_is_refused_once_more_stays_parked(scene: Scene) -> None:
    """502, and nobody tries again by itself."""
    scene.receiver.statuses = [500] * 9
    event = scene.until_parked()
    answer = scene.api.post(f"/webhooks/outbox/{event['id']}/redeliver", status=502)
    assert "500" in answer["error"]
    (event,) = scene.waiting()
    assert (event["status"], event["attempts"]) == ("parked", 2 + RETRIES)


def test_event_on_its_way_is_not_sent_beside(scene: Scene) -> None:
    """409: two attempts at once would only confuse the receiver."""
    scene.house.run(CHARGE)
    scene.house.sql("UPDATE outbox SET status = 'in_flight'")
    (event,) = scene.waiting()
    scene.api.refused(409, "POST", f"/webhooks/outbox/{event['id']}/redeliver")


def test_redelivery_can_be_looked_at_first(scene: Scene) -> None:
    """What would be sent, without the signature; nothing is."""
    scene.house.run(CHARGE)
    (event,) = scene.waiting()
    shown = scene.api.get(f"/webhooks/outbox/{event['id']}/redeliver-preview")
    assert shown["signed"]
    assert "X-Orch8-Signature" not in shown["headers"]
    assert scene.receiver.got == []
    scene.delivered()
    ((headers, body),) = scene.receiver.got
    assert body.decode() == shown["body"]
    assert headers["x-orch8-delivery-id"] == shown["headers"]["X-Orch8-Delivery-Id"]


def test_event_can_be_given_up(scene: Scene) -> None:
    """It is gone, and the audit log knows who did it."""
    scene.house.run(CHARGE)
    (event,) = scene.waiting()
    path = f"/webhooks/outbox/{event['id']}"
    answer = scene.api.send("DELETE", path, headers={"X-Actor": "Ann"})
    assert answer.status_code == 204
    assert scene.delivered() == []
    scene.api.refused(404, "DELETE", path)
    assert scene.api.rows("SELECT actor FROM audit_log WHERE action = 'webhook.deleted'") == [
        ("Ann",)
    ]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/webhooks/outbox/{}"),
        ("POST", "/webhooks/outbox/{}/redeliver"),
        ("GET", "/webhooks/outbox/{}/redeliver-preview"),
        ("GET", "/webhooks/deliveries/{}"),
    ],
)
def test_unknown_event_is_not_found(api: Api, method: str, path: str) -> None:
    """404 for an id that nobody has, 400 for what is none."""
    api.refused(404, method, path.format(uuid4()))
    api.refused(400, method, path.format("no-id"))


def test_delivery_has_a_timeline(scene: Scene) -> None:
    """Each attempt, in order, with what was answered."""
    scene.receiver.statuses = [503, 200]
    scene.house.run(CHARGE)
    scene.delivered()
    scene.house.sql(DUE)
    scene.delivered()
    (listed,) = scene.api.get("/webhooks/deliveries")
    found = scene.api.get(f"/webhooks/deliveries/{listed['delivery_id']}")
    assert [a["http_status"] for a in found["timeline"]] == [503, 200]
    assert [a["attempt"] for a in found["timeline"]] == [1, 2]
    assert [a["delivered"] for a in found["timeline"]] == [False, True]
    assert (found["attempts"], found["delivered"], found["error_class"]) == (2, True, None)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("delivered=false", 1), ("delivered=true", 0), ("error_class=http_4xx", 1),
        ("error_class=http_5xx", 0), ("event_type=instance.completed", 1),
        ("event_type=instance.failed", 0), ("url=https://nobody.example/", 0), ("limit=5", 1),
    ],
)  # fmt: skip
def test_deliveries_are_filtered(scene: Scene, query: str, found: int) -> None:
    """By receiver, event, whether it was taken, and why not."""
    scene.receiver.statuses = [404]
    scene.house.run(CHARGE)
    scene.delivered()
    assert len(scene.api.get(f"/webhooks/deliveries?{query}")) == found


def test_old_deliveries_are_forgotten(scene: Scene) -> None:
    """30 days after the event."""
    scene.house.run(CHARGE)
    scene.delivered()
    old = "01900000-0000-7000-8000-000000000000"  # made in 2024
    scene.house.sql("UPDATE deliveries SET id = %s", old)
    scene.house.tick()
    assert scene.api.get("/webhooks/deliveries") == []


def test_tenant_sees_no_others_events(scene: Scene) -> None:
    """Whoever asks for a tenant is shown that tenant's."""
    scene.house.run(CHARGE)
    (event,) = scene.waiting()
    other = {"X-Tenant-Id": "acme"}
    assert scene.api.get("/webhooks/outbox", headers=other) == []
    scene.api.refused(404, "DELETE", f"/webhooks/outbox/{event['id']}", headers=other)
    assert len(scene.api.get("/webhooks/outbox", headers={"X-Tenant-Id": "default"})) == 1


def test_outbox_is_the_root_keys(scenes: Callable[..., Scene]) -> None:
    """A tenant's key, whatever it is for, is refused."""
    scene = scenes(api_key="root", insecure=False)
    root = {"x-api-key": "root", "X-Tenant-Id": "default"}
    key = scene.api.post("/api-keys", {"tenant_id": "default"}, headers=root)["secret"]
    for path in ("/webhooks/outbox", "/webhooks/deliveries"):
        assert scene.api.get(path, headers=root) == []
        assert scene.api.send("GET", path, headers={"x-api-key": key}).status_code == 403
