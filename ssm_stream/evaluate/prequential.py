"""Test, then learn: the production engine over a recording, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice, pairwise
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config import MAX_PENDING, Config, ConfigError, Labels
from ssm_stream.config.paths import columns_of
from ssm_stream.config.quantities import MAX_DURATION
from ssm_stream.core.loop import Predictions, Settled
from ssm_stream.engine.engine import Alert, Engine
from ssm_stream.engine.episodes.ids import EventIds, alert_id, source_of
from ssm_stream.engine.kernel_params import ttl_ms
from ssm_stream.evaluate.message_rows import MessageRows
from ssm_stream.evaluate.partitioned_engine import KnownLabels, LabelledBatch, PartitionedEngine
from ssm_stream.evaluate.reading_order import TimeOrder
from ssm_stream.evaluate.recordings import Recording
from ssm_stream.evaluate.recordings.column_reader import ColumnReader
from ssm_stream.evaluate.recordings.context_files import recorded_facts
from ssm_stream.evaluate.recordings.document_columns import TIMESTAMP
from ssm_stream.evaluate.recordings.frames import Slice
from ssm_stream.ingest.events import Events, RefusedDocument
from ssm_stream.ingest.labels import LabelReader, label_test
from ssm_stream.ingest.labels import Labels as LabelColumns
from ssm_stream.ingest.planned_stops import withhold_targets
from ssm_stream.ingest.rows.reader import MessageReader
from ssm_stream.ingest.rows.stage import row_builder

T = TypeVar("T")
BATCH = 10_000


class Predictor(Protocol):
    """The production engine, or what predicts in its place."""

    def process(self, events: Events) -> tuple[Predictions, list[Alert]]:
        """Predict and learn."""
        ...


class Chunk(NamedTuple):
    """One batch of a recording: its events, what the engine made of them, and the rows that are no events."""

    events: Events
    predictions: Predictions
    alerts: list[Alert]
    refused: list[RefusedDocument]
    first: int
    """Row number (from 0) of the batch's first row."""
    ahead: float | None = None
    """With a horizon: how far it reaches, s; 0 if it counts events."""
    resolved: list[Settled] | None = None
    """With a horizon, by target: the predictions that met it in this batch; `item` is the row of the target."""
    targets: tuple[str, ...] = ()
    """With several targets: their paths."""
    source: str = ""
    """Name of the recording, in the ids of alerts."""
    height: int = 0
    """Rows of the file."""
    passed_by: int = 0
    """Rows of entities that `event.only` leaves out, and readings of signals that are not used."""
    sorted: bool = False
    """See `Batch`."""
    overtaken: int = 0
    """See `Batch`."""
    rowless: tuple[str, ...] = ()
    """See `Batch`."""
    met: tuple[list[str], Settled] | None = None
    """With labels among the rows: the predictions that met their targets in this batch, and the entities of them."""
    met_at: NDArray[np.int64] | None = None
    """Of `met`: place in the batch of the label, or of the event that carries its target."""
    naive: NDArray[np.float64] | None = None
    """With late labels: the last one known at each scored prediction (of `met`, else of `events`); NaN: none."""

    @property
    def learned(self) -> Events:
        """The events as they are learned and judged: without the targets in planned stops."""
        return withhold_targets(self.events)


class Batch(NamedTuple):
    """Some rows of a file.

    height: their number; passed_by: of entities that `event.only` leaves out, or readings of other signals
    sorted: the readings of the file were not in the order of their times
    overtaken: readings so far that came after a row of the same time, which waits for them only with `event.grace`
    rowless: in the last batch, entities that have readings and no row
    """

    events: Events
    refused: list[RefusedDocument]
    height: int
    passed_by: int
    sorted: bool = False
    overtaken: int = 0
    rowless: tuple[str, ...] = ()


