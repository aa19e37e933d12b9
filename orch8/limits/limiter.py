"""The limiter: all-or-nothing tokens for batches of calls, strict in every window.

How a key is counted. Up to 1000 per window, a sorted set logs every token: a call is granted if
fewer than max lie in the last window, exactly. Above that a GCRA bucket (in its leaky-bucket form)
decides with burst = max / 10 and rate = (max - burst) / window. Since burst + rate * window = max,
no window can hold more than max; a steady stream gets 90 % of it. The log keeps the newest 1000
tokens in either case, so that a limit may move across 1000 at run time.

The window used is window + slack: a call sent up to slack seconds after its grant still keeps the
limit at the provider. An older grant must go back (Grant.expired, Limiter.release). Utilisation
therefore is measured against max / (window + slack).

Time is the server's own clock, held still when it jumps back. A server that lost its data (flush,
restart, failover) has no or another server's sentinel: then windows up to 60 s count as spent until
they have passed, longer ones are refused until ``restore``. A new installation is not told apart
from a flushed one: the first calls wait one window. The server must not evict (noeviction).

All names of a tenant share the hash tag {prefix:tenant}, so that its scripts run on one slot of a
Redis Cluster. Limits come with each call: a changed limit holds from the next call on. A window
that grows is exact one new window later, since what it reaches back to was trimmed.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from orch8.errors import InvalidArgument
from orch8.limits.connection import Script, ScriptCall, ScriptConnection
from orch8.limits.grant import MAX_PER_WINDOW, Grant, Limit, Refusal, Usage

if TYPE_CHECKING:
    import redis

MAX_BATCH = 512
MAX_KEYS_PER_REQUEST = 16
MAX_RELEASE = 8192
LONG_WINDOW = 60.0  # seconds; above this a lost history is rebuilt instead of waited for
LOG_MAX = 1000  # as in state.lua
MICROSECONDS = 1_000_000

_ACQUIRE, _RELEASE, _RESTORE, _PEEK = map(Script, ("acquire", "release", "restore", "peek"))
_REFUSALS = (None, Refusal.FULL, Refusal.SPENT, Refusal.REBUILD, Refusal.CLOSED)

Request = Sequence[Limit]


class Limiter:
    """Grants tokens of rate-limited keys. Safe to share between threads.

    Two seams for tests: ``clock`` (seconds) replaces the server's clock in every script; ``client``
    replaces the connection to ``url``, and a failover is not recognised then.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "o8",
        clock: Callable[[], float] | None = None,
        client: redis.Redis | None = None,
    ) -> None:
        self._prefix = _name("prefix", prefix)
        self._clock = clock
        self._connection = ScriptConnection(url, client)

    def acquire(self, tenant: str, requests: Sequence[Request]) -> list[Grant]:
        """Each request has all of its tokens or none; one Grant per request, in order.

        Requests are served in order: after a refusal the same key refuses the rest of the batch,
        other keys do not. ``retry_after`` of a refused request counts those before it.
        Raises LimiterUnavailable, and InvalidArgument for a malformed batch (over 512 requests).
        """
        return self.acquire_many([(tenant, request) for request in requests])

    def acquire_many(self, requests: Sequence[tuple[str, Request]]) -> list[Grant]:
        """As ``acquire`` for requests of several tenants: one script call each, in one pipeline."""
        if len(requests) > MAX_BATCH:
            raise InvalidArgument(f"a batch has at most {MAX_BATCH} requests, not {len(requests)}")
        by_tenant: dict[str, list[int]] = {}
        for position, (tenant, limits) in enumerate(requests):
            _check_request(limits)
            if limits:
                by_tenant.setdefault(_name("tenant", tenant), []).append(position)
        # A request without limits needs no token and never grows old.
        grants = [Grant(granted=True, tokens=(), granted_at=0.0, slack=math.inf)] * len(requests)
        if not by_tenant:
            return grants
        batches = [
            _Batch([requests[position][1] for position in positions])
            for positions in by_tenant.values()
        ]
        asked_at = 0.0

        def calls(server: str) -> list[ScriptCall]:
            nonlocal asked_at
            asked_at = time.monotonic()
            return [
                self._call(server, tenant, batch.keys, batch.args)
                for tenant, batch in zip(by_tenant, batches, strict=True)
            ]

        replies = self._connection.run(_ACQUIRE, calls)
        for positions, batch, reply in zip(by_tenant.values(), batches, replies, strict=True):
            for position, grant in zip(positions, batch.grants(reply, asked_at), strict=True):
                grants[position] = grant
        return grants

    def release(self, tenant: str, grants: Sequence[Grant]) -> int:
        """Tokens that were not used are free again; returns how many went back.

        Idempotent: a token goes back once. A bucket key (max above 1000) takes a token back only
        if it was granted within about the last second and the bucket has not run empty since.
        Raises LimiterUnavailable: the tokens then stay spent until their window has passed.
        """
        members: dict[str, list[str]] = {}
        for grant in grants:
            for key, member in grant.tokens:
                members.setdefault(key, []).append(member)
        if not members:
            return 0
        if sum(map(len, members.values())) > MAX_RELEASE:
            raise InvalidArgument(f"at most {MAX_RELEASE} tokens can be released at once")
        args: list[str | int] = []
        for own in members.values():
            args += (len(own), *own)
        return int(self._run(_RELEASE, tenant, list(members), args))

    def restore(self, tenant: str, limit: Limit, ages: Sequence[float]) -> bool:
        """The key's history is known again: ``ages`` replaces what the server has of it.

        ``ages`` are the seconds since each call of the last window (plus slack) was sent, by the
        database's clock, so that the clocks of database and Redis need not agree. False if the
        history was known already; then nothing changes. Raises LimiterUnavailable.
        """
        if len(ages) > MAX_PER_WINDOW:
            raise InvalidArgument(f"ages has at most {MAX_PER_WINDOW} entries, not {len(ages)}")
        window = _window(limit)
        spent = sorted(age for age in ages if age * MICROSECONDS < window)
        newest = [max(0, int(age * MICROSECONDS)) for age in islice(spent, LOG_MAX)]
        return bool(self._run(_RESTORE, tenant, [limit.key], [window, len(spent), *newest]))

    def peek(self, tenant: str, limit: Limit) -> Usage:
        """How full the key is now; changes nothing. Raises LimiterUnavailable."""
        asked_at = time.monotonic()
        used, wait = self._run(_PEEK, tenant, [limit.key], [limit.max, _window(limit)])
        return Usage(used=used, max=limit.max, free_at=asked_at + wait / MICROSECONDS)

    def ping(self) -> None:
        """Returns if Redis answers, else raises LimiterUnavailable."""
        self._connection.ping()

    def close(self) -> None:
        """All connections are closed."""
        self._connection.close()

    def _run(
        self, script: Script, tenant: str, keys: Sequence[str], args: Sequence[str | int]
    ) -> Any:
        _name("tenant", tenant)
        return self._connection.run(
            script, lambda server: [self._call(server, tenant, keys, args)]
        )[0]

    def _call(
        self, server: str, tenant: str, keys: Sequence[str], args: Sequence[str | int]
    ) -> ScriptCall:
        tag = f"{{{self._prefix}:{tenant}}}"
        names = [f"{tag}:state"]
        for key in keys:
            names += (f"{tag}:log:{key}", f"{tag}:meta:{key}")
        now = "" if self._clock is None else round(self._clock() * MICROSECONDS)
        return names, [now, server, secrets.token_hex(4), *args]


