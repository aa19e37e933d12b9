"""CONTRACT 24: events that producers tell are kept once, and steps wait for them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any
from uuid import uuid4

import pytest

from tests.support.api import Api
from tests.support.desk import Desk
from tests.support.house import House

ACME, OTHER = {"X-Tenant-Id": "acme"}, {"X-Tenant-Id": "other"}


def event(number: int = 1, **members: Any) -> dict[str, Any]:
    """An event as a producer tells it."""
    return {
        "tenant_id": "acme", "event_name": "invoice.paid", "producer_event_id": f"evt_{number}",
        "correlation_key": "in_1", "payload": {"amount": number},
    } | members  # fmt: skip


def test_event_is_kept_and_can_be_read(api: Api) -> None:
    """201; it is pending, since nothing has consumed it."""
    told = api.post("/events", event())
    assert told["duplicate"] is told["satisfied"] is False
    found = api.get(f"/events/{told['event_id']}")
    assert found.items() >= event().items()
    assert found["status"] == "pending"
    assert found["id"] == told["event_id"]
    assert "consumed_by" not in found


def test_event_told_again_is_the_earlier_one(api: Api) -> None:
    """200, and what it says otherwise is not kept."""
    first = api.post("/events", event())
    again = api.post("/events", event(payload="other", correlation_key="x"), status=200)
    assert (again["event_id"], again["duplicate"]) == (first["event_id"], True)
    assert api.get(f"/events/{first['event_id']}")["payload"] == {"amount": 1}


def test_tenant_name_and_producers_id_make_an_event_one(api: Api) -> None:
    """The same id under another name or of another tenant is another event."""
    api.post("/events", event())
    api.post("/events", event(event_name="invoice.voided"))
    api.post("/events", event(tenant_id="other"))
    api.post("/events", event(2))
    assert len(api.get("/events?tenant_id=acme")) == 3


@pytest.mark.parametrize("name", ["event_name", "producer_event_id", "correlation_key"])
def test_blank_member_is_400_and_a_missing_one_422(api: Api, name: str) -> None:
    """And is named."""
    assert name in api.refused(400, "POST", "/events", event() | {name: " "})["error"]
    left = {key: value for key, value in event().items() if key != name}
    assert name in api.refused(422, "POST", "/events", left)["error"]


def test_blank_tenant_is_the_default_one(api: Api) -> None:
    """Or the caller's."""
    told = api.post("/events", event(tenant_id=""))
    assert api.get(f"/events/{told['event_id']}")["tenant_id"] == "default"
    told = api.post("/events", event(tenant_id=""), headers=ACME)
    assert api.get(f"/events/{told['event_id']}")["tenant_id"] == "acme"


def test_payload_may_be_any_json_or_none(api: Api) -> None:
    """A list, a text, nothing."""
    for number, payload in enumerate(([1], "text", 0, None)):
        told = api.post("/events", event(number, payload=payload))
        assert api.get(f"/events/{told['event_id']}")["payload"] == payload


def test_batch_answers_in_its_order(api: Api) -> None:
    """Also when an event occurs twice in it, or was there before."""
    known = api.post("/events", event(2))
    batch = [event(3), event(2), event(1), event(3)]
    outcomes = api.post("/events/batch", {"events": batch}, status=200)["outcomes"]
    assert [each["duplicate"] for each in outcomes] == [False, True, False, True]
    assert outcomes[1]["event_id"] == known["event_id"]
    assert outcomes[0]["event_id"] == outcomes[3]["event_id"]


def test_batch_has_1_to_100_events(api: Api) -> None:
    """400 for none and for more."""
    api.refused(400, "POST", "/events/batch", {"events": []})
    many = [event(each) for each in range(101)]
    api.refused(400, "POST", "/events/batch", {"events": many})
    told = api.post("/events/batch", {"events": many[:100]}, status=200)
    assert len(told["outcomes"]) == 100


def test_batch_is_checked_before_anything_is_written(api: Api) -> None:
    """The last one is wrong; none is kept."""
    wrong = [event(1), event(2), event(3, event_name="")]
    answer = api.refused(400, "POST", "/events/batch", {"events": wrong})
    assert answer["errors"][0]["pointer"] == "/events/2/event_name"
    assert api.get("/events?tenant_id=acme") == []


