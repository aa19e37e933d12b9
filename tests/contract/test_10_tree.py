"""CONTRACT 9.4, 10.2: the tree of an instance, with what was entered and what was not."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.composed import Composed, fails, says, sleeps, step

TYPES = {
    "parallel": {"branches": [[says("x")]]},
    "race": {"branches": [[says("x")]]},
    "loop": {"condition": "true", "max_iterations": 1, "body": [says("x")]},
    "for_each": {"collection": "items", "body": [says("x")]},
    "router": {"routes": [{"condition": "true", "blocks": [says("x")]}]},
    "try_catch": {"try_block": [says("x")], "catch_block": []},
    "a_b_split": {"variants": [{"name": "a", "weight": 1, "blocks": [says("x")]},
                               {"name": "b", "weight": 0, "blocks": []}]},
    "cancellation_scope": {"blocks": [says("x")]},
    "saga": {"steps": [{"id": "s", "action": says("x")}]},
}  # fmt: skip


def both(*branches: list[Any]) -> Any:
    """A parallel of these branches."""
    return {"type": "parallel", "id": "both", "branches": list(branches)}


def test_tree_of_steps_alone_is_empty(play: Composed) -> None:
    """As clients of the contract know it; ``flat=true`` asks for it all the same."""
    done = play.run(says("a"), says("b"))
    path = f"/instances/{done['id']}/tree"
    assert play.api.get(path) == []
    assert [node["id"] for node in play.api.get(f"{path}?flat=true")] == ["a", "b"]


def test_unknown_instance_has_no_tree(play: Composed) -> None:
    """404."""
    play.api.refused(404, "GET", "/instances/00000000-0000-7000-8000-000000000000/tree")


@pytest.mark.parametrize("kind", TYPES)
def test_node_names_its_type_and_its_parent(play: Composed, kind: str) -> None:
    """A split is called ab_split; a child's parent is the block that it stands in."""
    done = play.run({"type": kind, "id": "outer", **TYPES[kind]}, data={"items": [1]})
    assert done["state"] == "completed"
    nodes = {node["block_id"]: node for node in play.tree(done).values()}
    assert nodes["outer"]["block_type"] == ("ab_split" if kind == "a_b_split" else kind)
    assert nodes["x"]["parent_id"] == nodes["outer"]["id"]
    assert (nodes["outer"]["parent_id"], nodes["x"]["block_type"]) == (None, "step")
    assert {node["state"] for node in nodes.values()} == {"completed"}


def test_top_level_steps_are_there_beside_composites(play: Composed) -> None:
    """Before they are come to, too: then they are pending."""
    found = play.run(says("a"), both([sleeps("b"), says("c")]), says("d"))
    assert play.states(found) == {
        "a": "completed", "both": "running", "b": "running", "c": "pending", "d": "pending",
    }  # fmt: skip
    assert play.tree(found)["c"]["parent_id"] == "both"
    assert play.tree(found)["d"]["started_at"] is None
    play.later()
    assert set(play.states(found).values()) == {"completed"}


def test_blocks_in_blocks_are_pending_with_their_parents(play: Composed) -> None:
    """Before anything is worked on, all of them are."""
    inner = {"type": "loop", "id": "loop", "condition": "true", "body": [says("x")]}
    started = play.start(sleeps("a"), both([inner], [says("y")]))
    nodes = play.tree(started)
    assert {node["state"] for node in nodes.values()} == {"pending"}
    parents = {name: node["parent_id"] for name, node in nodes.items()}
    assert parents == {"a": None, "both": None, "loop": "both", "y": "both", "x": "loop"}


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_every_node_of_an_instance_that_ended_has_ended(play: Composed, end: str) -> None:
    """What was not come to is cancelled."""
    inner = {"type": "cancellation_scope", "id": "scope", "blocks": [says("x")]}
    first = fails("a") if end == "failed" else sleeps("a", 60)
    found = play.run(both([first, says("b")], [says("c")]), inner)
    if end == "cancelled":
        play.signal(found, "cancel")
    states = play.states(found)
    assert (play.state(found), states["a"], states["both"]) == (end, end, end)
    assert {states[name] for name in ("b", "scope", "x")} == {"cancelled"}
    assert states["c"] == "completed"


def test_skipped_step_is_skipped_once_it_was_passed(play: Composed) -> None:
    """While what comes after it runs, too."""
    found = play.run(both([says("a") | {"when": "false"}, sleeps("b")]))
    assert play.states(found)["a"] == "skipped"
    play.later()
    assert play.states(found) == {"a": "skipped", "b": "completed", "both": "completed"}


def test_step_of_finally_is_seen_to_run(play: Composed) -> None:
    """A sleep in it shows as running."""
    block = {"type": "try_catch", "id": "t", "try_block": [says("a")], "catch_block": [says("b")],
             "finally_block": [sleeps("c", 2)]}  # fmt: skip
    found = play.run(block)
    assert play.states(found)["c"] == "running"
    branches = {name: node["branch_index"] for name, node in play.tree(found).items()}
    assert branches == {"t": None, "a": 0, "b": 1, "c": 2}
    play.later(2)
    assert play.states(found) == {
        "t": "completed", "a": "completed", "b": "skipped", "c": "completed",
    }  # fmt: skip


def test_route_that_was_not_chosen_is_skipped_at_once(play: Composed) -> None:
    """While the other one runs."""
    routes = [{"condition": "true", "blocks": [sleeps("a")]},
              {"condition": "true", "blocks": [says("b")]}]  # fmt: skip
    found = play.run({"type": "router", "id": "router", "routes": routes})
    assert play.states(found) == {"router": "running", "a": "running", "b": "skipped"}


def test_long_loop_does_not_hide_what_comes_after_it(play: Composed) -> None:
    """The steps outside of loops are always there."""
    each = {"type": "for_each", "id": "each", "collection": "items", "body": [says("x")]}
    done = play.run(each, says("after"), step("last"), data={"items": list(range(120))})
    states = play.states(done)
    assert (states["after"], states["last"], states["x[119]"]) == ("completed",) * 3
