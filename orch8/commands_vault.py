"""``orch8 reseal``: after a change of the encryption key, everything is sealed with the new one."""

from __future__ import annotations

import click

from orch8.config import Settings
from orch8.errors import ConfigurationError


@click.command()
def reseal() -> None:
    """Seal secrets, contexts, signals and requests anew; repeat it as often as you like.

    ORCH8_ENCRYPTION_KEY seals, ORCH8_OLD_ENCRYPTION_KEY opens what the key before sealed. When
    this says that no row was left, no process needs the old key any more.
    """
    from orch8.runtime.reseal import reseal as resealing  # noqa: PLC0415 - slow; see cli.migrate
    from orch8.storage.cipher import Cipher  # noqa: PLC0415
    from orch8.storage.transaction import Database  # noqa: PLC0415

    settings = Settings.from_env()
    if not settings.database_url:
        raise ConfigurationError("ORCH8_DATABASE_URL is not set: which database?")
    cipher = Cipher(settings.encryption_key, settings.old_encryption_key)
    database = Database(settings.database_url, size=1, name="orch8-reseal", cipher=cipher)
    try:
        done = resealing(database, progress=lambda total: click.echo(f"{total} rows", err=True))
    finally:
        database.close()
    click.echo(f"{done} rows were sealed anew.")
