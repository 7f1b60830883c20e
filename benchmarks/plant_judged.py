"""What the product says about the measured plant: alerts in stops, faults, limits, silence, stuck signals."""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import plant
import polars as pl
from alerts_plant import Alarm, of_faults
from measuring import Check, check
from plant_run import ALL, MODEL, Told, initial, told, with_lines

from ssm_stream.config import Config

Row = dict[str, Any]
HOUR = 3_600_000
AFTER_STOP = 2 * HOUR
PUMPS, WEEKS = 10, 8
INITIALS: dict[str, tuple[str, ...]] = {"init": (), "init --target temp": ("--target", "temp")}
SHORT_WINDOW = {"alerts": {"maintenance": [{"weekly": "Sun 06:00-14:00"}]}}
"""The window ends with the stop: what starts up after it is judged."""
EXPECTED = {
    "init --target temp": (
        *("slow bearing fault", "stuck sensor: temp", "silent pump"),
        *(plant.OVERHEATED, plant.BAD, plant.BLOCKED),
    ),
    "init": (
        *("slow bearing fault", "stuck sensor: temp", "stuck sensor: vibration", "silent sensor: vibration"),
        *("silent pump", plant.OVERHEATED, plant.BAD, plant.BLOCKED),
    ),
}
"""The faults that show in what each file watches."""


def inside(one: Told, happenings: list[plant.Happening], after: int) -> plant.Happening | None:
    """The first of them in which, or so long after which (ms), an episode starts on its entity."""
    for each in happenings:
        if each.start <= one.start < each.end + after and each.entity in one.pumps:
            return each
    return None


def raised(found: list[Told]) -> list[Told]:
    return [one for one in found if not one.suppressed]


def allowed(config: Config, hours: float) -> float:
    """Alerts of the model that its budgets allow in so many hours of an entity."""
    budgets = [config.alerts.anomaly.budget, config.alerts.drift.budget]
    return hours * sum(HOUR / plant.STEP / each.events if each.events else 3600.0 / each.seconds for each in budgets)


def crossings(rows: pl.DataFrame, column: str, above: float, events: int) -> Iterator[tuple[str, int, int | None]]:
    """Pump, start and end (ms, of the events at which an alert begins and ends) of each time that a limit is crossed.

    Worked out from the readings alone; those that are not good are left out, as if they had no value.
    """
    good = rows.filter(pl.col("quality") == "good").with_columns(
        ts=pl.col("time").str.to_datetime("%Y-%m-%dT%H:%M:%SZ").dt.epoch("ms")
    )
    for (pump,), own in good.sort("ts").group_by(["pump"], maintain_order=True):
        count, start = 0, None
        for ts, value in own.select("ts", column).iter_rows():
            count = count + 1 if value > above else 0
            if count == events:
                start = ts
            elif count == 0 and start is not None:
                yield str(pump), start, ts
                start = None
        if start is not None:
            yield str(pump), start, None


def of_limits(found: list[Told], rows: pl.DataFrame, config: Config) -> Row:
    """Crossings of limits, those that no alert tells at its event, and alerts of none."""
    true = set()
    for limit in config.alerts.limits:
        assert limit.above is not None
        spans = crossings(rows, limit.column, limit.above, max(limit.lasts.events, 1))
        true |= {(limit.text, *span) for span in spans}
    said = {(one.limit, one.pumps[0], one.start, one.end) for one in found if one.kind == "limit"}
    return {"crossings": len(true), "missed": len(true - said), "invented": len(said - true)}


def bound_of_runs(rows: pl.DataFrame, pump: str, column: str, config: Config, columns: int) -> float:
    """Equal readings in a row that the budget asks for, from how often a reading of the running pump repeats the last.

    A run of R comes by chance after (1 - q) q^(R - 1) of all readings, and the budget is shared by all signals, each of
    which may be missing or stuck, and the entity. Five at least: the product calls nothing stuck before.
    """
    own = rows.filter((pl.col("pump") == pump) & (pl.col("load") > 1) & (pl.col("quality") == "good"))
    values = own.sort("time")[column].to_numpy()
    q = max(float(np.mean(values[1:] == values[:-1])), 1e-6)
    budget = config.alerts.anomaly.budget
    events = budget.events or budget.seconds * 1000.0 / plant.STEP
    parts = 1 + 2 * columns
    return max(1.0 + math.log(2.0 * events * parts * (1.0 - q)) / -math.log(q), 5.0)


