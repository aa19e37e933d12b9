"""references: where the author of a step wrote ``credentials://<id>`` into its parameters.

Only a reference that stands in the definition means a secret. A text that happens to read like one
once a template was rendered came from outside, and is a text: else whoever fills a context could
have any secret of the tenant sent wherever the step calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

SCHEME: Final = "credentials://"
Path = tuple[str | int, ...]


def references(params: Any) -> tuple[Path, ...]:
    """The places of the references in a step's parameters as they are written, templates and all.

    What comes after the scheme may be a template: ``credentials://{{ context.data.merchant }}``.
    """
    return tuple(_found(params, ()))


def _found(value: Any, path: Path) -> Iterator[Path]:
    if isinstance(value, str):
        if value.startswith(SCHEME):
            yield path
    elif isinstance(value, dict):
        for name, each in value.items():
            yield from _found(each, (*path, name))
    elif isinstance(value, list):
        for place, each in enumerate(value):
            yield from _found(each, (*path, place))
