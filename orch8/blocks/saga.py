"""saga: actions in order; when one does not complete, undo the completed ones in reverse."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from orch8.blocks.fields import Blocks, Many, Part, Text
from orch8.blocks.schema import LONGEST_ID, Base, BlockSchema, Draft, Slot
from orch8.engine.block import Block, Chain, Scope
from orch8.engine.keys import NodeKey, unescape_id
from orch8.engine.moves import Data, Done, Move, Run
from orch8.engine.outcome import CANCELLED, Outcome, Status, failed
from orch8.engine.snapshot import Frame, Stop


@dataclass(frozen=True, kw_only=True)
class Saga(Block):
    """Actions in order; after a failure or a cancel the compensations of the completed ones run
    in reverse, shielded, each whether or not the one before it failed; then the saga fails.

    An action that completes while it is being cancelled is compensated too. A retry repeats the
    compensations that failed, and the saga fails once more. With all of them done, a retry goes
    forward again: through what was undone anew, past completed actions that have no compensation,
    and back into the action that did not complete.
    """

    type: ClassVar[str] = "saga"

    steps: tuple[tuple[Chain, Chain | None], ...] = ()
    names: tuple[str, ...] = ()  # of the steps, as they were given

    def chains(self) -> Iterable[Block]:
        return (chain for _, chain in self.numbered())

    def numbered(self) -> Iterable[tuple[int, Block]]:
        parts = enumerate(chain for pair in self.steps for chain in pair)
        return ((number, chain) for number, chain in parts if chain is not None)

    def start(self, at: NodeKey, scope: Scope) -> Move:
        return self._forward(at, 0, [])

    def settled(
        self, at: NodeKey, frame: Frame, child: NodeKey, outcome: Outcome, live: int, scope: Scope
    ) -> Move:
        if "u" in frame.data:
            return self._back(at, frame.data["u"] - 1, frame.data)
        if frame.stop is Stop.FINISH:
            return Done(outcome)
        done = frame.data["c"] + outcome.ok
        if outcome.ok and not frame.cancelling:
            return self._forward(at, done, frame.data["k"])
        ended = CANCELLED if outcome.ok else outcome
        data: dict[str, Any] = {"o": ended.to_json(), "k": self._kept(frame.data["k"], done)}
        if ended.error is not None:  # what the compensations read as _error (CONTRACT 12.12)
            step = dict(enumerate(self.names)).get(done)
            where = {"failed_step": step, "source": self.type, "block_id": unescape_id(self.id)}
            data["e"] = {**ended.error, **where}
        return self._back(at, done - 1, data)

    def error(self, frame: Frame) -> Mapping[str, Any] | None:
        error: Mapping[str, Any] | None = frame.data.get("e")
        return error

    def revived(
        self, at: NodeKey, frame: Frame, below: Sequence[NodeKey], scope: Scope
    ) -> Move | None:
        not_undone = tuple(key for key in below if not self.keeps(key))
        data = frame.data
        if not_undone:
            was = Outcome.from_json(data["o"])
            ended = was if was.status is Status.FAILED else failed("undone after it was cancelled")
            return Run(not_undone, {**data, "o": ended.to_json(), "u": 0}, shielded=True)
        if not data:
            return None
        if "u" in data:
            return self._forward(at, 0, data["k"])
        last = at.child(self.steps[data["c"]][0].id)
        return self._forward(at, 0, self._kept(data["k"], data["c"] + (last not in below)))

    def keeps(self, child: NodeKey) -> bool:
        return any(child.block_id == action.id for action, _ in self.steps)

    def _forward(self, at: NodeKey, c: int, kept: list[int]) -> Move:
        while c in kept:
            c += 1
        return (
            Run((at.child(self.steps[c][0].id),), {"c": c, "k": kept})
            if c < len(self.steps)
            else Done()
        )

    def _kept(self, kept: list[int], done: int) -> list[int]:
        """The actions that stand whatever happens: completed, and without a compensation."""
        return sorted({*kept, *(i for i in range(done) if self.steps[i][1] is None)})

    def _back(self, at: NodeKey, c: int, data: Data) -> Move:
        while c >= 0:
            undo = self.steps[c][1]
            if undo is not None:
                return Run((at.child(undo.id),), {**data, "u": c}, shielded=True)
            c -= 1
        return Done(Outcome.from_json(data["o"]))


class SagaStepSchema(Base):
    """One action and what undoes it; each is a block or a list of blocks."""

    id = Text(blank=False, printable=True, longest=LONGEST_ID)
    action = Blocks(required=True, single=True)
    compensation = Blocks(single=True)


class SagaSchema(BlockSchema):
    """``{"type": "saga", "steps": [{"id": "buy", "action": {...}, "compensation": {...}}]}``."""

    type = "saga"
    block = Saga

    steps = Many(Part(SagaStepSchema), required=True)

    def slots(self, raw: Mapping[str, Any]) -> Iterator[Slot]:
        steps = raw.get("steps")
        for i, step in enumerate(steps if isinstance(steps, list) else ()):
            if not isinstance(step, dict):
                continue
            at = f"/steps/{i}"
            yield Slot(f"{i}", f"{at}/action", step.get("action"), step.get("id"), single=True)
            if step.get("compensation") is not None:
                yield Slot(f"undo{i}", f"{at}/compensation", step["compensation"], single=True)

    def canonical(
        self, raw: Mapping[str, Any], inside: Mapping[str, list[dict[str, Any]]]
    ) -> dict[str, Any]:
        steps = [
            {
                **{k: v for k, v in step.items() if v is not None and not _lent(k, v, inside, i)},
                "action": _alone(inside.get(f"{i}", [])),
                **({"compensation": _alone(inside[f"undo{i}"])} if f"undo{i}" in inside else {}),
            }
            for i, step in enumerate(raw["steps"])
        ]
        return {**raw, "steps": steps}

    def build(self, draft: Draft) -> Saga:
        pairs, names = [], []
        for i, step in enumerate(draft.values.get("steps", ())):
            given = step or {}
            if draft.contract and given.get("id") is None:
                draft.problem(f"/steps/{i}/id", "id is required", shape=True)
            undo = draft.chain(f"undo{i}") if given.get("compensation") is not None else None
            action = draft.chain(f"{i}")
            pairs.append((action, undo))
            names.append(given.get("id") or _called(action))
        return Saga(id=draft.id, when=draft.when, steps=tuple(pairs), names=tuple(names))


def _called(action: Chain) -> str:
    """A step without an id is called as its action, or the first of several."""
    return unescape_id(next((block.id for block in action.blocks), ""))


def _lent(member: str, value: Any, inside: Mapping[str, list[dict[str, Any]]], number: int) -> bool:
    """Whether this is the id of a saga's step that its lone action has taken."""
    actions = inside.get(f"{number}", [])
    return member == "id" and len(actions) == 1 and actions[0]["id"] == value


def _alone(blocks: list[dict[str, Any]]) -> dict[str, Any] | list[dict[str, Any]]:
    return blocks[0] if len(blocks) == 1 else blocks
