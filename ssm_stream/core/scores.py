"""Sums over predictions and their targets: of `evaluate/prequential.py` and `ops/prediction_quality.py`."""

from __future__ import annotations

from ssm_stream.core import native

COLUMNS = (
    "events", "scored", "absolute", "squared", "persistence", "judged", "covered", "width", "anomaly", "drift",
)  # fmt: skip
EVENTS, SCORED, ABSOLUTE, SQUARED, PERSISTENCE, JUDGED, COVERED, WIDTH = range(8)
judge, count = native.judge, native.count
