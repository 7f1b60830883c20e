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
    """Return the mapped arrays by name. Where the numbers differ, what to multiply is chosen anew.

    Args:
        inputs: the map
        arrays: of the former `PoolState`, by name
        gone_codes: (P, K) bool, slots whose column is gone
    """
    if not inputs.new.products:
        return {}
    former = {name.removeprefix("product_"): array for name, array in arrays.items() if name.startswith("product_")}
    k = factors(inputs.new)
    products = inputs.old.X - inputs.old.L
    lead = 1 + inputs.old.F + products
    kept = lead - products + np.arange(products) if inputs.same_numbers else np.full(k * (k + 1) // 2, NEW)
    fleet = inputs.fleet
    places = np.concatenate([fleet[: 1 + inputs.new.F], kept, lead + np.arange(inputs.old.K)])
    gone = np.zeros((len(gone_codes), inputs.old.X), np.bool_)
    gone[:, removed_inputs(places, inputs.old.X)] = True
    gone[:, lead:] |= gone_codes
    shared = {**former, "S": former["S"][:, None], "kept": former["kept"][:, None]}  # one S for all targets
    heads = HeadArrays(inputs, places, gone, shared)
    out = {**former, "S": heads.array("S")[:, 0], **{name: heads.array(name) for name in ("R", "W", "batch")}}
    if not inputs.same_numbers:
        size = {"of": (k,), **dict.fromkeys(("mean", "var", "count"), (len(kept),))}
        out |= {name: np.zeros((len(gone), *size[name]), former[name].dtype) for name in OF_CHOICE}
        out["n"] = np.minimum(former["n"], CHOOSE_AT + 1)  # settled heads choose once more, and forget nothing
    return {f"pool.product_{name}": array for name, array in out.items()}
