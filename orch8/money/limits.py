"""How many calls providers take: their published limits, each with its source."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Final

from orch8.engine.duration import parse_duration
from orch8.errors import ConfigurationError

MODES: Final = ("live", "test")
_PLACE: Final = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Allowed:
    """``max`` calls in any ``window`` seconds, and at a time no more than ``max_in_flight``."""

    max: int
    window: float
    max_in_flight: int | None = None


@dataclass(frozen=True, slots=True)
class ProviderLimit:
    """One limit. ``key`` has the places {mode} and {account}; any other, such as {item}, stands for
    an object of which each has the limit for itself. None: no number is published for that mode.
    """

    key: str
    covers: str
    live: Allowed | None = None
    test: Allowed | None = None
    block: float = 0.0  # seconds for which the provider takes no call after one too many

    @property
    def each(self) -> str | None:
        """What each has this limit for itself, None if it is the account's."""
        places = [name for name in _PLACE.findall(self.key) if name not in ("mode", "account")]
        return places[0] if places else None


@dataclass(frozen=True, slots=True)
class ProviderLimits:
    """The limits of one provider; ``account`` says what they are counted by."""

    name: str
    title: str
    account: str
    checked: str
    source: str
    limits: tuple[ProviderLimit, ...]
    note: str = ""


def read_limits(given: Mapping[str, Any]) -> ProviderLimits:
    """The limits that a JSON object describes. Raises ConfigurationError if it describes none."""
    try:
        limits = tuple(_read_limit(each) for each in given["limits"])
        return ProviderLimits(**{**given, "limits": limits})
    except (KeyError, TypeError, ValueError) as error:
        message = f"the limits of {given.get('name')!r} cannot be read: {error}"
        raise ConfigurationError(message) from error


def block_after(key: str) -> float:
    """For how many seconds the provider takes no call with this key after one too many, as far as
    that is published; 0 if it is not. The key is known by its form, that of a preset.
    """
    provider = LIMITS.get(key.partition(":")[0])
    for limit in provider.limits if provider else ():
        if limit.block and re.fullmatch(_PLACE.sub("[^:]+", limit.key), key):
            return limit.block
    return 0.0


def _read_limit(given: Mapping[str, Any]) -> ProviderLimit:
    modes = {mode: _read_allowed(given[mode]) for mode in MODES if mode in given}
    if not modes:
        raise ValueError(f"{given.get('key')!r} has no limit")
    block = parse_duration(given["block"]).total_ms() / 1000 if "block" in given else 0.0
    return ProviderLimit(**{**given, **modes, "block": block})


def _read_allowed(given: Mapping[str, Any]) -> Allowed:
    window = parse_duration(given["window"]).total_ms() / 1000
    return Allowed(**{**given, "window": window})


def _load() -> tuple[int, Mapping[str, ProviderLimits]]:
    text = files("orch8.money").joinpath("data", "limits.json").read_text("utf-8")
    found = json.loads(text)
    providers = (read_limits(each) for each in found["providers"])
    return found["version"], MappingProxyType({each.name: each for each in providers})


VERSION, LIMITS = _load()
