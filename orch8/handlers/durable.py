"""The parameters of the built-in handlers that the runtime implements."""

from __future__ import annotations

from orch8.errors import Problem
from orch8.handlers.builtin import Params, allows, needs

_DURATION = 'a duration such as "5s", {"days": 3} or milliseconds'


def check_wait(params: Params) -> list[Problem]:
    """The duration, if it is given as a parameter, has the shape of one."""
    return allows(params, "duration", (str, int, dict), _DURATION)


def check_sleep(params: Params) -> list[Problem]:
    """``duration_ms``, if given, is a whole number of milliseconds that is not negative."""
    wanted = "a whole number of milliseconds, 0 or more"
    value = params.get("duration_ms")
    if isinstance(value, int) and not isinstance(value, bool) and value < 0:
        return [
            Problem("/duration_ms", f"duration_ms must be {wanted}", f"write {wanted}", "range")
        ]
    return allows(params, "duration_ms", int, wanted)


def check_wait_signal(params: Params) -> list[Problem]:
    """The signal's name, if it is given as a parameter, is a text."""
    return allows(params, "signal", str, "the name of a signal") + allows(
        params, "timeout", (str, int, dict), _DURATION
    )


def check_wait_for_event(params: Params) -> list[Problem]:
    """``events`` and ``correlation_key`` are there; what join and count are has its kind."""
    problems = needs(params, "correlation_key", str, "what the events are about")
    if "events" not in params:
        hint = 'add events: a name, or a list such as ["invoice.paid"]'
        problems.append(Problem("/events", "events is required", hint, "required", shape=True))
    problems += allows(params, "events", (str, list), "a name, or a list of names")
    if isinstance(params.get("events"), list) and not params["events"]:
        problems.append(Problem("/events", "events must not be empty", "name one", "empty"))
    problems += allows(params, "join", str, '"all", "any" or "count"')
    return problems + allows(params, "count", int, "a whole number")


def check_human_review(params: Params) -> list[Problem]:
    """The address to notify and its headers, if given, have their kinds."""
    problems = allows(params, "notify_url", str, "an address")
    return problems + allows(params, "notify_headers", dict, "an object")


def check_sequence(params: Params) -> list[Problem]:
    """``sequence_name`` or ``sequence`` names what to start; ``input`` is an object."""
    if "sequence_name" not in params and "sequence" not in params:
        hint = "add sequence: the name of a published sequence"
        return [Problem("/sequence", "sequence is required", hint, "required", shape=True)]
    problems = allows(params, "sequence_name", str, "the name of a sequence")
    problems += allows(params, "sequence", str, "the name of a sequence")
    problems += allows(params, "version", int, "a version number")
    return problems + allows(params, "input", dict, "an object")


def check_guard(_params: Params) -> list[Problem]:
    """Nothing is wrong with them: the block ``guard`` wrote them."""
    return []


def check_key(params: Params) -> list[Problem]:
    """``key`` names an entry of the instance's state."""
    problems = needs(params, "key", str, "a text")
    if not problems and params["key"] == "":
        problems = [Problem("/key", "key must not be empty", "name the entry", "empty")]
    return problems


def check_self_modify(params: Params) -> list[Problem]:
    """``blocks`` is a list; ``position``, if given, a whole number."""
    problems = needs(params, "blocks", list, "a list of blocks")
    return problems + allows(params, "position", int, "a whole number")
