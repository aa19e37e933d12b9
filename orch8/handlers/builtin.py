"""The kinds of built-in handlers and the checks of parameters that they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from orch8.engine.outcome import Answer
from orch8.errors import Problem
from orch8.handlers.classify import Classify
from orch8.handlers.http import Call

Params = Mapping[str, Any]
Check = Callable[[Params], list[Problem]]


@dataclass(frozen=True, slots=True)
class CallSite:
    """What a built-in that calls out needs to know beyond its parameters. Seconds and bytes.

    ``attempt`` counts the attempts of the step from 0; ``repeatable``: the step's effect is none,
    read or notify.
    """

    idempotency_key: str
    connect_timeout: float = 5.0
    max_response: int = 10 * 1024 * 1024
    guard: bool = True
    not_after: float | None = None
    key_header: str = "Idempotency-Key"
    classify: Classify | None = None  # how a provider's answers are read; None: by their status
    instance_id: str = ""
    block_id: str = ""
    attempt: int = 0
    repeatable: bool = False


@dataclass(frozen=True, slots=True)
class Pure:
    """A handler without effects: ``run`` maps rendered parameters to an answer."""

    check: Check
    run: Callable[[Params], Answer]
    kind: Literal["pure"] = "pure"


@dataclass(frozen=True, slots=True)
class HttpCall:
    """A handler that is one HTTP call; ``run`` gives the call, or the answer if it cannot be made.

    ``effect`` names the step's effect ("read" or "external") when the step names none.
    """

    check: Check
    run: Callable[[Params, CallSite], Call | Answer]
    effect: Callable[[Params], str]
    timeout: float  # seconds, if the params do not say
    kind: Literal["call"] = "call"


@dataclass(frozen=True, slots=True)
class Durable:
    """A handler that the runtime implements."""

    check: Check
    kind: Literal["durable"] = "durable"


Builtin = Pure | HttpCall | Durable


def is_template(value: Any) -> bool:
    """Whether a parameter's value is only known when it is rendered."""
    return isinstance(value, str) and "{{" in value


def needs(params: Params, name: str, kind: type, wanted: str) -> list[Problem]:
    """The problem of a required parameter, if it is missing or not of its kind."""
    if name not in params:
        return [
            Problem(
                f"/{name}", f"{name} is required", f"add {name}: {wanted}", "required", shape=True
            )
        ]
    return allows(params, name, kind, wanted)


def allows(params: Params, name: str, kind: type | tuple[type, ...], wanted: str) -> list[Problem]:
    """The problem of an optional parameter, if it is there and not of its kind."""
    value = params.get(name)
    if value is None or is_template(value):
        return []
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if isinstance(value, kinds) and (not isinstance(value, bool) or bool in kinds):
        return []
    return [Problem(f"/{name}", f"{name} must be {wanted}", f"write {wanted}", "type", shape=True)]
