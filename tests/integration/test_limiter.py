"""The limiter and the doorbell on a real server, and the basics on fakeredis as well."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections import deque
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import redis
from fakeredis import FakeRedis
from structlog.testing import capture_logs

from orch8.errors import InvalidArgument
from orch8.limits import (
    Doorbell,
    Ended,
    Grant,
    Limit,
    Limiter,
    LimiterUnavailable,
    Refusal,
    Share,
)
from tests.support.house import until
from tests.support.valkey import Valkey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TENANT = "acme"
DEADLINE = 10.0


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with Valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(autouse=True)
def empty(valkey: Valkey) -> None:
    """Every test finds the shared server empty."""
    with closing(redis.Redis.from_url(valkey.url)) as client:
        client.flushall()


@pytest.fixture
def real(valkey: Valkey) -> Iterator[Limiter]:
    """A limiter on Valkey."""
    with closing(Limiter(valkey.url)) as limiter:
        yield limiter


@pytest.fixture(params=["valkey", "fakeredis"])
def limiter(request: pytest.FixtureRequest) -> Iterator[Limiter]:
    """A limiter without history, on both kinds of server."""
    if request.param == "valkey":
        yield request.getfixturevalue("real")
    else:
        with closing(Limiter("", client=FakeRedis())) as limiter:
            yield limiter


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Valkey]:
    """A server that the test may stop."""
    with Valkey(tmp_path) as server:
        yield server


def known(limiter: Limiter, *limits: Limit) -> None:
    for limit in limits:
        limiter.restore(TENANT, limit, [])


def granted(grants: list[Grant]) -> list[bool]:
    return [grant.granted for grant in grants]


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"


def test_limiter_grants_exactly_max_per_window(limiter: Limiter) -> None:
    """Of six requests for a limit of four, the first four get a token."""
    limit = Limit("stripe", max=4, window=30)
    known(limiter, limit)
    grants = limiter.acquire(TENANT, [[limit]] * 6)
    assert granted(grants) == [True] * 4 + [False] * 2
    assert len({token for grant in grants for token in grant.tokens}) == 4
    assert grants[4].refused_by == "stripe"
    assert grants[4].refusal is Refusal.FULL
    assert grants[4].retry_after == pytest.approx(30.02, abs=0.001)


def test_limiter_takes_all_keys_or_none(limiter: Limiter) -> None:
    """Of the limits 95 and 24 on one step exactly 24 are granted, and both keys hold 24."""
    account, endpoint = Limit("account", 95, 30), Limit("endpoint", 24, 30)
    known(limiter, account, endpoint)
    grants = limiter.acquire(TENANT, [[account, endpoint]] * 40)
    assert granted(grants) == [True] * 24 + [False] * 16
    assert limiter.peek(TENANT, account).used == 24
    assert limiter.peek(TENANT, endpoint).used == 24


def test_limiter_refusal_blocks_its_key_only(limiter: Limiter) -> None:
    """After a refused heavy request a light one on the same key is refused, on another granted."""
    a, b = Limit("a", 3, 30), Limit("b", 3, 30)
    heavy = Limit("a", 3, 30, weight=3)
    known(limiter, a, b)
    grants = limiter.acquire(TENANT, [[a], [heavy, b], [a], [b]])
    assert granted(grants) == [True, False, False, True]
    assert grants[2].retry_after > grants[1].retry_after > 0


def test_limiter_spreads_the_refused_over_the_next_windows(limiter: Limiter) -> None:
    """retry_after counts the requests that were refused before in the batch."""
    limit = Limit("a", 2, 10, slack=0)
    known(limiter, limit)
    waits = [grant.retry_after for grant in limiter.acquire(TENANT, [[limit]] * 6)]
    assert waits == pytest.approx([0, 0, 10, 10, 20, 20])


def test_limiter_takes_weights_as_units(limiter: Limiter) -> None:
    """A call of weight 2 uses two of the window's units and has two tokens."""
    limit = Limit("a", 3, 30, weight=2)
    known(limiter, limit)
    first, second = limiter.acquire(TENANT, [[limit]] * 2)
    assert (len(first.tokens), second.granted) == (2, False)
    assert limiter.peek(TENANT, limit).used == 2


def test_limiter_refuses_what_no_wait_helps(limiter: Limiter) -> None:
    """A weight above max is refused as closed and does not hold up the others of its key."""
    limit = Limit("a", 2, 30)
    known(limiter, limit)
    grants = limiter.acquire(TENANT, [[Limit("a", 2, 30, weight=3)], [limit], [Limit("z", 0, 1)]])
    assert [grant.refusal for grant in grants] == [Refusal.CLOSED, None, Refusal.CLOSED]


