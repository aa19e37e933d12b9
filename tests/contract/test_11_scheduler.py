"""CONTRACT 11: what happens when, in flat sequences and in trees; budgets, bounds, breakpoints."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from orch8.config import Settings
from orch8.runtime.claim import claim
from tests.support.api import NOOP, Api
from tests.support.desk import Desk, seated
from tests.support.house import LANE, House

FUTURE = "2999-01-01T00:00:00Z"
SHAPES = pytest.mark.parametrize("tree", [False, True])


def noop(block: str, **more: Any) -> Any:
    """A step that does nothing."""
    return {"type": "step", "id": block, "handler": "noop", **more}


def sequence(*blocks: Any, tree: bool = False) -> Any:
    """A definition of these blocks, inside a branch if it is to be a tree."""
    inside = [{"type": "parallel", "id": "p", "branches": [list(blocks)]}]
    return {"id": f"s{len(blocks)}", "blocks": inside if tree else list(blocks)}


def ran(desk: Desk, instance: Any) -> list[str]:
    """The blocks that put something out, in order."""
    return [row["block_id"] for row in desk.api.get(f"/instances/{instance['id']}/outputs")]


def tell(desk: Desk, instance: Any, signal: Any) -> None:
    """The signal is sent, and all that follows is done."""
    desk.api.post(f"/instances/{instance['id']}/signals", {"signal_type": signal})
    desk.house.work()


# -- 11.1 tick -------------------------------------------------------------------------------------
def test_creating_an_instance_never_runs_it(desk: Desk) -> None:
    """It is scheduled, due now, until a worker comes."""
    started = desk.api.started(NOOP)
    assert (started["state"], desk.read(started)["state"]) == ("scheduled", "scheduled")
    desk.house.work()
    assert desk.read(started)["state"] == "completed"


def test_signal_right_after_the_creation_comes_first(desk: Desk) -> None:
    """It is heeded before the first step runs."""
    started = desk.api.started(NOOP)
    tell(desk, started, "pause")
    assert (desk.read(started)["state"], ran(desk, started)) == ("paused", [])
    other = desk.api.started(NOOP)
    tell(desk, other, "cancel")
    assert (desk.read(other)["state"], ran(desk, other)) == ("cancelled", [])


def test_instance_that_is_not_due_is_left_alone(desk: Desk) -> None:
    """Until its next_fire_at."""
    started = desk.api.started(NOOP, next_fire_at=FUTURE)
    desk.house.work()
    assert desk.read(started)["state"] == "scheduled"


def test_next_fire_at_in_the_past_is_due_now(desk: Desk) -> None:
    """As without one."""
    started = desk.run(NOOP, next_fire_at="2020-01-01T00:00:00Z")
    assert started["state"] == "completed"


# -- 11.3 and 11.4 order ---------------------------------------------------------------------------
@SHAPES
def test_steps_run_in_order_and_once(desk: Desk, tree: bool) -> None:
    """Also when the instance is woken, paused and resumed in between."""
    wait = {"type": "wait_signal", "id": "w", "signal": "go"}
    found = desk.run(sequence(noop("a"), noop("b"), wait, noop("c"), tree=tree))
    assert ran(desk, found) == ["a", "b"]
    tell(desk, found, "pause")
    tell(desk, found, "resume")
    tell(desk, found, {"custom": "other"})
    tell(desk, found, {"custom": "go"})
    assert ran(desk, found) == ["a", "b", "w", "c"]
    assert desk.read(found)["state"] == "completed"


@SHAPES
def test_skipped_step_leaves_no_row(desk: Desk, tree: bool) -> None:
    """The next one runs."""
    found = desk.run(sequence(noop("a", when="false"), noop("b"), tree=tree))
    assert ran(desk, found) == ["b"]


@SHAPES
def test_first_failure_ends_the_instance(desk: Desk, tree: bool) -> None:
    """What stands behind it does not run."""
    failing = {"type": "step", "id": "no", "handler": "fail"}
    found = desk.run(sequence(failing, noop("behind"), tree=tree))
    assert desk.read(found)["state"] == "failed"
    assert "behind" not in ran(desk, found)


def test_roots_of_a_tree_run_one_after_the_other(desk: Desk) -> None:
    """The first that fails ends the instance."""
    failing = {"type": "step", "id": "no", "handler": "fail"}
    roots = [sequence(noop(name), tree=True)["blocks"][0] | {"id": f"p_{name}"} for name in "ab"]
    found = desk.run({"id": "s", "blocks": [roots[0], failing, roots[1]]})
    assert (desk.read(found)["state"], ran(desk, found)) == ("failed", ["a"])


@SHAPES
def test_delay_holds_wherever_the_step_stands(desk: Desk, tree: bool) -> None:
    """Safer than the original, which ignores it in trees."""
    found = desk.run(sequence(noop("a", delay={"duration": 3_600_000}), tree=tree))
    assert (found["state"], ran(desk, found)) == ("scheduled", [])
    desk.house.advance(timedelta(hours=1))
    desk.house.work()
    assert desk.read(found)["state"] == "completed"


@SHAPES
def test_guard_is_asked_before_the_delay(desk: Desk, tree: bool) -> None:
    """A step that is skipped is not waited for."""
    step = noop("a", when="false", delay={"duration": 3_600_000})
    found = desk.run(sequence(step, noop("b"), tree=tree))
    assert found["state"] == "completed"


# -- breakpoints -----------------------------------------------------------------------------------
@SHAPES
def test_breakpoint_pauses_before_its_block(desk: Desk, tree: bool) -> None:
    """Resumed, the instance goes on, block and all."""
    blocks = sequence(noop("a"), noop("b"), noop("c"), tree=tree)
    found = desk.run(blocks, metadata={"_debug_breakpoints": ["b", 7], "mine": 1})
    assert (found["state"], ran(desk, found)) == ("paused", ["a"])
    assert found["metadata"] == {"_debug_breakpoints": ["b", 7], "mine": 1}
    tell(desk, found, "resume")
    assert (desk.read(found)["state"], ran(desk, found)) == ("completed", ["a", "b", "c"])


def test_breakpoint_at_the_first_block_pauses_at_once(desk: Desk) -> None:
    """Nothing has run."""
    found = desk.run(sequence(noop("a")), metadata={"_debug_breakpoints": ["a"]})
    assert (found["state"], ran(desk, found)) == ("paused", [])
    tell(desk, found, "resume")
    assert desk.read(found)["state"] == "completed"


def test_breakpoint_holds_the_other_branches(desk: Desk) -> None:
    """A pause is the instance's."""
    branches = [[noop("left")], [noop("later", delay={"duration": 60_000})]]
    block = {"type": "parallel", "id": "p", "branches": branches}
    found = desk.run({"id": "s", "blocks": [block]}, metadata={"_debug_breakpoints": ["left"]})
    desk.house.advance(timedelta(hours=1))
    desk.house.work()
    assert (desk.read(found)["state"], ran(desk, found)) == ("paused", [])
    tell(desk, found, "resume")
    assert sorted(ran(desk, found)) == ["later", "left"]


