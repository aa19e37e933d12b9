"""The Simulator: what a dunning does over weeks of virtual time, and when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import orch8
from orch8.errors import (
    AlreadyExists,
    DefinitionRejected,
    IdempotencyMismatch,
    InvalidArgument,
    NotFound,
    Unprocessable,
)
from orch8.testing import (
    Answer,
    Call,
    Declined,
    Refused,
    SimulationError,
    Simulator,
    StepRequest,
    TryAgain,
    Verdict,
    crash,
    http,
    takes,
    time_out,
)
from tests.support.documents import CHARGE, seed

EXAMPLES = Path(orch8.__file__).parent / "examples"
DUNNING = EXAMPLES / "payment_dunning.json"
START = datetime(2026, 1, 1, 9, tzinfo=UTC)
BILL = {"data": {"amount_cents": 9900, "currency": "usd"}}
REST: dict[str, Any] = {
    "retry_with_backup_method": {"status": "failed"},
    "send_payment_reminder": {"sent": True},
    "downgrade_account": {"plan": "free"},
}
MONEY = {**CHARGE, "effect": "money"}


def days_of(calls: list[Call]) -> list[tuple[str, int]]:
    """Each call's handler and the whole days since the start."""
    return [(call.handler, (call.at - START).days) for call in calls]


def seconds_of(calls: list[Call]) -> list[float]:
    """When each call was made, in seconds since the start."""
    return [(call.at - START).total_seconds() for call in calls]


# -- the seed's dunning --------------------------------------------------------------------------
def test_dunning_ends_at_once_when_the_charge_succeeds() -> None:
    """The first route: charged, activated, and no virtual time has passed."""
    sim = Simulator(
        DUNNING,
        {"charge_payment_method": {"status": "succeeded"}, "activate_subscription": [{"ok": True}]},
    )
    dunning = sim.start(BILL)
    sim.run()
    assert dunning.state == "completed"
    assert days_of(dunning.calls) == [("charge_payment_method", 0), ("activate_subscription", 0)]
    assert dunning.outputs["activate_subscription"] == {"ok": True}
    assert sim.now == START


def test_dunning_takes_forty_days_when_the_charge_fails() -> None:
    """The default route: 3, 7 and 30 days of waiting, each call on its day and to the second."""
    sim = Simulator(DUNNING, {**REST, "charge_payment_method": [{"status": "failed"}]})
    dunning = sim.start(BILL)
    sim.run()
    assert days_of(dunning.calls) == [
        ("charge_payment_method", 0), ("retry_with_backup_method", 3),
        ("send_payment_reminder", 10), ("downgrade_account", 40),
    ]  # fmt: skip
    assert sim.now == START + timedelta(days=40)
    assert dunning.state == "completed"
    assert dunning.next_due is None


def test_dunning_can_be_watched_day_by_day() -> None:
    """run_for and run_until stop where they say, and next_due says what comes then."""
    sim = Simulator(DUNNING, {**REST, "charge_payment_method": [{"status": "failed"}]})
    dunning = sim.start(BILL)
    sim.run_for({"days": 2})
    assert (dunning.state, len(dunning.calls)) == ("scheduled", 1)
    assert dunning.next_due == sim.next_due == START + timedelta(days=3)
    sim.run_until(START + timedelta(days=10))
    assert dunning.calls[-1].handler == "send_payment_reminder"
    sim.run_until(lambda: dunning.state == "completed")
    assert sim.now == START + timedelta(days=40)


def test_many_dunnings_share_one_clock() -> None:
    """Instances started on different days each keep their own time."""
    sim = Simulator(DUNNING, {**REST, "charge_payment_method": {"status": "failed"}})
    for _ in range(40):
        sim.start(BILL)
        sim.run_for("1d")
    sim.run()
    downgrades = [call.at for call in sim.calls if call.handler == "downgrade_account"]
    assert downgrades == [START + timedelta(days=40 + day) for day in range(40)]
    assert {each.state for each in sim.instances} == {"completed"}


