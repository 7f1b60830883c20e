"""Long campaigns in short steps, which stop at any time, go on where they were, and add up.

    python benchmarks/campaign.py kills                 # or torture, soak, …; `make campaign KIND=kills`
    python benchmarks/campaign.py kills --minutes 20    # no further step after 20 minutes
    python benchmarks/campaign.py torture --seed 1000   # beside one that is running
    python benchmarks/campaign.py                       # how far each is on this commit

| kind | a step | the target |
|---|---|---|
| kills | `tests/torture/campaign.py`: 20 kills in 60,000 events | 1,000 kills |
| torture | `benchmarks/torture.py`: 10 rounds of kills, of workers and of three brokers | 100 kills of brokers |
| weather | `benchmarks/torture_weather.py`: one case, the next one each time | 10 cases |
| soak | `benchmarks/soak.py`: 30 minutes at 20,000 events/s, which cannot be split | 30 minutes |
| fuzz | `tests/torture/fuzz.py`: 200,000 inputs | 10,000,000 inputs |
| fuzz-core | `.ci/fuzz.sh`: 500,000 inputs for each of the core's targets | 10,000,000 inputs |
| members | `benchmarks/scale_out.py`: 10 joins, leaves, kills, pauses; of brokers in every second step | 200 changes |
| gaps | the same, 8 changes, one at a time: for how long a partition has no results | 40 changes |
| gaps-848 | the same with Kafka 4's protocol and the broker's session | 40 changes |
| budgets | the detectors on 1,000,000 events of each stream where nothing happens | 10,000,000 events a stream |

Each step has a seed of its own, by what came before it. Its figures are added to `docs/campaigns/log.json` as it ends,
to the entry of this commit and machine, and `docs/campaigns/README.md` is written from that. A step that fails ends the
campaign with exit code 1, and is counted as a failure; a step that is interrupted is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from measuring import check

HERE = Path(__file__).parent
ROOT = HERE.parent
LOG = ROOT / "docs" / "campaigns" / "log.json"
PAGE = LOG.with_name("README.md")
Figures = dict[str, float]


class StepError(RuntimeError):
    """A step found a fault, or could not run. The text has its last lines.

    figures: what it counted all the same; counts: of what was done
    """

    def __init__(self, text: str, figures: Figures | None = None, counts: Figures | None = None) -> None:
        super().__init__(text)
        self.figures, self.counts = figures or {}, counts or {}


class Kind(NamedTuple):
    """A kind of campaign.

    Attributes:
        step: runs a step for the figures so far, and returns its own
        unit: the figure that is counted
        target: how much of it is a whole campaign
        worst: figures of which the largest counts, not the sum
        bars: figure → its relation to a bar (`<=`, `>=`) and the bar, for a whole campaign
    """

    step: Callable[[Figures], Figures]
    unit: str
    target: float
    worst: tuple[str, ...] = ()
    bars: Mapping[str, tuple[str, float]] = {}


def output(command: list[str]) -> str:
    """Run a command and return its standard output; what it says beside that goes to the terminal.

    Raises:
        StepError: its exit code is not 0.
    """
    # A group of its own: Ctrl-C reaches the campaign, which ends the step and all that the step has started.
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, process_group=0) as process:
        try:
            said = process.communicate()[0]
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)
            raise
    if process.returncode:
        text = f"{' '.join(command)} ended with {process.returncode}\n{said[-2000:]}"
        raise StepError(text, _figures(said), _counts(said))
    return said


def _figures(said: str) -> Figures:
    """Return the checks' values of the JSON that a benchmark prints, by name; nothing where it prints none."""
    begin = said.find("{")
    try:
        report = json.loads(said[begin:]) if begin >= 0 else {}
    except ValueError:
        return {}
    return {one["name"]: one["value"] for one in report.get("checks", []) if one["value"] is not None}


COUNTED = ("changes", "events", "ended_by_themselves")


def _counts(said: str) -> Figures:
    """Return what was done, and ends of processes, of the JSON that a campaign of members prints."""
    begin = said.find("{")
    try:
        report = json.loads(said[begin:]) if begin >= 0 else {}
    except ValueError:
        return {}
    return {name: float(report[name]) for name in COUNTED if isinstance(report.get(name), int)}


def python(script: str, *options: object) -> list[str]:
    return [sys.executable, script, *map(str, options)]


