"""The state machine: (index, snapshot, event) -> (snapshot, effects).

It knows no block types and no time. It keeps four rules, all of them here and nowhere else:

1. A node is entered once per round, settles once, and never comes back in that round: its key is
   its memo key.
2. A node settles only when it has no live child; closing it cancels what is still live.
3. Cancelling flows down to the leaves and comes back up as an outcome. It stops at a shielded
   child. A cancelling node may start shielded children and nothing else.
4. An event for a node that is not live changes nothing.

A leaf whose call is in flight stays live while it is cancelled, until its answer is known: so a
saga learns that the card was charged after all, and refunds it.

A retry enters the nodes that did not complete once more, from the root down, in the next round;
each block says which of its children go on where they stopped, and what completed is left alone.

An interrupt is asked of the root alone, unless the instance is coming to its end already.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from orch8.engine.block import Index, Leaf
from orch8.engine.events import (
    CancelRequested,
    Event,
    Exhausted,
    Interrupted,
    LeafSettled,
    Retried,
    Started,
)
from orch8.engine.keys import NodeKey
from orch8.engine.moves import (
    NOTHING,
    Act,
    CancelLeaf,
    Done,
    Effect,
    Finish,
    Halt,
    Memo,
    Move,
    Run,
    Settled,
    Wait,
)
from orch8.engine.outcome import CANCELLED, COMPLETED, SKIPPED, Outcome, Status, failed
from orch8.engine.snapshot import Children, Frame, Snapshot, Stop
from orch8.errors import ExpressionError

if TYPE_CHECKING:
    from orch8.engine.expressions import Condition, Template


@dataclass(frozen=True, slots=True)
class Decision:
    """The state after an event, and what the shell must make durable with it."""

    snapshot: Snapshot
    effects: tuple[Effect, ...]


class Values(Protocol):
    """What expressions may read, loaded beforehand by the shell (scope.py has the one we use)."""

    @property
    def instance_id(self) -> str:
        """The instance that is being decided on."""

    def truthy(self, condition: Condition, at: NodeKey, error: Mapping[str, Any] | None) -> bool:
        """Whether ``condition`` holds at node ``at``, where ``error`` is being handled."""

    def render(self, template: Template, at: NodeKey, error: Mapping[str, Any] | None) -> Any:
        """The JSON that ``template`` becomes at node ``at``, where ``error`` is being handled."""

    def memoized(self, key: NodeKey, output: Any) -> None:
        """From now on expressions read this at node ``key``: a composite has just decided it."""


def advance(
    index: Index, snapshot: Snapshot, event: Event, values: Values, *, spend: bool = False
) -> Decision:
    """The state and the effects that ``event`` leads to. The same values, the same decision.

    With ``spend`` the snapshot, which another decision brought, is used up: it becomes the new one
    and must not be looked at again, not even after an exception.
    """
    turn = _Turn(index, snapshot, values, spend=spend)
    if snapshot.outcome is not None:
        # What completed has a way back only where blocks were put behind its last one since.
        over = snapshot.outcome.status is Status.CANCELLED or not snapshot.dormant
        if over or not isinstance(event, Retried):
            return Decision(snapshot, ())
        turn.enter(_root(snapshot.dormant).again(), None)
    elif isinstance(event, Started):
        if snapshot.frames:
            return Decision(snapshot, ())
        turn.enter(NodeKey(index.root.id), None)
    elif isinstance(event, LeafSettled):
        if event.key not in snapshot.frames or not isinstance(index[event.key.block_id], Leaf):
            return Decision(snapshot, ())
        turn.todo.append((event.key, event.outcome))
    elif isinstance(event, CancelRequested) and snapshot.frames:
        turn.cancel(_root(snapshot.frames), Stop.CANCEL)
    elif isinstance(event, Exhausted) and snapshot.frames:
        turn.fail(event.error)
    elif isinstance(event, Interrupted) and not (snapshot.frames and turn.interrupt(event)):
        return Decision(snapshot, ())
    turn.run()
    return Decision(
        Snapshot(turn.frames, turn.dormant, turn.outcome, turn.finish, turn.below),
        tuple(turn.effects),
    )


def error_at(
    index: Index, frames: Mapping[NodeKey, Frame], at: NodeKey
) -> Mapping[str, Any] | None:
    """What the nearest enclosing catch or compensation tells node ``at`` about the failure."""
    frame = frames.get(at)
    while frame is not None and frame.parent is not None:
        parent = frame.parent
        frame = frames[parent]
        error = index[parent.block_id].error(frame)
        if error is not None:
            return error
    return None


class _Turn:
    """One transition. Mutable inside, never seen outside. Blocks see it as their Scope.

    Work is a queue of starts and settlements, so all children of a node are entered before any
    may report, and a long loop of bodies that settle at once costs time, not stack.
    """

    def __init__(self, index: Index, snapshot: Snapshot, values: Values, *, spend: bool) -> None:
        self.index, self.values, self.instance_id = index, values, values.instance_id
        self.here = NodeKey(index.root.id)  # the node whose block is being asked
        # With a thousand live nodes copies cost more than all the rest of a turn.
        self.frames = snapshot.frames if spend else dict(snapshot.frames)
        self.dormant = snapshot.dormant if spend else dict(snapshot.dormant)
        self.below = snapshot.below if spend else None
        self.finish = snapshot.finish
        self.outcome: Outcome | None = None
        self.todo: deque[tuple[NodeKey, Outcome | None]] = deque()  # (node, None) = start it
        self.unasked: set[NodeKey] = set()  # entered, but nobody waits for their outside part
        self.back: set[NodeKey] = set()  # entered again after a retry
        self.effects: list[Effect] = []

    def run(self) -> None:
        while self.todo:
            key, outcome = self.todo.popleft()
            if outcome is not None:
                self.leave(key, outcome)
            elif self.frames[key].cancelling:
                self.close(key, CANCELLED)
            else:
                self.start(key)

    def start(self, key: NodeKey) -> None:
        block = self.index[key.block_id]
        self.here = key
        try:
            move = self.go_back(key) if key in self.back else None
            if move is None:
                skip = block.when is not None and not self.truthy(block.when, key)
                move = Done(SKIPPED) if skip else block.start(key, self)
        except ExpressionError as problem:
            move = Done(failed(problem.detail, code=problem.code))
        self.apply(key, move)

    def truthy(self, condition: Condition, at: NodeKey) -> bool:
        return self.values.truthy(condition, at, error_at(self.index, self.frames, self.here))

    def render(self, template: Template, at: NodeKey) -> Any:
        return self.values.render(template, at, error_at(self.index, self.frames, self.here))

    def failed_below(self, node: NodeKey) -> list[NodeKey]:
        below: dict[NodeKey | None, list[NodeKey]] = {}
        for key, frame in self.dormant.items():
            if not frame.cancelling:
                below.setdefault(frame.parent, []).append(key)
        found = list(below.get(node, ()))
        for key in found:  # which grows meanwhile
            found += below.get(key, ())
        return found

    def enter(self, key: NodeKey, parent: NodeKey | None, *, shielded: bool = False) -> None:
        was = self.wake(key, parent) if self.dormant else None
        shielded = shielded or self.index[key.block_id].shields()
        if was is None:
            self.frames[key] = Frame(parent, NOTHING, shielded)
        else:
            self.back.add(key)
            self.frames[key] = Frame(parent, was.data, shielded or was.shielded)
        self.unasked.add(key)
        if self.below is not None and parent is not None:
            self.below.setdefault(parent, {})[key] = None
        self.todo.append((key, None))

    def leave(self, key: NodeKey, outcome: Outcome) -> None:
        frame = self.frames.pop(key)
        if self.below is not None:
            self.below.pop(key, None)
            if frame.parent is not None:
                self.below[frame.parent].pop(key)
        self.effects.append(Settled(key, outcome))
        if outcome.ok:
            self.forget(key)
        else:
            self.dormant[key] = frame
        if frame.parent is None:
            self.outcome = outcome
            return
        self.told(frame.parent, key, outcome)

    def told(self, parent: NodeKey, child: NodeKey, outcome: Outcome) -> None:
        frame, live = self.frames[parent], len(self.inside().get(parent, ()))
        if frame.closing is not None:
            if not live:
                self.todo.append((parent, frame.closing))
            return
        block = self.index[parent.block_id]
        try:
            self.here = parent
            move = block.settled(parent, frame, child, outcome, live, self)
        except ExpressionError as problem:
            move = Done(failed(problem.detail, code=problem.code))
        if block.forgives(outcome):
            self._drop((child,))
        self.apply(parent, move)

    def apply(self, key: NodeKey, move: Move) -> None:
        frame = self.frames[key]
        match move:
            case Run(shielded=False) if frame.cancelling:
                self.close(key, CANCELLED)
            case Run(children, data, shielded):
                self.frames[key] = frame.noting(data)
                for child in children:
                    self.enter(child, key, shielded=shielded)
            case Wait(data):
                self.unasked.discard(key)
                self.frames[key] = frame if data is None else frame.noting(data)
            case Halt(children, data):
                self.frames[key] = frame.noting(data)
                for child in children:
                    self.cancel(child, Stop.FINISH)
            case Done(outcome):
                self.close(key, outcome)
            case Finish(name):
                self.end(key, name)
            case Act(effects, then):  # pragma: no branch - there is no other move
                self.effects.extend(effects)
                for effect in effects:
                    if isinstance(effect, Memo):  # the first child may ask for it this very turn
                        self.values.memoized(effect.key, effect.output)
                self.apply(key, then)

    def close(self, key: NodeKey, outcome: Outcome) -> None:
        live = self.children(key)
        if not live:
            self.todo.append((key, outcome))
            return
        self.frames[key] = replace(self.frames[key], closing=outcome)
        for child in live:
            self.cancel(child, Stop.CANCEL)

    def fail(self, error: Mapping[str, Any]) -> None:
        """The run fails, unless it is coming to its end already; shielded parts run out."""
        root = _root(self.frames)
        frame = self.frames[root]
        if not frame.cancelling and frame.closing is None:
            self.close(root, Outcome(Status.FAILED, error))

    def end(self, key: NodeKey, name: str) -> None:
        """The instance finishes under the first such ``name``.

        What is live stops; shielded parts run out, except for those that this node stands in.
        """
        self.todo.append((key, COMPLETED))
        self.finish = self.finish or name
        above = self.frames[key].parent
        while above is not None:
            self.cancel(above, Stop.FINISH, lifted=above)
            root, above = above, self.frames[above].parent
        self.frames[root] = replace(self.frames[root], closing=COMPLETED)

    def interrupt(self, event: Interrupted) -> bool:
        """Whether the root takes the interrupt; one that is coming to its end takes none."""
        root = _root(self.frames)
        frame = self.frames[root]
        if frame.cancelling or frame.closing is not None:
            return False
        block = self.index[root.block_id]
        move = block.interrupted(root, frame, event, self.children(root))
        if move is not None:
            self.apply(root, move)
        return move is not None

    def cancel(self, top: NodeKey, stop: Stop, *, lifted: NodeKey | None = None) -> None:
        """What is live from ``top`` down stops, except below shields; ``lifted`` has none."""
        pending = [top]
        while pending:
            key = pending.pop()
            frame = self.frames[key]
            if frame.cancelling or (frame.shielded and key != lifted):
                continue
            self.frames[key] = replace(frame, stop=stop)
            if isinstance(self.index[key.block_id], Leaf) and key not in self.unasked:
                self.effects.append(CancelLeaf(key))
            pending.extend(self.children(key))

    def children(self, key: NodeKey) -> list[NodeKey]:
        return list(self.inside().get(key, ()))

    def inside(self) -> Children:
        if self.below is None:
            self.below = {}
            for child, frame in self.frames.items():
                if frame.parent is not None:
                    self.below.setdefault(frame.parent, {})[child] = None
        return self.below

    # -- dormant frames: the way back to failed leaves ----------------------------------------
    def forget(self, top: NodeKey) -> None:
        """Drop the dormant frames below ``top``: there is nothing to go back to in there."""
        if self.dormant:
            self._drop(_below(self.dormant, top))

    def wake(self, key: NodeKey, parent: NodeKey | None) -> Frame | None:
        """The dormant frame of ``key``'s node, if there is one; what is below it is below ``key``.

        Everything that is entered after a retry has the round of that retry, so rule 1 holds for
        what runs again (a ``finally``, say), while completed nodes keep their keys.
        """
        for was, frame in self.dormant.items():
            if frame.parent == parent and was[:2] == key[:2]:
                break
        else:
            return None
        del self.dormant[was]
        for child in _below(self.dormant, was):
            self.dormant[child] = replace(self.dormant[child], parent=key)
        return frame

    def go_back(self, key: NodeKey) -> Move | None:
        """The move on entering again a node that did not complete; None to start it anew."""
        block, frame = self.index[key.block_id], self.frames[key]
        below = {was._replace(round=key.round): was for was in _below(self.dormant, key)}
        move = block.revived(key, frame, tuple(below), self)
        if move is None:
            self._drop(below.values())
            self.frames[key] = replace(frame, data=NOTHING)
            return None
        entered = move.children if isinstance(move, Run) else ()
        self._drop(was for now, was in below.items() if now not in entered and not block.keeps(now))
        return move

    def _drop(self, keys: Iterable[NodeKey]) -> None:
        pending = list(keys)
        while pending:
            key = pending.pop()
            del self.dormant[key]
            pending.extend(_below(self.dormant, key))


def _below(frames: Mapping[NodeKey, Frame], parent: NodeKey) -> list[NodeKey]:
    return [key for key, frame in frames.items() if frame.parent == parent]


def _root(frames: Mapping[NodeKey, Frame]) -> NodeKey:
    return next(key for key, frame in frames.items() if frame.parent is None)
