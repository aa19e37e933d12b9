"""approval_findings: what a diagnosis says of a step that waits for an answer, or for events."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from typing import Any, Final

from orch8.blocks.approval import APPROVAL, EVENT, HUMAN_INPUT, YES
from orch8.engine.keys import unescape_id
from orch8.runtime.consent import ASKED
from orch8.runtime.finding import Finding, Remedy, Sign
from orch8.storage import event_waits
from orch8.storage.rows import StepRow
from orch8.storage.transaction import Tx

Make = Callable[..., Finding]


def unanswered(tx: Tx, direct: Make, row: StepRow) -> Finding:
    """Whose answer the step waits for; ``direct`` makes the finding of it."""
    return _FINDINGS[row.waits_for or ""](tx, direct, row)


def _approval(tx: Tx, direct: Make, row: StepRow) -> Finding:
    del tx
    block, first = unescape_id(row.block_id), _asked(row).get("first", YES.value)
    payload = shlex.quote(json.dumps({"value": first}))
    send = Remedy(
        "answer it, as one of those who may",
        command=f"orch8 signal {row.instance_id} custom:{HUMAN_INPUT}{block} {payload}",
    )
    return direct(
        "PENDING_APPROVAL", f"step {block!r} waits for a person's answer",
        remedies=(send,), evidence=_until(row),
    )  # fmt: skip


def _event(tx: Tx, direct: Make, row: StepRow) -> Finding:
    found = event_waits.wait_of(tx, row.instance_id, row.node_key)
    if found is None:
        return direct("WAITING_EVENT", f"step {row.node_key!r} is about to wait for events")
    wait, came = found
    wanted = wait.wanted
    missing = [name for name in wanted.names if wanted.takes(name, [e.event_name for e in came])]
    about = {"join": wanted.join, "count": wanted.count, "matched": [str(e.id) for e in came]}
    sign = Sign("wait", f"correlation_key {wanted.correlation_key}", about)
    return direct(
        "WAITING_EVENT",
        f"step {row.node_key!r} waits for {', '.join(missing)} about {wanted.correlation_key!r}",
        evidence=(sign, *_until(row)),
    )  # fmt: skip


_FINDINGS: Final[Mapping[str, Callable[[Tx, Make, StepRow], Finding]]] = {
    APPROVAL: _approval,
    EVENT: _event,
}


def _asked(row: StepRow) -> Mapping[str, Any]:
    asked: Mapping[str, Any] = (row.progress or {}).get(ASKED) or {}
    return asked


def _until(row: StepRow) -> tuple[Sign, ...]:
    asked = _asked(row)
    since = Sign("waiting_since", str(asked.get("at")))
    return (since, Sign("deadline", asked["until"])) if asked.get("until") else (since,)
