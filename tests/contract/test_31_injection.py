"""CONTRACT 31: blocks are injected into an instance, it is resumed from a block, it is forked."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.support.api import NOOP, WAITING, Api
from tests.support.desk import Desk, seated
from tests.support.house import House

FUTURE = "2999-01-01T00:00:00Z"


def log(name: str, **members: Any) -> dict[str, Any]:
    """A step that says its own name."""
    return {
        "type": "step", "id": name, "handler": "log", "params": {"message": name}, **members,
    }  # fmt: skip


def sequence(*blocks: Any, **members: Any) -> dict[str, Any]:
    """A definition in the contract's form."""
    return {
        "id": str(uuid4()), "tenant_id": "default", "namespace": "default", "name": "s",
        "version": 1, "created_at": "2026-01-01T00:00:00Z", "blocks": list(blocks),
    } | members  # fmt: skip


def created(api: Api, *blocks: Any, definition: Any = None, **members: Any) -> dict[str, Any]:
    """A new instance of these blocks."""
    body = definition or sequence(*blocks)
    api.post("/sequences", body)
    asked = {"sequence_id": body["id"], "tenant_id": "default", "namespace": "default"}
    made: dict[str, Any] = api.post("/instances", asked | members)
    return made


def inject(api: Api, instance: Any, *blocks: Any, status: int = 200, **members: Any) -> Any:
    """What injecting the blocks is answered."""
    path = f"/instances/{instance['id']}/inject-blocks"
    return api.post(path, {"blocks": list(blocks), **members}, status=status)


def resume(desk: Desk, instance: Any, block: str, status: int = 200, **members: Any) -> Any:
    """What resuming from the block is answered; it is worked on."""
    path = f"/instances/{instance['id']}/resume-from/{block}"
    said = desk.api.post(path, members, status=status)
    desk.house.work()
    return said


def fork(desk: Desk, instance: Any, block: str, status: int = 201, **members: Any) -> Any:
    """What forking at the block is answered; it is worked on."""
    body = {"from_block_id": block, **members}
    said = desk.api.post(f"/instances/{instance['id']}/fork", body, status=status)
    desk.house.work()
    return said


def put_out(desk: Desk, instance: Any) -> list[str]:
    """The ids of the blocks among an instance's outputs."""
    return [each["block_id"] for each in desk.api.get(f"/instances/{instance['id']}/outputs")]


def finished(desk: Desk, instance: Any) -> list[str]:
    """As put_out, once the instance was worked on; it has completed."""
    desk.house.work()
    assert desk.read(instance)["state"] == "completed"
    return put_out(desk, instance)


# -- injection -----------------------------------------------------------------------------------
def test_injected_blocks_run_after_the_sequences_own(desk: Desk) -> None:
    """The answer tells their ids, the position as it was given, and how many there are by now."""
    made = created(desk.api, log("a"), log("b"))
    assert inject(desk.api, made, log("x"), log("y")) == {
        "injected_block_ids": ["x", "y"], "position": None, "total_injected": 2,
    }  # fmt: skip
    assert finished(desk, made) == ["a", "b", "x", "y"]


def test_position_is_one_among_the_injected_blocks(desk: Desk) -> None:
    """Zero, the middle and the end; beyond it is the end, too."""
    made = created(desk.api, log("a"))
    for name, position, total in (("m", None, 1), ("first", 0, 2), ("mid", 1, 3), ("end", 3, 4)):
        more = {} if position is None else {"position": position}
        said = inject(desk.api, made, log(name), **more)
        assert (said["position"], said["total_injected"]) == (position, total)
    inject(desk.api, made, log("last"), position=99)
    assert finished(desk, made) == ["a", "first", "mid", "m", "end", "last"]


def test_blocks_are_kept_in_the_metadata(desk: Desk) -> None:
    """As they were given, beside what was there; the sequence that is shown stays the same one."""
    made = created(desk.api, log("a"), metadata={"mine": 1})
    inject(desk.api, made, log("x"))
    shown = desk.read(made)
    assert shown["metadata"] == {"mine": 1, "_injected_blocks": [log("x")]}
    assert shown["sequence_id"] == made["sequence_id"] == shown["sequence"]["id"]
    for path in (f"sequence_id={made['sequence_id']}", "sequence=s"):
        assert [each["id"] for each in desk.api.get(f"/instances?{path}")["items"]] == [made["id"]]


