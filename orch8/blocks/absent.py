"""absent: the names of the contract's built-in handlers that orch8 does not have (CONTRACT 18).

A step that names one reaches whoever answers to the name: a registered address, the default one, a
Python function. Without one it fails at once: no worker would ever be expected to poll for it.
"""

from __future__ import annotations

from typing import Final

ABSENT: Final = frozenset(
    {
        "llm_call", "mcp_call", "agent", "embed", "memory_store", "memory_search", "memory_delete",
        "blob_put", "blob_get",
    }
)  # fmt: skip
