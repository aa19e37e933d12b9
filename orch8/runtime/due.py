"""When a leaf that is entered becomes due: what its definition says, rendered here and now."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from orch8.blocks.calendars import EXAMPLES, calendar_named
from orch8.blocks.local import date_of
from orch8.blocks.step import Step
from orch8.engine.calendar import WEEKDAYS, Calendar
from orch8.engine.keys import NodeKey
from orch8.engine.scope import CONTEXT
from orch8.engine.spread import Spread, place, spread_from
from orch8.engine.timing import Delay, Rules, admissible, due_after, jittered
from orch8.errors import ExpressionError

if TYPE_CHECKING:
    from orch8.engine.expressions import Template
    from orch8.runtime.run import Run
    from orch8.storage.rows import StepRow


def due_at(run: Run, block: Step, key: NodeKey) -> datetime:
    """The moment, not before now, at which the leaf at ``key`` wants a worker.

    ExpressionError if it cannot be told, or if there is no such moment within 400 days.
    """
    moved = block.align or block.send_window or block.spread
    if (block.delay or block.schedule or block.not_before or moved) is None:
        return run.now
    try:
        return _Entered(run, block, key).due_at()
    except (ValueError, OverflowError) as problem:
        raise ExpressionError(f"block {block.id!r} never becomes due: {problem}") from None


def postpone(run: Run, row: StepRow, at: datetime) -> None:
    """The step, which has not begun, begins at ``at`` or later; its deadline counts from then."""
    due = row.due_at or row.held_due_at
    if due is not None and at > due:
        if row.deadline_at is not None:
            row.deadline_at += at - due
        run.schedule(row, at)


class _Entered:
    """A leaf at the moment at which it is entered."""

    def __init__(self, run: Run, block: Step, key: NodeKey) -> None:
        self.run, self.block, self.key = run, block, key

    def due_at(self) -> datetime:
        run, block, delay = self.run, self.block, self.block.delay
        align, window = block.align, block.send_window
        not_before = self._moment(block.not_before, "not_before")
        rules = Rules(
            zone=run.zone,
            earliest=max(run.now, not_before),
            align=align,
            align_calendar=self._calendar(align.calendar if align else None),
            window=window,
            window_calendar=self._calendar(window.calendar if window else None),
        )
        due = not_before
        if delay is not None:
            due = due_after(self._closed(delay), run.now, run.zone, self._calendar(delay.calendar))
        elif block.schedule is not None:
            anchor = self._moment(block.schedule.anchor, "the anchor")
            iteration = self.key.path[-1] + 1 if self.key.path else 1
            due = block.schedule.moment(anchor, iteration, run.zone)
        if block.spread is not None:
            # A wait that is entered late has its place in the span that has begun already.
            begin = due if block.not_before is None else max(due, not_before)
            due = self._spread(block.spread, begin, replace(rules, earliest=begin))
        due = admissible(due, rules)
        if delay is not None and delay.jitter:
            due = jittered(due, delay.jitter, run.around.entropy(), rules)
        return due

    def _spread(self, spread: Spread, begin: datetime, rules: Rules) -> datetime:
        """The moment of its subject in the span that begins at ``begin``, or when rules allow."""
        row = self.run.row
        subject = str(row.id) if spread.by is None else self._rendered(spread.by)
        if isinstance(subject, bool) or not isinstance(subject, str | int) or subject == "":
            raise ExpressionError(
                f"spread.by came to {subject!r:.200}; it must be a text or a whole number, such as "
                "the customer's id"
            )
        begin = admissible(begin, rules)
        return spread_from(begin, spread.over, place(row.tenant_id, str(subject)), rules)

    def _closed(self, delay: Delay) -> Delay:
        """The delay with the holidays of the instance's own configuration; what is no date there
        is passed over.
        """
        if not delay.business_days_only:
            return delay
        config = self.run.known.get(CONTEXT).get("config")
        given = config.get("holidays") if isinstance(config, dict) else None
        if not isinstance(given, list):
            return delay
        days = (date_of(each) for each in given)
        return replace(delay, holidays=delay.holidays.union(day for day in days if day is not None))

    def _moment(self, template: Template | None, name: str) -> datetime:
        """What the template renders to; now if there is none, or null."""
        value = self._rendered(template)
        if value is None:
            return self.run.now
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            raise ExpressionError(
                f"{name} is {value!r}, not a timestamp such as 2026-01-31T09:00:00Z"
            ) from None
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)

    def _calendar(self, template: Template | None) -> Calendar:
        """The calendar that the template names; Monday to Friday if there is none, or null."""
        name = self._rendered(template)
        if name is None:
            return WEEKDAYS
        calendar = calendar_named(name) if isinstance(name, str) else None
        if calendar is None:
            raise ExpressionError(f"there is no calendar {name!r}; name one such as {EXAMPLES}")
        return calendar

    def _rendered(self, template: Template | None) -> Any:
        if template is None:
            return None
        return self.run.scope.render(template, self.key, self.run.error(self.key))
