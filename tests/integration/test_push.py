"""Push calls against a real provider that fails the way real ones do."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest

from orch8.engine.outcome import Answer, Verdict
from orch8.handlers import ssrf
from orch8.handlers.exchange import Exchange
from orch8.handlers.http import Call, Caller
from orch8.handlers.request import StepRequest
from orch8.handlers.wire import build_push
from orch8.testing.ledger import Replay
from orch8.testing.misbehaviour import Do, Rule
from orch8.testing.provider import Provider


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as running:
        yield running


@pytest.fixture(params=[Caller, Exchange])
def caller(request: pytest.FixtureRequest) -> Iterator[Caller | Exchange]:
    """Who makes the call: one thread for each, or one for all of them."""
    with closing(request.param()) as caller:
        yield caller


def request(key: str, handler: str = "charge", **more: Any) -> StepRequest:
    params = {"amount_cents": 9900, "currency": "usd"}
    return StepRequest(handler, f"instance-{key}", "charge", key, params=params, **more)


def push(provider: Provider, caller: Caller | Exchange, key: str, **more: Any) -> Answer:
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


def charged(provider: Provider, key: str) -> int:
    entry = provider.ledger.entry(key)
    return 0 if entry is None else int(entry["charged"])


def test_push_charges_once_and_keeps_its_evidence(
    provider: Provider, caller: Caller | Exchange
) -> None:
    """A plain call succeeds with the body as output and says what was observed."""
    answer = push(provider, caller, "k")
    assert answer.verdict is Verdict.SUCCEEDED
    assert answer.output["status"] == "succeeded"
    assert answer.output["amount"] == 9900
    assert answer.evidence["http_status"] == 200
    assert answer.evidence["sent"] is True
    assert answer.evidence["curl_code"] == 0
    assert answer.evidence["elapsed_ms"] > 0
    assert len(answer.evidence["response_sha256"]) == 64
    assert charged(provider, "k") == 1


@pytest.mark.parametrize(
    ("do", "verdict", "effects"),
    [
        (Do.DECLINE, "declined", 0),
        (Do.DECLINE_402, "declined", 0),
        (Do.PENDING, "pending", 0),
        (Do.REQUIRES_ACTION, "requires_action", 0),
        (Do.REFUSE, "refused", 0),
        (Do.RATE_LIMIT, "failed_safe", 0),
        (Do.UNAVAILABLE, "unknown", 0),
        (Do.FAIL_BEFORE, "unknown", 0),
        (Do.HANG_UP, "unknown", 0),
        (Do.FAIL_AFTER, "unknown", 1),
        (Do.COMMIT_THEN_HANG_UP, "unknown", 1),
        (Do.COMMIT_THEN_GARBLE, "unknown", 1),
    ],
)
def test_misbehaviour_is_classified_and_its_replay_charges_no_more(
    provider: Provider, caller: Caller | Exchange, do: Do, verdict: str, effects: int
) -> None:
    """Each failure gets its verdict, and a re-send with the same key leaves at most one effect."""
    provider.script.replace([Rule(do, times=1)])
    assert push(provider, caller, "k").verdict == verdict
    assert charged(provider, "k") == effects
    push(provider, caller, "k", dispatch=2)
    assert charged(provider, "k") <= 1
    assert provider.ledger.totals()["duplicates"] == 0
    assert provider.ledger.totals()["asked"] == 2


@pytest.mark.parametrize("do", [Do.COMMIT_THEN_HANG_UP, Do.HANG_UP])
def test_kept_alive_connection_that_hangs_up_sees_one_request(
    provider: Provider, caller: Caller | Exchange, do: Do
) -> None:
    """A client library would send again on a kept-alive connection that closes; it is stopped."""
    assert push(provider, caller, "warm-up").verdict is Verdict.SUCCEEDED
    provider.script.replace([Rule(do)])
    answer = push(provider, caller, "k")
    assert answer.verdict is Verdict.UNKNOWN
    assert answer.evidence["repeat_refused"] is True
    assert answer.evidence["sent"] is True
    entry = provider.ledger.entry("k")
    assert entry is not None
    assert (entry["asked"], entry["charged"]) == (1, 1 if do is Do.COMMIT_THEN_HANG_UP else 0)


def test_kept_alive_connection_that_hangs_up_executes_once_without_keys(
    caller: Caller | Exchange,
) -> None:
    """Even a provider that knows no idempotency keys counts exactly one execution."""
    with Provider(replay=Replay.NONE) as provider:
        push(provider, caller, "warm-up")
        provider.script.replace([Rule(Do.COMMIT_THEN_HANG_UP)])
        assert push(provider, caller, "k").verdict is Verdict.UNKNOWN
        assert charged(provider, "k") == 1


def test_time_out_after_the_effect_is_unknown(
    provider: Provider, caller: Caller | Exchange
) -> None:
    """Silence after the effect is unknown at the time-out, and the replay shows the success."""
    provider.script.replace([Rule(Do.COMMIT_THEN_TIME_OUT, times=1)])
    started = time.monotonic()
    answer = push(provider, caller, "k", timeout=0.3)
    assert answer.verdict is Verdict.UNKNOWN
    assert answer.error is not None
    assert answer.error["code"] == "timeout"
    assert time.monotonic() - started < 2
    assert push(provider, caller, "k", dispatch=2).output["status"] == "succeeded"
    assert charged(provider, "k") == 1


@pytest.mark.parametrize("given", ["7", "http-date"])
def test_retry_after_is_read_as_seconds_and_as_date(
    provider: Provider, caller: Caller | Exchange, given: str
) -> None:
    """Both forms of Retry-After come out as seconds."""
    stamp = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 8))
    provider.script.replace([Rule(Do.RATE_LIMIT, retry_after="7" if given == "7" else stamp)])
    answer = push(provider, caller, "k")
    assert answer.retry_after is not None
    assert 5 <= answer.retry_after <= 9


def test_connection_refused_is_not_sent(caller: Caller | Exchange) -> None:
    """Nobody listening means that nothing was sent."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/charge"
        answer = caller.call(Call(url, body=b"{}"))
    assert answer.verdict is Verdict.NOT_SENT
    assert answer.evidence["sent"] is False