@pytest.mark.parametrize("metadata", [None, 7, [], {"_debug_breakpoints": "a"}])
def test_other_metadata_pauses_nothing(desk: Desk, metadata: Any) -> None:
    """Metadata may be any JSON."""
    assert desk.run(sequence(noop("a")), metadata=metadata)["state"] == "completed"


# -- 11.5 failure of a claim -----------------------------------------------------------------------
def test_step_that_cannot_be_claimed_is_left_to_a_person(desk: Desk) -> None:
    """Safer than failing it: nobody knows what it did before."""
    started = desk.api.started(NOOP)
    desk.house.sql("UPDATE sequences SET body = '{}'")
    fresh = desk.house.another_pump(desk.house.another_office())
    fresh.work(LANE)
    (row,) = desk.api.rows("SELECT state, attention ->> 'reason' FROM instances")
    assert row == ("waiting", "cannot_claim")
    assert started["state"] == "scheduled"


# -- 11.6 budget -----------------------------------------------------------------------------------
@SHAPES
def test_budget_of_steps_pauses_the_instance(desk: Desk, tree: bool) -> None:
    """When more have ended than it allows, and another is to run; its metadata says why."""
    blocks = sequence(*(noop(name) for name in "abcd"), tree=tree)
    found = desk.run(blocks, budget={"max_steps": 1}, metadata={"mine": 1})
    assert (found["state"], ran(desk, found)) == ("paused", ["a", "b"])
    assert found["metadata"] == {
        "mine": 1, "paused_reason": "budget_exceeded",
        "budget_breach": {"limit": "max_steps", "limit_value": 1, "actual": 2},
    }  # fmt: skip


