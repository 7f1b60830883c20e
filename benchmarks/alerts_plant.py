"""The simulated plant of `plant.py` under what `ssm-stream init` writes for it: which of its faults are found.

    python benchmarks/alerts_plant.py                              # 15 s
    python benchmarks/alerts_plant.py --plants 1 2 3 --json
    python benchmarks/alerts.py --parts plant

A fault is found by an alert that starts while it lasts, on its pump, not near anything planned, and that the same plant
without faults does not have. *by chance*: alerts of that plant on that pump in the same span. `ssm-stream init --target
all` is judged as well, where this version has it.

Then the same with `event.when: {load: {above: 1}}`, the one line that an engineer would add: how many alerts start
within the planned stops and the two hours after them, against what the budgets allow for the events that are not idle
there, and whether the same faults are found. One plant allows a seventh of an alert: take many.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import plant
from alerts_recordings import check
from alerts_run import KINDS, Judged, Row, Stream, absorb_after, episodes, nth_of, of_episodes
from alerts_scale import show_checks
from rich.console import Console
from rich.table import Table

from ssm_stream.config import Config, load_config
from ssm_stream.evaluate.prequential import prequential
from ssm_stream.evaluate.recordings import Recording

CONSOLE = Console(stderr=True, highlight=False, soft_wrap=True, width=140)
HOUR = 3_600_000
NEAR = 4 * HOUR
"""ms after something planned that belong to it: a pump needs hours to become warm again."""
AFTER_STOP = 2 * HOUR
RUNNING = {"load": {"above": 1}}
"""The operating condition of the plant's pumps."""
INITIALS: dict[str, list[str]] = {"init": [], "init --target all": ["--target", "all"]}
BEARING = "slow bearing fault"


class Alarm(NamedTuple):
    """A start. ts: of the event at which it is sent, ms; pumps: its entity, or those of a fleet alert"""

    ts: int
    pumps: tuple[str, ...]
    kind: str


class Run(NamedTuple):
    """Features are left out of the stream; y is (n, targets) where there are several."""

    stream: Stream
    judged: Judged
    alarms: list[Alarm]


def initial(folder: Path, arguments: list[str]) -> Config | None:
    """What `ssm-stream init` writes for plant.csv; None where it refuses."""
    out = folder / "monitor.yaml"
    command = [sys.executable, "-m", "ssm_stream", "init", str(folder / "plant.csv"), "--out", str(out), "--force"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True)
    if done.returncode:
        CONSOLE.print(f"init {' '.join(arguments)}: {(done.stderr.strip().splitlines() or ['failed'])[0]}")
        return None
    return load_config(out)


def changed(config: Config, alerts: Row) -> Config:
    """alerts: by section, what is set in it"""
    sections = {name: getattr(config.alerts, name).model_copy(update=some) for name, some in alerts.items()}
    return config.replace(alerts=config.alerts.model_copy(update=sections))


def running(config: Config) -> Config:
    """With the operating condition."""
    event = {name: getattr(config.event, name) for name in type(config.event).model_fields}
    return config.replace(event=type(config.event)(**event | {"when": RUNNING}))


def of_stops(alarms: list[Alarm], made: plant.Plant, config: Config) -> Row:
    """Alerts that start within the stops and two hours after, and those that the budgets allow there."""
    stops = [one._replace(end=one.end + AFTER_STOP) for one in made.planned if one.kind == "planned stop"]
    hours = AFTER_STOP / HOUR * len(stops)
    budgets = [getattr(config.alerts, kind).budget for kind in KINDS]
    per_hour = [HOUR / plant.STEP / each.events if each.events else 3600.0 / each.seconds for each in budgets]
    return {"alarms": sum(explained(each, stops) is not None for each in alarms), "allowed": hours * sum(per_hour)}


