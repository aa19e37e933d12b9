"""A provider's webhook says how an attempt ended."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from api import create_app
from orch8.engine.outcome import Answer, Verdict
from orch8.handlers.request import StepRequest
from tests.support.api import SETTINGS, Api
from tests.support.house import House

PATH = "/attempts/evidence"
CHARGE = {
    "type": "step", "id": "charge", "handler": "charge", "effect": "money",
    "on_unknown": {"policy": "park"},
}  # fmt: skip


def silent(request: StepRequest) -> Any:
    """A call has no answer that says anything."""
    return Answer(Verdict.UNKNOWN, error={"message": "no answer"})


class Room:
    """A house, its API, and a charge of which nobody knows what became."""

    def __init__(self, house: House) -> None:
        announced: list[str] = []
        app = create_app(SETTINGS, house.office, announced.append)
        self.house = house
        self.api = Api(app, app.test_client(), house.office, house.database, announced)
        house.handler("charge", silent)
        self.instance_id = house.run(CHARGE, {"type": "step", "id": "after", "handler": "noop"})

    @property
    def key(self) -> str:
        """The key that the call was sent with."""
        found: str = self.house.step(self.instance_id).idempotency_key or ""
        return found

    def tell(self, outcome: str = "succeeded", status: int = 200, **more: Any) -> Any:
        """What a word comes to."""
        return self.api.post(PATH, {"outcome": outcome, **more}, status=status)


@pytest.fixture
def room(house: House) -> Room:
    """A parked charge."""
    found = Room(house)
    assert house.step(found.instance_id).state == "parked"
    return found


def test_word_ends_an_attempt_in_doubt(room: Room) -> None:
    """By its key, with its output; the instance goes on, and the audit log says who told."""
    heard = room.tell(idempotency_key=room.key, provider_ref="ch_1", output={"charge_id": "ch_1"})
    told = {"state": "resolved", "instance_id": str(room.instance_id), "node_key": "charge"}
    assert heard == told
    step = room.house.step(room.instance_id)
    assert (step.state, step.outcome, step.provider_ref) == ("completed", "succeeded", "ch_1")
    assert step.output == {"charge_id": "ch_1"}
    assert room.api.announced == ["renewal"]
    room.house.work()
    assert room.house.state(room.instance_id) == "completed"
    assert "step.resolved" in room.house.actions(room.instance_id, "charge")


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        ("declined", "completed"),
        ("requires_action", "completed"),
        ("failed", "failed"),
    ],
)
def test_word_can_say_how_it_did_not_succeed(room: Room, outcome: str, state: str) -> None:
    """A step ends as the word says, as if the provider had answered so."""
    at = {"instance_id": str(room.instance_id), "step": "charge"}
    assert room.tell(outcome, **at)["state"] == "resolved"
    step = room.house.step(room.instance_id)
    assert (step.state, step.outcome) == (state, outcome)


def test_same_event_is_heard_once(room: Room) -> None:
    """A webhook that is delivered again changes nothing."""
    word = {"idempotency_key": room.key, "event_id": "evt_1"}
    assert room.tell(**word)["state"] == "resolved"
    before = room.api.contents()
    assert room.tell(**word)["state"] == "seen"
    assert room.api.contents() == before


def test_later_word_agrees_or_opens_an_incident(room: Room) -> None:
    """The first word wins; what contradicts it is told to people and changes no step."""
    assert room.tell(idempotency_key=room.key, provider_ref="ch_1")["state"] == "resolved"
    assert room.tell(provider_ref="ch_1", event_id="evt_2")["state"] == "agrees"
    assert room.api.rows("SELECT count(*) FROM incidents") == [(0,)]
    heard = room.tell("declined", idempotency_key=room.key, event_id="evt_3")
    assert heard["state"] == "contrary"
    assert room.house.step(room.instance_id).outcome == "succeeded"
    assert room.api.rows("SELECT kind, node_key FROM incidents") == [
        ("contrary_evidence", "charge")
    ]


def test_word_about_nothing_is_told_so(room: Room) -> None:
    """404 says what to send instead, and nothing is kept."""
    for word in (
        {"idempotency_key": "nobody's"},
        {"provider_ref": "ch_9"},
        {"instance_id": str(uuid4()), "step": "charge"},
        {"instance_id": str(room.instance_id), "step": "refund"},
    ):
        refused = room.api.refused(404, "POST", PATH, {"outcome": "succeeded", **word})
        assert "idempotency_key" in refused["detail"]
    other = {"X-Tenant-Id": "acme"}
    body = {"outcome": "succeeded", "idempotency_key": room.key}
    assert room.api.refused(404, "POST", PATH, body, headers=other)
    at = {"outcome": "failed", "instance_id": str(room.instance_id), "step": "charge"}
    assert room.api.refused(404, "POST", PATH, at, headers=other)
    assert room.house.step(room.instance_id).state == "parked"


REFUSED: list[tuple[dict[str, Any], int, str]] = [
    ({}, 422, "/outcome"),
    ({"idempotency_key": "k"}, 422, "/outcome"),
    ({"outcome": "unknown", "idempotency_key": "k"}, 422, "/outcome"),
    ({"outcome": "succeeded"}, 422, "/idempotency_key"),
    ({"outcome": "succeeded", "instance_id": str(uuid4())}, 422, "/step"),
    ({"outcome": "succeeded", "step": "charge"}, 422, "/instance_id"),
    ({"outcome": "succeeded", "instance_id": "x", "step": "charge"}, 422, "/instance_id"),
    ({"outcome": "succeeded", "idempotency_key": " "}, 400, "/idempotency_key"),
    ({"outcome": "succeeded", "idempotency_key": "k", "source": "rumour"}, 422, "/source"),
    ({"outcome": "succeeded", "idempotencykey": "k"}, 400, "/idempotencykey"),
]


@pytest.mark.parametrize(("body", "status", "pointer"), REFUSED)
def test_word_that_cannot_be_understood_is_refused(
    api: Api, body: dict[str, Any], status: int, pointer: str
) -> None:
    """What is wrong is named with its place, and nothing is kept."""
    refused = api.refused(status, "POST", PATH, body)
    assert pointer in [each["pointer"] for each in refused["errors"]]
