"""Whatever is sent as a definition, the answer is a Sequence or a list of problems."""

# ruff: noqa: E501, PT017 - one case, one line; the exception is one of two good endings
from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import orch8
from orch8.definition import load
from orch8.errors import DefinitionRejected, Unprocessable
from tests.support.documents import CHARGE, contract, seed

EXAMPLES = Path(orch8.__file__).parent / "examples"
RICH = {
    "type": "step", "handler": "pay", "id": "pay", "when": "{{data.a > 1}}", "params": {"a": ["{{data.b}}"]},
    "retry": {"max_attempts": 3, "backoff": "5s", "retry_if": "true", "non_retryable_codes": ["x"]},
    "timeout": "3s", "delay": {"duration": "1d", "holidays": ["2026-12-25"], "timezone": "UTC"},
    "send_window": {"start": "09:00", "end": "17:00", "days": ["mon", 2]}, "priority": "Low",
    "rate_limit_key": "k", "rate_limit": {"max": 1, "window_seconds": 1}, "effect": "money",
    "rate_limits": [{"key": "{{data.k}}", "max": 2, "window_seconds": 2}], "deadline": "1d",
    "idempotency": {"key": "auto", "ttl": "24h"}, "output_schema": {"required": ["id"]},
    "on_deadline_breach": {"handler": "log", "params": {}}, "context_access": {"data": {"fields": []}},
    "on_unknown": {"policy": "park"},
}  # fmt: skip
EVERYTHING = [
    RICH,
    {"type": "wait", "duration": "1d", "until": None},
    {
        "type": "wait", "schedule": {"offsets": ["1d", {"days": 3}], "anchor": "{{data.from}}"},
        "align": {"mode": "payday", "days_of_month": [1, "last"], "at": "00:05", "max_shift": "3d", "calendar": "DE"},
        "send_window": {"business_days": True, "calendar": "{{data.country}}"},
    },
    {"type": "wait_signal", "signal": "s", "timeout": "1h", "match": {"a": "{{data.a}}"}},
    {"type": "parallel", "branches": [[CHARGE], []], "fail": "fast"},
    {"type": "race", "branches": [[CHARGE]], "semantics": "first_to_succeed"},
    {"type": "loop", "until": "{{outputs.pay.ok}}", "body": [CHARGE], "poll_interval": 3},
    {"type": "for_each", "collection": "{{data.x}}", "item_var": "p", "body": [{**CHARGE, "params": "{{p.id}}"}]},
    {"type": "router", "routes": [{"condition": "now", "blocks": []}, {"default": True, "blocks": [CHARGE]}]},
    {"type": "try_catch", "try": [CHARGE], "catch_block": [], "finally": [CHARGE]},
    {"type": "saga", "steps": [{"id": "s", "action": CHARGE, "compensation": [CHARGE]}]},
    {"type": "ab_split", "variants": [{"name": "a", "weight": 1, "blocks": []}, {"name": "b", "weight": 2, "blocks": []}]},
    {"type": "sub_sequence", "sequence_name": "x", "version": 2, "input": {"a": "{{data.a}}"}},
    {"type": "cancellation_scope", "blocks": [CHARGE]},
    {"type": "end", "outcome": "x"},
    {"type": "batch", "collection": [], "body": [CHARGE]},
    {"type": "approval", "choices": ["a"]},
]  # fmt: skip
DOCUMENTS = [
    *(
        json.loads((EXAMPLES / f"{name}.json").read_text())
        for name in ("payment_dunning", "invoice_retry")
    ),
    seed(*EVERYTHING[:-2], version=1, timezone="UTC", input_schema={"required": ["a"]}),
    seed(
        *EVERYTHING,
        interrupts=[
            {"signal": "s", "match": {"a": "{{data.a}}"}, "blocks": [CHARGE, {"type": "end"}]},
            {"signal": "s", "set": {"context.data.a": "{{signal.payload}}"}, "wake": ["wait"]},
        ],
        sla={"max_duration": "1d", "on_breach": "fail"},
    ),
    contract(*({**block, "id": f"b{n}"} for n, block in enumerate(EVERYTHING[:-2]))),
]
WORDS = [
    "", " ", "x", "{{", "{{x}}", "{{outputs.pay.x}}", "{{data.a", "5s", "-1", "step", "router", "wait", "wait_signal",
    "assert", "type", "id", "default", "pay", "true", "a\0", "\ud800", "@main", "P1D", "2026-01-01", "latest", "auto",
]  # fmt: skip
SCRAP = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 3),
    st.floats(),
    st.sampled_from([2**31, 2**63, 10**30]),
    st.sampled_from(WORDS),
    st.text(max_size=5),
    st.lists(st.sampled_from([*WORDS, 1, None]), max_size=3),
    st.dictionaries(
        st.sampled_from([*WORDS, "handler", "days", "$ref", "$schema", "blocks"]),
        st.sampled_from([*WORDS, 1, None]),
        max_size=3,
    ),
    st.sampled_from(EVERYTHING),
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key or index) in a JSON value."""
    found, pending = [], [value]
    while pending:
        each = pending.pop()
        inside = list(each.items()) if isinstance(each, dict) else list(enumerate(each))
        for key, below in inside:
            found.append((each, key))
            if isinstance(below, dict | list):
                pending.append(below)
    return found


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """A valid document with a few of its values dropped, replaced, renamed or moved."""
    body = copy.deepcopy(draw(st.sampled_from(DOCUMENTS)))
    for _ in range(draw(st.integers(1, 4))):
        every = places(body)
        if not every:
            break
        container, key = every[draw(st.integers(0, len(every) - 1))]
        kind = draw(st.sampled_from(["drop", "replace", "rename", "wrap", "move"]))
        if kind == "drop":
            del container[key]
        elif kind == "rename" and isinstance(container, dict):
            container[draw(st.sampled_from([*WORDS, key + "x", key[:-1]]))] = container.pop(key)
        elif kind == "wrap":
            container[key] = draw(st.sampled_from([[container[key]], {"blocks": container[key]}]))
        elif kind == "move":
            other, at = every[draw(st.integers(0, len(every) - 1))]
            container[key] = copy.deepcopy(other[at])
        else:
            container[key] = copy.deepcopy(draw(SCRAP))
    return body


@given(mutated())
def test_mutated_document_is_loaded_or_refused_with_reasons(body: Any) -> None:
    """No document makes loading raise anything else, and every refusal says something."""
    try:
        sequence = load(body)
    except (DefinitionRejected, Unprocessable) as error:
        assert error.errors
        assert all(each.message for each in error.errors)
        shaped = any(each.shape for each in error.errors)
        assert isinstance(error, Unprocessable if shaped else DefinitionRejected)
    else:
        again = load(sequence.canonical)
        assert (again.canonical, again.sha256) == (sequence.canonical, sequence.sha256)


@given(
    st.recursive(
        SCRAP,
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=3)
        ),
        max_leaves=10,
    )
)
def test_any_value_is_loaded_or_refused_with_reasons(body: Any) -> None:
    """JSON that was never a definition gets the same kind of answer."""
    for each in (body, {"id": "t", "blocks": body}, seed({**CHARGE, "params": body})):
        try:
            load(each)
        except (DefinitionRejected, Unprocessable) as error:
            assert error.errors


def test_saga_step_that_is_no_object_is_refused() -> None:
    """It has no action that could be looked into, and is told as a wrong shape."""
    with pytest.raises(Unprocessable):
        load({"id": "s", "blocks": [{"type": "saga", "steps": [None, 7, "x"]}]})
