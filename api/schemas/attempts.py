"""What a word from outside on an attempt looks like, and what it came to."""

from __future__ import annotations

from marshmallow import fields

from api.schemas.base import Anything, Body, Choice, Id, Shown, Text, described
from orch8.engine.outcome import Verdict

OUTCOMES = (Verdict.SUCCEEDED, Verdict.DECLINED, Verdict.REQUIRES_ACTION, Verdict.FAILED)
SOURCES = ("webhook", "reconcile")
STATES = ("resolved", "agrees", "contrary", "seen")


class TestimonySchema(Body):
    """How an attempt ended, by somebody who knows."""

    idempotency_key = described(
        Text(blank=False, longest=255), "The key that the attempt was sent with"
    )
    provider_ref = described(
        Text(blank=False, longest=255),
        "The provider's own id of the charge; finds the attempt if nothing else is given",
        "ch_3MmlLrLkdIwHu7ix",
    )
    instance_id = described(Id(), "With step: the instance")
    step = described(Text(blank=False, longest=1000), "With instance_id: the node key")
    outcome = described(
        Choice(*OUTCOMES, required=True), "How it ended; failed: surely without an effect"
    )
    output = described(Anything(), "The step's output, if this word is the one that ends it")
    event_id = described(
        Text(blank=False, longest=255), "The provider's id of the event: seen once", "evt_1"
    )
    source = described(
        Choice(*SOURCES), "Left out: webhook. reconcile: your own comparison with their books"
    )
    tenant_id = Text(blank=False, longest=200)
    actor = described(Text(longest=200), "Who, for the audit log; X-Actor wins")


class HeardSchema(Shown):
    """What a word on an attempt came to."""

    state = fields.String(
        required=True,
        metadata={
            "enum": list(STATES),
            "description": "resolved: the attempt has ended by it; agrees: it had ended so; "
            "contrary: it had ended otherwise, and an incident is open; seen: heard before",
        },
    )
    instance_id = fields.UUID(required=True, allow_none=True)
    node_key = fields.String(required=True, allow_none=True)
