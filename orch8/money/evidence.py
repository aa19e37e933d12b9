"""What a provider's answer is evidence of: rules that read a status, codes, a body and headers.

A rule sees answers only. That no answer came is never for a rule to judge.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Any, Final

from orch8.engine.outcome import Verdict

PRESENT: Final = "*"  # as a wanted value: anything but null
MAX_FOUND: Final = 100  # values that one path leads to; what lies beyond is not looked at
MAX_TEXT: Final = 255  # characters of a code or a reference
_KEPT_PATHS: Final = 4096
_LONGEST_CLASSED: Final = 8  # digits of a code that is also known by its classes

# Where a code is looked for when no preset knows better, the most telling place first.
CODE_PATHS: Final = (
    "code",
    "error.code",
    "error.decline_code",
    "error.type",
    "error_code",
    "errorCode",
    "errors[].code",
    "errors[].reason",
    "name",
)


class Unreadable(Enum):
    """What stands for a body that is not JSON."""

    BODY = "unreadable"


UNREADABLE: Final = Unreadable.BODY


@dataclass(frozen=True, slots=True)
class Observation:
    """A complete answer: its status, its body as JSON or UNREADABLE, its headers in lower case."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rule:
    """What an answer means that meets every condition given; an empty condition is always met.

    ``statuses`` are like "409" or "5xx" and ``codes`` like "card_declined" or "20xx". ``body`` and
    ``headers`` are pairs of a path or a lower-case name and the values wanted there, one of which
    must be found. ``retry_after`` is in seconds. ``fetch``: the effect exists under the reference
    at ``ref`` and is only to be fetched. ``source`` and ``checked`` say where that is written.
    """

    verdict: Verdict
    statuses: frozenset[str] = frozenset()
    codes: frozenset[str] = frozenset()
    body: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    headers: tuple[tuple[str, tuple[str, ...]], ...] = ()
    why: str = ""
    retry_after: float | None = None
    fetch: bool = False
    ref: str | None = None
    source: str = ""
    checked: str = ""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a rule made of an answer; ``code`` is the first code that the answer has."""

    rule: Rule
    code: str | None = None
    provider_ref: str | None = None

    @property
    def verdict(self) -> Verdict:
        """What the dispatch came to."""
        return self.rule.verdict

    @property
    def why(self) -> str:
        """The reason in a few words, for people."""
        return self.rule.why

    @property
    def retry_after(self) -> float | None:
        """Seconds to wait before asking again, None if the rule has no wish."""
        return self.rule.retry_after

    @property
    def fetch(self) -> bool:
        """Whether the effect exists and is only to be fetched."""
        return self.rule.fetch


def judge(
    rules: Sequence[Rule], observation: Observation, *, code_paths: Iterable[str] = CODE_PATHS
) -> Judgement | None:
    """The judgement of the first rule that ``observation`` fits, None if it fits none."""
    if not rules:
        return None
    statuses = {str(observation.status), f"{observation.status // 100}xx"}
    found = codes_in(observation.body, code_paths)
    codes = {spelling for code in found for spelling in _spellings(code)}
    for rule in rules:
        if (
            (not rule.statuses or not rule.statuses.isdisjoint(statuses))
            and (not rule.codes or not rule.codes.isdisjoint(codes))
            and all(_wanted(find(observation.body, path), values) for path, values in rule.body)
            and all(
                _wanted(_header(observation.headers, name), values) for name, values in rule.headers
            )
        ):
            ref = reference(observation.body, (rule.ref,)) if rule.ref else None
            return Judgement(rule, found[0] if found else None, ref)
    return None


def codes_in(body: Any, paths: Iterable[str] = CODE_PATHS) -> tuple[str, ...]:
    """The codes that stand in ``body``, in the order of ``paths``, as text, each of them once."""
    texts = (_text(value) for path in paths for value in find(body, path))
    return tuple(dict.fromkeys(text for text in texts if text))


def reference(body: Any, paths: Iterable[str]) -> str | None:
    """The first text or whole number at one of ``paths``: the provider's name for what it did."""
    texts = (_text(value) for path in paths for value in find(body, path))
    return next((text for text in texts if text), None)


def find(body: Any, path: str) -> list[Any]:
    """The values at a dotted path, at most MAX_FOUND.

    ``[]`` after a name stands for each element of that list, the name ``*`` for each member.
    """
    level = [body]
    for name, each in _steps(path):
        below = [value for parent in level for value in _members(parent, name)]
        if each:
            below = [value for listed in below if isinstance(listed, list) for value in listed]
        level = below[:MAX_FOUND]
    return level


@lru_cache(maxsize=_KEPT_PATHS)
def _steps(path: str) -> tuple[tuple[str, bool], ...]:
    return tuple((part.removesuffix("[]"), part.endswith("[]")) for part in path.split("."))


def _members(parent: Any, name: str) -> Iterator[Any]:
    if isinstance(parent, dict):
        if name == PRESENT:
            yield from parent.values()
        elif name in parent:
            yield parent[name]


def _header(headers: Mapping[str, str], name: str) -> list[str]:
    value = headers.get(name)
    return [] if value is None else [value.strip().lower()]


def _wanted(values: Iterable[Any], wanted: Collection[Any]) -> bool:
    return any(
        value is not None if want == PRESENT else _same(value, want)
        for value in values
        for want in wanted
    )


def _same(value: Any, other: Any) -> bool:
    # In Python true equals 1; in JSON it does not.
    return bool(value == other) and isinstance(value, bool) is isinstance(other, bool)


def _text(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value)[:MAX_TEXT]


def _spellings(code: str) -> Iterator[str]:
    """The code, and if it is a number its classes: 2046, 204x, 20xx and 2xxx."""
    yield code
    if code.isascii() and code.isdigit() and len(code) <= _LONGEST_CLASSED:
        for kept in range(1, len(code)):
            yield code[:kept] + "x" * (len(code) - kept)
