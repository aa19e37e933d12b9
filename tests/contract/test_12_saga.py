"""CONTRACT 12.12: saga."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.composed import Composed, fails, says, sleeps, step


def saga(*steps: tuple[Any, Any]) -> Any:
    """A saga of these actions, each with its compensation or None."""
    return {
        "type": "saga", "id": "saga",
        "steps": [
            {"id": f"s{n}", "action": action, **({"compensation": undo} if undo else {})}
            for n, (action, undo) in enumerate(steps, 1)
        ],
    }  # fmt: skip


BROKEN = saga(
    (says("a"), says("undo_a")),
    (says("b"), None),
    (says("c"), says("undo_c")),
    (fails("d"), says("undo_d")),
    (says("e"), says("undo_e")),
)


def test_actions_run_in_order(play: Composed) -> None:
    """Nothing is undone when all complete; the saga has no row of its own."""
    done = play.run(saga((says("a"), says("undo_a")), (says("b"), says("undo_b"))), says("after"))
    assert (done["state"], play.ids(done)) == ("completed", ["a", "b", "after"])


def test_compensations_run_last_first_and_the_saga_fails(play: Composed) -> None:
    """Of the actions before the failed one; what was not executed has no row."""
    done = play.run(BROKEN)
    assert (done["state"], play.ids(done)) == ("failed", ["a", "b", "c", "undo_c", "undo_a"])
    states = play.states(done)
    assert (states["d"], states["undo_d"], states["e"]) == ("failed", "skipped", "skipped")


def test_compensations_come_one_after_another(play: Composed) -> None:
    """By their times."""
    steps = [(says(f"a{n}"), sleeps(f"undo{n}")) for n in range(3)]
    found = play.run(saga(*steps, (fails("bad"), None)))
    for _ in range(3):
        play.later()
    rows = [row for row in play.rows(found) if row["block_id"].startswith("undo")]
    assert [row["block_id"] for row in rows] == ["undo2", "undo1", "undo0"]
    times = [row["created_at"] for row in rows]
    assert times == sorted(set(times))


def test_failing_compensation_does_not_stop_the_rest(play: Composed) -> None:
    """The saga fails as its action did."""
    done = play.run(
        saga((says("a"), says("undo_a")), (says("b"), fails("undo_b")), (fails("c"), None))
    )
    assert (done["state"], play.ids(done)) == ("failed", ["a", "b", "undo_a"])


def test_compensation_reads_what_failed(play: Composed) -> None:
    """``_error`` names the step of the saga, and where it stands."""
    undo = says("undo_a", step="{{context.data._error.failed_step}}", all="{{data._error}}")
    done = play.run(saga((says("a"), undo), (fails("b", "card stolen"), None)))
    (row,) = play.put_out(done, "undo_a")
    assert row["step"] == "s2"
    assert (row["all"]["source"], row["all"]["block_id"]) == ("saga", "saga")
    assert "card stolen" in row["all"]["message"]


def test_there_is_no_error_on_success(play: Composed) -> None:
    """Neither in the context nor for later blocks."""
    done = play.run(saga((says("a"), None)), says("after", error="{{context.data._error}}"))
    assert play.put_out(done, "after") == [{"error": None}]
    assert "_error" not in done["context"]["data"]


def test_empty_saga_completes(play: Composed) -> None:
    """There is nothing to do."""
    assert play.run(saga())["state"] == "completed"


def test_skipped_action_counts_as_done(play: Composed) -> None:
    """Its compensation runs if a later one fails."""
    skipped = says("a") | {"when": "false"}
    done = play.run(saga((skipped, says("undo_a")), (fails("b"), None)))
    assert (done["state"], play.ids(done)) == ("failed", ["undo_a"])


@pytest.mark.parametrize("around", ["router", "parallel", "try_catch"])
def test_saga_works_inside_other_blocks(play: Composed, around: str) -> None:
    """It fails the block around it, unless that catches."""
    routes = [{"condition": "true", "blocks": [BROKEN]}]
    block: Any = {
        "router": {"type": "router", "id": "x", "routes": routes},
        "parallel": {"type": "parallel", "id": "x", "branches": [[BROKEN], [says("other")]]},
        "try_catch": {"type": "try_catch", "id": "x", "try_block": [BROKEN], "catch_block": []},
    }[around]  # fmt: skip
    done = play.run(block)
    assert done["state"] == ("completed" if around == "try_catch" else "failed")
    assert [name for name in play.ids(done) if name.startswith("undo")] == ["undo_c", "undo_a"]


def test_retry_policy_of_an_action_is_honoured(play: Composed) -> None:
    """It is undone only after its last attempt."""
    retry = {"max_attempts": 3, "initial_backoff": 60_000, "max_backoff": 60_000}
    bad = step("bad", "fail", {"retryable": True}, retry=retry)
    found = play.run(saga((says("a"), says("undo_a")), (bad, None)))
    for _ in range(2):
        assert play.ids(found) == ["a"]
        play.later()
    assert (play.state(found), play.ids(found)) == ("failed", ["a", "undo_a"])


def test_branches_of_a_saga_are_numbered_in_pairs(play: Composed) -> None:
    """Action i is branch 2i, its compensation 2i + 1, also where one has none."""
    done = play.run(BROKEN)
    branches = {name: node["branch_index"] for name, node in play.tree(done).items()}
    assert (branches["a"], branches["undo_a"], branches["b"]) == (0, 1, 2)
    assert (branches["c"], branches["undo_c"], branches["d"]) == (4, 5, 6)