def prequential(
    config: Config,
    rows: Iterable[dict[str, Any]],
    engine: Predictor | None = None,
    until: int | None = None,
    source: str | None = None,
) -> Iterator[Chunk]:
    """Run the production engine over rows (dicts, one an event; a `Recording` is read by column), batch by batch.

    until: the engine sees no event from this time on, ms, wherever it is in the file
    source: name of the recording, in the ids of alerts; None: the events topic
    """
    source = source or config.source.topic
    engine = Engine(config) if engine is None else engine  # a new engine has length 0 and is false
    first, held = 0, None
    partition = engine.partition if isinstance(engine, PartitionedEngine) and engine.partitions > 1 else None
    for part in batches(config, rows, partition):
        events, refused = part.events, part.refused
        if until is not None:
            events = events.take(np.flatnonzero(events.ts < until))
        if isinstance(engine, Engine):
            place = events.position
            events, more = engine.admit(engine.episodes.mark(events))
            refused = sorted([*refused, *(m._replace(position=int(place[m.position])) for m in more)])
            ids = EventIds(source, 0, _numbers(first + events.position), events.number)
            predictions, alerts = engine.process(events, 0, ids)
        else:
            predictions, alerts = engine.process(events)
        horizon = config.model.horizon
        ahead = horizon.seconds if horizon.events or horizon.seconds else None
        resolved = engine.resolved_predictions if ahead is not None and isinstance(engine, Engine) else None
        sent = [alert for alert in alerts if alert.suppressed_by is None]
        chunk = Chunk(events, predictions, sent, refused, first, ahead, resolved, _several(config), source, *part[2:])
        if held is not None:
            yield held
        held = chunk
        first += part.height
    if held is not None:
        yield _with_waiting(held, engine)


def _numbers(rows: NDArray[np.int64]) -> Sequence[int]:
    """Return row numbers, which mostly follow each other: then each is made when it is needed."""
    whole = len(rows) > 0 and bool((np.diff(rows) == 1).all())
    return range(int(rows[0]), int(rows[-1]) + 1) if whole else rows.tolist()


def _with_waiting(last: Chunk, engine: Predictor) -> Chunk:
    """Return the last batch with the alerts that still wait, as nothing follows at which they would be sent."""
    waiting = engine.episodes.release(max(len(last.events) - 1, 0)) if isinstance(engine, Engine) else []
    return last._replace(alerts=[*last.alerts, *waiting]) if waiting else last


def batches(
    config: Config, rows: Iterable[dict[str, Any]], partition: Callable[[str], int] | None = None
) -> Iterator[Batch]:
    """Yield the events of a file, some of its rows at a time.

    Where the rows of the file are messages that are no events yet, an event's position is that of the message that
    completed it; the last ones, which no message completes, come in a batch of their own.

    Args:
        partition: returns the partition of an entity's messages; None: all are of one
    """
    builder, order = row_builder(config.event, ttl_ms(config)), TimeOrder(config.event)
    if builder is not None and (join := recorded_facts(config, rows)) is not None:
        builder.join_facts(join)
    rows_of = None if builder is None else MessageRows(config, builder, partition)
    read = read_messages(config, rows)
    # A topic has them as they came, and so has its recording.
    came = isinstance(rows, Recording) and rows.is_topic
    for messages, refused, count in order(read) if config.event.makes_rows and not came else read:
        passed = count - len(messages) - len(refused)
        if rows_of is None:
            yield Batch(messages, refused, count, passed)
            continue
        made = rows_of.add(messages)
        yield Batch(made.events, sorted([*refused, *made.late]), count, passed, order.sorted, rows_of.overtaken)
    if rows_of is not None:
        yield Batch(rows_of.flush(), [], 0, 0, order.sorted, rows_of.overtaken, rows_of.rowless)


def read_messages(
    config: Config, rows: Iterable[dict[str, Any]]
) -> Iterator[tuple[Events, list[RefusedDocument], int]]:
    """Yield what was read of the rows of a file, events or messages that are none yet, and the number of rows.

    Raises:
        ConfigError: a row is a label, by `labels.marker`.
    """
    labels = config.labels
    is_label, marker = label_test(labels), None if labels is None else labels.marker
    if isinstance(rows, Recording):
        columns = ColumnReader(config.event)
        names = {*columns.names, TIMESTAMP} if config.event.facts else columns.names
        slices = rows.of_event(config.event).slices(names if marker is None else {*names, *columns_of(marker)})
        yield from read_ahead((*columns.read(_events_alone(part, labels)), part.height) for part in slices)
        return
    reader = MessageReader(config.event)
    for batch in _documents(config, rows):
        if is_label is not None and any(map(is_label, batch)):
            raise _label_found(marker)
        yield *reader.read(batch), len(batch)


