"""Processes events whose targets come later: as labels (`labels`), or with later events (`model.horizon`)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core import loop, pending
from ssm_stream.core.features import calendar_columns, kernel_columns
from ssm_stream.core.loop import Late, Predictions, Rules, Settled, empty_predictions
from ssm_stream.engine.alerts import Alert, TargetAndPrediction
from ssm_stream.engine.category_texts import CategoryTexts
from ssm_stream.engine.counts.batch_labels import LabelledEvents
from ssm_stream.engine.entity_store import EntityStore
from ssm_stream.engine.episodes.stops import end_kinds
from ssm_stream.engine.report_collector import Location, ReportCollector
from ssm_stream.ingest.events import Events
from ssm_stream.ingest.labels import EarlyLabel, Labels, UnmatchedLabel

MIN_RESOLVED = 16
"""Rows that are reserved for resolved predictions at least."""


class LabelResult(NamedTuple):
    """The result of n labels.

    matched (n,): whether an event waited for the label; alerts: their `row` is the label's
    resolved: the predictions of the events that they matched
    """

    matched: NDArray[np.bool_]
    alerts: list[Alert]
    resolved: Settled


class _Batch(NamedTuple):
    """Events or labels as the kernel takes them, n rows.

    rows, pools (n,): of their entities; ts (n,) ms; u (n, C), steps (n, 2): inputs, at the time that is predicted
    own_steps (n, 2): hour and weekday of the events themselves; y (n,) targets; key (n,): codes of ids
    """

    entity: list[str]
    rows: NDArray[np.int64]
    pools: NDArray[np.int64]
    ts: NDArray[np.int64]
    u: NDArray[np.float64]
    steps: NDArray[np.int64]
    own_steps: NDArray[np.int64]
    y: NDArray[np.float64]
    key: NDArray[np.int64]


def empty_resolved(m: int) -> Settled:
    """Return room for m resolved predictions."""
    item, ts, n = (np.empty(m, np.int64) for _ in range(3))
    y, yhat, lower, upper, score, fleet = (np.empty(m) for _ in range(6))
    return Settled(item, ts, y, yhat, lower, upper, score, np.empty(m, np.bool_), n, fleet)


class DelayedLabels:
    """Predicts events now and learns them when their targets come. Works on the state of one target.

    rules: of the store; resolved: the predictions that met their targets in the last call
    """

    def __init__(self, store: EntityStore, kernel_rules: Rules, reports: ReportCollector, texts: CategoryTexts) -> None:
        assert store.delayed is not None
        self.rules: Late = store.delayed
        self._store, self._kernel_rules, self._reports, self._texts = store, kernel_rules, reports, texts
        self.resolved = empty_resolved(0)
        self._recalled, self._resume_point = pending.new_room(store.params), np.zeros(4, np.int64)

    def process(
        self, events: Events, source: int, allowance: NDArray[np.float64] | None = None
    ) -> tuple[Predictions, list[Alert]]:
        """Predict events, and learn those whose targets these events bring; see `TargetEngine.process`.

        allowance (n,): of the scores at these events, see `core.Engine.run`; None: all 1
        """
        store = self._store
        target = events.target
        if len(store.early_labels):
            last = {}
            for name in store.early_labels.entities():
                row = store.row_by_name.get(name)
                if row is not None and store.state.clock.number[row, loop.GAPS] > 0:
                    last[name] = int(store.state.clock.number[row, loop.LAST])
            target = store.early_labels.match(events, last)
        rows = store.assign_rows(events.entity)
        pools = store.pools_of(rows, source)
        self._texts.keep_all(events)
        # A target teaches the pool in which its event was predicted, which may be any.
        store.changed[rows], store.pools_changed[:] = True, True
        ahead = events.ts + round(self.rules.ahead)
        u, steps = kernel_columns(store.plan, events.features, ahead)
        own_steps = steps if not self.rules.ahead else calendar_columns(store.plan, events.ts)[1]
        key = np.zeros(len(events), np.int64) if events.key is None else events.key
        out = empty_predictions(len(events))
        batch = _Batch(events.entity, rows, pools, events.ts, u, steps, own_steps, target, key)
        alerts, self.resolved = self._run(
            batch,
            out,
            store.watermark_index(source),
            source,
            predicting=True,
            allowance=allowance,
            stopped=events.stopped,
            share=events.share,
        )
        store.labels.set_rows(LabelledEvents(*self.resolved[:2]), pools[self.resolved.item])
        out.score[self.resolved.item] = self.resolved.score
        return out, alerts

    def ignore_idle(self, events: Events) -> None:
        """Ignore the labels of the idle ones among events."""
        if self.rules.labels and events.idle is not None:
            for i in np.flatnonzero(events.idle).tolist():
                key = 0 if events.key is None else int(events.key[i])
                self._store.early_labels.add_idle(events.entity[i], int(events.ts[i]), key)

    def learn(self, labels: Labels, source: int) -> LabelResult:
        """Learn labels; see `TargetEngine.learn`."""
        store = self._store
        assert self.rules.labels, "labels come by themselves only if the configuration has a section `labels`"
        found = np.array([store.row_by_name.get(name, -1) for name in labels.entity], np.int64)
        chosen = np.flatnonzero(found >= 0)
        rows = found[chosen]
        store.changed[rows], store.pools_changed[:] = True, True
        columns, steps = np.empty((len(chosen), 0)), np.zeros((len(chosen), 2), np.int64)
        names = [labels.entity[i] for i in chosen.tolist()]
        batch = _Batch(
            names, rows, rows, labels.ts[chosen], columns, steps, steps, labels.target[chosen], labels.key[chosen]
        )
        # An entity's events come by one partition: its labels count for the pool of its last event.
        latest = (store.pending.met[rows] - 1) % max(store.pending.open.shape[1], 1)
        pools = np.full(len(labels), -1)
        pools[chosen] = store.pending.pool[rows, latest] if store.pending.open.shape[1] else -1
        alerts, resolved = self._run(batch, empty_predictions(0), 0, 0, predicting=False)
        self.resolved = resolved = resolved._replace(item=chosen[resolved.item])
        store.labels.set_rows(LabelledEvents(*resolved[:2]), pools[resolved.item])
        alerts = [alert._replace(row=int(chosen[alert.row])) for alert in alerts]
        matched = np.zeros(len(labels), np.bool_)
        matched[resolved.item] = True
        for i in np.flatnonzero(~matched).tolist():
            self._hold(labels, i, int(found[i]), source)
        return LabelResult(matched, alerts, resolved)

    def _hold(self, labels: Labels, i: int, row: int, source: int) -> None:
        """Hold label i, which matches no event yet, or give it up if none can come. row: −1 if the entity has none"""
        store = self._store
        name, ts = labels.entity[i], int(labels.ts[i])
        if store.early_labels.is_idle(name, ts, int(labels.key[i])):
            return
        clock = store.state.clock.number[row] if row >= 0 else np.zeros(4)
        last = int(clock[loop.LAST]) if clock[loop.GAPS] > 0 else None
        raw = None if labels.raw is None else labels.raw[i]
        since = last if self.rules.by_id else ts
        label = EarlyLabel(ts, int(labels.key[i]), float(labels.target[i]), since, source, int(labels.position[i]), raw)
        if not self.rules.by_id and last is not None and ts <= last:
            store.early_labels.give_up(
                name, label,
                f"no event of {name!r} at {ts} ms waits for a label: there was none, it is labelled already, or it was "
                "dropped (labels.wait, labels.pending)", i,
            )  # fmt: skip
        else:
            store.early_labels.add(name, label, i)

    def pop_unmatched(self) -> list[UnmatchedLabel]:
        """Return the labels given up since the last call, in order."""
        store = self._store
        out, store.early_labels.unmatched = store.early_labels.unmatched, []
        store.label_counts[loop.MISSED] += len(out)
        return out

    @property
    def unmatched_count(self) -> int:
        """Labels given up since the last `pop_unmatched`."""
        return len(self._store.early_labels.unmatched)

    def renumber_unmatched(self, first: int, rows: NDArray[np.intp]) -> None:
        """Map the rows of the unmatched labels from index `first` on, which are indexes into `rows`."""
        unmatched = self._store.early_labels.unmatched
        unmatched[first:] = [label._replace(row=int(rows[label.row])) for label in unmatched[first:]]

    @property
    def counts(self) -> dict[str, int]:
        """See `Engine.label_counts`."""
        store = self._store
        matched, dropped, missed = store.label_counts.tolist()
        return {
            "waiting": int(store.pending.open.sum()),
            "matched": matched,
            "dropped": dropped,
            "unmatched": missed + self.unmatched_count,
            "early": len(store.early_labels),
        }

    def _run(
        self,
        batch: _Batch,
        out: Predictions,
        watermark: int,
        source: int,
        *,
        predicting: bool,
        allowance: NDArray[np.float64] | None = None,
        stopped: NDArray[np.int8] | None = None,
        share: NDArray[np.float64] | None = None,
    ) -> tuple[list[Alert], Settled]:
        """Run the kernel over events or labels; return the alerts and the resolved predictions.

        Args:
            out: predictions, filled where `predicting`
            watermark: index of the source's watermark
            source: of an entity that is its own pool
            predicting: the batch are events, not labels
        """
        store, names, rows, resume = self._store, batch.entity, batch.rows, self._resume_point
        parts: list[Any] = []
        room = empty_resolved(max(len(batch.y), MIN_RESOLVED))
        at, resume[:] = 0, 0
        while at < len(batch.y):
            waiting = loop.Waiting(store.pending, self._recalled, self.rules, room, resume, store.label_counts)
            at, stop = store.bind(self._kernel_rules).run_late(
                waiting, batch.pools, rows, batch.ts, batch.u, batch.steps, batch.own_steps, batch.y, batch.key, at,
                store.watermarks, watermark, out, predicting, allowance, stopped, share,
            )  # fmt: skip
            done, pool = int(resume[loop.ROWS]), int(resume[loop.POOL])
            if stop == loop.REPORT:
                i = int(room.item[done - 1])
                values = TargetAndPrediction(
                    *(float(column[done - 1]) for column in (room.y, room.yhat, room.lower, room.upper))
                )
                own = list(store.pools)[pool][1] if store.config.model.fleet else source
                self._reports.add(i, names[i], int(room.ts[done - 1]), values, Location(int(rows[i]), pool, own))
            elif stop == loop.MORE_ROWS:
                parts.append([column[:done].copy() for column in room])
                resume[loop.ROWS] = 0
            elif stop == loop.STOPPED:
                assert stopped is not None
                end_kinds(store, int(stopped[at]), int(rows[at]))
            elif stop != loop.DONE:
                store.make_room(stop, at, int(rows[at]), pool)
        done = int(resume[loop.ROWS])
        parts.append([column[:done] for column in room])
        return self._reports.finish(), Settled(*map(np.concatenate, zip(*parts, strict=True)))
