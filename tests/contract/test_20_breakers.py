"""CONTRACT 20: a handler that fails again and again is left alone for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from orch8.handlers.python import Declined, Refused, TryAgain
from tests.support.desk import Desk, seated
from tests.support.documents import refusal
from tests.support.house import House

FLAKY = {"type": "step", "id": "work", "handler": "flaky"}
ONE = "/tenants/default/circuit-breakers/flaky"
COOLDOWN = timedelta(seconds=60)


@pytest.fixture
def house(houses: Callable[..., House]) -> House:
    """A house without handlers of its own: steps wait for pull workers."""
    return houses(handler_url="")


@pytest.fixture
def desk(house: House) -> Iterator[Desk]:
    with seated(house) as found:
        yield found


class Worker:
    """A pull worker of the contract's clients."""

    def __init__(self, desk: Desk, handler: str = "flaky") -> None:
        self.api, self.handler = desk.api, handler

    def poll(self, limit: int = 10) -> list[Any]:
        asked = {"handler_name": self.handler, "worker_id": "w", "limit": limit}
        return list(self.api.post("/workers/tasks/poll", asked, status=200))

    def say(self, verb: str, task: Any, **more: Any) -> None:
        said = {"worker_id": "w", "claim_epoch": task["claim_epoch"], **more}
        answer = self.api.send("POST", f"/workers/tasks/{task['id']}/{verb}", said)
        assert answer.status_code == 200, answer.text

    def fail(self, task: Any, *, retryable: bool = False) -> None:
        self.say("fail", task, message="no", retryable=retryable)

    def complete(self, task: Any, output: Any = None) -> None:
        self.say("complete", task, output=output or {})


def sequence(name: str = "calls", **members: Any) -> dict[str, Any]:
    """A sequence of one step that calls the flaky handler."""
    return {"id": name, "blocks": [{**FLAKY, **members}]}


def failed(desk: Desk, times: int, *, retryable: bool = False) -> Worker:
    """A worker whose handler has failed so often."""
    worker = Worker(desk)
    for _ in range(times):
        desk.api.started(sequence())
        (task,) = worker.poll()
        worker.fail(task, retryable=retryable)
    return worker


def pushed(desk: Desk, handler: Callable[[Any], Any], times: int) -> list[Any]:
    """So many instances that called the function; its breaker has been told of each."""
    desk.house.handler("flaky", handler)
    return [desk.run(sequence(retry={"max_attempts": 1, "backoff": "1s"})) for _ in range(times)]


def breaker(desk: Desk) -> Any:
    """The breaker of the flaky handler."""
    return desk.api.get(ONE)


def down(_: Any) -> Any:
    """A handler that does nothing, and says so."""
    raise TryAgain("down")


# -- what is counted -----------------------------------------------------------------------------
def test_handler_that_was_never_called_has_no_breaker(desk: Desk) -> None:
    """404; and it is in no list."""
    desk.api.refused(404, "GET", ONE)
    assert desk.api.get("/circuit-breakers") == []
    assert desk.api.get("/tenants/default/circuit-breakers") == []


def test_breaker_is_there_from_the_first_dispatch_on(desk: Desk) -> None:
    """Closed, without failures, and without opened_at."""
    desk.api.started(sequence())
    Worker(desk).poll()
    found = breaker(desk)
    assert found == {
        "tenant_id": "default", "handler": "flaky", "state": "closed", "failure_count": 0,
        "failure_threshold": 5, "cooldown_secs": 60.0,
    }  # fmt: skip
    assert desk.api.get("/circuit-breakers") == [found]
    assert desk.api.get("/tenants/default/circuit-breakers") == [found]
    assert desk.api.get("/tenants/other/circuit-breakers") == []


@pytest.mark.parametrize("retryable", [False, True])
def test_failure_of_a_worker_counts(desk: Desk, *, retryable: bool) -> None:
    """Whether it may be tried again or not."""
    failed(desk, 1, retryable=retryable)
    assert (breaker(desk)["state"], breaker(desk)["failure_count"]) == ("closed", 1)


def test_fifth_failure_in_a_row_opens(desk: Desk) -> None:
    """With the threshold and the time since when."""
    failed(desk, 4)
    assert breaker(desk)["state"] == "closed"
    failed(desk, 1)
    found = breaker(desk)
    assert (found["state"], found["failure_count"], found["failure_threshold"]) == ("open", 5, 5)
    opened_at = datetime.fromisoformat(found["opened_at"])
    assert datetime.fromisoformat(found["retry_at"]) - opened_at == COOLDOWN


