"""router: the first route whose condition holds. The choice is made once."""

from __future__ import annotations

from orch8.blocks.router import Router
from orch8.engine.outcome import COMPLETED
from tests.support.definitions import chain, word
from tests.support.shell import failing, started

ROUTES = ((word("large"), chain("a", "review")), (word("known"), chain("b", "pay")))


def test_router_takes_the_first_route_that_holds() -> None:
    """A later one that holds as well is not looked at."""
    shell = started(Router(id="router", routes=ROUTES), large=True, known=_never)
    assert shell.scheduled == ["review"]


def test_router_takes_a_later_route_when_the_first_does_not_hold() -> None:
    """Routes are tried in order."""
    assert started(Router(id="router", routes=ROUTES), large=False, known=True).scheduled == ["pay"]


def test_router_takes_the_default_when_no_route_holds() -> None:
    """The default has no condition."""
    router = Router(id="router", routes=ROUTES, default=chain("d", "hold"))
    assert started(router, large=False, known=False).scheduled == ["hold"]


def test_router_without_a_way_completes() -> None:
    """No route and no default is nothing to do."""
    shell = started(Router(id="router", routes=ROUTES), "after", large=False, known=False)
    assert shell.scheduled == ["after"]
    assert started(Router(id="router")).snapshot.outcome == COMPLETED


def _never(*_: object) -> bool:
    raise AssertionError("nobody should ask")


def test_router_retried_keeps_its_route() -> None:
    """Though its condition does not hold any more."""
    shell = started(
        Router(id="router", routes=ROUTES),
        answers=failing("review", until=1),
        large=lambda at, _: at.round == 1,
        known=True,
    )
    shell.run()
    assert shell.retry() == COMPLETED
    assert shell.scheduled == ["review", "review~2"]
