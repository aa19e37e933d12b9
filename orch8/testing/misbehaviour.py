"""The ways in which a pretend provider misbehaves, and the script that says when."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Final

from orch8.errors import InvalidArgument

MAX_RULES: Final = 1000
MAX_DELAY_MS: Final = 600_000


class Do(StrEnum):
    """What the provider does with one request."""

    SUCCEED = "succeed"
    DECLINE = "decline"  # 200, status "failed"
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


@dataclass(frozen=True, slots=True)
class Rule:
    """When to do what: the first rule that matches a request and has turns left decides.

    ``times`` None is for ever; ``chance`` is the probability of a match; ``delay_ms`` passes while
    the key is in flight; ``store_error`` keeps a fail_after's 500 as the key's result, as Stripe
    v1 does, where otherwise a replay shows the success.
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

    def __post_init__(self) -> None:
        if self.times is not None and self.times < 1:
            raise InvalidArgument("times: must be 1 or more; leave it out for ever")
        if not 0 <= self.chance <= 1:
            raise InvalidArgument("chance: must be from 0 to 1")
        if not 0 <= self.delay_ms <= MAX_DELAY_MS:
            raise InvalidArgument(f"delay_ms: must be from 0 to {MAX_DELAY_MS}")

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
        try:
            given["do"] = Do(given.get("do", Do.SUCCEED))
            given["retry_after"] = str(given.get("retry_after", "1"))
            return cls(**given)
        except (TypeError, ValueError) as error:
            raise InvalidArgument(f"rule: {error}") from None


def rules_from_json(body: Any) -> list[Rule]:
    """The rules that a JSON list describes; raises InvalidArgument naming what is wrong."""
    if not isinstance(body, list):
        raise InvalidArgument('the script must be a list of rules such as [{"do": "decline"}]')
    return [Rule.from_json(rule) for rule in body]


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

    def pick(self, handler: str, key: str) -> Rule:
        """The rule for this request, one of its turns used up; without one, a plain success."""
        with self._lock:
            for index, (rule, left) in enumerate(self._rules):
                if left == 0 or rule.handler not in (None, handler) or rule.key not in (None, key):
                    continue
                if rule.chance < 1 and self._random.random() >= rule.chance:
                    continue
                if left is not None:
                    self._rules[index] = (rule, left - 1)
                return rule
        return Rule()
