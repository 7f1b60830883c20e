"""Readings → rows: a message is one value of one signal; a row has the last value of every signal as of its time.

A row of an entity is made at each reading of the target (of several, the first), or with `every` at whole multiples of
it. Its other values are those of the latest readings up to then, unknown where older than `max_age`; by default, older
than 10 times the signal's usual gap: the mean of its gaps in this entity, over about the last 16, once there are two.

With `grace`, the readings of an entity wait until one is later than they are by more than that. They are used in the
order of their times: however they came within `grace`, rows are the same. At one time, the target counts last; of one
signal and time, what came last. Without `grace` a reading is used at once.

A reading that is further behind than `grace` is late. After 100 of them in a row, it is the clock that was wrong: the
entity starts again with what comes.

The loops are in C++ (`core/rows/readings.hpp`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config import ConfigError, Event
from ssm_stream.config.quantities import format_duration
from ssm_stream.core import native
from ssm_stream.ingest.context.facts import JoinFacts
from ssm_stream.ingest.event_columns import Events
from ssm_stream.ingest.events import RefusedDocument
from ssm_stream.ingest.factorize import factorize
from ssm_stream.ingest.faults import Fault
from ssm_stream.ingest.rows.builder import Rows
from ssm_stream.ingest.rows.columns import RowColumns
from ssm_stream.ingest.rows.reading_state import map_signals, read_columns, read_header, without_texts, write_state
from ssm_stream.ingest.timestamps import ms_to_iso

SIGNAL, VALUE, BAD = range(3)
"""Columns of the features of readings: place of the signal in `RowColumns.names`, value, and 1 where it is not good."""
MAX_TEXTS = 10_000
"""Texts of categories that are kept: of those that no entity has any more, some are forgotten from there on."""


class ReadingBuilder:
    """Makes rows of readings, as `RowBuilder`.

    Args:
        event: the section of the configuration
        ttl: ms of event time after which an entity without readings starts afresh; None: never
        keyed: refuse an entity that is in several partitions, as its rows depend on how they are read
    """

    def __init__(self, event: Event, ttl: float | None, *, keyed: bool) -> None:
        self._columns = RowColumns(event)
        self._ttl, self._keyed, self._judged = ttl, keyed, event.quality is not None
        self._numbered = event.every is not None or event.grace > 0
        self._grace = event.grace
        given = event.max_age
        ages = [given.get(name) if isinstance(given, dict) else given for name in self._columns.names]
        self._ages = np.array([math.nan if age is None else 1000.0 * age for age in ages])
        self._every = round(1000 * (event.every or 0))
        self._codes: dict[str, int] = {}
        self._names: list[str] = []
        self._texts: dict[float, str] = {}
        self._seen = np.zeros(0, np.bool_)  # by code: has had a reading since the last snapshot
        self._came: dict[str, int] = {}
        """Entities whose clock is far behind → that of most others when they were known to come last, ms."""
        self._native = self._start()

    def _start(self) -> native.ReadingRows:
        return native.ReadingRows(self._every, round(1000 * self._grace), self._ages, self._ttl or math.inf)

    def add(self, messages: Events, offsets: Sequence[int], partition: int) -> Rows:
        """Return the rows that these readings complete; see `RowBuilder`."""
        if messages.category_texts:
            self._texts |= messages.category_texts
        code = factorize(messages.entity, self._codes)
        if len(self._codes) > len(self._names):
            self._names += list(self._codes)[len(self._names) :]
        if len(self._names) > len(self._seen):
            self._seen = np.append(self._seen, np.zeros(len(self._names), np.bool_))
        self._seen[code] = True
        features = messages.features
        signal = features[:, SIGNAL].astype(np.int64)
        value, bad = np.ascontiguousarray(features[:, VALUE]), features[:, BAD] != 0
        made, spread = self._native.add(len(self._names), code, signal, messages.ts, value, bad, partition)
        if spread >= 0 and self._keyed:
            raise ConfigError(
                f"delivery: exactly_once: readings of {self._names[spread]!r} come in several partitions, of which the "
                "order is not the same again after a crash: key the topic by the entity; or name this topic in "
                "source.repartition, and in source.topic a new one for copies by entity; or set delivery: at_least_once"
            )
        of = np.asarray(offsets, np.int64)
        return self._rows(made, of, self._late(made, messages), messages.came)

    def join_facts(self, join: JoinFacts) -> None:
        """Set what joins the facts of context topics; see `RowBuilder`."""
        if self._columns.join is not None:
            self._columns.join = join

    @property
    def overtaken(self) -> int:
        """Number of readings so far that came after a row of the same time, so that it has not got them."""
        return self._native.overtaken()

    def flush(self) -> Rows:
        """Return the rows that would be complete later; see `RowBuilder`."""
        return self._rows(self._native.flush(), np.full(len(self._names), -1), [])

    def _rows(
        self,
        made: tuple[bytes, ...],
        offsets: NDArray[np.int64],
        late: list[RefusedDocument],
        came: NDArray[np.int64] | None = None,
    ) -> Rows:
        code, ts, cause = (np.frombuffer(column, np.int64) for column in made[:3])
        values = np.frombuffer(made[3]).reshape(len(code), len(self._columns.names))
        doubtful = np.frombuffer(made[4], np.bool_) if self._judged else None
        held = np.frombuffer(made[5], np.bool_).reshape(values.shape)
        names = self._names
        entity = [names[i] for i in code.tolist()]
        arrived = None if came is None else came[cause]
        events = self._columns.events(
            entity, ts, values, self._texts or None, doubtful, numbered=self._numbered, came=arrived
        )
        events = replace(events, held=self._columns.of_signals(held))
        return Rows(events, offsets[cause].tolist(), late)

    def _late(self, made: tuple[bytes, ...], messages: Events) -> list[RefusedDocument]:
        index, behind = (np.frombuffer(column, np.int64).tolist() for column in made[6:])
        out = []
        for i, ms in zip(index, behind, strict=True):
            signal, ts = self._columns.names[int(messages.features[i, SIGNAL])], int(messages.ts[i])
            reason = (
                f"{signal!r} of {messages.entity[i]!r} at {ms_to_iso(ts)} is {format_duration(ms / 1000)} behind "
                f"the entity's latest reading, {ms_to_iso(ts + ms)}; event.grace is {format_duration(self._grace)}: "
                "for readings that come so late it must be longer"
            )
            out.append(RefusedDocument(i, Fault.LATE, reason))
        return out

    def dump(self) -> bytes:
        """Return the state; forgets the entities whose time to live has ended."""
        self._forget()
        columns = self._native.dump()
        header = {
            "signals": self._columns.names,
            "categories": sorted(self._columns.categories),
            "entities": self._names,
            "texts": [[int(code), text] for code, text in sorted(self._texts.items())],
            "sizes": list(map(len, columns)),
            **({"came": self._came} if self._came else {}),
        }
        return write_state(header, b"".join(columns))

    def load(self, data: bytes) -> None:
        """Replace the state by one that `dump` returned, of these signals or of others; see `RowBuilder`.

        Signals that both have keep their last readings and those that wait; new ones are unknown.
        """
        header, content = read_header(data)
        former: list[str] = header["signals"]
        names: list[str] = header["entities"]
        columns = read_columns(content, header["sizes"], len(former))
        if len(columns[0]) != len(names):
            raise ValueError("columns of another length")
        present, categories = self._columns.names, self._columns.categories
        if former != present or header["categories"] != sorted(categories):
            columns = map_signals(columns, former, present)
            numbers = [i for i, name in enumerate(present) if name not in categories]
            columns = without_texts(columns, numbers, [float(code) for code, _ in header["texts"]])
        self._native = self._start()
        self._native.load(columns)
        self._names, self._codes = names, {name: i for i, name in enumerate(names)}
        self._came, self._seen = header.get("came", {}), np.zeros(len(names), np.bool_)
        self._texts = {float(code): text for code, text in header["texts"]}

    def _forget(self) -> None:
        """Forget entities that have not come for the time to live, by the clock of most others, and texts beyond the
        limit. One whose own clock is behind comes all the same."""
        if self._ttl is not None and self._names:
            latest = np.frombuffer(self._native.latest(), np.int64)
            now = int(np.median(latest))
            behind = [i for i in np.flatnonzero(latest < now - self._ttl).tolist() if i < len(self._names)]
            before, self._came = self._came, {}
            for i in behind:
                came = now if self._seen[i] else before.get(self._names[i], -math.inf)
                if came >= now - self._ttl:
                    self._came[self._names[i]] = int(came)
            kept = np.setdiff1d(np.arange(len(latest)), [i for i in behind if self._names[i] not in self._came])
            self._seen = np.zeros(len(kept), np.bool_)
            if len(kept) < len(latest):
                self._native.keep(kept)
                self._names = [self._names[i] for i in kept.tolist()]
                self._codes = {name: i for i, name in enumerate(self._names)}
        if len(self._texts) > MAX_TEXTS:
            columns = self._native.dump()
            held = {*np.frombuffer(columns[7]).tolist(), *np.frombuffer(columns[13]).tolist()}
            self._texts = {code: text for code, text in self._texts.items() if code in held}
