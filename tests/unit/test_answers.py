"""Answers: what the server is handed."""

from __future__ import annotations

import pytest

from api.answers import answer


@pytest.mark.parametrize(("method", "body"), [("GET", [b'{"a":1}']), ("HEAD", [])])
def test_answer_is_handed_over_whole(method: str, body: list[bytes]) -> None:
    """One list that the server can send at once; to HEAD without the body, but with its length."""
    told: list[object] = []
    given = answer({"a": 1}, 201)({"REQUEST_METHOD": method}, lambda *head: told.append(head))
    assert given == body
    assert told == [
        ("201 CREATED", [("Content-Type", "application/json"), ("Content-Length", "7")])
    ]
