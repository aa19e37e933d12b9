"""Definitions: JSON in, an immutable Sequence out, or every problem with its place and a hint."""

from orch8.definition.json_schema import JsonSchema
from orch8.definition.load import load
from orch8.definition.sequence import Limits, Sequence

__all__ = ["JsonSchema", "Limits", "Sequence", "load"]
