"""The built-in handler ``log``: it writes a message of the sequence's author to the log."""

from __future__ import annotations

from typing import Any, Final

import orjson
import structlog

from orch8.engine.outcome import Answer, Verdict
from orch8.errors import Problem
from orch8.handlers.builtin import Params, is_template

MAX_LOGGED: Final = 8192
LEVELS: Final = ("debug", "info", "warn", "error")
_logger = structlog.get_logger("orch8.handlers.log")


def check(params: Params) -> list[Problem]:
    """The level, if given, is one of LEVELS; the message may be anything."""
    level = params.get("level")
    if level is None or is_template(level) or level in LEVELS:
        return []
    names = ", ".join(LEVELS)
    return [Problem("/level", f"level must be one of {names}", "leave it out for info", "level")]


def run(params: Params) -> Answer:
    """The message is in the log, cut to 8192 characters; the output has it whole."""
    message = params.get("message", "no message")
    level = params.get("level")
    write = {"debug": _logger.debug, "warn": _logger.warning, "error": _logger.error}.get(
        level if isinstance(level, str) else "info", _logger.info
    )
    write("step_log", message=_bounded(message))
    return Answer(Verdict.SUCCEEDED, output={"message": message})


def _bounded(message: Any) -> str:
    text = message if isinstance(message, str) else _as_json(message)
    return text if len(text) <= MAX_LOGGED else text[:MAX_LOGGED] + "…"


def _as_json(message: Any) -> str:
    try:
        return orjson.dumps(message).decode()
    except TypeError:
        return repr(message)
