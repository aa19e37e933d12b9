"""CONTRACT 6: what is wrong with a definition is refused with 400, what is odd is a warning."""

from __future__ import annotations

from typing import Any

import pytest

from orch8.definition import load
from tests.support.api import Api
from tests.support.documents import contract, refusal

STEP: dict[str, Any] = {"type": "step", "id": "a", "handler": "charge"}
BODY = [STEP]
RETRY = {"max_attempts": 3, "initial_backoff": 100, "max_backoff": 1000}
YES = {"label": "Yes", "value": "yes"}
EVENTS = {"events": "paid", "correlation_key": "in_1"}
VARIANT = {"name": "x", "weight": 1, "blocks": []}


def step(**members: Any) -> dict[str, Any]:
    """A step with these members."""
    return {**STEP, **members}


def block(kind: str, **members: Any) -> dict[str, Any]:
    """A composite of this type."""
    return {"type": kind, "id": "p", **members}


REFUSED: dict[str, list[Any]] = {
    "no blocks": [],
    "blank id": [step(id="")],
    "id taken": [STEP, STEP],
    "id taken inside": [STEP, block("parallel", branches=[BODY])],
    "id taken by a saga's step": [STEP, block("saga", steps=[{"id": "a", "action": step(id="b")}])],
    "blank handler": [step(handler="")],
    "no attempts": [step(retry={**RETRY, "max_attempts": 0})],
    "multiplier of 0": [step(retry={**RETRY, "backoff_multiplier": 0})],
    "first wait above the longest": [step(retry={**RETRY, "initial_backoff": 2000})],
    "blank retry_if": [step(retry={**RETRY, "retry_if": " "})],
    "blank code": [step(retry={**RETRY, "non_retryable_codes": ["a", " "]})],
    "hour 24": [step(send_window={"start_hour": 9, "end_hour": 24})],
    "window that never opens": [step(send_window={"start_hour": 9, "end_hour": 9})],
    "day 7": [step(send_window={"start_hour": 9, "end_hour": 17, "days": [7]})],
    "blank compensation": [step(compensation={"handler": " "})],
    "long compensation": [step(compensation={"handler": "h" * 257})],
    "compensation after itself": [step(compensation={"handler": "h", "depends_on": ["a"]})],
    "compensation twice": [step(compensation={"handler": "h", "depends_on": ["b", "b"]})],
    "no choices": [step(wait_for_input={"choices": []})],
    "choice twice": [step(wait_for_input={"choices": [YES, YES]})],
    "blank store_as": [step(wait_for_input={"store_as": ""})],
    "parallel of nothing": [block("parallel", branches=[])],
    "race of nothing": [block("race", branches=[])],
    "257 branches": [block("parallel", branches=[[]] * 257)],
    "blank condition": [block("loop", condition=" ", body=BODY)],
    "empty body": [block("loop", condition="true", body=[])],
    "loop without iterations": [block("loop", condition="true", body=BODY, max_iterations=0)],
    "100,001 iterations": [block("loop", condition="true", body=BODY, max_iterations=100_001)],
    "blank collection": [block("for_each", collection=" ", body=BODY)],
    "blank item_var": [block("for_each", collection="x", item_var="", body=BODY)],
    "empty body of for_each": [block("for_each", collection="x", body=[])],
    "for_each without iterations": [
        block("for_each", collection="x", body=BODY, max_iterations=0)
    ],
    "router without routes": [block("router", routes=[])],
    "blank route": [block("router", routes=[{"condition": " ", "blocks": BODY}])],
    "empty try": [block("try_catch", try_block=[], catch_block=[])],
    "blank sequence": [block("sub_sequence", sequence_name=" ")],
    "empty scope": [block("cancellation_scope", blocks=[])],
    "one variant": [block("a_b_split", variants=[VARIANT])],
    "no weight": [block("a_b_split", variants=[{**VARIANT, "weight": 0}, {
        **VARIANT, "name": "y", "weight": 0}])],
    "variant twice": [block("a_b_split", variants=[VARIANT, VARIANT])],
    "blank variant": [block("a_b_split", variants=[VARIANT, {**VARIANT, "name": " "}])],
    "output_schema that is none": [step(output_schema={"type": 7})],
    "output_schema that is a list": [step(output_schema=[])],
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_definition_is_refused_with_400(name: str) -> None:
    """The problem has its place and a message."""
    status, problems = refusal(contract(*REFUSED[name]))
    assert status == 400, problems
    assert problems[0].pointer.startswith("/blocks")


@pytest.mark.parametrize("given", [[], "x", {"type": "nothing"}, {"properties": 7}])
def test_input_schema_must_be_a_schema(given: Any) -> None:
    """400."""
    status, (problem, *_) = refusal(contract(STEP, input_schema=given))
    assert (status, problem.pointer.startswith("/input_schema")) == (400, True)


@pytest.mark.parametrize("left_out", ["blocks", "created_at", "tenant_id", "namespace", "version"])
def test_missing_member_is_422(left_out: str) -> None:
    """It is named."""
    body = {name: value for name, value in contract(STEP).items() if name != left_out}
    status, problems = refusal(body)
    assert (status, f"/{left_out}" in [each.pointer for each in problems]) == (422, True)


@pytest.mark.parametrize(
    "wrong", [block("nothing"), {"type": "step", "id": "a"}, {"id": "a"}, step(retry={}), 7]
)
def test_wrong_shape_of_a_block_is_422(wrong: Any) -> None:
    """An unknown type, a missing handler, half a retry."""
    assert refusal(contract(wrong))[0] == 422


def nested(depth: int) -> dict[str, Any]:
    """Scopes inside each other, a step in the innermost."""
    inner = step()
    for number in range(depth - 1):
        inner = {"type": "cancellation_scope", "id": f"s{number}", "blocks": [inner]}
    return inner


def test_blocks_are_bounded() -> None:
    """64 deep, 5000 in all."""
    load(contract(nested(64)))
    assert refusal(contract(nested(65)))[0] == 400
    assert refusal(contract(*(step(id=f"s{n}") for n in range(5001))))[0] == 400


ODD: dict[str, tuple[dict[str, Any], str]] = {
    "handler like a built-in": (step(handler="http_reqest"), "handler"),
    "unknown root": (step(params={"x": "{{nope.y}}"}), "expression"),
    "unknown filter's root": (step(params={"x": "{{data.y|base64(1)}}"}), "expression"),
    "unknown param": (step(handler="log", params={"mesage": "x"}), "unknown_param"),
    "timeout above the deadline": (step(timeout=2000, deadline=1000), "lint"),
    "output of no block": (step(params={"x": "{{outputs.gone.y}}"}), "unknown_block"),
    "guard that cannot be read": (step(when="1 +"), "expression"),
    "empty branch": (block("parallel", branches=[[], BODY]), "empty"),
    "empty catch": (block("try_catch", try_block=BODY, catch_block=[]), "empty"),
    "breach without a deadline": (step(on_deadline_breach={"handler": "log"}), "lint"),
    "wait for events without a gate": (step(handler="wait_for_event", params=EVENTS), "lint"),
    "wait for events with choices": (
        step(handler="wait_for_event", params=EVENTS, wait_for_input={"choices": [YES]}),
        "lint",
    ),
    "variant without weight": (
        block("a_b_split", variants=[VARIANT, {**VARIANT, "name": "y", "weight": 0}]),
        "lint",
    ),
    "race of one": (block("race", branches=[BODY]), "lint"),
    "default bound": (block("for_each", collection="x", body=BODY), "default_bound"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_definition_is_a_warning(name: str) -> None:
    """It is accepted."""
    odd, code = ODD[name]
    assert code in {each.code for each in load(contract(odd)).warnings}


def test_nothing_is_reached_after_a_failure() -> None:
    """A step behind ``fail`` is remarked on."""
    sequence = load(contract(step(handler="fail"), step(id="b")))
    assert "unreachable" in {each.code for each in sequence.warnings}


def test_refusal_and_warnings_are_told(api: Api) -> None:
    """400 with every problem; 201 with warnings as texts, or without the member."""
    wrong = contract(block("loop", condition="true", body=BODY, max_iterations=0))
    refused = api.refused(400, "POST", "/sequences", wrong)
    assert "max_iterations must be > 0" in refused["error"]
    assert refused["errors"][0]["pointer"] == "/blocks/0/max_iterations"
    made = api.post("/sequences", contract(step(handler="log", params={"mesage": "x"})))
    assert all(isinstance(each, str) for each in made["warnings"])
    quiet = contract(step(handler="noop"), version=4, id="6f1d3c3e-0b5e-4b53-9d5e-2f6f0c1a7a11")
    assert "warnings" not in api.post("/sequences", quiet)
