"""What the routes of plugins, rollback policies and releases have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from api import requests
from api.auth import caller
from api.schemas.declarations import DeclarationsQuery
from api.schemas.keys import BecauseQuery
from api.surface import surface
from orch8.runtime import declared
from orch8.storage import declarations
from orch8.storage.transaction import Row

_LIST, _BECAUSE = DeclarationsQuery(), BecauseQuery()
_LISTED: Final = 100


def tenant_of(body: dict[str, Any]) -> str:
    """The tenant that the body, which loses it, declares something for."""
    return caller().tenant_or_default((body.pop("tenant_id", None) or "").strip() or None)


def shown(row: Row, name: str) -> dict[str, Any]:
    """The declaration as an answer has it, its name in the member ``name``."""
    about = {"tenant_id": row.tenant_id, "created_at": row.created_at, "updated_at": row.updated_at}
    members: Mapping[str, Any] = row.body
    return {name: row.name, **members, **about}


def listed(kind: str) -> list[Row]:
    """The declarations of this kind that the query asks for."""
    asked = requests.query(_LIST)
    tenant = caller().tenant_of_list(asked.get("tenant_id"))
    with surface().office.begin() as tx:
        return declarations.listed(tx, kind, tenant, asked.get("limit", _LISTED))


def read(kind: str, name: str) -> Row:
    """The declaration of this name that the caller may see."""
    with surface().office.begin() as tx:
        return declared.found(tx, kind, name, caller().tenant)


def drop(kind: str, name: str) -> None:
    """The declaration of this name is gone."""
    because = requests.because(requests.query(_BECAUSE).get("reason"))
    with surface().office.begin() as tx:
        declared.delete(tx, kind, name, because, tenant_id=caller().tenant)
