"""The limiter against an exact model: any interleaving, any clock, never more than max."""

from __future__ import annotations

import math
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
import redis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from orch8.limits import Ended, Grant, Limit, Limiter, Refusal
from orch8.limits.bearings import DRIFT, ON_THE_ROAD
from tests.support.valkey import Valkey

if TYPE_CHECKING:
    from collections.abc import Iterator

TENANT = "acme"
MICROSECONDS = 1_000_000
START = 1_800_000_000 * MICROSECONDS
WINDOWS = {"a": 50_000, "b": 120_000, "c": 1_000_000}  # effective, in microseconds
BURST = 150  # of the bucket limit of 1500
FAST = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

Wanted = tuple[tuple[str, int, int, bool], ...]  # (key, max, weight, whether calls come evenly)


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with Valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@dataclass
class World:
    """Two limiters on one server whose clock the test moves, and the model of what they do.

    Time passes alike for everybody; the server's clock is put back and ahead besides.
    """

    url: str
    passed: int = 0  # what has really passed
    put: int = 0  # by how much the server's clock was put ahead or back
    seen: int = 0  # the highest time that the limiter has had
    offset: int = 0  # of its time to the server's clock
    skipped: int = 0
    heard: list[tuple[int, float] | None] = field(default_factory=lambda: [None, None])
    born: int | None = None
    log: dict[str, list[int]] = field(default_factory=lambda: {key: [] for key in WINDOWS})
    kept: dict[str, list[int]] = field(default_factory=lambda: {key: [] for key in WINDOWS})
    held: list[tuple[Grant, Wanted, tuple[int, int]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.redis = redis.Redis.from_url(self.url)
        self.redis.flushall()
        self.clients = [
            Limiter(self.url, clock=lambda: self.time / MICROSECONDS, own=self.own) for _ in "ab"
        ]

    @property
    def time(self) -> int:
        """What the server's clock shows."""
        return START + self.passed + self.put

    def own(self) -> float:
        """What the processes' own clocks show."""
        return self.passed / MICROSECONDS

    def move(self, span: int) -> None:
        """Time has passed; of less than nothing, the server's clock was put back."""
        if span < 0:
            self.put += span
        else:
            self.passed += span

    def step(self, span: int) -> None:
        """The server's clock was put ahead."""
        self.put += span

    def close(self) -> None:
        """All connections are closed."""
        self.redis.close()
        for client in self.clients:
            client.close()

    def acquire(self, client: int, requests: list[Wanted]) -> list[Grant]:
        """The limiter's answers, after comparing them with the model's."""
        grants = self.clients[client].acquire(TENANT, [self._limits(w) for w in requests])
        self._contact(client, asks=True)
        assert [grant.granted for grant in grants] == self._model(requests)
        for grant, wanted in zip(grants, requests, strict=True):
            if grant.granted:
                self.held.append((grant, wanted, (self.seen, self.passed)))
                for key, _, weight, _ in wanted:
                    self.kept[key] += [self.passed] * weight
        return grants

    def release(self, client: int, index: int) -> None:
        """One held grant goes back, twice: the second time must change nothing."""
        if not self.held:
            return
        grant, wanted, (granted_at, sent_at) = self.held.pop(index % len(self.held))
        self._contact(client)
        self._contact(1 - client)
        self.clients[client].release(TENANT, [grant])
        assert self.clients[1 - client].release(TENANT, [grant]) == 0
        for key, _, weight, _ in wanted:
            for _ in range(weight):
                self.kept[key].remove(sent_at)
                if granted_at in self.log[key]:
                    self.log[key].remove(granted_at)

    def flush(self) -> None:
        """The server loses everything; what was granted before was sent."""
        self.redis.flushall()
        self.born, self.seen, self.offset, self.skipped = None, 0, 0, 0
        self.log = {key: [] for key in WINDOWS}
        self.held = []

    def _limits(self, wanted: Wanted) -> list[Limit]:
        return [
            Limit(key, most, WINDOWS[key] / MICROSECONDS, slack=0, weight=weight, even=even)
            for key, most, weight, even in wanted
        ]

    def _contact(self, client: int, *, asks: bool = False) -> None:
        """What time the server takes it to be when a client speaks to it."""
        least, most = 0, math.inf
        known = self.heard[client]
        if known is not None:
            at, own = known
            least = at + int((self.own() - own) * (1 - DRIFT) * MICROSECONDS)
            most = at + int(((self.own() - own) * (1 + DRIFT) + ON_THE_ROAD) * MICROSECONDS)
        ahead, least = self.time + self.offset, max(self.seen, least)
        self.seen = least if ahead > most else max(ahead, least)
        if self.born is None:  # by the first of two questions, if there is a doubt
            self.born, self.skipped = self.seen, 0
        if ahead > most and asks:
            self.skipped += ahead - least
        if asks or ahead <= most:
            self.offset = self.seen - self.time
        if self.skipped > 60 * MICROSECONDS:
            self.born, self.skipped = self.seen, 0
        if asks:
            self.heard[client] = (self.seen, self.own())

    def _model(self, requests: list[Wanted]) -> list[bool]:
        assert self.born is not None
        closed: set[str] = set()
        answers = []
        for wanted in requests:
            lacking = set()
            for key, most, weight, even in wanted:
                since = self.seen - WINDOWS[key]
                used = sum(1 for at in self.log[key] if at > since)
                lately = sum(1 for at in self.log[key] if at > self.seen - WINDOWS[key] // 8)
                burst = even and lately >= math.ceil(1.25 * most / 8)
                if key in closed or since < self.born or used + weight > most or burst:
                    lacking.add(key)
            if not any(weight > most for _, most, weight, _ in wanted):
                closed |= lacking
            answers.append(not lacking)
            if not lacking:
                for key, _, weight, _ in wanted:
                    self.log[key] += [self.seen] * weight
        return answers


def busiest(times: list[int], window: int) -> int:
    """The most units in any [t, t + window)."""
    ordered = sorted(times)
    first = most = 0
    for last, at in enumerate(ordered):
        while at - ordered[first] >= window:
            first += 1
        most = max(most, last - first + 1)
    return most


def wanted(limits: st.SearchStrategy[int]) -> st.SearchStrategy[Wanted]:
    one = st.tuples(st.sampled_from(sorted(WINDOWS)), limits, st.integers(1, 3), st.booleans())
    return st.lists(one, min_size=1, max_size=3, unique_by=lambda item: item[0]).map(tuple)


def operations(limits: st.SearchStrategy[int]) -> st.SearchStrategy[list[tuple[object, ...]]]:
    client = st.integers(0, 1)
    batch = st.lists(wanted(limits), min_size=1, max_size=8)
    acquire = st.tuples(st.just("acquire"), client, batch)
    return st.lists(
        st.one_of(
            acquire,
            acquire,
            st.tuples(st.just("move"), st.integers(0, 130_000)),
            st.tuples(st.just("move"), st.sampled_from([1, 50_000, 119_999, 1_000_000])),
            st.tuples(st.just("move"), st.integers(-3_000_000, -1)),
            st.tuples(st.just("move"), st.just(-3_600_000_000)),
            st.tuples(st.just("step"), st.sampled_from([2_000_000, 45_000_000, 3_600_000_000])),
            st.tuples(st.just("release"), client, st.integers(0, 50)),
            st.tuples(st.just("forget scripts")),
            st.tuples(st.just("flush")),
        ),
        max_size=30,
    )


def perform(world: World, steps: list[tuple[object, ...]]) -> None:
    for name, *args in steps:
        if name == "forget scripts":
            world.redis.script_flush()
        else:
            getattr(world, name)(*args)  # type: ignore[call-overload]


@FAST
@given(steps=operations(st.just(4)))
def test_limiter_agrees_with_the_model(valkey: Valkey, steps: list[tuple[object, ...]]) -> None:
    """Every answer is the exact model's, and no window of the time that really passed holds more
    than max, whatever happens to the server's data and to its clock.
    """
    with closing(World(valkey.url)) as world:
        world.acquire(0, [(("a", 4, 1, False),)])
        world.acquire(1, [(("a", 4, 1, False),)])
        world.move(2_000_000)
        perform(world, steps)
        for key, times in world.kept.items():
            assert busiest(times, WINDOWS[key]) <= 4


@FAST
@given(steps=operations(st.integers(0, 6)))
def test_changed_limits_agree_with_the_model(
    valkey: Valkey, steps: list[tuple[object, ...]]
) -> None:
    """A limit that differs from call to call is applied exactly as given, from that call on."""
    with closing(World(valkey.url)) as world:
        world.acquire(0, [(("a", 4, 1, False),)])
        world.move(2_000_000)
        perform(world, steps)


A = ("a", 3, 1, False)
STEPPED = ("step", 45_000_000)


@FAST
@given(steps=operations(st.just(3)), ask=wanted(st.just(3)))
@example(  # lost, and put ahead twice
    [("flush",), ("move", 1), STEPPED, ("acquire", 0, [(A,)]), ("move", 1), STEPPED], (A,)
)
def test_retry_after_is_the_earliest_time(
    valkey: Valkey, steps: list[tuple[object, ...]], ask: Wanted
) -> None:
    """A refused request is refused until retry_after has passed, and granted then."""
    with closing(World(valkey.url)) as world:
        world.acquire(0, [ask])
        world.acquire(1, [ask])
        perform(world, steps)
        world.acquire(1, [ask])  # whoever has heard last knows the time best
        grant = world.acquire(0, [ask])[0]
        if grant.granted:
            return
        assert grant.refusal in {Refusal.FULL, Refusal.SPENT}
        world.move(round(grant.retry_after * MICROSECONDS) - 1)
        assert not world.acquire(1, [ask])[0].granted
        world.move(1)
        assert world.acquire(0, [ask])[0].granted


@FAST
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from([0, 0, 1, 700, 20_000, 100_000, 400_000, -50_000]),
            st.lists(st.sampled_from([1, 7, 100]), min_size=1, max_size=12),
            st.lists(st.integers(0, 11), max_size=4),
        ),
        max_size=25,
    )
)
def test_bucket_never_exceeds_max(
    valkey: Valkey, steps: list[tuple[int, list[int], list[int]]]
) -> None:
    """A limit of 1500 per second holds in every window, released tokens not counted."""
    with closing(World(valkey.url)) as world:
        limiter = world.clients[0]
        limiter.restore(TENANT, Limit("k", 1500, 1.0, slack=0), [])
        sent: list[int] = []
        for pause, weights, unsent in steps:
            world.move(pause)
            requests = [[Limit("k", 1500, 1.0, slack=0, weight=weight)] for weight in weights]
            grants = limiter.acquire(TENANT, requests)
            back = [grant for i, grant in enumerate(grants) if i in unsent]
            assert limiter.release(TENANT, back) == sum(len(grant.tokens) for grant in back)
            sent += [world.passed] * sum(len(grant.tokens) for grant in grants if grant not in back)
        assert busiest(sent, MICROSECONDS) <= 1500


