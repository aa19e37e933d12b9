"""The load: dunning instances, created over HTTP while everything around is being killed."""

from __future__ import annotations

import http.client
import threading
import time
from contextlib import closing
from datetime import timedelta
from typing import Any

from tests.support.stack import Client, ProviderProcess, World, creation, example, until

NAME = "payment_dunning"
# Forty days pass in about twenty seconds. The keys of the charges must then last for years, since
# their age is measured in the same time; the provider keeps them for as long as it runs.
CLOCK_RATE = 40 * 86_400 / 20
KEY_TTL = timedelta(days=3650)
CONCURRENT_LIMIT = 400  # charges per second: above the load, so that the limiter only takes part
_FAILED = (OSError, http.client.HTTPException)
_PAUSE, _ANSWER_WITHIN = 0.2, 60.0

# How the provider misbehaves, by chance: each of these is survived without a failed step.
HOSTILITY: tuple[dict[str, Any], ...] = (
    {"do": "commit_then_hang_up", "chance": 0.03},
    {"do": "commit_then_garble", "chance": 0.01},
    {"do": "commit_then_time_out", "chance": 0.003},
    {"do": "hang_up", "chance": 0.02},
    {"do": "fail_before", "chance": 0.02},
    {"do": "fail_after", "chance": 0.01},
    {"do": "decline", "handler": "charge_payment_method", "chance": 0.4},
)


def definition() -> dict[str, Any]:
    """The dunning example with keys that outlast the sped-up clock and a limit above the load."""
    body: dict[str, Any] = example(NAME)
    _for_steps(body["blocks"])
    return body


def _for_steps(blocks: list[dict[str, Any]]) -> None:
    for block in blocks:
        if block["type"] == "step" and block["handler"] != "wait":
            block["idempotency"] = {"ttl": {"days": KEY_TTL.days}}
            if "rate_limit" in block:
                block["rate_limit"] = {"max": CONCURRENT_LIMIT, "window_seconds": 1}
        for route in block.get("routes", ()):
            _for_steps(route["blocks"])


class Feeder:
    """A thread that keeps instances coming until it is stopped.

    ``accepted`` are the keys that the API answered with 200 or 201 and the instances they stand
    for; these must end well. A request without an answer is made again with its key, as a billing
    webhook does.
    """

    def __init__(self, world: World[ProviderProcess], rate: float) -> None:
        self.accepted: dict[str, str] = {}
        self.problem: Exception | None = None
        self._url, self._rate = world.stack.urls.http, rate
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._feed, name="feeder", daemon=True)

    def start(self) -> None:
        """Instances are being created."""
        self._thread.start()

    def stop(self) -> None:
        """No more are created, and each that was begun has been answered."""
        self._over.set()
        self._thread.join()
        if self.problem is not None:
            raise self.problem

    def _feed(self) -> None:
        number, next_at = 0, time.monotonic()
        try:
            with closing(Client(self._url, timeout=5.0)) as client:
                while not self._over.wait(max(next_at - time.monotonic(), 0.0)):
                    next_at = max(next_at + 1 / self._rate, time.monotonic() - 1.0)
                    number += 1
                    key = f"chaos-{number}"
                    self.accepted[key] = create(client, NAME, creation(key))
        except Exception as problem:  # noqa: BLE001 - told by stop()
            self.problem = problem


def create(client: Client, sequence: str, body: dict[str, Any]) -> str:
    """The id of the instance that the body, which has a key, asks for. AssertionError if the API is
    away for a minute.
    """

    def ask() -> str | None:
        try:
            reply = client.send("POST", f"/sequences/{sequence}/instances", body)
        except _FAILED:
            client.close()
            return None
        if reply.status >= 500:
            return None
        assert reply.status in {200, 201}, f"{reply.status}: {reply.body}"
        instance_id: str = reply.body["id"]
        return instance_id

    found: str = until(ask, _ANSWER_WITHIN, "the API answers", poll=_PAUSE)
    return found
