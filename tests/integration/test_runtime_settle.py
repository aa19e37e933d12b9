"""settle: output, audit entry and next state are one commit, and an old claim changes nothing."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg2
import pytest

from orch8.engine.outcome import Answer, Verdict
from orch8.runtime.claim import claim
from orch8.runtime.preparing import Task
from orch8.runtime.pump import Pump
from orch8.runtime.settle import Item, settle
from orch8.storage.rows import StepRow
from tests.support.house import LANE, House, execute

CHARGE = {"type": "step", "handler": "charge"}
NOTIFY = {"type": "step", "handler": "notify"}
HOUR = timedelta(hours=1)


def take(house: House, pump: Pump | None = None, slots: int = 8) -> list[Task]:
    """The due steps are claimed by a pump's process, and not called."""
    worker_id = (pump or house.pump).lease.hold()
    with house.office.begin() as tx:
        return claim(house.office, tx, LANE, worker_id, slots)


def give(house: House, *items: Item) -> None:
    """The items are settled in one transaction."""
    with house.office.begin() as tx:
        settle(house.office, tx, items, None)


def done(task: Task, output: Any = None) -> Item:
    return Item(task, Answer(Verdict.SUCCEEDED, output))


def test_settle_runs_a_sequence_to_its_end(house: House) -> None:
    """Each step's output is kept, its end audited, and the next one is called once."""
    instance_id = house.run(CHARGE, NOTIFY)
    assert house.state(instance_id) == "completed"
    rows = house.steps(instance_id)
    assert [(row.state, row.outcome, row.dispatches) for row in rows.values()] == [
        ("completed", "succeeded", 1)
    ] * 2
    assert rows["charge"].output["status"] == "succeeded"
    assert house.actions(instance_id) == [
        "instance.created", "step.completed", "step.completed", "instance.completed",
    ]  # fmt: skip
    assert house.totals()["charged"] == 2
    assert house.totals()["keys"] == 2


def snapshot_of(house: House, instance_id: UUID) -> tuple[Any, ...]:
    """Everything that settling may change."""
    tables = (
        "instances", "steps", "audit_log", "evidence", "signals", "instance_state", "contexts",
    )  # fmt: skip
    column = {"instances": "id"}
    return tuple(
        sorted(
            str(row)
            for row in house.sql(
                f"SELECT t::text FROM {t} t WHERE {column.get(t, 'instance_id')} = %s",
                str(instance_id),
            )
        )
        for t in tables
    )


@pytest.mark.parametrize("table", ["steps", "instances", "audit_log"])
def test_settle_writes_all_or_nothing(house: House, table: str) -> None:
    """If any part of it cannot be written, nothing has changed, and the answer is settled later."""
    house.publish(CHARGE, NOTIFY)
    instance_id = house.start()
    (task,) = take(house)
    before = snapshot_of(house, instance_id)
    execute(
        house.database.admin_url,
        f"""CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'no'; END $$;
            CREATE TRIGGER refuse AFTER INSERT OR UPDATE ON {table}
            FOR EACH ROW EXECUTE FUNCTION refuse()""",
    )
    with pytest.raises(psycopg2.Error):
        give(house, done(task, {"status": "succeeded"}))
    assert snapshot_of(house, instance_id) == before
    execute(house.database.admin_url, f"DROP TRIGGER refuse ON {table}")
    give(house, done(task, {"status": "succeeded"}))
    assert house.step(instance_id).state == "completed"
    assert house.step(instance_id, "notify").state == "scheduled"


def test_settle_parks_the_one_answer_that_cannot_be_written(house: House) -> None:
    """A row that breaks the batch is settled alone: the others complete, it waits for a person."""
    house.handler("odd", lambda _request: Answer(Verdict.SUCCEEDED, {"x": 2**80}))
    house.publish({"type": "step", "handler": "odd"}, NOTIFY, name="odd")
    house.publish(CHARGE)
    bad = house.start(name="odd")
    good = [house.start() for _ in range(5)]
    house.work()
    assert {house.state(each) for each in good} == {"completed"}
    row = house.step(bad, "odd")
    assert (row.state, row.outcome, row.claimed_by) == ("parked", "unknown", None)
    assert row.attention["reason"] == "cannot_settle"
    assert house.state(bad) == "waiting"
    assert house.instance(bad).attention["node_key"] == "odd"


def test_settle_keeps_an_output_with_a_nul(house: House) -> None:
    """Postgres cannot hold NUL: it becomes U+FFFD, for the database and the next step alike."""
    seen: list[Any] = []
    house.handler("odd", lambda _request: {"a\x00": "x\x00y", "plain": "\\u0000"})
    house.handler("see", lambda request: seen.append(request.params))
    see = {"type": "step", "handler": "see", "params": {"got": "{{outputs.odd}}"}}
    instance_id = house.run({"type": "step", "handler": "odd"}, see)
    kept = {"a\ufffd": "x\ufffdy", "plain": "\\u0000"}
    assert house.step(instance_id, "odd").output == kept
    assert {k: v for k, v in seen[0]["got"].items() if k in kept} == kept