def test_other_instances_of_the_sequence_are_as_they_were(desk: Desk) -> None:
    """And nobody finds the version by which the one runs."""
    body = sequence(log("a"))
    made = created(desk.api, definition=body)
    asked = {"sequence_id": body["id"], "tenant_id": "default", "namespace": "default"}
    other = desk.api.post("/instances", asked)
    inject(desk.api, made, log("x"))
    assert finished(desk, made) == ["a", "x"]
    assert finished(desk, other) == ["a"]
    ((own,),) = desk.api.rows("SELECT sequence_id FROM instances WHERE id = %s", made["id"])
    desk.api.refused(404, "GET", f"/sequences/{own}")
    desk.api.refused(404, "POST", "/instances", asked | {"sequence_id": str(own)})
    assert [each["id"] for each in desk.api.get("/sequences")["items"]] == [body["id"]]
    name = "tenant_id=default&namespace=default&name=s"
    assert len(desk.api.get(f"/sequences/versions?{name}")) == 1
    assert desk.api.get(f"/sequences/by-name?{name}")["id"] == body["id"]


def test_instances_with_the_same_blocks_share_their_version(desk: Desk) -> None:
    """However many there are."""
    body = sequence(log("a"))
    desk.api.post("/sequences", body)
    asked = {"sequence_id": body["id"], "tenant_id": "default", "namespace": "default"}
    for _ in range(3):
        inject(desk.api, desk.api.post("/instances", asked), log("x"))
    assert desk.api.rows("SELECT count(*) FROM sequences") == [(2,)]


def test_sequence_cannot_be_deleted_while_such_an_instance_runs(desk: Desk) -> None:
    """It is one of its instances."""
    made = created(desk.api, log("a"), next_fire_at=FUTURE)
    inject(desk.api, made, log("x"))
    path = f"/sequences/{made['sequence_id']}"
    desk.api.refused(409, "DELETE", path)
    cancelled = desk.api.send("PATCH", f"/instances/{made['id']}/state", {"state": "cancelled"})
    assert cancelled.status_code == 200
    assert desk.api.send("DELETE", path).status_code == 204


def test_composite_is_injected(desk: Desk) -> None:
    """It is on the tree, with what it runs."""
    router = {
        "type": "router", "id": "way",
        "routes": [{"condition": "data.x == 1", "blocks": [log("one")]}],
        "default": [log("other")],
    }  # fmt: skip
    made = created(desk.api, log("a"), context={"data": {"x": 1}})
    inject(desk.api, made, router)
    assert finished(desk, made) == ["a", "one"]
    nodes = desk.api.get(f"/instances/{made['id']}/tree")
    types = {each["id"]: each["block_type"] for each in nodes}
    assert types == {"a": "step", "way": "router", "one": "step", "other": "step"}


def test_running_instance_runs_what_is_injected(desk: Desk) -> None:
    """Also while it sleeps; a position before what has begun is the first one behind it."""
    nap = {"type": "step", "id": "nap", "handler": "sleep", "params": {"duration_ms": 60_000}}
    made = created(desk.api, log("a"), nap)
    desk.house.work()
    inject(desk.api, made, {**nap, "id": "nap2"}, log("x"))
    desk.house.advance(timedelta(minutes=2))
    desk.house.work()
    assert desk.read(made)["state"] == "running"
    inject(desk.api, made, log("late"), position=0)
    desk.house.advance(timedelta(minutes=2))
    assert finished(desk, made) == ["a", "nap", "nap2", "late", "x"]


def test_completed_instance_runs_them_once_it_runs_again(desk: Desk) -> None:
    """Setting it to scheduled does that, and nothing of what completed is run twice."""
    made = created(desk.api, log("a"))
    assert finished(desk, made) == ["a"]
    inject(desk.api, made, log("x"))
    inject(desk.api, made, log("y"))
    assert finished(desk, made) == ["a"]
    path = f"/instances/{made['id']}/state"
    for _ in range(2):
        assert desk.api.send("PATCH", path, {"state": "scheduled"}).status_code == 200
        assert finished(desk, made) == ["a", "x", "y"]


