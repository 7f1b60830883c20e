"""Maps all arrays that a snapshot has of one target to other inputs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core.pending import OF_CHALLENGER, WILD, Pending
from ssm_stream.core.shapes import turning
from ssm_stream.engine.entity_store import EntityStore
from ssm_stream.engine.input_changes import detector_arrays, learner_arrays
from ssm_stream.engine.input_changes.input_map import input_map, removed_inputs, take
from ssm_stream.engine.input_changes.product_arrays import product_arrays
from ssm_stream.engine.kernel_params import build_learner_params
from ssm_stream.engine.snapshot_format import ArrayPart, StateError

Array = NDArray[Any]
SAME = (
    "T",
    "B",
    "M",
    "R",
    "K",
    "bases",
    "known",
    "moments",
    "products",
    "prox",
    "log",
    "gd",
    "window",
    "seasons",
    "cycles",
)
"""Sizes of the learner that its inputs must not change."""
CHALLENGER = frozenset(
    ("trial", "challenger", "challenger_pool", "challenger_fleet", "challenger_norm", *Pending._fields[OF_CHALLENGER:])
)
"""Arrays, and groups of them, of a challenger and its trial: another change is another trial."""


class TargetArrays:
    """Maps the arrays of one target.

    Args:
        former: holds the state
        present: is to get it, and is empty so far

    Raises:
        StateError: the learner has other heads or answers under the present settings.
    """

    def __init__(self, former: EntityStore, present: EntityStore) -> None:
        old, plan = former.params, present.plan
        new = build_learner_params(present.config, plan, present.weights, old.K)
        differing = [name for name in SAME if getattr(old, name) != getattr(new, name)]
        if differing:
            raise StateError(
                f"with these inputs the learner has other answers ({', '.join(differing)}): put event back as it was, "
                "or start anew with another recovery.directory"
            )
        self._store = former
        self._inputs = input_map((former.config, former.plan, old), plan, new, present.config)
        pools = len(former.pools) if former.config.model.fleet else len(former.names)
        shared = {name: array[:pools] for name, array in former.shared.pool._asdict().items()}
        self._gone = learner_arrays.removed_slots(self._inputs, shared)

    def parts(self, parts: list[ArrayPart]) -> list[ArrayPart]:
        """Return the arrays of a full snapshot of the target, mapped."""
        parts = [part for part in parts if part.name.partition(".")[0] not in CHALLENGER]
        arrays = [part.array if part.rows is None else part.array[part.rows] for part in parts]
        names = [part.name for part in parts]
        shared = names.index("pool.n")  # two groups of the same name: first that of entities, then that of pools
        groups: dict[str, dict[str, Array]] = {"pool": {}, "fleet": {}, "norm": {}, "error_scale": {}}
        for name, array in zip(names[shared:], arrays[shared:], strict=True):
            group, _, field = name.partition(".")
            if group in groups:
                groups[group][field] = array
        mapped = self._map_pools(groups)
        gone = self._gone_of_entities()
        out = list[ArrayPart]()
        for i, (name, array) in enumerate(zip(names, arrays, strict=True)):
            if i < shared:
                array = self._map_entities(name, array, gone)
            elif name in mapped:
                array = mapped[name]
            elif name.startswith("days."):
                array = detector_arrays.days_pool_array(self._inputs, name.removeprefix("days."), array)
            elif name.startswith("hours."):
                array = detector_arrays.hours_array(self._inputs, name.removeprefix("hours."), array, self._gone)
            elif name.startswith("pool."):
                array = learner_arrays.pool_array(self._inputs, name.removeprefix("pool."), array)
            else:
                array = self._map_pending(name, array)
            out.append(ArrayPart(name, array))
        return out

    def _map_pools(self, groups: dict[str, dict[str, Array]]) -> dict[str, Array]:
        """Return the mapped arrays of the pooled scopes, and of the pools' scale of errors, by name."""
        inputs, out = self._inputs, dict[str, Array]()
        F, K = inputs.old.F, inputs.old.K
        for scope, places, first in (("fleet", inputs.fleet, 1 + F), ("norm", inputs.norm, 1 + 2 * F)):
            if not groups[scope]:
                continue
            gone = np.zeros((len(self._gone), first + K), np.bool_)
            gone[:, removed_inputs(places, first + K)] = True
            gone[:, first:] |= self._gone
            heads = learner_arrays.HeadArrays(inputs, places, gone, groups[scope])
            out |= {f"{scope}.{name}": heads.array(name) for name in groups[scope]}
            if inputs.new.lags > inputs.old.lags:  # the new past targets are known at once, and much like the others
                out[f"{scope}.level"] = learner_arrays.discounted_level(groups[scope]["level"], groups[scope]["S"])
        out |= product_arrays(inputs, groups["pool"], self._gone)
        scales = detector_arrays.scale_pool_arrays(inputs, groups["error_scale"])
        return out | {f"error_scale.{name}": array for name, array in scales.items()}

    def _gone_of_entities(self) -> Array:
        """Return (E, K) bool: the slots of columns that are gone, in any pool of the entity's shard."""
        store = self._store
        if not store.config.model.fleet:
            return self._gone
        by_shard = np.zeros((store.config.state.shards, self._gone.shape[1]), np.bool_)
        for (shard, _), row in store.pools.items():
            by_shard[shard] |= self._gone[row]
        found: Array = by_shard[store.shards[: len(store.names)]]
        return found

    def _map_entities(self, name: str, array: Array, gone: Array) -> Array:
        group, _, field = name.partition(".")
        if group == "learner":
            return learner_arrays.entity_array(self._inputs, field, array, gone)
        if group == "reference":
            return learner_arrays.linear_weights(self._inputs, array, gone)
        if group == "levels":
            return detector_arrays.levels_array(self._inputs, field, array)
        if group == "days":
            return detector_arrays.days_array(self._inputs, field, array)
        if group == "hours":
            return detector_arrays.hours_array(self._inputs, field, array, gone)
        return detector_arrays.scale_array(self._inputs, field, array) if group == "error_scale" else array

    def _map_pending(self, name: str, array: Array) -> Array:
        """Return an array of the predictions that wait for their targets, or of what else follows the pools."""
        if name == "v":
            F, inputs = self._inputs.old.F, self._inputs
            numbers = take(array[:, :F], inputs.numbers, 1, math.nan)
            return np.concatenate([numbers, take(array[:, F:], inputs.features, 1, math.nan)], 1)
        if name == "number":
            place = self._inputs.place_of_feature(array[:, WILD])
            return np.concatenate([array[:, :WILD], place[:, None], array[:, WILD + 1 :]], 1)
        if name == "named":
            inputs, ends = self._inputs, np.cumsum([self._inputs.old.categories, turning(self._inputs.old)])
            turns = learner_arrays.turning_places(inputs)
            parts = zip(np.split(array, ends, axis=1), (inputs.categories, turns, turns), strict=True)
            return np.concatenate([take(part, places, 1, math.nan) for part, places in parts], 1)
        window = self._inputs.new.window
        return learner_arrays.past_targets(self._inputs, array, 2) if name == "past" and window else array
