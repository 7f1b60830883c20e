"""How soon the error is back after a change, and what it is over the whole stream, beside others who learn.

    python benchmarks/adaptation.py [--data FOLDER] [--quick] [--json] [--plot FILE] [--peers-cache FOLDER]

Generated streams with a change of coefficients, sensor offset, product or noise, and a new machine of a fleet; with
`--data` recordings with an injected change. The product runs with its defaults. Beside it: a frozen model, nightly
retraining and a sliding window (LightGBM, and ridge regression), least squares with forgetting, River's learners; their
choices are made in hindsight. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import plain
from adaptation_run import Everybody, Figures, everybody
from adaptation_streams import KINDS, Stream, generated, recorded
from measuring import Check, MissingError, check, peers_python, tell
from rich.console import Console
from rich.table import Table

CONSOLE = Console(stderr=True, highlight=False, soft_wrap=True)
SEEDS = {"coefficients": range(1, 13)} | dict.fromkeys(KINDS[1:], range(1, 5))
QUICK = {"coefficients": range(1, 5)} | dict.fromkeys(KINDS[1:], range(1, 2))
"""Seeds that are judged. Choices about the product are made on seeds from 101 on."""
FROZEN_MOST, NIGHTLY_MOST, EVENTS_MOST, BEFORE_MOST, CPU_MOST = 0.7, 0.8, 80, 1.04, 0.1
OURS = "ssm-stream"

Found = dict[str, Everybody]
Row = dict[str, Any]


def best(variants: dict[str, Figures]) -> Figures:
    """The variant with the least error over the whole stream."""
    return min(variants.values(), key=lambda one: one.mae)


def geometric(values: Iterable[float]) -> float | None:
    """Geometric mean; None of nothing."""
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs)) if logs else None


def ratios(found: Found, other: str) -> list[float]:
    """The product's error over the whole stream by another's, a stream each."""
    return [best(rows[OURS]).mae / best(rows[other]).mae for rows in found.values() if rows.get(other)]


def recoveries(streams: list[Stream], found: Found) -> dict[str, tuple[float, float]]:
    """Median events until the error is back and the error before by the noise's own, of a change of coefficients.

    By row and variant, over the generated streams.
    """
    names = [stream.name for stream in streams if stream.kind == "coefficients" and not stream.past]
    out = {}
    for row, variants in found[names[0]].items() if names else []:
        for variant in variants:
            seen = [found[name][row][variant] for name in names if variant in found[name][row]]
            median = float(np.median([one.events for one in seen]))
            out[f"{row}: {variant}"] = (median, float(np.mean([one.own for one in seen])))
    return out


def checks(streams: list[Stream], found: Found) -> list[Check]:
    """The figures that have a bar."""
    cost = [best(rows[OURS]).cpu / min(one.cpu for one in rows["nightly"].values()) for rows in found.values()]
    return [
        check("error/frozen", geometric(ratios(found, "frozen")), "<=", FROZEN_MOST),
        check("error/nightly", geometric(ratios(found, "nightly")), "<=", NIGHTLY_MOST),
        *recovery_checks(recoveries(streams, found)),
        check("cpu/nightly", geometric(cost), "<=", CPU_MOST),
    ]


def recovery_checks(recovery: dict[str, tuple[float, float]]) -> list[Check]:
    """A change of coefficients: both figures, and how many are ahead in both; nothing without such streams."""
    if not recovery:
        return []
    events, before = recovery[f"{OURS}: default"]
    ahead = sum(other < events and own < before for other, own in recovery.values())
    return [
        check("coefficients/events until back", events if math.isfinite(events) else None, "<=", EVENTS_MOST),
        check("coefficients/error before, of the noise's own", before, "<=", BEFORE_MOST),
        check("coefficients/learners ahead in both", float(ahead), "<=", 0),
    ]


def row_of(stream: Stream, rows: Everybody) -> Row:
    """Everybody's figures on a stream, the best variant in hindsight and its name."""
    out: Row = {"stream": stream.name, "kind": stream.kind, "generated": not stream.past, "learners": {}}
    for name, variants in rows.items():
        variant, one = min(variants.items(), key=lambda item: item[1].mae)
        told = {"variant": variant, "mae": one.mae, "of_noise": own_error(stream, one), "before_of_noise": one.own}
        out["learners"][name] = told | {"events": one.events, "cpu_us": one.cpu / len(stream.y) * 1e6}
    return out


def own_error(stream: Stream, one: Figures) -> float:
    """The error over the whole stream by that of who knows the relation."""
    return one.mae / float(stream.noise[stream.counted].mean())


def measure(streams: list[Stream], options: argparse.Namespace) -> tuple[Row, Found]:
    """All of it: `checks`, `rows` (a stream each), `recovery` (a variant each)."""
    options.peers_cache.mkdir(parents=True, exist_ok=True)
    found = everybody(
        streams, options.peers_python, options.peers_cache, quick=options.quick, processes=options.processes
    )
    report: Row = {"checks": checks(streams, found)}
    report["rows"] = [row_of(stream, found[stream.name]) for stream in streams]
    report["recovery"] = {
        name: {"events": events, "before_of_noise": own} for name, (events, own) in recoveries(streams, found).items()
    }
    report["ratio"] = {
        other: {"all": geometric(ratios(found, other)), **by_kind(streams, found, other)}
        for other in next(iter(found.values()))
        if other != OURS
    }
    return report, found