def test_unknown_name_is_not_sent(caller: Caller | Exchange) -> None:
    """A name that does not resolve means that nothing was sent."""
    answer = caller.call(Call("http://no-such-host.invalid/charge", body=b"{}"))
    assert answer.verdict is Verdict.NOT_SENT


def test_failed_tls_handshake_is_not_sent(provider: Provider, caller: Caller | Exchange) -> None:
    """A peer that does not speak TLS never sees the request."""
    answer = caller.call(Call(provider.url.replace("http:", "https:") + "/charge", body=b"{}"))
    assert answer.verdict is Verdict.NOT_SENT
    assert provider.ledger.totals()["asked"] == 0


def test_connect_time_out_is_not_sent(caller: Caller | Exchange) -> None:
    """A listener whose queue is full does not get the request within the connect time-out."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.socket() as filler:
        filler.connect(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}/charge"
        answer = caller.call(Call(url, body=b"{}", timeout=5, connect_timeout=0.2))
    assert answer.verdict is Verdict.NOT_SENT
    assert answer.evidence["elapsed_ms"] < 2000


def test_deadline_in_the_past_is_not_sent(provider: Provider, caller: Caller | Exchange) -> None:
    """A call whose lease ended before the send leaves nothing at the provider."""
    answer = push(provider, caller, "k", not_after=time.monotonic() - 0.001)
    assert answer.verdict is Verdict.NOT_SENT
    assert answer.error is not None
    assert answer.error["code"] == "late"
    assert push(provider, caller, "k", not_after=time.monotonic() + 60).verdict == "succeeded"
    assert provider.ledger.totals()["asked"] == 1


@pytest.mark.parametrize(
    "call",
    [
        Call("ftp://127.0.0.1/x"),
        Call("http://"),
        Call("nonsense"),
        Call("http://127.0.0.1:1/", method="BREW"),
        Call("http://127.0.0.1:1/", headers=(("Host", "x"),)),
        Call("http://127.0.0.1:1/", headers=(("X-A", "a\r\nb"),)),
        Call("http://127.0.0.1:1/ä\x00"),
    ],
)
def test_call_that_can_never_be_made_is_refused(caller: Caller | Exchange, call: Call) -> None:
    """A wrong address, method or header fails for good and sends nothing."""
    answer = caller.call(call)
    assert answer.verdict in {Verdict.REFUSED, Verdict.NOT_SENT}
    assert answer.evidence["sent"] is False
    if call.url != "nonsense":
        assert answer.verdict is Verdict.REFUSED


def test_answer_beyond_the_limit_is_unknown(provider: Provider, caller: Caller | Exchange) -> None:
    """An answer too large to keep is cut off: the effect may have happened."""
    provider.script.replace([Rule(body={"pad": "x" * 200_000}, times=1)])
    answer = push(provider, caller, "k")
    assert answer.verdict is Verdict.UNKNOWN
    assert answer.evidence["too_large"] is True
    got = caller.call(Call(provider.url + "/ledger", method="GET", max_response=10))
    assert got.verdict is Verdict.REFUSED
    assert push(provider, caller, "other").verdict is Verdict.SUCCEEDED


def test_read_that_is_cut_off_may_be_tried_again(caller: Caller | Exchange) -> None:
    """A GET has no effect, so a lost answer is safe."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        answer = caller.call(Call(url, method="GET", timeout=0.2))
    assert answer.verdict is Verdict.FAILED_SAFE


def test_classification_that_breaks_leaves_the_outcome_unknown(
    provider: Provider, caller: Caller | Exchange
) -> None:
    """A broken preset never turns a sent request into a failure."""

    def broken(_response: object) -> Answer:
        raise ZeroDivisionError

    answer = push(provider, caller, "k", classify=broken)
    assert answer.verdict is Verdict.UNKNOWN
    assert answer.evidence["http_status"] == 200


