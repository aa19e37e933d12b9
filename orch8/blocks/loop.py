"""loop: the body again and again while the condition holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from orch8.blocks.fields import Blocks, Flag, Span, Text, Whole
from orch8.blocks.schema import BlockSchema, Draft
from orch8.blocks.step import Step
from orch8.engine.block import Block, Chain, Leaf, Scope
from orch8.engine.duration import Duration
from orch8.engine.keys import NodeKey
from orch8.engine.moves import Done, Move, Run
from orch8.engine.outcome import Outcome, Status
from orch8.engine.snapshot import Frame
from orch8.engine.timing import Delay

if TYPE_CHECKING:
    from orch8.engine.expressions import Condition


@dataclass(frozen=True, kw_only=True)
class Loop(Block):
    """The body while ``condition`` holds (checked before), until ``break_on`` does (checked after).

    Reaching ``max_iterations`` completes it, and so does a guard that breaks it off. ``pause`` is
    waited between two iterations. Blocks inside read ``iteration``, which counts from 1.
    """

    type: ClassVar[str] = "loop"
    iterates: ClassVar[bool] = True

    body: Chain
    condition: Condition | None = None
    break_on: Condition | None = None
    max_iterations: int = 1000
    continue_on_error: bool = False
    pause: Leaf | None = None

    def forgives(self, outcome: Outcome) -> bool:
        return outcome.breaks or (self.continue_on_error and outcome.status is Status.FAILED)

    def chains(self) -> Iterable[Block]:
        yield self.body
        if self.pause is not None:
            yield self.pause

    def start(self, at: NodeKey, scope: Scope) -> Move:
        return self._iterate(at, 0, scope)

    def settled(
        self, at: NodeKey, frame: Frame, child: NodeKey, outcome: Outcome, live: int, scope: Scope
    ) -> Move:
        if outcome.breaks:
            return Done()
        return (
            self._after(at, frame, scope) if outcome.ok or self.forgives(outcome) else Done(outcome)
        )

    def revived(
        self, at: NodeKey, frame: Frame, below: Sequence[NodeKey], scope: Scope
    ) -> Move | None:
        if below:
            return Run(tuple(below), frame.data)
        return self._after(at, frame, scope) if frame.data else None

    def _after(self, at: NodeKey, frame: Frame, scope: Scope) -> Move:
        i = frame.data["i"]
        if "p" in frame.data:
            return self._iterate(at, i + 1, scope)
        if self.break_on is not None and scope.truthy(self.break_on, at.nth(self.body.id, i)):
            return Done()
        if self.pause is not None and i + 1 < self.max_iterations:
            return Run((at.nth(self.pause.id, i),), {"i": i, "p": 1})
        return self._iterate(at, i + 1, scope)

    def _iterate(self, at: NodeKey, i: int, scope: Scope) -> Move:
        if i >= self.max_iterations:
            return Done()
        # The condition stands at the loop: it reads what the iteration before put out.
        if self.condition is not None and not scope.truthy(self.condition, at.nth(self.id, i)):
            return Done()
        return Run((at.nth(self.body.id, i),), {"i": i})


class PollInterval(Span):
    """The pause between iterations: a duration, but a whole number is seconds."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Duration:
        if isinstance(value, int) and not isinstance(value, bool):
            value = {"seconds": value}
        return super()._deserialize(value, attr, data, **kwargs)


class LoopSchema(BlockSchema):
    """``{"type": "loop", "condition": ..., "until": ..., "body": [...]}``."""

    type = "loop"
    block = Loop

    condition = Text(blank=False)
    until = Text(blank=False)
    break_on = Text(blank=False)
    body = Blocks(required=True, least=1)
    max_iterations = Whole(least=1, most=100_000)
    continue_on_error = Flag()
    poll_interval = PollInterval()
    retain_iterations = Whole()

    def canonical(
        self, raw: Mapping[str, Any], inside: Mapping[str, list[dict[str, Any]]]
    ) -> dict[str, Any]:
        renamed = {"break_on" if name == "until" else name: value for name, value in raw.items()}
        return {name: inside.get(name, value) for name, value in renamed.items()}

    def build(self, draft: Draft) -> Loop:
        values = draft.values
        if "until" in values and "break_on" in values:
            draft.problem("/until", "until and break_on say the same: keep one")
        if "retain_iterations" in values:
            draft.warn("/retain_iterations", "every iteration is kept", code="ignored")
        end = "until" if "until" in values else "break_on"
        interval = values.get("poll_interval")
        return Loop(
            id=draft.id,
            when=draft.when,
            body=draft.chain("body"),
            condition=draft.condition(values.get("condition"), "/condition"),
            break_on=draft.condition(values.get(end), f"/{end}"),
            max_iterations=values.get("max_iterations", 1000),
            continue_on_error=values.get("continue_on_error", False),
            pause=Step(id=f"@{draft.id}.pause", handler="wait", delay=Delay(interval))
            if interval not in (None, Duration())
            else None,
        )