def test_even_limit_lets_no_burst_through(limiter: Limiter) -> None:
    """Of sixteen in four seconds three may come in half a second; a call that need not be even may
    have any token of the window.
    """
    limit = Limit("stripe", 16, 4.0, slack=0, even=True)
    known(limiter, limit)
    grants = limiter.acquire(TENANT, [[limit]] * 6)
    assert granted(grants) == [True] * 3 + [False] * 3
    assert {grant.refusal for grant in grants[3:]} == {Refusal.FULL}
    assert [round(grant.retry_after, 1) for grant in grants[3:]] == [0.5] * 3
    assert limiter.acquire(TENANT, [[replace(limit, even=False)]])[0].granted


def test_release_returns_tokens_once(limiter: Limiter) -> None:
    """Released tokens are free again; releasing them a second time changes nothing."""
    limit, other = Limit("a", 2, 30), Limit("b", 2, 30)
    known(limiter, limit, other)
    grants = limiter.acquire(TENANT, [[limit, other]] * 3)
    assert limiter.release(TENANT, grants) == 4
    assert granted(limiter.acquire(TENANT, [[limit]])) == [True]
    assert limiter.release(TENANT, grants) == 0
    assert limiter.peek(TENANT, limit).used == 1


def test_bucket_decides_above_1000(limiter: Limiter) -> None:
    """A limit of 2000 grants a burst of 200 and takes unsent tokens back, once."""
    limit = Limit("plaid", 2000, 30)
    known(limiter, limit)
    grants = limiter.acquire(TENANT, [[limit]] * 300)
    assert granted(grants) == [True] * 200 + [False] * 100
    assert 0 < grants[-1].retry_after < 30.02
    assert limiter.release(TENANT, grants[:50]) == 50
    assert limiter.release(TENANT, grants[:50]) == 0
    # 60 more leak out each second, and a busy machine takes its time.
    assert 50 <= sum(granted(limiter.acquire(TENANT, [[limit]] * 300))) <= 80


def test_limit_changes_at_once(limiter: Limiter) -> None:
    """The tokens of the window count against a raised, a lowered and a bucket's limit."""
    known(limiter, Limit("a", 2, 30))
    assert granted(limiter.acquire(TENANT, [[Limit("a", 2, 30)]] * 3)) == [True, True, False]
    assert granted(limiter.acquire(TENANT, [[Limit("a", 3, 30)]] * 2)) == [True, False]
    assert granted(limiter.acquire(TENANT, [[Limit("a", 1, 30)]])) == [False]
    bucket = limiter.acquire(TENANT, [[Limit("a", 1010, 30)]] * 110)
    assert sum(granted(bucket)) in {98, 99}
    assert granted(limiter.acquire(TENANT, [[Limit("a", 100, 30)]])) == [False]


def test_lost_server_counts_windows_as_spent(limiter: Limiter) -> None:
    """Without a sentinel a short window is refused until it has passed, then used as ever."""
    limit = Limit("a", 2, 0.2)
    refused = limiter.acquire(TENANT, [[limit]] * 3)
    assert [grant.refusal for grant in refused] == [Refusal.SPENT] * 3
    assert [grant.retry_after for grant in refused] == pytest.approx([0.22, 0.22, 0.44])
    eventually(lambda: limiter.acquire(TENANT, [[limit]])[0].granted)
    assert time.monotonic() - refused[0].granted_at >= 0.22


def test_long_window_is_rebuilt_from_the_database(limiter: Limiter) -> None:
    """After data loss a daily limit waits for restore and then counts what it was told."""
    limit = Limit("daily", 3, 86_400)
    assert limiter.acquire(TENANT, [[limit]])[0].refusal is Refusal.REBUILD
    assert limiter.restore(TENANT, limit, [86_399, 90_000, 100]) is True
    assert limiter.restore(TENANT, limit, []) is False
    first, second = limiter.acquire(TENANT, [[limit]] * 2)
    assert first.granted
    assert second.retry_after == pytest.approx(1.02, abs=0.5)


def test_grown_window_is_rebuilt_again(limiter: Limiter) -> None:
    """What was restored for two minutes is not enough for a day."""
    limiter.restore(TENANT, Limit("a", 3, 120), [])
    grant = limiter.acquire(TENANT, [[Limit("a", 3, 86_400)]])[0]
    assert grant.refusal is Refusal.REBUILD


def test_several_tenants_share_one_pipeline(limiter: Limiter) -> None:
    """Answers come in the order of the requests, and tenants do not share their keys."""
    limit = Limit("a", 1, 30)
    limiter.restore("x", limit, [])
    limiter.restore("y", limit, [])
    grants = limiter.acquire_many([("x", [limit]), ("y", [limit]), ("x", [limit]), ("y", [])])
    assert granted(grants) == [True, True, False, True]
    assert not grants[3].expired(time.monotonic())


