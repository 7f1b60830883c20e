"""Golden results: each start holds the core, on its processor, to them bit by bit.

The file carries made-up events, and the core's results for them. After a change of what the core
computes, write it anew; tests hold its predictions to the learner's definition in torch:

    python -m ssm_stream.verify.golden
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config import Config, parse_config
from ssm_stream.engine.engine import Engine
from ssm_stream.ingest.events import Events

FILE = Path(__file__).parents[1] / "data" / "golden.npz"
CASES = {
    "features": "event: {entity: e, timestamp: t, features: [a, b, c]}",
    "categories": "event: {entity: e, timestamp: t, features: [a, b], categories: [k], calendar: [hour]}",
    "past targets": "event: {entity: e, timestamp: t, features: [], lags: 3}",
    "attention": "event: {entity: e, timestamp: t, features: [a, b], lags: 2}\nmodel: {profile: accurate, window: 128}",
}
"""Name → sections of the configuration; each uses other parts of the core."""
INPUTS = ("entity", "columns", "target")
RESULTS = ("yhat", "lower", "upper", "score")
EVENTS, ENTITIES = 400, 3
FIRST, STEP = 1_700_000_000_000, 60_000  # ms


def case_config(name: str) -> Config:
    """The configuration of a case, with all detectors."""
    return parse_config(f"source: {{brokers: none, topic: golden}}\n{CASES[name]}\n")


def make_inputs(config: Config) -> dict[str, NDArray[np.float32]]:
    """entity (n,), columns (n, C) and target (n,) of made-up events, as 32-bit floats."""
    rng = np.random.default_rng(0)
    numbers, names = len(config.event.numbers), len(config.event.categories)
    columns = rng.normal(size=(EVENTS, numbers + names)) * 2 + 10
    columns[:, numbers:] = rng.integers(0, 3, (EVENTS, names))
    entity = rng.integers(0, ENTITIES, EVENTS)
    target = columns[:, :numbers] @ rng.normal(size=numbers) + np.sin(np.arange(EVENTS) / 20) + entity
    target += 0.1 * rng.normal(size=EVENTS)
    found = {"entity": entity, "columns": columns, "target": target}
    return {name: values.astype(np.float32) for name, values in found.items()}


def read_events(stored: dict[str, NDArray[np.float32]]) -> Events:
    """The events of `make_inputs`, a minute apart."""
    entity, columns, target = (stored[name].astype(np.float64) for name in INPUTS)
    position = np.arange(EVENTS)
    return Events([f"e{e:.0f}" for e in entity], FIRST + STEP * position, columns, target, position)


def compute(name: str, stored: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float64]]:
    """The core's results for a case's events: (n,) each of `RESULTS`."""
    predictions, _ = Engine(case_config(name)).process(read_events(stored))
    return {result: getattr(predictions, result) for result in RESULTS}


def deviation() -> float:
    """Largest difference of the core's results from the golden ones, in standard deviations of the target.

    0 where every bit is the same, which holds for every processor and compiler; infinite where a result is no number.

    Raises:
        OSError: the package's file cannot be read.
    """
    largest = 0.0
    with np.load(FILE) as file:
        for name in CASES:
            stored = {part: file[f"{name}/{part}"] for part in INPUTS}
            for result, values in compute(name, stored).items():
                golden = file[f"{name}/{result}"]
                if values.tobytes() != golden.tobytes():
                    off = float(np.max(np.abs(values - golden))) / float(np.std(stored["target"]))
                    largest = max(largest, off) if off == off else np.inf
    return largest


def write() -> None:
    """Write the file anew, by the core."""
    content: dict[str, NDArray[np.float32] | NDArray[np.float64]] = {}
    for name in CASES:
        stored = make_inputs(case_config(name))
        content |= {f"{name}/{part}": values for part, values in stored.items()}
        content |= {f"{name}/{result}": values for result, values in compute(name, stored).items()}
    np.savez_compressed(FILE, **content)  # type: ignore[arg-type]


if __name__ == "__main__":
    write()
