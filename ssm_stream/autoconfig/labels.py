"""Columns that are not known when an event comes: labels by their name, or by their name and values."""

from __future__ import annotations

from collections import Counter

from ssm_stream.autoconfig.columns import Column, word_set

KNOWN_LATER = word_set(
    "label labels anomaly anomalies anomalous outlier fault failure fail defect attack changepoint target truth class"
)
"""Words for columns that are not available when an event comes, or contain the target."""
MARKS = word_set(
    "event events alarm alarms alert trip tripped incident breakdown broken downtime abnormal error failed faulty "
    "failures faults defective leak issue problem"
)
"""Words for columns that are labels if they mark few rows."""
MAX_MARKED = 0.1
"""Share of rows that a label marks at most."""


def label_reason(column: Column) -> str | None:
    """Return why a column is a label by its name and its values; None if it is none."""
    if not set(column.name) & (MARKS | KNOWN_LATER) or column.distinct != 2:
        return None
    ((_, usual), (mark, rare)) = Counter(column.values.values()).most_common(2)
    if rare > MAX_MARKED * (usual + rare):
        return None
    return (
        f"{mark!r} in {rare} of {usual + rare} rows, and named like a label: what marks events is not known when they "
        "come; name it under features if it is"
    )
