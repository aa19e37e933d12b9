"""The pretend provider's book: what it tells checkers, its clock, and its life after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from orch8.engine.outcome import Answer, Verdict
from orch8.errors import ConfigurationError
from orch8.handlers.http import Call, Caller
from orch8.testing.ledger import Ledger, Replay
from orch8.testing.misbehaviour import Becomes, Do, Rule
from orch8.testing.provider import Provider
from tests.support.provider import fetch, push, request, send
from tests.support.stack import until


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as running:
        yield running


def test_arrivals_of_a_key_are_in_the_book(provider: Provider) -> None:
    """Each send of a key has its monotonic time, its charge has an id, an amount and an end."""
    push(provider, "k")
    push(provider, "k", dispatch=2)
    (entry,) = fetch(provider.url + "/ledger?key=k")["entries"]
    assert len(entry["arrivals"]) == 2
    assert entry["arrivals"] == sorted(entry["arrivals"])
    (charge,) = entry["charges"]
    assert (charge["amount"], charge["currency"], charge["outcome"]) == (9900, "usd", "succeeded")
    assert charge["attempt"] == "instance-k/charge#1"
    assert entry["result"][1]["charge_id"] == charge["charge_id"]


def test_second_key_of_one_attempt_is_a_duplicate(provider: Provider) -> None:
    """An attempt that is sent under another key charges again, and the book says so."""
    for key in ("k1", "k2"):
        push(provider, request(key, subject="i"))
    push(provider, request("k3", subject="other"))
    totals = provider.ledger.totals()
    assert (totals["charged"], totals["duplicates"], totals["charged_twice"]) == (3, 1, 1)
    (twice,) = fetch(provider.url + "/ledger?by=subject&duplicates=1")["subjects"]
    assert twice == {
        "subject": "i/charge", "asked": 2, "charged": 2, "declined": 0, "duplicates": 1,
        "keys": ["k1", "k2"], "attempts": {"i/charge#1": 2},
    }  # fmt: skip


def test_next_generation_after_a_decline_is_no_duplicate(provider: Provider) -> None:
    """A declined charge that is asked for again as a new attempt is what dunning does."""
    provider.script.replace([Rule(Do.DECLINE, times=1)])
    for generation in (1, 2):
        push(provider, request(f"k{generation}", subject="i", generation=generation))
    totals = provider.ledger.totals()
    assert (totals["declined"], totals["charged"], totals["duplicates"]) == (1, 1, 0)
    assert provider.ledger.subjects()[0]["attempts"] == {"i/charge#2": 1}
    assert provider.ledger.subjects(duplicates=True) == []


def test_two_generations_that_both_charge_are_charged_twice(provider: Provider) -> None:
    """Two attempts of one step that both took money are no duplicate, and yet are told."""
    for generation in (1, 2):
        push(provider, request(f"k{generation}", subject="i", generation=generation))
    totals = provider.ledger.totals()
    assert (totals["duplicates"], totals["charged_twice"]) == (0, 1)


def test_clock_that_is_moved_makes_keys_old(provider: Provider) -> None:
    """A day later, by the clock that a test moves, the key is forgotten and charges again."""
    push(provider, "k")
    now = fetch(provider.url + "/clock")["now"]
    moved = fetch(provider.url + "/clock", "PUT", {"offset_seconds": 86_000})["now"]
    assert 86_000 <= moved - now < 86_060
    push(provider, "k")
    assert provider.ledger.totals()["duplicates"] == 0
    fetch(provider.url + "/clock", "PUT", {"offset_seconds": 86_400})
    push(provider, "k")
    entry = provider.ledger.entry("k")
    assert entry is not None
    assert (entry["asked"], entry["replayed"], entry["charged"]) == (3, 1, 2)
    assert len({charge["charge_id"] for charge in entry["charges"]}) == 2


@pytest.mark.parametrize(
    "body", [{}, {"offset_seconds": "1"}, {"offset_seconds": True}, {"offset_seconds": 1e12}, []]
)
def test_clock_that_makes_no_sense_is_refused(provider: Provider, body: object) -> None:
    """A wrong clock is a 400 that names the member."""
    status, answer = send(provider.url + "/clock", "PUT", body)
    assert status == 400
    assert answer["error"]["code"] == "bad_clock"
    assert "offset_seconds" in answer["error"]["message"]


@pytest.mark.parametrize("query", ["limit=x", "limit=99999", "after=-1", "by=age", "window=x"])
def test_query_that_makes_no_sense_is_refused(provider: Provider, query: str) -> None:
    """A wrong query of the book is a 400 with a reason."""
    status, answer = send(f"{provider.url}/ledger?{query}")
    assert (status, answer["error"]["code"]) == (400, "bad_query")


def test_pending_payment_ends_by_itself(provider: Provider) -> None:
    """A payment that is pending becomes a charge when its rule says so; till then it is open."""
    rule = Rule(Do.PENDING, becomes=Becomes.SUCCEED, becomes_ms=100)
    provider.script.replace([rule])
    assert push(provider, "k").verdict is Verdict.PENDING
    until(lambda: provider.ledger.totals()["charged"] == 1, 5, "the charge")
    assert provider.ledger.totals()["open"] == 0
    entry = provider.ledger.entry("k")
    assert entry is not None
    assert [turn[1] for turn in entry["charges"][0]["turns"]] == ["pending", "succeeded"]


def test_failure_that_is_stored_without_an_effect_is_replayed(provider: Provider) -> None:
    """Stripe v1 may keep the 500 of a call that did nothing: asking again never succeeds."""
    provider.script.replace([Rule(Do.FAIL_BEFORE, times=1, store_error=True)])
    for dispatch in (1, 2, 3):
        assert push(provider, "k", dispatch=dispatch).verdict is Verdict.UNKNOWN
    entry = provider.ledger.entry("k")
    assert entry is not None
    assert (entry["charged"], entry["replayed"], entry["result"][0]) == (0, 2, 500)


def test_resource_that_exists_conflicts_whatever_was_answered() -> None:
    """A provider that answers 409 for what exists does so after a 500, and not after nothing."""
    rules = [
        Rule(Do.FAIL_AFTER, times=1, store_error=True),
        Rule(Do.REFUSE, key="refused", times=1),
    ]
    with Provider(replay=Replay.CONFLICT, rules=rules) as provider:
        push(provider, "k")
        again = push(provider, "k")
        assert again.error is not None
        exists = again.error["details"]["error"]["links"]["conflicting_resource_id"]
        assert fetch(f"{provider.url}/charges/{exists}")["status"] == "succeeded"
        assert push(provider, "refused").verdict is Verdict.REFUSED
        assert push(provider, "refused").verdict is Verdict.SUCCEEDED
        assert provider.ledger.totals()["duplicates"] == 0


@contextmanager
def process(file: Path, end: signal.Signals) -> Iterator[str]:
    """A provider in a process of its own, which ends by a signal; its address."""
    argv = ("-m", "orch8.testing.provider", "--port", "0", "--ledger", str(file))
    child = subprocess.Popen(
        [sys.executable, *argv],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert child.stdout is not None
    with child.stdout as out:
        try:
            yield out.readline().decode().strip().removeprefix("provider on ")
        finally:
            child.send_signal(end)
            assert child.wait(10) == (-signal.SIGKILL if end is signal.SIGKILL else 0)


def test_ledger_survives_a_kill(tmp_path: Path) -> None:
    """After kill -9 charges, kept results and the clock are still there: nothing is done again."""
    file = tmp_path / "book" / "ledger.db"
    body = {"params": {"amount_cents": 100}, "instance_id": "i", "step": "pay"}
    with process(file, signal.SIGKILL) as url:
        first = send(url + "/charge", "POST", {**body, "idempotency_key": "k"})
        assert first[0] == 200
        fetch(url + "/clock", "PUT", {"offset_seconds": 3600})
        before = fetch(url + "/ledger")
    with process(file, signal.SIGTERM) as url:
        assert fetch(url + "/ledger") == before
        assert send(url + "/charge", "POST", {**body, "idempotency_key": "k"}) == first
    ledger = Ledger(file)
    totals = ledger.totals()
    ledger.close()
    assert (totals["asked"], totals["charged"], totals["replayed"]) == (2, 1, 1)


def test_kill_under_load_charges_nothing_twice(tmp_path: Path) -> None:
    """Whatever a killed provider was doing, the same keys sent again leave one charge each."""
    file = tmp_path / "ledger.db"
    keys = [f"k{n}" for n in range(400)]
    caller = Caller()

    def charge(url: str, key: str) -> Answer:
        return caller.call(Call(url + "/charge", headers=(("Idempotency-Key", key),), timeout=5))

    with ThreadPoolExecutor(4) as pool:
        with process(file, signal.SIGKILL) as url:
            first = [pool.submit(charge, url, key) for key in keys]
            until(lambda: sum(one.done() for one in first) > 100, 10, "some charges")
        lost = [one.result().verdict for one in first if one.result().verdict != "succeeded"]
        assert lost
        with process(file, signal.SIGTERM) as url:
            again = list(pool.map(charge, [url] * len(keys), keys))
            totals = fetch(url + "/ledger?limit=0")["totals"]
    assert {answer.verdict for answer in again} == {Verdict.SUCCEEDED}
    assert (totals["charged"], totals["keys"], totals["duplicates"]) == (400, 400, 0)


def test_ledger_belongs_to_one_provider(tmp_path: Path) -> None:
    """A file that is no ledger is refused with a way out, and left alone."""
    file = tmp_path / "ledger.jsonl"
    file.write_text('{"op": "asked"}\n' * 100)
    with pytest.raises(ConfigurationError, match="name another file"):
        Provider(ledger_file=file)
    assert file.read_text().startswith('{"op": "asked"}')
