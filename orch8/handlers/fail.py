"""The built-in handler ``fail``: it fails as it is asked to."""

from __future__ import annotations

from typing import Any

from orch8.engine.outcome import Answer, Verdict
from orch8.errors import Problem
from orch8.handlers.builtin import Params, allows


def check(params: Params) -> list[Problem]:
    """``retryable``, if given, is true or false."""
    return allows(params, "retryable", bool, "true or false")


def run(params: Params) -> Answer:
    """The step has failed: for good, or, with ``retryable``, so that it may be tried again."""
    message = params.get("message", "forced failure")
    error: dict[str, Any] = {"message": message if isinstance(message, str) else str(message)}
    code = params.get("code")
    if code is not None:
        error["code"] = str(code)
    if params.get("details") is not None:
        error["details"] = params["details"]
    again = params.get("retryable") in (True, "true")
    return Answer(Verdict.FAILED_SAFE if again else Verdict.FAILED, error=error)
