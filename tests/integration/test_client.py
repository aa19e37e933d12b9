"""orch8.client against the real API, over a road that loses requests and answers."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from orch8.client import Client, Retries, StillOpen, Unreachable
from orch8.errors import (
    BadGateway,
    ConfigurationError,
    Conflict,
    DefinitionRejected,
    IdempotencyMismatch,
    InvalidArgument,
    NotFound,
    Orch8Error,
    RateLimited,
    Unauthorized,
    Unavailable,
)
from tests.support.house import House
from tests.support.live import Road, Trouble, listening, road

NOOP = {"id": "pay", "blocks": [{"type": "step", "handler": "noop"}]}
WAITING = {"id": "wait", "blocks": [{"type": "wait_signal", "signal": "paid"}]}
FAILING = {"id": "fail", "blocks": [{"type": "step", "handler": "fail"}]}
QUICKLY = Retries(most=3, first_pause=0.01, patience=10.0)
TIMEOUT = 1.0  # seconds; what Trouble.SILENCE makes a client wait


@pytest.fixture
def api(house: House) -> Iterator[str]:
    """The API of the house."""
    with listening(house) as url:
        yield url


@pytest.fixture
def client(api: str) -> Iterator[Client]:
    """A client of the house."""
    with Client(api, actor="maria", tenant="default", retries=QUICKLY) as found:
        yield found


@pytest.fixture
def bad_road(api: str) -> Iterator[Road]:
    """A road to the house."""
    with road(api) as found:
        yield found


@pytest.fixture
def far(bad_road: Road) -> Iterator[Client]:
    """A client at the other end of the bad road."""
    with Client(bad_road.url, timeout=TIMEOUT, retries=QUICKLY) as found:
        yield found


def started(house: House) -> int:
    """How many instances there are."""
    return int(house.sql("SELECT count(*) AS n FROM instances")[0].n)


# -- what can be asked ---------------------------------------------------------------------------
def test_instance_is_started_followed_and_told(house: House, client: Client) -> None:
    """What the API shows is typed; members that this client does not know are in ``raw``."""
    published = client.sequences.publish(NOOP)
    assert (published.name, published.version) == ("pay", 1)
    begun = client.instances.start("pay", {"cents": 5}, priority="High", metadata={"team": "a"})
    assert (begun.state, begun.priority, begun.deduplicated) == ("scheduled", "High", False)
    assert begun.context["data"] == {"cents": 5}
    house.work("interactive")
    house.work()
    ended = client.instances.wait(begun.id, within=5)
    assert (ended.state, ended.ended) == ("completed", True)
    assert ended.raw["sequence"]["name"] == "pay"
    (output,) = client.instances.outputs(begun.id)
    assert (output.block_id, output.outcome) == ("noop", "succeeded")
    story = client.instances.timeline(begun.id)
    assert [each.to_state for each in story.state_transitions][-1] == "completed"
    assert [each.node_key for each in story.entries] == ["noop"]
    (node,) = client.instances.tree(begun.id)
    assert (node.block_type, node.state, node.handler) == ("step", "completed", "noop")
    first = client.instances.audit(begun.id)[-1]
    assert (first.actor, first.at.tzinfo is not None) == ("maria", True)


def test_list_reads_page_after_page(client: Client) -> None:
    """An iterator over all that fit, however many pages they take."""
    client.sequences.publish(NOOP)
    client.sequences.publish(WAITING)
    ids = [client.instances.start("pay", metadata={"n": "x"}).id for _ in range(5)]
    client.instances.start("wait")
    found = client.instances.list(sequence="pay", states=["scheduled"], page=2)
    assert sorted(each.id for each in found) == sorted(ids)
    assert len(list(client.instances.list(metadata={"n": "x"}, page=3))) == 5
    assert [each.name for each in client.sequences.list(page=1)] == ["pay", "wait"]
    assert client.sequences.get("pay").raw["blocks"] == NOOP["blocks"]


def test_signals_steer_an_instance(house: House, client: Client) -> None:
    """Controls by name, others as one's own, by instance or by correlation."""
    client.sequences.publish({**WAITING, "correlation": {"invoice": "{{data.invoice}}"}})
    one = client.instances.start("wait", {"invoice": "in_1"})
    house.work()
    client.instances.pause(one.id, reason="asked by phone")
    assert client.instances.get(one.id).state == "paused"
    client.instances.resume(one.id)
    reached = client.instances.signal_all("paid", {"invoice": "in_1"}, {"cents": 5})
    assert (reached.matched, reached.signals[0].instance_id) == (1, one.id)
    house.work()
    assert client.instances.wait(one.id, within=5).state == "completed"
    two = client.instances.start("wait", {"invoice": "in_2"})
    napping = {"id": "nap", "blocks": [{"type": "step", "handler": "sleep",
               "params": {"duration_ms": 600_000}}]}  # fmt: skip
    client.sequences.publish(napping)
    three = client.instances.start("nap")
    house.work()
    client.instances.hold(three.id, reason="fraud check")
    assert client.instances.get(three.id).state == "waiting"
    client.instances.resume(three.id)
    assert client.instances.get(three.id).state != "waiting"
    client.instances.update_context(two.id, {"card": "new"}, reason="the customer wrote")
    assert client.instances.get(two.id).context["data"] == {"invoice": "in_2", "card": "new"}
    client.instances.cancel(two.id)
    assert client.instances.wait(two.id, within=5).state == "cancelled"
    sent = client.instances.signals(two.id)
    assert [(each.name, each.consumed_by) for each in sent] == [
        ("update_context", "engine"), ("cancel", "engine"),
    ]  # fmt: skip