def column(stream: Stream) -> str:
    """What a stream stands under in the table."""
    return f"recording, {stream.kind}" if stream.past else stream.kind


def by_kind(streams: list[Stream], found: Found, other: str) -> dict[str, float | None]:
    """The product's error by another's: geometric mean over the streams of a kind."""
    kinds = dict.fromkeys(column(stream) for stream in streams)
    return {
        kind: geometric(ratios({one.name: found[one.name] for one in streams if column(one) == kind}, other))
        for kind in kinds
    }


def number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None or math.isnan(value) else "never" if math.isinf(value) else f"{value:.{digits}f}"


def show(report: Row) -> None:
    """Tables on stderr."""
    kinds = list(next(iter(report["ratio"].values())))
    table = Table(title="Error over the whole stream: ssm-stream's by the other's, whose choices are made in hindsight")
    table.add_column("other", no_wrap=True)
    for kind in kinds:
        table.add_column(kind, justify="right")
    for other, values in report["ratio"].items():
        table.add_row(other, *(number(values[kind]) for kind in kinds))
    CONSOLE.print(table)
    table = Table(title="A change of coefficients, 8 inputs: median (events) and mean (error) over the streams")
    for title in ("learner", "events until the error is back", "error before, of the noise's own"):
        table.add_column(title, justify="left" if title == "learner" else "right", no_wrap=title == "learner")
    for name, one in report["recovery"].items():
        table.add_row(name, number(one["events"], 0), number(one["before_of_noise"], 3))
    CONSOLE.print(table)
    table = Table(title="Of the noise's own error: median over the streams; CPU of an event")
    means = summary(report)
    table.add_column("learner", no_wrap=True)
    for kind in means[OURS]:
        table.add_column(kind, justify="right")
    for name, values in means.items():
        table.add_row(name, *(number(values.get(kind)) for kind in means[OURS]))
    CONSOLE.print(table)


def summary(report: Row) -> dict[str, dict[str, float]]:
    """By learner: error of the noise's own by kind of generated stream, and µs an event."""
    out: dict[str, dict[str, float]] = {}
    for name in report["rows"][0]["learners"]:
        rows = [(row["kind"], row["learners"][name]) for row in report["rows"] if row["generated"]]
        kinds = dict.fromkeys(kind for kind, _ in rows)
        out[name] = {
            kind: float(np.median([one["of_noise"] for other, one in rows if other == kind])) for kind in kinds
        }
        out[name]["µs an event"] = float(np.median([one["cpu_us"] for _, one in rows]))
    return out


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Errors after a change, beside others who learn.")
    parser.add_argument("--data", type=Path, help="folder of recordings (*.csv.gz): changes are injected into them")
    parser.add_argument("--quick", action="store_true", help="few streams and River's quick learners: two minutes")
    parser.add_argument(
        "--seeds", type=int, nargs="+", help="these seeds of each kind; those from 101 on are for choices"
    )
    parser.add_argument(
        "--kinds", nargs="+", choices=KINDS, default=KINDS, help="only these kinds of generated streams"
    )
    parser.add_argument("--json", action="store_true", help="checks and figures on stdout")
    parser.add_argument("--plot", type=Path, help="a picture of a change of coefficients: .svg or .png")
    parser.add_argument("--peers-python", default=peers_python(), help="interpreter that has lightgbm and river")
    parser.add_argument("--peers-cache", type=Path, help="folder that keeps what the others predicted")
    parser.add_argument("--processes", type=int, default=2, help="of the others, at a time")
    return parser.parse_args(arguments)


def streams_of(options: argparse.Namespace) -> list[Stream]:
    """The streams that are asked for."""
    seeds = dict.fromkeys(KINDS, options.seeds) if options.seeds else QUICK if options.quick else SEEDS
    streams = [generated(kind, seed) for kind in options.kinds for seed in seeds[kind]]
    if options.data:
        more = list(recorded(options.data))
        if not more:
            raise SystemExit(f"no recordings with bars in {options.data}; their names are in accuracy.py")
        streams += more
    return streams


def main() -> None:
    options = parsed()
    streams = streams_of(options)
    with tempfile.TemporaryDirectory(prefix="ssm-stream-bench-") as folder:
        options.peers_cache = options.peers_cache or Path(folder)
        try:
            report, found = measure(streams, options)
        except MissingError as error:
            raise SystemExit(f"{error}\nThe others need an environment of their own: `make peers`") from error
    show(report)
    tell(report["checks"])
    if options.plot:
        from adaptation_plot import draw

        draw(streams, found, options.plot)
    if options.json:
        print(json.dumps(plain(report), indent=2))


if __name__ == "__main__":
    main()
