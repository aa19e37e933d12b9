"""The fixtures that the tests of the contract share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.support.api import Api, serving
from tests.support.composed import Composed, composing
from tests.support.desk import Desk, seated
from tests.support.house import House
from tests.support.servers import Database


@pytest.fixture
def api(postgres: Database) -> Iterator[Api]:
    """The app on an empty database, open to everybody."""
    with serving(postgres) as found:
        yield found


@pytest.fixture
def desk(house: House) -> Iterator[Desk]:
    """The app on a house whose pump works."""
    with seated(house) as found:
        yield found


@pytest.fixture
def play(houses: Callable[..., House]) -> Iterator[Composed]:
    """Definitions in the contract's form; handlers that nobody knows wait for pull workers."""
    with composing(houses(handler_url="")) as found:
        yield found
