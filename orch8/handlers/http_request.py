"""The built-in handler ``http_request``: one HTTP call to any address; output {status, body}."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

import orjson

from orch8.engine.outcome import Answer, Verdict
from orch8.errors import InvalidArgument, Problem
from orch8.handlers import ssrf
from orch8.handlers.builtin import CallSite, Params, allows, is_template, needs
from orch8.handlers.classify import MAX_DETAILS, Classify, Response, excerpt, refused
from orch8.handlers.http import METHODS, READS, Call

DEFAULT_TIMEOUT_MS: Final = 10_000
MAX_TIMEOUT_MS: Final = 600_000
MAX_HEADERS: Final = 100
# Not refusals of this request: it may be running under an earlier dispatch, or was cut off.
_UNCERTAIN: Final = frozenset({408, 409, 425})


def check(params: Params) -> list[Problem]:
    """The parameters can become a request; what a template will render is checked when it runs."""
    problems = needs(params, "url", str, "an http or https address")
    url = params.get("url")
    if isinstance(url, str) and not is_template(url):
        try:
            ssrf.check_form(url)
        except InvalidArgument as error:
            problems.append(Problem("/url", error.detail, "write an absolute address", "url"))
    method = params.get("method", "GET")
    if not is_template(method) and (not isinstance(method, str) or method.upper() not in METHODS):
        names = ", ".join(sorted(METHODS))
        problems.append(Problem("/method", f"method must be one of {names}", "", "method"))
    problems += allows(params, "headers", dict, "an object of texts")
    timeout = params.get("timeout_ms")
    wanted = f"a whole number of milliseconds from 1 to {MAX_TIMEOUT_MS}"
    problems += allows(params, "timeout_ms", int, wanted)
    if type(timeout) is int and not 1 <= timeout <= MAX_TIMEOUT_MS:
        problems.append(Problem("/timeout_ms", f"timeout_ms must be {wanted}", "", "range"))
    return problems


def effect(params: Params) -> str:
    """A GET or HEAD is "read", everything else "external"."""
    return "read" if _method(params) in READS else "external"


def run(params: Params, site: CallSite) -> Call | Answer:
    """The call that rendered parameters describe, or a REFUSED answer that names the wrong one.

    A method with an effect carries the attempt's Idempotency-Key unless ``headers`` has one.
    """
    problems = check(params)
    if problems:
        return refused("; ".join(problem.message for problem in problems), "bad_request")
    method = _method(params)
    try:
        headers = _headers(params, method, site)
        body = _body(params.get("body"))
        ssrf.check_headers(headers)
    except InvalidArgument as error:
        return refused(error.detail, error.code)
    timeout = params.get("timeout_ms")
    return Call(
        url=params["url"],
        method=method,
        body=body,
        headers=headers,
        timeout=(DEFAULT_TIMEOUT_MS if timeout is None else timeout) / 1000,
        connect_timeout=site.connect_timeout,
        max_response=site.max_response,
        guard=site.guard,
        not_after=site.not_after,
        classify=_classify(method, site),
    )


def _classify(method: str, site: CallSite) -> Classify:
    if site.classify is not None:
        return partial(_by_provider, site.classify)
    return _classify_read if method in READS else _classify_external


def _by_provider(classify: Classify, response: Response) -> Answer:
    """The provider's table judges; the output is what http_request always gives, and the class."""
    judged = classify(response)
    plain = _classified(response, uncertain=Verdict.UNKNOWN)
    if judged.output is None:
        return judged
    output = plain.output or (plain.error or {}).get("details") or {}
    return replace(judged, output={**output, "outcome": judged.verdict.value})


def _method(params: Params) -> str:
    return str(params.get("method", "GET")).upper()


def _body(body: Any) -> bytes:
    if body is None:
        return b""
    try:
        return body.encode() if isinstance(body, str) else orjson.dumps(body)
    except (TypeError, UnicodeEncodeError) as error:
        raise InvalidArgument(f"body: cannot be sent ({error})") from None


def _headers(params: Params, method: str, site: CallSite) -> tuple[tuple[str, str], ...]:
    given = params.get("headers") or {}
    if not isinstance(given, Mapping) or len(given) > MAX_HEADERS:
        raise InvalidArgument(f"headers: must be an object of at most {MAX_HEADERS} texts")
    headers = []
    for name, value in given.items():
        if not isinstance(value, str | int | float) or isinstance(value, bool):
            raise InvalidArgument(f"headers: the value of {name} must be a text")
        headers.append((name, str(value)))
    names = {name.lower() for name, _ in headers}
    if params.get("body") is not None and "content-type" not in names:
        headers.append(("Content-Type", "application/json"))
    if method not in READS and site.key_header.lower() not in names:
        headers.append((site.key_header, site.idempotency_key))
    return tuple(headers)


def _classify_read(response: Response) -> Answer:
    return _classified(response, uncertain=Verdict.FAILED_SAFE)


def _classify_external(response: Response) -> Answer:
    return _classified(response, uncertain=Verdict.UNKNOWN)


def _classified(response: Response, uncertain: Verdict) -> Answer:
    status = response.status
    text = response.body.decode("utf-8", "replace").replace("\x00", "\ufffd")
    output = {"status": status, "body": text}
    if 200 <= status < 300:  # noqa: PLR2004
        return Answer(Verdict.SUCCEEDED, output=output, evidence=response.evidence)
    if status == 429:  # noqa: PLR2004
        verdict = Verdict.FAILED_SAFE
    elif status in _UNCERTAIN or status >= 500 or status < 200:  # noqa: PLR2004
        verdict = uncertain
    else:
        verdict = Verdict.REFUSED
    if len(response.body) > MAX_DETAILS:
        output["body"] = excerpt(response.body)
    return Answer(
        verdict,
        error={"message": f"HTTP status {status}", "status": status, "details": output},
        retry_after=response.retry_after,
        evidence=response.evidence,
    )