def test_failed_instance_runs_them_once_it_is_retried(desk: Desk) -> None:
    """Behind the step that it failed at."""
    made = created(desk.api, log("a"), {"type": "step", "id": "no", "handler": "assert",
                                       "params": {"condition": "data.ok == 1"}})  # fmt: skip
    desk.house.work()
    assert desk.read(made)["state"] == "failed"
    inject(desk.api, made, log("x"))
    assert desk.read(made)["state"] == "failed"
    api, path = desk.api, f"/instances/{made['id']}"
    assert api.send("PATCH", f"{path}/context", {"context": {"data": {"ok": 1}}}).status_code == 200
    api.post(f"{path}/retry", status=200)
    assert finished(desk, made) == ["a", "no", "x"]


@pytest.mark.parametrize(
    "blocks",
    [
        "a step", {}, [], [7], [{"type": "nothing", "id": "x"}], [{"type": "step", "id": "x"}],
        [{"type": "step", "handler": "log"}], [{"type": "step", "id": "a", "handler": "log"}],
        [{"type": "loop", "id": "l", "condition": "true", "body": []}],
    ],
)  # fmt: skip
def test_what_are_no_blocks_is_400(api: Api, blocks: Any) -> None:
    """Not an array, empty, or not to be understood; an id that is taken, too."""
    made = created(api, log("a"), next_fire_at=FUTURE)
    api.refused(400, "POST", f"/instances/{made['id']}/inject-blocks", {"blocks": blocks})


def test_problem_is_told_where_it_stands_in_the_request(api: Api) -> None:
    """And not where it would stand in the sequence."""
    made = created(api, log("a"), log("b"), next_fire_at=FUTURE)
    inject(api, made, log("x"))
    wrong = {"type": "step", "id": "y", "handler": "log", "retry": 7}
    body = {"blocks": [log("w"), wrong], "position": 0}
    said = api.refused(400, "POST", f"/instances/{made['id']}/inject-blocks", body)
    assert {each["pointer"] for each in said["errors"]} == {"/blocks/1/retry"}


def test_injection_is_bounded(api: Api) -> None:
    """At most 5000 blocks in all, and 64 levels."""
    made = created(api, log("a"), next_fire_at=FUTURE)
    path = f"/instances/{made['id']}/inject-blocks"
    many = [{"type": "step", "id": f"n{n}", "handler": "noop"} for n in range(5000)]
    inject(api, made, *many[:2500])
    assert "5000" in api.refused(400, "POST", path, {"blocks": many[2500:]})["error"]
    deep: dict[str, Any] = log("deepest")
    for n in range(64):
        deep = {"type": "cancellation_scope", "id": f"s{n}", "blocks": [deep]}
    assert "64" in api.refused(400, "POST", path, {"blocks": [deep]})["error"]


def test_injection_into_an_unknown_instance_is_404(api: Api) -> None:
    """And into another tenant's. A body without blocks is 422, as a position that is no number."""
    api.refused(404, "POST", f"/instances/{uuid4()}/inject-blocks", {"blocks": [log("x")]})
    made = created(api, log("a"), next_fire_at=FUTURE)
    path = f"/instances/{made['id']}/inject-blocks"
    other = {"X-Tenant-Id": "other"}
    api.refused(404, "POST", path, {"blocks": [log("x")]}, headers=other)
    api.refused(422, "POST", path, {})
    api.refused(422, "POST", path, {"blocks": [log("x")], "position": "0"})


def test_injection_is_audited(api: Api) -> None:
    """Who, why, and which blocks."""
    made = created(api, log("a"), next_fire_at=FUTURE)
    inject(api, made, log("x"), actor="ana", reason="tell the customer")
    entry = api.get(f"/instances/{made['id']}/audit")[0]
    assert (entry["action"], entry["actor"]) == ("instance.blocks_injected", "ana")
    assert (entry["reason"], entry["details"]) == (
        "tell the customer", {"blocks": ["x"], "total": 1},
    )  # fmt: skip