def run(config: Config, file: Path) -> Run:
    """The production engine over a file."""
    number: dict[str, int] = {}
    entity: list[int] = []
    parts: list[tuple[Any, ...]] = []
    messages: list[tuple[int, Row]] = []
    alarms = []
    for chunk in prequential(config, Recording(file)):
        events, p, first = chunk.events, chunk.predictions, len(entity)
        entity += [number.setdefault(name, len(number)) for name in events.entity]
        parts.append((events.ts, events.target, p.yhat, p.lower, p.upper, p.score, p.warmup))
        for alert in chunk.alerts:
            message, fleet = alert.message, alert.message["scope"] == "fleet"
            if not fleet:
                messages.append((first + alert.row, message))
            if message["phase"] == "started":
                pumps = [one["entity"] for one in message["entities"]] if fleet else [message["entity"]]
                alarms.append(Alarm(int(events.ts[alert.row]), tuple(pumps), message["kind"]))
    ts, y, yhat, lower, upper, score, warmup = (np.concatenate(column) for column in zip(*parts, strict=True))
    entities = np.array(entity)
    nth = nth_of(entities)
    stream = Stream("plant", list(number), entities, ts, np.zeros((len(ts), 0)), y, [], {})
    found = episodes(messages, number, nth, np.bincount(entities))
    return Run(stream, Judged(yhat, lower, upper, score, nth, ~warmup, found), alarms)


def spans(planned: list[plant.Happening]) -> list[plant.Happening]:
    """What belongs to something planned: a load that is set higher has a beginning and an end."""
    out = []
    for one in planned:
        ends = [(one.start, one.start), (one.end, one.end)] if one.kind == "load set higher" else [(one.start, one.end)]
        out += [one._replace(start=start, end=end + NEAR) for start, end in ends]
    return out


def explained(alarm: Alarm, happenings: list[plant.Happening]) -> str | None:
    """The kind of the first of them during which the alarm starts, on one of its pumps."""
    for one in happenings:
        if one.start <= alarm.ts <= one.end and one.entity in alarm.pumps:
            return one.kind
    return None


def of_faults(alarms: list[Alarm], control: list[Alarm], made: plant.Plant) -> list[Row]:
    """A row a fault. alarms, control: of the plant with its faults and without"""
    planned, again = spans(made.planned), set(control)
    rows = []
    for fault in made.faults:
        during = [each for each in alarms if explained(each, [fault]) and not explained(each, planned)]
        chance = [each for each in control if explained(each, [fault]) and not explained(each, planned)]
        new = [each for each in during if each not in again]
        row: Row = {"fault": fault.kind, "pump": fault.entity, "days": (fault.end - fault.start) / plant.DAY}
        row |= {"by": new[0].kind if new else None, "hours": (new[0].ts - fault.start) / HOUR if new else None}
        rows.append(row | {"alarms": len(during), "by chance": len(chance)})
    return rows


def of_alarms(alarms: list[Alarm], made: plant.Plant) -> Row:
    """By kind of alarm: how many start during what; *outside*: during nothing that is labelled."""
    labels = [*made.faults, *spans(made.planned)]
    counts: Row = {kind: {} for kind in KINDS}
    for each in alarms:
        own = counts.setdefault(each.kind, {})
        what = explained(each, labels) or "outside"
        own[what] = own.get(what, 0) + 1
    return counts


def judged(seed: int) -> list[Row]:
    """A row a configuration."""
    made, calm = plant.made(seed=seed), plant.made(seed=seed, faults=False)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plant.write(folder / "calm", calm)
        plant.write(folder, made)
        for title, arguments in INITIALS.items():
            config = initial(folder, arguments)
            if config is None:
                continue
            file, control = run(config, folder / "plant.csv"), run(config, folder / "calm" / "plant.csv")
            alone = run(changed(config, {"fleet": {"enabled": False}}), folder / "plant.csv")
            row: Row = {"config": title, "seed": seed, "target": config.event.targets, "features": config.event.numbers}
            row["faults"] = of_faults(file.alarms, control.alarms, made)
            row["alarms"] = of_alarms(file.alarms, made)
            row["weeks of pumps"] = float(made.rows.height) / plant.ROWS_A_DAY / 7
            row |= of_episodes(alone.stream, alone.judged)
            row["allowed"] = {kind: absorb_after(config, kind) for kind in KINDS}
            there, calm_there = (run(running(config), each / "plant.csv") for each in (folder, folder / "calm"))
            row["stops"] = {"without": of_stops(file.alarms, made, config)}
            row["stops"]["when"] = of_stops(there.alarms, made, config)
            row["faults, when"] = of_faults(there.alarms, calm_there.alarms, made)
            rows.append(row)
    return rows


