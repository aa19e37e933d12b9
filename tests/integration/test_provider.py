"""The pretend provider: its keys, its book and its script, seen by the client that it is for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from orch8.engine.outcome import Answer, Verdict
from orch8.handlers.http import Call, Caller
from orch8.handlers.request import StepRequest
from orch8.handlers.wire import build_push
from orch8.testing.ledger import Ledger, Replay
from orch8.testing.misbehaviour import Do, Rule
from orch8.testing.provider import Provider

SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as running:
        yield running


@pytest.fixture
def caller() -> Caller:
    return Caller()


def request(key: str, handler: str = "charge", **more: Any) -> StepRequest:
    params = {"amount_cents": 9900, "currency": "usd"}
    return StepRequest(handler, f"instance-{key}", "charge", key, params=params, **more)


def push(provider: Provider, caller: Caller, key: str, **more: Any) -> Answer:
    asked = request(key)
    given: dict[str, Any] = {
        "idempotency_key": key,
        "dispatch": 1,
        "timeout": 5.0,
        "connect_timeout": 2.0,
        "max_response": 100_000,
    }
    call = build_push(provider.url, asked.handler, asked.body(), **(given | more))
    return caller.call(call)


def until(truth: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    tick = threading.Event()
    while not truth():
        assert time.monotonic() < deadline, "not so in time"
        tick.wait(0.01)


def charged(provider: Provider, key: str) -> int:
    entry = provider.ledger.entry(key)
    return 0 if entry is None else int(entry["charged"])


def test_signed_provider_accepts_only_signed_pushes(caller: Caller) -> None:
    """A handler that checks signatures takes ours and refuses unsigned requests."""
    with Provider(secrets=[SECRET]) as provider:
        assert push(provider, caller, "k", secrets=[SECRET]).verdict is Verdict.SUCCEEDED
        assert push(provider, caller, "k").verdict is Verdict.REFUSED


def test_key_in_flight_answers_409_and_is_unknown(provider: Provider, caller: Caller) -> None:
    """A second dispatch beside the first is told so, and charges nothing."""
    provider.script.replace([Rule(delay_ms=400, times=1)])
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(push, provider, caller, "k")
        until(lambda: provider.ledger.totals()["asked"] == 1)
        second = push(provider, caller, "k", dispatch=2)
        assert first.result().verdict is Verdict.SUCCEEDED
    assert second.verdict is Verdict.UNKNOWN
    assert second.evidence["http_status"] == 409
    assert charged(provider, "k") == 1


@pytest.mark.parametrize(
    ("replay", "second", "effects"),
    [
        (Replay.FIRST_RESULT, "unknown", 1),
        (Replay.ONLY_SUCCESS, "succeeded", 2),
        (Replay.NONE, "succeeded", 2),
    ],
)
def test_stored_error_is_replayed_by_the_kind_of_provider(
    caller: Caller, replay: Replay, second: str, effects: int
) -> None:
    """Stripe v1 replays a stored 500; a provider that keeps only successes charges again."""
    with Provider(
        replay=replay, rules=[Rule(Do.FAIL_AFTER, times=1, store_error=True)]
    ) as provider:
        assert push(provider, caller, "k").verdict is Verdict.UNKNOWN
        assert push(provider, caller, "k").verdict == second
        assert charged(provider, "k") == effects
        assert provider.ledger.totals()["duplicates"] == effects - 1


def test_conflict_means_exists_answers_409_with_the_resource(caller: Caller) -> None:
    """A provider like GoCardless says that the key's resource exists."""
    with Provider(replay=Replay.CONFLICT) as provider:
        first = push(provider, caller, "k")
        second = push(provider, caller, "k")
    assert second.verdict is Verdict.UNKNOWN
    assert second.error is not None
    links = second.error["details"]["error"]["links"]
    assert links["conflicting_resource_id"] == first.output["charge_id"]