def test_sequence_of_the_seed_takes_blocks_without_ids(desk: Desk) -> None:
    """They are named as in a sequence, and no block that is there is renamed."""
    made = desk.api.started({"id": "seeded", "blocks": [{"type": "step", "handler": "noop"}]})
    said = inject(desk.api, made, {"type": "step", "handler": "noop"}, log("noop_3"))
    assert said["injected_block_ids"] == ["noop_2", "noop_3"]
    inject(desk.api, made, {"type": "step", "handler": "noop"}, position=0)
    assert finished(desk, made) == ["noop", "noop_4", "noop_2", "noop_3"]


def test_migrated_instance_keeps_what_was_injected(desk: Desk) -> None:
    """Behind the blocks of the version that it goes on by."""
    made = created(desk.api, log("a"), next_fire_at=FUTURE)
    inject(desk.api, made, log("x"))
    target = sequence(log("a"), log("b"), version=2)
    desk.api.post("/sequences", target)
    body = {"instance_id": made["id"], "target_sequence_id": target["id"]}
    said = desk.api.post("/sequences/migrate-instance", body, status=200)
    assert said["from_sequence_id"] == made["sequence_id"]
    assert desk.read(made)["sequence_id"] == target["id"]
    desk.api.send("PATCH", f"/instances/{made['id']}/state", {"state": "running"})
    assert finished(desk, made) == ["a", "b", "x"]
    taken = sequence(log("a"), log("x"), version=3)
    desk.api.post("/sequences", taken)
    again = created(desk.api, definition=sequence(log("a"), version=4), next_fire_at=FUTURE)
    inject(desk.api, again, log("x"))
    body = {"instance_id": again["id"], "target_sequence_id": taken["id"]}
    desk.api.refused(409, "POST", "/sequences/migrate-instance", body)


def test_versions_that_no_instance_runs_by_are_pruned(desk: Desk) -> None:
    """Once they are a day old; those in use stay."""
    from orch8.storage import derived  # noqa: PLC0415 - the one look behind the routes here

    kept, gone = (created(desk.api, definition=sequence(log("a"), version=n)) for n in (1, 2))
    for each in (kept, gone):
        inject(desk.api, each, log("x"))
    desk.house.sql("DELETE FROM instances WHERE id = %s", gone["id"])
    with desk.house.office.begin() as tx:
        assert derived.forget_unused(tx, timedelta()) == 0
    desk.house.sql("UPDATE sequences SET created_at = created_at - interval '2 days'")
    with desk.house.office.begin() as tx:
        assert derived.forget_unused(tx, timedelta()) == 1
    assert finished(desk, kept) == ["a", "x"]


# -- self_modify ---------------------------------------------------------------------------------
def modify(name: str, *blocks: Any, **params: Any) -> dict[str, Any]:
    """A step that injects blocks."""
    given = {"blocks": list(blocks), **params}
    return {"type": "step", "id": name, "handler": "self_modify", "params": given}


def test_self_modify_injects_from_inside(desk: Desk) -> None:
    """Its output tells what."""
    made = created(desk.api, modify("grow", log("x"), log("y")), log("b"))
    assert finished(desk, made) == ["grow", "b", "x", "y"]
    output = desk.api.get(f"/instances/{made['id']}/outputs")[0]["output"]
    assert output == {
        "_self_modify": True, "blocks": [log("x"), log("y")], "position": None,
        "injected_count": 2,
    }  # fmt: skip
    assert desk.read(made)["metadata"] == {"_injected_blocks": [log("x"), log("y")]}


def test_two_chained_self_modify_survive(desk: Desk) -> None:
    """One after the other, and one that the other injects; a position holds among these."""
    made = created(
        desk.api, modify("one", log("x"), modify("inner", log("z"))),
        modify("two", log("y"), position=0),
    )  # fmt: skip
    assert finished(desk, made) == ["one", "two", "y", "x", "inner", "z"]


def test_self_modify_inside_a_loop_of_items(desk: Desk) -> None:
    """What it is in goes on."""
    each = {
        "type": "for_each", "id": "all", "collection": "names",
        "body": [{"type": "step", "id": "grow", "handler": "self_modify",
                  "params": {"blocks": [{"type": "step", "id": "{{context.data.item}}",
                                         "handler": "noop"}]}}],
    }  # fmt: skip
    made = created(desk.api, each, log("b"), context={"data": {"names": ["x", "y"]}})
    shown = [name for name in finished(desk, made) if name != "all"]
    assert shown == ["grow", "grow", "b", "x", "y"]


