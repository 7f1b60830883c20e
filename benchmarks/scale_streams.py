"""Fifteen kinds of streams whose errors have a size that depends on time, level, a feature or their own past, or is
constant; and changes in them.

    made(name, change=None, entities=20, count=16_000, seed=22) -> Stream, (entities,) events at which they change

Entities have one event a step, side by side, from a Monday on. A change begins at an event of its own in each entity,
between 8,000 and 11,000. Everything that is stationary is the same with and without a change before it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from alerts_run import Flags, Floats, Integers, Stream

START = 1_772_409_600_000
"""Monday 2026-03-02 00:00 UTC."""
FIRST_CHANGE, LAST_CHANGE = 8_000, 11_000
RAMP = 1_000.0
"""Events in which a ramp rises by one standard deviation of the noise, to two in all."""


class Setting(NamedTuple):
    """n events of each of E entities. hour, weekend (n, 1)

    season (n, E): factor of the season's size; spread (n, E): factor of the noise
    """

    g: np.random.Generator
    hour: Floats
    weekend: Flags
    season: Floats
    spread: Floats

    @property
    def shape(self) -> tuple[int, int]:
        return self.season.shape[0], self.season.shape[1]

    def day(self, peak: Floats | float, second: float = 0.0) -> Floats:
        """A daily season of size 1, its second harmonic of size `second`."""
        angle = 2 * np.pi * (self.hour - peak) / 24
        wave: Floats = np.cos(angle) + second * np.cos(2 * angle + 0.7)
        return wave


class Parts(NamedTuple):
    """y = mean + noise; x (n, E, d). whole: the values are counts"""

    mean: Floats
    noise: Floats
    x: Floats | None = None
    whole: bool = False


def autoregression(g: np.random.Generator, shape: tuple[int, int], phi: float) -> Floats:
    """AR(1) of variance 1."""
    e = g.normal(size=shape)
    e[1:] *= np.sqrt(1 - phi * phi)
    for t in range(1, len(e)):
        e[t] += phi * e[t - 1]
    return e


def garch(g: np.random.Generator, shape: tuple[int, int], a: float, b: float) -> Floats:
    """GARCH(1, 1) of variance 1."""
    out, z, variance = np.empty(shape), g.normal(size=shape), np.ones(shape[1])
    for t in range(len(out)):
        out[t] = np.sqrt(variance) * z[t]
        variance = (1 - a - b) + a * out[t] ** 2 + b * variance
    return out


def counts(level: float, width: float, weekend: float) -> Callable[[Setting], Parts]:
    """Poisson with a day and a week. level, width: of an entity's mean, ± orders of magnitude"""

    def make(s: Setting) -> Parts:
        _, entities = s.shape
        base = level * 10.0 ** s.g.uniform(-width, width, entities)
        peak = s.g.uniform(12, 17, entities)
        mean = base * (1 + s.season * (0.6 * s.day(peak, 0.25))) * np.where(s.weekend, weekend, 1.0)
        y = s.g.poisson(mean).astype(np.float64)
        if (s.spread != 1.0).any():  # negative binomial: variance spread² · mean
            factor = np.maximum(s.spread, 1.0 + 1e-9) ** 2
            y = np.where(s.spread > 1.0, s.g.poisson(s.g.gamma(mean / (factor - 1.0)) * (factor - 1.0)), y)
        return Parts(mean, y - mean, whole=True)

    return make


def zeros(s: Setting) -> Parts:
    """Counts that are 0 in most events; more spread: larger and more seldom, the mean is kept."""
    _, entities = s.shape
    level = 15.0 * 10.0 ** s.g.uniform(-0.2, 0.2, entities)
    share = s.g.uniform(0.2, 0.35, entities)
    mean = level * (1 + 0.5 * s.season * s.day(s.g.uniform(8, 20, entities))) * np.where(s.weekend, 0.7, 1.0)
    some = s.g.uniform(size=s.shape) < share / s.spread
    y = some * s.g.poisson(mean * s.spread)
    return Parts(mean * share, y - mean * share, whole=True)


def lognormal(s: Setting) -> Parts:
    _, entities = s.shape
    mean = 10.0 ** s.g.uniform(-1, 2, entities) * (1 + 0.6 * s.season * s.day(s.g.uniform(6, 20, entities)))
    return Parts(mean, mean * (np.exp(0.3 * s.g.normal(size=s.shape) - 0.045) - 1) * s.spread)


def seasonal_variance(s: Setting) -> Parts:
    _, entities = s.shape
    size = 1 + 0.6 * s.day(s.g.uniform(0, 24, entities), 0.2)
    noise = autoregression(s.g, s.shape, 0.55) * np.maximum(size, 0.15)
    return Parts(20 + 6 * s.season * s.day(4.0), 1.5 * noise * s.spread)


