"""Scripted handlers: what a test may say of a call, and what it is told if it says too little."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orch8.engine.outcome import Verdict
from orch8.handlers import python
from orch8.testing import (
    Answer,
    Declined,
    Refused,
    SimulationError,
    Simulator,
    StepRequest,
    TryAgain,
    crash,
    http,
    takes,
    time_out,
)
from tests.support.documents import CHARGE, seed

START = datetime(2026, 1, 1, 9, tzinfo=UTC)
ONE = seed(CHARGE)


def ran(handlers: dict[str, Any], definition: Any = ONE) -> Simulator:
    """A simulation of one instance that ran as far as it goes."""
    sim = Simulator(definition, handlers)
    sim.start({"data": {"n": 1}})
    sim.run()
    return sim


def test_function_sees_the_request() -> None:
    """A function gets what the wire would bring, and its return value is the output."""
    seen: list[StepRequest] = []

    def charge(request: StepRequest) -> Any:
        seen.append(request)
        return {"n": request.params["n"] + 1}

    sim = ran({"charge": charge}, seed({**CHARGE, "params": {"n": "{{data.n}}"}}))
    assert sim.instances[0].outputs["charge"] == {"n": 2}
    assert (seen[0].handler, seen[0].step, seen[0].context) == (
        "charge",
        "charge",
        {"data": {"n": 1}},
    )


def test_function_cannot_reach_into_the_simulation() -> None:
    """What a handler does to its request changes nothing."""

    def charge(request: StepRequest) -> Any:
        request.context["data"]["n"] = request.params["n"] = 9
        return {}

    sim = ran({"charge": charge}, seed({**CHARGE, "params": {"n": "{{data.n}}"}}))
    assert sim.calls[0].params == {"n": 1}
    assert sim.instances[0].context == {"data": {"n": 1}}


def test_failed_assertion_in_a_handler_fails_the_test() -> None:
    """An AssertionError is the test's own; any other exception is an answer in doubt."""

    def charge(request: StepRequest) -> Any:
        raise AssertionError("not now")

    with pytest.raises(AssertionError, match="not now"):
        ran({"charge": charge})


def test_exception_of_a_handler_leaves_a_doubt() -> None:
    """As in production: whoever raises may have charged before."""
    sim = ran({"charge": [ValueError("oops"), {"ok": 1}]})
    assert [call.dispatch for call in sim.calls] == [1, 2]
    assert len({call.key for call in sim.calls}) == 1


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        ({"any": "json"}, "completed"), ("text", "completed"), (None, "completed"),
        ([[1, 2]], "completed"), ({"outcome": "declined"}, "completed"),
        (Declined, "completed"), (Declined({"code": "x"}), "completed"),
        (Answer(Verdict.REQUIRES_ACTION, {"url": "u"}), "completed"),
        (http(200, {"ok": 1}), "completed"), (http(402, {"code": "declined"}), "completed"),
        (Refused, "failed"), (Refused("no"), "failed"), (http(422, {"error": "bad"}), "failed"),
        (Answer(Verdict.FAILED), "failed"),
    ],
)  # fmt: skip
def test_answer_is_what_production_would_make_of_it(answer: Any, state: str) -> None:
    """Each kind of scripted answer comes to its verdict."""
    assert ran({"charge": answer}).instances[0].state == state


def test_takes_is_cut_off_by_the_time_out() -> None:
    """An answer that comes later than the step's time-out does not come at all."""
    sim = ran({"charge": [takes("20s", {"n": 1}), {"n": 2}]}, seed({**CHARGE, "timeout": "10s"}))
    assert [(call.at - START).total_seconds() for call in sim.calls] == [0, 11]
    assert sim.instances[0].outputs["charge"] == {"n": 2}
    sim = ran({"charge": takes(timedelta(seconds=9), {"n": 1})}, seed({**CHARGE, "timeout": "10s"}))
    assert sim.now == START + timedelta(seconds=9)


