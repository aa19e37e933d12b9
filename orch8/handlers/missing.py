"""What stands for a built-in handler that orch8 does not have: it fails and says so."""

from __future__ import annotations

from orch8.engine.outcome import Answer, Verdict
from orch8.errors import Problem
from orch8.handlers.builtin import Params, Pure

CODE = "not_part_of_orch8"


def missing(name: str) -> Pure:
    """A handler that fails every step, for good."""
    message = (
        f"{name!r} is not part of orch8; register an address for it (PUT /handlers/{name}), or "
        "call a handler of your own"
    )

    def check(_params: Params) -> list[Problem]:
        return []

    def run(_params: Params) -> Answer:
        return Answer(Verdict.FAILED, error={"message": message, "code": CODE})

    return Pure(check, run)
