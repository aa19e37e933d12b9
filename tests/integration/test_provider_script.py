"""The pretend provider's script: what it takes, and what it says about nonsense."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from orch8.testing.misbehaviour import Do, Rule, Script, Stage
from orch8.testing.provider import Provider, main
from tests.support.provider import fetch, send


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as running:
        yield running


@pytest.mark.parametrize("do", list(Do))
def test_every_deed_can_be_scripted(provider: Provider, do: Do) -> None:
    """Each deed is taken by its name."""
    assert fetch(provider.url + "/script", "PUT", [{"do": do}]) == {"rules": 1}


@pytest.mark.parametrize(
    ("rule", "named"),
    [
        ({"do": "dance"}, "do"),
        ({"do": 3}, "do"),
        ({"doo": "decline"}, "doo"),
        ({"times": 0}, "times"),
        ({"times": 1.5}, "times"),
        ({"times": True}, "times"),
        ({"chance": 2}, "chance"),
        ({"chance": "often"}, "chance"),
        ({"delay_ms": -1}, "delay_ms"),
        ({"delay_ms": None}, "delay_ms"),
        ({"handler": 3}, "handler"),
        ({"key": 3}, "key"),
        ({"body": []}, "body"),
        ({"store_error": 1}, "store_error"),
        ({"do": "succeed", "store_error": True}, "store_error"),
        ({"do": "succeed", "decline_code": "x"}, "decline_code"),
        ({"do": "decline", "decline_code": "a b"}, "decline_code"),
        ({"do": "decline", "becomes": "succeed"}, "becomes"),
        ({"do": "pending", "becomes": "gold"}, "becomes"),
        ({"do": "pending", "becomes_ms": 1e9}, "becomes_ms"),
        ({"do": "webhook_late", "copies": 3}, "copies"),
        ({"do": "webhook_duplicate", "copies": 0}, "copies"),
        ({"do": "rate_limit", "retry_after": "1\r\nx: y"}, "retry_after"),
        (3, "rule"),
    ],
)
def test_rule_that_makes_no_sense_is_refused(provider: Provider, rule: object, named: str) -> None:
    """A wrong rule is a 400 that names its position and the member; the old rules stay."""
    provider.script.replace([Rule(Do.DECLINE)])
    status, answer = send(provider.url + "/script", "PUT", [{}, rule])
    assert (status, answer["error"]["code"]) == (400, "bad_script")
    message = answer["error"]["message"]
    assert "rule 1: " in message
    assert named in message
    assert provider.script.pick(Stage.CALL, "charge", "k") == Rule(Do.DECLINE)


def test_stages_are_scripted_side_by_side() -> None:
    """A rule decides for its own stage only, so one list scripts calls, webhooks and searches."""
    rules = [Rule(Do.DECLINE, times=1), Rule(Do.WEBHOOK_NEVER), Rule(Do.SEARCH_FAIL, times=1)]
    script = Script(rules)
    picked = [script.pick(stage, "charge", "k") for stage in (*Stage, *Stage)]
    assert picked == [*rules, None, rules[1], None]


def test_only_what_can_be_changed_can_be_put(provider: Provider) -> None:
    """Another address is a 404 that names those that there are."""
    status, answer = send(provider.url + "/scripts", "PUT", [])
    assert status == 404
    assert "/script, /clock, /webhooks" in answer["error"]["message"]
    assert send(provider.url + "/nothing")[0] == 404


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("--webhook-url", "ftp://x", "url"),
        ("--webhook-header", "x-api-key", "Name: value"),
        ("--webhook-secret", "secret", "secret"),
        ("--script", "rules.json", "rule 0: do"),
        ("--ledger", "rules.json", "name another file"),
        ("--preset", "strip", "stripe_v1"),
        ("--replay", "never", "only_success"),
    ],
)
def test_option_that_makes_no_sense_is_refused(
    tmp_path: Path, option: str, value: str, named: str
) -> None:
    """A wrong option ends the program with a sentence that names it, not with a traceback."""
    rules = tmp_path / "rules.json"
    rules.write_text('[{"do": "dance"}]')
    given = str(rules) if value == rules.name else value
    url = () if option == "--webhook-url" else ("--webhook-url", "http://127.0.0.1:1")
    ended = CliRunner().invoke(main, [option, given, *url, "--port", "0"])
    assert ended.exit_code in {1, 2}
    assert named.lower() in ended.output.lower()
    assert isinstance(ended.exception, SystemExit)


def test_port_that_is_taken_is_refused(provider: Provider) -> None:
    """A second provider on one port says what is wrong and what to do."""
    port = provider.url.rpartition(":")[2]
    ended = CliRunner().invoke(main, ["--port", port])
    assert ended.exit_code == 1
    assert "use another port" in ended.output
