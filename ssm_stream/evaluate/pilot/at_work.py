"""The alarms without the rows in which machines rest: the engine again, with an operating condition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import yaml
from pydantic import TypeAdapter

from ssm_stream.autoconfig.columns import Column
from ssm_stream.autoconfig.rest import Rest, find_rest
from ssm_stream.config import Config, Event
from ssm_stream.config.sections.operating import Conditions
from ssm_stream.evaluate.engine_run import EngineRun
from ssm_stream.evaluate.pilot.variants import rerun_alerts
from ssm_stream.ingest.conditions import OperatingCondition, event_column
from ssm_stream.ingest.events import Events

SAMPLE = 20_000
"""Events by which rest is known."""
_WHEN: TypeAdapter[Any] = TypeAdapter(Conditions)


class AtWork(NamedTuple):
    """A run without the rows in which machines rest.

    rest: the states, and the condition; alerts: each with its row; idle: share of all rows that are left out
    """

    rest: Rest
    alerts: list[tuple[int, dict[str, Any]]]
    idle: float


def run_at_work(config: Config, run: EngineRun, advance: Callable[[float], None] = lambda _: None) -> AtWork | None:
    """Run the engine again over the events of a run, without those at rest.

    advance: takes the share of the events that is done

    Returns:
        None where there is an operating condition already, where rows are of windows, or where nothing rests
    """
    event = config.event
    if event.when or event.aggregate is not None:
        return None
    rest = find_rest_of(event, run.batches)
    if rest is None or rest.lacking:
        return None
    when = _WHEN.validate_python(yaml.safe_load(rest.when))
    meets, idle, batches = OperatingCondition(when), 0, []
    for events in run.batches:
        rows = ~meets(events.entity, partial(event_column, event, events))
        idle += int(np.count_nonzero(rows))
        batches.append(events.with_idle(rows))
    changed = config.replace(event=event.model_copy(update={"when": when}))
    return AtWork(rest, rerun_alerts(changed, replace(run, batches=batches), advance), idle / max(len(run), 1))


def find_rest_of(event: Event, batches: Sequence[Events]) -> Rest | None:
    """Return the states in which the signals of a run rest; None if there are none, see `find_rest`."""
    past = {path for path, each in event.derive.items() if each.past}  # a condition is of the event itself
    values: dict[str, list[Any]] = {path: [] for path in [*event.columns, *event.targets] if path not in past}
    names: list[str] = []
    for events in batches:
        take = SAMPLE - len(names)
        names += islice(events.entity, take)
        texts = events.category_texts or {}
        for path, column in values.items():
            numbers = event_column(event, events, path)[:take].tolist()
            column += [texts.get(value, value) for value in numbers]
        if len(names) >= SAMPLE:
            break
    columns = [
        Column(path, {i: value for i, value in enumerate(column) if value == value}, len(names), at)
        for at, (path, column) in enumerate(values.items())
    ]
    return find_rest([column for column in columns if column.values], dict(enumerate(names)))
