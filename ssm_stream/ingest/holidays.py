"""The days that a state was learned by (`event.holidays`): they stay, whatever the list has become since.

A list that differs changes the days after the last event only. So one list holds for all that was and will be learned:
a replay from the beginning by it gives the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import timedelta

from ssm_stream.config import Config
from ssm_stream.config.sections.holidays import EPOCH, Holidays
from ssm_stream.core.features import utc_offset

DAY_MS = 86_400_000


def last_day(config: Config, times: Iterable[float]) -> str | None:
    """Return the last local day that events of these times, ms, were predicted for; None without any."""
    known = [time for time in times if not math.isnan(time)]
    if not known:
        return None
    ts = int(max(known)) + round(1000 * config.model.horizon.seconds)
    return str(EPOCH + timedelta(days=(ts + utc_offset(config.event.time_zone, ts)) // DAY_MS))


def with_learned_holidays(config: Config, learned: Holidays, last: str | None) -> Config:
    """Return the configuration with the days up to `last` by which a state was learned."""
    holidays = config.event.holidays
    if not holidays or last is None:
        return config
    merged = holidays.with_learned(learned, last)
    return config if merged == holidays else config.replace(event=config.event.model_copy(update={"holidays": merged}))
