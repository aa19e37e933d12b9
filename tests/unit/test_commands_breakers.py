"""What people are told of circuit breakers from the command line, and how they close one."""

from __future__ import annotations

import json
from typing import Any

from tests.support.stub import Stub

CLOSED: dict[str, Any] = {
    "tenant_id": "default", "handler": "a", "state": "closed", "failure_count": 1,
    "failure_threshold": 5, "cooldown_secs": 60.0,
}  # fmt: skip
OPEN = CLOSED | {
    "handler": "charge", "state": "open", "failure_count": 7,
    "opened_at": "2026-02-01T09:00:00Z", "retry_at": "2026-02-01T09:01:00Z",
}  # fmt: skip


def test_breakers_are_listed_with_the_open_ones_first(stub: Stub) -> None:
    """Each with its failures in a row, and when the next call finds out."""
    stub.says("/circuit-breakers", [CLOSED, OPEN])
    done = stub.run("breakers")
    assert done.exit_code == 0, done.output
    rows = [" ".join(line.split()) for line in done.output.splitlines()][1:]
    assert rows == [
        "default charge open 7 of 5 2026-02-01T09:00:00Z 2026-02-01T09:01:00Z",
        "default a closed 1 of 5",
    ]


def test_empty_list_says_so(stub: Stub) -> None:
    """In words, or as JSON."""
    stub.says("/circuit-breakers", [])
    assert "No handler was called yet." in stub.run("breakers").output
    assert json.loads(stub.run("breakers", "--json").output) == []


def test_breaker_is_reset_by_name(stub: Stub) -> None:
    """Whatever is in the name; the log is told who did."""
    stub.says("/circuit-breakers/eu%2Fcharge/reset", CLOSED | {"handler": "eu/charge"})
    done = stub.run("breakers", "reset", "eu/charge", "--as", "ann")
    assert done.exit_code == 0, done.output
    assert done.output == "eu/charge: closed\n"
    assert stub.headers["x-actor"] == "ann"