def test_expired_key_charges_again_and_is_counted(caller: Caller) -> None:
    """Past its lifetime a key protects nothing: the ledger shows the duplicate."""
    with Provider(key_ttl=0.0) as provider:
        push(provider, caller, "k")
        push(provider, caller, "k")
        totals = provider.ledger.totals()
    assert (totals["charged"], totals["duplicates"], totals["charged_twice"]) == (2, 1, 1)


def test_changed_parameters_under_one_key_are_refused(provider: Provider, caller: Caller) -> None:
    """The provider notices when a key comes back with another request."""
    push(provider, caller, "k")
    other = build_push(
        provider.url, "charge", b'{"params":{"amount":1}}', idempotency_key="k", dispatch=2,
        timeout=2, connect_timeout=2, max_response=9999,
    )  # fmt: skip
    answer = caller.call(other)
    assert answer.verdict is Verdict.REFUSED
    assert answer.error is not None
    assert answer.error["code"] == "idempotency_error"
    assert provider.ledger.totals()["mismatches"] == 1


def test_peak_is_the_busiest_sliding_window(provider: Provider, caller: Caller) -> None:
    """The ledger tells how many requests any window saw."""
    for n in range(5):
        push(provider, caller, f"k{n}")
    assert provider.ledger.peak(60.0) == 5
    assert provider.ledger.peak(60.0, "other") == 0
    assert provider.ledger.peak(1e-9) == 1


def fetch(url: str, method: str = "GET", body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(url, data=data, method=method)
    with urllib.request.urlopen(asked, timeout=5) as answer:
        return json.load(answer)


def test_script_and_ledger_are_reached_over_http(provider: Provider, caller: Caller) -> None:
    """Other processes script the provider and read its book; nonsense is a 400 with a reason."""
    rules = [{"do": "decline", "handler": "charge", "times": 1}]
    assert fetch(provider.url + "/script", "PUT", rules) == {"rules": 1}
    assert push(provider, caller, "k").verdict is Verdict.DECLINED
    shown = fetch(provider.url + "/ledger?window=1&arrivals=1")
    assert shown["totals"]["declined"] == 1
    assert shown["entries"][0]["key"] == "k"
    assert len(shown["arrivals"]) == shown["peak"] == 1
    assert fetch(provider.url + "/ledger?key=k")["entries"][0]["subject"] == "instance-k/charge"
    assert fetch(provider.url + "/health") == {"status": "ok"}
    wrongs: list[Any] = [{}, [{"do": "dance"}], [{"doo": "decline"}], [{"times": 0}], [3]]
    for wrong in wrongs:
        call = Call(provider.url + "/script", method="PUT", body=json.dumps(wrong).encode())
        assert caller.call(call).verdict is Verdict.REFUSED


def test_ledger_survives_a_kill(tmp_path: Path, caller: Caller) -> None:
    """After kill -9 the charges are still there, and half a line is forgotten."""
    file = tmp_path / "book" / "ledger.jsonl"
    for turn in (1, 2):
        process = subprocess.Popen(
            [sys.executable, "-m", "orch8.testing.provider", "--port", "0", "--ledger", str(file)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        assert process.stdout is not None
        with process.stdout as out:
            url = out.readline().decode().strip().removeprefix("provider on ")
            asked = request("k")
            call = build_push(
                url, "charge", asked.body(), idempotency_key="k", dispatch=turn,
                timeout=5, connect_timeout=2, max_response=99_999,
            )  # fmt: skip
            try:
                assert caller.call(call).output["status"] == "succeeded"
                assert fetch(url + "/ledger")["totals"]["asked"] == turn
            finally:
                process.send_signal(signal.SIGKILL if turn == 1 else signal.SIGTERM)
                assert process.wait(10) == (-signal.SIGKILL if turn == 1 else 0)
        with file.open("ab") as broken:
            broken.write(b'{"op":"charged","key":"k')
    ledger = Ledger(file)
    totals = ledger.totals()
    ledger.close()
    assert (totals["asked"], totals["charged"], totals["replayed"]) == (2, 1, 1)
