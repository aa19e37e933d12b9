"""Client: one orch8 over REST, with everything that can be asked of it."""

from __future__ import annotations

import ssl
from typing import Any, Final, Self

from orch8.client.approvals import Approvals
from orch8.client.caller import Caller, Retries
from orch8.client.instances import Instances
from orch8.client.operations import Attention, Events, RateLimits
from orch8.client.sequences import Sequences

LOCAL: Final = "http://127.0.0.1:8080"


class Client:
    """One orch8, asked in the name of one tenant. Threads may share it; it survives a fork.

    ``timeout`` seconds bound connecting, each silence of the server, and the whole answer.
    ``retries`` says how often what is safe to repeat is sent again. ``actor`` stands in the audit
    log. ``tls`` replaces the usual checks of certificates. Raises ConfigurationError for a url
    that is none.
    """

    def __init__(
        self,
        url: str = LOCAL,
        *,
        api_key: str | None = None,
        tenant: str | None = None,
        actor: str | None = None,
        timeout: float = 30.0,
        retries: Retries | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.caller = Caller(
            url, api_key=api_key, tenant=tenant, actor=actor, timeout=timeout, retries=retries,
            tls=tls,
        )  # fmt: skip
        self.sequences = Sequences(self.caller)
        self.instances = Instances(self.caller)
        self.events = Events(self.caller)
        self.rate_limits = RateLimits(self.caller)
        self.attention = Attention(self.caller)
        self.approvals = Approvals(self.caller)

    @property
    def url(self) -> str:
        """Where the API is."""
        return self.caller.url

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        repeatable: bool | None = None,
        retries: Retries | None = None,
    ) -> Any:
        """The JSON that any route answers, for what has no method here; ``path`` begins behind
        /api/v1. ``repeatable``: sending it twice comes to the same as sending it once; left out,
        that is so for GET, PUT and DELETE.
        """
        return self.caller.ask(method, path, body, repeatable=repeatable, retries=retries)

    def close(self) -> None:
        """No connection is open; the next request opens one."""
        self.caller.disconnect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
