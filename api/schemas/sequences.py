"""What publishing and listing sequences takes and gives."""

from __future__ import annotations

from marshmallow import INCLUDE, fields

from api.schemas.base import (
    Body,
    Choice,
    Flag,
    Id,
    Number,
    Query,
    Shown,
    Switch,
    Text,
    described,
)
from api.schemas.errors import ProblemSchema
from orch8.runtime.versions import STATUSES

MAX_PAGE = 1000


class DefinitionSchema(Body):
    """A sequence definition, in the short form or in the contract's."""

    id = described(
        Text(required=True), "The sequence's name; a UUID in the contract's form", "payment_dunning"
    )
    blocks = described(
        fields.List(fields.Dict(), required=True),
        "What to do, one after another",
        [{"type": "step", "handler": "noop"}],
    )
    version = described(fields.Integer(), "Left out: the next one")
    tenant_id = described(
        Text(), "With this, namespace, name or created_at the body is in the contract's form"
    )
    namespace = Text()
    timezone = described(Text(), "IANA name such as Europe/Vienna; UTC if left out")
    input_schema = described(fields.Dict(), "JSON Schema of context.data")


class PublishQuery(Query):
    """How to publish."""

    lenient = described(Switch(), "Unknown members are warnings")
    strict = described(Switch(), "Remarks about money, and missing rate limits, are problems")


class SequenceQuery(Query):
    """Which sequences to list."""

    tenant_id = Text()
    namespace = Text()
    name = Text()
    limit = Number(least=1)
    offset = Number()


class ByNameQuery(Query):
    """Which version to find."""

    tenant_id = Text()
    namespace = Text()
    name = Text(required=True)
    version = Number()


class VersionsQuery(Query):
    """Whose versions to list."""

    tenant_id = Text()
    namespace = Text()
    name = Text(required=True)


class TenantQuery(Query):
    """Whose sequences to list."""

    tenant_id = Text()


class StatusBody(Body):
    """What a version is to be."""

    status = described(Choice(*STATUSES, required=True), "unpublished deprecates it, too")


class UnpublishBody(Body):
    """How to unpublish."""

    delete = described(Flag(), "Delete the versions, too")


class MigrateBody(Body):
    """Which instance is to go on by which version."""

    instance_id = Id(required=True)
    target_sequence_id = Id(required=True)
    reason = Text(longest=2000)


class MigratedSchema(Shown):
    """The instance runs by another version now."""

    migrated = fields.Boolean(required=True)
    instance_id = fields.UUID(required=True)
    from_sequence_id = fields.UUID(required=True)
    to_sequence_id = fields.UUID(required=True)


class PublishedSchema(Shown):
    """A version that is published now."""

    id = fields.UUID(required=True)
    name = fields.String(required=True)
    version = fields.Integer(required=True)
    warnings = fields.List(
        fields.String(), metadata={"description": "What is legal, but looks wrong"}
    )
    warning_details = fields.List(fields.Nested(ProblemSchema))


class SequenceSchema(Shown):
    """A published version: its definition as it was sent, and what is known about it."""

    class Meta:  # noqa: D106 - marshmallow's
        unknown = INCLUDE  # whatever else the definition has

    id = fields.UUID(required=True)
    tenant_id = fields.String(required=True)
    namespace = fields.String(required=True)
    name = fields.String(required=True)
    version = fields.Integer(required=True)
    status = fields.String(required=True)
    deprecated = fields.Boolean(required=True)
    created_at = fields.AwareDateTime(required=True)
    sha256 = fields.String(required=True, metadata={"description": "Of what the version means"})
    blocks = fields.List(fields.Dict(), required=True)


class SequencePageSchema(Shown):
    """Some sequences, by tenant, namespace and name, the newest version first."""

    items = fields.List(fields.Nested(SequenceSchema), required=True)
    has_more = fields.Boolean(required=True)
