"""The whole road: HTTP creation, Postgres, Celery workers, HTTP handler, settlement; measured.

Creations are measured with the workers stopped (SIGSTOP), so that the backlog is whole when they
go on; steps per second are counted in Postgres, from the first settlement to the last.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orch8.dev.process import Child, Command
from orch8.dev.stack import StackOptions
from tests.bench import cpu, load
from tests.bench.handler_process import HandlerProcess
from tests.support.stack import World, until

STEPS = 5
CONNECTIONS = 8
LIMIT = 1_000_000  # per second: never reached, so that only the limiter's own cost shows
_DRAINED_WITHIN = 120.0
