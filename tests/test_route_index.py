"""The routes of the contract: each is in the app, bare and under /api/v1, and in OpenAPI."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from flask import Flask

from api import create_app
from api.mounting import API
from orch8.config import Settings
from orch8.runtime.office import Office

INDEX = Path(__file__).parent / "contract" / "routes.txt"
ROOT_ONLY = "1"  # the section of the routes that stand at the root and nowhere else


class Route(NamedTuple):
    """A route as the contract names it, the names of its parameters left out."""

    section: str
    method: str
    path: str


def routes(text: str) -> list[Route]:
    """The routes that a list names, a line each."""
    lines = (line.split() for line in text.splitlines() if line and not line.startswith("#"))
    return [Route(section, method, shape(path)) for section, method, path in lines]


def shape(path: str) -> str:
    """The path with its parameters alike, in Flask's spelling and in OpenAPI's."""
    return re.sub(r"<[^>]*>|{[^}]*}", "{}", path)


@pytest.fixture(scope="module")
def app() -> Iterator[Flask]:
    """The app, with a database that nobody asks."""
    settings = Settings(
        insecure=True, database_url="postgresql://nobody@127.0.0.1:1/none", key_secret="s"
    )
    office = Office(settings)
    yield create_app(settings, office, print)
    office.close()


def missing(route: Route, known: set[tuple[str, str]]) -> list[str]:
    """The addresses of the route that are not known."""
    paths = [route.path] if route.section == ROOT_ONLY else [route.path, API + route.path]
    return [f"{route.method} {path}" for path in paths if (route.method, path) not in known]


def served(app: Flask) -> set[tuple[str, str]]:
    """What the app answers to."""
    return {
        (method, shape(rule.rule))
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
    }


def test_every_route_of_the_contract_is_served(app: Flask) -> None:
    """No route of the index is missing."""
    known = served(app)
    assert [each for route in routes(INDEX.read_text()) for each in missing(route, known)] == []


def test_every_route_of_the_contract_is_described(app: Flask) -> None:
    """The OpenAPI document tells of each, under both addresses."""
    document = app.test_client().get("/api-docs/openapi.json").get_json()
    known = {
        (method.upper(), shape(path))
        for path, operations in document["paths"].items()
        for method in operations
    }
    assert [each for route in routes(INDEX.read_text()) for each in missing(route, known)] == []


def test_unknown_methods_and_paths_are_told_apart(app: Flask) -> None:
    """A path that exists with another method is 405, one that does not is 404."""
    client = app.test_client()
    assert client.open("/health/live", method="POST").status_code == 405
    assert client.get("/api/v1/health/live").status_code == 404
