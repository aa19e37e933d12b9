"""What injecting blocks, resuming from a block and forking take and give."""

from __future__ import annotations

from marshmallow import fields

from api.schemas.base import Anything, Body, Flag, Many, Object, Shown, Text, Whole, described
from api.schemas.bulk import ReasonedSchema
from api.schemas.instances import LONGEST
from api.schemas.signals import SignalType
from orch8.blocks.fields import Part

MOST_SIGNALS = 100


class InjectBody(ReasonedSchema):
    """Blocks to put in."""

    blocks = described(
        Anything(required=True),
        "A list of blocks, as in a sequence",
        [{"type": "step", "id": "tell", "handler": "notify"}],
    )
    position = described(
        Whole(), "Before which of the injected blocks, from 0; left out: behind them"
    )


class InjectedSchema(Shown):
    """The blocks that are there now."""

    injected_block_ids = fields.List(fields.String(), required=True)
    position = fields.Integer(required=True, allow_none=True)
    total_injected = fields.Integer(
        required=True, metadata={"description": "How many were injected, up to now"}
    )


class ToSendSchema(Body):
    """A signal to send once the instance goes on."""

    signal_type = described(
        SignalType(required=True), 'A control, or {"custom": "name"}', {"custom": "paid"}
    )
    payload = described(Anything(), "Any JSON")


class RerunSchema(ReasonedSchema):
    """What resuming and forking have in common."""

    context = described(Object(), "Members to put into context.data", {"amount_cents": 9900})
    signals = Many(Part(ToSendSchema), most=MOST_SIGNALS)
    acknowledge_side_effect_risk = described(
        Flag(), "Steps that had an effect outside may have it again"
    )


class ResumeBody(RerunSchema):
    """How the instance goes on."""


class ResumedSchema(Shown):
    """The instance that goes on."""

    id = fields.UUID(required=True)
    state = fields.String(required=True)
    resumed_from = fields.String(required=True)
    outputs_deleted = fields.Integer(
        required=True, metadata={"description": "How many outputs are history now; they are kept"}
    )
    signals_enqueued = fields.Integer(required=True)
    round = fields.Integer(required=True)


class ForkBody(RerunSchema):
    """From where the new instance goes on, and whether for real."""

    from_block_id = Text(required=True, blank=False, longest=LONGEST)
    dry_run = described(Flag(), "Left out: true")


class ForkedSchema(Shown):
    """The new instance."""

    id = fields.UUID(required=True)
    forked_from = fields.UUID(required=True)
    state = fields.String(required=True)
    copied_blocks = fields.Integer(
        required=True, metadata={"description": "How many blocks were not run, but copied"}
    )
    rerun_blocks = fields.List(fields.String(), required=True)
    dry_run = fields.Boolean(required=True)
