"""CONTRACT 34: preflight and dataflow look at a definition before it runs."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.support.api import Api


def draft(*blocks: Any, **members: Any) -> dict[str, Any]:
    """A definition in the contract's form."""
    return {
        "id": str(uuid4()), "tenant_id": "acme", "namespace": "ns", "name": "checked", "version": 3,
        "created_at": "2026-01-01T00:00:00Z", "blocks": list(blocks) or [step()],
    } | members  # fmt: skip


def step(name: str = "a", handler: str = "noop", **members: Any) -> dict[str, Any]:
    """A step."""
    return {"type": "step", "id": name, "handler": handler} | members


def checks(api: Api, definition: Any) -> dict[str, Any]:
    """The checks of a draft, by id."""
    report = api.post("/sequences/preflight", definition, status=200)
    return {each["id"]: each for each in report["checks"]}


def test_good_definition_passes(api: Api) -> None:
    """Every check, and so the whole."""
    report = api.post("/sequences/preflight", draft(step(when="data.x > 1")), status=200)
    assert (report["sequence_name"], report["sequence_version"]) == ("checked", 3)
    assert report["overall"] == "pass", report
    assert [each["id"] for each in report["checks"]] == [
        "definition_valid", "input_schema_valid", "output_schemas_valid", "when_guards_valid",
        "handlers_have_workers", "sub_sequences_available", "credentials_present",
        "queues_consumable", "plugins_enabled", "lint_clean", "typed_dataflow_compatible",
    ]  # fmt: skip
    assert all("findings" not in each for each in report["checks"])


@pytest.mark.parametrize(
    ("definition", "check"),
    [
        (draft(step(), step()), "definition_valid"),
        (draft(input_schema={"type": 7}), "input_schema_valid"),
        (draft(step(output_schema={"type": 7})), "output_schemas_valid"),
        (draft(step(when="1 +")), "when_guards_valid"),
        (draft({"type": "sub_sequence", "id": "s", "sequence_name": "gone"}),
         "sub_sequences_available"),
        (draft(step(handler="http_request", params={"url": "http://x", "headers": {
            "a": "credentials://gone"}})), "credentials_present"),
        (draft(step(handler="wasm://x")), "plugins_enabled"),
        (draft(step(handler="log", params={"message": "{{outputs.b.x}}"})),
         "typed_dataflow_compatible"),
    ],
)  # fmt: skip
def test_check_that_fails_says_what_is_wrong(api: Api, definition: Any, check: str) -> None:
    """And fails the whole; nothing is published."""
    report = api.post("/sequences/preflight", definition, status=200)
    found = {each["id"]: each for each in report["checks"]}
    assert found[check]["status"] == "fail", found
    assert found[check]["findings"]
    assert report["overall"] == "fail"
    assert api.rows("SELECT 1 FROM sequences") == []


def test_what_cannot_be_looked_at_is_unknown(api: Api) -> None:
    """Where the definition is refused, nobody asks for its workers."""
    found = checks(api, draft(step(), step(), input_schema={"type": 7}))
    assert found["handlers_have_workers"]["status"] == "unknown"
    assert found["when_guards_valid"]["status"] == "pass"


def test_handler_without_a_worker_is_a_warning(api: Api) -> None:
    """Until a worker polls for it, by whichever queue."""
    wanted = draft(step(handler="charge", queue_name="fast"))
    found = checks(api, wanted)
    assert found["handlers_have_workers"]["status"] == "warning"
    assert "charge" in found["handlers_have_workers"]["summary"]
    assert found["queues_consumable"]["status"] == "warning"
    poll = {"handler_name": "charge", "worker_id": "w"}
    api.post("/workers/tasks/poll", poll, status=200, headers={"X-Tenant-Id": "acme"})
    found = checks(api, wanted)
    assert found["handlers_have_workers"]["status"] == "pass"
    assert found["queues_consumable"]["status"] == "pass"


def test_remarks_of_the_linter_are_a_warning(api: Api) -> None:
    """Each is a finding."""
    found = checks(api, draft(step(handler="log", params={"mesage": "x"})))["lint_clean"]
    assert found["status"] == "warning"
    assert found["findings"][0]["code"] == "LINT_UNKNOWN_PARAM"


