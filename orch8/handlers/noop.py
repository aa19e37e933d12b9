"""The built-in handler ``noop``: it does nothing and answers an empty object."""

from __future__ import annotations

from orch8.engine.outcome import Answer, Verdict
from orch8.errors import Problem
from orch8.handlers.builtin import Params


def check(_params: Params) -> list[Problem]:
    """Any parameters are accepted."""
    return []


def run(_params: Params) -> Answer:
    """The step has succeeded with the output ``{}``."""
    return Answer(Verdict.SUCCEEDED, output={})
