"""The rate limiter in Redis: how many calls a provider may get in any window."""

from orch8.limits.connection import LimiterUnavailable
from orch8.limits.doorbell import Doorbell
from orch8.limits.grant import Grant, Limit, Refusal, Usage
from orch8.limits.limiter import Limiter

__all__ = ["Doorbell", "Grant", "Limit", "Limiter", "LimiterUnavailable", "Refusal", "Usage"]
