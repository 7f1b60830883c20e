"""Processes one event at a time: the same bits as a batch, without an array for each event."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

import numpy as np

from ssm_stream.core import loop
from ssm_stream.core.constants import HALF_SECOND
from ssm_stream.core.features import QUARTER, FeaturePlan, calendar_columns, utc_offset
from ssm_stream.core.loop import Predictions, Rules
from ssm_stream.engine.alerts import Alert, TargetAndPrediction
from ssm_stream.engine.category_texts import CategoryTexts
from ssm_stream.engine.entity_store import EntityStore
from ssm_stream.engine.report_collector import Location, ReportCollector
from ssm_stream.ingest.single_event import SingleEvent

HOUR = 3_600_000


PredictedValues = tuple[float, float, float, float, bool, int, float]
"""What is predicted for one target of one event: yhat, lower, upper, score, warmup, n, fleet; see `Predictions`."""

Place = tuple[int, int, int]
"""Where the state of an event's entity lies: its row, its pool's row, and the index of its source's watermark."""


class SingleEventProcessor:
    """Processes single events of one target.

    Args:
        store: the state; without delayed targets
        rules, reports, texts: of the target's engine
    """

    def __init__(self, store: EntityStore, rules: Rules, reports: ReportCollector, texts: CategoryTexts) -> None:
        assert store.delayed is None
        self._store, self._rules, self._reports, self._texts = store, rules, reports, texts
        self._calendar = _Calendar(store.plan)
        columns = len(store.plan.columns)
        # The kernel's arrays are views on two blocks, each written or read by one call.
        self._inputs = struct.Struct(f"=5q2d{columns}d")
        self._in = bytearray(self._inputs.size)
        integers = np.frombuffer(self._in, np.int64, 5)
        self._pool, self._row, self._ts = integers[0:1], integers[1:2], integers[2:3]
        self._steps = integers[3:5].reshape(1, 2)
        numbers = np.frombuffer(self._in, np.float64, 2 + columns, 40)
        self._share, self._target, self._columns = numbers[:1], numbers[1:2], numbers[2:].reshape(1, columns)
        self._outputs = struct.Struct("=4d?7xqd")
        self._out = bytearray(self._outputs.size)
        floats = np.frombuffer(self._out, np.float64, 7).reshape(7, 1)
        warmup, n = np.frombuffer(self._out, np.bool_, 1, 32), np.frombuffer(self._out, np.int64, 1, 40)
        self._predictions = Predictions(floats[0], floats[1], floats[2], floats[3], warmup, n, floats[6])

    def locate(self, event: SingleEvent, source: int) -> Place | None:
        """Return where the event's state lies; None if its entity, its source or a text of its codes is new.

        Then a batch of this one event has to be processed, which adds what is new.
        """
        store = self._store
        row, watermark = store.row_by_name.get(event.entity), store.sources.get(source)
        if row is None or watermark is None:
            return None
        pool = store.pool_of(row, source)
        if pool is None or not (event.texts is None or event.texts.keys() <= store.category_texts.keys()):
            return None
        return row, pool, watermark

    def process(
        self, event: SingleEvent, target: float, source: int, place: Place, share: float = 1.0
    ) -> tuple[PredictedValues, list[Alert]]:
        """Predict, score and learn an event; see `TargetEngine.process`. place: from `locate`; share: of `Events`"""
        store, (row, pool, watermark) = self._store, place
        store.begin_batch()
        self._texts.begin_known(event.texts)
        store.changed[row] = store.pools_changed[pool] = True
        store.labels.set_one(target, event.ts, pool)
        cycles, hour, weekday = self._calendar.columns(event.ts)
        self._inputs.pack_into(self._in, 0, pool, row, event.ts, hour, weekday, share, target, *event.features, *cycles)
        at, alerts = 0, list[Alert]()
        while at < 1:
            at, stop = store.bind(self._rules).run(
                self._pool, self._row, self._ts, self._columns, self._steps, self._target, at, store.watermarks,
                watermark, self._predictions, None, None, self._share,
            )  # fmt: skip
            if stop == loop.REPORT:
                yhat, lower, upper, *_ = self._outputs.unpack_from(self._out)
                values, location = TargetAndPrediction(target, yhat, lower, upper), Location(row, pool, source)
                self._reports.add(0, event.entity, event.ts, values, location)
                alerts = self._reports.finish()
            elif stop != loop.DONE:
                store.make_room(stop, at, row, pool)
        predicted: PredictedValues = self._outputs.unpack_from(self._out)
        return predicted, alerts


Located = list[tuple[SingleEventProcessor, Place]]
"""By target: its processor, and where the event's state lies."""


def locate_targets(
    processors: Sequence[SingleEventProcessor | None], event: SingleEvent, source: int
) -> Located | None:
    """Return where the state of an event lies for each target.

    None if one has no processor, or something of the event is new to its state.
    """
    ready = []
    for processor in processors:
        if processor is None or (place := processor.locate(event, source)) is None:
            return None
        ready.append((processor, place))
    return ready


def process_targets(
    located: Located, event: SingleEvent, source: int, select: Callable[[int, SingleEvent], SingleEvent]
) -> tuple[list[PredictedValues], list[list[Alert]]]:
    """Process an event for each target; return the predictions and alerts of each.

    select: number of a target and event → the event with that target's features
    """
    predicted, alerts = list[PredictedValues](), list[list[Alert]]()
    share = sum(target == target for target in event.targets) / len(event.targets)  # NaN equals nothing
    for j, ((processor, place), target) in enumerate(zip(located, event.targets, strict=True)):
        values, own = processor.process(select(j, event), target, source, place, share)
        predicted.append(values)
        alerts.append(own)
    return predicted, alerts


class _Calendar:
    """Computes the calendar's columns of one time at a time; see `calendar_columns`."""

    def __init__(self, plan: FeaturePlan) -> None:
        self._plan, self._is_utc = plan, plan.time_zone == "UTC"
        self._has_cycles, self._has_holiday = bool(set(plan.cycles) - {"holiday"}), "holiday" in plan.cycles
        self._holidays = frozenset(plan.holidays)
        self._quarter: int | None = None
        self._offset = 0

    def columns(self, ts: int) -> tuple[list[float], int, int]:
        """Return the cycles (c,), the hour, 0 to 23, and the weekday, 0 (Monday) to 6. ts: ms"""
        if self._has_cycles:
            cycles, steps = calendar_columns(self._plan, np.array([ts]))
            return cycles[0].tolist(), int(steps[0, 0]), int(steps[0, 1])
        if not self._is_utc and ts // QUARTER != self._quarter:
            self._quarter, self._offset = ts // QUARTER, utc_offset(self._plan.time_zone, ts)
        hours = (ts + HALF_SECOND + self._offset) // HOUR
        holiday = [float(hours // 24 in self._holidays)] if self._has_holiday else []
        return holiday, hours % 24, (hours // 24 - 4) % 7
