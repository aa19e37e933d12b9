"""The presets: for each provider, how it keeps keys and what its answers are evidence of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Final

from orch8.engine.duration import parse_duration
from orch8.errors import ConfigurationError
from orch8.money.evidence import CODE_PATHS, Rule
from orch8.money.outcome_map import read_rule

GENERIC: Final = "generic"


@dataclass(frozen=True, slots=True)
class KeyRule:
    """How a provider takes an idempotency key, and what it does with one it has seen.

    The key travels in ``header`` or at the path ``field`` of the body. ``longest`` is in
    characters, ``ttl`` the seconds that the provider surely keeps the key; None: it does not say.
    ``replay``: ``returns_first_result`` (errors too), ``only_success`` (after an error the same key
    executes again), ``conflict_means_exists``, or None if that is not known.
    """

    header: str | None = None
    field: str | None = None
    longest: int | None = None
    ttl: float | None = None
    replay: str | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Preset:
    """One provider's evidence table.

    The first of ``rules`` that fits decides; what fits none is for the generic table. Codes are
    looked for at ``code_paths``, the provider's reference at ``refs``. ``retry_header`` is the
    answer's header, in lower case, in which the provider says whether to send again.
    """

    name: str
    title: str
    version: int
    checked: str
    sources: tuple[str, ...]
    key: KeyRule
    rules: tuple[Rule, ...]
    code_paths: tuple[str, ...] = CODE_PATHS
    refs: tuple[str, ...] = ()
    retry_header: str | None = None
    note: str = ""


def preset(name: str) -> Preset | None:
    """The preset called ``name``, None if there is none."""
    return PRESETS.get(name)


def names() -> tuple[str, ...]:
    """The names of all presets, sorted."""
    return tuple(sorted(PRESETS))


def read_preset(given: Mapping[str, Any]) -> Preset:
    """The preset that a JSON object describes.

    Each rule may carry an ``example`` answer, which only documents it. Raises ConfigurationError
    if the object is no preset.
    """
    name = given.get("name")
    try:
        return Preset(
            name=given["name"],
            title=given["title"],
            version=given["version"],
            checked=given["checked"],
            sources=tuple(given["sources"]),
            key=_read_key(given["key"]),
            rules=tuple(_read_rule(each, given["checked"]) for each in given["rules"]),
            code_paths=tuple(given.get("code_paths", CODE_PATHS)),
            refs=tuple(given.get("refs", ())),
            retry_header=given.get("retry_header"),
            note=given.get("note", ""),
        )
    except (KeyError, TypeError, ValueError) as error:
        message = f"the preset {name!r} cannot be read: {type(error).__name__}: {error}"
        raise ConfigurationError(message) from error


def _read_key(given: Mapping[str, Any]) -> KeyRule:
    ttl = given.get("ttl")
    seconds = None if ttl is None else parse_duration(ttl).total_ms() / 1000
    return KeyRule(**{**given, "ttl": seconds})


def _read_rule(given: Mapping[str, Any], checked: str) -> Rule:
    documented = {"checked": checked, **given}
    documented.pop("example", None)
    rule, problems = read_rule(documented)
    if rule is None:
        found = "; ".join(f"{problem.pointer}: {problem.message}" for problem in problems)
        raise ValueError(found)
    return rule


def _load() -> Mapping[str, Preset]:
    folder = files("orch8.money").joinpath("data", "presets")
    texts = [each.read_text("utf-8") for each in folder.iterdir() if each.name.endswith(".json")]
    presets = [read_preset(json.loads(text)) for text in texts]
    return MappingProxyType({each.name: each for each in sorted(presets, key=lambda p: p.name)})


PRESETS: Final[Mapping[str, Preset]] = _load()
