"""When a failed dispatch is tried again, and how long to wait before it.

Pure: the caller counts the failures, evaluates ``retry_if`` and brings the entropy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal

from orch8.engine.duration import parse_duration
from orch8.engine.outcome import Answer, Verdict
from orch8.errors import Problem

DEFAULT_MULTIPLIER: Final = 2.0
MAX_ATTEMPTS: Final = 1_000_000
MAX_SCHEDULE: Final = 1_000
DEFAULT_ON: Final = frozenset({Verdict.FAILED_SAFE, Verdict.NOT_SENT, Verdict.UNKNOWN})
RETRY_FIELDS: Final = frozenset(
    {
        "max_attempts", "backoff", "schedule", "jitter", "on",
        "initial_backoff", "max_backoff", "backoff_multiplier", "retry_if", "non_retryable_codes",
    }
)  # fmt: skip

_FIRST_WAIT: Final = timedelta(seconds=1)
_DEFAULT_CEILING: Final = timedelta(days=1)
_LONGEST: Final = timedelta(days=366)
_LARGEST_FACTOR: Final = 1e9
_RETRYABLE: Final = DEFAULT_ON | {Verdict.FAILED, Verdict.DECLINED, Verdict.REFUSED}
_ERROR_CODES_IN_ON: Final = frozenset({"invalid_output"})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and after which waits a step is dispatched again.

    ``max_attempts`` bounds the executions in all. ``schedule``, if any, gives the waits one by
    one (its last repeats); else they grow from ``initial`` by ``multiplier`` up to
    ``max_backoff`` (a day if that is None). ``jitter`` is the fraction of a wait that chance may
    take off. ``on`` are the verdicts and ``on_codes`` the error codes worth another try.
    """

    max_attempts: int = 1
    initial: timedelta = _FIRST_WAIT
    multiplier: float = DEFAULT_MULTIPLIER
    max_backoff: timedelta | None = None
    schedule: tuple[timedelta, ...] = ()
    jitter: float = 0.0
    retry_if: str | None = None
    non_retryable_codes: frozenset[str] = frozenset()
    on: frozenset[Verdict] = DEFAULT_ON
    on_codes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Retry:
    """Dispatch again, ``after`` this long."""

    after: timedelta


GIVE_UP: Final = "give_up"


def backoff(policy: RetryPolicy, failures: int, entropy: float) -> timedelta:
    """The wait after the ``failures``-th failure in a row (1 = the first).

    ``entropy`` in [0, 1) takes up to ``policy.jitter`` of the wait off, never adds to it.
    """
    if policy.schedule:
        wait = policy.schedule[min(failures, len(policy.schedule)) - 1]
    else:
        wait = _grown(policy, failures)
    return wait * (1.0 - policy.jitter * entropy) if policy.jitter else wait


def decide(
    policy: RetryPolicy,
    answer: Answer,
    failures: int,
    retry_if: bool | None = None,
    *,
    entropy: float = 0.0,
) -> Retry | Literal["give_up"]:
    """`Retry` or `GIVE_UP` for an answer that is the ``failures``-th failure of its step.

    ``retry_if`` is what the policy's condition came to, None if there is none. The wait is never
    shorter than the ``retry_after`` of the answer, whatever the policy's ceiling.
    """
    codes = _codes(answer.error or {})
    wanted = answer.verdict in policy.on or not codes.isdisjoint(policy.on_codes)
    if not wanted or failures >= policy.max_attempts or retry_if is False:
        return GIVE_UP
    if not codes.isdisjoint(policy.non_retryable_codes):
        return GIVE_UP
    wait = backoff(policy, failures, entropy)
    asked = answer.retry_after or 0.0
    if asked > 0.0:
        wait = max(wait, timedelta(seconds=min(asked, _LONGEST.total_seconds())))
    return Retry(wait)


def parse_retry(value: Any, *, contract: bool = False) -> tuple[RetryPolicy, list[Problem]]:
    """The policy that a ``retry`` object means, and every problem with it.

    Both forms and any mixture are read. With ``contract`` the waits are required, unless the
    other form gives them. Pointers are relative to ``value``; with problems the policy is not
    to be used. Fields outside `RETRY_FIELDS` are left to the caller.
    """
    if not isinstance(value, Mapping):
        hint = 'write {"max_attempts": 3, "backoff": "5s"}'
        return RetryPolicy(), [Problem("", "retry must be an object", hint, shape=True)]
    reader = _Reader(value)
    schedule = reader.read("schedule", _schedule, ())
    if contract and not schedule and "backoff" not in value:
        reader.require("initial_backoff", "max_backoff")
    if not schedule:
        reader.require("max_attempts")
    first = "backoff" if "backoff" in value else "initial_backoff"
    on, on_codes = reader.read("on", _on, (DEFAULT_ON, frozenset()))
    policy = RetryPolicy(
        max_attempts=reader.read("max_attempts", _attempts, len(schedule) + 1),
        initial=reader.read(first, _wait, _FIRST_WAIT),
        multiplier=reader.read("backoff_multiplier", _multiplier, DEFAULT_MULTIPLIER),
        max_backoff=reader.read("max_backoff", _wait, None),
        schedule=schedule,
        jitter=reader.read("jitter", _fraction, 0.0),
        retry_if=reader.read("retry_if", _condition, None),
        non_retryable_codes=reader.read("non_retryable_codes", _code_set, frozenset()),
        on=on,
        on_codes=on_codes,
    )
    return policy, reader.problems


