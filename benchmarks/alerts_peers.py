"""River's change detectors on the same streams; run by an interpreter that has River and numpy.

    python benchmarks/alerts_peers.py STREAMS.npz > PEERS.json

Each detector hears the error or its absolute value, once with its default settings and once with the most sensitive
setting of a grid that raises no more false alarms than the budget allows on the noise in question.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np

GRIDS: dict[str, tuple[str, list[float]]] = {
    "ADWIN": ("delta", [0.002, 0.0005, 0.0001, 1e-5, 1e-6, 1e-8]),
    "PageHinkley": ("threshold", [50.0, 80.0, 120.0, 200.0, 400.0, 800.0]),
    "KSWIN": ("alpha", [0.005, 0.0005, 5e-5, 5e-6, 5e-7]),
}
"""The first is the default."""


def make(name: str, value: float) -> Any:
    from river import drift

    option = {GRIDS[name][0]: value}
    return getattr(drift, name)(**option, **({"seed": 1} if name == "KSWIN" else {}))


def alarms(name: str, value: float, signal: np.ndarray, first: bool = False) -> list[int]:
    """Events at which it alarms."""
    detector, out = make(name, value), []
    for t, x in enumerate(signal.tolist()):
        detector.update(x)
        if detector.drift_detected:
            out.append(t)
            if first and t >= 4000:
                break
    return out


def main() -> None:
    streams = np.load(sys.argv[1])
    budget, change, quiet = float(streams["budget"]), int(streams["change"]), {}
    noises = [name.removeprefix("noise/") for name in streams.files if name.startswith("noise/")]
    found: dict[str, Any] = {"false": {}, "delay": {}}
    for name, (_, grid) in GRIDS.items():
        for noise in noises:
            for absolute in (True, False):
                errors = streams[f"noise/{noise}"]
                if name == "KSWIN":
                    errors = errors[:60_000]
                signal = np.abs(errors) if absolute else errors
                for value in grid:
                    rate = len(alarms(name, value, signal)) / len(signal)
                    found["false"].setdefault(f"{name}/{noise}/{absolute}", {})[str(value)] = rate * 1e5
                    if rate <= 1.0 / budget:
                        quiet[name, noise, absolute] = value
                        break
                print(name, noise, absolute, found["false"][f"{name}/{noise}/{absolute}"], file=sys.stderr, flush=True)
    for key in streams.files:
        if not key.startswith("change/"):
            continue
        _, noise, label = key.split("/", 2)
        for name, (_, grid) in GRIDS.items():
            started = time.perf_counter()
            runs = streams[key][: 10 if name == "KSWIN" else 30]
            for absolute in (True, False):
                for kind, value in (("default", grid[0]), ("quiet", quiet.get((name, noise, absolute)))):
                    if value is None:
                        continue
                    delays = []
                    for errors in runs:
                        at = alarms(name, value, np.abs(errors) if absolute else errors, first=True)
                        late = [t - change for t in at if t >= change]
                        delays.append(late[0] if late else len(errors) - change)
                    missed = float(np.mean(np.array(delays) >= runs.shape[1] - change))
                    found["delay"].setdefault(label, {})[f"{name}/{'|e|' if absolute else 'e'}/{kind}"] = [
                        float(np.median(delays)),
                        missed,
                    ]
            print(label, name, f"{time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
