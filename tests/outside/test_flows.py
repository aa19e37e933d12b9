"""From outside: instances run, sleep, branch, fail and are cancelled as clients rely on."""

from __future__ import annotations

import time

import pytest

from tests.outside.caller import Caller, block, ids, sleeper, step

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("stack")]


def test_server_tells_about_itself_without_being_asked_who_asks(caller: Caller) -> None:
    """Health, readiness, version and metrics need no header."""
    assert caller.send("GET", "/health/live").status == 200
    assert caller.send("GET", "/health/ready").status == 200
    assert {"version", "storage_schema_version"} <= set(caller.get("/info"))
    metrics = caller.send("GET", "/metrics")
    assert metrics.headers["content-type"].startswith("text/plain")
    assert "# TYPE" in metrics.body
    assert "orch8_" in metrics.body


def test_created_instance_is_scheduled_and_runs_by_itself(caller: Caller) -> None:
    """The request does not run it; a moment later each step has put out one row."""
    sequence = caller.publish(step("a"), step("b", "log", params={"message": "{{context.data.x}}"}))
    instance = caller.start(sequence, context={"data": {"x": 7}})
    shown = caller.ended(instance)
    assert shown["state"] == "completed"
    assert [(r["block_id"], r["output"]) for r in caller.outputs(instance)] == [
        ("a", {}), ("b", {"message": 7}),
    ]  # fmt: skip


def test_idempotency_key_starts_one_instance_for_good(caller: Caller) -> None:
    """The second create is 200 with the first one's id, also after the end."""
    sequence = caller.publish(step("a"))
    first = caller.start(sequence, idempotency_key="k")
    body = {
        "sequence_id": sequence, "tenant_id": caller.tenant, "namespace": "default",
        "idempotency_key": "k",
    }  # fmt: skip
    again = caller.send("POST", "/instances", body)
    assert (again.status, again.body["id"], again.body["deduplicated"]) == (200, first, True)
    caller.ended(first)
    assert caller.send("POST", "/instances", body).body["id"] == first


def test_branches_run_at_the_same_time(caller: Caller) -> None:
    """Two sleeps of a second in two branches overlap, and the nodes say whose they are."""
    begun = time.monotonic()
    instance = caller.run(
        block("parallel", "p", branches=[[sleeper("l", 1000)], [sleeper("r", 1000)]])
    )
    assert caller.ended(instance)["state"] == "completed"
    assert time.monotonic() - begun < 10.0
    nodes = {n["block_id"]: n for n in caller.get(f"/instances/{instance}/tree")}
    assert nodes["l"]["parent_id"] == nodes["r"]["parent_id"] == nodes["p"]["id"]
    assert {n["state"] for n in nodes.values()} == {"completed"}


def test_first_to_succeed_forgives_a_fast_failure(caller: Caller) -> None:
    """The later success wins the race, and its output is there."""
    race = block(
        "race", "r", semantics="first_to_succeed",
        branches=[[step("bad", "fail")], [sleeper("nap", 200), step("good")]],
    )  # fmt: skip
    instance = caller.run(race)
    assert caller.ended(instance)["state"] == "completed"
    assert caller.outputs(instance, "good") == [{}]


def test_loop_runs_as_often_as_it_may(caller: Caller) -> None:
    """A condition that always holds ends at max_iterations, completed; one that never does, at
    once.
    """
    three = block("loop", "l", condition="true", max_iterations=3, body=[step("a")])
    none = block("loop", "never", condition="false", body=[step("b")])
    instance = caller.run(three, none)
    assert caller.ended(instance)["state"] == "completed"
    assert caller.outputs(instance, "a") == [{}, {}, {}]
    assert caller.outputs(instance, "b") == []


def test_for_each_shows_each_item_to_its_body(caller: Caller) -> None:
    """The item is read from the context under its name."""
    body = [step("say", "log", params={"message": "{{context.data.n}}"})]
    each = block("for_each", "f", collection="{{context.data.items}}", item_var="n", body=body)
    instance = caller.run(each, items=["x", "y"])
    assert caller.ended(instance)["state"] == "completed"
    assert caller.outputs(instance, "say") == [{"message": "x"}, {"message": "y"}]


def test_catch_handles_and_finally_always_runs(caller: Caller) -> None:
    """The failing step leaves no row; catch and finally leave theirs."""
    instance = caller.run(
        block(
            "try_catch", "t", try_block=[step("bad", "fail")],
            catch_block=[step("caught")], finally_block=[step("cleaned")],
        )
    )  # fmt: skip
    assert caller.ended(instance)["state"] == "completed"
    assert ids(caller.outputs(instance)) == ["caught", "cleaned"]


def test_saga_undoes_in_reverse_and_fails(caller: Caller) -> None:
    """The last thing done is the first that is undone."""
    steps = [
        {"id": "s1", "action": step("a1"), "compensation": step("c1")},
        {"id": "s2", "action": step("a2"), "compensation": step("c2")},
        {"id": "s3", "action": step("a3", "fail"), "compensation": step("c3")},
    ]
    instance = caller.run(block("saga", "s", steps=steps))
    assert caller.ended(instance)["state"] == "failed"
    assert ids(caller.outputs(instance)) == ["a1", "a2", "c2", "c1"]


