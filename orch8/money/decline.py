"""What a decline means for the next try: the codes in an answer, ruled on by a policy that is data.

An answer may carry several codes: the provider's, the network's raw one, the network's advice. The
strictest of what they say holds, and the longest wait. Strict is what forbids most: ``fraud`` stops
every instrument until a person has looked, ``hard`` ends this instrument, ``needs_customer`` ends
it until its owner has acted, ``soft`` allows another day, ``technical`` allows soon.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Any, Final

from orch8.engine.duration import parse_duration
from orch8.errors import ConfigurationError
from orch8.money.codes import FIELDS, TWO_CHARACTERS, codes, normal

MAX_ENTRIES: Final = 10_000


class DeclineClass(StrEnum):
    """What a decline allows, the strictest first."""

    FRAUD = "fraud"
    HARD = "hard"
    NEEDS_CUSTOMER = "needs_customer"
    SOFT = "soft"
    TECHNICAL = "technical"

    @property
    def retriable(self) -> bool:
        """Whether the same instrument may be tried again without anybody having acted."""
        return self in (DeclineClass.SOFT, DeclineClass.TECHNICAL)


STRICTNESS: Final = tuple(DeclineClass)


@dataclass(frozen=True, slots=True)
class Entry:
    """What one code means. ``never``: the network charges for any further try, or forbids it."""

    klass: DeclineClass
    source: str
    checked: str
    after: timedelta | None = None
    never: bool = False
    why: str = ""


@dataclass(frozen=True, slots=True)
class Decline:
    """What an answer that declines comes to; ``known``: at least one of its codes is.

    ``code`` is the provider's code if there is one, else the network's; ``advice`` the network's.
    ``earliest_retry_after`` counts from the answer. ``source`` names the policy's sources.
    """

    klass: DeclineClass
    code: str | None = None
    advice: str | None = None
    earliest_retry_after: timedelta | None = None
    source: str = ""
    known: bool = True
    never: bool = False

    @property
    def retriable(self) -> bool:
        """Whether the same instrument may be tried again without anybody having acted."""
        return self.klass.retriable and not self.never


_ADYEN_ONLY: Final = "refusalReasonCode"  # bare numbers, which mean nothing anywhere else
_LONGEST_RAW: Final = 3  # characters of network and ACH codes


@dataclass(frozen=True)
class Policy:
    """What codes mean, by kind of code, whose it is, and the code in lower case.

    A code that nobody knows is ``unknown_class`` for the first ``unknown_budget`` declines in a
    row, then ``unknown_then``.
    """

    entries: Mapping[tuple[str, str, str], Entry] = field(default_factory=dict)
    unknown_class: DeclineClass = DeclineClass.SOFT
    unknown_budget: int = 1
    unknown_then: DeclineClass = DeclineClass.NEEDS_CUSTOMER

    def classify(
        self,
        body: Any,
        error: Mapping[str, Any] | None = None,
        provider: str | None = None,
        *,
        network: str | None = None,
        unknown_before: int = 0,
    ) -> Decline:
        """What a declining answer comes to.

        ``provider`` names its preset, and ``network`` the card network if that is known; without
        them every table is asked. ``unknown_before`` counts the declines just before this one, of
        the same instrument, whose codes nobody knew.
        """
        found = {kind: list(codes(kind, body, error)) for kind in FIELDS}
        matched = [
            entry
            for kind, given in found.items()
            if (entry := self._first_known(kind, given, provider, network)) is not None
        ]
        own = [*found["provider"], *found["return_code"], *found["network_code"]]
        code = next((code for _, code in own), None)
        advice = next((code for _, code in (*found["advice"], *found["category"])), None)
        if not matched:
            spent = unknown_before >= self.unknown_budget
            klass = self.unknown_then if spent else self.unknown_class
            return Decline(klass, code, advice, source="unknown code", known=False)
        strictest = min(matched, key=lambda entry: STRICTNESS.index(entry.klass))
        waits = [entry.after for entry in matched if entry.after is not None]
        return Decline(
            strictest.klass, code, advice,
            max(waits) if waits and strictest.klass.retriable else None,
            ", ".join(dict.fromkeys(entry.source for entry in matched)),
            never=any(entry.never for entry in matched),
        )  # fmt: skip

    def _first_known(
        self, kind: str, given: Iterable[tuple[str, str]], provider: str | None, network: str | None
    ) -> Entry | None:
        for name, code in given:
            entry = self._strictest(self._tables(kind, name, code, provider, network))
            if entry is None and kind == "provider" and name != _ADYEN_ONLY:  # passed on as it came
                entry = self._strictest(self._raw_tables(code, network))
            if entry is not None:
                return entry
        return None

    def _tables(
        self, kind: str, name: str, code: str, provider: str | None, network: str | None
    ) -> Iterator[tuple[str, str, str]]:
        """Where a code that was found under ``name`` is looked up."""
        key = normal(kind, code)
        if kind == "provider":
            yield from ((kind, of, key) for of in self._providers(name, provider))
        elif kind in TWO_CHARACTERS:
            mine = (network.lower(),) if network else ()
            known = [of for of in _NETWORKS if of in mine] or list(_NETWORKS)
            yield from ((kind, of, key) for of in (*known, "stripe"))
            if kind == "advice" and "visa" in mine:  # its advice is the number of a category
                yield "advice", "mastercard", key
                yield "category", "visa", key.lstrip("0")
        else:
            yield kind, "ach" if kind == "return_code" else "visa", key

    def _raw_tables(self, code: str, network: str | None) -> Iterator[tuple[str, str, str]]:
        if len(code) <= _LONGEST_RAW:
            yield from self._tables("network_code", "", code, None, network)
            yield "return_code", "ach", normal("return_code", code)

    def _providers(self, name: str, provider: str | None) -> tuple[str, ...]:
        if name == _ADYEN_ONLY:
            return ("adyen",)
        mine = (provider or "").partition("_")[0].lower()
        every = dict.fromkeys(of for kind, of, _ in self.entries if kind == "provider")
        return (mine,) if mine in every else tuple(of for of in every if of != "adyen")

    def _strictest(self, keys: Iterable[tuple[str, str, str]]) -> Entry | None:
        entries = [self.entries[key] for key in keys if key in self.entries]
        return min(entries, key=lambda each: STRICTNESS.index(each.klass), default=None)


_NETWORKS: Final = ("visa", "mastercard")


def classify(body: Any, error: Mapping[str, Any] | None, provider: str | None) -> Decline:
    """What a declining answer comes to by the built-in policy."""
    return built_in().classify(body, error, provider)


@cache
def built_in() -> Policy:
    """The policy that orch8 comes with."""
    text = files("orch8.money").joinpath("data", "decline_policy.json").read_text("utf-8")
    return read_policy(json.loads(text), "decline_policy.json")


def read_policy(given: Any, name: str, base: Policy | None = None) -> Policy:
    """The policy that a parsed document describes, laid over ``base``: what it does not mention is
    as it is there. ConfigurationError names the place in ``name`` and what to write there.
    """
    if not isinstance(given, dict):
        raise _wrong(name, "", 'must be an object with "entries"')
    stray = sorted(given.keys() - {"version", "sources", "unknown", "entries", "note"})
    if stray:
        raise _wrong(name, f"/{stray[0]}", "is not known; use unknown, entries, sources, note")
    entries = given.get("entries", [])
    if not isinstance(entries, list) or len(entries) > MAX_ENTRIES:
        raise _wrong(name, "/entries", f"must be a list of at most {MAX_ENTRIES} entries")
    base = base or Policy()
    found = dict(base.entries)
    for i, each in enumerate(entries):
        found.update(_entry(each, name, f"/entries/{i}"))
    unknown = given.get("unknown", {})
    if not isinstance(unknown, dict):
        raise _wrong(name, "/unknown", 'must be an object with "class", "budget" and "then"')
    budget = unknown.get("budget", base.unknown_budget)
    if isinstance(budget, bool) or not isinstance(budget, int) or budget < 0:
        raise _wrong(name, "/unknown/budget", "must be a whole number, 0 or more")
    return Policy(
        found,
        _class(unknown.get("class", base.unknown_class), name, "/unknown/class"),
        budget,
        _class(unknown.get("then", base.unknown_then), name, "/unknown/then"),
    )


_MEMBERS: Final = frozenset(
    {"field", "of", "class", "codes", "after", "never", "why", "source", "checked", "category"}
)


def _entry(given: Any, name: str, at: str) -> Iterator[tuple[tuple[str, str, str], Entry]]:
    if not isinstance(given, dict):
        raise _wrong(name, at, 'must be an object with "field", "of", "class" and "codes"')
    stray = sorted(given.keys() - _MEMBERS)
    if stray:
        raise _wrong(name, f"{at}/{stray[0]}", f"is not known; use {', '.join(sorted(_MEMBERS))}")
    kind, of, listed = str(given.get("field")), given.get("of"), given.get("codes")
    if kind not in FIELDS:
        raise _wrong(name, f"{at}/field", f"must be one of {', '.join(FIELDS)}")
    for member in ("of", "source", "checked"):
        if not isinstance(given.get(member), str) or not given[member]:
            raise _wrong(name, f"{at}/{member}", "must be a text")
    if not isinstance(listed, list) or not all(isinstance(c, str) and c for c in listed):
        raise _wrong(name, f"{at}/codes", 'must be a list of texts, such as ["05"]')
    if not isinstance(given.get("never", False), bool):
        raise _wrong(name, f"{at}/never", "must be true or false")
    klass = _class(given.get("class"), name, f"{at}/class")
    entry = Entry(
        klass, given["source"], given["checked"], _span(given.get("after"), name, f"{at}/after"),
        given.get("never", False), str(given.get("why", "")),
    )  # fmt: skip
    yield from (((kind, str(of).lower(), normal(kind, code)), entry) for code in listed)


def _class(given: Any, name: str, at: str) -> DeclineClass:
    if given not in STRICTNESS:
        raise _wrong(name, at, f"must be one of {', '.join(STRICTNESS)}")
    return DeclineClass(given)


def _span(given: Any, name: str, at: str) -> timedelta | None:
    if given is None:
        return None
    try:
        return timedelta(milliseconds=parse_duration(given).total_ms())
    except ValueError as problem:
        raise _wrong(name, at, str(problem)) from None


def _wrong(name: str, at: str, message: str) -> ConfigurationError:
    return ConfigurationError(f"{name}: {at or 'the document'} {message}")
