"""CONTRACT 17: what signals there are, how they are sent, and what each of them does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest

from orch8.handlers.python import Declined
from tests.support.api import CHARGE, NOOP, WAITING, Api
from tests.support.desk import Desk
from tests.support.house import until

CONTROLS = ("pause", "resume", "cancel", "update_context")
FUTURE = "2999-01-01T00:00:00Z"


def sleeper(duration_ms: int = 600_000, **members: Any) -> dict[str, Any]:
    """A step that sleeps."""
    params = {"duration_ms": duration_ms}
    return {"type": "step", "id": "nap", "handler": "sleep", "params": params, **members}


def after(name: str = "after") -> dict[str, Any]:
    """A step that leaves an output."""
    return {"type": "step", "id": name, "handler": "noop"}


SLEEPER = {"id": "sleeper", "blocks": [sleeper(), after()]}


def send(api: Api, instance: Any, kind: Any, payload: Any = None, **more: Any) -> Any:
    """The id of a signal that was taken."""
    body = {"signal_type": kind, "payload": payload, **more}
    return api.post(f"/instances/{instance['id']}/signals", body)["signal_id"]


def state(api: Api, instance: Any) -> str:
    """The state that an instance shows."""
    return str(api.get(f"/instances/{instance['id']}")["state"])


def data(api: Api, instance: Any) -> Any:
    """The data of an instance's context."""
    return api.get(f"/instances/{instance['id']}")["context"]["data"]


def outputs(api: Api, instance: Any) -> list[str]:
    """The blocks that have put something out."""
    return [each["block_id"] for each in api.get(f"/instances/{instance['id']}/outputs")]


def audited(api: Api, instance: Any, action: str) -> list[tuple[str, Any]]:
    """Outcome and reason of the entries of an action."""
    entries = api.get(f"/instances/{instance['id']}/audit")
    return [(each["outcome"], each["reason"]) for each in entries if each["action"] == action]


@contextmanager
def at_work(desk: Desk) -> Iterator[None]:
    """Inside the block a pump works beside the caller."""
    thread = threading.Thread(target=desk.house.work)
    thread.start()
    try:
        yield
    finally:
        desk.house.pump.wind_down(20.0)
        thread.join(30)


# -- 17.1 the wire -------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", [*CONTROLS, {"custom": "paid"}, {"custom": "x" * 255}])
def test_signal_is_answered_201_with_its_id(api: Api, kind: Any) -> None:
    """And is in the inbox under that id."""
    started = api.started(WAITING)
    signal_id = send(api, started, kind)
    (found,) = api.get(f"/instances/{started['id']}/signals")
    assert found["id"] == signal_id
    assert found["name"] == (kind["custom"] if isinstance(kind, dict) else kind)


@pytest.mark.parametrize(
    "kind", [None, "stop", "custom:paid", "Pause", {"custom": ""}, {"custom": 3}, {"x": "y"}, 7, []]
)
def test_signal_type_that_there_is_not_is_422(api: Api, kind: Any) -> None:
    """As is none at all; the string custom:x is a spelling of the command line only."""
    path = f"/instances/{api.started(WAITING)['id']}/signals"
    assert "signal_type" in api.refused(422, "POST", path, {"signal_type": kind})["error"]
    api.refused(422, "POST", path, {"payload": 1})


def test_signal_to_nobody_is_404(api: Api) -> None:
    """So is one to an instance of another tenant; an id that is none is 400."""
    body = {"signal_type": "pause"}
    api.refused(404, "POST", f"/instances/{uuid4()}/signals", body)
    path = f"/instances/{api.started(WAITING)['id']}/signals"
    api.refused(404, "POST", path, body, headers={"X-Tenant-Id": "other"})
    api.refused(400, "POST", "/instances/nope/signals", body)


@pytest.mark.parametrize("kind", [*CONTROLS, {"custom": "paid"}])
def test_signal_to_an_instance_that_ended_is_400(desk: Desk, kind: Any) -> None:
    """In these words."""
    ended = desk.run(NOOP)
    path = f"/instances/{ended['id']}/signals"
    said = desk.api.refused(400, "POST", path, {"signal_type": kind})["error"]
    assert f"cannot send signal to instance {ended['id']}: target is in a terminal state" in said


