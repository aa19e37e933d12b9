"""The file of a pretend provider's book: an SQLite database that only ever grows.

Each record is a transaction of its own in write-ahead mode, so that a process that is killed has
written it whole or not at all. It outlives the process, not a power cut.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from orch8.errors import ConfigurationError

_TIMEOUT: Final = 5.0
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS records (
    n INTEGER PRIMARY KEY, op TEXT NOT NULL, key TEXT NOT NULL, body TEXT NOT NULL
)
"""


class Journal:
    """The records of one ledger; whoever calls it makes sure that only one thread does at a time.

    Raises ConfigurationError when the file is no such journal, or another process has it open.
    """

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(
            file, timeout=_TIMEOUT, isolation_level=None, check_same_thread=False
        )
        try:
            # Two providers that write one book would each know only half of it.
            self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.execute(_SCHEMA)
        except sqlite3.DatabaseError as wrong:
            self._database.close()
            raise ConfigurationError(
                f"the ledger {file} cannot be used ({wrong}); name another file, and let only one "
                "provider have it at a time"
            ) from None

    def append(self, record: Mapping[str, Any]) -> None:
        """The record is in the file; it has an ``op`` and may have a ``key``."""
        self._database.execute(
            "INSERT INTO records (op, key, body) VALUES (?, ?, ?)",
            (record["op"], record.get("key", ""), orjson.dumps(record).decode()),
        )

    def records(self) -> Iterator[dict[str, Any]]:
        """Every record, the oldest first."""
        for (body,) in self._database.execute("SELECT body FROM records ORDER BY n"):
            yield orjson.loads(body)

    def close(self) -> None:
        """The file is complete and closed."""
        self._database.close()
