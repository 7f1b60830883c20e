"""`event.features: auto`: which columns of the first events are inputs, and why the others are not.

Numbers are features, names with a few values are categories. The choice depends on the events looked at only, not on
their order, and is made once: where there is recovery state, it stays what it was (`flow/runtime.py`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from ssm_stream.config import MAX_NAME_LENGTH, Config, ConfigError, Event
from ssm_stream.ingest.events import LARGEST, UNITS_PER_MS, EventReader, is_text, tells_time

SAMPLE = 200
"""Documents looked at."""
MAX_COLUMNS = 64
MAX_CATEGORY_VALUES = 32
"""Values of a category; with more it is taken for a name of its own in every event, such as a serial number."""
STRAYS = 0.05
"""Share of events that may hold no usable number in some feature. They are refused, so all columns share it."""
CLOSE = 0.98
"""Correlation with the target from which a feature is told of: it may be another form of it."""
CLOSE_FROM = 20
"""Events with both that a correlation needs to mean anything."""
DEEPEST = 8
"""Levels of objects looked into."""
DAY = 86_400_000.0
EPOCHS_FROM = 946_684_800_000.0
"""2000-01-01 in ms: events before then have times so small that any number might be one."""


class FeatureSelection(NamedTuple):
    """What was picked.

    Attributes:
        config: with `event.features` and `event.categories` filled in
        events: events looked at
        left_out: path of a column → why it is no input
        remarks: what the reader should know beside that
    """

    config: Config
    events: int
    left_out: dict[str, str]
    remarks: list[str]

    def lines(self, most: int = 20) -> list[str]:
        """The choice in words, one line a thing; no more than `most` of the columns left out are named."""
        event = self.config.event
        lines = [
            f"picked from the first {self.events} events (event.features: auto)",
            f"  features    {', '.join(map(_short, event.numbers)) or 'none'}",
            f"  categories  {', '.join(map(_short, event.categories)) or 'none'}",
        ]
        lines += [f"  left out    {_short(path)}: {why}" for path, why in islice(self.left_out.items(), most)]
        if len(self.left_out) > most:
            lines.append(f"  left out    and {len(self.left_out) - most} more")
        return lines + [f"  note        {remark}" for remark in self.remarks]


class _Verdict(NamedTuple):
    """What a column is; `words`: why it is left out; `strays`: events that would be refused for it."""

    kind: Literal["feature", "category", "none"]
    words: str = ""
    strays: frozenset[int] = frozenset()


def select_features(config: Config, documents: Sequence[Any]) -> FeatureSelection:
    """Fill in `event.features`, and `event.categories` if it is empty, by what stands in the first documents.

    Args:
        config: with `event.features: auto`; with a list it is returned as it is
        documents: parsed JSON or rows; the first 200 are looked at, and of these the events that can be read

    Raises:
        ConfigError: no document is an event, or nothing is left to predict from.
    """
    event = config.event
    if event.features != "auto":
        return FeatureSelection(config, 0, {}, [])
    usable, ts, targets = _usable(event, documents[:SAMPLE])
    columns, left_out = columns_of(usable)
    for path in (event.entity, event.timestamp, *event.targets, *event.categories):
        columns.pop(path, None)

    verdicts = {path: _judge(columns[path], ts, targets, bool(event.categories)) for path in sorted(columns)}
    remarks = [
        f"the target `{path}` is in none of these events" for path, y in targets.items() if not np.isfinite(y).any()
    ]
    refused: frozenset[int] = frozenset()
    for path, verdict in sorted(verdicts.items(), key=lambda item: len(item[1].strays)):
        if verdict.strays:
            words = f"no usable number in {len(verdict.strays)} of {len(usable)} events, and such events are refused"
            if len(refused | verdict.strays) > STRAYS * len(usable):
                verdicts[path] = _Verdict("none", words)
            else:
                refused |= verdict.strays
                remarks.append(f"{_short(path)}: {words}")
    left_out |= {path: verdict.words for path, verdict in verdicts.items() if verdict.kind == "none"}
    kinds = {path: verdict.kind for path, verdict in verdicts.items() if verdict.kind != "none"}
    room = max(MAX_COLUMNS - len(event.categories), 0)
    by_completeness = sorted(kinds, key=lambda path: (-len(columns[path]), path))
    for path in by_completeness[room:]:
        del kinds[path]
        left_out[path] = f"more than {MAX_COLUMNS} columns; the most complete are used"

    features = [path for path, kind in kinds.items() if kind == "feature"]
    for path in features:
        for name, target in targets.items():
            closeness = _closeness(columns[path], target)
            if closeness >= CLOSE:
                remarks.append(
                    f"{_short(path)}: moves with {_the_target(name, targets)} almost exactly (correlation "
                    f"{closeness:.3f}); if it is known only after the target, list the features without it"
                )
    categories = event.categories or [path for path, kind in kinds.items() if kind == "category"]
    if not features and not categories and not event.lags and not event.calendar:
        raise ConfigError(
            f"event.features: auto: no column of the first {len(usable)} events can be an input, and there are no lags "
            f"and no calendar; name features, or set lags to 1 or more{_reasons(left_out)}"
        )
    return FeatureSelection(
        with_columns(config, features, categories), len(usable), dict(sorted(left_out.items())), remarks
    )


def select_features_ahead(config: Config, rows: Iterable[Any]) -> tuple[FeatureSelection, Iterator[Any]]:
    """`select_features` from the first of the rows, and all the rows, these included.

    Raises:
        ConfigError: as `select_features`.
    """
    rest = iter(rows)
    first = list(islice(rest, SAMPLE))
    return select_features(config, first), chain(first, rest)


def with_columns(config: Config, features: list[str], categories: list[str]) -> Config:
    """The configuration with these inputs.

    Raises:
        ConfigError: the target is among them, or one is named twice.
    """
    try:
        event = Event.model_validate({**config.event.model_dump(), "features": features, "categories": categories})
    except ValidationError as error:
        words = "; ".join(item["msg"].removeprefix("Value error, ") for item in error.errors())
        raise ConfigError(f"event.features: auto: {words}") from error
    # Made anew, not copied: a copy would keep the hash of the old one.
    others = {name: getattr(config, name) for name in Config.model_fields if name != "event"}
    return Config(event=event, **others)


def _usable(
    event: Event, documents: Sequence[Any]
) -> tuple[list[dict[str, Any]], NDArray[np.int64], dict[str, NDArray[np.float64]]]:
    """The documents that are events whatever their inputs, with times (n,) in ms and each target (n,)."""
    if not documents:
        raise ConfigError("event.features: auto: there is no event to pick from; name features, or send events first")
    bare = event.model_copy(update={"features": [], "categories": []})
    events, refused = EventReader(bare).read(documents)
    if not len(events):
        raise ConfigError(
            f"event.features: auto: none of the first {len(documents)} documents is an event: {refused[0].reason}"
        )
    columns = events.target.reshape(len(events), -1).T
    return [documents[i] for i in events.position.tolist()], events.ts, dict(zip(event.targets, columns, strict=True))


def columns_of(documents: Iterable[dict[str, Any]]) -> tuple[dict[str, dict[int, Any]], dict[str, str]]:
    """Path → document → what the reader finds there, without nulls; and the paths that no configuration can name."""
    columns: dict[str, dict[int, Any]] = {}
    unnamed: dict[str, str] = {}
    for i, document in enumerate(documents):
        for path, value, nameable in _leaves(document):
            if not nameable:
                unnamed[path] = "a name with a dot inside an object; it cannot be written as a path"
            elif not path or len(path) > MAX_NAME_LENGTH or not is_text([path]):
                unnamed[path] = "a name that is empty, too long or not UTF-8"
            else:
                column = columns.setdefault(path, {})
                if value is not None:
                    column[i] = value
    return columns, {path: why for path, why in unnamed.items() if path not in columns}


def _leaves(document: dict[str, Any]) -> Iterator[tuple[str, Any, bool]]:
    """(path, value, whether the reader would find it) of all that is no object, or an object too deep to look into."""
    waiting = [("", document, 1)]
    while waiting:
        above, within, depth = waiting.pop()
        for key, value in within.items():
            path = above + key
            if above and path in document:
                continue  # for the reader, too, a key that itself holds the dots comes first
            if above and "." in key:
                yield path, value, False
            elif type(value) is dict and "." not in key and key and depth < DEEPEST:
                waiting.append((f"{path}.", value, depth + 1))
            else:
                yield path, value, True


def _judge(
    column: dict[int, Any], ts: NDArray[np.int64], targets: dict[str, NDArray[np.float64]], categories_given: bool
) -> _Verdict:
    """What a column is: document → value, without nulls; times (n,) ms and each target (n,) of all documents."""
    n, known = len(ts), column.values()
    if not column:
        return _Verdict("none", "always null")
    for name, target in targets.items():
        wanted = target.tolist()
        both = [(value, y) for value, y in ((v, wanted[i]) for i, v in column.items()) if y == y]
        if both and all(_same(value, y) for value, y in both):
            which = _the_target(name, targets)
            return _Verdict("none", f"the same as {which} in all {len(both)} events that have both: a copy of it")
    texts = [value for value in known if type(value) is str]
    flags = sum(type(value) is bool for value in known)
    strays = frozenset(i for i, value in column.items() if not is_number(value))
    numbers = len(known) - flags - len(strays)
    odd = len(strays) - len(texts)
    if _is_time(column, texts, ts):
        return _Verdict("none", "a time")
    if numbers and len(strays) <= STRAYS * numbers:
        return _as_feature(numbers + flags, n, strays)
    if odd:
        found = "lists or objects" if any(type(v) in (list, dict) for v in known) else "numbers that cannot be used"
        return _Verdict("none", f"{found} in {odd} of {n} events")
    if texts and (max(map(len, texts)) > MAX_NAME_LENGTH or not is_text(texts)):
        return _Verdict("none", f"text of more than {MAX_NAME_LENGTH} characters, or not UTF-8")
    distinct = len(set(known))
    if not texts and (distinct == 1 or categories_given):
        return _as_feature(flags, n, frozenset())
    if categories_given:
        return _Verdict("none", "text; event.categories names others")
    if distinct == 1:
        return _Verdict("none", "the same text in all events")
    if distinct > MAX_CATEGORY_VALUES:
        what = "numbers and text" if numbers else "text"
        return _Verdict(
            "none", f"{what} with {distinct} different values; a category has at most {MAX_CATEGORY_VALUES}"
        )
    return _Verdict("category")


def _the_target(path: str, targets: Collection[str]) -> str:
    return "the target" if len(targets) == 1 else f"the target {_short(path)}"


def _as_feature(numbers: int, n: int, strays: frozenset[int]) -> _Verdict:
    if 2 * numbers < n:
        return _Verdict("none", f"a number in only {numbers} of {n} events")
    return _Verdict("feature", strays=strays)


def is_number(value: Any) -> bool:
    """Whether a value is a number, or true or false, that the learner can hold."""
    if type(value) is float:
        return math.isfinite(value) and abs(value) <= LARGEST
    return type(value) in (bool, int) and abs(value) <= LARGEST


def _same(value: Any, y: float) -> bool:
    """Whether a value says what the target says, be it as text."""
    if type(value) is str:
        try:
            return float(value) == y
        except ValueError:
            return False
    return type(value) in (int, float, bool) and value == y


def _closeness(column: dict[int, Any], target: NDArray[np.float64]) -> float:
    """|correlation| of numbers with the target, where both are known; 0 where there are too few, or one is constant."""
    at = [i for i, value in column.items() if is_number(value) and not math.isnan(target[i])]
    x, y = np.array([float(column[i]) for i in at]), target[at]
    # Scaled first: squares of the largest numbers are finite then.
    x, y = (v / max(float(np.abs(v).max(initial=0.0)), 1.0) for v in (x, y))
    if len(at) < CLOSE_FROM or x.std() < 1e-9 or y.std() < 1e-9:
        return 0.0
    return abs(float(np.corrcoef(x, y)[0, 1]))


def _is_time(column: dict[int, Any], texts: list[str], ts: NDArray[np.int64]) -> bool:
    """Most texts are ISO 8601, or all numbers lie within a day of the event's time, in one of the units."""
    if texts:
        return 2 * sum(map(tells_time, texts)) > len(column)
    when = ts[list(column)]
    if not all(type(v) in (int, float) and is_number(v) for v in column.values()) or when.min() < EPOCHS_FROM:
        return False
    numbers = np.array(list(column.values()), np.float64)
    return any(bool(np.all(np.abs(numbers / unit - when) <= DAY)) for unit in UNITS_PER_MS.values())


def _short(path: str) -> str:
    return path if len(path) <= 60 else f"{path[:57]}..."


def _reasons(left_out: dict[str, str]) -> str:
    few = [f"\n  {_short(path)}: {why}" for path, why in islice(left_out.items(), 10)]
    return "".join(few)
