"""The pretend provider and orch8 together: a lost answer is found by search and by webhook."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
from werkzeug.serving import make_server

from api import create_app
from orch8.testing.misbehaviour import Do, Rule
from orch8.testing.provider import Provider
from orch8.testing.webhooks import Format, Target
from tests.support.house import House, until

API_KEY = "k" * 40


def charging(**on_unknown: object) -> dict[str, object]:
    """A step that takes money and says how its doubts are resolved."""
    return {
        "type": "step",
        "id": "pay",
        "handler": "charge",
        "effect": "money",
        "provider": "stripe_v1",
        "params": {"amount": 9900},
        "money": {"amount": 9900, "currency": "USD"},
        "on_unknown": on_unknown,
    }


@pytest.fixture
def provider() -> Iterator[Provider]:
    """A provider that speaks as Stripe does."""
    with Provider(preset="stripe_v1") as running:
        yield running


@pytest.fixture
def listening(house: House) -> Iterator[str]:
    """The address of the API of the house, over a real socket."""
    settings = replace(house.settings, api_key=API_KEY)
    app = create_app(settings, house.office, lambda _: None)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join(5)
    server.server_close()


def test_search_resolves_a_charge_whose_answer_was_lost(house: House) -> None:
    """The charge is made, its answer lost, the search asked until it tells: charged once."""
    house.provider_does(Do.COMMIT_THEN_HANG_UP, Do.SEARCH_FAIL, Do.SEARCH_CANNOT_TELL)
    found = {"policy": "reconcile", "handler": "find_charge", "schedule": ["1s", "1s", "1s"]}
    instance_id = house.run(charging(**found))
    assert house.step(instance_id, "pay").output is None

    def resolved() -> bool:
        house.work("janitor")
        return house.state(instance_id) == "completed"

    until(resolved)
    (entry,) = house.keys()
    assert (entry["asked"], entry["charged"], entry["searched"]) == (1, 1, 1)
    assert house.step(instance_id, "pay").provider_ref == entry["charges"][0]["charge_id"]


@pytest.mark.parametrize("do", [None, Do.WEBHOOK_DUPLICATE, Do.WEBHOOK_CONTRARY_LAST])
def test_webhook_resolves_a_charge_whose_answer_was_lost(
    house: House, listening: str, do: Do | None
) -> None:
    """The provider's own word ends the doubt, however often it comes and whatever follows it."""
    house.provider.webhooks.aim(
        Target(
            listening + "/attempts/evidence",
            format=Format.ORCH8,
            headers={"x-api-key": API_KEY, "X-Tenant-Id": "default"},
            backoff_ms=50,
            tries=50,
        )
    )
    rules = [Rule(Do.COMMIT_THEN_HANG_UP, times=1)]
    house.provider_does(*rules, *([do] if do is not None else []))
    instance_id = house.run(charging(policy="park"))
    until(lambda: house.provider.webhooks.shown()["waiting"] == 0)
    shown = house.provider.webhooks.shown()
    assert shown["delivered"] == shown["announced"] == (1 if do is None else 2)
    house.work()
    assert house.state(instance_id) == "completed"
    assert house.totals()["charged"] == 1
    incidents = house.sql("SELECT kind FROM incidents WHERE instance_id = %s", str(instance_id))
    assert len(incidents) == (do is Do.WEBHOOK_CONTRARY_LAST)
