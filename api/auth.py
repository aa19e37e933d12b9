"""Who asks: the root API key or a tenant's, and the tenant that a request is about."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from hashlib import sha256

from flask import Flask, g, request

from api import capabilities
from api.mounting import UNSCOPED, bare, is_public
from api.requests import check_line, header
from api.surface import surface
from orch8.config import Settings
from orch8.errors import ConfigurationError, Forbidden, InvalidArgument, Unauthorized
from orch8.runtime import apikeys
from orch8.storage.transaction import Row

MAX_TENANT = 128
DEFAULT_TENANT = "default"


@dataclass(frozen=True, slots=True)
class Caller:
    """``tenant`` is None for one who may see every tenant; ``key`` is the id of a tenant's key, and
    None for the root key and where nobody needs one.
    """

    tenant: str | None = None
    key: str | None = None

    def tenant_or_default(self, stated: str | None = None) -> str:
        """The tenant that something is created for. Forbidden if the body states another one."""
        if self.tenant is not None and stated and stated != self.tenant:
            raise Forbidden(f"the body's tenant {stated!r} is not the caller's {self.tenant!r}")
        return self.tenant or stated or DEFAULT_TENANT

    def tenant_of_list(self, asked: str | None = None) -> str | None:
        """The tenant whose things are listed: the caller's, else the one asked for, else all."""
        return self.tenant or asked or None

    def tenant_of_many(self, asked: str | None = None) -> str:
        """The one tenant whose things are read or changed in bulk. InvalidArgument without one."""
        tenant = self.tenant or asked
        if not tenant:
            raise InvalidArgument("tenant scope is required: send X-Tenant-Id, or name the tenant")
        return tenant


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
    if is_public(request.method, request.path):
        return
    settings = surface().settings
    key = None
    if settings.api_key and not _same(header("x-api-key"), settings.api_key):
        key = _holder(header("x-api-key"))
    tenant = header("X-Tenant-Id")
    if len(tenant) > MAX_TENANT or not tenant.isprintable():
        raise InvalidArgument(f"X-Tenant-Id must be at most {MAX_TENANT} printable characters")
    if key is not None:
        g.caller = _bound(key, tenant)
    elif tenant:
        g.caller = Caller(tenant)
    elif settings.api_key and settings.require_tenant_header and not _unscoped():
        raise InvalidArgument("the X-Tenant-Id header is missing: which tenant is this about?")


def _holder(secret: str) -> Row:
    """The tenant's key with this secret, read anew each time: one that was revoked, by whichever
    process, opens nothing any more. Raises Unauthorized.
    """
    key = None
    if apikeys.looks_like_secret(secret):
        with surface().office.database.begin() as tx:
            key = apikeys.holder(tx, secret)
    if key is None:
        raise Unauthorized("send the API key in the x-api-key header")
    return key


def _bound(key: Row, tenant: str) -> Caller:
    """Who asks with a tenant's key. Forbidden for another tenant, or another use than the key's."""
    if tenant not in {"", key.tenant_id}:
        raise Forbidden(f"the API key is not for the tenant {tenant!r}")
    capabilities.check(key.capabilities, request.method, request.path)
    return Caller(key.tenant_id, key.id)


def _unscoped() -> bool:
    return UNSCOPED.fullmatch(bare(request.path)) is not None


def _same(given: str, key: str) -> bool:
    """Whether two keys are equal, in a time that says nothing about where they differ."""
    return hmac.compare_digest(sha256(given.encode()).digest(), sha256(key.encode()).digest())
