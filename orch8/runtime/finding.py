"""finding: one thing that is found out about an instance or a definition (CONTRACT 33)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final


class Category(StrEnum):
    """How a finding bears on what was asked about, the closest first."""

    DIRECT = "direct_evidence"
    PROBABLE = "probable_cause"
    WARNING = "health_warning"


class Health(StrEnum):
    """Whether what was found is as it should be."""

    EXPECTED = "expected"
    DEGRADED = "degraded"
    INCONSISTENT = "inconsistent"


class Severity(StrEnum):
    """How much it matters."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


class Confidence(StrEnum):
    """How sure it is."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CERTAIN = "certain"


class Action(StrEnum):
    """What applying a remediation does; ``manual``: a person has to do it."""

    RETRY = "retry_instance"
    RESUME = "resume_instance"
    MANUAL = "manual"


@dataclass(frozen=True, slots=True)
class Sign:
    """A piece of evidence."""

    label: str
    summary: str
    data: Any = None
    observed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Remedy:
    """What can be done about a finding. ``risky``: it may repeat effects, so it is acknowledged."""

    summary: str
    action: Action = Action.MANUAL
    command: str | None = None
    risky: bool = False


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What is so, how sure that is, by which evidence, and what to do about it."""

    category: Category
    code: str
    summary: str
    observed_at: datetime
    health: Health = Health.EXPECTED
    severity: Severity = Severity.INFO
    confidence: Confidence = Confidence.CERTAIN
    evidence: tuple[Sign, ...] = ()
    affected: str | None = None
    remedies: tuple[Remedy, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The finding as clients read it; what is empty is left out."""
        shown: dict[str, Any] = {
            "category": self.category.value,
            "health": self.health.value,
            "code": self.code,
            "severity": self.severity.value,
            "summary": self.summary,
            "confidence": self.confidence.value,
            "observed_at": self.observed_at,
        }
        if self.evidence:
            shown["evidence"] = [_sign(each) for each in self.evidence]
        if self.affected is not None:
            shown["affected_resource"] = self.affected
        if self.remedies:
            shown["remediation"] = [remedy_json(each) for each in self.remedies]
        return shown


_CATEGORIES: Final = list(Category)
_SURE: Final = list(Confidence)


def in_order(findings: list[Finding]) -> list[Finding]:
    """By category, the surest first, then by code."""
    return sorted(
        findings,
        key=lambda f: (_CATEGORIES.index(f.category), -_SURE.index(f.confidence), f.code),
    )


def remedy_json(remedy: Remedy) -> dict[str, Any]:
    """A remedy as clients read it."""
    shown: dict[str, Any] = {
        "summary": remedy.summary,
        "side_effect_risk": remedy.risky,
        "action": remedy.action.value,
    }
    return shown if remedy.command is None else {**shown, "command": remedy.command}


def _sign(sign: Sign) -> Mapping[str, Any]:
    shown: dict[str, Any] = {"label": sign.label, "summary": sign.summary}
    if sign.data is not None:
        shown["data"] = sign.data
    if sign.observed_at is not None:
        shown["observed_at"] = sign.observed_at
    return shown
