"""A pull worker of a desk, as existing clients speak: over REST, under the epoch it was given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from werkzeug.test import TestResponse

from tests.support.desk import Desk

MADE = "2026-01-01T00:00:00Z"


def flow(*blocks: Any, **members: Any) -> dict[str, Any]:
    """A definition in the contract's form."""
    given = {
        "id": str(uuid4()), "tenant_id": "default", "namespace": "default", "name": "flow",
        "version": 1, "created_at": MADE, "blocks": list(blocks),
    }  # fmt: skip
    return given | members


def external(block: str = "a", handler: str = "charge", **members: Any) -> dict[str, Any]:
    """A step that a worker has to do."""
    return {"type": "step", "id": block, "handler": handler, "params": {}, **members}


def begun(desk: Desk, *blocks: Any, data: Any = None, **members: Any) -> Any:
    """An instance of these blocks, in the contract's form, has been worked on."""
    body = flow(*blocks, **members)
    return again(desk, desk.api.post("/sequences", body), data=data, tenant=body["tenant_id"])


def again(desk: Desk, published: Any, *, data: Any = None, tenant: str = "default") -> Any:
    """One more instance of a published sequence has been worked on."""
    body = {
        "sequence_id": published["id"], "tenant_id": tenant,
        "namespace": "default", "context": {"data": data or {}},
    }  # fmt: skip
    made = desk.api.post("/instances", body)
    desk.house.work()
    return desk.read(made)


@dataclass
class Puller:
    """A worker with this id that does one handler."""

    desk: Desk
    name: str = "w1"
    handler: str = "charge"

    def poll(self, **more: Any) -> list[Any]:
        """The tasks that it gets, of one queue if it is named."""
        body = {"handler_name": self.handler, "worker_id": self.name, **more}
        path = "/workers/tasks/poll" + ("/queue" if "queue_name" in more else "")
        found: list[Any] = self.desk.api.post(path, body, status=200)
        return found

    def take(self, **more: Any) -> Any:
        """The one task that it gets."""
        (task,) = self.poll(**more)
        return task

    def say(self, verb: str, task: Any, **more: Any) -> TestResponse:
        """The answer to what it says of a task."""
        body = {"worker_id": self.name, "claim_epoch": task["claim_epoch"], **more}
        return self.desk.api.send("POST", f"/workers/tasks/{task['id']}/{verb}", body)

    def complete(self, task: Any, output: Any = None, status: int = 200, **more: Any) -> None:
        """The task is done, and what follows has been worked on."""
        answer = self.say("complete", task, output=output, **more)
        assert answer.status_code == status, answer.text
        self.desk.house.work()

    def fail(self, task: Any, message: str = "no", status: int = 200, **more: Any) -> None:
        """The task has failed; nothing has been worked on since."""
        answer = self.say("fail", task, message=message, **more)
        assert answer.status_code == status, answer.text

    def story(self, task: Any) -> list[tuple[str, int]]:
        """What happened to a task: events and epochs."""
        found = self.desk.api.get(f"/workers/tasks/{task['id']}/attempts")
        return [(each["event"], each["claim_epoch"]) for each in found]


def silence(desk: Desk) -> None:
    """No worker was heard of for too long, and the reaper has looked."""
    desk.house.sql(
        "UPDATE steps SET lease_until = '-infinity' WHERE pull AND lease_until IS NOT NULL"
    )
    desk.house.tick()
