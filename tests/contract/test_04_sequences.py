"""CONTRACT 4: sequences are published, listed, found, promoted, deleted; instances migrated."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest

from tests.support.api import Api
from tests.support.desk import Desk

ACME, OTHER = {"X-Tenant-Id": "acme"}, {"X-Tenant-Id": "other"}


def definition(version: int = 1, **members: Any) -> dict[str, Any]:
    """A definition in the contract's form."""
    return {
        "id": str(uuid4()), "tenant_id": "acme", "namespace": "default", "name": "s",
        "version": version, "created_at": "2026-01-01T00:00:00Z",
        "blocks": [{"type": "step", "id": "a", "handler": "noop"}],
    } | members  # fmt: skip


def published(api: Api, version: int = 1, **members: Any) -> str:
    """The id of a version that was published."""
    body = definition(version, **members)
    assert api.post("/sequences", body)["id"] == body["id"]
    return str(body["id"])


def started(api: Api, sequence_id: str) -> str:
    """The id of an instance of a version."""
    body = {"sequence_id": sequence_id, "tenant_id": "acme", "namespace": "default"}
    return str(api.post("/instances", body)["id"])


def test_version_is_published_and_read(api: Api) -> None:
    """Its definition comes back as it was sent."""
    body = definition(input_schema={"type": "object"}, blocks=[
        {"type": "step", "id": "a", "handler": "charge", "when": "data.x > 1",
         "retry": {"max_attempts": 3, "initial_backoff": 100, "max_backoff": 1000},
         "output_schema": {"required": ["id"]}}])  # fmt: skip
    made = api.post("/sequences", body)
    found = api.get(f"/sequences/{made['id']}")
    assert found.items() >= body.items()
    assert (found["status"], found["deprecated"]) == ("production", False)


def test_duplicate_id_or_version_is_409(api: Api) -> None:
    """Each by itself."""
    first = published(api)
    api.refused(409, "POST", "/sequences", definition(2, id=first))
    api.refused(409, "POST", "/sequences", definition(1))
    published(api, 1, tenant_id="other")
    published(api, 1, namespace="other")


def test_foreign_tenant_is_403_to_publish_and_404_to_read(api: Api) -> None:
    """Without a header everything is seen."""
    api.refused(403, "POST", "/sequences", definition(), headers=OTHER)
    made = published(api)
    api.refused(404, "GET", f"/sequences/{made}", headers=OTHER)
    assert api.get(f"/sequences/{made}")["id"] == made


def test_list_is_in_order(api: Api) -> None:
    """By tenant, namespace, name, the newest version first; deprecated ones, too."""
    for version, name in ((1, "b"), (2, "b"), (1, "a")):
        published(api, version, name=name)
    published(api, 1, tenant_id="aaa")
    api.post(f"/sequences/{published(api, 3, name='b')}/deprecate", status=204)
    found = api.get("/sequences")
    assert [(s["tenant_id"], s["name"], s["version"]) for s in found["items"]] == [
        ("aaa", "s", 1), ("acme", "a", 1), ("acme", "b", 3), ("acme", "b", 2), ("acme", "b", 1),
    ]  # fmt: skip
    assert found["has_more"] is False
    page = api.get("/sequences?tenant_id=acme&limit=2&offset=1")
    assert ([s["version"] for s in page["items"]], page["has_more"]) == ([3, 2], True)


def test_bare_list_has_all_of_the_tenant(api: Api) -> None:
    """As an array."""
    published(api)
    published(api, tenant_id="other")
    assert [s["tenant_id"] for s in api.get("/sequences.json", headers=ACME)] == ["acme"]
    assert len(api.get("/sequences.json")) == 2


def test_name_finds_the_newest_that_is_not_deprecated(api: Api) -> None:
    """A version that is named is found even if it is."""
    old, new = published(api, 1), published(api, 2)
    path = "/sequences/by-name?tenant_id=acme&namespace=default&name=s"
    assert api.get(path)["id"] == new
    for _ in range(2):
        api.post(f"/sequences/{new}/deprecate", status=204)
    assert api.get(path)["id"] == old
    assert api.get(f"{path}&version=2")["deprecated"] is True
    assert [s["id"] for s in api.get(path.replace("by-name", "versions"))] == [old]
    api.post(f"/sequences/{old}/deprecate", status=204)
    api.refused(404, "GET", path)
    api.refused(404, "GET", f"{path}&version=3")
    assert api.get("/sequences/versions?tenant_id=acme&namespace=default&name=nope") == []
    api.refused(404, "POST", f"/sequences/{uuid4()}/deprecate")


