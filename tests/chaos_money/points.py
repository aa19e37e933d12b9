"""The crash points: where exactly in the life of a call a worker process kills itself.

The product knows nothing of this: its functions are wrapped here, in a process that was forked to
die. Every death is a SIGKILL, so that nothing is closed, flushed or given back.
"""

from __future__ import annotations

import http.client
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from enum import StrEnum
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

import orjson

from orch8.engine.outcome import Answer
from orch8.handlers.http import Call, Line
from orch8.runtime import claim as claiming
from orch8.runtime import pump as pumping
from orch8.runtime.claim import claim
from orch8.runtime.preparing import Task
from orch8.runtime.pump import Pump
from orch8.runtime.settle import Item, Settled, settle, unsent

ASKS: Final = "find_"  # a handler whose name begins so is asked what became of an attempt
_LOOK: Final = 0.01  # seconds between two looks at the provider's ledger
_ASKED_FOR: Final = 0.1  # seconds after which a question is certainly with the provider
_LEDGER_WITHIN: Final = 2.0


class Stage(StrEnum):
    """A place in the life of a call."""

    CLAIMED = "claimed"  # the claim with its intent is written, not committed
    COMMITTED = "committed"  # the intent is committed, nothing is sent
    EXECUTED = "executed"  # the provider has done it, its answer has not come
    ANSWERED = "answered"  # the answer has come, nobody has seen it
    SETTLING = "settling"  # what follows from it is written, not committed
    SETTLED = "settled"  # committed, nothing done with it yet


# One line of the result for each; a process that is to die there draws one of the stages.
POINTS: Final[Mapping[str, Sequence[Stage]]] = {
    "before_intent": (Stage.CLAIMED,),
    "before_send": (Stage.COMMITTED,),
    "before_answer": (Stage.EXECUTED,),
    "before_settle": (Stage.ANSWERED,),
    "in_janitor": tuple(Stage),
    "in_settle": (Stage.SETTLING, Stage.SETTLED),
}


def die() -> NoReturn:
    """The process ends here and now, as if the power had gone."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("SIGKILL cannot be survived")


class Fuse:
    """Burns with every passage of the point; the process dies at its end. For any thread."""

    def __init__(self, passages: int) -> None:
        self._left, self._lock = passages, threading.Lock()

    def burn(self, passages: int) -> None:
        """So many calls have come to the point."""
        with self._lock:
            self._left -= passages
            if passages and self._left <= 0:
                die()


def arm(stage: Stage, passages: int) -> None:
    """This process dies when so many calls have come to the stage."""
    _ARMS[stage](Fuse(passages))


def _claimed(fuse: Fuse) -> None:
    def claimed(*given: Any, **named: Any) -> list[Task]:
        tasks = claim(*given, **named)
        fuse.burn(_to_send(tasks))
        return tasks

    _swap(claiming, "claim", claimed)


def _committed(fuse: Fuse) -> None:
    _before("_launch", lambda tasks: fuse.burn(_to_send(tasks)))


def _executed(fuse: Fuse) -> None:
    watch = _Watch(fuse)

    def begin(line: Line, call: Call) -> Answer | None:
        watch.began(call)
        return _BEGIN(line, call)

    def end(line: Line, code: int, reason: str) -> Answer:
        answer = _END(line, code, reason)
        watch.ended(line.call)
        return answer

    _swap(Line, "begin", begin)
    _swap(Line, "end", end)
    threading.Thread(target=watch.look_on, daemon=True).start()


def _answered(fuse: Fuse) -> None:
    def end(line: Line, code: int, reason: str) -> Answer:
        answer = _END(line, code, reason)
        fuse.burn(line.sends)
        return answer

    _swap(Line, "end", end)


def _settling(fuse: Fuse) -> None:
    def settled(office: Any, tx: Any, items: Sequence[Item], claimer: Any) -> Settled:
        result = settle(office, tx, items, claimer)
        fuse.burn(_answers(items))
        return result

    _swap(pumping, "settle", settled)


def _settled(fuse: Fuse) -> None:
    real = Pump._settle

    def settled(pump: Pump, batch: Sequence[Item]) -> Settled:
        result = real(pump, batch)
        fuse.burn(_answers(batch))
        return result

    _swap(Pump, "_settle", settled)


_BEGIN: Final = Line.begin
_END: Final = Line.end
_ARMS: Final[Mapping[Stage, Callable[[Fuse], None]]] = {
    Stage.CLAIMED: _claimed,
    Stage.COMMITTED: _committed,
    Stage.EXECUTED: _executed,
    Stage.ANSWERED: _answered,
    Stage.SETTLING: _settling,
    Stage.SETTLED: _settled,
}


class _Watch:
    """Looks over the provider's shoulder at the calls that are in flight."""

    def __init__(self, fuse: Fuse) -> None:
        self._fuse, self._flying, self._seen = fuse, dict[int, tuple[Call, float]](), set[int]()

    def began(self, call: Call) -> None:
        self._flying[id(call)] = (call, time.monotonic())

    def ended(self, call: Call) -> None:
        self._flying.pop(id(call), None)
        self._seen.discard(id(call))

    def look_on(self) -> NoReturn:
        while True:
            time.sleep(_LOOK)
            for number, (call, began) in list(self._flying.items()):
                executed = number not in self._seen and _executed_by_now(call, began)
                if executed and number in self._flying:
                    self._seen.add(number)
                    self._fuse.burn(1)


def _executed_by_now(call: Call, began: float) -> bool:
    base, _, handler = call.url.rpartition("/")
    if handler.startswith(ASKS):  # which changes nothing that could be looked at
        return time.monotonic() - began > _ASKED_FOR
    entry = _entry(base, dict(call.headers).get("Idempotency-Key", ""))
    return entry is not None and bool(entry["charged"] + entry["declined"])


def _entry(base: str, key: str) -> dict[str, Any] | None:
    """What the provider at the address has in its ledger under a key."""
    address = urlsplit(base).netloc
    with closing(http.client.HTTPConnection(address, timeout=_LEDGER_WITHIN)) as connection:
        try:
            connection.request("GET", f"/ledger?key={key}")
            shown = orjson.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException):
            return None
    found: dict[str, Any] | None = shown["entries"][0]
    return found


def _swap(owner: Any, name: str, other: Callable[..., Any]) -> None:
    """The owner has another one under the name, where there was one."""
    assert callable(getattr(owner, name)), f"{owner} has no {name} any more: where is the seam?"
    setattr(owner, name, other)


def _before(name: str, look: Callable[[Any], None]) -> None:
    """Look at the first argument of a method of the pump before each call of it."""
    real = getattr(Pump, name)

    def wrapped(self: Pump, first: Any, *more: Any) -> Any:
        look(first)
        return real(self, first, *more)

    _swap(Pump, name, wrapped)


def _to_send(tasks: Sequence[Task]) -> int:
    return sum(unsent(task) is None for task in tasks)


def _answers(items: Sequence[Item]) -> int:
    return sum(isinstance(item.came, Answer) for item in items)
