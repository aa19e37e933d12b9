"""The ceiling of the machine: durable one-row transitions that pgbench gets from the same Postgres.

One statement updates one row and inserts two, as a step's settlement does for a single step; eight
clients, each committing on its own. What a group commit may save is not in it.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
from pathlib import Path

import psycopg2

from orch8.dev.postgres import ADMIN, EmbeddedPostgres

CLIENTS = 8
_DATABASE = "ceiling"
_ROWS = 20_000
_TABLES = f"""
CREATE TABLE instance (id integer PRIMARY KEY, state text NOT NULL, snapshot jsonb NOT NULL,
    updated_at timestamptz NOT NULL) WITH (fillfactor = 80);
CREATE TABLE output (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    instance_id integer NOT NULL, node_key text NOT NULL, body jsonb NOT NULL,
    at timestamptz NOT NULL DEFAULT now());
CREATE TABLE audit (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    instance_id integer NOT NULL, actor text NOT NULL, action text NOT NULL,
    outcome text NOT NULL, at timestamptz NOT NULL DEFAULT now());
INSERT INTO instance SELECT n, 'running', '{{}}', now() FROM generate_series(1, {_ROWS}) n;
ANALYZE instance;
"""
_SNAPSHOT = '{"f":{"root":{"i":1,"at":"s2"},"s2":{"round":1,"state":"running"}},"v":1}'
_SCRIPT = f"""
\\set id random(1, {_ROWS})
WITH moved AS (UPDATE instance SET state = 'running', snapshot = '{_SNAPSHOT}', updated_at = now()
    WHERE id = :id RETURNING id),
kept AS (INSERT INTO output (instance_id, node_key, body)
    SELECT id, 's1', '{{"status":"succeeded"}}' FROM moved)
INSERT INTO audit (instance_id, actor, action, outcome)
    SELECT id, 'engine', 'step.completed', 'success' FROM moved;
"""


def prepare(server: EmbeddedPostgres) -> None:
    """The tables of the measurement exist, in a database of their own."""
    with contextlib.closing(psycopg2.connect(server.admin_url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {_DATABASE}")
    with (
        contextlib.closing(psycopg2.connect(server.url_for(ADMIN, _DATABASE))) as connection,
        connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(_TABLES)


def measure(server: EmbeddedPostgres, folder: Path, seconds: int) -> float:
    """Transitions per second over some seconds. RuntimeError if pgbench is missing or fails."""
    program = server.program("pgbench")
    if program is None:
        raise RuntimeError("the embedded Postgres came without pgbench")
    script = folder / "ceiling.sql"
    script.write_text(_SCRIPT, encoding="utf-8")
    done = subprocess.run(
        [
            *(str(program), "--no-vacuum", "--protocol=prepared", f"--file={script}"),
            *(f"--client={CLIENTS}", "--jobs=2", f"--time={seconds}"),
            server.url_for(ADMIN, _DATABASE),
        ],
        capture_output=True,
        text=True,
        timeout=seconds + 60,
        check=False,
    )
    found = re.search(r"^tps = ([0-9.]+)", done.stdout, re.MULTILINE)
    if done.returncode != 0 or found is None:
        raise RuntimeError(f"pgbench failed: {done.stderr.strip() or done.stdout.strip()}")
    return float(found[1])
