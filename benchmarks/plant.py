"""A simulated plant with labels: pumps that follow shifts, products and the weather, stop on Sundays, and have faults.

    python benchmarks/plant.py FOLDER                      # plant.csv, labels.csv (faults), planned.csv
    python benchmarks/plant.py FOLDER --seed 3 --weeks 12 --pumps 8
    python benchmarks/plant.py FOLDER --no-faults          # the same plant, and nothing breaks
    python benchmarks/plant.py FOLDER --context            # with short stops, flags of quality, and limits crossed
    python benchmarks/plant.py --json                      # what the product makes of such plants: plant_measured.py

    ssm-stream init FOLDER/plant.csv --out FOLDER/monitor.yaml
    ssm-stream pilot FOLDER/monitor.yaml FOLDER/plant.csv --labels FOLDER/labels.csv --out FOLDER/report.html

A row every ten minutes a pump: time, pump, product, load (%), ambient (°C), current (A), pressure (bar), vibration
(mm/s), temp (°C), of sensors with a resolution and noise of their own. The faults, in `labels.csv`:

slow bearing fault  vibration rises by 60 % in ten days, temp by 4 °C; mended at the first planned stop after them
stuck sensor        temp of one pump, and vibration of another, repeat one value for twelve hours while the pump runs
silent sensor       vibration of one pump is empty for a day
silent pump         one pump sends nothing for eight hours

`planned.csv` has what is no fault: the stop of all pumps every Sunday from 06:00 to 14:00, each change of product, a
load that is set higher for two days, a product that no pump had before. All else is the same without the faults.

With `--context` the plant has what an engineer knows of, too: each pump stands still twice a week for 20 to 90 minutes
(`short stop`); a column `quality` is `bad` in a row of 300, whose pressure is 99 and temp 0, and for twelve hours on
one pump (`bad readings`); and two faults cross limits: an outlet is blocked (pressure rises by 2.2 bar for three hours,
on two pumps) and one pump overheats (temp rises by 40 °C within two hours, for six).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

Floats = NDArray[np.float64]

START = 1_772_409_600_000
"""Monday 2026-03-02 00:00 UTC, ms."""
MINUTE, DAY = 60_000, 86_400_000
STEP = 10 * MINUTE
ROWS_A_DAY = DAY // STEP
STOP_HOURS = (6.0, 14.0)
"""Of each Sunday."""
FAULT_DAYS = 10.0
RISE, WARMER = 0.6, 4.0
"""Share by which vibration rises in those days, °C by which temp does."""
HEAT = {"A": 0.0, "B": 3.0, "C": -2.0, "D": 5.0}
"""°C that a product adds; D is new late in the plant's life."""
SHAKE = {"A": 1.0, "B": 1.15, "C": 0.9, "D": 1.25}
"""Factor of vibration."""
SHORT_STOPS = 2.0
"""A week and pump, with `context`."""
DOUBTFUL = 1.0 / 300.0
"""Share of rows whose quality is `bad`."""
BLOCKED, OVERHEATED, BAD = "blocked outlet", "overheated", "bad readings"
HIGHER, HOTTER = 2.2, 40.0
"""Bar by which a blocked outlet raises pressure, °C by which a pump overheats."""


class Happening(NamedTuple):
    """kind; entity: the pump; start, end: ms, both included"""

    kind: str
    entity: str
    start: int
    end: int


class Setting(NamedTuple):
    """How a pump is run, by row: load (%), ambient (°C), whether it stands still, its product."""

    load: Floats
    ambient: Floats
    stopped: NDArray[np.bool_]
    product: NDArray[np.str_]


class Plant(NamedTuple):
    """rows: the readings, by time and pump; faults, planned: the labels"""

    rows: pl.DataFrame
    faults: list[Happening]
    planned: list[Happening]


def autoregression(g: np.random.Generator, count: int, phi: float) -> Floats:
    """AR(1) of variance 1."""
    e = g.normal(size=count) * np.sqrt(1.0 - phi * phi)
    for t in range(1, count):
        e[t] += phi * e[t - 1]
    return e


