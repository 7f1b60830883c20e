"""One configuration over a recording: the production engine's errors, intervals and alarms, row by row."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from ssm_stream.config import Config, ConfigError
from ssm_stream.evaluate.prequential import batches, prequential
from ssm_stream.evaluate.recordings.recording import Recording, RecordingError
from ssm_stream.ingest.events import places

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
WEEK_MS = 7 * 86_400_000.0


class Alarm(NamedTuple):
    """An episode that started. row: of the file; entities: one, or those that a fleet alert stands for."""

    row: int
    ts: int
    kind: str
    entities: tuple[str, ...]


class Trial(NamedTuple):
    """What a configuration did on a recording: n rows with a target that has an earlier one of its entity.

    row (n,): of the file, from 0, ascending; entity (n,): place in `names`; ts (n,) ms
    error (n,): |y − yhat|; step (n,): |y − the target before|; inside (n,): 1 in the interval, 0 outside, −1 in warm-up
    width (n,): of the interval; seconds: of the run
    """

    names: list[str]
    row: Ints
    entity: Ints
    ts: Ints
    error: Floats
    step: Floats
    inside: Ints
    width: Floats
    alarms: list[Alarm]
    seconds: float

    def part(self, since: int | None = None, until: int | None = None) -> Trial:
        """Its rows and alarms from a time on, or before one."""
        low, high = -(2**62) if since is None else since, 2**62 if until is None else until
        at = np.flatnonzero((self.ts >= low) & (self.ts < high))
        columns = {name: getattr(self, name)[at] for name in ARRAYS}
        return self._replace(**columns, alarms=[alarm for alarm in self.alarms if low <= alarm.ts < high])

    def figures(self) -> dict[str, Any]:
        """rows, mae, mae_persistence, coverage, interval_width, anomalies, drifts, alerts_per_entity_week."""
        judged = self.inside >= 0
        kinds = [alarm.kind for alarm in self.alarms]
        weeks = self.entity_weeks()
        return {
            "rows": len(self.row),
            "mae": float(self.error.mean()) if len(self.row) else None,
            "mae_persistence": float(self.step.mean()) if len(self.row) else None,
            "coverage": float(self.inside[judged].mean()) if judged.any() else None,
            "interval_width": float(self.width[judged].mean()) if judged.any() else None,
            "anomalies": kinds.count("anomaly"),
            "drifts": kinds.count("drift"),
            "alerts_per_entity_week": len(kinds) / weeks if weeks else None,
        }

    def entity_weeks(self) -> float:
        """Weeks that its entities were there, added up."""
        total = 0
        for e in np.unique(self.entity):
            ts = self.ts[self.entity == e]
            total += int(ts.max() - ts.min())
        return total / WEEK_MS


ARRAYS = ("row", "entity", "ts", "error", "step", "inside", "width")


def run_trial(config: Config, file: Path, limit: int | None = None, until: int | None = None) -> Trial:
    """The production engine over a recording. until: it sees no event from this time on, ms"""
    began = time.perf_counter()
    known: dict[str, int] = {}
    parts: list[tuple[Any, ...]] = []
    alarms: list[Alarm] = []
    for chunk in prequential(config, Recording(file, limit), until=until):
        events, said = chunk.events, chunk.predictions
        ids = places(events.entity, known)
        answers = [said.yhat, said.lower, said.upper, said.warmup]
        if chunk.settled is not None:
            # With a horizon a row's target was predicted from an earlier one, or was not.
            settled = chunk.settled[0]
            answers = []
            for values in (settled.yhat, settled.lower, settled.upper, settled.warmup):
                column = np.full(len(events), np.nan)
                column[settled.item] = values
                answers.append(column)
        parts.append((chunk.first + events.position, ids, events.ts, events.target, *answers))
        for alert in chunk.alerts:
            message, place = alert.message, int(chunk.first + events.position[alert.row])
            if message["phase"] == "started":
                fleet = message["scope"] == "fleet"
                named = tuple(each["entity"] for each in message["entities"]) if fleet else (message["entity"],)
                alarms.append(Alarm(place, int(events.ts[alert.row]), message["kind"], named))
    if not parts:
        raise RecordingError(f"{file}: no rows; there is nothing to try on")
    columns: list[NDArray[Any]] = [np.concatenate(column) for column in zip(*parts, strict=True)]
    row, entity, ts, y, yhat, lower, upper, warmup = columns
    step = _steps(entity, y)
    at = np.flatnonzero(~np.isnan(step) & ~np.isnan(yhat))
    inside = np.where(warmup != 0, -1, (lower <= y) & (y <= upper)).astype(np.int64)
    return Trial(
        list(known), row[at], entity[at], ts[at], np.abs(y - yhat)[at], step[at], inside[at],
        (upper - lower)[at], alarms, time.perf_counter() - began,
    )  # fmt: skip


def _steps(entity: Ints, y: Floats) -> Floats:
    """(n,): |y − the entity's target before|, NaN at its first and where there is no target."""
    order = np.argsort(entity, kind="stable")
    order = order[~np.isnan(y[order])]
    step = np.full(len(y), np.nan)
    same = entity[order][1:] == entity[order][:-1]
    step[order[1:][same]] = np.abs(np.diff(y[order]))[same]
    return step


class Targets(NamedTuple):
    """Of the events with a target: ts (n,) ms; whether one of the targets is below 0; entities: how many there are"""

    ts: Ints
    negative: bool
    entities: int


def target_times(config: Config, file: Path, limit: int | None = None) -> Targets:
    """What a look at the recording, without the engine, tells.

    Raises:
        RecordingError: the file cannot be read, or has no event with a target.
    """
    found: list[Ints] = []
    negative = False
    names = set[str]()
    for events, _, _ in batches(config, Recording(file, limit)):
        y = events.target
        found.append(events.ts[~np.isnan(y)])
        negative = negative or bool(np.any(y < 0))
        names.update(events.entity)
    ts = np.concatenate(found) if found else np.empty(0, np.int64)
    if not len(ts):
        raise RecordingError(
            f"{file}: no event with a target (`{config.event.targets[0]}`) of an entity (`{config.event.entity}`)"
        )
    return Targets(ts, negative, len(names))


def with_settings(config: Config, settings: dict[str, Any]) -> Config:
    """The configuration with other values. settings: dotted key → value, as the file would have it

    Raises:
        ConfigError: they do not go together.
    """
    sections: dict[str, BaseModel] = {name: getattr(config, name) for name in type(config).model_fields}
    try:
        for name in {key.partition(".")[0] for key in settings}:
            section = sections[name]
            content = section.model_dump()
            for key, value in settings.items():
                first, *path = key.split(".")
                if first == name:
                    inside = content
                    for part in path[:-1]:
                        inside = inside[part]
                    inside[path[-1]] = value
            sections[name] = type(section).model_validate(content)
        # Made anew, not copied: a copy would keep the hash.
        return Config(**sections)  # type: ignore[arg-type]
    except ValidationError as error:
        words = "; ".join(item["msg"].removeprefix("Value error, ") for item in error.errors())
        raise ConfigError(f"{settings}: {words}") from error
