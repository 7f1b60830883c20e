"""Maps the arrays of the heads on products to other inputs.

A fresh start chooses once, by the weights of its first events, what is multiplied; from other events the choice is
another one, and may be much worse. So a state keeps its choice as far as its inputs are there: products of numbers that
stay keep what was learned of them, and products with a number that takes a free place start at weight zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core.features import INDICATED
from ssm_stream.core.shapes import LearnerParams, factors
from ssm_stream.engine.input_changes.input_map import NEW, Indices, InputMap, removed_inputs, take
from ssm_stream.engine.input_changes.learner_arrays import HeadArrays, discounted_level

Array = NDArray[Any]


def product_arrays(inputs: InputMap, arrays: dict[str, Array], gone_codes: Array) -> dict[str, Array]:
    """Return the mapped arrays by name.

    Args:
        inputs: the map
        arrays: of the former `PoolState`, by name
        gone_codes: (P, K) bool, slots whose column is gone
    """
    if not inputs.new.products:
        return {}
    former = {name.removeprefix("product_"): array for name, array in arrays.items() if name.startswith("product_")}
    if not len(gone_codes):
        blank = {name: np.zeros((1, *array.shape[1:]), array.dtype) for name, array in former.items()}
        no_codes = np.zeros((1, gone_codes.shape[1]), np.bool_)
        return {f"pool.product_{name}": array[:0] for name, array in _of_pool(inputs, blank, no_codes).items()}
    rows = [slice(row, row + 1) for row in range(len(gone_codes))]
    pools = [_of_pool(inputs, {name: array[row] for name, array in former.items()}, gone_codes[row]) for row in rows]
    return {f"pool.product_{name}": np.concatenate([pool[name] for pool in pools]) for name in former}


def _of_pool(inputs: InputMap, former: dict[str, Array], gone_codes: Array) -> dict[str, Array]:
    """Return the mapped arrays of one pool."""
    old, new, fleet = inputs.old, inputs.new, inputs.fleet
    k, lead = factors(new), 1 + old.F + old.X - old.L
    was = former["of"][0] - 1
    none = np.zeros(0, np.int64)
    chosen = _choice(inputs, was, former["W"][0, 0]) if len(was) and was[0] >= 0 else none
    pairs = _former_pairs(inputs, was, chosen) if len(chosen) else np.full(k * (k + 1) // 2, NEW)
    numbers, products = fleet[: 1 + new.F], np.where(pairs == NEW, NEW, 1 + old.F + pairs)
    places = np.concatenate([numbers, products, lead + np.arange(old.K)])
    gone = np.zeros((1, old.X), np.bool_)
    gone[:, removed_inputs(places, old.X)] = True
    gone[:, lead:] |= gone_codes
    heads = HeadArrays(inputs, places, gone, {**former, "S": former["S"][:, None], "kept": former["kept"][:, None]})
    out = {**former, "S": heads.array("S")[:, 0], **{name: heads.array(name) for name in ("R", "W", "batch")}}
    out |= {name: take(former[name], pairs, 1) for name in ("mean", "var", "count")}
    if (pairs == NEW).any():
        out["level"] = discounted_level(former["level"], former["S"][:, None])
    out["of"] = (1 + chosen if len(chosen) else np.zeros(k, np.int64))[None].astype(former["of"].dtype)
    return out if len(chosen) else {**out, "n": np.zeros_like(former["n"])}


def _choice(inputs: InputMap, was: Indices, W: Array) -> Indices:
    """Return the numbers (k,) to multiply among the new ones; none: more features are new than there are places.

    Places that are free go to those of the others with the largest weights. A feature that is new may be worth most in
    a product with one that weighed little before. So where there is a new one, first all features are chosen, then the
    last target and the features' changes, then the former choice by the weights of its products.

    Args:
        was: (k0,) the former choice among the former numbers
        W: (X,) weights of the former inputs
    """
    old, new = inputs.old, inputs.new
    place = {former: at for at, former in enumerate(inputs.numbers.tolist()) if former != NEW}
    i, j = np.triu_indices(len(was))
    weight = np.abs(W[1 + old.F : 1 + old.F + len(i)])
    worth = np.array([weight[(i == factor) | (j == factor)].sum() for factor in range(len(was))])
    by_weight = [*was[np.argsort(-worth, kind="stable")], *np.argsort(-np.abs(W[1 : 1 + old.F]), kind="stable")]
    stay = [place[int(former)] for former in dict.fromkeys(by_weight) if int(former) in place]
    kept = sum(int(former) in place for former in was)
    stay[kept:] = sorted(stay[kept:], key=lambda at: (at >= new.features, at not in _changes(new)))
    added = [at for at in range(new.F) if inputs.numbers[at] == NEW]
    features = [at for at in added if at < new.features]
    changes = [at for at in added if at in _changes(new)]
    if len(features) + len(changes) > factors(new):
        return np.zeros(0, np.int64)
    first = list[int]()
    if features:
        first = [*features, *(at for at in stay if at < new.features), *_last(new)]
        changes += [at for at in stay if at in _changes(new)]
    order = dict.fromkeys([*first, *changes, *stay, *added])
    return np.sort(np.array([*order][: factors(new)], np.int64))


def _changes(p: LearnerParams) -> range:
    """Return the numbers that are the features' changes since the event before."""
    begin = p.features + p.cycles
    return range(begin, begin + p.features * (p.differences > 0))


def _last(p: LearnerParams) -> list[int]:
    """Return the number that is the last target, if it is one."""
    past = int(p.differences > 0) + max(p.feature_lags - 1, 0)
    return [p.features + p.cycles + p.features * past + p.categories * INDICATED] if p.lags else []


def _former_pairs(inputs: InputMap, was: Indices, chosen: Indices) -> Indices:
    """Return for each product of the chosen numbers which product of the former choice it was, or NEW."""
    former = {frozenset(pair): at for at, pair in enumerate(_pairs(was.tolist()))}
    # No former pair has a number that is new.
    return np.array([former.get(frozenset(pair), NEW) for pair in _pairs(inputs.numbers[chosen].tolist())], np.int64)


def _pairs(numbers: list[int]) -> list[tuple[int, int]]:
    """Return the pairs, row by row of their upper triangle."""
    return [(one, other) for i, one in enumerate(numbers) for other in numbers[i:]]
