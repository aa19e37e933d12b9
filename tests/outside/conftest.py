"""The server as clients of the contract run it: one process tree, started by its command.

``JUDGED_URL`` names one that runs already, on this machine or elsewhere.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orch8.dev.place import place_of
from orch8.dev.process import Child, Command
from tests.outside.caller import Caller
from tests.support.stack import running

_READY = re.compile(r"^orch8 ready (http://\S+)$", re.MULTILINE)
_STARTS_WITHIN = 60.0
# As the clients' own checks start it; all other settings are the defaults.
_SETTINGS = {
    "ORCH8_REQUIRE_TENANT_HEADER": "false",
    "ORCH8_ALLOW_INTERNAL_URLS": "1",
    "ORCH8_CRON_TICK_SECS": "1",
    "ORCH8_WORKER_REAPER_TICK_SECS": "1",
    "ORCH8_WORKER_REAPER_STALE_SECS": "3",
}


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that is ready."""
    judged = os.environ.get("JUDGED_URL")
    if judged:
        yield judged
        return
    folder: Path = tmp_path_factory.mktemp("outside")
    data = folder / "data"
    argv = (
        *(sys.executable, "-m", "orch8.cli", "dev", "--insecure", "--port", "0"),
        *("--tick", "0.1", "--data", str(data)),
    )
    env = {k: v for k, v in os.environ.items() if not k.startswith("ORCH8_")}
    env |= {"PYTHONUNBUFFERED": "1", **_SETTINGS}
    with running(Child(Command("dev", argv, env), folder / "dev.log")) as child:
        child.wait_ready(lambda: _READY.search(child.output()) is not None, _STARTS_WITHIN)
        found = _READY.search(child.output())
        assert found is not None
        yield found[1]
    shutil.rmtree(place_of(data).data.parent, ignore_errors=True)


@pytest.fixture
def caller(server: str) -> Caller:
    """A tenant of its own."""
    return Caller(server)
