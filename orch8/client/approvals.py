"""Approvals: the steps that wait for a person's answer, and the answers."""

from __future__ import annotations

from typing import Any, Final

from orch8.client.answers import Approval, Sent
from orch8.client.caller import Caller
from orch8.client.instances import Instances
from orch8.errors import Conflict, InvalidArgument

PAGE: Final = 100
HUMAN_INPUT: Final = "human_input:"


class Approvals:
    """What people are asked."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def list(
        self,
        *,
        namespace: str | None = None,
        instance_id: str | None = None,
        offset: int = 0,
        limit: int = PAGE,
    ) -> tuple[Approval, ...]:
        """A page of the steps that wait for an answer, the longest asked first."""
        query: dict[str, Any] = {
            "namespace": namespace, "instance_id": instance_id, "offset": offset, "limit": limit,
        }  # fmt: skip
        return Approval.read_all(self._caller.ask("GET", "/approvals", query=query)["items"])

    def answer(
        self,
        instance_id: str,
        block_id: str,
        value: str,
        *,
        comment: str | None = None,
        dedupe_key: str | None = None,
    ) -> Sent:
        """The step that waits goes on with this answer. The client needs an ``actor``: who answered
        is in the audit log. Raises Conflict when nobody is asked there, and InvalidArgument when
        that is none of the choices; a repeated ``dedupe_key`` does nothing.
        """
        found = self.list(instance_id=instance_id)
        asked = [each for each in found if block_id in (each.block_id, each.node_key)]
        if not asked:
            raise Conflict(f"{block_id!r} of {instance_id} waits for no answer now")
        values = [choice["value"] for choice in asked[0].choices]
        if value not in values:
            raise InvalidArgument(f"{value!r} is none of the choices: {', '.join(values)}")
        payload = {"value": value} if comment is None else {"value": value, "comment": comment}
        return Instances(self._caller).signal(
            instance_id, f"{HUMAN_INPUT}{block_id}", payload, reason=comment, dedupe_key=dedupe_key
        )
