"""Loading what runs need: many values of many instances in one statement per kind."""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from operator import itemgetter
from typing import Any, Final, TypeVar
from uuid import UUID

from orch8.blocks.for_each import is_page, pages_from
from orch8.engine.scope import CONTEXT, STATE, NeedsValues, OutputRef, Part, Ref, StepRef
from orch8.runtime import elsewhere, event_waits
from orch8.runtime.breakers import PROBE, permit
from orch8.runtime.budgets import asked_history
from orch8.runtime.identity import holder_key
from orch8.runtime.library import Library
from orch8.runtime.marks import is_output
from orch8.runtime.pages import Pages
from orch8.runtime.run import Run
from orch8.storage import budgets, identities, instances, signals, steps
from orch8.storage.rows import InstanceRow, StepRow
from orch8.storage.transaction import Tx, dumps

ROUNDS: Final = 50  # of loading before a run is given up: each brings at least one new value
AHEAD: Final = 8  # pages of a collection that are loaded at once, and twice as many each time again
SIGNALS: Final = Part("signals")
CHILD_OF: Final = "child:"
MAX_CHILD_OUTPUTS: Final = 1000
Item = TypeVar("Item")
Work = tuple[Run, Callable[[Run], None]]
Missing = Iterable[tuple[Run, Iterable[Ref]]]


class Contexts:
    """The contexts used last, by instance and version; a version never changes."""

    def __init__(self, capacity: int = 2000) -> None:
        self._kept: OrderedDict[tuple[UUID, int], Any] = OrderedDict()
        self._capacity = capacity
        self._lock = threading.Lock()

    def get(self, instance_id: UUID, version: int) -> Any:
        """The context of an instance at a version; None if it is not kept."""
        with self._lock:
            return self._kept.get((instance_id, version))

    def keep(self, instance_id: UUID, version: int, context: Any) -> None:
        """The context is kept as the newest; beyond the capacity the oldest is dropped."""
        with self._lock:
            self._kept[instance_id, version] = context
            self._kept.move_to_end((instance_id, version))
            while len(self._kept) > self._capacity:
                self._kept.popitem(last=False)


