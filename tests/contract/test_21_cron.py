"""CONTRACT 21: schedules start instances by the clock, once for each of their times."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from prometheus_client import CollectorRegistry

from api.tallies import Tallies
from orch8.runtime.firing import fire_due
from orch8.runtime.signal import cancel
from orch8.runtime.tick import tick
from orch8.storage.schedules import due
from tests.support.api import NOOP, WAITING, Api
from tests.support.house import until

ACME, OTHER = {"X-Tenant-Id": "acme"}, {"X-Tenant-Id": "other"}
EVERY_SECOND, YEARLY = "* * * * * *", "0 0 1 1 *"


def schedule(api: Api, cron_expr: str = EVERY_SECOND, *, of: Any = NOOP, **members: Any) -> Any:
    """A new schedule of acme's."""
    sequence = api.send("POST", "/sequences", of, headers=ACME).get_json()
    body = {"tenant_id": "acme", "namespace": "default", "sequence_id": sequence["id"]}
    return api.post("/cron", body | {"cron_expr": cron_expr} | members)


def refused(api: Api, status: int, **members: Any) -> str:
    """What is said to a body with these members."""
    sequence = api.send("POST", "/sequences", NOOP, headers=ACME).get_json()
    body = {
        "tenant_id": "acme", "namespace": "default", "sequence_id": sequence["id"],
        "cron_expr": YEARLY,
    }  # fmt: skip
    body = {name: value for name, value in {**body, **members}.items() if value is not None}
    error: str = api.refused(status, "POST", "/cron", body)["error"]
    return error


def make_due(api: Api, made: Any, ago: str = "0 s") -> None:
    """The schedule has been due for this long."""
    api.rows(
        "UPDATE schedules SET next_fire_at = date_trunc('second', orch8_now()) - %s::interval "
        "WHERE id = %s RETURNING id",
        ago,
        made["id"],
    )


def runs(api: Api) -> list[Any]:
    """The instances there are, the oldest first."""
    found = api.get("/instances?tenant_id=acme")["items"]
    return sorted(found, key=lambda each: str(each["id"]))


def shown(api: Api, made: Any) -> Any:
    """The schedule as it is now."""
    return api.get(f"/cron/{made['id']}")


# -- create, read, change, delete ----------------------------------------------------------------
def test_schedule_is_created_with_its_next_fire(api: Api) -> None:
    """201, with what was left out filled in."""
    made = schedule(api, YEARLY)
    assert made["next_fire_at"].endswith("-01-01T00:00:00Z")
    assert made["timezone"] == "UTC"
    assert made["enabled"] is True
    assert made["overlap_policy"] == "allow"
    assert made["skipped_fires"] == 0
    assert made["metadata"] is made["last_triggered_at"] is made["last_skipped_at"] is None
    assert shown(api, made) == made


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"cron_expr": "61 * * * *"}, "the minute '61'"),
        ({"cron_expr": "* * *"}, "not 3"),
        ({"cron_expr": "0 0 30 2 *"}, "no time that is still to come"),
        ({"cron_expr": " "}, "cron_expr must not be blank"),
        ({"timezone": "Europe/Vienn"}, "no time zone"),
    ],
)
def test_bad_expression_or_zone_is_400(api: Api, members: Any, words: str) -> None:
    """And says which, and why."""
    assert words in refused(api, 400, **members)


def test_body_of_the_wrong_shape_is_422(api: Api) -> None:
    """A missing member, an unknown policy, a blank tenant."""
    for name in ("tenant_id", "namespace", "sequence_id", "cron_expr"):
        assert name in refused(api, 422, **{name: None})
    assert "overlap_policy" in refused(api, 422, overlap_policy="sometimes")
    assert "tenant_id cannot be empty" in refused(api, 422, tenant_id=" ")


def test_unknown_sequence_is_404_and_another_tenants_is_403(api: Api) -> None:
    """A schedule starts what is its tenant's."""
    refused(api, 404, sequence_id=str(uuid4()))
    refused(api, 403, tenant_id="other")


def test_schedules_are_listed_by_tenant(api: Api) -> None:
    """An array, cut at limit."""
    made = [schedule(api, YEARLY) for _ in range(3)]
    assert api.get("/cron?tenant_id=acme") == made
    assert api.get("/cron?tenant_id=acme&limit=2") == made[:2]
    assert api.get("/cron?tenant_id=other") == []
    assert api.get("/cron?tenant_id=acme", headers=OTHER) == []


