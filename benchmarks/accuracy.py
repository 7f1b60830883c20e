"""Errors on recordings, test then train, beside persistence and the best of River's learners in hindsight.

    python benchmarks/accuracy.py --data FOLDER [--profile both] [--ablations] [--json] [--peers-cache FILE]

The product runs with its default configuration: a recording's columns are named, nothing else is set. `any` is the
default, `soft` has `lags: 0` (no past target among the inputs). Each is compared with the best that any of River's
learners reached, `soft` with those on the columns alone. What an event costs and what an entity weighs is measured
beside it. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from accuracy_peers import (
    INPUTS,
    LIMIT,
    PUBLISHED,
    PUBLISHED_ROWS,
    SCORED_FROM,
    Found,
    Sample,
    has_river,
    past_targets,
    search,
)
from accuracy_product import (
    ABLATIONS,
    CELLS,
    Recording,
    ablation,
    cells,
    configuration,
    costs,
    delays,
    expanded,
    read,
    states,
    stem,
    untrained_obstacle,
)
from measuring import peers_python
from rich.console import Console
from rich.table import Table

CONSOLE = Console(stderr=True, highlight=False, soft_wrap=True)
SHORT = {
    "bike_sharing_hourly": "bike",
    "gas_turbine_nox": "gas",
    "steel_energy": "steel",
    "parking_birmingham": "parking",
    "water_flow": "water",
    "cmapss_fd001": "cmapss",
    "skab_shared": "skab",
    "chick_weights": "chick",
}
"""The recordings that have bars, in the order of the table."""

RATIO_MOST = {"fast": {"soft": 0.55, "any": 0.80}, "accurate": {"soft": 0.50, "any": 0.75}}
CELLS_LEAST = {"fast": 16, "accurate": 16}
COST_MOST = {
    "fast": {"8 features": 1.5, "8 features, 100 entities": 1.5, "50 columns": 8.0},
    "accurate": {"50 columns": 60.0},
}
"""µs an event."""
STATE_MOST: dict[str, dict[str, float]] = {"fast": {"alone": 64 * 1024, "fleet": 4096}, "accurate": {}}
"""Bytes an entity."""

Row = dict[str, Any]


def find(folder: Path, names: list[str] | None, count: int) -> list[Recording]:
    """The recordings of a folder that are asked for, those with bars first."""
    paths = {stem(path): path for path in sorted(folder.glob("*.csv.gz"))}
    order = [*(name for name in SHORT if name in paths), *(name for name in paths if name not in SHORT)]
    if names:
        known = {SHORT.get(name, name): name for name in order} | {name: name for name in order}
        if absent := [name for name in names if name not in known]:
            raise SystemExit(f"{folder} has no {', '.join(absent)}; it has {', '.join(order)}")
        wanted = {known[name] for name in names}
        order = [name for name in order if name in wanted]
    if not order:
        raise SystemExit(f"no recordings (*.csv.gz) in {folder}")
    recordings = [read(paths[name], count) for name in order]
    for recording in recordings:
        if len(recording.rows) <= SCORED_FROM:
            raise SystemExit(f"{recording.name}: {len(recording.rows)} rows, but errors count from row {SCORED_FROM}")
    return recordings


# The peers.


def sample_of(recording: Recording) -> Sample:
    """What River's learners are given: the same columns, an empty cell as zero."""
    rows = recording.rows
    x = np.array([[row[name] or 0.0 for name in recording.features] for row in rows], np.float64)
    x = x.reshape(len(rows), len(recording.features))
    y = np.array([row["target"] for row in rows], np.float64)
    order = {name: i for i, name in enumerate(dict.fromkeys(row["entity"] for row in rows))}
    entity = np.array([order[row["entity"]] for row in rows], np.int64)
    lags, last = past_targets(y, entity)
    return Sample(recording.name, recording.digest, x, np.hstack([x, lags]), y, last, entity)


def expanded_sample(recording: Recording) -> Sample | None:
    """The same with the learner's own inputs; None where the engine does not hand them out."""
    inputs = {}
    if not recording.features:
        return None  # without past targets there are no inputs
    for cell, event in CELLS.items():
        found = expanded(configuration(recording.features, "fast", {"event": event}), recording.rows)
        if found is None:
            return None
        inputs[cell] = np.nan_to_num(found)
    digest = hashlib.sha256(inputs["soft"].tobytes() + inputs["any"].tobytes()).hexdigest()[:12]
    plain = sample_of(recording)
    return plain._replace(name=expanded_name(recording), key=digest, soft=inputs["soft"], full=inputs["any"])