@pytest.mark.parametrize("payload", [None, 0, "x", [1, {"a": None}], {"a": {"b": [True]}}])
def test_payload_is_any_json(api: Api, payload: Any) -> None:
    """And comes back as it was sent; left out it is null."""
    started = api.started(WAITING)
    send(api, started, {"custom": "seen"}, payload)
    api.post(f"/instances/{started['id']}/signals", {"signal_type": {"custom": "bare"}})
    seen, bare = api.get(f"/instances/{started['id']}/signals")
    assert (seen["payload"], bare["payload"]) == (payload, None)


def test_payload_may_be_large(desk: Desk) -> None:
    """A wait for the signal has it whole."""
    waiting = desk.run(WAITING)
    large = {"text": "x" * 150_000}
    send(desk.api, waiting, {"custom": "paid"}, large)
    desk.house.work()
    (found,) = desk.api.get(f"/instances/{waiting['id']}/outputs")
    assert found["output"]["payload"] == large


# -- 17.2 what each does -------------------------------------------------------------------------
def test_signals_take_effect_in_the_order_in_which_they_were_sent(desk: Desk) -> None:
    """Paused and resumed it goes on, resumed and paused it does not; the last update wins."""
    first, second = desk.api.started(NOOP), desk.api.started(NOOP)
    for kinds, found in ((("pause", "resume"), first), (("resume", "pause"), second)):
        for kind in kinds:
            send(desk.api, found, kind)
        for value in (1, 2):
            send(desk.api, found, "update_context", {"data": {"n": value}})
    desk.house.work()
    assert (state(desk.api, first), state(desk.api, second)) == ("completed", "paused")
    assert data(desk.api, first)["n"] == data(desk.api, second)["n"] == 2


def test_signal_right_after_the_creation_comes_before_the_first_step(desk: Desk) -> None:
    """Creating runs nothing, so a pause keeps everything from happening."""
    started = desk.api.started(CHARGE)
    assert state(desk.api, started) == "scheduled"
    send(desk.api, started, "pause")
    desk.house.work()
    assert state(desk.api, started) == "paused"
    assert desk.house.totals()["asked"] == 0


def test_scheduled_instance_can_be_paused_and_resumed(desk: Desk) -> None:
    """It goes on at the time that it had."""
    started = desk.api.started(NOOP, next_fire_at=FUTURE)
    send(desk.api, started, "pause")
    assert state(desk.api, started) == "paused"
    send(desk.api, started, "resume")
    shown = desk.read(started)
    assert (shown["state"], shown["next_fire_at"]) == ("scheduled", FUTURE)


def test_sleeper_is_paused_at_once(desk: Desk) -> None:
    """A running sleep is no reason to wait, and what it has left of its time is kept."""
    found = desk.run(SLEEPER)
    assert found["state"] == "running"
    send(desk.api, found, "pause")
    assert state(desk.api, found) == "paused"
    send(desk.api, found, "resume")
    assert state(desk.api, found) in {"running", "scheduled"}
    assert outputs(desk.api, found) == []


def test_waiting_instance_can_be_paused(desk: Desk) -> None:
    """Better than the contract, where that has no effect: what it waits for is held, too."""
    found = desk.run(WAITING)
    send(desk.api, found, "pause")
    send(desk.api, found, {"custom": "paid"})
    desk.house.work()
    assert state(desk.api, found) == "paused"
    send(desk.api, found, "resume")
    desk.house.work()
    assert state(desk.api, found) == "completed"


@pytest.mark.parametrize("definition", [NOOP, WAITING, SLEEPER])
def test_resume_of_what_is_not_paused_does_nothing(desk: Desk, definition: Any) -> None:
    """It is taken, consumed, and changes no state."""
    members = {"next_fire_at": FUTURE} if definition is NOOP else {}
    found = desk.run(definition, **members)
    before = desk.read(found)
    send(desk.api, found, "resume")
    assert desk.read(found) == before
    (taken,) = desk.api.get(f"/instances/{found['id']}/signals")
    assert taken["consumed_by"] == "engine"