def test_change_keeps_what_it_does_not_name(api: Api) -> None:
    """And computes next_fire_at anew."""
    made = schedule(api, YEARLY, metadata={"plan": "pro"})
    changed = api.send("PUT", f"/cron/{made['id']}", {"cron_expr": EVERY_SECOND}).get_json()
    assert changed["next_fire_at"] < made["next_fire_at"]
    assert changed["metadata"] == {"plan": "pro"}
    assert changed["cron_expr"] == EVERY_SECOND
    off = api.send("PUT", f"/cron/{made['id']}", {"enabled": False}).get_json()
    assert (off["enabled"], off["next_fire_at"]) == (False, None)
    api.refused(400, "PUT", f"/cron/{made['id']}", {"timezone": "nowhere"})


def test_schedule_that_is_not_there_is_404(api: Api) -> None:
    """Neither is another tenant's; an id that is none is 400."""
    made = schedule(api, YEARLY)
    for path, headers in ((uuid4(), {}), (made["id"], OTHER)):
        api.refused(404, "GET", f"/cron/{path}", headers=headers)
        api.refused(404, "PUT", f"/cron/{path}", {"enabled": False}, headers=headers)
        api.refused(404, "DELETE", f"/cron/{path}", headers=headers)
        api.refused(404, "GET", f"/cron/{path}/next-fires", headers=headers)
    api.refused(400, "GET", "/cron/17")


def test_next_fires_are_told_in_the_zone(api: Api) -> None:
    """Five unless n says otherwise, at most fifty."""
    made = schedule(api, "0 9 * * *", timezone="Europe/Vienna")
    told = api.get(f"/cron/{made['id']}/next-fires")
    assert told["timezone"] == "Europe/Vienna"
    assert len(told["fires"]) == 5
    assert told["fires"][0] == made["next_fire_at"]
    assert len(api.get(f"/cron/{made['id']}/next-fires?n=99")["fires"]) == 50
    api.refused(400, "GET", f"/cron/{made['id']}/next-fires?n=0")


def test_who_changes_a_schedule_is_in_the_audit_log(api: Api) -> None:
    """With the reason."""
    made = schedule(api, YEARLY, reason="renewals")
    api.send("DELETE", f"/cron/{made['id']}?reason=moved", headers={"X-Actor": "ada"})
    sql = "SELECT action, actor, reason FROM audit_log WHERE action LIKE 'cron.%%' ORDER BY id"
    assert api.rows(sql) == [
        ("cron.created", "api", "renewals"),
        ("cron.deleted", "ada", "moved"),
    ]


# -- firing --------------------------------------------------------------------------------------
def test_every_second_schedule_starts_instances_within_seconds(api: Api) -> None:
    """The tick fires it."""
    schedule(api)
    until(lambda: tick(api.office, lambda *_: None) and len(runs(api)) > 1)


def test_instance_of_a_schedule_tells_where_it_comes_from(api: Api) -> None:
    """Normal priority, the schedule's zone, an empty context, its id in the metadata, and a key."""
    made = schedule(api, timezone="Asia/Tokyo", metadata={"plan": "pro"})
    make_due(api, made)
    slot = shown(api, made)["next_fire_at"]
    assert fire_due(api.office) == 1
    (run,) = runs(api)
    assert run["priority"] == "Normal"
    assert run["timezone"] == "Asia/Tokyo"
    assert run["context"]["data"] == {}
    assert run["metadata"] == {"plan": "pro", "cron_schedule_id": made["id"]}
    assert run["idempotency_key"] == f"cron:{made['id']}:{slot}"
    fired_at = datetime.fromisoformat(shown(api, made)["last_triggered_at"])
    assert fired_at >= datetime.fromisoformat(slot)


def test_disabled_schedule_starts_nothing(api: Api) -> None:
    """Whatever its next fire would be."""
    made = schedule(api, enabled=False)
    make_due(api, made, "1 hour")
    assert fire_due(api.office) == 0
    assert runs(api) == []


def test_deleted_schedule_starts_nothing_more(api: Api) -> None:
    """What it has started goes on."""
    made = schedule(api, of=WAITING)
    make_due(api, made)
    fire_due(api.office)
    assert api.send("DELETE", f"/cron/{made['id']}").status_code == 204
    assert fire_due(api.office) == 0
    assert len(runs(api)) == 1
    api.refused(404, "GET", f"/cron/{made['id']}")


def test_fires_that_were_missed_are_one(api: Api) -> None:
    """An engine that was down for an hour does not charge 3,600 times."""
    made = schedule(api)
    make_due(api, made, "1 hour")
    assert fire_due(api.office) == 1
    assert datetime.fromisoformat(shown(api, made)["next_fire_at"]) > datetime.fromisoformat(
        shown(api, made)["last_triggered_at"]
    )


