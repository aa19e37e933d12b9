"""Telling orch8 over REST how a step ended, patiently and within bounds."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from orch8.client.caller import Caller, Retries
from orch8.client.ends import Declined, Refused, TryAgain
from orch8.client.paths import path
from orch8.client.problems import NotJson
from orch8.errors import Conflict, InvalidArgument, Orch8Error, PayloadTooLarge, Unprocessable

log = logging.getLogger(__name__)

PATIENCE: Final = 30.0  # seconds in which a report is tried again
TIMEOUT: Final = 10.0  # seconds for each operation of one request
MAX_MESSAGE: Final = 2000
_TRIES: Final = 1000  # the patience ends first
_UNFIT: Final = (InvalidArgument, PayloadTooLarge, Unprocessable)  # cannot be kept as it stands


@dataclass(frozen=True, slots=True)
class Dispatch:
    """One dispatch of a step to this program: what a report is about, and who reports."""

    step_id: str
    epoch: int
    worker_id: str


@dataclass(frozen=True, slots=True)
class Reports:
    """Reports to one API; safe to share between threads and forked processes.

    A report that cannot be delivered within ``patience`` seconds is logged and given up: orch8
    then takes the step to be in doubt, and sends it again with the same idempotency key.
    """

    caller: Caller
    patience: float = PATIENCE

    def complete(self, to: Dispatch, output: Any, *, patience: float | None = None) -> bool:
        """The step has this output, which may name its own ``outcome``; whether orch8 took it.

        An output that cannot be kept makes the outcome unknown: something did happen.
        """
        problem = self._tell(to, "complete", {"output": output}, patience)
        if isinstance(problem, NotJson):
            return self.unsure(to, f"the result has no JSON form: {problem}", "not_json")
        if isinstance(problem, _UNFIT):
            return self.unsure(to, f"orch8 refused the result: {problem}", "unfit_output")
        return problem is None

    def unsure(
        self, to: Dispatch, message: str, code: str, *, patience: float | None = None
    ) -> bool:
        """Nobody knows whether the step had its effect; whether orch8 took that."""
        said = {"outcome": "unknown", "error": {"message": message[:MAX_MESSAGE], "code": code}}
        return self._tell(to, "complete", {"output": said}, patience) is None

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
        body: dict[str, Any] = {"message": message[:MAX_MESSAGE], "retryable": retryable}
        if code is not None:
            body["code"] = code
        if details is not None:
            body["details"] = _plain(details)
        return self._tell(to, "fail", body, patience) is None

    def raised(
        self, to: Dispatch, exception: BaseException | None, *, patience: float | None = None
    ) -> bool:
        """The step's handler raised: Declined, Refused and TryAgain say what surely happened, all
        else says nothing about the effect. Whether orch8 took it.
        """
        kind = type(exception).__name__
        message = str(exception) or kind
        match exception:
            case Declined(output=output):
                said = output if isinstance(output, Mapping) else {}
                said = {"body": output} if output is not None and not said else said
                return self.complete(to, {**said, "outcome": "declined"}, patience=patience)
            case Refused(code=code, details=details):
                return self.fail(
                    to, message, retryable=False, code=code, details=details, patience=patience
                )
            case TryAgain(code=code):
                return self.fail(to, message, retryable=True, code=code, patience=patience)
            case _:
                return self.unsure(to, f"{kind}: {message}", kind, patience=patience)

    def _tell(
        self, to: Dispatch, verb: str, body: Mapping[str, Any], patience: float | None
    ) -> Orch8Error | None:
        """Why orch8 did not take it, which is in the log, too."""
        claim = {"worker_id": to.worker_id, "claim_epoch": to.epoch}
        patience = self.patience if patience is None else patience
        try:
            # Twice is as good as once: a claim ends with the first report that is taken.
            self.caller.ask(
                "POST",
                path("workers", "tasks", to.step_id, verb),
                {**claim, **body},
                repeatable=True,
                retries=Retries(most=_TRIES, patience=patience),
            )
        except Orch8Error as problem:
            _note(to, verb, problem)
            return problem
        return None


def _plain(details: Any) -> Any:
    """The details, or as text what has no JSON form."""
    try:
        json.dumps(details, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return repr(details)[:MAX_MESSAGE]
    return details


def _note(to: Dispatch, verb: str, problem: Orch8Error) -> None:
    about = (verb, to.step_id, to.epoch)
    if isinstance(problem, Conflict):
        log.warning("orch8: %s of step %s (epoch %d) came too late: another holds it now", *about)
    else:
        log.error("orch8: %s of step %s (epoch %d) was not taken: %s", *about, str(problem)[:500])
