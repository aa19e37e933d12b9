"""CONTRACT 12.7: sub_sequence."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.composed import Composed, fails, says, sleeps

ROW = {"id", "instance_id", "block_id", "output", "output_ref", "output_size", "attempt",
       "created_at"}  # fmt: skip


def sub(name: str, **members: Any) -> Any:
    """A block that runs the sequence of this name."""
    return {"type": "sub_sequence", "id": "sub", "sequence_name": name, **members}


def child_of(play: Composed, parent: Any) -> Any:
    """The one child of an instance."""
    (child,) = play.api.get(f"/instances/{parent['id']}/children")
    return child


def test_child_has_what_its_parent_has(play: Composed) -> None:
    """Tenant, namespace, priority and timezone; it says whose child it is."""
    play.publish(sleeps("nap"), name="kid")
    made = play.publish(sub("kid"))
    parent = play.again(made, priority="High", timezone="Europe/Vienna")
    play.house.work("interactive")
    kid = child_of(play, parent)
    for member in ("tenant_id", "namespace", "priority", "timezone"):
        assert kid[member] == play.read(parent)[member]
    assert kid["parent_instance_id"] == parent["id"]
    assert kid["metadata"]["_parent_block_id"] == "sub"
    assert kid["metadata"]["_sub_sequence_depth"] == 1


def test_input_is_the_childs_data(play: Composed) -> None:
    """Word for word; better than the contract, templates in it are rendered."""
    play.publish(says("echo", got="{{context.data}}"), name="kid")
    given = {"a": [1, {"b": None}], "n": "{{context.data.n}}"}
    parent = play.run(sub("kid", input=given), data={"n": 7})
    assert parent["state"] == "completed"
    assert child_of(play, parent)["context"]["data"] == {"a": [1, {"b": None}], "n": 7}


def test_output_is_the_rows_of_the_child(play: Composed) -> None:
    """As its /outputs has them, in one row."""
    play.publish(says("one", n=1), says("two", n=2), name="kid")
    parent = play.run(sub("kid"), says("after", n="{{outputs.sub.1.output.n}}"))
    (row,) = play.rows(parent, "sub")
    assert [each["block_id"] for each in row["output"]] == ["one", "two"]
    listed = play.rows(child_of(play, parent))
    for kept, shown in zip(row["output"], listed, strict=True):
        assert set(kept) >= ROW
        for member in ("id", "instance_id", "output", "output_size", "attempt"):
            assert kept[member] == shown[member]
    assert play.put_out(parent, "after") == [{"n": 2}]


def test_parent_waits_for_its_child(play: Composed) -> None:
    """Node and instance show as waiting; the child's end wakes it."""
    play.publish(sleeps("nap"), name="kid")
    parallel = {"type": "parallel", "id": "p", "branches": [[sub("kid")]]}
    parent = play.run(parallel)
    assert (parent["state"], play.states(parent)["sub"]) == ("waiting", "waiting")
    play.later()
    assert play.state(parent) == "completed"
    assert play.tree(parent)["sub"]["block_type"] == "sub_sequence"


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_child_that_does_not_complete_fails_the_block(play: Composed, end: str) -> None:
    """Also one that somebody cancelled; it can be caught."""
    play.publish(fails("bad") if end == "failed" else sleeps("nap", 60), name="kid")
    block = {"type": "try_catch", "id": "t", "try_block": [sub("kid")],
             "catch_block": [says("caught", blocks="{{data._error.failed_blocks}}")]}  # fmt: skip
    parent = play.run(block)
    if end == "cancelled":
        path = f"/instances/{child_of(play, parent)['id']}/state"
        play.api.send("PATCH", path, {"state": "cancelled"})
        play.house.work()
    assert child_of(play, parent)["state"] == end
    assert play.state(parent) == "completed"
    assert play.put_out(parent, "caught") == [{"blocks": ["sub"]}]


def test_unknown_sequence_fails_the_parent(play: Composed) -> None:
    """Nobody checks that when it is published."""
    assert play.run(sub("nobody"))["state"] == "failed"


def test_newest_version_that_is_not_deprecated_is_run(play: Composed) -> None:
    """Unless one is named."""
    for version in (1, 2, 3):
        made = play.publish(says("v", n=version), name="kid", version=version)
    play.api.send("POST", f"/sequences/{made['id']}/deprecate")
    for wanted, expected in (({}, 2), ({"version": 1}, 1)):
        parent = play.run(sub("kid", **wanted))
        assert play.put_out(parent, "sub")[0][0]["output"] == {"n": expected}


def test_depth_has_an_end(play: Composed) -> None:
    """A sequence that calls itself fails at sixteen of them within each other."""
    made = play.publish(sub("self"), name="self")
    parent = play.again(made)
    play.house.work()
    assert play.state(parent) == "failed"
    assert play.api.rows("SELECT max(depth) FROM instances") == [(16,)]


def test_each_iteration_has_a_child_of_its_own(play: Composed) -> None:
    """Better than the contract: none is taken for another."""
    play.publish(says("echo", n="{{context.data.n}}"), name="kid")
    body = sub("kid", input={"n": "{{context.data.item}}"})
    each = {"type": "for_each", "id": "each", "collection": "items", "body": [body]}
    parent = play.run(each, data={"items": [1, 2]})
    assert [rows[0]["output"] for rows in play.put_out(parent, "sub")] == [{"n": 1}, {"n": 2}]
    assert len(play.api.get(f"/instances/{parent['id']}/children")) == 2