def test_crash_after_the_start_does_not_start_again(api: Api) -> None:
    """The instance is named after its time: the next tick finds it and moves the schedule on."""
    made = schedule(api, YEARLY)
    make_due(api, made)
    with api.office.begin() as tx:
        (row,) = due(tx, 10)
    fire_due(api.office)
    api.rows(
        "UPDATE schedules SET next_fire_at = %s, last_triggered_at = NULL WHERE id = %s "
        "RETURNING id",
        row.next_fire_at,
        made["id"],
    )
    assert fire_due(api.office) == 0
    assert len(runs(api)) == 1
    assert shown(api, made)["last_triggered_at"] is not None


def test_two_ticks_at_once_fire_once(api: Api) -> None:
    """For each of ten schedules."""
    for _ in range(10):
        make_due(api, schedule(api, YEARLY, overlap_policy="cancel_previous", of=WAITING))
    with ThreadPoolExecutor(2) as ticks:
        both = list(ticks.map(lambda _: fire_due(api.office), range(2)))
    assert sum(both) <= 10
    found = runs(api)
    assert len(found) == 10
    assert not any(run["cancelling"] or run["state"] == "cancelled" for run in found)


def test_schedule_that_cannot_start_is_passed_over(api: Api) -> None:
    """Its sequence wants data that a schedule has not; others fire, and the audit log says why."""
    strict = {**NOOP, "id": "strict", "input_schema": {"type": "object", "required": ["plan"]}}
    bad, good = schedule(api, YEARLY, of=strict), schedule(api, YEARLY)
    make_due(api, bad, "1 s")
    make_due(api, good)
    assert fire_due(api.office) == 1
    assert shown(api, bad)["skipped_fires"] == 1
    ((outcome, reason),) = api.rows(
        "SELECT outcome, reason FROM audit_log WHERE action = 'cron.skipped'"
    )
    assert outcome == "failure"
    assert "input_schema" in reason


def test_fires_are_in_the_audit_log_and_counted(api: Api) -> None:
    """Each with its instance, and by monitoring."""
    made = schedule(api, YEARLY)
    make_due(api, made)
    fire_due(api.office)
    ((instance_id, actor),) = api.rows(
        "SELECT instance_id::text, actor FROM audit_log WHERE action = 'cron.fired'"
    )
    assert instance_id == runs(api)[0]["id"]
    assert actor == f"cron:{made['id']}"
    scrape = CollectorRegistry()
    scrape.register(Tallies(api.office, behind=timedelta(0)))
    counted = "orch8_cron_triggered_total"
    until(lambda: (scrape.get_sample_value(counted) or 0) >= 1)


# -- overlap -------------------------------------------------------------------------------------
def overlapping(api: Api, policy: str) -> Any:
    """A schedule that is due while its first run is open."""
    made = schedule(api, YEARLY, of=WAITING, overlap_policy=policy)
    make_due(api, made, "10 s")
    assert fire_due(api.office) == 1
    make_due(api, made)
    return made


def test_allow_starts_beside_what_is_open(api: Api) -> None:
    """Two runs are open."""
    overlapping(api, "allow")
    assert fire_due(api.office) == 1
    assert [run["cancelling"] for run in runs(api)] == [False, False]


def test_skip_passes_over_while_a_run_is_open(api: Api) -> None:
    """And counts; it fires again once the run has ended."""
    made = overlapping(api, "skip")
    assert fire_due(api.office) == 0
    assert shown(api, made)["skipped_fires"] == 1
    assert shown(api, made)["last_skipped_at"] is not None
    cancel(api.office, UUID(runs(api)[0]["id"]), actor="test")
    make_due(api, made, "5 s")
    assert fire_due(api.office) == 1
    assert shown(api, made)["skipped_fires"] == 1


def test_buffer_one_waits_for_the_end_of_the_run(api: Api) -> None:
    """It looks again after five seconds, and fires for the time that it was put off from."""
    made = overlapping(api, "buffer_one")
    slot = shown(api, made)["next_fire_at"]
    assert fire_due(api.office) == 0
    later = datetime.fromisoformat(shown(api, made)["next_fire_at"])
    assert later - datetime.fromisoformat(slot) >= timedelta(seconds=5)
    cancel(api.office, UUID(runs(api)[0]["id"]), actor="test")
    make_due(api, made)
    assert fire_due(api.office) == 1
    assert runs(api)[1]["idempotency_key"] == f"cron:{made['id']}:{slot}"


def test_cancel_previous_cancels_what_is_open_and_fires(api: Api) -> None:
    """Cancelling is never abandoning: the old run ends as cancelled runs do."""
    overlapping(api, "cancel_previous")
    assert fire_due(api.office) == 1
    old, new = runs(api)
    assert old["state"] == "cancelled"
    assert new["state"] != "cancelled"
