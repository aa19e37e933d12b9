"""A caller that knows nothing of orch8 but its contract: JSON over HTTP, ids made by itself.

Written as the clients of the contract are: bare routes, polling, no retries.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import uuid4

import orjson

ENDED: Final = ("completed", "failed", "cancelled")
WITHIN: Final = 20.0  # seconds: far more than anything here takes, since the machine may be busy
_POLL: Final = 0.05
_TIMEOUT: Final = 15.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server answered; the body is text where it is no JSON."""

    status: int
    body: Any
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Caller:
    """One tenant's calls."""

    url: str
    tenant: str = field(default_factory=lambda: f"t-{uuid4().hex[:12]}")
    headers: Mapping[str, str] = field(default_factory=dict)

    # -- the wire ----------------------------------------------------------------------------------
    def send(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        """The server's answer, whatever it is."""
        parts = urlsplit(self.url)
        assert parts.hostname
        given = {
            **self.headers,
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        raw = None
        if body is not None:
            raw, given = orjson.dumps(body), {"content-type": "application/json", **given}
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=_TIMEOUT)
        with closing(connection):
            connection.request(method, path, raw, given)
            answer = connection.getresponse()
            text = answer.read()
        try:
            shown = orjson.loads(text) if text else None
        except orjson.JSONDecodeError:
            shown = text.decode()
        return Reply(answer.status, shown, {k.lower(): v for k, v in answer.getheaders()})

    def get(self, path: str) -> Any:
        """The body of a 200."""
        return self.good(self.send("GET", path))

    def post(self, path: str, body: Any = None) -> Any:
        """The body of a success."""
        return self.good(self.send("POST", path, body))

    @staticmethod
    def good(reply: Reply) -> Any:
        """The body, if the status is a success."""
        assert 200 <= reply.status < 300, f"{reply.status}: {reply.body}"
        return reply.body

    # -- sequences and instances -------------------------------------------------------------------
    def publish(self, *blocks: Mapping[str, Any], **more: Any) -> str:
        """The id of a new sequence of these blocks."""
        body = self.definition(*blocks, **more)
        self.post("/sequences", body)
        return str(body["id"])

    def definition(self, *blocks: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        """A definition in the contract's form."""
        return {
            "id": str(uuid4()), "tenant_id": self.tenant, "namespace": "default",
            "name": f"s-{uuid4().hex[:8]}", "version": 1, "blocks": list(blocks),
            "created_at": datetime.now(UTC).isoformat(), **more,
        }  # fmt: skip

    def start(self, sequence_id: str, **more: Any) -> str:
        """The id of a new instance."""
        body = {
            "sequence_id": sequence_id, "tenant_id": self.tenant, "namespace": "default", **more,
        }  # fmt: skip
        reply = self.send("POST", "/instances", body)
        assert reply.status == 201, f"{reply.status}: {reply.body}"
        return str(reply.body["id"])

    def run(self, *blocks: Mapping[str, Any], **data: Any) -> str:
        """The id of a new instance of a new sequence of these blocks."""
        return self.start(self.publish(*blocks), context={"data": data})

    def instance(self, instance_id: str) -> Any:
        """The instance as it is."""
        return self.get(f"/instances/{instance_id}")

    def ended(self, instance_id: str, *states: str, within: float = WITHIN) -> Any:
        """The instance, which is in one of the states; by default, in a terminal one."""
        wanted = states or ENDED

        def look() -> Any:
            found = self.instance(instance_id)
            return found if found["state"] in wanted else None

        return self.until(look, f"{instance_id} is one of {wanted}", within)

    def outputs(self, instance_id: str, block_id: str | None = None) -> list[Any]:
        """What the block put out, the oldest first; without one, every row."""
        rows = self.get(f"/instances/{instance_id}/outputs")
        return [r["output"] if block_id else r for r in rows if block_id in (None, r["block_id"])]

    def signal(self, instance_id: str, kind: Any, payload: Any = None) -> None:
        """The signal has been sent."""
        body = {"signal_type": kind, "payload": payload}
        reply = self.send("POST", f"/instances/{instance_id}/signals", body)
        assert reply.status == 201, f"{reply.status}: {reply.body}"

    # -- pull workers ------------------------------------------------------------------------------
    def poll(self, handler: str, worker: str = "w1", *, within: float = WITHIN) -> Any:
        """The next task of the handler, claimed."""
        body = {"handler_name": handler, "worker_id": worker, "limit": 1}
        return self.until(
            lambda: (self.post("/workers/tasks/poll", body) or [None])[0], f"a task of {handler}",
            within,
        )  # fmt: skip

    def complete(self, task: Mapping[str, Any], output: Any, worker: str = "w1") -> Reply:
        """The answer to the worker's word that the task is done."""
        body = {"worker_id": worker, "claim_epoch": task["claim_epoch"], "output": output}
        return self.send("POST", f"/workers/tasks/{task['id']}/complete", body)

    def fail(
        self, task: Mapping[str, Any], *, retryable: bool, message: str = "no", worker: str = "w1"
    ) -> Reply:
        """The answer to the worker's word that the task failed."""
        body = {
            "worker_id": worker, "claim_epoch": task["claim_epoch"], "message": message,
            "retryable": retryable,
        }  # fmt: skip
        return self.send("POST", f"/workers/tasks/{task['id']}/fail", body)

    # -- waiting -----------------------------------------------------------------------------------
    @staticmethod
    def until(truth: Callable[[], Any], what: str, within: float = WITHIN) -> Any:
        """The first answer that is true. AssertionError, naming ``what``, if there is none."""
        deadline = time.monotonic() + within
        while not (found := truth()):
            assert time.monotonic() < deadline, f"waited {within:g} s in vain: {what}"
            time.sleep(_POLL)
        return found


def step(block_id: str, handler: str = "noop", **more: Any) -> dict[str, Any]:
    """A step."""
    return {"type": "step", "id": block_id, "handler": handler, **more}


def sleeper(block_id: str = "nap", ms: int = 1000) -> dict[str, Any]:
    """A step that sleeps."""
    return step(block_id, "sleep", params={"duration_ms": ms})


def block(kind: str, block_id: str, **members: Any) -> dict[str, Any]:
    """A composite."""
    return {"type": kind, "id": block_id, **members}


def ids(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The blocks that put something out, in order."""
    return [row["block_id"] for row in rows]
