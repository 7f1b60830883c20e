"""Inputs are added, removed or exchanged while the state goes on: errors beside those of a fresh start.

    python benchmarks/input_changes.py [--json] [--quick] [--data FOLDER] [--only TEXT]
    python benchmarks/input_changes.py --seed 140 --first 5000 --judged 4000   # after the trial, other made streams
    python benchmarks/input_changes.py --late 10                               # labels so many events after theirs

Each window of a stream is run three ways, from the default configuration of `event` after the change: "kept" has
learned the events before it with the inputs before, and goes on; "fresh" begins at the change; "unchanged" has had the
inputs from the beginning. What is compared is the mean absolute error from event 500 after the change on, over 2,000
events (--first, --judged: others; recordings that are too short for these are left out).

Chance: two models that have learned from different events predict differently, each better here and worse there;
"unchanged", with which nothing is wrong, is worse than fresh in many a single window. So a case, which is a change on a
stream, is the geometric mean over three windows: seeds of a made stream, places in a recording. Beside each kept figure
stands the unchanged one, and one check compares kept with the worse of fresh and unchanged. Every single window is in
the rows of --json. The summary counts the cases that are more than half a per cent worse, and among them those that are
so in each of their windows.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from input_changes_streams import CHANGES, Change, Floats, Stream, fits, made_streams, recorded_streams
from measuring import Check, check, say, tell

from ssm_stream.config import Config, parse_config
from ssm_stream.engine.engine import Engine
from ssm_stream.ingest.derived import DerivedInputs
from ssm_stream.ingest.events import Events
from ssm_stream.ingest.labels import Labels

DATA = Path(os.environ.get("SSM_STREAM_DATA") or Path(__file__).parents[2] / "shared" / "data")
EARLY = 500
"""Events after the change that are judged apart."""
CLEARLY = 1.005
"""From here on a ratio counts as worse, as in `tests/test_input_changes.py`."""
BEFORE = (1_200, 2_500, 5_000)
"""Events before the change, by window."""
Row = dict[str, Any]


class Judged(NamedTuple):
    """Events after the change whose errors are compared. late: events until a label comes"""

    first: int
    count: int
    late: int = 0

    @property
    def stop(self) -> int:
        return self.first + self.count


def configuration(event: str, late: int = 0) -> Config:
    labels = "labels: {topic: labels, wait: 3650d}\n" if late else ""
    return parse_config(
        f"source: {{brokers: 'localhost:9092', topic: events}}\nevent: {{entity: e, timestamp: t, {event}}}\n{labels}"
    )


def events(stream: Stream, of: Config, first: int, stop: int) -> Events:
    """Some of the events as a configuration reads them."""
    part, derived = stream.part(first, stop), DerivedInputs(of.event)
    columns = [part.columns[path] for path in [*derived.paths, *of.event.categories]]
    given = np.stack(columns, axis=1) if columns else np.zeros((len(part.y), 0))
    features, past = derived.add(given, part.y)
    return Events(part.entity, part.ts, np.ascontiguousarray(features), part.y, np.arange(first, stop), windows=past)


def errors(engine: Engine, part: Events, late: int = 0, before: Events | None = None) -> Floats:
    """Absolute errors of predictions; with `late`, so many events at a time, and after each the labels of those before.

    before: the events that wait for their labels at the start
    """
    if not late:
        return np.abs(engine.process(part)[0].yhat - part.target)
    found = []
    for first in range(0, len(part), late):
        some = part.take(np.arange(first, min(first + late, len(part))))
        found.append(engine.process(replace(some, target=np.full(len(some), np.nan)))[0].yhat)
        if before is not None and len(rows := np.flatnonzero(~np.isnan(before.target))):
            names = [before.entity[i] for i in rows.tolist()]
            zeros = np.zeros(len(rows), np.int64)
            engine.learn(Labels(names, before.ts[rows], zeros, before.target[rows], rows))
        before = some
    return np.abs(np.concatenate(found) - part.target)


def window(stream: Stream, change: Change, place: tuple[int, int], judged: Judged) -> dict[str, float]:
    """Mean absolute errors of each way: of the events that are judged, and (`early`) of the first ones."""
    late = judged.late
    was, now = (configuration(event, late) for event in change)
    first, before = place
    at, stop = first + before, first + before + judged.stop
    engine, unchanged = Engine(was), Engine(now)
    errors(engine, events(stream, was, first, at), late)
    errors(unchanged, events(stream, now, first, at), late)
    part, last = events(stream, now, at, stop), events(stream, now, at - late, at) if late else None
    ways = {"kept": Engine.restore(now, engine.snapshot()), "fresh": Engine(now), "unchanged": unchanged}
    out: dict[str, float] = {}
    for name, each in ways.items():
        found = errors(each, part, late, None if name == "fresh" else last)
        out[name], out[f"{name}_early"] = float(np.nanmean(found[judged.first :])), float(np.nanmean(found[:EARLY]))
    return out


def windows(stream: Stream, quick: bool, judged: Judged) -> list[tuple[int, int]]:
    """The first event of each window of a recording, and events before the change; none if it is too short."""
    lengths = BEFORE[1:2] if quick else BEFORE
    found = []
    for i, before in enumerate(lengths):
        room = len(stream.y) - before - judged.stop
        if room < 0:
            return []
        found.append((room * i // max(len(lengths) - 1, 1), before))
    return found


def mean(ratios: list[float]) -> float:
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def measure(name: str, change: Change, places: list[tuple[Stream, int, int]], judged: Judged) -> Row:
    """One case."""
    found = [window(stream, change, (first, before), judged) for stream, first, before in places]

    def ratio(way: str, to: str, early: str = "") -> list[float]:
        return [round(one[way + early] / one[to + early], 5) for one in found]

    kept, unchanged = ratio("kept", "fresh"), ratio("unchanged", "fresh")
    return {
        "stream": places[0][0].name,
        "change": name,
        "kept": round(mean(kept), 5),
        "unchanged": round(mean(unchanged), 5),
        "kept_early": round(mean(ratio("kept", "fresh", "_early")), 5),
        "windows": kept,
        "windows_unchanged": unchanged,
    }


def summary(rows: list[Row]) -> dict[str, float]:
    """Figures of some cases."""
    kept = [row["kept"] for row in rows]
    singles = [one for row in rows for one in row["windows"]]
    worse = [one for one in kept if one > 1.0]
    beyond = [row["kept"] / max(1.0, row["unchanged"]) for row in rows]
    return {
        "cases": len(rows),
        "mean": round(mean(kept), 5),
        "mean_unchanged": round(mean([row["unchanged"] for row in rows]), 5),
        "worst": max(kept),
        "worst_unchanged": max(row["unchanged"] for row in rows),
        "worse_share": round(len(worse) / len(kept), 4),
        "worse_by": round(mean(worse) - 1.0, 5) if worse else 0.0,
        "worse_share_unchanged": round(sum(row["unchanged"] > 1.0 for row in rows) / len(rows), 4),
        "worst_beyond_chance": round(max(beyond), 5),
        "beyond_chance_share": round(sum(one > 1.0 for one in beyond) / len(beyond), 4),
        "worse_cases": sum(one > CLEARLY for one in kept),
        "worse_cases_unchanged": sum(row["unchanged"] > CLEARLY for row in rows),
        "worse_in_each_window": sum(min(row["windows"]) > CLEARLY for row in rows),
        "worst_window": max(singles),
        "worst_window_unchanged": max(one for row in rows for one in row["windows_unchanged"]),
        "early": round(mean([row["kept_early"] for row in rows]), 5),
    }


def checks_of(rows: list[Row]) -> list[Check]:
    of = summary(rows)
    return [
        check("geometric mean of kept / fresh", of["mean"], "<=", 1.0),
        check("cases that are more than half a per cent worse", of["worse_cases"], "<=", 0),
        check("worst case, kept / fresh", of["worst"], "<=", CLEARLY),
        check("worst case, kept / the worse of fresh and unchanged", of["worst_beyond_chance"], "<=", CLEARLY),
        check("share of cases above 1", of["worse_share"], "<=", 0.05),
        check("how far those are above 1, mean", of["worse_by"], "<=", 0.002),
        check("first 500 events, geometric mean of kept / fresh", of["early"], "<=", 1.0),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Changes of inputs beside a fresh start.")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="one window a case")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the recordings")
    parser.add_argument("--only", default="", help="cases whose stream or change has this in its name")
    parser.add_argument("--seed", type=int, default=40, help="of the made streams")
    parser.add_argument("--first", type=int, default=500, help="first event after the change that is judged")
    parser.add_argument("--judged", type=int, default=2_000, help="how many events are judged")
    parser.add_argument("--late", type=int, default=0, help="events after which a label comes; 0: with its event")
    arguments = parser.parse_args()
    judged = Judged(arguments.first, arguments.judged, arguments.late)
    seeds = 1 if arguments.quick else len(BEFORE)
    made = zip(*(made_streams(arguments.seed + i, max(BEFORE) + judged.stop) for i in range(seeds)), strict=True)
    families = [
        [(each, 0, before) for each, before in zip(some, BEFORE[1:] + BEFORE[:1], strict=False)] for some in made
    ]
    families += [
        [(each, *at) for at in windows(each, arguments.quick, judged)] for each in recorded_streams(arguments.data)
    ]
    rows = list[Row]()
    for places in filter(None, families):
        stream = places[0][0]
        chosen = [name for name, change in CHANGES.items() if fits(stream, change)]
        of_stream = [
            measure(name, CHANGES[name], places, judged)
            for name in chosen
            if arguments.only in f"{stream.name}, {name}"
        ]
        if of_stream:
            of = summary(of_stream)
            say(f"{stream.name}: {of['cases']} cases, kept / fresh {of['mean']}, worst {of['worst']}")
        rows += of_stream
    checks = checks_of(rows)
    if arguments.json:
        print(json.dumps({"rows": rows, "summary": summary(rows), "checks": checks}, indent=2))
        return
    for row in sorted(rows, key=lambda row: -row["kept"]):
        figures = f"kept {row['kept']:.4f}  unchanged {row['unchanged']:.4f}"
        print(f"{row['stream']:22} {row['change']:24} {figures}")
    tell(checks)


if __name__ == "__main__":
    main()
