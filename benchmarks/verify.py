"""`verify` on recordings: is every missed recovery in the exit code, and does every sentence say what was found?

    python benchmarks/verify.py --data FOLDER [--only NAME …] [--rows N] [--json]

For each recording `ssm-stream init` drafts a configuration, as for a user, and `ssm-stream verify` runs on it in a
process of its own. Whether a recovery is missed is computed here from the figures, not taken from the verdict. The
controls are the same with a model that hardly forgets, which must miss.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import yaml
from measuring import Check, check, say

BAR = 150
"""Events of the entity within which the error must be back."""
EXIT = {True: 0, False: 3}
"""Exit code by whether no recovery is missed, where the kernel agrees with its reference."""
RIGID: dict[str, Any] = {"heads": ["moments"], "half_lives": ["1000000 events"], "gate": "equal", "fleet": False}


class Run(NamedTuple):
    """A recording's file, what `init` is given besides, and what is changed in the file that it writes."""

    file: str
    init: tuple[str, ...] = ()
    event: Mapping[str, Any] = MappingProxyType({})
    model: Mapping[str, Any] = MappingProxyType({})


RUNS = {
    "bike": Run("bike_sharing_hourly.csv.gz", ("--target", "target")),
    "engines": Run("cmapss_fd001.csv.gz"),
    "turbine": Run("gas_turbine_nox.csv.gz"),
    "telemetry": Run("msl_telemetry.csv.gz"),
    "services": Run("nab_shared.csv.gz"),
    "parking": Run("parking_birmingham.csv.gz"),
    "valves": Run("skab_shared.csv.gz"),
    "steel": Run("steel_energy.csv.gz"),
    "process": Run("tep_shared.csv.gz"),
    "water": Run("water_flow.csv.gz"),
    "chicks": Run("chick_weights.csv.gz"),
    "turbine, soft sensor": Run("gas_turbine_nox.csv.gz", event={"lags": 0}),
    "turbine, CO": Run("gas_turbine_nox.csv.gz", ("--target", "alt_target_co"), {"lags": 0}),
    "valves, soft sensor": Run("skab_shared.csv.gz", event={"lags": 0}),
    "steel, soft sensor": Run("steel_energy.csv.gz", event={"lags": 0}),
    "process, soft sensor": Run("tep_shared.csv.gz", event={"lags": 0}),
    "turbine, rigid (control)": Run("gas_turbine_nox.csv.gz", event={"lags": 0}, model=RIGID),
    "valves, rigid (control)": Run("skab_shared.csv.gz", event={"lags": 0}, model=RIGID),
    "steel, rigid (control)": Run("steel_energy.csv.gz", event={"lags": 0}, model=RIGID),
}


def command(*arguments: object) -> list[str]:
    """A call of the product."""
    return [sys.executable, "-m", "ssm_stream", *map(str, arguments)]


def measure(one: Run, data: Path, folder: Path, rows: int) -> dict[str, Any]:
    """The configuration that `init` drafts, then `verify`: its JSON, exit code and seconds."""
    config = folder / "monitor.yaml"
    file = data / one.file
    drafted = command("init", file, *one.init, "--out", config, "--force")
    subprocess.run(drafted, check=True, capture_output=True)
    content = yaml.safe_load(config.read_text())
    content["event"] |= one.event
    content["model"] = dict(one.model)
    config.write_text(yaml.safe_dump(content, allow_unicode=True))
    begin = time.perf_counter()
    arguments = ("verify", config, file, "--out", folder / "page.html", "--limit", rows, "--json", "--lang", "en")
    told = subprocess.run(command(*arguments), capture_output=True, text=True, check=False)
    if not told.stdout:
        return {"exit": told.returncode, "error": told.stderr.strip().splitlines()[-1]}
    return json.loads(told.stdout) | {"exit": told.returncode, "seconds": time.perf_counter() - begin}


def missed(found: dict[str, Any]) -> list[str]:
    """Changes whose recovery is judged and not within the bar, by the figures alone."""
    return [
        row["change"] for row in found["recovery"] if row["judged"] and (row["events"] is None or row["events"] > BAR)
    ]


