"""Turns: tenants share a lane by their weights, whatever anybody's backlog."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orch8.config import Settings
from orch8.errors import ConfigurationError
from orch8.runtime.turns import Rota, weights


def test_small_tenant_is_served_in_the_first_round_beside_a_giant() -> None:
    """Ten steps beside a hundred thousand: all ten are among the next thirty-two."""
    assert Rota().deal(32, {"giant": 100_000, "small": 10}) == {"giant": 22, "small": 10}


def test_tenants_with_backlogs_share_evenly() -> None:
    """Whatever the size of a claim, nobody is more than one step ahead."""
    rota, had = Rota(), Counter[str]()
    for size in (1, 7, 2, 32, 5, 1, 1, 64):
        had.update(rota.deal(size, {"a": 10**6, "b": 10**5, "c": 10**4}))
        assert max(had.values()) - min(had[t] for t in "abc") <= 1


def test_weights_are_kept() -> None:
    """Three times the weight is three times the steps, a tenth is a tenth."""
    rota, had = Rota({"a": 3.0, "b": 0.1}), Counter[str]()
    for _ in range(41):
        had.update(rota.deal(10, {"a": 1000, "b": 1000, "c": 1000}))
    assert had == {"a": 300, "b": 10, "c": 100}


def test_more_tenants_than_slots_come_one_after_the_other() -> None:
    """A hundred tenants, claims of eight: after thirteen claims each was served at least once."""
    rota, had = Rota(), Counter[str]()
    for _ in range(13):
        had.update(rota.deal(8, {f"t{n:02}": 50 for n in range(100)}))
    assert len(had) == 100
    assert set(had.values()) == {1, 2}


def test_rest_earns_nothing() -> None:
    """Who was away while another worked alone is next and shares from now on: no catching up."""
    rota = Rota()
    for _ in range(100):
        rota.deal(32, {"busy": 10**6})
    assert rota.deal(33, {"busy": 10**6, "back": 10**6}) == {"busy": 16, "back": 17}
    assert rota.deal(32, {"busy": 10**6, "back": 10**6}) == {"busy": 16, "back": 16}


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 60)),
    st.lists(st.integers(0, 40), max_size=6),
    st.dictionaries(st.sampled_from("abcdef"), st.floats(0.01, 100)),
)
def test_dealing_wastes_no_slot(
    due: dict[str, int], sizes: list[int], heavy: dict[str, float]
) -> None:
    """Slots stay empty only when nothing is due, and nobody gets more than it has."""
    rota, left = Rota(heavy), Counter(due)
    for size in sizes:
        dealt = rota.deal(size, left)
        assert sum(dealt.values()) == min(size, left.total())
        left.subtract(dealt)
        assert min(left.values(), default=0) >= 0


@given(
    st.lists(st.floats(0.1, 10), min_size=2, max_size=6), st.lists(st.integers(1, 50), min_size=1)
)
def test_backlogged_tenants_never_drift_apart(heavy: list[float], sizes: list[int]) -> None:
    """Of tenants that always have work, the times served by weight differ by at most one turn."""
    own = {str(n): weight for n, weight in enumerate(heavy)}
    rota, had = Rota(own), Counter[str]()
    for size in sizes:
        had.update(rota.deal(size, dict.fromkeys(own, 10**6)))
    clocks = {tenant: had[tenant] / weight for tenant, weight in own.items()}
    slowest = 1 / min(heavy)
    assert max(clocks.values()) - min(clocks.values()) <= slowest + 1e-6


def test_weights_are_read_from_the_setting() -> None:
    """Pairs separated by commas; a tenant's name may hold an equals sign."""
    assert weights(" acme=3, team=blue=0.5,") == {"acme": 3.0, "team=blue": 0.5}
    assert weights(Settings.from_env({}).tenant_weights) == {}


@pytest.mark.parametrize("text", ["acme", "acme=", "acme=much", "=3", "a=0", "a=1000", "a=nan"])
def test_weight_that_makes_no_sense_stops_the_process(text: str) -> None:
    """The error names the setting and shows what it takes."""
    with pytest.raises(ConfigurationError, match="ORCH8_TENANT_WEIGHTS must be tenant=weight"):
        weights(text)
