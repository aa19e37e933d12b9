"""A Postgres data directory on disk: makes it with its roles, reads its state, ends orphans."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orch8.dev.binaries import Package
from orch8.dev.process import Account
from orch8.errors import ConfigurationError

# Postgres gets nothing of the caller's environment: PG* variables would redirect it.
ENVIRONMENT: Mapping[str, str] = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}

# Run by Postgres in single-user mode, one statement per line: no client library is needed here.
_ROLES = """\
CREATE ROLE orch8_owner LOGIN;
CREATE ROLE orch8 LOGIN;
GRANT pg_monitor TO orch8_owner;
CREATE DATABASE orch8 OWNER orch8_owner;
"""
_GRANTS = """\
REVOKE ALL ON DATABASE orch8 FROM PUBLIC;
GRANT CONNECT, TEMPORARY ON DATABASE orch8 TO orch8;
"""
_STATISTICS = "CREATE EXTENSION IF NOT EXISTS pg_stat_statements;\n"

_WITHIN = 60.0
_ORPHAN_WITHIN = 10.0


@dataclass(frozen=True, slots=True)
class Postmaster:
    """What postmaster.pid says of the server that runs, or ran, on a data directory."""

    pid: int
    ready: bool


def postmaster(data: Path) -> Postmaster | None:
    """The server that postmaster.pid names, None if there is none; it may be long dead.

    The eighth line is the state; Postgres writes ``ready`` once it accepts connections.
    """
    try:
        lines = (data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        return Postmaster(int(lines[0]), len(lines) > 7 and lines[7].strip() == "ready")  # noqa: PLR2004
    except (OSError, ValueError, IndexError):
        return None


def create(programs: Package, data: Path, account: Account | None, *, durable: bool) -> None:
    """The directory holds a new database ``orch8`` with its roles, complete or not at all.

    Locale C, encoding UTF8, page checksums on.
    """
    work = data.with_name(f"{data.name}.new")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(mode=0o700)
    if account is not None:
        os.chown(work, account.uid, account.gid)
    initdb = (
        *(str(programs.program("initdb")), "-D", str(work), "-U", "postgres", "--auth=trust"),
        *("--encoding=UTF8", "--locale=C", "--no-instructions"),
        *(() if durable else ("--no-sync",)),
    )
    _run(initdb, "", account)
    single = (str(programs.program("postgres")), "--single", "-D", str(work), "-c", "fsync=off")
    _run((*single, "postgres"), _ROLES, account)
    statistics = _STATISTICS if programs.ships("pg_stat_statements.control") else ""
    _run((*single, "orch8"), _GRANTS + statistics, account)
    if durable:
        os.sync()  # the roles were written without fsync
    work.rename(data)


def check_version(programs: Package, data: Path) -> None:
    """The directory was made by this major version; else ConfigurationError."""
    try:
        made_by = (data / "PG_VERSION").read_text(encoding="utf-8").strip()
    except OSError:
        raise ConfigurationError(
            f"{data} is not a Postgres data directory; move it away, or choose another with --data"
        ) from None
    major = programs.version.split(".")[0]
    if made_by != major:
        raise ConfigurationError(
            f"{data} was made by Postgres {made_by}, the installed one is {major}; "
            "move the directory away, or choose another with --data"
        )


def end_orphan(data: Path) -> None:
    """No server runs on the directory, and no stale pid file stops the next one.

    The caller holds the lock of the data folder: a server that still runs has lost its parent.
    """
    left = postmaster(data)
    if left is None:
        return
    deadline = time.monotonic() + _ORPHAN_WITHIN
    asked = signal.SIGINT
    while _serves(left.pid, data):
        if time.monotonic() > deadline:
            raise ConfigurationError(
                f"an old Postgres still runs on {data}; stop it: kill {left.pid}"
            )
        with contextlib.suppress(ProcessLookupError):
            os.kill(left.pid, asked)
        if time.monotonic() > deadline - _ORPHAN_WITHIN / 2:
            asked = signal.SIGQUIT
        time.sleep(0.1)
    # Its number may belong to a stranger by now, which Postgres would take for itself.
    (data / "postmaster.pid").unlink(missing_ok=True)


def _serves(pid: int, data: Path) -> bool:
    """Whether the process is a Postgres server on this directory: no stranger, no corpse."""
    process = Path(f"/proc/{pid}/cmdline")
    if Path("/proc/self/cmdline").exists():
        try:
            line = process.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            return False
    else:
        ps = subprocess.run(
            ["ps", "-ww", "-o", "command=", "-p", str(pid)],  # noqa: S607 - macOS: wherever ps is
            capture_output=True,
            text=True,
            check=False,
            timeout=_ORPHAN_WITHIN,
        )
        line = ps.stdout
    return "postgres" in line and str(data) in line


def _run(argv: tuple[str, ...], script: str, account: Account | None) -> None:
    """The program has ended well. Single-user Postgres exits with 0 whatever its statements did."""
    name = Path(argv[0]).name
    try:
        done = subprocess.run(
            argv,
            input=script,
            capture_output=True,
            text=True,
            env=dict(ENVIRONMENT),
            cwd="/",
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
            timeout=_WITHIN,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigurationError(f"{name} could not be run: {error}") from error
    problems = [x for x in done.stderr.splitlines() if "ERROR:" in x or "FATAL:" in x]
    if done.returncode != 0 or problems:
        said = (problems or done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise ConfigurationError(f"{name} failed with code {done.returncode}; it said: {said}")