def test_peek_tells_when_the_key_is_free(limiter: Limiter) -> None:
    """A full key is free when its oldest token leaves the window; peeking takes nothing."""
    limit = Limit("a", 1, 30)
    known(limiter, limit)
    assert limiter.peek(TENANT, limit).used == 0
    grant = limiter.acquire(TENANT, [[limit]])[0]
    usage = limiter.peek(TENANT, limit)
    assert (usage.used, usage.max) == (1, 1)
    assert usage.free_at == pytest.approx(grant.granted_at + 30.02, abs=0.5)


def test_grant_expires_after_its_slack() -> None:
    """A grant may be used for the smallest slack of its limits, and not a moment longer."""
    grant = Grant(granted=True, tokens=(("a", "1"),), granted_at=100.0, slack=0.5)
    assert not grant.expired(100.5)
    assert grant.expired(100.51)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("key", ""),
        ("max", -1),
        ("window", 0),
        ("window", float("nan")),
        ("slack", -1),
        ("weight", 0),
    ],
)
def test_bad_limit_names_its_field(member: str, value: object) -> None:
    """A limit that makes no sense is refused with the name of the field."""
    with pytest.raises(InvalidArgument, match=member):
        Limit(**({"key": "a", "max": 1, "window": 1.0} | {member: value}))  # type: ignore[arg-type]


def test_bad_batches_are_refused(limiter: Limiter) -> None:
    """Too large a batch, a key named twice and too many keys are clear errors."""
    limit = Limit("a", 1, 1)
    with pytest.raises(InvalidArgument, match="512"):
        limiter.acquire(TENANT, [[limit]] * 513)
    with pytest.raises(InvalidArgument, match="once"):
        limiter.acquire(TENANT, [[limit, limit]])
    with pytest.raises(InvalidArgument, match="at most 16 limits, not 17"):
        limiter.acquire(TENANT, [[Limit(str(n), 1, 1) for n in range(17)]])


def test_tenants_with_braces_have_keys_of_their_own(limiter: Limiter) -> None:
    """No name of a tenant is the beginning of another's keys, whatever is in it."""
    limit = Limit("a", 1, 30)
    for tenant in ("x", "x}", "x%7D", "{x", "x}:log:a"):
        limiter.restore(tenant, limit, [])
        granted_, refused = limiter.acquire(tenant, [[limit], [limit]])
        assert (granted_.granted, refused.granted) == (True, False)
        assert limiter.release(tenant, [granted_]) == 1
        assert limiter.acquire(tenant, [[limit]])[0].granted


def test_flush_spends_every_window(real: Limiter, valkey: Valkey) -> None:
    """A server flushed in the middle of a window grants nothing until a window has passed."""
    limit = Limit("a", 5, 30)
    known(real, limit)
    assert real.acquire(TENANT, [[limit]])[0].granted
    with closing(redis.Redis.from_url(valkey.url)) as client:
        client.flushall()
    assert real.acquire(TENANT, [[limit]])[0].refusal is Refusal.SPENT


def test_token_of_before_a_flush_releases_nothing(real: Limiter, valkey: Valkey) -> None:
    """Members are unique across the lives of a server: an old token cannot free a new one."""
    limit = Limit("a", 5, 30)
    known(real, limit)
    old = real.acquire(TENANT, [[limit]])
    with closing(redis.Redis.from_url(valkey.url)) as client:
        client.flushall()
    known(real, limit)
    real.acquire(TENANT, [[limit]])
    assert real.release(TENANT, old) == 0
    assert real.peek(TENANT, limit).used == 1


def test_forgotten_script_is_loaded_once(real: Limiter, valkey: Valkey) -> None:
    """After SCRIPT FLUSH the next call loads the script once and succeeds."""
    limit = Limit("a", 5, 30)
    known(real, limit)
    with closing(redis.Redis.from_url(valkey.url)) as client:
        client.script_flush()
        client.config_resetstat()
        requests = [(tenant, [limit]) for tenant in (TENANT, "other", TENANT)]
        assert granted(real.acquire_many(requests)) == [True, False, True]
        assert real.acquire(TENANT, [[limit]])[0].granted
        assert client.info("commandstats")["cmdstat_script|load"]["calls"] == 1


def test_absent_server_is_unavailable_then_spent(own_server: Valkey) -> None:
    """No server: no token. A new server in its place: the window counts as spent."""
    limit = Limit("a", 5, 30)
    with closing(Limiter(own_server.url)) as limiter:
        known(limiter, limit)
        assert limiter.acquire(TENANT, [[limit]])[0].granted
        own_server.stop()
        with pytest.raises(LimiterUnavailable):
            limiter.acquire(TENANT, [[limit]])
        with pytest.raises(LimiterUnavailable):
            limiter.ping()
        own_server.start()
        assert limiter.acquire(TENANT, [[limit]])[0].refusal is Refusal.SPENT


