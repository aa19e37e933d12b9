"""CONTRACT 34: the template debugger shows what a template comes to, and why."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.api import Api
from tests.support.desk import Desk


def debugged(api: Api, template: Any, data: Any = None, **more: Any) -> Any:
    """What the debugger says of a template."""
    body = {"template": template, "context_data": data} | more
    return api.post("/debug/template", body, status=200)


def entry(api: Api, template: Any, data: Any = None, **more: Any) -> Any:
    """What it says of the only expression."""
    (found,) = debugged(api, template, data, **more)["entries"]
    return found


@pytest.mark.parametrize(
    ("value", "kind"),
    [("a", "string"), (7, "number"), (1.5, "number"), (True, "boolean"), ([1], "array"),
     ({"a": 1}, "object")],
)  # fmt: skip
def test_value_keeps_its_type(api: Api, value: Any, kind: str) -> None:
    """A text that is one expression has the type of what it reads."""
    found = debugged(api, "{{context.data.x}}", {"x": value})
    assert (found["result"], found["result_type"]) == (value, kind)
    assert found["entries"] == [
        {
            "param_path": "_", "expression": "context.data.x", "status": "ok", "value": value,
            "result_type": kind, "source": "context.data.x", "fallback_used": False,
            "coerced_to_string": False,
        }
    ]  # fmt: skip
    assert "error" not in found


def test_missing_and_null_are_told_apart(api: Api) -> None:
    """Both come to null."""
    assert entry(api, "{{context.data.x}}", {"x": None})["status"] == "null"
    assert entry(api, "{{context.data.list.0}}", {"list": [None]})["status"] == "null"
    for data in ({}, None, {"x": {}}):
        found = entry(api, "{{context.data.x.y}}", data)
        assert (found["status"], found["value"], found["source"]) == ("missing", None, None)
    assert debugged(api, "{{context.data.x}}", {})["result_type"] == "null"


def test_fallback_that_is_taken_is_named(api: Api) -> None:
    """A path, or a literal; explicit null falls through."""
    found = entry(api, "{{context.data.a|context.data.b|last}}", {"a": None, "b": 2})
    assert (found["source"], found["fallback_used"], found["value"]) == ("context.data.b", True, 2)
    found = entry(api, "{{context.data.a|last}}", {})
    assert (found["source"], found["fallback_used"], found["value"]) == ("literal", True, "last")
    found = entry(api, "{{context.data.a|default('x')|upper}}", {})
    assert (found["source"], found["fallback_used"], found["value"]) == ("literal", True, "X")
    assert entry(api, "{{context.data.a|b}}", {"a": 1})["fallback_used"] is False


def test_outputs_and_config_are_seen(api: Api) -> None:
    """By the ids of blocks; ``steps`` says the same."""
    more = {"outputs": {"charge": {"id": "ch_1"}}, "context_config": {"mode": "live"}}
    text = "{{outputs.charge.id}}/{{steps.charge.id}}/{{config.mode}}"
    assert debugged(api, text, **more)["result"] == "ch_1/ch_1/live"


def test_inline_values_become_text(api: Api) -> None:
    """Each expression says whether it was coerced."""
    found = debugged(api, "a {{context.data.n}} b {{context.data.s}}", {"n": 7, "s": "x"})
    assert found["result"] == "a 7 b x"
    assert [each["coerced_to_string"] for each in found["entries"]] == [True, False]
    assert debugged(api, "x{{context.data.none}}", {})["result"] == "xnull"


@pytest.mark.parametrize(
    "template",
    ["{{foo.bar}}", "{{context.audit}}", "{{nope(context.data.x)}}", "{{data.x|base64_decode}}"],
)
def test_error_is_told_with_the_expression(api: Api, template: str) -> None:
    """The template comes to nothing, its other expressions are shown."""
    found = debugged(api, f"{template} {{{{data.x}}}}", {"x": "%%"})
    assert "result" not in found
    assert found["error"]
    first, second = found["entries"]
    assert (first["status"], second["status"]) == ("error", "ok")
    assert first["error"] == found["error"]


@pytest.mark.parametrize("text", ["no braces", "{{ context.data.x", "context.data.x }}", ""])
def test_unbalanced_braces_are_literal(api: Api, text: str) -> None:
    """They come to themselves, without entries."""
    found = debugged(api, text, {"x": 1})
    assert (found["result"], found["entries"]) == (text, [])


@pytest.mark.parametrize(
    "name",
    ["password", "apiKey", "client_secret", "access_token", "Authorization", "cookie", "jwt",
     "private-key", "session_id", "otp_code", "auth", "sid"],
)  # fmt: skip
def test_secret_by_name_is_redacted(api: Api, name: str) -> None:
    """However it is read, and whatever filters make of it."""
    data = {name: "hunter2", "n": 1}
    for text in (f"{{{{context.data.{name}}}}}", f"{{{{context.data.{name}|base64}}}}"):
        found = entry(api, text, data)
        assert (found["status"], found["value"]) == ("redacted", "[REDACTED]")
    whole = debugged(api, f"Bearer {{{{context.data.{name}}}}}", data)
    assert "hunter2" not in str(whole)
    assert "hunter2" not in str(debugged(api, "{{json(context.data)}}", data))
    assert entry(api, "{{context.data}}", data)["value"] == {name: "[REDACTED]", "n": 1}


@pytest.mark.parametrize(
    "value",
    ["sk_live_1234567", "rk_test_abc", "ghp_abcdef", "github_pat_1", "xoxb-1-2", "AKIA1234",
     "sk-ant-x", "glpat-x", "Bearer abc", "eyJh.eyJz.sig"],
)  # fmt: skip
def test_secret_by_look_is_redacted(api: Api, value: str) -> None:
    """Also when the template itself holds it."""
    assert entry(api, "{{context.data.note}}", {"note": value})["status"] == "redacted"
    assert value not in str(
        debugged(api, f"{{{{context.data.x|default('{value}')}}}}", {})["result"]
    )


def test_only_texts_are_redacted(api: Api) -> None:
    """A number under the name of a secret is shown."""
    assert entry(api, "{{context.data.max_tokens}}", {"max_tokens": 5})["value"] == 5


def test_expressions_of_an_object_have_their_path(api: Api) -> None:
    """In the order of the document."""
    template = {"card": {"number": "{{data.n}}"}, "list": ["x", "{{data.n}}"]}
    found = debugged(api, template, {"n": 1})
    assert found["result"] == {"card": {"number": 1}, "list": ["x", 1]}
    assert [each["param_path"] for each in found["entries"]] == ["card.number", "list.1"]


def test_seed_form_has_its_own_rules(api: Api) -> None:
    """Arithmetic, brackets; a mistake is an error."""
    found = debugged(api, "{{data.items[0].price * 2}}", {"items": [{"price": 4}]}, form="seed")
    assert found["result"] == 8
    assert debugged(api, "{{nope.x}}", {}, form="seed")["error"]
    api.refused(422, "POST", "/debug/template", {"template": "x", "form": "other"})
    api.refused(422, "POST", "/debug/template", {})


def test_inspection_evaluates_nothing(api: Api) -> None:
    """What is read, which filters follow, and what is wrong."""
    template = {"a": "{{context.data.x|outputs.s.y|upper|default('z')}}", "b": "{{foo.x}}"}
    found = api.post("/sequences/inspect-template", {"template": template}, status=200)
    assert found["valid"] is False
    first, second = found["expressions"]
    assert first["reads"] == ["data.x", "outputs.s.y"]
    assert first["filters"] == ["upper", "default('z')"]
    assert "foo" in second["error"]


STEPS = {
    "id": "resolving",
    "blocks": [
        {"type": "step", "id": "first", "handler": "transform",
         "params": {"token": "tok_1", "n": "{{data.n}}"}},
        {"type": "for_each", "id": "each", "collection": "{{data.items}}", "item_var": "line",
         "body": [{"type": "step", "id": "inside", "handler": "transform",
                   "params": {"line": "{{line}}"}}]},
        {"type": "step", "id": "last", "handler": "charge",
         "params": {"amount": "{{outputs.first.n * 2}}", "card": "{{outputs.first.token}}",
                    "wrong": "{{outputs.first.n.x}}"}},
    ],
}  # fmt: skip


def test_input_of_a_block_is_resolved_in_its_instance(desk: Desk) -> None:
    """With the outputs there are, and without secrets."""
    instance = desk.run(STEPS, context={"data": {"n": 4, "items": ["a", "b"]}})
    root = f"/instances/{instance['id']}/blocks"
    found = desk.api.get(f"{root}/last/resolved-input")
    assert found["result"] == {"amount": 8, "card": "[REDACTED]", "wrong": None}
    assert (found["block_type"], found["node_key"]) == ("step", "last")
    states = {each["param_path"]: each["status"] for each in found["entries"]}
    assert states == {"amount": "ok", "card": "redacted", "wrong": "missing"}
    inside = desk.api.get(f"{root}/inside/resolved-input")
    assert (inside["node_key"], inside["result"]) == ("inside[1]", {"line": "b"})
    assert desk.api.get(f"{root}/last/resolved-input?at_block=first")["node_key"] == "first"


def test_input_of_what_has_none_is_refused(desk: Desk) -> None:
    """404 for what is not there, 400 for a block without parameters."""
    instance = desk.run(STEPS, context={"data": {"n": 4, "items": []}})
    root = f"/instances/{instance['id']}/blocks"
    assert desk.api.send("GET", f"{root}/nope/resolved-input").status_code == 404
    assert desk.api.send("GET", f"{root}/last/resolved-input?at_block=no").status_code == 404
    assert desk.api.send("GET", f"{root}/each/resolved-input").status_code == 400
    assert desk.api.send("GET", f"{root}/inside/resolved-input").status_code == 400
    other = {"X-Tenant-Id": "other"}
    answer = desk.api.send("GET", f"{root}/last/resolved-input", headers=other)
    assert answer.status_code == 404