@pytest.mark.parametrize(
    "params", [{}, {"blocks": "x"}, {"blocks": [{"type": "step"}]},
               {"blocks": [log("grow")]}, {"blocks": [log("x")], "position": "0"}],
)  # fmt: skip
def test_self_modify_with_what_are_no_blocks_fails_for_good(desk: Desk, params: Any) -> None:
    """And nothing is injected."""
    step = {"type": "step", "id": "grow", "handler": "self_modify", "params": params,
            "retry": {"max_attempts": 3, "initial_backoff": 1, "max_backoff": 1}}  # fmt: skip
    made = created(desk.api, step)
    desk.house.work()
    found = desk.read(made)
    assert (found["state"], found["metadata"]) == ("failed", None)


def test_self_modify_without_blocks_changes_nothing(desk: Desk) -> None:
    """It is done."""
    made = created(desk.api, modify("grow"), log("b"))
    assert finished(desk, made) == ["grow", "b"]


# -- resume-from ---------------------------------------------------------------------------------
def test_completed_instance_is_resumed_from_a_block(desk: Desk) -> None:
    """That block and all behind it run anew; what is before is kept."""
    made = created(desk.api, log("a"), log("b"), log("c"))
    assert finished(desk, made) == ["a", "b", "c"]
    before = desk.api.get(f"/instances/{made['id']}/outputs")
    said = resume(desk, made, "b")
    assert said == {
        "id": made["id"], "state": "scheduled", "resumed_from": "b", "outputs_deleted": 2,
        "signals_enqueued": 0, "round": 2,
    }  # fmt: skip
    after = desk.api.get(f"/instances/{made['id']}/outputs")
    assert desk.read(made)["state"] == "completed"
    assert [each["block_id"] for each in after] == ["a", "b", "c"]
    assert after[0] == before[0]
    assert not {each["id"] for each in before[1:]} & {each["id"] for each in after[1:]}


def test_outputs_that_were_superseded_are_kept_as_history(desk: Desk) -> None:
    """The timeline has them, the tree and expressions do not."""
    peek = {"type": "step", "id": "b", "handler": "transform",
            "params": {"later": "{{outputs.c.message}}",
                       "before": "{{outputs.a.message}}"}}  # fmt: skip
    made = created(desk.api, log("a"), peek, log("c"))
    desk.house.work()
    resume(desk, made, "b")
    assert finished(desk, made) == ["a", "b", "c"]
    outputs = desk.api.get(f"/instances/{made['id']}/outputs")
    assert outputs[1]["output"] == {"later": None, "before": "a"}
    story = desk.api.get(f"/instances/{made['id']}/timeline")
    assert [each["node_key"] for each in story["entries"]] == ["a", "b", "c", "b~2", "c~2"]
    tree = desk.api.get(f"/instances/{made['id']}/tree?flat=true")
    assert [each["block_id"] for each in tree] == ["a", "b", "c"]


def test_failed_instance_is_resumed_before_where_it_failed(desk: Desk) -> None:
    """With a context that is merged into the data."""
    check = {"type": "step", "id": "c", "handler": "assert", "params": {"condition": "data.ok"}}
    made = created(desk.api, log("a"), log("b"), check, context={"data": {"kept": 1}})
    desk.house.work()
    assert desk.read(made)["state"] == "failed"
    said = resume(desk, made, "b", context={"ok": True})
    assert said["outputs_deleted"] == 1
    found = desk.read(made)
    assert (found["state"], found["context"]["data"]) == ("completed", {"kept": 1, "ok": True})
    assert put_out(desk, made) == ["a", "b", "c"]


def test_paused_instance_is_resumed_from_a_block(desk: Desk) -> None:
    """What it waited for is called off."""
    made = created(desk.api, log("a"), {"type": "wait_signal", "id": "w", "signal": "go"}, log("b"))
    desk.house.work()
    desk.api.post(f"/instances/{made['id']}/signals", {"signal_type": "pause"})
    resume(desk, made, "a")
    assert (desk.read(made)["state"], put_out(desk, made)) == ("waiting", ["a"])
    desk.api.post(f"/instances/{made['id']}/signals", {"signal_type": {"custom": "go"}})
    assert finished(desk, made) == ["a", "w", "b"]


