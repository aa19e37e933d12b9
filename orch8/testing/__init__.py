"""What users import in their own tests: `from orch8.testing import Simulator`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from orch8.engine.outcome import Answer as Answer
    from orch8.engine.outcome import Verdict as Verdict
    from orch8.handlers.python import Declined as Declined
    from orch8.handlers.python import RateLimited as RateLimited
    from orch8.handlers.python import Refused as Refused
    from orch8.handlers.python import TryAgain as TryAgain
    from orch8.handlers.request import StepRequest as StepRequest
    from orch8.testing.driver import Call as Call
    from orch8.testing.instance import SimInstance as SimInstance
    from orch8.testing.instance import TimelineEntry as TimelineEntry
    from orch8.testing.scripts import SimulationError as SimulationError
    from orch8.testing.scripts import crash as crash
    from orch8.testing.scripts import http as http
    from orch8.testing.scripts import takes as takes
    from orch8.testing.scripts import time_out as time_out
    from orch8.testing.simulator import Simulator as Simulator

_HOME: Final = {
    "Answer": "orch8.engine.outcome",
    "Verdict": "orch8.engine.outcome",
    "Declined": "orch8.handlers.python",
    "RateLimited": "orch8.handlers.python",
    "Refused": "orch8.handlers.python",
    "TryAgain": "orch8.handlers.python",
    "StepRequest": "orch8.handlers.request",
    "Call": "orch8.testing.driver",
    "SimInstance": "orch8.testing.instance",
    "TimelineEntry": "orch8.testing.instance",
    "SimulationError": "orch8.testing.scripts",
    "crash": "orch8.testing.scripts",
    "http": "orch8.testing.scripts",
    "takes": "orch8.testing.scripts",
    "time_out": "orch8.testing.scripts",
    "Simulator": "orch8.testing.simulator",
}


def __getattr__(name: str) -> Any:
    # Loaded when it is asked for: the pretend provider lives here too and needs none of the core.
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)
