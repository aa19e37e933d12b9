"""orch8's own no-op step: a Python handler, as the peers' steps are functions in their workers."""

from __future__ import annotations

from typing import Any

import orch8
from orch8.handlers.request import StepRequest
from tests.peers.programs.step import step


@orch8.handler("peers_noop")
def noop(request: StepRequest) -> dict[str, Any]:
    """One step."""
    return step("noop", request.instance_id, 0, request.context)