@pytest.mark.parametrize("limit", [100, 1500])
def test_waiting_for_retry_after_uses_the_limit(valkey: Valkey, limit: int) -> None:
    """Who waits as told gets max (a log) or nine tenths of it (a bucket) in every window."""
    with closing(World(valkey.url)) as world:
        one = Limit("k", limit, 1.0, slack=0)
        world.clients[0].restore(TENANT, one, [])
        sent: list[int] = []
        while world.time < START + 2 * MICROSECONDS:
            grants = world.clients[0].acquire(TENANT, [[one]] * 50)
            sent += [world.time] * sum(grant.granted for grant in grants)
            waits = [grant.retry_after for grant in grants if not grant.granted]
            world.move(max(1, round(min(waits, default=0) * MICROSECONDS)))
        assert busiest(sent, MICROSECONDS) <= limit
        assert len(sent) >= 2 * limit * (1.0 if limit <= 1000 else 0.9)
        if limit > 1000:
            assert sent.count(START) <= BURST


# -- calls in flight ------------------------------------------------------------------------------
ROOMS = {"p": 2, "q": 3}
LEASES = (40_000, 300_000)  # microseconds
Call = tuple[tuple[str, ...], int, bool]  # keys, lease, whether the first key has a window, too
WINDOW_MAX = 5


