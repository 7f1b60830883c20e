"""The demonstration with other seeds: is what it shows luck?

    python benchmarks/demo_check.py [--seeds 20] [--json]

The production engine over the streams of each seed (`demo_streams.py`), under the example configurations: alarms that
are right and wrong by the labels, true events that were missed, and the plant's errors beside those of the same model
that stops learning after a week. The package has the streams of seed 1.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import demo_streams
import numpy as np
from measuring import Check, check, tell
from rich.console import Console
from rich.table import Table

from ssm_stream.config import Config, load_config
from ssm_stream.evaluate.alarm_marks import AlarmMarker
from ssm_stream.evaluate.error_comparison import ErrorComparison
from ssm_stream.evaluate.examples import PLANT, SERVICES, example_file
from ssm_stream.evaluate.frozen_model import predict_frozen
from ssm_stream.evaluate.prequential import prequential
from ssm_stream.evaluate.recordings import Recording
from ssm_stream.evaluate.true_events import TrueEvent
from ssm_stream.flow.demonstration.run import FROZEN_AFTER

Row = dict[str, Any]


def alarms(config: Config, file: Path, events: list[TrueEvent]) -> tuple[AlarmMarker, dict[tuple[str, int], float]]:
    """The marked alarms, and the absolute error of each event."""
    marker, errors = AlarmMarker(events), dict[tuple[str, int], float]()
    for chunk in prequential(config, Recording(file)):
        e = chunk.events
        error = np.abs(e.target - chunk.predictions.yhat).tolist()
        errors.update(zip(zip(e.entity, e.ts.tolist(), strict=True), error, strict=True))
        for alert in chunk.alerts:
            if alert.message["phase"] == "started":
                marker.mark({**alert.message, "ts": int(e.ts[alert.row])})
    return marker, errors


def of_seed(seed: int) -> Row:
    """The figures of one seed."""
    row: Row = {"seed": seed, "right": 0, "wrong": 0, "missed": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        demo_streams.write(folder, seed)
        for example, stream in ((PLANT, demo_streams.plant(seed)), (SERVICES, demo_streams.services(seed))):
            config = load_config(example_file(example.config))
            events = [TrueEvent(*label) for label in stream.labels]
            marker, errors = alarms(config, folder / example.recording, events)
            row["right"] += sum(mark.right for mark in marker.marks)
            row["wrong"] += sum(not mark.right for mark in marker.marks)
            row["missed"] += [f"{event.entity}: {event.kind}" for event in marker.missed]
            if example is PLANT:
                row |= adaptation(config, folder / example.recording, events, errors)
    return row


def adaptation(
    config: Config, file: Path, events: list[TrueEvent], errors: dict[tuple[str, int], float]
) -> dict[str, float]:
    """Errors of the entities that change, before and after, ours and frozen, and of the new machine's first day."""
    frozen, both, targets = predict_frozen(config, Recording(file), FROZEN_AFTER), ErrorComparison(), Recording(file)
    for chunk in prequential(config, targets):
        for name, ts, y in zip(
            chunk.events.entity, chunk.events.ts.tolist(), chunk.events.target.tolist(), strict=True
        ):
            both.add(name, ts, errors[name, ts], y - frozen.yhat[name, ts])
    before = [both.mean({event.entity}, frozen.until, event.start) for event in events]
    after = [both.mean({event.entity}, event.end) for event in events]
    new = {name: ts for name, ts in both.first.items() if ts >= frozen.until}
    first_day = [both.mean({name}, ts, ts + demo_streams.DAY) for name, ts in new.items()]
    later = [both.mean({name}, ts + demo_streams.DAY) for name, ts in new.items()]
    return {
        "before": float(np.mean([each.ours for each in before])),
        "after": float(np.mean([each.ours for each in after])),
        "frozen after": float(np.mean([each.other for each in after])),
        "new, first day": float(np.mean([each.ours for each in first_day])),
        "new, later": float(np.mean([each.ours for each in later])),
        "frozen new, first day": float(np.mean([each.other for each in first_day])),
        "frozen new, later": float(np.mean([each.other for each in later])),
    }


def checks_of(rows: list[Row]) -> list[Check]:
    seeds = len(rows)
    ratio = [row["frozen after"] / row["after"] for row in rows]
    back = max(row["after"] / row["before"] for row in rows)
    return [
        check("demo: error after the changes by that before, the worst seed", back, "<=", 1.5),
        check("demo: frozen error by ours after the changes, the worst seed", min(ratio), ">=", 3.0),
        check("demo: true events missed, a seed", sum(len(row["missed"]) for row in rows) / seeds, "<=", 1.0),
        check("demo: wrong alarms, a seed", sum(row["wrong"] for row in rows) / seeds, "<=", 2.0),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, help="number of seeds, from 1 on (20)")
    parser.add_argument("--json", action="store_true", help="checks and figures on standard output")
    options = parser.parse_args()
    rows = [of_seed(seed) for seed in range(1, options.seeds + 1)]
    table = Table(box=None, padding=(0, 1))
    for name in rows[0]:
        table.add_column(name, justify="left" if name == "missed" else "right", no_wrap=name == "missed")
    for row in rows:
        cells = [
            ", ".join(v) if isinstance(v, list) else f"{v:.3f}" if isinstance(v, float) else str(v)
            for v in row.values()
        ]
        table.add_row(*cells)
    Console(stderr=True, width=200).print(table)
    checks = checks_of(rows)
    tell(checks)
    if options.json:
        print(json.dumps({"checks": checks, "demo": rows}))


if __name__ == "__main__":
    main()
