"""An environment of its own for each peer, with the versions that its lock file pins.

One for each, since one peer's pins must not decide which versions another one gets.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

FOLDER = Path("build/peers/environments")
LOCKS = Path(__file__).with_name("requirements")

_WITHIN = 300.0
_failed: dict[str, str] = {}
_PIP = ("-m", "pip", "install", "--disable-pip-version-check", "--quiet")


class Unavailable(Exception):
    """A peer cannot be measured here; the text says why, in one line."""


def python_of(name: str) -> Path:
    """The interpreter of the peer's environment, which is made first if need be.

    Unavailable if something that the lock file pins cannot be installed.
    """
    if name in _failed:  # not again in every round
        raise Unavailable(_failed[name])
    try:
        return _made(name)
    except Unavailable as reason:
        _failed[name] = str(reason)
        raise


def _made(name: str) -> Path:
    lock = LOCKS / f"{name}.txt"
    folder = (FOLDER / name).absolute()
    python, stamp = folder / "bin" / "python", folder / ".stamp"
    wanted = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        _run((sys.executable, "-m", "venv", "--clear", str(folder)))
        _run((str(python), *_PIP, "-r", str(lock)))
        stamp.write_text(wanted, encoding="utf-8")
    return python


def pinned(name: str, distribution: str) -> str:
    """The version of a distribution that the peer's lock file pins."""
    lines = (LOCKS / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==", 1) for line in lines if "==" in line)
    return pins[distribution]


def _run(words: tuple[str, ...]) -> None:
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_WITHIN, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"cannot be installed: {error}") from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise Unavailable(f"cannot be installed: {said[-1] if said else done.stderr[-300:]}")
