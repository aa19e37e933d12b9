"""CONTRACT 12.1, 12.2, 12.5, 12.6, 12.8, 12.9: blocks of several branches, and the scope."""

from __future__ import annotations

from hashlib import sha256
from typing import Any
from uuid import UUID

import pytest

from tests.support.composed import Composed, fails, says, sleeps, step

CHOICES = {"type": "a_b_split", "id": "split", "variants": [
    {"name": "control", "weight": 1, "blocks": [says("left", n=1)]},
    {"name": "bold", "weight": 3, "blocks": [says("right", n=2)]},
]}  # fmt: skip


def parallel(*branches: list[Any], name: str = "both") -> Any:
    """A parallel of these branches."""
    return {"type": "parallel", "id": name, "branches": list(branches)}


def race(*branches: list[Any], semantics: str = "first_to_resolve") -> Any:
    """A race of these branches."""
    return {"type": "race", "id": "race", "branches": list(branches), "semantics": semantics}


def router(*routes: tuple[str, Any], default: Any = None) -> Any:
    """A router with a step for each condition."""
    return {
        "type": "router", "id": "router",
        "routes": [{"condition": each, "blocks": [block]} for each, block in routes],
        "default": default,
    }  # fmt: skip


def careful(block: Any, catch: Any = (), lastly: Any = None, name: str = "careful") -> Any:
    """A try_catch around a block."""
    return {"type": "try_catch", "id": name, "try_block": [block], "catch_block": list(catch),
            "finally_block": lastly}  # fmt: skip


# -- general -------------------------------------------------------------------------------------
def test_children_of_a_branch_run_in_order(play: Composed) -> None:
    """One after another, each seeing what came before it."""
    done = play.run(parallel([says("a", n=1), says("b", n="{{outputs.a.n}}"), says("c", n=3)]))
    assert play.ids(done) == ["a", "b", "c"]
    assert play.put_out(done, "b") == [{"n": 1}]


def test_failed_child_stops_its_own_branch_only(play: Composed) -> None:
    """Safer than the contract: nothing is charged behind a step that failed. Other branches and
    finally go on.
    """
    inner = parallel([fails("bad"), says("behind")], [says("other"), says("another")])
    done = play.run(careful(inner, [], [says("lastly")]))
    assert done["state"] == "completed"
    assert play.ids(done) == ["other", "another", "lastly"]


# -- 12.1 parallel -------------------------------------------------------------------------------
def test_branches_sleep_at_the_same_time(play: Composed) -> None:
    """Two sleeps of a minute take one: both run at once, and both end with it."""
    found = play.run(parallel([sleeps("left")], [sleeps("right")]))
    assert play.states(found) == {"both": "running", "left": "running", "right": "running"}
    play.later()
    assert play.state(found) == "completed"
    assert sorted(play.ids(found)) == ["left", "right"]


def test_parallel_waits_for_all_of_three_branches(play: Composed) -> None:
    """The longest decides."""
    found = play.run(parallel([sleeps("a", 1)], [sleeps("b", 2)], [sleeps("c", 3)]), says("after"))
    play.later(2)
    assert play.state(found) == "running"
    play.later(1)
    assert play.ids(found) == ["a", "b", "c", "after"]


def test_parallel_fails_with_any_branch_and_keeps_the_work_of_the_others(play: Composed) -> None:
    """The others run to their end first."""
    found = play.run(parallel([fails("bad")], [sleeps("slow"), says("kept", n=1)]), says("after"))
    assert play.state(found) == "running"
    play.later()
    assert play.state(found) == "failed"
    assert play.ids(found) == ["slow", "kept"]


def test_failing_branch_is_caught_around_the_parallel(play: Composed) -> None:
    """Then the instance completes."""
    done = play.run(careful(parallel([fails("bad")], [says("good")]), [says("caught")]))
    assert (done["state"], play.ids(done)) == ("completed", ["good", "caught"])


