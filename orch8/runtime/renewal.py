"""renewal: oauth2 tokens that end soon are exchanged for new ones, before a call needs them.

A process claims a credential for a minute, asks its refresh_url with no transaction open, and keeps
the answer sealed. If it is lost after the answer and before that, a refresh token that the provider
replaced is lost with it: then somebody has to authorize anew, as the audit log's failures tell.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final
from urllib.parse import urlencode

import orjson
import structlog

from orch8.config import Settings
from orch8.engine.outcome import Answer, Verdict
from orch8.handlers.classify import Response
from orch8.handlers.http import Call, Caller
from orch8.runtime.because import Because
from orch8.runtime.office import Office
from orch8.storage import credentials
from orch8.storage.credentials import Renewable
from orch8.storage.transaction import Tx

log = structlog.get_logger(__name__)

EVERY: Final = 60.0  # seconds between looks
SOON: Final = timedelta(minutes=5)  # before its end a token is renewed
HELD: Final = timedelta(seconds=60)  # nobody else renews it for so long
TIMEOUT: Final = 10.0  # seconds of a call
AT_ONCE: Final = 8  # calls in flight
MAX_ANSWER: Final = 64 * 1024
FIRST_PAUSE, LONGEST_PAUSE = 60.0, 3600.0  # seconds after a failure; doubled each time
LIFE: Final = 3600.0  # seconds, of a token of which nobody says how long it is good
LONGEST_LIFE: Final = 10 * 365 * 86_400.0
ENGINE: Final = Because(actor="engine")
_OK, _REDIRECT = 200, 300
_CODE: Final = re.compile(r"[a-z_]{1,60}")  # RFC 6749, section 5.2; other texts could be secrets


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a token was not renewed; nothing of it is secret."""

    why: str


class Renewer:
    """Renews for one process, from a thread of its own."""

    def __init__(self, office: Office) -> None:
        self._office, self._caller = office, Caller()
        self._looked_at = float("-inf")
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    def go(self) -> None:
        """Unless it was looked a moment ago, what ends soon is being renewed. Returns at once."""
        busy = self._thread is not None and self._thread.is_alive()
        if busy or self._stopping.is_set() or time.monotonic() - self._looked_at < EVERY:
            return
        self._looked_at = time.monotonic()
        self._thread = threading.Thread(target=self._serve, name="orch8-renewer", daemon=True)
        self._thread.start()

    def stop(self, within: float) -> None:
        """Nothing new is claimed; calls in flight had ``within`` seconds to be answered."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(within)

    def round(self) -> int:
        """Every credential that was due has been asked for, and what came of it is kept; how many
        were renewed.
        """
        renewed = 0
        with ThreadPoolExecutor(AT_ONCE, "orch8-renew") as pool:
            while not self._stopping.is_set():
                with self._office.database.begin() as tx:
                    due = credentials.claim_renewable(tx, SOON, HELD, AT_ONCE)
                came = pool.map(partial(ask, self._caller, self._office.settings), due)
                for each, answer in zip(due, came, strict=True):
                    with self._office.database.begin() as tx:
                        renewed += keep(tx, each, answer)
                if len(due) < AT_ONCE:
                    break
        return renewed

    def _serve(self) -> None:
        try:
            self.round()
        except Exception:  # what was claimed is due again after HELD
            log.exception("renewal.broke")


def ask(caller: Caller, settings: Settings, due: Renewable) -> dict[str, Any] | Failure:
    """The members of the credential that the provider's answer replaces."""
    value = _object(due.value)
    form = {"grant_type": "refresh_token", "refresh_token": due.refresh_token}
    form |= {name: str(value[name]) for name in ("client_id", "client_secret") if value.get(name)}
    answer = caller.call(
        Call(
            url=due.refresh_url,
            body=urlencode(form).encode(),
            headers=(
                ("Content-Type", "application/x-www-form-urlencoded"),
                ("Accept", "application/json"),
            ),
            timeout=TIMEOUT,
            connect_timeout=settings.handler_connect_timeout,
            max_response=MAX_ANSWER,
            guard=not settings.allow_internal_urls,
            classify=_read,
        )
    )
    if answer.verdict is not Verdict.SUCCEEDED:
        return Failure(str((answer.error or {}).get("message", "no answer")))
    status, given = answer.output["status"], answer.output["body"]
    if not _OK <= status < _REDIRECT:
        code = str(given.get("error"))
        said = f": {code}" if _CODE.fullmatch(code) and "error" in given else ""
        return Failure(f"the provider answered {status}{said}")
    token = given.get("access_token")
    if not isinstance(token, str) or not token:
        return Failure("the provider's answer has no access_token")
    return _members(due, value, given, token)


def keep(tx: Tx, due: Renewable, answer: dict[str, Any] | Failure) -> bool:
    """The credential has its new token, or is asked for again after a while. What somebody changed
    meanwhile stays as it is.
    """
    if isinstance(answer, Failure):
        pause = min(FIRST_PAUSE * 2**due.failures, LONGEST_PAUSE)
        credentials.not_renewed(tx, due, timedelta(seconds=pause))
        _note(tx, due, "credential.not_renewed", {"why": answer.why, "failures": due.failures + 1})
        log.warning("credential.not_renewed", credential=due.id, error=answer.why)
        return False
    if credentials.update(tx, due.id, answer, seen=due.updated_at) is None:
        log.info("credential.changed_meanwhile", credential=due.id)
        return False
    _note(tx, due, "credential.renewed", {"expires_at": answer["expires_at"].isoformat()})
    return True


def _members(
    due: Renewable, value: Mapping[str, Any], given: Mapping[str, Any], token: str
) -> dict[str, Any]:
    ends = datetime.now(UTC) + timedelta(seconds=_life(given.get("expires_in")))
    members: dict[str, Any] = {"value": token, "expires_at": ends}
    changed: dict[str, Any] = {"access_token": token}
    fresh = given.get("refresh_token")
    if isinstance(fresh, str) and fresh:
        members["refresh_token"] = fresh
        if "refresh_token" in value:
            changed["refresh_token"] = fresh
    if value or due.value.strip() == "{}":
        members["value"] = orjson.dumps({**value, **changed}).decode()
    return members


def _life(given: Any) -> float:
    try:
        seconds = float(given)
    except (TypeError, ValueError):
        return LIFE
    return min(seconds, LONGEST_LIFE) if seconds > 0 else LIFE


def _read(response: Response) -> Answer:
    output = {"status": response.status, "body": _object(response.body)}
    return Answer(Verdict.SUCCEEDED, output=output, evidence=response.evidence)


def _object(text: str | bytes) -> dict[str, Any]:
    """The JSON object that is written there; empty if it is none."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _note(tx: Tx, due: Renewable, action: str, body: Mapping[str, Any]) -> None:
    ENGINE.note(tx, due.tenant_id, action, {"credential": due.id, **body})
