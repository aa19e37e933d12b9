"""compensation: what existing clients note on a step about undoing it. Nothing runs it by itself.

It is kept with the definition (CONTRACT 5.3); a saga is what undoes steps.
"""

from __future__ import annotations

from typing import Final

from orch8.blocks.fields import Anything, Choice, Many, Text
from orch8.blocks.schema import Base, Draft

LONGEST_HANDLER: Final = 256
_INSTEAD: Final = "use a saga block"


class CompensationSchema(Base):
    """``{"handler": "refund", "params": {...}, "depends_on": ["ship"]}``."""

    handler = Text(required=True, blank=False, longest=LONGEST_HANDLER)
    params = Anything()
    depends_on = Many(Text(blank=False))
    verification = Choice("handler_result", "provider_receipt", "manual")


def check_compensation(draft: Draft) -> None:
    """A compensation is well formed, and its author is told that it is not run; in the seed's form
    it is refused.
    """
    given = draft.values.get("compensation")
    if given is None:
        return
    if not draft.contract:
        hint = f"today: {_INSTEAD}"
        message = "compensation is not supported yet"
        draft.problem("/compensation", message, hint, code="not_yet")
        return
    depends_on = given.get("depends_on", [])
    for place, each in enumerate(depends_on):
        if each in depends_on[:place] or each == draft.raw.get("id"):
            message = f"{each[:60]!r} stands here twice, or is the step itself"
            draft.problem(f"/compensation/depends_on/{place}", message, "leave it out")
    draft.warn("/compensation", "nothing runs this by itself", _INSTEAD, code="not_executed")
