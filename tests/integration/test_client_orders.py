"""orch8.client's pull worker obeys what it is told: drain and ping."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from orch8.client import Client, Task, Worker
from orch8.client.orders import Orders
from tests.support.house import House, until
from tests.support.live import listening
from tests.support.stub import Stub


@pytest.fixture
def client(houses: Callable[..., House]) -> Iterator[Client]:
    """A client of a house without handlers of its own."""
    house = houses(handler_url="")
    with listening(house) as api, Client(api) as found:
        yield found


def tell(client: Client, command: str) -> None:
    """The worker w1 finds the command when it looks."""
    client.ask("POST", "/workers/commands", {"worker_id": "w1", "command": command})


def left(client: Client) -> list[str]:
    """The commands that w1 has not deleted."""
    return [each["command"] for each in client.ask("GET", "/workers/w1/commands")]


def test_worker_that_is_told_to_drain_finishes_and_ends(client: Client) -> None:
    """What it has is completed, nothing further is asked for; the command is gone."""
    step = {"type": "step", "id": "pay", "handler": "charge"}
    client.sequences.publish({"id": "billing", "blocks": [step]})
    begun, end = threading.Event(), threading.Event()

    def charge(_task: Task) -> Any:
        begun.set()
        end.wait(10)
        return {"ok": True}

    worker = Worker(
        client, {"charge": charge}, worker_id="w1", poll_every=0.01, commands_every=0.01,
        concurrency=1,
    )  # fmt: skip
    thread = threading.Thread(target=worker.run)
    thread.start()
    first = client.instances.start("billing", {})
    assert begun.wait(10)
    tell(client, "ping")
    tell(client, "reload")
    tell(client, "drain")
    until(lambda: left(client) == ["reload"])
    second = client.instances.start("billing", {})
    end.set()
    thread.join(10)
    assert not thread.is_alive()
    assert client.instances.get(first.id).state == "completed"
    assert client.instances.get(second.id).state == "waiting"


@pytest.mark.parametrize("status", [401, 403, 404])
def test_worker_without_the_root_key_asks_once(stub: Stub, status: int) -> None:
    """Commands are the root key's: with another it works without."""
    stub.says("/workers/w1/commands", {"error": "forbidden: no"}, status)
    drained: list[str] = []
    with Client(stub.url) as client:
        orders = Orders(client.caller, "w1", lambda: drained.append("yes"), 0.0)
        orders.look()
        orders.look()
    assert (len(stub.asked), drained) == (1, [])


def test_worker_goes_on_while_nobody_answers(stub: Stub) -> None:
    """It asks again when it is time; and a command that another deleted is that one's."""
    drained: list[str] = []
    with Client(stub.url) as client:
        orders = Orders(client.caller, "w1", lambda: drained.append("yes"), 0.0)
        stub.says("/workers/w1/commands", {"error": "unavailable: wait"}, 503)
        orders.look()
        stub.says("/workers/w1/commands", [{"id": "c1", "command": "drain"}])
        stub.says("/workers/commands/c1", {"error": "not found: it"}, 404)
        orders.look()
        assert drained == []
        stub.says("/workers/commands/c1", None, 204)
        orders.look()
    assert drained == ["yes"]
