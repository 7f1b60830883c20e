"""Configurations, events and engines that several test modules share."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from io import BytesIO
from itertools import pairwise
from typing import Any

import numpy as np
import orjson
from numpy.typing import ArrayLike, NDArray

from ssm_stream.config import Config, parse_config
from ssm_stream.core.loop import Predictions
from ssm_stream.engine import snapshot_format as snapshots
from ssm_stream.engine.engine import Alert, Engine
from ssm_stream.engine.episodes.ids import EventIds
from ssm_stream.ingest.events import Events

DAY = 86_400_000
HOUR = 3_600_000
DIRECT = "features: [a, b], lags: 0, differences: false"
PAST = "features: [a, b], feature_lags: 4"
FIELDS = ("yhat", "lower", "upper", "score", "warmup", "n", "fleet")
ALONE = "model: {fleet: false}"
"""Each entity learns by itself: then nothing that happens to others may change its predictions."""


def config(event: str = "features: [a, b]", sections: str = "") -> Config:
    return parse_config(
        f"source: {{brokers: 'localhost:9092', topic: events}}\nevent: {{entity: e, timestamp: t, {event}}}\n{sections}"
    )


def made(
    y: ArrayLike, features: ArrayLike | None = None, entity: Iterable[str] | str = "m", ts: ArrayLike | None = None
) -> Events:
    target = np.asarray(y, np.float64)
    n = len(target)
    columns = np.zeros((n, 2)) if features is None else np.ascontiguousarray(features, np.float64)
    times = np.arange(n) * 1000 if ts is None else np.asarray(ts)
    names = [entity] * n if isinstance(entity, str) else list(entity)
    return Events(names, times.astype(np.int64), columns, target, np.arange(n))


def linear(n: int, seed: int = 0, noise: float = 0.3) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Features (n, 2) and y = 5 + 2a − b + noise."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 2))
    return features, 5 + features @ [2.0, -1.0] + noise * rng.normal(size=n)


def fleet(n: int, seed: int = 0, entities: int = 5) -> Events:
    """A lively stream: entities in random order, jittered times, missing values, jumps that alert, and a change that
    comes when drift is looked for; seed 2 has codes."""
    rng = np.random.default_rng(seed)
    features, y = linear(n, seed)
    if seed == 2:
        features[:, 1] = np.round(features[:, 1])
    y[3 * n // 4 :] -= 3 * features[3 * n // 4 :, 0]
    y[rng.random(n) < 0.002] += 30
    y[rng.random(n) < 0.05] = np.nan
    features[rng.random((n, 2)) < 0.05] = np.nan
    names = [f"m{i}" for i in rng.integers(entities, size=n)]
    return made(y, features, names, np.arange(n) * 1000 + rng.integers(-5000, 5000, n))


def effect_later(events: int, n: int, entities: int = 1) -> Events:
    """y = 5 + 2a of so many events before of the same entity, − b, + noise of 0.05; entities in random order."""
    rng = np.random.default_rng(events)
    features, rows_ = rng.normal(size=(n, 2)), rng.integers(entities, size=n)
    y = 5 - features[:, 1] + 0.05 * rng.normal(size=n)
    for e in range(entities):
        own = np.flatnonzero(rows_ == e)
        y[own[events:]] += 2 * features[own[:-events], 0]
    return made(y, features, [f"m{e}" for e in rows_])


def cut(events: Events, start: int, stop: int | None) -> Events:
    return events.take(np.arange(len(events))[start:stop])


def run(engine: Engine, events: Events, cuts: Iterable[int] = ()) -> tuple[dict[str, NDArray[Any]], list[Alert]]:
    """Process in the batches that `cuts` makes; the predictions together, the alerts with rows of the whole.

    The events' positions are their offsets.
    """
    parts: list[Predictions] = []
    alerts: list[Alert] = []
    edges = [0, *sorted(cuts), len(events)]
    for start, stop in pairwise(edges):
        part = cut(events, start, stop)
        predictions, own = engine.process(part, 0, EventIds("events", 0, part.position.tolist()))
        parts.append(predictions)
        alerts += [alert._replace(row=alert.row + start) for alert in own]
    return {name: np.concatenate([getattr(part, name) for part in parts]) for name in FIELDS}, alerts


def assert_same_bits(one: dict[str, NDArray[Any]], other: dict[str, NDArray[Any]]) -> None:
    for name in FIELDS:
        assert one[name].tobytes() == other[name].tobytes(), name


def started(alerts: Iterable[Alert], kind: str) -> list[int]:
    return [a.row for a in alerts if a.message["kind"] == kind and a.message["phase"] == "started"]


def all_finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(all_finite, value.values()))
    if isinstance(value, list):
        return all(map(all_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def arrays_of(state: bytes) -> dict[str, NDArray[Any]]:
    """All arrays of a snapshot, by name."""
    reader, length = snapshots.SnapshotReader(BytesIO(state)), struct.unpack_from("<Q", state, 8)[0]
    listed = orjson.loads(state[snapshots.PREFIX.size :][:length])["arrays"]
    return {name: reader.read(name) for name, _, _ in listed}


def assert_finite(engine: Engine, predicted: dict[str, NDArray[Any]], alerts: list[Alert]) -> None:
    for name in FIELDS:
        assert np.isfinite(predicted[name]).all(), name
    assert (predicted["lower"] <= predicted["yhat"]).all()
    assert (predicted["yhat"] <= predicted["upper"]).all()
    assert (predicted["score"] >= 0).all()
    assert ((predicted["fleet"] >= 0) & (predicted["fleet"] <= 1)).all()
    for alert in alerts:
        assert all_finite(alert.message), alert
    for name, array in arrays_of(engine.snapshot()).items():
        # A feature and a quarter of an hour not seen yet are NaN there, and whether an unknown feature is zero.
        unknown = name in ("0.learner.u_last", "0.learner.day", "0.learner.season", "0.hours.sum", "0.hours.base")
        known = array[:, 2:] if name == "0.learner.category" else array
        assert unknown or np.isfinite(known).all(), name


WHOLE: dict[tuple[int, str], tuple[dict[str, NDArray[Any]], list[Alert], bytes]] = {}


def whole(seed: int, sections: str = "") -> tuple[dict[str, NDArray[Any]], list[Alert], bytes]:
    """Predictions, alerts and state of a stream that is processed in one batch."""
    if (seed, sections) not in WHOLE:
        engine = Engine(config(sections=sections))
        WHOLE[seed, sections] = (*run(engine, fleet(6000, seed)), engine.snapshot())
    return WHOLE[seed, sections]