def days_of(weeks: int) -> dict[str, float]:
    """The day on which each fault begins: the same distance from the end, however long the plant runs."""
    last = 7.0 * weeks
    return {"bearing": last - 28.0, "temp stuck": last - 11.875, "vibration stuck": last - 5.6, "silent": last - 10.0}


def at_day(day: float) -> int:
    """ms, on the grid of the readings."""
    return START + round(day * ROWS_A_DAY) * STEP


def faults_of(names: list[str], weeks: int) -> list[Happening]:
    """Each on another pump, as far as there are as many."""
    begin = days_of(weeks)
    mended = 7.0 * np.ceil((begin["bearing"] + FAULT_DAYS) / 7.0) - 1.0 + STOP_HOURS[0] / 24.0
    spans = [
        ("slow bearing fault", begin["bearing"], mended),
        ("stuck sensor: temp", begin["temp stuck"], begin["temp stuck"] + 0.5),
        ("stuck sensor: vibration", begin["vibration stuck"], begin["vibration stuck"] + 0.5),
        ("silent sensor: vibration", begin["silent"], begin["silent"] + 1.0),
        ("silent pump", begin["silent"] + 1.5, begin["silent"] + 1.5 + 8.0 / 24.0),
    ]
    return [
        Happening(kind, names[(i + 2) % len(names)], at_day(first), at_day(last) - STEP)
        for i, (kind, first, last) in enumerate(spans)
    ]


def crossings_of(names: list[str], weeks: int) -> list[Happening]:
    """What crosses limits, and readings that are not good: on the pumps that have no other fault, if there are any."""
    last = 7.0 * weeks
    spans = [
        (BLOCKED, last - 24.5, 0.125),
        (BLOCKED, last - 17.25, 0.125),
        (OVERHEATED, last - 9.4, 0.25),
        (BAD, last - 16.0, 0.5),
    ]
    return [
        Happening(kind, names[(i + 7) % len(names)], at_day(day), at_day(day + days) - STEP)
        for i, (kind, day, days) in enumerate(spans)
    ]


def short_stops(g: np.random.Generator, stopped: NDArray[np.bool_]) -> list[slice]:
    """The rows of each: two hours at least from any other stop."""
    free, out = ~stopped, []
    for at in np.sort(g.integers(0, len(stopped), g.poisson(SHORT_STOPS * len(stopped) / (7 * ROWS_A_DAY)))).tolist():
        rows = slice(at, at + int(g.integers(2, 10)))
        if at >= 12 and rows.stop + 12 < len(stopped) and free[at - 12 : rows.stop + 12].all():
            free[rows] = False
            out.append(rows)
    return out


