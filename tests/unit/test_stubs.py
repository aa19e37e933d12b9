"""What dry runs put out in place of calling anybody, and what they are known by."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from orch8.blocks.step import Effect
from orch8.handlers.registry import HANDLERS
from orch8.handlers.stubs import ACTING, stub
from orch8.runtime.routes import Kind, Route
from orch8.runtime.sandbox import marked, own_key, seen, stubbed
from orch8.storage.rows import InstanceRow

INSTANCE = InstanceRow(
    UUID(int=1), "t", "default", UUID(int=2), "scheduled", {}, "renewal", "Normal", "UTC",
    datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC),
)  # fmt: skip


def test_tool_call_stub_is_as_clients_expect_it() -> None:
    """Neither more nor less."""
    assert stub("tool_call", {"url": "http://x", "tool_name": "crm", "arguments": {"a": 1}}) == {
        "dry_run": True, "handler": "tool_call", "would": {"url": "http://x", "method": "POST"},
        "tool_name": "crm", "result": None,
    }  # fmt: skip
    assert stub("tool_call", {"url": "u", "method": "PUT"})["tool_name"] == "unknown"


@pytest.mark.parametrize(
    ("handler", "params", "output"),
    [
        ("emit_event", {"trigger_slug": "t"},
         {"would": {"trigger_slug": "t", "data": {}}, "instance_id": None, "sequence_name": None,
          "deduped": False}),
        ("send_signal", {"instance_id": "i", "signal_type": "pause"},
         {"would": {"instance_id": "i", "signal_type": "pause", "payload": None},
          "signal_id": None}),
        ("self_modify", "none",
         {"would": {"inject": 0, "position": None}, "_self_modify": True, "blocks": None,
          "position": None, "injected_count": 0}),
        ("http_request", {"url": "u"},
         {"would": {"url": "u", "method": "GET"}, "status": None, "body": None}),
        ("start_sequence", {"sequence_name": "s"},
         {"would": {"sequence": "s", "version": None, "input": None}, "instance_id": None,
          "sequence": "s"}),
        ("charge", [1], {"would": {"params": [1]}}),
    ],
)  # fmt: skip
def test_stub_tells_what_would_be_done(handler: str, params: Any, output: dict[str, Any]) -> None:
    """Also of parameters that a real call would refuse."""
    assert stub(handler, params) == {"dry_run": True, "handler": handler, **output}


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("effect", list(Effect))
def test_dry_run_calls_nobody(kind: Kind, effect: Effect) -> None:
    """But pull workers, who are told, and have no money to move."""
    route = stubbed(Route(kind, "h"), effect)
    assert not route.kind.calls_out
    same = kind in (Kind.PURE, Kind.DURABLE, Kind.STUB)
    assert (route.kind is kind) == (same or (kind is Kind.PULL and not effect.frozen))


def test_built_ins_that_act_elsewhere_are_stubbed() -> None:
    """Those that change the instance itself are not."""
    acting = {n for n in HANDLERS if stubbed(Route(Kind.DURABLE, n), "none").kind is Kind.STUB}
    assert acting == ACTING & HANDLERS.keys()
    assert {"self_modify", "start_sequence"} <= acting


def test_context_tells_the_truth_about_itself() -> None:
    """Whatever was written there before; what needs no change stays the very same."""
    plain = {"data": {}, "runtime": {"mine": 1}}
    assert marked(plain, dry_run=False) is plain
    assert marked([1], dry_run=True) == [1]
    dry = marked({"data": {}, "runtime": "odd"}, dry_run=True, auto_approve=True)
    assert dry == {"data": {}, "runtime": {"dry_run": True, "dry_run_auto_approve": True}}
    assert marked(dry, dry_run=True)["runtime"]["dry_run_auto_approve"] is False
    assert marked(dry, dry_run=False) == {"data": {}, "runtime": {}}
    assert seen(None) == {"runtime": {"dry_run": True}}
    assert seen({"data": 1, "runtime": {"a": 1}})["runtime"] == {"a": 1, "dry_run": True}


def test_key_of_a_fork_or_a_dry_run_is_its_own() -> None:
    """A real run's, that is nobody's fork, is as it was made."""
    assert own_key(INSTANCE, "k") == "k"
    assert own_key(INSTANCE.but(dry_run=True), "k") == "dryrun:k"
    fork = INSTANCE.but(fork_id=UUID(int=3))
    assert own_key(fork, "k") == f"k/{INSTANCE.id}"
    assert own_key(fork.but(dry_run=True), "k") == f"dryrun:k/{INSTANCE.id}"
