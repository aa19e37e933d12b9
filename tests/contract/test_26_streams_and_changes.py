"""CONTRACT 26: an instance is followed to its end, and a tenant's changes are read without gaps."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any
from uuid import uuid4

import psycopg2
import pytest
from werkzeug.test import TestResponse

from api import streams
from tests.support.api import NOOP, Api, serving
from tests.support.house import House, until

CHARGE = {"type": "step", "handler": "charge"}
WAITING = {"type": "wait_signal", "signal": "paid"}


@pytest.fixture
def api(house: House) -> Iterator[Api]:
    """The app over the house's database."""
    with serving(house.database) as found:
        yield found


class Stream:
    """A stream that is read event by event."""

    def __init__(self, answer: TestResponse) -> None:
        assert answer.status_code == 200, answer.text
        assert answer.mimetype == "text/event-stream"
        self._chunks = iter(answer.response)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for chunk in self._chunks:
            text = chunk if isinstance(chunk, str) else chunk.decode()
            if not text.startswith(":"):
                lines = dict(line.split(": ", 1) for line in text.strip().splitlines())
                yield {**lines, "data": json.loads(lines["data"])}

    def take(self, number: int) -> list[dict[str, Any]]:
        """The next events."""
        return [event for _, event in zip(range(number), self, strict=False)]


@contextmanager
def following(api: Api, path: str, **more: Any) -> Iterator[Stream]:
    """The stream at the path, closed in the end."""
    answer = api.send("GET", path, **more)
    try:
        yield Stream(answer)
    finally:
        answer.close()


def entries(api: Api, query: str = "", tenant: str = "default") -> Any:
    """A page of the tenant's feed."""
    return api.get(f"/changes?tenant_id={tenant}{query}")


def actions(page: Any) -> list[str]:
    """What a page tells of."""
    return [entry["action"] for entry in page["changes"]]


# -- an instance ---------------------------------------------------------------------------------
def test_short_run_is_told_to_its_end(api: Api, house: House) -> None:
    """State, each output once, done; then the stream closes."""
    instance = house.run(CHARGE, {"type": "step", "handler": "notify"})
    with following(api, f"/instances/{instance}/stream?poll_ms=100") as stream:
        events = list(stream)
    assert [e["event"] for e in events] == ["state", "output", "output", "done"]
    assert events[0]["data"] == {"instance_id": str(instance), "state": "completed"}
    assert events[-1]["data"] == {"state": "completed"}
    assert [e["data"] for e in events[1:-1]] == api.get(f"/instances/{instance}/outputs")


def test_run_is_told_as_it_goes_on(api: Api, house: House) -> None:
    """A state is told when it changes, an output when it is there; nothing twice."""
    house.publish(CHARGE, WAITING, {"type": "step", "handler": "notify"})
    instance = house.start()
    with following(api, f"/instances/{instance}/stream?poll_ms=100") as stream:
        assert [e["data"]["state"] for e in stream.take(1)] == ["scheduled"]
        house.work()
        state, charged = stream.take(2)
        assert (state["data"]["state"], charged["data"]["block_id"]) == ("waiting", "charge")
        house.signal(instance, name="paid")
        house.work()
        rest = [e["event"] for e in stream]
    assert rest[0] == "state"
    assert rest[-1] == "done"
    assert set(rest[1:-1]) == {"output"}


def test_stream_of_an_unknown_instance_is_not_found(api: Api, house: House) -> None:
    """404, and for another tenant, too."""
    api.refused(404, "GET", f"/instances/{uuid4()}/stream")
    instance = house.run(CHARGE)
    other = {"X-Tenant-Id": "acme"}
    api.refused(404, "GET", f"/instances/{instance}/stream", headers=other)


@pytest.mark.parametrize("given", ["1", "-5", "99999999", "100"])
def test_poll_interval_is_brought_into_range(api: Api, house: House, given: str) -> None:
    """From 100 to 5000 milliseconds, whatever is asked for."""
    instance = house.run(CHARGE)
    with following(api, f"/instances/{instance}/stream?poll_ms={given}"):
        pass
    api.refused(400, "GET", f"/instances/{instance}/stream?poll_ms=soon")


def test_instance_that_is_deleted_ends_its_stream(api: Api, house: House) -> None:
    """With an error, since there is nothing more to tell."""
    house.publish(WAITING)
    instance = house.start()
    with following(api, f"/instances/{instance}/stream?poll_ms=100") as stream:
        stream.take(1)
        house.sql("DELETE FROM instances WHERE id = %s", instance)
        (last,) = list(stream)
    assert last["event"] == "error"
    assert "not found" in last["data"]["error"] or str(instance) in last["data"]["error"]


