"""Interrupts: what signals from outside do to a run, and the root that carries them out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from orch8.blocks.end import End
from orch8.blocks.fields import Anything, Blocks, Choice, Many, Object, Span, Text, escape
from orch8.blocks.schema import Base, BlockSchema, Draft
from orch8.blocks.step import Step
from orch8.engine.block import Block, Chain, Scope
from orch8.engine.events import Interrupted
from orch8.engine.keys import NodeKey, escape_id
from orch8.engine.moves import Act, Done, Halt, Memo, Move, Overdue, Run, Wait
from orch8.engine.outcome import COMPLETED, Outcome, Status, failed
from orch8.engine.snapshot import Frame
from orch8.engine.timing import Delay

if TYPE_CHECKING:
    from orch8.engine.expressions import Template

SLA: Final = "@sla"  # the leaf that measures the run; it is not a step of the definition
SIGNAL: Final = "signal"  # the variable in which an interrupt's blocks read their signal
MOST: Final = 100  # interrupts of a sequence, and members that one of them sets or wakes
Path = tuple[str, ...]
Breach = Literal["alert", "cancel", "fail"]


@dataclass(frozen=True, kw_only=True)
class Interrupt(Block):
    """What one signal does: it changes the context, ends waits, runs blocks.

    Its node is never entered, since it would have to be entered for every signal: the root enters
    the body itself, and the n-th signal is iteration n of the body.
    """

    type: ClassVar[str] = "interrupt"
    iterates: ClassVar[bool] = True

    signal: str
    match: Template | None = None
    set: tuple[tuple[Path, Template | None], ...] = ()  # members below context.data; None is null
    wake: frozenset[str] = frozenset()
    body: Chain | None = None

    @property
    def closing(self) -> bool:
        """Whether its blocks are how the run ends, so that all else has to stop before."""
        return self.body is not None and any(isinstance(each, End) for each in self.body.blocks)

    def chains(self) -> Iterable[Block]:
        return () if self.body is None else (self.body,)

    def item_ref(self, path: tuple[int, ...]) -> tuple[str, NodeKey, int] | None:
        return SIGNAL, NodeKey(f"{self.id}@{SIGNAL}", path), 0


@dataclass(frozen=True, kw_only=True)
class Root(Block):
    """The main chain, what interrupts run beside it or instead of it, and the clock of the run.

    It waits for everything but the clock and ends as the worst of it did. A closing interrupt asks
    all else to stop, runs shielded when nothing else is live, and decides how the run ends; the
    first one wins. Notes: ``n`` signals taken by interrupt, ``by`` the closing one, ``o`` the worst
    outcome so far, ``late`` when the clock is done.
    """

    type: ClassVar[str] = "root"

    main: Chain
    interrupts: tuple[Interrupt, ...] = ()
    sla: Block | None = None
    on_breach: Breach = "alert"
    longest_step: timedelta | None = None  # a step that takes longer is told of

    def chains(self) -> Iterable[Block]:
        bodies = tuple(each for each in self.interrupts if each.body is not None)
        return (self.main, *bodies) if self.sla is None else (self.main, *bodies, self.sla)

    def start(self, at: NodeKey, scope: Scope) -> Move:
        return Run((at.child(self.main.id), *self._clock(at)))

    def interrupted(
        self, at: NodeKey, frame: Frame, event: Interrupted, live: Sequence[NodeKey]
    ) -> Move | None:
        interrupt, number = self.interrupts[event.number], str(event.number)
        if interrupt.body is None or "by" in frame.data:
            return None
        taken: dict[str, int] = frame.data.get("n", {})
        data = {**frame.data, "n": {**taken, number: taken.get(number, 0) + 1}}
        body = _last(interrupt, at, data, number)
        memo = Memo(at.nth(f"{interrupt.id}@{SIGNAL}", body.path[-1]), [dict(event.signal)])
        if interrupt.closing:
            rest = tuple(key for key in live if key.block_id != SLA)
            return Act((memo,), Halt(rest, {**data, "by": number}))
        return Act((memo,), Run((body,), data))

    def settled(
        self, at: NodeKey, frame: Frame, child: NodeKey, outcome: Outcome, live: int, scope: Scope
    ) -> Move:
        data = frame.data
        if child.block_id == SLA:
            return self._overdue(at, data, outcome)
        rest = live - (self.sla is not None and "late" not in data)
        if "by" in data:
            body = self._closing(at, data)
            if child == body:
                return Done(outcome)
            return Wait() if rest else Run((body,), data, shielded=True)
        so_far = Outcome.from_json(data["o"]) if "o" in data else COMPLETED
        if so_far.ok or (outcome.status is Status.FAILED and so_far.status is not Status.FAILED):
            so_far = outcome
        if not rest:
            return Done(so_far)
        return Wait() if so_far.ok else Wait({**data, "o": so_far.to_json()})

    def revived(
        self, at: NodeKey, frame: Frame, below: Sequence[NodeKey], scope: Scope
    ) -> Move | None:
        kept = {name: frame.data[name] for name in ("n", "by") if name in frame.data}
        if "by" in kept:
            return Run((self._closing(at, kept),), {**kept, "late": 1}, shielded=True)
        stopped = tuple(key for key in below if key.block_id != SLA)
        # With nothing below, all of it completed after the run was failed for taking too long.
        return Run((*stopped, *self._clock(at)), kept) if stopped else Done()

    def _clock(self, at: NodeKey) -> tuple[NodeKey, ...]:
        return () if self.sla is None else (at.child(self.sla.id),)

    def _closing(self, at: NodeKey, data: Mapping[str, Any]) -> NodeKey:
        return _last(self.interrupts[int(data["by"])], at, data, data["by"])

    def _overdue(self, at: NodeKey, data: Mapping[str, Any], outcome: Outcome) -> Move:
        late = Wait({**data, "late": 1})
        if not outcome.ok:
            return late
        ending = "by" in data  # by an interrupt: it is told, but not hurried
        effect = Overdue(at, cancel=self.on_breach == "cancel" and not ending)
        if self.on_breach == "fail" and not ending:
            return Act((effect,), Done(failed("the run took too long", code="sla_breached")))
        return Act((effect,), late)


def _last(interrupt: Interrupt, at: NodeKey, data: Mapping[str, Any], number: str) -> NodeKey:
    """The body of the interrupt as its last signal started it."""
    assert interrupt.body is not None
    return at.nth(interrupt.body.id, data["n"][number] - 1)


class InterruptSchema(BlockSchema):
    """``{"signal": "invoice.paid", "blocks": [...]}``, an entry of a sequence's interrupts."""

    class Meta(Base.Meta):  # noqa: D106 - marshmallow's place for options
        exclude = ("type_", "id", "when")

    type = "interrupt"
    block = Interrupt

    signal = Text(required=True, blank=False, longest=255)
    match = Object()
    set = Object()
    wake = Many(Text(blank=False), most=MOST)
    blocks = Blocks(least=1)
    then = Choice("resume")
    goto = Anything()

    def variables(self, values: Mapping[str, Any]) -> frozenset[str]:
        return frozenset((SIGNAL,))

    def build(self, draft: Draft) -> Interrupt:
        values = draft.values
        if values.get("goto") is not None:
            hint = "write what is to happen as blocks, with an end block if the run ends there"
            draft.problem("/goto", "there is no goto", hint)
        elif draft.raw.keys().isdisjoint(("set", "wake", "blocks")):
            draft.problem("", "nothing happens", "add set, wake or blocks")
        if "then" in values:
            hint = "write a closing interrupt if it must not"
            draft.warn("/then", "the main blocks run on meanwhile", hint)
        body = draft.chain("blocks")
        return Interrupt(
            id=f"@{draft.id}",
            signal=values.get("signal", ""),
            match=draft.template(values.get("match"), "/match"),
            set=tuple(_members(draft)),
            wake=frozenset(escape_id(e) for e in values.get("wake", ()) if isinstance(e, str)),
            body=body if body.blocks else None,
        )