def kills(so_far: Figures) -> Figures:
    """Each step is a campaign of its own, whose bars for the number of events and kills are those of a whole one."""
    seed = int(so_far.get("steps", 0))
    command = python("tests/torture/campaign.py", "--events", 60_000, "--kills", 20, "--seed", seed, "--json")
    try:
        found = _figures(output(command))
    except StepError as error:
        found = error.figures
        if not found:
            raise
    faults = {name: found[name] for name in ("lost", "twice or wrong", "states that differ", "orphans among alerts")}
    counted = {"kills": found["kills"], "events": found["events"], **faults}
    if any(faults.values()):
        raise StepError(f"seed {seed}: {faults}", counted)
    return counted


NO_FAULTS = ("lost", "twice", "other bits", "process ends by itself")
RETURN, RETURN_MOST = "broker's return to the first new prediction, s", 30.0


def torture(so_far: Figures) -> Figures:
    """The bars for the number of kills are those of a whole campaign: with 100 of brokers come 300 of workers."""
    seed = int(so_far.get("steps", 0))
    try:
        said = output(python("benchmarks/torture.py", "--rounds", 10, "--seed", seed, "--json"))
        found = _figures(said)
    except StepError as error:
        found = error.figures
        if not found:
            raise
    faults = {name: found[name] for name in NO_FAULTS}
    counted = {**{name: found[name] for name in ("worker kills", "broker kills", RETURN)}, **faults}
    if any(faults.values()) or found[RETURN] > RETURN_MOST:
        raise StepError(f"seed {seed}: {faults}, {found[RETURN]} s", counted)
    return counted


def weather(so_far: Figures) -> Figures:
    """A case that cannot be had here (no mount, no compiler) is not counted."""
    from torture_weather import CASES

    name = [*CASES][int(so_far.get("steps", 0)) % len(CASES)]
    try:
        found = _figures(output(python("benchmarks/torture_weather.py", name, "--json")))
    except StepError as error:
        found = error.figures
        if found.get("cases"):
            raise
    return found


def soak(so_far: Figures) -> Figures:
    minutes = 30.0
    found = _figures(output(python("benchmarks/soak.py", "--minutes", minutes, "--json")))
    return {"minutes": minutes, **{name.removeprefix("soak: "): value for name, value in found.items()}}


def fuzz(so_far: Figures) -> Figures:
    inputs = 200_000
    seed = int(so_far.get("inputs", 0)) // 20_000  # a step counts its seeds up by one every 20,000
    found = _figures(output(python("tests/torture/fuzz.py", "--inputs", inputs, "--seed", seed, "--json")))
    return {"inputs": found["fuzz inputs"], "crashes": found["fuzz crashes"]}


def fuzz_core(so_far: Figures) -> Figures:
    """The corpus in build/fuzz grows from step to step."""
    inputs = 500_000
    output([".ci/fuzz.sh", str(Path(sys.executable).parent), str(inputs)])
    return {"inputs": inputs, "crashes": 0}


MEMBER_FAULTS = (
    "messages lost", "messages twice", "messages with other bytes", "states that differ",
    "members that needed a person",
)  # fmt: skip
PLANNED_GAP, KILL_GAP = "gap of a planned change, median, s", "gap of a kill, longest, s"


def scale_out(seed: int, *options: object) -> Figures:
    """Run a campaign of members; return its checks, and how much was done. A gap does not end the campaign."""
    try:
        said = output(python("benchmarks/scale_out.py", "--seed", seed, "--most", 3, "--json", *options))
    except StepError as error:
        if "messages lost" not in error.figures or any(error.figures[name] for name in MEMBER_FAULTS):
            raise
        return {**error.figures, **error.counts}
    return {**_figures(said), **_counts(said)}


def members(so_far: Figures) -> Figures:
    """In every second step the broker, a single node, is killed, too."""
    seed = int(so_far.get("steps", 0))
    return scale_out(seed, "--changes", 10, "--rate", 2500, *(["--brokers"] if seed % 2 else []))


def member_gaps(so_far: Figures) -> Figures:
    return scale_out(int(so_far.get("steps", 0)), "--changes", 8, "--apart", 22)


def member_gaps_848(so_far: Figures) -> Figures:
    """The session is the broker's, 45 s: what comes of a kill takes as long."""
    seed = int(so_far.get("steps", 0))
    return scale_out(seed, "--changes", 8, "--apart", 60, "--protocol", "consumer")