def by_feature(constant: bool) -> Callable[[Setting], Parts]:
    """A target of three features; its noise grows with the first of them, unless it is constant."""

    def make(s: Setting) -> Parts:
        load = autoregression(s.g, s.shape, 0.95)
        x = np.stack([load, s.g.normal(size=s.shape), autoregression(s.g, s.shape, 0.8)], 2).round(4)
        size = np.ones(s.shape) if constant else np.exp(0.55 * load)
        slope = 2.0 + 0.6 * (1.0 - s.season) / 0.7  # a coefficient changes where a season would
        mean = 4 + slope * load - 0.7 * x[:, :, 1] + 0.4 * x[:, :, 2]
        return Parts(mean, 0.4 * size * s.g.normal(size=s.shape) * s.spread, x)

    return make


def clusters(s: Setting) -> Parts:
    return Parts(30 + 8 * s.season * s.day(11.0), 2.0 * garch(s.g, s.shape, 0.15, 0.8) * s.spread)


def calm_nights(s: Setting) -> Parts:
    _, entities = s.shape
    busy = (s.hour >= 7) & (s.hour < s.g.uniform(17, 20, entities)) & ~s.weekend
    return Parts(12 + 5 * s.season * busy, 0.8 * np.where(busy, 1.0, 0.03) * s.g.normal(size=s.shape) * s.spread)


def constant(noise: Callable[[Setting], Floats]) -> Callable[[Setting], Parts]:
    return lambda s: Parts(80 + 15 * s.season * s.day(15.0, 0.3), 2.5 * noise(s) * s.spread)


class Kind(NamedTuple):
    """minutes: between an entity's events; day: hours matter; varying: the errors' size is not constant"""

    minutes: int
    make: Callable[[Setting], Parts]
    day: bool = True
    varying: bool = True
    features: int = 0
    plain: bool = False


KINDS: dict[str, Kind] = {
    "counts, small": Kind(10, counts(4.0, 0.3, 0.6)),
    "counts, medium": Kind(15, counts(45.0, 0.3, 0.4)),
    "counts, large": Kind(5, counts(900.0, 0.3, 0.7)),
    "counts, wide range": Kind(10, counts(100.0, 1.5, 1.0)),
    "lognormal": Kind(30, lognormal),
    "AR, seasonal variance": Kind(2, seasonal_variance),
    "variance by a feature": Kind(10, by_feature(False), day=False, features=3),
    "variance by a feature, plain": Kind(1, by_feature(False), day=False, features=3, plain=True),
    "GARCH": Kind(10, clusters, day=False),
    "many zeros": Kind(15, zeros),
    "calm nights": Kind(10, calm_nights),
    "constant, normal": Kind(5, constant(lambda s: s.g.normal(size=s.shape)), varying=False),
    "constant, t3": Kind(10, constant(lambda s: s.g.standard_t(3, size=s.shape) / 3**0.5), varying=False),
    "constant, AR": Kind(15, constant(lambda s: autoregression(s.g, s.shape, 0.8)), varying=False),
    "constant, features": Kind(1, by_feature(True), day=False, varying=False, features=3, plain=True),
}
"""`plain`: without lags and calendar."""
CHANGES = ("step", "scale x2", "scale x1.4", "season or coefficient", "ramp")


def made(
    name: str, change: str | None = None, entities: int = 20, count: int = 16_000, seed: int = 22
) -> tuple[Stream, Integers]:
    kind = KINDS[name]
    g = np.random.default_rng([seed, zlib.crc32(name.encode())])
    at = g.integers(FIRST_CHANGE, LAST_CHANGE, entities)
    t = np.arange(count)
    minute = t * kind.minutes
    since = np.maximum(t[:, None] - at, 0).astype(np.float64)
    new = t[:, None] >= at
    one = np.ones((count, entities))
    spread = np.where(new, float(change.split("x")[1]), 1.0) if change and change.startswith("scale") else one
    season = np.where(new, 0.3, 1.0) if change == "season or coefficient" else one
    hour, weekend = (minute / 60 % 24)[:, None], (minute // 1440 % 7 >= 5)[:, None]
    mean, noise, x, whole = kind.make(Setting(g, hour, weekend, season, spread))
    size = np.std(noise[:FIRST_CHANGE], axis=0)
    if change == "step":
        noise = noise + size * new
    elif change == "ramp":
        noise = noise + size * np.minimum(since / RAMP, 2.0)
    y = mean + noise
    stream = Stream(
        name,
        [f"e{i}" for i in range(entities)],
        np.tile(np.arange(entities), count),
        np.repeat(START + minute * 60_000, entities),
        np.zeros((count * entities, 0)) if x is None else x.reshape(count * entities, -1),
        (np.round(y) if whole else y).ravel(),
        [f"x{j}" for j in range(kind.features)],
        {"lags": 0, "calendar": []} if kind.plain else {},
    )
    return stream, at
