"""Blocks of the contract's form, and what came of them, over the API of a house that works."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

from tests.support.desk import Desk, seated
from tests.support.documents import CONTRACT
from tests.support.house import House


def step(name: str, handler: str = "noop", params: Any = None, **members: Any) -> dict[str, Any]:
    """A step."""
    given = {} if params is None else {"params": params}
    return {"type": "step", "id": name, "handler": handler, **given, **members}


def says(name: str, **params: Any) -> dict[str, Any]:
    """A step that puts out its parameters."""
    return step(name, "transform", params)


def fails(name: str, message: str = "no") -> dict[str, Any]:
    """A step that fails for good."""
    return step(name, "fail", {"message": message})


def sleeps(name: str, minutes: int = 1, **members: Any) -> dict[str, Any]:
    """A step that takes so long."""
    return step(name, "sleep", {"duration_ms": minutes * 60_000}, **members)


class Composed:
    """Instances of definitions in the contract's form: started over the API, worked on."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.api, self.house = desk, desk.api, desk.house

    def publish(self, *blocks: Any, **members: Any) -> Any:
        """A published sequence of these blocks."""
        own = {"id": str(uuid4()), "name": f"s-{uuid4()}", "version": 1}
        return self.api.post("/sequences", {**CONTRACT, **own, **members, "blocks": list(blocks)})

    def start(self, *blocks: Any, data: Any = None, **members: Any) -> Any:
        """A new instance of these blocks."""
        made = self.publish(*blocks, **members)
        return self.again(made, data)

    def again(self, made: Any, data: Any = None, **more: Any) -> Any:
        """A new instance of a published sequence."""
        body = {"sequence_id": made["id"], "tenant_id": "acme", "namespace": "billing",
                "context": {"data": data or {}}, **more}  # fmt: skip
        return self.api.post("/instances", body)

    def run(self, *blocks: Any, data: Any = None, **members: Any) -> Any:
        """A new instance of these blocks has been worked on; as it is now."""
        started = self.start(*blocks, data=data, **members)
        self.house.work()
        return self.read(started)

    def later(self, minutes: int = 1) -> None:
        """So much time has passed, and what was due has been worked on."""
        self.house.advance(timedelta(minutes=minutes))
        self.house.work()

    def signal(self, instance: Any, kind: Any, payload: Any = None) -> None:
        """The instance has had a signal, and was worked on."""
        body = {"signal_type": kind, "payload": payload}
        self.api.post(f"/instances/{instance['id']}/signals", body)
        self.house.work()

    def read(self, instance: Any) -> Any:
        """The instance as it is now."""
        return self.desk.read(instance)

    def state(self, instance: Any) -> str:
        """The state that it shows."""
        return str(self.read(instance)["state"])

    def rows(self, instance: Any, block_id: str | None = None) -> list[Any]:
        """The rows of its outputs, or of one block among them."""
        found = self.api.get(f"/instances/{instance['id']}/outputs")
        return [row for row in found if block_id in (None, row["block_id"])]

    def ids(self, instance: Any) -> list[str]:
        """The blocks that its outputs are of, the oldest first."""
        return [row["block_id"] for row in self.rows(instance)]

    def put_out(self, instance: Any, block_id: str) -> list[Any]:
        """What a block put out, the oldest first."""
        return [row["output"] for row in self.rows(instance, block_id)]

    def tree(self, instance: Any) -> dict[str, Any]:
        """The nodes by their ids."""
        return {n["id"]: n for n in self.api.get(f"/instances/{instance['id']}/tree")}

    def states(self, instance: Any) -> dict[str, str]:
        """The states of the nodes by their ids."""
        return {name: node["state"] for name, node in self.tree(instance).items()}

    def polled(self, handler: str, limit: int = 10) -> list[Any]:
        """Tasks of a handler that a worker was given."""
        body = {"handler_name": handler, "worker_id": "w", "limit": limit}
        tasks: list[Any] = self.api.post("/workers/tasks/poll", body, status=200)
        return tasks

    def complete(self, task: Any, output: Any = None) -> int:
        """A worker says that it has done a task; the status that it is answered."""
        said = {"worker_id": "w", "claim_epoch": task["claim_epoch"], "output": output or {}}
        answer = self.api.send("POST", f"/workers/tasks/{task['id']}/complete", said)
        self.house.work()
        return answer.status_code

    def fail(self, task: Any, message: str = "no") -> None:
        """A worker says that a task failed for good."""
        said = {"worker_id": "w", "claim_epoch": task["claim_epoch"], "message": message,
                "retryable": False}  # fmt: skip
        self.api.send("POST", f"/workers/tasks/{task['id']}/fail", said)
        self.house.work()


@contextmanager
def composing(house: House) -> Iterator[Composed]:
    """Definitions in the contract's form, in this house."""
    with seated(house) as desk:
        yield Composed(desk)