class Loader:
    """Brings runs to their end, loading what they turn out to need on the way."""

    def __init__(self, library: Library, contexts: Contexts) -> None:
        self._library, self._contexts, self._pages = library, contexts, Pages()

    def carry_out(self, tx: Tx, works: Sequence[Work]) -> None:
        """Each piece of work has been done on its run, with everything it needed loaded."""
        for run, _ in works:  # nearly every run needs its context: those at hand cost nothing
            context = self._contexts.get(run.row.id, run.row.context_version)
            if context is not None:
                run.known.values.setdefault(CONTEXT, context)
            run.known.values.update(self._pages.of(run.row.id, run.row.round))
        carry_out(works, partial(self.load, tx))

    def load(self, tx: Tx, missing: Missing) -> None:
        """The values are known to their runs; what does not exist is known to be absent."""
        outputs: list[tuple[Run, OutputRef]] = []
        rows: list[tuple[Run, StepRef]] = []
        contexts: list[Run] = []
        kept: list[Run] = []
        inbox: list[Run] = []
        children: list[tuple[Run, Part]] = []
        for run, refs in missing:
            for ref in refs:
                if isinstance(ref, OutputRef):
                    outputs += ((run, each) for each in pages_from(ref, AHEAD << run.attempt))
                elif isinstance(ref, StepRef):
                    rows.append((run, ref))
                elif ref == CONTEXT:
                    contexts.append(run)
                elif ref == STATE:
                    kept.append(run)
                elif ref == SIGNALS:
                    inbox.append(run)
                elif ref.name.startswith(CHILD_OF):
                    children.append((run, ref))
                else:
                    run.known.values[ref] = self._other(tx, run, ref)
        self._outputs(tx, outputs)
        self._rows(tx, rows)
        self._contexts_of(tx, contexts)
        if kept:
            found = instances.read_state(tx, [run.row.id for run in kept])
            for run in kept:
                run.known.values[STATE] = found[run.row.id]
        for run in inbox:
            run.known.values[SIGNALS] = signals.open_signals(tx, run.row.id)
        self._children(tx, children)

    def _children(self, tx: Tx, wanted: list[tuple[Run, Part]]) -> None:
        if not wanted:
            return
        ids = [child_id(ref) for _, ref in wanted]
        found = instances.read_instances(tx, ids)
        rows = steps.first_steps(tx, found, MAX_CHILD_OUTPUTS)
        for (run, ref), child in zip(wanted, ids, strict=True):
            known = found.get(child)
            run.known.values[ref] = None if known is None else summary(known, rows[child])

    def _outputs(self, tx: Tx, wanted: list[tuple[Run, OutputRef]]) -> None:
        found = steps.read_outputs(tx, [(run.row.id, ref, run.row.round) for run, ref in wanted])
        pages: dict[Run, list[tuple[Ref, Any]]] = defaultdict(list)
        for (run, ref), (output, path) in zip(wanted, found, strict=True):
            run.known.values[ref], run.known.paths[ref] = output, path
            retrying = run.row.round != run.base.round  # what is retried may begin with other items
            if output is not None and is_page(ref) and not retrying:
                pages[run].append((ref, output))
        for run, own in pages.items():
            self._pages.keep(run.row.id, run.row.round, own)

    def _rows(self, tx: Tx, wanted: list[tuple[Run, StepRef]]) -> None:
        if not wanted:
            return
        # Locked: a row that is being claimed this very moment must not be judged as unclaimed.
        found = {
            (row.instance_id, row.key): row
            for row in steps.lock_steps(tx, [(r.row.id, ref.key) for r, ref in wanted])
        }
        for run, ref in wanted:
            run.known.values[ref] = found.get((run.row.id, ref.key))

    def _contexts_of(self, tx: Tx, wanted: list[Run]) -> None:
        absent = []
        for run in wanted:
            context = self._contexts.get(run.row.id, run.row.context_version)
            if context is None:
                absent.append(run)
            else:
                run.known.values[CONTEXT] = context
        if not absent:
            return
        found = instances.read_contexts(
            tx, [(run.row.id, run.row.context_version) for run in absent]
        )
        for run in absent:
            run.known.values[CONTEXT] = context = found.get(run.row.id, {"data": {}, "config": {}})
            self._contexts.keep(run.row.id, run.row.context_version, context)

    def _other(self, tx: Tx, run: Run, ref: Part) -> Any:
        business_key = holder_key(ref)
        if business_key is not None:
            return identities.key_holder(tx, run.row.tenant_id, business_key)
        attempts = asked_history(ref)
        if attempts is not None:
            return budgets.attempts_on(tx, run.row.tenant_id, *attempts)
        if event_waits.is_asked(ref):
            return event_waits.load(tx, run, ref)
        if ref.name.startswith(PROBE):
            return permit(tx, run, ref)
        kind, _, rest = ref.name.partition(":")
        if kind in elsewhere.READERS:
            return elsewhere.READERS[kind](tx, self._library, run.row.tenant_id, rest)
        assert kind == "sequence", ref
        name, _, version = rest.rpartition(":")
        return self._library.named(
            tx, run.row.tenant_id, run.row.namespace, name, int(version) if version else None
        )


def carry_out(works: Sequence[Work], load: Callable[[Missing], None]) -> None:
    """Each piece of work has been done on its run; ``load`` has brought what runs asked for."""
    pending = list(works)
    for attempt in range(ROUNDS):
        missing: list[tuple[Run, Iterable[Ref]]] = []
        again = []
        for run, work in pending:
            if attempt:
                run.attempt = attempt
                run.reset()
            try:
                work(run)
            except NeedsValues as need:
                missing.append((run, need.refs))
                again.append((run, work))
        if not again:
            return
        load(missing)
        pending = again
    raise RuntimeError(f"instance {pending[0][0].row.id} still lacks values after {ROUNDS} rounds")


def for_all(run: Run, items: Iterable[Item], act: Callable[[Item], None]) -> None:
    """``act`` has been done on every item. If values are missing, NeedsValues names what all of the
    items need, as far as it shows, so that it is loaded at once.
    """
    wanted: set[Ref] = set()
    for item in items:
        try:
            act(item)
        except NeedsValues as need:
            wanted |= need.refs
            run.reset()  # the others say what they need as if they came first
    if wanted:
        raise NeedsValues(wanted)


def child_id(ref: Part) -> UUID:
    """The instance of which a part that begins with CHILD_OF tells."""
    return UUID(ref.name.removeprefix(CHILD_OF))


def summary(child: InstanceRow, rows: Iterable[StepRow]) -> dict[str, Any]:
    """What the step that waits for a child reads of it; ``rows`` are the child's first steps."""
    completed = (row for row in rows if row.state == "completed" and is_output(row))
    outputs = [
        {
            "id": str(row.id),
            "instance_id": str(row.instance_id),
            "block_id": row.block_id,
            "node_key": row.node_key,
            "output": row.output,
            "output_ref": None,
            "output_size": len(dumps(row.output)),
            "attempt": row.failures,
            "created_at": at.isoformat(),
        }
        for at, row in sorted(
            ((row.finished_at or row.created_at, row) for row in completed), key=itemgetter(0)
        )
    ]
    return {"state": child.state, "error": child.error, "outputs": outputs}
