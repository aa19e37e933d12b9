"""The body of a step, the same for every engine: it is recorded, and does nothing or one call.

It runs in the environments of the peers, so it needs the standard library and pycurl only.
"""

from __future__ import annotations

import functools
import io
import json
import os
import threading
import time
from collections.abc import Mapping
from typing import Any

STEPS: Mapping[str, int] = {"noop": 10, "http": 5}
RECORD = 58  # bytes of one record: twenty digits of nanoseconds, a space, a UUID, a line feed

_OUTPUT = {"status": "succeeded"}
_TIMEOUT_MS = 10_000
_local = threading.local()


def step(kind: str, workflow: str, number: int, context: Mapping[str, Any]) -> dict[str, Any]:
    """The step is done: recorded, and for the kind ``http`` answered by the handler.

    OSError or ValueError if the handler does not answer 200 with JSON.
    """
    record(workflow)
    if kind == "noop":
        return _OUTPUT
    return _call(number, {"instance_id": workflow, "step": f"s{number + 1}", "context": context})


def record(workflow: str) -> None:
    """The moment and the workflow's id (a UUID) stand at the end of the file PEERS_RECORDS."""
    os.write(_records(), b"%020d %s\n" % (time.monotonic_ns(), workflow.encode()))


@functools.cache
def _records() -> int:
    # Appending is atomic, so the processes of a peer may share the file, forked ones as well.
    return os.open(os.environ["PEERS_RECORDS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def _call(number: int, body: Mapping[str, Any]) -> dict[str, Any]:
    import pycurl  # noqa: PLC0415 - orch8 brings its own client, and needs only record()

    handle = getattr(_local, "handle", None)
    if handle is None:  # one kept-alive connection for each thread, the cheapest there is
        handle = _local.handle = pycurl.Curl()
        handle.setopt(pycurl.NOSIGNAL, 1)
        handle.setopt(pycurl.TIMEOUT_MS, _TIMEOUT_MS)
        handle.setopt(pycurl.HTTPHEADER, ["content-type: application/json", "expect:"])
    answer = io.BytesIO()
    handle.setopt(pycurl.URL, f"{os.environ['PEERS_HANDLER']}/s{number + 1}")
    handle.setopt(pycurl.POSTFIELDS, json.dumps(body))
    handle.setopt(pycurl.WRITEDATA, answer)
    try:
        handle.perform()
    except pycurl.error as error:
        raise OSError(f"the handler was not reached: {error}") from error
    if (status := handle.getinfo(pycurl.RESPONSE_CODE)) != 200:
        raise OSError(f"the handler answered {status}")
    output: dict[str, Any] = json.loads(answer.getvalue())
    return output
