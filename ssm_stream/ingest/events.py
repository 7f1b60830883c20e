"""Documents → columns of events.

A document is one parsed JSON object or one row of a file. `EventReader` reads many at a time into `Events`, a struct of
columns, and refuses the others, each with a fault and a reason. Values are checked one by one only if their column has
something unusual: the common case runs no Python for each event and field.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC
from operator import itemgetter
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config import MAX_NAME_LENGTH, Event
from ssm_stream.config.paths import is_flat
from ssm_stream.ingest.assembler import Assembler, Columns
from ssm_stream.ingest.entity_filter import entity_filter
from ssm_stream.ingest.event_columns import Events, select_entities, text_code
from ssm_stream.ingest.faults import Fault
from ssm_stream.ingest.json_values import abbreviated, is_utf8, why_not_utf8
from ssm_stream.ingest.paths import path_getter
from ssm_stream.ingest.timestamps import (
    MAX_MS,
    MIN_MS,
    UNITS_PER_MS,
    find_other_unit,
    is_epoch_text,
    iso_to_ms,
    number_to_ms,
    plain_iso_to_ms,
    to_milliseconds,
)

__all__ = ["EventReader", "Events", "FaultError", "RefusedDocument", "select_entities", "text_code"]

MAX_NUMBER = float(np.finfo(np.float32).max)
"""Largest absolute value of a feature or target: the learner computes some of its arrays in 32 bits."""
MAX_CACHED_CODES = 10_000
"""Texts whose codes are cached: bounded, so that unlimited distinct texts cannot exhaust memory."""


class RefusedDocument(NamedTuple):
    """A document that is no event: its index among the documents, the fault, and a reason that a person can act on."""

    position: int
    fault: Fault
    reason: str


class FaultError(Exception):
    """A value that makes its document no event: `Fault` and reason."""


def not_an_object(position: int, document: object) -> RefusedDocument:
    """Return the refusal of a document that is no JSON object."""
    reason = f"expected a JSON object such as {{...}}, found {abbreviated(document)}"
    return RefusedDocument(position, Fault.NOT_AN_OBJECT, reason)


def _floats(column: Sequence[Any]) -> NDArray[np.float64] | None:
    """Return numbers as an array, None as NaN; None if an integer is out of the range of 64-bit floats."""
    try:
        return np.array(column, np.float64)
    except OverflowError:
        return None


def stack_targets(targets: Sequence[NDArray[np.float64]], n: int) -> NDArray[np.float64]:
    """Return the targets of n events as `Events.target`: (n, 0) where messages are no rows and have none."""
    if len(targets) == 1:
        return targets[0]
    return np.stack(targets, axis=1) if targets else np.empty((n, 0))


class EventReader:
    """Reads documents by the `event` section of the configuration.

    Raises:
        ConfigError: `event.features` is `auto`, and no features are selected yet.
    """

    def __init__(self, event: Event) -> None:
        self.event = event
        self.assembler = Assembler(event)
        self.derived = self.assembler.derived
        self.paths = [event.entity, event.timestamp, *event.targets, *self.derived.paths, *event.categories]
        self.paths += event.context
        flat = all(map(is_flat, self.paths))
        self._all_at_once = itemgetter(*self.paths) if flat else None
        self._but_entity = itemgetter(*self.paths[1:]) if flat else None
        self._one_by_one = [path_getter(path) for path in self.paths]
        self._codes: dict[str | None, float] = {None: math.nan}
        self._only = entity_filter(event.only)
        self._zone = UTC if event.time_zone == "UTC" else ZoneInfo(event.time_zone)

    def read(
        self, documents: Sequence[Any], names: Sequence[str] | None = None
    ) -> tuple[Events, list[RefusedDocument]]:
        """Return the events among the documents, and the refused documents, both in order of position.

        Documents of entities that `event.only` leaves out are in neither.

        Args:
            documents: n documents
            names: n entities, which a document may repeat; None: each document has its own
        """
        refused: dict[int, RefusedDocument] = {}
        if set(map(type, documents)) - {dict}:
            for i, document in enumerate(documents):
                if type(document) is not dict:
                    refused[i] = not_an_object(i, document)
        rows = [d for d in documents if type(d) is dict] if refused else documents
        at = [i for i in range(len(documents)) if i not in refused]
        own = names if names is None or not refused else [names[i] for i in at]
        columns = self._columns(rows) if own is None else self._named_columns(rows, own, at, refused)

        entity = self._names(columns[0], at, refused)
        ts = self._times(columns[1], at, refused)
        paths, first = self.event.targets, 2 + len(self.event.targets)
        targets = [
            self._numbers(column, path, at, refused, truth=False)
            for path, column in zip(paths, columns[2:first], strict=True)
        ]
        target = stack_targets(targets, len(rows))
        numbers = self.derived.paths
        features, texts = np.empty((len(rows), len(columns) - first)), dict[float, str]()
        for j, (path, column) in enumerate(zip(self.paths[first:], columns[first:], strict=True)):
            if j < len(numbers):
                features[:, j] = self._numbers(column, path, at, refused, truth=True)
            else:
                features[:, j] = self._categories(column, path, at, refused, texts)

        events = self.assembler(Columns(entity, ts, features, target, np.array(at, np.int64), texts or None))
        passed = self._only.passed_by(at, entity) if self._only is not None else set[int]()
        for i in passed & refused.keys():
            del refused[i]
        if passed or len(refused) + len(rows) > len(documents):
            events = events.take(np.flatnonzero([i not in refused and i not in passed for i in at]))
        return events, [refused[i] for i in sorted(refused)]

    def _columns(self, rows: Sequence[Any]) -> list[Sequence[Any]]:
        if not rows:
            return [()] * len(self.paths)
        if self._all_at_once is not None:
            try:
                return list(zip(*map(self._all_at_once, rows), strict=True))
            except KeyError:
                pass  # a field is missing somewhere: get each by itself
        return [[get(row) for row in rows] for get in self._one_by_one]

    def _named_columns(
        self, rows: Sequence[Any], names: Sequence[str], at: list[int], refused: dict[int, RefusedDocument]
    ) -> list[Sequence[Any]]:
        """Return the columns with `names` as the entities; refuse the rows that name another one."""
        own = list(map(self._one_by_one[0], rows))
        for i, (value, name) in enumerate(zip(own, names, strict=True)):
            if value is not None and value != name and str(value) != name:
                reason = (
                    f"entity: `{self.event.entity}` is {abbreviated(value)} in an event with the key "
                    f"{abbreviated(name)}: key the stream by the entity, or do not key it"
                )
                refused.setdefault(at[i], RefusedDocument(at[i], Fault.WRONG_ID, reason))
        if self._but_entity is not None and len(self.paths) > 2:
            try:
                return [names, *zip(*map(self._but_entity, rows), strict=True)] if rows else self._columns(rows)
            except KeyError:
                pass  # as in `_columns`
        return [names, *([get(row) for row in rows] for get in self._one_by_one[1:])]

    def _names(self, column: Sequence[Any], at: list[int], refused: dict[int, RefusedDocument]) -> list[str]:
        if (default := self.event.entity_default) is not None:
            column = [default if value is None else value for value in column]
        if set(map(type, column)) <= {str}:
            distinct = set(column)
            if "" not in distinct and max(map(len, distinct), default=0) <= MAX_NAME_LENGTH and is_utf8(distinct):
                return list(column)
        return [self._read_value(value, self._name, "", at[i], refused) for i, value in enumerate(column)]

    def _times(self, column: Sequence[Any], at: list[int], refused: dict[int, RefusedDocument]) -> NDArray[np.int64]:
        form, kinds = self.event.timestamp_format, set(map(type, column))
        raw = _floats(column) if form != "iso" and kinds <= {int, float} else None
        whole = None if raw is None else to_milliseconds(raw, form)
        if whole is None and form in ("auto", "iso") and kinds == {str}:
            whole = plain_iso_to_ms(column, without_zone=self._zone is UTC)
        if whole is not None:
            return whole
        times = [self._read_value(value, self.read_time, 0, at[i], refused) for i, value in enumerate(column)]
        return np.array(times, np.int64)

    def _numbers(
        self, column: Sequence[Any], path: str, at: list[int], refused: dict[int, RefusedDocument], *, truth: bool
    ) -> NDArray[np.float64]:
        plain = {int, float, type(None), bool} if truth else {int, float, type(None)}
        values = _floats(column) if set(map(type, column)) <= plain else None
        if values is not None:
            with np.errstate(invalid="ignore"):
                usable = np.abs(values) <= MAX_NUMBER
            if usable.all() or all(column[i] is None for i in np.flatnonzero(~usable).tolist()):
                return values

        def number(value: Any) -> float:
            return self._number(value, path, truth)

        return np.array(
            [self._read_value(v, number, math.nan, at[i], refused) for i, v in enumerate(column)], np.float64
        )

    def _categories(
        self,
        column: Sequence[Any],
        path: str,
        at: list[int],
        refused: dict[int, RefusedDocument],
        texts: dict[float, str],
    ) -> NDArray[np.float64]:
        """Return codes and numbers of a category, and add the texts of its codes to `texts`."""
        kinds = set(map(type, column))
        if kinds <= {str, type(None)}:
            distinct = set(column)
            if self._cache_codes(distinct):
                texts.update((self._codes[text], text) for text in distinct if text is not None)
                return np.fromiter(map(self._codes.__getitem__, column), np.float64, len(column))
        elif kinds <= {int, float, bool, type(None)}:
            return self._numbers(column, path, at, refused, truth=True)

        def category(value: Any) -> float:
            code = self._category(value, path)
            if type(value) is str:
                texts[code] = value
            return code

        return np.array(
            [self._read_value(v, category, math.nan, at[i], refused) for i, v in enumerate(column)], np.float64
        )

    def _cache_codes(self, texts: set[str | None]) -> bool:
        """Cache the codes of these texts; return False if one of them is too long or not UTF-8."""
        new = {text for text in texts - self._codes.keys() if text is not None}
        if max(map(len, new), default=0) > MAX_NAME_LENGTH or not is_utf8(new):
            return False
        if len(self._codes) + len(new) > MAX_CACHED_CODES:
            new = {text for text in texts if text is not None}
            self._codes = {None: math.nan}
        self._codes.update((text, text_code(text)) for text in new)
        return True

    @staticmethod
    def _read_value(
        value: Any, read: Callable[[Any], Any], default: Any, position: int, refused: dict[int, RefusedDocument]
    ) -> Any:
        """Return what `read` makes of a value; on a fault the default, and the document is refused."""
        try:
            return read(value)
        except FaultError as fault:
            refused.setdefault(position, RefusedDocument(position, *fault.args))
            return default

    def _name(self, value: Any) -> str:
        path = self.event.entity
        if value is None:
            raise FaultError(Fault.MISSING_FIELD, f"entity: `{path}` is missing or null")
        if type(value) is int:
            if abs(value) >= 10**MAX_NAME_LENGTH:
                raise FaultError(Fault.NAME_TOO_LONG, f"entity: `{path}` has more than {MAX_NAME_LENGTH} digits")
            return str(value)
        if type(value) is not str:
            what = f"`{path}` must be text or a whole number"
            raise FaultError(Fault.WRONG_TYPE, f"entity: {what}, found {abbreviated(value)}")
        if not value:
            raise FaultError(Fault.EMPTY_ENTITY, f"entity: `{path}` is empty text")
        if len(value) > MAX_NAME_LENGTH:
            raise FaultError(
                Fault.NAME_TOO_LONG,
                f"entity: `{path}` has {len(value)} characters, at most {MAX_NAME_LENGTH} are allowed",
            )
        if not is_utf8([value]):
            raise FaultError(Fault.NOT_UTF8, f"entity: `{path}` {why_not_utf8(value)}")
        return value

    def read_time(self, value: Any) -> int:
        """Return the time of an event, ms since 1970 UTC. Raises FaultError."""
        path, form = self.event.timestamp, self.event.timestamp_format
        if value is None:
            raise FaultError(Fault.MISSING_FIELD, f"timestamp: `{path}` is missing or null")
        if type(value) is str and form in ("auto", "iso"):
            try:
                return self._in_range(iso_to_ms(value, self._zone), value)
            except (ValueError, OverflowError):
                cure = "; event.timestamp_format names the unit of numbers in quotes" * is_epoch_text(value)
                raise FaultError(
                    Fault.WRONG_TIMESTAMP,
                    f"timestamp: `{path}` is not ISO 8601 (2026-01-31T12:00:00Z), found {abbreviated(value)}{cure}",
                ) from None
        if type(value) is str and form in UNITS_PER_MS and is_epoch_text(value, form):
            value = float(value)  # Protobuf's JSON, and so OpenTelemetry's, has 64-bit integers in quotes
        if type(value) in (int, float) and form != "iso":
            try:
                number = float(value)
            except OverflowError:
                number = MAX_NUMBER  # an integer out of the range of 64-bit floats
            if not math.isfinite(number):
                raise FaultError(Fault.NOT_FINITE, f"timestamp: `{path}` is {value}")
            return self._in_range(number_to_ms(number, form), value)
        expected = {"auto": "a number or ISO 8601 text", "iso": "ISO 8601 text"}.get(
            form, f"a number ({form} since 1970)"
        )
        raise FaultError(Fault.WRONG_TYPE, f"timestamp: `{path}` must be {expected}, found {abbreviated(value)}")

    def _in_range(self, ms: float, value: Any) -> int:
        if not MIN_MS <= ms <= MAX_MS:
            other = find_other_unit(ms, self.event.timestamp_format)
            raise FaultError(
                Fault.OUT_OF_RANGE,
                f"timestamp: `{self.event.timestamp}` lies outside the years 2 to 9998, found {abbreviated(value)}"
                + (f"; {other}" if other else ""),
            )
        return int(ms // 1)

    def _category(self, value: Any, path: str) -> float:
        if type(value) is not str:
            return self._number(value, path, True, "text, a number, true or false")
        if len(value) > MAX_NAME_LENGTH:
            raise FaultError(
                Fault.NAME_TOO_LONG, f"`{path}` has {len(value)} characters, at most {MAX_NAME_LENGTH} are allowed"
            )
        if not is_utf8([value]):
            raise FaultError(Fault.NOT_UTF8, f"`{path}` {why_not_utf8(value)}")
        return text_code(value)

    @staticmethod
    def _number(value: Any, path: str, truth: bool, expected: str = "a number") -> float:
        if value is None:
            return math.nan
        if type(value) is bool and truth:
            return float(value)
        if type(value) not in (int, float):
            cure = _cure_of_text(value) if type(value) is str else ""
            raise FaultError(Fault.WRONG_TYPE, f"`{path}` must be {expected}, found {abbreviated(value)}{cure}")
        if isinstance(value, float) and not math.isfinite(value):
            raise FaultError(Fault.NOT_FINITE, f"`{path}` is {value}; leave the field out where the value is unknown")
        if abs(value) > MAX_NUMBER:
            raise FaultError(
                Fault.OUT_OF_RANGE, f"`{path}` is beyond ±3.4e38 (32-bit floats), found {abbreviated(value)}"
            )
        return float(value)


def _cure_of_text(text: str) -> str:
    """Return how a producer sends what a text means, where that is a number; empty where it is none."""
    try:
        number = float(text)
    except ValueError:
        return ""
    if math.isfinite(number):
        return "; send the number without quotes"
    return "; send null, or leave the field out, where the value is unknown"
