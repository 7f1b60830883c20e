"""Periodic sensor signals with anomalies of known kinds: what `shapes.py` judges scores on.

A signal is a base shape over a phase that jitters, times an amplitude that drifts, plus noise. An anomaly changes what
one to five cycles do; all else of the signal is as it would be without it. The constants of the product were chosen on
the base shapes `CHOSEN_ON`; the figures are of `JUDGED_ON`, which nobody looked at before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Rng = np.random.Generator
Shape = Callable[[Floats], Floats]
"""Value of a base shape at phases in cycles."""

LENGTH, FIRST, APART = 5_000, 1_000, 400
"""Events of a signal; before the first anomaly; between two."""
ANOMALIES = 3
PERIODS = (16.0, 120.0)
"""Events of a cycle, from and to."""
KINDS = (
    "amplitude", "frequency", "pattern", "pattern shift", "platform", "trend", "variance", "extremum", "correlation",
)  # fmt: skip


class Signal(NamedTuple):
    """y (n,): the target; x (n, d): other columns; labels (n,): rows of an anomaly; period: mean events of a cycle"""

    name: str
    kind: str | None
    y: Floats
    x: Floats
    labels: Flags
    period: float


def bump(phase: Floats, at: float, width: float) -> Floats:
    """A bell at a phase of the cycle."""
    off = (phase - at + 0.5) % 1.0 - 0.5
    return np.exp(-0.5 * (off / width) ** 2)


def sine(phase: Floats) -> Floats:
    return np.sin(2 * np.pi * phase)


def heart(phase: Floats) -> Floats:
    """A beat with the waves P, Q, R, S, T."""
    waves = ((0.2, 0.025, 0.25), (0.36, 0.012, -0.3), (0.4, 0.016, 2.2), (0.44, 0.014, -0.5), (0.65, 0.05, 0.6))
    return sum((height * bump(phase, at, width) for at, width, height in waves), np.zeros_like(phase))


def square(phase: Floats) -> Floats:
    """A duty cycle with edges of a few events."""
    return np.tanh(6.0 * (np.sin(2 * np.pi * phase) + 0.3))


def sawtooth(phase: Floats) -> Floats:
    up = phase % 1.0
    return np.where(up < 0.85, up / 0.85, (1.0 - up) / 0.15) * 2.0 - 1.0


def mix(phase: Floats) -> Floats:
    """Three harmonics."""
    return sum(
        (a * np.sin(2 * np.pi * (k * phase + s)) for k, a, s in ((1, 1.0, 0.0), (2, 0.6, 0.2), (3, 0.4, 0.55))), 0.0
    )


def pulse(phase: Floats) -> Floats:
    """A pulse wave: a steep rise, a fall with a second hump."""
    return 1.5 * bump(phase, 0.2, 0.06) + 0.9 * bump(phase, 0.36, 0.1) + 0.35 * bump(phase, 0.6, 0.07)


def batch(phase: Floats) -> Floats:
    """A batch process: heat up, hold, work at another level, cool down slowly."""
    at = phase % 1.0
    return np.interp(at, [0.0, 0.15, 0.4, 0.45, 0.6, 1.0], [0.0, 1.5, 1.5, 0.9, 0.9, 0.0])


def curve(phase: Floats) -> Floats:
    """A smooth polynomial cycle, flat at the bottom."""
    at = phase % 1.0
    return 40.0 * at**2 * (1.0 - at) ** 3 - 0.5 * bump(phase, 0.85, 0.04)


CHOSEN_ON: dict[str, Shape] = {"sine": sine, "heart": heart, "square": square, "sawtooth": sawtooth}
JUDGED_ON: dict[str, Shape] = {"mix": mix, "pulse": pulse, "batch": batch, "curve": curve}


def other(phase: Floats, g: Rng) -> Callable[[Shape], Floats]:
    """How the cycle looks where its pattern is wrong: bent, reversed, or a part of it missing. Same phase and range."""
    which = int(g.integers(0, 3))

    def made(shape: Shape) -> Floats:
        usual = shape(phase)
        low, high = usual.min(), usual.max()
        if which == 0:
            return low + (high - low) * ((usual - low) / (high - low + 1e-12)) ** (3.0 if g.integers(0, 2) else 1 / 3.0)
        if which == 1:
            return shape(-phase)
        start = g.uniform()
        return np.where((phase - start) % 1.0 < 0.35, np.median(usual), usual)

    return made


def unit(shape: Shape) -> tuple[float, float]:
    """Mean and deviation of a cycle."""
    cycle = shape(np.linspace(0.0, 1.0, 1000, endpoint=False))
    return float(cycle.mean()), float(cycle.std())


def tapered(n: int, share: float = 0.3) -> Floats:
    """(n,) 1 with smooth ends."""
    at = np.minimum(np.arange(n) + 0.5, n - np.arange(n) - 0.5) / max(share * n, 1.0)
    return 0.5 - 0.5 * np.cos(np.pi * np.minimum(at, 1.0))


def places(period: float, kind: str | None, g: Rng, n: int) -> list[tuple[int, int]]:
    """First and last + 1 row of each anomaly."""
    starts = np.sort(g.integers(0, n - FIRST - APART * ANOMALIES, ANOMALIES)) + FIRST + APART * np.arange(ANOMALIES)
    if kind == "extremum":
        return [(int(at), int(at) + 1) for at in starts]
    lengths = np.clip(period * g.uniform(1.0, 5.0, ANOMALIES), 20, APART * 0.75).astype(int)
    return [(int(at), int(at + length)) for at, length in zip(starts, lengths, strict=True)]


def make(name: str, shape: Shape, kind: str | None, seed: int, n: int = LENGTH) -> Signal:
    """A signal with anomalies of a kind, or with none."""
    g = np.random.default_rng([seed, sum(map(ord, name)), KINDS.index(kind) if kind else len(KINDS)])
    period = float(np.exp(g.uniform(*np.log(PERIODS))))
    jitter, noise, drift = g.uniform(0.0, 0.03), 10 ** g.uniform(-2.0, -0.8), g.uniform(0.0, 0.15)
    cycles = int(n / period) + 3
    pace = np.interp(np.arange(n) / period, np.arange(cycles), 1.0 + jitter * g.normal(size=cycles)) / period
    spans = [] if kind is None else places(period, kind, g, n)
    labels = np.zeros(n, bool)
    for first, end in spans:
        labels[first:end] = True
        if kind == "frequency":
            pace[first:end] *= g.choice([0.5, 0.67, 1.5, 2.0, 3.0])
    phase = g.uniform() + np.cumsum(pace)
    mean, deviation = unit(shape)

    def cycle(at: Floats) -> Floats:
        return (shape(at) - mean) / deviation

    shifts = np.zeros(n)
    if kind == "pattern shift":
        for first, end in spans:
            shifts[first:end] = g.choice([-1, 1]) * g.uniform(0.15, 0.4) * tapered(end - first, 0.15)
    amplitude = 1.0 + drift * np.sin(2 * np.pi * (np.arange(n) / g.uniform(1500, 6000) + g.uniform()))
    base = cycle(phase + shifts)
    whole, fresh = base * amplitude, noise * g.normal(size=n)
    low, high = float(np.min(whole)), float(np.max(whole))
    x = np.zeros((n, 0))
    if kind == "correlation":
        load = 0.5 * np.cumsum(g.normal(size=n)) / np.sqrt(period)
        load -= np.convolve(load, np.ones(500) / 500, "same")
        sign = np.where(labels, -1.0, 1.0)
        x = (load + cycle(phase))[:, None]
        y = sign * x[:, 0] * amplitude + fresh
        return Signal(name, kind, y, x, labels, period)
    for first, end in spans:
        rows, count = slice(first, end), end - first
        if kind == "amplitude":
            whole[rows] *= 1.0 + (float(g.choice([0.3, 0.5, 1.6, 2.0])) - 1.0) * tapered(count)
        elif kind == "pattern":
            whole[rows] = other(phase[rows], g)(cycle) * amplitude[rows]
        elif kind == "platform":
            whole[rows] = g.uniform(low, high)
        elif kind == "trend":
            whole[rows] += float(g.choice([-1, 1])) * g.uniform(0.7, 2.0) * np.linspace(0.0, 1.0, count)
        elif kind == "variance":
            fresh[rows] *= g.uniform(3.0, 6.0)
        elif kind == "extremum":
            near = whole[max(first - int(period), 0) : end + int(period)]
            local = (near.max() + 0.3, near.min() - 0.3) if g.integers(0, 2) else (high + 1.0, low - 1.0)
            whole[rows] = local[int(g.integers(0, 2))]
    return Signal(name, kind, whole + fresh, x, labels, period)


def signals(shapes: dict[str, Shape], seeds: int, first: int) -> list[Signal]:
    """Each base shape with each kind of anomaly, so many times."""
    return [
        make(name, shape, kind, first + seed)
        for name, shape in shapes.items()
        for kind in KINDS
        for seed in range(seeds)
    ]