def of_stuck(found: list[Told], made: plant.Plant, calm: plant.Plant, config: Config) -> list[Row]:
    """A row a stuck sensor: equal readings until it is told, and those that the budget asks for."""
    columns = len({*config.event.numbers, *config.event.targets})
    out = []
    for fault in made.faults:
        column = fault.kind.removeprefix("stuck sensor: ")
        if column == fault.kind or column not in (*config.event.numbers, *config.event.targets):
            continue
        ours = [one for one in found if (one.kind, one.column, one.pumps) == ("stuck", column, (fault.entity,))]
        ours = [one for one in ours if fault.start <= one.start <= fault.end]
        standing = pl.col("time").str.to_datetime("%Y-%m-%dT%H:%M:%SZ").dt.epoch("ms")
        bound = bound_of_runs(calm.rows, fault.entity, column, config, columns)
        run = None
        if ours:
            span = standing.is_between(fault.start, ours[0].start)
            mine = (pl.col("pump") == fault.entity) & (pl.col("load") > 1) & (pl.col("quality") == "good")
            run = made.rows.filter(mine & span).height
        out.append({"sensor": column, "pump": fault.entity, "run": run, "bound": bound, "alerts": len(ours)})
    return out


def counted(found: list[Told], made: plant.Plant, last: int) -> list[Row]:
    """A row an episode, for tables. last: time of the last event, ms"""
    stops = [one for one in made.planned if one.kind in ("planned stop", "short stop")]
    changes = [one for one in made.planned if one.kind not in ("planned stop", "short stop")]
    rows = []
    for one in found:
        labels = inside(one, made.faults, HOUR), inside(one, stops, AFTER_STOP), inside(one, changes, 4 * HOUR)
        cause = next((each.kind for each in labels if each is not None), "nothing labelled")
        hour = (one.start - plant.START) // HOUR % 168
        row = {"kind": one.kind, "suppressed": one.suppressed, "hour": hour, "during": cause}
        rows.append(row | {"open": ((one.end or last) - one.start) / HOUR, "ended": one.end is not None})
    return rows


def judged(seed: int) -> list[Row]:
    """A row a configuration of `init`."""
    made = plant.made(PUMPS, WEEKS, seed, context=True)
    calm = plant.made(PUMPS, WEEKS, seed, faults=False, context=True)
    last = plant.START + WEEKS * 7 * plant.DAY
    stops = [one for one in made.planned if one.kind == "planned stop"]
    short = [one for one in made.planned if one.kind == "short stop"]
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plant.write(folder, made)
        plant.write(folder / "calm", calm)
        file, calm_file = folder / "plant.csv", folder / "calm" / "plant.csv"
        for title, arguments in INITIALS.items():
            start = initial(folder, arguments)
            configs = {
                "without": with_lines(start, ()),
                "when": with_lines(start, ("when", "quality")),
                "window": with_lines(start, ("window", "quality")),
                "window of the stop": with_lines(start, ("quality",), SHORT_WINDOW),
                "all": with_lines(start, ALL),
            }
            found = {word: told(configs[word], file) for word in ("without", "window", "all")}
            # A pump that is mended in a stop is another one after it: without faults, no alert there is a true one.
            quiet = {word: told(configs[word], calm_file) for word in configs if word != "window"}
            row: Row = {
                "seed": seed,
                "config": title,
                "events": made.rows.height,
                "targets": len(configs["all"].event.targets),
            }
            row["stops"] = {
                word: sum(one.kind != "limit" and inside(one, stops, AFTER_STOP) is not None for one in raised(own))
                for word, own in {**quiet, **found}.items()
            }
            row["allowed in stops"] = allowed(configs["when"], len(stops) * AFTER_STOP / HOUR)
            hours = sum(one.end - one.start + AFTER_STOP for one in short) / HOUR
            row["short stops"] = {
                word: sum(one.kind in MODEL and inside(one, short, AFTER_STOP) is not None for one in raised(own))
                for word, own in quiet.items()
            }
            rest = sum(one.kind in MODEL and inside(one, short, AFTER_STOP) is None for one in raised(quiet["when"]))
            row["elsewhere"] = rest * hours / (made.rows.height * plant.STEP / HOUR - hours)
            row["faults"] = {
                word: of_faults(alarms(found[word]), alarms(quiet[word]), made) for word in ("without", "all")
            }
            windows = [one._replace(end=one.end + AFTER_STOP) for one in stops]
            hidden = [one for one in found["all"] if one.suppressed == "maintenance"]
            row["suppressed"] = len(hidden)
            row["suppressed outside"] = sum(inside(one, windows, 0) is None for one in hidden)
            row["limits"] = of_limits(found["all"], made.rows, configs["all"])
            row["stuck"] = of_stuck(found["all"], made, calm, configs["all"])
            budget = configs["all"].alerts.anomaly.budget
            row["false allowed"] = made.rows.height / (budget.events or budget.seconds * 1000.0 / plant.STEP)
            row["false"] = dict(Counter(one.kind for one in raised(quiet["all"])))
            row["episodes"] = {word: counted(found[word], made, last) for word in ("without", "all")}
            rows.append(row)
    return rows


