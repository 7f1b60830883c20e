"""The learners that adaptation.py compares with, each causal: an event is predicted before its target is known.

As a script this is the worker: `python adaptation_peers.py JOB` predicts one stream by one group of learners and writes
the predictions; it needs numpy, and LightGBM or River for those groups. Everybody has the same inputs (`table`). Where
a choice is left (trees or linear trees, the target or its change, one model an entity or one for all, the rate of
forgetting), all of it is run: the choice is made in hindsight, in the learner's favour.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from accuracy_peers import FAILURES, LEARNERS, learners, past_targets
from numpy.typing import NDArray

Array = NDArray[np.float64]
Fit = Callable[[Array, Array], Callable[[Array], Array]]

DAY = 86_400.0
WINDOW, EVERY = 500, 50
"""Events that the sliding window holds, and after how many it is trained again."""
RATES = (0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.995, 0.998, 1.0)
"""Forgetting of the least squares, an event."""
RIDGE = 1e-2
"""Of the least squares, on standardised inputs: keeps directions without evidence finite."""
GROUPS = ("frozen", "nightly", "sliding", "least squares", "River")
BOOSTED = ("trees", "linear trees")
KINDS = (*BOOSTED, "ridge")


def table(data: dict[str, Any]) -> tuple[Array, list[int], dict[str, Array]]:
    """What every learner is given: inputs (n, d), which of them are categories, and bases (n,) by name.

    The columns; in a fleet the entity, as a category; where the product has past targets and the calendar, the last
    eight targets, hour and weekday as well, and the choice of predicting the target's change.
    """
    x, y, entity = data["x"], data["y"], data["entity"]
    parts, codes, bases = [x], [int(i) for i in data["codes"]], {"target": np.zeros(len(y))}
    if entity.max() > 0:
        codes.append(sum(part.shape[1] for part in parts))
        parts.append(entity[:, None].astype(np.float64))
    if data["past"]:
        lags, last = past_targets(y, entity)
        ts = data["ts"]
        parts += [lags, (ts % DAY // 3600.0)[:, None], (ts // DAY % 7)[:, None]]
        bases["change"] = last
    return np.hstack(parts), codes, bases


def one_hot(x: Array, codes: list[int]) -> Array:
    """Categories as a column a value."""
    numbers = np.delete(x, codes, axis=1)
    return np.hstack([numbers, *((x[:, [i]] == np.unique(x[:, i])).astype(np.float64) for i in codes)])


def predictions(
    fit: Fit, x: Array, y: Array, retrained: list[int], window: int | None = None
) -> tuple[Array, list[float]]:
    """Predictions (n,) from the first training on, each by the model of the last training before it; CPU s of each."""
    out, cost = np.full(len(y), np.nan), []
    for at, until in zip(retrained, [*retrained[1:], len(y)], strict=True):
        first = 0 if window is None else max(at - window, 0)
        begin = time.process_time()
        out[at:until] = fit(x[first:at], y[first:at])(x[at:until])
        cost.append(time.process_time() - begin)
    return out, cost


def boosted(kind: str, codes: list[int]) -> Fit:
    """LightGBM with its defaults on one core; `linear trees` have a linear model in each leaf."""
    import lightgbm

    parameters = {"verbosity": -1, "num_threads": 1, "deterministic": True, "force_row_wise": True, "seed": 1}
    if kind == "linear trees":
        parameters |= {"linear_tree": True, "linear_lambda": 0.01}

    def fit(x: Array, y: Array) -> Callable[[Array], Array]:
        level, unit = y.mean(), y.std() or 1.0
        size = np.abs(x).max(0)
        scale = np.where(size > 0, size, 1.0)  # leaves' linear models are not scaled by LightGBM
        scale[codes] = 1.0
        data = lightgbm.Dataset(x / scale, (y - level) / unit, categorical_feature=codes, free_raw_data=False)
        model = lightgbm.train(parameters, data, 100)
        return lambda new: level + unit * np.asarray(model.predict(new / scale, num_threads=1))

    return fit


def ridge(codes: list[int], values: list[Array]) -> Fit:
    """Ridge regression on standardised inputs, categories as a column a value."""

    def wide(x: Array) -> Array:
        return np.hstack(
            [
                np.delete(x, codes, axis=1),
                *((x[:, [i]] == known).astype(np.float64) for i, known in zip(codes, values, strict=True)),
            ]
        )

    def fit(x: Array, y: Array) -> Callable[[Array], Array]:
        z = wide(x)
        mean, deviation = z.mean(0), z.std(0)
        scale = np.where(deviation > 0, deviation, np.inf)
        z, level = (z - mean) / scale, y.mean()
        W = np.linalg.solve(z.T @ z + np.eye(z.shape[1]), z.T @ (y - level))
        return lambda new: level + (wide(new) - mean) / scale @ W

    return fit


def nights(ts: Array, start: int) -> list[int]:
    """Where a night lies: the first event of each day from `start` on, and `start` itself.

    A recording of less than three days has a night after each 144 events.
    """
    if ts[-1] - ts[0] < 3 * DAY:
        return list(range(start, len(ts), 144))
    last_of_day = np.flatnonzero(np.diff(ts // DAY) > 0)
    return [start, *(t for t in (last_of_day + 1).tolist() if t > start)]


def trained(data: dict[str, Any], group: str) -> Iterator[tuple[str, Array, float]]:
    """LightGBM and ridge regression, trained once, every night on all there is, or on a sliding window."""
    x, codes, bases = table(data)
    y, start = data["y"], int(data["start"])
    when = {
        "frozen": [start],
        "nightly": nights(data["ts"], start),
        "sliding": list(range(start, len(y), EVERY)),
    }[group]
    values = [np.unique(x[:, i]) for i in codes]
    for kind in KINDS:
        fit = ridge(codes, values) if kind == "ridge" else boosted(kind, codes)
        for base, offset in bases.items():
            made, cost = predictions(fit, x, y - offset, when, WINDOW if group == "sliding" else None)
            yield f"{kind}, {base}", made + offset, sum(cost)


def standardised(x: Array, start: int) -> Array:
    """Inputs by mean and deviation of the first part, and a constant."""
    mean, deviation = x[:start].mean(0), x[:start].std(0)
    z = (x - mean) / np.where(deviation > 0, deviation, 1.0)
    return np.hstack([np.ones((len(x), 1)), z])


def least_squares(x: Array, y: Array, group: NDArray[np.int64]) -> Array:
    """Predictions (rates, n) of recursive least squares with forgetting, a model a group, solved anew in each event."""
    d, rates = x.shape[1], np.array(RATES)
    ridge = RIDGE * np.eye(d)
    out = np.zeros((len(rates), len(y)))
    states: dict[int, tuple[Array, Array]] = {}
    for t, (row, g) in enumerate(zip(x, group.tolist(), strict=True)):
        if g not in states:
            states[g] = np.zeros((len(rates), d, d)), np.zeros((len(rates), d))
        S, P = states[g]
        out[:, t] = np.linalg.solve(S + ridge, P[..., None])[..., 0] @ row
        S *= rates[:, None, None]
        S += np.outer(row, row)
        P *= rates[:, None]
        P += y[t] * row
    return out


def forgetting(data: dict[str, Any]) -> Iterator[tuple[str, Array, float]]:
    """Least squares by scope, base and rate; its CPU time is that of all rates by their number."""
    x, codes, bases = table(data)
    x = standardised(one_hot(x, codes), int(data["start"]))
    entity = data["entity"]
    scopes = {"one for all": np.zeros_like(entity)} | ({"one an entity": entity} if entity.max() > 0 else {})
    for scope, group in scopes.items():
        for base, offset in bases.items():
            begin = time.process_time()
            made = least_squares(x, data["y"] - offset, group)
            cost = (time.process_time() - begin) / len(RATES)
            for rate, one in zip(RATES, made, strict=True):
                yield f"{rate}, {base}, {scope}", one + offset, cost


def online(data: dict[str, Any], names: list[str]) -> Iterator[tuple[str, Array, float]]:
    """River's learners by name, scope and base."""
    x, codes, bases = table(data)
    x, entity, makers = one_hot(x, codes), data["entity"], learners()
    scopes = {"one for all": np.zeros_like(entity)} | ({"one an entity": entity} if entity.max() > 0 else {})
    for name in names:
        for scope, group in scopes.items():
            for base, offset in bases.items():
                begin = time.process_time()
                made = offset.copy()
                models: dict[int, Any] = {}
                try:
                    for t, (row, g) in enumerate(zip(x.tolist(), group.tolist(), strict=True)):
                        model = models[g] if g in models else models.setdefault(g, makers[name]())
                        features = {str(i): value for i, value in enumerate(row)}
                        answer = model.predict_one(features) or 0.0
                        made[t] += answer if np.isfinite(answer) else 0.0
                        model.learn_one(features, data["y"][t] - offset[t])
                except FAILURES:
                    continue
                yield f"{name}, {base}, {scope}", made, time.process_time() - begin


def run(data: dict[str, Any], group: str, names: list[str] | None = None) -> dict[str, tuple[Array, float]]:
    """Predictions (n,) and CPU seconds by variant."""
    if group == "least squares":
        made = forgetting(data)
    elif group == "River":
        made = online(data, names or list(LEARNERS))
    else:
        made = trained(data, group)
    return {variant: (yhat, cost) for variant, yhat, cost in made}


def main() -> None:
    job = json.loads(sys.argv[-1])
    warnings.simplefilter("ignore")
    with np.load(job["data"]) as stored:
        data = dict(stored)
    found = run(data, job["group"], job.get("names"))
    np.savez(job["out"], **{str(i): one[0] for i, one in enumerate(found.values())})
    print(json.dumps({"variants": list(found), "cpu": [one[1] for one in found.values()]}))


if __name__ == "__main__":
    main()