@dataclass
class Hall:
    """A limiter of calls in flight beside a window, and the model of what it does."""

    url: str
    time: int = START
    calls: int = 0
    log: list[int] = field(default_factory=list)
    held: dict[str, dict[str, int]] = field(default_factory=lambda: {key: {} for key in ROOMS})
    made: list[tuple[Call, Grant, str]] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)  # keys whose history the server does not know

    def __post_init__(self) -> None:
        self.redis = redis.Redis.from_url(self.url)
        self.redis.flushall()
        self.limiter = Limiter(self.url, clock=lambda: self.time / MICROSECONDS)
        self.flush()
        self.time -= 10 * MICROSECONDS
        self.restore()
        self.time = START

    def close(self) -> None:
        """All connections are closed."""
        self.redis.close()
        self.limiter.close()

    def acquire(self, calls: list[Call]) -> None:
        """The limiter's answers are the model's, and so is what is in flight after them."""
        names = [f"c{self.calls + n}" for n in range(len(calls))]
        self.calls += len(calls)
        requests = [self._limits(call, name) for call, name in zip(calls, names, strict=True)]
        grants = self.limiter.acquire(TENANT, requests)
        assert [grant.granted for grant in grants] == self._model(calls, names)
        self.made += [made for made in zip(calls, grants, names, strict=True) if made[1].granted]
        for key in ROOMS:
            usage = self.limiter.peek(TENANT, self._limits(((key,), LEASES[0], False), "")[0])
            assert usage.in_flight == len(self._now(key))

    def end(self, index: int, sent: bool) -> None:
        """One call has ended, or was not made; saying so twice changes nothing."""
        if not self.made:
            return
        self._contact()
        call, grant, name = self.made.pop(index % len(self.made))
        for _ in range(2):
            if sent:
                ended = Ended(self._limits(call, name), grant, 0.1, succeeded=True)
                self.limiter.ended([(TENANT, ended)])
            else:
                self.limiter.release(TENANT, [grant])
        for key in call[0]:
            self.held[key].pop(name, None)
        if not sent and call[2] and any(key == "p" for key, _ in grant.tokens):
            granted_at = [at for at in self.log if at == self._granted_at.get(name)]
            if granted_at:
                self.log.remove(granted_at[0])

    def flush(self) -> None:
        """The server loses everything; the calls go on."""
        self.redis.flushall()
        self.lost = set(ROOMS)
        self.held = {key: {} for key in ROOMS}
        self.born: int | None = None
        self.log = []
        self._granted_at: dict[str, int] = {}

    def restore(self) -> None:
        """The server is told what is in flight: all that was not heard to have ended."""
        self._contact()
        for key, room in ROOMS.items():
            holders = [name for call, _, name in self.made if key in call[0]]
            limit = Limit(key, None, max_in_flight=room, lease=LEASES[1] / MICROSECONDS)
            known = self.limiter.restore(TENANT, limit, [], holders)
            assert known == (key in self.lost)
            if known:
                expires = self.time + LEASES[1]
                self.held[key] = dict.fromkeys(holders, expires)
        self.lost = set()

    def _limits(self, call: Call, name: str) -> list[Limit]:
        keys, lease, window = call
        return [
            Limit(
                key, WINDOW_MAX if window and key == "p" else None, 0.1, slack=0,
                max_in_flight=ROOMS[key], lease=lease / MICROSECONDS, holder=name,
            )
            for key in keys
        ]  # fmt: skip

    def _contact(self) -> None:
        if self.born is None:
            self.born = self.time

    def _now(self, key: str) -> dict[str, int]:
        self.held[key] = {n: ends for n, ends in self.held[key].items() if ends > self.time}
        return self.held[key]

    def _model(self, calls: list[Call], names: list[str]) -> list[bool]:
        self._contact()
        assert self.born is not None
        closed: set[str] = set()
        answers = []
        for (keys, lease, window), name in zip(calls, names, strict=True):
            lacking = set()
            for key in keys:
                full = key in self.lost or len(self._now(key)) >= ROOMS[key]
                if window and key == "p":
                    since = self.time - 100_000
                    spent = since < self.born
                    full = full or spent or sum(at > since for at in self.log) >= WINDOW_MAX
                if key in closed or full:
                    lacking.add(key)
            closed |= lacking
            answers.append(not lacking)
            if not lacking:
                for key in keys:
                    self.held[key][name] = self.time + lease
                if window and "p" in keys:
                    self.log.append(self.time)
                    self._granted_at[name] = self.time
        return answers


