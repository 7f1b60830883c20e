"""Synthetic streams to train the frozen weights on: what machines, meters and services may send.

Every stream has F numeric inputs and a target that depends on them by coefficients that wander; its kind names what is
made hard. Everything is drawn anew for each stream:

    what            distribution
    inputs          per input: AR(1) with 1 − coefficient log-uniform in 0.01 … 1, plus an offset; size log-uniform in
                    0.01 … 1,000, mean N(0, 3²) sizes
    coefficients    N(0, 1) each, a third of them 0; a random walk of 10^U(−4, −2.5) of their size an event
    noise           normal; log-uniform 0.03 … 0.3 of the signal's deviation
    target          size log-uniform in 0.1 … 1,000, offset N(0, 3²) sizes
    gaps            a constant interval, log-uniform in 1 s … 1 h
    entities        coefficients of each off the pool's by 30 %, offsets by one deviation; sizes differ by 10^N(0, 0.2²)

    kind            what differs from that
    steady          no drift
    drift           random walk of 10^U(−2.5, −1) an event
    switch          coefficients and offset are drawn anew with probability 1/U(100, 500) an event
    season          a period of 24 … 168 events in the offset, two harmonics, 0.5 … 3 deviations
    noisy           noise 1 … 4 deviations
    heavy           noise of Student's t with 1.2 … 3 degrees of freedom
    conditioned     inputs mixed so that the condition number of their covariance is 10² … 10⁸
    irregular       gaps log-normal with deviation 1.5; the walk, 10 times as quick, goes with the root of the gap
    nonlinear       plus products of inputs, waves and thresholds, 0.5 … 2 deviations of the linear part
    correlated      AR(1) noise, coefficient 0.7 … 0.98, 0.3 … 1 deviation
    lagged          y depends on the entity's last two targets (a stable AR(2)) and on the input before
    positive        exp of the linear part (deviation 0.3 … 1) and of its noise: multiplicative
    mixed           drift, switch, season, heavy, nonlinear and correlated, each with probability ½
    interaction     plus products of inputs, 1 … 3 of them, each 0.3 … 1.2 deviations
    daily           a day by the clock in the offset, three harmonics, 0.5 … 3 deviations, another size at weekends, and
                    in two inputs of five; intervals of 1 … 60 minutes
    scaled          the size of the noise hangs on an input and on the hour
    growth          runs of 10 … 100 events of an entity: one input is the age of a run, 0 at its begin, and the target
                    grows with it to the power of 0.7 … 1.5, by 2 … 6 deviations in the usual run; in each by a rate of
                    its own (log-normal, deviation 0.4)
    plant           drift, interaction, daily, scaled and correlated, each with probability 0.6
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

KINDS = (
    "steady", "drift", "switch", "season", "noisy", "heavy", "conditioned", "irregular", "nonlinear", "correlated",
    "lagged", "positive", "mixed", "interaction", "daily", "scaled", "growth", "plant",
)  # fmt: skip
PARTS = {
    "mixed": (0.5, ("drift", "switch", "season", "heavy", "nonlinear", "correlated")),
    "plant": (0.6, ("drift", "interaction", "daily", "scaled", "correlated")),
}
"""Kinds that are made of others: how probable each is, and which."""
EPOCH = 1_700_000_000_000.0
DAY = 86_400_000.0
MINUTES = (1.0, 5.0, 15.0, 30.0, 60.0)  # intervals of streams with a day
MAX_DEVIATION = 1e3  # deviations that a target may lie off, so that one wild draw cannot leave the range of numbers

Floats = NDArray[np.float64]
Rng = np.random.Generator


class Streams(NamedTuple):
    """B streams of T events: kind (B,) names; e (B, T) entity of the pool; x (B, T, F); y, ts (B, T), ts whole ms."""

    kind: tuple[str, ...]
    e: NDArray[np.int64]
    x: Floats
    y: Floats
    ts: Floats


def _between(rng: Rng, low: float, high: float, shape: Any = None) -> Any:
    """Log-uniform."""
    return np.exp(rng.uniform(np.log(low), np.log(high), shape))


def _ar1(rng: Rng, T: int, coefficient: Floats) -> Floats:
    """(T, k) stationary AR(1) series of deviation 1."""
    out = rng.normal(size=(T, len(coefficient)))
    size = np.sqrt(1.0 - coefficient**2)
    for t in range(1, T):
        out[t] = coefficient * out[t - 1] + size * out[t]
    return out


def _inputs(rng: Rng, has: set[str], T: int, F: int, day: Floats) -> Floats:
    """(T, F) of deviation about 1."""
    z = _ar1(rng, T, 1.0 - _between(rng, 0.01, 1.0, F))
    if "daily" in has:
        for f in np.flatnonzero(rng.random(F) < 0.4):
            z[:, f] = 0.6 * z[:, f] + np.sin(day + rng.uniform(0, 6))
    if "conditioned" in has and F > 1:
        basis = np.linalg.qr(rng.normal(size=(F, F)))[0]
        z = z * np.logspace(0, -0.5 * rng.uniform(2, 8), F) @ basis
        z = z / z.std(0)
    return z


def _coefficients(rng: Rng, has: set[str], T: int, width: int, gap: Floats) -> Floats:
    """(T, width): the offset last."""
    start = rng.normal(size=width) * (rng.random(width) > 1 / 3)
    exponent = rng.uniform(-2.5, -1.0) if "drift" in has else rng.uniform(-4.0, -2.5)
    rate = 0.0 if "steady" in has else 10.0**exponent
    step = rate * rng.normal(size=(T, width))
    if "irregular" in has:
        step *= 10.0 * np.sqrt(gap / gap.mean())[:, None]
    walk: Floats = start + np.cumsum(step, 0)
    if "switch" in has:
        at = np.flatnonzero(rng.random(T) < 1.0 / rng.uniform(100, 500))
        for t in at:
            walk[t:] += rng.normal(size=width) * (rng.random(width) > 1 / 3) - walk[t]
    return walk


def _nonlinear(rng: Rng, z: Floats) -> Floats:
    """(T,) of deviation 1."""
    F = z.shape[1]
    i, j, k = rng.integers(0, F, 3)
    weights = rng.normal(size=3)
    out = (
        weights[0] * z[:, i] * z[:, j]
        + weights[1] * np.sin(_between(rng, 0.5, 3.0) * z[:, k] + rng.uniform(0, 6))
        + weights[2] * (z[:, j] > rng.normal())
    )
    scaled: Floats = (out - out.mean()) / (out.std() + 1e-9)
    return scaled


def _daily(rng: Rng, day: Floats, weekend: NDArray[np.bool_]) -> Floats:
    """(T,) of deviation about 1: the same each day, of another size at weekends."""
    turns = np.zeros(len(day))
    for k in (1, 2, 3):
        turns = turns + rng.normal() * np.sin(k * day + rng.uniform(0, 6)) / k
    return turns * np.where(weekend, rng.uniform(0.2, 1.0), 1.0)


def _noise(rng: Rng, has: set[str], z: Floats, day: Floats) -> Floats:
    """(T,) in deviations of the signal."""
    T = len(z)
    if "noisy" in has:
        return _between(rng, 1.0, 4.0) * rng.normal(size=T)  # type: ignore[no-any-return]
    size = _between(rng, 0.03, 0.3)
    if "scaled" in has:
        on_input = rng.uniform(0.3, 1.2) * z[:, rng.integers(0, z.shape[1])]
        size = size * np.exp(on_input + rng.uniform(0.0, 0.5) * np.sin(day))
    noise: Floats = rng.standard_t(rng.uniform(1.2, 3.0), T) if "heavy" in has else rng.normal(size=T)
    noise = size * noise
    if "correlated" in has:
        noise = noise + rng.uniform(0.3, 1.0) * _ar1(rng, T, np.array([rng.uniform(0.7, 0.98)]))[:, 0]
    return noise


def _lagged(rng: Rng, e: NDArray[np.int64], drive: Floats, E: int) -> Floats:
    """y = a₁ y₋₁ + a₂ y₋₂ + drive + b · drive before, with y and drive of the entity's own past."""
    r, angle = rng.uniform(0.5, 0.97), rng.uniform(0.0, np.pi / 2)
    a1, a2, b = 2.0 * r * np.cos(angle), -r * r, rng.normal()
    past = np.zeros((E, 3))
    out = np.empty(len(drive))
    for t, (entity, d) in enumerate(zip(e.tolist(), drive.tolist(), strict=True)):
        y1, y2, before = past[entity]
        out[t] = a1 * y1 + a2 * y2 + d + b * before
        past[entity] = out[t], y1, d
    return out