def test_foreign_tenant_under_a_scoped_header_is_403(api: Api) -> None:
    """Alone, or in a batch of which nothing is kept then."""
    api.refused(403, "POST", "/events", event(), headers=OTHER)
    mixed = {"events": [event(tenant_id="other"), event()]}
    api.refused(403, "POST", "/events/batch", mixed, headers=OTHER)


def test_two_batches_at_once_keep_each_event_once(api: Api) -> None:
    """Whatever their orders; neither waits for the other in a circle."""
    batch = [event(each) for each in range(50)]
    orders = [batch, batch[::-1]]
    with ThreadPoolExecutor(2) as producers:
        both = list(
            producers.map(
                lambda events: api.app.test_client().post("/events/batch", json={"events": events}),
                orders,
            )
        )
    assert [answer.status_code for answer in both] == [200, 200]
    told = [each["duplicate"] for answer in both for each in answer.get_json()["outcomes"]]
    assert sorted(told) == [False] * 50 + [True] * 50


def test_list_hides_payloads(api: Api) -> None:
    """The newest first, cut at limit, of one status if it is named."""
    for number in range(3):
        api.post("/events", event(number))
    found = api.get("/events?tenant_id=acme&limit=2")
    assert [each["producer_event_id"] for each in found] == ["evt_2", "evt_1"]
    assert {each["payload"] for each in found} == {"[REDACTED]"}
    assert len(api.get("/events?status=pending", headers=ACME)) == 3
    assert api.get("/events?status=consumed", headers=ACME) == []
    api.refused(400, "GET", "/events?tenant_id=acme&status=lost")


def test_event_nobody_wanted_for_30_days_is_expired(api: Api) -> None:
    """It stays in the list."""
    told = api.post("/events", event())
    api.rows("UPDATE events SET received_at = received_at - interval '31 days' RETURNING id")
    assert api.get(f"/events/{told['event_id']}")["status"] == "expired"
    assert len(api.get("/events?tenant_id=acme&status=expired")) == 1


def test_list_needs_a_tenant(api: Api) -> None:
    """400 without one; a header wins over the query."""
    assert "tenant scope is required" in api.refused(400, "GET", "/events")["error"]
    api.post("/events", event())
    assert api.get("/events?tenant_id=acme", headers=OTHER) == []


def test_event_that_is_not_there_is_404(api: Api) -> None:
    """Neither is another tenant's."""
    told = api.post("/events", event())
    api.refused(404, "GET", f"/events/{uuid4()}")
    api.refused(404, "GET", f"/events/{told['event_id']}", headers=OTHER)
    api.refused(400, "GET", "/events/17")


# -- wait_for_event --------------------------------------------------------------------------------
MINE = {"tenant_id": "default"}


def waits(events: Any, block_id: str = "paid", **params: Any) -> dict[str, Any]:
    """A sequence with a step that waits for events about in_1."""
    asked = params.pop("wait_for_input", {})
    step = {
        "type": "step", "id": block_id, "handler": "wait_for_event", "wait_for_input": asked,
        "params": {"events": events, "correlation_key": "in_1", **params},
    }  # fmt: skip
    return {"id": f"waits_{block_id}", "blocks": [step]}


def tell(api: Api, name: str, number: int = 1, *, status: int = 201, **members: Any) -> Any:
    """What telling an event is answered."""
    told = event(number, event_name=name, **MINE) | members
    return api.post("/events", told, status=status)


def outputs(api: Api, instance: Any) -> list[Any]:
    """What the steps of an instance put out, the oldest first."""
    return [each["output"] for each in api.get(f"/instances/{instance['id']}/outputs")]


def state(desk: Desk, instance: Any) -> str:
    """The state of an instance after everything due was done."""
    desk.house.work()
    return str(desk.read(instance)["state"])


