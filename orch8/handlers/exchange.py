"""The exchange: many HTTP calls in flight in one thread, each with exactly one answer.

libcurl's multi interface carries the transfers; this thread only waits for sockets and timers, so
a hundred slow handlers cost a hundred connections and no thread.
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Final

import pycurl
import structlog

from orch8.engine.outcome import Answer, Verdict
from orch8.handlers.http import Call, Line, certificates

log = structlog.get_logger(__name__)

IDLE: Final = 60.0  # seconds: the longest wait for a socket without looking up
_EVENTS: Final = {
    pycurl.POLL_IN: selectors.EVENT_READ,
    pycurl.POLL_OUT: selectors.EVENT_WRITE,
    pycurl.POLL_INOUT: selectors.EVENT_READ | selectors.EVENT_WRITE,
}
Build = Callable[[], "Call | Answer"]
Done = Callable[[Answer], None]


class Exchange:
    """Carries calls that any thread puts in; connections are kept alive and shared by all of them.

    Whatever happens to a call, its ``done`` is called exactly once, in the exchange's own thread.
    """

    def __init__(self, *, ca_file: str | None = None) -> None:
        self._ca_file = ca_file or certificates()
        self._waiting: deque[tuple[Build, Done]] = deque()
        self._flying: dict[pycurl.Curl, tuple[Line, Done]] = {}
        self._idle: list[Line] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._watched: set[int] = set()  # the sockets that libcurl waits for
        self._closing = False
        self._woken = False

    def start(self) -> None:
        """The thread is there, so that the first call does not have to wait for it."""
        if self._thread is not None:
            return
        with self._lock:
            if self._thread is not None:
                return
            self._selector = selectors.DefaultSelector()
            self._ear, self._bell = socket.socketpair()
            self._ear.setblocking(False)
            self._bell.setblocking(False)
            self._selector.register(self._ear, selectors.EVENT_READ)
            self._open()
            thread = threading.Thread(target=self._serve, name="orch8-exchange", daemon=True)
            thread.start()
            self._thread = thread

    def put(self, build: Build, done: Done) -> None:
        """The call that ``build`` makes, in the exchange's thread, will be carried; if it makes an
        answer, that is what came of it.
        """
        self._waiting.append((build, done))
        self.start()
        if not self._woken:
            self._woken = True
            self._ring()

    def call(self, call: Call) -> Answer:
        """As Caller.call: what one call came to, for whoever can wait."""
        came: SimpleQueue[Answer] = SimpleQueue()
        self.put(lambda: call, came.put)
        return came.get(timeout=call.timeout + call.connect_timeout + IDLE)

    def close(self) -> None:
        """Nothing is taken in any more; the thread ends after the calls that are in flight."""
        self._closing = True
        if self._thread is not None:
            with suppress(OSError):  # the thread may have ended by itself, and closed the line
                self._ring()

    def _ring(self) -> None:
        with suppress(BlockingIOError):  # a full line wakes as well
            self._bell.send(b"!")

    # -- the thread ----------------------------------------------------------------------------
    def _open(self) -> None:
        self._timer_at: float | None = None
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_PIPELINING, 0)  # HTTP/1.1: a connection has one call at a time
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._on_socket)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._on_timer)

    def _serve(self) -> None:
        while self._flying or self._waiting or not self._closing:
            try:
                self._turn()
            except Exception:
                log.exception("exchange.broke", calls=len(self._flying))
                self._abandon()
        self._selector.close()
        self._multi.close()
        self._ear.close()
        self._bell.close()

    def _turn(self) -> None:
        while self._waiting:
            self._begin(*self._waiting.popleft())
        for key, mask in self._selector.select(self._patience()):
            if key.fileobj is self._ear:
                self._ear.recv(4096)
                self._woken = False  # after the read, which may take a later ring with it
                continue
            bits = pycurl.CSELECT_IN if mask & selectors.EVENT_READ else 0
            bits |= pycurl.CSELECT_OUT if mask & selectors.EVENT_WRITE else 0
            self._multi.socket_action(key.fd, bits)
        if self._timer_at is not None and time.monotonic() >= self._timer_at:
            self._timer_at = None
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        self._reap()

    def _patience(self) -> float:
        if self._waiting or (self._closing and not self._flying):
            return 0.0
        if self._timer_at is None:
            return IDLE
        return max(0.0, min(self._timer_at - time.monotonic(), IDLE))

    def _begin(self, build: Build, done: Done) -> None:
        line = self._idle.pop() if self._idle else Line(self._ca_file)
        try:
            call = build()
            came = call if isinstance(call, Answer) else line.begin(call)
        except Exception as problem:
            log.exception("call.broke")
            came = _broken(problem)
        if came is not None:
            self._idle.append(line)
            done(came)
            return
        self._flying[line.curl] = line, done
        self._multi.add_handle(line.curl)

    def _reap(self) -> None:
        more = 1
        while more:
            more, good, bad = self._multi.info_read()
            for curl in good:
                self._end(curl, 0, "")
            for curl, code, reason in bad:
                self._end(curl, int(code), str(reason))

    def _end(self, curl: pycurl.Curl, code: int, reason: str) -> None:
        line, done = self._flying.pop(curl)
        self._multi.remove_handle(curl)
        try:
            came = line.end(code, reason)
        except Exception as problem:
            log.exception("call.broke")
            came = _broken(problem)
        self._idle.append(line)
        done(came)

    def _abandon(self) -> None:
        """After an error of the exchange itself nothing is known of what was in flight."""
        lost, self._flying = self._flying, {}
        self._multi.close()
        while self._watched:
            self._selector.unregister(self._watched.pop())
        self._open()
        for line, done in lost.values():
            line.drop()
            done(_broken(RuntimeError("the exchange broke")))

    # -- libcurl -------------------------------------------------------------------------------
    def _on_socket(self, what: int, fd: int, _multi: Any, _data: Any) -> None:
        events = _EVENTS.get(what)
        if events is None:
            if fd in self._watched:
                self._watched.remove(fd)
                self._selector.unregister(fd)
        elif fd in self._watched:
            self._selector.modify(fd, events)
        else:
            self._watched.add(fd)
            self._selector.register(fd, events)

    def _on_timer(self, milliseconds: int) -> None:
        self._timer_at = None if milliseconds < 0 else time.monotonic() + milliseconds / 1000


def _broken(problem: Exception) -> Answer:
    error = {"message": f"{type(problem).__name__}: {problem}", "code": "engine"}
    return Answer(Verdict.UNKNOWN, error=error)
