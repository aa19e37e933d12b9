"""What the API says went wrong, as one of our exceptions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from orch8 import errors
from orch8.errors import BadGateway, Conflict, InvalidArgument, Orch8Error, Problem

SHOWN: Final = 200  # bytes of an answer that is none of orch8's
_SERVERS: Final = 500  # from this status on it is the server's fault
_KNOWN: Final = tuple(
    each for each in vars(errors).values()
    if isinstance(each, type) and issubclass(each, Orch8Error)
)  # fmt: skip
_BY_CODE: Final = {each.code: each for each in reversed(_KNOWN)}
_BY_STATUS: Final = {each.http_status: each for each in reversed(_KNOWN)} | {409: Conflict}


class Unreachable(BadGateway):
    """The API cannot be reached, or did not answer in time."""

    code = "unreachable"


class NotJson(InvalidArgument):
    """The value has no JSON form."""

    code = "not_json"


def problem_of(status: int, raw: bytes, headers: Mapping[str, str]) -> Orch8Error:
    """The error that an answer tells of: its class by the problem's code, else by the status; what
    is wrong with each member in ``errors``, all else that was said in ``extra``.
    """
    try:
        said = json.loads(raw)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        told = f"the API answered {status}: {raw[:SHOWN]!r}"
        return BadGateway(told, extra={"status": status})
    usual = BadGateway if status >= _SERVERS else InvalidArgument
    kind = _BY_CODE.get(str(said.get("code"))) or _BY_STATUS.get(status, usual)
    return kind(
        str(said.get("error") or said.get("detail") or status),
        errors=[_member(each) for each in said.get("errors") or () if isinstance(each, dict)],
        retry_after=retry_after(headers),
        extra={"status": status} | {n: v for n, v in said.items() if n not in {"error", "errors"}},
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds of a Retry-After header; None without one, or with a date."""
    text = headers.get("retry-after", "").strip()
    return float(text) if text.isascii() and text.isdecimal() else None


def _member(said: Mapping[str, Any]) -> Problem:
    return Problem(
        pointer=str(said.get("pointer") or ""),
        message=str(said.get("message") or ""),
        hint=str(said.get("hint") or ""),
        code=str(said.get("code") or "invalid"),
    )
