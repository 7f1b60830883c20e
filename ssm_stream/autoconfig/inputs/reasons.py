"""Why a column that might be an input is none: it is known later, counts, names lots, the time or the machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssm_stream.autoconfig.columns import Column
from ssm_stream.autoconfig.entity import other_name_reason
from ssm_stream.autoconfig.labels import label_reason, lot_reason
from ssm_stream.autoconfig.target import counter_reason, is_part_of_time
from ssm_stream.autoconfig.uplinks.envelope import link_reason


def no_input_reason(
    path: str, found: Mapping[str, Column], owners: dict[int, Any], ts: NDArray[np.int64]
) -> str | None:
    """Return why a column is no input; None if it may be one.

    Args:
        path, found: of the column; path → column
        owners: row → name of its entity, if a column has it
        ts: (n,) times of the rows, ms
    """
    column = found[path]
    counted = counter_reason(column, owners, ts)
    if reason := label_reason(column) or counted or lot_reason(column, owners) or link_reason(path, found):
        return reason
    if is_part_of_time(column):
        return "a part of the time"
    return other_name_reason(column, owners)
