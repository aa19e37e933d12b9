"""How much is taken in: requests at a time, and bytes of an event from outside."""

from __future__ import annotations

import threading
from typing import Final

from flask import Flask, Response, g, request

from api.mounting import PUBLIC, is_webhook
from orch8.config import Settings
from orch8.errors import PayloadTooLarge, Unavailable

WEBHOOK_BODY: Final = 1024 * 1024  # bytes
RETRY_AFTER: Final = 1.0  # seconds


class Capacity:
    """The requests that this process works on, at most ``most`` at a time."""

    def __init__(self, most: int) -> None:
        self._most, self._lock = most, threading.Lock()
        self.taken = 0

    def enter(self) -> bool:
        """Whether there is room for one more, which then is taken."""
        with self._lock:
            if self.taken >= self._most:
                return False
            self.taken += 1
            return True

    def leave(self) -> None:
        """One more may come."""
        with self._lock:
            self.taken -= 1


def install(app: Flask, settings: Settings) -> Capacity:
    """Requests beyond ORCH8_MAX_CONCURRENT_REQUESTS are answered 503 at once; health is always
    told. Events from outside may have WEBHOOK_BODY bytes.
    """
    capacity = Capacity(settings.max_requests)

    def begin() -> None:
        if request.path in PUBLIC:
            return
        if not capacity.enter():
            raise Unavailable(
                f"{settings.max_requests} requests are being worked on; try again shortly",
                retry_after=RETRY_AFTER,
            )
        g.inside = True
        if is_webhook(request.method, request.path):
            _bound_webhook()

    def hand_over(response: Response) -> Response:
        # A stream takes its place until it ends, long after the view has.
        if response.is_streamed and g.pop("inside", False):
            response.call_on_close(capacity.leave)
        return response

    def end(_: BaseException | None) -> None:
        if g.pop("inside", False):
            capacity.leave()

    app.before_request(begin)
    app.after_request(hand_over)
    app.teardown_request(end)
    return capacity


def _bound_webhook() -> None:
    size = request.content_length
    if size is not None and size > WEBHOOK_BODY:
        raise PayloadTooLarge(f"the event has {size} bytes, the limit is {WEBHOOK_BODY}")
    request.max_content_length = WEBHOOK_BODY  # for a body that does not say how long it is