def test_guarded_call_to_an_internal_peer_is_refused(
    provider: Provider, caller: Caller | Exchange
) -> None:
    """With the guard no connection to a private address is made, not even a kept-alive one."""
    assert push(provider, caller, "open").verdict is Verdict.SUCCEEDED
    answer = push(provider, caller, "k", guard=True)
    assert answer.verdict is Verdict.REFUSED
    assert answer.error is not None
    assert answer.error["code"] == "ssrf_blocked"
    fresh = push(provider, Caller(), "k", guard=True)
    assert fresh.error is not None
    assert fresh.error["code"] == "ssrf_blocked"
    by_name = build_push(
        provider.url.replace("127.0.0.1", "localhost"), "charge", b"{}", idempotency_key="k",
        dispatch=1, timeout=2, connect_timeout=2, max_response=9, guard=True,
    )  # fmt: skip
    assert Caller().call(by_name).verdict is Verdict.REFUSED
    assert charged(provider, "k") == 0


def test_guarded_call_does_not_even_connect(caller: Caller | Exchange) -> None:
    """The guard acts before the connection, so that internal ports cannot be probed by timing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        assert caller.call(Call(url, guard=True)).verdict is Verdict.REFUSED
        with pytest.raises(BlockingIOError):
            server.accept()


def test_guarded_call_to_an_allowed_peer_goes_through(
    provider: Provider, caller: Caller | Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard's own socket carries requests, and is reused for the next one."""
    monkeypatch.setattr(ssrf, "BLOCKED", ())
    for key in ("a", "b"):
        assert push(provider, caller, key, guard=True).verdict is Verdict.SUCCEEDED


def test_redirect_is_refused_and_not_followed(caller: Caller | Exchange) -> None:
    """A 3xx fails for good; the new address is not asked."""
    with answering(b"HTTP/1.1 307 X\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n") as (
        url,
        seen,
    ):
        answer = caller.call(Call(url, body=b"{}"))
    assert answer.verdict is Verdict.REFUSED
    assert len(seen) == 1


def test_request_on_the_wire_has_no_surprises(
    caller: Caller | Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTP/1.1, our headers only, no proxy, no Expect, no compression, body byte for byte."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1/")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1/")
    body = bytes(range(256)) * 20
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") as (url, seen):
        headers = (("X-Empty", ""), ("User-Agent", "t"), ("Content-Type", "a/b"))
        assert caller.call(Call(url + "/a/../b", body=body, headers=headers)).verdict == "succeeded"
    head, _, sent = seen[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /a/../b HTTP/1.1"
    assert {line.partition(":")[0].lower() for line in lines[1:]} == {
        "host", "accept", "x-empty", "user-agent", "content-type", "content-length",
    }  # fmt: skip
    assert sent == body


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "POST"])
def test_every_method_arrives_as_it_is(caller: Caller | Exchange, method: str) -> None:
    """One handle sends any method after any other."""
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    for _ in range(2):
        with answering(reply) as (url, seen):
            assert caller.call(Call(url, method=method)).verdict is Verdict.SUCCEEDED
        assert seen[0].startswith(method.encode() + b" / HTTP/1.1\r\n")


def test_many_threads_share_one_caller(provider: Provider, caller: Caller | Exchange) -> None:
    """128 threads charge 512 keys, each exactly once, over few connections."""
    with ThreadPoolExecutor(128) as pool:
        answers = list(pool.map(lambda n: push(provider, caller, f"k{n}", timeout=20), range(512)))
    assert {answer.verdict for answer in answers} == {Verdict.SUCCEEDED}
    totals = provider.ledger.totals()
    assert (totals["charged"], totals["asked"], totals["duplicates"]) == (512, 512, 0)


class answering:  # noqa: N801 -- reads as a verb
    """A server that gives every connection one canned reply and keeps what it was sent."""

    def __init__(self, reply: bytes) -> None:
        self._reply = reply
        self._seen: list[bytes] = []

    def __enter__(self) -> tuple[str, list[bytes]]:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(5)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return f"http://127.0.0.1:{self._server.getsockname()[1]}", self._seen

    def __exit__(self, *_: object) -> None:
        self._thread.join(5)
        self._server.close()

    def _serve(self) -> None:
        peer, _ = self._server.accept()
        with peer:
            peer.settimeout(5)
            raw = b""
            while b"\r\n\r\n" not in raw:
                raw += peer.recv(65536)
            head, _, rest = raw.partition(b"\r\n\r\n")
            lengths = [ln for ln in head.lower().split(b"\r\n") if ln.startswith(b"content-length")]
            wanted = int(lengths[0].partition(b":")[2]) if lengths else 0
            while len(rest) < wanted:
                rest += peer.recv(65536)
            self._seen.append(head + b"\r\n\r\n" + rest)
            peer.sendall(self._reply)
