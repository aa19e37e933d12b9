"""CONTRACT 18 and 24: emit_event starts another workflow through a trigger."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.support.desk import Desk
from tests.support.house import until

ACME = {"X-Tenant-Id": "acme"}
KEPT = {"id": "kept", "blocks": [{"type": "step", "id": "done", "handler": "noop"}]}
STRICT = {**KEPT, "id": "strict", "input_schema": {"type": "object", "required": ["plan"]}}


def emits(slug: str = "on_kept", **params: Any) -> dict[str, Any]:
    """A step that emits an event."""
    given = {"trigger_slug": slug, **params}
    return {"type": "step", "id": "emit", "handler": "emit_event", "params": given}


def producer(*blocks: Any) -> dict[str, Any]:
    """A definition of these blocks, under a name of its own."""
    return {"id": f"p_{uuid4().hex}", "blocks": list(blocks)}


@pytest.fixture
def trigger(desk: Desk) -> Any:
    """Publishes a definition and makes a trigger of it."""

    def made(slug: str = "on_kept", definition: Any = KEPT, **more: Any) -> None:
        headers = more.pop("headers", {})
        answer = desk.api.send("POST", "/sequences", definition, headers=headers)
        assert answer.status_code in {200, 201}, answer.text
        body = {
            "slug": slug, "sequence_name": definition["id"], "trigger_type": "event", **more,
        }  # fmt: skip
        desk.api.post("/triggers", {"tenant_id": "default", **body}, headers=headers)

    return made


def emitted(desk: Desk, instance: Any) -> Any:
    """What the emitting step put out."""
    rows = desk.api.get(f"/instances/{instance['id']}/outputs")
    return next(row["output"] for row in rows if row["block_id"] == "emit")


def error(desk: Desk, *blocks: Any, **members: Any) -> Any:
    """What a producer of these blocks failed with."""
    found = desk.run(producer(*blocks), **members)
    assert found["state"] == "failed"
    return desk.house.steps(found["id"])["emit"].error


def children(desk: Desk, slug: str = "on_kept") -> list[Any]:
    """The instances that a trigger has started, the last changed first."""
    found = desk.api.get("/instances?limit=1000")["items"]
    return [each for each in found if (each["metadata"] or {}).get("_trigger") == slug]


def test_emit_event_starts_the_sequence_of_a_trigger(desk: Desk, trigger: Any) -> None:
    """Its data is what was emitted; it is nobody's child, and says whence it came."""
    trigger()
    found = desk.run(producer(emits(data={"n": "{{context.data.n}}"}, meta={"why": "test"})),
                     context={"data": {"n": 7}})  # fmt: skip
    assert found["state"] == "completed"
    output = emitted(desk, found)
    assert output == {
        "instance_id": output["instance_id"], "sequence_name": "kept", "deduped": False,
    }  # fmt: skip
    desk.house.work()
    child = desk.api.get(f"/instances/{output['instance_id']}")
    assert (child["state"], child["context"]["data"]) == ("completed", {"n": 7})
    assert "parent_instance_id" not in child
    assert desk.api.get(f"/instances/{found['id']}/children") == []
    assert (child["metadata"]["_trigger"], child["metadata"]["_trigger_type"]) == (
        "on_kept", "event",
    )  # fmt: skip
    assert child["metadata"]["_trigger_event"].items() >= {
        "source": "emit_event", "parent_instance_id": found["id"], "why": "test",
    }.items()  # fmt: skip


def test_emit_event_without_data_emits_an_empty_object(desk: Desk, trigger: Any) -> None:
    """And its meta cannot pretend another origin."""
    trigger()
    found = desk.run(producer(emits(meta={"source": "x", "parent_instance_id": "y"})))
    child = desk.api.get(f"/instances/{emitted(desk, found)['instance_id']}")
    assert child["context"]["data"] == {}
    event = child["metadata"]["_trigger_event"]
    assert (event["source"], event["parent_instance_id"]) == ("emit_event", found["id"])


def test_emit_event_starts_the_version_of_now(desk: Desk, trigger: Any) -> None:
    """The newest, unless the trigger names one; in the trigger's namespace."""
    trigger()
    trigger("on_first", version=1)
    newer = {**KEPT, "blocks": [{"type": "step", "id": "newer", "handler": "noop"}]}
    desk.api.post("/sequences", newer)
    for slug, block in (("on_kept", "newer"), ("on_first", "done")):
        found = desk.run(producer(emits(slug)))
        desk.house.work()
        rows = desk.api.get(f"/instances/{emitted(desk, found)['instance_id']}/outputs")
        assert [row["block_id"] for row in rows] == [block]


def test_emit_event_through_no_usable_trigger_fails(desk: Desk, trigger: Any) -> None:
    """An unknown one, another tenant's, a disabled one: for good, and nothing is started."""
    trigger("on_theirs", headers=ACME, tenant_id="acme")
    trigger("on_disabled")
    desk.house.sql("UPDATE triggers SET enabled = false WHERE slug = 'on_disabled'")
    for slug in ("on_nothing", "on_theirs"):
        assert error(desk, emits(slug))["code"] == "unknown_trigger"
    assert "disabled" in error(desk, emits("on_disabled"))["message"]
    for slug in (None, "", " ", 7):
        assert "trigger_slug" in error(desk, emits(slug))["message"]
    assert children(desk, "on_theirs") == children(desk, "on_disabled") == []


def test_emit_event_of_a_sequence_that_is_gone_fails(desk: Desk, trigger: Any) -> None:
    """Or that is deprecated in all its versions."""
    trigger()
    desk.house.sql("UPDATE sequences SET deprecated = true WHERE name = 'kept'")
    assert error(desk, emits())["code"] == "unknown_sequence"


