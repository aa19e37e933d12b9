"""The only list of configuration names: each with its type, default and meaning.

Values come from the environment. ``orch8 config`` prints this list with values and origin.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any, Final

from orch8.errors import ConfigurationError

# Names that other installations set. What they ask for is so anyway, or is nothing to ask for here.
IGNORED: Final[Mapping[str, str]] = {
    "ORCH8_CRON_TICK_SECS": "schedules are looked at on every tick (ORCH8_TICK_INTERVAL_MS)",
    "ORCH8_WORKER_REAPER_TICK_SECS": (
        "silent pull workers are looked for on every tick (ORCH8_TICK_INTERVAL_MS)"
    ),
    "MAX_INSTANCES_PER_TENANT": "tenants take turns instead (ORCH8_TENANT_WEIGHTS)",
    "ORCH8_ARTIFACT_BACKEND": "there are no artifacts: what a step answers is its output",
}
# Names that are no settings of a process: the command line's, and compose.yaml's.
ELSEWHERE: Final = frozenset(
    {
        "ORCH8_URL", "ORCH8_TENANT", "ORCH8_ACTOR", "ORCH8_DB_PASSWORD", "ORCH8_OWNER_PASSWORD",
    }
)  # fmt: skip


def _var(env: str, default: Any, doc: str, *, secret: bool = False, alias: str = "") -> Any:
    about = {"env": env, "doc": doc, "secret": secret, "alias": alias}
    return field(default=default, metadata=about)


@dataclass(frozen=True)
class Settings:
    """What a process needs to know. Times are seconds, sizes are bytes."""

    database_url: str = _var(
        "ORCH8_DATABASE_URL", "", "Postgres, as the application role.", secret=True
    )
    database_owner_url: str = _var(
        "ORCH8_DATABASE_OWNER_URL",
        "",
        "Postgres, as the owner of the tables: migrate and prune.",
        secret=True,
    )
    broker_url: str = _var(
        "ORCH8_BROKER_URL", "", "Celery's broker: redis:// or amqp://.", secret=True
    )
    redis_url: str = _var(
        "ORCH8_REDIS_URL", "", "Redis of the rate limiter and the doorbell.", secret=True
    )
    http_addr: str = _var("ORCH8_HTTP_ADDR", "127.0.0.1:8080", "Where the API listens.")
    api_key: str = _var(
        "ORCH8_API_KEY", "", "The root API key; with it every request needs x-api-key.", secret=True
    )
    insecure: bool = _var(
        "ORCH8_INSECURE",
        False,
        "Run without an API key and without an encryption key. Loopback and tests only.",
    )
    require_tenant_header: bool = _var(
        "ORCH8_REQUIRE_TENANT_HEADER", True, "With an API key: X-Tenant-Id is required."
    )
    allow_no_tenant_isolation: bool = _var(
        "ORCH8_ALLOW_NO_TENANT_ISOLATION",
        False,
        "Let an API key without X-Tenant-Id see every tenant.",
    )
    cors_origins: str = _var(
        "ORCH8_CORS_ORIGINS",
        "",
        "Origins whose pages may use the API, separated by commas; * for any, without an API key.",
    )
    max_requests: int = _var(
        "ORCH8_MAX_CONCURRENT_REQUESTS",
        1024,
        "Requests that one web process works on at a time; further ones are answered 503.",
        alias="ORCH8_RATE_LIMIT_RPS",
    )
    key_secret: str = _var(
        "ORCH8_KEY_SECRET", "", "Secret behind every idempotency key; never rotate it.", secret=True
    )
    encryption_key: str = _var(
        "ORCH8_ENCRYPTION_KEY",
        "",
        "64 hexadecimal digits: seals what is confidential in the database.",
        secret=True,
    )
    old_encryption_key: str = _var(
        "ORCH8_OLD_ENCRYPTION_KEY",
        "",
        "The key before, until `orch8 reseal` has ended.",
        secret=True,
    )
    insecure_storage: bool = _var(
        "ORCH8_INSECURE_STORAGE",
        False,
        "Run without an encryption key: what customers send is kept in the clear.",
    )
    handler_url: str = _var(
        "ORCH8_HANDLER_URL", "", "Where steps are sent: POST <this>/<handler>. Trusted."
    )
    handler_secret: str = _var(
        "ORCH8_HANDLER_SECRET",
        "",
        "whsec_ secret that signs calls to handlers (Standard Webhooks).",
        secret=True,
    )
    handler_modules: str = _var(
        "ORCH8_HANDLER_MODULES",
        "",
        "Python modules with @orch8.handler functions, separated by commas.",
    )
    allow_internal_urls: bool = _var(
        "ORCH8_ALLOW_INTERNAL_URLS",
        False,
        "Let registered handlers and http_request reach private addresses.",
    )
    tick_interval_ms: int = _var(
        "ORCH8_TICK_INTERVAL_MS", 1000, "How often beat looks for due steps."
    )
    worker_width: int = _var("ORCH8_WORKER_WIDTH", 256, "Calls in flight per worker process.")
    tenant_weights: str = _var(
        "ORCH8_TENANT_WEIGHTS",
        "",
        "Turns of tenants that share a lane: tenant=weight, ...; who is not named has weight 1.",
    )
    worker_reaper_stale: float = _var(
        "ORCH8_WORKER_REAPER_STALE_SECS", 60.0, "A pull worker silent for this long loses its task."
    )
    lease: float = _var(
        "ORCH8_LEASE_SECS", 15.0, "A worker process silent for this long loses its claims."
    )
    heartbeat: float = _var(
        "ORCH8_HEARTBEAT_SECS", 5.0, "How often a worker process extends its leases."
    )
    handler_connect_timeout: float = _var(
        "ORCH8_HANDLER_CONNECT_TIMEOUT_SECS", 5.0, "TCP and TLS to a handler."
    )
    handler_timeout: float = _var(
        "ORCH8_HANDLER_TIMEOUT_SECS", 30.0, "A whole handler call, unless the step says."
    )
    max_body: int = _var("ORCH8_MAX_BODY_BYTES", 10 * 1024 * 1024, "Largest request body.")
    max_context: int = _var("ORCH8_MAX_CONTEXT_BYTES", 262_144, "Largest context of an instance.")
    max_output: int = _var("ORCH8_MAX_OUTPUT_BYTES", 1024 * 1024, "Largest answer of a handler.")
    poison_crashes: int = _var(
        "ORCH8_POISON_CRASHES",
        5,
        "A step whose worker died this often without an answer is parked; 0 = never.",
    )
    max_steps: int = _var(
        "ORCH8_MAX_STEPS_PER_INSTANCE",
        0,
        "An instance that has run so many steps and would run another fails; 0 = no bound.",
    )
    breaker_threshold: int = _var(
        "ORCH8_BREAKER_THRESHOLD",
        5,
        "A handler that failed this often in a row is left alone for a while; 0 = never.",
    )
    breaker_cooldown: float = _var(
        "ORCH8_BREAKER_COOLDOWN_SECS", 60.0, "For how long; then one call finds out. 0 = never."
    )
    decline_policy: str = _var(
        "ORCH8_DECLINE_POLICY", "", "JSON file with meanings of decline codes, over the built-in."
    )
    grace: float = _var(
        "ORCH8_GRACE_SECS", 30.0, "After SIGTERM: how long calls in flight may still answer."
    )
    webhook_urls: str = _var(
        "ORCH8_WEBHOOK_URLS", "", "Receivers of lifecycle events, separated by commas."
    )
    webhook_secret: str = _var(
        "ORCH8_WEBHOOK_SECRET", "", "Secret that signs lifecycle events.", secret=True
    )
    sse_max: int = _var(
        "ORCH8_SSE_MAX",
        4,
        "Event streams that one web process serves at a time: at most half of its threads.",
    )
    dev: bool = _var("ORCH8_DEV", False, "Development mode: the engine's clock can be moved.")
    env_label: str = _var("ORCH8_ENV_LABEL", "", "Name of this installation, shown to operators.")
    env_color: str = _var("ORCH8_ENV_COLOR", "", "Colour of that name.")
    log_level: str = _var("ORCH8_LOG_LEVEL", "INFO", "DEBUG, INFO, WARNING or ERROR.")
    log_format: str = _var("ORCH8_LOG_FORMAT", "console", "console or json.")

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Settings:
        """The settings that the environment describes. ConfigurationError names a variable whose
        value is of the wrong type.
        """
        env = os.environ if env is None else env
        given: dict[str, Any] = {}
        for f in fields(cls):
            raw = env.get(f.metadata["env"]) or env.get(f.metadata["alias"])
            if raw is not None and raw != "":
                given[f.name] = _parse(f.metadata["env"], raw, f.default)
        return cls(**given)


def remarks(env: Mapping[str, str]) -> list[str]:
    """A line for every variable that is set and changes nothing: not known, or of no use here."""
    settings = {f.metadata[name] for f in fields(Settings) for name in ("env", "alias")}
    known = {*settings, *IGNORED, *ELSEWHERE} - {""}
    lines = [f"{name} has no effect: {why}" for name, why in IGNORED.items() if env.get(name)]
    for name in sorted(env):
        if name.startswith("ORCH8_") and name not in known:
            meant = get_close_matches(name, settings, n=1, cutoff=0.8)
            hint = f"did you mean {meant[0]}?" if meant else "`orch8 config` lists every setting"
            lines.append(f"{name} is not known; {hint}")
    return lines


def _parse(name: str, raw: str, default: Any) -> Any:
    text = raw.strip()
    if isinstance(default, bool):
        if text.lower() in {"1", "true", "yes", "on"}:
            return True
        if text.lower() in {"0", "false", "no", "off"}:
            return False
        raise ConfigurationError(f"{name} must be true or false, not {raw!r}")
    if isinstance(default, (int, float)):
        try:
            value = type(default)(text)
        except ValueError:
            raise ConfigurationError(f"{name} must be a number, not {raw!r}") from None
        if value < 0:
            raise ConfigurationError(f"{name} must not be negative, not {raw!r}")
        return value
    return text
