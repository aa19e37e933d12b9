"""``orch8 config``: every setting with its value, where the value comes from, and what it means."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any
from urllib.parse import urlsplit

import click
from rich.console import Console
from rich.table import Column, Table

from orch8.config import Settings, remarks

_HIDDEN = "***"


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table; secrets are hidden in ``value``."""

    name: str
    value: Any
    origin: str  # environment or default
    meaning: str


def rows(env: Mapping[str, str]) -> list[Setting]:
    """Every setting in this environment. ConfigurationError names a value of a wrong type."""
    settings = Settings.from_env(env)
    return [
        Setting(
            name=f.metadata["env"],
            value=_shown(getattr(settings, f.name), secret=f.metadata["secret"]),
            origin="environment"
            if env.get(f.metadata["env"]) or env.get(f.metadata["alias"])
            else "default",
            meaning=f.metadata["doc"],
        )
        for f in fields(Settings)
    ]


def _shown(value: Any, *, secret: bool) -> Any:
    """The value, a secret one hidden; of an address only the password is hidden."""
    if not secret or not value:
        return value
    parts = urlsplit(str(value))
    if not parts.scheme or "://" not in str(value) or "password" in parts.query.lower():
        return _HIDDEN
    user, at, place = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    return parts._replace(netloc=f"{name}{colon}{_HIDDEN if colon else ''}{at}{place}").geturl()


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def config(*, as_json: bool) -> None:
    """List every setting: name, value, origin, meaning."""
    found = rows(os.environ)
    for remark in remarks(os.environ):
        click.echo(f"warning: {remark}", err=True)
    if as_json:
        click.echo(json.dumps([asdict(row) for row in found], indent=2))
        return
    table = Table(Column("name", no_wrap=True), "value", "origin", "meaning")
    for row in found:
        table.add_row(row.name, "" if row.value == "" else str(row.value), row.origin, row.meaning)
    Console().print(table)