def test_signals_are_sent_once_it_goes_on(desk: Desk) -> None:
    """And counted."""
    made = created(desk.api, log("a"), {"type": "wait_signal", "id": "w", "signal": "go"})
    desk.house.work()
    desk.api.post(f"/instances/{made['id']}/signals", {"signal_type": "cancel"})
    desk.house.work()
    assert desk.read(made)["state"] == "cancelled"
    signal = {"signal_type": {"custom": "go"}, "payload": {"n": 1}}
    said = resume(desk, made, "w", signals=[signal])
    assert said["signals_enqueued"] == 1
    assert finished(desk, made) == ["a", "w"]


def test_composites_are_run_anew_with_all_that_is_inside(desk: Desk) -> None:
    """Each iteration, from the first one."""
    each = {"type": "for_each", "id": "all", "collection": "names",
            "body": [{"type": "step", "id": "say", "handler": "transform",
                      "params": {"n": "{{context.data.item}}"}}]}  # fmt: skip
    made = created(desk.api, log("a"), each, context={"data": {"names": [1, 2]}})
    desk.house.work()
    said = resume(desk, made, "all", context={"names": [3]})
    assert said["outputs_deleted"] >= 2
    outputs = desk.api.get(f"/instances/{made['id']}/outputs")
    assert [o["output"] for o in outputs if o["block_id"] == "say"] == [{"n": 3}]


def test_instance_that_goes_on_by_itself_cannot_be_resumed(desk: Desk) -> None:
    """400, as for a block that does not stand in the outermost list."""
    made = desk.run(WAITING)
    desk.api.refused(400, "POST", f"/instances/{made['id']}/resume-from/paid", {})
    scope = {"type": "cancellation_scope", "id": "s", "blocks": [log("inner")]}
    done = created(desk.api, scope)
    desk.house.work()
    for block in ("inner", "nothing", "@main"):
        said = desk.api.refused(400, "POST", f"/instances/{done['id']}/resume-from/{block}", {})
        assert "outermost" in said["error"]
    desk.api.refused(404, "POST", f"/instances/{uuid4()}/resume-from/s", {})
    other = {"X-Tenant-Id": "other"}
    desk.api.refused(404, "POST", f"/instances/{done['id']}/resume-from/s", {}, headers=other)


def test_blocks_are_never_skipped(desk: Desk) -> None:
    """An instance cannot be resumed behind where it failed."""
    made = created(desk.api, {"type": "step", "id": "no", "handler": "fail"}, log("b"))
    desk.house.work()
    said = desk.api.refused(409, "POST", f"/instances/{made['id']}/resume-from/b", {})
    assert "stands at 'no'" in said["error"]
    ends = created(desk.api, definition=sequence(
        log("a"), {"type": "end", "id": "stop"}, log("b"), version=2))  # fmt: skip
    desk.house.work()
    desk.api.refused(409, "POST", f"/instances/{ends['id']}/resume-from/b", {})
    assert resume(desk, ends, "a")["outputs_deleted"] == 1


CHARGE = {"type": "step", "id": "charge", "handler": "charge", "effect": "money",
          "money": {"amount": 9900, "currency": "EUR"}}  # fmt: skip


def test_effect_that_would_happen_again_has_to_be_acknowledged(desk: Desk) -> None:
    """409 names the steps; then it happens again under another key."""
    made = created(desk.api, log("a"), CHARGE, log("b"))
    assert finished(desk, made) == ["a", "charge", "b"]
    path = f"/instances/{made['id']}/resume-from/a"
    said = desk.api.refused(409, "POST", path, {})
    assert said["steps"] == ["charge"]
    assert "acknowledge_side_effect_risk" in said["error"]
    assert resume(desk, made, "b")["outputs_deleted"] == 1  # the charge is before it
    assert len(desk.house.keys()) == 1
    resume(desk, made, "a", acknowledge_side_effect_risk=True, actor="ana", reason="refunded")
    assert desk.read(made)["state"] == "completed"
    assert len(desk.house.keys()) == 2
    entries = desk.api.get(f"/instances/{made['id']}/audit")
    told = next(each for each in entries if (each["details"] or {}).get("repeated"))
    assert (told["action"], told["actor"], told["reason"]) == (
        "instance.resumed_from", "ana", "refunded",
    )  # fmt: skip
    assert told["details"]["block"] == "a"


