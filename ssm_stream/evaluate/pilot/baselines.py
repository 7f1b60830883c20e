"""What simpler predictors say of the same events: each sees what was known when the engine predicted, and no more."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config import Config
from ssm_stream.evaluate.pilot.run import Flags, Floats, Ints, Tape
from ssm_stream.kernels.features import FeaturePlan, calendar_columns

DAY_MS = 86_400_000
SEASONS = {"day": DAY_MS, "week": 7 * DAY_MS}
RIDGE = 1e-6
"""Share of the events that is added to the diagonal, so that constant and equal columns have an answer."""
MOST_CODES = 16
"""Values of a category that get an input of their own in the least squares."""
BASELINES = ("persistence", "seasonal", "mean", "least_squares")


@dataclass
class Split:
    """Which rows only teach, and which are judged.

    first (E,): the tape's row from which an entity is judged, the tape's length where it never is
    learned (E,): rows of the entity before that; judged (n,): rows with a target that count
    rows: of each entity, those with a target, in order
    """

    first: Ints
    learned: Ints
    judged: Flags
    rows: list[Ints]


def split(tape: Tape, share: float, warmup: int) -> Split:
    """Each entity's first `share` of rows teaches, and at least what it warms up in; the rest is judged."""
    E, n = len(tape.names), len(tape)
    order = np.argsort(tape.entity, kind="stable")
    edges = np.searchsorted(tape.entity[order], np.arange(E + 1))
    first, learned, rows = np.full(E, n), np.zeros(E, np.int64), []
    judged = np.zeros(n, np.bool_)
    for e in range(E):
        mine = order[edges[e] : edges[e + 1]]
        labelled = mine[np.isfinite(tape.y[mine])]
        rows.append(labelled)
        need = max(math.ceil(share * len(mine)), 1)
        at = int(mine[need]) if need < len(mine) else n
        if len(labelled) > warmup:
            at = max(at, int(labelled[warmup]))
            # A horizon's first predictions come later than its first targets.
            young = labelled[tape.warmup[labelled] | ~np.isfinite(tape.yhat[labelled])]
            if len(young):
                at = max(at, int(young[young < at][-1]) + 1 if (young < at).any() else at)
        else:
            at = n
        first[e], learned[e] = at, int(np.searchsorted(mine, at)) if at < n else len(mine)
        judged[labelled[labelled >= at]] = True
    judged &= np.isfinite(tape.yhat)
    return Split(first, learned, judged, rows)


def known_before(tape: Tape, rows: Ints) -> Ints:
    """Of an entity's rows with a target: how many targets were known when each was predicted; −1 where none was."""
    if not tape.ahead:
        return np.arange(len(rows))
    origin = tape.origin[rows]
    return np.where(origin >= 0, np.searchsorted(rows, origin, side="right"), -1)


@dataclass
class Baselines:
    """Predictions (n,) by name, NaN where there is none.

    seasons: how many entities each season was chosen for; nights: days on which something was retrained
    trainings: of single models
    """

    yhat: dict[str, Floats]
    seasons: dict[str, int]
    nights: int
    trainings: int


def baselines(config: Config, tape: Tape, parts: Split) -> Baselines:
    """Persistence, seasonal naive, running mean, and least squares retrained nightly."""
    out = {name: np.full(len(tape), np.nan) for name in BASELINES}
    seasons = {"day": 0, "week": 0, "none": 0}
    nights: set[int] = set()
    trainings = 0
    for e, rows in enumerate(parts.rows):
        if parts.first[e] >= len(tape):
            continue
        y, known = tape.y[rows], known_before(tape, rows)
        some = known > 0
        last = np.full(len(rows), np.nan)
        last[some] = y[known[some] - 1]
        sums = np.concatenate([[0.0], np.cumsum(y)])
        mean = np.full(len(rows), np.nan)
        mean[some] = sums[known[some]] / known[some]
        out["persistence"][rows], out["mean"][rows] = last, mean
        begin = int(np.searchsorted(rows, parts.first[e]))
        season, naive = _seasonal(tape.ts[rows], y, known, last, begin)
        seasons[season] += 1
        out["seasonal"][rows] = naive
        fitted, days = _least_squares(config, tape, rows, known, begin)
        out["least_squares"][rows] = fitted
        trainings += len(days)
        nights.update(days[1:])  # the first training is not a retraining
    return Baselines(out, seasons, len(nights), trainings)


