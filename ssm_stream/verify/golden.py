"""Golden predictions of the learner's definition: each start holds its compiled kernel to them, without torch.

The file carries made-up events with their predictions. After a change of the definition or of the package's frozen
weights, write it anew (needs torch); a test fails until then:

    python -m ssm_stream.verify.golden
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config import Config, parse_config
from ssm_stream.core import frozen_weights
from ssm_stream.engine.engine import Engine
from ssm_stream.ingest.events import Events

FILE = Path(__file__).parents[1] / "data" / "golden.npz"
CASES = {
    "features": "event: {entity: e, timestamp: t, features: [a, b, c]}",
    "categories": "event: {entity: e, timestamp: t, features: [a, b], categories: [k], calendar: [hour]}",
    "past targets": "event: {entity: e, timestamp: t, features: [], lags: 3}",
    "attention": "event: {entity: e, timestamp: t, features: [a, b], lags: 2}\nmodel: {profile: accurate, window: 128}",
}
"""Name → sections of the configuration; each uses other parts of the kernel."""
EVENTS, ENTITIES = 400, 3
FIRST, STEP = 1_700_000_000_000, 60_000  # ms


def case_config(name: str) -> Config:
    """The configuration of a case, without alerts: the learner alone is compared."""
    alerts = "alerts: {anomaly: {enabled: false}, drift: {enabled: false}}"
    return parse_config(f"source: {{brokers: none, topic: golden}}\n{CASES[name]}\n{alerts}\n")


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
    entity, columns, target = (stored[name].astype(np.float64) for name in ("entity", "columns", "target"))
    position = np.arange(EVENTS)
    return Events([f"e{e:.0f}" for e in entity], FIRST + STEP * position, columns, target, position)


def predict_by_definition(config: Config, events: Events, count: int = EVENTS) -> NDArray[np.float64]:
    """(count,) predictions of the first events by the definition in torch, each before its event is learned."""
    import torch

    from ssm_stream.core.features import kernel_columns
    from ssm_stream.reference import learner

    engine = Engine(config)
    engine.process(events)  # its arrays have room for all codes of these events then
    p, names = engine.params, engine.names
    rows = np.array([names.index(name) for name in events.entity])
    columns, steps = kernel_columns(engine.plan, events.features, events.ts)
    meta, state = learner.new_meta(p, frozen_weights.load(None)), learner.new_state(p, 1, ENTITIES)
    found = np.empty(count)
    with torch.no_grad():
        for t in range(count):
            at = slice(t, t + 1)
            event = learner.Event(
                torch.from_numpy(rows[at]), torch.from_numpy(columns[at]), torch.from_numpy(steps[at]),
                torch.tensor([float(events.ts[t])], dtype=torch.float64),
            )  # fmt: skip
            answer = learner.predict(p, meta, state, event)
            found[t] = float(answer.yhat)
            state = learner.learn(p, meta, state, event, answer, torch.from_numpy(events.target[at]))
    return found


def deviation() -> float:
    """Largest |kernel − definition| over the predictions of all cases, in standard deviations of the target.

    Raises:
        OSError: the package's file cannot be read.
    """
    largest = 0.0
    with np.load(FILE) as file:
        for name in CASES:
            events = read_events({part: file[f"{name}/{part}"] for part in ("entity", "columns", "target")})
            predictions, _ = Engine(case_config(name)).process(events)
            off = np.abs(predictions.yhat - file[f"{name}/yhat"])
            largest = max(largest, float(np.max(off) / np.std(events.target)))
    return largest


def write() -> None:
    """Write the file anew, by the definition."""
    import torch

    torch.set_num_threads(1)  # tensors this small are slower on more
    content: dict[str, NDArray[np.float32] | NDArray[np.float64]] = {}
    for name in CASES:
        config = case_config(name)
        stored = make_inputs(config)
        content |= {f"{name}/{part}": values for part, values in stored.items()}
        content[f"{name}/yhat"] = predict_by_definition(config, read_events(stored))
    np.savez_compressed(FILE, **content)  # type: ignore[arg-type]


if __name__ == "__main__":
    write()