def test_calls_say_what_was_asked() -> None:
    """A call shows its handler, node key, rendered params, idempotency key and moment."""
    step = {**CHARGE, "id": "pay", "params": {"cents": "{{data.amount_cents}}"}}
    sim = Simulator(seed(step), {"charge": {}})
    (dunning,) = [sim.start(BILL)]
    sim.run()
    (call,) = dunning.calls
    assert (call.handler, call.step, call.params) == ("charge", "pay", {"cents": 9900})
    assert (call.generation, call.dispatch, call.at) == (1, 1, START)
    assert call.key == dunning.steps[0].idempotency_key


def test_same_seed_gives_the_same_story() -> None:
    """Ids and keys are those of the seed; another seed has others."""

    def keys(number: int) -> list[str]:
        sim = Simulator(seed(MONEY), {"charge": {}}, seed=number)
        sim.start()
        sim.run()
        return [call.key for call in sim.calls]

    assert keys(1) == keys(1)
    assert keys(1) != keys(2)


# -- retries and doubt ---------------------------------------------------------------------------
def test_retry_waits_exactly_its_backoff() -> None:
    """5 s, then 10 s, then the policy gives up; the attempt keeps its key."""
    sim = Simulator(
        seed({**MONEY, "retry": {"max_attempts": 3, "backoff": "5s"}}), {"charge": TryAgain}
    )
    dunning = sim.start()
    sim.run()
    assert seconds_of(dunning.calls) == [0, 5, 15]
    assert len({call.key for call in dunning.calls}) == 1
    assert dunning.state == "failed"
    assert dunning.error is not None
    assert dunning.error["message"] == "as the script says"


def test_retry_after_of_the_service_is_respected() -> None:
    """A 429 that asks for 2 minutes is not called again before."""
    sim = Simulator(
        seed({**MONEY, "retry": {"max_attempts": 2, "backoff": "5s"}}),
        {"charge": [http(429, {"error": "slow down"}, retry_after=120), {"paid": True}]},
    )
    dunning = sim.start()
    sim.run()
    assert seconds_of(dunning.calls) == [0, 120]
    assert dunning.outputs["charge"] == {"paid": True}


def test_refusal_is_not_tried_again() -> None:
    """A handler that surely did nothing and never will fails the step at once."""
    sim = Simulator(seed(MONEY), {"charge": Refused("no such card", code="no_card")})
    dunning = sim.start()
    sim.run()
    assert len(dunning.calls) == 1
    assert dunning.error == {"message": "no such card", "code": "no_card"}


def test_decline_completes_the_step_as_declined() -> None:
    """A no of the provider is an answer: the sequence goes on with it."""
    sim = Simulator(seed({**MONEY, "id": "pay"}), {"charge": Declined({"code": "do_not_honor"})})
    dunning = sim.start()
    sim.run()
    assert dunning.state == "completed"
    assert dunning.outputs["pay"] == {"code": "do_not_honor", "outcome": "declined"}


def test_unanswered_charge_is_sent_again_with_its_key() -> None:
    """No answer within 30 s leaves a doubt: the same key is sent again, never a new one."""
    sim = Simulator(seed(MONEY), {"charge": [time_out(), http(503), {"paid": True}]})
    dunning = sim.start()
    sim.run()
    assert seconds_of(dunning.calls) == [0, 31, 33]
    assert len({call.key for call in dunning.calls}) == 1
    assert [call.dispatch for call in dunning.calls] == [1, 2, 3]
    assert dunning.state == "completed"


def test_lost_claim_is_sent_again_with_its_key() -> None:
    """A worker that dies between charge and commit is replaced when its lease is over."""
    charged: list[str] = []

    def charge(request: StepRequest) -> Any:
        charged.append(request.idempotency_key)
        return crash() if len(charged) == 1 else {"paid": True}

    sim = Simulator(seed(MONEY), {"charge": charge})
    dunning = sim.start()
    sim.run()
    assert len(charged) == 2
    assert charged[0] == charged[1]
    assert seconds_of(dunning.calls) == [0, 15]
    assert "step.claim_lost" in [entry.action for entry in dunning.timeline]


def test_doubt_that_never_ends_needs_a_person() -> None:
    """A charge that is never answered is parked before its key expires, and the word of a person
    ends it.
    """
    sim = Simulator(seed(MONEY), {"charge": time_out()})
    dunning = sim.start()
    sim.run()
    assert dunning.state == "waiting"
    assert dunning.attention is not None
    assert dunning.attention["reason"] == "outcome_unknown"
    assert timedelta(hours=20) < sim.now - START < timedelta(hours=24)
    assert len({call.key for call in dunning.calls}) == 1
    sim.answer(dunning, "charge", {"paid": True})
    sim.run()
    assert (dunning.state, dunning.attention) == ("completed", None)


