"""human_review and wait_for_event: what a step puts out once it has been answered."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from orch8.blocks.approval import Approval
from orch8.blocks.step import Step
from orch8.engine.keys import unescape_id
from orch8.engine.outcome import COMPLETED, Verdict, failed
from orch8.errors import ExpressionError, SsrfBlocked
from orch8.handlers import ssrf
from orch8.runtime import event_waits
from orch8.runtime.run import Run
from orch8.storage.rows import StepRow


def human_review(run: Run, row: StepRow, params: Any) -> None:
    """human_review: what there was to review, and which answers there were (CONTRACT 18). Nobody is
    notified; an address that could not be fails the step all the same.
    """
    given = params if isinstance(params, Mapping) else {}
    try:
        if given.get("notify_url") is not None:
            _check(given["notify_url"], allow_internal=run.around.settings.allow_internal_urls)
    except SsrfBlocked as problem:
        run.end(row, failed(f"notify_{problem.detail}", code=problem.code))
        return
    block = run.block(row)
    approval = (block.approval if isinstance(block, Step) else None) or Approval()
    output = {
        "type": "human_review",
        "status": "pending",
        "reviewer": given.get("reviewer", "unassigned"),
        "instructions": given.get("instructions", ""),
        "review_data": given.get("review_data"),
        "instance_id": str(row.instance_id),
        "block_id": unescape_id(row.block_id),
        "choices": [{"label": each.label, "value": each.value} for each in approval.choices],
        "allow_comment": approval.allow_comment,
    }
    run.end(row, COMPLETED, output=output, verdict=Verdict.SUCCEEDED)


def wait_for_event(run: Run, row: StepRow, params: Any) -> None:
    """wait_for_event: the events that came, and whether they are all that were wanted."""
    del params  # they were read when the wait began
    found = event_waits.standing(run, row)
    if found is None:
        raise ExpressionError("the wait for events is gone")
    run.end(row, COMPLETED, output=found.output(), verdict=Verdict.SUCCEEDED)


def _check(url: Any, *, allow_internal: bool) -> None:
    """Raises SsrfBlocked for an address that nobody may be notified at. Names are not looked up."""
    host = ssrf.check_form(url).hostname or ""
    internal = host == "localhost" or (_is_address(host) and ssrf.is_blocked(host))
    if internal and not allow_internal:
        raise SsrfBlocked(f"url: {host} is an internal address; use a public one")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
