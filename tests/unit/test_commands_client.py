"""What people do with a running orch8 from the command line, and what they are told."""

from __future__ import annotations

import json
import socket
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from orch8.cli import main
from tests.support.house import House
from tests.support.stub import Stub

ID = "019a0000-0000-7000-8000-000000000001"
INSTANCE = {"id": ID, "state": "waiting", "next_fire_at": "2026-03-01T09:00:00Z"}
SEQUENCE = {"id": ID, "name": "renewal", "version": 2, "warnings": ["/blocks/0: no deadline"]}


def entry(at: str, action: str, **more: Any) -> dict[str, Any]:
    """An audit entry as the API shows it."""
    return {"id": ID, "at": at, "actor": "cli", "action": action, "node_key": None} | more


# The newest first, as the API lists them. As texts the moments would sort the wrong way round.
AUDIT = [
    entry("2026-02-01T09:00:00.500000Z", "third", reason="the bank [said] so"),
    entry("2026-02-01T09:00:00Z", "second", id=ID.replace("0001", "0003")),
    entry("2026-02-01T09:00:00Z", "first", id=ID.replace("0001", "0002"), node_key="charge"),
]


@pytest.fixture
def definition(tmp_path: Path) -> Path:
    """A file with a sequence."""
    file = tmp_path / "renewal.json"
    file.write_text('{"id": "renewal", "blocks": []}')
    return file


# -- what is done --------------------------------------------------------------------------------
def test_publish_sends_the_file_and_names_the_version(stub: Stub, definition: Path) -> None:
    """The warnings go to standard error, so that programs can read the rest."""
    stub.says("/sequences", SEQUENCE, 201)
    done = stub.run("publish", str(definition))
    assert done.exit_code == 0
    assert done.stdout == f"renewal version 2 ({ID})\n"
    assert done.stderr == "  warning: /blocks/0: no deadline\n"
    assert stub.asked == [("POST", "/api/v1/sequences", {"id": "renewal", "blocks": []})]


def test_publish_may_be_strict(stub: Stub, definition: Path) -> None:
    """With --strict the API refuses what it would else only remark on, and each is shown."""
    problem = {"pointer": "/blocks/0", "message": "no fence", "hint": '"fence": "f"'}
    stub.says("/sequences?strict=true", {"error": "no fence", "errors": [problem]}, 422)
    done = stub.run("publish", str(definition), "--strict")
    assert done.exit_code == 1
    assert '/blocks/0: no fence ("fence": "f")' in done.output


def test_start_sends_data_and_key(stub: Stub) -> None:
    """The sequence's name is part of the path, whatever is in it."""
    stub.says("/sequences/a%2Fb/instances", {**INSTANCE, "deduplicated": False}, 201)
    done = stub.run("start", "a/b", "--data", '{"cents": 9900}', "--key", "k")
    assert done.output == f"{ID} waiting\n"
    body = {"context": {"data": {"cents": 9900}}, "idempotency_key": "k"}
    assert stub.asked == [("POST", "/api/v1/sequences/a%2Fb/instances", body)]


def test_start_says_that_the_instance_was_there_before(stub: Stub, tmp_path: Path) -> None:
    """A request may stand in a file; the same key starts no second instance."""
    stub.says("/sequences/renewal/instances", {**INSTANCE, "deduplicated": True})
    file = tmp_path / "request.json"
    file.write_text('{"idempotency_key": "k", "priority": "High"}')
    done = stub.run("start", "renewal", "--body", str(file))
    assert done.output == f"{ID} waiting (it was there before)\n"
    assert stub.asked[0][2] == {"idempotency_key": "k", "priority": "High"}


def test_show_tells_the_story_in_its_order(stub: Stub) -> None:
    """The oldest entry comes first, though the API lists the newest first; texts stay whole."""
    stub.says(f"/instances/{ID}", {**INSTANCE, "attention": {"reason": "unknown"}})
    stub.says(f"/instances/{ID}/audit", AUDIT)
    done = stub.run("show", ID)
    assert done.exit_code == 0
    head, attention, _, *rows = done.output.splitlines()
    assert head == f"{ID} waiting, next at 2026-03-01T09:00:00Z"
    assert attention == "needs attention: {'reason': 'unknown'}"
    assert [row.split()[2] for row in rows] == ["first", "second", "third"]
    assert rows[0].split()[-1] == "charge"
    assert "the bank [said] so" in rows[2]


