"""The limit holds at the provider, in every window, whoever sends: judged by its own clock."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench import strictness

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("stack")]

BACKLOG = 500


def test_limit_is_never_exceeded_and_nearly_used_up_by_four_workers(tmp_path: Path) -> None:
    """No window holds more than max, and 95 % of max / (window + slack) are reached or more."""
    found = strictness.measure(tmp_path, BACKLOG)
    assert found.calls == BACKLOG
    assert found.peak <= strictness.MAX
    assert found.utilisation >= 0.95
