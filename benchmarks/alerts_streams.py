"""Streams with and without a change, and the product's detectors over them.

Errors of a model are drawn as such (normal, Student's t with 3 degrees of freedom, AR(1) with 0.7, all of variance 1),
or made by the product's own engine from a target with seasons, or from Friedman's function whose parts change.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config import Config
from ssm_stream.core import detect, error_scale, interval
from ssm_stream.engine.engine import Engine
from ssm_stream.ingest.events import Events

Array = NDArray[np.float64]
CHANGE, AFTER = 4000, 3000
"""Events before a change and after it."""
STEP_MS = 300_000
PART = 1_000_000


def normal(g: np.random.Generator, n: int) -> Array:
    return g.normal(size=n)


def heavy(g: np.random.Generator, n: int) -> Array:
    return g.standard_t(3, size=n) / math.sqrt(3)


def correlated(g: np.random.Generator, n: int, phi: float = 0.7) -> Array:
    out = g.normal(size=n) * math.sqrt(1 - phi * phi)
    autoregress(out, phi)
    return out


def autoregress(x: Array, phi: float) -> None:
    """White noise to AR(1), in place."""
    x[:] = list(itertools.accumulate(x.tolist(), lambda before, noise: noise + phi * before))


NOISE: dict[str, Callable[[np.random.Generator, int], Array]] = {"normal": normal, "t3": heavy, "ar": correlated}


def seasonal(n: int, seed: int) -> Array:
    """The product's errors on a target with a daily and a weekly season, a value in five minutes."""
    g = np.random.default_rng(seed)
    engine = Engine(configuration([]))
    parts = []
    for first in range(0, n, 100_000):
        count = min(100_000, n - first)
        t = np.arange(first, first + count)
        day, week = 2 * np.pi * t / 288, 2 * np.pi * t / 2016
        y = 50 + 10 * np.sin(day) + 3 * np.sin(2 * day) + 5 * np.sin(week) + g.normal(size=count)
        parts.append(y - _answers(engine, t, np.empty((count, 0)), y))
    return np.concatenate(parts)


def episodes(noise: str, n: int, budget: float, seed: int) -> dict[str, int]:
    """Episodes that the whole engine starts, by kind, where nothing happens: a target and three features of noise."""
    g = np.random.default_rng(seed)
    engine = Engine(configuration(["a", "b", "c"], alerts_budget=budget))
    x, y = np.stack([NOISE[noise](g, n) for _ in range(3)], 1), NOISE[noise](g, n)
    counts = {"anomaly": 0, "drift": 0}
    for first in range(0, n, 100_000):
        part = slice(first, min(first + 100_000, n))
        t = np.arange(part.start, part.stop)
        events = Events(["stream"] * len(t), t * STEP_MS, x[part], y[part], np.arange(len(t)))
        for alert in engine.process(events)[1]:
            counts[alert.message["kind"]] += alert.message["phase"] == "started"
    return counts


def configuration(features: list[str], alerts_budget: float = 1e4, **event: Any) -> Config:
    return Config.model_validate(
        {
            "source": {"brokers": "localhost:9092", "topic": "benchmark"},
            "event": {"entity": "entity", "timestamp": "ts", "features": features, **event},
            "alerts": {kind: {"budget": f"1 per {alerts_budget:.0f} events"} for kind in ("anomaly", "drift")},
        }
    )


def _answers(engine: Engine, t: NDArray[np.int64], features: Array, y: Array) -> Array:
    events = Events(["stream"] * len(y), t * STEP_MS, features, y, np.arange(len(y)))
    return engine.process(events)[0].yhat


def coefficients(g: np.random.Generator, decay: float) -> Array:
    """Errors of recursive least squares on five inputs; all five weights are drawn anew at the change."""
    d, n = 5, CHANGE + AFTER
    X, before, after = g.normal(size=(n, d)), g.normal(size=d), g.normal(size=d)
    S, P, out = np.eye(d), np.zeros(d), np.empty(n)
    for t in range(n):
        y = X[t] @ (before if t < CHANGE else after) + 0.5 * g.normal()
        out[t] = y - X[t] @ np.linalg.solve(S, P)
        S = decay * S + np.outer(X[t], X[t]) + (1 - decay) * 0.1 * np.eye(d)
        P = decay * P + y * X[t]
    return out