def _runs(rng: Rng, e: NDArray[np.int64], E: int) -> tuple[Floats, Floats]:
    """Age (T,) of the entity's run at each event, 1 at the end of a run, and the run's rate of growth, about 1."""
    length, seen = int(_between(rng, 10, 100)), np.zeros(E, np.int64)
    age, number = np.empty(len(e)), np.empty(len(e), np.int64)
    for t, entity in enumerate(e.tolist()):
        number[t], age[t] = divmod(seen[entity], length)
        seen[entity] += 1
    rate = np.exp(0.4 * rng.normal(size=(E, number.max() + 1)))
    return age / length, rate[e, number]


def draw_one(rng: Rng, kind: str, T: int, F: int, E: int = 1) -> Streams:
    """One stream of a kind, with a leading dimension of 1."""
    probable, parts = PARTS.get(kind, (0.0, ()))
    has = {kind, *[name for name in parts if rng.random() < probable]}
    interval = 60_000.0 * rng.choice(MINUTES) if "daily" in has else 1000.0 * _between(rng, 1.0, 3600.0)
    gap = interval * (rng.lognormal(0.0, 1.5, T) if "irregular" in has else np.ones(T))
    ts = np.floor(EPOCH + np.cumsum(gap))
    day = 2 * np.pi * (ts % DAY) / DAY
    e = rng.integers(0, E, T)
    z = _inputs(rng, has, T, F, day)
    w = _coefficients(rng, has, T, F + 1, gap)
    own = np.ones((E, F + 1)) if E == 1 else 1.0 + 0.3 * rng.normal(size=(E, F + 1))
    signal: Floats = (z * (w * own[e])[:, :F]).sum(1) + w[:, F]
    deviation = max(float(signal.std()), 0.3)
    if "nonlinear" in has:
        signal = signal + rng.uniform(0.5, 2.0) * deviation * _nonlinear(rng, z)
    if "season" in has:
        angle = 2 * np.pi * np.arange(T) / int(_between(rng, 24, 168))
        turns = sum(np.sin(k * angle + rng.uniform(0, 6)) / k for k in (1, 2))
        signal = signal + rng.uniform(0.5, 3.0) * deviation * turns
    for _ in range(rng.integers(1, 4) if "interaction" in has else 0):
        product = z[:, rng.integers(0, F)] * z[:, rng.integers(0, F)]
        signal = signal + rng.choice((-1, 1)) * rng.uniform(0.3, 1.2) * deviation * product / (product.std() + 1e-9)
    if "daily" in has:
        signal = signal + rng.uniform(0.5, 3.0) * deviation * _daily(rng, day, ts // DAY % 7 >= 5)
    if "growth" in has:
        age, rate = _runs(rng, e, E)
        z[:, rng.integers(0, F)] = 3.0 * age
        signal = signal + rng.uniform(2.0, 6.0) * deviation * rate * age ** rng.uniform(0.7, 1.5)
    noise = deviation * _noise(rng, has, z, day)
    y = signal + np.clip(noise, -MAX_DEVIATION, MAX_DEVIATION)
    if E > 1:
        y = (y + deviation * rng.normal(size=E)[e]) * (10.0 ** (0.2 * rng.normal(size=E)))[e]
    if kind == "lagged":
        y = _lagged(rng, e, y - y.mean(), E)
    if kind == "positive":
        spread = max(float(y.std()), 1e-9)
        y = np.exp(np.clip(rng.uniform(0.3, 1.0) * (y - y.mean()) / spread, -8, 8))
    else:
        spread = max(float(np.median(np.abs(y - np.median(y)))), 1e-9)
        y = np.clip((y - np.median(y)) / spread, -MAX_DEVIATION, MAX_DEVIATION) + 3 * rng.normal()
    x = (z + 3 * rng.normal(size=F)) * _between(rng, 1e-2, 1e3, F)
    return Streams((kind,), e[None], x[None], (_between(rng, 0.1, 1e3) * y)[None], ts[None])


def draw(seed: tuple[int, ...], kinds: tuple[str, ...], T: int, F: int, E: int = 1) -> Streams:
    """A stream of each kind named; equal arguments give equal streams.

    Args:
        seed: of this batch
        kinds: of `KINDS`, (B,)
        T: events
        F: inputs
        E: entities that share a pool; each event is of a random one
    """
    parts = [draw_one(np.random.default_rng((*seed, b)), kind, T, F, E) for b, kind in enumerate(kinds)]
    joined: list[Any] = [np.concatenate([part[i] for part in parts]) for i in range(1, 5)]
    return Streams(kinds, *joined)
