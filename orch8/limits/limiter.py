"""The limiter: all-or-nothing tokens for batches of calls, strict in every window.

How a key is counted. Up to 1000 per window, a sorted set logs every token: a call is granted if
fewer than max lie in the last window, exactly. Above that a GCRA bucket (in its leaky-bucket form)
decides with burst = max / 10 and rate = (max - burst) / window. Since burst + rate * window = max,
no window can hold more than max; a steady stream gets 90 % of it. The log keeps the newest 1000
tokens in either case, so that a limit may move across 1000 at run time.

A grant of a limit that says ``calm`` is good for so many seconds instead of slack while less than
half of the window is used. Its tokens count as granted that much later, so they come back later and
no window holds more than max, whenever in that time the calls are made: a call that arrives within
[x, x + window) was granted so late that whoever is granted the last of them counts it.

Calls of a limit that says ``even`` come one after the other instead of in a burst: each eighth of
the window is full with an eighth of its units and a quarter more. Tokens that were spent in a burst
come back in one, for ever; a burst is what jitter on the road turns into too many calls, and what
no process can send in the time that a grant is good for. Other calls of the key may use the rest.

The window used is window + slack: a call sent up to slack seconds after its grant still keeps the
limit at the provider. An older grant must go back (Grant.expired, Limiter.release). Utilisation
therefore is measured against max / (window + slack).

Time is the server's own clock, without its steps: see bearings.py and state.lua. A server that lost
its data (flush, restart, failover) has no or another server's sentinel: then windows up to 60 s
count as spent until they have passed; longer ones are refused until ``restore``, and so are keys of
which max_in_flight is stated. A new installation is not told apart from a flushed one: the first
calls wait one window. The server must not evict (noeviction).

Calls in flight are leases in a sorted set by expiry: a process that was killed leaks none. When a
provider says that too much is going on at once, the key's room is halved, whether a bound is stated
or not, and grows by one for each room-full of calls that succeed.

All names of a tenant share the hash tag {prefix:tenant}, so that its scripts run on one slot of a
Redis Cluster. Limits come with each call: a changed limit holds from the next call on. A window
that grows is exact one new window later, since what it reaches back to was trimmed.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from orch8.errors import InvalidArgument
from orch8.limits.bearings import Bearings
from orch8.limits.connection import Script, ScriptCall, ScriptConnection
from orch8.limits.grant import MAX_IN_FLIGHT, MAX_PER_WINDOW, Ended, Grant, Limit, Refusal, Usage
from orch8.limits.report import Report, or_none

if TYPE_CHECKING:
    import redis

MAX_BATCH = 512
MAX_KEYS_PER_REQUEST = 16
MAX_RELEASE = 8192
LOG_MAX = 1000  # as in state.lua
MICROSECONDS = 1_000_000

_ACQUIRE, _RELEASE, _RENEW, _ENDED, _RESTORE, _PEEK = map(
    Script, ("acquire", "release", "renew", "ended", "restore", "peek")
)
_REFUSALS = (
    None,
    Refusal.FULL,
    Refusal.HELD,
    Refusal.BLOCKED,
    Refusal.SPENT,
    Refusal.REBUILD,
    Refusal.CLOSED,
)

Request = Sequence[Limit]


class Limiter:
    """Grants tokens of rate-limited keys. Safe to share between threads.

    Seams for tests: ``clock`` (seconds) replaces the server's clock in every script, and ``own``
    the process's; ``client`` replaces the connection to ``url``, and a failover is not recognised
    then.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "o8",
        clock: Callable[[], float] | None = None,
        own: Callable[[], float] | None = None,
        client: redis.Redis | None = None,
    ) -> None:
        if not prefix or "{" in prefix or "}" in prefix:
            raise InvalidArgument(f"prefix must not be empty nor contain braces: {prefix!r}")
        self._prefix = prefix
        self._clock = clock
        self._bearings = Bearings(own or clock or time.monotonic)
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
                by_tenant.setdefault(tenant, []).append(position)
        # A request without limits needs no token and never grows old.
        grants = [Grant(granted=True, tokens=(), granted_at=0.0, slack=math.inf)] * len(requests)
        if not by_tenant:
            return grants
        batches = {
            tenant: _Batch([requests[position][1] for position in positions])
            for tenant, positions in by_tenant.items()
        }
        found = self._ask(batches, stepped=False)
        doubted = {tenant: batch for tenant, batch in batches.items() if tenant not in found}
        if doubted:  # the answer came in time, so it is the server's clock that was put ahead
            found |= self._ask(doubted, stepped=True)
        for tenant, positions in by_tenant.items():
            for position, grant in zip(positions, found[tenant], strict=True):
                grants[position] = grant
        return grants

    def _ask(self, batches: Mapping[str, _Batch], *, stepped: bool) -> dict[str, list[Grant]]:
        """The grants of each tenant's batch; those are missing whose server's clock is in doubt."""
        asked_at = sent_at = 0.0

        def calls(server: str) -> list[ScriptCall]:
            nonlocal asked_at, sent_at
            asked_at, sent_at = time.monotonic(), self._bearings.clock()
            return [
                self._call(server, tenant, batch.keys, batch.args, stepped=stepped)
                for tenant, batch in batches.items()
            ]

        found = {}
        replies = self._connection.run(_ACQUIRE, calls)
        for (tenant, batch), reply in zip(batches.items(), replies, strict=True):
            if reply:
                self._bearings.heard(tenant, int(reply[1]), sent_at)
                found[tenant] = list(batch.grants(reply, asked_at))
        return found

    def release(self, tenant: str, grants: Sequence[Grant]) -> int:
        """Tokens and leases of calls that were not made are free again; how many went back.

        Idempotent: a token goes back once. A bucket key (max above 1000) takes a token back only
        if it was granted within about the last second and the bucket has not run empty since.
        Raises LimiterUnavailable: the tokens then stay spent until their window has passed.
        """
        found: dict[str, tuple[list[str], list[str]]] = {}
        for grant in grants:
            for key, name in grant.leases:
                found.setdefault(key, ([], []))[0].append(name)
            for key, member in grant.tokens:
                found.setdefault(key, ([], []))[1].append(member)
        if not found:
            return 0
        args: list[str | int] = []
        for leases, members in found.values():
            args += (len(leases), *leases, len(members), *members)
        if len(args) > MAX_RELEASE:
            raise InvalidArgument(f"at most {MAX_RELEASE} tokens can be released at once")
        return int(self._run(_RELEASE, tenant, list(found), args))

    def renew(self, calls: Sequence[tuple[str, Grant, float]]) -> None:
        """The calls, each with its tenant, are in flight for so many seconds more at least.

        Raises LimiterUnavailable: their leases then run out, until they are renewed after all.
        """
        if len(calls) > MAX_BATCH:
            raise InvalidArgument(f"at most {MAX_BATCH} calls can be renewed at once")
        by_tenant: dict[str, dict[str, list[str | int]]] = {}
        for tenant, grant, seconds in calls:
            for key, name in grant.leases:
                leases = by_tenant.setdefault(tenant, {}).setdefault(key, [])
                leases += (round(seconds * MICROSECONDS), name)
        batches = [
            (
                tenant,
                list(found),
                [arg for each in found.values() for arg in (len(each) // 2, *each)],
            )
            for tenant, found in by_tenant.items()
        ]
        self._connection.run(_RENEW, lambda server: [self._call(server, *b) for b in batches])

    def ended(self, calls: Sequence[tuple[str, Ended]]) -> None:
        """The calls, each with its tenant, are no longer in flight; what the provider said of their
        keys holds for every process. Their tokens stay spent.

        Raises LimiterUnavailable: the leases then run out by themselves.
        """
        if len(calls) > MAX_BATCH:
            raise InvalidArgument(f"at most {MAX_BATCH} calls can end at once, not {len(calls)}")
        by_tenant: dict[str, dict[str, Report]] = {}
        for tenant, call in calls:
            reports = by_tenant.setdefault(tenant, {})
            leases = dict(call.grant.leases)
            for limit in call.request:
                reports.setdefault(limit.key, Report()).add(limit, call, leases.get(limit.key))
        if not by_tenant:
            return
        self._connection.run(
            _ENDED,
            lambda server: [
                self._call(
                    server, tenant, list(reports), [arg for r in reports.values() for arg in r.args]
                )
                for tenant, reports in by_tenant.items()
            ],
        )

    def restore(
        self,
        tenant: str,
        limit: Limit,
        ages: Sequence[float],
        holders: Sequence[str] | None = None,
    ) -> bool:
        """The key's history is known again: ``ages`` replaces what the server has of its window,
        and the calls of ``holders`` are in flight until they end or ``limit.lease`` has passed.

        ``ages`` are the seconds since each unit of the last window (plus slack) was spent, by the
        database's clock, so that the clocks of database and Redis need not agree. A limit without
        ``max`` leaves the window as it is, ``holders`` None what is in flight. False if all was
        known already; then nothing changes. Raises LimiterUnavailable.
        """
        if len(ages) > MAX_PER_WINDOW:
            raise InvalidArgument(f"ages has at most {MAX_PER_WINDOW} entries, not {len(ages)}")
        window = 0 if limit.max is None else _window(limit) + round(limit.calm * MICROSECONDS)
        spent = sorted(age for age in ages if age * MICROSECONDS < window)
        newest = [max(0, int(age * MICROSECONDS)) for age in islice(spent, LOG_MAX)]
        if holders is not None and len(holders) > MAX_IN_FLIGHT:
            raise InvalidArgument(f"there are at most {MAX_IN_FLIGHT} holders, not {len(holders)}")
        held = -1 if holders is None else len(holders)
        lease = round(limit.lease * MICROSECONDS)
        args: list[str | int] = [window, len(spent), held, lease, *(holders or ()), *newest]
        return bool(self._run(_RESTORE, tenant, [limit.key], args))

    def distrust(self, tenant: str) -> None:
        """What the server knows of the tenant's keys is not trusted to be complete, as after a
        flush: calls were made without it. Raises LimiterUnavailable.
        """
        self._connection.forget(self._names(tenant, ())[0], "run")

    def peek(self, tenant: str, limit: Limit) -> Usage:
        """How full the key is now; changes nothing. Raises LimiterUnavailable."""
        return self.peek_many([(tenant, limit)])[0]

    def peek_many(self, asked: Sequence[tuple[str, Limit]]) -> list[Usage]:
        """As ``peek`` for several keys, each with its tenant, in one pipeline."""
        asked_at = time.monotonic()
        told = [[or_none(x.max), _window(x), or_none(x.max_in_flight)] for _, x in asked]
        replies = self._connection.run(
            _PEEK,
            lambda server: [
                self._call(server, tenant, [limit.key], args)
                for (tenant, limit), args in zip(asked, told, strict=True)
            ],
        )
        return [_usage(at[1], reply, asked_at) for at, reply in zip(asked, replies, strict=True)]

    def ping(self) -> None:
        """Returns if Redis answers, else raises LimiterUnavailable."""
        self._connection.ping()

    def close(self) -> None:
        """All connections are closed."""
        self._connection.close()

    def _run(
        self, script: Script, tenant: str, keys: Sequence[str], args: Sequence[str | int]
    ) -> Any:
        return self._connection.run(
            script, lambda server: [self._call(server, tenant, keys, args)]
        )[0]

    def _call(
        self, server: str, tenant: str, keys: Sequence[str], args: Sequence[str | int],
        *, stepped: bool = False,
    ) -> ScriptCall:  # fmt: skip
        now = "-" if self._clock is None else round(self._clock() * MICROSECONDS)
        least, most = self._bearings.bounds(tenant)
        time_is = f"{now} {least} {'stepped' if stepped else most}"
        return self._names(tenant, keys), [time_is, server, secrets.token_hex(4), *args]

    def _names(self, tenant: str, keys: Sequence[str]) -> list[str]:
        # The first closing brace ends the tag, so a tenant's own may not be one.
        escaped = tenant.replace("%", "%25").replace("}", "%7D")
        tag = f"{{{self._prefix}:{escaped}}}"
        names = [f"{tag}:state"]
        for key in keys:
            names += (f"{tag}:log:{key}", f"{tag}:meta:{key}", f"{tag}:held:{key}")
        return names


class _Batch:
    """One tenant's requests as the script wants them, with each key and limit named once."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self.requests = requests
        numbers: dict[str, int] = {}
        limits: dict[tuple[int, ...], int] = {}
        body: list[str | int] = []
        for request in requests:
            lease = max((limit.lease for limit in request), default=0.0)
            holder = request[0].holder if request else ""
            body += (len(request), round(lease * MICROSECONDS), holder)
            for limit in request:
                key = numbers.setdefault(limit.key, len(numbers) + 1)
                most = or_none(limit.max_in_flight)
                window = (or_none(limit.max), _window(limit), int(limit.long))
                calm = round(limit.calm * MICROSECONDS)
                row = (key, *window, most, limit.most_in_part, calm)
                body += (limits.setdefault(row, len(limits) + 1), limit.weight)
        self.keys = list(numbers)
        self.limits = list(limits)
        rows = [part for row in limits for part in row]
        self.args: list[str | int] = [len(limits), *rows, len(requests), *body]

    def grants(self, reply: Sequence[Any], asked_at: float) -> Iterator[Grant]:
        """The script's reply, one Grant per request."""
        run = reply[0].decode()
        answers = iter(reply[2:])
        for request in self.requests:
            code, first, other = islice(answers, 3)
            slack = min(limit.slack for limit in request)
            if code == 0:
                yield Grant(
                    granted=True,
                    tokens=_tokens(request, run, first),
                    granted_at=asked_at,
                    slack=min(limit.calm for limit in request) if other & 2 else slack,
                    leases=_leases(request, run, first) if other & 1 else (),
                )
            else:
                held = _REFUSALS[code] is Refusal.HELD
                yield Grant(
                    granted=False,
                    tokens=(),
                    granted_at=asked_at,
                    slack=slack,
                    refused_by=self.keys[self.limits[first - 1][0] - 1],
                    refusal=_REFUSALS[code],
                    retry_after=other / MICROSECONDS,
                    room=next(answers) if held else None,
                    took=next(answers) / MICROSECONDS or None if held else None,
                )


def _tokens(request: Request, run: str, first: int) -> tuple[tuple[str, str], ...]:
    units = [limit.key for limit in request for _ in range(limit.weight)]
    return tuple((key, f"{run}.{number}") for number, key in enumerate(units, first))


def _leases(request: Request, run: str, first: int) -> tuple[tuple[str, str], ...]:
    name = request[0].holder or f"{run}.{first}"
    return tuple((limit.key, name) for limit in request)


def _usage(limit: Limit, reply: Sequence[int], asked_at: float) -> Usage:
    used, wait, in_flight, room, blocked, turning, took = reply
    return Usage(
        used=used,
        max=limit.max,
        free_at=asked_at + wait / MICROSECONDS,
        in_flight=in_flight,
        room=None if room < 0 else room,
        blocked=blocked / MICROSECONDS,
        turning=None if turning < 0 else turning,
        took=took / MICROSECONDS or None,
    )


def _window(limit: Limit) -> int:
    return math.ceil((limit.window + limit.slack) * MICROSECONDS)


def _check_request(limits: Request) -> None:
    if len(limits) > MAX_KEYS_PER_REQUEST:
        raise InvalidArgument(
            f"a request has at most {MAX_KEYS_PER_REQUEST} limits, not {len(limits)}"
        )
    if len(limits) > 1 and len({limit.key for limit in limits}) < len(limits):
        raise InvalidArgument("a request names each key once; put the sum into its weight")