def test_empty_branches_complete(play: Composed) -> None:
    """Also if there are no others; the parallel has no row of its own."""
    done = play.run(parallel([], []), says("after"))
    assert (done["state"], play.ids(done)) == ("completed", ["after"])


def test_tasks_of_all_branches_can_be_polled_at_once(play: Composed) -> None:
    """None waits for another."""
    found = play.run(parallel(*([step(f"t{n}", "review")] for n in range(3))))
    assert found["state"] == "waiting"
    tasks = play.polled("review")
    assert sorted(task["block_id"] for task in tasks) == ["t0", "t1", "t2"]
    for task in tasks:
        play.complete(task, {"by": task["block_id"]})
    assert play.state(found) == "completed"


# -- 12.2 race -----------------------------------------------------------------------------------
def test_first_branch_that_ends_wins(play: Composed) -> None:
    """The rest is cancelled, the race completes without a row of its own."""
    done = play.run(race([says("quick", n=1)], [sleeps("slow", 60), says("never")]), says("after"))
    assert (done["state"], play.ids(done)) == ("completed", ["quick", "after"])
    states = play.states(done)
    assert (states["quick"], states["slow"], states["never"]) == (
        "completed", "cancelled", "cancelled",
    )  # fmt: skip


def test_branch_wins_when_all_of_it_is_done(play: Composed) -> None:
    """Not with its first step."""
    found = play.run(race([says("a"), sleeps("b", 2)], [sleeps("c", 1), says("d")]))
    play.later(1)
    assert play.state(found) == "completed"
    assert play.ids(found) == ["a", "c", "d"]


def test_pending_tasks_of_losers_are_cancelled(play: Composed) -> None:
    """Nobody is given one any more."""
    done = play.run(race([sleeps("quick")], [step("slow", "review")]))
    play.later()
    assert play.state(done) == "completed"
    assert play.polled("review") == []


def test_race_fails_with_the_first_branch_that_fails(play: Composed) -> None:
    """Unless it is told to wait for a success."""
    found = play.run(race([fails("bad")], [sleeps("slow", 60)]))
    assert found["state"] == "failed"
    assert play.states(found)["slow"] == "cancelled"


def test_failure_does_not_decide_a_race_for_success(play: Composed) -> None:
    """A later success wins, and its output is there."""
    blocks = race([fails("bad")], [sleeps("slow"), says("won", n=1)], semantics="first_to_succeed")
    found = play.run(blocks)
    play.later()
    assert play.state(found) == "completed"
    assert play.put_out(found, "won") == [{"n": 1}]


def test_race_for_success_fails_when_all_branches_did(play: Composed) -> None:
    """With the last of them."""
    blocks = race([fails("bad")], [sleeps("slow"), fails("worse")], semantics="first_to_succeed")
    found = play.run(blocks)
    play.later()
    assert play.state(found) == "failed"


# -- 12.5 router ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("data", "taken"),
    [
        ({"n": 5}, ["low"]),
        ({"n": 50}, ["high"]),
        ({"n": 500}, ["high"]),  # both hold: the first one counts
        ({"n": None}, ["rest"]),
        ({}, ["rest"]),
    ],
)
def test_first_route_that_holds_is_taken(play: Composed, data: Any, taken: list[str]) -> None:
    """Null and missing operands come to the default; the router has no row of its own."""
    routes = router(
        ("data.n > 10", says("high")),
        ("data.n > 100", says("highest")),
        ("data.n > 1", says("low")),
        default=[says("rest")],
    )
    done = play.run(routes, data=data)
    assert (done["state"], play.ids(done)) == ("completed", taken)
    for name, node in play.tree(done).items():
        if name != "router":
            assert node["state"] == ("completed" if name in taken else "skipped")


def test_branches_of_a_router_are_numbered(play: Composed) -> None:
    """The default comes after the routes."""
    done = play.run(router(("false", says("a")), ("false", says("b")), default=[says("c")]))
    branches = {name: node["branch_index"] for name, node in play.tree(done).items()}
    assert branches == {"router": None, "a": 0, "b": 1, "c": 2}


