"""Server-sent events: how a look that is repeated becomes a stream, and how many there may be."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from flask import Flask, Response, current_app, request

from api.answers import to_json
from api.capacity import Capacity
from orch8.config import Settings
from orch8.errors import Orch8Error, Unavailable

MEDIA_TYPE: Final = "text/event-stream"
KEEP_ALIVE: Final = 15.0  # seconds of silence after which a comment is sent
LONGEST: Final = 900.0  # seconds; then the client connects anew, which browsers do by themselves
RETRY_AFTER: Final = 5.0  # seconds
_ROOM: Final = "orch8_streams"
_ENDINGS: Final = frozenset({signal.SIGTERM, signal.SIGINT})
_over = threading.Event()  # this process was told to end


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream; ``id`` is what the client sends as Last-Event-ID after a break."""

    name: str
    data: Any
    id: str | None = None

    def to_bytes(self) -> bytes:
        """The event as it is sent. Its JSON has no line breaks, so it is one line of data."""
        place = b"" if self.id is None else b"id: " + self.id.encode() + b"\n"
        return (
            b"event: "
            + self.name.encode()
            + b"\n"
            + place
            + b"data: "
            + to_json(self.data)
            + b"\n\n"
        )


@dataclass(frozen=True, slots=True)
class Look:
    """What a look found. ``more``: look again at once; ``ends``: there will be nothing more."""

    events: list[Event]
    more: bool = False
    ends: bool = False


def install(app: Flask, settings: Settings) -> None:
    """The app serves at most ORCH8_SSE_MAX streams at a time: each takes a thread."""
    app.extensions[_ROOM] = Capacity(settings.sse_max)


def end_with_process() -> None:
    """Every stream ends soon after the process is told to; the server would wait for them.

    The server has the signal's handler, and sets it after the app was made: a wake-up descriptor is
    told as well. Only the main thread can set that; from another nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    ears, mouth = socket.socketpair()
    mouth.setblocking(False)
    signal.set_wakeup_fd(mouth.detach(), warn_on_full_buffer=False)

    def listen() -> None:
        while told := ears.recv(64):
            if _ENDINGS & set(told):
                _over.set()

    threading.Thread(target=listen, name="orch8-streams", daemon=True).start()


def stream(look: Callable[[], Look], every: float, *, first_wait: float = 0.0) -> Response:
    """A stream of what ``look`` finds, ``every`` so many seconds, beginning after ``first_wait``.

    ``look`` runs outside of the request. Unavailable when there are enough streams.
    """
    if request.method == "HEAD":
        return Response(mimetype=MEDIA_TYPE)
    room: Capacity = current_app.extensions[_ROOM]
    if not room.enter():
        raise Unavailable(
            "enough event streams are open; poll, or try again", retry_after=RETRY_AFTER
        )
    response = Response(_sent(look, every, first_wait), mimetype=MEDIA_TYPE)
    response.headers["X-Accel-Buffering"] = "no"  # proxies pass each event on at once
    response.call_on_close(room.leave)
    return response


def _sent(look: Callable[[], Look], every: float, first_wait: float) -> Iterator[bytes]:
    ends = time.monotonic() + LONGEST
    spoke = time.monotonic()
    yield b": open\n\n"
    _over.wait(first_wait)
    while time.monotonic() < ends and not _over.is_set():
        try:
            found = look()
        except Orch8Error as problem:
            yield Event("error", {"error": problem.detail}).to_bytes()
            return
        for event in found.events:
            yield event.to_bytes()
        if found.ends:
            return
        now = time.monotonic()
        if found.events:
            spoke = now
        elif now - spoke >= KEEP_ALIVE:
            spoke = now
            yield b": still here\n\n"
        if not found.more:
            _over.wait(every)
