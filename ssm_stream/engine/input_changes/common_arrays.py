"""Maps what the targets of an engine have in common: past values of derived inputs, episodes, hourly sums."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import orjson

from ssm_stream.engine.snapshot_format import ArrayPart, bytes_part
from ssm_stream.engine.summaries.columns import OF_TARGET, OF_TARGETS
from ssm_stream.ingest.windows import Windows


def map_windows(
    parts: dict[str, ArrayPart], former: Windows | None, present: Windows, changed: set[str]
) -> list[ArrayPart]:
    """Return the arrays of derived inputs' past values, by name of the input; new ones have none.

    changed: names of inputs that are something else now
    """
    if not parts or former is None:
        empty = ArrayPart("windows.seen", np.zeros(0)), ArrayPart("windows.past", np.zeros((0, present.width)))
        return [bytes_part("windows.names", orjson.dumps([])), *empty]
    values = parts["windows.past"].array
    past = np.full((len(values), present.width), np.nan)
    for name, place in present.places.items():
        if name in former.places and name[0] not in changed:
            past[:, place] = values[:, former.places[name]]
    return [parts["windows.names"], parts["windows.seen"], ArrayPart("windows.past", past)]


def map_episodes(part: ArrayPart, of: Sequence[int], former: int) -> ArrayPart:
    """Return the episodes of an engine whose targets are others.

    Args:
        part: what `AlertPipeline.dump` returned
        of: of each target the place that it had, −1 for a new one
        former: number of the targets before
    """
    content = orjson.loads(part.array.tobytes())
    opened, restarts = content["open"], content.get("restarts")
    # After those of the targets comes what rules have.
    content["open"] = [*(opened[j] if j >= 0 else [] for j in of), *opened[former:]]
    if restarts:
        content["restarts"] = [restarts[j] if j >= 0 else None for j in of]
    return bytes_part(part.name, orjson.dumps(content))


def map_summaries(part: ArrayPart, of: Sequence[int]) -> ArrayPart:
    """Return the sums of each entity's hour; a new target has none. part: `summaries.sums`; of: as of `map_episodes`"""
    sums = part.array if part.rows is None else part.array[part.rows]
    out = np.zeros((len(sums), OF_TARGETS + len(of) * OF_TARGET))
    out[:, :OF_TARGETS] = sums[:, :OF_TARGETS]
    for i, j in enumerate(of):
        if j >= 0:
            now, was = (OF_TARGETS + place * OF_TARGET for place in (i, j))
            out[:, now : now + OF_TARGET] = sums[:, was : was + OF_TARGET]
    return ArrayPart(part.name, out)