def read_events(config: Config, rows: Iterable[dict[str, Any]]) -> Iterator[tuple[Events, list[RefusedDocument], int]]:
    """Yield as `read_messages`, where rows may be labels, too: these are left out, of the number of rows, too."""
    is_label = label_test(config.labels)
    if is_label is None or config.event.makes_rows:
        yield from read_messages(config, rows)
        return
    reader = MessageReader(config.event)
    for batch in _documents(config, rows):
        events = [each for each in batch if not is_label(each)]
        yield *reader.read(events), len(events)


def _events_alone(part: Slice, labels: Labels | None) -> Slice:
    """Return a slice of which no row is a label."""
    is_label = label_test(labels)
    if labels is not None and labels.marker is not None and is_label is not None:
        column = part.column(labels.marker)
        if any(map(is_label, part.rows())) if column is None else column.null_count() < len(column):
            raise _label_found(labels.marker)
    return part


def _label_found(marker: str | None) -> ConfigError:
    return ConfigError(
        f"labels.marker: found rows of the recording with `{marker}`, which are labels. backtest, explain, tune and "
        "ablate learn them where messages are events; what else is run here (simpler methods, a frozen model, a "
        "replay) has each target with its event, which these labels were not: write each label into the row of its "
        "event, of the same entity and time, and leave the section labels out; that shows what labels at once would do"
    )