def test_success_resets_the_count(desk: Desk) -> None:
    """So that only failures in a row open a breaker."""
    worker = failed(desk, 4)
    desk.api.started(sequence())
    (task,) = worker.poll()
    worker.complete(task)
    assert breaker(desk)["failure_count"] == 0
    failed(desk, 4)
    assert (breaker(desk)["state"], breaker(desk)["failure_count"]) == ("closed", 4)


def test_reset_closes_and_keeps_the_breaker(desk: Desk) -> None:
    """The log tells who did; what waits goes on at once."""
    worker = failed(desk, 5)
    waiting = desk.api.started(sequence())
    assert worker.poll() == []
    done = desk.api.post(f"{ONE}/reset", status=200, headers={"X-Actor": "ann"})
    assert (done["state"], done["failure_count"]) == ("closed", 0)
    assert (breaker(desk)["state"], breaker(desk)["failure_count"]) == ("closed", 0)
    assert "opened_at" not in breaker(desk)
    told = desk.house.sql("SELECT actor, body FROM audit_log WHERE action = 'breaker.reset'")
    assert [(row.actor, row.body["from_state"]) for row in told] == [("ann", "open")]
    desk.house.work()
    (task,) = worker.poll()
    assert task["instance_id"] == waiting["id"]


def test_reset_of_an_unknown_handler_is_fine(desk: Desk) -> None:
    """200; there is no breaker afterwards either."""
    desk.api.post(f"{ONE}/reset", status=200)
    desk.api.refused(404, "GET", ONE)


def test_breakers_are_the_tenants(desk: Desk) -> None:
    """Another tenant's handler of the same name is another handler; 404 for who asks for it."""
    failed(desk, 5)
    other = {"X-Tenant-Id": "other"}
    desk.api.refused(404, "GET", ONE, headers=other)
    desk.api.refused(404, "POST", f"{ONE}/reset", headers=other)
    desk.api.refused(404, "GET", "/tenants/default/circuit-breakers", headers=other)
    assert desk.api.get("/circuit-breakers", headers=other) == []
    assert desk.api.get("/circuit-breakers?tenant_id=other") == []
    assert breaker(desk)["state"] == "open"


def test_handler_alone_names_the_callers_breaker(desk: Desk) -> None:
    """The header's tenant, or the default one."""
    failed(desk, 1)
    assert desk.api.get("/circuit-breakers/flaky") == breaker(desk)
    mine = {"X-Tenant-Id": "default"}
    assert desk.api.get("/circuit-breakers/flaky", headers=mine)["failure_count"] == 1
    desk.api.refused(404, "GET", "/circuit-breakers/flaky", headers={"X-Tenant-Id": "other"})
    assert desk.api.post("/circuit-breakers/flaky/reset", status=200)["failure_count"] == 0
    assert breaker(desk)["failure_count"] == 0


def test_untracked_handlers_have_none(desk: Desk) -> None:
    """What calls nobody, however often it fails."""
    for handler in ("noop", "log", "fail"):
        for _ in range(6 if handler == "fail" else 1):
            desk.run({"id": handler, "blocks": [{"type": "step", "handler": handler}]})
    assert desk.api.get("/circuit-breakers") == []


# -- which answers count -------------------------------------------------------------------------
def test_decline_is_no_failure(desk: Desk) -> None:
    """A card that is declined never opens a breaker; it shows that the handler works."""

    def declining(_: Any) -> Any:
        raise Declined({"decline_code": "insufficient_funds"})

    pushed(desk, down, 4)
    pushed(desk, declining, 6)
    assert (breaker(desk)["state"], breaker(desk)["failure_count"]) == ("closed", 0)


def test_refusal_says_nothing_of_the_handler(desk: Desk) -> None:
    """What is wrong with one request counts neither way."""

    def refusing(_: Any) -> Any:
        raise Refused("no such customer")

    pushed(desk, down, 2)
    pushed(desk, refusing, 6)
    assert (breaker(desk)["state"], breaker(desk)["failure_count"]) == ("closed", 2)


def test_failures_of_pushed_calls_open(desk: Desk) -> None:
    """By whichever door a handler is reached."""
    pushed(desk, down, 5)
    assert breaker(desk)["state"] == "open"


# -- while it is open ----------------------------------------------------------------------------
def test_step_is_put_off_until_the_cooldown_is_over(desk: Desk) -> None:
    """The instance is scheduled for then; no attempt is used up, and nothing can be polled."""
    worker = failed(desk, 5)
    instance = desk.api.started(sequence())
    desk.house.work()
    found = desk.read(instance)
    assert (found["state"], found["next_fire_at"]) == ("scheduled", breaker(desk)["retry_at"])
    assert worker.poll() == []
    row = desk.house.step(instance["id"], "work")
    assert (row.dispatches, row.failures, row.waits_for) == (0, 0, "breaker")
    assert desk.house.actions(instance["id"], "work") == ["step.deferred"]


