"""What health and info answer."""

from __future__ import annotations

from marshmallow import fields

from api.schemas.base import Shown


class StatusSchema(Shown):
    """All is well."""

    status = fields.String(required=True)


class InfoSchema(Shown):
    """Which version this is."""

    version = fields.String(required=True)
    storage_schema_version = fields.String(required=True)
    contract_schema_version = fields.Integer(required=True)
    env_label = fields.String(required=True, allow_none=True)
    env_color = fields.String(required=True, allow_none=True)
