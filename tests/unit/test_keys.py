"""Node keys: what they look like, and that nothing is lost in the writing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orch8.engine.keys import NodeKey, escape_id, unescape_id

ids = st.text(min_size=1, max_size=20)
paths = st.lists(st.integers(0, 10**6), max_size=4).map(tuple)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (NodeKey("pay"), "pay"),
        (NodeKey("pay", (17,)), "pay[17]"),
        (NodeKey("submit", (17, 2)), "submit[17,2]"),
        (NodeKey("pay", (), 2), "pay~2"),
        (NodeKey("submit", (17, 2), 3), "submit[17,2]~3"),
        (NodeKey("@root"), "@root"),
    ],
)
def test_key_reads_as_block_path_and_round(key: NodeKey, text: str) -> None:
    """A key spells its block, the iterations it stands in, and the round from the second on."""
    assert str(key) == text
    assert NodeKey.parse(text) == key


@given(ids, paths, st.integers(1, 10**6))
def test_key_of_any_given_id_survives_its_text(
    given_id: str, path: tuple[int, ...], n: int
) -> None:
    """Whatever characters a given id has, its keys can be read back."""
    key = NodeKey(escape_id(given_id), path, n)
    assert NodeKey.parse(str(key)) == key
    assert unescape_id(key.block_id) == given_id


@given(ids)
def test_escaped_id_has_none_of_the_characters_that_keys_use(given_id: str) -> None:
    """Brackets, tilde, slash and at sign belong to the keys."""
    assert not set("[]~/@") & set(escape_id(given_id))


@given(ids, ids)
def test_escaped_ids_differ_where_the_given_ones_do(one: str, other: str) -> None:
    """Two blocks never share a key."""
    assert (escape_id(one) == escape_id(other)) == (one == other)


@pytest.mark.parametrize(
    "text",
    [
        *("", "[1]", "pay[", "pay[]", "pay[1", "pay[1,]", "pay[-1]", "pay[1]x", "a]b"),
        *("pay[\u0663]", "pay~0", "pay~", "pay~1x"),
    ],
)
def test_text_that_spells_no_key_is_refused(text: str) -> None:
    """The error shows the text."""
    with pytest.raises(ValueError, match="not a node key"):
        NodeKey.parse(text)


def test_child_stays_in_the_iteration_and_round_of_its_parent() -> None:
    """Only iterating blocks add an index."""
    at = NodeKey("loop", (3,), 2)
    assert at.child("body") == NodeKey("body", (3,), 2)
    assert at.nth("body", 5) == NodeKey("body", (3, 5), 2)


def test_again_is_the_same_node_one_round_later() -> None:
    """The key of a retry is a new key."""
    assert NodeKey("pay", (1,)).again() == NodeKey("pay", (1,), 2)
