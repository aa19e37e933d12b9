"""From an HTTP answer to a verdict: what surely happened, surely did not, or may have.

The step's ``outcome_map`` speaks first, then the answer itself in its body member ``outcome``, then
the provider's preset, then the generic table. What says nothing certain is UNKNOWN, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, Final

import orjson

from orch8.engine.outcome import Answer, Verdict
from orch8.money.evidence import (
    CODE_PATHS,
    UNREADABLE,
    Judgement,
    Observation,
    Rule,
    codes_in,
    judge,
    reference,
)
from orch8.money.presets import GENERIC, PRESETS, Preset, preset

MAX_EXCERPT: Final = 2048
MAX_DETAILS: Final = 16_384
MAX_MESSAGE: Final = 1000

BY_OUTCOME: Final[Mapping[str, Verdict]] = {
    verdict.value: verdict
    for verdict in (
        Verdict.SUCCEEDED,
        Verdict.DECLINED,
        Verdict.REQUIRES_ACTION,
        Verdict.PENDING,
        Verdict.IN_PROGRESS,
        Verdict.FAILED_SAFE,
        Verdict.UNKNOWN,
    )
}
# What a body may say against a 4xx, which means "surely not executed": only what claims no effect.
BY_OUTCOME_OF_4XX: Final = frozenset(
    {Verdict.DECLINED, Verdict.IN_PROGRESS, Verdict.FAILED_SAFE, Verdict.UNKNOWN}
)
WITH_OUTPUT: Final = frozenset(
    {Verdict.SUCCEEDED, Verdict.DECLINED, Verdict.REQUIRES_ACTION, Verdict.PENDING}
)

# 13 to 19 digits, single blanks or hyphens between them allowed: the length of a card number.
_CARD_LIKE: Final = re.compile(r"(?<!\d)\d(?:[ -]?\d){12,18}(?!\d)")
_REF_PATHS: Final = ("provider_ref",)  # where handlers put the provider's reference
_KEPT_CLASSIFIERS: Final = 1024


@dataclass(frozen=True, slots=True)
class Response:
    """A complete HTTP answer; ``retry_after`` is in seconds, names of headers in lower case."""

    status: int
    body: bytes = b""
    retry_after: float | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


Classify = Callable[[Response], Answer]


def classifier(provider: str | None, outcome_map: Sequence[Rule] = ()) -> Classify:
    """How answers to a step are read whose provider has the preset ``provider``.

    Without a preset of that name the generic table is all there is. The evidence of an answer says
    ``preset``, ``why``, ``provider_ref`` (never one that looks like a card number),
    ``should_retry`` as the provider put it, and ``fetch`` when the effect exists and is only to be
    fetched; each only if there is something to say.
    """
    return _classifier(provider, tuple(outcome_map))


@lru_cache(maxsize=_KEPT_CLASSIFIERS)
def _classifier(provider: str | None, outcome_map: tuple[Rule, ...]) -> Classify:
    known = None if provider in {None, GENERIC} else preset(str(provider))
    return partial(_classify, known, outcome_map) if known or outcome_map else generic


def generic(response: Response) -> Answer:
    """The answer that an HTTP response comes to when no provider preset says more."""
    return _classify(None, (), response)


def verdict_of(status: int) -> Verdict:
    """The verdict that an HTTP status alone supports."""
    return _BY_STATUS.get(status, Verdict.UNKNOWN)


def _classify(known: Preset | None, outcome_map: tuple[Rule, ...], response: Response) -> Answer:
    body = _parse(response.body)
    seen = Observation(response.status, body, response.headers)
    paths = CODE_PATHS if known is None else known.code_paths
    judged = judge(outcome_map, seen, code_paths=dict.fromkeys((*paths, *CODE_PATHS)))
    verdict = judged.verdict if judged else _own_outcome(response.status, body)
    if verdict is None and known is not None:
        judged = judge(known.rules, seen, code_paths=paths)
        verdict = judged.verdict if judged else None
    if verdict is None:
        verdict = verdict_of(response.status)
    if body is UNREADABLE and verdict_of(response.status) is Verdict.SUCCEEDED:
        verdict, judged = Verdict.UNKNOWN, None  # a rule may have hoped for a body
    evidence = {**response.evidence, **_notes(known, judged, seen)}
    pause = response.retry_after or (judged.retry_after if judged else None)
    if body is UNREADABLE:
        return _unreadable(response, verdict, pause, evidence)
    error = None
    if verdict not in _NO_ERROR:
        codes = codes_in(body, paths) if known else ()
        error = error_of(response.status, body, response.body, codes[0] if codes else None)
    return Answer(
        verdict,
        output=body if verdict in WITH_OUTPUT else None,
        error=error,
        retry_after=pause,
        evidence=evidence,
    )


_NO_ERROR: Final = WITH_OUTPUT - {Verdict.DECLINED}
_BY_STATUS: Final[Mapping[int, Verdict]] = {
    status: judged.verdict
    for status in range(100, 600)
    if (judged := judge(PRESETS[GENERIC].rules, Observation(status)))
}


def _own_outcome(status: int, body: Any) -> Verdict | None:
    verdict = named_outcome(body)
    hundred = status // 100
    if hundred == 2 or (hundred == 4 and verdict in BY_OUTCOME_OF_4XX):  # noqa: PLR2004
        return verdict
    return None


def _notes(known: Preset | None, judged: Judgement | None, seen: Observation) -> dict[str, Any]:
    """What the evidence of an answer says about how it was read."""
    notes: dict[str, Any] = {}
    if known is not None:
        notes["preset"] = known.name
        wish = seen.headers.get(known.retry_header or "", "").strip().lower()
        if wish in {"true", "false"}:
            notes["should_retry"] = wish == "true"
    if judged is not None:
        notes["why"] = judged.why or "a rule of the step's outcome_map"
        if judged.fetch:
            notes["fetch"] = True
    ref = judged.provider_ref if judged else None
    ref = ref or reference(seen.body, (*_REF_PATHS, *(known.refs if known else ())))
    if ref is not None and not _CARD_LIKE.search(ref):
        notes["provider_ref"] = ref
    return notes


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
        evidence={**evidence, **_notes(None, None, Observation(0, body))},
    )


def error_of(status: int | None, body: Any, raw: bytes, code: str | None = None) -> dict[str, Any]:
    """The error JSON of an answer: message, and code, status and details where there are any.

    ``code`` is the one given, else the body's ``code``, ``error.code`` or ``error_code``.
    ``raw`` is only measured: details beyond MAX_DETAILS bytes are cut to an excerpt.
    """
    error: dict[str, Any] = {"message": _message(status, body)}
    code = code or _code(body)
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
        return UNREADABLE


def _unreadable(
    response: Response, verdict: Verdict, pause: float | None, evidence: Mapping[str, Any]
) -> Answer:
    if verdict_of(response.status) is Verdict.SUCCEEDED:
        message = f"the handler answered {response.status} with a body that is not JSON"
    else:
        message = _message(response.status, None)
    return Answer(
        verdict,
        error={"message": message, "status": response.status},
        retry_after=pause,
        evidence={**evidence, "body_excerpt": excerpt(response.body)},
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
