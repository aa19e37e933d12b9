"""The rate limiter in Redis: how many calls a provider may get in any window, and at a time."""

from orch8.limits.connection import LimiterUnavailable
from orch8.limits.doorbell import Doorbell
from orch8.limits.grant import Ended, Grant, Limit, Refusal, Usage
from orch8.limits.limiter import Limiter
from orch8.limits.share import Share

__all__ = [
    "Doorbell",
    "Ended",
    "Grant",
    "Limit",
    "Limiter",
    "LimiterUnavailable",
    "Refusal",
    "Share",
    "Usage",
]
