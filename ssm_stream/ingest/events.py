"""From documents to columns: what an event is, and why one is refused.

A document is one parsed JSON object or one row of a file. `EventReader` reads many at a time into `Events`, a struct of
columns, and refuses the rest one by one with a reason that a person can act on. Rows are told apart only where a whole
column shows something unusual: the common case costs no Python an event and field.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from operator import itemgetter
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config import MAX_NAME_LENGTH, Event

LARGEST = float(np.finfo(np.float32).max)
CODES_KEPT = 10_000
"""Texts whose codes are remembered: a bound, should names never end."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_MS, LAST_MS = (
    -62_104_060_800_000,
    253_370_764_799_999,
)  # years 2 to 9998: no time zone leaves what datetime can hold
UNITS_PER_MS = {"s": 0.001, "ms": 1.0, "us": 1_000.0, "ns": 1_000_000.0}


@dataclass(frozen=True, slots=True)
class Events:
    """n events in the order of their source.

    entity: n names; ts (n,) int64 ms since 1970 UTC; features (n, d) float64, NaN = unknown: the numeric features, then
    the categories as codes (see `text_code`); target (n,) float64, or with m targets (n, m), NaN = none; position (n,)
    int64: where each stood among the documents read; key (n,) int64: codes of the ids, where labels are joined by them
    category_texts: text of each category code; None if no category is text
    """

    entity: list[str]
    ts: NDArray[np.int64]
    features: NDArray[np.float64]
    target: NDArray[np.float64]
    position: NDArray[np.int64]
    key: NDArray[np.int64] | None = None
    category_texts: dict[float, str] | None = None

    def __len__(self) -> int:
        return len(self.entity)

    def take(self, rows: NDArray[np.intp]) -> Events:
        """Those rows, in that order."""
        names = self.entity
        return Events(
            [names[i] for i in rows.tolist()],
            self.ts[rows],
            self.features[rows],
            self.target[rows],
            self.position[rows],
            None if self.key is None else self.key[rows],
            self.category_texts,
        )


class Refused(NamedTuple):
    """A document that is no event: its position among the documents, the kind of fault, the reason in words."""

    position: int
    fault: str
    reason: str


class _FaultError(Exception):
    """fault, reason; found while looking at one value."""


def value_at(path: str) -> Callable[[Any], Any]:
    """Value at a path: the key itself if the document has it, else key by key along the dots; None where it ends."""
    keys = path.split(".")

    def nested(document: Any) -> Any:
        if path in document:
            return document[path]
        for key in keys:
            if type(document) is not dict:
                return None
            document = document.get(key)
        return document

    return nested if len(keys) > 1 else lambda document: document.get(path)


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested beyond the stack; an int of thousands of digits
        return f"a value of type {type(value).__name__} that is too deep or too long to show"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _floats(column: Sequence[Any]) -> NDArray[np.float64] | None:
    """Numbers as an array, None as NaN; no array where an integer is beyond 64-bit floats."""
    try:
        return np.array(column, np.float64)
    except OverflowError:
        return None


def is_text(names: Iterable[str]) -> bool:
    """Can the names be written as UTF-8? A lone surrogate, as Python's own JSON reader lets through, cannot."""
    try:
        "".join(names).encode()
    except UnicodeEncodeError:
        return False
    return True


def moment(text: str, zone: tzinfo = UTC) -> datetime:
    """The time that a text tells in ISO 8601; without an offset it is in `zone`.

    Raises:
        ValueError: it tells none.
    """
    if len(text) > 8 and text.isdecimal():
        raise ValueError  # an epoch as text; fromisoformat would take some for a date of long ago
    found = datetime.fromisoformat(text)
    return found.replace(tzinfo=zone) if found.tzinfo is None else found


def tells_time(text: str) -> bool:
    """Whether `moment` can read it."""
    try:
        moment(text)
    except ValueError:
        return False
    return True


def milliseconds(epochs: NDArray[np.float64], form: str) -> NDArray[np.int64] | None:
    """Times (n,), ms since 1970, from numbers in the unit of `timestamp_format`; None if one is out of range."""
    with np.errstate(invalid="ignore", over="ignore"):
        if form == "auto":
            size = np.abs(epochs)
            unit = np.select([size < 1e11, size < 1e14, size < 1e17], [1e-3, 1.0, 1e3], 1e6)
        else:
            unit = np.full(len(epochs), UNITS_PER_MS[form])
        ms = epochs / unit
    if not np.all((ms >= FIRST_MS) & (ms <= LAST_MS)):
        return None
    whole: NDArray[np.int64] = np.floor(ms).astype(np.int64)
    return whole


def places(names: list[str], known: dict[str, int]) -> NDArray[np.int64]:
    """The number (n,) of each name. Names not yet known get the next ones, in order of appearance."""
    if names and names.count(names[0]) == len(names):
        return np.full(len(names), known.setdefault(names[0], len(known)))
    try:
        return np.fromiter(map(known.__getitem__, names), np.int64, len(names))
    except KeyError:
        for name in dict.fromkeys(names):
            known.setdefault(name, len(known))
        return np.fromiter(map(known.__getitem__, names), np.int64, len(names))