def test_budget_that_is_not_exceeded_changes_nothing(desk: Desk) -> None:
    """Steps that are skipped do not count."""
    blocks = sequence(noop("a"), noop("b", when="false"), noop("c"))
    found = desk.run(blocks, budget={"max_steps": 2})
    assert (found["state"], found["metadata"]) == ("completed", None)


def test_instance_over_its_budget_goes_on_step_by_step(desk: Desk) -> None:
    """Each time it is resumed."""
    found = desk.run(sequence(*(noop(name) for name in "abcd")), budget={"max_steps": 1})
    tell(desk, found, "resume")
    assert (desk.read(found)["state"], ran(desk, found)) == ("paused", ["a", "b", "c"])
    tell(desk, found, "resume")
    assert (desk.read(found)["state"], ran(desk, found)) == ("completed", ["a", "b", "c", "d"])


@pytest.mark.parametrize("metadata", [None, "text", [1]])
def test_budget_says_why_in_any_metadata(desk: Desk, metadata: Any) -> None:
    """What is no object is kept under a name."""
    found = desk.run(
        sequence(noop("a"), noop("b"), noop("c")), budget={"max_steps": 0}, metadata=metadata
    )
    told = dict(found["metadata"])
    assert told.pop("paused_reason") == "budget_exceeded"
    assert told.pop("budget_breach")["actual"] == 1
    assert told == ({} if metadata is None else {"metadata": metadata})


def test_every_member_of_a_budget_is_kept_and_shown(api: Api) -> None:
    """Only max_steps is enforced."""
    names = (
        "max_input_tokens", "max_output_tokens", "max_total_tokens", "max_steps",
        "max_cost_microunits", "max_wall_time_ms", "max_external_calls", "max_bytes_transferred",
        "max_energy_millijoules", "max_attention_units",
    )  # fmt: skip
    budget = {name: 2**40 if name != "max_steps" else 9 for name in names}
    started = api.started(NOOP, budget=budget)
    assert started["budget"] == budget
    assert api.get(f"/instances/{started['id']}")["budget"] == budget
    assert "budget" not in api.started(NOOP)
    api.refused(422, "POST", "/sequences/noop_once/instances", {"budget": {"max_steps": "9"}})
    api.refused(400, "POST", "/sequences/noop_once/instances", {"budget": {"max_steps": -1}})


def test_doctor_tells_of_a_budget(desk: Desk) -> None:
    """And that resuming helps for a step."""
    found = desk.run(sequence(noop("a"), noop("b")), budget={"max_steps": 0})
    told = desk.api.get(f"/instances/{found['id']}/diagnosis")["diagnoses"]
    codes = {each["code"]: each for each in told}
    assert set(codes) == {"BUDGET_PAUSED", "PAUSED"}
    assert "max_steps is 0, it is at 1" in codes["BUDGET_PAUSED"]["summary"]
    assert codes["PAUSED"]["remediation"][0]["action"] == "resume_instance"


def test_pause_by_a_person_is_no_matter_of_budgets(desk: Desk) -> None:
    """The doctor says so."""
    started = desk.api.started(NOOP, next_fire_at=FUTURE, budget={"max_steps": 9})
    tell(desk, started, "pause")
    told = desk.api.get(f"/instances/{started['id']}/diagnosis")["diagnoses"]
    assert [each["code"] for each in told] == ["PAUSED"]


