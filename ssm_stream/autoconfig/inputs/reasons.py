"""Why a column that might be an input is none: it is known later, counts, names lots, the time or the machine."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssm_stream.autoconfig.columns import Column
from ssm_stream.autoconfig.entity import has_name_of
from ssm_stream.autoconfig.labels import label_reason, lot_reason
from ssm_stream.autoconfig.target import counter_reason, is_part_of_time


def no_input_reason(column: Column, owners: dict[int, Any], ts: NDArray[np.int64]) -> str | None:
    """Return why a column is no input; None if it may be one.

    Args:
        owners: row → name of its entity, if a column has it
        ts: (n,) times of the rows, ms
    """
    counted = counter_reason(column, owners, ts)
    if reason := label_reason(column) or counted or lot_reason(column, owners):
        return reason
    if is_part_of_time(column):
        return "a part of the time"
    if has_name_of(column, owners):
        return "text that has the entity's name in it, and no other for it"
    return None
