"""Secrets stand in calls for as long as these take, and are cut out of what comes back."""

from __future__ import annotations

import base64
import json
import time
from datetime import UTC, datetime
from queue import SimpleQueue
from typing import Any
from uuid import UUID

import pytest

from orch8.blocks.references import references
from orch8.config import Settings
from orch8.engine.outcome import Answer, Verdict
from orch8.errors import CredentialUnusable, Unavailable
from orch8.handlers import python
from orch8.handlers.request import StepRequest
from orch8.runtime.crew import Crew, Reveal
from orch8.runtime.preparing import Task
from orch8.runtime.reveal import CUT, Revealed, scrubbed
from orch8.runtime.routes import Kind, Route
from orch8.runtime.settle import Deferral, Item
from orch8.storage.rows import StepRow

SECRET = 'pass"word/with ü+'


def test_references_are_found_where_the_author_wrote_them() -> None:
    """At any depth, with a template behind the scheme; not within a text, not behind a template."""
    params = {
        "a": "credentials://x", "b": [1, {"c": "credentials://{{ context.data.y }}/z"}],
        "d": "see credentials://x", "e": "{{ context.data.e }}",
    }  # fmt: skip
    assert references(params) == (("a",), ("b", 1, "c"))
    assert references("credentials://x") == ((),)
    assert references(None) == ()


@pytest.mark.parametrize(
    "form",
    [SECRET, json.dumps(SECRET, ensure_ascii=False)[1:-1], "pass%22word%2Fwith%20%C3%BC%2B",
     base64.b64encode(SECRET.encode()).decode()],
)  # fmt: skip
def test_secret_is_cut_out_however_it_was_repeated(form: str) -> None:
    """In output, error and evidence, in names and in lists."""
    said = {form: [f"key={form}"], "n": 1}
    answer = Answer(Verdict.FAILED, output=said, error={"message": form}, evidence=said)
    clean = scrubbed(answer, [SECRET])
    assert clean.output == clean.evidence == {CUT: [f"key={CUT}"], "n": 1}
    assert clean.error == {"message": CUT}


def test_longer_secret_is_cut_out_whole() -> None:
    """Nothing of it is left when a shorter one is its beginning."""
    answer = Answer(Verdict.SUCCEEDED, output="12345678-and-more")
    assert scrubbed(answer, ["12345678", "12345678-and-more"]).output == CUT


def test_short_secret_is_not_looked_for() -> None:
    """It would be found by chance, and an answer is evidence."""
    answer = Answer(Verdict.SUCCEEDED, output={"amount": "1000"})
    assert scrubbed(answer, ["1000"]) == answer


def called(reveal: Reveal | None, *, dispatches: int = 1) -> Item:
    """What comes of a call of "pay" that refers to a credential."""
    row = StepRow(
        UUID(int=1), "pay", UUID(int=2), "t", "pay", "pay", "money", "running", "renewal",
        datetime.now(UTC), dispatches=dispatches,
    )  # fmt: skip
    request = StepRequest("pay", "i", "pay", "key", params={"key": "credentials://x"})
    task = Task(row, Route(Kind.PYTHON, "pay"), request, references=(("key",),))
    handed: SimpleQueue[Item] = SimpleQueue()
    more = {} if reveal is None else {"reveal": reveal}
    crew = Crew(Settings(), lambda item, _: handed.put(item), None, **more)
    crew.start(1)
    crew.put(task, None, time.monotonic() + 10)
    try:
        return handed.get(timeout=10)
    finally:
        crew.dismiss()


def test_call_waits_for_a_vault_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given back unsent, and uses up no attempt."""
    calls: list[Any] = []
    monkeypatch.setitem(python.FUNCTIONS, "pay", calls.append)

    def away(_: Task) -> Revealed:
        raise Unavailable

    assert isinstance(called(away).came, Deferral)
    assert calls == []


@pytest.mark.parametrize(("dispatches", "verdict"), [(1, Verdict.REFUSED), (2, Verdict.UNKNOWN)])
def test_missing_credential_says_nothing_about_an_earlier_dispatch(
    dispatches: int, verdict: Verdict
) -> None:
    """A payment that may have been made is not called failed because its secret is gone."""

    def gone(_: Task) -> Revealed:
        raise CredentialUnusable("credential 'x' does not exist")

    came = called(gone, dispatches=dispatches).came
    assert isinstance(came, Answer)
    assert (came.verdict, (came.error or {})["code"]) == (verdict, "credential_unusable")


def test_call_without_a_vault_is_not_made() -> None:
    """A reference is never sent in place of a secret."""
    came = called(None).came
    assert isinstance(came, Answer)
    assert came.verdict is Verdict.REFUSED


def test_call_that_breaks_is_told_without_its_text() -> None:
    """The text of an exception may quote what was sent."""
    broken = Revealed({"key": object()}, (SECRET,))  # has no JSON form
    came = called(lambda _: broken).came
    assert isinstance(came, Answer)
    assert (came.error or {})["message"].endswith("InvalidArgument in a call with credentials")


def test_revealed_parameters_do_not_show() -> None:
    """Not even in a traceback that shows values."""
    assert SECRET not in repr(Revealed({"key": SECRET}, (SECRET,)))
