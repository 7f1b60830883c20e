"""What the parts of the throughput benchmark have in common: checks, memory, processes of their own, words on stderr.

Only the standard library: clients.py runs it in the peers' virtual environment too.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PEERS = HERE.parent / "build" / "peers" / "bin" / "python"
"""The interpreter that `make peers` makes."""
LIMIT = 600.0  # seconds that one process may take
Check = dict[str, Any]


def peers_python() -> str:
    """The default of `--peers-python`: the environment of `make peers` where it exists, else this interpreter."""
    return str(PEERS) if PEERS.exists() else sys.executable


class MissingError(RuntimeError):
    """A process failed, or a topic does not hold what it must: there is no figure."""


def check(name: str, value: float | None, relation: str, bar: float) -> Check:
    """One figure beside its bar; what was not measured (None) is not met."""
    ok = value is not None and (value <= bar if relation == "<=" else value >= bar)
    return {
        "name": name,
        "value": None if value is None else round(float(value), 4),
        "relation": relation,
        "bar": bar,
        "ok": bool(ok),  # NumPy's is none that JSON knows
    }


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


def tell(checks: list[Check]) -> None:
    """Each check in words, on standard error."""
    for one in checks:
        say(f"{one['name']}: {one['value']} {one['relation']} {one['bar']}: {'met' if one['ok'] else 'not met'}")


def child(
    script: str, job: dict[str, Any], *arguments: str, python: str = sys.executable, title: str = ""
) -> dict[str, Any]:
    """The figures that a script beside this one prints as its last line, run as `python script arguments… JOB`.

    Raises:
        MissingError: it ended with an error, or did not end.
    """
    command = [python, str(HERE / script), *arguments, json.dumps(job)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    except subprocess.TimeoutExpired as error:
        raise MissingError(f"{title or script} did not end within {LIMIT:g} s") from error
    if done.returncode != 0:
        raise MissingError(f"{title or script} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def memory(process: int | str = "self") -> tuple[int, int]:
    """Bytes that a process holds now, and the most that it ever held; of another system than Linux the latter twice."""
    status = Path(f"/proc/{process}/status")
    if not status.exists():
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak, peak
    # ru_maxrss would not do: a process inherits that mark from the one that started it.
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if line.startswith("Vm"))
    return int(lines["VmRSS"].split()[0]) * 1024, int(lines["VmHWM"].split()[0]) * 1024


def free_memory() -> int:
    """Bytes that processes may still take without others being written to the disk (Linux)."""
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) * 1024


def fastest(repeats: int, work: Callable[[], Any], count: int, clock: Callable[[], float] = time.process_time) -> float:
    """µs of CPU an event of the fastest of some repetitions; this process does nothing else, or the clock is that of
    the thread."""
    best = float("inf")
    for _ in range(repeats):
        before = clock()
        work()
        best = min(best, clock() - before)
    return best / count * 1e6


@contextlib.contextmanager
def running(
    command: list[str], log: Path, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process beside this one, ended by SIGTERM (after half a minute by SIGKILL); what it says goes to `log`."""
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    try:
        yield process
    finally:
        stop(process)


def hand_over(producer: Any, topic: str, value: bytes, key: str) -> None:
    """Hand a message to the client; wait while its queue is full."""
    while True:
        try:
            producer.produce(topic, value, key)
            return
        except BufferError:
            producer.poll(0.01)


def end_on_signals() -> None:
    """SIGTERM ends this process as an exception does: what it has started is stopped, its folder removed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def stop(process: subprocess.Popen[bytes]) -> int:
    """End a process and wait for it; its exit status."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


def cpu_seconds(process: int) -> float:
    """CPU time of a process so far, with all its threads (Linux)."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def size(directory: Path) -> int:
    """Bytes of all files below."""
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())


def median(rounds: list[dict[str, dict[str, float]]], name: str, figure: str) -> float:
    """Of a client's figure over the rounds."""
    return statistics.median(one[name][figure] for one in rounds)


def ratio(rounds: list[dict[str, dict[str, float]]], name: str, other: str, figure: str = "events_per_s") -> float:
    """Of two clients within a round; the median over the rounds."""
    return statistics.median(one[name][figure] / one[other][figure] for one in rounds)
