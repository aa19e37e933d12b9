"""prune: months go as a whole, unless something holds them back; the rest goes row by row."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from uuid import UUID

import psycopg2
import pytest
from click.testing import CliRunner

from orch8.cli import main
from orch8.errors import Unavailable
from orch8.runtime import prune as pruning
from orch8.runtime.prune import Fate, prune, prune_months
from orch8.storage import partitions as storage
from orch8.storage.months import OWNED, Month
from orch8.storage.transaction import Database
from orch8.testing.misbehaviour import Do, Rule
from tests.support.calendar import installed_in, made_in, partitions, this_month
from tests.support.house import House, until

CHARGE = {"type": "step", "handler": "charge"}
KEEP = {"type": "step", "handler": "set_state", "params": {"key": "a", "value": 1}}
DAY = timedelta(days=1)
OLD = 3  # months ago


@pytest.fixture
def old(house: House) -> House:
    """A house that was installed half a year ago, with a sequence of two steps."""
    installed_in(house, this_month().later(-6))
    house.publish(CHARGE, KEEP)
    return house


@pytest.fixture
def owner(old: House) -> Iterator[Database]:
    """The database as its owner."""
    with closing(Database(old.settings.database_owner_url)) as database:
        yield database


def then() -> Month:
    """The month that the tests are about."""
    return this_month().later(-OLD)


def started(house: House, *, months_ago: int = OLD, **more: object) -> UUID:
    """An instance of back then."""
    with made_in(this_month().later(-months_ago)):
        return house.start(**more)


def ended(house: House, *, months_ago: int = OLD, **more: object) -> UUID:
    """An instance of back then that is completed."""
    instance_id = started(house, months_ago=months_ago, **more)
    house.work()
    assert house.state(instance_id) == "completed"
    return instance_id


def fate(owner: Database, age: timedelta = 30 * DAY, *, trial: bool = False) -> Fate:
    """What became of the month that the tests are about."""
    found = {each.month: each for each in prune_months(owner, age, trial=trial)}
    return found[then()]


def left(house: House, instance_id: UUID) -> set[str]:
    """The tables with rows of an instance."""
    owned = ("contexts", "steps", "instance_state", "signals", "instance_keys")
    tables = {"instances": "id"} | dict.fromkeys(owned, "instance_id")
    return {
        table
        for table, column in tables.items()
        if house.sql(f"SELECT 1 FROM {table} WHERE {column} = %s", instance_id)
    }


# -- a month goes --------------------------------------------------------------------------------
def test_month_in_which_everything_ended_is_gone(old: House, owner: Database) -> None:
    """With all that belongs to its instances; others and the audit log stay."""
    gone = started(old, idempotency_key="k")
    old.signal(gone, name="unheard", payload={})
    old.work()
    assert left(old, gone) >= {"signals", "instance_state"}
    stays = ended(old, months_ago=0)
    old.advance(40 * DAY)
    fresh = ended(old, months_ago=0)
    assert fate(owner).fate == "gone"
    assert left(old, gone) == set()
    assert left(old, stays) >= {"instances", "contexts", "steps", "instance_state"}
    assert left(old, fresh) >= {"instances", "contexts", "steps", "instance_state"}
    for table in OWNED:
        assert f"{table}_{then()}" not in partitions(old, table)
        assert old.sql(f"SELECT to_regclass('{table}_{then()}') IS NULL AS gone")[0].gone
    assert old.actions(gone)[-1] != "instance.created"
    (entry,) = old.sql("SELECT * FROM audit_log WHERE action = 'month.pruned' AND body ->> 'month'"
                       " = %s", str(then()))  # fmt: skip
    assert (entry.actor, entry.body["kept"]) == ("prune", False)
    assert "30 days" in entry.reason


def test_key_is_free_when_its_month_is_gone(old: House, owner: Database) -> None:
    """A billing event that comes again after that starts a new instance."""
    gone = ended(old, idempotency_key="k")
    old.advance(40 * DAY)
    assert fate(owner).fate == "gone"
    assert old.start(idempotency_key="k") != gone


def test_detached_month_can_be_kept(old: House, owner: Database) -> None:
    """Its tables stay, to be archived; its keys are free, and no later prune touches it."""
    gone = ended(old, idempotency_key="k")
    old.advance(40 * DAY)
    found = {each.month: each for each in prune_months(owner, 30 * DAY, keep=True)}
    assert found[then()].fate == "detached"
    prune_months(owner, 30 * DAY)
    assert left(old, gone) == {"instance_state"}
    for table in OWNED:
        column = "id" if table == "instances" else "instance_id"
        assert old.sql(f"SELECT 1 FROM {table}_{then()} WHERE {column} = %s", gone)
    assert old.start(idempotency_key="k") != gone


def test_prune_goes_on_where_another_broke_off(old: House, owner: Database) -> None:
    """A month that was detached, but not dropped yet, is dropped with all it left behind."""
    gone = ended(old, idempotency_key="k")
    with owner.begin() as tx:
        storage.lock(tx)
        storage.detach(tx, then(), keep=False)
    assert left(old, gone) == {"instance_state", "instance_keys"}
    prune_months(owner, 30 * DAY)
    assert left(old, gone) == set()
    assert old.sql(f"SELECT to_regclass('steps_{then()}') IS NULL AS gone")[0].gone


def test_trial_changes_nothing(old: House, owner: Database) -> None:
    """It tells what would be gone."""
    instance_id = ended(old, idempotency_key="k")
    old.advance(40 * DAY)
    assert fate(owner, trial=True).fate == "ready"
    assert "instance_keys" in left(old, instance_id)


def test_present_month_never_goes(old: House, owner: Database) -> None:
    """However long ago everything in it ended: new instances belong there."""
    ended(old, months_ago=0)
    old.advance(400 * DAY)
    prune_months(owner, 30 * DAY)
    assert f"instances_{this_month()}" in partitions(old, "instances")
    ended(old, months_ago=0)


# -- what holds a month back ---------------------------------------------------------------------
def test_open_instance_holds_its_month_back(old: House, owner: Database) -> None:
    """What ended in that month is deleted row by row all the same."""
    done = ended(old)
    old.publish({"type": "wait", "duration": "99d"}, name="wait")
    live = started(old, name="wait")
    old.work()
    old.advance(40 * DAY)
    found = fate(owner)
    assert (found.fate, found.by) == ("held", {"open_instances": 1})
    assert prune(owner, 30 * DAY, progress=lambda _: None) == 1
    assert left(old, done) == set()
    assert left(old, live) >= {"instances", "contexts", "steps"}
    (entry,) = old.sql("SELECT body FROM audit_log WHERE action = 'instances.pruned'")
    assert entry.body == {"instances": 1}


def test_recent_end_holds_a_month_back(old: House, owner: Database) -> None:
    """An instance may take months; what counts is when it ended."""
    ended(old)
    old.advance(20 * DAY)
    ended(old)
    old.advance(20 * DAY)
    assert fate(owner).by == {"recently_ended": 1}


def test_parked_step_and_its_doubt_hold_a_month_back(old: House, owner: Database) -> None:
    """Until a person has decided."""
    old.provider_does(Rule(Do.FAIL_BEFORE, handler="doubt"))
    old.publish({"type": "step", "handler": "doubt", "idempotency": {"ttl": "1h"},
                 "retry": {"max_attempts": 1, "backoff": "2h"}}, name="d")  # fmt: skip
    started(old, name="d")
    old.work()
    old.advance(40 * DAY)
    assert fate(owner).by == {"open_instances": 1, "parked_steps": 1, "open_doubts": 1}


def test_open_incident_holds_a_month_back(old: House, owner: Database) -> None:
    """What contradicts what is recorded needs the rows."""
    instance_id = ended(old)
    old.sql("INSERT INTO incidents (id, instance_id, kind, body) VALUES "
            "(gen_random_uuid(), %s, 'second_success', '{}')", instance_id)  # fmt: skip
    old.advance(40 * DAY)
    assert fate(owner).by == {"open_incidents": 1}
    old.sql("UPDATE incidents SET closed_at = now()")
    assert fate(owner).fate == "gone"


def test_open_doubt_keeps_its_instance(old: House, owner: Database) -> None:
    """Row by row as by months: an attempt whose end nobody knows is not deleted, though the
    instance ended around it.
    """
    instance_id = ended(old)
    old.sql("INSERT INTO doubts (instance_id, node_key, generation, handler, effect, reason) VALUES"
            " (%s, 'charge', 0, 'charge', 'money', 'no answer')", instance_id)  # fmt: skip
    old.advance(40 * DAY)
    assert prune(owner, 30 * DAY, progress=lambda _: None) == 0
    assert left(old, instance_id) >= {"instances", "contexts", "steps"}
    old.sql("UPDATE doubts SET resolved_at = now()")
    assert prune(owner, 30 * DAY, progress=lambda _: None) == 1


def test_parent_that_runs_holds_the_month_of_its_child_back(old: House, owner: Database) -> None:
    """It may still read what the child has put out."""
    old.publish(CHARGE, name="child")
    sub = {"type": "sub_sequence", "sequence_name": "child"}
    old.publish(sub, {"type": "wait", "duration": "90d"}, name="parent")
    with made_in(then()):
        old.start(name="parent")
        old.work()
    old.advance(40 * DAY)
    assert fate(owner).by == {"open_instances": 1, "living_parents": 1}
    younger = this_month().later(1 - OLD)
    (parent,) = old.sql("SELECT id FROM instances WHERE parent_instance_id IS NULL")
    moved = UUID(int=parent.id.int + younger.low.int - then().low.int)
    old.sql("UPDATE instances SET id = %s WHERE id = %s", moved, parent.id)
    old.sql("UPDATE instances SET parent_instance_id = %s WHERE parent_instance_id = %s",
            moved, parent.id)  # fmt: skip
    old.sql("DELETE FROM steps WHERE instance_id = %s", parent.id)
    assert fate(owner).by == {"living_parents": 1}


def test_live_step_of_an_ended_instance_holds_its_month_back(old: House, owner: Database) -> None:
    """There should be none: whatever made it is looked into, not deleted."""
    instance_id = ended(old)
    old.sql("UPDATE steps SET state = 'running' WHERE instance_id = %s AND node_key = 'charge'",
            instance_id)  # fmt: skip
    old.advance(40 * DAY)
    assert fate(owner).by == {"live_steps": 1}


def test_instance_that_is_retried_meanwhile_stays(old: House, owner: Database) -> None:
    """Whether a month may go is looked at again when nobody else can touch it."""
    old.provider_does(Rule(Do.REFUSE, handler="charge"))
    failed = started(old)
    old.work()
    assert old.state(failed) == "failed"
    old.advance(40 * DAY)
    with owner.begin() as tx:
        (month,) = [each for each in storage.stored(tx) if each.month == then()]
        assert storage.obstacles(tx, month, 30 * DAY) == {}
    old.retry(failed)
    assert pruning._detach(owner, month, 30 * DAY, keep=False) == {"open_instances": 1}
    old.provider_does()
    old.work()
    assert old.state(failed) == "completed"


def test_parent_that_is_retried_meanwhile_keeps_its_childs_month(
    old: House, owner: Database
) -> None:
    """What only reading the whole month tells is looked at again, too."""
    old.provider_does(Rule(Do.REFUSE, handler="late"))
    old.publish(CHARGE, name="child")
    sub = {"type": "sub_sequence", "sequence_name": "child"}
    old.publish(sub, {"type": "step", "handler": "late"}, name="parent")
    with made_in(this_month().later(1 - OLD)):
        parent = old.start(name="parent")
    with made_in(then()):
        old.work()
    assert old.state(parent) == "failed"
    old.advance(40 * DAY)
    with owner.begin() as tx:
        (month,) = [each for each in storage.stored(tx) if each.month == then()]
        assert storage.obstacles(tx, month, 30 * DAY) == {}
        assert storage.hidden_obstacles(tx, month) == {}
    old.retry(parent)
    assert pruning._detach(owner, month, 30 * DAY, keep=False) == {"living_parents": 1}


# -- beside the work -----------------------------------------------------------------------------
def test_prune_does_not_wait_for_long_transactions(
    old: House, owner: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup reads for hours: prune gives up, and nobody queues behind it for long."""
    ended(old)
    old.advance(40 * DAY)
    monkeypatch.setattr(pruning, "LOCK_TRIES", 2)
    monkeypatch.setattr(pruning, "LOCK_PAUSE", 0.0)
    with closing(psycopg2.connect(old.database.owner_url)) as backup:
        backup.cursor().execute("SELECT count(*) FROM steps")
        assert fate(owner).by == {"transactions_in_the_way": 1}
    assert fate(owner).fate == "gone"


