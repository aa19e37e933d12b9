"""Remarks on definitions that are legal but may cost somebody money (codes ``money.*``)."""

from orch8.definition.money_lint.lint import money_lint

__all__ = ["money_lint"]