def test_attempt_in_doubt_cannot_be_run_over(desk: Desk) -> None:
    """Whatever is acknowledged: it is decided first."""
    from orch8.testing.misbehaviour import Do, Rule  # noqa: PLC0415

    park = {"policy": "park"}
    made = created(desk.api, log("a"), {**CHARGE, "on_unknown": park})
    desk.house.provider_does(Rule(Do.FAIL_AFTER))
    desk.house.work()
    assert desk.read(made)["state"] == "waiting"
    desk.api.post(f"/instances/{made['id']}/signals", {"signal_type": "pause"})
    for block in ("a", "charge"):
        path = f"/instances/{made['id']}/resume-from/{block}"
        said = desk.api.refused(409, "POST", path, {"acknowledge_side_effect_risk": True})
        assert said["steps"] == ["charge"]


def test_call_in_flight_is_not_run_over(desk: Desk) -> None:
    """A worker has it: its answer comes first."""
    step = {"type": "step", "id": "ship", "handler": "celery:ship"}
    made = created(desk.api, log("a"), step)
    desk.house.sql(
        "UPDATE steps SET state = 'running', due_at = NULL WHERE instance_id = %s", made["id"]
    )
    desk.house.sql("UPDATE steps SET effect = 'external' WHERE instance_id = %s", made["id"])
    desk.api.post(f"/instances/{made['id']}/signals", {"signal_type": "pause"})
    desk.api.refused(409, "POST", f"/instances/{made['id']}/resume-from/a", {})


# -- fork ----------------------------------------------------------------------------------------
def test_fork_goes_on_where_another_was(desk: Desk) -> None:
    """With the outputs of what came before, and as a dry run unless it says otherwise."""
    peek = {"type": "step", "id": "b", "handler": "transform",
            "params": {"a": "{{outputs.a.message}}", "x": "{{context.data.x}}",
                       "dry": "{{runtime.dry_run}}"}}  # fmt: skip
    made = created(desk.api, log("a"), peek, log("c"), context={"data": {"x": 1, "y": 2}},
                   metadata={"mine": 1})  # fmt: skip
    desk.house.work()
    before = desk.api.get(f"/instances/{made['id']}/outputs")
    said = fork(desk, made, "b", context={"x": 7})
    assert said == {
        "id": said["id"], "forked_from": made["id"], "state": "scheduled", "copied_blocks": 1,
        "rerun_blocks": ["b", "c"], "dry_run": True,
    }  # fmt: skip
    found = desk.read(said)
    assert (found["state"], found["round"], found["sequence_id"]) == (
        "completed", 1, made["sequence_id"],
    )  # fmt: skip
    assert found["metadata"] == {
        "mine": 1, "forked_from": made["id"], "forked_at_block": "b", "sandbox": True,
    }  # fmt: skip
    assert found["context"]["data"] == {"x": 7, "y": 2}
    assert found["context"]["runtime"]["dry_run"] is True
    outputs = desk.api.get(f"/instances/{said['id']}/outputs")
    assert [each["block_id"] for each in outputs] == ["a", "b", "c"]
    assert outputs[1]["output"] == {"a": "a", "x": 7, "dry": True}
    assert desk.api.get(f"/instances/{made['id']}/outputs") == before


def test_fork_of_a_failed_instance_and_at_its_first_block(desk: Desk) -> None:
    """In any state; at the first block nothing is copied."""
    made = created(desk.api, log("a"), {"type": "step", "id": "no", "handler": "fail"}, log("b"))
    desk.house.work()
    assert desk.read(fork(desk, made, "no"))["state"] == "failed"
    said = fork(desk, made, "a")
    assert (said["copied_blocks"], said["rerun_blocks"]) == (0, ["a", "no", "b"])
    desk.api.refused(409, "POST", f"/instances/{made['id']}/fork", {"from_block_id": "b"})
    desk.api.refused(400, "POST", f"/instances/{made['id']}/fork", {"from_block_id": "zz"})
    desk.api.refused(422, "POST", f"/instances/{made['id']}/fork", {})
    desk.api.refused(404, "POST", f"/instances/{uuid4()}/fork", {"from_block_id": "a"})