def text_code(text: str) -> float:
    """The code of a category's text: the same in every process, and 2³³ or more, so that no small number equals it."""
    return float(2**33 + zlib.crc32(text.encode()))


class EventReader:
    """Reads documents by the `event` section of the configuration.

    Raises:
        ConfigError: `event.features` is `auto`, and nothing is picked yet.
    """

    def __init__(self, event: Event) -> None:
        self.event = event
        self.paths = [event.entity, event.timestamp, *event.targets, *event.columns]
        flat = all("." not in path for path in self.paths)
        self._all_at_once = itemgetter(*self.paths) if flat else None
        self._one_by_one = [value_at(path) for path in self.paths]
        self._codes: dict[str | None, float] = {None: math.nan}
        self._zone = UTC if event.time_zone == "UTC" else ZoneInfo(event.time_zone)

    def read(self, documents: Sequence[Any]) -> tuple[Events, list[Refused]]:
        """Columns of the events among the documents, and the refusals, both in order of position."""
        refused: dict[int, Refused] = {}
        if set(map(type, documents)) - {dict}:
            for i, document in enumerate(documents):
                if type(document) is not dict:
                    refused[i] = Refused(
                        i, "NotAnObject", f"expected a JSON object such as {{...}}, found {_shown(document)}"
                    )
        rows = [d for d in documents if type(d) is dict] if refused else documents
        at = [i for i in range(len(documents)) if i not in refused]
        columns = self._columns(rows)

        entity = self._names(columns[0], at, refused)
        ts = self._times(columns[1], at, refused)
        paths, first = self.event.targets, 2 + len(self.event.targets)
        targets = [
            self._numbers(column, path, at, refused, truth=False)
            for path, column in zip(paths, columns[2:first], strict=True)
        ]
        target = targets[0] if len(targets) == 1 else np.stack(targets, axis=1)
        numbers = self.event.numbers
        features, texts = np.empty((len(rows), len(columns) - first)), dict[float, str]()
        for j, (path, column) in enumerate(zip(self.paths[first:], columns[first:], strict=True)):
            if j < len(numbers):
                features[:, j] = self._numbers(column, path, at, refused, truth=True)
            else:
                features[:, j] = self._categories(column, path, at, refused, texts)

        position = np.array(at, np.int64)
        events = Events(entity, ts, features, target, position, category_texts=texts or None)
        if len(refused) + len(rows) > len(documents):
            events = events.take(np.flatnonzero([i not in refused for i in at]))
        return events, [refused[i] for i in sorted(refused)]

    def _columns(self, rows: Sequence[Any]) -> list[Sequence[Any]]:
        if not rows:
            return [()] * len(self.paths)
        if self._all_at_once is not None:
            try:
                return list(zip(*map(self._all_at_once, rows), strict=True))
            except KeyError:
                pass  # a field is missing somewhere: look at each
        return [[get(row) for row in rows] for get in self._one_by_one]

    def _names(self, column: Sequence[Any], at: list[int], refused: dict[int, Refused]) -> list[str]:
        if (nameless := self.event.entity_default) is not None:
            column = [nameless if value is None else value for value in column]
        if set(map(type, column)) <= {str}:
            distinct = set(column)
            if "" not in distinct and max(map(len, distinct), default=0) <= MAX_NAME_LENGTH and is_text(distinct):
                return list(column)
        return [self._judge(value, self._name, "", at[i], refused) for i, value in enumerate(column)]

    def _times(self, column: Sequence[Any], at: list[int], refused: dict[int, Refused]) -> NDArray[np.int64]:
        form, kinds = self.event.timestamp_format, set(map(type, column))
        raw = _floats(column) if form != "iso" and kinds <= {int, float} else None
        whole = None if raw is None else milliseconds(raw, form)
        if whole is not None:
            return whole
        times = [self._judge(value, self._time, 0, at[i], refused) for i, value in enumerate(column)]
        return np.array(times, np.int64)

    def _numbers(
        self, column: Sequence[Any], path: str, at: list[int], refused: dict[int, Refused], *, truth: bool
    ) -> NDArray[np.float64]:
        plain = {int, float, type(None), bool} if truth else {int, float, type(None)}
        values = _floats(column) if set(map(type, column)) <= plain else None
        if values is not None:
            with np.errstate(invalid="ignore"):
                usable = np.abs(values) <= LARGEST
            if usable.all() or all(column[i] is None for i in np.flatnonzero(~usable).tolist()):
                return values

        def number(value: Any) -> float:
            return self._number(value, path, truth)

        return np.array([self._judge(v, number, math.nan, at[i], refused) for i, v in enumerate(column)], np.float64)

    def _categories(
        self, column: Sequence[Any], path: str, at: list[int], refused: dict[int, Refused], texts: dict[float, str]
    ) -> NDArray[np.float64]:
        """Return codes and numbers of a category, and add the texts of its codes to `texts`."""
        kinds = set(map(type, column))
        if kinds <= {str, type(None)}:
            distinct = set(column)
            if self._learn(distinct):
                texts.update((self._codes[text], text) for text in distinct if text is not None)
                return np.fromiter(map(self._codes.__getitem__, column), np.float64, len(column))
        elif kinds <= {int, float, bool, type(None)}:
            return self._numbers(column, path, at, refused, truth=True)

        def category(value: Any) -> float:
            code = self._category(value, path)
            if type(value) is str:
                texts[code] = value
            return code

        return np.array([self._judge(v, category, math.nan, at[i], refused) for i, v in enumerate(column)], np.float64)

    def _learn(self, texts: set[str | None]) -> bool:
        """Remember the codes of these texts; false where one of them may have none."""
        new = {text for text in texts - self._codes.keys() if text is not None}
        if max(map(len, new), default=0) > MAX_NAME_LENGTH or not is_text(new):
            return False
        if len(self._codes) + len(new) > CODES_KEPT:
            new = {text for text in texts if text is not None}
            self._codes = {None: math.nan}
        self._codes.update((text, text_code(text)) for text in new)
        return True

    @staticmethod
    def _judge(value: Any, read: Callable[[Any], Any], instead: Any, position: int, refused: dict[int, Refused]) -> Any:
        try:
            return read(value)
        except _FaultError as fault:
            refused.setdefault(position, Refused(position, *fault.args))
            return instead

    def _name(self, value: Any) -> str:
        path = self.event.entity
        if value is None:
            raise _FaultError("MissingField", f"entity: `{path}` is missing or null")
        if type(value) is int:
            if abs(value) >= 10**MAX_NAME_LENGTH:
                raise _FaultError("NameTooLong", f"entity: `{path}` has more than {MAX_NAME_LENGTH} digits")
            return str(value)
        if type(value) is not str:
            raise _FaultError("WrongType", f"entity: `{path}` must be text or a whole number, found {_shown(value)}")
        if not value:
            raise _FaultError("EmptyEntity", f"entity: `{path}` is empty text")
        if len(value) > MAX_NAME_LENGTH:
            raise _FaultError(
                "NameTooLong", f"entity: `{path}` has {len(value)} characters, at most {MAX_NAME_LENGTH} are allowed"
            )
        if not is_text([value]):
            raise _FaultError("NotUtf8", f"entity: `{path}` holds a lone surrogate, found {_shown(value)}")
        return value

    def _time(self, value: Any) -> int:
        path, form = self.event.timestamp, self.event.timestamp_format
        if value is None:
            raise _FaultError("MissingField", f"timestamp: `{path}` is missing or null")
        if type(value) is str and form in ("auto", "iso"):
            try:
                since = moment(value, self._zone) - EPOCH
            except (ValueError, OverflowError):
                raise _FaultError(
                    "WrongTimestamp",
                    f"timestamp: `{path}` is not ISO 8601 (2026-01-31T12:00:00Z), found {_shown(value)}",
                ) from None
            return self._in_range((since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000, value)
        if type(value) in (int, float) and form != "iso":
            try:
                number = float(value)
            except OverflowError:
                number = LARGEST  # an integer beyond 64-bit floats
            if not math.isfinite(number):
                raise _FaultError("NotFinite", f"timestamp: `{path}` is {value}")
            size = abs(number)
            if form == "auto":
                unit = 1e-3 if size < 1e11 else 1.0 if size < 1e14 else 1e3 if size < 1e17 else 1e6
            else:
                unit = UNITS_PER_MS[form]
            return self._in_range(number / unit, value)
        wanted = {"auto": "a number or ISO 8601 text", "iso": "ISO 8601 text"}.get(
            form, f"a number ({form} since 1970)"
        )
        raise _FaultError("WrongType", f"timestamp: `{path}` must be {wanted}, found {_shown(value)}")

    def _in_range(self, ms: float, value: Any) -> int:
        if not FIRST_MS <= ms <= LAST_MS:
            raise _FaultError(
                "OutOfRange",
                f"timestamp: `{self.event.timestamp}` lies outside the years 2 to 9998, found {_shown(value)}",
            )
        return int(ms // 1)

    def _category(self, value: Any, path: str) -> float:
        if type(value) is not str:
            return self._number(value, path, True, "text, a number, true or false")
        if len(value) > MAX_NAME_LENGTH:
            raise _FaultError(
                "NameTooLong", f"`{path}` has {len(value)} characters, at most {MAX_NAME_LENGTH} are allowed"
            )
        if not is_text([value]):
            raise _FaultError("NotUtf8", f"`{path}` holds a lone surrogate, found {_shown(value)}")
        return text_code(value)

    @staticmethod
    def _number(value: Any, path: str, truth: bool, wanted: str = "a number") -> float:
        if value is None:
            return math.nan
        if type(value) is bool and truth:
            return float(value)
        if type(value) not in (int, float):
            raise _FaultError("WrongType", f"`{path}` must be {wanted}, found {_shown(value)}")
        if isinstance(value, float) and not math.isfinite(value):
            raise _FaultError("NotFinite", f"`{path}` is {value}; leave the field out where the value is unknown")
        if abs(value) > LARGEST:
            raise _FaultError("OutOfRange", f"`{path}` is beyond ±3.4e38 (32-bit floats), found {_shown(value)}")
        return float(value)