def test_router_without_a_match_completes_with_nothing(play: Composed) -> None:
    """What comes after it runs."""
    done = play.run(router(("false", says("a"))), says("after"))
    assert (done["state"], play.ids(done)) == ("completed", ["after"])
    assert play.states(done) == {"router": "completed", "a": "skipped", "after": "completed"}


def test_conditions_of_routes_see_outputs(play: Composed) -> None:
    """And the context."""
    routes = router(("outputs.first.n == data.n", says("same")), default=[says("other")])
    assert play.ids(play.run(says("first", n=2), routes, data={"n": 2})) == ["first", "same"]


def test_route_is_chosen_once(play: Composed) -> None:
    """Better than the contract: data that changes meanwhile does not flip the branch."""
    routes = router(("data.n == 1", sleeps("slow")), default=[says("other")])
    routes["routes"][0]["blocks"].append(says("then"))
    found = play.run(routes, data={"n": 1})
    play.signal(found, "update_context", {"data": {"n": 2}})
    play.later()
    assert (play.state(found), play.ids(found)) == ("completed", ["slow", "then"])


# -- 12.6 try_catch ------------------------------------------------------------------------------
def test_catch_runs_on_failure_and_finally_always(play: Composed) -> None:
    """The failing step has no row; the block completes."""
    done = play.run(careful(fails("bad"), [says("caught")], [says("lastly")]), says("after"))
    assert (done["state"], play.ids(done)) == ("completed", ["caught", "lastly", "after"])


def test_catch_is_skipped_when_try_succeeds(play: Composed) -> None:
    """Finally runs."""
    done = play.run(careful(says("good"), [says("caught")], [says("lastly")]))
    assert (done["state"], play.ids(done)) == ("completed", ["good", "lastly"])
    assert play.states(done)["caught"] == "skipped"


def test_catch_reads_what_failed(play: Composed) -> None:
    """``_error`` names the failed blocks, the source and the try_catch; there is none before."""
    look = says("caught", error="{{context.data._error}}")
    before = says("before", error="{{context.data._error}}")
    done = play.run(before, careful(fails("bad", "card stolen"), [look]))
    assert play.put_out(done, "before") == [{"error": None}]
    error = play.put_out(done, "caught")[0]["error"]
    assert error["failed_blocks"] == ["bad"]
    assert (error["source"], error["block_id"]) == ("try_catch", "careful")
    assert "card stolen" in error["message"]


def test_error_names_blocks_that_failed_further_inside(play: Composed) -> None:
    """From the outside in; what was cancelled for it is not among them."""
    inner = {**parallel([fails("bad")], [sleeps("slow", 60)]), "fail": "fast"}
    done = play.run(careful(inner, [says("caught", blocks="{{data._error.failed_blocks}}")]))
    assert play.put_out(done, "caught") == [{"blocks": ["both", "bad"]}]


def test_empty_catch_swallows_the_failure(play: Composed) -> None:
    """The instance goes on."""
    done = play.run(careful(fails("bad")), says("after"))
    assert (done["state"], play.ids(done)) == ("completed", ["after"])


def test_failing_catch_fails_the_block_after_finally(play: Composed) -> None:
    """Finally still runs."""
    done = play.run(careful(fails("bad"), [fails("worse")], [says("lastly")]), says("after"))
    assert (done["state"], play.ids(done)) == ("failed", ["lastly"])


def test_failing_finally_fails_the_block(play: Composed) -> None:
    """Whatever became of try."""
    done = play.run(careful(says("good"), [], [fails("bad")]))
    assert done["state"] == "failed"


