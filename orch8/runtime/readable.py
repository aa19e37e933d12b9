"""readable: what expressions read under ``runtime``: which run they are in, and which try of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from orch8.engine.expressions.values import timestamp
from orch8.engine.keys import NodeKey, unescape_id

if TYPE_CHECKING:
    from orch8.runtime.run import Run


def runtime_of(of: Callable[[], Run | None], at: NodeKey) -> Mapping[str, Any]:
    """What ``runtime`` is at a node; ``attempt`` counts the answered failures of its step."""
    run = of()
    assert run is not None  # its scope is asked by nobody after it
    step = run.entered.get(at) or run.touched.get(at)
    return {
        "instance_id": str(run.row.id),
        "run_id": f"{run.row.id}~{run.row.round}",
        "started_at": timestamp(run.row.created_at),
        "current_step": unescape_id(at.block_id),
        "attempt": 0 if step is None else step.failures,
        "dry_run": run.row.dry_run,
    }
