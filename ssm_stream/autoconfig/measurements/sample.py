"""Drafts a configuration from a sample in which each row has the signals of one measurement, as agents send them."""

from __future__ import annotations

from typing import Any

from ssm_stream.autoconfig.columns import columns
from ssm_stream.autoconfig.draft import Choices, Draft, draft_event
from ssm_stream.autoconfig.entity import find_entity
from ssm_stream.autoconfig.event_time import find_timestamp, read_times
from ssm_stream.autoconfig.measurements.windows import find_measurements
from ssm_stream.autoconfig.readings import find_readings
from ssm_stream.config import Event
from ssm_stream.ingest.paths import leaf_paths

MAX_COMPARED = 200
"""Rows in which different fields are searched before the sample is examined."""


def draft_measurements(rows: list[dict[str, Any]], choices: Choices, name: str) -> Draft | None:
    """Return the draft of the windows that make one row of several measurements; None if each row is one by itself.

    Raises:
        ConfigError: as `draft_event`.
    """
    given = [path for path in (choices.entity, choices.timestamp) if path is not None]
    if len({frozenset(leaf_paths(row)) for row in rows[:MAX_COMPARED]}) < 2:
        return None
    found = {column.path: column for column in columns(rows, given)}
    if not found.keys() >= {*given} or find_readings(found, choices.entity) is not None:
        return None
    why = dict[str, str]()
    timestamp, form = find_timestamp(found, choices.timestamp, why, [])
    ts = read_times(rows, timestamp, form)
    entity = find_entity(found, choices.entity, timestamp, ts, why, [])
    parts = find_measurements(found, entity, timestamp, ts)
    if parts is None:
        return None
    chosen = choices._replace(entity=entity, timestamp=timestamp, of_readings=True)
    draft = draft_event(parts.rows, chosen, name)
    event = draft.event
    used = {name: {"last": path} for name, path in parts.names.items() if name in (*event.columns, *event.targets)}
    event = Event.model_validate(event.model_dump() | {"aggregate": {"every": parts.every, "columns": used}})
    why["aggregate"] = (
        f"a row has the signals of one measurement, by `{parts.by}` ({', '.join(parts.kinds)}): windows of "
        f"{parts.every}, how far apart the rows of each are, make one row of them"
    )
    left_out = parts.left_out | {parts.names.get(path, path): reason for path, reason in draft.left_out.items()}
    # The target to suggest is a column of the windows, and --target names one of the rows.
    notes = [note for note in draft.notes if draft.alone is None or f"--target {draft.alone}" not in note]
    return draft._replace(event=event, why=draft.why | why, left_out=left_out, notes=notes, rows=len(rows), alone=None)
