"""A shell in memory: drives the machine with calls, answers, cancels and retries in any order.

It does what the real one does with effects, and it stores nothing but JSON between two events, so
every transition is a resume. What happened is kept for the tests to judge.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from zlib import crc32

from hypothesis import strategies as st

from orch8.blocks.interrupt import Root
from orch8.engine.events import (
    CancelRequested,
    Event,
    Interrupted,
    LeafSettled,
    Retried,
    Started,
)
from orch8.engine.keys import NodeKey
from orch8.engine.machine import Decision, Values, advance
from orch8.engine.moves import CancelLeaf, Effect, Overdue, Schedule, Settled
from orch8.engine.outcome import CANCELLED, COMPLETED, Outcome, Status, failed
from orch8.engine.snapshot import EMPTY, Snapshot
from tests.support.definitions import EVERYTHING, Said, definitions, index_of

if TYPE_CHECKING:
    from orch8.engine.block import Index

BOOM = failed("boom")
DUE, CALLED = "due", "called"
_MAX_MOVES = 20_000

Answers = Callable[[NodeKey], Outcome]


def always(outcome: Outcome = COMPLETED) -> Answers:
    """Every leaf ends like this."""
    return lambda _: outcome


def failing(*names: str, until: int = 1_000) -> Answers:
    """The leaves of these names fail, up to and including round ``until``; all others complete."""
    return lambda key: BOOM if key.block_id in names and key.round <= until else COMPLETED


def unlucky(seed: int, rate: float, until: int = 1_000) -> Answers:
    """Each node's leaf fails at this rate, by the seed, up to and including round ``until``."""

    def answer(key: NodeKey) -> Outcome:
        chance = crc32(f"{seed} {key}".encode()) / 2**32
        return BOOM if chance < rate and key.round <= until else COMPLETED

    return answer


@dataclass(frozen=True)
class Turn:
    """One transition: what went in and what came out."""

    before: Snapshot
    event: Event
    decision: Decision


