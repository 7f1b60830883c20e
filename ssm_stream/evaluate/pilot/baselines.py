"""Simpler predictors on the same events: each sees what was known when the engine predicted, and no more."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config import Config
from ssm_stream.core.features import FeaturePlan, calendar_columns
from ssm_stream.evaluate.engine_run import EngineRun, Floats, Ints
from ssm_stream.evaluate.pilot.split import Split, known_targets

DAY_MS = 86_400_000
SEASONS = {"day": DAY_MS, "week": 7 * DAY_MS}
RIDGE = 1e-6
"""Share of the events that is added to the diagonal, so that constant and equal columns have a solution."""
MAX_CODES = 16
"""Values of a category that get an input of their own in the least squares."""
BASELINES = ("persistence", "seasonal", "mean", "least_squares")


@dataclass
class Baselines:
    """Predictions of the simpler predictors."""

    yhat: dict[str, Floats]
    """(n,) by name, NaN if there is no prediction."""
    seasons: dict[str, int]
    """How many entities each season was chosen for."""
    nights: int
    """Days on which a model was retrained."""
    trainings: int
    """Of single models."""


def baselines(config: Config, run: EngineRun, split: Split) -> Baselines:
    """Return persistence, seasonal naive, running mean, and least squares retrained nightly."""
    out = {name: np.full(len(run), np.nan) for name in BASELINES}
    seasons = {"day": 0, "week": 0, "none": 0}
    nights: set[int] = set()
    trainings = 0
    for e, rows in enumerate(split.rows):
        if split.first[e] >= len(run):
            continue
        y, known = run.y[rows], known_targets(run, rows)
        some = known > 0
        last = np.full(len(rows), np.nan)
        last[some] = y[known[some] - 1]
        sums = np.concatenate([[0.0], np.cumsum(y)])
        mean = np.full(len(rows), np.nan)
        mean[some] = sums[known[some]] / known[some]
        out["persistence"][rows], out["mean"][rows] = last, mean
        begin = int(np.searchsorted(rows, split.first[e]))
        season, naive = _seasonal(run.ts[rows], y, known, last, begin)
        seasons[season] += 1
        out["seasonal"][rows] = naive
        fitted, days = _least_squares(config, run, rows, known, begin)
        out["least_squares"][rows] = fitted
        trainings += len(days)
        nights.update(days[1:])  # the first training is not a retraining
    return Baselines(out, seasons, len(nights), trainings)


def _seasonal(ts: Ints, y: Floats, known: Ints, last: Floats, begin: int) -> tuple[str, Floats]:
    """Return the season with the smaller error in the first part, and its predictions: else the last value."""
    times = np.maximum.accumulate(ts)
    steps = np.diff(times)
    near = float(np.median(steps[steps > 0])) if (steps > 0).any() else 0.0
    best, chosen, predictions = math.inf, "none", last
    for name, length in SEASONS.items():
        if not near or times[begin - 1] - times[0] < 1.5 * length or near > length / 2:
            continue
        naive = last.copy()
        found = np.zeros(len(y), np.bool_)
        for times_back in range(1, 9):
            target = times - times_back * length
            at = np.searchsorted(times, target + near / 2, side="right") - 1
            hit = ~found & (at >= 0) & (at < known) & (np.abs(times[np.maximum(at, 0)] - target) <= max(near, 1.0))
            naive[hit] = y[at[hit]]
            found |= hit
        error = np.nanmean(np.abs(y[:begin] - naive[:begin])[found[:begin]]) if found[:begin].any() else math.inf
        if error < best:
            best, chosen, predictions = float(error), name, naive
    return chosen, predictions


def _least_squares(config: Config, run: EngineRun, rows: Ints, known: Ints, begin: int) -> tuple[Floats, list[int]]:
    """Return predictions of an entity's rows, NaN before `begin`, and the days on which the model was trained.

    At each local midnight all pairs that are known by then are fitted anew, the first time at `begin`.
    """
    X = _inputs(config, run, rows, known, begin)
    y, p = run.y[rows], X.shape[1]
    out, days = np.full(len(rows), np.nan), list[int]()
    made = np.maximum.accumulate(np.where(run.origin[rows] >= 0, run.ts[run.origin[rows]], 0))
    day = (made + _offset(config, made)) // DAY_MS
    starts = [begin, *(np.flatnonzero(np.diff(day[begin:]) > 0) + begin + 1).tolist(), len(rows)]
    gram, moment, done = np.zeros((p, p)), np.zeros(p), 0
    for left, right in itertools.pairwise(starts):
        upto = int(known[left])
        if upto > done:
            fresh, target = X[done:upto], y[done:upto]
            usable = known[done:upto] > 0
            fresh, target = fresh[usable], target[usable]
            gram += fresh.T @ fresh
            moment += fresh.T @ target
            done = upto
        weights = np.linalg.lstsq(gram + RIDGE * max(done, 1) * np.eye(p), moment, rcond=None)[0]
        seen = y[:upto]
        # No plant would act on a prediction beyond all values so far.
        out[left:right] = np.clip(X[left:right] @ weights, seen.min(), seen.max()) if upto else np.nan
        days.append(int(day[left]))
    return out, days


def _offset(config: Config, ms: Ints) -> Ints:
    """Return the offset of local time at each time, ms."""
    if config.event.time_zone == "UTC" or not len(ms):
        return np.zeros(len(ms), np.int64)
    zone = ZoneInfo(config.event.time_zone)
    hours, place = np.unique(ms // 3_600_000, return_inverse=True)
    found = [datetime.fromtimestamp(3600 * hour, zone).utcoffset() for hour in hours.tolist()]
    seconds = np.array([0 if each is None else int(each.total_seconds()) for each in found])
    offsets: Ints = 1000 * seconds[place]
    return offsets


def _inputs(config: Config, run: EngineRun, rows: Ints, known: Ints, begin: int) -> Floats:
    """Return (m, p): one, the features at the prediction, past targets, hour and weekday; scaled by the first part."""
    event, origin = config.event, np.where(run.origin[rows] >= 0, run.origin[rows], rows)
    numbers = len(event.numbers)
    columns: list[NDArray[np.float64]] = [run.features[origin][:, :numbers]]
    for j in range(numbers, run.features.shape[1]):
        codes = run.features[origin, j]
        values, counts = np.unique(codes[:begin][np.isfinite(codes[:begin])], return_counts=True)
        common = values[np.argsort(-counts, kind="stable")[:MAX_CODES]]
        columns.append((codes[:, None] == common[None, :]).astype(np.float64))
    y = run.y[rows]
    past = np.full((len(rows), event.lags), np.nan)
    for lag in range(event.lags):
        at = known - 1 - lag
        past[at >= 0, lag] = y[at[at >= 0]]
    columns.append(past)
    if event.calendar:
        plan = FeaturePlan((), calendar=("hour_cycle", "weekday_cycle"), time_zone=event.time_zone)
        columns.append(calendar_columns(plan, run.ts[rows])[0])
    X = np.hstack(columns)
    with np.errstate(invalid="ignore", over="ignore"):
        centre = np.array([np.nanmean(c) if np.isfinite(c).any() else 0.0 for c in X[:begin].T])
        spread = np.array([np.nanstd(c) if np.isfinite(c).any() else 0.0 for c in X[:begin].T])
        X = (X - centre) / np.where(spread > 0, spread, 1.0)
    return np.hstack([np.ones((len(rows), 1)), np.nan_to_num(X, nan=0.0, posinf=0.0, neginf=0.0)])