class _Reader:
    """Reads the members of one object and keeps what is wrong with them."""

    def __init__(self, value: Mapping[str, Any]) -> None:
        self._value = value
        self.problems: list[Problem] = []

    def read(self, name: str, parse: Callable[[Any], Any], default: Any) -> Any:
        """The parsed member, or the default if it is absent, null or wrong."""
        raw = self._value.get(name)
        if raw is None:
            return default
        try:
            return parse(raw)
        except _Wrong as wrong:
            pointer = f"/{name}{wrong.below}"
            self.problems.append(Problem(pointer, wrong.message, wrong.hint, shape=wrong.shape))
            return default

    def require(self, *names: str) -> None:
        for name in names:
            if self._value.get(name) is None:
                message = f"retry needs {name}"
                hint = 'write {"max_attempts": 3, "backoff": "5s"}'
                self.problems.append(Problem(f"/{name}", message, hint, "missing", shape=True))


class _Wrong(Exception):
    """A member that cannot be read."""

    def __init__(
        self, message: str, hint: str = "", *, below: str = "", shape: bool = False
    ) -> None:
        self.message, self.hint, self.below, self.shape = message, hint, below, shape
        super().__init__(message)


def _wait(raw: Any) -> timedelta:
    try:
        wait = timedelta(milliseconds=parse_duration(raw).total_ms())
    except ValueError as error:
        raise _Wrong(str(error), shape=True) from error
    if wait > _LONGEST:
        raise _Wrong("a wait between attempts is at most 366 days")
    return wait


def _schedule(raw: Any) -> tuple[timedelta, ...]:
    if not isinstance(raw, list) or not 0 < len(raw) <= MAX_SCHEDULE:
        hint = 'write a list of durations such as ["30s", "5m", "1h"]'
        raise _Wrong(f"schedule must be a list of 1 to {MAX_SCHEDULE} waits", hint, shape=True)
    waits = []
    for index, each in enumerate(raw):
        try:
            waits.append(_wait(each))
        except _Wrong as wrong:
            raise _Wrong(wrong.message, below=f"/{index}", shape=wrong.shape) from wrong
    return tuple(waits)


def _attempts(raw: Any) -> int:
    if isinstance(raw, bool) or not isinstance(raw, int):
        raise _Wrong("max_attempts must be a whole number", shape=True)
    if not 1 <= raw <= MAX_ATTEMPTS:
        hint = "it counts the executions in all, the first one included"
        raise _Wrong(f"max_attempts must be from 1 to {MAX_ATTEMPTS}", hint)
    return raw


def _finite(raw: Any, name: str) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        raise _Wrong(f"{name} must be a number", shape=True)
    return float(raw) if abs(raw) < _LARGEST_FACTOR else math.inf


def _multiplier(raw: Any) -> float:
    factor = _finite(raw, "backoff_multiplier")
    if not 0.0 < factor < math.inf:
        hint = "1 keeps the waits equal, 2 doubles them"
        raise _Wrong("backoff_multiplier must be a finite number above 0", hint)
    return factor


def _fraction(raw: Any) -> float:
    fraction = _finite(raw, "jitter")
    if not 0.0 <= fraction <= 1.0:
        hint = "0.2 takes up to a fifth off each wait"
        raise _Wrong("jitter must be a fraction from 0 to 1", hint)
    return fraction


def _condition(raw: Any) -> str:
    if not isinstance(raw, str):
        raise _Wrong("retry_if must be a condition written as a string", shape=True)
    return raw


def _code_set(raw: Any) -> frozenset[str]:
    if not isinstance(raw, list):
        raise _Wrong("non_retryable_codes must be a list", 'such as ["card_declined", 404]',
                     shape=True)  # fmt: skip
    for index, each in enumerate(raw):
        if isinstance(each, bool) or not isinstance(each, str | int):
            raise _Wrong("a code is a string or a whole number", below=f"/{index}", shape=True)
    return frozenset(map(str, raw))


def _on(raw: Any) -> tuple[frozenset[Verdict], frozenset[str]]:
    allowed = sorted(_RETRYABLE | _ERROR_CODES_IN_ON)
    if not isinstance(raw, list) or not raw:
        raise _Wrong("on must be a list", f"of {', '.join(allowed)}", shape=True)
    for index, each in enumerate(raw):
        if each not in allowed:
            hint = f"use one of {', '.join(allowed)}"
            raise _Wrong(f"{each!r} cannot be tried again", hint, below=f"/{index}")
    verdicts = {Verdict(each) for each in raw if each not in _ERROR_CODES_IN_ON}
    if Verdict.FAILED_SAFE in verdicts:
        # Nothing left the machine: safer still than an answer that says so.
        verdicts.add(Verdict.NOT_SENT)
    return frozenset(verdicts), _ERROR_CODES_IN_ON.intersection(raw)


def _grown(policy: RetryPolicy, failures: int) -> timedelta:
    ceiling = policy.max_backoff
    if ceiling is None:
        ceiling = max(policy.initial, _DEFAULT_CEILING)
    if not policy.initial:
        return policy.initial
    try:
        seconds = policy.initial.total_seconds() * policy.multiplier ** (failures - 1)
    except OverflowError:
        return ceiling
    return timedelta(seconds=min(seconds, ceiling.total_seconds()))


def _codes(error: Mapping[str, Any]) -> frozenset[str]:
    details = error.get("details")
    inner = details if isinstance(details, Mapping) else {}
    found = [error.get("code"), error.get("status")]
    found += [inner.get(name) for name in ("error_code", "code", "status")]
    return frozenset(str(each) for each in found if isinstance(each, str | int))
