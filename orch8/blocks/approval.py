"""approval: what has to be answered before a step's handler is called, and by when.

A person answers with one of the choices. A step with the handler ``wait_for_event`` is answered by
events, and by a person who has to go on without them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from orch8.blocks.fields import Flag, Many, Part, Span, Text
from orch8.blocks.schema import Base, Draft

# What `waits_for` says of a step that nobody has answered for yet.
APPROVAL: Final = "approval"
EVENT: Final = "event"
UNANSWERED: Final = frozenset({APPROVAL, EVENT})

WAIT_FOR_EVENT: Final = "wait_for_event"  # the handler of steps that events answer for
HUMAN_INPUT: Final = "human_input:"  # what the name of a signal with an answer begins with
LONGEST: Final = 200
MOST_CHOICES: Final = 100


class OptionSchema(Base):
    """One of the choices."""

    label = Text(required=True, blank=False, longest=LONGEST)
    value = Text(required=True, blank=False, longest=LONGEST)


class ApprovalSchema(Base):
    """``{"prompt": "Refund 900 EUR?", "timeout": "2d", "choices": [...]}``."""

    prompt = Text()
    timeout = Span(fixed=True, positive=True)
    escalation_handler = Text(blank=False, longest=LONGEST)
    choices = Many(Part(OptionSchema), least=1, most=MOST_CHOICES)
    store_as = Text(blank=False, longest=LONGEST)
    allow_comment = Flag()


@dataclass(frozen=True, slots=True)
class Option:
    """What a person may answer: ``label`` is shown, ``value`` is sent."""

    label: str
    value: str


YES: Final = Option("Yes", "yes")
NO: Final = Option("No", "no")


@dataclass(frozen=True, slots=True)
class Approval:
    """What is asked. After ``timeout`` seconds without an answer the step fails, or, with an
    ``escalation_handler``, counts as done without its handler. The answer is put into the context's
    data under ``store_as``, or else under the block's id.
    """

    prompt: str = ""
    choices: tuple[Option, ...] = (YES, NO)
    timeout: float | None = None
    escalation_handler: str | None = None
    store_as: str | None = None
    allow_comment: bool = False

    def accepted(self, payload: Any) -> str | None:
        """The choice that a signal's payload names; None if it names none."""
        value = payload.get("value") if isinstance(payload, Mapping) else None
        return next((each.value for each in self.choices if each.value == value), None)


def read_approval(draft: Draft) -> Approval | None:
    """What has to be answered before the step's call, if anything; what is wrong is noted."""
    given = draft.values.get("wait_for_input")
    events = draft.values.get("handler") == WAIT_FOR_EVENT
    if given is None:
        if not events:
            return None
        hint = 'add "wait_for_input": {"timeout": "3d"}'
        draft.warn("", "without wait_for_input nothing bounds this wait for events", hint)
        return Approval()
    timeout, choices = given.get("timeout"), _choices(draft, given)
    if given.get("escalation_handler") is not None and timeout is None:
        at = "/wait_for_input/escalation_handler"
        draft.warn(at, "it never runs: there is no timeout", "add a timeout")
    if events and choices is not None:
        at = "/wait_for_input/choices"
        draft.warn(at, 'events answer "yes", whatever the choices are', "leave choices out")
    return Approval(
        prompt=given.get("prompt") or "",
        choices=choices or (YES, NO),
        timeout=timeout.total_ms() / 1000 if timeout else None,
        escalation_handler=given.get("escalation_handler"),
        store_as=given.get("store_as"),
        allow_comment=bool(given.get("allow_comment")),
    )


def _choices(draft: Draft, given: Mapping[str, Any]) -> tuple[Option, ...] | None:
    if given.get("choices") is None:
        return None
    entries = [each or {} for each in given["choices"]]  # a wrong one keeps its place
    options = [Option(each.get("label", ""), each.get("value", "")) for each in entries]
    seen: set[str] = set()
    for place, each in enumerate(options):
        if each.value in seen:
            message = f"{each.value[:60]!r} stands here twice"
            draft.problem(f"/wait_for_input/choices/{place}/value", message, "leave one out")
        seen.add(each.value)
    return tuple(options)