def test_offered_step_is_put_off_when_it_is_asked_for(desk: Desk) -> None:
    """Also one that waited for a worker before the breaker opened."""
    desk.api.started(sequence())
    worker = Worker(desk)
    (first,) = worker.poll()
    early = desk.api.started(sequence())
    desk.house.sql("UPDATE steps SET due_at = due_at + interval '1 hour' WHERE instance_id = %s",
                   early["id"])  # fmt: skip
    worker.fail(first)
    failed(desk, 4)
    desk.house.advance(timedelta(seconds=1))
    desk.house.sql("UPDATE steps SET due_at = orch8_now() WHERE instance_id = %s", early["id"])
    assert worker.poll() == []
    row = desk.house.step(early["id"], "work")
    assert (row.state, row.waits_for, row.dispatches) == ("scheduled", "breaker", 0)


def test_one_call_finds_out(desk: Desk) -> None:
    """After the cooldown one step is let through, and no other while it is on its way."""
    worker = failed(desk, 5)
    for _ in range(3):
        desk.api.started(sequence())
    desk.house.advance(COOLDOWN * 2)
    desk.house.work()
    (probe,) = worker.poll()
    assert breaker(desk)["state"] == "half_open"
    assert worker.poll() == []
    worker.complete(probe)
    assert (breaker(desk)["state"], breaker(desk)["failure_count"]) == ("closed", 0)
    desk.house.work()
    assert len(worker.poll()) == 2


def test_failure_of_the_probe_opens_again(desk: Desk) -> None:
    """For another cooldown."""
    worker = failed(desk, 5)
    desk.api.started(sequence())
    before = breaker(desk)
    desk.house.advance(COOLDOWN)
    desk.house.work()
    (probe,) = worker.poll()
    worker.fail(probe)
    after = breaker(desk)
    assert (after["state"], after["failure_count"]) == ("open", 6)
    assert after["opened_at"] > before["opened_at"]
    desk.api.started(sequence())
    assert worker.poll() == []


def test_fallback_runs_while_the_breaker_is_open(desk: Desk) -> None:
    """The same params, the same block; the first handler is not called."""
    worker = failed(desk, 5)
    spare = Worker(desk, "spare")
    members = {"params": {"n": 1}, "fallback_handler": "spare"}
    instance = desk.api.started(sequence("covered", **members))
    assert worker.poll() == []
    (task,) = spare.poll()
    assert (task["block_id"], task["params"], task["handler_name"]) == ("work", {"n": 1}, "spare")
    spare.complete(task, {"by": "spare"})
    desk.house.work()
    assert desk.read(instance)["state"] == "completed"
    rows = desk.api.get(f"/instances/{instance['id']}/outputs")
    assert [(row["block_id"], row["output"]) for row in rows] == [("work", {"by": "spare"})]
    assert "step.fell_back" in desk.house.actions(instance["id"], "work")


def test_fallback_may_be_a_built_in(desk: Desk) -> None:
    """It is carried out like any step of it."""
    failed(desk, 5)
    instance = desk.run(sequence("covered", fallback_handler="noop"))
    assert instance["state"] == "completed"


def test_fallback_is_not_used_while_the_handler_works(desk: Desk) -> None:
    """Nor after the breaker was reset."""
    worker = failed(desk, 5)
    desk.api.post(f"{ONE}/reset", status=200)
    desk.api.started(sequence("covered", fallback_handler="noop"))
    assert len(worker.poll()) == 1


def test_fallback_whose_own_breaker_is_open_is_not_used(desk: Desk) -> None:
    """The step waits for its handler."""
    worker = failed(desk, 5)
    spare = Worker(desk, "spare")
    for _ in range(5):
        desk.api.started({"id": "spares", "blocks": [{**FLAKY, "handler": "spare"}]})
        (task,) = spare.poll()
        spare.fail(task)
    instance = desk.api.started(sequence("covered", fallback_handler="spare"))
    assert (worker.poll(), spare.poll()) == ([], [])
    assert desk.read(instance)["next_fire_at"] == breaker(desk)["retry_at"]


def test_pushed_step_falls_back(desk: Desk) -> None:
    """A call that our own workers make, too."""
    pushed(desk, down, 5)
    desk.house.handler("spare", lambda _: {"by": "spare"})
    instance = desk.run(sequence("covered", fallback_handler="spare"))
    assert desk.house.step(instance["id"], "work").output == {"by": "spare"}


def test_pushed_step_waits_and_goes_on(desk: Desk) -> None:
    """Until the probe of another has shown that the handler works."""
    pushed(desk, down, 5)
    calls: list[Any] = []
    desk.house.handler("flaky", lambda request: calls.append(request) or {})
    waiting = [desk.run(sequence("more")) for _ in range(3)]
    assert [desk.read(each)["state"] for each in waiting] == ["scheduled"] * 3
    assert calls == []
    desk.house.advance(COOLDOWN)
    desk.house.work()
    assert [desk.read(each)["state"] for each in waiting] == ["completed"] * 3
    assert breaker(desk)["state"] == "closed"


