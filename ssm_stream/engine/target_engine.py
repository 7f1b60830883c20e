"""The engine of one target: events in, predictions and alerts out, state inside. No Kafka, no Bytewax.

`TargetEngine.process` predicts each event from its entity's state, scores the error, then learns, one event after
another in the order given. Entities of one shard and one source learn together (a pool). Predictions depend only on the
events of the pool in their order: cutting the stream into other batches or processes changes no bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config import Config, Event
from ssm_stream.core import frozen_weights, lifecycle, loop, shapes
from ssm_stream.core.features import kernel_columns
from ssm_stream.core.loop import Predictions, Settled, empty_predictions
from ssm_stream.engine import trials
from ssm_stream.engine.alert_summary import Summarizer
from ssm_stream.engine.alerts import Alert, AlertBuilder, PoolCodes, input_names
from ssm_stream.engine.category_texts import CategoryTexts
from ssm_stream.engine.counts.episode_tally import count_open_episodes
from ssm_stream.engine.delayed_labels import DelayedLabels, LabelResult, empty_resolved
from ssm_stream.engine.entity_store import EntityStore
from ssm_stream.engine.episodes.stops import end_kinds
from ssm_stream.engine.kernel_params import build_feature_plan, build_rules
from ssm_stream.engine.parallel.lanes import BatchRun, Lanes
from ssm_stream.engine.report_collector import ReportCollector
from ssm_stream.engine.rules.restarts import Restarts, Segment
from ssm_stream.engine.single_event import SingleEventProcessor
from ssm_stream.ingest.events import Events
from ssm_stream.ingest.labels import Labels
from ssm_stream.ingest.single_event import SingleEvent


class PredictionTrace(NamedTuple):
    """A prediction and all that it was made of: the learner's arrays and scratch, and the event's rows in them.

    columns (C,): of the event
    """

    params: shapes.LearnerParams
    learner: shapes.Learner
    scratch: shapes.Scratch
    pool: int
    row: int
    yhat: float
    columns: NDArray[np.float64]


class TargetInputs:
    """Selects what each target's engine reads of the events: its own target, and its numeric inputs.

    With `target: all` the inputs of a target are some of the other targets, and those that are inputs only.
    """

    def __init__(self, event: Event) -> None:
        targets, self._several = event.targets, len(event.targets) > 1
        self._others: list[list[int]] | None = None
        if event.watches_all:
            place = {path: i for i, path in enumerate(targets)}
            self._others = [[place[path] for path in event.watched_inputs if path != target] for target in targets]

    def select(self, number: int, events: Events) -> Events:
        """Return the events as the engine of a target reads them. number: of the target, from 0"""
        if not self._several:
            return events
        features = events.features
        if self._others is not None:
            features = np.concatenate([events.target[:, self._others[number]], features], axis=1)
        target = np.ascontiguousarray(events.target[:, number])
        return replace(events, target=target, features=features, share=_known_share(events.target))

    def select_one(self, number: int, event: SingleEvent) -> SingleEvent:
        """Return one event as the engine of a target reads its features."""
        if self._others is None:
            return event
        return event._replace(features=[*(event.targets[i] for i in self._others[number]), *event.features])


def _known_share(targets: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return `Events.share` (n,) of targets (n, m).

    The targets that an entity never has, as in a plant with kinds of machines, take nothing of its budget. By event, as
    this needs no memory: of n events, budgets of one alarm in B divided by the values of each add up to n / B alarms.
    """
    known = ~np.isnan(targets)
    return None if known.all() else np.count_nonzero(known, axis=1) / targets.shape[1]


