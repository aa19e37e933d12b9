"""After how long a call is given up, whoever makes it."""

from __future__ import annotations

import math

import pytest

from orch8.blocks.step import Step
from orch8.config import Settings
from orch8.handlers.registry import HANDLERS
from orch8.runtime.horizon import call_time
from orch8.runtime.routes import Kind, Route

SETTINGS = Settings(handler_timeout=30.0)


@pytest.mark.parametrize(
    ("handler", "says", "seconds"),
    [
        ("http_request", None, 10.0),
        ("tool_call", None, 30.0),
        ("http_request", 90.0, 90.0),
        ("http_request", math.inf, 600.0),
    ],
)
def test_http_call_is_given_up_when_its_params_say(
    handler: str, says: float | None, seconds: float
) -> None:
    """Neither the step's time-out nor that of handlers counts; a template may say the longest."""
    route = Route(Kind.HTTP, handler, builtin=HANDLERS[handler])
    block = Step(id="a", handler=handler, timeout=2.0, call_timeout=says)
    assert call_time(block, route, SETTINGS) == seconds


@pytest.mark.parametrize(
    ("own", "registered", "seconds"),
    [(2.0, 7.0, 2.0), (None, 7.0, 7.0), (None, None, 30.0)],
)
def test_call_of_a_handler_is_given_up_when_its_step_says(
    own: float | None, registered: float | None, seconds: float
) -> None:
    """Else when its registration says, else as it is set for all."""
    route = Route(Kind.PUSH, "charge", "http://localhost", timeout=registered)
    block = Step(id="a", handler="charge", timeout=own, call_timeout=90.0)
    assert call_time(block, route, SETTINGS) == seconds
