"""Who asks: the root API key, and the tenant that a request is about."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from hashlib import sha256

from flask import Flask, g, request

from api.requests import check_line, header
from api.surface import surface
from orch8.config import Settings
from orch8.errors import ConfigurationError, Forbidden, InvalidArgument, Unauthorized

MAX_TENANT = 128
DEFAULT_TENANT = "default"
# What anybody may read: whether the process lives, and the page that asks for the key.
PUBLIC = frozenset({"/health/live", "/health/ready", "/info", "/swagger-ui"})
# What is about the installation and no tenant.
UNSCOPED = frozenset({"/metrics", "/api-docs/openapi.json"})


@dataclass(frozen=True, slots=True)
class Caller:
    """``tenant`` is None for one who may see every tenant."""

    tenant: str | None = None

    def tenant_or_default(self, stated: str | None = None) -> str:
        """The tenant that something is created for. Forbidden if the body states another one."""
        if self.tenant is not None and stated and stated != self.tenant:
            raise Forbidden(f"the body's tenant {stated!r} is not the caller's {self.tenant!r}")
        return self.tenant or stated or DEFAULT_TENANT


def install(app: Flask, settings: Settings) -> None:
    """Every request passes here first. ConfigurationError if the API would stand open unasked."""
    if not settings.api_key and not settings.insecure:
        raise ConfigurationError(
            "ORCH8_API_KEY is not set: set it, or set ORCH8_INSECURE=1 to serve without a key"
        )
    if settings.api_key and not (
        settings.require_tenant_header or settings.allow_no_tenant_isolation
    ):
        raise ConfigurationError(
            "ORCH8_REQUIRE_TENANT_HEADER=false lets the key's holders see every tenant; "
            "set ORCH8_ALLOW_NO_TENANT_ISOLATION=1 if that is meant"
        )
    app.before_request(_admit)


def caller() -> Caller:
    """Who asks."""
    found: Caller = g.caller
    return found


def _admit() -> None:
    g.caller = Caller()
    check_line()
    if request.path in PUBLIC:
        return
    settings = surface().settings
    if settings.api_key and not _same(header("x-api-key"), settings.api_key):
        raise Unauthorized("send the API key in the x-api-key header")
    tenant = header("X-Tenant-Id")
    if len(tenant) > MAX_TENANT or not tenant.isprintable():
        raise InvalidArgument(f"X-Tenant-Id must be at most {MAX_TENANT} printable characters")
    if tenant:
        g.caller = Caller(tenant)
    elif settings.api_key and settings.require_tenant_header and request.path not in UNSCOPED:
        raise InvalidArgument("the X-Tenant-Id header is missing: which tenant is this about?")


def _same(given: str, key: str) -> bool:
    """Whether two keys are equal, in a time that says nothing about where they differ."""
    return hmac.compare_digest(sha256(given.encode()).digest(), sha256(key.encode()).digest())