# -- status --------------------------------------------------------------------------------------
MOVES = {
    "draft": {"staging", "unpublished"}, "staging": {"production", "unpublished"},
    "production": {"unpublished"}, "unpublished": set(),
}  # fmt: skip


@pytest.mark.parametrize("status", MOVES)
def test_status_moves_as_it_may(api: Api, status: str) -> None:
    """Otherwise 400; unpublished deprecates, too."""
    for wanted in MOVES:
        made = published(api, 1, status=status, name=f"{status}-{wanted}")
        if wanted not in MOVES[status]:
            api.refused(400, "POST", f"/sequences/{made}/status", {"status": wanted})
            continue
        api.post(f"/sequences/{made}/status", {"status": wanted}, status=204)
        found = api.get(f"/sequences/{made}")
        assert (found["status"], found["deprecated"]) == (wanted, wanted == "unpublished")


def test_status_that_is_none_or_of_nobody_is_refused(api: Api) -> None:
    """422, 404; and another tenant's is not there."""
    made = published(api)
    api.refused(422, "POST", f"/sequences/{made}/status", {"status": "gone"})
    body = {"status": "unpublished"}
    api.refused(404, "POST", f"/sequences/{uuid4()}/status", body)
    api.refused(404, "POST", f"/sequences/{made}/status", body, headers=OTHER)


def test_unpublishing_a_name_takes_every_version(api: Api) -> None:
    """With delete they are gone."""
    made = [published(api, version) for version in (1, 2)]
    api.post("/sequences/s/unpublish", status=204, headers=ACME)
    found = [api.get(f"/sequences/{each}") for each in made]
    assert {(each["status"], each["deprecated"]) for each in found} == {("unpublished", True)}
    api.post("/sequences/s/unpublish", {"delete": True}, status=204, headers=ACME)
    assert api.get("/sequences?tenant_id=acme")["items"] == []
    api.refused(404, "POST", "/sequences/s/unpublish", headers=ACME)


def test_promotion_publishes_the_newest_in_production(api: Api) -> None:
    """It must be staging; the new version has an id of its own."""
    published(api, 1)
    api.refused(400, "POST", "/sequences/s/promote", headers=ACME)
    staging = published(api, 4, status="staging")
    made = api.post("/sequences/s/promote", headers=ACME)
    assert (made["version"], made["id"] == staging) == (5, False)
    found = api.get(f"/sequences/{made['id']}")
    assert (found["status"], found["version"], found["blocks"]) == (
        "production", 5, definition()["blocks"],
    )  # fmt: skip
    assert api.get(f"/sequences/{staging}")["status"] == "staging"
    api.refused(404, "POST", "/sequences/nope/promote", headers=ACME)


# -- deletion ------------------------------------------------------------------------------------
def test_version_with_live_instances_is_not_deleted(api: Api) -> None:
    """409; once they have ended it is, and what ran stays."""
    made = published(api)
    instance = started(api, made)
    api.refused(409, "DELETE", f"/sequences/{made}")
    cancel = {"signal_type": "cancel"}
    api.post(f"/instances/{instance}/signals", cancel)
    assert api.send("DELETE", f"/sequences/{made}").status_code == 204
    api.refused(404, "GET", f"/sequences/{made}")
    api.refused(404, "DELETE", f"/sequences/{made}")
    assert api.get(f"/instances/{instance}")["state"] == "cancelled"
    assert api.get(f"/instances/{instance}/tree?flat=true")


def test_deleted_version_starts_nothing(api: Api) -> None:
    """Neither by its id, nor by its name, a batch or a schedule."""
    made = published(api)
    started_once = started(api, made)
    api.post(f"/instances/{started_once}/signals", {"signal_type": "cancel"})
    assert api.send("DELETE", f"/sequences/{made}", headers=ACME).status_code == 204
    body = {"sequence_id": made, "tenant_id": "acme", "namespace": "default"}
    api.refused(404, "POST", "/instances", body)
    api.refused(404, "POST", "/instances/batch", {"instances": [body]})
    api.refused(404, "POST", "/sequences/s/instances", {}, headers=ACME)
    api.refused(404, "POST", "/cron", body | {"cron_expr": "0 0 * * *"})


