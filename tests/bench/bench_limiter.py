"""How many grants per second the limiter gives, and what one script call costs the server.

Run: python tests/bench/bench_limiter.py [seconds per case]
"""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import redis

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from orch8.limits import Limit, Limiter
from tests.support.valkey import Valkey

TENANT = "bench"
CASES = [  # requests per call, keys per request, max per second
    (1, 1, 1_000),
    (32, 1, 1_000),
    (32, 2, 1_000),
    (32, 2, 100_000),
    (512, 2, 1_000_000),
]


def measure(url: str, batch: int, keys: int, limit: int, seconds: float) -> str:
    """One line: calls and grants per second, microseconds of the server per call."""
    limits = [Limit(f"k{number}.{batch}.{keys}.{limit}", limit, 1.0) for number in range(keys)]
    with closing(Limiter(url)) as limiter, closing(redis.Redis.from_url(url)) as client:
        for one in limits:
            limiter.restore(TENANT, one, [])
        client.config_resetstat()
        calls = grants = 0
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            grants += sum(grant.granted for grant in limiter.acquire(TENANT, [limits] * batch))
            calls += 1
        cost = client.info("commandstats")["cmdstat_evalsha"]["usec_per_call"]
    return (
        f"{batch:8} {keys:5} {limit:8} {calls / seconds:9.0f} {grants / seconds:10.0f} {cost:10.0f}"
    )


def main() -> None:
    """Prints one line per case."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 2.0
    sys.stdout.write(" request  keys    max/s   calls/s   grants/s  us on server/call" + "\n")
    with tempfile.TemporaryDirectory() as folder, Valkey(Path(folder)) as server:
        for batch, keys, limit in CASES:
            sys.stdout.write(measure(server.url, batch, keys, limit, seconds) + "\n")


if __name__ == "__main__":
    main()
