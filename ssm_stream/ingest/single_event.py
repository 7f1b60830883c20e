"""Reads one document at a time, without arrays: the same values as `EventReader.read` of many."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ssm_stream.config import MAX_NAME_LENGTH, Event
from ssm_stream.ingest.events import MAX_NUMBER, EventReader, Events, FaultError
from ssm_stream.ingest.json_values import abbreviated, plain_value


class SingleEvent(NamedTuple):
    """One event.

    ts: ms since 1970 UTC
    features (d,), targets (m,): as the columns of `Events`, NaN = unknown or none
    texts: text of each category code
    windows (k,): as of `Events`
    """

    entity: str
    ts: int
    features: Sequence[float]
    targets: Sequence[float]
    texts: dict[float, str] | None = None
    windows: Sequence[float] | None = None


class SingleEventReader(EventReader):
    """Reads documents by the `event` section, one at a time (`read_one`) or many (`read`)."""

    def __init__(self, event: Event) -> None:
        super().__init__(event)
        self._target_count, self._number_count = len(event.targets), len(self.derived.paths)
        self._plain = not event.context and not event.when and event.quality is None

    def read_one(self, document: dict[str, Any]) -> SingleEvent | None:
        """Return the event of a document; None if `read` has to read it: something in it is new, unusual or refused,
        or there are conditions."""
        if not self._plain:
            return None
        try:
            if self._all_at_once is None:
                values = [get(document) for get in self._one_by_one]
            else:
                values = self._all_at_once(document)
        except KeyError:  # a field is missing
            values = [get(document) for get in self._one_by_one]
        entity, first = values[0], 2 + self._target_count
        if type(entity) is not str or not 0 < len(entity) <= MAX_NAME_LENGTH or not entity.isascii():
            return None
        if self._only is not None and not self._only.matches(entity):
            return None
        try:
            ts = self.read_time(values[1])
        except FaultError:
            return None
        targets: list[float] = []
        for value in values[2:first]:
            number = usual_number(value)
            if number is None or type(value) is bool:
                return None
            targets.append(number)
        features: list[float] = []
        last = first + self._number_count
        for value in values[first:last]:
            number = usual_number(value)
            if number is None:
                return None
            features.append(number)
        features, windows = self.derived.add_one(features, targets)
        texts: dict[float, str] | None = None
        for value in values[last:]:
            number = usual_number(value)
            if number is None:
                number = self._codes.get(value) if type(value) is str else None
                if number is None:
                    return None
                texts = {number: value} if texts is None else texts | {number: value}
            features.append(number)
        return SingleEvent(entity, ts, features, targets, texts, windows)


def to_events(events: Sequence[SingleEvent]) -> Events:
    """Return events as columns, in order."""
    targets = np.array([event.targets for event in events], np.float64)
    windows = [event.windows for event in events if event.windows is not None]
    texts: dict[float, str] = {}
    for event in events:
        texts |= event.texts or {}
    return Events(
        [event.entity for event in events],
        np.array([event.ts for event in events], np.int64),
        np.array([event.features for event in events], np.float64),
        targets[:, 0] if targets.shape[1] == 1 else targets,
        np.arange(len(events)),
        category_texts=texts or None,
        windows=np.array(windows, np.float64) if windows else None,
    )


def usual_number(value: Any) -> float | None:
    """Return a number, NaN for None; None if it is no number of the usual size."""
    kind = type(value)
    if kind is float:
        return value if -MAX_NUMBER <= value <= MAX_NUMBER else None
    if value is None:
        return math.nan
    if kind is int or kind is bool:
        return float(value) if -MAX_NUMBER <= value <= MAX_NUMBER else None
    return None


def feature_number(key: Hashable, value: Any, unlike_text: str = "") -> float:
    """Return the value of a feature that is no usual number: NaN if it is unknown.

    Args:
        key: its name
        unlike_text: in words why it is no text

    Raises:
        ValueError: it cannot be used.
    """
    try:
        known = plain_value(value)
        if isinstance(known, str):  # float would take "nan" and "1_0"
            raise TypeError
        number = math.nan if known is None else float(known)
    except (TypeError, ValueError):
        reason = unlike_text if isinstance(value, str) else ""
        raise ValueError(f"feature {key!r}: found {abbreviated(value)}; it must be a number{reason}") from None
    except OverflowError:  # an integer beyond 64-bit floats
        number = math.inf
    found = math.nan if math.isnan(number) else usual_number(number)
    if found is None:
        raise ValueError(f"feature {key!r}: found {abbreviated(value)}; it must be finite, and of less than 3.4e38")
    return found
