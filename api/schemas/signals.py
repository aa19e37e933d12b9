"""What sending and reading signals takes and gives."""

from __future__ import annotations

from typing import Any

from marshmallow import fields

from api.schemas.base import Anything, Body, Choice, Object, Shown, Text, described
from orch8.blocks.fields import escape, wrong
from orch8.definition.identity import MAX_CORRELATIONS
from orch8.runtime.correlate import IfMany
from orch8.runtime.errand import CONTROLS, MAX_NAME
from orch8.runtime.identity import LONGEST, correlation_text

_SUCH_AS = 'such as {"invoice_id": "in_1"}'

Kind = tuple[str | None, str]  # one of CONTROLS, or None and a name of the sender's own


class SignalType(Anything):
    """The contract's spelling: a control's name, or {"custom": name}."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Kind:
        del attr, data, kwargs
        if isinstance(value, str):
            if value in CONTROLS:
                return value, ""
            raise wrong(
                f"{{name}} must not be {value[:60]!r}",
                f'use {", ".join(CONTROLS)} or {{"custom": "name"}}',
                shape=True,
            )
        name = value.get("custom") if isinstance(value, dict) else None
        if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
            hint = f'such as "cancel", or {{"custom": "name"}} with 1 to {MAX_NAME} characters'
            raise wrong("{name} must be a word or an object", hint, shape=True)
        return None, name


class SignalName(Text):
    """The short spelling: a control's name acts at once, any other is a custom signal."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        name = super()._deserialize(value, attr, data, **kwargs)
        return (name, "") if name in CONTROLS else (None, name)


class SignalSchema(Body):
    """A message to an instance."""

    signal = described(
        SignalName(blank=False, longest=MAX_NAME),
        "pause, resume, cancel, update_context, or a name of your own",
        "cancel",
    )
    signal_type = described(
        SignalType(), 'The contract\'s spelling; a name of your own is {"custom": "name"}', "cancel"
    )
    payload = described(Anything(), "Any JSON")
    reason = described(Text(longest=1000), "Why, for the audit log")
    actor = described(Text(longest=200), "Who, for the audit log; X-Actor wins")
    dedupe_key = described(
        Text(blank=False, longest=255), "A repeated one does nothing; Idempotency-Key does the same"
    )


class Pairs(Object):
    """Names and the values that messages are compared by; texts, numbers or booleans."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> dict[str, str]:
        given = super()._deserialize(value, attr, data, **kwargs)
        if not 0 < len(given) <= MAX_CORRELATIONS:
            raise wrong(f"{{name}} must have 1 to {MAX_CORRELATIONS} names", _SUCH_AS)
        texts = {}
        for name, each in given.items():
            text = correlation_text(each)
            if text is None:
                raise wrong(
                    f"{name[:60]} must be a text of 1 to {LONGEST} characters, or a number",
                    _SUCH_AS,
                    at=f"/{escape(name)}",
                    shape=True,
                )
            texts[name] = text
        return texts


class CorrelatedSignalSchema(Body):
    """A message to every open instance that it is about."""

    signal = described(
        SignalName(required=True, blank=False, longest=MAX_NAME),
        "A name of your own, or pause, resume, cancel, update_context",
        "invoice.paid",
    )
    correlate = described(
        Pairs(required=True),
        "Instances match that have all of these, as `correlation` of their sequence says",
        {"invoice_id": "in_1MtHbELkdIwHu7ix"},
    )
    payload = described(Anything(), "Any JSON")
    if_many = described(
        Choice(*IfMany), "When several instances match; left out: all of them have the signal"
    )
    if_none = described(Choice("drop", "error"), "When no instance matches; left out: that is fine")
    tenant_id = Text(blank=False, longest=200)
    reason = described(Text(longest=1000), "Why, for the audit log")
    actor = described(Text(longest=200), "Who, for the audit log; X-Actor wins")
    dedupe_key = described(
        Text(blank=False, longest=255),
        "A repeated one does nothing to instances that have it; Idempotency-Key does the same",
    )


class ReachedSchema(Shown):
    """An instance that has the signal."""

    instance_id = fields.UUID(required=True)
    signal_id = fields.UUID(required=True)


class CorrelatedSchema(Shown):
    """Whom a message has reached."""

    matched = fields.Integer(
        required=True, metadata={"description": "How many open instances are correlated"}
    )
    signals = fields.List(fields.Nested(ReachedSchema), required=True)


class SentSchema(Shown):
    """The signal is in the inbox."""

    signal_id = fields.UUID(required=True)


class SignalInboxSchema(Shown):
    """A signal that was sent."""

    id = fields.UUID(required=True)
    name = fields.String(required=True)
    payload = fields.Raw(required=True)
    actor = fields.String(required=True, allow_none=True)
    received_at = fields.AwareDateTime(required=True)
    consumed_at = fields.AwareDateTime(required=True, allow_none=True)
    consumed_by = fields.String(required=True, allow_none=True)
