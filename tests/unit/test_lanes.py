"""Lanes: reserved shares are lent and come back, who waits rises, and nobody is forgotten."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from orch8.runtime.lanes import AGES, LANES, Asking, Slots, allot, owed, rank, reserve

WIDTH = 100


def asking(lane: str, *waiting: int, busy: int = 0) -> Asking:
    return Asking(lane, [*waiting, *[0] * (AGES - len(waiting))], busy)


def test_lane_alone_gets_every_slot() -> None:
    """What others do not use is lent."""
    assert allot(WIDTH, WIDTH, [asking("backfill", 500)]) == {"backfill": WIDTH}


def test_shares_are_kept_when_every_lane_asks() -> None:
    """Each lane has its reserve, and what is nobody's goes to customers."""
    everybody = [asking(lane, 500) for lane in LANES]
    assert allot(WIDTH, WIDTH, everybody) == {
        "interactive": 20 + 25, "renewal": 40, "bulk": 10, "backfill": 5,
    }  # fmt: skip


def test_reserve_that_was_lent_comes_back_first() -> None:
    """When few slots are free, those go first who lack their reserve, the highest lane first."""
    lent = [asking("interactive", 30), asking("renewal", 500, busy=90), asking("bulk", 50)]
    assert allot(10, WIDTH, lent) == {"interactive": 10}
    assert owed(WIDTH, lent) == {"interactive": 20, "bulk": 10}


def test_reserve_is_given_in_advance_where_that_is_possible() -> None:
    """An allowance in time, other than a slot, can be given though others have lent all of it."""
    lent = [asking("interactive", 30), asking("renewal", 500, busy=100)]
    assert allot(0, WIDTH, lent) == {}
    assert allot(0, WIDTH, lent, advance=True) == {"interactive": 20}


def test_step_that_has_waited_goes_before_younger_ones_of_the_lane_above() -> None:
    """After a minute a bulk step counts as a renewal, and has waited longer than the others."""
    old = [asking("renewal", 500, busy=40), asking("bulk", 0, 30, busy=10)]
    assert allot(10, WIDTH, old) == {"bulk": 10}
    young = [asking("renewal", 500, busy=40), asking("bulk", 30, busy=10)]
    assert allot(10, WIDTH, young) == {"renewal": 10}


def test_customers_go_before_whoever_has_risen() -> None:
    """However long renewals have waited, slots that are nobody's go to interactive steps first."""
    both = [asking("interactive", 5, busy=20), asking("renewal", 0, 0, 0, 500, busy=40)]
    assert allot(10, WIDTH, both) == {"interactive": 5, "renewal": 5}


def test_lane_rises_once_a_minute() -> None:
    """Backfill needs two minutes to count as a renewal and three to stand behind interactive."""
    assert rank("backfill", 1)[0] == rank("bulk")[0]
    assert rank("backfill", 2)[0] == rank("renewal")[0]
    assert rank("backfill", 3)[0] == rank("interactive")[0]
    assert rank("interactive") < rank("backfill", 3) < rank("renewal")
    assert rank("interactive", 1) < rank("interactive")


def test_narrow_process_keeps_one_slot_for_every_lane() -> None:
    """A share is at least one slot, unless there are hardly any."""
    assert [reserve(lane, 8) for lane in LANES] == [1, 3, 1, 1]
    assert [reserve(lane, 4) for lane in LANES] == [0, 1, 0, 0]


def test_lane_that_nobody_knows_is_served_last() -> None:
    """It has no share, and rises like any other."""
    assert allot(10, 10, [asking("attic", 50), asking("bulk", 4)]) == {"bulk": 4, "attic": 6}
    assert rank("attic", 3) < rank("bulk")


LANE_SETS = st.dictionaries(
    st.sampled_from(LANES),
    st.tuples(st.lists(st.integers(0, 60), min_size=AGES, max_size=AGES), st.integers(0, 30)),
)


@given(LANE_SETS, st.integers(0, 120), st.booleans())
def test_allotment_wastes_nothing_and_breaks_no_promise(
    lanes: Mapping[str, tuple[list[int], int]], free: int, advance: bool
) -> None:
    """Nobody gets more than it wants, no slot stays free while somebody waits, and none is given
    twice; who lacks its reserve goes before everybody else.
    """
    wants = [Asking(lane, waiting, busy) for lane, (waiting, busy) in lanes.items()]
    given_ = allot(free, WIDTH, wants, advance=advance)
    due = owed(WIDTH, wants)
    total = sum(each.total for each in wants)
    assert all(given_[each.lane] <= each.total for each in wants)
    if advance:
        assert all(given_[lane] >= slots for lane, slots in due.items())
        assert given_.total() == min(total, max(free, sum(due.values())))
    else:
        assert given_.total() == min(total, free)
        lacking = any(given_[lane] < slots for lane, slots in due.items())
        assert not lacking or all(given_[each.lane] <= due.get(each.lane, 0) for each in wants)


class World:
    """A process whose calls take up to four seconds, and lanes that never run dry but one."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.slots = Slots(WIDTH)
        self.ends: list[tuple[float, str]] = []
        self.waiting: dict[str, list[float]] = {"interactive": []}
        self.waits: list[float] = []
        self.busy: Counter[str] = Counter()
        self.now = 0.0

    def step(self) -> None:
        """The next call ends, and its slot is dealt."""
        self.now, lane = heapq.heappop(self.ends)
        self.busy[lane] -= 1
        self.slots.give_back(lane)
        self.deal()

    def deal(self) -> None:
        """All free slots are dealt."""
        wants = {lane: [500] for lane in LANES if lane != "interactive"}
        if self.waiting["interactive"]:
            wants["interactive"] = [len(self.waiting["interactive"])]
        for lane, count in self.slots.deal(WIDTH - len(self.ends), wants):
            for _ in range(count):
                if lane == "interactive":
                    self.waits.append(self.now - self.waiting[lane].pop(0))
                self.busy[lane] += 1
                self.slots.take(lane)
                heapq.heappush(self.ends, (self.now + self.chance.uniform(0.1, 4.0), lane))


def test_backlogs_of_all_lanes_do_not_delay_a_customer() -> None:
    """In a full process a customer's call begins when the next call ends: others give back what
    they have borrowed. Meanwhile no lane falls below its share.
    """
    world = World(seed=8)
    world.deal()
    assert world.busy == {"renewal": 85, "bulk": 10, "backfill": 5}
    for turn in range(3000):
        if turn % 3 == 0:
            world.waiting["interactive"].append(world.now)
        world.step()
        assert turn < 500 or all(
            world.busy[lane] >= reserve(lane, WIDTH) for lane in LANES if lane != "interactive"
        )
    assert len(world.waits) == 1000
    assert max(world.waits) < 0.2
    assert world.slots.owed == 0


def test_follow_ups_leave_free_what_others_are_owed() -> None:
    """What a lane lacks of its reserve, and could not be given, is known until the next look."""
    slots = Slots(WIDTH)
    for _ in range(98):
        slots.take("renewal")
    assert slots.deal(2, {"interactive": [30], "renewal": [500]}) == [("interactive", 2)]
    assert slots.owed == 18
    slots.take("interactive")
    slots.take("interactive")
    for _ in range(20):
        slots.give_back("renewal")
    assert slots.deal(20, {"interactive": [3], "renewal": [500]}) == [
        ("interactive", 3), ("renewal", 17),
    ]  # fmt: skip
    assert slots.owed == 0
