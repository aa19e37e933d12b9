"""The command lines of an orch8 installation's own programs: web, workers, control worker, beat."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from orch8.dev.process import Command
from orch8.dev.supervisor import Program

LANES = "o8.interactive,o8.renewal,o8.bulk,o8.backfill"
CONTROL = "o8.control,o8.janitor"

# The order of stopping: nobody may send work to those that have stopped before.
BEAT_TIER, WORKER_TIER, WEB_TIER = 0, 1, 2
BEAT_GRACE, WORKER_GRACE, WEB_GRACE = 0.5, 3.2, 0.8  # seconds; with the servers' they make five

_WEB_THREADS, _WORKER_THREADS, _CONTROL_THREADS = 8, 4, 4


def web(host: str, port: int, env: Mapping[str, str]) -> Program:
    """The API on one process of eight threads, or as many as WEB_CONCURRENCY says."""
    argv = (
        *(sys.executable, "-m", "granian", "--interface", "wsgi"),
        *("--host", host, "--port", str(port)),
        *("--workers", env.get("WEB_CONCURRENCY") or "1", "--blocking-threads", str(_WEB_THREADS)),
        "api.wsgi:app",
    )
    return Program(Command("web", argv, env), WEB_TIER, WEB_GRACE, restart=True)


def worker(number: int, env: Mapping[str, str], *, restart: bool) -> Program:
    """Worker ``number`` (from 1): one Celery process that serves every lane."""
    argv = _celery_worker(f"w{number}", LANES, _WORKER_THREADS)
    return Program(Command(worker_name(number), argv, env), WORKER_TIER, WORKER_GRACE, restart)


def control(env: Mapping[str, str], *, restart: bool) -> Program:
    """The worker for ticks and doubts, apart so that a full lane cannot hold them up."""
    argv = _celery_worker("control", CONTROL, _CONTROL_THREADS)
    return Program(Command("control", argv, env), WORKER_TIER, WORKER_GRACE, restart)


def beat(folder: Path, env: Mapping[str, str]) -> Program:
    """The clock that sends ticks; ``folder`` keeps its schedule."""
    argv = (
        *(sys.executable, "-m", "celery", "-A", "workers.app", "beat"),
        *("--schedule", str(folder / "beat"), "--loglevel", "INFO"),
    )
    return Program(Command("beat", argv, env), BEAT_TIER, BEAT_GRACE, restart=True)


def worker_name(number: int) -> str:
    """The name of worker ``number`` among the programs."""
    return f"worker-{number}"


def installation(
    host: str, port: int, workers: int, data: Path, env: Mapping[str, str], *, restart: bool
) -> Sequence[Program]:
    """All programs, in the order of their start."""
    return (
        web(host, port, env),
        *(worker(number, env, restart=restart) for number in range(1, workers + 1)),
        control(env, restart=restart),
        beat(data, env),
    )


def _celery_worker(name: str, queues: str, threads: int) -> tuple[str, ...]:
    return (
        *(sys.executable, "-m", "celery", "-A", "workers.app", "worker"),
        *("-P", "threads", "-c", str(threads), "-Q", queues, "--hostname", f"{name}@%h"),
        *("-E", "--without-mingle", "--without-gossip", "--loglevel", "INFO"),
    )
