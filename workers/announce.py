"""Wake-ups: the one kind of message that orch8 sends through the broker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from workers.app import app

EXPIRES: Final = 5  # seconds: after that a tick has looked again


def wake(lane: str, reason: str, step_ids: Sequence[UUID] = ()) -> None:
    """A worker of the lane is told to look. The ids are for whoever watches the broker."""
    app.send_task(
        "orch8.work",
        kwargs={"lane": lane, "reason": reason, "step_ids": [str(i) for i in step_ids]},
        queue=f"o8.{lane}",
        expires=EXPIRES,
        ignore_result=True,
    )
