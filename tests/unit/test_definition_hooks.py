"""Interceptors and hooks of a definition: what is accepted, what is refused, and how it is kept."""

from __future__ import annotations

import pytest

from orch8.definition.hooks import AT_ONCE
from orch8.handlers.builtin import Pure
from orch8.handlers.registry import HANDLERS
from orch8.runtime.builtins import DURABLE
from tests.support.documents import CHARGE, loaded, refusal, seed

NOTE = {"type": "step", "handler": "log", "params": {"message": "{{context.data._error.message}}"}}
# Durable built-ins that wait, or that are part of another block.
WAITING = {
    "wait", "sleep", "wait_signal", "wait_for_event", "human_review", "guard", "sub_sequence",
    "self_modify", "send_signal",
}  # fmt: skip


def test_hooks_are_steps_with_names_of_their_own() -> None:
    """They begin with the hook's, so no block has the same; what they read counts."""
    sequence = loaded(CHARGE, on_failure=[NOTE, NOTE], on_cancel=[{**NOTE, "id": "charge"}])
    assert {name: [step.id for step in steps] for name, steps in sequence.hooks.items()} == {
        "on_failure": ["on_failure/log", "on_failure/log_2"], "on_cancel": ["on_cancel/charge"],
    }  # fmt: skip
    assert "context" in sequence.roots
    assert set(sequence.index) == {"@main", "charge"}


def test_empty_hooks_are_none() -> None:
    """And so is null."""
    assert loaded(CHARGE, on_failure=[], on_cancel=None).hooks == {}


@pytest.mark.parametrize(
    ("blocks", "pointer"),
    [
        ([CHARGE], "/on_failure/0/handler"),
        ([NOTE, {"type": "step", "handler": "sleep"}], "/on_failure/1/handler"),
        ([{"type": "router", "routes": [], "default": []}], "/on_failure/0/type"),
        ([{**NOTE, "params": {"x": "{{outputs.nobody.x}}"}}], "/on_failure/0/params/x"),
        ([{**NOTE, "handlr": 1}], "/on_failure/0/handlr"),
        (["log"], "/on_failure/0"),
        ("log", "/on_failure"),
    ],
)
def test_what_is_wrong_with_a_hook_is_told_with_its_place(blocks: object, pointer: str) -> None:
    """As of any other block."""
    _, problems = refusal(seed(CHARGE, on_failure=blocks))
    assert [each.pointer for each in problems] == [pointer]


def test_member_that_changes_nothing_in_a_hook_is_remarked_on() -> None:
    """It is done once, at once."""
    retry = {"max_attempts": 3, "backoff": "1s"}
    sequence = loaded(CHARGE, on_failure=[{**NOTE, "retry": retry}])
    assert [each.pointer for each in sequence.warnings if each.code == "ignored"] == [
        "/on_failure/0/retry"
    ]


def test_blocks_of_hooks_count() -> None:
    """Together with the others there are no more than 5000."""
    status, problems = refusal(seed(*[CHARGE] * 4999, on_failure=[NOTE, NOTE]))
    assert [each.code for each in problems] == ["too_large"]
    assert status == 400


def test_every_built_in_that_ends_at_once_may_stand_in_a_hook() -> None:
    """And no other."""
    pure = {name for name, builtin in HANDLERS.items() if isinstance(builtin, Pure)}
    assert (pure | set(DURABLE)) - WAITING == AT_ONCE


def test_interceptors_are_kept_as_they_stand() -> None:
    """Without a look at the templates in them; publishing says that nobody is called."""
    given = {
        "before_step": {"handler": "audit", "params": {"x": "{{"}},
        "after_step": {"handler": "log"}, "on_signal": None,
    }  # fmt: skip
    sequence = loaded(CHARGE, interceptors=given)
    assert sequence.interceptors == {"before_step": {"x": "{{"}, "after_step": None}
    told = [each.pointer for each in sequence.warnings if each.code == "not_executed"]
    assert told == ["/interceptors/after_step/handler", "/interceptors/before_step/handler"]


@pytest.mark.parametrize(
    ("given", "pointer"),
    [
        ([], "/interceptors"),
        ({"before_step": {}}, "/interceptors/before_step/handler"),
        ({"before_step": {"handler": " "}}, "/interceptors/before_step/handler"),
        ({"before_steps": {"handler": "log"}}, "/interceptors/before_steps"),
    ],
)
def test_what_is_wrong_with_an_interceptor_is_told(given: object, pointer: str) -> None:
    """With its place."""
    _, problems = refusal(seed(CHARGE, interceptors=given))
    assert [each.pointer for each in problems] == [pointer]