class _Batch:
    """One tenant's requests as the script wants them, with each key and limit named once."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self.requests = requests
        numbers: dict[str, int] = {}
        limits: dict[tuple[int, int, int, int], int] = {}
        body: list[str | int] = []
        for request in requests:
            body.append(len(request))
            for limit in request:
                key = numbers.setdefault(limit.key, len(numbers) + 1)
                row = (key, limit.max, _window(limit), int(limit.window > LONG_WINDOW))
                body += (limits.setdefault(row, len(limits) + 1), limit.weight)
        self.keys = list(numbers)
        self.limits = list(limits)
        rows = [part for row in limits for part in row]
        self.args: list[str | int] = [len(limits), *rows, len(requests), *body]

    def grants(self, reply: Sequence[Any], asked_at: float) -> Iterator[Grant]:
        """The script's reply, one Grant per request."""
        run = reply[0].decode()
        answers = iter(reply[1:])
        for request, code, first, wait in zip(
            self.requests, answers, answers, answers, strict=True
        ):
            slack = min(limit.slack for limit in request)
            if code == 0:
                yield Grant(
                    granted=True,
                    tokens=_tokens(request, run, first),
                    granted_at=asked_at,
                    slack=slack,
                )
            else:
                yield Grant(
                    granted=False,
                    tokens=(),
                    granted_at=asked_at,
                    slack=slack,
                    refused_by=self.keys[self.limits[first - 1][0] - 1],
                    refusal=_REFUSALS[code],
                    retry_after=wait / MICROSECONDS,
                )


def _tokens(request: Request, run: str, first: int) -> tuple[tuple[str, str], ...]:
    units = [limit.key for limit in request for _ in range(limit.weight)]
    return tuple((key, f"{run}.{number}") for number, key in enumerate(units, first))


def _window(limit: Limit) -> int:
    return math.ceil((limit.window + limit.slack) * MICROSECONDS)


def _check_request(limits: Request) -> None:
    if len(limits) > MAX_KEYS_PER_REQUEST:
        raise InvalidArgument(
            f"a request has at most {MAX_KEYS_PER_REQUEST} limits, not {len(limits)}"
        )
    if len(limits) > 1 and len({limit.key for limit in limits}) < len(limits):
        raise InvalidArgument("a request names each key once; put the sum into its weight")


def _name(field: str, value: str) -> str:
    if not value or "{" in value or "}" in value:
        raise InvalidArgument(f"{field} must not be empty nor contain braces: {value!r}")
    return value