CALLS = st.lists(
    st.tuples(
        st.sampled_from([("p",), ("q",), ("p", "q"), ("q", "p")]),
        st.sampled_from(LEASES),
        st.booleans(),
    ),
    min_size=1,
    max_size=6,
)


@FAST
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("acquire"), CALLS),
            st.tuples(st.just("acquire"), CALLS),
            st.tuples(st.just("end"), st.integers(0, 9), st.booleans()),
            st.tuples(st.just("end"), st.integers(0, 9), st.booleans()),
            st.tuples(st.just("move"), st.sampled_from([1, 30_000, 100_000, 300_000])),
            st.tuples(st.just("forget scripts")),
            st.tuples(st.just("flush")),
            st.tuples(st.just("restore")),
        ),
        max_size=30,
    )
)
def test_calls_in_flight_agree_with_the_model(
    valkey: Valkey, steps: list[tuple[object, ...]]
) -> None:
    """Leases with tokens of several keys at once, ended, unsent, run out, lost and told again."""
    with closing(Hall(valkey.url)) as hall:
        for name, *args in steps:
            if name == "move":
                hall.time += args[0]  # type: ignore[operator]
            elif name == "forget scripts":
                hall.redis.script_flush()
            else:
                getattr(hall, str(name))(*args)


# -- tokens that are good for longer ---------------------------------------------------------------
CALM = 0.25
_PAUSES = st.sampled_from([0, 1, 3_000, 12_000, 60_000, 125_000, 250_000, 500_000, 1_000_000])


