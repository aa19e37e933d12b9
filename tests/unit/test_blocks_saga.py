"""saga: actions in order; when one does not complete, undo the completed ones in reverse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from orch8.blocks.cancellation_scope import CancellationScope
from orch8.blocks.end import End
from orch8.blocks.parallel import Parallel
from orch8.blocks.race import Race
from orch8.blocks.saga import Saga
from orch8.blocks.try_catch import TryCatch
from orch8.engine.events import CancelRequested
from orch8.engine.outcome import CANCELLED, COMPLETED, Status
from orch8.errors import ExpressionError
from tests.support.definitions import chain, task
from tests.support.documents import loaded
from tests.support.shell import BOOM, failing, started

if TYPE_CHECKING:
    from orch8.engine.keys import NodeKey

NOOP = {"type": "step", "id": "noop", "handler": "noop"}
UNDO = {"charge": "refund", "reserve": "release", "ship": "recall"}


def _saga(*names: str, bare: tuple[str, ...] = ()) -> Saga:
    """Actions of these names; all but the ``bare`` ones have a compensation."""
    steps = tuple(
        (chain(f"a_{n}", n), None if n in bare else chain(f"u_{n}", UNDO[n])) for n in names
    )
    return Saga(id="saga", steps=steps)


ALL = ("reserve", "charge", "ship")


def test_saga_runs_its_actions_in_order() -> None:
    """When all complete it completes, and undoes nothing."""
    shell = started(_saga(*ALL))
    assert shell.run() == COMPLETED
    assert shell.scheduled == ["reserve", "charge", "ship"]


def test_empty_saga_completes() -> None:
    """Nothing to do is done."""
    assert started(_saga()).snapshot.outcome == COMPLETED


def test_saga_undoes_the_completed_actions_in_reverse_and_fails() -> None:
    """The failed action itself is not compensated: it has no effect to undo."""
    shell = started(_saga(*ALL), "after", answers=failing("ship"))
    assert shell.run() == BOOM
    assert shell.scheduled == ["reserve", "charge", "ship", "refund", "release"]


def test_saga_passes_over_actions_without_a_compensation() -> None:
    """There is nothing to run for them."""
    shell = started(_saga(*ALL, bare=("charge",)), answers=failing("ship"))
    shell.run()
    assert shell.scheduled == ["reserve", "charge", "ship", "release"]


def test_failing_compensation_does_not_stop_the_rest() -> None:
    """Each is tried; the saga still fails as its action did."""
    shell = started(_saga(*ALL), answers=failing("ship", "refund"))
    assert shell.run() == BOOM
    assert shell.scheduled == ["reserve", "charge", "ship", "refund", "release"]


def test_skipped_action_counts_as_completed() -> None:
    """Its compensation runs when a later action fails."""
    steps = (
        (chain("a", task("reserve", when="false")), chain("u", "release")),
        (chain("b", "charge"), None),
    )
    shell = started(Saga(id="saga", steps=steps), answers=failing("charge"))
    shell.run()
    assert shell.scheduled == ["charge", "release"]


def test_compensation_reads_what_failed() -> None:
    """``_error`` is the failure of the action, and there is none while all goes well."""
    seen: dict[str, Any] = {}

    def look(at: NodeKey, error: Any) -> bool:
        seen[at.block_id] = error
        return True

    steps = (
        (chain("a", task("reserve", when="look")), chain("u", task("release", when="look"))),
        (chain("b", task("charge", when="look")), None),
    )
    named = Saga(id="saga", steps=steps, names=("first", "second"))
    started(named, answers=failing("charge"), look=look).run()
    error = {"message": "boom", "failed_step": "second", "source": "saga", "block_id": "saga"}
    assert seen == {"reserve": None, "charge": None, "release": error}


def test_saga_can_be_caught() -> None:
    """It fails like any other block."""
    guard = TryCatch(id="guard", try_=chain("t", _saga(*ALL)), catch=chain("c", "inform"))
    shell = started(guard, answers=failing("charge"))
    assert shell.run() == COMPLETED
    assert shell.scheduled == ["reserve", "charge", "release", "inform"]


def test_cancelled_saga_undoes_what_completed() -> None:
    """An action that was not called is not compensated."""
    shell = started(_saga(*ALL))
    shell.answer("reserve")
    shell.feed(CancelRequested())
    assert shell.run() == CANCELLED
    assert shell.scheduled == ["reserve", "charge", "release"]


def test_saga_learns_that_the_card_was_charged_after_all_and_refunds_it() -> None:
    """A call in flight is awaited under a cancel; having completed, it is undone."""
    shell = started(_saga(*ALL))
    shell.answer("reserve")
    shell.call("charge")
    shell.feed(CancelRequested())
    assert shell.snapshot.outcome is None
    shell.answer("charge")
    assert shell.run() == CANCELLED
    assert shell.scheduled == ["reserve", "charge", "refund", "release"]


def test_saga_whose_action_fails_while_it_is_cancelled_fails() -> None:
    """It undoes the actions before that one."""
    shell = started(_saga(*ALL))
    shell.answer("reserve")
    shell.call("charge")
    shell.feed(CancelRequested())
    shell.answer("charge", BOOM)
    assert shell.run() == BOOM
    assert shell.scheduled == ["reserve", "charge", "release"]


def test_cancel_does_not_reach_compensations() -> None:
    """What is being undone is undone to the end."""
    shell = started(_saga(*ALL), answers=failing("ship"))
    for name in ALL:
        shell.answer(name)
    assert shell.live("refund")
    shell.feed(CancelRequested())
    assert shell.run() == BOOM
    assert shell.scheduled[-2:] == ["refund", "release"]


def test_saga_in_an_instance_that_ends_elsewhere_undoes_nothing() -> None:
    """``end`` is a good end: what was done stands."""
    branches = (chain("x", _saga(*ALL)), chain("y", "decide", End(id="end", outcome="paid")))
    shell = started(Parallel(id="all", branches=branches))
    shell.answer("reserve")
    shell.call("charge")
    shell.answer("decide")
    shell.answer("charge")
    assert shell.snapshot.outcome == COMPLETED
    assert shell.scheduled == ["decide", "reserve", "charge"]


# -- retry ------------------------------------------------------------------------------------
def test_retried_saga_goes_forward_anew_when_all_is_undone() -> None:
    """What was undone is done again, in the new round."""
    shell = started(_saga(*ALL), answers=failing("ship", until=1))
    shell.run()
    assert shell.retry() == COMPLETED
    assert shell.scheduled[5:] == ["reserve~2", "charge~2", "ship~2"]


def test_retried_saga_first_repeats_the_compensations_that_failed() -> None:
    """It fails once more, and only the retry after that goes forward."""
    shell = started(_saga(*ALL), answers=failing("ship", "refund", until=1))
    shell.run()
    assert shell.retry() == BOOM
    assert shell.scheduled[5:] == ["refund~2"]
    assert shell.retry() == COMPLETED
    assert shell.scheduled[6:] == ["reserve~3", "charge~3", "ship~3"]


def test_retried_saga_repeats_all_compensations_that_failed_until_they_complete() -> None:
    """Several are repeated beside each other; the saga waits for all of them."""
    shell = started(_saga(*ALL), answers=failing("ship", "refund", "release", until=2))
    shell.run()
    assert shell.retry() == BOOM
    assert shell.scheduled[5:] == ["refund~2", "release~2"]
    assert shell.retry() == BOOM
    assert shell.scheduled[7:] == ["refund~3", "release~3"]
    assert shell.retry() == COMPLETED
    assert shell.scheduled[9:] == ["reserve~4", "charge~4", "ship~4"]


def test_retried_saga_does_not_repeat_an_action_that_cannot_be_undone() -> None:
    """A charge without a refund was made, and stands: making it again would charge twice."""
    shell = started(_saga(*ALL, bare=("charge",)), answers=failing("ship", until=2))
    shell.run()
    shell.retry()
    assert shell.retry() == COMPLETED
    assert [key for key in shell.scheduled if key.startswith("charge")] == ["charge"]
    assert shell.scheduled[4:] == ["reserve~2", "ship~2", "release~2", "reserve~3", "ship~3"]


def test_retried_saga_of_actions_that_cannot_be_undone_goes_on_where_it_failed() -> None:
    """It is a chain then."""
    shell = started(_saga(*ALL, bare=ALL), answers=failing("charge", until=1))
    shell.run()
    assert shell.retry() == COMPLETED
    assert shell.scheduled == ["reserve", "charge", "charge~2", "ship~2"]


def test_retried_saga_goes_on_inside_the_action_that_failed() -> None:
    """That action was not compensated: its completed blocks are not run again."""
    steps = (
        (chain("a", "reserve"), chain("u", "release")),
        (chain("b", "charge", "ship"), chain("v", "refund")),
    )
    shell = started(Saga(id="saga", steps=steps), answers=failing("ship", until=1))
    shell.run()
    assert shell.retry() == COMPLETED
    assert shell.scheduled == ["reserve", "charge", "ship", "release", "reserve~2", "ship~2"]


@pytest.mark.parametrize("bare", [(), ("charge",)])
def test_saga_that_was_stopped_fails_once_more_when_a_retry_repeats_its_compensations(
    bare: tuple[str, ...],
) -> None:
    """Nobody cancels it now, so it fails; the next retry goes forward."""
    branches = (chain("x", _saga(*ALL, bare=bare)), chain("y", "check"))
    shell = started(
        Parallel(id="all", branches=branches, fail="fast"),
        answers=failing("release", until=1),
    )
    shell.answer("reserve")
    shell.call("charge")
    shell.answer("check", BOOM)
    shell.answer("charge")
    assert shell.run() == BOOM
    assert shell.outcome_of("saga") == CANCELLED
    assert shell.retry().status is Status.FAILED
    assert shell.outcome_of("saga~2").error == {"message": "undone after it was cancelled"}
    assert shell.retry() == COMPLETED
    charges = [key for key in shell.scheduled if key.startswith("charge")]
    assert charges == (["charge"] if bare else ["charge", "charge~3"])


def test_action_that_completed_under_a_cancel_and_cannot_be_undone_stands() -> None:
    """With no compensation at all there is still a note that it was done."""
    saga = Saga(id="saga", steps=((chain("a", "charge"), None), (chain("b", "ship"), None)))
    shell = started(
        Parallel(id="all", branches=(chain("x", saga), chain("y", "check")), fail="fast")
    )
    shell.call("charge")
    shell.answer("check", BOOM)
    shell.answer("charge")
    assert shell.outcome_of("saga") == CANCELLED
    assert shell.retry() == COMPLETED
    assert shell.scheduled == ["check", "charge", "check~2", "ship~2"]


def test_saga_that_was_stopped_before_it_started_starts_anew() -> None:
    """There is nothing to undo, and nothing to go back into."""
    race = Race(id="race", branches=(chain("r", _saga(*ALL)),))
    branches = (chain("a", task("check", when="fine")), chain("b", race))
    shell = started(Parallel(id="all", branches=branches, fail="fast"), fine=_broken_at_first)
    assert shell.outcome_of("saga") == CANCELLED
    assert shell.retry() == COMPLETED
    assert shell.scheduled == ["check~2", "reserve~2", "charge~2", "ship~2"]


def test_compensation_is_shielded_as_a_whole() -> None:
    """A scope inside changes nothing about that."""
    undo = chain("u", CancellationScope(id="scope", body=chain("body", "release")), "report")
    saga = Saga(id="saga", steps=((chain("a", "reserve"), undo), (chain("b", "charge"), None)))
    shell = started(saga)
    shell.answer("reserve")
    shell.feed(CancelRequested())
    assert shell.run() == CANCELLED
    assert shell.scheduled == ["reserve", "charge", "release", "report"]


def _broken_at_first(at: NodeKey, _: object) -> bool:
    if at.round == 1:
        raise ExpressionError("broken")
    return True


def test_steps_of_a_saga_are_called_as_they_were_given() -> None:
    """Or as their action, the first of several, if they have no id."""
    steps = [
        {"id": "a/b", "action": {"type": "step", "id": "pay", "handler": "pay"}},
        {"action": [{"type": "step", "id": "x/y", "handler": "x"}, NOOP]},
        {"action": []},
    ]
    (saga,) = loaded({"type": "saga", "id": "saga", "steps": steps}).index.root.chains()
    assert isinstance(saga, Saga)
    assert saga.names == ("a/b", "x/y", "")


def test_parts_of_a_saga_are_numbered_in_pairs() -> None:
    """Also where there is no compensation."""
    saga = _saga("charge", "ship", bare=("charge",))
    assert [(number, part.id) for number, part in saga.numbered()] == [
        (0, "a_charge"), (2, "a_ship"), (3, "u_ship"),
    ]  # fmt: skip
