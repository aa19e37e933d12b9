"""The parameters of the built-in handlers that the runtime implements."""

from __future__ import annotations

from orch8.errors import Problem
from orch8.handlers.builtin import Params, allows, is_template, needs

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


def check_values(params: Params) -> list[Problem]:
    """``values`` is an object of what is kept."""
    return allows(params, "values", dict, "an object: a value for each key")


def check_instance(params: Params) -> list[Problem]:
    """``instance_id`` names an instance."""
    return needs(params, "instance_id", str, "the id of an instance")


def check_signal(params: Params) -> list[Problem]:
    """``instance_id`` names the target, and ``signal_type`` what it is sent."""
    wanted = 'pause, resume, cancel, update_context or {"custom": name}'
    if "signal_type" not in params:
        hint = f"add signal_type: {wanted}"
        missing = [Problem("/signal_type", "signal_type is required", hint, "required", shape=True)]
        return check_instance(params) + missing
    return check_instance(params) + allows(params, "signal_type", (str, dict), wanted)


def check_emit(params: Params) -> list[Problem]:
    """``trigger_slug`` names a trigger; ``dedupe_scope``, if given, is parent or tenant."""
    problems = needs(params, "trigger_slug", str, "the slug of a trigger")
    problems += allows(params, "meta", dict, "an object")
    problems += allows(params, "dedupe_key", (str, int), "a text")
    scope = params.get("dedupe_scope")
    if scope not in (None, "parent", "tenant") and not is_template(scope):
        hint = "leave it out for parent"
        problems.append(Problem("/dedupe_scope", "dedupe_scope must be parent or tenant", hint))
    return problems


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
