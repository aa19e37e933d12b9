"""Every error orch8 raises: one tree, each class with a code, an HTTP status and whether to retry.

A class's docstring is its default message. The engine raises only for programming errors and
ExpressionError: everything that can happen in the world is an outcome, not an exception.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with an input: where, what, and what to do about it."""

    pointer: str  # JSON Pointer into the input (RFC 6901); "" is the whole of it
    message: str
    hint: str = ""
    code: str = "invalid"
    shape: bool = False  # a wrong shape (missing member, wrong type) rather than a wrong meaning

    def to_json(self) -> dict[str, Any]:
        """The problem as JSON: its pointer, and what else it says."""
        return {k: v for k, v in asdict(self).items() if k != "shape" and v != ""} | {
            "pointer": self.pointer
        }


class Orch8Error(Exception):
    """Something went wrong inside orch8; the log has the details under the request id."""

    code: ClassVar[str] = "internal"
    prefix: ClassVar[str] = "internal server error"
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        detail: str | None = None,
        *,
        errors: Sequence[Problem] = (),
        retry_after: float | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self.detail = detail or (type(self).__doc__ or "").strip()
        self.errors = tuple(errors)
        self.retry_after = retry_after
        self.extra = dict(extra or {})
        super().__init__(self.detail)


class NotFound(Orch8Error):
    """There is no such thing here."""

    code, prefix, http_status = "not_found", "not found", 404


class InvalidArgument(Orch8Error):
    """The request cannot be carried out as it stands."""

    code, prefix, http_status = "invalid_argument", "invalid argument", 400


class DefinitionRejected(InvalidArgument):
    """The sequence definition has problems; each is listed with its place and a hint."""

    code = "definition_rejected"


class SsrfBlocked(InvalidArgument):
    """This address is not one that orch8 may call."""

    code = "ssrf_blocked"


class MalformedBody(InvalidArgument):
    """The body is not valid JSON."""

    code = "malformed_body"


class AlreadyExists(Orch8Error):
    """Something with this identity exists already."""

    code, prefix, http_status = "already_exists", "already exists", 409


class BusinessKeyTaken(AlreadyExists):
    """Another instance has this business key."""

    code = "business_key_taken"


class Conflict(Orch8Error):
    """The thing is in a state that does not allow this."""

    code, prefix, http_status = "conflict", "conflict", 409


class LeaseLost(Conflict):
    """The lease on this task changed: another dispatch owns it now."""

    code = "lease_lost"


class Unauthorized(Orch8Error):
    """A valid API key is required."""

    code, prefix, http_status = "unauthorized", "unauthorized", 401


class Forbidden(Orch8Error):
    """This key may not do that."""

    code, prefix, http_status = "forbidden", "forbidden", 403


class UnsupportedMediaType(Orch8Error):
    """Send the body as application/json."""

    code, prefix, http_status = "unsupported_media_type", "unsupported media type", 415


class PayloadTooLarge(Orch8Error):
    """The body is larger than allowed."""

    code, prefix, http_status = "payload_too_large", "payload too large", 413


class Unprocessable(Orch8Error):
    """The body is JSON, but not of the expected shape."""

    code, prefix, http_status = "unprocessable", "unprocessable entity", 422


class IdempotencyMismatch(Unprocessable):
    """This idempotency key was used before with a different body."""

    code = "idempotency_mismatch"


class RateLimited(Orch8Error):
    """Too many requests; try again later."""

    code, prefix, http_status, retryable = "rate_limited", "rate limit exceeded", 429, True


class BadGateway(Orch8Error):
    """A service behind this one did not answer properly."""

    code, prefix, http_status, retryable = "bad_gateway", "bad gateway", 502, True


class Unavailable(Orch8Error):
    """A service this one needs is away; try again shortly."""

    code, prefix, http_status, retryable = "unavailable", "unavailable", 503, True


class ExpressionError(Orch8Error):
    """An expression or template cannot be evaluated."""

    code, prefix, http_status = "expression_error", "invalid argument", 400


class KeyReused(ExpressionError):
    """a new attempt came to the idempotency key of the one before"""

    code = "key_reused"


class CredentialUnusable(ExpressionError):
    """A step refers to a credential that cannot be used."""

    code = "credential_unusable"


class ConfigurationError(Orch8Error):
    """The configuration cannot be used as it stands."""

    code = "configuration"