def test_child_runs_and_its_outputs_are_the_blocks(caller: Caller) -> None:
    """The parent waits, and then has an array of the child's rows."""
    child = caller.definition(step("inner", "log", params={"message": "{{context.data.who}}"}))
    caller.post("/sequences", child)
    call = block("sub_sequence", "sub", sequence_name=child["name"], input={"who": "me"})
    instance = caller.run(call)
    assert caller.ended(instance)["state"] == "completed"
    (rows,) = caller.outputs(instance, "sub")
    assert [(r["block_id"], r["output"]) for r in rows] == [("inner", {"message": "me"})]
    (found,) = caller.get(f"/instances/{instance}/children")
    assert found["parent_instance_id"] == instance


def test_guards_skip_and_broken_ones_end(caller: Caller) -> None:
    """What is guarded by nothing true is not run; a guard nobody can read hangs nothing."""
    instance = caller.run(step("no", when="context.data.go"), step("blank", when=""), step("yes"))
    assert caller.ended(instance)["state"] == "completed"
    assert ids(caller.outputs(instance)) == ["yes"]
    broken = caller.send("POST", "/sequences", caller.definition(step("a", when="((")))
    if broken.status == 201:
        caller.ended(caller.start(broken.body["id"]), "completed", "failed")


def test_template_of_an_unknown_root_fails_the_instance(caller: Caller) -> None:
    """And brackets that match no key are null."""
    bad = caller.run(step("a", "log", params={"message": "{{foo.bar}}"}))
    assert caller.ended(bad)["state"] == "failed"
    good = caller.run(
        step("a", "log", params={"message": "is {{context.data.items[0]}}"}), items=[1]
    )
    assert caller.ended(good)["state"] == "completed"
    assert caller.outputs(good, "a") == [{"message": "is null"}]


def test_sleeper_is_shown_running_and_hears_pause_and_cancel(caller: Caller) -> None:
    """A pause holds it, a resume lets it go on, a cancel ends it."""
    instance = caller.run(sleeper("nap", 60_000), step("after"))
    caller.ended(instance, "running")
    caller.signal(instance, "pause")
    caller.ended(instance, "paused", within=5.0)
    caller.signal(instance, "resume")
    caller.ended(instance, "scheduled", "running", within=5.0)
    caller.signal(instance, "cancel")
    assert caller.ended(instance, within=5.0)["state"] == "cancelled"
    late = caller.send("POST", f"/instances/{instance}/signals", {"signal_type": "resume"})
    assert late.status == 400
    assert "terminal" in late.body["error"]


def test_protected_step_ends_before_the_instance_does(caller: Caller) -> None:
    """What cannot be cancelled runs to its end; what follows does not run."""
    scope = block("cancellation_scope", "scope", blocks=[sleeper("nap", 1500)])
    instance = caller.run(scope, step("after"))
    caller.until(
        lambda: any(
            n["block_id"] == "nap" and n["state"] == "running"
            for n in caller.get(f"/instances/{instance}/tree")
        ),
        "the nap is running",
    )
    caller.signal(instance, "cancel")
    assert caller.instance(instance)["state"] != "cancelled"
    assert caller.ended(instance)["state"] == "cancelled"
    assert caller.outputs(instance, "nap") == [{"slept_ms": 1500}]
    assert caller.outputs(instance, "after") == []


def test_context_is_merged_while_paused(caller: Caller) -> None:
    """update_context keeps what it does not name."""
    sequence = caller.publish(sleeper("nap", 60_000))
    instance = caller.start(sequence, context={"data": {"a": 1, "b": 1}})
    caller.ended(instance, "running")
    caller.signal(instance, "pause")
    caller.ended(instance, "paused")
    caller.signal(instance, "update_context", {"data": {"b": 2}})
    caller.until(
        lambda: caller.instance(instance)["context"]["data"] == {"a": 1, "b": 2},
        "it is merged",
        5.0,
    )
    caller.signal(instance, "cancel")


def test_a_state_that_is_set_holds_against_the_step_in_flight(caller: Caller) -> None:
    """Paused or waiting by an operator's word, a sleeper does not wake up by itself."""
    for state in ("paused", "waiting"):
        instance = caller.run(sleeper("nap", 700), step("after"))
        caller.ended(instance, "running")
        body = {"state": state}
        assert caller.send("PATCH", f"/instances/{instance}/state", body).status == 200
        other = caller.run(sleeper("nap", 1500))  # by its end the first one's sleep is over
        caller.ended(other)
        assert caller.instance(instance)["state"] == state
        assert caller.outputs(instance, "after") == []


def test_illegal_moves_are_refused_by_name(caller: Caller) -> None:
    """The message says from where to where."""
    instance = caller.run(step("a"))
    caller.ended(instance)
    found = caller.send("PATCH", f"/instances/{instance}/state", {"state": "paused"})
    assert found.status == 400
    assert "cannot transition from completed to paused" in found.body["error"]


def test_dead_letters_are_listed_and_retried_without_their_finished_steps(caller: Caller) -> None:
    """Step one has one row however often the second fails."""
    instance = caller.run(step("one"), step("two", "fail"))
    caller.ended(instance, "failed")
    dead = caller.get(f"/instances/dlq?tenant_id={caller.tenant}")
    assert [d["id"] for d in dead] == [instance]
    again = caller.post(f"/instances/{instance}/retry")
    assert again["state"] == "scheduled"
    caller.until(
        lambda: caller.instance(instance)["state"] == "failed"
        and len(caller.get(f"/instances/{instance}/audit")) > 0, "it failed again",
    )  # fmt: skip
    assert caller.outputs(instance, "one") == [{}]
    other = caller.run(step("a"))
    caller.ended(other)
    assert caller.send("POST", f"/instances/{other}/retry").status == 400
