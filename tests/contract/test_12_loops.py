"""CONTRACT 12.3, 12.4: loop and for_each, and the rows that they leave (Appendix C)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.composed import Composed, fails, says, sleeps, step

ITEM = says("body", item="{{context.data.item}}")


def loop(*body: Any, name: str = "loop", **members: Any) -> Any:
    """A loop, three times unless it is said otherwise."""
    given = {"condition": "true", "max_iterations": 3, **members}
    return {"type": "loop", "id": name, "body": list(body), **given}


def each(*body: Any, name: str = "each", **members: Any) -> Any:
    """A for_each over ``items``."""
    given = {"collection": "{{context.data.items}}", **members}
    return {"type": "for_each", "id": name, "body": list(body), **given}


def markers(play: Composed, instance: Any, block_id: str = "loop") -> list[tuple[Any, int]]:
    """What a loop itself left, each with its attempt."""
    return [(row["output"], row["attempt"]) for row in play.rows(instance, block_id)]


def counted(upto: int) -> list[tuple[Any, int]]:
    """The markers of a loop that went round so often."""
    return [({"_iterations": n}, n) for n in range(1, upto + 1)]


# -- 12.3 loop -----------------------------------------------------------------------------------
def test_false_condition_runs_nothing(play: Composed) -> None:
    """And leaves nothing; the loop completes."""
    done = play.run(loop(says("body"), condition="false"), says("after"))
    assert (done["state"], play.ids(done)) == ("completed", ["after"])
    assert play.states(done) == {"loop": "completed", "body": "skipped", "after": "completed"}


def test_cap_completes_the_loop(play: Composed) -> None:
    """Exactly three rows of the body's step and three markers; what comes after it runs."""
    done = play.run(loop(says("body")), says("after"))
    assert done["state"] == "completed"
    assert len(play.rows(done, "body")) == 3
    assert markers(play, done) == counted(3)
    assert play.ids(done)[-1] == "after"


def test_marker_of_an_iteration_comes_when_it_has_ended(play: Composed) -> None:
    """Not before."""
    found = play.run(loop(says("first"), sleeps("slow")))
    assert markers(play, found) == []
    play.later()
    assert markers(play, found) == counted(1)
    assert play.ids(found) == ["first", "slow", "loop", "first"]
    play.later()
    play.later()
    assert (play.state(found), markers(play, found)) == ("completed", counted(3))


def test_markers_stay_the_same(play: Composed) -> None:
    """Read twice, they have the same ids and times."""
    done = play.run(loop(says("body")))
    assert play.rows(done) == play.rows(done)
    assert len({row["id"] for row in play.rows(done)}) == 6


def test_condition_is_looked_at_before_each_iteration(play: Composed) -> None:
    """It reads the context as it is then."""
    found = play.run(loop(sleeps("body"), condition="data.go", max_iterations=10), data={"go": 1})
    play.later()
    play.signal(found, "update_context", {"data": {"go": 0}})
    play.later()
    assert play.state(found) == "completed"
    assert len(play.rows(found, "body")) == 2
    assert markers(play, found) == counted(2)


def test_output_of_a_worker_drives_the_condition(play: Composed) -> None:
    """Better than the contract: the condition sees outputs, too."""
    found = play.run(loop(step("body", "review"), condition="outputs.body.n != 2"))
    for n in (1, 2):
        (task,) = play.polled("review")
        play.complete(task, {"n": n})
    assert play.state(found) == "completed"
    assert markers(play, found) == counted(2)


def test_failed_child_fails_the_loop(play: Composed) -> None:
    """The iteration that failed leaves no marker."""
    body = [sleeps("slow"), step("check", "assert", {"condition": "data.fine"})]
    found = play.run(loop(*body), data={"fine": True})
    play.later()
    play.signal(found, "update_context", {"data": {"fine": False}})
    play.later()
    assert (play.state(found), markers(play, found)) == ("failed", counted(1))


def test_failure_that_is_caught_around_the_loop_leaves_no_marker(play: Composed) -> None:
    """Of the iteration that failed."""
    caught = {"type": "try_catch", "id": "careful", "try_block": [loop(fails("bad"))],
              "catch_block": [says("caught")]}  # fmt: skip
    done = play.run(caught)
    assert (done["state"], play.ids(done)) == ("completed", ["caught"])