def expanded_name(recording: Recording) -> str:
    return f"{recording.name} (expanded)"


def peers(recordings: list[Recording], options: argparse.Namespace) -> dict[str, Any]:
    """River's version, what it reached by sample, and why there is nothing on the learner's own inputs."""
    if options.no_peers or not has_river(options.peers_python):
        word = "--no-peers" if options.no_peers else "River is not installed: run `make peers`, or give --peers-python"
        return {"river": None, "found": {}, "expanded_absent": word}
    samples = [sample_of(recording) for recording in recordings]
    more = [] if options.no_expanded else [expanded_sample(recording) for recording in recordings]
    absent = None if any(more) else "the engine does not hand out the inputs it makes"
    samples += [sample for sample in more if sample is not None]
    with tempfile.TemporaryDirectory(prefix="ssm-stream-bench-") as folder:
        river, found = search(
            samples,
            options.peers_python,
            Path(folder),
            processes=options.processes,
            limit=options.limit,
            cache=options.peers_cache,
            progress=CONSOLE.print,
        )
    return {"river": river, "found": found, "expanded_absent": "--no-expanded" if options.no_expanded else absent}


def reference(recording: Recording, found: dict[str, Found], count: int) -> Row:
    """Persistence and River's best for both cells, measured or published, and by whom."""
    sample = sample_of(recording)
    persistence = float(np.abs(sample.last - sample.y)[SCORED_FROM:].mean())
    out: Row = {"recording": recording.name, "rows": len(recording.rows), "persistence": persistence, "source": None}
    if recording.name in found:
        out |= {"source": "measured", **bests(found[recording.name])}
        out["unfinished"] = found[recording.name].unfinished
    elif recording.name in PUBLISHED and count == PUBLISHED_ROWS:
        out |= {"source": "published", **PUBLISHED[recording.name]._asdict(), "persistence": persistence}
    if expanded_name(recording) in found:
        out["expanded"] = bests(found[expanded_name(recording)])
    return out


def bests(found: Found) -> Row:
    """MAE and learner for each cell."""
    out: Row = {}
    for cell, inputs in (("soft", INPUTS[:1]), ("any", INPUTS)):
        if best := found.best(inputs):
            out[cell], out[f"{cell}_by"] = best
    return out


# What the run has to tell.


def measure(recordings: list[Recording], options: argparse.Namespace) -> Row:
    """All of it: `checks`, `rows` (a cell each), `references` (a recording each), costs, and what was left out."""
    profiles = ["fast", "accurate"] if options.profile == "both" else [options.profile]
    river = peers(recordings, options)
    references = {one.name: reference(one, river["found"], options.rows) for one in recordings}
    absent = {"peers on expanded inputs": river["expanded_absent"]} if river["expanded_absent"] else {}
    report: Row = {"checks": [], "rows": [], "references": list(references.values()), "river": river["river"]}
    report |= {"costs": {}, "states": {}, "ablations": {}, "delays": {}, "left_out": absent}
    for profile in profiles:
        # The default profile has plain names as long as it stands alone.
        prefix = "" if profiles == ["fast"] else f"{profile}/"
        rows = cell_rows(recordings, profile, references)
        if not options.no_costs:
            report["costs"][profile] = costs(profile, CONSOLE.print)
            report["states"][profile] = states(profile)
        report["rows"] += rows
        report["checks"] += checks(
            profile, prefix, rows, report["costs"].get(profile, {}), report["states"].get(profile, {})
        )
        if options.ablations:
            report["ablations"][profile] = ablate(recordings, profile, references, absent)
        if options.delays:
            report["delays"][profile] = delays(recordings, profile, CONSOLE.print)
    return report


def ratio_of(mae: float, reference: Row, cell: str) -> float | None:
    return mae / reference[cell] if reference.get(cell) else None


def cell_rows(
    recordings: list[Recording], profile: str, references: dict[str, Row], change: dict[str, Row] | None = None
) -> list[Row]:
    """The product on every recording and cell, beside River's best."""
    rows = []
    for key, one in cells(recordings, profile, CONSOLE.print, change).items():
        name, cell = key.split("/")
        rows.append(
            {
                "name": f"{SHORT.get(name, name)}/{cell}",
                "profile": profile,
                "recording": name,
                "cell": cell,
                "mae": one.mae,
                "seconds": round(one.seconds, 3),
                "ratio": ratio_of(one.mae, references[name], cell),
            }
        )
    return rows