def test_server_with_older_data_is_recognised(own_server: Valkey) -> None:
    """A server that comes back with a snapshot has lost grants: the window counts as spent."""
    limit = Limit("a", 2, 30)
    with closing(Limiter(own_server.url)) as limiter:
        known(limiter, limit)
        with closing(redis.Redis.from_url(own_server.url)) as client:
            client.save()
        assert granted(limiter.acquire(TENANT, [[limit]] * 2)) == [True, True]
        own_server.stop()
        own_server.start()
        assert limiter.acquire(TENANT, [[limit]])[0].refusal is Refusal.SPENT


def test_server_that_does_not_say_who_it_is_is_warned_about_once(own_server: Valkey) -> None:
    """A user without INFO can be limited; people are told what is not noticed, and what to do."""
    limit = Limit("a", 2, 30)
    with closing(redis.Redis.from_url(own_server.url)) as client:
        client.execute_command("ACL", "SETUSER", "o8", "on", "nopass", "~*", "+@all", "-info")
        url = own_server.url.replace("redis://", "redis://o8:x@")
        with capture_logs() as logs, closing(Limiter(url)) as limiter:
            known(limiter, limit)
            client.execute_command("CLIENT", "KILL", "USER", "o8")
            assert granted(limiter.acquire(TENANT, [[limit]] * 3)) == [True, True, False]
    (told,) = (each for each in logs if each["event"] == "limiter.unidentified")
    assert "+info" in told["detail"]


def test_question_that_is_answered_too_late_spends_nothing(own_server: Valkey) -> None:
    """A server that was stalled carries out what was asked meanwhile; nobody waits for that."""
    limit = Limit("a", 2, 86_400)
    with closing(Limiter(own_server.url)) as limiter:
        known(limiter, limit)
        assert limiter.acquire(TENANT, [[limit]])[0].granted
        stalled_at = time.monotonic()
        own_server.signal(signal.SIGSTOP)
        with pytest.raises(LimiterUnavailable):
            limiter.acquire(TENANT, [[limit]])
        until(lambda: time.monotonic() > stalled_at + 1.3)
        own_server.signal(signal.SIGCONT)
        assert limiter.acquire(TENANT, [[limit]])[0].granted
        assert limiter.peek(TENANT, limit).used == 2


def test_silent_server_is_unavailable_in_time() -> None:
    """A server that accepts and never answers costs one socket time-out, not more."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        started_at = time.monotonic()
        with closing(Limiter(url)) as limiter, pytest.raises(LimiterUnavailable):
            limiter.acquire(TENANT, [[Limit("a", 1, 1)]])
        assert time.monotonic() - started_at < 2.0


def test_provider_never_sees_more_than_max_per_window(real: Limiter) -> None:
    """Four clients that send as fast as they may keep 20 calls per 100 ms at the provider."""
    limit = Limit("a", max=20, window=0.1)
    known(real, limit)
    sent: deque[float] = deque()
    until = time.monotonic() + 0.7

    def client() -> None:
        while time.monotonic() < until:
            grants = real.acquire(TENANT, [[limit]] * 4)
            unused = [grant for grant in grants if grant.expired(time.monotonic())]
            sent.extend(
                time.monotonic() for grant in grants if grant.granted and grant not in unused
            )
            real.release(TENANT, unused)

    threads = [threading.Thread(target=client) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    calls = sorted(sent)
    assert len(calls) >= 60
    assert all(later - first >= 0.1 for first, later in zip(calls, calls[20:], strict=False))


@pytest.mark.parametrize(
    ("pause", "room"),
    # 740 us leave 1.001 of two units: one may go back. After 2 ms both had leaked out already.
    [(0.000_740, 148), (0.002, 149)],
)
def test_bucket_gives_back_only_what_it_still_holds(
    valkey: Valkey, pause: float, room: int
) -> None:
    """A released token does not free room that its leaking out had freed before."""
    limit = Limit("a", 1500, 1.0, slack=0)
    now = 1_800_000_000.0
    with closing(Limiter(valkey.url, clock=lambda: now)) as limiter:
        known(limiter, limit)
        unsent = limiter.acquire(TENANT, [[limit]] * 2)
        now += pause
        assert limiter.acquire(TENANT, [[limit]])[0].granted
        limiter.release(TENANT, unsent)
        assert sum(granted(limiter.acquire(TENANT, [[limit]] * 200))) == room


def test_limit_that_moves_across_1000_and_back_forgets_nothing(valkey: Valkey) -> None:
    """900 tokens taken as a log and a bucket leave no room in a bucket until enough leaked."""
    high, low = Limit("a", 1500, 1.0, slack=0), Limit("a", 900, 1.0, slack=0)
    now = 1_800_000_000.0
    with closing(Limiter(valkey.url, clock=lambda: now)) as limiter:
        known(limiter, high)
        assert sum(granted(limiter.acquire(TENANT, [[high]] * 200))) == 150
        assert sum(granted(limiter.acquire(TENANT, [[low]] * 512))) == 512
        assert sum(granted(limiter.acquire(TENANT, [[low]] * 512))) == 900 - 150 - 512
        now += 0.1
        wait = limiter.acquire(TENANT, [[high]])[0].retry_after
        assert wait == pytest.approx((900 + 1 - 150) / 1350, abs=0.001)


def test_doorbell_lets_one_message_through(valkey: Valkey) -> None:
    """The first ring sends, the next ones merge until the pump clears the flag."""
    with closing(Doorbell(valkey.url)) as bell:
        bell.clear("bulk")
        assert [bell.ring("bulk"), bell.ring("bulk")] == [True, False]
        assert bell.ring("renewal") is True
        assert bell.clear("bulk") is True
        assert bell.ring("bulk") is True


def test_doorbell_without_redis_sends_anyway(own_server: Valkey) -> None:
    """When Redis is away every ring sends its message, and clear tells that it could not."""
    own_server.stop()
    with closing(Doorbell(own_server.url)) as bell:
        assert [bell.ring("bulk"), bell.ring("bulk")] == [True, True]
        assert bell.clear("bulk") is False


def test_tokens_of_a_tenant_are_in_one_cluster_slot(real: Limiter, valkey: Valkey) -> None:
    """Every name the limiter writes carries the tenant's hash tag and nothing else is written."""
    limit = Limit("a", 5, 30)
    known(real, limit)
    real.acquire(TENANT, [[limit]])
    with closing(redis.Redis.from_url(valkey.url)) as client:
        names = [name.decode() for name in client.scan_iter()]
    assert names
    assert all(name.startswith("{o8:acme}:") for name in names)


