"""One configuration over a recording: errors, intervals and alarms of the production engine, row by row.

With several targets a row of the recording is a row here for each of them that it has.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from ssm_stream.config import Config, ConfigError
from ssm_stream.evaluate.alarm_matching import Alarm
from ssm_stream.evaluate.engine_run import EngineRun, Floats, Ints, alarms_of, run_targets
from ssm_stream.evaluate.partitioned_engine import PartitionedEngine
from ssm_stream.evaluate.prequential import prequential_labelled
from ssm_stream.evaluate.recordings import Recording
from ssm_stream.ingest.factorize import factorize

WEEK_MS = 7 * 86_400_000.0


class Trial(NamedTuple):
    """A configuration on a recording: n rows with a target whose entity has an earlier one of it."""

    names: list[str]
    targets: list[str]
    row: Ints
    """(n,) of the file, from 0, ascending; of a late label its own."""
    target: Ints
    """(n,) place in `targets`, ascending in a row of the file."""
    entity: Ints
    """(n,) place in `names`."""
    ts: Ints
    """(n,) ms."""
    error: Floats
    """(n,) |y − yhat|."""
    step: Floats
    """(n,) |y − the target before|; with a horizon or late labels the last one when it was predicted."""
    inside: Ints
    """(n,) 1 in the interval, 0 outside, −1 in warm-up."""
    width: Floats
    """(n,) of the interval."""
    alarms: list[Alarm]
    seconds: float
    """Duration of the run."""
    micros: float = math.nan
    """Processor time of the engine per event, µs: the one figure that is not the same twice."""
    memory: float = math.nan
    """Bytes per entity of what was learned, the pools' share included."""

    def part(self, since: int | None = None, until: int | None = None) -> Trial:
        """Return its rows and alarms of a part of the time, ms."""
        low, high = -(2**62) if since is None else since, 2**62 if until is None else until
        rows = self.take(np.flatnonzero((self.ts >= low) & (self.ts < high)))
        return rows._replace(alarms=[alarm for alarm in self.alarms if low <= alarm.ts < high])

    def take(self, at: NDArray[np.intp]) -> Trial:
        """Return some of its rows, by their places, with all alarms."""
        return self._replace(**{name: getattr(self, name)[at] for name in ARRAYS})

    @property
    def events(self) -> int:
        """Number of rows of the file."""
        return len(self.row) if len(self.targets) == 1 else len(np.unique(self.row))

    def figures(self) -> dict[str, Any]:
        """Return rows, mae, mae_persistence, coverage, interval_width, anomalies, drifts and alerts_per_entity_week.

        Of the whole run: micros_per_event and bytes_per_entity. With several targets, `over_persistence` is the
        geometric mean of their mae over their mae_persistence, and errors and widths are those of `by_target`.
        """
        kinds = [alarm.kind for alarm in self.alarms]
        weeks = self.entity_weeks()
        errors: dict[str, Any] = self._errors(np.ones(len(self.row), np.bool_))
        if len(self.targets) > 1:
            each = {path: self._errors(self.target == j) for j, path in enumerate(self.targets)}
            errors |= {"mae": None, "mae_persistence": None, "interval_width": None}
            errors |= {"over_persistence": over_persistence(each.values()), "by_target": each}
        return {
            "rows": self.events,
            **errors,
            "anomalies": kinds.count("anomaly"),
            "drifts": kinds.count("drift"),
            "alerts_per_entity_week": len(kinds) / weeks if weeks else None,
            "micros_per_event": self.micros,
            "bytes_per_entity": self.memory,
        }

    def _errors(self, rows: NDArray[np.bool_]) -> dict[str, Any]:
        """Return errors and intervals of some rows."""
        judged = rows & (self.inside >= 0)
        return {
            "mae": float(self.error[rows].mean()) if rows.any() else None,
            "mae_persistence": float(self.step[rows].mean()) if rows.any() else None,
            "coverage": float(self.inside[judged].mean()) if judged.any() else None,
            "interval_width": float(self.width[judged].mean()) if judged.any() else None,
        }

    def entity_weeks(self) -> float:
        """Return the weeks from first to last row of its entities, added up."""
        total = 0
        for e in np.unique(self.entity):
            ts = self.ts[self.entity == e]
            total += int(ts.max() - ts.min())
        return total / WEEK_MS


ARRAYS = ("row", "target", "entity", "ts", "error", "step", "inside", "width")


def run_trial(config: Config, file: Path, limit: int | None = None, until: int | None = None) -> Trial:
    """Run the production engine over a recording. until: it sees no event from this time on, ms"""
    if config.labels is not None and config.labels.marker is not None:
        return _run_labelled(config, file, limit, until)
    began = time.perf_counter()
    runs = run_targets(config, Recording(file, limit), until=until, side_by_side=False)  # other cores: other trials
    columns = [np.concatenate(parts) for parts in zip(*map(_columns, runs, range(len(runs))), strict=True)]
    order = np.lexsort((columns[1], columns[0]))
    row, target, entity, ts, error, step, inside, width = (column[order] for column in columns)
    run = runs[0]
    return Trial(
        run.names, config.event.targets, row, target, entity, ts, error, step, inside, width,
        [alarm._replace(message={}) for alarm in run.alarms()], time.perf_counter() - began,
        1e6 * run.cpu_seconds / max(len(run), 1), run.bytes_per_entity,
    )  # fmt: skip