def ablate(
    recordings: list[Recording], profile: str, references: dict[str, Row], absent: dict[str, str]
) -> dict[str, Row]:
    """Cells and means without each part; why a part cannot be left out goes to `absent`."""
    found = {}
    barred = [recording for recording in recordings if recording.name in SHORT]
    for name in ABLATIONS:
        if name == "no meta-training" and (obstacle := untrained_obstacle()):
            absent[name] = obstacle
            continue
        CONSOLE.print(f"{profile}, {name}:")
        rows = cell_rows(barred, profile, references, ablation(name, profile))
        found[name] = {"rows": rows, **{f"ratio/{cell}": mean_ratio(rows, cell) for cell in CELLS}}
    return found


def mean_ratio(rows: list[Row], cell: str) -> float | None:
    """Geometric mean over the recordings that have bars; None where there are none."""
    ratios = [row["ratio"] for row in rows if row["cell"] == cell and row["recording"] in SHORT and row["ratio"]]
    return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else None


def check(name: str, value: float, relation: str, bar: float) -> Row:
    ok = value <= bar if relation == "<=" else value >= bar
    return {"name": name, "value": round(value, 4), "relation": relation, "bar": bar, "ok": bool(ok)}


def checks(
    profile: str, prefix: str, rows: list[Row], cost: dict[str, float], state: dict[str, float]
) -> Iterator[Row]:
    """A check for each cell of the recordings that have bars, the means where all of these were run, cost and state."""
    barred = [row for row in rows if row["recording"] in SHORT and row["ratio"] is not None]
    for row in barred:
        yield check(f"{prefix}{row['name']}", row["ratio"], "<=", 1.0)
    if len(barred) == len(SHORT) * len(CELLS):
        for cell, bar in RATIO_MOST[profile].items():
            yield check(f"{prefix}ratio/{cell}", mean_ratio(barred, cell) or math.nan, "<=", bar)
        below = sum(row["ratio"] < 1.0 for row in barred)
        yield check(f"{prefix}cells below 1", below, ">=", CELLS_LEAST[profile])
    for kind, bars, values in (("cost", COST_MOST[profile], cost), ("state", STATE_MOST[profile], state)):
        for name, bar in bars.items():
            if name in values:
                yield check(f"{prefix}{kind}/{name}", values[name], "<=", bar)


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def ratio_text(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def show(report: Row) -> None:
    """The same for a person."""
    references = {one["recording"]: one for one in report["references"]}
    for profile in dict.fromkeys(row["profile"] for row in report["rows"]):
        show_profile(profile, [row for row in report["rows"] if row["profile"] == profile], references)
    show_references(report)
    for profile, found in report["ablations"].items():
        show_ablations(profile, found, [row for row in report["rows"] if row["profile"] == profile])
    for profile, found in report["delays"].items():
        show_delays(profile, found, [row for row in report["rows"] if row["profile"] == profile])
    for profile, cost in report["costs"].items():
        told = [f"{name} {value:.2f} µs" for name, value in cost.items()]
        told += [f"state {name} {value:,.0f} B" for name, value in report["states"][profile].items()]
        CONSOLE.print(f"{profile}: {'; '.join(told)}")
    for what, why in report["left_out"].items():
        CONSOLE.print(f"Not measured: {what}: {why}")
    for one in report["checks"]:
        word = "[green]met[/]" if one["ok"] else "[red]not met[/]"
        CONSOLE.print(f"{one['name']}: {one['value']:,} {one['relation']} {one['bar']:,}: {word}")


def show_delays(profile: str, found: Row, whole: list[Row]) -> None:
    """MAE where labels come late, beside that with labels in their events."""
    on_time = {f"{row['recording']}/{row['cell']}": row["mae"] for row in whole}
    table = Table(title=f"Mean absolute error with labels so many events late, profile {profile}")
    table.add_column("recording", no_wrap=True)
    delays = list(next(iter(found.values()), {}))
    for title in ["0", *delays]:
        table.add_column(title, justify="right")
    for name, errors in found.items():
        table.add_row(name, *("–" if e is None else f"{e:.5g}" for e in [on_time.get(name), *errors.values()]))
    CONSOLE.print(table)


def show_profile(profile: str, rows: list[Row], references: dict[str, Row]) -> None:
    table = Table(title=f"Mean absolute error, profile {profile}; × is the product's by River's best")
    table.add_column("recording", no_wrap=True)
    for title in ["persist.", "River soft", "soft", "×", "River any", "any", "×"]:
        table.add_column(title, justify="right")
    by_cell = {(row["recording"], row["cell"]): row for row in rows}
    for name, river in references.items():
        told = [SHORT.get(name, name), number(river["persistence"])]
        for cell in CELLS:
            row = by_cell.get((name, cell), {"mae": None, "ratio": None})
            told += [number(river.get(cell)), number(row["mae"]), ratio_text(row["ratio"])]
        table.add_row(*told)
    means = [mean_ratio(rows, cell) for cell in CELLS]
    if all(means):
        table.add_section()
        table.add_row("mean", "", "", "", ratio_text(means[0]), "", "", ratio_text(means[1]))
    CONSOLE.print(table)


def show_references(report: Row) -> None:
    """Who River's best were; on the learner's own inputs too where these are known."""
    table = Table(title=f"River's best ({report['river'] or 'published'})")
    for title in ["recording", "soft", "any", "on the product's inputs: soft", "any"]:
        table.add_column(title)
    for one in report["references"]:
        told = [SHORT.get(one["recording"], one["recording"])]
        for found in (one, one.get("expanded", {})):
            told += [f"{number(found[c])} {found[f'{c}_by']}" if c in found else "–" for c in CELLS]
        table.add_row(*told)
    CONSOLE.print(table)
    for one in report["references"]:
        if one.get("unfinished"):
            CONSOLE.print(f"{one['recording']}: not finished: {'; '.join(one['unfinished'])}")


def show_ablations(profile: str, found: dict[str, Row], whole: list[Row]) -> None:
    title = f"Product's error by River's best, profile {profile}"
    table = Table(title=title, box=None, padding=(0, 1, 0, 0))  # twelve columns on 80 characters
    table.add_column("left out", no_wrap=True)
    table.add_column("cell", no_wrap=True)
    names = list(dict.fromkeys(row["recording"] for row in whole if row["recording"] in SHORT))
    for title in [*(SHORT[name] for name in names), "mean"]:
        table.add_column(title, justify="right", no_wrap=True)
    for without, rows in [("nothing", whole), *((name, one["rows"]) for name, one in found.items())]:
        for cell in CELLS:
            ratio = {row["recording"]: row["ratio"] for row in rows if row["cell"] == cell}
            told = [ratio_text(ratio[name]) for name in names]
            table.add_row(without, cell, *told, ratio_text(mean_ratio(rows, cell)))
    CONSOLE.print(table)


def plain(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Errors on recordings beside persistence and River's best.")
    parser.add_argument("--data", type=Path, required=True, help="folder of gzipped CSV files")
    parser.add_argument("--names", nargs="+", help="only these recordings, by their file's or their short name")
    parser.add_argument("--rows", type=int, default=PUBLISHED_ROWS, help="of each recording, the first by time")
    parser.add_argument("--profile", choices=["fast", "accurate", "both"], default="fast")
    parser.add_argument("--ablations", action="store_true", help="each part left out in turn")
    parser.add_argument("--delays", action="store_true", help="with labels that come 1, 10 and 100 events late")
    parser.add_argument("--json", action="store_true", help="checks and rows on stdout")
    parser.add_argument("--no-costs", action="store_true", help="errors only")
    parser.add_argument("--no-peers", action="store_true", help="River's published figures instead of a search")
    parser.add_argument("--no-expanded", action="store_true", help="River on the plain columns only")
    parser.add_argument("--peers-python", default=peers_python(), help="interpreter that has river and numpy")
    parser.add_argument("--peers-cache", type=Path, help="JSON file that keeps what River's learners reached")
    parser.add_argument("--processes", type=int, default=2, help="of River's learners, at a time")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds a learner may take on a recording")
    return parser.parse_args(arguments)


def main() -> None:
    options = parsed()
    report = measure(find(options.data, options.names, options.rows), options)
    show(report)
    if options.json:
        print(json.dumps(plain(report), indent=2))


if __name__ == "__main__":
    main()
