"""What the routes of plugins, rollback policies and releases take and give."""

from __future__ import annotations

from typing import Any

from marshmallow import fields

from api.schemas.base import (
    Anything,
    Body,
    Choice,
    Flag,
    Id,
    Number,
    Positive,
    Query,
    Shown,
    Text,
    Whole,
    described,
)
from orch8.blocks.fields import wrong

MAX_TENANT = 128
MAX_REASON = 1000
MAX_NAME = 255
MAX_SOURCE = 2048
MAX_TEXT = 2000
MAX_LISTED = 1000
LONGEST_WAIT = 86_400  # seconds
PLUGIN_TYPES = ("wasm", "grpc")

_TENANT = described(Text(printable=True, longest=MAX_TENANT), "Whose it is; default if blank")
_REASON = described(Text(longest=MAX_REASON), "Why, for the audit log")


class Share(Positive):
    """A part of a whole, from 0 to 1."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> float:
        if value == 0 and not isinstance(value, bool):
            return 0.0
        share = super()._deserialize(value, attr, data, **kwargs)
        if share > 1:
            raise wrong("{name} must be <= 1")
        return share


class DeclarationsQuery(Query):
    """Whose declarations, and how many."""

    tenant_id = described(Text(longest=MAX_TENANT), "The tenant; without one all that may be seen")
    limit = described(Number(least=1, most=MAX_LISTED), "How many at most; 100 if left out")


class _Declared(Shown):
    tenant_id = fields.String(required=True)
    created_at = fields.AwareDateTime(required=True)
    updated_at = fields.AwareDateTime(required=True)


# -- plugins -------------------------------------------------------------------------------------
class PluginPatch(Body):
    """What is to be different."""

    source = described(Text(blank=False, longest=MAX_SOURCE), "Where it is")
    enabled = described(Flag(), "Whether it may be used")
    config = described(Anything(), "Any JSON; it is kept in the clear")
    description = described(Text(longest=MAX_TEXT), "What it is for")
    reason = _REASON


class PluginBody(PluginPatch):
    """A new plugin."""

    name = described(Text(required=True, blank=False, longest=MAX_NAME), "What it is called")
    plugin_type = described(Choice(*PLUGIN_TYPES, required=True), "What runs it", "wasm")
    source = described(
        Text(required=True, blank=False, longest=MAX_SOURCE), "Where it is", "plugins/tax.wasm"
    )
    tenant_id = _TENANT


class PluginSchema(_Declared):
    """A plugin. Nothing runs it."""

    name = fields.String(required=True)
    plugin_type = fields.String(required=True, metadata={"enum": list(PLUGIN_TYPES)})
    source = fields.String(required=True)
    enabled = fields.Boolean(required=True)
    config = fields.Raw(required=True, allow_none=True)
    description = fields.String()


# -- rollback policies ---------------------------------------------------------------------------
class RollbackPolicyBody(Body):
    """When a release of a sequence is to be taken back."""

    sequence_name = described(Text(required=True, blank=False, longest=MAX_NAME), "Of which")
    error_rate_threshold = described(Share(required=True), "From which part of runs failing on")
    time_window_secs = described(Whole(required=True, least=1), "Over which time they are counted")
    cooldown_secs = described(Whole(most=LONGEST_WAIT), "0 if left out")
    confirmation_window_secs = described(Whole(most=LONGEST_WAIT), "0 if left out")
    webhook_url = described(Text(blank=False, longest=MAX_SOURCE), "Who is to be told")
    tenant_id = _TENANT
    reason = _REASON


class RollbackPolicySchema(_Declared):
    """A rollback policy. Nothing acts upon it."""

    sequence_name = fields.String(required=True)
    error_rate_threshold = fields.Float(required=True)
    time_window_secs = fields.Integer(required=True)
    cooldown_secs = fields.Integer(required=True)
    confirmation_window_secs = fields.Integer(required=True)
    webhook_url = fields.String()


# -- releases ------------------------------------------------------------------------------------
class ReleaseBody(Body):
    """A new release."""

    tenant_id = _TENANT
    baseline_sequence_id = described(Id(required=True), "The version that runs now")
    candidate_sequence_id = described(Id(required=True), "The version that is to come")
    canary_percent = described(Whole(most=100), "0 if left out")
    gates = described(Anything(), "Any JSON")
    in_flight_policy = described(
        Text(blank=False, longest=MAX_NAME), "Kept as it is; pin if left out", "pin"
    )
    reason = _REASON


class ReleaseSchema(_Declared):
    """A release. It stays a draft, and instances start by the newest version as ever."""

    id = fields.UUID(required=True)
    namespace = fields.String(required=True)
    sequence_name = fields.String(required=True)
    baseline_sequence_id = fields.UUID(required=True)
    baseline_version = fields.Integer(required=True)
    candidate_sequence_id = fields.UUID(required=True)
    candidate_version = fields.Integer(required=True)
    state = fields.String(required=True)
    canary_percent = fields.Integer(required=True)
    in_flight_policy = fields.String(required=True)
    gates = fields.Raw(allow_none=True)