@dataclass
class Shell:
    """One instance and the rows of its leaves."""

    index: Index
    values: Values = field(default_factory=Said)
    answers: Answers = field(default_factory=lambda: always(COMPLETED))
    rng: random.Random = field(default_factory=lambda: random.Random(0))
    keep: bool = True  # the turns, for the tests to judge

    def __post_init__(self) -> None:
        self.stored: str = json.dumps(EMPTY.to_json())
        self.snapshot = EMPTY
        self.turns: list[Turn] = []
        self.rows: dict[NodeKey, str] = {}  # leaves that have not settled
        self.largest = 0

    def start(self) -> Shell:
        """The instance begins."""
        self.feed(Started())
        return self

    def feed(self, event: Event) -> Decision:
        """The instance is where ``event`` leads it to, and the effects are carried out."""
        before = Snapshot.from_json(json.loads(self.stored))
        decision = advance(self.index, before, event, self.values)
        self.stored = json.dumps(decision.snapshot.to_json())
        self.largest = max(self.largest, len(self.stored))
        self.snapshot = decision.snapshot
        if self.keep:
            self.turns.append(Turn(before, event, decision))
        ended = [key for effect in decision.effects if (key := self._carry_out(effect))]
        for key in ended:
            self.feed(LeafSettled(key, CANCELLED))
        if any(isinstance(effect, Overdue) and effect.cancel for effect in decision.effects):
            self.feed(CancelRequested())
        return decision

    def _carry_out(self, effect: Effect) -> NodeKey | None:
        match effect:
            case Schedule(key):
                self.rows[key] = DUE
            case Settled(key):
                self.rows.pop(key, None)
            case CancelLeaf(key) if self.rows[key] == DUE:
                return key
            case _:
                pass
        return None

    def call(self, *names: str) -> None:
        """The handlers of the leaves of these names are called; the answers are not here yet."""
        for key in self.live(*names):
            self.rows[key] = CALLED

    def answer(self, name: str, outcome: Outcome | None = None) -> Decision:
        """The live leaf of this name (``name[0]`` in an iteration) has its answer."""
        (key,) = self.live(name)
        return self.feed(LeafSettled(key, outcome or self.answers(key)))

    def live(self, *names: str) -> list[NodeKey]:
        """The leaves that have not settled, of these names or all."""
        return [
            key
            for key in self.rows
            if not names or key.block_id in names or str(key._replace(round=1)) in names
        ]

    def step(self) -> None:
        """One leaf, any, is called or has its answer."""
        key = self.rng.choice(sorted(self.rows))
        if self.rows[key] == DUE:
            self.rows[key] = CALLED
        else:
            self.feed(LeafSettled(key, self.answers(key)))

    def interrupt(self, number: int = 0, payload: Any = None) -> Decision:
        """The signal of that interrupt is here."""
        signal = {"name": "s", "payload": payload, "received_at": "2026-01-01T00:00:00+00:00"}
        return self.feed(Interrupted(number, signal))

    def run(
        self, cancel_at: int | None = None, interrupts: Mapping[int, int] | None = None
    ) -> Outcome:
        """Everything has its answer, and the instance its outcome; a cancel comes at that step, and
        at each step of ``interrupts`` the interrupt of that number.
        """
        for n in range(_MAX_MOVES):
            if self.snapshot.outcome is not None:
                return self.snapshot.outcome
            if n == cancel_at:
                self.feed(CancelRequested())
            elif interrupts and n in interrupts:
                root = self.index.root
                assert isinstance(root, Root)
                self.interrupt(interrupts[n] % len(root.interrupts))
            else:
                assert self.rows, f"stuck at {self.stored}"
                self.step()
        raise AssertionError(f"still running at {self.stored}")

    def retry(self) -> Outcome:
        """The failed instance went on, and ended once more."""
        self.feed(Retried())
        return self.run()

    @property
    def effects(self) -> list[Effect]:
        """Every effect, in order."""
        return [effect for turn in self.turns for effect in turn.decision.effects]

    @property
    def scheduled(self) -> list[str]:
        """The keys of the leaves that were entered, in order."""
        return [str(effect.key) for effect in self.effects if isinstance(effect, Schedule)]

    def settled(self, status: Status | None = None) -> list[str]:
        """The keys of the nodes that settled, in order; of this status, or all."""
        return [
            str(effect.key)
            for effect in self.effects
            if isinstance(effect, Settled) and status in (None, effect.outcome.status)
        ]

    def outcome_of(self, key: str) -> Outcome:
        """How that node ended."""
        (outcome,) = (
            e.outcome for e in self.effects if isinstance(e, Settled) and str(e.key) == key
        )
        return outcome


def started(*blocks: Any, answers: Answers | None = None, **known: Any) -> Shell:
    """A started instance of these blocks; ``known`` says what words mean."""
    return Shell(index_of(*blocks), Said(known=known), answers or always()).start()


@dataclass(frozen=True)
class Story:
    """What is to happen to an instance."""

    index: Index
    seed: int
    rate: float
    cancel_at: int | None = None
    retries: int = 0
    broken_until: int = 0
    fickle: bool = False
    interrupts: Mapping[int, int] | None = None  # the step at which one comes: its number

    def told(self) -> Shell:
        """The instance, at its end."""
        values = Said(self.seed, self.broken_until, self.fickle)
        answers = unlucky(self.seed, self.rate)
        shell = Shell(self.index, values, answers, random.Random(self.seed)).start()
        shell.run(None if self.retries else self.cancel_at, self.interrupts)
        for left in range(self.retries, 0, -1):
            shell.feed(Retried())
            shell.run(self.cancel_at if left == 1 else None, self.interrupts)
        return shell


def stories(
    kinds: frozenset[str] = EVERYTHING,
    *,
    certain: str | None = None,
    cancelled: bool | None = None,
    retries: int = 0,
) -> st.SearchStrategy[Story]:
    """Stories of ``definitions(kinds, certain)``; ``cancelled`` None is either."""
    when = st.integers(0, 8)
    cancels: dict[bool | None, Any] = {True: when, False: st.none(), None: st.none() | when}
    return st.builds(
        Story,
        definitions(kinds, certain),
        st.integers(0, 2**32),
        st.sampled_from([0.1, 0.2, 0.3, 0]),
        cancels[cancelled],
        st.integers(0, retries),
        st.integers(0, 1),
        interrupts=st.dictionaries(st.integers(0, 8), st.integers(0, 2), min_size=1, max_size=4)
        if "interrupts" in kinds
        else st.none(),
    )
