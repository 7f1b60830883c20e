"""The native core against the compiled parts of commit 9f6b921, the last with numba: events, messages, start and build.

    python benchmarks/core.py [--against CHECKOUT] [--parts kernel,wire,start,build,install,suite] [--json]

kernel   CPU time of an event with 8 features and all detectors, for 100, 10,000 and 100,000 entities
wire     CPU time of a message of 8 numbers that is read, and of a prediction that is written
start    seconds from the command to the end of a backtest of one event, which has been predicted then
build    CPU seconds to compile and link the core for one instruction set, and the size of the extension for all
install  seconds of `make install` and `make demo` in a fresh clone, with packages in pip's cache
suite    seconds of the tests in that clone

With a checkout of that commit that has its virtual environment in .venv, both run in turns on this machine, and a ratio
is that of the minima. Else its figures come from core_numba.json, scaled by what a loop in plain Python took there and
takes here in between: on a busy machine that is a rough guess.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core_serving import taken
from measuring import HERE, Check, check, say, tell

ROOT = HERE.parent
DATA = HERE / "core_numba.json"
KERNEL = {100: 0.70, 10_000: 0.70, 100_000: 0.75}
"""Entities → bar of the ratio."""
WIRE = {"read": 0.45, "write": 0.60}
PARTS = ("kernel", "wire", "start", "build", "install", "suite")
MONITOR = """
source: {brokers: "localhost:9092", topic: events}
event: {entity: machine, timestamp: ts, features: [load], target: temp}
"""


class Worker:
    """A process that measures one build when it is asked."""

    def __init__(self, script: str, python: Path | str, checkout: Path) -> None:
        self._process = subprocess.Popen(
            [str(python), str(HERE / script)], cwd=checkout, env={**os.environ, "PYTHONPATH": str(checkout)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def ask(self, name: str, argument: int) -> float:
        """ns of one repetition."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(name, argument, file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self._process.args} ended with {self._process.wait()}")
        return float(line)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


def yardstick() -> float:
    """ns of a step of a loop in plain Python, the least of several."""

    def loop() -> float:
        total = 0.0
        for i in range(100_000):
            total += i * 0.5
        return total

    return min(taken(loop, 100_000) for _ in range(5))


def measured(against: Path | None, wanted: list[tuple[str, int]], repetitions: int) -> dict[str, tuple[float, float]]:
    """ns of this build and of the commit with numba, by `name argument`."""
    stored = json.loads(DATA.read_text())
    now = Worker("core_native.py", sys.executable, ROOT)
    before = Worker("core_numba.py", against / ".venv/bin/python", against) if against else None
    found = {}
    for name, argument in wanted:
        key, ours, theirs, scale = f"{name} {argument}", float("inf"), float("inf"), float("inf")
        say(f"measuring {key}")
        for _ in range(repetitions):
            if before:
                theirs = min(theirs, before.ask(name, argument))
            else:
                scale = min(scale, yardstick() / stored[key][1])
            ours = min(ours, now.ask(name, argument))
        found[key] = ours, theirs if before else stored[key][0] * scale
        say(f"{key}: {found[key][0]:.0f} ns, {found[key][1]:.0f} ns with numba")
    now.close()
    if before:
        before.close()
    return found