@pytest.mark.parametrize("answer", [AUDIT[::-1], {"items": AUDIT}], ids=["oldest first", "a page"])
def test_show_does_not_depend_on_how_the_api_lists(stub: Stub, answer: Any) -> None:
    """Sorted by time, a list and a page of either order look the same."""
    stub.says(f"/instances/{ID}", INSTANCE)
    stub.says(f"/instances/{ID}/audit", answer)
    rows = stub.run("show", ID).output.splitlines()[2:]
    assert [row.split()[2] for row in rows] == ["first", "second", "third"]


@pytest.mark.parametrize(
    ("name", "kind"), [("cancel", "cancel"), ("card_updated", {"custom": "card_updated"})]
)
def test_signal_is_a_control_or_a_name_of_ones_own(stub: Stub, name: str, kind: Any) -> None:
    """Only the four controls go out under their own names."""
    stub.says(f"/instances/{ID}/signals", {"signal_id": "s1"}, 201)
    done = stub.run("signal", ID, name, "--payload", '{"by": 1}', "--reason", "asked by phone")
    assert done.output == "sent s1\n"
    body = {"signal_type": kind, "payload": {"by": 1}, "reason": "asked by phone"}
    ((method, path, sent),) = stub.asked
    assert (method, path) == ("POST", f"/api/v1/instances/{ID}/signals")
    assert sent.pop("dedupe_key")  # of its own, so that a lost answer does no harm
    assert sent == body


def test_signal_takes_its_payload_behind_its_name(stub: Stub) -> None:
    """As a diagnosis writes it."""
    stub.says(f"/instances/{ID}/signals", {"signal_id": "s1"}, 201)
    stub.run("signal", ID, "custom:human_input:ok", '{"value": "yes"}')
    ((_, _, sent),) = stub.asked
    assert sent["signal_type"] == {"custom": "human_input:ok"}
    assert sent["payload"] == {"value": "yes"}


def test_signal_finds_instances_by_correlation(stub: Stub) -> None:
    """Without an instance the signal goes to all that match, and each is named."""
    reached = {"instance_id": ID, "signal_id": "s1"}
    stub.says("/signals", {"matched": 2, "signals": [reached]})
    options = ("--correlate", "invoice_id=in_1", "--correlate", "a=b=c", "--dedupe-key", "evt_1")
    done = stub.run("signal", "invoice.paid", *options)
    assert done.output == f"2 open instances match, 1 have the signal\n  {ID} s1\n"
    body = {
        "signal": "invoice.paid", "correlate": {"invoice_id": "in_1", "a": "b=c"},
        "payload": None, "reason": None, "dedupe_key": "evt_1",
    }  # fmt: skip
    assert stub.asked == [("POST", "/api/v1/signals", body)]
    done = stub.run("signal", "invoice.paid", *options, "--json")
    assert json.loads(done.output) == {"matched": 2, "signals": [reached]}


@pytest.mark.parametrize(
    "arguments",
    [
        ("paid",), (ID, "paid", "1", "more"), (ID, "paid", "1", "--payload", "2"),
        (ID, "paid", "--correlate", "a=b"), ("paid", "--correlate", "a"),
        ("paid", "--correlate", "=b"),
    ],
)  # fmt: skip
def test_signal_that_names_nobody_is_refused(stub: Stub, arguments: tuple[str, ...]) -> None:
    """Nothing is sent when it is not clear to whom."""
    done = stub.run("signal", *arguments)
    assert done.exit_code == 2
    assert stub.asked == []


def test_evidence_sends_what_is_known(stub: Stub) -> None:
    """Members that were not given are left out."""
    stub.says("/attempts/evidence", {"state": "resolved", "instance_id": ID, "node_key": "charge"})
    known = ("--key", "k", "--outcome", "succeeded", "--ref", "ch_1")
    done = stub.run("evidence", *known, "--output", '{"a": 1}')
    assert done.output == f"resolved: charge of {ID}\n"
    body = {
        "idempotency_key": "k", "outcome": "succeeded", "provider_ref": "ch_1", "output": {"a": 1}
    }  # fmt: skip
    assert stub.asked == [("POST", "/api/v1/attempts/evidence", body)]
    done = stub.run("evidence", *known, "--json")
    assert json.loads(done.output)["state"] == "resolved"


