"""The product on recordings: which rows and columns, its errors, what an event costs and what an entity weighs."""

from __future__ import annotations

import hashlib
import importlib.util
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from accuracy_peers import SCORED_FROM
from numpy.typing import NDArray

from ssm_stream.config import Config
from ssm_stream.core import shapes
from ssm_stream.core.features import calendar_columns
from ssm_stream.engine.engine import Engine
from ssm_stream.evaluate.partitioned_engine import PartitionedEngine
from ssm_stream.evaluate.prequential import prequential_delayed, with_row_labels
from ssm_stream.evaluate.recordings import read_recording
from ssm_stream.ingest.events import EventReader, Events
from ssm_stream.verify.trace import Production, Tape

CELLS: dict[str, dict[str, Any]] = {"soft": {"lags": 0}, "any": {}}
"""What `event` says beside the columns: the whole default, or no past target among the inputs."""

COST_CASES = {"8 features": (8, 1), "8 features, 100 entities": (8, 100), "50 columns": (50, 1)}
"""Features and entities."""
COST_EVENTS = {"fast": 100_000, "accurate": 20_000}
DELAYS = (1, 10, 100)
FLEET = 10_000
PLAIN: dict[str, Any] = {"lags": 0, "differences": False, "calendar": []}
"""As many inputs as features: what the cost is measured with."""

HEADS = ("moments", "products", "proximal", "embedding")
"""Of the profile fast; accurate has the attention, too."""
ABLATIONS: dict[str, dict[str, dict[str, Any]]] = {
    "no gate": {"model": {"tuning": {"gate": "equal"}}},
    "one decay": {"model": {"tuning": {"half_lives": ["500 events"]}}},
    "no fleet": {"model": {"fleet": False}},
    **{f"no {head}": {"model": {"tuning": {"heads": [each for each in HEADS if each != head]}}} for head in HEADS},
    "no log space": {"model": {"tuning": {"log_space": False}}},
    "no calendar": {"event": {"calendar": []}},
    "no meta-training": {"model": {"weights": "untrained"}},
    "one-step layer": {"model": {"tuning": {"heads": ["gd"], "gate": "equal"}}},
}
"""What is set beside the columns to leave a part out; the last leaves nothing but the paper's layer with its decay."""


class Recording(NamedTuple):
    """The rows that count, in time order.

    digest: of the file; features: the numeric columns; rows: events as dicts
    """

    name: str
    digest: str
    features: list[str]
    rows: list[dict[str, Any]]


class Run(NamedTuple):
    """The product on a recording: its MAE and the seconds it took."""

    mae: float
    seconds: float


def read(path: Path, count: int) -> Recording:
    """The first rows by time that have a target; `alt_target_*` and `label_*` are other answers, not inputs."""
    frame = pl.concat(list(read_recording(path))).with_columns(pl.selectors.float().fill_nan(None))
    frame = frame.sort("ts", maintain_order=True).filter(pl.col("target").is_not_null()).head(count)
    known = ("entity", "ts", "target")
    features = [
        name
        for name, kind in frame.schema.items()
        if kind.is_numeric() and name not in known and not name.startswith(("alt_target_", "label_"))
    ]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    return Recording(stem(path), digest, features, frame.select(*known, *features).to_dicts())


def stem(path: Path) -> str:
    return path.name.removesuffix(".csv.gz")


def configuration(features: list[str], profile: str, change: dict[str, dict[str, Any]] | None = None) -> Config:
    """Defaults, the columns, and what a comparison changes by section."""
    change = change or {}
    columns = {"entity": "entity", "timestamp": "ts", "features": features, "target": "target"}
    sections = {
        **change,
        "source": {"brokers": "localhost:9092", "topic": "events"},
        "event": {**columns, **change.get("event", {})},
        "model": {**({} if profile == "fast" else {"profile": profile}), **change.get("model", {})},
    }
    return Config.model_validate(sections)


def events_of(config: Config, rows: list[dict[str, Any]]) -> Events:
    events, refused = EventReader(config.event).read(rows)
    if refused:
        first = refused[0]
        raise SystemExit(f"{len(refused)} rows are no events; row {first.position}: {first.reason}")
    return events


def run(config: Config, rows: list[dict[str, Any]]) -> Run:
    """Test, then train, in the way of `ssm-stream backtest`."""
    begin = time.perf_counter()
    events = events_of(config, rows)
    predictions, _ = Engine(config).process(events)
    seconds = time.perf_counter() - begin
    error = np.abs(predictions.yhat - events.target)[SCORED_FROM:]
    return Run(float(error.mean()), seconds)


def cells(
    recordings: list[Recording],
    profile: str,
    progress: Callable[[str], None],
    change: dict[str, dict[str, Any]] | None = None,
) -> dict[str, Run]:
    """MAE by `recording/cell`, under one and the same change of the defaults."""
    found = {}
    change = change or {}
    for recording in recordings:
        for cell, event in CELLS.items():
            if cell == "soft" and not recording.features:
                continue  # nothing to predict from
            config = configuration(
                recording.features, profile, {**change, "event": {**event, **change.get("event", {})}}
            )
            found[f"{recording.name}/{cell}"] = one = run(config, recording.rows)
            progress(f"  {profile}: {recording.name}, {cell}: {one.mae:.5g} ({one.seconds:.1f} s)")
    return found


def ablation(name: str, profile: str) -> dict[str, dict[str, Any]]:
    """What to set to leave a part out of a profile."""
    change = ABLATIONS[name]
    tuning = change.get("model", {}).get("tuning", {})
    if profile == "accurate" and len(tuning.get("heads", ())) > 1:
        return {"model": {"tuning": {"heads": [*tuning["heads"], "attention"]}}}
    return change


