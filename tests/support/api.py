"""A client of the real app on a real Postgres, which holds every answer to the OpenAPI document."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import psycopg2
from flask import Flask
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator
from werkzeug.test import TestResponse

from api import create_app
from orch8.config import Settings
from orch8.runtime.office import Office
from tests.support.servers import Database

SETTINGS = Settings(insecure=True, key_secret="a secret of the tests", max_body=200_000)
TABLES = (
    "sequences", "instances", "instance_keys", "contexts", "steps", "signals", "audit_log",
    "evidence", "handlers",
    "rate_limits", "pull_workers", "dev_clock", "business_keys", "correlations", "fences", "doubts",
    "incidents", "decisions", "tenant_policies", "network_attempts", "api_keys",
    "unlimited_keys", "credentials", "outbox", "deliveries",
    "schedules", "schedule_runs", "triggers", "events", "sessions", "checkpoints",
    "traces", "event_waits", "declarations", "emissions", "places", "alarms", "pools",
    "pool_resources", "circuit_breakers",
    "task_events", "task_logs", "worker_commands", "version_pins", "routing_rules",
    "queue_dispatch", "task_pushes",
)  # fmt: skip
NOOP = {"id": "noop_once", "blocks": [{"type": "step", "handler": "noop"}]}
CHARGE = {"id": "charge_once", "blocks": [{"type": "step", "handler": "charge", "timeout": "30s"}]}
WAITING = {"id": "wait_for_it", "blocks": [{"type": "wait_signal", "signal": "paid"}]}


# The OpenAPI document, which is the same for every app.
_DESCRIBED: dict[str, Any] = {}


@dataclass
class Api:
    """The app, its client, and the lanes that were announced."""

    app: Flask
    client: FlaskClient
    office: Office
    database: Database
    announced: list[str] = field(default_factory=list)

    def send(self, method: str, path: str, json: Any = None, **more: Any) -> TestResponse:
        """The answer, which is as the OpenAPI document says."""
        options = more if json is None else {"json": json, **more}
        answer = self.client.open(path, method=method, **options)
        self._conforms(method, path.split("?", maxsplit=1)[0], answer)
        return answer

    def get(self, path: str, **more: Any) -> Any:
        """The JSON of a successful GET."""
        answer = self.send("GET", path, **more)
        assert answer.status_code == 200, answer.text
        return answer.json

    def post(self, path: str, json: Any = None, *, status: int = 201, **more: Any) -> Any:
        """The JSON of a POST that was answered with ``status``."""
        answer = self.send("POST", path, json, **more)
        assert answer.status_code == status, answer.text
        return answer.json

    def refused(self, status: int, method: str, path: str, json: Any = None, **more: Any) -> Any:
        """The JSON of a refusal that changed nothing in the database."""
        before = self.contents()
        answer = self.send(method, path, json, **more)
        assert answer.status_code == status, answer.text
        assert self.contents() == before
        return answer.json

    def started(self, definition: Any = None, **members: Any) -> Any:
        """A new instance of the definition."""
        published = definition or NOOP
        self.post("/sequences", published, status=self._publishable(published))
        return self.post(f"/sequences/{published['id']}/instances", members)

    def contents(self) -> list[tuple[Any, ...]]:
        """A fingerprint of every table."""
        parts = " UNION ALL ".join(
            f"SELECT '{t}', count(*), md5(string_agg(r::text, '' ORDER BY r::text)) FROM {t} r"
            for t in TABLES
        )
        return self.rows(parts + " ORDER BY 1")

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """What a statement returns."""
        with superuser(self.database) as cursor:
            cursor.execute(sql, values)
            return list(cursor.fetchall())

    def _publishable(self, definition: Any) -> int:
        name = definition["id"]
        known = self.rows("SELECT 1 FROM sequences WHERE name = %s AND NOT deprecated", name)
        return 200 if known else 201

    def _conforms(self, method: str, path: str, answer: TestResponse) -> None:
        if not _DESCRIBED:
            document = self.client.get("/api-docs/openapi.json", headers=_key(self.app)).get_json()
            _DESCRIBED.update(document)
        operation = _operation(method, path)
        if operation is None:
            return
        said = operation["responses"].get(str(answer.status_code))
        assert said is not None, (
            f"{method} {path} does not say that it can answer {answer.status_code}: {answer.text}"
        )
        said = _resolved(_DESCRIBED, said)
        content = said.get("content", {}).get("application/json")
        if content is None:
            assert answer.mimetype != "application/json" or not answer.data
            return
        schema = {**content["schema"], "components": _DESCRIBED["components"]}
        problems = [
            f"{list(p.absolute_path)}: {p.message}"
            for p in Draft202012Validator(schema).iter_errors(answer.json)
        ]
        assert not problems, f"{method} {path} {answer.status_code}: {problems}"


@cache
def _operation(method: str, path: str) -> Any:
    """What the document says of a request, None if nothing."""
    for template, operations in sorted(
        _DESCRIBED["paths"].items(), key=lambda each: "{" in each[0]
    ):
        inside = "(.+)" if "rate-limits" in template else "([^/]+)"
        pattern = re.sub(r"\\\{[^}]*\\\}", inside, re.escape(template))
        if re.fullmatch(pattern, path) and method.lower() in operations:
            return operations[method.lower()]
    return None


@contextmanager
def serving(database: Database, **settings: Any) -> Iterator[Api]:
    """The app with these settings on an empty database; nothing of it is left running."""
    with superuser(database) as cursor:
        cursor.execute("SET session_replication_role = replica")
        # Not TRUNCATE, which makes new files for every table, index and month.
        cursor.execute(";".join(f"DELETE FROM {table}" for table in TABLES))
    chosen = replace(SETTINGS, database_url=database.url, **settings)
    office = Office(chosen, pool=2)
    announced: list[str] = []
    app = create_app(chosen, office, announced.append)
    try:
        yield Api(app, app.test_client(), office, database, announced)
    finally:
        office.close()


@contextmanager
def superuser(database: Database) -> Iterator[Any]:
    """A cursor that may do anything; what it did is committed."""
    connection = psycopg2.connect(database.admin_url)
    try:
        with connection, connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()


def _resolved(document: Mapping[str, Any], part: Any) -> Any:
    while "$ref" in part:
        found: Any = document
        for name in part["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        part = found
    return part


def _key(app: Flask) -> dict[str, str]:
    key = app.extensions["orch8"].settings.api_key
    return {"x-api-key": key} if key else {}
