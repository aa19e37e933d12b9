"""Reading requests: their JSON bodies, queries, paths and ids, each wrong part named."""

from __future__ import annotations

import json
import re
from typing import Any, Final
from uuid import UUID

import orjson
from flask import g, request

from api.schemas.base import Body, Query, read_body, read_query
from api.surface import surface
from orch8.definition.bounds import check_json
from orch8.errors import (
    InvalidArgument,
    MalformedBody,
    PayloadTooLarge,
    Problem,
    UnsupportedMediaType,
)
from orch8.runtime.because import Because
from orch8.storage.ids import uuid4

MAX_REQUEST_ID: Final = 128
MAX_KEY: Final = 255
MAX_ACTOR: Final = 200
_NOT_IN_ID: Final = re.compile(r"[^A-Za-z0-9_-]")
# What is accepted must still fit into an answer that shows it inside a list; orjson ends at 254.
_SHOWN_INSIDE: Final = 6


def request_id() -> str:
    """The caller's x-request-id, sanitised, or a new one; one for the whole request."""
    if "request_id" not in g:
        given = _NOT_IN_ID.sub("", request.headers.get("x-request-id", ""))
        g.request_id = given[:MAX_REQUEST_ID] or str(uuid4())
    found: str = g.request_id
    return found


def json_body() -> Any:
    """The JSON value in the body. Raises UnsupportedMediaType, PayloadTooLarge, MalformedBody."""
    if not request.is_json:
        given = request.mimetype or "nothing"
        raise UnsupportedMediaType(f"send the body as application/json, not as {given}")
    return parse_json(raw_body())


def raw_body() -> bytes:
    """The body as it was sent, for what signatures are about. Raises PayloadTooLarge."""
    _check_size(request.content_length)
    raw = request.get_data()
    _check_size(len(raw))
    return raw


def body(schema: Body) -> dict[str, Any]:
    """The members of the body that are not null, by the schema's names."""
    return read_body(schema, json_body())


def members(schema: Body, value: Any) -> dict[str, Any]:
    """As body, of a value that was read already."""
    return read_body(schema, value)


def optional_body(schema: Body) -> dict[str, Any]:
    """As body; a request without a body is an empty object."""
    if not request.content_length and "Transfer-Encoding" not in request.headers:
        return {}
    return body(schema)


def query(schema: Query) -> dict[str, Any]:
    """The parameters of the query that are not empty. Raises InvalidArgument for a wrong one."""
    return read_query(schema, {name: values[-1] for name, values in request.args.lists()})


def path_id(text: str, what: str = "id") -> UUID:
    """The UUID in the path. Raises InvalidArgument."""
    try:
        return UUID(text)
    except ValueError:
        raise InvalidArgument(f"{what} in the path must be a UUID, not {text[:60]!r}") from None


def actor(given: str | None = None) -> str:
    """Who asks, for the audit log: the X-Actor header, or what the body says, or the API key's id,
    or "api".
    """
    named = header("X-Actor") or (given or "").strip()
    key: str | None = getattr(g.get("caller"), "key", None)
    return "".join(c for c in named if c.isprintable())[:MAX_ACTOR] or key or "api"


def because(reason: str | None = None, given: str | None = None) -> Because:
    """Who asks (the body may say ``given``), in which request, and why, for the audit log."""
    return Because(actor=actor(given), request_id=request_id(), reason=reason)


def named_actor() -> str:
    """Who decides: the X-Actor header. Raises InvalidArgument if nobody is named there."""
    if not header("X-Actor"):
        raise InvalidArgument(
            "the X-Actor header is missing: who decides stands in the audit log",
            errors=[Problem("", "X-Actor is missing", "send X-Actor: your name")],
        )
    return actor()


def idempotency_key(given: str | None = None) -> str | None:
    """The key of the Idempotency-Key header or the body. Raises InvalidArgument if they differ."""
    sent = request.headers.get("Idempotency-Key")
    if sent is None:
        return given
    if not sent.strip() or len(sent) > MAX_KEY or not sent.isprintable():
        raise InvalidArgument(
            f"the Idempotency-Key header must have 1 to {MAX_KEY} printable characters"
        )
    if given is not None and given != sent:
        raise InvalidArgument(
            "the Idempotency-Key header and the body's idempotency_key differ; send one of them",
            errors=[Problem("/idempotency_key", "differs from the Idempotency-Key header")],
        )
    return sent


def check_line() -> None:
    """Path and query hold text that can be stored. Raises InvalidArgument."""
    if "\0" in request.path or b"%00" in request.query_string:
        raise InvalidArgument("the address contains a NUL character; leave it out")


def wants_lenient() -> bool:
    """Whether the caller asked that unknown members be ignored: ?lenient=true."""
    return request.args.get("lenient", "").lower() in {"1", "true", "yes"}


def header(name: str) -> str:
    """A header's value without outer spaces; empty if it was not sent."""
    return request.headers.get(name, "").strip()


def parse_json(raw: bytes) -> Any:
    """The JSON value that ``raw`` spells, if it can be kept as it stands.

    Raises MalformedBody for what is no JSON, and for what JSON readers disagree about or the
    database cannot hold: members that occur twice, NaN, NUL characters, numbers beyond 64 bits.
    """
    twice: list[dict[str, Any]] = []

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            twice.append(found)
        return found

    try:
        value = json.loads(raw.decode(), object_pairs_hook=once)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise MalformedBody(f"the body is not valid JSON: {error.msg} ({place})") from None
    except UnicodeDecodeError as error:
        raise MalformedBody(f"the body is not UTF-8 at byte {error.start}") from None
    except RecursionError:
        raise _malformed(Problem("", "the JSON is nested too deep", "flatten it")) from None
    except ValueError as error:
        raise MalformedBody(f"the body is not valid JSON: {error}") from None
    if twice:
        raise _malformed(Problem(_where(value, twice[0]), "a member occurs twice here", "keep one"))
    problem = check_json(value)
    if problem is not None:
        raise _malformed(problem)
    try:
        orjson.dumps(_nested(value))
    except TypeError:
        raise _malformed(Problem("", "the JSON is nested too deep", "flatten it")) from None
    return value


def _check_size(size: int | None) -> None:
    largest = surface().settings.max_body
    if size is not None and size > largest:
        raise PayloadTooLarge(f"the body has {size} bytes, the limit is {largest}")


def _malformed(problem: Problem) -> MalformedBody:
    place = f" at {problem.pointer}" if problem.pointer else ""
    return MalformedBody(f"{problem.message}{place}", errors=[problem])


def _nested(value: Any) -> Any:
    for _ in range(_SHOWN_INSIDE):
        value = (value,)
    return value


def _where(value: Any, wanted: Any) -> str:
    """The JSON Pointer of the very object ``wanted`` inside ``value``."""
    pending = [("", value)]
    while pending:
        pointer, each = pending.pop()
        if each is wanted:
            return pointer
        if isinstance(each, dict):
            below = ((k.replace("~", "~0").replace("/", "~1"), v) for k, v in each.items())
            pending.extend((f"{pointer}/{k}", v) for k, v in below)
        elif isinstance(each, list):
            pending.extend((f"{pointer}/{i}", v) for i, v in enumerate(each))
    return ""  # it stood in a member that a later one of the same name replaced
