"""What is sealed opens with its key, in its place, and nowhere else."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orch8.errors import ConfigurationError, InvalidArgument, Unavailable
from orch8.storage.cipher import OPEN, CannotOpen, Cipher
from orch8.storage.rows import StepRow

OLD, NEW = "a1" * 32, "b2" * 32


@given(st.text(), st.text())
def test_sealed_text_opens_in_its_place(text: str, place: str) -> None:
    """Whatever the text, nothing of it shows."""
    cipher = Cipher(NEW)
    sealed = cipher.seal(text, place)
    assert sealed.startswith(cipher.mark())
    assert cipher.open(sealed, place) == text


def test_sealed_text_says_which_key_opens_it() -> None:
    """The prefix is the contract's, then come eight digits that name the key."""
    prefix, version, key_id, raw = Cipher(NEW).seal("a secret", "here").split(":")
    assert (prefix, version, len(key_id)) == ("enc", "v1", 8)
    assert len(base64.b64decode(raw)) == 12 + len("a secret") + 16


def test_same_text_is_sealed_differently_each_time() -> None:
    """Two equal secrets cannot be told from each other's rows."""
    cipher = Cipher(NEW)
    assert cipher.seal("a secret", "here") != cipher.seal("a secret", "here")


def test_sealed_text_does_not_open_elsewhere() -> None:
    """A secret that was copied into another row is refused."""
    cipher = Cipher(NEW)
    with pytest.raises(CannotOpen):
        cipher.open(cipher.seal("a secret", "here"), "there")


@pytest.mark.parametrize("at", [0, 20, -1])
def test_changed_text_does_not_open(at: int) -> None:
    """Nonce, ciphertext and tag are all authenticated."""
    cipher = Cipher(NEW)
    sealed = cipher.seal("a secret", "here")
    mark = cipher.mark()
    raw = bytearray(base64.b64decode(sealed.removeprefix(mark)))
    raw[at] ^= 1
    with pytest.raises(CannotOpen):
        cipher.open(mark + base64.b64encode(bytes(raw)).decode(), "here")


def test_old_key_opens_and_does_not_seal() -> None:
    """A rotation begins with both keys."""
    sealed = Cipher(OLD).seal("a secret", "here")
    both = Cipher(NEW, OLD)
    assert both.open(sealed, "here") == "a secret"
    assert both.seal("a secret", "here").startswith(Cipher(NEW).mark())


def test_text_without_a_key_id_is_tried_with_each_key() -> None:
    """That is how the contract writes it."""
    sealed = Cipher(OLD).seal("a secret", "here")
    bare = "enc:v1:" + sealed.rpartition(":")[2]
    assert Cipher(NEW, OLD).open(bare, "here") == "a secret"
    with pytest.raises(CannotOpen):
        Cipher(NEW).open(bare, "here")


@pytest.mark.parametrize("cipher", [OPEN, Cipher(NEW)])
def test_missing_key_is_named_and_waited_for(cipher: Cipher) -> None:
    """That a process was started with the wrong key is no fault of the row's."""
    sealed = Cipher(OLD).seal("a secret", "here")
    with pytest.raises(Unavailable, match=sealed.split(":")[2]):
        cipher.open(sealed, "here")


def test_text_from_before_the_key_is_read_as_it_stands() -> None:
    """An installation can begin to encrypt at any time."""
    assert Cipher(NEW).open("a secret", "here") == "a secret"


def test_without_a_key_texts_stay_as_they_are() -> None:
    """But one that would look sealed later is refused."""
    assert OPEN.seal("a secret", "here") == "a secret"
    with pytest.raises(InvalidArgument, match="enc:v1:"):
        OPEN.seal("enc:v1:abc", "here")


@pytest.mark.parametrize("key", ["a1" * 31, "a1" * 33, "xy" * 32, "short"])
def test_key_is_64_hexadecimal_digits(key: str) -> None:
    """The error names the variable, and not the key."""
    with pytest.raises(ConfigurationError, match="ORCH8_OLD_ENCRYPTION_KEY") as problem:
        Cipher(NEW, key)
    assert key not in str(problem.value)


def test_context_keeps_its_shape_around_sealed_data() -> None:
    """Config stays readable; data is one text, bound to the instance."""
    cipher, mine, other = Cipher(NEW), uuid4(), uuid4()
    context = {"data": {"card": "4242"}, "config": {"a": 1}}
    sealed = cipher.seal_context(mine, context)
    assert sealed["config"] == {"a": 1}
    assert sealed["data"].startswith("enc:v2:")
    assert cipher.open_context(mine, sealed) == context
    with pytest.raises(CannotOpen):
        cipher.open_context(other, sealed)


@pytest.mark.parametrize("data", ["a text", "enc:v2:not sealed", None, [], {}])
def test_context_whose_data_is_no_object_comes_back_as_it_was(data: object) -> None:
    """Even a text that looks sealed."""
    cipher, mine, context = Cipher(NEW), uuid4(), {"data": data}
    assert cipher.open_context(mine, cipher.seal_context(mine, context)) == context


def test_request_stays_open_for_its_attempt() -> None:
    """Also in the row of the next round; not for another key."""
    cipher, row = Cipher(NEW), step("k1")
    row.request = cipher.seal_request(row, b'{"params":1}')
    assert b"params" not in row.request
    assert cipher.open_request(row) == b'{"params":1}'
    row.idempotency_key = "k2"
    with pytest.raises(CannotOpen):
        cipher.open_request(row)


def step(key: str) -> StepRow:
    """A row with an attempt."""
    return StepRow(
        UUID(int=1), "charge", uuid4(), "t", "charge", "charge", "money", "running", "renewal",
        datetime.now(UTC), idempotency_key=key,
    )  # fmt: skip
