"""The ledger of counts: what came of each leg of the campaign, so that a later run can go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from tests.chaos_money.checker import Finding, from_json, to_json


class Counts:
    """A file with a line for each point of each leg; a leg that was interrupted is not in it."""

    def __init__(self, file: Path, *, fresh: bool = False) -> None:
        self._file = file
        file.parent.mkdir(parents=True, exist_ok=True)
        if fresh:
            file.unlink(missing_ok=True)
        self._found: dict[str, Finding] = {}
        for line in file.read_bytes().splitlines() if file.exists() else ():
            kept: dict[str, Any] = orjson.loads(line)
            self.of(kept["point"]).add(from_json(kept))

    def of(self, point: str) -> Finding:
        """Everything that was found at a point so far."""
        return self._found.setdefault(point, Finding())

    def keep(self, point: str, found: Finding, **about: Any) -> None:
        """The finding of one leg is in the file; ``about`` are members for whoever reads it."""
        with self._file.open("ab") as lines:
            lines.write(orjson.dumps({"point": point, **about, **to_json(found)}) + b"\n")
        self.of(point).add(found)
