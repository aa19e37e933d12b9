"""What other programs import to talk to orch8."""

from __future__ import annotations

from orch8.client.caller import Retries
from orch8.client.connected import Client
from orch8.client.ends import Declined, Refused, TryAgain
from orch8.client.instances import StillOpen
from orch8.client.problems import Unreachable
from orch8.client.task import Task
from orch8.client.worker import Worker

__all__ = [
    "Client",
    "Declined",
    "Refused",
    "Retries",
    "StillOpen",
    "Task",
    "TryAgain",
    "Unreachable",
    "Worker",
]
