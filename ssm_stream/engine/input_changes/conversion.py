"""Makes a whole snapshot for other inputs and targets of an engine's state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import orjson

from ssm_stream.config.input_changes import input_settings, redefined
from ssm_stream.engine import snapshot, snapshot_format, trials
from ssm_stream.engine.alert_pipeline import AlertPipeline
from ssm_stream.engine.input_changes.common_arrays import map_episodes, map_summaries, map_windows
from ssm_stream.engine.input_changes.target_arrays import TargetArrays
from ssm_stream.engine.kernel_params import build_learner_params
from ssm_stream.engine.snapshot_format import ArrayPart, SnapshotReader, bytes_part, damage_as_state_error
from ssm_stream.engine.target_engine import TargetEngine

Content = tuple[dict[str, Any], list[ArrayPart]]
Targets = Sequence[TargetEngine]


@contextmanager
def converted(
    episodes: AlertPipeline, dump: Callable[..., Content], former: Targets, present: Targets
) -> Iterator[SnapshotReader]:
    """Yield a snapshot that the engine of the present inputs can load.

    Then the pools of targets whose inputs differ are on trial (`trials`). A target that stays with its inputs keeps all
    of its arrays, a new one begins without entities, and what is open of one that is gone ends.

    Args:
        episodes, dump: of the former inputs' engine: its episodes, and what returns its full snapshot
        former, present: the engines of each target; the present ones are empty so far

    Raises:
        StateError: the present inputs do not fit, or the snapshot is damaged.
    """
    if min(len(former), len(present)) == 1 < max(len(former), len(present)):
        episodes.end_judged()
    else:
        episodes.drop_targets({_target(each) for each in former} - {_target(each) for each in present})
    with damage_as_state_error(), TemporaryFile() as file:
        snapshot_format.write(file, *_convert(dump(full=True), former, present))
        yield SnapshotReader(file)
    before = {_target(each): each for each in former}
    for each in present:
        if (own := before.get(_target(each))) is not None and not _same_inputs(own, each):
            trials.begin(each.store)


def _target(engine: TargetEngine) -> str:
    target = engine.config.event.target
    assert isinstance(target, str)
    return target


def _same_inputs(former: TargetEngine, present: TargetEngine) -> bool:
    """Return whether all that the learner of a target reads is what it was, in the same order."""
    old = former.store.params
    new = build_learner_params(present.config, present.plan, present.weights, old.K)
    sizes = zip(map(np.asarray, old), map(np.asarray, new), strict=True)
    same = former.plan == present.plan and all(np.array_equal(was, now) for was, now in sizes)
    return same and not _redefined(former, present) & {*present.plan.features}


def _convert(content: Content, former: Targets, present: Targets) -> Content:
    metadata, parts = content
    places = {_target(each): j for j, each in enumerate(former)}
    of = [places.get(_target(each), -1) for each in present]
    marks = next(metadata["targets"][j]["marks"] for j in of if j >= 0)
    targets, out = list[dict[str, Any]](), list[ArrayPart]()
    for i, (j, after) in enumerate(zip(of, present, strict=True)):
        if j < 0:
            own, arrays = snapshot.dump(after.store, "", full=True)
            own["marks"] = marks  # the sources have come so far, whichever target is learned
        else:
            own, prefix = metadata["targets"][j], f"{j}."
            arrays = [
                each._replace(name=each.name.removeprefix(prefix)) for each in parts if each.name.startswith(prefix)
            ]
            if not _same_inputs(former[j], after):
                own = {name: each for name, each in own.items() if name != "challenger"}
                arrays = TargetArrays(former[j].store, after.store).parts(arrays)
        targets.append(own)
        out += [each._replace(name=f"{i}.{each.name}") for each in arrays]
    metadata = {**metadata, "targets": targets}
    common = {part.name: part for part in parts if not part.name[0].isdigit()}
    past = {name: part for name, part in common.items() if name.startswith("windows.")}
    if len(present) > 1:
        out.append(common.get("joint", bytes_part("joint", orjson.dumps([]))))
    out += [part for name, part in common.items() if name == "fleet"]
    out.append(map_episodes(common["episodes"], of, len(former)))
    windows = present[0].store.windows
    if windows:
        metadata["windows"] = metadata.get("windows", [])
        out += map_windows(past, former[0].store.windows, windows, _redefined(former[0], present[0]))
    else:
        metadata = {name: each for name, each in metadata.items() if name != "windows"}
    out += [part for name, part in common.items() if name in ("rows", "census")]
    summaries = [part for name, part in common.items() if name.startswith("summaries.")]
    return metadata, [*out, *(map_summaries(part, of) if part.name == "summaries.sums" else part for part in summaries)]


def _redefined(former: TargetEngine, present: TargetEngine) -> set[str]:
    return redefined(*(input_settings(each.config.model_settings["event"]) for each in (former, present)))
