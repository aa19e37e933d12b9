"""SIGKILL at every line of the crash table: each charge is made once, and no instance is stuck."""

from __future__ import annotations

import http.client
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

import pytest

from orch8.dev import programs
from orch8.dev.process import Child, Command
from orch8.dev.redis import free_port
from tests.support.stack import ROOT, Client, ProviderProcess, World, creation, running, until

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("stack")]

CHARGE = "charge_payment_method"
# The charge as it is on disk after each crash, and what the provider had seen: (asked, charged).
# Between the commits of claim and settlement no difference is on disk.
WORKER_LINES = {
    "claimed": ("running", 0, 0),
    "executed": ("running", 1, 1),
    "answered": ("running", 1, 1),
    "settling": ("running", 1, 1),
    "settled": ("completed", 1, 1),
}
DELAYED = {"handler": CHARGE, "do": "commit_then_time_out", "times": 1}


@pytest.fixture(scope="module")
def world(make_world: Callable[..., World[ProviderProcess]]) -> World[ProviderProcess]:
    """A stack that has no workers but those that a test starts."""
    return make_world(workers=0, restart_workers=False)


@pytest.mark.parametrize("line", WORKER_LINES)
def test_crash_of_a_worker_repeats_no_charge_and_loses_no_step(
    world: World[ProviderProcess], line: str
) -> None:
    """Whatever line a worker dies at, another one finishes the instance with one charge."""
    state, asked, charged = WORKER_LINES[line]
    with crashing_worker(world, line) as worker:
        instance_id = world.begin(key=f"crash-{line}")
        if line == "executed":
            until(lambda: charges(world, instance_id)[1], 30.0, "the provider charges")
            worker.signal(signal.SIGKILL)
        until(lambda: worker.poll() is not None, 30.0, worker.tail)
        assert worker.poll() == -signal.SIGKILL, worker.output()
    assert on_disk(world, instance_id) == state
    assert charges(world, instance_id) == (asked, charged)
    world.stack.start_worker(1)
    try:
        assert world.ended(instance_id)["state"] == "completed"
    finally:
        world.stack.stop_worker(1)
    again = 0 if state == "completed" else 1
    assert charges(world, instance_id) == (asked + again, 1)
    assert_every_effect_once(world)


@pytest.mark.parametrize("line", ["uncommitted", "committed"])
def test_crash_of_the_api_starts_one_instance_for_a_key(
    world: World[ProviderProcess], line: str
) -> None:
    """A client that got no answer asks again with its key, and has one instance in either case."""
    key, path = f"crash-{line}", "/sequences/payment_dunning/instances"
    with (
        crashing_web(world, line) as url,
        closing(Client(url)) as client,
        pytest.raises((OSError, http.client.HTTPException)),
    ):
        client.send("POST", path, creation(key))
    assert len(of_key(world, key)) == (0 if line == "uncommitted" else 1)
    again = world.client.send("POST", path, creation(key))
    assert (again.status, again.body["deduplicated"]) == (
        (201, False) if line == "uncommitted" else (200, True)
    )
    world.stack.start_worker(1)
    try:
        assert world.ended(again.body["id"])["state"] == "completed"
    finally:
        world.stack.stop_worker(1)
    assert of_key(world, key) == [again.body["id"]]
    assert charges(world, again.body["id"]) == (1, 1)
    assert_every_effect_once(world)


@contextmanager
def crashing_worker(world: World[ProviderProcess], line: str) -> Iterator[Child]:
    """A worker that will die at the line runs; for ``executed`` it is the test that kills it."""
    ordinary = programs.worker(9, world.stack.env, restart=False).command
    argv, env = ordinary.argv, dict(ordinary.env or {})
    if line == "executed":
        world.handlers.script(DELAYED)
    else:
        given = argv[argv.index("worker") :]
        argv = (sys.executable, "-m", "tests.acceptance.crashing_worker", *given)
        env["ORCH8_CRASH_AT"] = line
    command = replace(ordinary, argv=argv, env=env, cwd=ROOT)
    with running(Child(command, world.stack.logs / f"crashing-{line}.log")) as child:
        yield child


@contextmanager
def crashing_web(world: World[ProviderProcess], line: str) -> Iterator[str]:
    """A second API that will die at the line answers; its address."""
    port = free_port()
    ordinary = programs.web("127.0.0.1", port, world.stack.env).command
    command = Command(
        "crashing-web",
        (*ordinary.argv[:-1], "tests.acceptance.crashing_web:app"),
        {**world.stack.env, "ORCH8_CRASH_AT": line},
        cwd=ROOT,
    )
    url = f"http://127.0.0.1:{port}"
    child = Child(command, world.stack.logs / f"crashing-{line}.log")
    with running(child):
        child.wait_ready(lambda: answers(url), 30.0)
        yield url


def answers(url: str) -> bool:
    """Whether an API is ready there."""
    try:
        with closing(Client(url, timeout=2.0)) as client:
            return client.send("GET", "/health/ready").status == 200
    except (OSError, http.client.HTTPException):
        return False


def charges(world: World[ProviderProcess], instance_id: str) -> tuple[int, int]:
    """How often the provider was asked for the instance's charge, and how often it made it."""
    subject = f"{instance_id}/{CHARGE}"
    found = [entry for entry in world.handlers.entries() if entry["subject"] == subject]
    assert len(found) <= 1, f"a charge was asked for with several keys: {found}"
    return (found[0]["asked"], found[0]["charged"]) if found else (0, 0)


def on_disk(world: World[ProviderProcess], instance_id: str) -> str:
    """The state of the instance's charge in the database."""
    (row,) = world.rows(
        "SELECT state FROM steps WHERE instance_id = %s AND node_key = %s", (instance_id, CHARGE)
    )
    return str(row["state"])


def of_key(world: World[ProviderProcess], key: str) -> list[str]:
    """The instances that exist under an idempotency key."""
    rows = world.rows("SELECT id FROM instances WHERE idempotency_key = %s", (key,))
    return [str(row["id"]) for row in rows]


def assert_every_effect_once(world: World[ProviderProcess]) -> None:
    """Under each key, and for each step of each instance, there was exactly one effect."""
    totals = world.handlers.totals()
    assert (totals["duplicates"], totals["charged_twice"]) == (0, 0), totals
    assert totals["charged"] == totals["keys"], totals
