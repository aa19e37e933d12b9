"""Announcing new work: never a wait and never an error for the caller."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace

import pytest

from api.announce import Announcer
from api.wsgi import producer, wake, wire
from orch8.dev.redis import EmbeddedRedis
from orch8.errors import ConfigurationError
from orch8.limits import Doorbell
from tests.support.api import NOOP, SETTINGS
from tests.support.servers import Database
from workers.app import app as workers


class Bell:
    """A doorbell in memory that says what it was asked."""

    def __init__(self, *, let_through: bool = True) -> None:
        self.let_through = let_through
        self.rung: list[str] = []
        self.cleared: list[str] = []

    def ring(self, lane: str) -> bool:
        self.rung.append(lane)
        return self.let_through

    def clear(self, lane: str) -> bool:
        self.cleared.append(lane)
        return True


def eventually(condition: Callable[[], bool], within: float = 10.0) -> None:
    """The condition holds before the deadline."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it never came to pass"
        threading.Event().wait(0.005)


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never says a word."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


def test_announcer_publishes_what_the_bell_lets_through() -> None:
    """One message for a lane that nobody told of; none for one that is told of already."""
    sent: list[str] = []
    bell = Bell()
    announcer = Announcer(bell, sent.append)
    announcer("renewal")
    eventually(lambda: sent == ["renewal"])
    bell.let_through = False
    announcer("bulk")
    eventually(lambda: bell.rung == ["renewal", "bulk"])
    announcer.close()
    assert sent == ["renewal"]


def test_announcer_merges_while_a_message_is_on_its_way() -> None:
    """However often a lane is announced meanwhile, it is one more message."""
    go, sent = threading.Event(), []

    def publish(lane: str) -> None:
        sent.append(lane)
        go.wait(10)

    announcer = Announcer(Bell(), publish)
    announcer("renewal")
    eventually(lambda: sent == ["renewal"])
    for _ in range(100):
        announcer("renewal")
    go.set()
    eventually(lambda: len(sent) == 2)
    announcer.close()


def test_announcer_tells_of_another_lane_while_one_is_busy() -> None:
    """A lane whose last message nobody took yet is left alone for a while; others do not wait."""
    bell = Bell(let_through=False)
    announcer = Announcer(bell, lambda _: None)
    announcer("bulk")
    eventually(lambda: bell.rung == ["bulk"])
    announcer("interactive")
    announcer("bulk")
    eventually(lambda: sorted(bell.rung) == ["bulk", "bulk", "interactive"])
    announcer.close()


def test_announcer_rests_after_a_failure_and_then_goes_on() -> None:
    """A broker that is away costs one try per circuit, no error, and the bell is cleared."""
    tries: list[float] = []

    def publish(lane: str) -> None:
        tries.append(time.monotonic())
        if len(tries) == 1:
            message = "away"
            raise OSError(message)

    bell = Bell()
    announcer = Announcer(bell, publish, circuit=0.2)
    announcer("renewal")
    eventually(lambda: bell.cleared == ["renewal"])
    announcer("renewal")
    eventually(lambda: len(tries) == 2)
    assert tries[1] - tries[0] >= 0.2
    announcer.close()


def test_wake_up_reaches_the_lanes_queue(redis_server: EmbeddedRedis) -> None:
    """Where the workers listen a message names task, lane and reason, and expires."""
    wake(producer(redis_server.broker_url), "renewal")
    with (
        workers.connection_for_read(redis_server.broker_url) as connection,
        closing(connection.SimpleQueue("o8.renewal")) as queue,
    ):
        message = queue.get(timeout=5)
        message.ack()
    assert message.headers["task"] == "orch8.work"
    assert message.payload[1] == {"lane": "renewal", "reason": "doorbell"}
    assert message.headers["expires"]


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_instance_starts_at_once_when_the_broker_is_silent(
    postgres: Database, silent_port: int, scheme: str
) -> None:
    """A broker and a Redis that accept and never answer cost the caller nothing."""
    settings = replace(
        SETTINGS,
        database_url=postgres.url,
        broker_url=f"{scheme}://127.0.0.1:{silent_port}",
        redis_url=f"redis://127.0.0.1:{silent_port}/0",
    )
    app = wire(settings)
    client = app.test_client()
    client.post("/sequences", json={**NOOP, "id": f"silent_{scheme}"})
    path = f"/sequences/silent_{scheme}/instances"
    assert client.post(path, json={}).status_code == 201
    began = time.monotonic()
    statuses = [client.post(path, json={}).status_code for _ in range(20)]
    assert statuses == [201] * 20
    assert time.monotonic() - began < 3.0
    here = app.extensions["orch8"]
    here.announce.close()
    here.office.close()


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_wake_up_gives_up_quickly_when_the_broker_is_down(scheme: str, silent_port: int) -> None:
    """Refused and silent brokers alike: an error soon, whatever the library would like."""
    for port in (1, silent_port):
        app = producer(f"{scheme}://127.0.0.1:{port}")
        began = time.monotonic()
        with pytest.raises(Exception, match=r"\S"):
            wake(app, "renewal")
        assert time.monotonic() - began < 1.5


def test_process_says_which_setting_is_missing() -> None:
    """The composition root names the first setting that is not set."""
    with pytest.raises(ConfigurationError, match="ORCH8_DATABASE_URL"):
        wire(SETTINGS)
    with pytest.raises(ConfigurationError, match="ORCH8_REDIS_URL"):
        wire(replace(SETTINGS, database_url="postgresql://x", broker_url="redis://x"))


def test_doorbell_is_what_the_announcer_rings(redis_server: EmbeddedRedis) -> None:
    """The real doorbell merges two announcements into one message."""
    sent: list[str] = []
    bell = Doorbell(redis_server.redis_url, prefix="api-test")
    announcer = Announcer(bell, sent.append)
    announcer("renewal")
    eventually(lambda: sent == ["renewal"])
    announcer("renewal")
    announcer("bulk")
    eventually(lambda: sent == ["renewal", "bulk"])
    announcer.close()
    bell.close()