def test_draft_without_its_shape_is_422(api: Api) -> None:
    """As when it is published."""
    api.refused(422, "POST", "/sequences/preflight", {"id": "x"})
    api.refused(422, "POST", "/sequences/dataflow", [])


def test_published_version_is_checked(api: Api) -> None:
    """By its id; another tenant's is not there."""
    made = api.post("/sequences", draft())
    report = api.get(f"/sequences/{made['id']}/preflight")
    assert (report["overall"], report["sequence_version"]) == ("pass", 3)
    for tail in ("preflight", "dataflow"):
        api.refused(404, "GET", f"/sequences/{uuid4()}/{tail}")
        api.refused(400, "GET", f"/sequences/nope/{tail}")
        other = {"X-Tenant-Id": "other"}
        api.refused(404, "GET", f"/sequences/{made['id']}/{tail}", headers=other)


SCHEMA = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "note": {"type": ["string", "null"]},
        "card": {"$ref": "#/$defs/card"},
        "lines": {"type": "array", "items": {"type": "object", "properties": {"sku": {}},
                                             "required": ["sku"]}},
    },
    "required": ["id", "note", "card"],
    "$defs": {"card": {"type": "object", "properties": {"last4": {"type": "string"}},
                       "required": ["last4"]}},
}  # fmt: skip


def reads(text: str) -> dict[str, Any]:
    """A draft whose second step reads the first one's output, and the data."""
    first = step("first", "charge", output_schema=SCHEMA)
    return draft(first, step("second", "log", params={"message": text}), input_schema=SCHEMA)


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("{{outputs.first.id}}", []),
        ("{{outputs.first.card.last4}}", []),
        ("{{outputs.first.outcome}}", []),
        ("{{context.data.id}} {{data.card.last4}}", []),
        ("{{outputs.gone.id}}", ["MISSING_PRODUCER"]),
        ("{{outputs.first.nope}}", ["SCHEMA_PATH_MISSING"]),
        ("{{outputs.first.id.x}}", ["SCHEMA_PATH_MISSING"]),
        ("{{data.nope}}", ["SCHEMA_PATH_MISSING"]),
        ("{{outputs.first.lines.0.sku}}", ["VALUE_MAY_BE_ABSENT"]),
        ("{{outputs.first.note}}", ["VALUE_MAY_BE_NULL"]),
        ("{{outputs.second.x}}", ["TYPE_UNKNOWN"]),
    ],
)
def test_reference_is_held_to_the_schema(api: Api, text: str, codes: list[str]) -> None:
    """Of the data, or of the output it leads into."""
    report = api.post("/sequences/dataflow", reads(text), status=200)["report"]
    assert [each["code"] for each in report["findings"]] == codes
    assert {each["consumer"] for each in report["findings"]} <= {"second"}
    assert report["references_checked"] == text.count("{{")


def test_conditions_are_references_too(api: Api) -> None:
    """A first word that is no root is one of the data."""
    blocks = [
        step("first", "charge", output_schema=SCHEMA),
        {"type": "router", "id": "r", "routes": [
            {"condition": "outputs.first.id == 'x' && amount > 5",
             "blocks": [step("inner", when="outputs.first.nope")]}]},
    ]  # fmt: skip
    report = api.post("/sequences/dataflow", draft(*blocks), status=200)["report"]
    found = [(each["consumer"], each["code"], each["reference"]) for each in report["findings"]]
    assert found == [
        ("inner", "SCHEMA_PATH_MISSING", "outputs.first.nope"),
        ("r", "TYPE_UNKNOWN", "data.amount"),
    ]


def test_dataflow_is_the_same_each_time(api: Api) -> None:
    """Of a draft and of its published version; it names the definition and the schemas."""
    definition = reads("{{outputs.first.note}}")
    first = api.post("/sequences/dataflow", definition, status=200)
    made = api.post("/sequences", definition)
    again = api.get(f"/sequences/{made['id']}/dataflow")
    assert again == first
    assert again["generated"]["schema"]["outputs"]["first"] == SCHEMA
    assert len(again["generated"]["sequence_sha256"]) == 64
