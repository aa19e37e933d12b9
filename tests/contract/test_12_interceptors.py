"""CONTRACT 12.10: interceptors leave rows, and call nobody."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.composed import Composed, fails, says, sleeps, step

ALL = {
    name: {"handler": "audit", "params": {"hook": name, "raw": "{{nobody.knows}} {{ context"}}
    for name in ("before_step", "after_step", "on_signal", "on_complete", "on_failure")
}
PREFIX = "_interceptor:"


def params(name: str) -> Any:
    """What an interceptor of ALL leaves."""
    return ALL[name]["params"]


def left(play: Composed, instance: Any) -> list[str]:
    """The rows of interceptors, without what they all begin with."""
    ids = play.ids(instance)
    return [name.removeprefix(PREFIX) for name in ids if name.startswith(PREFIX)]


def test_each_step_has_a_row_before_and_after_it(play: Composed) -> None:
    """With the params as they stand, templates and all; by time before, step, after."""
    done = play.run(says("a"), says("b"), interceptors=ALL)
    assert done["state"] == "completed"
    for name in "ab":
        (before,) = play.rows(done, f"{PREFIX}before:{name}")
        (row,) = play.rows(done, name)
        (after,) = play.rows(done, f"{PREFIX}after:{name}")
        assert before["output"] == params("before_step")
        assert after["output"] == params("after_step")
        assert before["created_at"] <= row["created_at"] <= after["created_at"]


def test_steps_in_other_blocks_have_them_too(play: Composed) -> None:
    """One pair for each iteration."""
    loop = {"type": "loop", "id": "loop", "condition": "true", "max_iterations": 2,
            "body": [says("a")]}  # fmt: skip
    done = play.run(loop, interceptors={"before_step": ALL["before_step"]})
    assert left(play, done) == ["before:a", "before:a"]


def test_tasks_of_workers_have_them_too(play: Composed) -> None:
    """The row before a task is of the time at which it was taken."""
    found = play.run(step("a", "review"), interceptors=ALL)
    (task,) = play.polled("review")
    play.later(60)
    play.complete(task, {"n": 1})
    (before,) = play.rows(found, f"{PREFIX}before:a")
    (row,) = play.rows(found, "a")
    assert before["created_at"] < row["created_at"]
    assert left(play, found) == ["before:a", "after:a", "on_complete"]


def test_every_attempt_leaves_its_own(play: Composed) -> None:
    """With its number, whatever it came to."""
    retry = {"max_attempts": 2, "initial_backoff": 60_000, "max_backoff": 60_000}
    found = play.run(step("bad", "fail", {"retryable": True}, retry=retry), interceptors=ALL)
    play.later()
    assert play.state(found) == "failed"
    assert left(play, found) == ["before:bad", "after:bad"] * 2 + ["on_failure"]
    assert [row["attempt"] for row in play.rows(found, f"{PREFIX}after:bad")] == [0, 1]


def test_step_that_never_had_its_turn_leaves_nothing(play: Composed) -> None:
    """Skipped, not come to, or cancelled before; what was cancelled meanwhile does."""
    found = play.run(
        says("skipped") | {"when": "false"}, sleeps("long", 60), says("never"), interceptors=ALL
    )
    play.signal(found, "cancel")
    assert play.state(found) == "cancelled"
    assert left(play, found) == ["before:long", "on_signal", "after:long"]


def test_signal_leaves_a_row_with_itself(play: Composed) -> None:
    """Right after the instance was created, too, merged into the params."""
    started = play.start(sleeps("nap"), interceptors=ALL)
    play.signal(started, {"custom": "hello"}, {"n": 1})
    (row,) = play.rows(started, f"{PREFIX}on_signal")
    signal = {"signal_type": {"custom": "hello"}, "payload": {"n": 1}}
    assert row["output"] == {**params("on_signal"), "_signal": signal}
    play.signal(started, "pause")
    assert play.rows(started, f"{PREFIX}on_signal")[1]["output"]["_signal"] == {
        "signal_type": "pause", "payload": None,
    }  # fmt: skip


@pytest.mark.parametrize("given", [[1], "text", 5])
def test_params_that_are_no_object_stand_beside_the_signal(play: Composed, given: Any) -> None:
    """Under a name of their own."""
    action = {"on_signal": {"handler": "log", "params": given}}
    started = play.start(sleeps("nap"), interceptors=action)
    play.signal(started, {"custom": "x"})
    (row,) = play.rows(started, f"{PREFIX}on_signal")
    assert row["output"]["_params"] == given


def test_end_leaves_a_row(play: Composed) -> None:
    """on_complete or on_failure, the last of all, and neither after a cancel."""
    done = play.run(says("a"), interceptors=ALL)
    assert play.ids(done)[-1] == f"{PREFIX}on_complete"
    failed = play.run(fails("a"), interceptors=ALL)
    assert play.ids(failed)[-1] == f"{PREFIX}on_failure"
    (row,) = play.rows(failed, f"{PREFIX}on_failure")
    assert row["output"] == params("on_failure")
    cancelled = play.start(sleeps("nap"), interceptors=ALL)
    play.signal(cancelled, "cancel")
    assert left(play, cancelled) == ["on_signal"]


def test_templates_do_not_see_them(play: Composed) -> None:
    """They are shown, and nothing reads them."""
    done = play.run(
        says("a"), says("b", seen="{{outputs._interceptor:before:a}}"), interceptors=ALL
    )
    assert play.put_out(done, "b") == [{"seen": None}]


def test_interceptors_come_back_as_they_were_sent(play: Composed) -> None:
    """Deep-equal; a remark says that nobody is called."""
    made = play.publish(says("a"), interceptors=ALL)
    assert play.api.get(f"/sequences/{made['id']}")["interceptors"] == ALL
    assert any("not called" in str(each) for each in made["warnings"])


def test_interceptor_without_a_handler_is_refused(play: Composed) -> None:
    """422, with its place."""
    body = {"interceptors": {"before_step": {"params": {}}}}
    with pytest.raises(AssertionError, match="/interceptors/before_step/handler"):
        play.publish(says("a"), **body)
