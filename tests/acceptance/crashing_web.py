"""The API that kills itself with SIGKILL on either side of the commit of an instance's start.

ORCH8_CRASH_AT says where: ``uncommitted`` (all rows are written) or ``committed`` (and neither
answered nor announced). Served by ``granian tests.acceptance.crashing_web:app``.
"""

from __future__ import annotations

import os
from typing import NoReturn

import api.instances
import orch8.runtime.start
from api.wsgi import wire
from orch8.config import Settings
from orch8.storage.changes import Changes, write
from orch8.storage.transaction import Tx
from tests.acceptance.crashing_worker import die

POINTS = ("uncommitted", "committed")


def _write_and_die(tx: Tx, changes: Changes) -> NoReturn:
    write(tx, changes)
    die()


def _die_before_the_answer(_result: object) -> NoReturn:
    die()


if os.environ["ORCH8_CRASH_AT"] == "uncommitted":
    orch8.runtime.start.write = _write_and_die  # type: ignore[attr-defined]
else:
    api.instances._started = _die_before_the_answer  # type: ignore[assignment]

app = wire(Settings.from_env())