def test_loop_that_continues_on_error_goes_on(play: Composed) -> None:
    """Each iteration leaves its marker, whatever became of it."""
    done = play.run(loop(fails("bad"), continue_on_error=True), says("after"))
    assert done["state"] == "completed"
    assert markers(play, done) == counted(3)
    assert play.ids(done)[-1] == "after"


def test_break_on_ends_the_loop_after_the_body(play: Composed) -> None:
    """Without a marker of that iteration."""
    found = play.run(loop(step("body", "review"), break_on="outputs.body.stop"))
    for stop in (False, True):
        (task,) = play.polled("review")
        play.complete(task, {"stop": stop})
    assert play.state(found) == "completed"
    assert len(play.rows(found, "body")) == 2
    assert markers(play, found) == counted(1)


def test_poll_interval_is_waited_between_iterations(play: Composed) -> None:
    """The instance is scheduled meanwhile; whole numbers are seconds."""
    found = play.run(loop(says("body"), max_iterations=2, poll_interval=3600))
    assert found["state"] == "scheduled"
    assert markers(play, found) == counted(1)
    play.later(59)
    assert play.state(found) == "scheduled"
    play.later(1)
    assert (play.state(found), markers(play, found)) == ("completed", counted(2))


def test_markers_of_a_nested_loop_are_those_of_its_last_round(play: Composed) -> None:
    """The rows of its steps are all kept."""
    inner = loop(says("body"), name="inner", max_iterations=2)
    done = play.run(loop(inner, name="outer"))
    assert len(play.rows(done, "body")) == 6
    assert markers(play, done, "inner") == counted(2)
    assert markers(play, done, "outer") == counted(3)


def test_markers_are_told_in_the_stream(play: Composed) -> None:
    """As /outputs has them."""
    done = play.run(loop(says("other")), each(ITEM), data={"items": [1, 2]})
    text = play.api.send("GET", f"/instances/{done['id']}/stream?poll_ms=100").get_data(
        as_text=True
    )
    told = [line for line in text.splitlines() if line.startswith("data:") and "block_id" in line]
    assert len(told) == len(play.rows(done)) == 3 + 3 + 2 + 3


# -- 12.4 for_each -------------------------------------------------------------------------------
def test_body_runs_once_for_each_item_in_order(play: Composed) -> None:
    """It reads the item below context.data."""
    done = play.run(each(ITEM), data={"items": ["a", "b", "c"]})
    assert done["state"] == "completed"
    assert [row["item"] for row in play.put_out(done, "body")] == ["a", "b", "c"]


def test_for_each_leaves_a_row_first_and_one_for_each_item(play: Composed) -> None:
    """With how far it has come."""
    done = play.run(each(ITEM, item_var="item"), data={"items": ["a", "b"]})
    rows = play.put_out(done, "each")
    assert [row["_index"] for row in rows] == [0, 1, 2]
    assert {(row["_total"], row["_item_var"]) for row in rows} == {(2, "item")}
    assert all(isinstance(row["_snapshot_ref"], str) for row in rows)
    assert play.ids(done)[0] == "each"


def test_rows_of_a_for_each_come_as_it_goes_on(play: Composed) -> None:
    """One more with each item that is done."""
    found = play.run(each(sleeps("body")), data={"items": [1, 2, 3]})
    for n in range(3):
        assert [row["_index"] for row in play.put_out(found, "each")] == list(range(n + 1))
        play.later()
    assert len(play.rows(found, "each")) == 4


def test_items_are_named_by_item_var(play: Composed) -> None:
    """And the name is gone behind the block."""
    body = says("body", item="{{context.data.invoice.id}}")
    done = play.run(
        each(body, item_var="invoice"),
        says("after", item="{{context.data.invoice}}"),
        data={"items": [{"id": 1}, {"id": 2}]},
    )
    assert [row["item"] for row in play.put_out(done, "body")] == [1, 2]
    assert play.put_out(done, "after") == [{"item": None}]


def test_bare_item_is_an_unknown_root(play: Composed) -> None:
    """It fails its step."""
    done = play.run(each(says("body", item="{{item}}")), data={"items": [1]})
    assert done["state"] == "failed"


@pytest.mark.parametrize("collection", ["{{context.data.box.items}}", "box.items"])
def test_collection_is_a_template_or_a_path(play: Composed, collection: str) -> None:
    """A path starts at context.data."""
    done = play.run(each(ITEM, collection=collection), data={"box": {"items": [7]}})
    assert play.put_out(done, "body") == [{"item": 7}]


