"""Routes: how a handler of a given name is reached, and what kind of call that is."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final
from urllib.parse import quote, unquote

from orch8.config import Settings
from orch8.handlers.builtin import Builtin
from orch8.handlers.python import FUNCTIONS
from orch8.handlers.registry import HANDLERS, MISSING
from orch8.storage import fleet
from orch8.storage.transaction import Tx

_WITH_QUEUE: Final = 4  # parts of a pull lane
REFRESH = 1.0  # seconds: how soon a registered address is known to every process


class Kind(StrEnum):
    """What dispatching a step means."""

    PURE = "pure"  # computed in place
    DURABLE = "durable"  # done inside the transaction that settles it
    HTTP = "http"  # the built-in http_request
    PUSH = "push"  # POST to the handler's address
    PYTHON = "python"  # a function in this process
    CELERY = "celery"  # a task of the user's own Celery application
    PULL = "pull"  # waits for a worker that asks for it
    STUB = "stub"  # answered in its place: a dry run calls nobody

    @property
    def calls_out(self) -> bool:
        """Whether a worker thread makes the call, outside any transaction."""
        return self in _CALLS


_CALLS: Final = frozenset({Kind.HTTP, Kind.PUSH, Kind.PYTHON, Kind.CELERY})


@dataclass(frozen=True, slots=True)
class Route:
    """Where and how one handler is reached. ``guard``: refuse internal addresses."""

    kind: Kind
    handler: str
    url: str | None = None
    guard: bool = True
    effect: str | None = None
    timeout: float | None = None
    builtin: Builtin | None = None


# A step that lacks the answer which it needs before its call: whoever takes it looks for that.
LOOK: Final = Route(Kind.DURABLE, "@look")


class Routes:
    """The registered addresses, kept fresh; safe to share between threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._registered: Mapping[tuple[str, str], Any] = {}
        self._read_at = float("-inf")
        self._found: dict[tuple[str, str], Route] = {}

    def refresh(self, tx: Tx) -> None:
        """The registrations are at most REFRESH seconds old."""
        if time.monotonic() - self._read_at > REFRESH:
            self._registered = {(row.tenant_id, row.name): row for row in fleet.handlers(tx)}
            self._read_at, self._found = time.monotonic(), {}

    def forget(self) -> None:
        """The next refresh reads anew."""
        self._read_at = float("-inf")

    def find(self, tenant_id: str, handler: str) -> Route:
        """How a tenant's handler is reached now."""
        found = self._found.get((tenant_id, handler))
        if found is None:
            found = self._found[tenant_id, handler] = self._find(tenant_id, handler)
        return found

    def _find(self, tenant_id: str, handler: str) -> Route:
        """A built-in, a function of this process, a registered address, the default address, or
        else the pull queue: in this order. No pull worker is waited for where a contract's built-in
        is meant that orch8 does not have: that fails.
        """
        builtin = HANDLERS.get(handler)
        if builtin is not None:
            kind = Kind.HTTP if builtin.kind == "call" else Kind(builtin.kind)
            guard = not self._settings.allow_internal_urls
            effect = None if kind is Kind.HTTP else "none"
            return Route(kind, handler, guard=guard, effect=effect, builtin=builtin)
        if handler.startswith("celery:"):
            return Route(Kind.CELERY, handler)
        if handler in FUNCTIONS:
            return Route(Kind.PYTHON, handler)
        row = self._registered.get((tenant_id, handler))
        if row is not None and row.url:
            return Route(
                Kind.PUSH,
                handler,
                row.url,
                not self._settings.allow_internal_urls,
                row.effect,
                row.timeout,
            )
        effect = row.effect if row is not None else None
        if self._settings.handler_url:
            return Route(Kind.PUSH, handler, self._settings.handler_url, guard=False, effect=effect)
        if handler in MISSING:
            return Route(Kind.PURE, handler, effect="none", builtin=MISSING[handler])
        return Route(Kind.PULL, handler, effect=effect)


def pull_lane(tenant_id: str, handler: str, queue: str | None) -> str:
    """The lane in which a pull step waits for its worker."""
    parts = [tenant_id, handler, queue] if queue else [tenant_id, handler]
    return "/".join(["pull", *(quote(part, safe="") for part in parts)])


def queue_of(lane: str) -> str | None:
    """The queue of a pull lane; None for the lane of a handler, or one that is no pull lane."""
    parts = lane.split("/", 3)  # pull / tenant / handler / queue
    return unquote(parts[3]) if parts[0] == "pull" and len(parts) == _WITH_QUEUE else None