@pytest.mark.parametrize(
    ("options", "body"), [((), {}), (("--reason", "the bank is back"), "the bank is back")]
)
def test_retry_says_why_if_one_does(stub: Stub, options: tuple[str, ...], body: Any) -> None:
    """The reason is left out when there is none."""
    stub.says(f"/instances/{ID}/retry", {"id": ID, "state": "scheduled", "round": 2})
    done = stub.run("retry", ID, *options)
    assert done.output == f"{ID} scheduled\n"
    assert stub.asked[0][2] == ({"reason": body} if body else {})


@pytest.mark.parametrize("command", ["publish", "start", "show", "signal", "retry"])
def test_json_is_what_the_api_answered(stub: Stub, definition: Path, command: str) -> None:
    """Programs get every member, on one line; of show the instance and its audit entries."""
    arguments, path = {
        "publish": ([str(definition)], "/sequences"),
        "start": (["renewal"], "/sequences/renewal/instances"),
        "show": ([ID], f"/instances/{ID}"),
        "signal": ([ID, "pause"], f"/instances/{ID}/signals"),
        "retry": ([ID], f"/instances/{ID}/retry"),
    }[command]
    answer = {**INSTANCE, "anything": [1, None]}
    stub.says(path, answer)
    stub.says(f"/instances/{ID}/audit", AUDIT)
    done = stub.run(command, *arguments, "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1
    shown = {"instance": answer, "audit": AUDIT} if command == "show" else answer
    assert json.loads(done.stdout) == shown


def test_commands_say_who_asks(stub: Stub) -> None:
    """The key and the tenant go along, and the audit log will name the command line."""
    stub.says(f"/instances/{ID}/retry", INSTANCE)
    stub.run("retry", ID, "--api-key", "secret", "--tenant", "acme")
    assert stub.headers["x-api-key"] == "secret"
    assert stub.headers["x-tenant-id"] == "acme"
    assert stub.headers["x-actor"] == "cli"


# -- what goes wrong -----------------------------------------------------------------------------
def test_problem_of_the_api_is_shown_with_pointer_and_hint(stub: Stub, definition: Path) -> None:
    """Every part that is wrong has a line: where, what, and what to do."""
    errors = [
        {"pointer": "/blocks/0/handler", "message": "unknown", "hint": "did you mean noop?"},
        {"pointer": "", "message": "no blocks"},
    ]
    body = {"error": "invalid argument: 2 problems", "detail": "2 problems", "errors": errors}
    stub.says("/sequences", body, 400)
    done = stub.run("publish", str(definition))
    assert done.exit_code == 1
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "orch8: invalid argument: 2 problems",
        "  /blocks/0/handler: unknown (did you mean noop?)",
        "  /: no blocks",
    ]


def test_instance_that_is_not_there_is_said_to_be_missing(stub: Stub) -> None:
    """A 404 is one line."""
    stub.says(f"/instances/{ID}", {"error": f"not found: instance {ID}", "errors": []}, 404)
    done = stub.run("show", ID)
    assert (done.exit_code, done.stderr) == (1, f"orch8: not found: instance {ID}\n")


@pytest.mark.parametrize(
    ("status", "answer", "told"),
    [
        (502, b"<html>", "the API answered 502: b'<html>'"),
        (500, [], "the API answered 500: b'[]'"),
        (200, b"<html>", "is no orch8: it answered b'<html>'"),
    ],
)
def test_answer_of_something_else_is_told_as_it_came(
    stub: Stub, status: int, answer: Any, told: str
) -> None:
    """A proxy's page, or another server's, is no traceback."""
    stub.says(f"/instances/{ID}", answer, status)
    done = stub.run("show", ID)
    assert done.exit_code == 1
    assert done.stderr.startswith("orch8: ")
    assert done.stderr.endswith(f"{told}\n")
    assert done.stderr.count("\n") == 1