def budgets(so_far: Figures) -> Figures:
    """Count false alarms of each detector and budget; over a whole campaign their rate may be 1.2 times the budget."""
    import alerts_streams as streams
    import numpy as np

    n, seed = 1_000_000, int(so_far.get("steps", 0))
    found: Figures = {"events a stream": n}
    for at, (name, noise) in enumerate(streams.NOISE.items()):
        errors = noise(np.random.default_rng([7, at, seed]), n)
        for budget in (1e3, 1e4, 1e5):
            found[f"drift, {name}, 1 in {budget:,.0f}"] = float(streams.drift(errors, budget).sum())
            found[f"anomaly, {name}, 1 in {budget:,.0f}"] = float(streams.anomaly(errors, budget)[0].sum())
    return found


KINDS = {
    "kills": Kind(kills, "kills", 1_000),
    "torture": Kind(
        torture,
        "broker kills",
        100,
        (RETURN,),
        {
            **dict.fromkeys(NO_FAULTS, ("<=", 0)),
            "worker kills": (">=", 300),
            "broker kills": (">=", 100),
            RETURN: ("<=", RETURN_MOST),
        },
    ),
    "weather": Kind(weather, "cases", 10),
    "soak": Kind(
        soak,
        "minutes",
        30,
        ("memory of the last third by the first's", "growth of the lag, seconds of the stream"),
    ),
    "fuzz": Kind(fuzz, "inputs", 10_000_000),
    "fuzz-core": Kind(fuzz_core, "inputs", 10_000_000),
    "members": Kind(
        members,
        "changes",
        200,
        (),
        {**dict.fromkeys(MEMBER_FAULTS, ("<=", 0)), "changes": (">=", 200), "events": (">=", 2_000_000)},
    ),
    "gaps": Kind(
        member_gaps,
        "changes",
        40,
        (PLANNED_GAP, KILL_GAP),
        {**dict.fromkeys(MEMBER_FAULTS, ("<=", 0)), PLANNED_GAP: ("<=", 3.0), KILL_GAP: ("<=", 15.0)},
    ),
    "gaps-848": Kind(
        member_gaps_848,
        "changes",
        40,
        (PLANNED_GAP, KILL_GAP),
        dict.fromkeys(MEMBER_FAULTS, ("<=", 0)),
    ),
    "budgets": Kind(budgets, "events a stream", 10_000_000),
}


HEAD = """# Campaigns

Long runs in short steps: `make campaign KIND=kills` (or `torture`, `weather`, `soak`, `fuzz`, `fuzz-core`, `members`,
`gaps`, `gaps-848`, `budgets`) goes on where the last run of the same commit on the same kind of machine stopped, and
adds to its row. What a step does, and what a whole campaign is: `benchmarks/campaign.py`, which writes this page from
`log.json`. A `+` behind the commit: the checkout had changes.

| campaign | commit | days | machine | so far | target | figures |
|---|---|---|---|---|---|---|"""