def test_step_waits_until_its_event_is_told(desk: Desk) -> None:
    """The producer is told which wait has it; the output is as the contract writes it."""
    instance = desk.run(waits("invoice.paid"))
    assert instance["state"] == "waiting"
    told = tell(desk.api, "invoice.paid")
    assert told["satisfied"] is True
    assert state(desk, instance) == "completed"
    answer, output = outputs(desk.api, instance)
    assert answer == {"value": "yes", "_orch8_human_gate": True}
    one = {"event_name": "invoice.paid", "producer_event_id": "evt_1", "payload": {"amount": 1}}
    assert output == {
        "wait_id": told["matched_wait"], "events": {"invoice.paid": one}, "all": [one],
        "waiting_for": ["invoice.paid"], "correlation_key": "in_1", "satisfied": True,
        "matched": ["invoice.paid"],
    }  # fmt: skip
    found = desk.api.get(f"/events/{told['event_id']}")
    assert (found["status"], found["consumed_by"]) == ("consumed", told["matched_wait"])
    assert desk.read(instance)["context"]["data"] == {"paid": "yes"}


def test_event_that_was_told_before_counts(desk: Desk) -> None:
    """The oldest first; one is enough, the other stays."""
    first, second = tell(desk.api, "invoice.paid"), tell(desk.api, "invoice.paid", 2)
    assert "matched_wait" not in first
    instance = desk.run(waits("invoice.paid"))
    assert instance["state"] == "completed"
    assert outputs(desk.api, instance)[1]["all"][0]["producer_event_id"] == "evt_1"
    assert desk.api.get(f"/events/{first['event_id']}")["status"] == "consumed"
    assert desk.api.get(f"/events/{second['event_id']}")["status"] == "pending"


def test_event_told_again_says_which_wait_has_it(desk: Desk) -> None:
    """200, and nothing happens twice."""
    instance = desk.run(waits("invoice.paid"))
    first = tell(desk.api, "invoice.paid")
    again = tell(desk.api, "invoice.paid", status=200)
    assert again == {**first, "duplicate": True}
    assert state(desk, instance) == "completed"


@pytest.mark.parametrize(
    "other", [{"event_name": "else"}, {"correlation_key": "in_2"}, {"tenant_id": "other"}]
)
def test_event_about_something_else_wakes_nobody(desk: Desk, other: dict[str, str]) -> None:
    """Of another name, key or tenant."""
    instance = desk.run(waits("invoice.paid"))
    told = tell(desk.api, "invoice.paid", **other)
    assert told["satisfied"] is False
    assert "matched_wait" not in told
    assert state(desk, instance) == "waiting"


def test_all_is_one_event_of_each_name(desk: Desk) -> None:
    """A second one of a name is left for others; told in any order, also in a batch."""
    instance = desk.run(waits(["a", "b", "c"]))
    assert tell(desk.api, "c")["satisfied"] is False
    assert "matched_wait" not in tell(desk.api, "c", 2)
    both = [event(n, event_name=name, **MINE) for n, name in enumerate("ab")]
    outcomes = desk.api.post("/events/batch", {"events": both}, status=200)["outcomes"]
    assert [each["satisfied"] for each in outcomes] == [True, True]
    assert state(desk, instance) == "completed"
    output = outputs(desk.api, instance)[1]
    assert sorted(output["matched"]) == ["a", "b", "c"]
    assert output["events"]["c"]["producer_event_id"] == "evt_1"


def test_any_is_the_first_event_of_any_name(desk: Desk) -> None:
    """The others stay pending."""
    instance = desk.run(waits(["a", "b"], join="any"))
    assert tell(desk.api, "b")["satisfied"] is True
    assert "matched_wait" not in tell(desk.api, "a")
    assert state(desk, instance) == "completed"
    output = outputs(desk.api, instance)[1]
    assert (output["matched"], output["waiting_for"]) == (["b"], ["a", "b"])


def test_count_is_so_many_events(desk: Desk) -> None:
    """Also of one name; the latest of a name does not hide the first."""
    instance = desk.run(waits(["a", "b"], join="count", count=3))
    assert tell(desk.api, "a", 1)["satisfied"] is False
    assert tell(desk.api, "a", 2)["satisfied"] is False
    assert state(desk, instance) == "waiting"
    assert tell(desk.api, "a", 3)["satisfied"] is True
    assert state(desk, instance) == "completed"
    output = outputs(desk.api, instance)[1]
    assert [each["producer_event_id"] for each in output["all"]] == ["evt_1", "evt_2", "evt_3"]
    assert output["matched"] == ["a"]


