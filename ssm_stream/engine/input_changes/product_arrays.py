"""Maps the arrays of the heads on products to other inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core.shapes import CHOOSE_AT, factors
from ssm_stream.engine.input_changes.input_map import NEW, InputMap, removed_inputs
from ssm_stream.engine.input_changes.learner_arrays import HeadArrays

Array = NDArray[Any]
OF_CHOICE = ("of", "mean", "var", "count")


def product_arrays(inputs: InputMap, arrays: dict[str, Array], gone_codes: Array) -> dict[str, Array]:
    """Return the mapped arrays by name. Where a number is new, or a chosen one gone, what to multiply is chosen anew.

    Args:
        inputs: the map
        arrays: of the former `PoolState`, by name
        gone_codes: (P, K) bool, slots whose column is gone
    """
    if not inputs.new.products:
        return {}
    former = {name.removeprefix("product_"): array for name, array in arrays.items() if name.startswith("product_")}
    k = factors(inputs.new)
    products, lead = inputs.old.X - inputs.old.L, 1 + inputs.old.F + inputs.old.X - inputs.old.L
    fleet, numbers = inputs.fleet, inputs.fleet[: 1 + inputs.new.F]
    same_size = factors(inputs.old) == k and not (numbers == NEW).any()  # a new number may be one of the best
    kept = lead - products + np.arange(products) if same_size else np.full(k * (k + 1) // 2, NEW)
    places = np.concatenate([fleet[: 1 + inputs.new.F], kept, lead + np.arange(inputs.old.K)])
    of, stays = _chosen(former["of"], numbers) if same_size else (None, np.zeros(len(gone_codes), np.bool_))
    gone = np.zeros((len(gone_codes), inputs.old.X), np.bool_)
    gone[:, removed_inputs(places, inputs.old.X)] = True
    gone[:, lead - products : lead] |= ~stays[:, None]
    gone[:, lead:] |= gone_codes
    shared = {**former, "S": former["S"][:, None], "kept": former["kept"][:, None]}  # one S for all targets
    heads = HeadArrays(inputs, places, gone, shared)
    out = {**former, "S": heads.array("S")[:, 0], **{name: heads.array(name) for name in ("R", "W", "batch")}}
    if not (same_size and stays.all()):
        size = {"of": (k,), **dict.fromkeys(("mean", "var", "count"), (len(kept),))}
        for name in OF_CHOICE:
            out[name] = np.zeros((len(gone), *size[name]), former[name].dtype)
            if same_size:
                out[name][stays] = former[name][stays]
        # Settled heads choose once more, and forget nothing.
        out["n"] = np.where(stays, former["n"], np.minimum(former["n"], CHOOSE_AT + 1))
    if of is not None:
        out["of"] = np.where(stays[:, None], of, 0).astype(former["of"].dtype)
    return {f"pool.product_{name}": array for name, array in out.items()}


def _chosen(of: Array, numbers: Array) -> tuple[Array, Array]:
    """Return the places of the chosen numbers among the new inputs, and (P,) bool, whether all are there.

    Args:
        of: (P, k) places among the former inputs; 0: none is chosen yet
        numbers: (1 + F,) former place of the constant and of each new number
    """
    order = np.full(max(int(of.max(initial=0)), int(numbers.max())) + 1, NEW)
    order[numbers[numbers != NEW]] = np.flatnonzero(numbers != NEW)
    found = order[of]
    return found, (of > 0).all(1) & (found != NEW).all(1)