def commit() -> str:
    """Return the commit that is tested, with `+` where tracked files of the product differ from it."""
    git = ["git", "-C", str(ROOT)]
    found = subprocess.run([*git, "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True, check=False)
    if found.returncode:
        return "unknown"
    # The log itself changes with every step.
    changed = [*git, "status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs/campaigns"]
    dirty = subprocess.run(changed, capture_output=True, text=True, check=False).stdout.strip()
    return found.stdout.strip() + ("+" if dirty else "")


def machine() -> str:
    """Return the machine in neutral words."""
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{cores} core{'s' * (cores != 1)}, {memory:.0f} GB"


def read_log() -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads(LOG.read_text(encoding="utf-8")) if LOG.exists() else []
    return entries


def entry_of(entries: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """Return the entry of this kind, commit and machine, a new one if there is none."""
    tested, here = commit(), machine()
    for each in entries:
        if (each["kind"], each["commit"], each["machine"]) == (kind, tested, here):
            return each
    entries.append({"kind": kind, "commit": tested, "machine": here, "first": today(), "hours": 0.0, "figures": {}})
    return entries[-1]


def today() -> str:
    return datetime.now(UTC).date().isoformat()


def add(entry: dict[str, Any], found: Figures, kind: Kind, seconds: float, *, failed: bool = False) -> None:
    """Add a step's figures to an entry."""
    figures: Figures = entry["figures"]
    for name, value in {"steps": 1.0, "failures": float(failed), **found}.items():
        figures[name] = max(figures.get(name, value), value) if name in kind.worst else figures.get(name, 0) + value
    entry["last"], entry["hours"] = today(), round(entry["hours"] + seconds / 3600, 3)


def write(entries: list[dict[str, Any]]) -> None:
    """Write the log and its page, each whole or not at all."""
    LOG.parent.mkdir(parents=True, exist_ok=True)
    for path, text in ((LOG, json.dumps(entries, indent=1) + "\n"), (PAGE, page(entries))):
        draft = path.with_suffix(".draft")
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)


def shown(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.3f}"


def over_budget(entry: dict[str, Any]) -> float | None:
    """Return the largest rate of false alarms by its budget; None where the entry has none that can be told: fewer than
    fifty are to be expected."""
    events = entry["figures"].get("events a stream", 0)
    rates = []
    for name, count in entry["figures"].items():
        if (found := re.search(r", 1 in ([\d,]+)$", name)) is not None:
            budget = float(found[1].replace(",", ""))
            if events >= 50 * budget:
                rates.append(count * budget / events)
    return max(rates, default=None)


def page(entries: list[dict[str, Any]]) -> str:
    """Return the page of the log."""
    lines = [HEAD]
    for each in sorted(entries, key=lambda each: (each["kind"], each["first"])):
        kind, figures = KINDS[each["kind"]], dict(each["figures"])
        done, hours = figures.pop(kind.unit, 0), each["hours"]
        worst = over_budget(each)
        rest = {name: value for name, value in figures.items() if name != "steps" and " in " not in name}
        text = "; ".join(f"{name} {shown(value)}" for name, value in rest.items())
        if worst is not None:
            text += f"; false alarms by the budget, at most {worst:.2f}"
        days = each["first"] if each["first"] == each["last"] else f"{each['first']} to {each['last']}"
        cells = [each["kind"], each["commit"], f"{days}, {hours:.1f} h", each["machine"], f"{shown(done)} {kind.unit}"]
        lines.append(f"| {' | '.join([*cells, shown(kind.target), text])} |")
    return "\n".join([*lines, ""])


def run(name: str, minutes: float | None, seed: int = 0) -> int:
    """Run steps up to the target, or one and more for so long. Returns the exit code. seed: added to those of steps"""
    kind, began = KINDS[name], time.monotonic()
    while True:
        entries = read_log()
        entry = entry_of(entries, name)
        done = entry["figures"].get(kind.unit, 0)
        sys.stderr.write(f"{name}: {shown(done)} of {shown(kind.target)} {kind.unit}, commit {entry['commit']}\n")
        if done >= kind.target:
            return 0
        start = time.monotonic()
        try:
            found = kind.step({**entry["figures"], "steps": entry["figures"].get("steps", 0) + seed})
        except StepError as error:
            entries = read_log()  # another one may have added its own meanwhile
            entry = entry_of(entries, name)
            add(entry, error.figures, kind, time.monotonic() - start, failed=True)
            write(entries)
            sys.stderr.write(f"{name}: a step failed: {error}\n")
            return 1
        entries = read_log()
        entry = entry_of(entries, name)
        add(entry, found, kind, time.monotonic() - start)
        write(entries)
        if minutes is not None and time.monotonic() - began >= 60 * minutes:
            return 0


def status() -> None:
    """Print how far each campaign is on this commit."""
    entries = read_log()
    for name, kind in KINDS.items():
        figures = entry_of(entries, name)["figures"]
        sys.stdout.write(f"{name:10} {shown(figures.get(kind.unit, 0)):>12} of {shown(kind.target)} {kind.unit}\n")


def report(name: str) -> None:
    """Print what has come of a campaign on this commit, beside its bars, as JSON."""
    entry, kind = entry_of(read_log(), name), KINDS[name]
    bars = kind.bars or {kind.unit: (">=", kind.target)}
    checks = [check(figure, entry["figures"].get(figure), *bar) for figure, bar in bars.items()]
    sys.stdout.write(json.dumps({"checks": checks, **entry}) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", nargs="?", choices=[*KINDS], help="which; without, how far each is")
    parser.add_argument("--minutes", type=float, help="begin no further step after so long")
    parser.add_argument("--json", action="store_true", help="at the end, all figures of this commit beside their bars")
    parser.add_argument("--seed", type=int, default=0, help="added to the steps' seeds (0)")
    options = parser.parse_args()
    sys.path.insert(0, str(HERE))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what a step has started ends, too
    if options.kind is None:
        status()
        return 0
    try:
        code = run(options.kind, options.minutes, options.seed)
    except KeyboardInterrupt:
        sys.stderr.write("stopped: the same command goes on from the last whole step\n")
        code = 130
    if options.json:
        report(options.kind)
    return code


if __name__ == "__main__":
    sys.exit(main())
