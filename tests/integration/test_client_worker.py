"""orch8.client's pull worker against the real API: steps done, leases kept and lost, the end."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from orch8.client import Client, Declined, Refused, Retries, Task, TryAgain, Worker
from orch8.errors import ConfigurationError, LeaseLost, Unauthorized
from tests.support.house import House, until
from tests.support.live import Road, Trouble, listening, road

ROOT = Path(__file__).parents[2]
PAY = {"type": "step", "id": "pay", "handler": "charge", "params": {"cents": "{{data.cents}}"}}
SEQUENCE = {"id": "billing", "blocks": [PAY]}
QUICKLY = Retries(most=3, first_pause=0.01, patience=5.0)


@pytest.fixture
def house(houses: Callable[..., House]) -> House:
    """A house without handlers of its own: steps wait for pull workers."""
    return houses(handler_url="")


@pytest.fixture
def bad_road(house: House) -> Iterator[Road]:
    """A road to the house's API."""
    with listening(house) as api, road(api) as found:
        yield found


@pytest.fixture
def client(bad_road: Road) -> Iterator[Client]:
    """A client, with the sequence published."""
    with Client(bad_road.url, timeout=2.0, retries=QUICKLY) as found:
        found.sequences.publish(SEQUENCE)
        yield found


def worker(client: Client, handler: Callable[[Task], Any], **options: Any) -> Worker:
    """A quick worker with this handler."""
    given = {"poll_every": 0.02, "heartbeat_every": 0.05, "grace": 5.0, "worker_id": "w1"}
    return Worker(client, {"charge": handler}, **(given | options))


@contextmanager
def working(client: Client, handler: Callable[[Task], Any], **options: Any) -> Iterator[Worker]:
    """A worker that works in a thread; it has stopped when the block ends."""
    found = worker(client, handler, **options)
    thread = threading.Thread(target=found.run)
    thread.start()
    try:
        yield found
    finally:
        found.stop()
        thread.join(20)
        assert not thread.is_alive()


def begin(house: House, client: Client, cents: int = 5) -> str:
    """An instance whose step waits for a worker."""
    found = client.instances.start("billing", {"cents": cents})
    house.work()
    return found.id


def silence(house: House) -> None:
    """Nobody extended a lease for too long: what was held is offered again."""
    house.sql("UPDATE steps SET lease_until = '-infinity' WHERE pull AND lease_until IS NOT NULL")
    house.tick()


def test_worker_does_steps_and_returns_are_outputs(house: House, client: Client) -> None:
    """A handler gets parameters, data, the attempt's key and what time it has."""
    seen: list[Task] = []

    def charge(task: Task) -> Any:
        seen.append(task)
        return {"charged": task.params["cents"], "key": task.idempotency_key}

    ids = [begin(house, client, cents) for cents in range(5)]
    with working(client, charge, concurrency=2, version="1.2"):
        ended = [client.instances.wait(each, within=10) for each in ids]
    assert {each.state for each in ended} == {"completed"}
    outputs = [client.instances.outputs(each)[0].output for each in ids]
    assert [each["charged"] for each in outputs] == list(range(5))
    assert len({each["key"] for each in outputs}) == 5
    assert (seen[0].attempt, seen[0].checkpoint, seen[0].remaining) == (0, None, None)
    assert {task.data["cents"] for task in seen} == set(range(5))
    (known,) = client.ask("GET", "/workers")
    assert (known["worker_id"], known["version"]) == ("w1", "1.2")


@pytest.mark.parametrize(
    ("problem", "state", "outcome"),
    [
        (Declined({"code": "no_funds"}), "completed", "declined"),
        (Refused("no such card", code="no_card"), "failed", None),
        (TryAgain("the bank sleeps"), "failed", None),
    ],
)
def test_what_a_handler_raises_says_what_happened(
    house: House, client: Client, problem: Exception, state: str, outcome: str | None
) -> None:
    """A decline completes the step, a refusal fails it; without a retry policy so does the rest."""

    def charge(_: Task) -> Any:
        raise problem

    instance_id = begin(house, client)
    with working(client, charge):
        assert client.instances.wait(instance_id, within=10).state == state
    (output,) = client.instances.outputs(instance_id)
    if outcome is not None:
        assert output.outcome == outcome
    else:
        assert output.error is not None
        assert output.error["message"] == str(problem)