def test_name_and_version_of_a_deleted_one_are_free(api: Api) -> None:
    """Its id is not."""
    made = published(api)
    api.refused(404, "DELETE", f"/sequences/{made}", headers=OTHER)
    assert api.send("DELETE", f"/sequences/{made}").status_code == 204
    api.refused(409, "POST", "/sequences", definition(1, id=made))
    again = published(api, 1)
    assert [s["id"] for s in api.get("/sequences")["items"]] == [again]


def test_two_versions_published_at_once_both_land(api: Api) -> None:
    """Without numbers of their own, one after the other."""
    bodies = [definition(version) for version in range(1, 5)]
    with ThreadPoolExecutor(4) as publishers:
        answers = list(
            publishers.map(
                lambda body: api.app.test_client().post("/sequences", json=body).status_code, bodies
            )
        )
    assert answers == [201] * 4


# -- migration of instances ----------------------------------------------------------------------
def migrate(api: Api, instance: str, target: str, status: int = 200, **more: Any) -> Any:
    """The answer to a migration."""
    body = {"instance_id": instance, "target_sequence_id": target}
    answer = api.send("POST", "/sequences/migrate-instance", body, **more)
    assert answer.status_code == status, answer.text
    return answer.json


def test_migrated_instance_frees_its_version(api: Api) -> None:
    """Which can be deleted then."""
    old, new = published(api, 1), published(api, 2)
    instance = started(api, old)
    assert migrate(api, instance, new) == {
        "migrated": True, "instance_id": instance, "from_sequence_id": old,
        "to_sequence_id": new,
    }  # fmt: skip
    assert api.get(f"/instances/{instance}")["sequence_id"] == new
    assert api.send("DELETE", f"/sequences/{old}").status_code == 204


def test_migration_is_refused_where_it_must(api: Api) -> None:
    """404 for either, 403 for another tenant's target, 400 for what has ended."""
    old, new = published(api, 1), published(api, 2)
    foreign = published(api, 1, tenant_id="other")
    instance = started(api, old)
    migrate(api, str(uuid4()), new, 404)
    migrate(api, instance, str(uuid4()), 404)
    migrate(api, instance, new, 404, headers=OTHER)
    migrate(api, instance, foreign, 403)
    api.refused(422, "POST", "/sequences/migrate-instance", {"instance_id": instance})
    api.post(f"/instances/{instance}/signals", {"signal_type": "cancel"})
    migrate(api, instance, new, 400)


def step(name: str, handler: str = "transform", **members: Any) -> dict[str, Any]:
    """A step that puts out its own name."""
    return {"type": "step", "id": name, "handler": handler, "params": {"n": name}} | members


def test_instance_goes_on_by_the_new_version(desk: Desk) -> None:
    """From where it is: what was put before that is not run, what comes after is the new one's."""
    waits = {"type": "wait_signal", "id": "wait", "signal": "go"}
    old = published(desk.api, 1, blocks=[step("a"), waits, step("b")])
    new = published(desk.api, 2, blocks=[step("a"), step("late"), waits, step("c"), step("d")])
    instance = started(desk.api, old)
    desk.house.work()
    migrate(desk.api, instance, new)
    desk.api.post(f"/instances/{instance}/signals", {"signal_type": {"custom": "go"}})
    desk.house.work()
    assert desk.read({"id": instance})["state"] == "completed"
    ran = [row["block_id"] for row in desk.api.get(f"/instances/{instance}/outputs")]
    assert [each for each in ran if each != "wait"] == ["a", "c", "d"]
    entries = desk.api.get(f"/instances/{instance}/audit")
    assert "instance.migrated" in {each["action"] for each in entries}


def test_target_without_a_place_for_the_instance_is_409(api: Api) -> None:
    """Neither is one where the step it is at calls something else."""
    old = published(api, 1)
    instance = started(api, old)
    for version, blocks in ((2, [step("other")]), (3, [step("a", "charge")])):
        target = published(api, version, blocks=blocks)
        assert "cannot go on" in migrate(api, instance, target, 409)["error"]
    assert api.get(f"/instances/{instance}")["sequence_id"] == old