def friedman(g: np.random.Generator, kind: str) -> Array:
    """The product's errors on Friedman's function; the change is global and abrupt (GRA), gradual over 1,000 events
    (GSG, from the first function to the second more and more often), or local and abrupt (LEA, where x1 > 0.5)."""
    n = CHANGE + AFTER
    x = g.uniform(size=(n, 10))

    def f(a: int, b: int, c: int, d: int, e: int) -> Array:
        return 10 * np.sin(np.pi * x[:, a] * x[:, b]) + 20 * (x[:, c] - 0.5) ** 2 + 10 * x[:, d] + 5 * x[:, e]

    t = np.arange(n)
    new = {
        "GRA": t >= CHANGE,
        "GSG": g.uniform(size=n) < (t - CHANGE) / 1000,
        "LEA": (t >= CHANGE) & (x[:, 0] > 0.5),
    }[kind]
    y = np.where(new, f(3, 5, 4, 1, 0), f(0, 1, 2, 3, 4)) + g.normal(size=n)
    engine = Engine(configuration([f"x{j}" for j in range(10)], lags=0, calendar=[]))
    return y - _answers(engine, t, x, y)


def _changed(change: Callable[[Array, NDArray[np.bool_], Array], Array], noise: str) -> Callable[..., Array]:
    def make(g: np.random.Generator) -> Array:
        t = np.arange(CHANGE + AFTER)
        return change(NOISE[noise](g, len(t)), t >= CHANGE, np.maximum(t - CHANGE, 0) / 1000)

    return make


CHANGES: dict[str, tuple[str, Callable[[np.random.Generator], Array]]] = {
    "mean +0.5": ("normal", _changed(lambda e, new, _: e + 0.5 * new, "normal")),
    "mean +1": ("normal", _changed(lambda e, new, _: e + new, "normal")),
    "ramp 0 to 2 in 2,000": ("normal", _changed(lambda e, _, since: e + np.minimum(since, 2), "normal")),
    "scale x1.5": ("normal", _changed(lambda e, new, _: e * np.where(new, 1.5, 1), "normal")),
    "scale x0.6": ("normal", _changed(lambda e, new, _: e * np.where(new, 0.6, 1), "normal")),
    "AR mean +1": ("ar", _changed(lambda e, new, _: e + new, "ar")),
    "AR scale x2": ("ar", _changed(lambda e, new, _: e * np.where(new, 2, 1), "ar")),
    "t3 mean +0.5": ("t3", _changed(lambda e, new, _: e + 0.5 * new, "t3")),
    "t3 scale x1.5": ("t3", _changed(lambda e, new, _: e * np.where(new, 1.5, 1), "t3")),
    "coefficients, decay 0.99": ("normal", lambda g: coefficients(g, 0.99)),
    "coefficients, decay 0.95": ("normal", lambda g: coefficients(g, 0.95)),
}
"""The table's changes: the noise that they come in, and a stream."""
FRIEDMAN: dict[str, Callable[[np.random.Generator], Array]] = {
    f"FriedmanDrift {kind}": lambda g, kind=kind: friedman(g, kind)  # type: ignore[misc]
    for kind in ("LEA", "GRA", "GSG")
}


