"""Circuit breakers at work: several processes, probes that come to nothing, money, many steps."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from orch8.handlers.python import TryAgain
from orch8.storage import breakers
from orch8.storage.breakers import Breaker, Felt, record
from orch8.storage.ids import uuid7
from tests.support.house import House

FLAKY = {"type": "step", "id": "work", "handler": "flaky"}
COOLDOWN = timedelta(seconds=60)


def down(_: Any) -> Any:
    """A handler that does nothing, and says so."""
    raise TryAgain("down")


def failing(house: House, times: int = 5) -> None:
    """The handler has failed so often."""
    house.handler("flaky", down)
    house.publish({**FLAKY, "retry": {"max_attempts": 1}}, name="failing")
    for _ in range(times):
        house.start(name="failing")
    house.work()


def breaker(house: House) -> Breaker:
    """The breaker of the flaky handler."""
    with house.office.begin() as tx:
        found = breakers.read(tx, "default", "flaky")
    assert found is not None
    return found


def felt(house: House, *words: bool | None, threshold: int = 3) -> Breaker:
    """The breaker after these words of answers, in one transaction."""
    with house.office.begin() as tx:
        now = breakers_now(tx)
        record(tx, [Felt("default", "flaky", uuid7(), w, now, threshold, 60.0) for w in words])
    return breaker(house)


def breakers_now(tx: Any) -> Any:
    """Business time."""
    return tx.one("SELECT orch8_now() AS at").at


def test_words_of_one_batch_count_in_their_order(house: House) -> None:
    """Only failures behind the last success do."""
    assert felt(house, False, False).failure_count == 2
    assert felt(house, False, True, False, None).failure_count == 1
    assert felt(house, True).failure_count == 0
    assert felt(house, False, False, False).state == "open"
    assert felt(house, True, False).state == "closed"


def test_open_breaker_keeps_its_time_while_calls_in_flight_fail(house: House) -> None:
    """They were made before it opened."""
    opened = felt(house, False, False, False)
    later = felt(house, False)
    assert (later.failure_count, later.opened_at) == (4, opened.opened_at)
    assert later.retry_at == opened.retry_at


def test_failures_of_one_batch_are_counted(house: House) -> None:
    """Each of them, though they are settled together."""
    failing(house, 7)
    assert (breaker(house).failure_count, breaker(house).state) == (7, "open")


def test_another_process_goes_by_the_same_breaker(house: House) -> None:
    """It reads what the first has written."""
    failing(house)
    other = house.another_office()
    with other.begin():
        assert other.breakers.open("default", "flaky") is not None
    with house.office.begin() as tx:
        breakers.close(tx, "default", "flaky")
    with other.begin() as tx:
        other.breakers.refresh(tx, now=True)
        assert other.breakers.open("default", "flaky") is None


def test_success_elsewhere_writes_nothing_while_all_is_well(house: House) -> None:
    """The breaker is made once, and not touched again."""
    house.handler("flaky", lambda _: {})
    house.run(FLAKY)
    before = house.sql("SELECT xmin::text, updated_at FROM circuit_breakers")
    house.start()
    house.work()
    assert house.sql("SELECT xmin::text, updated_at FROM circuit_breakers") == before


def test_probe_that_was_not_sent_makes_room_for_another(house: House) -> None:
    """A claim that is given back has found nothing out."""
    failing(house)
    house.advance(COOLDOWN)
    step_id = uuid7()
    with house.office.begin() as tx:
        now = breakers_now(tx)
        assert breakers.take_probe(tx, "default", "flaky", step_id, now, now + COOLDOWN) is None
    assert breaker(house).state == "half_open"
    with house.office.begin() as tx:
        again = breakers.take_probe(tx, "default", "flaky", uuid7(), now, now + COOLDOWN)
        assert again == now + COOLDOWN
        record(tx, [Felt("default", "flaky", step_id, None, now, 5, 60.0)])
    assert (breaker(house).state, breaker(house).retry_at) == ("open", now)


def test_probe_waits_for_nobody(house: House) -> None:
    """Whoever writes to the breaker right now is asked again in a second."""
    failing(house)
    with house.office.begin() as holding, house.another_office().begin() as tx:
        holding.rows("SELECT FROM circuit_breakers FOR UPDATE")
        now = breakers_now(tx)
        later = breakers.take_probe(tx, "default", "flaky", uuid7(), now, now + COOLDOWN)
        assert later == now + timedelta(seconds=1)


def test_steps_come_back_one_by_one(house: House) -> None:
    """The first when the cooldown is over, the others behind it."""
    failing(house)
    house.publish(FLAKY)
    ids = [house.start() for _ in range(5)]
    house.work()
    due = sorted(house.step(each, "work").due_at for each in ids)
    opened = breaker(house)
    assert opened.retry_at is not None
    assert due[0] == opened.retry_at
    assert len(set(due)) == 5
    assert due[-1] - due[0] < COOLDOWN
    assert house.instance(ids[0]).state == "scheduled"


def test_failing_probe_leaves_the_others_alone(house: House) -> None:
    """One call for each cooldown, however many wait."""
    failing(house)
    called: list[Any] = []

    def still_down(request: Any) -> Any:
        called.append(request)
        raise TryAgain("down")

    house.handler("flaky", still_down)
    house.publish({**FLAKY, "retry": {"max_attempts": 1}})
    ids = [house.start() for _ in range(5)]
    house.work()
    house.advance(COOLDOWN * 2)
    house.work()
    assert len(called) == 1
    assert sorted(house.state(each) for each in ids) == ["failed", *["scheduled"] * 4]


def test_deadline_holds_while_a_step_is_put_off(house: House) -> None:
    """It fails as if it had waited for anything else."""
    failing(house)
    house.publish({**FLAKY, "deadline": "10s"})
    instance_id = house.start()
    house.work()
    house.advance(timedelta(seconds=11))
    house.work()
    assert house.step(instance_id, "work").error["code"] == "deadline"


def test_step_that_is_put_off_can_be_cancelled(house: House) -> None:
    """Nothing of it was sent."""
    failing(house)
    house.publish(FLAKY)
    instance_id = house.start()
    house.work()
    house.signal(instance_id, "cancel")
    assert house.state(instance_id) == "cancelled"


def test_fallback_in_doubt_is_not_asked_about_at_the_wrong_provider(house: House) -> None:
    """Its read handler knows the first one alone: the attempt is parked."""
    failing(house)
    asked: list[Any] = []
    house.handler("find", lambda request: asked.append(request) or {"found": "no"})

    def broke(_: Any) -> Any:
        raise RuntimeError("broke")

    house.handler("spare", broke)
    unknown = {"policy": "reconcile", "handler": "find", "schedule": ["1s"]}
    instance_id = house.run(
        {**FLAKY, "effect": "money", "fallback_handler": "spare", "on_unknown": unknown}
    )
    row = house.step(instance_id, "work")
    assert (row.handler, row.state, row.outcome) == ("spare", "parked", "unknown")
    assert asked == []


def test_retry_of_the_instance_goes_back_to_its_own_handler(house: House) -> None:
    """With a key of its own: what the fallback was sent is none of it."""
    failing(house)
    keys: dict[str, str] = {}

    def busy(request: Any) -> Any:
        keys["spare"] = request.idempotency_key
        raise TryAgain("busy")

    house.handler("spare", busy)
    instance_id = house.run(
        {**FLAKY, "effect": "money", "fallback_handler": "spare", "retry": {"max_attempts": 1}}
    )
    assert house.state(instance_id) == "failed"
    house.handler("flaky", lambda request: keys.update(flaky=request.idempotency_key))
    with house.office.begin() as tx:
        breakers.close(tx, "default", "flaky")
    house.office.breakers.forget()
    house.retry(instance_id)
    house.work()
    assert house.state(instance_id) == "completed"
    assert keys["spare"] != keys["flaky"]


def test_transaction_that_broke_is_not_believed(house: House) -> None:
    """What it wrote of breakers is written anew by the next one."""
    known = house.office.breakers
    failing(house)
    with house.office.begin():
        assert known.open("default", "flaky") is not None
    house.sql("DELETE FROM circuit_breakers")
    with pytest.raises(ZeroDivisionError), house.office.begin():
        raise ZeroDivisionError
    house.handler("flaky", lambda _: {})
    house.run(FLAKY)
    assert breaker(house).state == "closed"


def waiting(house: House, instance_id: UUID) -> bool:
    """Whether the instance's step waits for its breaker."""
    return house.step(instance_id, "work").waits_for == "breaker"


def test_follow_up_is_put_off_too(house: House) -> None:
    """A step that is claimed in the transaction that settles the one before it."""
    failing(house)
    before = {"type": "step", "id": "before", "handler": "other"}
    house.handler("other", lambda _: {})
    instance_id = house.run(before, FLAKY)
    assert waiting(house, instance_id)
    assert house.state(instance_id) == "scheduled"