def test_failed_instance_is_retried(house: House, client: Client) -> None:
    """It goes on in its next round."""
    client.sequences.publish(FAILING)
    begun = client.instances.start("fail")
    house.work()
    assert client.instances.wait(begun.id, within=5).state == "failed"
    again = client.instances.retry(begun.id, reason="the bank is back")
    assert (again.id, again.round) == (begun.id, 2)


def test_waiting_ends_at_its_deadline(client: Client) -> None:
    """An instance that is still open is told with its state."""
    client.sequences.publish(WAITING)
    begun = client.instances.start("wait")
    with pytest.raises(StillOpen, match="scheduled after 0 s") as raised:
        client.instances.wait(begun.id, within=0)
    assert raised.value.extra["instance"]["id"] == begun.id


def test_operators_routes_are_typed_too(client: Client) -> None:
    """Events, rate limits and what needs attention."""
    told = client.events.tell("invoice.paid", "in_1", {"cents": 5}, event_id="evt_1")
    again = client.events.tell("invoice.paid", "in_1", {"cents": 5}, event_id="evt_1")
    assert (told.duplicate, again.duplicate, again.event_id) == (False, True, told.event_id)
    assert client.events.get(told.event_id).payload == {"cents": 5}
    assert len(client.events.list()) == 1
    limit = client.rate_limits.set("stripe:a/b", 95, max_in_flight=30)
    assert (limit.max, limit.window_seconds, limit.max_in_flight) == (95, 1.0, 30)
    assert client.rate_limits.get("stripe:a/b") == limit
    assert [each.key for each in client.rate_limits.list()] == ["stripe:a/b"]
    client.rate_limits.unset("stripe:a/b")
    assert client.rate_limits.list() == ()
    assert list(client.attention.list(kinds=["doubt"])) == []


def test_approvals_are_listed_and_answered(house: House, client: Client) -> None:
    """What is none of the choices, or answers for nobody, is told before anything is sent."""
    gated = {"type": "step", "id": "ok", "handler": "noop", "wait_for_input": {"prompt": "Go?"}}
    client.sequences.publish({"id": "gated", "blocks": [gated]})
    begun = client.instances.start("gated")
    house.work()
    (asked,) = client.approvals.list()
    assert (asked.instance_id, asked.block_id, asked.prompt) == (begun.id, "ok", "Go?")
    with pytest.raises(InvalidArgument, match="none of the choices: yes, no"):
        client.approvals.answer(begun.id, "ok", "maybe")
    with pytest.raises(Conflict, match="waits for no answer"):
        client.approvals.answer(begun.id, "other", "yes")
    client.approvals.answer(begun.id, "ok", "yes", comment="it is fine")
    house.work()
    assert client.instances.wait(begun.id, within=5).state == "completed"
    said = [each for each in client.instances.audit(begun.id) if each.action == "step.answered"]
    assert said[0].reason == "it is fine"


