"""The fixtures that tests share, and the hypothesis profiles.

``ci`` is quick, HYPOTHESIS_PROFILE=thorough looks harder. Fixtures of the whole session are
imported here and nowhere else: a second import would be a second server.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

from tests.support.house import house, houses, provider, spares
from tests.support.servers import postgres, redis_server
from tests.support.stub import stub

__all__ = ["house", "houses", "postgres", "provider", "redis_server", "spares", "stub"]

_SLOW_TO_DRAW = (HealthCheck.too_slow, HealthCheck.data_too_large)

settings.register_profile(
    "ci", max_examples=120, deadline=None, suppress_health_check=_SLOW_TO_DRAW
)
settings.register_profile(
    "thorough", max_examples=3_000, deadline=None, suppress_health_check=_SLOW_TO_DRAW
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
