"""Streams and changes of inputs for `input_changes.py`: made from seeds, and recordings.

Each stream names four of its numbers A, B, C, D and a category K, so that one list of changes is for all of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
MINUTE = 60_000
BEGIN = 1_767_225_600_000
"""Of the streams that are made, ms."""
ROLES = ("A", "B", "C", "D")


class Stream(NamedTuple):
    """Events in their order, with those columns alone that a change may name.

    entity (n,): names; ts (n,): ms; columns: (n,) each, by the role; y (n,)
    """

    name: str
    entity: list[str]
    ts: Integers
    columns: dict[str, Floats]
    y: Floats

    def part(self, first: int, stop: int) -> Stream:
        """Return some of the events."""
        at = slice(first, stop)
        columns = {role: values[at] for role, values in self.columns.items()}
        return Stream(self.name, self.entity[at], self.ts[at], columns, self.y[at])


Change = tuple[str, str]
"""What `event` has before and after, by roles."""
CHANGES: dict[str, Change] = {
    "one added": ("features: [A, B]", "features: [A, B, C]"),
    "two added": ("features: [A, B]", "features: [A, B, C, D]"),
    "one added in front": ("features: [B, C]", "features: [A, B, C]"),
    "one removed": ("features: [A, B, C]", "features: [A, C]"),
    "two removed": ("features: [A, B, C, D]", "features: [D, A]"),
    "one exchanged": ("features: [A, B]", "features: [C, A]"),
    "all exchanged": ("features: [A, B]", "features: [C, D]"),
    "another order": ("features: [A, B, C]", "features: [C, A, B]"),
    "first features": ("", "features: [A, B, C]"),
    "no features": ("features: [A, B, C]", ""),
    "category added": ("features: [A, B]", "features: [A, B], categories: [K]"),
    "category removed": ("features: [A, B], categories: [K]", "features: [A, B, C]"),
    "number becomes category": ("features: [A, K]", "features: [A], categories: [K]"),
    "lags 2 to 8": ("features: [A, B, C], lags: 2", "features: [A, B, C], lags: 8"),
    "lags 2 to 12": ("features: [A], lags: 2", "features: [A], lags: 12"),
    "lags 8 to 4": ("features: [A, B, C]", "features: [A, B, C], lags: 4"),
    "past features": ("features: [A, B]", "features: [A, B], feature_lags: 3"),
    "no past features": ("features: [A, C], feature_lags: 3", "features: [A, B, C]"),
    "differences": ("features: [A, C], differences: false", "features: [C, A], differences: true"),
    "no differences": ("features: [A, B], differences: true", "features: [A, B], differences: false"),
    "product derived": ("features: [A, B]", "features: [A, B], derive: {P: {product: [A, B]}}"),
    "mean derived": ("features: [A, B]", "features: [A, B], derive: {P: {rolling_mean: A, over: 20}}"),
}


def made_streams(seed: int, n: int) -> list[Stream]:
    """Return a stream of each kind: what changes is the noise, the weights and the order of the entities."""
    return [_made(name, kind, at, seed, n) for at, (name, kind) in enumerate(KINDS.items())]


class _Draft(NamedTuple):
    """x (n, 4) numbers, k (n,) category, e (n,) entity, t (n,) index of the event."""

    g: np.random.Generator
    x: Floats
    k: Integers
    e: Integers
    t: Floats


def _linear(d: _Draft) -> Floats:
    w = d.g.normal(size=4) + np.sign(d.g.normal(size=4))
    return 5 + d.x @ w + d.g.normal(size=4)[d.k] + 0.3 * d.g.normal(size=len(d.t))


def _products(d: _Draft) -> Floats:
    noise = 0.3 * d.g.normal(size=len(d.t))
    return d.x[:, 0] * d.x[:, 1] + d.x[:, 2] ** 2 + 0.5 * d.x[:, 3] * (d.k - 1.5) + noise


def _drifting(d: _Draft) -> Floats:
    steps = np.cumsum(0.03 * d.g.normal(size=(len(d.t), 4)), axis=0)
    return 5 + ((steps + d.g.normal(size=4)) * d.x).sum(axis=1) + 0.3 * d.g.normal(size=len(d.t))


def _positive(d: _Draft) -> Floats:
    level = 2 + 0.4 * d.x @ d.g.normal(size=4) + 0.3 * (d.k == 2)
    return np.exp(level + 0.1 * d.g.normal(size=len(d.t)))


def _own(d: _Draft) -> Floats:
    """Each entity has weights of its own, around those of all."""
    entities = int(d.e.max()) + 1
    w, level = d.g.normal(size=4) + 0.5 * d.g.normal(size=(entities, 4)), 10 * d.g.normal(size=entities)
    return level[d.e] + (w[d.e] * d.x).sum(axis=1) + 0.3 * d.g.normal(size=len(d.t))


def _memory(d: _Draft) -> Floats:
    """The target remembers: an autoregression by entity, driven by the numbers."""
    y, last = np.zeros(len(d.t)), np.zeros((int(d.e.max()) + 1, 6))
    push = 0.5 * d.x @ d.g.normal(size=4) + 0.3 * d.g.normal(size=len(d.t))
    for i, e in enumerate(d.e.tolist()):
        y[i] = 0.6 * last[e, 0] - 0.2 * last[e, 2] + 0.35 * last[e, 5] + push[i]
        last[e, 1:] = last[e, :-1]
        last[e, 0] = y[i]
    return y


def _steps(d: _Draft) -> Floats:
    """The weights change every 1,500 events."""
    w = d.g.normal(size=(len(d.t) // 1_500 + 1, 4))[(d.t // 1_500).astype(np.int64)]
    return (w * d.x).sum(axis=1) + 0.3 * d.g.normal(size=len(d.t))


def _bent(d: _Draft) -> Floats:
    """Levels and thresholds: what trees and random directions learn."""
    y = 2.0 * (d.x[:, 0] > 0.3) + np.abs(d.x[:, 1]) + np.maximum(d.x[:, 2], 0) * (d.k > 1) + np.sin(2 * d.x[:, 3])
    return y + 0.2 * d.g.normal(size=len(d.t))


KINDS: dict[str, Callable[[_Draft], Floats]] = {
    "linear": _linear, "products": _products, "drifting": _drifting, "positive": _positive, "own weights": _own,
    "memory": _memory, "steps": _steps, "bent": _bent,
}  # fmt: skip
ENTITIES = (4, 1, 4, 8, 20, 4, 1, 8)
"""Of each kind."""


def _made(name: str, kind: Callable[[_Draft], Floats], at: int, seed: int, n: int) -> Stream:
    g = np.random.default_rng([seed, at])
    x, category, entity = g.normal(size=(n, 4)), g.integers(0, 4, n), g.integers(ENTITIES[at], size=n)
    draft = _Draft(g, x, category, entity, np.arange(n, dtype=float))
    columns = dict(zip(ROLES, draft.x.T.copy(), strict=True)) | {"K": draft.k.astype(np.float64)}
    return Stream(name, [f"m{e}" for e in draft.e], BEGIN + MINUTE * np.arange(n), columns, kind(draft))


RECORDED = {
    "bike_sharing_hourly": ("temp", "hum", "windspeed", "workingday", "weathersit"),
    "gas_turbine_nox": ("at_ambient_temp", "ap_ambient_press", "tit_inlet_temp", "gtep_exhaust_press", None),
    "steel_energy": ("lagging_reactive_kvarh", "lagging_power_factor", "leading_reactive_kvarh", "nsm", "dow"),
    "cmapss_fd001": ("t24_lpc_outlet_temp", "ps30_hpc_static_press", "phi_fuel_ps30", "bpr_bypass_ratio", None),
    "tep_shared": ("xmeas_09", "xmv_01", "xmeas_22", "xmeas_13", None),
    "skab_shared": ("current", "pressure", "temperature", "accelerometer1rms", None),
    "parking_birmingham": ("hour", "capacity", "dow", None, "dow"),
}
"""The columns in the roles, of each recording."""


def recorded_streams(folder: Path) -> list[Stream]:
    """Return the recordings that the folder has, in the order of their times."""
    return [_recorded(folder / f"{name}.csv.gz", roles) for name, roles in RECORDED.items()
            if (folder / f"{name}.csv.gz").exists()]  # fmt: skip


def _recorded(path: Path, names: tuple[str | None, ...]) -> Stream:
    table = pl.read_csv(path, infer_schema_length=None).with_columns(pl.col("ts").str.to_datetime())
    table = table.sort("ts", maintain_order=True)
    columns = {
        role: table[name].cast(pl.Float64).fill_null(float("nan")).to_numpy().copy()
        for role, name in zip((*ROLES, "K"), names, strict=True)
        if name is not None
    }
    y = table["target"].cast(pl.Float64).fill_null(float("nan")).to_numpy().copy()
    ts = table["ts"].dt.epoch("ms").to_numpy().astype(np.int64)
    return Stream(path.name.split(".")[0], table["entity"].to_list(), ts, columns, y)


def fits(stream: Stream, change: Change) -> bool:
    """Return whether the stream has what the change names."""
    words = set(re.findall(r"\b[ABCDK]\b", " ".join(change)))
    return words <= stream.columns.keys()
