"""CONTRACT 12.11: on_failure and on_cancel, steps that run once an instance has ended."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.composed import Composed, fails, says, sleeps, step

TIDY = says("tidy", why="{{context.data._error.message}}", n="{{context.data.n}}")


def entries(play: Composed, instance: Any, action: str) -> list[Any]:
    """Entries of the audit log with this action."""
    found = play.api.get(f"/instances/{instance['id']}/audit")
    return [each for each in found if each["action"] == action]


def test_on_failure_runs_once_the_instance_failed(play: Composed) -> None:
    """Its rows are among the outputs, attempt 0; params are rendered, with the failure."""
    done = play.run(says("a"), fails("b", "card stolen"), on_failure=[TIDY, says("more")],
                    data={"n": 7})  # fmt: skip
    assert done["state"] == "failed"
    rows = {row["block_id"]: row for row in play.rows(done)}
    assert rows["tidy"]["output"] == {"why": "card stolen", "n": 7}
    assert rows["tidy"]["attempt"] == 0
    assert "more" in rows


def test_on_failure_does_not_run_after_an_end_that_went_well(play: Composed) -> None:
    """Nor after a cancel; on_cancel neither runs after a failure."""
    hooks = {"on_failure": [says("failing")], "on_cancel": [says("cancelling")]}
    assert play.ids(play.run(says("a"), **hooks)) == ["a"]
    found = play.run(sleeps("nap", 60), **hooks)
    play.signal(found, "cancel")
    assert (play.state(found), play.ids(found)) == ("cancelled", ["cancelling"])
    failed = play.run(fails("bad"), **hooks)
    assert [row["block_id"] for row in play.rows(failed) if row["error"] is None] == ["failing"]


def test_on_failure_runs_once_and_not_for_each_attempt(play: Composed) -> None:
    """Better than the contract: a failure that is tried again is none yet."""
    retry = {"max_attempts": 3, "initial_backoff": 60_000, "max_backoff": 60_000}
    bad = step("bad", "fail", {"retryable": True}, retry=retry)
    found = play.run(bad, on_failure=[TIDY])
    for _ in range(2):
        assert play.rows(found, "tidy") == []
        play.later()
    assert (play.state(found), len(play.rows(found, "tidy"))) == ("failed", 1)


def test_on_failure_runs_when_a_worker_fails_the_instance(play: Composed) -> None:
    """Better than the contract: on every path."""
    found = play.run(step("a", "review"), on_failure=[TIDY])
    (task,) = play.polled("review")
    play.fail(task, "no more")
    assert play.state(found) == "failed"
    assert play.put_out(found, "tidy") == [{"why": "no more", "n": None}]


def test_on_failure_runs_for_failures_inside_other_blocks(play: Composed) -> None:
    """And not for those that were caught."""
    block = {"type": "parallel", "id": "p", "branches": [[fails("bad")], [says("good")]]}
    assert play.ids(play.run(block, on_failure=[TIDY])) == ["good", "tidy"]
    caught = {"type": "try_catch", "id": "t", "try_block": [block], "catch_block": []}
    assert play.ids(play.run(caught, on_failure=[TIDY])) == ["good"]


def test_on_cancel_waits_for_what_a_cancel_does_not_reach(play: Composed) -> None:
    """It comes last."""
    scope = {"type": "cancellation_scope", "id": "s", "blocks": [sleeps("nap", 2)]}
    found = play.run(scope, says("never"), on_cancel=[says("tidy")])
    play.signal(found, "cancel")
    assert play.rows(found, "tidy") == []
    play.later(2)
    assert (play.state(found), play.ids(found)) == ("cancelled", ["nap", "tidy"])


def test_hooks_look_keep_and_emit(play: Composed) -> None:
    """Every built-in that ends at once: what is kept, another instance, a flow of its own."""
    other = play.run(says("a"))
    target = play.publish(says("told", why="{{context.data.why}}"))
    play.api.post("/triggers", {
        "slug": "failed-ones", "sequence_name": target["name"], "tenant_id": "acme",
        "namespace": "billing", "trigger_type": "event",
    })  # fmt: skip
    emit = {"trigger_slug": "failed-ones", "data": {"why": "{{context.data._error.message}}"}}
    done = play.run(
        fails("bad", "card stolen"),
        on_failure=[
            step("keep", "merge_state", {"values": {"failed": True}}),
            step("ask", "query_instance", {"instance_id": other["id"]}),
            step("emit", "emit_event", emit),
        ],
    )
    assert done["state"] == "failed"
    assert play.put_out(done, "keep") == [{"merged_keys": ["failed"]}]
    assert play.put_out(done, "ask")[0]["state"] == "completed"
    (emitted,) = play.put_out(done, "emit")
    play.house.work()
    told = play.api.get(f"/instances/{emitted['instance_id']}/outputs")
    assert [row["output"] for row in told] == [{"why": "card stolen"}]


def test_error_in_a_hook_is_swallowed(play: Composed) -> None:
    """The others run; the audit log tells of it, the outputs do not."""
    hooks = [fails("broken"), says("bad", x="{{nobody.knows}}"), says("tidy")]
    done = play.run(fails("main"), on_failure=hooks)
    assert done["state"] == "failed"
    assert done["error"]["message"] == "no"
    assert play.ids(done) == ["main", "tidy"]
    blocks = [each["block_id"] for each in entries(play, done, "step.failed")]
    assert sorted(blocks) == ["main", "on_failure/bad", "on_failure/broken"]
    (group,) = play.api.get("/instances/dlq/groups")
    assert group["block_id"] == "main"


def test_hook_has_its_condition(play: Composed) -> None:
    """What does not hold is left out."""
    hook = says("tidy") | {"when": "data.n > 5"}
    for n, expected in ((7, 1), (3, 0)):
        done = play.run(fails("bad"), on_failure=[hook], data={"n": n})
        assert len(play.rows(done, "tidy")) == expected


def test_hook_reads_outputs_of_the_run(play: Composed) -> None:
    """And keeps state."""
    keep = step("keep", "set_state", {"key": "k", "value": "{{outputs.a.n}}"})
    done = play.run(says("a", n=4), fails("bad"), on_failure=[keep])
    assert play.put_out(done, "keep") == [{"key": "k", "value": 4}]
    kept = "SELECT key, value FROM instance_state WHERE instance_id = %s"
    assert play.api.rows(kept, done["id"]) == [("k", 4)]


def test_hook_starts_a_sequence_that_may_call(play: Composed) -> None:
    """Which lives on its own."""
    play.publish(step("call", "review"), name="cleanup")
    start = step("start", "start_sequence", {"sequence": "cleanup", "input": {"n": 1}})
    done = play.run(fails("bad"), on_failure=[start])
    play.house.work()
    (task,) = play.polled("review")
    assert play.put_out(done, "start")[0]["instance_id"] == task["instance_id"]
    assert play.complete(task) == 200


def test_failure_after_a_retry_is_another_one(play: Composed) -> None:
    """Each end of an instance has its hook."""
    found = play.run(fails("bad"), on_failure=[says("tidy")])
    play.api.post(f"/instances/{found['id']}/retry", status=200)
    play.house.work()
    assert play.state(found) == "failed"
    assert [row["node_key"] for row in play.rows(found, "tidy")] == [
        "on_failure/tidy", "on_failure/tidy~2",
    ]  # fmt: skip


def test_ids_of_hooks_are_a_namespace_of_their_own(play: Composed) -> None:
    """A block of the sequence, or of the other hook, may have the same."""
    made = play.publish(says("a"), on_failure=[says("a")], on_cancel=[says("a")])
    body = play.api.get(f"/sequences/{made['id']}")
    assert (body["on_failure"], body["on_cancel"]) == ([says("a")], [says("a")])
    with pytest.raises(AssertionError, match="duplicate_id"):
        play.publish(says("a"), on_failure=[says("b"), says("b")])


@pytest.mark.parametrize("handler", ["http_request", "sleep", "wait_signal", "charge"])
def test_hook_that_calls_or_waits_is_refused(play: Composed, handler: str) -> None:
    """400, with what to write instead."""
    with pytest.raises(AssertionError, match="start_sequence"):
        play.publish(says("a"), on_failure=[step("b", handler)])


def test_hook_is_a_step(play: Composed) -> None:
    """No other block."""
    block = {"type": "parallel", "id": "p", "branches": [[says("b")]]}
    with pytest.raises(AssertionError, match="/on_cancel/0/type"):
        play.publish(says("a"), on_cancel=[block])


def test_hooks_are_in_no_tree(play: Composed) -> None:
    """They are not part of the run."""
    block = {"type": "parallel", "id": "p", "branches": [[fails("bad")]]}
    done = play.run(block, on_failure=[TIDY])
    assert set(play.states(done)) == {"p", "bad"}
