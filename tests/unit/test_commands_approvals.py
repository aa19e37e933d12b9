"""What people are asked and answer from the command line."""

from __future__ import annotations

import json

from tests.support.stub import Stub

ID = "019a0000-0000-7000-8000-000000000001"
AT = "2026-02-01T09:00:00+00:00"
ASKED = {
    "instance_id": ID, "node_key": "ok", "tenant_id": "acme", "namespace": "default",
    "sequence_id": ID, "sequence_name": "refund", "block_id": "ok", "prompt": "Refund 900 EUR?",
    "choices": [{"label": "Yes", "value": "yes"}, {"label": "No", "value": "no"}],
    "store_as": None, "timeout_seconds": None, "escalation_handler": None, "waiting_since": AT,
    "deadline": None, "metadata": None, "allow_comment": True,
}  # fmt: skip
LIST = "/approvals?offset=0&limit=100"
ONE = f"/approvals?instance_id={ID}&offset=0&limit=100"


def test_approvals_are_listed(stub: Stub) -> None:
    """Since when, where, what is asked and what can be answered."""
    stub.says(LIST, {"items": [ASKED], "total": 1})
    done = stub.run("approvals")
    row = done.output.splitlines()[1]
    for text in (ID, "ok", "Refund 900 EUR?", "yes, no"):
        assert text in row
    assert json.loads(stub.run("approvals", "--json").output) == [ASKED]


def test_nobody_is_waited_for(stub: Stub) -> None:
    """One line says so; a list can be narrowed."""
    stub.says(LIST, {"items": [], "total": 0})
    assert stub.run("approvals").output == "Nobody is waited for.\n"
    narrowed = f"/approvals?namespace=n&instance_id={ID}&offset=5&limit=7"
    stub.says(narrowed, {"items": [ASKED], "total": 1})
    options = ("--namespace", "n", "--instance", ID, "--offset", "5", "--limit", "7")
    assert ID in stub.run("approvals", *options).output


def test_approve_sends_the_answer_in_ones_own_name(stub: Stub) -> None:
    """With the comment, which is the reason, too."""
    stub.says(ONE, {"items": [ASKED], "total": 1})
    stub.says(f"/instances/{ID}/signals", {"signal_id": "s1"}, 201)
    done = stub.run("approve", ID, "ok", "no", "--comment", "too much", "--as", "ann")
    assert done.output == "ok: no\n"
    _, (_, _, sent) = stub.asked
    assert stub.headers["x-actor"] == "ann"
    assert sent.pop("dedupe_key")
    assert sent == {
        "signal_type": {"custom": "human_input:ok"}, "reason": "too much",
        "payload": {"value": "no", "comment": "too much"},
    }  # fmt: skip


def test_answer_that_cannot_count_is_not_sent(stub: Stub) -> None:
    """A value that is no choice, a step that asks nobody, nobody's name."""
    stub.says(ONE, {"items": [ASKED], "total": 1})
    done = stub.run("approve", ID, "ok", "perhaps", "--as", "ann")
    assert (done.exit_code, "yes, no" in done.output) == (1, True)
    done = stub.run("approve", ID, "else", "yes", "--as", "ann")
    assert (done.exit_code, "waits for no answer" in done.output) == (1, True)
    assert stub.run("approve", ID, "ok", "yes").exit_code == 2
    assert {method for method, _, _ in stub.asked} == {"GET"}
