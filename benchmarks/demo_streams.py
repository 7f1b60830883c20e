"""The streams of the demonstration, with labels: a small plant and the metrics of three services, for four weeks.

    python benchmarks/demo_streams.py FOLDER              # plant.csv.gz, services.csv.gz, and the labels of each
    python benchmarks/demo_streams.py FOLDER --seed 7     # the same story with other noise
    python benchmarks/demo_check.py                       # its alarms and errors with other seeds

ssm_stream/data has the files of seed 1. All that happens is in the labels, and nothing else happens.

plant     six pumps, a row every 20 minutes: speed (rpm), flow (m³/h), pressure (bar), fluid_temp (°C), and power (kW)
          by a physical relation with coefficients of each pump, and noise of `NOISE` kW
            day 14  PUMP-3: the relation changes
            day 18  PUMP-7 comes; it has no label, as it is no fault
            day 21  PUMP-5: the meter of power begins to drift, to `DRIFT` kW in `DRIFT_DAYS` days
services  requests a minute, latency_p99 (ms) and errors (%) of three services, a row every quarter of an hour
            day 11  search: latency rises by half after a deployment, for six hours
            day 16  payments: an outage takes four fifths of the requests, for three hours
            day 25  checkout: errors rise sixfold, for three hours
"""

from __future__ import annotations

import argparse
import gzip
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

Floats = NDArray[np.float64]

START = 1_772_409_600_000
"""Monday 2026-03-02 00:00 UTC, ms."""
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
DAYS = 28
PLANT_STEP = 20 * MINUTE
PUMPS = tuple(f"PUMP-{i}" for i in range(1, 8))
NOISE = 0.25
"""Standard deviation of the power meter, kW."""
CHANGED, CHANGED_AT = "PUMP-3", 14.4
NEW, NEW_AT = "PUMP-7", 18.0
DRIFTING, DRIFTING_AT, DRIFT_DAYS, DRIFT = "PUMP-5", 21.3, 3.0, 3.0
"""kW that the meter has gained at the end."""
FOUND_WITHIN = 2.0
"""Days for which the label of a change lasts: an alarm within them is right."""
SERVICE_STEP = 15 * MINUTE
SERVICES = {"checkout": (240.0, 180.0, 0.4), "search": (900.0, 90.0, 0.2), "payments": (120.0, 320.0, 0.3)}
"""Requests a minute, p99 of the latency in ms, errors in %, at a usual hour."""


class Label(NamedTuple):
    """What happened to an entity from `start` to `end`, ms, both ends included."""

    entity: str
    start: int
    end: int
    kind: str


class Stream(NamedTuple):
    """rows: by time and entity; labels: what happens in them"""

    rows: pl.DataFrame
    labels: list[Label]


def autoregression(g: np.random.Generator, count: int, phi: float) -> Floats:
    """AR(1) of variance 1."""
    e = g.normal(size=count)
    e[1:] *= np.sqrt(1.0 - phi * phi)
    for t in range(1, count):
        e[t] += phi * e[t - 1]
    return e


def at_day(day: float, step: int) -> int:
    """ms, on the grid of the rows."""
    return START + round(day * DAY / step) * step


def plant(seed: int = 1) -> Stream:
    """The pumps."""
    shared = np.random.default_rng([seed, 0])
    count = DAYS * DAY // PLANT_STEP
    ts = START + PLANT_STEP * np.arange(count)
    hour = (ts - START) / HOUR % 24
    weather = 3.0 * np.cos(2 * np.pi * (hour - 15) / 24) + 3.0 * autoregression(shared, count, 0.995)
    frames = [pump(np.random.default_rng([seed, 1 + i]), name, ts, weather) for i, name in enumerate(PUMPS)]
    changed, drifting = at_day(CHANGED_AT, PLANT_STEP), at_day(DRIFTING_AT, PLANT_STEP)
    labels = [
        Label(CHANGED, changed, changed + round(FOUND_WITHIN * DAY), "relation changed"),
        Label(DRIFTING, drifting, drifting + round((DRIFT_DAYS + FOUND_WITHIN) * DAY), "sensor drifts"),
    ]
    times = pl.from_epoch("time", time_unit="ms").dt.strftime("%Y-%m-%dT%H:%MZ")
    return Stream(pl.concat(frames).sort("time", "pump").with_columns(times), labels)


