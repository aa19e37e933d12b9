"""step: the leaf that calls a handler."""

from __future__ import annotations

import pytest

from orch8.blocks.step import Effect, Step
from orch8.engine.moves import Schedule
from orch8.engine.outcome import COMPLETED
from tests.support.shell import started


def test_step_is_scheduled_and_waits_for_its_answer() -> None:
    """It is a leaf: the shell calls the handler."""
    shell = started(Step(id="charge", handler="stripe.charge"))
    assert [type(effect) for effect in shell.effects] == [Schedule]
    shell.answer("charge")
    assert shell.snapshot.outcome == COMPLETED


@pytest.mark.parametrize(
    ("effect", "repeatable"),
    [
        (Effect.NONE, True),
        (Effect.READ, True),
        (Effect.NOTIFY, True),
        (Effect.EXTERNAL, False),
        (Effect.MONEY, False),
        (Effect.IRREVOCABLE, False),
    ],
)
def test_effect_is_repeatable_when_doing_it_twice_is_harmless(
    effect: Effect, *, repeatable: bool
) -> None:
    """What may have moved money, or changed anything outside, is not simply done again."""
    assert effect.repeatable is repeatable
