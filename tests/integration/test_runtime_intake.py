"""intake: whoever asks at the same moment shares a transaction, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from orch8.errors import (
    BusinessKeyTaken,
    IdempotencyMismatch,
    InvalidArgument,
    NotFound,
    Unavailable,
    Unprocessable,
)
from orch8.runtime.intake import Intake, start_together
from orch8.runtime.office import Office
from orch8.runtime.start import StartRequest, StartResult
from orch8.storage.transaction import Tx
from tests.support.house import WITHIN, House

CHARGE = {"type": "step", "handler": "charge"}


def asked(key: str | None = None, *, name: str = "t", **data: Any) -> StartRequest:
    return StartRequest(
        sequence=name, context={"data": data, "config": {}}, idempotency_key=key
    )  # fmt: skip


def meanwhile(intake: Intake, requests: Sequence[StartRequest]) -> list[Future[StartResult]]:
    """What becomes of requests that come while another is being written."""
    intake._led = True
    with ThreadPoolExecutor(len(requests)) as pool:
        found = [pool.submit(intake.start, request) for request in requests]
        ends = time.monotonic() + WITHIN
        while len(intake._waiting) < len(requests):
            assert time.monotonic() < ends
        intake._pass_on()
    assert not intake._led
    return found


def transactions(house: House) -> int:
    """How many transactions wrote the instances that there are."""
    return int(house.sql("SELECT count(DISTINCT xmin::text) AS n FROM instances")[0].n)


def test_first_request_is_written_at_once(house: House) -> None:
    """With nobody else about, it is a start like any other, and so is the next."""
    house.publish(CHARGE)
    intake = Intake(house.office)
    first, again = intake.start(asked("a", n=1)), intake.start(asked("a", n=1))
    assert (first.deduplicated, again.deduplicated) == (False, True)
    assert first.instance.id == again.instance.id
    with pytest.raises(NotFound):
        intake.start(asked(name="absent"))
    assert not intake._led


def test_requests_that_come_meanwhile_share_a_transaction(house: House) -> None:
    """Each gets an instance of its own, as complete as one that was started alone."""
    house.publish(CHARGE)
    requests = [asked(f"k{n}" if n % 2 else None, n=n) for n in range(6)]
    found = [each.result() for each in meanwhile(Intake(house.office), requests)]
    assert transactions(house) == 1
    assert len({each.instance.id for each in found}) == 6
    for n, each in enumerate(found):
        row = house.instance(each.instance.id)
        assert (row.state, row.idempotency_key) == ("scheduled", requests[n].idempotency_key)
        assert (each.deduplicated, each.lanes) == (False, ("renewal",))
        assert each.shown.context["data"] == {"n": n}
        assert house.step(row.id).due_at == each.shown.next_fire_at
        assert house.actions(row.id) == ["instance.created"]
    house.work()
    assert len(house.keys()) == 6


def test_known_key_is_answered_and_holds_nobody_up(house: House) -> None:
    """Who repeats a request gets the instance of then, who changes it an error, the others theirs,
    together.
    """
    house.publish(CHARGE)
    first = house.request({"n": 0}, idempotency_key="k")
    requests = [asked("k", n=0), asked("k", n=1), asked("a"), asked("b"), asked("b")]
    same, other, a, *both = meanwhile(Intake(house.office), requests)
    assert (same.result().instance.id, same.result().deduplicated) == (first.instance.id, True)
    with pytest.raises(IdempotencyMismatch):
        other.result()
    assert not a.result().deduplicated
    assert sorted(each.result().deduplicated for each in both) == [False, True]
    assert len({each.result().instance.id for each in both}) == 1
    for table, rows in (("instances", 3), ("steps", 3), ("contexts", 3)):
        assert house.sql(f"SELECT count(*) AS n FROM {table}")[0].n == rows
    assert transactions(house) == 2


def test_wrong_request_is_refused_and_the_others_written(house: House) -> None:
    """Every kind of mistake is told to the one who made it."""
    schema = {"type": "object", "required": ["n"]}
    house.publish(CHARGE, input_schema=schema)
    house.publish(CHARGE, name="keyed", unique={"key": "x:{{context.data.id}}"})
    holder = house.start({"id": 1}, name="keyed")
    requests = [asked(n=1), asked(), asked(name="absent"), asked(name="keyed", id=1), asked(n=2)]
    good, unfit, absent, taken, last = meanwhile(Intake(house.office), requests)
    for each, error in ((unfit, Unprocessable), (absent, NotFound), (taken, BusinessKeyTaken)):
        with pytest.raises(error):
            each.result()
    assert good.result().instance.id != last.result().instance.id
    assert house.sql("SELECT count(*) AS n FROM instances")[0].n == 3
    assert transactions(house) == 2
    assert house.instance(holder).state == "scheduled"


def test_statement_that_breaks_breaks_for_one(house: House) -> None:
    """When the transaction of all fails, each is started alone, and one of them fails again."""
    house.publish(CHARGE)
    house.publish(CHARGE, name="keyed", unique={"key": "x:{{context.data.id}}"})
    requests = [asked(n=1), asked(name="a\0b"), asked(n=2)]
    good, broken, last = meanwhile(Intake(house.office), requests)
    with pytest.raises(InvalidArgument, match="NUL"):
        broken.result()
    assert good.result().instance.id != last.result().instance.id
    rivals = meanwhile(Intake(house.office), [asked(name="keyed", id=1)] * 2)
    errors = [each.exception() for each in rivals]
    assert sorted(map(repr, map(type, errors))) == sorted(map(repr, (type(None), BusinessKeyTaken)))
    assert house.sql("SELECT count(*) AS n FROM instances")[0].n == 3


def test_version_published_before_the_write_is_used(house: House) -> None:
    """The newest version is looked up in the transaction that writes, whoever published it."""
    house.publish(CHARGE)
    intake = Intake(house.office)
    intake.start(asked())
    other = house.another_office()
    newer = house.publish(CHARGE, CHARGE | {"id": "again"})
    assert newer.version == 2
    found = meanwhile(Intake(other), [asked(), asked()])
    assert {each.result().instance.sequence_id for each in found} == {newer.id}
    assert intake.start(asked()).instance.sequence_id == newer.id


class Unconfirmed(Office):
    """An office whose commits take place, and whose connection breaks before they are told."""

    @contextmanager
    def begin(self) -> Iterator[Tx]:
        with super().begin() as tx:
            yield tx
        raise Unavailable("gone")


def test_unconfirmed_commit_is_not_repeated(house: House) -> None:
    """Nobody knows whether the instances exist: each is told so, and nothing is started twice."""
    house.publish(CHARGE)
    office = Unconfirmed(house.settings)
    try:
        found = meanwhile(Intake(office), [asked(n=1), asked(n=2), asked(n=3)])
    finally:
        office.close()
    problems = [each.exception() for each in found]
    assert [type(each) for each in problems] == [Unavailable] * 3
    assert len(set(map(id, problems))) == 3
    assert house.sql("SELECT count(*) AS n FROM instances")[0].n == 3


def test_database_that_is_away_is_asked_once(house: House) -> None:
    """Without a connection nothing was written, and nobody tries again alone."""
    office = house.another_office(database_url="postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(Unavailable, match="away"):
        start_together(office, [asked(n=1), asked(n=2)])
