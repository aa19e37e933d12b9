"""cipher: what is sealed in the database can be read only with keys that the database has not.

AES-256-GCM with a fresh nonce for each text. A sealed text says which key opens it, by eight digits
of the key's SHA-256, and opens only in the place that it was sealed for: the same bytes in another
row are refused.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

import orjson

from orch8.errors import ConfigurationError, InvalidArgument, Orch8Error, Unavailable
from orch8.storage.rows import StepRow

TEXT: Final = "enc:v1:"
CONTEXT: Final = "enc:v2:"  # the data of a context
PLAIN: Final = "enc:v0:"  # before a text that is in the clear and looks sealed
_LOOKS_SEALED: Final = "enc:v"
NONCE_BYTES: Final = 12
_KEY: Final = re.compile(r"[0-9a-fA-F]{64}")
_SEALED: Final = re.compile(r"enc:v[12]:(?:([0-9a-f]{8}):)?([A-Za-z0-9+/]+={0,2})")


class CannotOpen(Orch8Error):
    """A sealed text was changed, or stands where it was not sealed for."""

    code = "cannot_open"


class Cipher:
    """Seals with one key and opens with that and an older one; without keys it leaves texts alone.

    Keys are 64 hexadecimal digits; raises ConfigurationError for one that is not.
    """

    def __init__(self, key: str = "", old_key: str = "") -> None:
        self._keys: dict[str, Any] = {}
        self._current = self._take("ORCH8_ENCRYPTION_KEY", key) if key else None
        if old_key:
            self._take("ORCH8_OLD_ENCRYPTION_KEY", old_key)

    @property
    def seals(self) -> bool:
        """Whether there is a key to seal with."""
        return self._current is not None

    def mark(self, kind: str = TEXT) -> str:
        """What texts begin with that are sealed with the present key; empty without one."""
        return f"{kind}{self._current}:" if self._current is not None else ""

    def is_current(self, value: Any, kind: str = TEXT) -> bool:
        """Whether a value is a text that is sealed with the present key."""
        return isinstance(value, str) and self.seals and value.startswith(self.mark(kind))

    def seal(self, text: str, place: str, kind: str = TEXT) -> str:
        """The text, sealed for its place if there is a key.

        Raises InvalidArgument for one that would look sealed and is not.
        """
        if self._current is None:
            if text.startswith((TEXT, CONTEXT)):
                raise InvalidArgument(f"a text that begins with {text[:7]} cannot be kept")
            return text
        nonce = os.urandom(NONCE_BYTES)
        sealed = self._keys[self._current].encrypt(nonce, text.encode(), place.encode())
        return self.mark(kind) + base64.b64encode(nonce + sealed).decode()

    def open(self, text: str, place: str) -> str:
        """The text that was sealed for this place; one that is not sealed, as it stands.

        Raises Unavailable when its key is not here, CannotOpen when no key could open it.
        """
        if not text.startswith((TEXT, CONTEXT)):
            return text
        found = _SEALED.fullmatch(text)
        if found is None:
            raise CannotOpen
        key_id, raw = found[1], _bytes(found[2])
        if not self._keys or (key_id is not None and key_id not in self._keys):
            raise Unavailable(
                f"what is kept is sealed with the key {key_id or '(unnamed)'}, which this process "
                "has not: set it as ORCH8_ENCRYPTION_KEY or ORCH8_OLD_ENCRYPTION_KEY"
            )
        for key in [self._keys[key_id]] if key_id is not None else self._keys.values():
            opened = _opened(key, raw, place.encode())
            if opened is not None:
                return opened.decode()
        raise CannotOpen

    def seal_context(self, instance_id: UUID, context: Any) -> Any:
        """The context with its data sealed for the instance, if there is a key."""
        if not isinstance(context, Mapping) or "data" not in context:
            return context
        sealed = self.seal_json(context["data"], str(instance_id), CONTEXT)
        return {**context, "data": sealed}

    def open_context(self, instance_id: UUID, context: Any) -> Any:
        """The context as it was before it was sealed."""
        data = context.get("data") if isinstance(context, Mapping) else None
        opened = self.open_json(data, str(instance_id), CONTEXT)
        return context if opened is data else {**context, "data": opened}

    def seal_json(self, value: Any, place: str, kind: str = TEXT) -> Any:
        """As seal, of a JSON value: a text in its place, or without a key the value itself."""
        if self._current is not None:
            return self.seal(orjson.dumps(value).decode(), place, kind)
        return self.seal(value, place, kind) if isinstance(value, str) else value

    def open_json(self, value: Any, place: str, kind: str = TEXT) -> Any:
        """The JSON value that was sealed for this place, or was not sealed."""
        if not isinstance(value, str) or not value.startswith(kind):
            return value
        return orjson.loads(self.open(value, place))

    def seal_value(self, value: Any, place: str) -> Any:
        """As seal_json, of a value that nobody chose to be kept: without a key it is kept in any
        case, one that looks sealed with a mark before it. None stays None.
        """
        if value is None:
            return None
        if self._current is not None:
            return self.seal(orjson.dumps(value).decode(), place)
        looks_sealed = isinstance(value, str) and value.startswith(_LOOKS_SEALED)
        return PLAIN + value if looks_sealed else value

    def open_value(self, value: Any, place: str) -> Any:
        """The value that seal_value sealed for this place, or that was kept before."""
        if isinstance(value, str) and value.startswith(PLAIN):
            return value.removeprefix(PLAIN)
        return self.open_json(value, place)

    def seal_output(self, row: StepRow) -> Any:
        """The step's output as its row may keep it."""
        output = row.output
        if self._current is None and not isinstance(output, str):
            return output
        return self.seal_value(output, output_place(row.instance_id, row.node_key))

    def seal_progress(self, row: StepRow, progress: Any) -> Any:
        """What the step's row may keep of its progress: a worker's checkpoint is sealed."""
        if not isinstance(progress, dict) or "checkpoint" not in progress:
            return progress
        place = progress_place(row.instance_id, row.node_key)
        return {**progress, "checkpoint": self.seal_value(progress["checkpoint"], place)}

    def open_step(self, row: StepRow) -> None:
        """The row, as it was read, has its output and its worker's checkpoint opened."""
        if isinstance(row.output, str):
            row.output = self.open_value(row.output, output_place(row.instance_id, row.node_key))
        if isinstance(row.progress, dict) and isinstance(row.progress.get("checkpoint"), str):
            place = progress_place(row.instance_id, row.node_key)
            opened = self.open_value(row.progress["checkpoint"], place)
            row.progress = {**row.progress, "checkpoint": opened}

    def seal_request(self, row: StepRow, body: bytes) -> bytes:
        """The request as the row may keep it, sealed for its attempt if there is a key."""
        return self.seal(body.decode(), _attempt(row)).encode() if self.seals else body

    def open_request(self, row: StepRow) -> bytes:
        """The request that the row keeps, as it is sent. The row has one."""
        kept = bytes(row.request or b"")
        if not kept.startswith(TEXT.encode()):
            return kept
        return self.open(kept.decode(), _attempt(row)).encode()

    def _take(self, name: str, key: str) -> str:
        # OpenSSL is loaded only where there is a key: it costs a process without one 10 MB.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

        if _KEY.fullmatch(key) is None:
            raise ConfigurationError(
                f"{name} must be 64 hexadecimal digits, as `openssl rand -hex 32` prints them"
            )
        raw = bytes.fromhex(key)
        key_id = sha256(raw).hexdigest()[:8]
        self._keys[key_id] = AESGCM(raw)
        return key_id


OPEN: Final = Cipher()  # of a process without keys: texts stand as they are


def output_place(instance_id: UUID, node_key: str) -> str:
    """Where the output of a step is kept."""
    return f"outputs/{instance_id}/{node_key}"


def progress_place(instance_id: UUID, node_key: str) -> str:
    """Where the checkpoint of a step's worker is kept."""
    return f"progress/{instance_id}/{node_key}"


def _attempt(row: StepRow) -> str:
    # Not the row's id: a retry of the instance carries an open attempt into another row.
    return f"requests/{row.instance_id}/{row.idempotency_key}"


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise CannotOpen from None


def _opened(key: Any, raw: bytes, place: bytes) -> bytes | None:
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - see Cipher._take

    try:
        opened: bytes = key.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], place)
    except (InvalidTag, ValueError):
        return None
    return opened
