"""Python functions as handlers: ``@orch8.handler("name")`` and the answers that they come to."""

from __future__ import annotations

import hashlib
import importlib
import time
import traceback
from collections.abc import Callable
from typing import Any, Final, TypeVar

import orjson

from orch8.engine.outcome import Answer, Verdict
from orch8.errors import ConfigurationError
from orch8.handlers.classify import MAX_MESSAGE, spoken
from orch8.handlers.pressure import Pressure
from orch8.handlers.request import StepRequest

Function = Callable[[StepRequest], Any]
F = TypeVar("F", bound=Function)

EFFECTLESS: Final = frozenset({"none", "read"})
MAX_MODULES: Final = 100
FUNCTIONS: Final[dict[str, Function]] = {}


class Declined(Exception):
    """The provider said no for good: the step completes as declined with this output."""

    def __init__(self, output: Any = None) -> None:
        super().__init__("declined")
        self.output = output


class Refused(Exception):
    """Surely nothing happened, and trying again would not help: the step fails."""

    def __init__(self, message: str, *, code: str | None = None, details: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.details = details


class TryAgain(Exception):
    """Surely nothing happened; the same attempt may be tried again, ``after`` seconds from now. It
    counts as an attempt, and says nothing of other calls.
    """

    def __init__(
        self, message: str, *, after: float | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.after = after
        self.code = code


class RateLimited(TryAgain):
    """Surely nothing happened, since the provider's limit is reached: no call with the step's keys
    is wanted for ``after`` seconds. A step with a limit is spared the attempt.
    """


def handler(name: str) -> Callable[[F], F]:
    """The decorated function is the handler of this name in every worker that loads its module.

    It gets a StepRequest and returns JSON (the output) or an Answer; it raises Declined, Refused,
    TryAgain or RateLimited to say what surely happened. Raises ConfigurationError for a name
    already taken.
    """
    if not name or not isinstance(name, str):
        raise ConfigurationError("a handler needs a name: @orch8.handler('charge')")

    def register(function: F) -> F:
        other = FUNCTIONS.get(name)
        if other is not None and _place(other) != _place(function):
            raise ConfigurationError(
                f"handler {name!r} is defined twice: in {_place(other)} and {_place(function)}"
            )
        FUNCTIONS[name] = function
        return function

    return register


def load(modules: str) -> None:
    """The modules named in ``ORCH8_HANDLER_MODULES`` are imported and their handlers registered."""
    names = [name.strip() for name in modules.split(",") if name.strip()]
    if len(names) > MAX_MODULES:
        raise ConfigurationError(f"ORCH8_HANDLER_MODULES names more than {MAX_MODULES} modules")
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ConfigurationError(
                f"ORCH8_HANDLER_MODULES: {name} cannot be imported ({error}); is it on PYTHONPATH?"
            ) from error


def run(
    function: Function,
    request: StepRequest,
    *,
    effect: str = "external",
    max_output: int = 1024 * 1024,
) -> Answer:
    """The function has run and its end is an answer; nothing that it raises comes through.

    An exception that says nothing about the effect is UNKNOWN: the function may have done its
    work before. For the effects none and read it is FAILED_SAFE.
    """
    started = time.monotonic()
    unsure = Verdict.FAILED_SAFE if effect in EFFECTLESS else Verdict.UNKNOWN
    try:
        result = function(request)
    except Declined as end:
        return _measured(_written(_with_outcome(end.output), unsure, max_output), started)
    except Refused as end:
        error = _error(end, end.code, end.details)
        return _measured(Answer(Verdict.REFUSED, error=error), started)
    except TryAgain as end:
        error = _error(end, end.code, None)
        told = {}
        if isinstance(end, RateLimited):
            told = {"rate_limited": True, "pressure": Pressure(end.after).to_json()}
        answer = Answer(Verdict.FAILED_SAFE, error=error, retry_after=end.after, evidence=told)
        return _measured(answer, started)
    except Exception as end:  # noqa: BLE001 -- whatever it is, it says nothing about the effect
        message = traceback.format_exception_only(end)[-1].strip()[:MAX_MESSAGE]
        error = {"message": message, "code": type(end).__name__}
        return _measured(Answer(unsure, error=error), started)
    if isinstance(result, Answer):
        return _measured(result, started)
    return _measured(_written(result, unsure, max_output), started)


def _with_outcome(output: Any) -> Any:
    if output is None:
        return {"outcome": Verdict.DECLINED.value}
    if isinstance(output, dict):
        return {**output, "outcome": Verdict.DECLINED.value}
    return {"outcome": Verdict.DECLINED.value, "body": output}


def _written(result: Any, unsure: Verdict, max_output: int) -> Answer:
    try:
        raw = orjson.dumps(result)
    except TypeError as end:
        message = f"the handler returned a value that has no JSON form: {end}"
        return Answer(unsure, error={"message": message, "code": "not_json"})
    if len(raw) > max_output:
        message = f"the handler returned more than {max_output} bytes"
        return Answer(unsure, error={"message": message, "code": "too_large"})
    evidence = {"response_sha256": hashlib.sha256(raw).hexdigest()}
    return spoken(orjson.loads(raw), evidence)


def _error(end: Exception, code: str | None, details: Any) -> dict[str, Any]:
    error: dict[str, Any] = {"message": str(end)[:MAX_MESSAGE]}
    if code is not None:
        error["code"] = code
    if details is not None:
        error["details"] = details
    return error


def _measured(answer: Answer, started: float) -> Answer:
    elapsed = round((time.monotonic() - started) * 1000, 1)
    evidence = {"sent": True, "elapsed_ms": elapsed, **answer.evidence}
    return Answer(answer.verdict, answer.output, answer.error, answer.retry_after, evidence)


def _place(function: Function) -> str:
    name = getattr(function, "__qualname__", repr(function))
    return f"{getattr(function, '__module__', '?')}.{name}"
