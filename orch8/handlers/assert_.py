"""The built-in handler ``assert``: the step fails unless its condition holds."""

from __future__ import annotations

from orch8.engine.outcome import Answer, Verdict
from orch8.errors import Problem
from orch8.handlers.builtin import Params


def check(params: Params) -> list[Problem]:
    """There is a condition."""
    if "condition" in params:
        return []
    hint = "add condition: an expression that must hold"
    return [Problem("/condition", "condition is required", hint, "required", shape=True)]


def run(params: Params) -> Answer:
    """The step has succeeded if ``condition_result`` is true, and has failed for good otherwise.

    The runtime evaluates ``condition`` and passes what came out as ``condition_result``.
    """
    condition = params.get("condition")
    if params.get("condition_result") is True:
        return Answer(Verdict.SUCCEEDED, output={"condition": condition, "passed": True})
    message = params.get("message", "assertion failed")
    text = f"assert: {message} (condition: {condition})"
    return Answer(Verdict.FAILED, error={"message": text, "code": "assertion_failed"})