def test_update_context_merges_the_members_of_data(desk: Desk) -> None:
    """What it does not name stays; later steps read what is new."""
    says = {"type": "step", "handler": "log", "params": {"message": "{{context.data.card}}"}}
    definition = {"id": "says", "blocks": [says]}
    started = desk.api.started(definition, context={"data": {"card": "old", "kept": 1}})
    send(desk.api, started, "update_context", {"data": {"card": "new", "more": [1]}})
    assert data(desk.api, started) == {"card": "new", "kept": 1, "more": [1]}
    desk.house.work()
    (said,) = desk.api.get(f"/instances/{started['id']}/outputs")
    assert said["output"] == {"message": "new"}


def test_update_context_works_while_paused(desk: Desk) -> None:
    """At once, and the instance stays paused."""
    found = desk.run(SLEEPER)
    send(desk.api, found, "pause")
    send(desk.api, found, "update_context", {"data": {"card": "new"}})
    assert data(desk.api, found)["card"] == "new"
    assert state(desk.api, found) == "paused"


@pytest.mark.parametrize("payload", [None, 3, "x", [1], {}, {"data": None}, {"data": [1]}])
def test_update_context_that_cannot_be_merged_is_discarded(api: Api, payload: Any) -> None:
    """The signal is taken, nothing changes, and the audit log says why."""
    started = api.started(WAITING, context={"data": {"kept": 1}})
    send(api, started, "update_context", payload)
    assert data(api, started) == {"kept": 1}
    ((outcome, reason),) = audited(api, started, "context.updated")
    assert (outcome, "payload.data" in reason) == ("failure", True)


def test_update_context_has_a_largest_size(desk: Desk) -> None:
    """A context that would be too large stays as it is."""
    started = desk.api.started(WAITING, context={"data": {"a": "x" * 100_000}})
    for name in ("b", "c"):
        send(desk.api, started, "update_context", {"data": {name: "x" * 100_000}})
    assert sorted(data(desk.api, started)) == ["a", "b"]
    told = [outcome for outcome, _ in audited(desk.api, started, "context.updated")]
    assert told == ["failure", "success"]


def test_custom_signal_is_kept_and_changes_no_state(desk: Desk) -> None:
    """Of what nobody waits for the inbox alone tells."""
    found = desk.run(SLEEPER)
    send(desk.api, found, {"custom": "seen"}, {"n": 1})
    desk.house.work()
    assert desk.read(found)["state"] == "running"
    (kept,) = desk.api.get(f"/instances/{found['id']}/signals")
    assert (kept["name"], kept["payload"], kept["consumed_at"]) == ("seen", {"n": 1}, None)


def test_signal_that_a_step_waits_for_wakes_it(desk: Desk) -> None:
    """Also while a pump works that knew nothing of it."""
    found = desk.run(WAITING)
    with at_work(desk):
        send(desk.api, found, {"custom": "paid"})
        until(lambda: state(desk.api, found) == "completed" or desk.house.work(), 5.0)
    assert state(desk.api, found) == "completed"


# -- 17.3 what a cancel spares -------------------------------------------------------------------
def test_cancel_ends_what_is_active(desk: Desk) -> None:
    """A sleeper, a waiting instance and one that has not begun end with the signal."""
    later = desk.api.started(NOOP, next_fire_at=FUTURE)
    for found in (desk.run(SLEEPER), desk.run(WAITING), later):
        send(desk.api, found, "cancel")
        assert state(desk.api, found) == "cancelled"
        assert outputs(desk.api, found) == []


def scoped(*blocks: Any) -> dict[str, Any]:
    """These blocks, protected from a cancel."""
    return {"type": "cancellation_scope", "id": "scope", "blocks": list(blocks)}


