"""What a stack is told, by options and by the environment, and what it tells its programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orch8.dev.address import Address
from orch8.dev.folders import key_secret
from orch8.errors import ConfigurationError

DEV_GRACE = "3"  # seconds that a stopping worker waits for calls in flight


@dataclass(frozen=True, slots=True)
class StackOptions:
    """What ``orch8 dev`` can be told. None means: as the environment says, else the default."""

    data: Path = Path(".orch8")
    port: int | None = None  # 0: any free one
    handler_url: str | None = None
    workers: int = 2
    tick: float | None = None  # seconds
    insecure: bool = False
    width: int | None = None
    restart_workers: bool = True  # after a crash; False for those who want to see one stay dead
    durable: bool = True  # False: embedded servers without fsync, for tests


@dataclass(frozen=True, slots=True)
class Urls:
    """Where the parts of a stack are."""

    http: str
    database: str
    owner: str
    broker: str
    redis: str


def chosen_address(options: StackOptions, environ: Mapping[str, str]) -> Address:
    """Where the API shall listen: ORCH8_HTTP_ADDR, with the port of the options if one is given.

    ConfigurationError if others can reach it and neither a key nor --insecure has been given.
    """
    address = Address.parse(environ.get("ORCH8_HTTP_ADDR") or "127.0.0.1:8080")
    if options.port is not None:
        address = Address(address.host, options.port)
    if not (environ.get("ORCH8_API_KEY") or options.insecure or address.loopback):
        raise ConfigurationError(
            f"{address.host} can be reached by others; set ORCH8_API_KEY, or say --insecure"
        )
    return address


def program_environment(
    options: StackOptions, environ: Mapping[str, str], urls: Urls, data: Path
) -> dict[str, str]:
    """The whole environment that makes a program a part of the stack."""
    env = {
        **environ,
        "ORCH8_DEV": "1",
        "ORCH8_DATABASE_URL": urls.database,
        "ORCH8_DATABASE_OWNER_URL": urls.owner,
        "ORCH8_BROKER_URL": urls.broker,
        "ORCH8_REDIS_URL": urls.redis,
        "ORCH8_HTTP_ADDR": urls.http.removeprefix("http://"),
        "ORCH8_KEY_SECRET": environ.get("ORCH8_KEY_SECRET") or key_secret(data),
        "ORCH8_GRACE_SECS": environ.get("ORCH8_GRACE_SECS") or DEV_GRACE,
        "PYTHONUNBUFFERED": "1",
    }
    if options.insecure or not environ.get("ORCH8_API_KEY"):
        env["ORCH8_INSECURE"] = "1"
    if not environ.get("ORCH8_ENCRYPTION_KEY"):
        env["ORCH8_INSECURE_STORAGE"] = "1"
    if options.handler_url is not None:
        env["ORCH8_HANDLER_URL"] = options.handler_url
    if options.tick is not None:
        env["ORCH8_TICK_INTERVAL_MS"] = str(round(options.tick * 1000))
    if options.width is not None:
        env["ORCH8_WORKER_WIDTH"] = str(options.width)
    return env
