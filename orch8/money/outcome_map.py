"""Reads the rules that people write: a step's ``outcome_map`` and the rules of a preset."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any, Final

from orch8.engine.duration import parse_duration
from orch8.engine.outcome import Verdict
from orch8.errors import Problem
from orch8.money.evidence import PRESENT, Rule

MAX_RULES: Final = 100
MAX_VALUES: Final = 100
MAX_NAME: Final = 200
MAX_WHY: Final = 300
MAX_PAUSE: Final = 86_400.0  # seconds

OUTCOMES: Final[Mapping[str, Verdict]] = {
    verdict.value: verdict
    for verdict in (
        Verdict.SUCCEEDED,
        Verdict.DECLINED,
        Verdict.REQUIRES_ACTION,
        Verdict.PENDING,
        Verdict.IN_PROGRESS,
        Verdict.FAILED_SAFE,
        Verdict.REFUSED,
        Verdict.UNKNOWN,
    )
}
MEMBERS: Final = (
    "status",
    "codes",
    "body",
    "headers",
    "outcome",
    "why",
    "retry_after",
    "fetch",
    "ref",
    "source",
    "checked",
)
_STATUS: Final = re.compile(r"[1-5](?:[0-9]{2}|xx)")
# A path of members: letters enough for JSON names, "[]" for a list's elements.
_PATH: Final = re.compile(r"[^.\[\]]+(?:\[\])?(?:\.[^.\[\]]+(?:\[\])?){0,15}")
_CONCLUSIVE: Final = frozenset(
    {Verdict.SUCCEEDED, Verdict.DECLINED, Verdict.REQUIRES_ACTION, Verdict.REFUSED}
)


def read_rules(given: Any) -> tuple[tuple[Rule, ...], list[Problem]]:
    """The rules of an ``outcome_map`` and what is wrong with it; pointers are relative to it.

    ``given`` is a list of rules, of which the first that fits decides, or the short form
    ``{"card_declined": "declined", "409": "succeeded", "5xx": "unknown"}``, in which codes decide
    before statuses and statuses before classes of them.
    """
    if not isinstance(given, list | dict):
        hint = 'write [{"status": 409, "codes": ["already_paid"], "outcome": "succeeded"}]'
        message = "outcome_map must be a list of rules or an object"
        return (), [Problem("", message, hint, shape=True)]
    if len(given) > MAX_RULES:
        return (), [Problem("", f"outcome_map must not have more than {MAX_RULES} rules")]
    if isinstance(given, dict):
        return _read_short(given)
    rules, problems = [], []
    for index, each in enumerate(given):
        rule, found = read_rule(each)
        problems += [replace(problem, pointer=f"/{index}{problem.pointer}") for problem in found]
        if rule is not None:
            rules.append(rule)
    return tuple(rules), problems


def read_rule(given: Any) -> tuple[Rule | None, list[Problem]]:
    """The rule that a JSON object describes, or None and what is wrong with it."""
    if not isinstance(given, dict):
        hint = 'write {"status": 409, "outcome": "succeeded"}'
        return None, [Problem("", "a rule must be an object", hint, shape=True)]
    reader = _Reader(given)
    rule = reader.rule()
    return (None if reader.problems else rule), reader.problems


def _read_short(given: Mapping[Any, Any]) -> tuple[tuple[Rule, ...], list[Problem]]:
    rules: list[tuple[int, Rule]] = []
    problems: list[Problem] = []
    for name, outcome in given.items():
        is_status = _STATUS.fullmatch(name) is not None
        rule, found = read_rule({"status" if is_status else "codes": name, "outcome": outcome})
        problems += [replace(problem, pointer=f"/{_escape(name)}") for problem in found]
        if rule is not None:
            rules.append((2 * is_status + name.endswith("xx"), rule))
    rules.sort(key=lambda ranked: ranked[0])
    return tuple(rule for _, rule in rules), problems


@dataclass(slots=True)
class _Reader:
    """One rule on its way from JSON: each member is read, and what is wrong with it noted."""

    given: Mapping[str, Any]
    problems: list[Problem] = field(default_factory=list)

    def rule(self) -> Rule:
        for name in self.given:
            if name not in MEMBERS:
                message = f"unknown member {name[:60]!r}"
                self._problem(_escape(name), message, _meant(name, MEMBERS), code="unknown_member")
        rule = Rule(
            self._outcome(),
            self._statuses(),
            self._codes(),
            tuple(self._wanted("body", (str, int, float, bool))),
            tuple((n.lower(), v) for n, v in self._wanted("headers", (str,))),
            self._text("why", MAX_WHY),
            self._pause(),
            self._flag("fetch"),
            self._path("ref"),
            self._text("source", MAX_WHY),
            self._text("checked", MAX_NAME),
        )
        self._check(rule)
        return rule

    def _check(self, rule: Rule) -> None:
        if self.problems:
            return
        if not (rule.statuses or rule.codes or rule.body or rule.headers):
            hint = 'add "status", "codes", "body" or "headers"'
            self._problem("", "a rule needs a condition", hint, code="required")
        alone = not (rule.codes or rule.body or rule.headers)
        if alone and rule.verdict in _CONCLUSIVE and any(s[0] == "5" for s in rule.statuses):
            message = "a 5xx alone does not say what happened"
            self._problem("status", message, "name the code or a member of the body as well")
        if rule.fetch and rule.verdict is not Verdict.SUCCEEDED:
            self._problem("fetch", "only what succeeded can be fetched", "leave fetch out")

    def _outcome(self) -> Verdict:
        word = self.given.get("outcome")
        verdict = OUTCOMES.get(word) if isinstance(word, str) else None
        if verdict is not None:
            return verdict
        hint = f"use one of {', '.join(OUTCOMES)}"
        if word is None:
            self._problem("outcome", "outcome is required", hint, code="required", shape=True)
        else:
            hint = _meant(word, OUTCOMES) if isinstance(word, str) else hint
            self._problem("outcome", f"outcome must not be {str(word)[:60]!r}", hint, shape=True)
        return Verdict.UNKNOWN

    def _statuses(self) -> frozenset[str]:
        read = [str(each) for each in self._listed("status", (str, int))]
        for each in read:
            if not _STATUS.fullmatch(each):
                hint = 'write a status such as 409, or a class such as "5xx"'
                self._problem("status", f"status must not be {each[:60]!r}", hint)
        return frozenset(read)

    def _codes(self) -> frozenset[str]:
        return frozenset(str(each) for each in self._listed("codes", (str, int)))

    def _listed(self, name: str, kinds: tuple[type, ...], at: str | None = None) -> list[Any]:
        """A value or a list of values; ``at`` is where they stand if not in member ``name``."""
        value = self.given.get(name) if at is None else self.given[name][at]
        if value is None:
            return []
        listed = value if isinstance(value, list) else [value]
        place, shown = (name, name) if at is None else (f"{name}/{_escape(at)}", f"{name}.{at}")
        if not 1 <= len(listed) <= MAX_VALUES:
            self._problem(place, f"{shown[:60]} must have 1 to {MAX_VALUES} values")
            return []
        for each in listed:
            if not isinstance(each, kinds) or (isinstance(each, bool) and bool not in kinds):
                kind = "a text" if kinds == (str,) else "a text or a number"
                message = f"{shown[:60]} must be {kind}, or a list of them"
                self._problem(place, message, shape=True)
                return []
            if each == "" or (isinstance(each, str) and len(each) > MAX_NAME):
                message = f"{shown[:60]} must have 1 to {MAX_NAME} characters"
                self._problem(place, message)
                return []
        return listed

    def _wanted(self, name: str, kinds: tuple[type, ...]) -> Iterator[tuple[str, tuple[Any, ...]]]:
        value = self.given.get(name)
        if value is None:
            return
        if not isinstance(value, dict) or not 1 <= len(value) <= MAX_VALUES:
            hint = f'write {{"status": "failed"}}; "{PRESENT}" stands for any value'
            self._problem(name, f"{name} must be an object with members", hint, shape=True)
            return
        for key, wanted in value.items():
            if wanted is None or len(key) > MAX_NAME or not _fits(name, key):
                hint = 'write a path such as "error.details[].issue" and a value'
                self._problem(f"{name}/{_escape(key)}", f"{name} cannot look for this", hint)
                continue
            values = self._listed(name, kinds, key)
            yield key, tuple(v.lower() if name == "headers" else v for v in values)

    def _text(self, name: str, longest: int) -> str:
        value = self.given.get(name)
        if value is None:
            return ""
        if not isinstance(value, str) or len(value) > longest:
            message = f"{name} must be a text of at most {longest} characters"
            self._problem(name, message, shape=not isinstance(value, str))
            return ""
        return value

    def _path(self, name: str) -> str | None:
        text = self._text(name, MAX_NAME)
        if text and not _PATH.fullmatch(text):
            self._problem(name, f"{name} must be a path", 'write it like "payment.id"')
        return text or None

    def _pause(self) -> float | None:
        value = self.given.get("retry_after")
        if value is None:
            return None
        try:
            seconds = parse_duration(value).total_ms() / 1000
        except ValueError as error:
            self._problem("retry_after", f"retry_after: {error}", shape=True)
            return None
        if not 0 < seconds <= MAX_PAUSE:
            self._problem("retry_after", "retry_after must be more than 0 and at most a day")
        return seconds

    def _flag(self, name: str) -> bool:
        value = self.given.get(name, False)
        if not isinstance(value, bool):
            self._problem(name, f"{name} must be true or false", shape=True)
            return False
        return value

    def _problem(
        self,
        place: str,
        message: str,
        hint: str = "",
        *,
        code: str = "invalid",
        shape: bool = False,
    ) -> None:
        self.problems.append(Problem(f"/{place}" if place else "", message, hint, code, shape))


def _fits(name: str, key: str) -> bool:
    return bool(key.strip()) if name == "headers" else _PATH.fullmatch(key) is not None


def _meant(name: str, known: Collection[str]) -> str:
    close = get_close_matches(name[:MAX_NAME], known, n=1)
    return f"did you mean {close[0]}?" if close else f"use one of {', '.join(known)}"


def _escape(name: str) -> str:
    """A member's name as JSON Pointers spell it (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")