def test_emit_event_has_a_largest_size(desk: Desk, trigger: Any) -> None:
    """Data of more than 4 MiB fails the step for good."""
    trigger()
    context = {"data": {"v": "x" * 140_000}}
    found = error(desk, emits(data=["{{context.data.v}}"] * 30), context=context)
    assert found["code"] == "too_large"
    assert "data too large" in found["message"]
    assert children(desk) == []


def test_emit_event_is_held_to_the_input_schema(desk: Desk, trigger: Any) -> None:
    """Better than the contract: what the sequence would refuse is not started."""
    trigger("on_strict", STRICT)
    assert error(desk, emits("on_strict"))["code"] == "invalid_input"
    assert desk.run(producer(emits("on_strict", data={"plan": "a"})))["state"] == "completed"


# -- dedupe --------------------------------------------------------------------------------------
def test_emit_event_under_a_key_of_its_instance(desk: Desk, trigger: Any) -> None:
    """Within one instance the first child is the only one; two instances have two."""
    trigger()
    again = {**emits(dedupe_key="k"), "id": "again"}
    first = desk.run(producer(emits(dedupe_key="k"), again))
    rows = [row["output"] for row in desk.api.get(f"/instances/{first['id']}/outputs")]
    assert [row["deduped"] for row in rows] == [False, True]
    assert rows[0]["instance_id"] == rows[1]["instance_id"]
    second = desk.run(producer(emits(dedupe_key="k", dedupe_scope="parent")))
    assert emitted(desk, second)["deduped"] is False
    assert len(children(desk)) == 2


def test_emit_event_under_a_key_of_its_tenant(desk: Desk, trigger: Any) -> None:
    """Of two producers the second is told the first one's child, whatever its data."""
    trigger()
    told = [
        emitted(desk, desk.run(producer(emits(dedupe_key="k", dedupe_scope="tenant", data=n))))
        for n in range(2)
    ]
    assert [each["deduped"] for each in told] == [False, True]
    assert told[0]["instance_id"] == told[1]["instance_id"]
    (child,) = children(desk)
    assert child["context"]["data"] == 0


def test_emit_event_races_for_a_key(desk: Desk, trigger: Any) -> None:
    """Producers in several processes, all at the same moment: one child."""
    trigger()
    definition = producer(emits(dedupe_key="k", dedupe_scope="tenant"))
    started = [desk.api.started(definition) for _ in range(24)]
    pumps = [desk.house.another_pump(desk.house.another_office()) for _ in range(3)]
    threads = [threading.Thread(target=pump.work, args=("renewal",)) for pump in pumps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    desk.house.work()
    until(lambda: {desk.read(each)["state"] for each in started} == {"completed"})
    told = [emitted(desk, each) for each in started]
    assert len({each["instance_id"] for each in told}) == 1
    assert [each["deduped"] for each in told].count(False) == 1
    assert len(children(desk)) == 1


def test_emit_event_with_a_key_that_is_none_fails(desk: Desk, trigger: Any) -> None:
    """An empty key is a mistake, and so is an unknown scope; for good."""
    trigger()
    for key in ("", "  ", [1], "x" * 513):
        assert "dedupe_key" in error(desk, emits(dedupe_key=key))["message"]
    assert "dedupe_scope" in error(desk, emits(dedupe_key="k", dedupe_scope="world"))["message"]
    assert children(desk) == []


def test_emit_event_forgets_a_key_after_thirty_days(desk: Desk, trigger: Any) -> None:
    """Then it starts another child; what nobody asks for again is swept by the tick."""
    trigger()
    definition = producer(emits(dedupe_key="k", dedupe_scope="tenant"))
    once = producer(emits(dedupe_key="once", dedupe_scope="tenant"))
    first = emitted(desk, desk.run(definition))
    desk.run(once)
    desk.house.advance(timedelta(days=29))
    assert emitted(desk, desk.run(definition))["instance_id"] == first["instance_id"]
    desk.house.advance(timedelta(days=2))
    later = emitted(desk, desk.run(definition))
    assert (later["deduped"], later["instance_id"] == first["instance_id"]) == (False, False)
    desk.house.tick()
    assert [row.key for row in desk.house.sql("SELECT key FROM emissions")] == ["k"]


def test_emit_event_once_also_over_a_retry(desk: Desk, trigger: Any) -> None:
    """What completed is not emitted again when the instance goes on after a failure."""
    trigger()
    fails = {"type": "step", "id": "no", "handler": "fail"}
    found = desk.run(producer(emits(), fails))
    desk.api.post(f"/instances/{found['id']}/retry", status=200)
    desk.house.work()
    assert desk.read(found)["state"] == "failed"
    assert len(children(desk)) == 1


# -- chains --------------------------------------------------------------------------------------
def test_emit_event_makes_chains(desk: Desk, trigger: Any) -> None:
    """A starts B, which starts C, and each knows who started it."""
    trigger("on_c", {**KEPT, "id": "c"})
    trigger("on_b", {**producer(emits("on_c", data={"hop": 2})), "id": "b"})
    found = desk.run(producer(emits("on_b", data={"hop": 1})))
    desk.house.work()
    (b,), (c,) = children(desk, "on_b"), children(desk, "on_c")
    assert {each["state"] for each in (b, c)} == {"completed"}
    assert (b["context"]["data"], c["context"]["data"]) == ({"hop": 1}, {"hop": 2})
    assert b["metadata"]["_trigger_event"]["parent_instance_id"] == found["id"]
    assert c["metadata"]["_trigger_event"]["parent_instance_id"] == b["id"]
