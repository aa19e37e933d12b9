"""The conditions of a measurement: the machine, the versions and the settings that it ran with."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orch8.dev import postgres, programs, redis

_PACKAGES = ("celery", "sqlalchemy", "psycopg2-binary", "pycurl", "orjson", "flask", "granian")


def conditions(env: Mapping[str, str], workers: int) -> dict[str, Any]:
    """What a reader must know to compare the numbers with others."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _model(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "system": platform.platform(),
        "python": platform.python_version(),
        "postgres": importlib.metadata.version(postgres.DISTRIBUTION),
        "postgres_settings": dict(postgres.SETTINGS),
        "redis": f"{redis.DISTRIBUTION} {importlib.metadata.version(redis.DISTRIBUTION)}",
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "workers": workers,
        "worker_width": env.get("ORCH8_WORKER_WIDTH", "default"),
        "api": " ".join(programs.web("127.0.0.1", 0, env).command.argv[2:]),
        "audit": "on",
        "on_the_same_cores": "load generator, API, workers, Postgres, Redis, handler",
    }


def _model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())
