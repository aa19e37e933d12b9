"""The connection to Redis: runs scripts with time-outs, and knows which server process answers.

Which process matters because a failed-over or restarted server may have lost the last grants:
Redis replicates and saves asynchronously, so that the sentinel in the data does not tell. The
process's ``run_id`` does; it is read on every new connection and handed to every script.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any

import redis
import structlog
from redis.backoff import NoBackoff
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.retry import Retry

from orch8.errors import ConfigurationError, Unavailable

CONNECT_TIMEOUT = 0.5
SOCKET_TIMEOUT = 1.0
UNIDENTIFIED = ""  # the server does not tell (INFO refused): failover is not recognised then

log = structlog.get_logger(__name__)

ScriptCall = tuple[Sequence[str], Sequence[str | int]]  # (KEYS, ARGV)


class LimiterUnavailable(Unavailable):
    """The limiter's Redis is away: no token is granted, the steps stay scheduled."""

    code = "limiter_unavailable"


def connect(url: str, *, connect_timeout: float, timeout: float, **options: Any) -> redis.Redis:
    """A client that never waits longer than its time-outs (seconds) and never retries by itself."""
    try:
        return redis.Redis.from_url(
            url,
            socket_connect_timeout=connect_timeout,
            socket_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            driver_info=None,
            **options,
        )
    except ValueError as error:
        raise ConfigurationError(f"the limiter's Redis URL cannot be used: {error}") from None


class Script:
    """One Lua script of this package, with the prelude they all share."""

    def __init__(self, name: str) -> None:
        folder = resources.files("orch8.limits")
        prelude, body = (
            folder.joinpath(f"{part}.lua").read_text(encoding="utf-8") for part in ("state", name)
        )
        self.source = f"{prelude}\n{body}"
        # Redis names scripts by SHA-1; nothing secret depends on it.
        self.sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()


class ScriptConnection:
    """Runs scripts on one server and recognises when another process has taken its place."""

    def __init__(self, url: str, client: redis.Redis | None = None) -> None:
        self._server: str | None = None  # run_id behind the newest connection
        if client is not None:
            self._server = UNIDENTIFIED
        self._redis = client or connect(
            url,
            connect_timeout=CONNECT_TIMEOUT,
            timeout=SOCKET_TIMEOUT,
            redis_connect_func=self._greet,
        )

    def run(self, script: Script, calls: Callable[[str], list[ScriptCall]]) -> list[Any]:
        """The replies to ``calls(server identity)``, sent as one pipeline.

        A broken connection or a change of server is tried again once, with fresh calls. That may
        grant tokens that nobody uses, never more than the limit. Any other trouble, and a second
        one, raises LimiterUnavailable.
        """
        try:
            try:
                return self._attempt(script, calls)
            except RedisConnectionError:
                return self._attempt(script, calls)
        except ReadOnlyError as error:
            # This server became a replica: the next call must look for the new primary.
            self._redis.connection_pool.disconnect()
            raise _unavailable(error) from error
        except RedisError as error:
            raise _unavailable(error) from error

    def forget(self, name: str, member: str) -> None:
        """A hash has no such member any more, or LimiterUnavailable is raised."""
        try:
            self._redis.hdel(name, member)
        except RedisError as error:
            raise _unavailable(error) from error

    def ping(self) -> None:
        """Returns if the server answers, else raises LimiterUnavailable."""
        try:
            self._redis.ping()
        except RedisError as error:
            raise _unavailable(error) from error

    def close(self) -> None:
        """All connections are closed."""
        self._redis.close()

    def _greet(self, connection: Any) -> None:
        connection.on_connect()
        try:
            connection.send_command("INFO", "server")
            info = connection.read_response()
        except ResponseError as error:
            if self._server != UNIDENTIFIED:
                log.warning(
                    "limiter.unidentified",
                    error=str(error),
                    detail="a failover of the limiter's Redis is not noticed; allow its user INFO: "
                    "ACL SETUSER <user> +info",
                )
            self._server = UNIDENTIFIED
            return
        lines = (info.decode() if isinstance(info, bytes) else str(info)).splitlines()
        found = (line.partition(":")[2] for line in lines if line.startswith("run_id:"))
        self._server = next(found, UNIDENTIFIED)

    def _attempt(self, script: Script, calls: Callable[[str], list[ScriptCall]]) -> list[Any]:
        if self._server is None:
            self._redis.ping()
        server = self._server or UNIDENTIFIED
        built = calls(server)
        replies = self._send(script, built)
        unknown = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            self._redis.script_load(script.source)
            repeated = self._send(script, [built[i] for i in unknown])
            for i, reply in zip(unknown, repeated, strict=True):
                replies[i] = reply
        if self._server != server:
            # The calls named the server of before: what the new one granted on that is not valid.
            message = "another server answers"
            raise RedisConnectionError(message)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    def _send(self, script: Script, calls: Sequence[ScriptCall]) -> list[Any]:
        with self._redis.pipeline(transaction=False) as pipeline:
            for keys, args in calls:
                pipeline.evalsha(script.sha, len(keys), *keys, *args)
            return pipeline.execute(raise_on_error=False)


def _unavailable(error: RedisError) -> LimiterUnavailable:
    return LimiterUnavailable(f"the limiter's Redis is away ({type(error).__name__}: {error})")