def test_params_are_resolved_with_outputs(desk: Desk) -> None:
    """The invoice that an earlier step made is what is waited for."""
    made = {"type": "step", "id": "made", "handler": "transform", "params": {"id": "in_7"}}
    definition = waits("invoice.paid", correlation_key="{{outputs.made.id}}")
    definition["blocks"].insert(0, made)
    instance = desk.run(definition)
    tell(desk.api, "invoice.paid", correlation_key="in_7")
    assert state(desk, instance) == "completed"


@pytest.mark.parametrize(
    ("params", "member"),
    [
        ({"events": "{{data.none}}"}, "events"),
        ({"correlation_key": "{{data.none}}"}, "correlation_key"),
        ({"join": "some"}, "join"),
        ({"join": "count", "count": 0}, "count"),
    ],
)
def test_params_that_come_to_nothing_fail_the_step(
    desk: Desk, params: dict[str, Any], member: str
) -> None:
    """The error names the member."""
    instance = desk.run(waits(**{"events": "a", **params}))
    assert instance["state"] == "failed"
    assert member in instance["error"]["message"]


def test_each_event_is_consumed_by_the_oldest_wait(desk: Desk) -> None:
    """Of two that want it; the next event is the other's."""
    first, second = desk.run(waits("invoice.paid")), desk.run(waits("invoice.paid"))
    one, two = tell(desk.api, "invoice.paid"), tell(desk.api, "invoice.paid", 2)
    assert one["matched_wait"] != two["matched_wait"]
    assert (state(desk, first), state(desk, second)) == ("completed", "completed")
    assert outputs(desk.api, first)[1]["wait_id"] == one["matched_wait"]
    assert outputs(desk.api, second)[1]["wait_id"] == two["matched_wait"]


def test_timeout_of_the_gate_ends_the_wait(desk: Desk) -> None:
    """What it had is pending again, and what is told later wakes nobody."""
    asked = {"timeout": 60_000}
    instance = desk.run(waits(["a", "b"], wait_for_input=asked))
    told = tell(desk.api, "a")
    assert told["matched_wait"]
    desk.house.advance(timedelta(minutes=1))
    assert state(desk, instance) == "failed"
    assert desk.api.get(f"/events/{told['event_id']}")["status"] == "pending"
    assert "matched_wait" not in tell(desk.api, "b")
    desk.api.post(f"/instances/{instance['id']}/retry", status=200)
    assert state(desk, instance) == "completed"


def test_deadline_and_cancel_end_the_wait_too(desk: Desk) -> None:
    """No event is lost to a step that has ended."""
    definition = waits("a")
    definition["blocks"][0]["deadline"] = 60_000
    late, cancelled = desk.run(definition), desk.run(waits("a", "other"))
    desk.api.post(f"/instances/{cancelled['id']}/signals", {"signal_type": "cancel"})
    desk.house.advance(timedelta(minutes=1))
    assert state(desk, late) == "failed"
    assert "matched_wait" not in tell(desk.api, "a")


def test_person_can_go_on_without_the_events(desk: Desk) -> None:
    """The output says that not all came; the wait takes no more."""
    instance = desk.run(waits(["a", "b"]))
    tell(desk.api, "a")
    body = {"signal_type": {"custom": "human_input:paid"}, "payload": {"value": "yes"}}
    desk.api.post(f"/instances/{instance['id']}/signals", body)
    assert state(desk, instance) == "completed"
    output = outputs(desk.api, instance)[1]
    assert (output["satisfied"], output["matched"]) == (False, ["a"])
    assert "matched_wait" not in tell(desk.api, "b")


def test_choices_of_its_own_do_not_break_the_wait(desk: Desk) -> None:
    """Events answer yes all the same."""
    choices = [{"label": "Go", "value": "go"}]
    instance = desk.run(waits("a", wait_for_input={"choices": choices}))
    tell(desk.api, "a")
    assert state(desk, instance) == "completed"
    assert outputs(desk.api, instance)[0]["value"] == "yes"


def test_events_are_no_approvals(desk: Desk) -> None:
    """Nobody is asked to answer for them."""
    desk.run(waits("a"))
    assert desk.api.get("/approvals")["items"] == []


