"""Telling orch8 over REST how a step ended, patiently and within bounds."""

from __future__ import annotations

import http.client
import json
import logging
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from orch8.errors import ConfigurationError

log = logging.getLogger(__name__)

PATIENCE: Final = 30.0  # seconds in which a report is tried again
TIMEOUT: Final = 10.0  # seconds for each operation of one request
MAX_ANSWER: Final = 64 * 1024  # bytes of an answer that are read
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 5.0
_OK, _CONFLICT = 200, 409
_PASSING: Final = frozenset({408, 425, 429})  # and every 5xx: the same may work in a moment
_UNFIT: Final = frozenset({400, 413, 422})  # the output cannot be kept as it stands


@dataclass(frozen=True, slots=True)
class Dispatch:
    """One dispatch of a step to this program: what a report is about, and who reports."""

    step_id: str
    epoch: int
    worker_id: str


@dataclass(frozen=True, slots=True)
class Reports:
    """Reports to the API at ``url``; safe to share between threads and forked processes.

    A report that cannot be delivered within ``patience`` seconds is logged and given up: orch8
    then takes the step to be in doubt, and sends it again with the same idempotency key.
    """

    url: str
    api_key: str | None = None
    tenant: str | None = None
    patience: float = PATIENCE
    _headers: dict[str, str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ConfigurationError(
                f"url must be that of orch8's API, such as http://127.0.0.1:8080, not {self.url!r}"
            )
        headers = {"Content-Type": "application/json", "Connection": "close"}
        if self.api_key:
            headers["x-api-key"] = self.api_key
        if self.tenant:
            headers["X-Tenant-Id"] = self.tenant
        object.__setattr__(self, "_headers", headers)

    def complete(self, to: Dispatch, output: Any, *, patience: float | None = None) -> bool:
        """The step has this output, which may name its own ``outcome``; whether orch8 took it.

        An output that cannot be kept makes the outcome unknown: something did happen.
        """
        try:
            status = self._post(to, "complete", {"output": output}, patience)
        except (TypeError, ValueError, RecursionError) as problem:
            return self.unsure(to, f"the result has no JSON form: {problem}", "not_json")
        if status in _UNFIT:
            return self.unsure(to, f"orch8 refused the result with {status}", "unfit_output")
        return status == _OK

    def unsure(
        self, to: Dispatch, message: str, code: str, *, patience: float | None = None
    ) -> bool:
        """Nobody knows whether the step had its effect; whether orch8 took that."""
        said = {"outcome": "unknown", "error": {"message": message, "code": code}}
        return self._post(to, "complete", {"output": said}, patience) == _OK

    def fail(
        self,
        to: Dispatch,
        message: str,
        *,
        retryable: bool,
        code: str | None = None,
        details: Any = None,
        patience: float | None = None,
    ) -> bool:
        """The step surely had no effect and failed, for good or for now; whether orch8 took it."""
        body: dict[str, Any] = {"message": message, "retryable": retryable}
        if code is not None:
            body["code"] = code
        if details is not None:
            body["details"] = _plain(details)
        return self._post(to, "fail", body, patience) == _OK

    def _post(
        self, to: Dispatch, verb: str, body: Mapping[str, Any], patience: float | None
    ) -> int:
        """The last status; 0 if there was none."""
        claim = {"worker_id": to.worker_id, "claim_epoch": to.epoch}
        raw = json.dumps({**claim, **body}, allow_nan=False).encode()
        path = f"{urlsplit(self.url).path.rstrip('/')}/workers/tasks/{to.step_id}/{verb}"
        deadline = time.monotonic() + (self.patience if patience is None else patience)
        pause = _FIRST_PAUSE
        while True:
            status, said = self._once(path, raw)
            passing = status == 0 or status in _PASSING or status // 100 == 5  # noqa: PLR2004
            wait = pause * random.uniform(0.5, 1.0)  # noqa: S311 - spreads callers, hides nothing
            if not passing or time.monotonic() + wait >= deadline:
                break
            time.sleep(wait)
            pause = min(2 * pause, _LONGEST_PAUSE)
        _note(to, verb, status, said)
        return status

    def _once(self, path: str, raw: bytes) -> tuple[int, str]:
        """The status and the text of one answer; 0 and the reason if none came."""
        parts = urlsplit(self.url)
        secure = parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT)
        try:
            connection.request("POST", path, raw, self._headers)
            answer = connection.getresponse()
            return answer.status, answer.read(MAX_ANSWER).decode(errors="replace")
        except (OSError, http.client.HTTPException) as problem:
            return 0, f"{type(problem).__name__}: {problem}"
        finally:
            connection.close()


def _plain(details: Any) -> Any:
    """The details, or as text what has no JSON form."""
    try:
        json.dumps(details, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return repr(details)[:2000]
    return details


def _note(to: Dispatch, verb: str, status: int, said: str) -> None:
    about = (verb, to.step_id, to.epoch)
    if status == _CONFLICT:
        log.warning("orch8: %s of step %s (epoch %d) came too late: another holds it now", *about)
    elif status != _OK:
        answer = f"{status} {said}".strip()[:500]
        log.error("orch8: %s of step %s (epoch %d) was not taken: %s", *about, answer)
