"""The command line's part that makes an instance leave its course, over the API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from orch8.client.connected import Client
from orch8.client.paths import path
from orch8.commands_reach import over_api, parse_json, read_json, tell

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command()
@click.argument("instance")
@click.argument("file", type=_FILE)
@click.option("--position", type=int, help="Among the injected blocks, from 0; else behind them.")
@click.option("--reason", help="Why; it stands in the audit log.")
@over_api
def inject(
    instance: str, file: Path, position: int | None, reason: str | None, api: Client, as_json: bool
) -> None:
    """Put blocks, a JSON list in a file, behind those of one instance."""
    body = _said(blocks=read_json(file), position=position, reason=reason)
    done = api.ask("POST", path("instances", instance, "inject-blocks"), body)
    named = ", ".join(done["injected_block_ids"])
    tell(done, f"injected {named}; {done['total_injected']} by now", as_json=as_json)


@click.command(name="resume-from")
@click.argument("instance")
@click.argument("block")
@click.option("--data", help="JSON, put into the context's data.")
@click.option("--acknowledge-side-effect-risk", "acknowledged", is_flag=True,
              help="Effects outside may happen again.")  # fmt: skip
@click.option("--reason", help="Why; it stands in the audit log.")
@over_api
def resume_from(
    instance: str,
    block: str,
    data: str | None,
    acknowledged: bool,
    reason: str | None,
    api: Client,
    as_json: bool,
) -> None:
    """Run a block of an instance anew, and all that come after it."""
    body = _said(context=_data(data), reason=reason, acknowledge_side_effect_risk=acknowledged)
    done = api.ask("POST", path("instances", instance, "resume-from", block), body)
    told = f"{done['id']} goes on from {block}; {done['outputs_deleted']} outputs are history"
    tell(done, told, as_json=as_json)


@click.command()
@click.argument("instance")
@click.argument("block")
@click.option("--for-real", is_flag=True, help="It calls handlers; else it is a dry run.")
@click.option("--data", help="JSON, put into the context's data.")
@click.option("--acknowledge-side-effect-risk", "acknowledged", is_flag=True,
              help="Effects outside may happen again.")  # fmt: skip
@click.option("--reason", help="Why; it stands in the audit log.")
@over_api
def fork(
    instance: str,
    block: str,
    for_real: bool,
    data: str | None,
    acknowledged: bool,
    reason: str | None,
    api: Client,
    as_json: bool,
) -> None:
    """Start another instance that goes on from a block of this one, as a dry run."""
    body = _said(
        from_block_id=block, dry_run=not for_real, context=_data(data), reason=reason,
        acknowledge_side_effect_risk=acknowledged,
    )  # fmt: skip
    made = api.ask("POST", path("instances", instance, "fork"), body)
    kind = "dry run" if made["dry_run"] else "for real"
    tell(made, f"{made['id']} ({kind}) runs {', '.join(made['rerun_blocks'])}", as_json=as_json)


def _said(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def _data(text: str | None) -> Any:
    return None if text is None else parse_json(text, "--data")
