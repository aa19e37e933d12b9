"""What operators and producers ask for: events, evidence, rate limits, what needs attention."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final
from uuid import uuid4

from orch8.client.answers import Decided, Event, Heard, Ingested, Limit, Matter, Retried
from orch8.client.caller import Caller
from orch8.client.paths import path
from orch8.client.reading import Page

PAGE: Final = 100


class Events:
    """What producers tell."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def tell(
        self, name: str, correlation_key: str, payload: Any = None, *, event_id: str | None = None
    ) -> Ingested:
        """The event is kept, once: the same name and ``event_id`` again is a duplicate."""
        body = {
            "event_name": name, "correlation_key": correlation_key, "payload": payload,
            "producer_event_id": event_id or str(uuid4()),
        }  # fmt: skip
        return Ingested.read(self._caller.ask("POST", "/events", body, repeatable=True))

    def get(self, event_id: str) -> Event:
        """The event with its payload. Raises NotFound."""
        return Event.read(self._caller.ask("GET", path("events", event_id)))

    def list(self, *, status: str | None = None, limit: int = PAGE) -> tuple[Event, ...]:
        """The tenant's latest events, without their payloads."""
        query = {"status": status, "limit": limit}
        return Event.read_all(self._caller.ask("GET", "/events", query=query))


class RateLimits:
    """How many calls may share a key."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def list(self) -> tuple[Limit, ...]:
        """Every stated limit, those of sequences, too."""
        found = Page.read(self._caller.ask("GET", "/rate-limits"))
        return tuple(map(Limit.read, found.items))

    def get(self, key: str) -> Limit:
        """The limit that holds for the key. Raises NotFound."""
        return Limit.read(self._caller.ask("GET", path("rate-limits", key)))

    def set(
        self,
        key: str,
        most: int | None = None,
        *,
        window: float = 1.0,
        slack: float | None = None,
        max_in_flight: int | None = None,
    ) -> Limit:
        """At most so many calls in any ``window`` seconds, or at a time; in every worker within a
        second, and over what sequences say. ``slack`` seconds are allowed from token to call.
        """
        asked = {
            "max": most, "window_seconds": None if most is None else window,
            "slack_seconds": slack,
            "max_in_flight": max_in_flight,
        }  # fmt: skip
        body = {name: value for name, value in asked.items() if value is not None}
        return Limit.read(self._caller.ask("PUT", path("rate-limits", key), body))

    def unset(self, key: str) -> None:
        """What sequences say holds again. Raises NotFound."""
        self._caller.ask("DELETE", path("rate-limits", key))


class Attention:
    """What a person may have to look at, and what a person decides."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def list(
        self, *, kinds: Iterable[str] = (), resolved: bool = False, page: int = PAGE
    ) -> Iterator[Matter]:
        """Every open matter, the oldest first, or the resolved ones."""
        query: dict[str, Any] = {
            "kind": ",".join(kinds) or None, "state": "resolved" if resolved else "open",
            "limit": page,
        }  # fmt: skip
        while True:
            found = Page.read(self._caller.ask("GET", "/attention", query=query))
            yield from map(Matter.read, found.items)
            if not found.has_more:
                return
            query["cursor"] = found.next_cursor

    def decide(
        self,
        instance_id: str,
        node_key: str,
        decision: str,
        *,
        reason: str,
        epoch: int | None = None,
        output: Any = None,
        provider_ref: str | None = None,
    ) -> Decided:
        """What became of the attempt stands (happened, declined, retry, skip, fail, ask_again), or
        is proposed to a second person. The client needs an ``actor``: who decides is in the log.
        """
        asked = {"epoch": epoch, "output": output, "provider_ref": provider_ref}
        body = {n: v for n, v in asked.items() if v is not None}
        body |= {"decision": decision, "reason": reason}
        at = path("attention", instance_id, node_key, "decide")
        return Decided.read(self._caller.ask("POST", at, body))

    def confirm(self, decision_id: str, *, reason: str) -> Retried:
        """What somebody else decided is carried out."""
        at = path("attention", "decisions", decision_id, "confirm")
        return Retried.read(self._caller.ask("POST", at, {"reason": reason}))

    def evidence(self, outcome: str, **known: Any) -> Heard:
        """An attempt ended with this outcome, as its provider says: succeeded, declined,
        requires_action or failed. ``known`` names the attempt (idempotency_key, provider_ref, or
        instance_id and step) and what it came to (output, event_id).
        """
        body: Mapping[str, Any] = {"outcome": outcome, **known}
        return Heard.read(self._caller.ask("POST", "/attempts/evidence", body))
