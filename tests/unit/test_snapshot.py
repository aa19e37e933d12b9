"""Snapshots: small, plain JSON, and complete."""

from __future__ import annotations

import json

import pytest

from orch8.engine.keys import NodeKey
from orch8.engine.outcome import CANCELLED, COMPLETED, SKIPPED, Outcome, Status, failed
from orch8.engine.snapshot import EMPTY, Frame, Snapshot, Stop

ROOT, PAY = NodeKey("@root"), NodeKey("pay", (4,), 2)


@pytest.mark.parametrize(
    "frame",
    [
        Frame(None),
        Frame(ROOT),
        Frame(ROOT, {"c": 0}),
        Frame(PAY, {"e": None}, shielded=True),
        Frame(ROOT, stop=Stop.CANCEL),
        Frame(ROOT, stop=Stop.FINISH, closing=COMPLETED),
        Frame(ROOT, closing=failed("declined", code="card_declined")),
    ],
)
def test_frame_survives_json(frame: Frame) -> None:
    """Everything that a frame says comes back."""
    assert Frame.from_json(json.loads(json.dumps(frame.to_json()))) == frame


def test_frame_says_only_what_is_not_usual() -> None:
    """A waiting leaf costs its parent's name and no more."""
    assert Frame(ROOT).to_json() == {"p": "@root"}
    assert Frame(None).to_json() == {}


@pytest.mark.parametrize(
    "snapshot",
    [
        EMPTY,
        Snapshot({ROOT: Frame(None, {"c": 0}), PAY: Frame(ROOT)}),
        Snapshot({ROOT: Frame(None)}, {PAY: Frame(ROOT)}),
        Snapshot({}, {ROOT: Frame(None)}, failed("boom")),
        Snapshot({}, {}, COMPLETED, "paid"),
    ],
)
def test_snapshot_survives_json(snapshot: Snapshot) -> None:
    """Live and dormant frames, the outcome and the name of the end come back."""
    assert Snapshot.from_json(json.loads(json.dumps(snapshot.to_json()))) == snapshot


def test_empty_snapshot_is_an_empty_tree() -> None:
    """An instance that was not started has no frames and no outcome."""
    assert EMPTY.to_json() == {"f": {}}


@pytest.mark.parametrize(
    ("stop", "cancelling"), [(Stop.NO, False), (Stop.CANCEL, True), (Stop.FINISH, True)]
)
def test_frame_is_cancelling_whatever_the_reason_to_stop(stop: Stop, *, cancelling: bool) -> None:
    """A finish elsewhere stops a node just as a cancel does."""
    assert Frame(ROOT, stop=stop).cancelling is cancelling


@pytest.mark.parametrize(
    ("outcome", "ok"),
    [(COMPLETED, True), (SKIPPED, True), (CANCELLED, False), (failed("boom"), False)],
)
def test_outcome_is_ok_when_it_completed_or_was_skipped(outcome: Outcome, *, ok: bool) -> None:
    """What comes next may start behind these two only."""
    assert outcome.ok is ok
    assert Outcome.from_json(json.loads(json.dumps(outcome.to_json()))) == outcome


def test_failed_outcome_carries_what_went_wrong() -> None:
    """The error is JSON with a message and whatever else is known."""
    outcome = failed("no funds", code="insufficient_funds")
    assert outcome.status is Status.FAILED
    assert outcome.error == {"message": "no funds", "code": "insufficient_funds"}
