"""Makes a whole snapshot for other inputs of an engine's state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import orjson

from ssm_stream.config.input_changes import input_settings, redefined
from ssm_stream.engine import snapshot_format, trials
from ssm_stream.engine.input_changes.target_arrays import TargetArrays
from ssm_stream.engine.snapshot_format import ArrayPart, SnapshotReader, bytes_part, damage_as_state_error
from ssm_stream.engine.target_engine import TargetEngine
from ssm_stream.ingest.windows import Windows

Content = tuple[dict[str, Any], list[ArrayPart]]
Targets = Sequence[TargetEngine]


@contextmanager
def converted(content: Content, former: Targets, present: Targets) -> Iterator[SnapshotReader]:
    """Yield a snapshot that the engine of the present inputs can load; then its pools are on trial (`trials`).

    Args:
        content: metadata and arrays of a full snapshot of the former inputs' engine
        former, present: the engines of each target; the present ones are empty so far

    Raises:
        StateError: the present inputs do not fit, or the snapshot is damaged.
    """
    with damage_as_state_error(), TemporaryFile() as file:
        snapshot_format.write(file, *_convert(content, former, present))
        yield SnapshotReader(file)
    for each in present:
        trials.begin(each.store)


def _convert(content: Content, former: Targets, present: Targets) -> Content:
    metadata, parts = content
    targets = [{name: each for name, each in own.items() if name != "challenger"} for own in metadata["targets"]]
    metadata = {**metadata, "targets": targets}
    out = list[ArrayPart]()
    for j, (before, after) in enumerate(zip(former, present, strict=True)):
        prefix = f"{j}."
        own = [each._replace(name=each.name.removeprefix(prefix)) for each in parts if each.name.startswith(prefix)]
        mapped = TargetArrays(before.store, after.store).parts(own)
        out += [each._replace(name=f"{prefix}{each.name}") for each in mapped]
    common = [part for part in parts if not part.name[0].isdigit()]
    past = {part.name: part for part in common if part.name.startswith("windows.")}
    last = [part for part in common if part.name in ("rows", "census")]
    out += [part for part in common if part.name not in past and part not in last]
    windows = present[0].store.windows
    if not windows:
        return {name: each for name, each in metadata.items() if name != "windows"}, out + last
    return {**metadata, "windows": metadata.get("windows", [])}, [
        *out,
        *_map_windows(past, former[0].store.windows, windows, _redefined(former[0], present[0])),
        *last,
    ]


def _redefined(former: TargetEngine, present: TargetEngine) -> set[str]:
    return redefined(*(input_settings(each.config.model_settings["event"]) for each in (former, present)))


def _map_windows(
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
