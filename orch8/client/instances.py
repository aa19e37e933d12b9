"""Instances: start, find, follow and steer them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final
from uuid import uuid4

from orch8.client.answers import (
    Entry,
    Instance,
    Node,
    Output,
    Reached,
    Retried,
    Sent,
    Signal,
    Started,
    Timeline,
)
from orch8.client.caller import Caller
from orch8.client.paths import path
from orch8.client.reading import Page
from orch8.errors import InvalidArgument, Orch8Error

CONTROLS: Final = frozenset({"pause", "resume", "cancel", "update_context"})
PAGE: Final = 100
_FIRST_LOOK, _LONGEST_PAUSE = 0.05, 2.0  # seconds between looks


class StillOpen(Orch8Error):
    """The instance has not ended within the time that was given."""

    code = "still_open"


class Instances:
    """The instances of one tenant, or of all."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def start(
        self,
        sequence: str,
        data: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        **members: Any,
    ) -> Started:
        """An instance of the sequence (its name, or a version's id) runs, its ``context.data`` as
        given; one only, however often the request has to be sent.

        Without ``idempotency_key`` the call has a key of its own; name one if the call itself may
        be repeated, by a webhook for instance. ``members`` are further ones of the request, such
        as ``priority="High"``. Raises NotFound, IdempotencyMismatch, BusinessKeyTaken.
        """
        body = {**members, "idempotency_key": idempotency_key or str(uuid4())}
        if data is not None:
            body["context"] = {**(body.get("context") or {}), "data": data}
        at = path("sequences", sequence, "instances")
        return Started.read(self._caller.ask("POST", at, body, repeatable=True))

    def get(self, instance_id: str) -> Instance:
        """The instance as it is now. Raises NotFound."""
        return Instance.read(self._caller.ask("GET", path("instances", instance_id)))

    def list(
        self,
        *,
        sequence: str | None = None,
        states: Iterable[str] = (),
        metadata: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        page: int = PAGE,
    ) -> Iterator[Instance]:
        """Every instance that fits, the last changed first; read a page at a time."""
        query: dict[str, Any] = {
            "sequence": sequence, "state": ",".join(states) or None, "limit": page,
            "idempotency_key": idempotency_key,
        }  # fmt: skip
        query |= {f"metadata.{name}": value for name, value in (metadata or {}).items()}
        while True:
            found = Page.read(self._caller.ask("GET", "/instances", query=query))
            yield from map(Instance.read, found.items)
            if not found.has_more:
                return
            query["cursor"] = found.next_cursor

    def wait(self, instance_id: str, *, within: float = 60.0) -> Instance:
        """The instance once it has ended. Raises StillOpen after ``within`` seconds."""
        deadline, pause = time.monotonic() + within, _FIRST_LOOK
        while not (found := self.get(instance_id)).ended:
            left = deadline - time.monotonic()
            if left <= 0:
                raise StillOpen(
                    f"instance {instance_id} is {found.state} after {within:g} s",
                    extra={"instance": found.raw},
                )
            time.sleep(min(pause, left))
            pause = min(1.5 * pause, _LONGEST_PAUSE)
        return found

    def signal(
        self,
        instance_id: str,
        name: str,
        payload: Any = None,
        *,
        reason: str | None = None,
        dedupe_key: str | None = None,
    ) -> Sent:
        """The instance has the signal, once: a control (pause, resume, cancel, update_context) or
        one of your own. The same ``dedupe_key`` again does nothing.
        """
        body = {
            "signal_type": name if name in CONTROLS else {"custom": name}, "payload": payload,
            "reason": reason, "dedupe_key": dedupe_key or str(uuid4()),
        }  # fmt: skip
        at = path("instances", instance_id, "signals")
        return Sent.read(self._caller.ask("POST", at, body, repeatable=True))

    def signal_all(
        self,
        name: str,
        correlate: Mapping[str, str],
        payload: Any = None,
        *,
        reason: str | None = None,
        dedupe_key: str | None = None,
    ) -> Reached:
        """Every open instance whose correlation has all of these values has the signal, once."""
        if not correlate:
            raise InvalidArgument('correlate must name a value, such as {"invoice_id": "in_1"}')
        body = {
            "signal": name, "correlate": dict(correlate), "payload": payload,
            "reason": reason, "dedupe_key": dedupe_key or str(uuid4()),
        }  # fmt: skip
        return Reached.read(self._caller.ask("POST", "/signals", body, repeatable=True))

    def signals(self, instance_id: str) -> tuple[Signal, ...]:
        """What was sent to the instance, the oldest first."""
        return Signal.read_all(self._caller.ask("GET", path("instances", instance_id, "signals")))

    def update_context(
        self, instance_id: str, data: Mapping[str, Any], *, reason: str | None = None
    ) -> Sent:
        """The members of ``data`` are merged into the instance's ``context.data``. A context that
        would be too large stays as it is, and the audit log says so.
        """
        return self.signal(instance_id, "update_context", {"data": dict(data)}, reason=reason)

    def pause(self, instance_id: str, *, reason: str | None = None) -> Sent:
        """No step of the instance begins until it is resumed."""
        return self.signal(instance_id, "pause", reason=reason)

    def resume(self, instance_id: str, *, reason: str | None = None) -> Sent:
        """A paused instance goes on."""
        return self.signal(instance_id, "resume", reason=reason)

    def hold(self, instance_id: str, *, reason: str | None = None) -> None:
        """As pause, of a running instance, which shows as waiting until it is resumed."""
        body = {"state": "waiting", "reason": reason}
        self._caller.ask("PATCH", path("instances", instance_id, "state"), body)

    def cancel(self, instance_id: str, *, reason: str | None = None) -> Sent:
        """The instance is being cancelled; a call in flight is waited for."""
        return self.signal(instance_id, "cancel", reason=reason)

    def retry(self, instance_id: str, *, reason: str | None = None) -> Retried:
        """A failed instance goes on where it failed; what completed is not called again."""
        body = {"reason": reason} if reason else {}
        return Retried.read(self._caller.ask("POST", path("instances", instance_id, "retry"), body))

    def reschedule(self, instance_id: str, at: datetime | None = None) -> None:
        """A scheduled or paused instance is due at this moment; now if it is left out."""
        body: dict[str, Any] = {"state": "scheduled"}
        if at is not None:
            body["next_fire_at"] = at.isoformat()
        self._caller.ask("PATCH", path("instances", instance_id, "state"), body)

    def outputs(self, instance_id: str) -> tuple[Output, ...]:
        """What the steps of the instance came to, the oldest first."""
        return Output.read_all(self._caller.ask("GET", path("instances", instance_id, "outputs")))

    def tree(self, instance_id: str) -> tuple[Node, ...]:
        """The nodes of the instance: what was entered, what will be, what was passed by."""
        at = path("instances", instance_id, "tree")
        return Node.read_all(self._caller.ask("GET", at, query={"flat": "true"}))

    def audit(self, instance_id: str) -> tuple[Entry, ...]:
        """Who did what to the instance, the newest first."""
        return Entry.read_all(self._caller.ask("GET", path("instances", instance_id, "audit")))

    def timeline(
        self, instance_id: str, *, offset: int = 0, limit: int = 200, outputs: bool = True
    ) -> Timeline:
        """The instance's story, with a page of what its steps came to."""
        query = {"offset": offset, "limit": limit, "include_outputs": str(outputs).lower()}
        at = path("instances", instance_id, "timeline")
        return Timeline.read(self._caller.ask("GET", at, query=query))