def test_exception_says_nothing_of_the_effect(house: House, client: Client) -> None:
    """The step is in doubt, is done again with the same key, and may tell how it went."""
    keys: list[str] = []

    def charge(task: Task) -> Any:
        keys.append(task.idempotency_key)
        if len(keys) == 1:
            raise TimeoutError("read timed out")
        return {"charged": True}

    instance_id = begin(house, client)
    with working(client, charge):
        until(lambda: keys)
        until(lambda: house.work() or len(keys) == 2)
        assert client.instances.wait(instance_id, within=10).state == "completed"
    assert keys[0] == keys[1]


def test_heartbeats_extend_the_lease(house: House, client: Client) -> None:
    """For as long as a handler works, without its doing."""
    begun, go_on = threading.Event(), threading.Event()

    def charge(_: Task) -> Any:
        begun.set()
        go_on.wait(20)

    instance_id = begin(house, client)
    with working(client, charge, heartbeat_every=0.02):
        assert begun.wait(10)
        lease = "SELECT lease_until AS at FROM steps WHERE pull"
        before = house.sql(lease)[0].at
        until(lambda: house.sql(lease)[0].at > before)
        go_on.set()
        assert client.instances.wait(instance_id, within=10).state == "completed"


def test_checkpoint_is_for_whoever_takes_the_step_over(house: House, client: Client) -> None:
    """What the last heartbeat of a silent worker kept is given to the next."""
    noted, go_on = threading.Event(), threading.Event()
    found: list[Any] = []

    def charge(task: Task) -> Any:
        found.append(task.checkpoint)
        if len(found) == 1:
            task.heartbeat({"page": 1})
            task.heartbeat({"page": 2})
            noted.set()
            go_on.wait(20)

    instance_id = begin(house, client)
    with working(client, charge, heartbeat_every=60.0):
        assert noted.wait(10)
        silence(house)
        assert client.instances.wait(instance_id, within=10).state == "completed"
        go_on.set()
    assert found == [None, {"page": 2}]


def test_lost_checkpoint_answer_does_not_block_the_next(
    house: House, client: Client, bad_road: Road
) -> None:
    """The number that the API expects is asked for when it was counted up unseen."""
    kept: list[Any] = []

    def charge(task: Task) -> Any:
        bad_road.troubles.append(Trouble.LOSE_ANSWER)
        task.heartbeat({"page": 1})
        task.heartbeat({"page": 2})
        kept.append(house.sql("SELECT progress FROM steps WHERE pull")[0].progress["checkpoint"])
        return None

    instance_id = begin(house, client)
    with working(client, charge, heartbeat_every=60.0):
        assert client.instances.wait(instance_id, within=10).state == "completed"
    assert kept == [{"page": 2}]