def streams(reps: int, seed: int = 5) -> Iterator[tuple[str, str, list[Array]]]:
    """(name, noise, streams) of every change."""
    for at, (name, (noise, make)) in enumerate(CHANGES.items()):
        count = max(reps // 5, 5) if name.startswith("coef") else reps
        yield name, noise, [make(np.random.default_rng([seed, at, r])) for r in range(count)]
    for at, (name, made) in enumerate(FRIEDMAN.items()):
        yield name, "normal", [made(np.random.default_rng([seed, 100 + at, r])) for r in range(max(reps // 10, 5))]


def anomaly_alarms(errors: Any, budget: float, level: float, first: int, rest: int, alarm: Any, state: Any) -> int:
    """Alarms after `first` errors, each followed by so many events of rest; returns how many errors were covered."""
    covered, quiet = 0, 0
    for t in range(len(errors)):
        size = abs(errors[t])
        quiet -= 1
        alarm[t] = quiet < 0 and t >= first and size > interval.anomaly_bound(state, 0, 1.0 / budget)
        if alarm[t]:
            quiet = rest
        covered += size <= interval.half_width(state, 0)
        interval.observe(state, 0, t, size, level, 1.0 / budget)
    return covered


def drift(errors: Array, budget: float) -> NDArray[np.bool_]:
    """Where the drift detector alarms, (n,): an error in five minutes, each over its scale."""
    minutes = 5 * np.arange(len(errors))
    over = error_scale.observe_all(errors, np.stack([minutes // 60 % 24, minutes // 1440 % 7], 1))
    evidence = detect.observe_all(detect.new_detector_state(1), 0, over, budget, False)
    alarm: NDArray[np.bool_] = evidence >= 1.0
    return alarm


def anomaly(errors: Array, budget: float, rest: int = 60, level: float = 0.9) -> tuple[NDArray[np.bool_], float]:
    """Where the residual channel alarms, (n,), and the coverage of the interval of that level."""
    alarm = np.zeros(len(errors), np.bool_)
    covered = anomaly_alarms(errors, budget, level, 100, rest, alarm, interval.new_interval_state(1))
    return alarm, covered / len(errors)


def _ewma(errors: Any, limit: float, alarm: Any) -> None:
    seen, mean, square, z = 0, 0.0, 0.0, 0.0
    for t, error in enumerate(errors.tolist()):
        alarm[t] = False
        if seen < EWMA_FIRST:
            seen += 1
            mean += (error - mean) / seen
            square += (error * error - square) / seen
            z = 0.0
            continue
        spread = math.sqrt(max(square - mean * mean, 1e-12))
        z += EWMA_RATE * ((error - mean) / spread - z)
        if abs(z) > limit * math.sqrt(EWMA_RATE / (2.0 - EWMA_RATE)):
            alarm[t], seen, mean, square = True, 0, 0.0, 0.0


EWMA_RATE, EWMA_FIRST = 0.05, 500
EWMA_LIMITS = (3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 7.0, 8.0, 10.0, 14.0, 20.0)
"""The first is the usual one."""


def ewma(errors: Array, limit: float) -> NDArray[np.bool_]:
    """Where an EWMA chart (Roberts 1959) alarms, (n,); its reference is 500 errors, new ones after an alarm."""
    alarm = np.zeros(len(errors), np.bool_)
    _ewma(errors, limit, alarm)
    return alarm


def quiet_limit(noise: str, absolute: bool, budget: float) -> float | None:
    """The lowest limit of an EWMA chart that keeps the budget on 200,000 errors without a change."""
    errors = NOISE[noise](np.random.default_rng([7, list(NOISE).index(noise)]), 200_000)
    signal = np.abs(errors) if absolute else errors
    return next((limit for limit in EWMA_LIMITS if ewma(signal, limit).mean() <= 1.0 / budget), None)


def _widths(errors: Any, state: Any) -> float:
    total = 0.0
    for t in range(len(errors)):
        if t >= 1000:
            total += 2.0 * interval.half_width(state, 0)
        interval.observe(state, 0, t, abs(errors[t]), 0.9, 1e-4)
    return total / (len(errors) - 1000)


def mean_width(errors: Array) -> float:
    """Mean width of the 90 % interval, from the thousandth error on."""
    return float(_widths(errors, interval.new_interval_state(1)))


def _ramp_alarms(n: int, threshold: float, change: int, seed: int) -> tuple[int, int]:
    """(alarms, events from `change` to the first after it) of the likelihood ratio of the ramp, over 900 starts."""
    g = np.random.default_rng(seed)
    means = np.arange(900) / 1000.0
    ratio, alarms = np.zeros(900), 0  # by age of the start
    for t in range(n):
        z = g.normal() + min(max(t - change, 0) / 1000.0, 2.0)
        ratio[1:] = ratio[:-1].copy()
        ratio[0] = 1.0
        ratio *= np.exp(means * z - 0.5 * means * means)
        if ratio.sum() >= threshold:
            if t >= change:
                return alarms, t - change
            alarms += 1
            ratio[:] = 0.0
    return alarms, n - change


def ramp_bound(budget: float = 1e4, runs: int = 200) -> float:
    """Median delay of a detector that is told the ramp's sign, slope and shape, and looks for nothing else.

    A Shiryaev–Roberts statistic of the ramp itself, over all starts: none with as few false alarms is much sooner.
    """
    n, low, high = 1_500_000, math.log(0.3 * budget), math.log(1.2 * budget)
    for _ in range(6):
        middle = 0.5 * (low + high)
        alarms, _ = _ramp_alarms(n, math.exp(middle), n, 3)
        low, high = (middle, high) if alarms > n / budget else (low, middle)
    return float(np.median([_ramp_alarms(CHANGE + AFTER, math.exp(high), CHANGE, 100 + r)[1] for r in range(runs)]))
