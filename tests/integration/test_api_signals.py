"""Sending signals over REST."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.support.api import CHARGE, WAITING, Api


def test_signal_pauses_resumes_and_cancels(api: Api) -> None:
    """What a control does is done when the answer comes, in either spelling."""
    path = f"/instances/{api.started(WAITING)['id']}"
    for body, state in (
        ({"signal": "pause"}, "paused"),
        ({"signal_type": "resume"}, "waiting"),
        ({"signal_type": "pause", "payload": None}, "paused"),
        ({"signal": "resume"}, "waiting"),
        ({"signal": "cancel", "reason": "paid elsewhere"}, "cancelled"),
    ):
        api.post(f"{path}/signals", body, headers={"X-Actor": "ann"})
        shown = api.get(path)["state"]
        assert shown == state or (
            state == "waiting" and shown in {"waiting", "scheduled", "running"}
        )
    entry = next(e for e in api.get(f"{path}/audit") if e["action"] == "instance.cancelling")
    assert (entry["actor"], entry["reason"]) == ("ann", "paid elsewhere")


def test_signal_of_ones_own_waits_in_the_inbox(api: Api) -> None:
    """A custom signal is kept with its payload, and the lane is told that a wait may look again."""
    path = f"/instances/{api.started(WAITING)['id']}"
    api.announced.clear()
    for body in ({"signal": "paid", "payload": {"n": 1}}, {"signal_type": {"custom": "seen"}}):
        api.post(f"{path}/signals", body)
    inbox = api.get(f"{path}/signals")
    assert [(each["name"], each["payload"]) for each in inbox] == [
        ("paid", {"n": 1}),
        ("seen", None),
    ]
    assert api.announced == ["renewal", "renewal"]


def test_signal_is_taken_once_per_key(api: Api) -> None:
    """The same key again gives the same signal, in the header or in the body."""
    path = f"/instances/{api.started(WAITING)['id']}/signals"
    first = api.post(path, {"signal": "paid"}, headers={"Idempotency-Key": "evt_1"})
    again = api.post(path, {"signal": "paid", "dedupe_key": "evt_1"})
    assert first == again
    assert len(api.get(path)) == 1


def test_signal_updates_the_context(api: Api) -> None:
    """The members of payload.data are merged into the context."""
    path = f"/instances/{api.started(WAITING, context={'data': {'a': 1, 'b': 1}})['id']}"
    api.post(f"{path}/signals", {"signal_type": "update_context", "payload": {"data": {"b": 2}}})
    assert api.get(path)["context"]["data"] == {"a": 1, "b": 2}
    api.post(f"{path}/signals", {"signal": "update_context", "payload": [1]})
    assert api.get(path)["context"]["data"] == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"signal_type": "stop"},
        {"signal_type": "custom:paid"},
        {"signal_type": {"custom": ""}},
        {"signal_type": {"custom": 5}},
        {"signal_type": {"other": "x"}},
        {"signal_type": 3},
        {"signal_type": "cancel", "signal": "cancel"},
        {"signal": 3},
        [],
        "cancel",
    ],
)
def test_signal_of_a_wrong_shape_is_refused(api: Api, body: Any) -> None:
    """422, with a hint at what can be sent."""
    path = f"/instances/{api.started(WAITING)['id']}/signals"
    answer = api.refused(422, "POST", path, body)
    assert answer["errors"]


def test_signal_to_an_instance_that_ended_is_refused(api: Api) -> None:
    """400 in the contract's words; an instance that never was is 404."""
    path = f"/instances/{api.started(CHARGE)['id']}/signals"
    api.post(path, {"signal": "cancel"})
    answer = api.refused(400, "POST", path, {"signal": "pause"})
    assert "target is in a terminal state" in answer["error"]
    api.refused(404, "POST", f"/instances/{uuid4()}/signals", {"signal": "pause"})
    api.refused(400, "POST", "/instances/x/signals", {"signal": "pause"})