def test_work_goes_on_while_months_are_pruned(old: House, owner: Database) -> None:
    """Nothing fails and nothing is called twice, however often a month goes."""
    for ago in (5, 4, 3, 2):
        ended(old, months_ago=ago)
    old.advance(40 * DAY)
    stop, made, problems = threading.Event(), [0], list[BaseException]()

    def work() -> None:
        try:
            while not stop.is_set():
                old.start(idempotency_key=f"k{made[0]}")
                made[0] += 1
                old.work()
        except Unavailable as problem:
            problems.append(problem)

    worker = threading.Thread(target=work)
    worker.start()
    until(lambda: made[0] > 3 or problems)
    fates = prune_months(owner, 30 * DAY)
    before = made[0]
    until(lambda: made[0] > before + 3 or problems)
    stop.set()
    worker.join(30)
    assert problems == []
    gone = [each.month for each in fates if each.fate == "gone"]
    assert {this_month().later(-ago) for ago in (5, 4, 3)} <= set(gone)
    old.work()
    states = old.sql("SELECT state, count(*) AS n FROM instances GROUP BY state")
    assert [(row.state, row.n) for row in states] == [("completed", made[0])]
    assert len(old.keys()) == made[0] + 4


# -- the command ---------------------------------------------------------------------------------
def command(house: House, *arguments: str) -> str:
    """What the command prints; it ends well."""
    env = {"ORCH8_DATABASE_OWNER_URL": house.database.owner_url}
    done = CliRunner().invoke(main, ["prune", *arguments], env=env)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_command_tells_what_holds_each_month_back(old: House) -> None:
    """In words, and as JSON for programs."""
    old.publish({"type": "wait", "duration": "99d"}, name="wait")
    started(old, name="wait")
    ended(old, months_ago=4)
    old.work()
    old.advance(40 * DAY)
    told = command(old, "--older-than", "30d", "--dry-run").splitlines()
    assert f"{then()}: held back by 1 open instances (about 0 instances)" in told
    assert told[-1] == "1 instances would be gone."
    told = json.loads(command(old, "--older-than", "30d", "--json"))
    months = {each["month"]: each for each in told["months"]}
    assert months[str(then())]["held_back_by"] == {"open_instances": 1}
    assert months[str(this_month().later(-4))]["fate"] == "gone"
    assert (told["instances"], told["strays"], told["dry_run"]) == (0, 0, False)


def test_command_warns_of_instances_in_no_month(old: House) -> None:
    """A clock that is wrong shows here."""
    started(old, months_ago=-40)
    env = {"ORCH8_DATABASE_OWNER_URL": old.database.owner_url}
    done = CliRunner().invoke(main, ["prune"], env=env)
    assert "1 instances are in no month: a clock is wrong, or was.\n" in done.stderr
