"""Errors become answers: one JSON object with ``error`` and the members of RFC 9457."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Any

import structlog
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, RequestEntityTooLarge

from api.answers import answer
from api.requests import request_id
from orch8.errors import InvalidArgument, NotFound, Orch8Error, PayloadTooLarge, Unauthorized

log = structlog.get_logger(__name__)

RETRY_AFTER = 1.0  # seconds, for an error that says "later" and not when


def install(app: Flask) -> None:
    """Whatever a view raises is answered as JSON, and what nobody expected is logged."""
    app.register_error_handler(Orch8Error, _ours)
    app.register_error_handler(HTTPException, _werkzeugs)
    app.register_error_handler(Exception, _unexpected)


def problem_of(error: Orch8Error) -> dict[str, Any]:
    """The JSON that tells of an error. What is internal stays in the log."""
    status = error.http_status
    internal = status == HTTPStatus.INTERNAL_SERVER_ERROR
    bare = internal or isinstance(error, Unauthorized)
    detail = (Orch8Error.__doc__ or "").strip() if internal else error.detail
    body: dict[str, Any] = {
        "error": error.prefix if bare else f"{error.prefix}: {detail}",
        "type": f"urn:orch8:problem:{error.code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": request.path,
        "code": error.code,
        "errors": [each.to_json() for each in error.errors],
        "retryable": error.retryable,
        "request_id": request_id(),
    }
    return {**error.extra, **body}


def _ours(error: Orch8Error) -> Response:
    if error.http_status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        tell = log.warning if error.retryable else log.error
        tell(
            "request.failed",
            request_id=request_id(),
            code=error.code,
            error=error.detail,
            exc_info=not error.retryable,
        )
    headers = {}
    if error.retryable:
        headers["Retry-After"] = str(math.ceil(error.retry_after or RETRY_AFTER))
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = 'ApiKey realm="orch8", header="x-api-key"'
    return answer(problem_of(error), error.http_status, headers)


def _werkzeugs(error: HTTPException) -> Response:
    """What the framework itself refuses, in our words."""
    status = error.code or HTTPStatus.INTERNAL_SERVER_ERROR
    if isinstance(error, RequestEntityTooLarge):
        return _ours(PayloadTooLarge())
    if status == HTTPStatus.NOT_FOUND:
        ours: Orch8Error = NotFound(
            f"there is no {request.path}; GET /api-docs/openapi.json lists what is"
        )
    elif isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        ours = _MethodNotAllowed(f"{request.method} is not possible here; possible: {allowed}")
        response = _ours(ours)
        response.headers["Allow"] = allowed
        return response
    elif status < HTTPStatus.BAD_REQUEST:
        return Response(status=status, headers=error.get_headers())
    else:
        ours = InvalidArgument(error.description or "the request cannot be read")
    return _ours(ours)


def _unexpected(error: Exception) -> Response:
    log.error(
        "request.broke",
        request_id=request_id(),
        method=request.method,
        path=request.path,
        exc_info=error,
    )
    return answer(problem_of(Orch8Error()), HTTPStatus.INTERNAL_SERVER_ERROR)


class _MethodNotAllowed(Orch8Error):
    """This address does not know the method."""

    code, prefix, http_status = "method_not_allowed", "method not allowed", 405
