"""Block types of later versions: read, then refused with what to do today."""

from __future__ import annotations

from orch8.blocks.fields import Anything, Blocks, Flag, Many, Object, Text, Whole
from orch8.blocks.schema import BlockSchema

_PERSON = "a wait_signal block that waits for the decision as a signal"


class ApprovalSchema(BlockSchema):
    """A person decides."""

    type = "approval"
    later = _PERSON

    candidates = Object()
    prompt = Text()
    form = Anything()
    choices = Many(Anything())
    due = Anything()
    due_before_deadline = Anything()
    on_due = Text()
    escalate_to = Object()
    exclude_ = Many(Anything(), data_key="exclude")
    reason_required = Flag()
    four_eyes = Flag()
    min_approvals = Whole(least=1)
    amount = Anything()
    currency = Text()
    bind_to = Many(Text())
    timeout = Anything()


class ApprovalChainSchema(ApprovalSchema):
    """Several people decide, by amount."""

    type = "approval_chain"
    later = _PERSON

    tiers = Many(Object())


class BatchSchema(BlockSchema):
    """Items cut into slices."""

    type = "batch"
    later = "a for_each over a collection that a step has cut into slices"

    collection = Anything()
    group_by = Many(Text())
    max_items = Whole(least=1)
    max_amount_minor = Whole(least=1)
    cutoff = Object()
    item_var = Text(blank=False)
    concurrency = Whole(least=1)
    body = Blocks()


class SetSchema(BlockSchema):
    """Variables of the run."""

    type = "set"
    later = 'a step with the handler "transform", and outputs.<id>'

    values = Object()


class ScopeSchema(BlockSchema):
    """Blocks under one name."""

    type = "scope"
    later = "the blocks where they stand, or a cancellation_scope"

    blocks = Blocks()
