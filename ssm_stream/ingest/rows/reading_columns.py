"""The fields of a reading: the section by which they are read, and what a builder needs of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config import Event
from ssm_stream.ingest.conditions import FIRST_CODE, passes
from ssm_stream.ingest.entity_filter import entity_filter
from ssm_stream.ingest.events import Events, RefusedDocument
from ssm_stream.ingest.factorize import factorize
from ssm_stream.ingest.faults import Fault
from ssm_stream.ingest.json_values import abbreviated
from ssm_stream.ingest.rows.columns import RowColumns

MAX_TAGS = 1_000_000
"""Tags whose parts are remembered: bounded, so that unlimited distinct ones cannot exhaust memory."""
UNUSED, NO_TAG = -1, -2
"""In place of a signal: one that is not used; a text that does not have the pattern."""


def reading_event(event: Event) -> Event:
    """Return the section by which readings are read."""
    flags = [] if event.quality is None else event.quality.flags
    texts = bool(RowColumns(event).categories)
    names = [] if event.signal is None else [event.signal]
    plain: dict[str, Any] = {
        "layout": "events",
        "only": event.only if event.tag is None else [],
        "features": [] if texts else [event.value],
        "categories": [*names, *([event.value] if texts else []), *flags],
        "target": [],
        "derive": {},
        "when": [],
        "quality": None,
    }
    return event.with_limits([]).model_copy(update=plain)


class ReadingColumns:
    """Makes of readings, as `EventReader` has read them, the columns `SIGNAL`, `VALUE` and `BAD`.

    Readings of signals that are not used, and of entities that `event.only` leaves out, are in neither result.
    """

    def __init__(self, event: Event) -> None:
        columns = RowColumns(event)
        self._event, self._place = event, {name: i for i, name in enumerate(columns.names)}
        numeric = [name not in columns.categories for name in columns.names]
        self._numeric = np.array([*numeric, False, False])  # the last two: NO_TAG, UNUSED
        read = reading_event(event)
        every = [*read.features, *read.categories]
        self._value = every.index(event.value)
        self._signal = None if event.signal is None else every.index(event.signal)
        self._flag = (
            None if event.quality is None or event.quality.column is None else every.index(event.quality.column)
        )
        self._only = entity_filter(event.only)
        self._expression = None if event.tag is None else event.tag.expression
        self._tags: dict[str, int] = {}
        self._parts = np.empty((0,), np.int64)  # signal of each tag
        self._entities: list[str] = []  # entity of each tag

    def __call__(self, events: Events) -> tuple[Events, list[RefusedDocument]]:
        """Return the readings that are used, and those that are refused."""
        entity, signal = self._by_tag(events) if self._signal is None else (events.entity, self._by_name(events))
        value = events.features[:, self._value]
        refused: list[RefusedDocument] = []
        if (signal == NO_TAG).any():
            assert self._event.tag is not None
            pattern, field = self._event.tag.pattern, self._event.tag.field
            for i in np.flatnonzero(signal == NO_TAG).tolist():
                reason = f"tag: `{field}` is not of the form {pattern!r}, found {abbreviated(events.entity[i])}"
                refused.append(RefusedDocument(int(events.position[i]), Fault.WRONG_TYPE, reason))
        if events.category_texts:
            texts = events.category_texts
            wrong = self._numeric[signal] & (value >= FIRST_CODE) & np.isin(value, list(texts))
            for i in np.flatnonzero(wrong).tolist():
                name = list(self._place)[signal[i]]
                reason = (
                    f"`{self._event.value}` of the signal {name!r} must be a number, found "
                    f"{abbreviated(texts[float(value[i])])} (a signal with text is one of event.categories)"
                )
                refused.append(RefusedDocument(int(events.position[i]), Fault.WRONG_TYPE, reason))
                signal[i] = UNUSED
        features = np.zeros((len(signal), 3))
        features[:, 0], features[:, 1] = signal, value
        if self._flag is not None:
            assert self._event.quality is not None
            bad = ~passes(self._event.quality.good, events.features[:, self._flag])
            features[:, 2] = bad
            features[bad, 1] = np.nan
        found = replace(events, entity=entity, features=features, category_texts=self._texts_of(events, signal, value))
        used = signal >= 0
        if self._only is not None and self._signal is None:
            used &= np.fromiter(map(self._only.matches, entity), np.bool_, len(entity))
        return (found if used.all() else found.take(np.flatnonzero(used))), refused

    def _texts_of(
        self, events: Events, signal: NDArray[np.int64], value: NDArray[np.float64]
    ) -> dict[float, str] | None:
        """Return the texts of the categories' values alone: names of signals and flags are texts, too."""
        if not events.category_texts or self._numeric[:-2].all():
            return None
        codes = np.unique(value[(signal >= 0) & ~self._numeric[signal]]).tolist()
        return {code: events.category_texts[code] for code in codes if code in events.category_texts} or None

    def _by_name(self, events: Events) -> NDArray[np.int64]:
        """Return the place of each reading's signal."""
        column = events.features[:, self._signal]
        distinct, of = np.unique(column, return_inverse=True)
        texts = events.category_texts or {}
        # A signal may be called by a whole number.
        names = [texts.get(each, f"{each:.0f}" if each == each else "") for each in distinct.tolist()]
        return np.array([self._place.get(name, UNUSED) for name in names], np.int64)[of]

    def _by_tag(self, events: Events) -> tuple[list[str], NDArray[np.int64]]:
        """Return the entity, and the place of the signal, of each reading."""
        if len(self._tags) > MAX_TAGS:
            self._tags, self._parts, self._entities = {}, np.empty(0, np.int64), []
        code = factorize(events.entity, self._tags)
        if len(self._tags) > len(self._entities):
            more = [self._split(tag) for tag in list(self._tags)[len(self._entities) :]]
            self._parts = np.concatenate([self._parts, [signal for _, signal in more]])
            self._entities += [entity for entity, _ in more]
        entities = self._entities
        return [entities[i] for i in code.tolist()], self._parts[code]

    def _split(self, tag: str) -> tuple[str, int]:
        assert self._expression is not None
        found = self._expression.fullmatch(tag)
        return ("", NO_TAG) if found is None else (found["entity"], self._place.get(found["signal"], UNUSED))
