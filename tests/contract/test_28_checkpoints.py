"""CONTRACT 28: checkpoints are what operators note about an instance."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from tests.support.api import CHARGE, Api

OTHER = {"X-Tenant-Id": "other"}


@pytest.fixture
def path(api: Api) -> str:
    """Where the checkpoints of an instance are."""
    return f"/instances/{api.started(CHARGE)['id']}/checkpoints"


def test_checkpoints_are_listed_the_newest_first(api: Api, path: str) -> None:
    """Any JSON is kept."""
    assert api.get(path) == []
    made = [api.post(path, {"checkpoint_data": data})["id"] for data in ({"n": 1}, [2], 0, "x")]
    found = api.get(path)
    assert [each["id"] for each in found] == made[::-1]
    assert [each["checkpoint_data"] for each in found] == ["x", 0, [2], {"n": 1}]
    assert {each["instance_id"] for each in found} == {path.split("/")[2]}
    assert api.get(f"{path}/latest") == found[0]


def test_list_has_at_most_100(api: Api, path: str) -> None:
    """The newest of them."""
    for number in range(103):
        api.post(path, {"checkpoint_data": number})
    found = api.get(path)
    assert [found[0]["checkpoint_data"], found[-1]["checkpoint_data"], len(found)] == [102, 3, 100]


def test_latest_of_none_is_404(api: Api, path: str) -> None:
    """There is nothing to show."""
    api.refused(404, "GET", f"{path}/latest")


def test_pruning_leaves_the_newest(api: Api, path: str) -> None:
    """And says how many are gone."""
    for number in range(5):
        api.post(path, {"checkpoint_data": number})
    for keep, gone, left in ((9, 0, 5), (2, 3, 2), (2, 0, 2), (0, 2, 0)):
        assert api.post(f"{path}/prune", {"keep": keep}, status=200) == {"count": gone}
        assert [each["checkpoint_data"] for each in api.get(path)] == [4, 3, 2, 1, 0][:left]


def test_ended_instance_takes_checkpoints(api: Api, path: str) -> None:
    """Whatever state it is in."""
    api.post(path.replace("checkpoints", "signals"), {"signal_type": "cancel"})
    api.post(path, {"checkpoint_data": 1})
    assert len(api.get(path)) == 1


def test_writers_at_once_lose_nothing(api: Api, path: str) -> None:
    """While others prune; the newest stays."""
    client = api.app.test_client

    def write(number: int) -> int:
        if number % 5 == 0:
            return client().post(f"{path}/prune", json={"keep": 100}).status_code
        return client().post(path, json={"checkpoint_data": number}).status_code

    with ThreadPoolExecutor(4) as writers:
        statuses = list(writers.map(write, range(40)))
    assert set(statuses) == {200, 201}
    assert len(api.get(path)) == 32


def test_unknown_instance_is_404_everywhere(api: Api, path: str) -> None:
    """And another tenant's."""
    api.post(path, {"checkpoint_data": 1})
    for place, headers in ((f"/instances/{uuid4()}/checkpoints", {}), (path, OTHER)):
        api.refused(404, "GET", place, headers=headers)
        api.refused(404, "GET", f"{place}/latest", headers=headers)
        api.refused(404, "POST", place, {"checkpoint_data": 1}, headers=headers)
        api.refused(404, "POST", f"{place}/prune", {"keep": 0}, headers=headers)


def test_wrong_shape_is_refused(api: Api, path: str) -> None:
    """Missing members and wrong types are 422, fewer than none 400."""
    api.refused(422, "POST", path, {})
    api.refused(422, "POST", f"{path}/prune", {})
    api.refused(422, "POST", f"{path}/prune", {"keep": "1"})
    api.refused(400, "POST", f"{path}/prune", {"keep": -1})
