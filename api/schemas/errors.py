"""What an error looks like: ``error`` for those who read one line, RFC 9457 for the rest."""

from __future__ import annotations

from marshmallow import INCLUDE, fields

from api.schemas.base import Shown


class ProblemSchema(Shown):
    """One thing that is wrong with a request."""

    pointer = fields.String(
        required=True, metadata={"description": "JSON Pointer into the body (RFC 6901)"}
    )
    message = fields.String(required=True)
    hint = fields.String(metadata={"description": "What to do about it"})
    code = fields.String()


class ErrorSchema(Shown):
    """Why a request was not carried out. Nothing has changed."""

    class Meta:  # noqa: D106 - marshmallow's
        unknown = INCLUDE  # what more there is to say about this kind of error

    error = fields.String(required=True, metadata={"description": "In one line"})
    type = fields.String(
        required=True, metadata={"description": "Names the kind of problem (RFC 9457)"}
    )
    title = fields.String(required=True)
    status = fields.Integer(required=True)
    detail = fields.String(required=True)
    instance = fields.String(required=True, metadata={"description": "The path that was asked for"})
    code = fields.String(required=True, metadata={"description": "For programs"})
    errors = fields.List(fields.Nested(ProblemSchema), required=True)
    retryable = fields.Boolean(
        required=True, metadata={"description": "Whether the same request may succeed later"}
    )
    request_id = fields.String(
        required=True, metadata={"description": "Finds the request in the log"}
    )