# -- money ---------------------------------------------------------------------------------------
def test_attempt_in_doubt_is_neither_held_up_nor_handed_over(desk: Desk) -> None:
    """It may have had its effect: its key is sent again, to the handler that had it."""
    asked: list[str] = []

    def lost(request: Any) -> Any:
        asked.append(request.idempotency_key)
        raise RuntimeError("the connection broke")

    desk.house.handler("flaky", lost)
    desk.house.handler("spare", lambda _: {"by": "spare"})
    money = {"effect": "money", "fallback_handler": "spare", "retry": {"max_attempts": 1}}
    instance = desk.run(sequence("pay", **money))
    pushed(desk, down, 4)
    assert breaker(desk)["state"] == "open"
    desk.house.handler("flaky", lambda request: asked.append(request.idempotency_key) or {})
    desk.house.advance(timedelta(seconds=10))
    desk.house.work()
    assert desk.read(instance)["state"] == "completed"
    row = desk.house.step(instance["id"], "work")
    assert (row.handler, row.generation, row.dispatches) == ("flaky", 1, asked.count(asked[0]))
    assert row.dispatches > 1
    assert breaker(desk)["state"] == "closed"


def test_fallback_after_a_call_is_another_attempt(desk: Desk) -> None:
    """What was sent had surely no effect: the fallback is sent a key of its own."""
    keys: dict[str, str] = {}

    def first(request: Any) -> Any:
        keys["flaky"] = request.idempotency_key
        raise TryAgain("down")

    desk.house.handler("flaky", first)
    desk.house.handler("spare", lambda request: keys.update(spare=request.idempotency_key))
    money = {"effect": "money", "fallback_handler": "spare",
             "retry": {"max_attempts": 3, "backoff": "30s"}}  # fmt: skip
    instance = desk.run(sequence("pay", **money))
    pushed(desk, down, 4)
    desk.house.advance(timedelta(seconds=31))
    desk.house.work()
    row = desk.house.step(instance["id"], "work")
    assert (row.state, row.handler, row.generation) == ("completed", "spare", 2)
    assert keys["flaky"] != keys["spare"]


# -- what is refused -----------------------------------------------------------------------------
def test_fallback_to_itself_is_refused() -> None:
    """400 says what to write."""
    status, (problem,) = refusal(sequence(fallback_handler="flaky"))
    assert (status, problem.pointer) == (400, "/blocks/0/fallback_handler")


def test_without_a_threshold_nothing_opens(houses: Callable[..., House]) -> None:
    """ORCH8_BREAKER_THRESHOLD=0 turns breakers off."""
    with seated(houses(handler_url="", breaker_threshold=0)) as desk:
        failed(desk, 6)
        assert desk.api.get("/circuit-breakers") == []


def test_open_breakers_are_a_metric(desk: Desk) -> None:
    """One sample for each."""
    failed(desk, 5)
    text = desk.api.client.get("/metrics").get_data(as_text=True)
    assert 'orch8_circuit_breakers_open{handler="flaky",tenant="default"} 1.0' in text


# -- the doctor ----------------------------------------------------------------------------------
def found_out(desk: Desk, instance: Any) -> list[Any]:
    """What the doctor finds out about breakers."""
    found = desk.api.get(f"/instances/{instance['id']}/diagnosis")["diagnoses"]
    return [each for each in found if each["code"] == "OPEN_CIRCUIT_BREAKER"]


def test_doctor_names_the_breaker_that_holds_an_instance_up(desk: Desk) -> None:
    """With the handler, when calls resume, and since when it is open; gone after a reset."""
    failed(desk, 5)
    instance = desk.api.started(sequence())
    (found,) = found_out(desk, instance)
    assert (found["category"], found["confidence"]) == ("direct_evidence", "high")
    assert (found["severity"], found["health"]) == ("warning", "degraded")
    assert "handler 'flaky'" in found["summary"]
    assert "retries resume in " in found["summary"]
    assert [each["label"] for each in found["evidence"]] == ["opened_at"]
    desk.api.post(f"{ONE}/reset", status=200)
    assert found_out(desk, instance) == []


def test_doctor_warns_of_other_breakers(desk: Desk) -> None:
    """An instance that does not call the handler may not care."""
    failed(desk, 5)
    instance = desk.api.started({"id": "wait", "blocks": [{"type": "wait_signal", "signal": "x"}]})
    (found,) = found_out(desk, instance)
    assert (found["category"], found["confidence"]) == ("health_warning", "low")