def test_worker_that_always_dies_is_not_fed_for_ever() -> None:
    """A step whose worker dies five times is parked as poison."""
    sim = Simulator(seed(MONEY), {"charge": crash()})
    dunning = sim.start()
    sim.run()
    assert len(dunning.calls) == 5
    assert dunning.attention is not None
    assert dunning.attention["reason"] == "poison"


def test_pending_charge_ends_with_the_word_from_outside() -> None:
    """A handler that answers pending waits until the outcome is told."""
    sim = Simulator(seed({**MONEY, "id": "pay"}), {"charge": [Answer(Verdict.PENDING)]})
    dunning = sim.start()
    sim.run_for({"days": 2})
    assert (dunning.state, dunning.next_due) == ("waiting", None)
    sim.answer(dunning, "pay", Answer(Verdict.DECLINED, {"code": "stolen"}))
    sim.run()
    assert dunning.state == "completed"
    with pytest.raises(InvalidArgument, match="pay is completed"):
        sim.answer(dunning, "pay", {})


# -- people --------------------------------------------------------------------------------------
WORD = {"type": "wait_signal", "id": "word", "signal": "paid", "timeout": "3d"}
WAITS = seed({**WORD, "on_timeout": "continue"}, CHARGE)


def test_signal_ends_its_wait() -> None:
    """The wait puts out the payload, when it comes."""
    sim = Simulator(WAITS, {"charge": [{}]})
    dunning = sim.start()
    sim.run_for("1d")
    assert (dunning.state, dunning.calls) == ("waiting", [])
    sim.signal(dunning, "paid", {"by": "wire"})
    sim.run()
    assert dunning.outputs["word"]["payload"] == {"by": "wire"}
    assert dunning.calls[0].at == START + timedelta(days=1)


def test_signal_before_the_wait_is_kept_for_it() -> None:
    """A signal that comes early waits in the inbox; the same one again does not count twice."""
    first = {"type": "wait", "id": "first", "delay": {"days": 1}}
    sim = Simulator(seed(first, *WAITS["blocks"]), {"charge": [{}]})
    dunning = sim.start()
    sim.signal(dunning, "paid", {"n": 1}, dedupe_key="a")
    sim.signal(dunning, "paid", {"n": 2}, dedupe_key="a")
    sim.run()
    assert dunning.outputs["word"]["payload"] == {"n": 1}
    assert dunning.calls[0].at == START + timedelta(days=1)


def test_signal_that_does_not_come_times_out() -> None:
    """After its time-out the wait goes on as it says."""
    sim = Simulator(WAITS, {"charge": [{}]})
    dunning = sim.start()
    sim.run()
    assert dunning.outputs["word"] == {"signal": None, "timed_out": True}
    assert dunning.calls[0].at == START + timedelta(days=3)


def test_pause_holds_timers() -> None:
    """Nothing happens while paused; what became due meanwhile is due at the resume."""
    sim = Simulator(DUNNING, {**REST, "charge_payment_method": [{"status": "failed"}]})
    dunning = sim.start(BILL)
    sim.run_for({"days": 1})
    sim.pause(dunning)
    sim.run_for({"days": 10})
    assert (dunning.state, dunning.next_due, len(dunning.calls)) == ("paused", None, 1)
    sim.resume(dunning)
    sim.run()
    assert days_of(dunning.calls)[1:] == [
        ("retry_with_backup_method", 11), ("send_payment_reminder", 18), ("downgrade_account", 48),
    ]  # fmt: skip


def test_pause_before_the_timer_does_not_move_it() -> None:
    """A pause that is over before the timer fires changes nothing."""
    sim = Simulator(DUNNING, {**REST, "charge_payment_method": [{"status": "failed"}]})
    dunning = sim.start(BILL)
    sim.run_for("1d")
    sim.pause(dunning)
    sim.run_for("1d")
    sim.resume(dunning)
    sim.run()
    assert days_of(dunning.calls)[-1] == ("downgrade_account", 40)


