"""What expressions can read at a node: context, outputs, loop variables. Values only.

A value that is not loaded raises NeedsValues with everything the expression wants; the shell loads
it and lets the machine run again, which is safe because the machine is pure. So a transition reads
exactly the outputs it needs, and a batch of instances reads them in one statement.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from orch8.engine.block import Index
from orch8.engine.keys import NodeKey, escape_id

if TYPE_CHECKING:
    from orch8.engine.expressions import Condition, Template


class OutputRef(NamedTuple):
    """The output of a block: of exactly this path, or of the highest path that begins with it."""

    block_id: str
    path: tuple[int, ...]
    exact: bool


class StepRef(NamedTuple):
    """The row of a leaf."""

    key: NodeKey


class Part(NamedTuple):
    """A part of the instance that is loaded as a whole."""

    name: str


CONTEXT: Final = Part("context")
STATE: Final = Part("state")
Ref = OutputRef | StepRef | Part
_FREE_ROOTS = frozenset(
    {
        "outputs", "steps", "iteration", "instance_id", "runtime", "now", "state", "instance",
        "decline", "last_decline",
    }
)  # fmt: skip
RESERVED: Final = "@"  # what the keys of state begin with that only the engine writes
DECLINE: Final = "@decline"
LAST_DECLINE: Final = "@last_decline"
_DECLINES: Final = {"decline": DECLINE, "last_decline": LAST_DECLINE}
# What `decline` is when the latest answer about money was none (runtime/declines.py).
NO_DECLINE: Final[Mapping[str, Any]] = {
    "class": None, "fraud": False, "hard": False, "needs_customer": False, "soft": False,
    "technical": False, "code": None, "advice": None, "earliest_retry_at": None,
    "retriable": None, "unknown_in_a_row": 0, "instrument": None, "step": None, "at": None,
}  # fmt: skip


class NeedsValues(Exception):
    """The machine cannot go on before these are loaded."""

    def __init__(self, refs: Iterable[Ref]) -> None:
        self.refs = frozenset(refs)
        super().__init__(f"{len(self.refs)} values")


@dataclass
class Known:
    """What is loaded of one instance, and what its steps have just put out.

    A missing entry of ``values`` is not loaded; None is loaded and absent. ``paths`` says of
    outputs that were asked for by prefix which path they are of. ``fresh`` outputs and ``replaced``
    parts are of the present transaction: not stored yet, and forgotten when it begins anew.
    ``complete``: the instance is new, so what is not here does not exist.
    """

    values: dict[Ref, Any] = field(default_factory=dict)
    paths: dict[Ref, tuple[int, ...]] = field(default_factory=dict)
    fresh: dict[str, dict[tuple[int, ...], Any]] = field(default_factory=dict)
    replaced: dict[Ref, Any] = field(default_factory=dict)
    complete: bool = False

    def get(self, ref: Ref) -> Any:
        """The value, if it is loaded."""
        if isinstance(ref, OutputRef):
            return self._output(ref)
        if ref in self.replaced:
            return self.replaced[ref]
        if ref not in self.values and not self.complete:
            raise NeedsValues((ref,))
        return self.values.get(ref)

    def just_put_out(self, ref: OutputRef) -> Any:
        """The output of exactly this path, if it is of the present transaction."""
        return self.fresh.get(ref.block_id, {}).get(ref.path)

    def put_out(self, key: NodeKey, output: Any) -> None:
        """The step at ``key`` has just ended with this output: it is not stored yet, but counts."""
        self.fresh.setdefault(key.block_id, {})[key.path] = output

    def replace(self, ref: Ref, value: Any) -> None:
        """The part of the instance is ``value`` from now on: it is not stored yet, but counts."""
        self.replaced[ref] = value

    def forget(self) -> None:
        """Nothing has happened to the instance in the present transaction."""
        self.fresh, self.replaced = {}, {}

    def require(self, refs: Iterable[Ref]) -> None:
        """Everything is loaded, or NeedsValues names all that is not."""
        missing = [ref for ref in refs if ref not in self.values and not self._is_fresh(ref)]
        if missing and not self.complete:
            raise NeedsValues(missing)

    def _is_fresh(self, ref: Ref) -> bool:
        if isinstance(ref, OutputRef):
            return ref.exact and ref.path in self.fresh.get(ref.block_id, ())
        return ref in self.replaced

    def _output(self, ref: OutputRef) -> Any:
        fresh = self.fresh.get(ref.block_id, {})
        if ref.exact and ref.path in fresh:
            return fresh[ref.path]
        if ref not in self.values and not self.complete:
            raise NeedsValues((ref,))
        begins = len(ref.path)
        newest = max((path for path in fresh if path[:begins] == ref.path), default=None)
        if ref.exact or newest is None or newest < self.paths.get(ref, ()):
            return self.values.get(ref)
        return fresh[newest]


@dataclass(frozen=True)
class Scope:
    """The values of one instance at one moment; the machine's Values.

    ``before`` are the nodes that were live when the transaction began. What an iteration that began
    since then put out is fresh, so nothing of it is loaded. None, as in a retry: not known.
    """

    index: Index
    instance_id: str
    known: Known
    moment: datetime
    entropy: Callable[[], float]
    runtime: Callable[[NodeKey], Mapping[str, Any]]  # what `runtime` is at a node
    event: Mapping[str, Any] | None = None  # the signal that is being looked at, outside of blocks
    before: Collection[NodeKey] | None = None

    def truthy(self, condition: Condition, at: NodeKey, error: Mapping[str, Any] | None) -> bool:
        """Whether ``condition`` holds at node ``at``, where ``error`` is being handled."""
        return condition.truthy(self._view(condition, at, error))

    def render(self, template: Template, at: NodeKey, error: Mapping[str, Any] | None) -> Any:
        """The JSON that ``template`` becomes at node ``at``, where ``error`` is being handled."""
        if template.is_constant:
            return template.render(_View(self, at, error))
        return template.render(self._view(template, at, error))

    def memoized(self, key: NodeKey, output: Any) -> None:
        """From now on expressions read this at node ``key``: a composite has just decided it."""
        self.known.put_out(key, output)

    def context_at(self, at: NodeKey, error: Mapping[str, Any] | None) -> Any:
        """The context as blocks at ``at`` see it: with loop variables and ``_error`` laid over."""
        return _View(self, at, error).root("context")

    def outputs_at(self, block_ids: Iterable[str], at: NodeKey) -> dict[str, Any]:
        """The outputs that ``block_ids``, as written in a definition, have for node ``at``."""
        refs = {given: ref for given in block_ids if (ref := self.ref(given, at))}
        self.known.require(ref for ref in refs.values() if self._may_be_stored(ref))
        return {given: self.output(ref) for given, ref in refs.items()}

    def output(self, ref: OutputRef) -> Any:
        """The output that ``ref`` means."""
        known = self.known
        return known.get(ref) if self._may_be_stored(ref) else known.just_put_out(ref)

    @cached_property
    def _lived(self) -> frozenset[tuple[int, ...]]:
        return frozenset(key.path for key in self.before or ())

    def _may_be_stored(self, ref: OutputRef) -> bool:
        began = self.before is not None and ref.exact and ref.path and ref.path not in self._lived
        return not began

    def ref(self, given_id: str, at: NodeKey) -> OutputRef | None:
        """Which row ``outputs.<given_id>`` means at node ``at``: the same iteration of every loop
        that both stand in, the last one of the others; None when there is no such block.
        """
        block_id = escape_id(given_id)
        theirs = self.index.loops.get(block_id)
        if theirs is None:
            return None
        if not theirs:
            return OutputRef(block_id, (), True)
        shared = 0
        for mine, other in zip(self.index.loops[at.block_id], theirs, strict=False):
            if mine != other:
                break
            shared += 1
        return OutputRef(block_id, at.path[:shared], shared == len(theirs))

    def _view(
        self, expression: Condition | Template, at: NodeKey, error: Mapping[str, Any] | None
    ) -> _View:
        if expression.outputs or not expression.roots <= _FREE_ROOTS:
            refs = (ref for b in expression.outputs if (ref := self.ref(b, at)))
            wanted: list[Ref] = [ref for ref in refs if self._may_be_stored(ref)]
            if not expression.roots <= _FREE_ROOTS:
                wanted.append(CONTEXT)
            self.known.require(wanted)
        return _View(self, at, error)


class _View:
    """One node's environment for one expression."""

    def __init__(self, scope: Scope, at: NodeKey, error: Mapping[str, Any] | None) -> None:
        self._scope, self._at, self._error = scope, at, error

    def root(self, name: str) -> Any:
        scope = self._scope
        if name == "context":
            return self._context()
        if name in ("data", "config"):
            return _member(self._context(), name)
        if name == "input":
            return _member(_member(self._context(), "data"), "input")
        if name == "runtime":
            return scope.runtime(self._at)
        if name == "instance_id":
            return scope.instance_id
        if name == "instance":
            return {"id": scope.instance_id}
        if name == "state":
            kept = scope.known.get(STATE) or {}
            return {key: value for key, value in kept.items() if not key.startswith(RESERVED)}
        if name in _DECLINES:
            return (scope.known.get(STATE) or {}).get(_DECLINES[name]) or NO_DECLINE
        if name == "signal" and scope.event is not None:
            return scope.event
        variables = self._variables()
        return variables[name]

    def output(self, block_id: str) -> Any:
        ref = self._scope.ref(block_id, self._at)
        return None if ref is None else self._scope.output(ref)

    def now(self) -> datetime:
        return self._scope.moment

    def entropy(self) -> float:
        return self._scope.entropy()

    def _context(self) -> Any:
        context = self._scope.known.get(CONTEXT)
        over = self._variables()
        over.pop("iteration", None)
        if self._error is not None:
            over["_error"] = self._error
        if not over:
            return context
        return {**context, "data": {**(_member(context, "data") or {}), **over}}

    def _variables(self) -> dict[str, Any]:
        """The loop variables at this node, those of inner loops over those of outer ones."""
        at, index = self._at, self._scope.index
        loops = index.loops[at.block_id]
        if len(at.path) > len(loops):  # a loop that asks whether to go on
            loops = (*loops, at.block_id)
        if not loops:
            return {}
        found: dict[str, Any] = {"iteration": at.path[len(loops) - 1] + 1}
        for depth, loop_id in enumerate(loops):
            item = index[loop_id].item_ref(at.path[: depth + 1])
            if item is not None:
                name, page, offset = item
                items = self._scope.known.get(OutputRef(page.block_id, page.path, True))
                found[name] = items[offset]
        return found


def _member(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None
