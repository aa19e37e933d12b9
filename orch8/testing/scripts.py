"""Scripted handlers: what a test says that a call comes to, and when its answer arrives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta
from difflib import get_close_matches
from typing import Any, Final, NoReturn

import orjson

from orch8.engine.duration import Duration
from orch8.engine.outcome import Answer, Verdict
from orch8.errors import Orch8Error
from orch8.handlers import python
from orch8.handlers.classify import Response, generic
from orch8.handlers.request import StepRequest
from orch8.runtime.preparing import Task
from orch8.runtime.routes import Kind
from orch8.runtime.settle import Lost
from orch8.testing.clock import VirtualClock, span

WORKER: Final = "simulated worker"
_CUT_OFF: Final = frozenset({Kind.PUSH, Kind.HTTP})  # calls that end when their time is over


class SimulationError(Orch8Error):
    """The test does not say enough, or not what the sequence does."""

    code = "simulation"


@dataclass(frozen=True, slots=True)
class Crash:
    """The worker dies after it made the call."""


@dataclass(frozen=True, slots=True)
class TimeOut:
    """No answer comes in time."""


@dataclass(frozen=True, slots=True)
class Takes:
    """The answer arrives later."""

    duration: Duration
    answer: Any


def crash() -> Crash:
    """The call is made, and its worker dies before the answer is written down: the claim is taken
    back when its lease is over (15 s), and the same key is sent again.
    """
    return Crash()


def time_out() -> TimeOut:
    """The call is made, and no answer comes within the step's time-out: whether it happened is
    unknown.
    """
    return TimeOut()


def takes(duration: Any, answer: Any) -> Takes:
    """The answer arrives this much later; behind the step's time-out it does not arrive at all."""
    return Takes(span(duration), answer)


def http(status: int, body: Any = None, *, retry_after: float | None = None) -> Answer:
    """What a handler service comes to that answers with this HTTP status and JSON body.

    ``retry_after`` is seconds. The verdict is the one that the worker would find.
    """
    raw = b"" if body is None else orjson.dumps(body)
    evidence = {"sent": True, "http_status": status}
    return generic(Response(status, raw, retry_after, evidence))


@dataclass(frozen=True, slots=True)
class Came:
    """What a call came to, and how long after it was made that is known."""

    after: timedelta
    what: Answer | Lost


class Scripts:
    """The handlers of one simulation. A function answers each call; a list answers one call after
    the other; anything else is the answer to every call.
    """

    def __init__(
        self, given: Mapping[str, Any], clock: VirtualClock, *, lease: float, max_output: int
    ) -> None:
        self._given, self._clock = dict(given), clock
        self._lease, self._max_output = timedelta(seconds=lease), max_output
        self._used: dict[str, int] = {}

    def call(self, task: Task, request: StepRequest) -> Came:
        """What this dispatch comes to. Raises SimulationError when the test does not say; an
        AssertionError of a handler function is the test's own and comes through.
        """
        return self._came(task, request, self._said(request), timedelta())

    def unused(self) -> dict[str, int]:
        """How many answers each list has left."""
        left = {
            name: len(script) - self._used.get(name, 0)
            for name, script in self._given.items()
            if _is_list(script)
        }
        return {name: count for name, count in left.items() if count}

    def _said(self, request: StepRequest) -> Any:
        name = request.handler
        if name not in self._given:
            self._unknown(request)
        script = self._given[name]
        if _is_list(script):
            turn = self._used.get(name, 0)
            if turn >= len(script):
                raise SimulationError(
                    f"handler {name!r} has no answer left for call {turn + 1}, at "
                    f"{self._clock.now.isoformat()} (step {request.step}, attempt "
                    f"{request.generation}, dispatch {request.dispatch}): its script has "
                    f"{len(script)}. Add one, or give a function that answers every call"
                )
            self._used[name] = turn + 1
            return script[turn]
        return _invoke(script, request) if _is_function(script) else script

    def _unknown(self, request: StepRequest) -> NoReturn:
        name, known = request.handler, sorted(self._given)
        near = get_close_matches(name, known, n=1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        raise SimulationError(
            f"step {request.step} calls handler {name!r}, which has no script. Scripted: "
            f"{', '.join(known) or 'none'}{meant} Add it: "
            f"Simulator(..., handlers={{{name!r}: [{{...}}]}})"
        )

    def _came(self, task: Task, request: StepRequest, said: Any, after: timedelta) -> Came:
        while isinstance(said, Takes):
            now = self._clock.now
            after += said.duration.after(now, UTC) - now
            said = said.answer
        limit = timedelta(seconds=task.timeout)
        if isinstance(said, TimeOut) or (task.route.kind in _CUT_OFF and after > limit):
            error = {"message": f"no answer within {task.timeout:g} s", "code": "timeout"}
            return Came(limit, Answer(Verdict.UNKNOWN, error=error, evidence={"sent": True}))
        if isinstance(said, Crash):
            return Came(after + self._lease, Lost(WORKER))
        return Came(
            after,
            python.run(
                lambda _: _utter(said),
                request,
                effect=task.row.effect,
                max_output=self._max_output,
            ),
        )


def _is_list(script: Any) -> bool:
    return isinstance(script, Sequence) and not isinstance(script, str | bytes)


def _is_function(script: Any) -> bool:
    return callable(script) and not isinstance(script, type)


def _invoke(function: Callable[[StepRequest], Any], request: StepRequest) -> Any:
    """What the function returns or raises, to be uttered."""
    try:
        return function(request)
    except (AssertionError, SimulationError):
        raise  # a failed assertion in a handler is not an answer
    except Exception as said:  # noqa: BLE001 - an answer like any other
        return said


def _utter(said: Any) -> Any:
    if isinstance(said, type) and issubclass(said, python.Declined):
        raise said
    if isinstance(said, type) and issubclass(said, Exception):
        raise said("as the script says")
    if isinstance(said, Exception):
        raise said
    return said
