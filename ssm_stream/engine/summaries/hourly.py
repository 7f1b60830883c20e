"""Sums events, errors and episodes of each entity over the hour of event time at hand, and returns the hours that end.

An hour of an entity ends at its first event of a later hour, or, if it has none, at the first event of its source that
is two hours further. What comes late is added to the hour at hand; if that had ended already, it is returned again,
complete. All of that depends on the events of a source in their order alone, not on batches. The loop is `hours.cpp`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from ssm_stream.config import Config
from ssm_stream.core import native
from ssm_stream.core.loop import Predictions, Settled
from ssm_stream.engine.alerts import Alert
from ssm_stream.engine.episodes.ids import EventIds
from ssm_stream.engine.rules.messages import episode_kind
from ssm_stream.engine.snapshot_format import ArrayPart, SnapshotReader, bytes_part, read_bytes
from ssm_stream.engine.summaries.columns import (
    CHANGED,
    FORGOTTEN,
    HOUR,
    HOUR_MS,
    INSIDE_MS,
    KINDS,
    NO_HOUR,
    OF_TARGET,
    OF_TARGETS,
    OPEN_SINCE,
    PREDICTED,
    SOURCE,
    STARTED,
    TIMES,
    VALUES,
)  # fmt: skip
from ssm_stream.ingest.events import Events
from ssm_stream.ingest.factorize import factorize
from ssm_stream.ingest.labels import Labels
from ssm_stream.ingest.planned_stops import withhold_targets

MIN_ROWS = 64
SILENCE = "silence"
"""`episode_kind` of the silence of a whole entity."""


class EndedHours(NamedTuple):
    """Hours that have ended, k rows. offsets: of the messages that ended them; names: of the entities

    times (k, 4), sums (k, C): as in `columns`; open: kinds of the open episodes; silence: its begin, ms, or None
    """

    offsets: list[int]
    names: list[str]
    times: NDArray[np.int64]
    sums: NDArray[np.float64]
    open: list[list[str]]
    silence: list[int | None]

    def row(self, i: int) -> EndedHours:
        """Return one of them."""
        k = slice(i, i + 1)
        return EndedHours(
            self.offsets[k], self.names[k], self.times[k], self.sums[k], self.open[k], self.silence[k]
        )  # fmt: skip


class HourlySummaries:
    """The hour at hand of each entity. enabled: whether the configuration has `sinks.summaries`"""

    def __init__(self, config: Config) -> None:
        self.enabled = config.sinks.summaries is not None
        self._targets = len(config.event.targets)
        self._width = OF_TARGETS + self._targets * OF_TARGET
        self._ended: list[EndedHours] = []
        self._clear()

    def _clear(self) -> None:
        self._rows: dict[str, int] = {}
        self._names: list[str] = []
        self._sources: dict[int, int] = {}
        self._marks = np.zeros(0, np.int64)  # of each source: the latest hour of its events
        self._at, self._sums = np.zeros((0, TIMES), np.int64), np.zeros((0, self._width))
        self._changed = np.zeros(0, np.bool_)  # since the last persisted snapshot
        self._gone: list[str] = []
        self._open: dict[str, dict[str, tuple[str, int]]] = {}  # entity → `episode_kind` → kind and begin, ms

    def __len__(self) -> int:
        return len(self._rows)

    # Events.

    def add(
        self,
        events: Events,
        source: int,
        ids: EventIds | None,
        predictions: Sequence[Predictions | Settled],
        alerts: list[Alert],
    ) -> None:
        """Add a batch, in order.

        Args:
            events: n events
            source: the stream that they come from
            ids: of the events; None: they have none, and are not added
            predictions: of each target: of the events, or those that met their targets at them
            alerts: that the batch causes, in the order of their events
        """
        if not self.enabled or ids is None:
            return
        n = len(events)
        rows = factorize(events.entity, self._rows)
        self._grow()
        self._changed[rows] = True
        at_source, day = self._source(source), self._day(source)
        stopped = np.zeros(n, np.bool_) if events.maintenance is None else events.maintenance > 0
        ts, columns = np.ascontiguousarray(events.ts, np.int64), _columns(withhold_targets(events).target, predictions)
        begin, counted = 0, [alert for alert in alerts if _is_counted(alert)]
        for end in [*(alert.row + 1 for alert in counted), n]:
            if end > begin:
                tables = self._marks, self._at, self._sums
                self._end(native.add_hours(rows, ts, stopped, columns, at_source, begin, end, *tables), ids)
                begin = end
            while counted and counted[0].row < begin:
                self._count(counted.pop(0), at_source, ids)
        if self._day(source) != day:
            self._forget(at_source)

    def learn(self, labels: Labels, resolved: Settled, alerts: list[Alert]) -> None:
        """Add what labels resolved, and the alerts that they cause; they end no hour."""
        if not self.enabled:
            return
        rows = np.array([self._rows.get(name, -1) for name in labels.entity], np.int64)
        self._changed[rows[rows >= 0]] = True
        native.judge_hours(rows, _columns(None, [resolved]), self._at, self._sums)
        for alert in alerts:
            if _is_counted(alert) and alert.message["entity"] in self._rows:
                self._count(alert, None, None)

    def pop_ended(self) -> list[EndedHours]:
        """Return the hours that have ended since the last call."""
        ended, self._ended = self._ended, []
        return ended

    def remove(self, entity: str) -> None:
        """Remove an entity."""
        if entity in self._rows:
            self._keep(np.array([name != entity for name in self._names]))
        self._open.pop(entity, None)

    def _source(self, source: int) -> int:
        if source not in self._sources:
            self._sources[source] = len(self._sources)
            self._marks = np.append(self._marks, NO_HOUR)
        return self._sources[source]

    def _day(self, source: int) -> int:
        return int(self._marks[self._sources[source]]) // 24

    def _grow(self) -> None:
        """Make room for the entities that have a row."""
        used, before = len(self._rows), len(self._names)
        if used == before:
            return
        self._names += list(self._rows)[before:]
        if used > len(self._at):
            more = max(2 * used, MIN_ROWS) - len(self._at)
            self._at = np.concatenate([self._at, np.zeros((more, TIMES), np.int64)])
            self._sums = np.concatenate([self._sums, np.zeros((more, self._width))])
            self._changed = np.concatenate([self._changed, np.zeros(more, np.bool_)])
        self._at[before:used] = (NO_HOUR, 0, 0, -1)
        self._sums[before:used] = 0.0

    def _count(self, alert: Alert, source: int | None, ids: EventIds | None) -> None:
        """Count an alert in the hour at hand of its entity. source: None: a label caused it, and no hour ends"""
        message = alert.message
        entity, kind, phase, since = message["entity"], message["kind"], message["phase"], int(message["since"])
        row = self._rows.setdefault(entity, len(self._rows))
        self._grow()
        at, sums = self._at[row], self._sums[row]
        if source is not None:
            time = max(int(message["ts"]), int(at[HOUR]) * HOUR_MS)
            self._end(native.begin_hour(row, time, alert.row, self._targets, self._at, self._sums), ids)
            at[SOURCE] = source
        begin = float(at[HOUR] * HOUR_MS)
        episodes = self._open.setdefault(entity, {})
        if phase == "recovered":
            episodes.pop(episode_kind(message), None)
            if not episodes and sums[OPEN_SINCE] > 0.0:
                end = min(float(message["ts"]), begin + HOUR_MS)
                sums[INSIDE_MS] += max(end - sums[OPEN_SINCE], 0.0)
                sums[OPEN_SINCE] = 0.0
        else:
            if phase == "started" and kind in KINDS:
                sums[STARTED + KINDS.index(kind)] += 1.0
            episodes.setdefault(episode_kind(message), (kind, since))
            if sums[OPEN_SINCE] == 0.0:
                sums[OPEN_SINCE] = max(float(since), begin, 1.0)
        if not episodes:
            del self._open[entity]
        at[CHANGED] = self._changed[row] = True

    def _end(self, ended: tuple[bytes, bytes, bytes, bytes], ids: EventIds | None) -> None:
        """Keep hours that the loop has ended."""
        if not ended[0] or ids is None:
            return
        events, rows = (np.frombuffer(column, np.int64).tolist() for column in ended[:2])
        names = [self._names[row] for row in rows]
        self._changed[rows] = True
        open_: list[list[str]] = [[]] * len(names)
        silence: list[int | None] = [None] * len(names)
        if self._open:
            episodes = [self._open.get(name, {}) for name in names]
            open_ = [sorted({kind for kind, _ in each.values()}) for each in episodes]
            silence = [each[SILENCE][1] if SILENCE in each else None for each in episodes]
        self._ended.append(
            EndedHours(
                [ids.offsets[event] for event in events],
                names,
                np.frombuffer(ended[2], np.int64).reshape(-1, TIMES),
                np.frombuffer(ended[3], np.float64).reshape(-1, self._width),
                open_,
                silence,
            )
        )

    def _forget(self, source: int) -> None:
        """Remove the entities of a source without an event for so long that nothing of them is used any more."""
        at = self._at[: len(self._names)]
        old = (at[:, SOURCE] == source) & (at[:, CHANGED] == 0) & (at[:, HOUR] < self._marks[source] - FORGOTTEN - 24)
        old &= self._sums[: len(at), OPEN_SINCE] == 0.0
        if old.any():
            self._keep(~old)

    def _keep(self, kept: NDArray[np.bool_]) -> None:
        """Remove the other rows."""
        used = len(self._names)
        self._gone += [name for name, stays in zip(self._names, kept.tolist(), strict=True) if not stays]
        self._names = [name for name, stays in zip(self._names, kept.tolist(), strict=True) if stays]
        self._rows = {name: row for row, name in enumerate(self._names)}
        self._at, self._sums = self._at[:used][kept], self._sums[:used][kept]
        self._changed = self._changed[:used][kept]

    # Snapshots.

    def dump(self, *, full: bool) -> tuple[dict[str, Any], list[ArrayPart]]:
        """Return the state as metadata and arrays: all of it, or what changed since `mark_persisted`."""
        used = len(self._names)
        rows = np.arange(used) if full else np.flatnonzero(self._changed[:used])
        metadata = {
            "sources": list(self._sources),
            "marks": self._marks.tolist(),
            "open": self._open,
            "gone": [] if full else self._gone,
        }
        names = orjson.dumps([self._names[row] for row in rows.tolist()])
        tables = [("at", self._at), ("sums", self._sums)]
        parts = [ArrayPart(f"summaries.{name}", array, (rows,)) for name, array in tables]
        return metadata, [bytes_part("summaries.names", names), *parts]

    def load(self, metadata: dict[str, Any], reader: SnapshotReader, *, full: bool) -> None:
        """Load what `dump` returned: a full state, or the changes since the state that is there."""
        if full:
            self._clear()
        self._sources = {source: i for i, source in enumerate(metadata["sources"])}
        self._marks = np.array(metadata["marks"], np.int64)
        self._open = {
            entity: {key: (kind, since) for key, (kind, since) in own.items()}
            for entity, own in metadata["open"].items()
        }
        if gone := set(metadata["gone"]) & self._rows.keys():
            self._keep(np.array([name not in gone for name in self._names]))
        names = orjson.loads(read_bytes(reader, "summaries.names"))
        rows = factorize(names, self._rows)
        self._grow()
        at, sums = reader.read("summaries.at"), _with_means(reader.read("summaries.sums"), self._targets)
        if sums.shape != (len(names), self._width) or at.shape != (len(names), TIMES):
            raise ValueError("the summaries have other columns")
        self._at[rows], self._sums[rows] = at, sums
        self.mark_persisted()

    def clear(self) -> None:
        """Forget everything: it was switched off meanwhile."""
        self._clear()

    def mark_persisted(self) -> None:
        """Mark the state as persisted: the next incremental snapshot has what changes from now on."""
        self._changed[:] = False
        self._gone = []


def skip(reader: SnapshotReader) -> None:
    """Skip what `HourlySummaries.dump` returned."""
    for _ in range(3):
        reader.skip()


def _with_means(sums: NDArray[np.float64], targets: int) -> NDArray[np.float64]:
    """Return sums (k, C) with those of values and predictions, which states of before lack: NaN in this hour."""
    if sums.shape[1] != OF_TARGETS + targets * (OF_TARGET - len((VALUES, PREDICTED))):
        return sums
    own = sums[:, OF_TARGETS:].reshape(len(sums), targets, -1)
    own = np.insert(own, [VALUES, PREDICTED - 1], np.nan, axis=2)
    return np.hstack([sums[:, :OF_TARGETS], own.reshape(len(sums), -1)])


def _is_counted(alert: Alert) -> bool:
    """Return whether an alert was sent for an entity: not a fleet's, and not suppressed."""
    return alert.suppressed_by is None and alert.message["scope"] == "entity"


def _columns(
    target: NDArray[np.float64] | None, predictions: Sequence[Predictions | Settled]
) -> list[tuple[NDArray[Any], ...]]:
    """Return what was predicted and met for each target, as the loop takes it. target: of events, (n,) or (n, m)"""
    out = list[tuple[NDArray[Any], ...]]()
    for j, each in enumerate(predictions):
        if isinstance(each, Settled):
            item, y = each.item, each.y
        else:
            assert target is not None
            item, y = np.arange(len(target)), target if target.ndim == 1 else target[:, j]
        columns = item, y, each.yhat, each.lower, each.upper, each.score, each.warmup
        out.append(tuple(map(np.ascontiguousarray, columns)))
    return out