def shown(rows: list[Row]) -> None:
    for row in rows:
        targets = ", ".join(row["target"])
        table = Table(box=None, padding=(0, 1, 0, 0), title=f"Plant {row['seed']}, {row['config']} (target {targets})")
        for title in ("fault", "pump", "days", "found by", "after hours", "alerts", "by chance"):
            table.add_column(title, justify="left" if title in ("fault", "pump", "found by") else "right")
        for one in row["faults"]:
            after = "–" if one["hours"] is None else f"{one['hours']:.1f}"
            cells = [one["by"] or "not found", after, str(one["alarms"]), str(one["by chance"])]
            table.add_row(one["fault"], one["pump"], f"{one['days']:.1f}", *cells)
        CONSOLE.print(table)
        for title, stops in row["stops"].items():
            told = f"{stops['alarms']} alerts in stops and two hours after, {stops['allowed']:.2f} allowed"
            CONSOLE.print(f"  {'event.when' if title == 'when' else 'without'}: {told}")
        found = ", ".join(one["fault"] for one in row["faults, when"] if one["by"]) or "none"
        CONSOLE.print(f"  event.when finds: {found}")
        for kind, counts in row["alarms"].items():
            every = ", ".join(f"{what} {n}" for what, n in sorted(counts.items(), key=lambda item: -item[1]))
            told = f"  {kind} alerts: {every or 'none'}"
            if kind in KINDS:
                own = row[kind]
                told += f"; {100 * own['inside']:.2f} % of rows inside, longest {own['longest']:,} events"
            CONSOLE.print(told)


def plant_checks(rows: list[Row]) -> list[Row]:
    checks = []
    for title in dict.fromkeys(row["config"] for row in rows):
        own = [row for row in rows if row["config"] == title]
        for fault in (BEARING, "stuck sensor: temp"):
            found = sum(one["by"] is not None for row in own for one in row["faults"] if one["fault"] == fault)
            checks.append(check(f"plant/{title}: {fault} found, plants", found, ">=", len(own)))
        stops = [row["stops"]["when"] for row in own]
        ratio = sum(each["alarms"] for each in stops) / sum(each["allowed"] for each in stops)
        checks.append(
            check(f"plant/{title}: alerts in stops and two hours after, event.when, by allowed", ratio, "<=", 1.0)
        )
        counts = [sum(one["by"] is not None for row in own for one in row[key]) for key in ("faults, when", "faults")]
        checks.append(check(f"plant/{title}: faults found with event.when", counts[0], ">=", counts[1]))
        longest = max(row[kind]["longest"] / row["allowed"][kind] for row in own for kind in KINDS)
        checks.append(check(f"plant/{title}: longest episode by absorb_after", longest, "<=", 1.0))
    return checks


def parts(options: argparse.Namespace) -> tuple[list[Row], list[Row]]:
    """Checks, and a row a plant and configuration."""
    rows = [row for seed in options.plants for row in judged(seed)]
    shown(rows)
    return plant_checks(rows), rows


def add_options(parser: Any) -> None:
    parser.add_argument("--plants", nargs="+", type=int, default=[1], help="seeds of the simulated plants (1)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--json", action="store_true", help="checks and figures on standard output")
    options = parser.parse_args()
    checks, rows = parts(options)
    show_checks(checks)
    if options.json:
        print(json.dumps({"checks": checks, "plant": rows}))


if __name__ == "__main__":
    main()