# -- calls in flight -----------------------------------------------------------------------------
def busy(key: str = "a", most: int = 2, lease: float = 30.0, holder: str = "") -> Limit:
    """A limit of calls in flight alone."""
    return Limit(key, None, max_in_flight=most, lease=lease, holder=holder)


def idle(limiter: Limiter, limit: Limit) -> None:
    """The server knows that nothing is in flight."""
    limiter.restore(TENANT, limit, [], [])


def end(limiter: Limiter, limit: Limit, grant: Grant, **more: Any) -> None:
    limiter.ended([(TENANT, Ended([limit], grant, 0.01, **more))])


def test_calls_in_flight_are_bounded_until_they_end(limiter: Limiter) -> None:
    """Two of three calls may be in flight; when one has ended, another may begin."""
    limit = busy()
    idle(limiter, limit)
    grants = limiter.acquire(TENANT, [[limit]] * 3)
    assert granted(grants) == [True, True, False]
    assert (grants[2].refusal, grants[2].refused_by) == (Refusal.HELD, "a")
    assert 0 < grants[2].retry_after <= 10
    end(limiter, limit, grants[0])
    end(limiter, limit, grants[0])  # which changes nothing
    assert granted(limiter.acquire(TENANT, [[limit]] * 2)) == [True, False]
    assert limiter.peek(TENANT, limit).in_flight == 2


def test_leases_of_a_process_that_is_gone_run_out(limiter: Limiter) -> None:
    """Nobody gives the lease back; it ends by itself."""
    limit = busy(most=1, lease=0.3)
    idle(limiter, limit)
    assert granted(limiter.acquire(TENANT, [[limit]] * 2)) == [True, False]
    eventually(lambda: limiter.acquire(TENANT, [[limit]])[0].granted)


def test_leases_and_tokens_are_taken_together_or_not_at_all(limiter: Limiter) -> None:
    """What the room refuses takes no token, what the window refuses no lease."""
    both, window = Limit("a", 5, 30, max_in_flight=1), Limit("b", 1, 30)
    known(limiter, both, window)
    idle(limiter, both)
    assert granted(limiter.acquire(TENANT, [[both], [both, window]])) == [True, False]
    usage = limiter.peek(TENANT, both)
    assert (usage.used, usage.in_flight, limiter.peek(TENANT, window).used) == (1, 1, 0)
    limiter.acquire(TENANT, [[window]])
    refused = limiter.acquire(TENANT, [[Limit("c", None, max_in_flight=9), window]])[0]
    assert not refused.granted
    assert limiter.peek(TENANT, busy("c")).in_flight == 0