def test_fork_copies_what_is_inside_of_earlier_blocks(desk: Desk) -> None:
    """And what the instance keeps."""
    keep = {"type": "step", "id": "keep", "handler": "set_state",
            "params": {"key": "k", "value": "{{context.data.item}}"}}  # fmt: skip
    each = {"type": "for_each", "id": "all", "collection": "names", "body": [keep]}
    peek = {"type": "step", "id": "b", "handler": "transform",
            "params": {"last": "{{outputs.keep.value}}", "kept": "{{state.k}}"}}  # fmt: skip
    made = created(desk.api, each, peek, context={"data": {"names": [1, 2]}})
    desk.house.work()
    said = fork(desk, made, "b")
    outputs = desk.api.get(f"/instances/{said['id']}/outputs")
    assert [o["block_id"] for o in outputs if o["block_id"] != "all"] == ["keep", "keep", "b"]
    assert outputs[-1]["output"] == {"last": 2, "kept": 2}


def test_fork_reads_what_is_sealed(houses: Callable[..., House]) -> None:
    """And seals its own copy, at its own place."""
    peek = {"type": "step", "id": "b", "handler": "transform",
            "params": {"a": "{{outputs.a.message}}", "kept": "{{state.k}}"}}  # fmt: skip
    keep = {"type": "step", "id": "keep", "handler": "set_state",
            "params": {"key": "k", "value": "v"}}  # fmt: skip
    with seated(houses(encryption_key="ab" * 32)) as desk:
        made = created(desk.api, log("a"), keep, peek)
        desk.house.work()
        said = fork(desk, made, "b")
        outputs = desk.api.get(f"/instances/{said['id']}/outputs")
        assert outputs[0]["output"] == {"message": "a"}
        assert outputs[-1]["output"] == {"a": "a", "kept": "v"}


def test_dry_fork_charges_nobody(desk: Desk) -> None:
    """What it would do is its output; it needs no acknowledgement."""
    made = created(desk.api, log("a"), CHARGE)
    desk.house.work()
    said = fork(desk, made, "charge")
    assert desk.read(said)["state"] == "completed"
    assert len(desk.house.keys()) == 1
    desk.api.refused(409, "POST", f"/instances/{said['id']}/fork",
                     {"from_block_id": "a", "dry_run": False})  # fmt: skip


def test_real_fork_has_keys_of_its_own(desk: Desk) -> None:
    """Once it is acknowledged that an effect may happen again; a key of the definition's own making
    is another one, too.
    """
    own = {**CHARGE, "id": "own", "idempotency": {"key": "invoice-{{context.data.n}}"}}
    made = created(desk.api, CHARGE, own, context={"data": {"n": 1}})
    desk.house.work()
    path, body = f"/instances/{made['id']}/fork", {"from_block_id": "charge", "dry_run": False}
    assert desk.api.refused(409, "POST", path, body)["steps"] == ["charge", "own"]
    said = fork(desk, made, "charge", dry_run=False, acknowledge_side_effect_risk=True)
    assert said["dry_run"] is False
    assert desk.read(said)["metadata"]["sandbox"] is False
    ledger = desk.house.keys()
    keys = [each["key"] for each in ledger]
    assert (len(keys), len(set(keys))) == (4, 4)


def test_signals_are_sent_to_the_fork(desk: Desk) -> None:
    """Not to the instance that it was forked from."""
    made = desk.run(WAITING)
    block = WAITING["blocks"][0].get("id", "wait_signal")  # type: ignore[attr-defined]
    signal = {"signal_type": {"custom": "paid"}}
    said = fork(desk, made, block, signals=[signal])
    assert desk.read(said)["state"] == "completed"
    assert desk.read(made)["state"] == "waiting"


def test_fork_is_audited(desk: Desk) -> None:
    """With both instances."""
    made = desk.run(NOOP)
    said = fork(desk, made, "noop", actor="ana", reason="look")
    told = desk.api.get(f"/instances/{made['id']}/audit")[0]
    assert (told["action"], told["actor"], told["reason"]) == ("instance.forked", "ana", "look")
    assert told["details"]["fork"] == said["id"]
    first = desk.api.get(f"/instances/{said['id']}/audit")[-1]
    assert (first["action"], first["details"]["forked_from"]) == ("instance.created", made["id"])