@FAST
@given(
    most=st.sampled_from([8, 40, 1500]),
    steps=st.lists(
        st.tuples(
            _PAUSES,
            st.lists(st.sampled_from([1, 2, 7]), min_size=1, max_size=40),
            st.booleans(),
            st.floats(0, 1),
        ),
        max_size=25,
    ),
)
def test_calls_sent_at_any_time_while_their_tokens_are_good_keep_the_limit(
    valkey: Valkey, most: int, steps: list[tuple[int, list[int], bool, float]]
) -> None:
    """By arrival no window holds more than max, whether a token is good for 20 ms or a quarter of a
    second, for log and bucket, some calls even and some not.
    """
    with closing(World(valkey.url)) as world:
        limiter = world.clients[0]
        limiter.restore(TENANT, Limit("k", most, 1.0, slack=0.02, calm=CALM), [])
        arrivals: list[int] = []
        for pause, weights, even, late in steps:
            world.move(pause)
            requests = [
                [Limit("k", most, 1.0, slack=0.02, weight=weight, calm=CALM, even=even)]
                for weight in weights
            ]
            for grant in limiter.acquire(TENANT, requests):
                if grant.granted:
                    assert grant.slack in {0.02, CALM}
                    arrival = world.time + int(late * grant.slack * MICROSECONDS)
                    arrivals += [arrival] * len(grant.tokens)
        assert busiest(arrivals, MICROSECONDS) <= most
