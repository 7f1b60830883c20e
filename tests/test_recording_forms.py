"""Each recording as readings, and as windows of one event: the predictions of its rows, to the bit."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest
from numpy.typing import NDArray

from ssm_stream.config import Config, parse_config
from ssm_stream.evaluate.prequential import prequential
from ssm_stream.evaluate.recordings import Recording
from ssm_stream.ingest.event_columns import Events, concatenate

DATA = Path(os.environ.get("SSM_STREAM_DATA") or Path(__file__).parents[2] / "shared" / "data")
NAMES = [
    "bike_sharing_hourly", "chick_weights", "cmapss_fd001", "gas_turbine_nox", "msl_telemetry", "nab_shared",
    "parking_birmingham", "skab_shared", "steel_energy", "tep_shared", "water_flow",
]  # fmt: skip
ROWS = 1_500
Row = dict[str, Any]


def recording(name: str) -> tuple[list[Row], list[str]]:
    """Rows by time, with times in ms and numbers alone; and the columns that are features."""
    path = DATA / f"{name}.csv.gz"
    if not path.exists():
        pytest.skip(f"{name} is not in {DATA}; set SSM_STREAM_DATA to the folder that holds it")
    rows = list(Recording(path, ROWS))
    columns = [
        column
        for column in rows[0]
        if column not in ("entity", "ts", "target") and not column.startswith("label")
        if all(isinstance(row[column], int | float | None) for row in rows)
    ]
    times = pl.Series([row["ts"] for row in rows]).str.to_datetime(time_zone="UTC").dt.epoch("ms").to_list()
    made = [
        {"entity": row["entity"], "ts": ts, **{column: row[column] for column in (*columns, "target")}}
        for row, ts in zip(rows, times, strict=True)
    ]
    return sorted(made, key=lambda row: row["ts"]), columns


def configured(columns: list[str], **event: Any) -> Config:
    plain = {"entity": "entity", "timestamp": "ts", "target": "target", "features": columns}
    return parse_config(
        orjson.dumps(
            {"source": {"brokers": "a", "topic": "t"}, "event": plain | event, "state": {"ttl": "3650d"}}
        ).decode()
    )


def predicted(config: Config, rows: Iterable[Row]) -> tuple[Events, list[NDArray[Any]]]:
    chunks = [(chunk.events, chunk.predictions) for chunk in prequential(config, rows) if len(chunk.events)]
    events = concatenate([events for events, _ in chunks])
    return events, [np.concatenate(column) for column in zip(*(made for _, made in chunks), strict=True)]


@pytest.mark.parametrize("name", NAMES)
def test_readings(name: str) -> None:
    """One message a value; the target's comes last."""
    rows, columns = recording(name)
    event = {"layout": "readings", "signal": "signal", "max_age": "3650d"}
    readings = [
        {"entity": row["entity"], "ts": row["ts"], "signal": column, "value": row[column]}
        for row in rows
        for column in (*columns, "target")
    ]
    events, found = predicted(configured(columns, **event), readings)
    _, expected = predicted(configured(columns), rows)
    assert len(events) == len(rows)
    assert [column.tobytes() for column in found] == [column.tobytes() for column in expected]


@pytest.mark.parametrize("name", NAMES)
def test_windows_of_one(name: str) -> None:
    """Windows with one event each, whose time is then the window's end; those without any teach nothing."""
    rows, columns = recording(name)
    by_entity: dict[str, list[int]] = {}
    for row in rows:
        by_entity.setdefault(row["entity"], []).append(row["ts"])
    every = min(min(int(np.diff(times).min()) for times in by_entity.values() if len(times) > 1), 86_400_000)
    assert every > 0, "no two events of an entity have one time"
    last = {column: {"last": column} for column in (*columns, "target")}
    windows = configured(columns, aggregate={"every": every / 1000, "grace": 0, "columns": last})
    events, found = predicted(windows, rows)
    assert events.empty is not None
    kept = np.flatnonzero(~events.empty)
    at = {(row["entity"], row["ts"] // every * every + every - 1): row for row in rows}
    of_window = zip(events.take(kept).entity, events.ts[kept].tolist(), strict=True)
    plain = [{**at[place], "ts": place[1]} for place in of_window]
    assert len(plain) == len(rows)
    _, expected = predicted(configured(columns), plain)
    assert [column[kept].tobytes() for column in found] == [column.tobytes() for column in expected]
