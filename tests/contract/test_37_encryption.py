"""CONTRACT 37: who has the database and not the key learns nothing of what customers sent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from click.testing import CliRunner

from api.wsgi import wire
from orch8.cli import main
from orch8.config import Settings
from orch8.errors import ConfigurationError, Unavailable
from orch8.runtime import attention, vault
from orch8.runtime import reseal as resealing
from orch8.runtime.because import Because
from orch8.runtime.claim import claim_now
from orch8.runtime.office import Office
from orch8.runtime.signal import SignalRequest, signal
from orch8.storage import attention as stored_attention
from orch8.storage import credentials, instances, steps
from orch8.storage.changes import Changes, write
from orch8.storage.cipher import CannotOpen, Cipher
from orch8.storage.traces import Trace
from orch8.testing.misbehaviour import Do
from tests.support.api import NOOP, WAITING, Api, serving
from tests.support.desk import seated
from tests.support.house import LANE, House
from tests.support.servers import Database

OLD, NEW = "a1" * 32, "b2" * 32
PLANTED = "planted-4242424242"
CONTEXT = {"data": {"customer": PLANTED}, "config": {"region": "eu"}}
VAULT = {"name": "PSP", "kind": "oauth2", "value": PLANTED + "-value", "refresh_token": PLANTED}


@pytest.fixture
def api(postgres: Database) -> Iterator[Api]:
    """The app, with an encryption key."""
    with serving(postgres, encryption_key=NEW) as found:
        yield found


def keep(office: Office) -> None:
    """There is a credential."""
    with office.begin() as tx:
        vault.create(office, tx, "psp", "default", VAULT, Because(actor="test"))


@pytest.mark.parametrize("key", ["b2" * 31, "zz" * 32, "b2" * 32 + "b"])
def test_key_is_64_hexadecimal_digits(postgres: Database, key: str) -> None:
    """No process starts with another."""
    with (
        pytest.raises(ConfigurationError, match="ORCH8_ENCRYPTION_KEY"),
        serving(postgres, encryption_key=key),
    ):
        pass


def test_context_keeps_its_shape_and_its_data_is_sealed(api: Api) -> None:
    """data is a text that begins with enc:v2:, config is as it was."""
    api.started(WAITING, context=CONTEXT)
    ((body,),) = api.rows("SELECT body FROM contexts")
    assert body["data"].startswith("enc:v2:")
    assert body["config"] == {"region": "eu"}
    assert PLANTED not in json.dumps(body)


def test_api_shows_the_context_as_it_was(api: Api) -> None:
    """Created, read, listed, and created again under the same key."""
    once = {"context": CONTEXT, "idempotency_key": "once"}
    created = api.started(NOOP, **once)
    again = api.post("/sequences/noop_once/instances", once, status=200)
    shown = [created, again, api.get(f"/instances/{created['id']}")]
    shown += api.get("/instances")["items"]
    assert [each["context"]["data"] for each in shown] == [CONTEXT["data"]] * 4


def test_context_opens_for_its_instance_only(api: Api) -> None:
    """Who writes to the database cannot give one customer's data to another's instance."""
    first, second = (api.started(NOOP, context=CONTEXT)["id"] for _ in range(2))
    api.rows(
        "UPDATE contexts SET body = (SELECT body FROM contexts WHERE instance_id = %s)"
        " WHERE instance_id = %s RETURNING 1", first, second,
    )  # fmt: skip
    assert api.send("GET", f"/instances/{first}").status_code == 200
    assert api.send("GET", f"/instances/{second}").status_code == 500


@pytest.mark.parametrize("key", ["", NEW])
def test_large_context_comes_back_whole(postgres: Database, key: str) -> None:
    """200 KiB, with a key and without."""
    data = {"blob": "ü" * 100_000}
    with serving(postgres, encryption_key=key, max_body=2_000_000) as api:
        created = api.started(NOOP, context={"data": data})
        assert api.get(f"/instances/{created['id']}")["context"]["data"] == data


def test_credentials_are_sealed(api: Api) -> None:
    """Value and refresh token, also after a change."""
    keep(api.office)
    api.send("PATCH", "/credentials/psp", {"value": PLANTED + "-2"})
    ((value, token),) = api.rows("SELECT value, refresh_token FROM credentials WHERE id = 'psp'")
    assert value.startswith("enc:v1:")
    assert token.startswith("enc:v1:")
    assert PLANTED not in value + token
    with api.office.begin() as tx:
        assert credentials.values(tx, "default", ["psp"]) == {"psp": PLANTED + "-2"}


def test_payloads_of_signals_are_sealed(houses: Callable[..., House]) -> None:
    """The step that waited for it and the operator read it as it was, before and after reseal."""
    house = houses(insecure=True)
    waits = {"type": "wait_signal", "id": "w", "signal": "paid", "match": {"customer": PLANTED}}
    house.publish({**waits, "timeout": "1d"})
    first, second = house.start(), house.start()
    house.work()
    house.signal(first, name="paid", payload={"customer": PLANTED})
    reseal(house, encryption_key=NEW)
    sealing = house.another_office(encryption_key=NEW)
    with sealing.begin() as tx:
        request = SignalRequest(name="paid", payload={"customer": PLANTED})
        signal(sealing, tx, second, request, tenant_id=None)
    kept = [row.payload for row in house.sql("SELECT payload FROM signals")]
    assert [text[:7] for text in kept] == ["enc:v1:"] * 2
    house.another_pump(sealing).work(LANE)
    with sealing.begin() as tx:
        read = steps.read_steps(tx, [(each, "w") for each in (first, second)])
    assert [row.output["payload"] for row in read] == [{"customer": PLANTED}] * 2


# -- what steps leave behind -----------------------------------------------------------------------
ECHO: dict[str, Any] = {"type": "step", "id": "a", "handler": "echo", "effect": "none"}
LEFT = (
    "SELECT output::text AS text FROM steps WHERE output IS NOT NULL",
    "SELECT value::text AS text FROM instance_state",
    "SELECT output::text AS text FROM traces",
)
NEXT: dict[str, Any] = {
    "type": "step", "id": "b", "handler": "echo", "effect": "none",
    "params": {"said": "{{ outputs.a.said }}"},
}  # fmt: skip
EACH: dict[str, Any] = {
    "type": "for_each", "id": "f", "collection": "context.data.items", "body": [
        {"type": "step", "id": "s", "handler": "set_state",
         "params": {"key": "last", "value": "{{ item }}"}},
    ],
}  # fmt: skip


def echoing(house: House, said: Any = PLANTED) -> House:
    """The house with a handler that answers what it is asked, or else ``said``."""
    house.handler("echo", lambda asked: asked.params or {"said": said})
    return house


def kept(house: House) -> list[str]:
    """What there is of outputs and kept state, as JSON text."""
    return [row.text for sql in LEFT for row in house.sql(sql)]


def test_outputs_and_kept_state_are_sealed(houses: Callable[..., House]) -> None:
    """Those of steps and what loops keep of their collections; later steps read them all the
    same.
    """
    house = echoing(houses(encryption_key=NEW))
    instance_id = house.run(ECHO, NEXT, EACH, data={"items": [PLANTED, PLANTED]})
    assert house.state(instance_id) == "completed"
    found = kept(house)
    assert len(found) >= 5
    assert {text[:8] for text in found} == {'"enc:v1:'}
    assert house.step(instance_id, "b").output == {"said": PLANTED}
    with house.office.begin() as tx:
        assert instances.read_state(tx, [instance_id]) == {instance_id: {"last": PLANTED}}


def test_output_opens_for_its_step_only(houses: Callable[..., House]) -> None:
    """What another step answered cannot be put in its place."""
    house = echoing(houses(encryption_key=NEW))
    instance_id = house.run(ECHO, NEXT)
    house.sql(
        "UPDATE steps SET output = (SELECT output FROM steps WHERE node_key = 'a')"
        " WHERE node_key = 'b'"
    )
    with pytest.raises(CannotOpen):
        house.step(instance_id, "b")


def test_api_shows_outputs_as_they_were(houses: Callable[..., House]) -> None:
    """Also the marks among them, and in the timeline."""
    house = echoing(houses(encryption_key=NEW))
    with seated(house) as desk:
        done = desk.run({"id": "t", "blocks": [ECHO]})
        with house.office.begin() as tx:
            mark = Trace(UUID(done["id"]), "default", "a", {"mark": PLANTED}, datetime.now(UTC))
            write(tx, Changes(traced=[mark]))
        shown = desk.api.get(f"/instances/{done['id']}/outputs")
        assert [each["output"] for each in shown] == [{"said": PLANTED}, {"mark": PLANTED}]
        told = desk.api.get(f"/instances/{done['id']}/timeline")
    assert told["entries"][0]["output"] == {"said": PLANTED}
    assert PLANTED not in "".join(kept(house))


def test_marks_of_loops_are_told_from_sealed_collections(houses: Callable[..., House]) -> None:
    """How many items there are is known to who has the key."""
    body = [{"type": "step", "id": "say", "handler": "log"}]
    each = {"type": "for_each", "id": "each", "collection": ["a", "b"], "item_var": "x"}
    with seated(houses(encryption_key=NEW)) as desk:
        made = desk.run({"id": "looping", "blocks": [{**each, "body": body}]})
        found = desk.api.get(f"/instances/{made['id']}/outputs")
    marks = [row["output"] for row in found if row["block_id"] == "each"]
    assert [mark["_total"] for mark in marks] == [2, 2, 2]


def test_checkpoints_are_sealed(houses: Callable[..., House]) -> None:
    """Those of operators, and those of workers that a task goes on from."""
    house = houses(encryption_key=NEW, handler_url="")
    with seated(house) as desk:
        task = {"type": "step", "handler": "by_hand", "effect": "none"}
        done = desk.run({"id": "t", "blocks": [task]})
        path = f"/instances/{done['id']}/checkpoints"
        desk.api.post(path, {"checkpoint_data": {"at": PLANTED}})
        assert desk.api.get(f"{path}/latest")["checkpoint_data"] == {"at": PLANTED}
        asked = {"handler_name": "by_hand", "worker_id": "w"}
        (first,) = desk.api.post("/workers/tasks/poll", asked, status=200)
        claim = {"worker_id": "w", "claim_epoch": first["claim_epoch"]}
        beat = {**claim, "checkpoint": {"at": PLANTED}, "checkpoint_seq": 0}
        desk.api.post(f"/workers/tasks/{first['id']}/heartbeat", beat, status=200)
        texts = [row[0] for row in desk.api.rows("SELECT checkpoint_data::text FROM checkpoints")]
        texts += [row[0] for row in desk.api.rows("SELECT progress::text FROM steps")]
        assert PLANTED not in "".join(map(str, texts))
        house.sql("UPDATE steps SET lease_until = '-infinity'")
        house.tick()
        (second,) = desk.api.post("/workers/tasks/poll", asked, status=200)
    assert second["resume_checkpoint"] == {"at": PLANTED}


@pytest.mark.parametrize("key", ["", NEW])
@pytest.mark.parametrize("text", ["enc:v1:" + "A" * 60, "enc:v0:x", "enc:v2:?"])
def test_output_that_looks_sealed_comes_back(
    houses: Callable[..., House], key: str, text: str
) -> None:
    """No answer of a handler can stop its instance by looking like one, with a key or without."""
    house = houses(encryption_key=key)
    house.handler("echo", lambda _: text)
    instance_id = house.run(ECHO, {**NEXT, "params": {"said": "{{ outputs.a }}"}})
    assert house.step(instance_id, "a").output == text
    assert house.state(instance_id) == "completed"


def test_outputs_from_before_the_key_are_read(houses: Callable[..., House]) -> None:
    """And sealed by reseal, as is what steps keep."""
    house = echoing(houses())
    instance_id = house.run(ECHO, EACH, data={"items": [PLANTED]})
    assert PLANTED in "".join(kept(house))
    sealing = house.another_office(encryption_key=NEW)
    assert output_of(sealing, instance_id) == {"said": PLANTED}
    reseal(house, encryption_key=NEW)
    assert {text[:8] for text in kept(house)} == {'"enc:v1:'}
    assert output_of(sealing, instance_id) == {"said": PLANTED}
    assert reseal(house, encryption_key=NEW).startswith("0 rows")


def output_of(office: Office, instance_id: UUID) -> Any:
    """What a process reads of the output of step a."""
    with office.begin() as tx:
        (row,) = steps.read_steps(tx, [(instance_id, "a")])
    return row.output


def test_proposed_output_is_sealed(houses: Callable[..., House]) -> None:
    """What one person says an attempt came to, for another to confirm."""
    house = houses(encryption_key=NEW)
    with house.office.begin() as tx:
        asked = {
            "id": uuid4(), "tenant_id": "default", "instance_id": uuid4(), "node_key": "a",
            "epoch": 1, "decision": "happened", "output": {"said": PLANTED}, "provider_ref": None,
            "reason": "seen", "proposed_by": "ann",
        }  # fmt: skip
        assert stored_attention.insert_decision(tx, asked).output == {"said": PLANTED}
        found = stored_attention.read_decision(tx, asked["id"])
        assert found is not None
        assert found.output == {"said": PLANTED}
    ((text,),) = house.sql("SELECT output::text FROM decisions")
    assert text.startswith('"enc:v1:')


# -- refusing to start -----------------------------------------------------------------------------
SERVES: dict[str, Any] = {
    "broker_url": "redis://127.0.0.1:1/0", "redis_url": "redis://127.0.0.1:1/1",
    "database_url": "postgresql://nobody@127.0.0.1:1/none", "key_secret": "s", "api_key": "k",
}  # fmt: skip


def test_server_does_not_start_without_a_key() -> None:
    """Unless somebody said that what customers send may be kept in the clear."""
    with pytest.raises(ConfigurationError, match="ORCH8_INSECURE_STORAGE"):
        wire(Settings(**SERVES))
    for said in ({"insecure_storage": True}, {"insecure": True}, {"encryption_key": NEW}):
        wire(Settings(**SERVES, **said)).extensions["orch8"].office.close()


def test_worker_does_not_start_without_a_key() -> None:
    """It ends at once, with the name of what is missing."""
    env = {**os.environ, "ORCH8_BROKER_URL": "redis://127.0.0.1:1/0"}
    line = [sys.executable, "-m", "celery", "-A", "workers.app", "worker", "-P", "threads"]
    ended = subprocess.run(line, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "ORCH8_ENCRYPTION_KEY" in ended.stderr


def test_rows_from_before_the_key_are_read(postgres: Database) -> None:
    """An installation can begin to encrypt at any time."""
    with serving(postgres) as api:
        created = api.started(NOOP, context=CONTEXT)
        api.office.cipher = api.office.database.cipher = Cipher(NEW)
        assert api.get(f"/instances/{created['id']}")["context"]["data"] == CONTEXT["data"]


# -- in flight -----------------------------------------------------------------------------------
CHARGE: dict[str, Any] = {
    "type": "step", "id": "charge", "handler": "charge", "effect": "money",
    "params": {"amount": 1, "currency": "USD", "customer": "{{ context.data.customer }}"},
    "on_unknown": {"policy": "park"},
}  # fmt: skip


def parked(house: House) -> UUID:
    """An instance whose money step waits for a person, its request frozen."""
    house.provider_does(Do.COMMIT_THEN_HANG_UP)
    return house.run(CHARGE, data=CONTEXT["data"])


def frozen(house: House) -> list[bytes]:
    """The requests that are kept."""
    found = house.sql("SELECT request FROM steps WHERE request IS NOT NULL")
    return [bytes(row.request) for row in found]


def test_frozen_request_is_sealed_and_sent_as_it_was(houses: Callable[..., House]) -> None:
    """The intent holds the whole request of a payment; an operator is shown what was in it."""
    house = houses(encryption_key=NEW)
    instance_id = parked(house)
    assert [request[:7] for request in frozen(house)] == [b"enc:v1:"]
    with house.office.begin() as tx:
        told = attention.attempt(house.office, tx, instance_id, "charge", tenant_id=None)
    assert told["request"]["params"]["customer"] == PLANTED
    assert told["request"]["sha256"] == house.step(instance_id).fingerprint


def test_process_without_the_key_touches_nothing(houses: Callable[..., House]) -> None:
    """A worker that was started with the wrong key parks and fails no step."""
    house = houses(encryption_key=OLD)
    house.publish(CHARGE)
    instance_id = house.start(CONTEXT["data"])
    wrong = house.another_office(encryption_key=NEW)
    with pytest.raises(Unavailable, match=Cipher(OLD).mark().split(":")[2]):
        claim_now(wrong, LANE, uuid4(), 1, steps.take_due)
    assert house.step(instance_id).state == "scheduled"
    house.work()
    assert house.step(instance_id).state == "completed"


def test_keys_are_rotated_while_everything_runs(houses: Callable[..., House]) -> None:
    """With both keys the old rows open; after ``orch8 reseal`` the new key is enough."""
    house = houses(encryption_key=OLD)
    instance_id = parked(house)
    keep(house.office)
    both = {"encryption_key": NEW, "old_encryption_key": OLD}
    assert opened(house.another_office(**both), instance_id) == [PLANTED] * 2
    with pytest.raises(Unavailable, match="ORCH8_OLD_ENCRYPTION_KEY"):
        opened(house.another_office(encryption_key=NEW), instance_id)
    told = [reseal(house, **both) for _ in range(2)]
    assert [text.split()[0] for text in told] == ["3", "0"]
    assert opened(house.another_office(encryption_key=NEW), instance_id) == [PLANTED] * 2
    mark = Cipher(NEW).mark()
    assert [request.startswith(mark.encode()) for request in frozen(house)] == [True]


def test_what_was_kept_in_the_clear_is_sealed_by_the_same_command(
    houses: Callable[..., House],
) -> None:
    """Its first run is how an installation begins to encrypt."""
    house = houses(insecure=True)
    parked(house)
    keep(house.office)
    assert reseal(house, encryption_key=NEW).startswith("3 rows")
    rows = house.sql("SELECT body::text FROM contexts UNION ALL SELECT c::text FROM credentials c")
    assert PLANTED not in "".join(str(row) for row in [*rows, *frozen(house)])


def test_reseal_without_a_key_says_so(houses: Callable[..., House]) -> None:
    """It never unseals."""
    with pytest.raises(AssertionError, match="ORCH8_ENCRYPTION_KEY is not set"):
        reseal(houses(), old_encryption_key=OLD)


def opened(office: Office, instance_id: UUID) -> list[str]:
    """What a process reads of a context and of the vault."""
    with office.begin() as tx:
        told = attention.attempt(office, tx, instance_id, "charge", tenant_id=None)
        found = credentials.values(tx, "default", ["psp"])
    return [told["request"]["params"]["customer"], found["psp"].removesuffix("-value")]


def reseal(house: House, *, encryption_key: str = "", old_encryption_key: str = "") -> str:
    """What the command says when it ends."""
    env = {
        "ORCH8_DATABASE_URL": house.settings.database_url,
        "ORCH8_ENCRYPTION_KEY": encryption_key,
        "ORCH8_OLD_ENCRYPTION_KEY": old_encryption_key,
    }
    done = CliRunner().invoke(main, ["reseal"], env=env)
    assert done.exit_code == 0, done.stderr
    return done.stdout


def test_page_of_large_outputs_is_short(
    houses: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reseal holds a bounded number of bytes at a time, and at least one output."""
    monkeypatch.setattr("orch8.storage.resealing.MOST_BYTES", 1)
    house = echoing(houses())
    instance_id = house.run(ECHO, EACH, data={"items": [PLANTED]})
    reseal(house, encryption_key=NEW)
    assert {text[:8] for text in kept(house)} == {'"enc:v1:'}
    sealing = house.another_office(encryption_key=NEW)
    assert output_of(sealing, instance_id) == {"said": PLANTED}


def test_reseal_goes_through_everything_page_by_page(
    houses: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much there is, each transaction is short."""
    monkeypatch.setattr(resealing, "BATCH", 2)
    house = houses()
    house.publish({"type": "wait_signal", "id": "w", "signal": "paid"})
    for _ in range(5):
        house.signal(house.start(CONTEXT["data"]), name="other", payload={"customer": PLANTED})
    assert reseal(house, encryption_key=NEW).startswith("10 rows")
    assert reseal(house, encryption_key=NEW).startswith("0 rows")
