"""What people do about attempts in doubt from the command line, and what they are told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.stub import Stub

ID = "019a0000-0000-7000-8000-000000000001"
OTHER = "019a0000-0000-7000-8000-000000000002"
AT, SOON = "2026-02-01T09:00:00Z", "2026-02-01T10:00:00Z"
STEP = {
    "state": "parked", "outcome": "unknown", "money": {"amount": 9900, "currency": "USD"},
    "idempotency_key": "k-1", "provider_ref": None, "dispatches": 2, "first_dispatched_at": AT,
    "last_dispatched_at": SOON, "attention": {"reason": "outcome_unknown"},
}  # fmt: skip
PARKED = {
    "kind": "parked", "id": None, "since": AT, "needs_person": True, "reason": "outcome_unknown",
    "instance_id": ID, "node_key": "charge[17]", "handler": "charge", "provider": "stripe_v1",
    "details": {}, "step": STEP, "closed_at": None, "closed_by": None,
    "next": {"does": "nothing: a person has to decide", "at": None},
}  # fmt: skip
DOUBT = PARKED | {
    "kind": "doubt",
    "needs_person": False,
    "next": {"does": "asks find_charge again", "at": SOON},
}
INCIDENT = PARKED | {"kind": "incident", "id": OTHER, "reason": "contrary_evidence", "step": None}
DECISION = PARKED | {
    "kind": "decision",
    "id": OTHER,
    "details": {"proposed_by": "ann", "decision": "fail"},
}
RESOLVED = DOUBT | {
    "closed_at": SOON, "closed_by": "webhook", "details": {"verdict": "succeeded"}, "next": None,
}  # fmt: skip
ATTEMPT = {
    "instance_id": ID, "node_key": "charge", "handler": "charge", "effect": "money",
    "provider": "stripe_v1", "epoch": 3, "step": STEP, "two_people": True,
    "next": {"does": "nothing: a person has to decide", "at": None},
    "policy": {"on_unknown": {"policy": "park"}}, "request": {"params": {"amount": 9900}},
    "evidence": [{"at": AT, "kind": "answer", "verdict": "unknown", "body": {"status": 504}}],
    "signals": [{"received_at": SOON, "name": "paid", "means": "succeeded", "payload": {"n": 1}}],
    "decisions": [{"id": OTHER, "state": "open", "proposed_by": "ann", "decision": "fail",
                   "reason": "gone"}],
    "fence": {"fence": "invoice:1", "waiting": [{"instance_id": OTHER, "node_key": "pay"}]},
    "decide": {"happened": None, "ask_again": "the key is too old"},
}  # fmt: skip
LIST = "/attention?state=open&limit=100"
SHOW = f"/attention/{ID}/charge"
WHO = ("--reason", "seen", "--as", "maria")


def page(*items: Any, more: bool = False) -> dict[str, Any]:
    """A page of matters."""
    return {"items": list(items), "has_more": more, "next_cursor": None}


# -- the list ------------------------------------------------------------------------------------
def test_empty_list_says_that_nothing_is_in_doubt(stub: Stub) -> None:
    """One line; a narrowed list says no more than it knows."""
    stub.says(LIST, page())
    assert stub.run("attention").output == "Nothing is in doubt.\n"
    stub.says("/attention?state=open&handler=x&limit=100", page())
    assert stub.run("attention", "--handler", "x").output == "Nothing that you asked for.\n"


def test_list_marks_what_needs_a_person(stub: Stub) -> None:
    """Each row says what it is, how much money, why, and what happens by itself."""
    stub.says(LIST, page(PARKED, DOUBT, INCIDENT, DECISION, more=True))
    done = stub.run("attention")
    assert done.exit_code == 0, done.output
    _, parked, doubt, incident, decision, more = [
        " ".join(line.split()) for line in done.output.splitlines()
    ]
    assert parked.startswith(f"{AT} ! parked {ID} charge[17] 9900 USD outcome_unknown")
    assert parked.endswith("nothing: a person has to decide")
    assert doubt.endswith(f"asks find_charge again at {SOON}")
    assert "! doubt" not in doubt
    assert f"contrary_evidence ({OTHER})" in incident
    assert f"ann: fail ({OTHER})" in decision
    assert more.startswith("There are more")


def test_resolved_matters_say_by_what(stub: Stub) -> None:
    """The last column is how it ended."""
    stub.says("/attention?state=resolved&limit=100", page(RESOLVED))
    told = " ".join(stub.run("attention", "--state", "resolved").output.split())
    assert told.endswith(f"succeeded by webhook at {SOON}")


def test_list_is_narrowed_by_options(stub: Stub) -> None:
    """They go out as they were given; incidents have a word of their own."""
    query = "state=open&kind=doubt%2Cparked&provider=stripe_v1&older_than=10m&limit=5"
    stub.says(f"/attention?{query}", page(DOUBT))
    options = ("--kind", "doubt", "--kind", "parked", "--provider", "stripe_v1")
    done = stub.run("attention", *options, "--older-than", "10m", "--limit", "5")
    assert done.exit_code == 0, done.output
    stub.says("/attention?kind=incident", page(INCIDENT))
    assert OTHER in stub.run("attention", "incidents").output


# -- one attempt ---------------------------------------------------------------------------------
def test_show_tells_an_attempt_side_by_side_with_its_evidence(stub: Stub) -> None:
    """What was sent, what was observed, who decided, who waits, and what can be decided."""
    stub.says(SHOW, ATTEMPT)
    done = stub.run("attention", "show", ID, "charge")
    assert done.exit_code == 0, done.output
    for line in (
        f"{ID} charge: parked, unknown",
        "  amount: 9900 USD",
        f"  sent: 2 times, first {AT}, last {SOON}",
        "  two people: yes",
        '  request: {"amount": 9900}',
        f"ann proposed fail (gone): orch8 attention confirm {OTHER}",
        f"waits behind its fence: step pay of {OTHER}",
        "  ask_again: no, the key is too old",
    ):
        assert line in done.output.splitlines()
    assert "504" in done.output
    assert "paid" in done.output
    assert "reference:" not in done.output


# -- decisions -----------------------------------------------------------------------------------
def test_decision_goes_out_with_who_and_why(stub: Stub) -> None:
    """The node key is part of the path, whatever is in it."""
    path = f"/attention/{ID}/charge%5B17%5D/decide"
    stub.says(path, {"id": ID, "state": "completed", "round": 1})
    happened = ("--happened", "--ref", "ch_1", "--output", '{"id": "ch_1"}', "--epoch", "3")
    done = stub.run("attention", "decide", ID, "charge[17]", *happened, *WHO)
    assert done.output == f"{ID} completed\n"
    body = {
        "decision": "happened", "reason": "seen", "output": {"id": "ch_1"},
        "provider_ref": "ch_1", "epoch": 3,
    }  # fmt: skip
    assert stub.asked == [("POST", f"/api/v1{path}", body)]
    assert stub.headers["x-actor"] == "maria"


def test_decision_that_needs_two_says_how_to_confirm_it(stub: Stub) -> None:
    """The line has the command for the second person."""
    stub.says(f"{SHOW}/decide", {"id": OTHER, "proposed_by": "maria", "state": "open"}, 202)
    done = stub.run("attention", "decide", ID, "charge", "--ask-again", *WHO)
    assert f"orch8 attention confirm {OTHER}" in done.output
    assert stub.asked[0][2] == {"decision": "ask_again", "reason": "seen"}


@pytest.mark.parametrize("flags", [(), ("--fail", "--skip")])
def test_decision_is_exactly_one(stub: Stub, flags: tuple[str, ...]) -> None:
    """The line lists them, and nothing is sent."""
    done = stub.run("attention", "decide", ID, "charge", *flags, *WHO)
    assert done.exit_code == 1
    assert done.stderr.startswith("orch8: say one of --happened, --declined, --retry")
    assert stub.asked == []


@pytest.mark.parametrize("missing", ["--reason", "--as"])
def test_decision_needs_a_name_and_a_reason(stub: Stub, missing: str) -> None:
    """Both stand in the audit log, so neither is guessed."""
    given = [w for i in (0, 2) for w in WHO[i : i + 2] if WHO[i] != missing]
    done = stub.run("attention", "confirm", OTHER, *given)
    assert done.exit_code == 2
    assert missing in done.stderr
    assert stub.asked == []


@pytest.mark.parametrize(
    ("command", "path", "answer", "told"),
    [
        (["attention", "confirm", OTHER], f"/attention/decisions/{OTHER}/confirm",
         {"id": ID, "state": "failed", "round": 1}, f"{ID} failed"),
        (["attention", "withdraw", OTHER], f"/attention/decisions/{OTHER}/withdraw",
         {"id": OTHER, "state": "withdrawn"}, f"{OTHER} withdrawn"),
        (["attention", "close", OTHER], f"/attention/incidents/{OTHER}/close",
         {"id": OTHER}, f"{OTHER} closed"),
        (["fences", "override", "invoice:1/2"], "/fences/invoice%3A1%2F2/override",
         {"holder": {"node_key": "pay", "instance_id": ID}, "waiting": []},
         f"taken off step pay of {ID}"),
    ],
)  # fmt: skip
def test_person_confirms_withdraws_closes_and_overrides(
    stub: Stub, command: list[str], path: str, answer: Any, told: str
) -> None:
    """Each with a name and a reason."""
    stub.says(path, answer)
    assert stub.run(*command, *WHO).output == f"{told}\n"
    assert stub.asked == [("POST", f"/api/v1{path}", {"reason": "seen"})]
    assert stub.headers["x-actor"] == "maria"


@pytest.mark.parametrize("group", [["attention", "confirm", OTHER, *WHO], ["fences", "override"]])
def test_option_before_the_subcommand_is_not_dropped_in_silence(
    stub: Stub, group: list[str]
) -> None:
    """The decision of one tenant would go to another."""
    done = stub.run(group[0], "--tenant", "acme", *group[1:])
    assert done.exit_code == 2
    assert f"put --tenant behind {group[1]}" in done.stderr
    assert stub.asked == []


def test_fences_are_listed_with_who_waits(stub: Stub) -> None:
    """Without any, one line says so."""
    stub.says("/fences?limit=500", page())
    assert stub.run("fences").output == "No fence is taken.\n"
    held = {
        "fence": "invoice:1", "instance_id": ID, "node_key": "pay", "since": AT, "waiting": 2,
        "settled": True,
    }  # fmt: skip
    stub.says("/fences?limit=500", page(held))
    (_, row) = stub.run("fences").output.splitlines()
    assert " ".join(row.split()) == f"invoice:1 {ID} pay {AT} 2 customer has to act"


@pytest.mark.parametrize(
    ("command", "path"),
    [
        (["attention"], LIST), (["attention", "incidents"], "/attention?kind=incident"),
        (["attention", "show", ID, "charge"], SHOW), (["fences"], "/fences?limit=500"),
        (["attention", "decide", ID, "charge", "--fail", *WHO], f"{SHOW}/decide"),
        (["attention", "confirm", OTHER, *WHO], f"/attention/decisions/{OTHER}/confirm"),
    ],
)  # fmt: skip
def test_json_is_what_the_api_answered(stub: Stub, command: list[str], path: str) -> None:
    """Programs get every member, on one line."""
    answer = page(PARKED) | ATTEMPT
    stub.says(path, answer)
    done = stub.run(*command, "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1
    assert json.loads(done.stdout) == answer