def test_finally_is_not_reached_by_a_cancel(play: Composed) -> None:
    """It shows as running while it runs, then the instance is cancelled."""
    found = play.run(careful(sleeps("long", 60), [], [sleeps("lastly", 2)]), says("after"))
    play.signal(found, "cancel")
    assert (play.states(found)["long"], play.states(found)["lastly"]) == ("cancelled", "running")
    assert play.state(found) == "running"
    play.later(2)
    assert (play.state(found), play.ids(found)) == ("cancelled", ["lastly"])


# -- 12.8 a_b_split ------------------------------------------------------------------------------
def test_split_takes_one_variant_by_the_instance_and_its_id(play: Composed) -> None:
    """Its row says which; the other variant is skipped."""
    made = play.publish(CHOICES)
    for _ in range(6):
        done = play.again(made)
        play.house.work()
        expected = _variant(done["id"])
        (row,) = play.rows(done, "split")
        assert row["output"] == expected
        taken = ("left", "right")[expected["variant_index"]]
        assert play.ids(done) == ["split", taken]
        assert {play.states(done)[name] for name in ("left", "right")} == {"completed", "skipped"}


def _variant(instance_id: str) -> Any:
    """What the contract's formula gives."""
    draw = int.from_bytes(sha256(UUID(instance_id).bytes + b"\0split").digest()[:8], "big") % 4
    if draw < 1:
        return {"variant": "control", "variant_index": 0}
    return {"variant": "bold", "variant_index": 1}


def test_blocks_of_a_variant_run_in_order(play: Composed) -> None:
    """Better than the contract: steps of pull workers, too."""
    blocks = [step("one", "review"), step("two", "review")]
    weights = (("a", 1), ("b", 0))
    variants = [{"name": n, "weight": w, "blocks": blocks[: 2 * w]} for n, w in weights]
    found = play.run({"type": "a_b_split", "id": "split", "variants": variants})
    for name in ("one", "two"):
        (task,) = play.polled("review")
        assert task["block_id"] == name
        play.complete(task)
    assert play.state(found) == "completed"


def test_split_of_empty_variants_completes(play: Composed) -> None:
    """The contract's own never finishes."""
    variants = [{"name": name, "weight": 1, "blocks": []} for name in "ab"]
    done = play.run({"type": "a_b_split", "id": "split", "variants": variants})
    assert (done["state"], play.ids(done)) == ("completed", ["split"])


@pytest.mark.parametrize("around", ["parallel", "for_each", "loop"])
def test_split_works_inside_other_blocks(play: Composed, around: str) -> None:
    """The same choice each time."""
    block: Any = {
        "parallel": parallel([CHOICES]),
        "for_each": {"type": "for_each", "id": "each", "collection": "items", "body": [CHOICES]},
        "loop": {"type": "loop", "id": "loop", "condition": "true", "max_iterations": 2,
                 "body": [CHOICES]},
    }[around]  # fmt: skip
    done = play.run(block, data={"items": [1, 2]})
    rows = play.put_out(done, "split")
    assert rows == [_variant(done["id"])] * (1 if around == "parallel" else 2)


# -- 12.9 cancellation_scope ---------------------------------------------------------------------
def test_scope_protects_its_children_from_a_cancel(play: Composed) -> None:
    """In order; they end first, nothing later runs, then the instance is cancelled."""
    scope = {"type": "cancellation_scope", "id": "scope", "blocks": [sleeps("a", 2), says("b")]}
    found = play.run(scope, says("after"))
    play.signal(found, "cancel")
    assert play.states(found) == {
        "scope": "running", "a": "running", "b": "pending", "after": "pending",
    }  # fmt: skip
    assert play.state(found) == "running"
    play.later(2)
    assert (play.state(found), play.ids(found)) == ("cancelled", ["a", "b"])
    assert play.states(found)["after"] == "cancelled"


def test_scope_fails_if_a_child_failed(play: Composed) -> None:
    """It has no row of its own."""
    scope = {"type": "cancellation_scope", "id": "scope", "blocks": [says("a"), fails("b")]}
    done = play.run(scope)
    assert (done["state"], play.ids(done)) == ("failed", ["a"])