def alarms(found: list[Told]) -> list[Alarm]:
    """As `alerts_plant.py` judges them."""
    return [Alarm(one.start, one.pumps, one.kind) for one in raised(found)]


def checks_of(rows: list[Row]) -> list[Check]:
    out = []
    for title in INITIALS:
        own = [row for row in rows if row["config"] == title]
        if not own:
            continue
        stops = {word: sum(row["stops"][word] for row in own) for word in own[0]["stops"]}
        budget = sum(row["allowed in stops"] for row in own)
        out.append(
            check(f"{title}: alerts in planned stops and two hours after, with a window", stops["window"], "<=", 0)
        )
        out.append(check(f"{title}: the same, with all of it", stops["all"], "<=", 0))
        out.append(check(f"{title}: the same, event.when alone, by the budget", stops["when"] / budget, "<=", 1.0))
        ratio = stops["window of the stop"] / budget
        out.append(check(f"{title}: the same, a window of the stop alone, by the budget", ratio, "<=", 1.0))
        found = {word: [faults_found(row, word, title) for row in own] for word in ("without", "all")}
        counts = {word: sum(map(len, each)) for word, each in found.items()}
        out.append(check(f"{title}: faults found with all of it", counts["all"], ">=", counts["without"]))
        lost = sum(len(before - after) for before, after in zip(found["without"], found["all"], strict=True))
        out.append(check(f"{title}: faults found without that are lost", lost, "<=", 0))
        hidden = sum(row["suppressed outside"] for row in own)
        out.append(check(f"{title}: alerts suppressed outside windows", hidden, "<=", 0))
        for word in ("missed", "invented"):
            count = sum(row["limits"][word] for row in own)
            of = sum(row["limits"]["crossings"] for row in own)
            out.append(check(f"{title}: crossings of limits {word}, of {of}", count, "<=", 0))
        runs = [one["run"] / one["bound"] if one["run"] else math.inf for row in own for one in row["stuck"]]
        out.append(check(f"{title}: stuck told, worst, by the run that the budget asks for", max(runs), "<=", 3.0))
        false = sum(row["false"].get(kind, 0) for row in own for kind in ("silence", "stuck"))
        allow = sum(row["false allowed"] for row in own)
        out.append(check(f"{title}: false alerts of silence and stuck, by the budget", false / allow, "<=", 1.2))
    return out


def faults_found(row: Row, word: str, title: str) -> set[tuple[str, str]]:
    """Kind and pump of each."""
    return {(one["fault"], one["pump"]) for one in row["faults"][word] if one["by"] and one["fault"] in EXPECTED[title]}
