"""ab_split: one variant by weight."""

from __future__ import annotations

from collections import Counter
from hashlib import sha256
from uuid import UUID

import pytest

from orch8.blocks.ab_split import AbSplit
from orch8.engine.keys import NodeKey, escape_id
from orch8.engine.moves import Memo
from orch8.engine.outcome import COMPLETED
from tests.support.definitions import INSTANCE, Said, chain, index_of
from tests.support.shell import Shell, failing


def _split(*weights: int, block_id: str = "split") -> AbSplit:
    variants = tuple((f"v{n}", w, chain(f"c{n}", f"t{n}")) for n, w in enumerate(weights))
    return AbSplit(id=block_id, variants=variants)


def _taken(split: AbSplit, instance_id: str = INSTANCE) -> dict[str, object]:
    shell = Shell(index_of(split), Said(instance_id=instance_id)).start()
    (memo,) = (e for e in shell.effects if isinstance(e, Memo))
    assert memo.key == NodeKey(split.id)
    assert shell.scheduled == [f"t{memo.output['variant_index']}"]
    return dict(memo.output)


def test_split_runs_one_variant_and_notes_which() -> None:
    """The memo has the variant's name and its place in the list."""
    assert _taken(_split(0, 5, 0)) == {"variant": "v1", "variant_index": 1}


@pytest.mark.parametrize("given_id", ["split", "a/b"])
def test_split_draws_from_the_instance_and_the_given_id(given_id: str) -> None:
    """SHA-256 of the instance's 16 bytes, a zero and the id as given; eight bytes, big-endian."""
    seed = UUID(INSTANCE).bytes + b"\0" + given_id.encode()
    expected = int.from_bytes(sha256(seed).digest()[:8], "big") % 100
    split = _split(*[1] * 100, block_id=escape_id(given_id))
    assert _taken(split)["variant_index"] == expected


def test_split_takes_the_same_variant_every_time() -> None:
    """The instance decides, not chance."""
    assert _taken(_split(1, 1)) == _taken(_split(1, 1))


def test_split_keeps_to_the_weights() -> None:
    """Of a thousand instances about a quarter take a variant that weighs one in four."""
    taken = Counter(
        _taken(_split(1, 3), str(UUID(int=n * 2**64 + n)))["variant"] for n in range(1_000)
    )
    assert 200 < taken["v0"] < 300


def test_split_retried_keeps_its_variant() -> None:
    """The choice was made."""
    shell = Shell(index_of(_split(0, 1)), answers=failing("t1", until=1)).start()
    shell.run()
    assert shell.retry() == COMPLETED
    assert shell.scheduled == ["t1", "t1~2"]