def read_ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield the items, each computed by another thread while the one before it is used."""
    with ThreadPoolExecutor(1, "read-ahead") as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item


def _several(config: Config) -> tuple[str, ...]:
    """Return the targets if there are several."""
    return tuple(config.event.targets) if len(config.event.targets) > 1 else ()


def with_row_labels(config: Config) -> Config:
    """Return the configuration with labels that come by themselves, found by the number of their row.

    Raises:
        ConfigError: it has labels or a horizon of its own, or several targets.
    """
    if _several(config):
        raise ConfigError(
            f"--label-delay: found {len(config.event.targets)} targets; labels bring one: name one in event.target"
        )
    if config.labels is not None or config.model.horizon.events or config.model.horizon.seconds:
        raise ConfigError(
            "--label-delay: labels and model.horizon define already when the targets come: leave them out"
        )
    late = Labels(topic=f"{config.source.topic}.labels", id="row", wait=MAX_DURATION, pending=MAX_PENDING)
    return config.replace(labels=late)


def prequential_delayed(
    rows: Iterable[dict[str, Any]], delay: int, engine: PartitionedEngine, source: str | None = None
) -> Iterator[Chunk]:
    """Run as `prequential`, but the label of an event comes `delay` events later: row t is predicted before it.

    An alert's row is that of the event after which its label came.

    Args:
        rows: as of `prequential`
        delay: events
        engine: of the configuration `with_row_labels`
        source: name of the recording, in the ids of alerts; None: the events topic
    """
    config = engine.config
    source = source or config.source.topic
    waiting: deque[tuple[str, int, float]] = deque()
    known, first, count, held = KnownLabels(MAX_PENDING), 0, 0, None
    for events, refused, height, passed, *_ in batches(config, rows):
        key = np.arange(count, count + len(events))
        count += len(events)
        bare = replace(events, target=np.full(len(events), np.nan), key=key)
        parts: list[Predictions] = []
        alerts: list[Alert] = []
        naive = np.empty(len(events))
        for t in range(len(events)):
            naive[t] = known.last(events.entity[t])
            one, ids = np.array([t]), EventIds(source, 0, [first + int(events.position[t])])
            predicted, ended = engine.process(bare.take(one), 0, ids)
            parts.append(predicted)
            alerts += [alert._replace(row=t) for alert in ended]
            waiting.append((events.entity[t], int(key[t]), float(events.target[t])))
            if len(waiting) > delay:
                name, row, y = waiting.popleft()
                if y == y:
                    known.come(name, y)
                    zero = np.zeros(1, np.int64)
                    label = LabelColumns([name], zero, np.array([row]), np.array([y]), zero)
                    learned = engine.learn(label, engine.partition(name), ids)
                    alerts += [alert._replace(row=t) for alert in learned.alerts]
        together = [np.concatenate(columns) for columns in zip(*parts, strict=True)]
        predictions = Predictions(*together) if parts else engine.process(events)[0]
        sent = [alert for alert in alerts if alert.suppressed_by is None]
        chunk = Chunk(events, predictions, sent, refused, first, source=source, height=height, passed_by=passed)
        chunk = chunk._replace(naive=naive)
        if held is not None:
            yield held
        held = chunk
        first += height
    if held is not None:
        yield _with_waiting(held, engine)


def prequential_labelled(
    rows: Iterable[dict[str, Any]], engine: PartitionedEngine, source: str | None = None, until: int | None = None
) -> Iterator[Chunk]:
    """Run as `prequential` where labels are rows, too, by `labels.marker`: each is learned at its place in the file.

    The alerts at a label have its row. A chunk's events are predicted without the labels after them; `Chunk.met` has
    what is scored.

    Args:
        rows: as of `prequential`; events, not what makes them
        engine: of a configuration with `labels.marker`
        source: name of the recording, in the ids of alerts; None: the events topic
        until: the engine sees no event from this time on, ms, and no label of one
    """
    config, first, held = engine.config, 0, None
    name = source or config.source.topic
    section, is_label = config.labels, label_test(config.labels)
    assert section is not None
    assert is_label is not None
    reader, label_reader = MessageReader(config.event), LabelReader(config, section)
    known = KnownLabels(section.pending)
    for documents in _documents(config, rows):
        marked = np.array([is_label(each) for each in documents], np.bool_)
        at, of_labels = np.flatnonzero(~marked), np.flatnonzero(marked)
        some = [documents[i] for i in at.tolist()]
        events, refused = reader.read(some)
        events, nameless = label_reader.add_ids(some, events)
        labels, wrong = label_reader.read([documents[i] for i in of_labels.tolist()])
        events = replace(events, position=at[events.position])
        labels = replace(labels, position=of_labels[labels.position])
        passed = len(documents) - len(events) - len(labels) - len(refused) - len(nameless) - len(wrong)
        if until is not None:
            events = events.take(np.flatnonzero(events.ts < until))
            labels = labels.take(np.flatnonzero(labels.ts < until))
        made = LabelledBatch(engine, name, first, known)
        made.refused += [each._replace(position=int(at[each.position])) for each in (*refused, *nameless)]
        made.refused += [each._replace(position=int(of_labels[each.position])) for each in wrong]
        cuts = np.searchsorted(events.position, labels.position)
        done, starts = 0, np.flatnonzero(np.diff(cuts, prepend=-1)).tolist()
        for start, stop in pairwise([*starts, len(labels)]):
            made.predict(events.take(np.arange(done, cuts[start])))
            made.learn(labels.take(np.arange(start, stop)))
            done = int(cuts[start])
        made.predict(events.take(np.arange(done, len(events))))
        if held is not None:
            yield held
        events = engine.episodes.mark(events.take(np.flatnonzero(np.isin(events.position, made.admitted))))
        sent = [alert for alert in made.alerts if alert.suppressed_by is None]
        held = Chunk(events, made.predictions, sent, sorted(made.refused), first, source=name, met=made.met)
        held = held._replace(height=len(documents), passed_by=passed, naive=made.naive, met_at=made.met_at)
        first += len(documents)
    if held is not None:
        yield _with_waiting(held, engine)


def _documents(config: Config, rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of a file, some at a time."""
    if isinstance(rows, Recording):
        yield from (part.rows() for part in rows.of_event(config.event).slices())
        return
    iterator = iter(rows)
    while batch := list(islice(iterator, BATCH)):
        yield batch


def alert_rows(chunk: Chunk) -> Iterator[dict[str, Any]]:
    """Yield the alert messages of a chunk; their source is the file and the row."""
    rows = EventIds(chunk.source, 0, (chunk.first + chunk.events.position).tolist(), chunk.events.number)
    for alert in chunk.alerts:
        topic, partition, offset = source_of(alert, rows)
        place = {"topic": topic, "partition": partition, "offset": offset}
        yield {**alert.message, "source": place, "id": alert_id(topic, partition, offset, alert)}
