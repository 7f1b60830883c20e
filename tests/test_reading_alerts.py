"""docs/reading-alerts.md explains what an alert may state, in both languages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ssm_stream.engine.alert_summary.words import TEXTS, Language

DOCS = Path(__file__).parents[1] / "docs"
PAGES: dict[Language, str] = {"en": "reading-alerts.md", "ja": "reading-alerts.ja.md"}
FRAME = {
    # Parts that join others, and numbers with their words.
    "absorbed_before", "after_confirmed", "also", "at_least", "before_latest", "below_step", "bounds", "found",
    "from_to", "last", "last_named", "near_step", "recovered_before", "usual_here", "without_rest", "fleet_partly",
    "fleet_all", "partition", "shard",
    # On the page in other words: smaller, or of an unknown size, the other direction, one of several targets.
    "absorbed_drift", "creep_down", "creep_down_small", "creep_down_some", "creep_up_small", "cycle_some", "days_down",
    "days_down_by_inputs", "days_over", "days_up_by_inputs", "drift", "errors_far_smaller", "errors_larger_some",
    "errors_smaller_some", "hours_down", "hours_over", "events_down", "events_up_by_inputs", "events_down_by_inputs",
    "events_over",
    "fleet_anomaly_several", "fleet_drift_several", "fleet_recovered", "fleet_recovered_several",
    "level_down_small", "level_up_small", "levels_unknown", "limit_below", "limit_from", "limit_to", "shift_down",
    "shift_down_small", "shift_down_some", "shift_up_small", "shift_up_some", "steps_down_here", "steps_up_here",
}  # fmt: skip


def fragments(template: str) -> list[str]:
    """The fixed parts of a text that are longer than a word or two."""
    found = [part.strip(" ,;:()。、（）") for part in re.split(r"\{[^}]*\}", template)]
    return sorted((part for part in found if part), key=len)[-1:]


@pytest.mark.parametrize("language", PAGES)
def test_every_sentence_is_explained(language: Language) -> None:
    page = (DOCS / PAGES[language]).read_text(encoding="utf-8")
    missing = {
        key: part
        for key, text in TEXTS.items()
        if key not in FRAME
        for part in fragments(getattr(text, language).removeprefix("closed, "))
        if part not in page and part.removesuffix("アラートを閉じました").rstrip("、") not in page
    }
    assert not missing


def test_what_is_left_out_is_still_a_text() -> None:
    assert TEXTS.keys() >= FRAME
