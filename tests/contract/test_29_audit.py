"""CONTRACT 29: an instance's audit log says who did what to it, and when."""

from __future__ import annotations

from uuid import uuid4

from tests.support.api import CHARGE, NOOP, Api
from tests.support.desk import Desk


def test_completed_run_ends_with_its_completion(desk: Desk) -> None:
    """The newest entry comes first."""
    instance = desk.run(NOOP)
    entries = desk.api.get(f"/instances/{instance['id']}/audit")
    newest, oldest = entries[0], entries[-1]
    assert (newest["event_type"], newest["to_state"]) == ("state_transition", "completed")
    assert (oldest["event_type"], oldest["instance_id"]) == ("instance.created", instance["id"])
    assert [each["created_at"] for each in entries] == sorted(
        (each["created_at"] for each in entries), reverse=True
    )
    assert {each["tenant_id"] for each in entries} == {"default"}
    assert [each["block_id"] for each in entries if "block_id" in each] == ["noop"]


def test_failed_run_ends_with_its_failure(desk: Desk) -> None:
    """As an entry of its own."""
    failing = {"id": "failing", "blocks": [{"type": "step", "handler": "fail"}]}
    instance = desk.run(failing)
    newest = desk.api.get(f"/instances/{instance['id']}/audit")[0]
    assert (newest["event_type"], newest["to_state"]) == ("state_transition", "failed")


def test_pause_and_resume_are_transitions(api: Api) -> None:
    """One each; who asked is named."""
    path = f"/instances/{api.started(CHARGE)['id']}"
    for signal in ("pause", "resume"):
        api.post(f"{path}/signals", {"signal_type": signal}, headers={"X-Actor": "ada"})
    resumed, paused = api.get(f"{path}/audit")[:2]
    assert (paused["event_type"], paused["to_state"]) == ("state_transition", "paused")
    assert (resumed["event_type"], resumed["from_state"]) == ("state_transition", "paused")
    assert {paused["actor"], resumed["actor"]} == {"ada"}


def test_log_has_the_newest_entries(api: Api) -> None:
    """200 of them, unless more are asked for."""
    instance = api.started(CHARGE)["id"]
    tenant = api.rows("SELECT tenant_id FROM instances")[0][0]
    api.rows(
        """INSERT INTO audit_log (id, tenant_id, actor, action, outcome, instance_id)
           SELECT ('ffffffff-ffff-7fff-8fff-' || lpad(to_hex(n), 12, '0'))::uuid, %s, 'x', 'n' || n,
               'success', %s FROM generate_series(1, 1005) n RETURNING id""",
        tenant,
        instance,
    )
    path = f"/instances/{instance}/audit"
    found = api.get(path)
    assert [len(found), found[0]["action"], found[-1]["action"]] == [200, "n1005", "n806"]
    assert len(api.get(f"{path}?limit=2000")) == 1000
    assert [each["action"] for each in api.get(f"{path}?limit=1")] == ["n1005"]


def test_unknown_instance_is_404(api: Api) -> None:
    """And another tenant's."""
    instance = api.started()["id"]
    api.refused(404, "GET", f"/instances/{uuid4()}/audit")
    api.refused(404, "GET", f"/instances/{instance}/audit", headers={"X-Tenant-Id": "other"})
    api.refused(400, "GET", "/instances/17/audit")
