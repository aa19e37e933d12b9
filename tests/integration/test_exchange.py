"""The exchange: many calls in flight in one thread, each answered exactly once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import SimpleQueue

import pytest

from orch8.engine.outcome import Answer, Verdict
from orch8.handlers.exchange import Exchange
from orch8.handlers.http import Call

WITHIN = 20.0


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    with closing(Exchange()) as running:
        yield running


@contextmanager
def meeting(guests: int) -> Iterator[str]:
    """A server that answers nobody before so many requests are there at the same time."""
    all_here = threading.Barrier(guests)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            all_here.wait(WITHIN)
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_exchange_has_a_hundred_slow_calls_in_flight_in_one_thread(exchange: Exchange) -> None:
    """None of them waits for another one's answer."""
    came: SimpleQueue[tuple[str, Answer]] = SimpleQueue()
    with meeting(100) as url:
        for _ in range(100):
            exchange.put(
                lambda: Call(url, body=b"{}"),
                lambda answer: came.put((threading.current_thread().name, answer)),
            )
        found = [came.get(timeout=WITHIN) for _ in range(100)]
    assert {answer.verdict for _, answer in found} == {Verdict.SUCCEEDED}
    assert len({name for name, _ in found}) == 1
    assert came.empty()


def test_exchange_answers_what_cannot_even_be_made_up(exchange: Exchange) -> None:
    """An error while a call is made up says nothing certain, and holds nobody else up."""
    came: SimpleQueue[Answer] = SimpleQueue()

    def broken() -> Call:
        raise LookupError("no such thing")

    exchange.put(broken, came.put)
    first = came.get(timeout=WITHIN)
    assert first.verdict is Verdict.UNKNOWN
    assert first.error is not None
    assert first.error["code"] == "engine"
    with meeting(1) as url:
        assert exchange.call(Call(url, body=b"{}")).verdict is Verdict.SUCCEEDED


def test_exchange_takes_an_answer_for_a_call(exchange: Exchange) -> None:
    """Whoever makes up a call may find that there is nothing to send."""
    came: SimpleQueue[Answer] = SimpleQueue()
    exchange.put(lambda: Answer(Verdict.NOT_SENT), came.put)
    assert came.get(timeout=WITHIN).verdict is Verdict.NOT_SENT


def test_exchange_that_breaks_leaves_no_call_without_an_answer(exchange: Exchange) -> None:
    """What was in flight is unknown then, and the next call is carried as if nothing had been."""
    came: SimpleQueue[Answer] = SimpleQueue()

    def breaks(_: Answer) -> None:
        raise LookupError("nobody takes this answer")

    with meeting(2) as url:  # which this one call cannot make up alone
        exchange.put(lambda: Call(url, body=b"{}"), came.put)
        exchange.put(lambda: Answer(Verdict.NOT_SENT), breaks)
        lost = came.get(timeout=WITHIN)
        assert lost.verdict is Verdict.UNKNOWN
        assert lost.error is not None
        assert lost.error["code"] == "engine"
    with meeting(1) as url:
        assert exchange.call(Call(url, body=b"{}")).verdict is Verdict.SUCCEEDED


def test_exchange_that_is_closed_brings_its_calls_to_their_end() -> None:
    """Closing takes nothing back that is under way."""
    came: SimpleQueue[Answer] = SimpleQueue()
    exchange = Exchange()
    with meeting(2) as url:
        exchange.put(lambda: Call(url, body=b"{}"), came.put)
        exchange.put(lambda: Call(url, body=b"{}"), came.put)
        exchange.close()
        assert {came.get(timeout=WITHIN).verdict for _ in range(2)} == {Verdict.SUCCEEDED}


def test_exchange_whose_thread_has_ended_may_be_closed_once_more() -> None:
    """Whoever closes it cannot know whether the thread has seen that already."""
    at_work: SimpleQueue[threading.Thread] = SimpleQueue()
    exchange = Exchange()
    with meeting(1) as url:
        exchange.put(
            lambda: Call(url, body=b"{}"), lambda _: at_work.put(threading.current_thread())
        )
        thread = at_work.get(timeout=WITHIN)
    exchange.close()
    thread.join(WITHIN)
    exchange.close()
    assert not thread.is_alive()
