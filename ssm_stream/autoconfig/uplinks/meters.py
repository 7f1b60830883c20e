"""Totals of meters: what they count is watched by nothing where its growth is no column."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from ssm_stream.autoconfig.columns import name_words, word_set

METERED = word_set(
    "volume energy water gas heat steam consumption meter pulse pulses impulse impulses kwh mwh wh m3 litre litres "
    "liter volumen energie wasser wärme waerme verbrauch zählerstand zaehlerstand"
)
"""Words for what a meter adds up, whose growth is the signal: a leak shows in nothing else."""
IS_TOTAL = ": a total "
"""What is in each reason by which a total is left out."""
MAX_LISTED = 3
"""Totals that a note names."""


def meter_notes(left_out: Mapping[str, str]) -> list[str]:
    """Return a note on totals of meters that are no signals, with how to watch them. left_out: path → why"""
    totals = (path for path, why in left_out.items() if IS_TOTAL in why)
    paths = [path for path in totals if METERED & {*name_words(path.rpartition(".")[2])}]
    if not paths:
        return []
    return [
        f"nothing watches what {', '.join(f'`{path}`' for path in paths[:MAX_LISTED])} counts, such as a leak or a "
        "meter that stands still: what it grew by is no column. Until it is, a flow of its own with --target "
        f"{shlex.quote(paths[0])} watches the total as it is: its steps, and that it stands still"
    ]