def _members(draft: Draft) -> Iterable[tuple[Path, Template | None]]:
    given = draft.values.get("set", {})
    if len(given) > MOST:
        draft.problem("/set", f"set must not have more than {MOST} members")
        return
    for path, value in given.items():
        pointer = f"/set/{escape(path)}"
        if _PATH.fullmatch(path) is None:
            hint = 'such as "context.data.payment_method_id"'
            draft.problem(pointer, f"{path[:60]!r} is no place below context.data", hint)
            continue
        yield tuple(path.split(".")[2:]), draft.template(value, pointer)


_PATH: Final = re.compile(r"context\.data(\.[A-Za-z_][A-Za-z0-9_-]*){1,16}")


class SlaSchema(Base):
    """``{"max_duration": {"days": 45}, "on_breach": "alert"}``; clients of the contract write
    ``max_runtime``.
    """

    max_duration = Span(positive=True)
    max_runtime = Span(positive=True)
    max_step_runtime = Span(fixed=True, positive=True)
    on_breach = Choice("alert", "cancel", "fail")


def rooted(main: Chain, interrupts: Sequence[Interrupt], sla: Mapping[str, Any] | None) -> Block:
    """The block that a run of these is: the main chain itself when there is nothing beside it."""
    if not interrupts and sla is None:
        return main
    clock = None
    longest = None if sla is None else sla.get("max_duration", sla.get("max_runtime"))
    if longest is not None:
        clock = Step(id=SLA, handler="wait", delay=Delay(longest))
    given = sla or {}
    step = given.get("max_step_runtime")
    return Root(
        id="@root",
        main=main,
        interrupts=tuple(interrupts),
        sla=clock,
        on_breach=given.get("on_breach") or "alert",
        longest_step=None if step is None else timedelta(milliseconds=step.total_ms()),
    )