def test_api_that_is_not_reached_is_one_line() -> None:
    """The line has the address, and asks whether orch8 runs."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    done = CliRunner().invoke(main, ["retry", ID, "--url", url])
    assert done.exit_code == 1
    assert done.stderr.startswith(f"orch8: {url} cannot be reached: ")
    assert done.stderr.endswith("; is orch8 running?\n")
    assert done.stderr.count("\n") == 1


def test_api_that_hangs_up_is_one_line() -> None:
    """A connection that ends without an answer is told like one that was refused."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            server.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        done = CliRunner().invoke(main, ["retry", ID, "--url", url])
        thread.join()
    assert done.exit_code == 1
    assert done.stderr.startswith(f"orch8: {url} cannot be reached: ")
    assert done.stderr.count("\n") == 1


def test_address_without_a_scheme_is_the_operators_error() -> None:
    """The line says how the address must begin."""
    done = CliRunner().invoke(main, ["retry", ID, "--url", "localhost:8080"])
    assert done.exit_code == 2
    assert done.stderr.startswith("orch8: the API's url 'localhost:8080' must begin with http")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("content", [b"{not json", b"", b'{"id": "\xff"}'])
@pytest.mark.parametrize("command", [["publish"], ["start", "renewal", "--body"]])
def test_file_that_is_no_json_is_one_line(
    stub: Stub, definition: Path, command: list[str], content: bytes
) -> None:
    """The line names the file, and nothing is sent."""
    definition.write_bytes(content)
    done = stub.run(*command, str(definition))
    assert done.exit_code == 1
    assert done.stderr.startswith(f"orch8: {definition} is not valid JSON: ")
    assert done.stderr.count("\n") == 1
    assert stub.asked == []


def test_option_that_is_no_json_is_named(stub: Stub) -> None:
    """--data and --payload are read like files."""
    started = stub.run("start", "renewal", "--data", "{")
    assert started.stderr.startswith("orch8: --data is not valid JSON: ")
    sent = stub.run("signal", ID, "go", "--payload", "{")
    assert sent.stderr.startswith("orch8: --payload is not valid JSON: ")
    assert stub.asked == []


def test_request_that_is_no_object_is_refused(stub: Stub, definition: Path) -> None:
    """A list is valid JSON, but no request."""
    definition.write_text("[]")
    done = stub.run("start", "renewal", "--body", str(definition), "--key", "k")
    assert (done.exit_code, stub.asked) == (1, [])
    assert done.stderr == f"orch8: {definition}: the request must be a JSON object\n"


# -- prune ---------------------------------------------------------------------------------------
def test_prune_deletes_what_ended_before_the_age(house: House) -> None:
    """An instance that ended 31 days ago is gone after 30d, and stays with 90d."""
    old = house.run({"type": "step", "handler": "noop"})
    house.advance(timedelta(days=31))
    young = house.start()
    house.work()
    env = {"ORCH8_DATABASE_OWNER_URL": house.database.owner_url}
    kept = CliRunner().invoke(main, ["prune"], env=env)
    assert (kept.exit_code, kept.output.splitlines()[-1]) == (0, "0 instances are gone.")
    assert house.state(old) == "completed"
    done = CliRunner().invoke(main, ["prune", "--older-than", "30d"], env=env)
    assert (done.exit_code, done.output.splitlines()[-1]) == (0, "1 instances are gone.")
    assert [row.id for row in house.sql("SELECT id FROM instances")] == [young]


def test_prune_without_a_database_says_which_variable_is_missing() -> None:
    """Nothing is guessed."""
    env = {"ORCH8_DATABASE_URL": "", "ORCH8_DATABASE_OWNER_URL": ""}
    done = CliRunner().invoke(main, ["prune"], env=env)
    assert done.exit_code == 2
    assert done.stderr == "orch8: ORCH8_DATABASE_OWNER_URL is not set: which database?\n"


@pytest.mark.parametrize("age", ["soon", "90", ""])
def test_prune_refuses_an_age_that_is_none(age: str) -> None:
    """No connection is made for it; the line names the option."""
    env = {"ORCH8_DATABASE_OWNER_URL": "postgresql://nobody@127.0.0.1:1/none"}
    done = CliRunner().invoke(main, ["prune", "--older-than", age], env=env)
    assert done.exit_code == 2
    assert done.stderr.startswith("orch8: --older-than: ")
    assert done.stderr.count("\n") == 1