def test_unsent_call_gives_its_lease_back(limiter: Limiter) -> None:
    """A token and a lease go back, once."""
    limit = Limit("a", 5, 30, max_in_flight=1)
    known(limiter, limit)
    idle(limiter, limit)
    grants = limiter.acquire(TENANT, [[limit]])
    assert limiter.release(TENANT, grants) == 2
    assert limiter.release(TENANT, grants) == 0
    usage = limiter.peek(TENANT, limit)
    assert (usage.used, usage.in_flight) == (0, 0)


def test_call_that_asks_again_finds_its_own_lease(limiter: Limiter) -> None:
    """Whose answer was lost asks once more under the same name, and takes up no second place."""
    limit = busy(most=1, holder="step/1")
    idle(limiter, limit)
    requests = [[limit]] * 1
    assert granted(limiter.acquire(TENANT, requests) + limiter.acquire(TENANT, requests)) == [
        True,
        True,
    ]
    assert limiter.peek(TENANT, limit).in_flight == 1


def test_who_asks_is_not_in_flight_whatever_a_restore_took_it_for(limiter: Limiter) -> None:
    """Eight claims were told as calls in flight; when they ask, two are made, not all."""
    holders = [f"x/{n}" for n in range(8)]
    limiter.restore(TENANT, busy(most=2), [], holders)
    asked = [[busy(most=2, holder=name)] for name in holders]
    assert sum(granted(limiter.acquire(TENANT, asked))) == 0  # the others might be
    assert granted(limiter.acquire(TENANT, asked)) == [True] * 2 + [False] * 6


def test_lost_server_asks_what_is_in_flight(limiter: Limiter) -> None:
    """No call is granted before somebody says; those who are named end as if nothing had been."""
    limit = busy(most=2)
    assert limiter.acquire(TENANT, [[limit]])[0].refusal is Refusal.REBUILD
    assert limiter.restore(TENANT, limit, [], ["x/1", "y/1"]) is True
    assert limiter.restore(TENANT, limit, [], []) is False
    assert limiter.acquire(TENANT, [[limit]])[0].refusal is Refusal.HELD
    theirs = Grant(granted=True, tokens=(), granted_at=0, slack=1, leases=(("a", "x/1"),))
    end(limiter, limit, theirs)
    assert granted(limiter.acquire(TENANT, [[limit]] * 2)) == [True, False]


def test_distrusted_server_is_as_good_as_a_new_one(limiter: Limiter) -> None:
    """Calls were made without it: short windows are spent, long ones and leases asked for."""
    short, long, held = Limit("a", 5, 30), Limit("b", 5, 3600), busy("c")
    known(limiter, short, long)
    idle(limiter, held)
    limiter.distrust(TENANT)
    grants = limiter.acquire(TENANT, [[short], [long], [held]])
    assert [g.refusal for g in grants] == [Refusal.SPENT, Refusal.REBUILD, Refusal.REBUILD]


# -- what providers say --------------------------------------------------------------------------
def test_blocked_key_refuses_everybody_until_then(limiter: Limiter) -> None:
    """Retry-After of one call stops all calls of the key, at most for an hour."""
    limit, other = Limit("a", 5, 30), Limit("b", 5, 30)
    known(limiter, limit, other)
    grant = limiter.acquire(TENANT, [[limit, other]])[0]
    call = Ended([limit, other], grant, 0.1, blocked={"a": 7.0})
    limiter.ended([(TENANT, call)])
    shorter = Ended([limit], grant, 0.1, blocked={"a": 1.0})
    limiter.ended([(TENANT, shorter)])  # the longer one holds
    refused, free = limiter.acquire(TENANT, [[limit], [other]])
    assert (refused.refusal, refused.refused_by) == (Refusal.BLOCKED, "a")
    assert refused.retry_after == pytest.approx(7.0, abs=0.5)
    assert free.granted
    limiter.ended([(TENANT, Ended([other], grant, 0.1, blocked={"b": 1e6}))])
    assert limiter.peek(TENANT, other).blocked == pytest.approx(3600, abs=1)


def test_lease_that_is_renewed_lasts_longer(limiter: Limiter) -> None:
    """A call that takes its time is counted all the while, and again if its lease was lost."""
    limit = replace(busy(most=1), lease=0.2, holder="step/1")
    brief = replace(limit, key="brief")
    idle(limiter, limit)
    idle(limiter, brief)
    grant, _ = limiter.acquire(TENANT, [[limit], [brief]])
    limiter.renew([(TENANT, grant, 30.0)])
    other = replace(limit, holder="step/2")
    until(lambda: limiter.peek(TENANT, brief).in_flight == 0)
    assert limiter.acquire(TENANT, [[other]])[0].refusal is Refusal.HELD
    limiter.release(TENANT, [grant])
    limiter.renew([(TENANT, grant, 30.0), ("nobody", Grant(False, (), 0.0, 0.0), 30.0)])
    assert limiter.peek(TENANT, limit).in_flight == 1
    with pytest.raises(InvalidArgument, match="512"):
        limiter.renew([(TENANT, grant, 30.0)] * 513)