def load_of(g: np.random.Generator, hour: Floats, sunday: NDArray[np.bool_], stopped: NDArray[np.bool_]) -> Floats:
    """Shifts, a level of the day, noise; 0 while the pump stands still."""
    shift = np.select([(hour >= 6) & (hour < 14), (hour >= 14) & (hour < 22)], [80.0, 65.0], 45.0)
    level = np.repeat(g.normal(size=len(hour) // ROWS_A_DAY + 1), ROWS_A_DAY)[: len(hour)]
    load = shift - 10.0 * sunday + 5.0 * level + 3.0 * autoregression(g, len(hour), 0.8)
    return np.where(stopped, 0.0, np.clip(load, 20.0, 105.0))


def products_of(g: np.random.Generator, count: int, new_from: int) -> NDArray[np.str_]:
    """A product for 36 to 96 hours each; D once, for two days, in place of what would run."""
    product = np.empty(count, "<U1")
    at = 0
    while at < count:
        until = at + int(g.uniform(36, 96) * ROWS_A_DAY / 24)
        product[at:until] = g.choice(["A", "B", "C"])
        at = until
    product[new_from : new_from + 2 * ROWS_A_DAY] = "D"
    return product


def made(pumps: int = 6, weeks: int = 10, seed: int = 1, faults: bool = True, context: bool = False) -> Plant:
    """A plant. context: with short stops, flags of quality, and faults that cross limits; all else is the same"""
    names = [f"PUMP-{i + 1}" for i in range(pumps)]
    count = 7 * weeks * ROWS_A_DAY
    ts = START + STEP * np.arange(count)
    hour = np.arange(count) % ROWS_A_DAY * 24.0 / ROWS_A_DAY
    sunday = np.arange(count) // ROWS_A_DAY % 7 == 6
    stopped = sunday & (hour >= STOP_HOURS[0]) & (hour < STOP_HOURS[1])
    shared = np.random.default_rng([seed, 0])
    weather = 4.0 * autoregression(shared, count, 0.998)
    ambient = 18.0 + 5.0 * np.cos(2 * np.pi * (hour - 15.0) / 24.0) + weather + 4.0 * np.arange(count) / count
    broken = faults_of(names, weeks) + (crossings_of(names, weeks) if context else [])
    planned = [
        Happening("planned stop", name, int(ts[at]), int(ts[at]) + round((STOP_HOURS[1] - STOP_HOURS[0]) * 60) * MINUTE)
        for at in np.flatnonzero(stopped[1:] & ~stopped[:-1]) + 1
        for name in names
    ]
    parts = []
    for i, name in enumerate(names):
        g = np.random.default_rng([seed, 1 + i])
        load, still = load_of(g, hour, sunday, stopped), stopped.copy()
        product = products_of(g, count, int((weeks - 5 + 0.3 * i) * 7 * ROWS_A_DAY))
        if i == 0:
            first = round((weeks - 6.3) * 7 * ROWS_A_DAY)
            raised = slice(first, first + 2 * ROWS_A_DAY)
            load[raised] = np.where(stopped[raised], 0.0, np.clip(load[raised] + 20.0, 20.0, 120.0))
            planned.append(Happening("load set higher", name, int(ts[raised.start]), int(ts[raised.stop])))
        for at in np.flatnonzero(product[1:] != product[:-1]) + 1:
            kind = "new product" if product[at] == "D" else "change of product"
            planned.append(Happening(kind, name, int(ts[at]), int(ts[at])))
        for rows in short_stops(np.random.default_rng([seed, 1000 + i]), stopped) if context else []:
            load[rows], still[rows] = 0.0, True
            planned.append(Happening("short stop", name, int(ts[rows.start]), int(ts[rows.stop])))
        own = [one for one in broken if one.entity == name] if faults else []
        parts.append(readings(g, name, ts, Setting(load, ambient, still, product), own))
        if context:
            parts[-1] = with_quality(np.random.default_rng([seed, 2000 + i]), parts[-1], own)
    rows = pl.concat(parts).sort("time", "pump")
    text = pl.from_epoch("time", time_unit="ms").dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    return Plant(rows.with_columns(text), sorted(broken) if faults else [], sorted(planned))


def readings(
    g: np.random.Generator,
    name: str,
    ts: NDArray[np.int64],
    setting: Setting,
    faults: list[Happening],
) -> pl.DataFrame:
    """What a pump's sensors read."""
    load, ambient, stopped, product = setting
    count, runs = len(ts), np.where(stopped, 0.0, 1.0)
    during = {one.kind: (ts >= one.start) & (ts <= one.end) for one in faults}
    wear = np.zeros(count)
    for one in faults:
        if one.kind == "slow bearing fault":
            since = np.where(ts <= one.end, (ts - one.start) / (FAULT_DAYS * DAY), 0.0)
            wear = np.clip(since, 0.0, 1.0)
    own = g.uniform(0.9, 1.1, 4)
    heat = np.array([HEAT[each] for each in product.tolist()])
    shake = np.array([SHAKE[each] for each in product.tolist()])
    aim = ambient + runs * (own[0] * (12.0 + 0.25 * load) + heat + WARMER * wear)
    temp, follow = np.empty(count), 1.0 - np.exp(-1.0 / 9.0)  # an hour and a half
    warm = aim[0]
    for t in range(count):
        warm += follow * (aim[t] - warm)
        temp[t] = warm
    for one in faults:
        if one.kind == OVERHEATED:
            temp += HOTTER * during[one.kind] * np.clip((ts - one.start) / (DAY / 12), 0.0, 1.0)
    temp = (temp + 0.2 * g.normal(size=count)).round(1)
    level = own[1] * 2.0 * (0.5 + 0.008 * load) * shake * (1.0 + RISE * wear)
    noise = 0.06 * autoregression(g, count, 0.5)
    vibration = np.where(stopped, 0.05 + 0.01 * np.abs(g.normal(size=count)), level * np.exp(noise)).round(2)
    current = (runs * own[2] * (4.0 + 0.11 * load) * np.exp(0.01 * g.normal(size=count))).round(2)
    blocked = HIGHER * during.get(BLOCKED, np.zeros(count, bool))
    pressure = (0.2 + runs * (own[3] * (3.0 + 0.02 * load) + blocked) + 0.05 * g.normal(size=count)).round(2)
    for kind, column in (("stuck sensor: temp", temp), ("stuck sensor: vibration", vibration)):
        if kind in during:
            column[during[kind]] = column[np.argmax(during[kind])]
    vibration[during.get("silent sensor: vibration", np.zeros(count, bool))] = np.nan
    frame = pl.DataFrame(
        {
            "time": ts,
            "pump": [name] * count,
            "product": product.tolist(),
            "load": load.round(1),
            "ambient": (ambient + 0.1 * g.normal(size=count)).round(1),
            "current": current,
            "pressure": pressure,
            "vibration": pl.Series(vibration).fill_nan(None),
            "temp": temp,
        }
    )
    return frame.filter(pl.Series(~during.get("silent pump", np.zeros(count, bool))))


def with_quality(g: np.random.Generator, rows: pl.DataFrame, faults: list[Happening]) -> pl.DataFrame:
    """The readings of a pump with their flags; what is not good reads as nonsense."""
    bad = g.random(rows.height) < DOUBTFUL
    for one in faults:
        if one.kind == BAD:
            bad |= rows["time"].is_between(one.start, one.end).to_numpy()
    flags, nonsense = pl.Series(np.where(bad, "bad", "good")), pl.Series(bad)
    return rows.with_columns(
        pl.when(nonsense).then(99.0).otherwise(pl.col("pressure")).alias("pressure"),
        pl.when(nonsense).then(0.0).otherwise(pl.col("temp")).alias("temp"),
        flags.alias("quality"),
    )


def write(folder: Path, plant: Plant) -> None:
    """plant.csv, labels.csv and planned.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    plant.rows.write_csv(folder / "plant.csv")
    for name, happenings in (("labels", plant.faults), ("planned", plant.planned)):
        columns: dict[str, list[str] | list[int]] = {
            "entity": [one.entity for one in happenings],
            "start": [one.start for one in happenings],
            "end": [one.end for one in happenings],
            "kind": [one.kind for one in happenings],
        }
        frame = pl.DataFrame(columns).cast({"start": pl.Int64, "end": pl.Int64})
        text = pl.from_epoch(pl.col("start", "end"), time_unit="ms").dt.strftime("%Y-%m-%dT%H:%M:%SZ")
        frame.with_columns(text).write_csv(folder / f"{name}.csv")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the files are written")
    parser.add_argument("--pumps", type=int, default=6, help="number of pumps (6)")
    parser.add_argument("--weeks", type=int, default=10, help="weeks of readings, at least 8 (10)")
    parser.add_argument("--seed", type=int, default=1, help="of all that is random (1)")
    parser.add_argument("--no-faults", action="store_true", help="the same plant without its faults")
    parser.add_argument("--context", action="store_true", help="with short stops, flags of quality, limits crossed")
    if {"--json", "--parts", "--plants"} & set(sys.argv[1:]):
        from plant_measured import main as measured

        measured()
        return
    options = parser.parse_args()
    if options.weeks < 8 or options.pumps < 1:
        parser.error("at least 8 weeks and one pump")
    plant = made(options.pumps, options.weeks, options.seed, not options.no_faults, options.context)
    write(options.folder, plant)
    print(f"{options.folder}: {plant.rows.height:,} rows, {len(plant.faults)} faults, {len(plant.planned)} planned")


if __name__ == "__main__":
    main()
