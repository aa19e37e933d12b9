"""Remarks on the idempotency key of a step: its provider, its life, and when it has to differ."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from orch8.blocks.money import SCHEDULE, Policy
from orch8.blocks.step import Effect, Step
from orch8.definition.findings import closest
from orch8.definition.outline import Node
from orch8.engine.expressions import find_expressions
from orch8.engine.outcome import Verdict
from orch8.engine.retry import RetryPolicy, backoff
from orch8.money.presets import Preset, names, preset

Remark = tuple[str, str, str, str]  # pointer within the block, message, hint, code

DAY: Final = 86_400.0
TIMEOUT: Final = 30.0  # seconds of one call, where the step says nothing
_MOST_TRIES: Final = 1000
_AT_RISK: Final = (Effect.MONEY, Effect.IRREVOCABLE)
# What does not change from one iteration to the next.
_CONSTANT: Final = frozenset(
    {"config", "context", "data", "input", "instance", "instance_id", "tenant"}
)


def key_remarks(node: Node, step: Step, loops: list[Node]) -> Iterator[Remark]:
    """What is odd about the key of a step."""
    known = preset(step.provider) if step.provider is not None else None
    if step.provider is not None and known is None:
        meant = closest(step.provider, names())
        hint = f'"provider": "{meant}"' if meant else f"one of {', '.join(names())}"
        message = f"no preset is called {step.provider!r}: its answers are read as anybody's"
        yield "/provider", message, hint, "money.provider"
    if known is not None:
        yield from _against_preset(step, known)
    if step.effect in _AT_RISK and step.idempotency.replay != "none":
        yield from _too_late(step, known)
    yield from _replayed(node, step, loops)


def _against_preset(step: Step, known: Preset) -> Iterator[Remark]:
    wishes, rule = step.idempotency, known.key
    header = wishes.header
    if header is not None and rule.header and header.lower() != rule.header.lower():
        message = f"{known.title} reads the key from {rule.header}, not from {header}"
        yield "/idempotency/header", message, f'"header": "{rule.header}"', "money.key_header"
    if wishes.ttl is not None and rule.ttl is not None and wishes.ttl > rule.ttl:
        kept, claimed = shown(rule.ttl), shown(wishes.ttl)
        message = (
            f"{known.title} keeps a key for {kept}: sent again within {claimed}, it may pay twice"
        )
        yield "/idempotency/ttl", message, f'"ttl": "{kept}"', "money.key_ttl"


def _too_late(step: Step, known: Preset | None) -> Iterator[Remark]:
    """What is planned for a time at which the provider may have forgotten the key."""
    kept = step.idempotency.ttl or (known.key.ttl if known is not None else None) or DAY
    horizon = kept - max(kept * 0.1, 300.0)
    timeout = step.timeout or TIMEOUT
    policy = step.retry
    if policy is not None and Verdict.DECLINED not in policy.on:
        late = _first_late_try(policy, horizon - timeout)
        if late is not None:
            message = f"try {late} comes when its key, kept for {shown(kept)}, may be forgotten"
            hint = f'"max_attempts": {late - 1}, and a loop around the step for later tries'
            yield "/retry", message, hint, "money.retry_outlives_key"
    doubt = step.on_unknown
    if doubt is not None and doubt.policy is Policy.RECONCILE and doubt.schedule:
        first = doubt.schedule[0].total_seconds()
        if first + timeout >= horizon:
            soon = [s.total_seconds() for s in SCHEDULE if s.total_seconds() + timeout < horizon]
            spans = ", ".join(f'"{shown(s)}"' for s in soon[:3] or [30.0])
            message = (
                f"the first question comes when the key, kept for {shown(kept)}, may be forgotten"
            )
            yield (
                "/on_unknown/schedule/0",
                message,
                f'"schedule": [{spans}]',
                "money.question_too_late",
            )


def _first_late_try(policy: RetryPolicy, horizon: float) -> int | None:
    waited = timedelta()
    for failures in range(1, min(policy.max_attempts, _MOST_TRIES)):
        waited += backoff(policy, failures, 0.0)
        if waited.total_seconds() >= horizon:
            return failures + 1
    return None


def _replayed(node: Node, step: Step, loops: list[Node]) -> Iterator[Remark]:
    """New attempts that would carry the key of an old one, whose answer comes back."""
    again = step.retry is not None and Verdict.DECLINED in step.retry.on
    if again and step.idempotency.per_iteration:
        message = "a declined try is tried again with the same key: the decline comes back"
        hint = '"scope": "attempt", or leave declined out of retry.on'
        yield "/idempotency/scope", message, hint, "money.decline_replayed"
    elif again and step.idempotency.key is not None:
        message = "a declined try is tried again with the same key of your own: it is refused"
        hint = '"key": "auto", or leave declined out of retry.on'
        yield "/idempotency/key", message, hint, "money.decline_replayed"
    key = step.idempotency.key
    if key is None or not loops or not key.roots <= _CONSTANT or key.outputs:
        return
    given = str(node.values["idempotency"]["key"])
    variables = {"iteration", *(str(each.values.get("item_var", "item")) for each in loops)}
    read = {word for _, text in find_expressions(given) for word in _NAME.findall(text)}
    if variables.isdisjoint(read):
        message = "every iteration carries this key: the first answer comes back each time"
        yield (
            "/idempotency/key",
            message,
            f'"key": "{given}:{{{{iteration}}}}"',
            "money.key_in_loop",
        )


def shown(seconds: float) -> str:
    """A span as a definition writes it: 1800 s is 30m, a day is 24h."""
    whole = round(seconds)
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if whole % size == 0 and whole > (size if unit == "d" else 0):
            return f"{whole // size}{unit}"
    return f"{whole}s"


_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
