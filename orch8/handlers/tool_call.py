"""The built-in handler ``tool_call``: one call of a tool; output {tool_name, result, status}."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, Final

import orjson

from orch8.engine.outcome import Answer, Verdict
from orch8.errors import Problem
from orch8.handlers import http_request
from orch8.handlers.builtin import CallSite, Params, allows, is_template
from orch8.handlers.classify import WITH_OUTPUT, Classify, Response, excerpt, refused
from orch8.handlers.http import Call

DEFAULT_TIMEOUT_MS: Final = 30_000
UNNAMED: Final = "unknown"
_CALLED: Final = ("url", "method", "headers", "timeout_ms")


def check(params: Params) -> list[Problem]:
    """The parameters can become a request; what a template will render is checked when it runs."""
    problems = http_request.check(_request(params))
    problems += allows(params, "tool_name", str, "a text")
    hint = "leave it out: orch8 keeps no artifacts"
    if params.get("body_artifact") is not None:
        problems.append(Problem("/body_artifact", "body_artifact is not supported", hint, "later"))
    form = params.get("response_as")
    if form not in (None, "json") and not is_template(form):
        problems.append(Problem("/response_as", "response_as must be json", hint, "later"))
    return problems


def effect(_params: Params) -> str:
    """What a tool does is not known: "external"."""
    return "external"


def run(params: Params, site: CallSite) -> Call | Answer:
    """The call of the tool, or a REFUSED answer that names the wrong parameter.

    Every dispatch of an attempt sends the same bytes, so ``context.attempt`` counts attempts, from
    0, and not dispatches.
    """
    problems = check(params)
    if problems:
        return refused("; ".join(problem.message for problem in problems), "bad_request")
    name = params.get("tool_name") or UNNAMED
    arguments = params.get("arguments")
    body = {
        "tool_name": name,
        "arguments": {} if arguments is None else arguments,
        "context": {
            "instance_id": site.instance_id, "block_id": site.block_id, "attempt": site.attempt,
        },
    }  # fmt: skip
    call = http_request.run({**_request(params), "body": body}, site)
    if isinstance(call, Answer):
        return call
    return replace(call, classify=partial(_classified, str(name), site.repeatable, call.classify))


def _request(params: Params) -> dict[str, Any]:
    given = {name: params[name] for name in _CALLED if params.get(name) is not None}
    return {"method": "POST", "timeout_ms": DEFAULT_TIMEOUT_MS, **given}


def _classified(name: str, repeatable: bool, judge: Classify, response: Response) -> Answer:
    """As of http_request, but the output has the body as JSON. A success without JSON is a failure,
    unless the call may have had an effect: then it is as unknown as any that cannot be read.
    """
    judged = judge(response)
    if judged.verdict not in WITH_OUTPUT:
        return judged
    try:
        result = orjson.loads(response.body) if response.body.strip() else None
    except orjson.JSONDecodeError:
        return _unreadable(judged, repeatable, response)
    outcome = {"outcome": judged.verdict.value} if "outcome" in (judged.output or {}) else {}
    output = {"tool_name": name, "result": result, "status": response.status, **outcome}
    return replace(judged, output=output)


def _unreadable(judged: Answer, repeatable: bool, response: Response) -> Answer:
    error = {
        "message": f"the tool answered {response.status} with a body that is not JSON",
        "code": "not_json",
        "status": response.status,
        "details": {"status": response.status, "body": excerpt(response.body)},
    }
    verdict = Verdict.FAILED if repeatable else Verdict.UNKNOWN
    return Answer(verdict, error=error, evidence=judged.evidence)
