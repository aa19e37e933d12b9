"""resume: an instance goes on from a block of its outermost list, which it runs anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from orch8.engine.block import Leaf
from orch8.engine.lifecycle import InstanceState as State
from orch8.engine.outcome import failed
from orch8.engine.rewind import rewound
from orch8.engine.scope import CONTEXT
from orch8.errors import Conflict, InvalidArgument
from orch8.runtime.because import Because
from orch8.runtime.derive import main_of
from orch8.runtime.marks import is_output
from orch8.runtime.office import Office, only
from orch8.runtime.rerun import Cut, Wish, check_effects, cut_at, merged, send
from orch8.runtime.retry import again
from orch8.runtime.run import Run
from orch8.runtime.signal import change
from orch8.storage import history, instances
from orch8.storage.rows import InstanceRow
from orch8.storage.transaction import Tx

_FROM: Final = frozenset({State.FAILED, State.PAUSED, State.COMPLETED, State.CANCELLED})


@dataclass(frozen=True, slots=True)
class Resumed:
    """The instance that goes on, how many of its outputs are history now, and signals it has."""

    row: InstanceRow
    superseded: int
    signals: int


def resume_from(
    office: Office, tx: Tx, instance_id: UUID, wish: Wish, because: Because, *,
    tenant_id: str | None,
) -> Resumed:  # fmt: skip
    """The block and all that come after it are run anew, in the instance's next round; what they
    came to is history, kept, but no output. What a paused instance waits for there is called off.

    Raises NotFound; InvalidArgument for an instance that goes on by itself and for a block that is
    not of the outermost list; Conflict as rerun says, and while a call is in flight.
    """
    found, moment = instances.lock_instances(tx, [instance_id])
    row = only(found, instance_id, tenant_id)
    if row.state not in _FROM:
        raise InvalidArgument(
            "can only resume failed, paused, completed or cancelled instances, current state: "
            f"{row.state}"
        )
    published = office.library.get(tx, row.sequence_id)
    cut = cut_at(tx, row, published, wish.block_id)
    repeated = check_effects(tx, row, cut, acknowledged=wish.acknowledged)
    superseded = _supersede(tx, row, cut)

    def resumed(run: Run) -> None:
        _call_off(run)
        chain = main_of(run.index)
        ended = failed(f"resumed from {wish.block_id}", code="resumed")
        run.snapshot = rewound(run.index, chain, cut.place, run.row.round, ended)
        run.row = run.row.but(paused_at=None, cancelling=False)
        context = run.known.get(CONTEXT)
        made = merged(context, wish.data, run.around.settings)
        if made is not context:
            run.set_context(made)
        again(
            run, actor=because.actor, reason=because.reason, request_id=because.request_id,
            noted_as="instance.resumed_from",
            more={"block": wish.block_id, "superseded": superseded, "repeated": repeated},
        )  # fmt: skip

    done = change(office, tx, row, moment, resumed).row
    return Resumed(done, superseded, send(office, tx, instance_id, wish.signals))


def _supersede(tx: Tx, row: InstanceRow, cut: Cut) -> int:
    rows = history.supersede(tx, row.id, cut.rerun)
    shown = [each for each in rows if each.was == "completed" and is_output(each)]
    return len(shown) + history.supersede_traces(tx, row.id, cut.rerun)


def _call_off(run: Run) -> None:
    """Nothing of the run is awaited any more. Raises Conflict for a call that must be."""
    for key in list(run.snapshot.frames):
        if isinstance(run.index[key.block_id], Leaf) and not run.call_off(key):
            raise Conflict(
                f"step {key} of instance {run.row.id} is in flight, or waits for a child or for an "
                "answer that must be known first: let it come to its end, or decide on it"
            )
