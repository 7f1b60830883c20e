"""Silence of rows that are made of readings: rows go on while a value is believed, and are no events by themselves."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest

from ssm_stream.config import parse_config
from ssm_stream.engine.rules.silence import SilenceAlerts
from ssm_stream.ingest.rows.stage import read_rows

MINUTE, START, MINUTES = 60_000, 1_700_000_040_000, 700
GAP = (500, 560)
TEXT = """
source: {brokers: 'x:1', topic: t}
event:
  {layout: readings, entity: machine, signal: signal, timestamp: ts, target: flow, features: [air, assay], every: 1m}
alerts: {silence: {}, anomaly: {budget: 1 per 1000 events}}
"""


def readings(gone: Collection[tuple[int, str]]) -> list[dict[str, Any]]:
    """Readings of five machines: an assay, which is believed for hours, comes every half hour. gone: not in `GAP`"""
    return [
        {"machine": f"m{m}", "signal": name, "ts": START + MINUTE * i + 1000 * m, "value": (7 * i + m) % 83 + i / 1e4}
        for i in range(MINUTES)
        for m in range(5)
        for name in ("air", "assay", "flow")
        if (name != "assay" or i % 30 == m) and not (GAP[0] <= i < GAP[1] and (m, name) in gone)
    ]


def started(gone: Collection[tuple[int, str]]) -> list[tuple[str, str, str | None]]:
    made = parse_config(TEXT)
    events, _ = read_rows(made.event, readings(gone))
    alerts = [alert.message for alert in SilenceAlerts(made).process(events, 0, [])]
    return [(a["entity"], a["kind"], a["column"]) for a in alerts if a["phase"] == "started"]


@pytest.mark.parametrize(
    ("machines", "expected"),
    [
        pytest.param(range(5), [], id="all, a pause of the historian"),
        pytest.param([0], [("m0", "silence", None)], id="one machine"),
    ],
)
def test_machines_without_readings_have_no_columns_that_stop(
    machines: Collection[int], expected: list[tuple[str, str, str | None]]
) -> None:
    """An outage of two hours was six alerts, all of them after it was over."""
    assert started([(m, name) for m in machines for name in ("air", "assay", "flow")]) == expected


def test_one_signal_without_readings_is_a_column_that_stops() -> None:
    assert started([(0, "air")]) == [("m0", "silence", "air")]
