"""What every view needs: the office, the announcer, the settings and the counters of one app."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flask import current_app

if TYPE_CHECKING:
    from api.metrics import Counters
    from orch8.config import Settings
    from orch8.runtime.intake import Intake
    from orch8.runtime.lease import Lease
    from orch8.runtime.office import Office

EXTENSION = "orch8"


@dataclass(frozen=True)
class Surface:
    """The parts that the composition root wired. ``announce(lane)`` returns at once, always; by
    ``node`` this process is known to the others.
    """

    settings: Settings
    office: Office
    intake: Intake
    announce: Callable[[str], None]
    counters: Counters
    node: Lease
    described: dict[str, Any] = field(
        default_factory=dict
    )  # the OpenAPI document, once it was asked for


def surface() -> Surface:
    """The parts of the app that is answering."""
    found = current_app.extensions[EXTENSION]
    assert isinstance(found, Surface)
    return found