def test_cancel_awaits_the_call_in_flight() -> None:
    """A charge that was sent is answered before the instance is cancelled; its output is kept."""
    sim = Simulator(
        seed(MONEY, {**CHARGE, "id": "second"}), {"charge": [takes("20s", {"paid": 1})]}
    )
    dunning = sim.start()
    sim.run_for("5s")
    assert dunning.state == "running"
    sim.cancel(dunning, reason="customer left")
    assert dunning.state == "running"
    sim.run()
    assert dunning.state == "cancelled"
    assert sim.now == START + timedelta(seconds=20)
    assert dunning.outputs["charge"] == {"paid": 1}
    assert len(dunning.calls) == 1


def test_cancel_of_a_wait_is_immediate() -> None:
    """What calls nobody ends at once."""
    sim = Simulator(WAITS)
    dunning = sim.start()
    sim.run_for("1h")
    sim.cancel(dunning)
    assert (dunning.state, dunning.next_due) == ("cancelled", None)
    with pytest.raises(InvalidArgument, match="terminal state"):
        sim.signal(dunning, "paid")


def test_answer_after_a_cancel_is_only_evidence() -> None:
    """The late answer of a call without effect changes nothing."""
    sim = Simulator(seed({**CHARGE, "effect": "notify"}), {"charge": [takes("20s", {"sent": 1})]})
    dunning = sim.start()
    sim.run_for("5s")
    sim.cancel(dunning)
    assert dunning.state == "cancelled"
    sim.run()
    assert (dunning.state, dict(dunning.outputs)) == ("cancelled", {})


def test_retry_goes_on_where_it_failed() -> None:
    """What completed is not called again, in however many rounds."""
    sim = Simulator(
        seed({**MONEY, "id": "pay"}, {"type": "step", "id": "book", "handler": "book"}),
        {"charge": [{"paid": 1}], "book": [Refused, Refused, {"booked": "{{data.x}}"}]},
    )
    dunning = sim.start()
    for _ in range(2):
        sim.run()
        assert dunning.state == "failed"
        sim.retry(dunning)
    sim.run()
    assert dunning.state == "completed"
    assert [call.handler for call in dunning.calls] == ["charge", "book", "book", "book"]
    assert [call.step for call in dunning.calls][1:] == ["book", "book~2", "book~3"]
    assert dunning.outputs["pay"] == {"paid": 1}
    assert dunning.outputs["book"] == {"booked": "{{data.x}}"}
    # Refused before it was executed: corrected, it is another attempt, under another key.
    assert len({call.key for call in dunning.calls[1:]}) == 3


def test_retry_keeps_the_key_of_what_failed_safely() -> None:
    """The same attempt goes on: it surely had no effect, and its request is the same."""
    once = {**CHARGE, "retry": {"max_attempts": 1}}
    sim = Simulator(seed(once), {"charge": [TryAgain, TryAgain, {"paid": 1}]})
    dunning = sim.start()
    for _ in range(2):
        sim.run()
        sim.retry(dunning)
    sim.run()
    assert dunning.state == "completed"
    assert len({call.key for call in dunning.calls}) == 1


def test_retry_needs_a_failed_instance() -> None:
    """An instance that did not fail cannot be retried."""
    sim = Simulator(seed(CHARGE), {"charge": {}})
    with pytest.raises(InvalidArgument, match="only retry failed"):
        sim.retry(sim.start())


def test_update_context_is_seen_by_later_steps() -> None:
    """Members are merged into the data."""
    step = {**CHARGE, "params": {"a": "{{data.a}}", "b": "{{data.b}}"}, "delay": "1h"}
    sim = Simulator(seed(step), {"charge": {}})
    dunning = sim.start({"data": {"a": 1, "b": 2}})
    sim.update_context(dunning, {"b": 3})
    sim.run()
    assert dunning.calls[0].params == {"a": 1, "b": 3}
    assert dunning.context["data"] == {"a": 1, "b": 3}


# -- starting ------------------------------------------------------------------------------------
def test_start_is_once_per_key() -> None:
    """The same key gives the same instance; with another context it is an error."""
    sim = Simulator(seed(CHARGE), {"charge": [{}]})
    first = sim.start(BILL, idempotency_key="july")
    assert sim.start(BILL, idempotency_key="july") == first
    with pytest.raises(IdempotencyMismatch):
        sim.start({}, idempotency_key="july")
    sim.run()
    assert len(sim.calls) == 1


