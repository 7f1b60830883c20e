"""The result of `tune`: what was tried, what is proposed, and the sentence that sums it up."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from ssm_stream.evaluate.report.section import at_least, at_most
from ssm_stream.evaluate.tuning.candidates import Settings
from ssm_stream.evaluate.tuning.comparison import Change

COVERAGE_SLACK = 0.01


@dataclass(frozen=True)
class Tried:
    """A candidate. change: of the error on the choosing part, against the best before it; words: what it changes"""

    group: str
    settings: Settings
    words: str
    change: Change | None
    kept: bool
    micros: float = math.nan
    """Processor time per event, µs, on the choosing part."""
    memory: float = math.nan
    """Bytes per entity."""
    factor: float = math.nan
    """Its time over that of the best before it."""

    def as_json(self) -> dict[str, Any]:
        """Return the content for `--json`."""
        return {
            "group": self.group,
            "settings": self.settings,
            "change": None if self.change is None else self.change._asdict(),
            "kept": self.kept,
            "micros_per_event": self.micros,
            "bytes_per_entity": self.memory,
            "time_factor": self.factor,
        }


@dataclass
class Tuning:
    """The result of a search. The recording chooses up to `cut`, and judges from then on."""

    settings: Settings
    """Proposed: chosen, and confirmed by the judging part; empty: keep what you have."""
    chosen: Settings
    cut: int
    """ms."""
    tried: list[Tried]
    before: dict[str, Any]
    """Figures of the judging part, as configured."""
    level: float
    """Of the intervals, as configured."""
    after: dict[str, Any] | None = None
    """Figures of the judging part with `chosen`."""
    held: Change | None = None
    """Of the error there; None: nothing was chosen."""
    budgets: list[dict[str, Any]] = field(default_factory=list)
    """Figures of the judging part with other budgets of false alarms."""
    levels: list[dict[str, Any]] = field(default_factory=list)
    """The same with other levels of the intervals."""
    budget_chosen: Settings = field(default_factory=dict)
    budget_change: tuple[float, float, float] | None = None
    """Of F1 there by the proposed budget, with its interval."""
    notes: list[str] = field(default_factory=list)
    runs: int = 0

    @property
    def verdict(self) -> str:
        """The result in a sentence or two."""
        if not self.chosen and not self.budget_chosen:
            return "Keep what you have: nothing tried was surely better on the first part of the recording."
        parts = []
        if self.held is not None:
            low, high = -self.held.high, -self.held.low
            gain = f"{-self.held.value:.2%} (95 %: {low:.2%} to {high:.2%})"
            if self.held.better:
                parts.append(f"It held: on the later part, which had no say, the error is smaller by {gain}.")
            else:
                parts.append(f"It did not hold: on the later part what was chosen gains {gain}, which is no sure gain.")
        elif self.chosen:
            parts.append("The later part is too short to say whether what was chosen holds.")
        if self.budget_change is not None:
            value, low, high = self.budget_change
            held = "held" if low > 0 else "that the labels chose did not hold"
            parts.append(f"The budget {held}: F1 {value:+.2f} (95 %: {low:+.2f} to {high:+.2f}) on the later part.")
        return " ".join(parts if self.settings else [*parts, "Keep what you have."])

    def checks(self) -> list[dict[str, Any]]:
        """Return figures with their bars."""
        rows = []
        if self.held is not None:
            name = "tune: change of the error on the later part, upper end of its interval"
            rows.append(at_most(name, self.held.high, 0.0))
        if self.after is not None and self.before["coverage"] is not None and self.after["coverage"] is not None:
            moved = abs(self.after["coverage"] - self.before["coverage"])
            rows.append(at_most("tune: coverage moved on the later part", moved, COVERAGE_SLACK))
        if self.budget_change is not None:
            rows.append(
                at_least("tune: change of F1 by the budget, lower end of its interval", self.budget_change[1], 0.0)
            )
        return [row.row() for row in rows]

    def as_json(self) -> dict[str, Any]:
        """Return the content for `--json`."""
        return {
            "checks": self.checks(),
            "verdict": self.verdict,
            "settings": self.settings,
            "chosen": {**self.chosen, **self.budget_chosen},
            "judged_from_ms": self.cut,
            "held": None if self.held is None else self.held._asdict(),
            "before": self.before,
            "after": self.after,
            "tried": [each.as_json() for each in self.tried],
            "budgets": self.budgets,
            "levels": self.levels,
            "budget_change": self.budget_change,
            "notes": self.notes,
            "runs": self.runs,
        }
