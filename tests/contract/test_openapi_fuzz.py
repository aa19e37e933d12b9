"""Requests made up from the OpenAPI document: none breaks the API, each answer is as described."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.api import CHARGE, NOOP, WAITING, Api

# Each operation is there twice, and once is enough. What streams never ends by itself.
V1, STREAMS = "/api/v1/", "/stream"
EXAMPLES = 5  # for each operation and way of making them up
PARTS = 4  # tests that share the operations
TENANT, OTHER = "default", "acme"
NOBODY = "019a0000-0000-7000-8000-000000000001"
CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance,
    response_schema_conformance,
]  # fmt: skip
BOUNDED = settings(
    max_examples=EXAMPLES,
    derandomize=True,  # the same requests each time
    database=None,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def peopled(api: Api) -> tuple[Api, Mapping[str, list[str]]]:
    """The app with something of most kinds, and values for its paths that name them."""
    for definition in (NOOP, CHARGE, WAITING):
        api.post("/sequences", definition)
    instances = [
        api.post(f"/sequences/{each['id']}/instances", {"context": {"data": {"n": 1}}})["id"]
        for each in (NOOP, CHARGE, WAITING)
    ]
    (version,) = {row["id"] for row in api.get("/sequences?name=noop_once")["items"]}
    told = {"event_name": "paid", "producer_event_id": "e", "correlation_key": "k"}
    event = api.post("/events", {**told, "tenant_id": TENANT})["event_id"]
    api.send("PUT", "/rate-limits/stripe:charges", {"max": 5, "window_seconds": 1})
    (task,) = api.post(
        "/workers/tasks/poll", {"handler_name": "charge", "worker_id": "w"}, status=200
    )
    return api, {
        "instance_id": instances, "sequence": [version, "noop_once"], "sequence_id": [version],
        "event_id": [event], "task_id": [task["id"]], "key": ["stripe:charges"],
        "node_key": ["charge", "noop"], "tenant": [TENANT, OTHER], "name": ["charge"],
    }  # fmt: skip


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("mode", GenerationMode)
def test_made_up_requests_break_nothing(
    peopled: tuple[Api, Mapping[str, list[str]]], mode: GenerationMode, part: int
) -> None:
    """Valid and invalid ones: no 500, and no status, type or body that is not described."""
    api, known = peopled
    schema = schemathesis.openapi.from_wsgi("/api-docs/openapi.json", api.app)
    operations = islice(_operations(schema), part, None, PARTS)
    found = [problem for each in operations for problem in _tried(each, mode, known)]
    assert found == []


def _operations(schema: BaseSchema) -> Iterator[APIOperation]:
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path.startswith(V1) and not operation.path.endswith(STREAMS):
            yield operation


def _tried(
    operation: APIOperation, mode: GenerationMode, known: Mapping[str, list[str]]
) -> list[str]:
    """What was wrong with the answers of one operation."""
    paths = st.fixed_dictionaries(
        {
            each.name: st.sampled_from([*known.get(each.name, ()), NOBODY])
            for each in operation.path_parameters
        }
    )

    problems: list[str] = []

    @BOUNDED
    @given(operation.as_strategy(generation_mode=mode), st.none() | paths)
    def ask(case: Case, path: Mapping[str, str] | None) -> None:
        if path is not None:
            case.path_parameters = dict(path)
        try:
            case.validate_response(case.call(), checks=CHECKS)
        except (FailureGroup, Failure) as problem:  # noted, not raised: the next may differ
            told = problem.exceptions if isinstance(problem, FailureGroup) else (problem,)
            problems.extend(f"{operation.label} {case.as_curl_command()}: {e}" for e in told)

    with suppress(Unsatisfiable):  # any text is a valid body of some: none is invalid
        ask()
    return problems