def test_unknown_handler_lists_the_known() -> None:
    """A call that no script answers is told with what is scripted."""
    with pytest.raises(
        SimulationError, match=r"'charge', which has no script\. Scripted: chrage; "
    ):
        ran({"chrage": {}})


def test_script_that_ends_early_says_where() -> None:
    """One call more than answers names the call."""
    with pytest.raises(
        SimulationError, match=r"no answer left for call 2, at .*09:00:31.*dispatch 2"
    ):
        ran({"charge": [time_out()]})


def test_script_that_is_not_used_up_is_told() -> None:
    """Answers that nobody asked for are an error at the end of a with block."""
    handlers = {"charge": [{}, {}], "other": [{}]}

    def story() -> None:
        with Simulator(ONE, handlers) as sim:
            sim.start()
            sim.run()

    with pytest.raises(SimulationError, match=r"charge: 1, other: 1\. Calls: charge \(charge\)"):
        story()
    with pytest.raises(KeyError, match="first"), Simulator(ONE, handlers):
        raise KeyError("first")


def test_missing_output_names_the_completed() -> None:
    """A typo in a test is told with what there is."""
    with pytest.raises(KeyError, match=r"no step 'chrge' has completed, perhaps 'charge'"):
        ran({"charge": {}}).instances[0].outputs["chrge"]


def test_http_request_is_never_sent() -> None:
    """The built-in that calls out is scripted like any handler."""
    step = {"type": "step", "handler": "http_request", "params": {"url": "https://example.com/x"}}
    sim = ran({"http_request": [http(200, {"rate": 1.1})]}, seed(step))
    assert sim.calls[0].params == {"url": "https://example.com/x"}
    with pytest.raises(SimulationError, match="http_request"):
        ran({}, seed(step))


@pytest.fixture
def registered() -> Iterator[python.Function]:
    """A function that is a handler of this process."""

    @python.handler("charge")
    def charge(request: StepRequest) -> Any:
        raise TryAgain("busy")

    yield charge
    del python.FUNCTIONS["charge"]


def test_registered_function_has_the_default_of_its_kind(registered: python.Function) -> None:
    """When the step does not say, a pushed call is tried five times, a function here once."""
    assert len(ran({"charge": registered}).calls) == 1
    del python.FUNCTIONS["charge"]
    assert len(ran({"charge": registered}).calls) == 5
    python.FUNCTIONS["charge"] = registered


CELERY = {"type": "step", "handler": "celery:billing.charge", "id": "charge", "timeout": "1m"}


def test_celery_task_has_its_own_word() -> None:
    """A task is handed over, waits, and ends with its worker's word."""
    sim = Simulator(seed(CELERY), {"celery:billing.charge": takes("40s", {"ok": 1})})
    instance = sim.start()
    sim.run_for("1s")
    assert (instance.state, instance.steps[0].waits_for) == ("waiting", "pending")
    sim.run()
    assert (instance.outputs["charge"], sim.now) == ({"ok": 1}, START + timedelta(seconds=40))


def test_silent_celery_task_is_sent_again_with_its_key() -> None:
    """A task whose worker died says nothing: after its time it is sent again."""
    sim = Simulator(seed(CELERY), {"celery:billing.charge": [crash(), {"ok": 1}]})
    instance = sim.start()
    sim.run()
    assert [(call.at - START).total_seconds() for call in sim.calls] == [0, 61]
    assert len({call.key for call in sim.calls}) == 1
    assert instance.state == "completed"


def test_definition_may_be_a_file(tmp_path: Path) -> None:
    """A path is read; what cannot be read is told."""
    path = tmp_path / "d.json"
    with pytest.raises(SimulationError, match=r"d\.json cannot be read"):
        Simulator(path)
    path.write_text("{nope")
    with pytest.raises(SimulationError, match=r"d\.json is not JSON"):
        Simulator(str(path))