def test_start_checks_the_input_schema() -> None:
    """Data that the sequence refuses starts nothing."""
    sim = Simulator(seed(CHARGE, input_schema={"required": ["amount"]}))
    with pytest.raises(Unprocessable, match="amount"):
        sim.start({"data": {}})
    assert sim.instances == []


def test_start_can_be_put_off() -> None:
    """next_fire_at is the earliest moment of the first step."""
    sim = Simulator(seed(CHARGE), {"charge": {}})
    later = START + timedelta(days=5)
    sim.start(next_fire_at=later)
    sim.run()
    assert sim.calls[0].at == later


def test_send_window_is_local() -> None:
    """Windows and days are those of the instance's zone."""
    step = {**CHARGE, "send_window": {"start_hour": 9, "end_hour": 17}}
    sim = Simulator(seed(step), {"charge": {}})
    sim.start(timezone="America/New_York")
    sim.run()
    assert sim.calls[0].at == datetime(2026, 1, 1, 14, tzinfo=UTC)


def test_publish_again_makes_a_version() -> None:
    """New instances take the newest version, old ones go on with theirs."""
    sim = Simulator(seed({"type": "wait", "delay": "1d"}, CHARGE), {"charge": {}, "bill": {}})
    sim.start()
    assert sim.publish(seed({"type": "step", "handler": "bill"})) == "t"
    sim.publish(seed({"type": "step", "handler": "bill"}))
    sim.start()
    sim.run()
    assert [call.handler for call in sim.calls] == ["bill", "charge"]
    with pytest.raises(AlreadyExists, match="version 2"):
        sim.publish(seed(CHARGE, version=2))


def test_definition_is_checked_as_when_publishing() -> None:
    """A definition that the API refuses cannot be simulated either."""
    with pytest.raises((DefinitionRejected, Unprocessable)):
        Simulator(seed({"type": "stpe"}))


def test_unknown_sequence_names_the_known() -> None:
    """A name that was not published is told with those that were."""
    sim = Simulator(seed(CHARGE))
    with pytest.raises(NotFound, match="'other'; published: t"):
        sim.start(sequence="other")


# -- time ----------------------------------------------------------------------------------------
def test_clock_needs_a_zone_and_never_goes_back() -> None:
    """Naive moments and moments of the past are refused."""
    with pytest.raises(InvalidArgument, match="no time zone"):
        Simulator(seed(CHARGE), now=datetime(2026, 1, 1))  # noqa: DTZ001
    sim = Simulator(seed(CHARGE))
    with pytest.raises(InvalidArgument, match="cannot go back"):
        sim.run_until(START - timedelta(seconds=1))
    with pytest.raises(InvalidArgument, match="no duration"):
        sim.run_for("soon")


def test_condition_that_never_comes_true_shows_the_instances() -> None:
    """When nothing more happens, the error says how things stand."""
    sim = Simulator(seed({"type": "wait_signal", "signal": "go"}))
    sim.start()
    with pytest.raises(SimulationError, match=r"(?s)never became true.*waiting.*instance\.created"):
        sim.run_until(lambda: False)


def test_endless_loop_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sequence that never ends does not hang the test."""
    monkeypatch.setattr("orch8.testing.simulator.MAX_MOVES", 50)
    poll = {"type": "loop", "condition": "true", "poll_interval": 60, "body": [CHARGE]}
    sim = Simulator(seed(poll), {"charge": {}})
    sim.start()
    with pytest.raises(SimulationError, match="still running after 50 moves"):
        sim.run()


def test_timeline_reads_like_a_story() -> None:
    """Each entry is a line; an instance shows its lines."""
    sim = Simulator(seed(CHARGE), {"charge": {}})
    dunning = sim.start()
    sim.run()
    assert [entry.action for entry in dunning.timeline] == [
        "instance.created", "step.completed", "instance.completed",
    ]  # fmt: skip
    assert str(dunning.timeline[1]) == "2026-01-01 09:00:00  step.completed  charge  succeeded"
    assert "completed" in repr(dunning)