def test_share_keeps_a_call_that_takes_its_time() -> None:
    """Its place is taken until it ends, however long that is after its lease."""
    clock = Clock()
    share, room = Share(clock), Limit("a", None, max_in_flight=2, lease=5, holder="step/1")
    share.lost()
    clock.now += 5
    grant = share.acquire(TENANT, [room], 1)
    clock.now += 4
    share.renew(TENANT, grant, room.lease)
    clock.now += 4
    assert not share.acquire(TENANT, [room], 1).granted
    share.give_back(TENANT, grant)
    share.renew(TENANT, grant, room.lease)
    assert share.acquire(TENANT, [room], 1).granted


def test_crowded_key_halves_its_room_and_wins_it_back(limiter: Limiter) -> None:
    """AIMD: half the calls at once, then one more for each room-full that succeeds; floor one."""
    limit = busy(most=8)
    idle(limiter, limit)
    grants = limiter.acquire(TENANT, [[limit]] * 8)
    end(limiter, limit, grants[0], crowded={"a": 8})
    assert limiter.peek(TENANT, limit).room == 4
    # They were all sent before the cut: what they say is old news.
    limiter.ended([(TENANT, Ended([limit], g, 9.0, crowded={"a": 8})) for g in grants[1:]])
    assert limiter.peek(TENANT, limit).room == 4
    assert granted(limiter.acquire(TENANT, [[limit]] * 5)) == [True] * 4 + [False]
    won = [(TENANT, Ended([limit], grants[0], 0.01, succeeded=True))] * (4 + 5 + 6)
    limiter.ended(won)
    assert limiter.peek(TENANT, limit).room == 7
    limiter.ended(won)
    assert limiter.peek(TENANT, limit).room == 8


def test_refusal_for_the_calls_in_flight_tells_their_room_and_time(limiter: Limiter) -> None:
    """The room is the one that is left of the bound; the time is known once a call has ended."""
    limit = busy(most=8)
    idle(limiter, limit)
    *held, refused = limiter.acquire(TENANT, [[limit]] * 9)
    assert (refused.refusal, refused.room, refused.took) == (Refusal.HELD, 8, None)
    call = Ended([limit], held[0], 0.5, crowded={limit.key: 8})
    limiter.ended([(TENANT, call)])
    refused = limiter.acquire(TENANT, [[limit]])[0]
    assert (refused.room, refused.took) == (4, pytest.approx(0.5))
    assert held[1].room is None


def test_places_of_calls_that_are_stuck_are_not_counted_on(valkey: Valkey) -> None:
    """Calls took half a second so far: those of a process that is gone count as stuck after two, so
    that nobody is sent for places which do not come free; those that live on are renewed.
    """
    clock, limit = Clock(), busy(most=4)
    with closing(Limiter(valkey.url, clock=clock)) as limiter:
        idle(limiter, limit)
        grants = limiter.acquire(TENANT, [[limit]] * 4)
        limiter.ended([(TENANT, Ended([limit], grants[0], 0.5))])
        clock.now += 1.9
        refused = limiter.acquire(TENANT, [[limit]] * 2)[1]
        assert (refused.room, refused.retry_after) == (4, pytest.approx(0.125))
        clock.now += 0.2
        refused = limiter.acquire(TENANT, [[limit]])[0]
        assert (refused.room, refused.retry_after) == (1, pytest.approx(0.5))
        assert limiter.peek(TENANT, limit).turning == 1
        limiter.renew([(TENANT, grant, limit.lease) for grant in grants[1:3]])
        assert limiter.acquire(TENANT, [[limit]])[0].room == 3
        clock.now += limit.lease
        refused = limiter.acquire(TENANT, [[limit]] * 5)[4]
        assert (refused.refusal, refused.room) == (Refusal.HELD, 4)
        told = limiter.peek_many([(TENANT, limit), ("other", busy(most=9)), (TENANT, busy("b"))])
        assert [(each.in_flight, each.turning, each.took) for each in told] == [
            (4, 4, 0.5), (0, 9, None), (0, 2, None),
        ]  # fmt: skip


def test_crowded_key_without_a_bound_gets_one(limiter: Limiter) -> None:
    """A rate limit alone counts calls in flight once the provider has found them too many."""
    limit = Limit("a", 100, 30)
    known(limiter, limit)
    grants = limiter.acquire(TENANT, [[limit]] * 6)
    assert grants[0].leases == ()
    end(limiter, limit, grants[0], crowded={"a": 6})
    later = limiter.acquire(TENANT, [[limit]] * 4)
    assert granted(later) == [True, True, True, False]
    assert later[0].leases


