"""GET /api-docs/openapi.json: every route, as OpenAPI 3.1; and the page to try them."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from http import HTTPStatus
from importlib import resources
from typing import Any, Final

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Blueprint, Response, current_app
from marshmallow import fields
from werkzeug.routing import Rule

import orch8
from api.answers import answer
from api.operations import MARK, Many, Operation, operation
from api.schemas.base import Choice, Id, Object, Query, Timestamp, Whole, Words
from api.schemas.errors import ErrorSchema
from api.surface import surface
from orch8.blocks.fields import Span

blueprint: Final = Blueprint("openapi", __name__)

ABOUT: Final = """\
Durable payment workflows. Publish a **sequence**, start **instances** of it, watch and steer them.

Every route is there twice: bare and under `/api/v1`. Errors are JSON with `error` in one line and
the members of RFC 9457. The same request with the same idempotency key is carried out once.
"""
_PARAMETER: Final = re.compile(r"<(?:[^:<>]+:)?([^<>]+)>")
_KEYED: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_HEADERS: Final = {
    "Idempotency-Key": "The same key again does nothing new; as the body's idempotency_key",
    "X-Actor": "Who asks, for the audit log",
    "X-Trigger-Secret": "The secret of the trigger, if it has one",
}
_TEXT: Final = {"type": "string"}


@blueprint.get("/api-docs/openapi.json")
@operation("Read this document", answers={200: "application/json"})
def document() -> Response:
    """The description of every route of this app."""
    described = surface().described
    if not described:
        described.update(describe())
    return answer(described)


@blueprint.get("/swagger-ui")
@operation("Open the page to try the API", answers={200: "text/html"}, public=True)
def page() -> Response:
    """One page without any foreign part; it asks for the API key and keeps it in memory only."""
    text, policy = _page()
    return Response(
        text,
        mimetype="text/html",
        headers={"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer"},
    )


def describe() -> dict[str, Any]:
    """The OpenAPI document of the current app."""
    plugin = MarshmallowPlugin(schema_name_resolver=_schema_name)
    spec = APISpec(
        "orch8", orch8.__version__, "3.1.0", info={"description": ABOUT}, plugins=[plugin]
    )
    plugin.converter.add_attribute_function(_attributes)  # type: ignore[union-attr]
    spec.components.security_scheme("key", {"type": "apiKey", "in": "header", "name": "x-api-key"})
    spec.components.response(
        "Error",
        {
            "description": "Not carried out; nothing changed",
            "content": {"application/json": {"schema": ErrorSchema}},
        },
    )
    # In the order in which create_app names the parts: the page shows it so.
    order = {name: place for place, name in enumerate(current_app.blueprints)}
    paths: dict[str, dict[str, Any]] = {}
    for rule in sorted(current_app.url_map.iter_rules(), key=lambda r: (order[_part(r)], r.rule)):
        described = getattr(current_app.view_functions[rule.endpoint], MARK)
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            paths.setdefault(_path(rule), {})[method.lower()] = _operation(rule, method, described)
    for path, operations in paths.items():
        spec.path(path=path, operations=operations)
    return spec.to_dict()


def _operation(rule: Rule, method: str, described: Operation) -> dict[str, Any]:
    """What OpenAPI calls an operation."""
    view = current_app.view_functions[rule.endpoint]
    usual = set() if described.public else {400, 401, 403, 500, 503}
    statuses = {*usual, *described.errors}
    if described.body is not None:
        statuses |= {400, 413, 415, 422}
    answers: dict[str, Any] = {
        str(status): _answer(status, content) for status, content in described.answers.items()
    }
    answers |= {str(status): "Error" for status in sorted(statuses)}
    parameters = [
        {"in": "path", "name": name, "required": True, "schema": _TEXT}
        for name in sorted(rule.arguments)
    ]
    if described.query is not None:
        parameters.append({"in": "query", "schema": described.query})
    if not described.public:
        parameters.append(_header("X-Tenant-Id", "Which tenant this is about"))
    parameters += [_header(name, _HEADERS[name]) for name in described.headers]
    made: dict[str, Any] = {
        "operationId": rule.endpoint.replace(".", "_"),
        "summary": described.summary,
        "description": (view.__doc__ or "").strip(),
        "tags": [_part(rule).removeprefix("v1_")],
        "parameters": parameters,
        "responses": answers,
        "security": [] if described.public else [{"key": []}],
    }
    if described.body is not None and method in _KEYED:
        content = {"application/json": {"schema": described.body}}
        made["requestBody"] = {"required": described.body_required, "content": content}
    return made


def _answer(status: int, content: Any) -> dict[str, Any]:
    told: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    if isinstance(content, Many):
        told["content"] = {
            "application/json": {"schema": {"type": "array", "items": content.schema}}
        }
    elif isinstance(content, str):
        told["content"] = {content: {"schema": _TEXT if content.startswith("text/") else {}}}
    elif content is not None:
        told["content"] = {"application/json": {"schema": content}}
    return told


def _header(name: str, text: str) -> dict[str, Any]:
    return {"in": "header", "name": name, "description": text, "schema": _TEXT}


def _part(rule: Rule) -> str:
    """The blueprint that a route belongs to."""
    endpoint: str = rule.endpoint
    return endpoint.partition(".")[0]


def _path(rule: Rule) -> str:
    return _PARAMETER.sub(r"{\1}", rule.rule)


def _schema_name(schema: Any) -> Any:
    kind = schema if isinstance(schema, type) else type(schema)
    # Without a name a query stays where it is used, as parameters.
    return None if issubclass(kind, Query) else kind.__name__.removesuffix("Schema")


def _attributes(self: Any, field: fields.Field[Any], **_: Any) -> dict[str, Any]:
    """What our own members say beyond what their marshmallow type does."""
    del self
    match field:
        case Id():
            return {"format": "uuid"}
        case Timestamp():
            return {"format": "date-time"}
        case Choice():
            return {"enum": [*field.words, None] if field.allow_none else list(field.words)}
        case Words():
            return {"description": "Words separated by commas: " + ", ".join(field.words)}
        case Whole():
            return {"minimum": field.least, "maximum": field.most}
        case Object():
            return {"type": ["object", "null"] if field.allow_none else "object"}
        case Span():
            return {"type": ["string", "integer", "number", "object", "null"]}
        case _:
            return {}


@cache
def _page() -> tuple[str, str]:
    """The page and the policy that lets only its own script and style run."""
    text = resources.files("api").joinpath("try.html").read_text(encoding="utf-8")
    script, style = (_digest(text, tag) for tag in ("script", "style"))
    return text, (
        f"default-src 'none'; script-src '{script}'; style-src '{style}'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _digest(text: str, tag: str) -> str:
    inside = text.split(f"<{tag}>", 1)[1].split(f"</{tag}>", 1)[0]
    return "sha256-" + base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
