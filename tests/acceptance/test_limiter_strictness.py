"""Limits hold at the provider, in every window, whoever sends: judged by its own clock.

How much of a limit is used is measured by ``make bench ARGS=limiter``; here the machine is busy
with other tests, so that a call may take longer from its token to the provider than it usually
does: the slack allows for that.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench import several, strictness

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("stack")]

BACKLOG, MAX = 500, 50


def test_limit_is_never_exceeded_by_eight_workers(tmp_path: Path) -> None:
    """No window holds more than max calls, and nobody is sent back more than twice."""
    found = strictness.measure(tmp_path, BACKLOG, MAX, several.QUICK.slack)
    assert found.calls == BACKLOG
    assert found.peak <= MAX
    assert found.deferrals <= 2


def test_several_limits_hold_at_once_and_a_killed_worker_leaks_none(tmp_path: Path) -> None:
    """Two keys of which one call needs both, calls that cost more, and calls at a time. A worker is
    killed with calls in flight: nobody else has their places until their leases have run out, and
    then they are all in use again.
    """
    found = several.measure(tmp_path, several.QUICK)
    for key in found.keys:
        assert key.peak <= key.maximum, key
    for kind, count in several.QUICK.counts.items():
        assert len(found.visits[kind]) >= count, kind
    places = found.places
    assert places.most == places.at_once
    assert places.held >= 1
    assert places.most_without <= places.at_once - places.held
    assert places.most_after == places.at_once
