"""A stack starts real servers and its programs, hands them one environment, and stops as one."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from orch8.dev.address import Address
from orch8.dev.process import Command
from orch8.dev.stack import Interrupted, Stack, StackOptions
from orch8.dev.supervisor import Program
from orch8.errors import ConfigurationError

WEB = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health/ready" else 404)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
WORKER = "import time; time.sleep(600)"
# Servers that are never reached: what is tested here is what surrounds them.
ELSEWHERE = {
    "PATH": os.environ["PATH"],
    "ORCH8_DATABASE_URL": "postgresql://app@db.invalid/orch8",
    "ORCH8_DATABASE_OWNER_URL": "postgresql://owner@db.invalid/orch8",
    "ORCH8_BROKER_URL": "amqp://broker.invalid",
    "ORCH8_REDIS_URL": "redis://redis.invalid/1",
}


def _pretend(stack: Stack) -> Sequence[Program]:
    """A web server and a worker that do nothing but run."""
    web = (sys.executable, "-c", WEB, str(stack.address.port))
    return (
        Program(Command("web", web, stack.env), tier=2, grace=1.0),
        Program(
            Command("worker-1", (sys.executable, "-c", WORKER), stack.env),
            tier=1,
            grace=1.0,
            restart=stack.options.restart_workers,
        ),
    )


@pytest.fixture
def migrated() -> list[tuple[str, str]]:
    """The addresses that were migrated."""
    return []


@pytest.fixture
def make(tmp_path: Path, migrated: list[tuple[str, str]]) -> Iterator[Callable[..., Stack]]:
    """Make a stack of pretended programs; it is stopped after the test."""
    made: list[Stack] = []

    def make(environ: dict[str, str] | None = None, **options: object) -> Stack:
        given = {"data": tmp_path / "stack", "port": 0, "durable": False} | options
        stack = Stack(
            StackOptions(**given),  # type: ignore[arg-type]
            ELSEWHERE if environ is None else environ,
            migrate=lambda owner, app: migrated.append((owner, app)),
            programs=_pretend,
        )
        made.append(stack)
        return stack

    yield make
    for stack in made:
        stack.stop()
        if stack.postgres is not None:
            stack.postgres.erase()


def test_stack_starts_servers_migrates_and_is_ready(
    make: Callable[..., Stack], migrated: list[tuple[str, str]]
) -> None:
    """Without addresses both servers are embedded; the owner migrates before any program starts."""
    stack = make({"PATH": os.environ["PATH"]}).start()
    assert stack.address.readiness() == ""
    assert migrated == [(stack.urls.owner, stack.urls.database)]
    assert [p.name for p in stack.processes if p.pid] == ["postgres", "redis", "web", "worker-1"]
    began = time.monotonic()
    stack.stop()
    assert time.monotonic() - began < 5.0
    assert not [p for p in stack.processes if p.pid]


def test_stack_uses_the_servers_it_is_given(
    make: Callable[..., Stack], migrated: list[tuple[str, str]]
) -> None:
    """Addresses in the environment replace the embedded servers."""
    stack = make().start()
    assert (stack.postgres, stack.redis) == (None, None)
    assert stack.urls.broker == ELSEWHERE["ORCH8_BROKER_URL"]
    assert migrated == [(ELSEWHERE["ORCH8_DATABASE_OWNER_URL"], ELSEWHERE["ORCH8_DATABASE_URL"])]


def test_stack_starts_redis_for_the_part_that_is_not_given(make: Callable[..., Stack]) -> None:
    """A broker elsewhere still leaves the limiter to the embedded server."""
    stack = make({k: v for k, v in ELSEWHERE.items() if k != "ORCH8_REDIS_URL"}).start()
    assert stack.redis is not None
    assert stack.urls.redis == stack.redis.redis_url
    assert stack.urls.broker == ELSEWHERE["ORCH8_BROKER_URL"]


def test_stack_hands_its_options_to_the_programs(make: Callable[..., Stack]) -> None:
    """One environment tells every program what the command line said."""
    options = {"handler_url": "http://127.0.0.1:9/h", "tick": 0.25, "width": 7}
    stack = make(**options).start()
    assert {
        "ORCH8_DEV": "1",
        "ORCH8_INSECURE": "1",
        "ORCH8_HANDLER_URL": "http://127.0.0.1:9/h",
        "ORCH8_TICK_INTERVAL_MS": "250",
        "ORCH8_WORKER_WIDTH": "7",
        "ORCH8_HTTP_ADDR": stack.urls.http.removeprefix("http://"),
    }.items() <= stack.env.items()


def test_stack_with_an_api_key_is_not_insecure(make: Callable[..., Stack]) -> None:
    """A key in the environment is asked for, on loopback too."""
    assert "ORCH8_INSECURE" not in make({**ELSEWHERE, "ORCH8_API_KEY": "k"}).start().env


def test_stack_without_an_encryption_key_keeps_data_in_the_clear(
    make: Callable[..., Stack],
) -> None:
    """Its programs are told that this is meant, or they would not start."""
    assert make().start().env["ORCH8_INSECURE_STORAGE"] == "1"


def test_stack_with_an_encryption_key_seals(make: Callable[..., Stack]) -> None:
    """Nothing is said about storage in the clear."""
    stack = make({**ELSEWHERE, "ORCH8_ENCRYPTION_KEY": "b2" * 32}).start()
    assert "ORCH8_INSECURE_STORAGE" not in stack.env


def test_key_secret_is_made_once_and_kept_private(
    make: Callable[..., Stack], tmp_path: Path
) -> None:
    """Idempotency keys stay the same over restarts; nobody else can read their secret."""
    stack = make().start()
    secret = stack.env["ORCH8_KEY_SECRET"]
    stack.stop()
    assert stack.start().env["ORCH8_KEY_SECRET"] == secret
    file = tmp_path / "stack" / "secrets"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    stack.stop()
    file.write_text("", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="has no ORCH8_KEY_SECRET; restore the file"):
        stack.start()


def test_second_stack_on_a_data_folder_is_refused(make: Callable[..., Stack]) -> None:
    """The error names the process that has the folder, and the way out."""
    first = make().start()
    with pytest.raises(ConfigurationError, match=rf"process {os.getpid()}.*--data"):
        make().start()
    assert first.address.readiness() == ""


def test_port_in_use_is_refused_before_anything_starts(make: Callable[..., Stack]) -> None:
    """The error names the port and the way out."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        stack = make(port=port)
        with pytest.raises(
            ConfigurationError, match=rf"port {port} on 127.0.0.1 is in use.*--port"
        ):
            stack.start()
    assert stack.processes == ()


