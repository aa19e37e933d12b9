"""The language of conditions and templates: a whitelisted interpreter, never eval.

Two dialects (DECISIONS 6): the seed's form is an expression everywhere and refuses mistakes when
published; the contract's form keeps the templates and the lenient conditions clients rely on.
"""

from orch8.engine.expressions.condition import Condition, compile_condition
from orch8.engine.expressions.environment import Environment
from orch8.engine.expressions.lexer import Dialect
from orch8.engine.expressions.pipes import take_apart
from orch8.engine.expressions.reading import Path, paths_of_condition, paths_of_template
from orch8.engine.expressions.template import Template, compile_template, find_expressions

__all__ = [
    "Condition",
    "Dialect",
    "Environment",
    "Path",
    "Template",
    "compile_condition",
    "compile_template",
    "find_expressions",
    "paths_of_condition",
    "paths_of_template",
    "take_apart",
]