def _run_labelled(config: Config, file: Path, limit: int | None, until: int | None) -> Trial:
    """Run as `run_trial` where labels are rows, too: each error is that of the prediction which its label met."""
    began, began_here = time.perf_counter(), time.thread_time()
    engine, codes, first = PartitionedEngine(config, side_by_side=False), dict[str, int](), 0
    ts, messages = [np.empty(0, np.int64)], list[tuple[int, dict[str, Any]]]()
    parts, count = [[np.empty(0, of) for of in (*[np.int64] * 4, *[np.float64] * 2, np.int64, np.float64)]], 0
    for chunk in prequential_labelled(Recording(file, limit), engine, until=until):
        assert chunk.met is not None
        assert chunk.met_at is not None
        assert chunk.naive is not None
        factorize(chunk.events.entity, codes)
        ts.append(chunk.events.ts)
        # A batch of labels alone has no event: its alerts come after the last one before.
        messages += [(count + min(alert.row, len(chunk.events) - 1), alert.message) for alert in chunk.alerts]
        count += len(chunk.events)
        names, s = chunk.met
        inside = np.where(s.warmup, -1, (s.lower <= s.y) & (s.y <= s.upper)).astype(np.int64)
        step = np.abs(s.y - chunk.naive)
        own = [first + chunk.met_at, np.zeros(len(names), np.int64), factorize(names, codes), s.ts]
        columns = [*own, np.abs(s.y - s.yhat), step, inside, s.upper - s.lower]
        parts.append([column[~np.isnan(step)] for column in columns])
        first += chunk.height
    seconds, memory = time.thread_time() - began_here, engine.bytes_per_entity * len(engine)
    memory += engine.bytes_per_pool * engine.pool_count
    alarms = alarms_of(list(codes), np.concatenate(ts), messages)
    row, target, entity, when, error, step, inside, width = map(np.concatenate, zip(*parts, strict=True))
    return Trial(
        list(codes), config.event.targets, row, target, entity, when, error, step, inside, width,
        [alarm._replace(message={}) for alarm in alarms], time.perf_counter() - began,
        1e6 * seconds / max(count, 1), memory / max(len(engine), 1),
    )  # fmt: skip


def _columns(run: EngineRun, number: int) -> tuple[NDArray[Any], ...]:
    """Return the columns of `ARRAYS` of one target. number: of the target"""
    step = _steps(run)
    at = np.flatnonzero(~np.isnan(step) & ~np.isnan(run.yhat))
    inside = np.where(run.warmup, -1, (run.lower <= run.y) & (run.y <= run.upper)).astype(np.int64)
    return (
        run.position[at], np.full(len(at), number), run.entity[at], run.ts[at], np.abs(run.y - run.yhat)[at], step[at],
        inside[at], (run.upper - run.lower)[at],
    )  # fmt: skip


def over_persistence(by_target: Iterable[dict[str, Any]]) -> float | None:
    """Return the geometric mean of mae over mae_persistence, of the targets that have both and move; None of none."""
    ratios = [each["mae"] / each["mae_persistence"] for each in by_target if each["mae_persistence"]]
    return float(np.prod(np.array(ratios) ** (1.0 / len(ratios)))) if ratios else None


def _steps(run: EngineRun) -> Floats:
    """Return (n,) |y − the entity's last target before|; with a horizon, the last one when y was predicted.

    NaN without a target, and where there is no such one.
    """
    place, order = np.arange(len(run)), np.argsort(run.entity, kind="stable")
    y, entity = run.y[order], run.entity[order]
    first = np.searchsorted(entity, entity)
    last = np.maximum.accumulate(np.where(np.isnan(y), -1, place))  # the last place with a target, up to each
    at = place - 1
    if run.ahead:
        rank = np.empty_like(place)
        rank[order] = place
        origin = run.origin[order]
        at = np.where(origin < 0, -1, rank[origin])
    known = np.where(at >= first, last[at], -1)
    step = np.empty(len(run))
    step[order] = np.abs(y - np.where(known >= first, y[known], np.nan))
    return step


def with_settings(config: Config, settings: dict[str, Any]) -> Config:
    """Return the configuration with other values. settings: dotted key → value, as in a file

    Raises:
        ConfigError: they contradict each other.
    """
    sections: dict[str, BaseModel] = {}
    try:
        for name in {key.partition(".")[0] for key in settings}:
            section: BaseModel = getattr(config, name)
            content = section.model_dump()
            if name == "model":
                content["tuning"] = config.model.tuned.model_dump()
            for key, value in settings.items():
                first, *path = key.split(".")
                if first == name:
                    inside = content
                    for part in path[:-1]:
                        inside = inside[part]
                    inside[path[-1]] = value
            sections[name] = type(section).model_validate(content)
        return config.replace(**sections)
    except ValidationError as error:
        problems = "; ".join(item["msg"].removeprefix("Value error, ") for item in error.errors())
        raise ConfigError(f"{settings}: {problems}") from error