def children_cpu(work: Callable[[], object]) -> float:
    """CPU seconds of the processes that it starts and waits for."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    work()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def start() -> Iterator[Check]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "monitor.yaml").write_text(MONITOR)
        (folder / "recording.csv").write_text("machine,ts,temp,load\na,0,20.5,3\n")
        command = [
            str(Path(sys.executable).parent / "ssm-stream"), "backtest", "monitor.yaml", "recording.csv", "--json",
        ]  # fmt: skip
        found = []
        for _ in range(3):
            begin = time.perf_counter()
            subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
            found.append(time.perf_counter() - begin)
    yield check("backtest to its first prediction, s", min(found), "<=", 2.0)


def build() -> Iterator[Check]:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for isas, name in (("v3", "one"), ("v2;v3;v4", "all")):
        with tempfile.TemporaryDirectory() as folder:
            configure = ["cmake", "-S", str(ROOT), "-B", folder, "-G", "Ninja", f"-DSSM_ISAS={isas}"]
            configure += [f"-DPython_EXECUTABLE={sys.executable}", f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={folder}/out"]
            run = {"check": True, "env": environment, "stdout": subprocess.DEVNULL}
            subprocess.run(configure, **run)  # type: ignore[call-overload]
            took = children_cpu(lambda: subprocess.run(["ninja", "-C", folder], **run))  # noqa: B023  # type: ignore[call-overload]
            (extension,) = Path(folder, "out").glob("_core*.so")
            if name == "one":
                yield check("compile and link, one instruction set, CPU s", took, "<=", 15.0)
            else:
                yield check("extension, all instruction sets, MB", extension.stat().st_size / 1e6, "<=", 3.0)


@contextmanager
def clone() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        checkout = Path(folder) / "ssm-stream"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(checkout)], check=True)
        yield checkout


def make(target: str, checkout: Path) -> float:
    begin = time.perf_counter()
    subprocess.run(["make", target], cwd=checkout, check=True, stdout=sys.stderr)
    return time.perf_counter() - begin


def install(checkout: Path) -> Iterator[Check]:
    installed = make("install", checkout)
    shown = make("demo", checkout)
    yield check("make demo from a fresh clone, s", installed + shown, "<=", 75.0)
    shutil.rmtree(checkout / "build", ignore_errors=True)
    begin = time.perf_counter()
    pip = [str(checkout / ".venv/bin/pip"), "install", "--quiet", "--no-deps", "--force-reinstall", "--editable", "."]
    subprocess.run(pip, cwd=checkout, check=True, stdout=sys.stderr)
    yield check("of which the build of the core, s", time.perf_counter() - begin, "<=", 25.0)


def suite(checkout: Path) -> Iterator[Check]:
    make("install-dev", checkout)
    begin = time.perf_counter()
    done = subprocess.run([str(checkout / ".venv/bin/pytest"), "-q"], cwd=checkout, stdout=sys.stderr, check=False)
    took = time.perf_counter() - begin
    yield check("whole suite from an empty cache, min", took / 60 if done.returncode == 0 else None, "<=", 7.0)


def figures(parts: list[str], against: Path | None, repetitions: int) -> Iterator[Check]:
    wanted = [("event", entities) for entities in KERNEL if "kernel" in parts]
    wanted += [(name, 0) for name in WIRE if "wire" in parts]
    found = measured(against, wanted, repetitions) if wanted else {}
    for entities, bar in KERNEL.items() if "kernel" in parts else ():
        ours, theirs = found[f"event {entities}"]
        yield check(f"an event of {entities:,} entities, of numba's time", ours / theirs, "<=", bar)
    for name, bar in WIRE.items() if "wire" in parts else ():
        ours, theirs = found[f"{name} 0"]
        yield check(f"{name} a message, of numba's time", ours / theirs, "<=", bar)
    if "start" in parts:
        yield from start()
    if "build" in parts:
        yield from build()
    if "install" in parts or "suite" in parts:
        with clone() as checkout:
            if "install" in parts:
                yield from install(checkout)
            if "suite" in parts:
                yield from suite(checkout)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--against", type=Path, help="checkout of commit 9f6b921 with its .venv")
    arguments.add_argument("--parts", default="kernel,wire,start,build", help=f"of {', '.join(PARTS)}")
    arguments.add_argument("--repetitions", type=int, default=25)
    arguments.add_argument("--json", action="store_true")
    given = arguments.parse_args()
    parts = given.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        arguments.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    checks = list(figures(parts, given.against, given.repetitions))
    tell(checks)
    if given.json:
        result: dict[str, Any] = {"isa": os.environ.get("SSM_STREAM_ISA", "the best"), "checks": checks}
        print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