def test_settle_does_not_believe_an_output_that_is_too_large(houses: Callable[..., House]) -> None:
    """An answer beyond the limit is nothing certain: the same key is asked again, not a new one."""
    house = houses(max_output=1000)
    house.handler("big", lambda _request: "x" * 2000)
    instance_id = house.run({"type": "step", "handler": "big"}, NOTIFY)
    row = house.step(instance_id, "big")
    assert (row.state, row.outcome, row.failures) == ("scheduled", "unknown", 0)
    assert row.output is None


def test_settle_keeps_an_old_answer_as_evidence_only(house: House) -> None:
    """A result with an old epoch changes no step that has been sent again."""
    house.publish(CHARGE)
    instance_id = house.start()
    other = house.another_pump()
    (old,) = take(house, other)
    house.lose(other)
    house.tick()
    (new,) = take(house)
    assert (new.row.epoch, new.row.idempotency_key) == (2, old.row.idempotency_key)
    give(house, done(old, {"from": "old"}))
    assert house.step(instance_id).state == "running"
    give(house, done(new, {"from": "new"}))
    give(house, done(old, {"from": "old"}))
    assert house.step(instance_id).output == {"from": "new"}
    kinds = [(e.kind, e.epoch, e.verdict) for e in house.evidence(instance_id)]
    assert kinds == [
        ("claim_lost", 1, "unknown"),
        ("late_answer", 1, "succeeded"),
        ("late_answer", 1, "succeeded"),
    ]


def test_settle_takes_a_late_answer_for_an_attempt_in_doubt(house: House) -> None:
    """While an attempt is open and not sent again, a late answer is its answer."""
    house.publish(CHARGE, NOTIFY)
    instance_id = house.start()
    other = house.another_pump()
    (old,) = take(house, other)
    house.lose(other)
    house.tick()
    assert house.step(instance_id).outcome == "unknown"
    give(house, done(old, {"status": "succeeded"}))
    assert house.step(instance_id).state == "completed"
    assert house.step(instance_id, "notify").state == "scheduled"
    house.work()
    assert [entry["handler"] for entry in house.provider.ledger.page()] == ["notify"]


def test_settle_takes_late_and_timely_answers_of_one_instance_together(house: House) -> None:
    """Two branches that answer in one batch, one of them late, both count."""
    branches = [[CHARGE], [{"type": "step", "handler": "notify"}]]
    house.publish({"type": "parallel", "branches": branches}, {"type": "step", "handler": "after"})
    instance_id = house.start()
    other = house.another_pump()
    (first,) = take(house, other, slots=1)
    (second,) = take(house, slots=1)
    house.lose(other)
    house.tick()
    give(house, done(first, {"n": 1}), done(second, {"n": 2}))
    states = {key: row.state for key, row in house.steps(instance_id).items() if "@" not in key}
    assert states == {"charge": "completed", "notify": "completed", "after": "scheduled"}


def test_settle_does_not_overwrite_what_its_batch_has_ended(house: House) -> None:
    """With fail: fast, an answer that comes with the failure finds its own step cancelled."""
    mail = {"type": "step", "handler": "mail", "effect": "notify"}
    block = {"type": "parallel", "fail": "fast", "branches": [[CHARGE], [mail]]}
    house.publish(block)
    instance_id = house.start()
    tasks = {task.row.node_key: task for task in take(house)}
    refusal = Answer(Verdict.REFUSED, error={"message": "no"})
    give(house, Item(tasks["charge"], refusal), done(tasks["mail"]))
    rows: dict[str, StepRow] = house.steps(instance_id)
    assert (rows["charge"].state, rows["mail"].state) == ("failed", "cancelled")
    assert house.state(instance_id) == "failed"


def test_settle_two_pumps_never_run_a_step_twice(house: House) -> None:
    """A hundred instances, two processes: every step has one dispatch and one effect."""
    house.publish(CHARGE, NOTIFY, {"type": "step", "handler": "after"})
    ids = [house.start() for _ in range(100)]
    pumps = [house.pump, house.another_pump(house.another_office())]
    threads = [threading.Thread(target=pump.work, args=(LANE,)) for pump in pumps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert Counter(house.state(each) for each in ids) == {"completed": 100}
    dispatches = house.sql(
        "SELECT count(*) AS n, sum(dispatches) AS sent, max(epoch) AS e FROM steps"
    )[0]
    assert (dispatches.n, dispatches.sent, dispatches.e) == (300, 300, 1)
    totals = house.totals()
    assert (totals["asked"], totals["charged"], totals["charged_twice"]) == (300, 300, 0)


def test_settle_branches_of_one_instance_from_two_pumps(house: House) -> None:
    """Two processes that settle branches of the same instances take turns, and lose none."""
    branch = [
        [{"type": "step", "handler": f"h{n}"}, {"type": "step", "handler": f"i{n}"}] for n in "abcd"
    ]
    house.publish({"type": "parallel", "branches": branch}, NOTIFY)
    ids = [house.start() for _ in range(25)]
    pumps = [house.pump, house.another_pump(house.another_office())]
    threads = [threading.Thread(target=pump.work, args=(LANE,)) for pump in pumps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert Counter(house.state(each) for each in ids) == {"completed": 25}
    totals = house.totals()
    assert (totals["asked"], totals["charged_twice"]) == (25 * 9, 0)
