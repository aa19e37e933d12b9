"""Python functions as handlers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import orch8
from orch8.engine.outcome import Answer, Verdict
from orch8.errors import ConfigurationError
from orch8.handlers import python
from orch8.handlers.python import FUNCTIONS, Declined, Refused, TryAgain, handler, load, run
from orch8.handlers.request import StepRequest

REQUEST = StepRequest("charge", "inst", "step", "key", params={"amount": 5})


@pytest.fixture(autouse=True)
def _own_table() -> Iterator[None]:
    before = dict(FUNCTIONS)
    yield
    FUNCTIONS.clear()
    FUNCTIONS.update(before)


def raising(error: Exception) -> Any:
    def function(_request: StepRequest) -> None:
        raise error

    return function


def test_handler_is_registered_under_its_name_and_sees_the_request() -> None:
    """A decorated function stays itself, is in the table and gets the step's request."""

    @orch8.handler("charge")
    def charge(request: StepRequest) -> dict[str, Any]:
        return {"charged": request.params["amount"], "key": request.idempotency_key}

    assert FUNCTIONS["charge"] is charge
    answer = run(charge, REQUEST)
    assert answer.verdict is Verdict.SUCCEEDED
    assert answer.output == {"charged": 5, "key": "key"}
    assert answer.evidence["sent"] is True


def test_handler_name_taken_by_another_function_is_an_error() -> None:
    """Two functions cannot have one name; loading the same one again is harmless."""

    def one(_request: StepRequest) -> None: ...
    def two(_request: StepRequest) -> None: ...

    handler("x")(one)
    handler("x")(one)
    with pytest.raises(ConfigurationError, match="defined twice"):
        handler("x")(two)
    with pytest.raises(ConfigurationError, match="name"):
        handler("")


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (Declined({"why": "funds"}), "declined"),
        (Refused("bad iban", code="iban"), "refused"),
        (TryAgain("busy", after=3.5), "failed_safe"),
        (ValueError("boom"), "unknown"),
        (TimeoutError(), "unknown"),
    ],
)
def test_exception_says_what_surely_happened_or_nothing(error: Exception, verdict: str) -> None:
    """Three exceptions name an outcome; any other leaves it unknown."""
    assert run(raising(error), REQUEST).verdict == verdict


def test_exception_details_reach_the_answer() -> None:
    """Output, code, message and waiting time of the exceptions are kept."""
    declined = run(raising(Declined({"why": "funds"})), REQUEST)
    assert declined.output == {"why": "funds", "outcome": "declined"}
    assert run(raising(Declined()), REQUEST).output == {"outcome": "declined"}
    assert run(raising(Declined(3)), REQUEST).output == {"outcome": "declined", "body": 3}
    refused = run(raising(Refused("bad", code="iban", details={"n": 1})), REQUEST)
    assert refused.error == {"message": "bad", "code": "iban", "details": {"n": 1}}
    assert run(raising(TryAgain("busy", after=3.5)), REQUEST).retry_after == 3.5
    broken = run(raising(ValueError("boom")), REQUEST)
    assert broken.error == {"message": "ValueError: boom", "code": "ValueError"}


def test_exception_of_an_effectless_handler_is_safe_to_repeat() -> None:
    """A read that raises did nothing, so it may be tried again."""
    assert run(raising(ValueError()), REQUEST, effect="read").verdict is Verdict.FAILED_SAFE
    assert run(raising(ValueError()), REQUEST, effect="notify").verdict is Verdict.UNKNOWN


def test_returned_body_may_name_its_outcome() -> None:
    """A returned object is read like the body of a 200."""
    assert run(lambda _: {"outcome": "pending"}, REQUEST).verdict is Verdict.PENDING
    answer = run(lambda _: {"outcome": "failed_safe", "message": "later"}, REQUEST)
    assert answer.verdict is Verdict.FAILED_SAFE
    assert answer.error is not None
    assert answer.error["message"] == "later"
    own = Answer(Verdict.REQUIRES_ACTION, output=1, evidence={"ref": "a"})
    assert run(lambda _: own, REQUEST).evidence["ref"] == "a"


@pytest.mark.parametrize("value", [object(), {"n": 2**70}, {1, 2}, "\ud800"])
def test_returned_value_without_json_form_is_unknown(value: object) -> None:
    """The function ran, so an unreadable result is not a failure."""
    answer = run(lambda _: value, REQUEST)
    assert answer.verdict is Verdict.UNKNOWN
    assert answer.error is not None
    assert answer.error["code"] == "not_json"


def test_returned_value_beyond_the_limit_is_unknown() -> None:
    """An output that cannot be stored does not undo what the function did."""
    answer = run(lambda _: "x" * 100, REQUEST, max_output=50)
    assert answer.verdict is Verdict.UNKNOWN


def test_load_imports_the_named_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules of the setting are imported, and a missing one names the setting."""
    source = "import orch8\n@orch8.handler('late')\ndef late(request):\n    return 1\n"
    (tmp_path / "handlers_of_a_test.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    load(" handlers_of_a_test , ")
    assert "late" in FUNCTIONS
    sys.modules.pop("handlers_of_a_test")
    with pytest.raises(ConfigurationError, match="ORCH8_HANDLER_MODULES"):
        load("no_such_module_of_handlers")
    with pytest.raises(ConfigurationError, match="more than"):
        load(",".join(["a"] * (python.MAX_MODULES + 1)))


def test_package_has_no_other_lazy_names() -> None:
    """A misspelt name of the package is an AttributeError."""
    with pytest.raises(AttributeError, match="handlr"):
        _ = orch8.handlr
