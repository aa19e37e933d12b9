"""Addresses of the API, with whatever a name contains."""

from __future__ import annotations

from urllib.parse import quote


def path(*parts: str) -> str:
    """The parts as one path; a slash inside a part is no separator."""
    return "".join(f"/{quote(part, safe='')}" for part in parts)
