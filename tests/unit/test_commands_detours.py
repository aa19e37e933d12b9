"""Injecting, resuming and forking from the command line."""

from __future__ import annotations

from pathlib import Path

from tests.support.stub import Stub

ID = "019a0000-0000-7000-8000-000000000001"
OTHER = "019a0000-0000-7000-8000-000000000002"


def test_inject_sends_the_blocks_of_a_file(stub: Stub, tmp_path: Path) -> None:
    """And says which are there now."""
    file = tmp_path / "blocks.json"
    file.write_text('[{"type": "step", "id": "tell", "handler": "notify"}]')
    answer = {"injected_block_ids": ["tell"], "position": 0, "total_injected": 3}
    stub.says(f"/instances/{ID}/inject-blocks", answer)
    done = stub.run("instance", "inject", ID, str(file), "--position", "0", "--reason", "asked")
    assert done.output == "injected tell; 3 by now\n"
    blocks = [{"type": "step", "id": "tell", "handler": "notify"}]
    body = {"blocks": blocks, "position": 0, "reason": "asked"}
    assert stub.asked == [("POST", f"/api/v1/instances/{ID}/inject-blocks", body)]


def test_resume_from_says_what_is_history(stub: Stub) -> None:
    """Nothing is acknowledged unless it is said."""
    answer = {"id": ID, "state": "scheduled", "resumed_from": "pay", "outputs_deleted": 2,
              "signals_enqueued": 0, "round": 2}  # fmt: skip
    stub.says(f"/instances/{ID}/resume-from/pay", answer)
    done = stub.run("instance", "resume-from", ID, "pay", "--data", '{"n": 1}')
    assert done.output == f"{ID} goes on from pay; 2 outputs are history\n"
    body = {"context": {"n": 1}, "acknowledge_side_effect_risk": False}
    assert stub.asked == [("POST", f"/api/v1/instances/{ID}/resume-from/pay", body)]


def test_fork_is_a_dry_run_unless_it_is_for_real(stub: Stub) -> None:
    """And says what it runs."""
    answer = {"id": OTHER, "forked_from": ID, "state": "scheduled", "copied_blocks": 1,
              "rerun_blocks": ["pay", "tell"], "dry_run": True}  # fmt: skip
    stub.says(f"/instances/{ID}/fork", answer, 201)
    done = stub.run("instance", "fork", ID, "pay")
    assert done.output == f"{OTHER} (dry run) runs pay, tell\n"
    stub.says(f"/instances/{ID}/fork", {**answer, "dry_run": False}, 201)
    done = stub.run("instance", "fork", ID, "pay", "--for-real", "--acknowledge-side-effect-risk")
    assert done.output == f"{OTHER} (for real) runs pay, tell\n"
    assert [asked[2] for asked in stub.asked] == [
        {"from_block_id": "pay", "dry_run": dry, "acknowledge_side_effect_risk": not dry}
        for dry in (True, False)
    ]