# The learner without the engine around it.


def tape(config: Config, events: Events) -> tuple[Production, Tape]:
    """The kernel on fresh state, and what the engine would hand it."""
    engine = Engine(config)
    names = {name: i for i, name in enumerate(dict.fromkeys(events.entity))}
    cycles, steps = calendar_columns(engine.plan, events.ts)
    lives = np.array([names[name] for name in events.entity], np.int64)
    columns = np.ascontiguousarray(np.hstack([events.features, cycles]))
    pools = np.zeros(len(events), np.int64)
    return Production(engine.params, 1, len(names)), Tape(pools, lives, events.ts, columns, steps, events.target)


def expanded(config: Config, rows: list[dict[str, Any]]) -> NDArray[np.float64]:
    """The learner's inputs (n, D), each before its event is learned: standardised numbers, then codes; no constant."""
    production, t = tape(config, events_of(config, rows))
    F = production.params.F
    out = np.zeros((len(t.y), F + shapes.SLOTS))
    for i in range(len(t.y)):
        event = (int(t.pools[i]), int(t.lives[i]), t.u[i], t.steps[i], float(t.ts[i]))
        production.predict(event, labelled=True)
        L = production.params.L
        out[i, : L - 1] = production.scratch.fleet[1:L]
        production.learn(event, float(t.y[i]))
    return out[:, : F + int(production.learner.pool.used[0])]


def delays(recordings: list[Recording], profile: str, progress: Callable[[str], None]) -> dict[str, dict[str, float]]:
    """MAE by `recording/cell` and delay: the label of row t comes after row t + delay is predicted."""
    found: dict[str, dict[str, float]] = {}
    for recording in recordings:
        for cell, event in CELLS.items():
            if cell == "soft" and not recording.features:
                continue
            config = configuration(recording.features, profile, {"event": event})
            target = np.array([row["target"] for row in recording.rows])
            name = f"{recording.name}/{cell}"
            found[name] = {}
            for delay in DELAYS:
                chunks = prequential_delayed(recording.rows, delay, PartitionedEngine(with_row_labels(config)))
                yhat = np.concatenate([chunk.predictions.yhat for chunk in chunks])
                found[name][str(delay)] = float(np.abs(yhat - target)[SCORED_FROM:].mean())
                progress(f"  {profile}: {name}, labels {delay} late: {found[name][str(delay)]:.5g}")
    return found


# What waits for the engine.


def untrained_obstacle() -> str | None:
    """Why constants that were not trained cannot be measured."""
    if importlib.util.find_spec("ssm_stream.core.frozen_weights") is None:
        return "this version has no trained weights to leave out"
    try:
        Engine(configuration(["x"], "fast", ABLATIONS["no meta-training"]))
    except (OSError, ValueError) as error:
        return f"weights `untrained`: {str(error).splitlines()[0]}"
    return None


# What it costs.


def made(features: int, entities: int, count: int) -> list[dict[str, Any]]:
    """Events of a linear relation with a little noise, entity by entity in turn, a minute apart."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, features))
    y = x @ rng.normal(size=features) + 0.1 * rng.normal(size=count)
    names = [f"x{i}" for i in range(features)]
    return [
        {"entity": f"e{i % entities}", "ts": 60 * i, "target": target, **dict(zip(names, values, strict=True))}
        for i, (values, target) in enumerate(zip(x.tolist(), y.tolist(), strict=True))
    ]


def silent(features: int, profile: str) -> Config:
    """The features alone as inputs, and no alerts: what the learner itself costs."""
    off = {"anomaly": {"enabled": False}, "drift": {"enabled": False}}
    return configuration([f"x{i}" for i in range(features)], profile, {"event": PLAIN, "alerts": off})


def costs(profile: str, progress: Callable[[str], None], repeats: int = 5) -> dict[str, float]:
    """µs an event of the kernel, to predict and to learn: the fastest of some passes."""
    found = {}
    for name, (features, entities) in COST_CASES.items():
        config, count = silent(features, profile), COST_EVENTS[profile]
        production, t = tape(config, events_of(config, made(features, entities, count)))
        production.predictions(t)  # makes all room that is needed
        out, best = np.empty(count), math.inf
        for _ in range(repeats):
            begin = time.perf_counter()
            production.core.run(t.pools, t.lives, t.u, t.steps, t.ts, t.y, 0, out)
            best = min(best, time.perf_counter() - begin)
        found[name] = best / count * 1e6
        progress(f"  {profile}: {name}: {found[name]:.2f} µs an event")
    return found


def state_bytes(config: Config, entities: int) -> float:
    """Bytes of an entity's state, its part of what it shares with the others included, once so many are known."""
    engine = Engine(config)
    engine.process(events_of(config, made(len(config.event.numbers), entities, 2 * entities)))
    return engine.bytes_per_entity + engine.bytes_per_pool / entities


def states(profile: str, fleet: int = FLEET) -> dict[str, float]:
    """Bytes an entity, alone and in a fleet: with 8 inputs, and with all that the defaults make of 8 features."""
    defaults = configuration([f"x{i}" for i in range(8)], profile)
    return {
        "alone": state_bytes(silent(8, profile), 1),
        "fleet": state_bytes(silent(8, profile), fleet),
        "alone, defaults": state_bytes(defaults, 1),
        "fleet, defaults": state_bytes(defaults, fleet),
    }