def _seasonal(ts: Ints, y: Floats, known: Ints, last: Floats, begin: int) -> tuple[str, Floats]:
    """The season that did better in the first part, and its answers: the last value where there is none."""
    times = np.maximum.accumulate(ts)
    steps = np.diff(times)
    near = float(np.median(steps[steps > 0])) if (steps > 0).any() else 0.0
    best, chosen, answers = math.inf, "none", last
    for name, length in SEASONS.items():
        if not near or times[begin - 1] - times[0] < 1.5 * length or near > length / 2:
            continue
        naive = last.copy()
        found = np.zeros(len(y), np.bool_)
        for times_back in range(1, 9):
            wanted = times - times_back * length
            at = np.searchsorted(times, wanted + near / 2, side="right") - 1
            hit = ~found & (at >= 0) & (at < known) & (np.abs(times[np.maximum(at, 0)] - wanted) <= max(near, 1.0))
            naive[hit] = y[at[hit]]
            found |= hit
        error = np.nanmean(np.abs(y[:begin] - naive[:begin])[found[:begin]]) if found[:begin].any() else math.inf
        if error < best:
            best, chosen, answers = float(error), name, naive
    return chosen, answers


def _least_squares(config: Config, tape: Tape, rows: Ints, known: Ints, begin: int) -> tuple[Floats, list[int]]:
    """Predictions of an entity's rows, and the days on which it was trained; NaN before `begin`.

    At each local midnight all pairs that are known by then are fitted anew, the first time at `begin`.
    """
    X = _inputs(config, tape, rows, known, begin)
    y, p = tape.y[rows], X.shape[1]
    out, days = np.full(len(rows), np.nan), list[int]()
    made = np.maximum.accumulate(np.where(tape.origin[rows] >= 0, tape.ts[tape.origin[rows]], 0))
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
        # No plant would act on an answer beyond all that it has seen.
        out[left:right] = np.clip(X[left:right] @ weights, seen.min(), seen.max()) if upto else np.nan
        days.append(int(day[left]))
    return out, days


def _offset(config: Config, ms: Ints) -> Ints:
    """Of local time, ms; one for all where the zone is UTC."""
    if config.event.time_zone == "UTC" or not len(ms):
        return np.zeros(len(ms), np.int64)
    zone = ZoneInfo(config.event.time_zone)
    hours, place = np.unique(ms // 3_600_000, return_inverse=True)
    found = [datetime.fromtimestamp(3600 * hour, zone).utcoffset() for hour in hours.tolist()]
    seconds = np.array([0 if each is None else int(each.total_seconds()) for each in found])
    offsets: Ints = 1000 * seconds[place]
    return offsets


def _inputs(config: Config, tape: Tape, rows: Ints, known: Ints, begin: int) -> Floats:
    """(m, p): one, the features when it was predicted, past targets, hour and weekday; scaled by the first part."""
    event, origin = config.event, np.where(tape.origin[rows] >= 0, tape.origin[rows], rows)
    numbers = len(event.numbers)
    columns: list[NDArray[np.float64]] = [tape.features[origin][:, :numbers]]
    for j in range(numbers, tape.features.shape[1]):
        codes = tape.features[origin, j]
        values, counts = np.unique(codes[:begin][np.isfinite(codes[:begin])], return_counts=True)
        common = values[np.argsort(-counts, kind="stable")[:MOST_CODES]]
        columns.append((codes[:, None] == common[None, :]).astype(np.float64))
    y = tape.y[rows]
    past = np.full((len(rows), event.lags), np.nan)
    for lag in range(event.lags):
        at = known - 1 - lag
        past[at >= 0, lag] = y[at[at >= 0]]
    columns.append(past)
    if event.calendar:
        plan = FeaturePlan((), calendar=("hour_cycle", "weekday_cycle"), time_zone=event.time_zone)
        columns.append(calendar_columns(plan, tape.ts[rows])[0])
    X = np.hstack(columns)
    with np.errstate(invalid="ignore", over="ignore"):
        centre = np.array([np.nanmean(c) if np.isfinite(c).any() else 0.0 for c in X[:begin].T])
        spread = np.array([np.nanstd(c) if np.isfinite(c).any() else 0.0 for c in X[:begin].T])
        X = (X - centre) / np.where(spread > 0, spread, 1.0)
    return np.hstack([np.ones((len(rows), 1)), np.nan_to_num(X, nan=0.0, posinf=0.0, neginf=0.0)])
