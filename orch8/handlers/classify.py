"""The table from an HTTP answer to a verdict: what surely happened, surely did not, or may have.

Source: the evidence matrix. A status that says nothing certain about the effect is UNKNOWN, never
guessed; an answer may name its own outcome in the body member ``outcome``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from orch8.engine.outcome import Answer, Verdict

MAX_EXCERPT: Final = 2048
MAX_DETAILS: Final = 16_384
MAX_MESSAGE: Final = 1000

BY_STATUS: Final[Mapping[int, Verdict]] = {
    402: Verdict.DECLINED,
    # Refused before execution: the same request would be refused again.
    400: Verdict.REFUSED,
    401: Verdict.REFUSED,
    403: Verdict.REFUSED,
    404: Verdict.REFUSED,
    405: Verdict.REFUSED,
    413: Verdict.REFUSED,
    415: Verdict.REFUSED,
    422: Verdict.REFUSED,
    # Refused before execution, but only for now.
    429: Verdict.FAILED_SAFE,
    # An earlier dispatch with this key may be running, or this one was cut off half way.
    408: Verdict.UNKNOWN,
    409: Verdict.UNKNOWN,
    425: Verdict.UNKNOWN,
}
BY_HUNDRED: Final[Mapping[int, Verdict]] = {
    2: Verdict.SUCCEEDED,
    3: Verdict.REFUSED,  # redirects are not followed
    4: Verdict.REFUSED,
    5: Verdict.UNKNOWN,
}
BY_OUTCOME: Final[Mapping[str, Verdict]] = {
    verdict.value: verdict
    for verdict in (
        Verdict.SUCCEEDED,
        Verdict.DECLINED,
        Verdict.REQUIRES_ACTION,
        Verdict.PENDING,
        Verdict.FAILED_SAFE,
        Verdict.UNKNOWN,
    )
}
WITH_OUTPUT: Final = frozenset(
    {Verdict.SUCCEEDED, Verdict.DECLINED, Verdict.REQUIRES_ACTION, Verdict.PENDING}
)

# 13 to 19 digits, single blanks or hyphens between them allowed: the length of a card number.
_CARD_LIKE: Final = re.compile(r"(?<!\d)\d(?:[ -]?\d){12,18}(?!\d)")
_UNREADABLE: Final = object()


@dataclass(frozen=True, slots=True)
class Response:
    """A complete HTTP answer; ``retry_after`` is in seconds."""

    status: int
    body: bytes = b""
    retry_after: float | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)


Classify = Callable[[Response], Answer]


def verdict_of(status: int) -> Verdict:
    """The verdict that an HTTP status alone supports."""
    return BY_STATUS.get(status) or BY_HUNDRED.get(status // 100, Verdict.UNKNOWN)


def generic(response: Response) -> Answer:
    """The answer that an HTTP response comes to when no provider preset says more."""
    verdict = verdict_of(response.status)
    body = _parse(response.body)
    if body is _UNREADABLE:
        return _unreadable(response, verdict)
    if verdict is Verdict.SUCCEEDED:
        verdict = named_outcome(body) or verdict
    elif response.status // 100 == 4 and named_outcome(body) is Verdict.DECLINED:  # noqa: PLR2004
        verdict = Verdict.DECLINED
    return Answer(
        verdict,
        output=body if verdict in WITH_OUTPUT else None,
        error=None if verdict in _NO_ERROR else error_of(response.status, body, response.body),
        retry_after=response.retry_after,
        evidence=response.evidence,
    )


_NO_ERROR: Final = WITH_OUTPUT - {Verdict.DECLINED}


def named_outcome(body: Any) -> Verdict | None:
    """The verdict that a body names in its member ``outcome``; None when it names none."""
    if not isinstance(body, dict):
        return None
    outcome = body.get("outcome")
    return BY_OUTCOME.get(outcome) if isinstance(outcome, str) else None


def spoken(body: Any, evidence: Mapping[str, Any]) -> Answer:
    """The answer of a handler that returned this JSON value without an HTTP status."""
    verdict = named_outcome(body) or Verdict.SUCCEEDED
    return Answer(
        verdict,
        output=body if verdict in WITH_OUTPUT else None,
        error=None if verdict in _NO_ERROR else error_of(None, body, b""),
        evidence=evidence,
    )


def error_of(status: int | None, body: Any, raw: bytes) -> dict[str, Any]:
    """The error JSON of an answer: message, and code, status and details where there are any.

    ``code`` is the body's ``code``, ``error.code`` or ``error_code``, whichever comes first.
    ``raw`` is only measured: details beyond MAX_DETAILS bytes are cut to an excerpt.
    """
    error: dict[str, Any] = {"message": _message(status, body)}
    code = _code(body)
    if code is not None:
        error["code"] = code
    if status is not None:
        error["status"] = status
    if body is not None:
        error["details"] = body if len(raw) <= MAX_DETAILS else {"body_excerpt": excerpt(raw)}
    return error


def excerpt(raw: bytes) -> str:
    """The first 2 KiB of a body as text in which no run of 13 to 19 digits is left."""
    # The margin keeps a number that straddles the cut whole until it is recognised.
    text = raw[: MAX_EXCERPT + 64].decode("utf-8", "replace").replace("\x00", "\ufffd")
    return _CARD_LIKE.sub("[digits]", text)[:MAX_EXCERPT]


def refused(message: str, code: str, **evidence: Any) -> Answer:
    """An answer that was never asked for: the call cannot be made as it stands."""
    return Answer(
        Verdict.REFUSED,
        error={"message": message, "code": code},
        evidence={"sent": False, **evidence},
    )


def _parse(raw: bytes) -> Any:
    if not raw.strip():
        return None
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return _UNREADABLE


def _unreadable(response: Response, verdict: Verdict) -> Answer:
    if verdict is Verdict.SUCCEEDED:
        verdict = Verdict.UNKNOWN
        message = f"the handler answered {response.status} with a body that is not JSON"
    else:
        message = _message(response.status, None)
    return Answer(
        verdict,
        error={"message": message, "status": response.status},
        retry_after=response.retry_after,
        evidence={**response.evidence, "body_excerpt": excerpt(response.body)},
    )


def _code(body: Any) -> str | None:
    if not isinstance(body, dict):
        return None
    inner = body.get("error")
    candidates = (
        body.get("code"),
        inner.get("code") if isinstance(inner, dict) else None,
        body.get("error_code"),
    )
    for code in candidates:
        if isinstance(code, str | int) and not isinstance(code, bool) and code != "":
            return str(code)[:MAX_MESSAGE]
    return None


def _message(status: int | None, body: Any) -> str:
    if isinstance(body, dict):
        inner = body.get("error")
        candidates = (
            body.get("message"),
            inner.get("message") if isinstance(inner, dict) else inner,
            body.get("detail"),
        )
        for text in candidates:
            if isinstance(text, str) and text.strip():
                return text.strip()[:MAX_MESSAGE]
    if status is None:
        return "the handler named an outcome without a message"
    return f"the handler answered {status}"
