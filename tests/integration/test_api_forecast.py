"""Looking ahead over REST and in the metrics: forecasts, and what providers publish."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.api import Api, serving
from tests.support.house import House

CHARGE = {
    "type": "step", "handler": "charge", "deadline": "1h", "rate_limit_key": "acquirer",
    "rate_limit": {"max": 1, "window_seconds": 3600},
}  # fmt: skip
# As a refusal of this limit leaves them.
IN_LINE = """UPDATE steps SET due_at = NULL, limit_key = 'acquirer', queued_at = orch8_now(),
    deferrals = 1, progress = '{"limit": ["acquirer", 1, 3600.0, 0.02]}'"""


@pytest.fixture
def api(house: House) -> Iterator[Api]:
    """The app over the house's database."""
    with serving(house.database) as found:
        yield found


def test_nothing_ahead_is_an_empty_list(api: Api) -> None:
    """And a key that nobody knows is not found."""
    assert api.get("/rate-limits/forecast") == {"items": [], "left_out": 0}
    refusal = api.refused(404, "GET", "/rate-limits/forecast?key=nobody")
    assert "'nobody'" in refusal["error"]


def test_forecast_tells_of_limits_and_queues(api: Api, house: House) -> None:
    """Three in line of one an hour: the second misses its deadline by a little, so does the third;
    a key without a queue follows.
    """
    house.publish(CHARGE)
    ids = [str(house.start()) for _ in range(3)]
    house.sql(IN_LINE)
    api.send("PUT", "/rate-limits/idle", {"max": 95, "window_seconds": 1, "max_in_flight": 30})
    queue, idle = api.get("/rate-limits/forecast")["items"]
    assert (queue["key"], queue["max"], queue["window_seconds"]) == ("acquirer", 1, 3600.0)
    assert (queue["waiting"], queue["waiting_by_lane"]) == (3, {"renewal": 3})
    assert queue["drain_seconds"] == pytest.approx(7200.04, abs=0.01)
    assert queue["will_miss"] == 2
    assert [each["instance_id"] for each in queue["misses"]] == ids[1:]
    assert {each["misses"] for each in queue["misses"]} == {"deadline"}
    assert (queue["used"], queue["in_flight"]) == (None, None)  # this app has no Redis
    assert (idle["key"], idle["waiting"], idle["max_in_flight"]) == ("idle", 0, 30)
    (one,) = api.get("/rate-limits/forecast?key=idle")["items"]
    assert one == idle
    other = {"X-Tenant-Id": "other"}
    assert api.get("/rate-limits/forecast", headers=other)["items"] == []


def test_metrics_tell_when_queues_drain_and_who_comes_too_late(api: Api, house: House) -> None:
    """Of keys that steps wait for only."""
    house.publish(CHARGE)
    for _ in range(3):
        house.start()
    assert "orch8_rate_limit_drain_seconds{" not in api.client.get("/metrics").text
    house.sql(IN_LINE)
    text = api.client.get("/metrics").text
    labels = '{key="acquirer",tenant="default"}'
    assert f"orch8_rate_limit_drain_seconds{labels} 7200." in text
    assert f"orch8_rate_limit_will_miss{labels} 2.0" in text


def test_forecast_looks_into_redis_if_there_is_one(house: House) -> None:
    """What is used is told then."""
    with serving(house.database, redis_url=house.settings.redis_url) as api:
        api.send("PUT", "/rate-limits/idle", {"max": 95, "window_seconds": 1})
        (idle,) = api.get("/rate-limits/forecast")["items"]
    assert idle["in_flight"] == 0
    assert isinstance(idle["used"], int)


def test_presets_say_what_providers_publish(api: Api) -> None:
    """With sources, keys, and the numbers of both modes."""
    found = api.get("/rate-limits/presets")
    assert found["version"] >= 1
    stripe = next(each for each in found["items"] if each["name"] == "stripe")
    assert stripe["source"] == "https://docs.stripe.com/rate-limits"
    assert stripe["limits"][0]["live"] == {"max": 100, "window_seconds": 1.0, "max_in_flight": None}
    assert "each" in stripe["limits"][-1]


def test_presets_can_be_set_as_they_are(api: Api) -> None:
    """Every published limit of an account is taken, and the audit log says who set it."""
    count = 0
    for provider in api.get("/rate-limits/presets")["items"]:
        for each in provider["limits"]:
            key = each["key"].replace("{mode}", "live").replace("{account}", "acct_1")
            if each["each"] is None and each["live"] is not None:
                body = {name: value for name, value in each["live"].items() if value is not None}
                told = api.send("PUT", f"/rate-limits/{key}", body, headers={"X-Actor": "maria"})
                assert told.status_code == 200, told.text
                assert {name: told.json[name] for name in body} == body
                count += 1
    audit = "SELECT count(*) FROM audit_log WHERE action = 'limit.changed' AND actor = 'maria'"
    assert api.rows(audit) == [(count,)]
    assert len(api.get("/rate-limits/forecast")["items"]) == count


def test_keys_named_like_routes_can_be_limited(api: Api) -> None:
    """Only reading one of that name by itself is taken; the list has it."""
    api.send("PUT", "/rate-limits/forecast", {"max": 1, "window_seconds": 1})
    assert [each["key"] for each in api.get("/rate-limits")["items"]] == ["forecast"]
    assert api.send("DELETE", "/rate-limits/forecast").status_code == 204