def finally_(*blocks: Any) -> dict[str, Any]:
    """These blocks as what is done finally."""
    return {
        "type": "try_catch", "id": "careful", "try_block": [after("tried")], "catch_block": [],
        "finally_block": list(blocks),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "protected"),
    [
        ("not_cancellable", sleeper(1500, cancellable=False)),
        ("scope", scoped(sleeper(1500))),
        ("finally", finally_(sleeper(1500))),
        ("branch", {"type": "parallel", "id": "both",
                    "branches": [[sleeper(1500, cancellable=False)], [after("quick")]]}),
    ],
)  # fmt: skip
def test_cancel_waits_for_what_is_protected(desk: Desk, name: str, protected: Any) -> None:
    """It is not cancelled 500 ms after the signal, but when the protected part has ended; what
    comes after it is not run.
    """
    started = desk.api.started({"id": name, "blocks": [protected, after()]})
    asleep = "SELECT 1 FROM steps WHERE block_id = 'nap' AND state = 'sleeping'"
    with at_work(desk):
        until(lambda: desk.house.sql(asleep))
        send(desk.api, started, "cancel")
        threading.Event().wait(0.5)
        shown = desk.read(started)
        assert (shown["state"], shown["cancelling"]) == ("running", True)
        until(lambda: state(desk.api, started) == "cancelled")
    assert "nap" in outputs(desk.api, started)
    assert "after" not in outputs(desk.api, started)


def test_scope_runs_to_its_end_after_a_cancel(desk: Desk) -> None:
    """Every step in it, also those that had not begun; what is beside it is cancelled at once."""
    beside = {**sleeper(), "id": "beside"}
    both = {
        "type": "parallel", "id": "both",
        "branches": [[scoped(sleeper(300), after("inside"))], [beside]],
    }  # fmt: skip
    found = desk.api.started({"id": "whole", "blocks": [both, after()]})
    asleep = "SELECT 1 FROM steps WHERE block_id = 'nap' AND state = 'sleeping'"
    with at_work(desk):
        until(lambda: desk.house.sql(asleep))
        send(desk.api, found, "cancel")
        until(lambda: state(desk.api, found) == "cancelled")
    assert {"nap", "inside"} <= set(outputs(desk.api, found))
    nodes = {each["block_id"]: each["state"] for each in desk.api.get(
        f"/instances/{found['id']}/tree")}  # fmt: skip
    assert nodes["beside"] == "cancelled"


def test_cancel_before_a_finally_runs_it(desk: Desk) -> None:
    """The try is cancelled, its finally runs, and the instance is cancelled."""
    block = {
        "type": "try_catch", "id": "careful", "try_block": [sleeper()], "catch_block": [],
        "finally_block": [after("cleanup")],
    }  # fmt: skip
    found = desk.run({"id": "tidy", "blocks": [block, after()]})
    send(desk.api, found, "cancel")
    desk.house.work()
    assert state(desk.api, found) == "cancelled"
    assert outputs(desk.api, found) == ["cleanup"]


def test_cancel_stops_a_flat_instance_between_its_steps(desk: Desk) -> None:
    """A call in flight is answered, since it may have moved money; no step after it is run."""
    called, go_on = threading.Event(), threading.Event()

    def slow(_request: Any) -> Any:
        called.set()
        assert go_on.wait(20)
        return {"paid": True}

    desk.house.handler("charge", slow)
    found = desk.api.started({"id": "flat", "blocks": [*CHARGE["blocks"], after()]})
    with at_work(desk):
        assert called.wait(10)
        send(desk.api, found, "cancel")
        assert desk.read(found)["cancelling"]
        go_on.set()
        until(lambda: state(desk.api, found) == "cancelled")
    assert outputs(desk.api, found) == ["charge"]


def test_answer_of_a_call_in_flight_does_not_undo_a_pause(desk: Desk) -> None:
    """It is kept, and the instance stays as it was set."""
    called, go_on = threading.Event(), threading.Event()

    def slow(_request: Any) -> Any:
        called.set()
        assert go_on.wait(20)
        raise Declined({"code": "card_declined"})

    desk.house.handler("charge", slow)
    found = desk.api.started({"id": "flat", "blocks": [*CHARGE["blocks"], after()]})
    with at_work(desk):
        assert called.wait(10)
        send(desk.api, found, "pause")
        go_on.set()
        until(lambda: outputs(desk.api, found) == ["charge"])
    assert state(desk.api, found) == "paused"


def test_cancel_takes_the_task_back_from_the_pull_queue(api: Api) -> None:
    """Nobody gets a task of an instance that was cancelled."""
    started = api.started(CHARGE)
    send(api, started, "cancel")
    body = {"handler_name": "charge", "worker_id": "w"}
    assert api.post("/workers/tasks/poll", body, status=200) == []
    assert state(api, started) == "cancelled"
