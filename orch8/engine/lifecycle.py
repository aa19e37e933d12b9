"""The lives of instances and steps as tables: every move that is legal, and nothing else.

A move within one transaction may pass through states that are never stored: an instance whose
steps are all built in goes from scheduled to completed in one commit. Staying is always legal.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from orch8.errors import Orch8Error


class IllegalMove(Orch8Error):
    """A state was to change in a way that no lifecycle has: a bug, and nothing is written."""

    code = "illegal_move"


class InstanceState(StrEnum):
    """The state that an instance shows."""

    SCHEDULED = "scheduled"  # its next step is due, or will be
    RUNNING = "running"  # a step is claimed, or sleeps
    WAITING = "waiting"  # for a pull worker, a signal, a child, a person
    PAUSED = "paused"  # nothing of it is claimed; what comes back settles
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StepState(StrEnum):
    """Where a step's row is in its life."""

    SCHEDULED = "scheduled"  # due_at says when it wants a worker
    RUNNING = "running"  # claimed: its call may be in flight
    SLEEPING = "sleeping"  # a timer that looks like work
    WAITING = "waiting"  # for a pull worker, a signal, a child, a pending answer
    PARKED = "parked"  # needs a person: attention says why
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"  # it ended, and was run anew since: history, and no output


_I, _S = InstanceState, StepState
Moves = Mapping[str, frozenset[str]]

OPEN: Final = frozenset({_I.SCHEDULED, _I.RUNNING, _I.WAITING, _I.PAUSED})
ENDED: Final = frozenset({_I.COMPLETED, _I.FAILED, _I.CANCELLED})
INSTANCE_MOVES: Final[Moves] = {
    _I.SCHEDULED: OPEN | ENDED,
    _I.RUNNING: OPEN | ENDED,
    _I.WAITING: OPEN | ENDED,
    _I.PAUSED: OPEN | ENDED,  # an answer that was on its way may end it
    _I.COMPLETED: frozenset(),
    _I.FAILED: frozenset(),
    _I.CANCELLED: frozenset(),
}
# At a person's word what has ended, or stands still, goes on in another round; it may end at once.
ROUND_MOVES: Final[Moves] = {
    state: (OPEN - {_I.PAUSED}) | ENDED for state in (*sorted(ENDED), _I.PAUSED)
}

LIVE: Final = frozenset({_S.SCHEDULED, _S.RUNNING, _S.SLEEPING, _S.WAITING, _S.PARKED})
_DONE: Final = frozenset({_S.COMPLETED, _S.FAILED, _S.CANCELLED})
STEP_MOVES: Final[Moves] = {
    _S.SCHEDULED: LIVE | _DONE,  # claimed, offered, set aside, or carried out in place
    _S.RUNNING: LIVE | _DONE,  # answered, given back, taken back, asleep, in doubt
    _S.SLEEPING: frozenset({_S.RUNNING, _S.CANCELLED}),
    _S.WAITING: (LIVE - {_S.SLEEPING}) | _DONE,  # taken, woken, completed from outside, in doubt
    _S.PARKED: frozenset({_S.SCHEDULED, _S.WAITING, _S.PARKED}) | _DONE,  # only a person's word
    _S.COMPLETED: frozenset({_S.SUPERSEDED}),
    _S.FAILED: frozenset({_S.SUPERSEDED}),
    _S.CANCELLED: frozenset({_S.SUPERSEDED}),
    _S.SUPERSEDED: frozenset(),
}


def check(moves: Moves, before: str, after: str, kind: str, what: object) -> None:
    """The move is legal. Raises IllegalMove, naming ``what`` of which ``kind`` it is, if not."""
    if before != after and after not in moves[before]:
        raise IllegalMove(f"{kind} {what} cannot go from {before} to {after}")


def check_instance(before: str, after: str, what: object, *, another_round: bool) -> None:
    """As check, of an instance, which goes on after its end in another round only."""
    check(ROUND_MOVES if another_round else INSTANCE_MOVES, before, after, "instance", what)