def test_room_never_falls_below_one(limiter: Limiter) -> None:
    """However often a provider finds it too much, one call at a time is made."""
    limit = busy(most=2)
    idle(limiter, limit)
    for _ in range(4):
        (grant,) = limiter.acquire(TENANT, [[limit]])
        assert grant.granted
        limiter.ended([(TENANT, Ended([limit], grant, 0.0, crowded={"a": 1}))])
    assert limiter.peek(TENANT, limit).room == 1


@pytest.mark.parametrize(
    ("member", "value"), [("max_in_flight", 0), ("lease", 0.0), ("lease", 4000.0)]
)
def test_bad_bound_of_calls_in_flight_names_its_field(member: str, value: object) -> None:
    """A bound that makes no sense is refused with the name of the field."""
    with pytest.raises(InvalidArgument, match=member):
        Limit(**({"key": "a", "max": None, "max_in_flight": 1} | {member: value}))  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="max_in_flight"):
        Limit("a", None)


# -- without Redis -------------------------------------------------------------------------------
class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_share_is_half_of_the_limit_over_all_processes() -> None:
    """One of two processes grants itself a quarter of max, after a window that counts as spent."""
    clock = Clock()
    share, limit = Share(clock), Limit("a", 20, 1.0, slack=0)
    share.lost()
    assert share.acquire(TENANT, [limit], 2).retry_after == pytest.approx(1.0)
    clock.now += 1.0
    assert granted([share.acquire(TENANT, [limit], 2) for _ in range(6)]) == [True] * 5 + [False]
    clock.now += 0.5
    assert share.acquire(TENANT, [limit], 2).retry_after == pytest.approx(0.5)
    clock.now += 0.5
    assert share.acquire(TENANT, [replace(limit, weight=5)], 2).granted
    assert share.tenants == {TENANT}
    share.found()
    assert not share.in_use


def test_share_says_what_no_wait_helps() -> None:
    """A weight above max is no matter of Redis being there."""
    share = Share(Clock())
    share.lost()
    grant = share.acquire(TENANT, [Limit("a", 9, 1.0), Limit("b", 2, 1.0, weight=3)], 1)
    assert (grant.refusal, grant.refused_by) == (Refusal.CLOSED, "b")


@pytest.mark.parametrize(
    "limit",
    [Limit("a", 7, 1.0), Limit("a", 1000, 61.0), Limit("a", 100, 1.0, max_in_flight=7)],
    ids=["too small", "too long", "too few at a time"],
)
def test_share_of_nothing_is_nothing(limit: Limit) -> None:
    """Below one call for each process there is none, and a long window waits for Redis."""
    clock = Clock()
    share = Share(clock)
    share.lost()
    clock.now += 1000
    grant = share.acquire(TENANT, [limit], 4)
    assert not grant.granted
    assert grant.retry_after > 0


@pytest.mark.parametrize(
    "limit",
    [
        Limit("a", 1000, 86_400.0),
        Limit("a", 1, 60.0),
        Limit("a", 9, 1.0, max_in_flight=9, lease=900),
    ],
    ids=["a day", "too small", "long calls"],
)
def test_share_sends_nobody_away_for_long(limit: Limit) -> None:
    """Redis may be back in a second; when it is away for long, whoever waits for it asks less."""
    clock = Clock()
    share = Share(clock)
    share.lost()
    assert share.acquire(TENANT, [limit], 1).retry_after == pytest.approx(5.0)
    clock.now += 300
    long_away = share.acquire(TENANT, [replace(limit, max_in_flight=None)], 1)
    assert long_away.retry_after <= 30
    assert long_away.refusal in {None, Refusal.AWAY}
    clock.now += 10_000
    assert share.acquire(TENANT, [limit], 1).retry_after <= 60


def test_share_bounds_calls_in_flight_and_takes_all_keys_or_none() -> None:
    """A call that ended makes room; a key that refuses leaves the others as they were."""
    clock = Clock()
    share = Share(clock)
    room, window = Limit("a", None, max_in_flight=4, lease=5), Limit("b", 8, 1.0)
    share.lost()
    clock.now += 5
    first, second, third = (share.acquire(TENANT, [room, window], 1) for _ in range(3))
    assert granted([first, second, third]) == [True, True, False]
    assert Share.owns(first)
    share.give_back(TENANT, first)
    assert granted([share.acquire(TENANT, [room, window], 1) for _ in range(2)]) == [True, False]
    assert granted([share.acquire(TENANT, [window], 1) for _ in range(2)]) == [True, False]