def pump(g: np.random.Generator, name: str, ts: NDArray[np.int64], weather: Floats) -> pl.DataFrame:
    """The rows of one pump."""
    count, hour = len(ts), (ts - START) / HOUR % 24
    shift = np.where((hour >= 6) & (hour < 22), 1.0, -1.0)
    speed = 1450 + 20 * shift + 25 * autoregression(g, count, 0.9)
    flow = 62 + 0.12 * (speed - 1450) + 6 * autoregression(g, count, 0.8)
    pressure = 6.0 + 0.006 * (speed - 1450) - 0.03 * (flow - 62) + 0.35 * autoregression(g, count, 0.8)
    fluid = 42 + weather + 1.5 * autoregression(g, count, 0.95)
    idle, efficiency, viscous = 2.0 * g.uniform(0.9, 1.1), 0.7 * g.uniform(0.94, 1.06), -0.06 * g.uniform(0.7, 1.3)
    power = idle + flow * pressure / (36 * efficiency) + viscous * (fluid - 42) + 0.002 * (speed - 1450)
    if name == CHANGED:
        after = ts >= at_day(CHANGED_AT, PLANT_STEP)
        other = idle + 0.85 * flow * pressure / (36 * efficiency) - viscous * (fluid - 42) + 0.01 * (speed - 1450)
        power = np.where(after, other + 0.05 * (speed - 1450), power)
    if name == DRIFTING:
        days = (ts - at_day(DRIFTING_AT, PLANT_STEP)) / DAY
        power = power + DRIFT * np.clip(days / DRIFT_DAYS, 0.0, 1.0)
    power = power + NOISE * g.normal(size=count)
    frame = pl.DataFrame(
        {
            "time": ts,
            "pump": [name] * count,
            "speed": speed.round(1),
            "flow": flow.round(1),
            "pressure": pressure.round(2),
            "fluid_temp": fluid.round(1),
            "power": power.round(2),
        }
    )
    return frame.filter(pl.col("time") >= at_day(NEW_AT, PLANT_STEP)) if name == NEW else frame


def services(seed: int = 1) -> Stream:
    """The metrics."""
    count = DAYS * DAY // SERVICE_STEP
    ts = START + SERVICE_STEP * np.arange(count)
    labels = [
        Label("search/latency_p99", at_day(11.6, SERVICE_STEP), at_day(11.85, SERVICE_STEP), "slow deployment"),
        Label("payments/requests", at_day(16.45, SERVICE_STEP), at_day(16.575, SERVICE_STEP), "outage"),
        Label("checkout/errors", at_day(25.6, SERVICE_STEP), at_day(25.725, SERVICE_STEP), "errors"),
    ]
    factor = {"slow deployment": 1.5, "outage": 0.2, "errors": 6.0}
    frames = []
    for i, (name, usual) in enumerate(SERVICES.items()):
        g = np.random.default_rng([seed, 101 + i])
        for metric, value in metrics(g, ts, usual).items():
            entity = f"{name}/{metric}"
            for label in labels:
                if label.entity == entity:
                    value = np.where((ts >= label.start) & (ts < label.end), value * factor[label.kind], value)
            digits = 0 if metric == "requests" else 1 if metric == "latency_p99" else 2
            frames.append(pl.DataFrame({"service": [entity] * count, "time": ts // 1000, "value": value.round(digits)}))
    return Stream(pl.concat(frames).sort("time", "service"), labels)


def metrics(g: np.random.Generator, ts: NDArray[np.int64], usual: tuple[float, float, float]) -> dict[str, Floats]:
    """Requests a minute, p99 of the latency in ms, errors in %."""
    requests, latency, errors = usual
    hour, day = (ts - START) / HOUR % 24, (ts - START) // DAY % 7
    busy = np.exp(0.6 * np.cos(2 * np.pi * (hour - 14) / 24) - 0.2 * (day >= 5))
    load = busy * np.exp(0.06 * autoregression(g, len(ts), 0.7))
    return {
        "requests": requests * load,
        "latency_p99": latency * (1 + 0.15 * load) * np.exp(0.05 * autoregression(g, len(ts), 0.6)),
        "errors": errors * np.exp(0.15 * g.normal(size=len(ts))),
    }


def write(folder: Path, seed: int) -> None:
    """plant and services, .csv.gz, and -labels.csv of each."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, stream in (("plant", plant(seed)), ("services", services(seed))):
        # Without a time in the header: the same bytes each time.
        (folder / f"{name}.csv.gz").write_bytes(gzip.compress(stream.rows.write_csv().encode(), 9, mtime=0))
        form = text if name == "plant" else lambda ms: str(ms // 1000)  # as the times of the events
        rows = [f"{each.entity},{form(each.start)},{form(each.end)},{each.kind}\n" for each in stream.labels]
        (folder / f"{name}-labels.csv").write_text("".join(["entity,start,end,kind\n", *rows]), encoding="utf-8")


def text(ms: int) -> str:
    """A time in ISO 8601."""
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%dT%H:%MZ}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the files are written")
    parser.add_argument("--seed", type=int, default=1, help="of all that is random (1)")
    options = parser.parse_args()
    write(options.folder, options.seed)


if __name__ == "__main__":
    main()