def test_lost_lease_is_seen_and_its_end_changes_nothing(
    house: House, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """Another has the step: the heartbeat says so, the late report is evidence, and that is all."""
    caplog.set_level(logging.WARNING, "orch8.client")
    begun, lost, second = threading.Event(), threading.Event(), threading.Event()
    tasks: list[Task] = []

    def charge(task: Task) -> Any:
        tasks.append(task)
        if len(tasks) == 2:
            second.wait(10)
            return {"by": "second"}
        begun.set()
        lost.wait(10)
        with pytest.raises(LeaseLost):
            task.heartbeat()
        return {"by": "first"}

    instance_id = begin(house, client)
    with working(client, charge, heartbeat_every=60.0):
        assert begun.wait(10)
        silence(house)
        until(lambda: len(tasks) == 2)
        lost.set()
        until(lambda: "came too late" in caplog.text)
        assert tasks[0].lost
        assert house.state(house.sql("SELECT id FROM instances")[0].id) == "waiting"
        second.set()
        assert client.instances.wait(instance_id, within=10).state == "completed"
    assert client.instances.outputs(instance_id)[0].output == {"by": "second"}
    evidence = house.evidence(house.sql("SELECT id FROM instances")[0].id)
    assert [e.body["output"] for e in evidence if e.kind == "stale_worker"] == [{"by": "first"}]


@pytest.mark.parametrize(
    "trouble", [Trouble.LOSE_REQUEST, Trouble.LOSE_ANSWER, Trouble.BUSY, Trouble.BROKEN_PAGE]
)
def test_lost_report_is_made_again(
    house: House, client: Client, bad_road: Road, trouble: Trouble
) -> None:
    """A step that was done is told, however bad the road; it is done once."""
    done: list[str] = []

    def charge(task: Task) -> Any:
        done.append(task.idempotency_key)
        bad_road.troubles.append(trouble)
        return {"ok": True}

    instance_id = begin(house, client)
    with working(client, charge, heartbeat_every=60.0, concurrency=1):
        assert client.instances.wait(instance_id, within=10).state == "completed"
    assert len(done) == 1


def test_worker_waits_for_an_orch8_that_is_away(
    house: House, client: Client, bad_road: Road, caplog: pytest.LogCaptureFixture
) -> None:
    """It says so, and goes on when there is one again."""
    instance_id = begin(house, client)
    bad_road.troubles[:] = [Trouble.LOSE_REQUEST] * 6
    with working(client, lambda _: "done"):
        until(lambda: len(bad_road.troubles) < 3)
        assert client.instances.wait(instance_id, within=15).state == "completed"
    assert "no steps can be asked for" in caplog.text


def test_stopping_waits_for_steps_under_way(house: House, client: Client) -> None:
    """No further step is begun; the one under way ends, and is told."""
    begun, go_on = threading.Event(), threading.Event()

    def charge(_: Task) -> Any:
        begun.set()
        assert go_on.wait(10)
        return "done"

    first, second = begin(house, client), begin(house, client)
    found = worker(client, charge, concurrency=1)
    thread = threading.Thread(target=found.run)
    thread.start()
    assert begun.wait(10)
    found.stop()
    go_on.set()
    thread.join(10)
    assert not thread.is_alive()
    states = sorted(client.instances.get(each).state for each in (first, second))
    assert states == ["completed", "waiting"]


def test_step_that_outlasts_the_grace_is_left(
    house: House, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker ends and names it; orch8 takes it back when its lease is over."""
    begun, go_on = threading.Event(), threading.Event()

    def charge(_: Task) -> Any:
        begun.set()
        go_on.wait(20)

    begin(house, client)
    with working(client, charge, grace=0.05):
        assert begun.wait(10)
    assert "left under way" in caplog.text
    go_on.set()


def test_worker_that_may_not_poll_says_so(house: House) -> None:
    """A wrong key is no weather: run raises."""
    with (
        listening(house, insecure=False, api_key="k" * 40) as url,
        Client(url, api_key="wrong", tenant="acme") as client,
        pytest.raises(Unauthorized),
    ):
        worker(client, lambda _: None).run()


def test_worker_without_handlers_is_refused() -> None:
    """It would wait for ever for nothing."""
    with pytest.raises(ConfigurationError, match="no handler"):
        Worker(Client("http://127.0.0.1:1")).run()
    with pytest.raises(ConfigurationError, match="concurrency"):
        Worker(Client("http://127.0.0.1:1"), concurrency=0)


def test_example_of_the_documentation_runs(house: House, bad_road: Road, tmp_path: Path) -> None:
    """The program in client.md does what it says, to the end."""
    document = (ROOT / "deploy" / "docs" / "client.md").read_text("utf-8")
    listing = document.partition("```python\n")[2].partition("```")[0]
    program = tmp_path / "program.py"
    program.write_text(listing.replace("http://127.0.0.1:8080", bad_road.url))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [sys.executable, str(program)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=env) as process:
        try:
            until(lambda: house.work() or process.poll() is not None, within=30)
            assert process.stdout is not None
            ended, output = process.stdout.read().splitlines()
        finally:
            process.kill()
    assert (process.returncode, ended) == (0, "completed renewed")
    assert output.startswith("charge_card {'status': 'succeeded'")


PROGRAM = """
import logging, sys, time
from orch8.client import Client, Worker

logging.basicConfig(level=logging.INFO)
worker = Worker(Client(sys.argv[1]), poll_every=0.05, concurrency=2)

@worker.handler("charge")
def charge(task):
    print("begun", flush=True)
    time.sleep(0.5)
    return {"charged": task.params["cents"]}

worker.run()
print("ended", flush=True)
"""


def test_sigterm_ends_a_worker_process_after_its_steps(
    house: House, client: Client, bad_road: Road, tmp_path: Path
) -> None:
    """The step under way completes, and the process ends by itself with code 0."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    instance_id = begin(house, client)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [sys.executable, str(program), bad_road.url]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=env) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
            assert process.stdout.read() == "ended\n"
        finally:
            process.kill()
    assert client.instances.get(instance_id).state == "completed"