def test_wait_without_a_gate_waits_too(desk: Desk) -> None:
    """It does not go on without its events."""
    definition = waits("a")
    del definition["blocks"][0]["wait_for_input"]
    instance = desk.run(definition)
    assert instance["state"] == "waiting"
    tell(desk.api, "a")
    assert state(desk, instance) == "completed"


def test_paused_instance_has_its_event_and_goes_on_later(desk: Desk) -> None:
    """Nothing of it runs before it is resumed."""
    instance = desk.run(waits("a"))
    path = f"/instances/{instance['id']}/signals"
    desk.api.post(path, {"signal_type": "pause"})
    assert tell(desk.api, "a")["satisfied"] is True
    assert state(desk, instance) == "paused"
    desk.api.post(path, {"signal_type": "resume"})
    assert state(desk, instance) == "completed"


def test_event_rings_for_a_worker(desk: Desk) -> None:
    """In the lane of the instance that it wakes, and only then."""
    desk.run(waits(["a", "b"]))
    del desk.api.announced[:]
    tell(desk.api, "a")
    assert desk.api.announced == []
    tell(desk.api, "b")
    assert desk.api.announced == ["renewal"]


# -- at the same moment ----------------------------------------------------------------------------
def at_once(*works: Callable[[], Any]) -> list[Any]:
    """What each comes to, all begun together."""
    ready = Barrier(len(works))

    def begin(work: Callable[[], Any]) -> Any:
        ready.wait(10)
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(begin, works))


def posts(desk: Desk, number: int, name: str = "a") -> Callable[[], Any]:
    """Tells an event with a client of its own."""
    told = event(number, event_name=name, **MINE)
    return lambda: desk.api.app.test_client().post("/events", json=told).get_json()


def test_two_producers_at_one_wait_fill_it_once(desk: Desk) -> None:
    """One of their events is consumed; the other is pending, whoever came first."""
    for number in range(0, 10, 2):
        instance = desk.run(waits("a"))
        said = at_once(posts(desk, number), posts(desk, number + 1))
        assert sorted(each["satisfied"] for each in said) == [False, True]
        assert state(desk, instance) == "completed"
        desk.run(waits("a"))  # which has the one that was left


def test_two_producers_complete_a_wait_for_both(desk: Desk) -> None:
    """Neither sees the other's event before its commit, and still somebody wakes the step."""
    for number in range(5):
        instance = desk.run(waits(["a", "b"]))
        said = at_once(posts(desk, number), posts(desk, number, "b"))
        assert len({each["matched_wait"] for each in said}) == 1
        assert state(desk, instance) == "completed"


def test_two_waits_at_one_event_share_nothing(desk: Desk, house: House) -> None:
    """Begun by two workers at the same moment, or by one in one transaction."""
    others = [house.another_pump(house.another_office()) for _ in range(2)]
    definition = waits("a")
    for number in range(5):
        tell(desk.api, "a", number)
        found = [desk.api.started(definition) for _ in range(2)]
        at_once(*(lambda pump=pump: pump.work("renewal") for pump in others))
        states = sorted(state(desk, each) for each in found)
        assert states == ["completed", "waiting"]
        tell(desk.api, "a", 100 + number)
        assert {state(desk, each) for each in found} == {"completed"}
    used = house.sql("SELECT count(*) AS n, count(DISTINCT consumed_by) AS waits FROM events")
    assert (used[0].n, used[0].waits) == (10, 10)


def test_two_waits_in_one_transaction_share_nothing(desk: Desk) -> None:
    """One worker claims both at once; the one that comes second looks again."""
    for number in range(3):
        tell(desk.api, "a", number)
        found = [desk.api.started(waits("a")) for _ in range(2)]
        assert sorted(state(desk, each) for each in found) == ["completed", "waiting"]
        told = tell(desk.api, "a", 100 + number)
        assert told["satisfied"] is True
        assert {state(desk, each) for each in found} == {"completed"}


def test_event_told_while_its_wait_begins_is_never_missed(desk: Desk, house: House) -> None:
    """Either the wait finds the event or the producer finds the wait."""
    other = house.another_pump(house.another_office())
    for number in range(10):
        instance = desk.api.started(waits("a"))
        at_once(lambda: other.work("renewal"), posts(desk, number))
        assert state(desk, instance) == "completed"
