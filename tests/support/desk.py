"""A client of the app on a house: what is asked for over REST is worked on by a real pump."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from api import create_app
from tests.support.api import Api
from tests.support.house import House


class Desk:
    """``api`` asks, ``house`` works."""

    def __init__(self, api: Api, house: House) -> None:
        self.api, self.house = api, house

    def run(self, definition: Any, **members: Any) -> Any:
        """A new instance of the definition has been worked on; as it is now."""
        started = self.api.started(definition, **members)
        self.house.work()
        return self.read(started)

    def read(self, instance: Any) -> Any:
        """The instance as it is now."""
        return self.api.get(f"/instances/{instance['id']}")


@contextmanager
def seated(house: House) -> Iterator[Desk]:
    """A desk in the house, open to everybody."""
    announced: list[str] = []
    app = create_app(replace(house.settings, insecure=True), house.office, announced.append)
    yield Desk(Api(app, app.test_client(), house.office, house.database, announced), house)
