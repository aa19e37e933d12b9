"""CONTRACT 5: the definition language is read as clients write it."""

from __future__ import annotations

from typing import Any

import pytest

from orch8.blocks.interrupt import Root
from orch8.blocks.step import Step
from orch8.definition import Sequence, load
from tests.support.api import Api
from tests.support.documents import contract, refusal

STEP: dict[str, Any] = {"type": "step", "id": "a", "handler": "charge"}
BODY = [STEP]
RETRY = {"max_attempts": 3, "initial_backoff": 100, "max_backoff": 1000}


def step(**members: Any) -> dict[str, Any]:
    """A step with these members."""
    return {**STEP, **members}


def loaded(*blocks: Any, **members: Any) -> Sequence:
    """The sequence of these blocks in the contract's form."""
    return load(contract(*blocks, **members))


FULL_DELAY = {
    "duration": 1000, "business_days_only": True, "jitter": 10, "holidays": ["2026-01-01"],
    "fire_at_local": "2026-01-01T09:00:00", "timezone": "Europe/Vienna",
}  # fmt: skip
FULL_LOOP = {
    "condition": "true", "max_iterations": 5, "break_on": "data.done", "continue_on_error": True,
    "poll_interval": 2, "retain_iterations": 3,
}  # fmt: skip
ACCEPTED: dict[str, dict[str, Any]] = {
    "nulls": step(params=None, delay=None, retry=None, timeout=None),
    "delay": step(delay=FULL_DELAY),
    "delay with a zone and a holiday that are none": step(
        delay={"duration": 1, "timezone": "No/Where", "holidays": ["x"]}
    ),
    "retry": step(retry={**RETRY, "backoff_multiplier": 1.5, "retry_if": "data.x"}),
    "codes": step(retry={**RETRY, "non_retryable_codes": ["é", "é"]}),
    "no codes": step(retry={**RETRY, "non_retryable_codes": []}),
    "send_window": step(send_window={"start_hour": 22, "end_hour": 6, "days": [0, 6]}),
    "context_access": step(context_access={"data": {"fields": ["x"]}, "config": False}),
    "queue_name": step(queue_name="fast", rate_limit_key="stripe", cancellable=False),
    "deadline": step(deadline=1000, on_deadline_breach={"handler": "log", "params": {}}),
    "output_schema": step(output_schema={"type": "object"}, when=""),
    "compensation": step(compensation={"handler": "undo", "depends_on": ["b"]}),
    "parallel": {"type": "parallel", "id": "p", "branches": [BODY, []]},
    "race": {"type": "race", "id": "p", "branches": [BODY], "semantics": "first_to_succeed"},
    "loop": {"type": "loop", "id": "p", "body": BODY, **FULL_LOOP},
    "for_each": {"type": "for_each", "id": "p", "collection": "items", "body": BODY},
    "router": {"type": "router", "id": "p", "routes": [{"condition": "true", "blocks": BODY}]},
    "router with a default only": {"type": "router", "id": "p", "routes": [], "default": BODY},
    "try_catch": {"type": "try_catch", "id": "p", "try_block": BODY, "catch_block": []},
    "sub_sequence": {"type": "sub_sequence", "id": "p", "sequence_name": "s", "version": 2},
    "a_b_split": {"type": "a_b_split", "id": "p", "variants": [
        {"name": "x", "weight": 0, "blocks": BODY}, {"name": "y", "weight": 1, "blocks": []}]},
    "cancellation_scope": {"type": "cancellation_scope", "id": "p", "blocks": BODY},
    "saga": {"type": "saga", "id": "p", "steps": [
        {"id": "s", "action": STEP, "compensation": step(id="c")},
        {"id": "t", "action": step(id="b")}]},
    "saga without steps": {"type": "saga", "id": "p", "steps": []},
}  # fmt: skip


@pytest.mark.parametrize("name", ACCEPTED)
def test_block_is_accepted(name: str) -> None:
    """With every member that the contract names."""
    block = ACCEPTED[name]
    assert block["id"] in loaded(block).index


@pytest.mark.parametrize(("given", "seconds"), [(1500, 1.5), (1.5, 1.5), (0.25, 0.25), (2000, 2.0)])
def test_integer_is_milliseconds_and_a_float_seconds(given: Any, seconds: float) -> None:
    """In every duration."""
    block = loaded(step(timeout=given)).index["a"]
    assert isinstance(block, Step)
    assert block.timeout == seconds


@pytest.mark.parametrize("given", [-1, -0.5, "x", True])
def test_duration_that_is_none_is_422(given: Any) -> None:
    """Negative, or no number."""
    assert refusal(contract(step(timeout=given)))[0] == 422


def test_sla_is_an_alert() -> None:
    """The longest run of an instance is measured; nothing more happens at its end."""
    root = loaded(STEP, sla={"max_runtime": 60_000}).index.root
    assert isinstance(root, Root)
    assert (root.sla is not None, root.on_breach) == (True, "alert")
    assert loaded(STEP, sla={}).index.root.type == Root.type


def test_unknown_members_are_ignored_with_a_remark() -> None:
    """Anywhere; but not those that look like members about money."""
    sequence = loaded(step(shiny=1), colour="red")
    codes = {each.code for each in sequence.warnings}
    assert "unknown_member" in codes
    assert refusal(contract(step(idempotecy={})))[0] == 400


def test_definition_is_shown_as_it_was_sent(api: Api) -> None:
    """With ``deprecated`` and ``status`` besides."""
    body = contract(*({**each, "id": f"b{n}"} for n, each in enumerate(
        block for block in ACCEPTED.values() if block["type"] == "step"
    )), input_schema={"type": "object"})  # fmt: skip
    made = api.post("/sequences", body)
    found = api.get(f"/sequences/{made['id']}")
    assert found.items() >= body.items()
    assert (found["deprecated"], found["status"]) == (False, "production")
