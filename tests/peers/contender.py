"""What the driver needs of an engine: start, submit, see what happened, stop. Peers as processes.

A ``Contender`` is one session of one engine; orch8 is one (``tests/peers/itself.py``), and every
peer is a ``Peer`` (a value) run by ``PeerSession``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from orch8.dev.redis import free_port
from tests.peers.bed import Bed
from tests.peers.companion import Companion
from tests.peers.environment import pinned, python_of
from tests.peers.programs.step import RECORD, STEPS
from tests.support.stack import ROOT, Client, example, until

Arrivals = Sequence[tuple[float, str]]  # when (monotonic seconds) a step of which workflow began

CONTEXT: Mapping[str, Any] = example("create_instance")["context"]
_READY_WITHIN = 60.0
_SETUP_WITHIN = 120.0


class Contender(Protocol):
    """One session of an engine."""

    def start(self) -> None:
        """The engine runs and waits for work."""

    def stop(self) -> None:
        """Nothing of the engine runs."""

    def processes(self) -> Sequence[int]:
        """All of its own processes, for the account of CPU time; descendants count too."""

    def workers(self) -> Sequence[int]:
        """Those that are stopped while workflows are submitted; empty if submitting is running."""

    def begin(self, kind: str) -> None:
        """Arrivals are counted from now on."""

    def submit(self, kind: str, ids: Sequence[str]) -> None:
        """The workflows exist."""

    def finished(self, kind: str, ids: Sequence[str]) -> bool:
        """Whether all that was submitted since ``begin`` is done, for all that the engine knows."""

    def arrivals(self) -> Arrivals:
        """When the steps began since ``begin``, ascending."""


class Records:
    """The file in which steps that run in an engine's own process leave their arrivals."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._from = 0
        path.touch()

    def begin(self) -> None:
        """Only later records count."""
        self._from = self.path.stat().st_size

    def count(self) -> int:
        """How many steps began."""
        return (self.path.stat().st_size - self._from) // RECORD

    def read(self) -> Arrivals:
        """The arrivals, ascending."""
        with self.path.open("rb") as file:
            file.seek(self._from)
            lines = file.read().splitlines()
        found = ((int(at) / 1e9, workflow.decode()) for at, workflow in map(bytes.split, lines))
        return sorted(found)


@dataclass(frozen=True, slots=True)
class Peer:
    """An engine to compare with. ``finished`` counts, in its database, workflows that are done."""

    name: str
    title: str
    distribution: str
    setting: str  # how it is run, for the table
    finished: str = ""
    lock: str = ""  # the name of its lock file, where it is not its own
    program: str = ""  # likewise, of its program
    processes: int = 2
    extra: Mapping[str, str] = field(default_factory=dict)
    server: bool = False  # whether its workers need a server of its own, and are told directly

    @property
    def version(self) -> str:
        """The version that is measured."""
        return pinned(self.lock or self.name, self.distribution)


class PeerSession:
    """A peer's processes: workers, and one that submits."""

    def __init__(self, peer: Peer, bed: Bed) -> None:
        self._peer, self._bed = peer, bed
        self._python = str(python_of(peer.lock or peer.name))
        self._database = f"peer_{peer.name}"
        self._folder = bed.folder / peer.name
        self._folder.mkdir(exist_ok=True)
        self._records = Records(self._folder / "records")
        self._workers: list[Companion] = []
        self._others: list[Companion] = []
        self._entrances: list[Companion] = []
        self._before = 0

    def start(self) -> None:
        """The engine runs and waits for work."""
        env = self._environment()
        if self._bed.create(self._database):
            self._play("setup", env).end(_SETUP_WITHIN)
        if self._peer.server:
            self._serve(env)
        self._workers = [self._play("work", env) for _ in range(self._peer.processes)]
        if self._peer.server:
            self._entrances = self._workers
        else:
            self._entrances = [self._play("enter", env)]
            self._others += self._entrances
        for companion in {*self._workers, *self._entrances}:
            companion.hear("ready", _READY_WITHIN)

    def stop(self) -> None:
        """Nothing of the engine runs."""
        for companion in (*self._workers, *reversed(self._others)):
            companion.stop()

    def processes(self) -> Sequence[int]:
        """All of its own processes."""
        return [companion.pid for companion in (*self._workers, *self._others)]

    def workers(self) -> Sequence[int]:
        """Those that are stopped while workflows are submitted."""
        return [] if self._peer.server else [companion.pid for companion in self._workers]

    def begin(self, kind: str) -> None:  # noqa: ARG002 - both kinds are recorded alike
        """Arrivals are counted from now on."""
        self._records.begin()
        self._before = self._count()

    def submit(self, kind: str, ids: Sequence[str]) -> None:
        """The workflows exist, shared out to the processes that take them."""
        for number, companion in enumerate(self._entrances):
            mine = ids[number :: len(self._entrances)]
            companion.tell(kind=kind, ids=list(mine), context=CONTEXT)
        for companion in self._entrances:
            companion.hear("submitted", _READY_WITHIN)

    def finished(self, kind: str, ids: Sequence[str]) -> bool:
        """Whether all steps began and, where the peer's database tells, all workflows are done."""
        if self._records.count() < len(ids) * STEPS[kind]:
            return False
        return not self._peer.finished or self._count() - self._before >= len(ids)

    def arrivals(self) -> Arrivals:
        """When the steps began."""
        return self._records.read()

    def _count(self) -> int:
        if not self._peer.finished:
            return 0
        ((count,),) = self._bed.ask(self._peer.finished, database=self._database)
        return int(count)

    def _play(self, role: str, env: Mapping[str, str]) -> Companion:
        program = f"tests.peers.programs.{self._peer.program or self._peer.name}"
        log = self._folder / f"{role}.log"
        return Companion((self._python, "-m", program, role), env, log)

    def _serve(self, env: dict[str, str]) -> None:
        """Prefect's server runs, and ``env`` names it."""
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        env["PREFECT_API_URL"] = f"{url}/api"
        words = (str(Path(self._python).with_name("prefect")), "server", "start")
        server = Companion((*words, "--port", str(port)), env, self._folder / "server.log")
        self._others.append(server)

        def answers() -> bool:
            try:
                return Client(url, timeout=1.0).send("GET", "/api/health").status == 200
            except OSError:
                return False

        until(answers, _READY_WITHIN, "the peer's server answers", poll=0.2)

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("LANG", "HOME", "TMPDIR") if name in os.environ}
        psql = self._bed.postgres.program("psql")
        path = [str(Path(self._python).parent), *([str(psql.parent)] if psql else []), os.defpath]
        database = self._bed.postgres.url_for("postgres", self._database)
        return {
            **kept,
            "PATH": os.pathsep.join(path),
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "PEERS_DATABASE": database,
            "PEERS_REDIS": self._bed.redis.url_for(5),
            "PEERS_HANDLER": self._bed.handler.url,
            "PEERS_RECORDS": str(self._records.path),
            **{
                name: _filled(value, database, self._folder)
                for name, value in self._peer.extra.items()
            },
        }


def _filled(value: str, database: str, folder: Path) -> str:
    asynchronous = database.replace("postgresql://", "postgresql+asyncpg://", 1)
    return value.replace("{database}", asynchronous).replace("{folder}", str(folder))
