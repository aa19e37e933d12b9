"""Supervised processes restart, stop in order, and never outlive their parent."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orch8.dev import guard
from orch8.dev.logtail import LogTail
from orch8.dev.process import LOG_LIMIT, Child, Command
from orch8.dev.supervisor import Program, Supervisor
from orch8.errors import ConfigurationError

SLEEP = "import time; print('up', flush=True); time.sleep(600)"
STUBBORN = (
    "import signal, subprocess, sys, time\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    "print(child.pid, flush=True); time.sleep(600)"
)


def _program(name: str, script: str, *, tier: int = 0, restart: bool = False) -> Program:
    command = Command(name, (sys.executable, "-c", script))
    return Program(command, tier, grace=0.3, restart=restart)


def _gone(pid: int) -> bool:
    with contextlib.suppress(OSError):
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
        return state.rpartition(")")[2].split()[0] == "Z"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def _until(truth: Callable[[], bool], within: float = 10.0) -> None:
    deadline = time.monotonic() + within
    while not truth():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@pytest.fixture
def told() -> list[str]:
    """The lines that the supervisor told."""
    return []


@pytest.fixture
def supervisor(tmp_path: Path, told: list[str]) -> Iterator[Supervisor]:
    """A supervisor whose programs are gone after the test."""
    supervisor = Supervisor(tmp_path, told.append)
    yield supervisor
    supervisor.stop_all()


def test_crashed_program_is_started_again(supervisor: Supervisor, told: list[str]) -> None:
    """A worker killed with 9 comes back as another process, and the operator is told."""
    supervisor.start(_program("worker", SLEEP, restart=True))
    pid = supervisor.kill("worker")
    _until(lambda: supervisor.running()[0].restarts == 1)
    assert supervisor.running()[0].pid not in {None, pid}
    assert told[0] == "worker was ended by SIGKILL; starting it again in 0.5 s"


def test_crashed_program_stays_dead_without_restart(
    supervisor: Supervisor, told: list[str]
) -> None:
    """Restarting is a choice: left out, the end is told once and its code kept."""
    supervisor.start(_program("once", "raise SystemExit(3)"))
    _until(lambda: supervisor.running()[0].exit_code is not None)
    state = supervisor.running()[0]
    assert (state.pid, state.exit_code, state.restarts) == (None, 3, 0)
    assert len(told) == 1


def test_stopped_program_is_not_started_again(supervisor: Supervisor) -> None:
    """A program stopped on purpose stays down until it is started again."""
    supervisor.start(_program("worker", SLEEP, restart=True))
    supervisor.stop("worker")
    assert supervisor.running()[0].pid is None
    supervisor.start(_program("worker", SLEEP, restart=True))
    assert supervisor.running()[0].pid is not None


def test_program_that_runs_cannot_be_started_twice(supervisor: Supervisor) -> None:
    """One name is one process."""
    supervisor.start(_program("worker", SLEEP))
    with pytest.raises(ValueError, match="worker runs already"):
        supervisor.start(_program("worker", SLEEP))
    with pytest.raises(LookupError, match="nobody"):
        supervisor.kill("nobody")


def test_programs_stop_tier_by_tier(supervisor: Supervisor, tmp_path: Path) -> None:
    """Beat ends before the workers, the workers before the web, whatever the order of start."""
    order = tmp_path / "order"
    script = (
        "import signal, sys\n"
        "def end(*_):\n"
        f"    with open({str(order)!r}, 'a') as f: f.write(sys.argv[1] + ' ')\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end); print('up', flush=True); signal.pause()"
    )
    children = []
    for name, tier in (("web", 2), ("worker", 1), ("beat", 0)):
        command = Command(name, (sys.executable, "-c", script, name))
        children.append(supervisor.start(Program(command, tier)))
    _until(lambda: all("up" in child.output() for child in children))
    supervisor.stop_all()
    assert order.read_text(encoding="utf-8").split() == ["beat", "worker", "web"]


def test_stubborn_program_is_killed_with_its_children(
    supervisor: Supervisor,
) -> None:
    """A program that ignores SIGTERM is killed after its grace, and its children with it."""
    child = supervisor.start(_program("stubborn", STUBBORN))
    _until(lambda: child.output().strip().isdigit())
    grandchild = int(child.output())
    began = time.monotonic()
    supervisor.stop_all(within=5.0)
    assert time.monotonic() - began < 2.0
    _until(lambda: _gone(grandchild))


def test_children_do_not_outlive_a_parent_killed_with_9(tmp_path: Path) -> None:
    """A kill -9 of the supervising process ends its programs and their children too."""
    script = (
        "import sys, time; from pathlib import Path\n"
        "from orch8.dev.process import Child, Command\n"
        f"child = Child(Command('stubborn', (sys.executable, '-c', {STUBBORN!r})), "
        "Path(sys.argv[1]) / 'log')\n"
        "child.start()\n"
        "child.wait_ready(lambda: child.output().strip().isdigit(), 10)\n"
        "print(child.pid, child.output(), flush=True); time.sleep(600)"
    )
    argv = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        parent.kill()
    _until(lambda: all(map(_gone, pids)))


def test_killed_watchdog_is_replaced(tmp_path: Path) -> None:
    """A new child is guarded even if somebody has killed the watchdog before."""
    script = (
        "import os, signal, sys, time; from pathlib import Path\n"
        "from orch8.dev.lifeline import LIFELINE\n"
        "from orch8.dev.process import Child, Command\n"
        "def start(name):\n"
        "    child = Child(Command(name, ('sleep', '600')), Path(sys.argv[1]) / name)\n"
        "    child.start(); return child.pid\n"
        "first = start('first')\n"
        "watchdog = LIFELINE._watchdog; watchdog.kill(); watchdog.wait()\n"
        "print(first, start('second'), flush=True); time.sleep(600)"
    )
    argv = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        parent.kill()
    _until(lambda: all(map(_gone, pids)))


def test_watchdog_forgets_children_that_are_gone() -> None:
    """A number is only signalled while its child has not been reaped."""
    lines = [b"+ 10 15 0\n", b"+ 11 2 1\n", b"- 10\n", b"torn line"]
    assert guard.listed(lines) == {11: (2, 1)}


def test_child_that_ends_too_soon_is_told_with_its_last_words(tmp_path: Path) -> None:
    """A program that cannot start says why in one line."""
    child = Child(
        Command("web", (sys.executable, "-c", "raise SystemExit('no such app')")), tmp_path / "log"
    )
    child.start()
    with pytest.raises(ConfigurationError, match=r"web ended with code 1.*no such app"):
        child.wait_ready(lambda: False, 10)


def test_child_that_is_never_ready_is_given_up(tmp_path: Path) -> None:
    """Waiting has an end."""
    child = Child(Command("web", (sys.executable, "-c", SLEEP)), tmp_path / "log")
    child.start()
    with pytest.raises(ConfigurationError, match=r"not ready within 0\.1 s"):
        child.wait_ready(lambda: False, 0.1)
    child.stop(2.0)
    assert child.poll() == -signal.SIGTERM


def test_missing_program_is_a_clear_error(tmp_path: Path) -> None:
    """A command that does not exist is named."""
    child = Child(Command("web", (str(tmp_path / "nothing"),)), tmp_path / "log")
    with pytest.raises(ConfigurationError, match="web cannot be started"):
        child.start()


def test_long_log_is_set_aside_at_the_next_start(tmp_path: Path) -> None:
    """Logs of a stack that runs for months stay bounded."""
    log = tmp_path / "web.log"
    with log.open("wb") as file:
        file.truncate(LOG_LIMIT + 1)
    child = Child(Command("web", (sys.executable, "-c", "print('fresh')")), log)
    child.start()
    assert child.wait_end(10)
    assert log.read_text(encoding="utf-8") == "fresh\n"
    assert (tmp_path / "web.log.1").stat().st_size > LOG_LIMIT


def test_log_tail_shows_whole_new_lines_by_name(tmp_path: Path) -> None:
    """What was there before is not shown; a half-written line is shown when it is whole."""
    shown: list[tuple[str, str]] = []
    log = tmp_path / "web.log"
    log.write_text("old\n", encoding="utf-8")
    tail = LogTail(tmp_path, lambda name, line: shown.append((name, line)))
    tail.start()
    with log.open("a", encoding="utf-8") as file:
        file.write("one\ntw")
        file.flush()
        _until(lambda: shown == [("web", "one")])
        file.write("o\n")
    tail.stop()
    assert shown == [("web", "one"), ("web", "two")]
