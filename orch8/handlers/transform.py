"""The built-in handler ``transform``: its output is its rendered parameters."""

from __future__ import annotations

from orch8.engine.outcome import Answer, Verdict
from orch8.errors import Problem
from orch8.handlers.builtin import Params


def check(_params: Params) -> list[Problem]:
    """Any parameters are accepted."""
    return []


def run(params: Params) -> Answer:
    """The step has succeeded with its parameters as the output."""
    return Answer(Verdict.SUCCEEDED, output=params)