@pytest.mark.parametrize("items", [None, [], "text", {"a": 1}, 5])
def test_what_is_no_list_of_something_completes_without_rows(play: Composed, items: Any) -> None:
    """Missing, empty, or of another type."""
    done = play.run(each(ITEM), says("after"), data={"items": items})
    assert (done["state"], play.ids(done)) == ("completed", ["after"])
    assert play.states(done)["each"] == "completed"


def test_collection_is_fixed_on_entry(play: Composed) -> None:
    """What becomes of it in the context later does not matter."""
    found = play.run(each(sleeps("wait"), ITEM), data={"items": [1, 2]})
    play.signal(found, "update_context", {"data": {"items": [9, 9, 9, 9]}})
    play.later()
    play.later()
    assert play.state(found) == "completed"
    assert [row["item"] for row in play.put_out(found, "body")] == [1, 2]


def test_collection_is_cut_at_max_iterations(play: Composed) -> None:
    """The rest is left out."""
    done = play.run(each(ITEM, max_iterations=2), data={"items": [1, 2, 3]})
    assert [row["item"] for row in play.put_out(done, "body")] == [1, 2]
    assert {row["_total"] for row in play.put_out(done, "each")} == {2}


def test_failed_child_fails_the_for_each(play: Composed) -> None:
    """No further item is looked at; the item that failed leaves no row."""
    check = step("check", "assert", {"condition": "data.item < 2"})
    done = play.run(each(ITEM, check), data={"items": [1, 2, 3]})
    assert done["state"] == "failed"
    assert [row["item"] for row in play.put_out(done, "body")] == [1, 2]
    assert [row["_index"] for row in play.put_out(done, "each")] == [0, 1]


def test_failure_that_is_caught_around_the_for_each_ends_its_rows(play: Composed) -> None:
    """It went no further."""
    check = step("check", "assert", {"condition": "data.item < 2"})
    caught = {"type": "try_catch", "id": "careful", "catch_block": [],
              "try_block": [each(check)]}  # fmt: skip
    done = play.run(caught, data={"items": [1, 2, 3]})
    assert done["state"] == "completed"
    assert [row["_index"] for row in play.put_out(done, "each")] == [0, 1]


def test_items_side_by_side_leave_their_rows_too(play: Composed) -> None:
    """Of those that ended well, in the order of the collection."""
    check = step("check", "assert", {"condition": "data.item != 2"})
    caught = {"type": "try_catch", "id": "careful", "catch_block": [],
              "try_block": [each(sleeps("wait"), check, concurrency=3)]}  # fmt: skip
    found = play.run(caught, data={"items": [1, 2, 3]})
    play.later()
    assert play.state(found) == "completed"
    rows = [row["_index"] for row in play.put_out(found, "each")]
    assert rows[:2] == [0, 1]
    assert 2 not in rows


def test_failure_that_is_caught_inside_the_body_is_an_iteration_like_others(
    play: Composed,
) -> None:
    """The for_each goes on, and leaves its rows."""
    body = {"type": "try_catch", "id": "careful", "catch_block": [], "try_block": [fails("bad")]}
    done = play.run(each(body), data={"items": [1, 2]})
    assert done["state"] == "completed"
    assert [row["_index"] for row in play.put_out(done, "each")] == [0, 1, 2]


def test_items_that_put_nothing_out_are_counted(play: Composed) -> None:
    """Their steps were skipped."""
    done = play.run(each(says("body") | {"when": "data.item == 2"}), data={"items": [1, 2, 3]})
    assert len(play.rows(done, "body")) == 1
    assert [row["_index"] for row in play.put_out(done, "each")] == [0, 1, 2, 3]


def test_rows_of_a_large_collection_are_told_and_not_stored(play: Composed) -> None:
    """A hundred items are one page and a hundred steps in the database."""
    done = play.run(each(ITEM, max_iterations=150), data={"items": list(range(150))})
    assert len(play.rows(done, "each")) == 151
    stored = "SELECT count(*) FROM steps WHERE block_id LIKE 'each%%' AND instance_id = %s"
    assert play.api.rows(stored, done["id"]) == [(2,)]
    assert play.api.rows("SELECT count(*) FROM traces") == [(0,)]
