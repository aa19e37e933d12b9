"""vault: credentials are kept, changed and deleted. What is secret in them never comes back out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from orch8.config import Settings
from orch8.errors import (
    AlreadyExists,
    ConfigurationError,
    InvalidArgument,
    NotFound,
    PayloadTooLarge,
    Problem,
    Unavailable,
)
from orch8.handlers.ssrf import check_url
from orch8.runtime.because import Because
from orch8.runtime.office import Office
from orch8.storage import credentials
from orch8.storage.transaction import Row, Tx

KINDS: Final = ("api_key", "oauth2", "basic")
MAX_VALUE: Final = 256 * 1024  # bytes
MAX_ID: Final = 255
_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,255}")


def create(
    office: Office, tx: Tx, credential_id: str, tenant_id: str, given: Mapping[str, Any],
    because: Because,
) -> Row:  # fmt: skip
    """The tenant has one more credential, whose secrets are sealed; its row without them.

    Raises AlreadyExists (ids are unique among all tenants), InvalidArgument, PayloadTooLarge, and
    Unavailable where secrets could only be kept in the clear.
    """
    if _ID.fullmatch(credential_id) is None:
        message = f"id must be 1 to {MAX_ID} letters, digits, dots, hyphens and underscores"
        raise InvalidArgument(message, errors=[Problem("/id", message)])
    _check(office, given, kind=given["kind"], url=given.get("refresh_url"),
           has_token="refresh_token" in given)  # fmt: skip
    row = credentials.insert(tx, credential_id, tenant_id, given)
    if row is None:
        raise AlreadyExists(f"credential {credential_id!r}")
    _note(tx, row, "credential.created", because, {"kind": row.kind})
    return row


def change(
    office: Office, tx: Tx, credential_id: str, given: Mapping[str, Any], because: Because, *,
    tenant_id: str | None,
) -> Row:  # fmt: skip
    """The credential has these members from now on: the next call carries the new secret. Raises
    NotFound, and what create does.
    """
    before = _found(tx, credential_id, tenant_id)
    _check(
        office, given,
        kind=given.get("kind", before.kind),
        url=given.get("refresh_url", before.refresh_url),
        has_token=before.has_refresh_token or "refresh_token" in given,
    )  # fmt: skip
    row: Row = credentials.update(tx, credential_id, given) if given else before
    _note(tx, row, "credential.changed", because, {"members": sorted(given)})
    return row


def delete(tx: Tx, credential_id: str, because: Because, *, tenant_id: str | None) -> None:
    """The credential is gone; steps that refer to it fail. Raises NotFound."""
    row = _found(tx, credential_id, tenant_id)
    credentials.delete(tx, credential_id)
    _note(tx, row, "credential.deleted", because, {})


def show(tx: Tx, credential_id: str, tenant_id: str | None) -> Row:
    """The credential without its secrets. Raises NotFound."""
    row = credentials.read(tx, credential_id, tenant_id)
    if row is None:
        raise NotFound(f"credential {credential_id[:MAX_ID]!r}")
    return row


def check_storage(settings: Settings) -> None:
    """ConfigurationError if what customers send would be kept in the clear unasked."""
    if not settings.encryption_key and not _may_be_open(settings):
        raise ConfigurationError(
            "ORCH8_ENCRYPTION_KEY is not set: set it (openssl rand -hex 32), or set "
            "ORCH8_INSECURE_STORAGE=1 to keep what customers send in the clear"
        )


def _may_be_open(settings: Settings) -> bool:
    return settings.insecure or settings.insecure_storage


def _found(tx: Tx, credential_id: str, tenant_id: str | None) -> Row:
    row = credentials.read(tx, credential_id, tenant_id, lock=True)
    if row is None:
        raise NotFound(f"credential {credential_id[:MAX_ID]!r}")
    return row


def _check(
    office: Office, given: Mapping[str, Any], *, kind: str, url: str | None, has_token: bool
) -> None:
    for name in credentials.SECRETS:
        if len(given.get(name, "").encode()) > MAX_VALUE:
            raise PayloadTooLarge(f"{name} has more than {MAX_VALUE} bytes")
    if kind == "oauth2" and url is not None and not has_token:
        message = "an oauth2 credential with a refresh_url needs a refresh_token"
        raise InvalidArgument(message, errors=[Problem("/refresh_token", message)])
    if "refresh_url" in given:
        check_url(given["refresh_url"], allow_internal=office.settings.allow_internal_urls)
    secret = any(name in given for name in credentials.SECRETS)
    if secret and not office.cipher.seals and not _may_be_open(office.settings):
        raise Unavailable(
            "secrets are not kept in the clear: set ORCH8_ENCRYPTION_KEY (openssl rand -hex 32)"
        )


def _note(tx: Tx, row: Row, action: str, because: Because, body: Mapping[str, Any]) -> None:
    because.note(tx, row.tenant_id, action, {"credential": row.id, **body})