# -- 11.7 recovery ---------------------------------------------------------------------------------
def test_everything_is_there_after_a_restart(desk: Desk) -> None:
    """What is scheduled, waiting and paused goes on in another process."""
    wait = {"type": "wait_signal", "id": "w", "signal": "go"}
    waiting = desk.run(sequence(wait, noop("after")))
    paused = desk.api.started(NOOP)
    tell(desk, paused, "pause")
    scheduled = desk.api.started(NOOP)
    fresh = desk.house.another_pump(desk.house.another_office())
    fresh.work(LANE)
    assert desk.read(scheduled)["state"] == "completed"
    assert desk.read(paused)["state"] == "paused"
    desk.api.post(f"/instances/{waiting['id']}/signals", {"signal_type": {"custom": "go"}})
    desk.api.post(f"/instances/{paused['id']}/signals", {"signal_type": "resume"})
    fresh.work(LANE)
    assert desk.read(waiting)["state"] == desk.read(paused)["state"] == "completed"


# -- 11.8 priority, bounds -------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("priority", "lane"),
    [("Critical", "interactive"), ("High", "interactive"), ("Normal", "renewal"), ("Low", "bulk")],
)
def test_priority_is_a_lane(desk: Desk, priority: str, lane: str) -> None:
    """Each lane has its share of every worker, so that no priority starves."""
    started = desk.api.started(NOOP, priority=priority)
    assert (started["priority"], started["lane"]) == (priority, lane)
    desk.house.work(lane)
    assert desk.read(started)["state"] == "completed"


def test_instance_without_a_priority_is_normal(api: Api) -> None:
    """Numbers are no priorities."""
    assert api.started(NOOP)["priority"] == "Normal"
    for wrong in (7, "urgent", "normal"):
        api.refused(422, "POST", "/sequences/noop_once/instances", {"priority": wrong})


def test_longest_due_of_a_lane_comes_first(desk: Desk) -> None:
    """Within a priority by next_fire_at."""
    house, order = desk.house, []
    now = house.advance()
    started = {}
    for hours in (3, 1, 2):
        at = (now + timedelta(hours=hours)).isoformat()
        started[desk.api.started(NOOP, next_fire_at=at)["id"]] = hours
    house.advance(timedelta(hours=4))
    for _ in started:
        with house.office.begin() as tx:
            (task,) = claim(house.office, tx, LANE, house.pump.lease.hold(), 1)
        order.append(started[str(task.row.instance_id)])
    assert order == [1, 2, 3]


@SHAPES
def test_instance_that_runs_too_many_steps_fails(
    houses: Callable[..., House],
    tree: bool,
) -> None:
    """Whatever would catch it: it is a bound of the installation."""
    with seated(houses(max_steps=3)) as desk:
        found = desk.run(sequence(*(noop(name) for name in "abcde"), tree=tree))
        shown = desk.read(found)
        assert (shown["state"], shown["error"]["code"]) == ("failed", "too_many_steps")
        assert ran(desk, found)[:3] == ["a", "b", "c"]
        assert desk.run(sequence(noop("a"), noop("b"), tree=tree))["state"] == "completed"


def test_bound_on_steps_ends_a_loop_that_catches_everything(houses: Callable[..., House]) -> None:
    """What has to be done in any case is done."""
    careful = {
        "type": "try_catch", "id": "t", "try_block": [noop("a")], "catch_block": [],
        "finally_block": [noop("last")],
    }  # fmt: skip
    loop = {"type": "loop", "id": "l", "condition": "true", "max_iterations": 1000,
            "body": [careful]}  # fmt: skip
    with seated(houses(max_steps=5)) as desk:
        found = desk.run({"id": "s", "blocks": [loop]})
        shown = desk.read(found)
        assert (shown["state"], shown["error"]["code"]) == ("failed", "too_many_steps")
        assert len([each for each in ran(desk, found) if each != "l"]) <= 7


def test_bound_on_steps_is_a_setting() -> None:
    """0 is no bound; the bound on instances of a tenant has no effect here."""
    assert Settings.from_env({"ORCH8_MAX_STEPS_PER_INSTANCE": "7"}).max_steps == 7
    assert Settings.from_env({}).max_steps == 0
