"""The worlds of the acceptance tests: real stacks of real processes, one for each module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orch8.dev.stack import StackOptions
from tests.support.stack import ProviderProcess, World, example

MakeWorld = Callable[..., World[ProviderProcess]]


@pytest.fixture(scope="module")
def make_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeWorld]:
    """Make a running stack with a provider, on which the dunning example is published."""
    made: list[World[ProviderProcess]] = []

    def make(**options: object) -> World[ProviderProcess]:
        folder: Path = tmp_path_factory.mktemp("world")
        given = {"durable": False, "tick": 0.5} | options
        world = World(
            folder,
            ProviderProcess(folder),
            options=StackOptions(**given),  # type: ignore[arg-type]
        )
        made.append(world)
        world.__enter__()
        world.publish(example("payment_dunning"))
        return world

    yield make
    for world in made:
        world.close()