def test_quiet_stream_is_kept_alive(
    api: Api, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a comment now and then, so that nobody in between takes it for dead."""
    monkeypatch.setattr(streams, "KEEP_ALIVE", 0.1)
    house.publish(WAITING)
    answer = api.send("GET", f"/instances/{house.start()}/stream?poll_ms=100")
    with closing(answer):
        chunks = iter(answer.response)
        until(lambda: bytes(next(chunks)) == b": still here\n\n")


def test_stream_ends_after_a_while(api: Api, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """No stream takes its thread for ever; the client connects anew."""
    monkeypatch.setattr(streams, "LONGEST", 1.0)
    house.publish(WAITING)
    with following(api, f"/instances/{house.start()}/stream?poll_ms=100") as stream:
        assert [e["event"] for e in stream] == ["state"]


def test_streams_leave_room_for_requests(house: House) -> None:
    """At most ORCH8_SSE_MAX at a time, then 503; a stream that closes makes room."""
    with serving(house.database, sse_max=1) as api:
        path = f"/instances/{house.run(CHARGE)}/stream"
        with following(api, path):
            answer = api.send("GET", "/changes/stream?tenant_id=default")
            assert answer.status_code == 503
            assert "Retry-After" in answer.headers
            assert api.client.head(path).status_code == 200
        with following(api, path):
            pass


# -- the feed ------------------------------------------------------------------------------------
def test_completed_run_ends_with_its_transition(api: Api, house: House) -> None:
    """The last entry says that it is completed."""
    instance = house.run(CHARGE)
    page = entries(api)
    last = page["changes"][-1]
    assert (last["event_type"], last["to_state"]) == ("state_transition", "completed")
    assert last["instance_id"] == str(instance)
    assert not page["has_more"]


def test_pause_and_resume_are_transitions(api: Api, house: House) -> None:
    """Each with where it went, or came from."""
    house.publish(WAITING)
    instance = house.start()
    for control in ("pause", "resume"):
        house.signal(instance, control)
    found = [e for e in entries(api)["changes"] if e["event_type"] == "state_transition"]
    assert [(e.get("from_state"), e.get("to_state")) for e in found] == [
        (None, "paused"), ("paused", None),
    ]  # fmt: skip


def test_sequences_and_custom_signals_are_not_in_the_feed(api: Api, house: House) -> None:
    """It is about what becomes of instances."""
    api.post("/sequences", NOOP)
    assert entries(api) == {"changes": [], "has_more": False}
    house.publish(WAITING)
    instance = house.start()
    before = actions(entries(api))
    house.signal(instance, name="paid")
    assert "signal.paid" in house.actions(instance)
    assert actions(entries(api)) == before


def test_feed_is_read_page_by_page(api: Api, house: House) -> None:
    """Ascending, nothing twice, nothing left out; the last page has a cursor, an empty one none."""
    for _ in range(3):
        house.run(CHARGE)
    whole = entries(api)["changes"]
    read: list[Any] = []
    query = "&limit=2"
    while (page := entries(api, query))["changes"]:
        assert page["has_more"] == (len(read) + 2 < len(whole))
        read += page["changes"]
        query = f"&limit=2&cursor={page['next_cursor']}"
    assert read == whole
    assert "next_cursor" not in page
    order = [(e["created_at"], e["id"]) for e in whole]
    assert order == sorted(order)


def test_ids_sort_with_their_times_in_a_burst(api: Api, house: House) -> None:
    """Many instances within milliseconds: their entries' ids are in the order of the feed."""
    house.publish(CHARGE)
    for _ in range(30):
        house.start()
    ids = [e["id"] for e in entries(api, "&limit=500")["changes"]]
    assert len(ids) == 30
    assert ids == sorted(ids)


def test_pages_do_not_change(api: Api, house: House) -> None:
    """Whatever happens later comes later."""
    house.run(CHARGE)
    before = entries(api, "&limit=2")
    house.run(CHARGE)
    assert entries(api, "&limit=2") == before | {"has_more": True}


def test_feed_waits_for_transactions_that_are_still_open(api: Api, house: House) -> None:
    """Nothing younger than one is shown, since it may still write something older."""
    house.run(CHARGE)
    with closing(psycopg2.connect(house.database.url)) as connection:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        late = house.run(CHARGE)
        shown = {e["instance_id"] for e in entries(api)["changes"]}
        assert shown
        assert str(late) not in shown
        connection.rollback()
        assert str(late) in {e["instance_id"] for e in entries(api)["changes"]}


def test_tenants_are_apart(api: Api, house: House) -> None:
    """A feed has one tenant's entries; the header wins over the query."""
    house.run(CHARGE)
    assert entries(api, tenant="acme")["changes"] == []
    mine = api.get("/changes?tenant_id=acme", headers={"X-Tenant-Id": "default"})
    assert {e["tenant_id"] for e in mine["changes"]} == {"default"}


@pytest.mark.parametrize("path", ["/changes", "/changes?tenant_id=", "/changes/stream"])
def test_feed_needs_a_tenant(api: Api, path: str) -> None:
    """400, before anything is sent."""
    assert "tenant scope is required" in api.refused(400, "GET", path)["error"]


@pytest.mark.parametrize("path", ["/changes", "/changes/stream"])
@pytest.mark.parametrize("cursor", ["nonsense", "e30", "W10", "!!", "a" * 600])
def test_malformed_cursor_is_refused(api: Api, path: str, cursor: str) -> None:
    """400, and it says that it is the cursor."""
    query = f"{path}?tenant_id=default&cursor={cursor}"
    assert "malformed change cursor" in api.refused(400, "GET", query)["error"]


def place(at: str) -> str:
    """A cursor with this time and an id that nobody has."""
    text = json.dumps({"created_at": at, "id": str(uuid4())})
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


@pytest.mark.parametrize("at", ["9999-12-31T23:59:59Z", "2200-01-01T00:00:00.123456789Z"])
def test_cursor_in_the_future_has_nothing_behind_it(api: Api, house: House, at: str) -> None:
    """An empty page."""
    house.run(CHARGE)
    assert entries(api, f"&cursor={place(at)}") == {"changes": [], "has_more": False}


def test_cursor_with_an_unknown_id_is_a_place_all_the_same(api: Api, house: House) -> None:
    """Its time counts."""
    house.run(CHARGE)
    whole = entries(api)
    for at in ("1970-01-01T00:00:00Z", "0001-01-01T00:00:00Z"):
        assert entries(api, f"&cursor={place(at)}") == whole


@pytest.mark.parametrize(("limit", "found"), [("0", 1), ("-3", 1), ("100000", 3)])
def test_limit_is_brought_into_range(api: Api, house: House, limit: str, found: int) -> None:
    """From 1 to 500."""
    house.run(CHARGE)
    assert len(entries(api, f"&limit={limit}")["changes"]) == found


# -- the feed as a stream ------------------------------------------------------------------------
def test_stream_of_changes_begins_at_the_beginning(api: Api, house: House) -> None:
    """The entries of the feed, each with the cursor behind it; then it goes on."""
    house.run(CHARGE)
    page = entries(api)
    with following(api, "/changes/stream?tenant_id=default") as stream:
        events = stream.take(len(page["changes"]))
        assert {e["event"] for e in events} == {"change"}
        assert [e["data"] for e in events] == page["changes"]
        assert events[-1]["id"] == page["next_cursor"]
        later = house.run(CHARGE)
        assert {e["data"]["instance_id"] for e in stream.take(3)} == {str(later)}


@pytest.mark.parametrize("how", ["cursor", "header", "both"])
def test_stream_of_changes_goes_on_where_it_was(api: Api, house: House, how: str) -> None:
    """Behind the cursor of the query, else behind the last event that the client saw."""
    house.run(CHARGE)
    first = entries(api, "&limit=1")["next_cursor"]
    query = "" if how == "header" else f"&cursor={first}"
    seen = {"header": first, "both": place("2200-01-01T00:00:00Z")}.get(how)
    headers = {} if seen is None else {"Last-Event-ID": seen}
    with following(api, f"/changes/stream?tenant_id=default{query}", headers=headers) as stream:
        (event,) = stream.take(1)
    assert event["data"] == entries(api)["changes"][1]


def test_long_feed_is_streamed_whole(api: Api, house: House) -> None:
    """A page after the other, without a pause between them."""
    house.publish(CHARGE)
    ids = [str(house.start()) for _ in range(130)]
    with following(api, "/changes/stream?tenant_id=default") as stream:
        assert [e["data"]["instance_id"] for e in stream.take(130)] == ids
