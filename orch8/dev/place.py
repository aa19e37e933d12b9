"""Where an embedded Postgres lives and as whom it runs: one answer for root, one for others."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from orch8.dev.folders import PRIVATE, PUBLIC, identity, own_folder, socket_folder
from orch8.dev.process import Account
from orch8.errors import ConfigurationError

ROOT_STATE = Path("/var/lib/orch8")

_LONGEST_SOCKET = ".s.PGSQL.5432.lock"


@dataclass(frozen=True, slots=True)
class Place:
    """The folder of the data, the folder of the socket, and the account; None: as ourselves."""

    data: Path
    sockets: Path
    account: Account | None


def place_of(data: Path) -> Place:
    """The place of the Postgres that belongs to a data folder; all but ``Place.data`` exists.

    Postgres refuses to run as root, and ``nobody`` could not reach a data folder under root's
    home without opening it: for root, everything lies under /var/lib/orch8.
    """
    name = identity(data)
    if os.geteuid() != 0:
        home = own_folder(data / "postgres")
        return Place(home / "data", socket_folder(home / "run", name, _LONGEST_SOCKET), None)
    account = _nobody()
    own_folder(ROOT_STATE, PUBLIC)
    home = own_folder(ROOT_STATE / name, PUBLIC)
    (home / "belongs-to").write_text(f"{data}\n", encoding="utf-8")  # for the one who tidies up
    sockets = home / "run"
    sockets.mkdir(mode=PRIVATE, exist_ok=True)
    os.chown(sockets, account.uid, account.gid, follow_symlinks=False)
    return Place(home / "data", sockets, account)


def _nobody() -> Account:
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        raise ConfigurationError(
            "Postgres refuses to run as root, and this system has no user 'nobody'; "
            "run as an ordinary user, or set ORCH8_DATABASE_URL"
        ) from None
    return Account(entry.pw_uid, entry.pw_gid)
