"""The ways in which a pretend provider misbehaves, and the script that says when."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Final, TypeVar

from orch8.errors import InvalidArgument

MAX_RULES: Final = 1000
MAX_DELAY_MS: Final = 600_000
MAX_COPIES: Final = 100
_CODE: Final = re.compile(r"[A-Za-z0-9_.:-]{1,100}")


class Stage(StrEnum):
    """Where in the life of a payment a deed has its place: each stage asks for its own rule."""

    CALL = "call"
    WEBHOOK = "webhook"
    SEARCH = "search"


class Do(StrEnum):
    """What the provider does with one call, one webhook or one search."""

    SUCCEED = "succeed"
    DECLINE = "decline"  # as the personality says it; without one 200 with status "failed"
    DECLINE_402 = "decline_402"
    PENDING = "pending"  # 202, the effect is not there yet
    REQUIRES_ACTION = "requires_action"
    REFUSE = "refuse"  # 422, nothing happened and nothing will
    RATE_LIMIT = "rate_limit"  # 429 with Retry-After, before the key is looked at
    UNAVAILABLE = "unavailable"  # 503 with Retry-After, before the key is looked at
    FAIL_BEFORE = "fail_before"  # 500 before the effect
    FAIL_AFTER = "fail_after"  # 500 after the effect
    HANG_UP = "hang_up"  # closes the connection before the effect
    COMMIT_THEN_HANG_UP = "commit_then_hang_up"
    COMMIT_THEN_TIME_OUT = "commit_then_time_out"
    COMMIT_THEN_GARBLE = "commit_then_garble"  # 200 with a body that is not JSON

    WEBHOOK_LATE = "webhook_late"  # by delay_ms
    WEBHOOK_DUPLICATE = "webhook_duplicate"  # sent ``copies`` times with one id
    WEBHOOK_CONTRARY_FIRST = "webhook_contrary_first"  # the untrue word, then the true one
    WEBHOOK_CONTRARY_LAST = "webhook_contrary_last"  # the true word, then the untrue one
    WEBHOOK_OUT_OF_ORDER = "webhook_out_of_order"  # the end, then an older "pending"
    WEBHOOK_NEVER = "webhook_never"

    SEARCH_FAIL = "search_fail"  # 500
    SEARCH_TIME_OUT = "search_time_out"
    SEARCH_CANNOT_TELL = "search_cannot_tell"
    SEARCH_MISS = "search_miss"  # "no", whatever there is
    SEARCH_LAG = "search_lag"  # what is younger than delay_ms is not found

    @property
    def stage(self) -> Stage:
        """Where this deed has its place."""
        first = self.value.partition("_")[0]
        return Stage(first) if first in (Stage.WEBHOOK, Stage.SEARCH) else Stage.CALL


class Becomes(StrEnum):
    """How a payment that was pending or wanted an action ends."""

    SUCCEED = "succeed"
    DECLINE = "decline"


_OPEN: Final = frozenset({Do.PENDING, Do.REQUIRES_ACTION})
_FAILS: Final = frozenset({Do.FAIL_BEFORE, Do.FAIL_AFTER})
_DECLINES: Final = frozenset({Do.DECLINE, Do.DECLINE_402})


@dataclass(frozen=True, slots=True)
class Rule:
    """When to do what: the first rule of a stage that matches and has turns left decides.

    ``handler`` is the name that was called, and for a webhook the one that made the charge; ``key``
    is an idempotency key, for a search the one that is looked for. ``times`` None is for ever;
    ``chance`` is the probability of a match; ``delay_ms`` passes while the key is in flight, before
    a webhook or before the answer of a search. ``store_error`` keeps the 500 of a fail_before or
    fail_after as the key's result, as Stripe v1 does, where otherwise the first is forgotten and a
    replay of the second shows the success. ``becomes`` ends a pending payment after
    ``becomes_ms``. ``body`` is merged into the answer, ``decline_code`` stands in a decline.
    """

    do: Do = Do.SUCCEED
    handler: str | None = None
    key: str | None = None
    times: int | None = None
    chance: float = 1.0
    delay_ms: float = 0.0
    retry_after: str = "1"
    store_error: bool = False
    body: Mapping[str, Any] | None = None
    decline_code: str | None = None
    becomes: Becomes | None = None
    becomes_ms: float = 0.0
    copies: int = 2

    def __post_init__(self) -> None:
        for name, kind, words in _KINDS:
            value = getattr(self, name)
            if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
                raise InvalidArgument(f"{name}: must be {words}, not {value!r}")
        if self.times is not None and self.times < 1:
            raise InvalidArgument("times: must be 1 or more; leave it out for ever")
        if not 0 <= self.chance <= 1:
            raise InvalidArgument("chance: must be from 0 to 1")
        for name in ("delay_ms", "becomes_ms"):
            if not 0 <= getattr(self, name) <= MAX_DELAY_MS:
                raise InvalidArgument(f"{name}: must be from 0 to {MAX_DELAY_MS}")
        if not 1 <= self.copies <= MAX_COPIES:
            raise InvalidArgument(f"copies: must be from 1 to {MAX_COPIES}")
        if not (self.retry_after.isascii() and self.retry_after.isprintable()):
            raise InvalidArgument("retry_after: must be seconds or an HTTP date")
        if self.decline_code is not None and not _CODE.fullmatch(self.decline_code):
            raise InvalidArgument("decline_code: must be a code such as insufficient_funds")
        for name, deeds in _BELONGS:
            if getattr(self, name) != getattr(_PLAIN, name) and self.do not in deeds:
                raise InvalidArgument(f"{name}: goes with {' or '.join(sorted(deeds))} only")

    @classmethod
    def from_json(cls, body: Any) -> Rule:
        """The rule that a JSON object describes; raises InvalidArgument naming a wrong member."""
        if not isinstance(body, dict):
            raise InvalidArgument('a rule must be an object such as {"do": "decline"}')
        known = {f.name for f in fields(cls)}
        strange = sorted(set(body) - known)
        if strange:
            names = ", ".join(sorted(known))
            raise InvalidArgument(f"{strange[0]}: is not a member of a rule; there are {names}")
        given = dict(body)
        given["do"] = _member(Do, "do", given.get("do", Do.SUCCEED))
        if given.get("becomes") is not None:
            given["becomes"] = _member(Becomes, "becomes", given["becomes"])
        given["retry_after"] = str(given.get("retry_after", "1"))
        try:
            return cls(**given)
        except (TypeError, ValueError) as error:
            raise InvalidArgument(f"rule: {error}") from None


class _Plain:
    """The defaults of the members that only some deeds have."""

    store_error, decline_code, becomes, becomes_ms, copies = False, None, None, 0.0, 2


_PLAIN: Final = _Plain()
_BELONGS: Final[tuple[tuple[str, frozenset[Do]], ...]] = (
    ("store_error", _FAILS),
    ("decline_code", _DECLINES),
    ("becomes", _OPEN),
    ("becomes_ms", _OPEN),
    ("copies", frozenset({Do.WEBHOOK_DUPLICATE})),
)
_KINDS: Final[tuple[tuple[str, Any, str], ...]] = (
    ("handler", str | None, "the name of a handler"),
    ("key", str | None, "an idempotency key"),
    ("times", int | None, "a whole number"),
    ("chance", int | float, "a number"),
    ("delay_ms", int | float, "a number"),
    ("becomes_ms", int | float, "a number"),
    ("store_error", bool, "true or false"),
    ("body", Mapping | None, "an object"),
    ("decline_code", str | None, "a text"),
    ("copies", int, "a whole number"),
)
_Member = TypeVar("_Member", bound=StrEnum)


def _member(kind: type[_Member], name: str, given: Any) -> _Member:
    try:
        return kind(given)
    except ValueError:
        words = ", ".join(kind)
        raise InvalidArgument(f"{name}: {given!r} is unknown; there are {words}") from None


def rules_from_json(body: Any) -> list[Rule]:
    """The rules that a JSON list describes; raises InvalidArgument naming what is wrong where."""
    if not isinstance(body, list):
        raise InvalidArgument('the script must be a list of rules such as [{"do": "decline"}]')
    rules = []
    for index, rule in enumerate(body[: MAX_RULES + 1]):
        try:
            rules.append(Rule.from_json(rule))
        except InvalidArgument as wrong:
            raise InvalidArgument(f"rule {index}: {wrong.detail}") from None
    return rules


class Script:
    """The rules in force; safe to read and change from any thread."""

    def __init__(self, rules: Iterable[Rule] = (), *, seed: int = 0) -> None:
        self._lock = threading.Lock()
        self._random = random.Random(seed)  # noqa: S311 -- repeatable on purpose
        self._rules: list[tuple[Rule, int | None]] = []
        self.replace(rules)

    def replace(self, rules: Iterable[Rule]) -> None:
        """These rules alone are in force, with all their turns."""
        fresh: list[tuple[Rule, int | None]] = [(rule, rule.times) for rule in rules]
        if len(fresh) > MAX_RULES:
            raise InvalidArgument(f"rules: at most {MAX_RULES}")
        with self._lock:
            self._rules = fresh

    def pick(self, stage: Stage, handler: str, key: str) -> Rule | None:
        """The rule for this stage, one of its turns used up; None when all goes as it should."""
        with self._lock:
            for index, (rule, left) in enumerate(self._rules):
                if left == 0 or rule.do.stage is not stage:
                    continue
                if rule.handler not in (None, handler) or rule.key not in (None, key):
                    continue
                if rule.chance < 1 and self._random.random() >= rule.chance:
                    continue
                if left is not None:
                    self._rules[index] = (rule, left - 1)
                return rule
        return None