def test_stack_that_others_can_reach_needs_a_key(make: Callable[..., Stack]) -> None:
    """Only loopback is open without a key, unless --insecure is said."""
    with pytest.raises(ConfigurationError, match="ORCH8_API_KEY, or say --insecure"):
        make({**ELSEWHERE, "ORCH8_HTTP_ADDR": "0.0.0.0:0"}).start()


def test_address_that_is_none_is_refused() -> None:
    """A wrong ORCH8_HTTP_ADDR is named."""
    for wrong in ("8080", "host:", ":8080", "host:99999", "host:http"):
        with pytest.raises(ConfigurationError, match="ORCH8_HTTP_ADDR must be host:port"):
            Address.parse(wrong)
    assert Address.parse("[::1]:8080").url == "http://[::1]:8080"


def test_killed_worker_comes_back(make: Callable[..., Stack]) -> None:
    """A worker killed with 9 is replaced; the rest of the stack goes on."""
    stack = make().start()
    pid = stack.kill_worker(1, signal.SIGKILL)
    _until(lambda: stack.processes[-1].restarts == 1)
    assert stack.processes[-1].pid not in {None, pid}


def test_killed_worker_stays_dead_if_told(make: Callable[..., Stack]) -> None:
    """Without restarts a test can look at the world before the next worker comes."""
    stack = make(restart_workers=False).start()
    stack.kill_worker(1)
    _until(lambda: stack.processes[-1].exit_code == -signal.SIGKILL)
    stack.stop_worker(1)
    assert stack.processes[-1].pid is None


def test_program_that_ends_at_once_stops_the_start(make: Callable[..., Stack]) -> None:
    """A program that cannot start is told with its last words, and nothing is left running."""
    stack = make()
    broken = Command("web", (sys.executable, "-c", "raise SystemExit('no module api')"))
    stack._programs = lambda _stack: (Program(broken, tier=0, restart=True),)
    with pytest.raises(ConfigurationError, match=r"web ended with code 1.*no module api"):
        stack.start()
    assert not [p for p in stack.processes if p.pid]


def test_start_can_be_called_off(make: Callable[..., Stack]) -> None:
    """Ctrl-C during the start stops what has been started."""
    stack = make()
    stack.call_off()
    with pytest.raises(Interrupted):
        stack.start()
    assert not [p for p in stack.processes if p.pid]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--data", "/proc/nothing"], "/proc/nothing"),
        (["--port", "{taken}"], "is in use; stop the other program"),
    ],
)
def test_dev_command_tells_a_wrong_environment_in_one_line(
    args: list[str], said: str, tmp_path: Path
) -> None:
    """The command ends with code 2 and one line on standard error."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        words = [word.replace("{taken}", port) for word in args]
        done = subprocess.run(
            [sys.executable, "-m", "orch8.cli", "dev", "--data", str(tmp_path / "d"), *words],
            env={**os.environ, **ELSEWHERE},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def _until(truth: Callable[[], bool], within: float = 10.0) -> None:
    deadline = time.monotonic() + within
    while not truth():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