def test_any_other_route_can_be_asked(client: Client) -> None:
    """``ask`` gives the JSON as it is."""
    assert client.ask("GET", "/handlers")["builtin"]


# -- what goes wrong -----------------------------------------------------------------------------
def test_problems_are_typed_and_name_the_members(client: Client) -> None:
    """The class says what is wrong, ``errors`` where, ``extra`` all else that the API said."""
    with pytest.raises(NotFound) as missing:
        client.instances.get("019a0000-0000-7000-8000-000000000001")
    assert missing.value.extra["request_id"]
    with pytest.raises(DefinitionRejected) as refused:
        client.sequences.publish({"id": "x", "blocks": [{"type": "step", "handler": "a", "no": 1}]})
    assert refused.value.errors[0].pointer.startswith("/blocks/0")
    client.sequences.publish(NOOP)
    client.instances.start("pay", {"n": 1}, idempotency_key="k")
    with pytest.raises(IdempotencyMismatch):
        client.instances.start("pay", {"n": 2}, idempotency_key="k")
    with pytest.raises(InvalidArgument, match="not JSON serializable"):
        client.instances.start("pay", {"at": object()})


def test_key_and_tenant_go_along(house: House) -> None:
    """Without the key nothing is answered."""
    with listening(house, insecure=False, api_key="k" * 40) as url:
        with Client(url, tenant="acme", api_key="k" * 40) as client:
            client.sequences.publish(NOOP)
            assert client.instances.start("pay").tenant_id == "acme"
        with Client(url, tenant="acme") as stranger, pytest.raises(Unauthorized):
            stranger.instances.get("x")


@pytest.mark.parametrize("url", ["", "127.0.0.1:8080", "ftp://127.0.0.1", "http://a:b"])
def test_address_that_is_none_is_refused_at_once(url: str) -> None:
    """Not when the first payment is due."""
    with pytest.raises(ConfigurationError, match="the API's url"):
        Client(url)


def test_header_that_cannot_be_sent_is_named() -> None:
    """A line break in a tenant's name would be a header of its own."""
    with pytest.raises(InvalidArgument, match="X-Tenant-Id"):
        Client("http://127.0.0.1:1", tenant="a\r\nX-Actor: b")


# -- the bad road --------------------------------------------------------------------------------
@pytest.mark.parametrize("trouble", Trouble)
def test_lost_start_makes_one_instance(
    house: House, far: Client, bad_road: Road, trouble: Trouble
) -> None:
    """Whatever is lost on the way, and wherever: one call, one instance, and the caller has it."""
    far.sequences.publish(NOOP)
    bad_road.troubles[:] = [trouble, trouble]
    begun = far.instances.start("pay", {"cents": 5})
    assert started(house) == 1
    assert far.instances.get(begun.id).context["data"] == {"cents": 5}
    bodies = {raw for method, path, raw in bad_road.asked if path.endswith("/pay/instances")}
    assert len(bodies) == 1  # the same bytes each time: the same key


@pytest.mark.parametrize("trouble", [Trouble.LOSE_ANSWER, Trouble.HALF_AN_ANSWER])
def test_lost_signal_is_heard_once(far: Client, bad_road: Road, trouble: Trouble) -> None:
    """A signal has a key of its own, too."""
    far.sequences.publish(WAITING)
    begun = far.instances.start("wait")
    bad_road.troubles[:] = [trouble]
    far.instances.signal(begun.id, "paid")
    assert len(far.ask("GET", f"/instances/{begun.id}/signals")) == 1


