"""What a step waits for before its handler is called: what is read, accepted and enough."""

from __future__ import annotations

from typing import Any

import pytest

from orch8.blocks.approval import NO, YES, Approval, Option
from orch8.blocks.wait_for_event import Wanted, read_wanted
from orch8.errors import ExpressionError
from tests.support.documents import CHARGE, loaded, refusal, seed, step

RED = {"label": "Red", "value": "red"}
EVENTS = {"events": ["paid"], "correlation_key": "in_1"}


def test_step_without_a_gate_asks_for_nothing() -> None:
    """Nor does one whose gate is null."""
    assert step().approval is None
    assert step(wait_for_input=None).approval is None


def test_empty_gate_has_the_defaults() -> None:
    """Yes or no, without an end."""
    assert step(wait_for_input={}).approval == Approval("", (YES, NO))


def test_gate_has_what_is_written() -> None:
    """A timeout in any spelling."""
    given = {
        "prompt": "Which?", "timeout": "2d", "escalation_handler": "log", "choices": [RED],
        "store_as": "colour", "allow_comment": True,
    }  # fmt: skip
    made = Approval("Which?", (Option("Red", "red"),), 172_800.0, "log", "colour", True)
    assert step(wait_for_input=given).approval == made
    assert step(wait_for_input={"timeout": 0.2}).approval == Approval(timeout=0.2)


@pytest.mark.parametrize(
    ("given", "pointer"),
    [
        ({"choices": []}, "/choices"),
        ({"choices": [RED, RED]}, "/choices/1/value"),
        ({"choices": [{"label": "Red"}]}, "/choices/0/value"),
        ({"choices": [{"label": "Red", "value": ""}]}, "/choices/0/value"),
        ({"choices": ["red"]}, "/choices/0"),
        ({"store_as": " "}, "/store_as"),
        ({"timeout": 0}, "/timeout"),
        ({"timeout": "1mo"}, "/timeout"),
        ({"allow_comment": "yes"}, "/allow_comment"),
    ],
)
def test_wrong_gate_is_refused_at_its_place(given: dict[str, Any], pointer: str) -> None:
    """With one problem."""
    _, (problem,) = refusal(seed({**CHARGE, "wait_for_input": given}))
    assert problem.pointer == f"/blocks/0/wait_for_input{pointer}"


def test_escalation_without_a_timeout_is_remarked_on() -> None:
    """It never runs."""
    found = loaded({**CHARGE, "wait_for_input": {"escalation_handler": "log"}}).warnings
    assert "/blocks/0/wait_for_input/escalation_handler" in {each.pointer for each in found}


def test_only_a_choice_is_accepted() -> None:
    """As the value of an object."""
    approval = Approval()
    assert approval.accepted({"value": "no", "comment": "x"}) == "no"
    for payload in (None, "yes", {}, {"value": "Yes"}, {"value": ["yes"]}, {"value": True}):
        assert approval.accepted(payload) is None


# -- wait_for_event --------------------------------------------------------------------------------
def test_wait_for_events_has_a_gate_of_its_own() -> None:
    """Without one it is remarked on; with choices, too."""
    bare = {"type": "step", "handler": "wait_for_event", "params": EVENTS}
    assert step(**bare).approval == Approval()
    assert "bounds" in " ".join(each.message for each in loaded(bare).warnings)
    gated = {**bare, "wait_for_input": {"choices": [RED]}}
    assert "yes" in " ".join(each.message for each in loaded(gated).warnings)
    assert not loaded({**bare, "wait_for_input": {"timeout": "3d"}}).warnings


def test_all_wants_one_of_each_name() -> None:
    """And no second one."""
    wanted = Wanted(("a", "b"), "k")
    assert wanted.takes("a", [])
    assert not wanted.takes("a", ["a"])
    assert not wanted.takes("c", [])
    assert wanted.takes("b", ["a"])
    assert not wanted.satisfied(["a"])
    assert wanted.satisfied(["b", "a"])
    assert not wanted.takes("a", ["a", "b"])


def test_count_wants_so_many_of_any_name() -> None:
    """Any is a count of one."""
    wanted = Wanted(("a", "b"), "k", "count", 2)
    assert wanted.takes("a", ["a"])
    assert not wanted.takes("a", ["a", "b"])
    assert wanted.satisfied(["a", "a"])
    assert Wanted(("a", "b"), "k", "any").satisfied(["b"])


def test_params_are_read() -> None:
    """One name may stand alone; a name that stands twice counts once."""
    assert read_wanted({"events": "a", "correlation_key": "k"}) == Wanted(("a",), "k")
    twice = {"events": ["a", "a", "b"], "correlation_key": "k", "join": "any", "count": 7}
    assert read_wanted(twice) == Wanted(("a", "b"), "k", "any", 1)
    counted = {"events": ["a"], "correlation_key": "k", "join": "count", "count": 3}
    assert read_wanted(counted) == Wanted(("a",), "k", "count", 3)


@pytest.mark.parametrize(
    ("params", "member"),
    [
        (None, "events"),
        ({**EVENTS, "events": []}, "events"),
        ({**EVENTS, "events": [1]}, "events"),
        ({**EVENTS, "events": ["e"] * 101}, "events"),
        ({**EVENTS, "correlation_key": " "}, "correlation_key"),
        ({**EVENTS, "correlation_key": "k" * 256}, "correlation_key"),
        ({**EVENTS, "join": "none"}, "join"),
        ({**EVENTS, "join": "count", "count": True}, "count"),
        ({**EVENTS, "join": "count", "count": 0}, "count"),
    ],
)
def test_params_that_are_wrong_are_named(params: Any, member: str) -> None:
    """With what they came to."""
    with pytest.raises(ExpressionError, match=f"{member} came to"):
        read_wanted(params)


@pytest.mark.parametrize(
    ("params", "pointer"),
    [
        ({"correlation_key": "k"}, "/events"),
        ({"events": [], "correlation_key": "k"}, "/events"),
        ({"events": 1, "correlation_key": "k"}, "/events"),
        ({"events": "a"}, "/correlation_key"),
        ({**EVENTS, "join": 1}, "/join"),
        ({**EVENTS, "count": "1"}, "/count"),
    ],
)
def test_constant_params_are_checked_when_published(params: Any, pointer: str) -> None:
    """By the table of built-ins."""
    from orch8.handlers.registry import HANDLERS  # noqa: PLC0415 - another floor's

    assert [each.pointer for each in HANDLERS["wait_for_event"].check(params)] == [pointer]
    assert HANDLERS["wait_for_event"].check(EVENTS) == []