class TargetEngine:
    """Predicts, scores and learns one target of the events of many entities.

    config: with one target; see `ssm_stream.engine.engine` for several
    delayed: processes targets that come after their events; None if each comes with its event
    single: processes one event at a time; None if targets are delayed
    restarts: the entities that stand still or have started again; None if targets are delayed, without `event.when`

    >>> from ssm_stream.config import parse_config
    >>> config = parse_config('''
    ... source: {brokers: "localhost:9092", topic: events}
    ... event: {entity: machine, timestamp: ts, features: [load], target: temp}
    ... ''')
    >>> engine = TargetEngine(config)
    >>> from ssm_stream.ingest.events import EventReader
    >>> rows = [{"machine": "press-1", "ts": 60 * i, "load": i % 5, "temp": 20 + 3 * (i % 5)} for i in range(300)]
    >>> events, refused = EventReader(config.event).read(rows)
    >>> predictions, alerts = engine.process(events)
    >>> bool(abs(predictions.yhat[-1] - events.target[-1]) < 0.5), refused
    (True, [])
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.plan = build_feature_plan(config)
        self.weights = frozen_weights.load(config.model.weights)
        self.rules = build_rules(config)
        self.store = EntityStore(config, self.plan, self.weights)
        self._texts = CategoryTexts(self.store)
        self._reports = ReportCollector(self.store, AlertBuilder(config, self.plan, self._texts.get))
        self._lanes = Lanes(self.store, self.rules, self._reports.builder)
        self.restarts = Restarts(config) if config.event.when or self.store.delayed is None else None
        self.delayed: DelayedLabels | None = None
        self.single: SingleEventProcessor | None = None
        if self.store.delayed is None:
            self.single = SingleEventProcessor(self.store, self.rules, self._reports, self._texts)
        else:
            self.delayed = DelayedLabels(self.store, self.rules, self._reports, self._texts)

    def process(
        self, events: Events, source: int = 0, evicted: Sequence[tuple[int, str]] = ()
    ) -> tuple[Predictions, list[Alert]]:
        """Predict, score and learn, in order.

        Args:
            events: n events; those that are idle change nothing
            source: the stream that they come from (the Kafka partition); each has a watermark of its own
            evicted: row and name of the entities to evict there, which have no event before that row

        Returns:
            n predictions, and the alerts in the order of their events, to be completed by `alerts.render`
        """
        store, active = self.store, events.active
        store.begin_batch()
        trials.end(store)
        store.evict(evicted)
        segments = list[Segment]()
        if self.restarts is not None:
            for _, name in evicted:
                self.restarts.remove(name)
            segments = self.restarts.plan(events, source, store.row_by_name)
        if active is None:
            return self._process(events, source, segments)
        first, unmatched = len(store.reset_entities), 0 if self.delayed is None else self.delayed.unmatched_count
        predictions, alerts = self._process(events.take(active), source, segments)
        store.reset_entities[first:] = [
            each._replace(row=int(active[each.row])) for each in store.reset_entities[first:]
        ]
        store.labels.place(active)
        if self.delayed is not None:
            self.delayed.ignore_idle(events)
            self.delayed.resolved = self.resolved._replace(item=active[self.resolved.item])
            self.delayed.renumber_unmatched(unmatched, active)
        alerts = [alert._replace(row=int(active[alert.row])) for alert in alerts]
        return loop.spread(predictions, active, len(events)), alerts

    def _process(self, events: Events, source: int, segments: list[Segment]) -> tuple[Predictions, list[Alert]]:
        """Process events of which none is idle. segments: those with restarts, if there are any"""
        restarts, allowance = self.restarts, np.ones(len(events)) if segments else None
        if self.delayed is None:
            return self._learn(self.begin(events, source), segments, allowance)
        if restarts is not None and allowance is not None:
            restarts.mute(segments, allowance)
        return self.delayed.process(self._started(events), source, allowance)

    def _started(self, events: Events) -> Events:
        """Start a batch, and return its events as the core reads them."""
        self._texts.begin(events)
        if events.target.flags.c_contiguous and events.ts.flags.c_contiguous:
            return events
        return replace(events, target=np.ascontiguousarray(events.target), ts=np.ascontiguousarray(events.ts))

    @property
    def lanes(self) -> Lanes | None:
        """What learns batches ahead of their turn; None where an event may need Python, or a restart is under way."""
        store, restarts = self.store, self.restarts
        needs_turn = self.delayed is not None or store.own is not None or store.challenger is not None
        return None if needs_turn or restarts is None or restarts.any_open else self._lanes

    def begin(self, events: Events, source: int) -> BatchRun:
        """Return a batch that is to be learned, none of whose events is idle; its entities have rows from now on."""
        store, events = self.store, self._started(events)
        rows = store.assign_rows(events.entity)
        pools = store.pools_of(rows, source)
        store.changed[rows], store.pools_changed[pools] = True, True
        watched, mark = self._texts.watch(pools), store.watermark_index(source)
        columns = kernel_columns(self.plan, events.features, events.ts)
        return BatchRun(events, source, rows, pools, *columns, mark, watched, empty_predictions(len(events)))

    def finish(self, run: BatchRun) -> tuple[Predictions, list[Alert]]:
        """Return the results of a batch that has begun ahead of its turn, which it is now, as `process` does."""
        self.store.begin_batch()
        self._texts.begin(run.events)
        for event in run.reports:
            self._reports.keep(event)
        return self._learn(run, [], None)

    def _learn(
        self, run: BatchRun, segments: list[Segment], allowance: NDArray[np.float64] | None
    ) -> tuple[Predictions, list[Alert]]:
        """Learn what is left of a batch whose turn it is. segments: as of `_process`"""
        store, restarts, events = self.store, self.restarts, run.events
        store.labels.set_targets(events.target, events.ts, run.pools)
        for segment in segments or [Segment(len(events), [])]:
            if restarts is not None and allowance is not None:
                restarts.begin(segment, allowance)
            while run.at < segment.stop:
                stop = run.advance(store.bind(self.rules), store.watermarks, run.mark, segment.stop, allowance)
                if stop == loop.REPORT:
                    self._reports.add(*run.reported())
                elif stop == loop.STOPPED:
                    assert events.stopped is not None
                    end_kinds(store, int(events.stopped[run.at]), int(run.rows[run.at]))
                elif stop != loop.DONE:
                    if restarts is not None and allowance is not None and stop == loop.EXPIRED:
                        restarts.drop(events.entity[run.at], run.at, segments, allowance)
                    store.make_room(stop, run.at, int(run.rows[run.at]), int(run.pools[run.at]))
            if restarts is not None and allowance is not None:
                restarts.end(segment, allowance, ~np.isnan(events.target))
        self._texts.keep_learned(run.watched)
        return run.out, self._reports.finish()

    def freeze_learning(self, entities: Sequence[str]) -> None:
        """Freeze learning for these entities; see `Engine.freeze_learning`.

        The kernel freezes learning during an anomaly episode, so this opens one that no rule ends, and whose hold may
        cost anything.
        """
        anomaly = self.config.alerts.anomaly
        assert not anomaly.enabled, "with anomaly alerts the episode would end"
        assert anomaly.learn == "hold"
        rows = self.store.assign_rows(list(entities))
        episode = self.store.state.lifecycle.number[:, lifecycle.ANOMALY]
        episode[rows, lifecycle.OPEN] = 1.0
        episode[rows, lifecycle.HELD] = -np.inf
        self.store.changed[rows] = True

    def trace_prediction(self, events: Events, source: int = 0) -> PredictionTrace:
        """Predict the first of the events without learning it, and change nothing.

        Raises:
            KeyError: no event of the entity, or none from that source, has been processed.
        """
        store = self.store
        row = store.row_by_name[events.entity[0]]
        pool = store.pool_of(row, source)
        if pool is None:
            raise KeyError(f"no event of {events.entity[0]!r} has come from source {source}")
        ahead = events.ts + round(store.delayed.ahead) if store.delayed is not None else events.ts
        u, steps = kernel_columns(self.plan, events.features, ahead)
        learner = shapes.Learner(store.state.learner, *store.shared[:3])
        yhat = store.bind(self.rules).predict(pool, row, u[0], steps[0], float(events.ts[0]))
        return PredictionTrace(store.params, learner, store.scratch, pool, row, yhat, u[0])

    @property
    def resolved(self) -> Settled:
        """The predictions that met their targets in the last `process` or `learn`; none if targets are not delayed."""
        return empty_resolved(0) if self.delayed is None else self.delayed.resolved

    def learn(self, labels: Labels, source: int = 0) -> LabelResult:
        """Learn targets that come by themselves; only if the configuration has `labels`.

        A label whose event is still to come waits for it.

        Args:
            labels: n labels
            source: the stream that they come from (the Kafka partition)
        """
        assert self.delayed is not None, "the configuration has no section `labels`"
        self.store.begin_batch()
        return self.delayed.learn(labels, source)

    @property
    def bytes_of_rows(self) -> tuple[int, int]:
        """Memory of an entity's own state, and of what the entities of a pool have learned together."""
        return int(self.store.entity_block.shape[1]), int(self.store.pool_block.shape[1])

    def count_open_episodes(self, kind: str) -> int:
        """Return the number of entities with an open episode of a kind; safe to call from another thread."""
        return count_open_episodes(self.store.state, len(self.store), kind)

    @property
    def summarizer(self) -> Summarizer:
        """What writes the sentences of its alerts."""
        return self._reports.builder.summarizer

    def input_names(self, pool: int = 0) -> list[str]:
        """Return the names of a pool's implicit weights: the constant, the numbers, then the codes in use."""
        shared, codes = self.store.shared.pool, None
        if len(shared.used):
            codes = PoolCodes(int(shared.used[pool]), *(getattr(shared, name)[pool] for name in PoolCodes._fields[1:]))
        return input_names(self.plan, self.store.params, codes, self._texts.get)

    def state_hash(self, entity: str, source: int = 0) -> str:
        """Return 16 hex digits over all that the entity's next prediction depends on: its own state and its pool's.

        Args:
            entity: its name
            source: the stream that its events come from

        Raises:
            KeyError: no such entity.
        """
        row = self.store.row_by_name[entity]
        return self._reports.capture(row, self.store.pool_of(row, source)).state_hash
