"""Declines and network budgets in the Simulator: what a dunning knows, and when it stops."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orch8.config import Settings
from orch8.testing import SimInstance, Simulator, TryAgain
from tests.support.documents import seed

START = datetime(2026, 1, 1, 9, tzinfo=UTC)
DAY = timedelta(days=1)
MONEY = {
    "amount": 9900, "currency": "usd", "instrument": "{{data.card}}", "network": "visa",
}  # fmt: skip
CARD = {"data": {"card": "fp_1"}}


def charge(**members: Any) -> dict[str, Any]:
    """A step that charges a card."""
    step = {"type": "step", "id": "pay", "handler": "charge", "effect": "money", "money": MONEY}
    return {**step, "fence": "{{instance_id}}", **members}


def keep(name: str, *, root: str = "decline") -> dict[str, Any]:
    """A step that puts out what the instance knows of its declines."""
    return {
        "type": "step", "id": name, "handler": "transform", "params": {"seen": f"{{{{{root}}}}}"},
    }  # fmt: skip


def guard(on_exhausted: str, most: int = 2, **members: Any) -> dict[str, Any]:
    """A guard of so many attempts in ten days."""
    budget = {"instrument": "{{data.card}}", "visa": {"max": most, "window": "10d"}, **members}
    return {
        "type": "guard", "id": "budget", "network_budget": budget, "on_exhausted": on_exhausted,
    }  # fmt: skip


def loop(*body: Any, times: int = 5) -> dict[str, Any]:
    """These blocks, a day apart."""
    pause = {"type": "wait", "id": "pause", "delay": {"days": 1}}
    return {"type": "loop", "id": "again", "max_iterations": times, "body": [*body, pause]}


def ran(*blocks: Any, charges: Any, **more: Any) -> SimInstance:
    """What an instance of these blocks came to."""
    sim = Simulator(seed(*blocks), {"charge": charges}, **more)
    instance = sim.start(CARD)
    sim.run()
    return instance


def seen(instance: SimInstance, name: str) -> Any:
    """What a step that keeps put out."""
    return instance.outputs[name]["seen"]


# -- decline and last_decline --------------------------------------------------------------------
def test_decline_tells_of_the_latest_answer_about_money() -> None:
    """Class, code, advice, and when it may be tried again at the earliest."""
    answer = {"outcome": "declined", "decline_code": "do_not_honor", "network_advice_code": "26"}
    instance = ran(charge(provider="stripe_v1"), keep("k"), charges=answer)
    told = seen(instance, "k")
    assert (told["class"], told["soft"], told["hard"]) == ("soft", True, False)
    assert (told["code"], told["advice"]) == ("do_not_honor", "26")
    assert told["earliest_retry_at"] == "2026-01-03T09:00:00.000000Z"
    assert (told["step"], told["at"]) == ("pay", "2026-01-01T09:00:00.000000Z")


def test_success_ends_decline_and_not_last_decline() -> None:
    """After a success decline is empty, and last_decline still tells of the one before."""
    second = charge(id="pay_2")
    answers = [{"outcome": "declined", "decline_code": "lost_card"}, {"ok": True}]
    instance = ran(
        charge(), keep("a"), second, keep("b"), keep("c", root="last_decline"), charges=answers
    )
    assert seen(instance, "a")["hard"] is True
    assert (seen(instance, "b")["class"], seen(instance, "b")["hard"]) == (None, False)
    assert seen(instance, "c")["code"] == "lost_card"


def test_decline_is_empty_before_there_was_one() -> None:
    """Conditions can ask for it at any time, also by its members."""
    instance = ran(keep("a"), charge(when="{{not decline.hard}}"), keep("b"), charges={"ok": True})
    assert seen(instance, "a") == seen(instance, "b")
    assert seen(instance, "a")["at"] is None


def test_answer_of_another_effect_is_no_decline() -> None:
    """Only steps with effect money tell of declines."""
    plain = {"type": "step", "id": "pay", "handler": "charge", "effect": "external"}
    answer = {"outcome": "declined", "decline_code": "lost_card"}
    assert seen(ran(plain, keep("k"), charges=answer), "k")["class"] is None


def test_second_unknown_decline_in_a_row_needs_the_customer() -> None:
    """A code that nobody knows is tried once more; a known one in between begins anew."""
    codes = ["odd_1", "odd_2", "insufficient_funds", "odd_3"]
    answers = [{"outcome": "declined", "decline_code": code} for code in codes]
    body = loop(charge(), keep("k"), times=4)
    sim = Simulator(seed(body), {"charge": answers})
    instance = sim.start(CARD)
    sim.run()
    rows = [row.output["seen"]["class"] for row in instance.steps if row.block_id == "k"]
    assert rows == ["soft", "needs_customer", "soft", "soft"]


def test_failure_before_the_network_leaves_decline_as_it_is() -> None:
    """That nothing was sent says nothing about the card."""
    retry = {"max_attempts": 2, "backoff": "1s"}
    second = {"type": "try_catch", "id": "t", "try_block": [charge(id="b", retry=retry)],
              "catch_block": []}  # fmt: skip
    answers = [{"outcome": "declined", "decline_code": "lost_card"}, TryAgain("x"), TryAgain("x")]
    assert seen(ran(charge(), second, keep("k"), charges=answers), "k")["hard"] is True


def test_engines_entries_are_hidden_from_users() -> None:
    """state does not show them, and set_state cannot write them."""
    state = {"type": "step", "id": "k", "handler": "transform", "params": {"seen": "{{state}}"}}
    answer = {"outcome": "declined", "decline_code": "lost_card"}
    assert seen(ran(charge(), state, charges=answer), "k") == {}
    for handler in ("set_state", "get_state", "delete_state"):
        step = {"type": "step", "handler": handler, "params": {"key": "@decline", "value": 1}}
        assert "begin with @" in ran(step, charges=[]).error["message"]


def test_operators_policy_decides(tmp_path: Path) -> None:
    """The file that ORCH8_DECLINE_POLICY names is asked first."""
    entry = {"field": "provider", "of": "stripe", "class": "fraud", "codes": ["lost_card"],
             "source": "ours", "checked": "2026-11-22"}  # fmt: skip
    path = tmp_path / "policy.json"
    path.write_text(json.dumps({"entries": [entry]}))
    settings = Settings(decline_policy=str(path))
    answer = {"outcome": "declined", "decline_code": "lost_card"}
    instance = ran(charge(), keep("k"), charges=answer, settings=settings)
    assert seen(instance, "k")["fraud"] is True


# -- guards --------------------------------------------------------------------------------------
DECLINED = {"outcome": "declined", "decline_code": "insufficient_funds"}


def test_guard_breaks_its_loop_when_the_budget_is_used_up() -> None:
    """Two charges are made, the third is not; the instance goes on behind the loop, completed."""
    done = {"type": "step", "id": "done", "handler": "noop"}
    instance = ran(loop(guard("break"), charge()), done, charges=DECLINED)
    assert (instance.state, len(instance.calls)) == ("completed", 2)
    assert instance.outputs["done"] is not None
    last = [row for row in instance.steps if row.block_id == "budget"][-1]
    assert (last.state, last.error, last.output["allowed"]) == ("completed", None, False)
    assert last.output["exhausted_by"]["max"] == 2
    assert last.output["earliest_at"] == "2026-01-11T09:00:00.000000Z"


def test_guard_fails_its_step() -> None:
    """With "fail" the instance fails, with a code that says why."""
    instance = ran(loop(guard("fail"), charge()), charges=DECLINED)
    assert instance.state == "failed"
    assert instance.error["code"] == "budget_exhausted"


def test_guard_lets_go_on() -> None:
    """With "continue" the definition decides, by outputs.budget.allowed."""
    step = charge(when="{{outputs.budget.allowed}}")
    instance = ran(loop(guard("continue"), step), charges=DECLINED)
    assert (instance.state, len(instance.calls)) == ("completed", 2)


def test_guard_defers_until_the_budget_allows() -> None:
    """The third charge is made at the very moment at which the first leaves the window."""
    instance = ran(loop(guard("defer"), charge(), times=3), charges=DECLINED)
    at = [call.at - START for call in instance.calls]
    assert at == [timedelta(), DAY, 10 * DAY]


def test_guard_that_is_barred_for_good_does_not_wait() -> None:
    """After a decline that the network forbids to repeat, "defer" fails: there is no later."""
    answer = {"outcome": "declined", "network_decline_code": "43"}
    instance = ran(loop(guard("defer", 9), charge()), charges=answer)
    assert (instance.state, len(instance.calls)) == ("failed", 1)
    assert instance.error["details"]["exhausted_by"]["counts"] == "barred"


def test_success_does_not_use_up_the_budget() -> None:
    """An approval is no reattempt."""
    instance = ran(loop(guard("fail"), charge()), charges={"ok": True})
    assert (instance.state, len(instance.calls)) == ("completed", 5)


def test_attempt_that_was_surely_not_made_does_not_count() -> None:
    """What failed safely is counted from the dispatch on that reached the network."""
    answers = [TryAgain("busy"), DECLINED, DECLINED]
    step = charge(retry={"max_attempts": 2, "backoff": "1h", "jitter": 0})
    instance = ran(loop(guard("break"), step), charges=answers)
    assert len(instance.calls) == 3
    last = [row for row in instance.steps if row.block_id == "budget"][-1]
    assert last.output["earliest_at"] == "2026-01-11T10:00:00.000000Z"


def test_instances_of_one_instrument_share_its_budget() -> None:
    """The budget is the card's, not the workflow's."""
    sim = Simulator(seed(guard("fail"), charge()), {"charge": DECLINED})
    states = []
    for _ in range(3):
        instance = sim.start(CARD)
        sim.run_for("1h")
        states.append(instance.state)
    other = sim.start({"data": {"card": "fp_2"}})
    sim.run()
    assert [*states, other.state] == ["completed", "completed", "failed", "completed"]


def test_guard_without_an_instrument_says_so() -> None:
    """An instrument that renders to nothing guards nothing, so it fails."""
    sim = Simulator(seed(guard("continue")), {})
    instance = sim.start({"data": {}})
    sim.run()
    assert "network_budget.instrument" in instance.error["message"]


@pytest.mark.parametrize(("holds", "state"), [(True, "completed"), (False, "failed")])
def test_guard_with_a_condition_asks_it(*, holds: bool, state: str) -> None:
    """A plain condition guards as well."""
    sim = Simulator(seed({"type": "guard", "condition": "{{data.ok}}"}), {})
    instance = sim.start({"data": {"ok": holds}})
    sim.run()
    assert instance.state == state
