"""graft: blocks grow behind those of an instance's sequence, for this instance alone. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from orch8.engine.keys import unescape_id
from orch8.engine.outcome import Outcome, Status
from orch8.engine.rewind import rewound, standing
from orch8.engine.transplant import transplant
from orch8.errors import InvalidArgument, Problem
from orch8.runtime.because import Because
from orch8.runtime.derive import INJECTED, derived, injected_of, main_of, placed
from orch8.runtime.library import Published
from orch8.runtime.run import Run
from orch8.storage.derived import Derived, Repointed

MOST_NAMED: Final = 100  # blocks whose ids an audit entry has


@dataclass(frozen=True, slots=True)
class Injected:
    """The ids of the blocks that were put in, and how many there are by now that were."""

    ids: tuple[str, ...]
    total: int


def graft(run: Run, blocks: Any, position: int | None) -> Injected:
    """The blocks stand at ``position`` among those injected so far, or else behind them; what has
    begun stays before them. Raises InvalidArgument for what are no blocks, with every problem.
    """
    if not isinstance(blocks, list) or not blocks:
        message = "blocks must be a list of blocks, and not be empty"
        hint = 'such as [{"type": "step", "id": "tell", "handler": "notify"}]'
        raise InvalidArgument(message, errors=[Problem("/blocks", message, hint)])
    before, chain = run.published, main_of(run.index)
    own = len(chain.blocks) - before.injected
    present = injected_of(before)
    begun = standing(chain, run.snapshot).begun - own
    wanted = len(present) if position is None else position
    at = min(max(wanted, begun, 0), len(present))
    try:
        version = derived(before, [*present[:at], *blocks, *present[at:]])
    except InvalidArgument as refused:
        errors = placed(refused.errors, own + at, len(blocks))
        raise InvalidArgument(refused.detail, errors=errors) from refused
    assert version.row is not None
    _adopt(run, version.published, version.row)
    new = main_of(run.index).blocks[own + at : own + at + len(blocks)]
    return Injected(tuple(unescape_id(each.id) for each in new), version.row.injected)


def _adopt(run: Run, published: Published, row: Derived) -> None:
    """The run goes on by the version, from where it is."""
    old, chain = run.index, main_of(run.index)
    snapshot = run.snapshot
    run.published, run.index = published, published.sequence.index
    if _is_done(snapshot.outcome) and not snapshot.dormant:  # it left no way back
        done = len(chain.blocks)
        assert snapshot.outcome is not None
        run.snapshot = rewound(
            run.index, main_of(run.index), done, run.row.round, snapshot.outcome, snapshot.finish
        )
    else:
        run.snapshot = transplant(snapshot, old, run.index)
    run.scope = replace(run.scope, index=run.index)
    metadata = run.row.metadata
    if metadata is None or isinstance(metadata, Mapping):
        metadata = {**(metadata or {}), INJECTED: injected_of(published)}
    run.row = run.row.but(sequence_id=published.id, metadata=metadata)
    run.changes.repointed = [Repointed(run.row.id, row, metadata)]


def _is_done(outcome: Outcome | None) -> bool:
    return outcome is not None and outcome.status in (Status.COMPLETED, Status.SKIPPED)


def note(run: Run, made: Injected, because: Because) -> None:
    """The audit log tells of it."""
    named = made.ids[:MOST_NAMED]
    run.audit(
        "instance.blocks_injected", "success", actor=because.actor, reason=because.reason,
        request_id=because.request_id, body={"blocks": named, "total": made.total},
    )  # fmt: skip
