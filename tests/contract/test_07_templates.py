"""CONTRACT 7: what templates in the parameters of a running step come to."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.desk import Desk
from tests.support.documents import CONTRACT

DATA = {
    "name": "Ada", "amount": 7, "null": None, "list": [1, 2], "items": [{"n": 1}],
    "nested": {"a": 1}, "input": {"x": 5}, "blank": "",
}  # fmt: skip
CASES: dict[str, tuple[Any, Any]] = {
    "type is kept": ("{{context.data.amount}}", 7),
    "object is kept": ("{{context.data.nested}}", {"a": 1}),
    "inline": ("n={{context.data.amount}}", "n=7"),
    "inline object": ("o={{data.nested}}", 'o={"a":1}'),
    "inline null": ("x={{context.data.null}}", "x=null"),
    "brackets match no key": ("x{{context.data.items[0]}}", "xnull"),
    "index": ("{{context.data.items.0.n}}", 1),
    "missing": ("{{context.data.missing.x}}", None),
    "fallback": ("{{context.data.missing|default_a|default_b|default_c}}", "default_a"),
    "null falls through": ("{{context.data.null|context.data.name}}", "Ada"),
    "after a filter none is tried": ("{{context.data.missing|upper|context.data.name}}", ""),
    "default filter": ("{{context.data.blank|default('x')}}", "x"),
    "filters": ("{{context.data.name|upper|truncate(2, '!')}}", "AD!"),
    "hash": ("{{context.data.missing|default('')|hash('sha256')|truncate(4)}}", "e3b0"),
    "join": ("{{context.data.list|join('-')}}", "1-2"),
    "input": ("{{input.x}}", 5),
    "config": ("{{config.mode}}/{{context.config.mode}}", "live/live"),
    "output": ("{{outputs.first.n}}/{{steps.first.n}}", "1/1"),
    "output that is not there": ("{{outputs.gone.n}}", None),
    "len": ("{{len(context.data.list)}}", 2),
    "json": ("{{json(context.data.nested)}}", '{"a":1}'),
    "no arithmetic": ("{{context.data.amount == 7}}", None),
    "unmatched braces": ("{{ context.data.amount", "{{ context.data.amount"),
    "state": ("{{state.kept}}", 3),
    "list of texts": (["{{data.amount}}", {"{{data.amount}}": "x"}], [7, {"{{data.amount}}": "x"}]),
}  # fmt: skip


def step(name: str, params: Any, **members: Any) -> dict[str, Any]:
    """A step that puts out its parameters."""
    return {"type": "step", "id": name, "handler": "transform", "params": params, **members}


def run(desk: Desk, *blocks: Any) -> Any:
    """An instance of the blocks in the contract's form, as it is once it was worked on."""
    made = desk.api.post("/sequences", {**CONTRACT, "blocks": list(blocks)})
    body = {
        "sequence_id": made["id"], "tenant_id": "acme", "namespace": "billing",
        "context": {"data": DATA, "config": {"mode": "live"}},
    }  # fmt: skip
    started = desk.api.post("/instances", body)
    desk.house.work()
    return desk.read(started)


def outputs(desk: Desk, instance: Any) -> dict[str, Any]:
    """What each block put out last."""
    rows = desk.api.get(f"/instances/{instance['id']}/outputs")
    return {row["block_id"]: row["output"] for row in rows}


def test_templates_come_to_their_values(desk: Desk) -> None:
    """Each by the rules of the contract."""
    keep = {"type": "step", "id": "keep", "handler": "set_state",
            "params": {"key": "kept", "value": 3}}  # fmt: skip
    params = {name: template for name, (template, _) in CASES.items()}
    instance = run(desk, step("first", {"n": 1}), keep, step("all", params))
    assert instance["state"] == "completed", instance["error"]
    found = outputs(desk, instance)["all"]
    assert found == {name: expected for name, (_, expected) in CASES.items()}


def test_instance_id_is_read(desk: Desk) -> None:
    """By its root."""
    instance = run(desk, step("own", {"id": "{{instance_id}}"}))
    assert outputs(desk, instance)["own"] == {"id": instance["id"]}


@pytest.mark.parametrize(
    "template",
    ["{{foo.bar}}", "{{context.audit}}", "{{nope(data.x)}}", "{{data.name|base64_decode}}"],
)
def test_template_that_cannot_be_rendered_fails_its_step(desk: Desk, template: str) -> None:
    """For good: it is not tried again."""
    retry = {"max_attempts": 3, "initial_backoff": 1, "max_backoff": 1}
    instance = run(desk, step("bad", {"x": template}, retry=retry))
    assert instance["state"] == "failed"
    nodes = desk.api.get(f"/instances/{instance['id']}/tree?flat=true")
    (task,) = [node for node in nodes if node["id"] == "bad"]
    assert task["attempt"] <= 1


def test_what_a_step_may_not_see_its_templates_do_not(desk: Desk) -> None:
    """A field that context_access leaves out is null."""
    params = {
        "name": "{{context.data.name}}",
        "amount": "{{data.amount}}",
        "mode": "{{config.mode}}",
    }
    access = {"data": {"fields": ["amount"]}, "config": False}
    instance = run(desk, step("some", params, context_access=access), step("all", params))
    assert outputs(desk, instance) == {
        "some": {"name": None, "amount": 7, "mode": None},
        "all": {"name": "Ada", "amount": 7, "mode": "live"},
    }
