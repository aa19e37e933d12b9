"""Where a stack keeps its files: folders of its own, a lock, an identity, secrets."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import stat
import tempfile
import time
from pathlib import Path

from orch8.errors import ConfigurationError

PRIVATE = 0o700
PUBLIC = 0o755
SOCKET_PATH_LIMIT = 103  # bytes of sun_path that every supported system has (macOS; Linux has 107)

_LOCK_POLL = 0.05


def own_folder(path: Path, mode: int = PRIVATE) -> Path:
    """The folder exists, belongs to this user, and was given ``mode`` if it is new.

    Only folders made here get a mode: a folder that was there before keeps its own, and so do
    all parents. A file or somebody else's folder raises ConfigurationError.
    """
    missing: list[Path] = []
    step = path
    while not step.exists() and not step.is_symlink():
        missing.append(step)
        step = step.parent
    try:
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True)
            folder.chmod(mode)
        found = path.stat()
    except OSError as error:
        raise ConfigurationError(
            f"the folder {path} cannot be made: {error.strerror}; choose another with --data"
        ) from error
    if not stat.S_ISDIR(found.st_mode):
        raise ConfigurationError(f"{path} is not a folder; move it away or choose another")
    if found.st_uid != os.geteuid():
        raise ConfigurationError(
            f"the folder {path} belongs to another user; choose another folder with --data"
        )
    return path


def data_folder(path: Path) -> Path:
    """The data folder exists, private to this user and invisible to git; the answer is absolute."""
    folder = own_folder(path.expanduser().absolute())
    ignore = folder / ".gitignore"
    try:
        if not ignore.exists():
            ignore.write_text("*\n", encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"the data folder {folder} cannot be written: {error.strerror}; "
            "choose another with --data"
        ) from error
    return folder


def identity(data: Path) -> str:
    """The twelve hex digits that name this data folder on this machine.

    They come from the path and from a token in the folder, so that a folder that was deleted and
    made again does not find the database of its predecessor.
    """
    token = data / "identity"
    if not token.exists():
        write_private(token, secrets.token_hex(16) + "\n")
    text = f"{data.resolve()}\n{token.read_text(encoding='utf-8').strip()}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def write_private(path: Path, text: str) -> None:
    """The file holds the text, was never readable by others, and is never seen half-written."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def key_secret(data: Path) -> str:
    """The secret behind the idempotency keys of this data folder: made once, then always the same.

    It stays in ``<data>/secrets`` (mode 0600). Losing it would turn every retry into a new charge.
    """
    name = "ORCH8_KEY_SECRET="
    path = data / "secrets"
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith(name) and line.removeprefix(name).strip():
                return line.removeprefix(name).strip()
        raise ConfigurationError(
            f"{path} has no {name.rstrip('=')}; restore the file, or set the variable yourself"
        )
    value = secrets.token_hex(32)
    write_private(path, f"{name}{value}\n")
    return value


def socket_folder(preferred: Path, name: str, longest: str) -> Path:
    """A private folder whose socket ``longest`` fits the system's limit on socket paths.

    That is ``preferred``, or a folder ``orch8-<name>`` among the temporary files.
    """
    candidates = (preferred, Path(tempfile.gettempdir()), Path("/tmp"))  # noqa: S108 - own_folder checks the owner
    for base in candidates:
        folder = base if base == preferred else base / f"orch8-{name}"
        if "," in str(folder):  # clients take it for the end of the path
            continue
        if folder.is_symlink():  # among temporary files, anybody could have put it there
            continue
        if len(os.fsencode(folder / longest)) <= SOCKET_PATH_LIMIT:
            return own_folder(folder)
    raise ConfigurationError(
        f"no folder for sockets has a short enough path; set TMPDIR to one of at most "
        f"{SOCKET_PATH_LIMIT - len(longest) - 20} characters"
    )


class FolderLock:
    """A lock that lasts as long as the process that holds it; the file says who that is."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: int | None = None

    def hold(self, busy: str, wait: float = 0.0) -> None:
        """The lock is held, or ConfigurationError(busy) is raised after ``wait`` seconds.

        ``{pid}`` in ``busy`` becomes the number of the process that holds it.
        """
        try:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigurationError(f"{self._path} cannot be opened: {error.strerror}") from error
        deadline = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() >= deadline:
                    holder = os.pread(handle, 32, 0).decode(errors="replace").strip() or "?"
                    os.close(handle)
                    raise ConfigurationError(busy.replace("{pid}", holder)) from error
                time.sleep(_LOCK_POLL)
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        self._handle = handle

    def release(self) -> None:
        """The lock is free."""
        if self._handle is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._handle, 0)
            os.close(self._handle)
            self._handle = None