def faults(found: dict[str, Any]) -> list[str]:
    """What verdict or exit code hide, or claim without ground."""
    late, verdict = missed(found), found["verdict"]
    lines = []
    if found["kernel_ok"] and found["exit"] != EXIT[not late]:
        lines.append(f"exit code {found['exit']} with {len(late)} missed recoveries")
    if not found["kernel_ok"] and found["exit"] != 1:
        lines.append(f"exit code {found['exit']} where the kernel deviates")
    headline = verdict.split(". ")[0] if found["kernel_ok"] else verdict  # a kernel that deviates comes first
    if late and (verdict.startswith("Verified") or not all(name in headline for name in late)):
        lines.append("a missed recovery is not in the headline")
    silent = [row for row in found["recovery"] if not row["judged"] and (not row["why"] or row["why"] not in verdict)]
    return lines + [f"{row['change']}: not judged, and the verdict does not say why" for row in silent]


def summary(name: str, found: dict[str, Any]) -> str:
    """A line of the table."""
    cells = []
    for row in found["recovery"]:
        events = "never" if row["events"] is None else str(row["events"])
        mark = "*" if row["change"] in missed(found) else ""
        cells.append(f"{events}{mark}" if row["judged"] else "not judged")
    whole = next(c["value"] for c in found["checks"] if c["name"].endswith("the whole prediction, largest deviation"))
    rank = f"{found['excitation']['rank']}/{found['excitation']['inputs']}" if found["excitation"] else "–"
    parts = [f"{name:<26}", *(f"{cell:>12}" for cell in cells), f"{found['exit']:>6}", f"{whole:>10.1e}", f"{rank:>9}"]
    return "".join([*parts, f"{found['seconds']:>7.0f} s"])


def main() -> None:
    parser = argparse.ArgumentParser(description="`verify` on recordings: every missed recovery in the exit code.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the recordings")
    parser.add_argument("--only", nargs="+", choices=RUNS, help="these runs")
    parser.add_argument("--rows", type=int, default=8_000, help="rows read of each")
    parser.add_argument("--json", action="store_true", help="checks and figures on stdout")
    options = parser.parse_args()
    say(f"{'run':<26}{'coefficient':>12}{'offset':>12}{'noise':>12}{'exit':>6}{'deviation':>10}{'rank':>9}")
    results: dict[str, dict[str, Any]] = {}
    for name in options.only or RUNS:
        with tempfile.TemporaryDirectory() as folder:
            results[name] = found = measure(RUNS[name], options.data, Path(folder), options.rows)
        say(f"{name:<26} {found['error']}" if "error" in found else summary(name, found))
        for line in [] if "error" in found else faults(found):
            say(f"  FAULT: {line}")
    done = {name: found for name, found in results.items() if "error" not in found}
    controls = [found for name, found in done.items() if "control" in name]
    recovered = [row for name, found in done.items() if "control" not in name for row in found["recovery"]]
    judged = [row for row in recovered if row["judged"]]
    late = sum(len(missed(found)) for name, found in done.items() if "control" not in name)
    hidden, off = (
        sum(len(faults(found)) for found in done.values()),
        sum(not f["kernel_ok"] for name, f in done.items() if "control" not in name),
    )
    checks: list[Check] = [
        check("verify/recordings that were verified", len({RUNS[name].file for name in done}), ">=", 10),
        check("verify/runs that failed", len(results) - len(done), "<=", 0),
        check("verify/missed recoveries that headline or exit code hide", hidden, "<=", 0),
        check("verify/runs whose kernel, gates or predictions deviate", off, "<=", 0),
        check("verify/controls without a missed recovery", sum(not missed(found) for found in controls), "<=", 0),
    ]
    for one in checks:
        say(f"{'ok  ' if one['ok'] else 'MISS'} {one['name']}: {one['value']:.3g} {one['relation']} {one['bar']:g}")
    say(f"     recoveries: {len(judged)} judged of {len(recovered)}, {late} missed (*: not within {BAR} events)")
    if options.json:
        keep = ("verdict", "exit", "ok", "kernel_ok", "recovery", "recovery_not_judged", "excitation", "warnings")
        runs = {name: {key: found[key] for key in keep if key in found} for name, found in results.items()}
        print(json.dumps({"checks": checks, "runs": runs}, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
