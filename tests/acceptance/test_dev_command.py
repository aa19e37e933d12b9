"""``orch8 dev`` is all that a newcomer runs: the seed's own calls work against it as they stand."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import orjson
import pytest

from orch8.dev.place import place_of
from orch8.dev.process import Child, Command
from tests.support.stack import (
    EXAMPLES,
    TERMINAL,
    Client,
    ProviderProcess,
    creation,
    example,
    running,
    until,
)

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("stack")]

STOPS_WITHIN = 5.0
READY = re.compile(r"^orch8 ready (http://\S+)$", re.MULTILINE)


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[ProviderProcess]:
    with ProviderProcess(tmp_path) as provider:
        yield provider


@pytest.fixture
def dev(tmp_path: Path, provider: ProviderProcess) -> Iterator[Child]:
    """``orch8 dev`` is ready, in an environment that says nothing of orch8."""
    data = tmp_path / "data"
    argv = (
        *(sys.executable, "-m", "orch8.cli", "dev", "--port", "0", "--data", str(data)),
        *("--handler-url", provider.url),
    )
    env = {k: v for k, v in os.environ.items() if not k.startswith("ORCH8_")}
    env["PYTHONUNBUFFERED"] = "1"
    with running(Child(Command("dev", argv, env), tmp_path / "dev.log")) as child:
        child.wait_ready(lambda: READY.search(child.output()) is not None, 60.0)
        yield child
    shutil.rmtree(place_of(data).data.parent, ignore_errors=True)


def test_seeds_own_calls_work_against_dev(dev: Child, provider: ProviderProcess) -> None:
    """Publishing the seed's definition and starting it with its curl call charges once."""
    url = address(dev)
    with closing(Client(url)) as client:
        assert client.send("POST", "/sequences", example("payment_dunning")).status == 201
        created = start_as_the_seed_does(url)
        again = start_as_the_seed_does(url)
        assert (created["deduplicated"], again["deduplicated"]) == (False, True)
        assert created["id"] == again["id"]
        path = f"/instances/{created['id']}"
        until(lambda: client.get(path)["state"] in TERMINAL, 20.0, lambda: client.get(path))
        assert client.get(path)["state"] == "completed"
    assert {e["handler"]: e["charged"] for e in provider.entries()} == {
        "charge_payment_method": 1,
        "activate_subscription": 1,
    }


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_dev_stops_within_five_seconds_and_leaves_nothing_running(
    dev: Child, tmp_path: Path, how: signal.Signals
) -> None:
    """One signal ends servers, workers and all, whoever started them."""
    family = descendants(dev.pid or 0)
    assert len(family) >= 7
    began = time.monotonic()
    dev.signal(how)
    until(lambda: dev.poll() is not None, STOPS_WITHIN + 5, dev.output)
    assert time.monotonic() - began < STOPS_WITHIN
    assert dev.poll() == 0, dev.output()
    until(lambda: not any(map(alive, family)), 2.0, lambda: list(filter(alive, family)))


def start_as_the_seed_does(url: str) -> dict[str, object]:
    """The answer to the creation call of the seed's page, made by curl where there is one."""
    path = f"{url}/sequences/payment_dunning/instances"
    if (curl := shutil.which("curl")) is None:
        with closing(Client(url)) as client:
            body: dict[str, object] = client.post(
                "/sequences/payment_dunning/instances",
                creation(example("create_instance")["idempotency_key"]),
            )
            return body
    body_file = EXAMPLES / "create_instance.json"
    done = subprocess.run(
        [
            *(curl, "--silent", "--show-error", "--fail-with-body", "-X", "POST", path),
            *("-H", "content-type: application/json", "-d", f"@{body_file}"),
        ],
        capture_output=True,
        timeout=20,
        check=True,
    )
    answer: dict[str, object] = orjson.loads(done.stdout)
    return answer


def address(dev: Child) -> str:
    """Where the API is, as the command said."""
    found = READY.search(dev.output())
    assert found is not None
    return found[1]


def descendants(pid: int) -> list[int]:
    """The processes below a process, however deep."""
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="],
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    )
    parents = [tuple(map(int, line.split())) for line in listed.stdout.splitlines()]
    found, todo = [], [pid]
    while todo:
        below = [child for child, parent in parents if parent == todo[0]]
        todo = [*todo[1:], *below]
        found += below
    return found


def alive(pid: int) -> bool:
    """Whether the process exists and is no corpse."""
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)],
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    return bool(state.stdout.strip()) and not state.stdout.startswith("Z")