def test_what_must_not_be_repeated_is_not(far: Client, bad_road: Road) -> None:
    """A request without a key whose answer is lost is told as such, not sent again."""
    for trouble in (Trouble.LOSE_ANSWER, Trouble.SILENCE):
        bad_road.asked.clear()
        bad_road.troubles[:] = [trouble]
        with pytest.raises(Unreachable):
            far.ask("POST", "/triggers/nightly/fire", {})
        assert len(bad_road.asked) == 1
    bad_road.asked.clear()
    bad_road.troubles[:] = [Trouble.BUSY]
    with pytest.raises((Unavailable, BadGateway)):
        far.ask("POST", "/triggers/nightly/fire", {})
    assert len(bad_road.asked) == 1


def test_too_many_is_never_carried_out_and_so_repeated(far: Client, bad_road: Road) -> None:
    """429 says that nothing happened, whatever was asked."""
    bad_road.troubles[:] = [Trouble.TOO_MANY]
    with pytest.raises(NotFound):
        far.ask("POST", "/triggers/nightly/fire", {})
    assert len(bad_road.asked) == 2


def test_retries_end(far: Client, bad_road: Road) -> None:
    """After so many times the last error is told."""
    bad_road.troubles[:] = [Trouble.BROKEN_PAGE] * 10
    with pytest.raises(BadGateway, match="502"):
        far.instances.get("x")
    assert len(bad_road.asked) == 1 + QUICKLY.most
    bad_road.troubles[:] = [Trouble.TOO_MANY] * 10
    with pytest.raises((RateLimited, BadGateway)):
        far.instances.get("x")


def test_deletion_whose_answer_was_lost_is_done(far: Client, bad_road: Road) -> None:
    """That it is gone when it is asked for again is what was wanted."""
    far.rate_limits.set("k", 5)
    bad_road.troubles[:] = [Trouble.LOSE_ANSWER]
    far.rate_limits.unset("k")
    assert far.rate_limits.list() == ()
    with pytest.raises(NotFound):
        far.rate_limits.unset("k")


def test_nobody_there_is_told_with_the_address() -> None:
    """Every attempt was refused: nothing was sent, however unsafe."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with Client(url, retries=QUICKLY) as client, pytest.raises(Unreachable, match=url):
        client.ask("POST", "/triggers/nightly/fire", {})


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"<html>", "is no orch8"),
        (b"[]", "did not answer with Instance"),
        (b'{"id": "x"}', "has no tenant_id"),
        (b'{"id": 5}', "Instance.id is not as expected: 5"),
    ],
)
def test_answer_of_something_else_is_told(stub: Any, said: bytes, told: str) -> None:
    """A page, or JSON that is something else, is no AttributeError somewhere later."""
    stub.says("/instances/x", said)
    with Client(stub.url) as client, pytest.raises(BadGateway, match=told):
        client.instances.get("x")


def test_redirection_is_no_success(stub: Any) -> None:
    """A report that a proxy sent elsewhere was not taken, and is not passed for one that was."""
    stub.says("/workers/tasks/s/complete", b"", 301)
    with Client(stub.url) as client, pytest.raises(BadGateway, match="answered 301"):
        client.ask("POST", "/workers/tasks/s/complete", {})


def test_idle_connection_that_ended_costs_no_attempt(bad_road: Road) -> None:
    """Connections are used again; that a server hung up one meanwhile is no error."""
    with Client(bad_road.url, retries=Retries(most=0)) as client:
        client.sequences.publish(NOOP)
        wire = client.caller._wire
        ((_, kept),) = wire._idle
        client.instances.start("pay")
        ((_, again),) = wire._idle
        assert again is kept
        assert kept.sock is not None
        kept.sock.shutdown(socket.SHUT_RDWR)
        client.instances.start("pay")
        ((_, fresh),) = wire._idle
        assert fresh is not kept


def test_errors_have_one_root(client: Client) -> None:
    """Everything that goes wrong can be caught as Orch8Error."""
    with pytest.raises(Orch8Error):
        client.instances.get("not an id")
