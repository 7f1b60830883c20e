"""Feature selection for `event.features: auto`: which columns of the first events are inputs, and why others are not.

Numbers are features, names with a few values are categories. The selection depends on the content of the events, not
on their order, and is made once: with a recovery state, it stays as it was (`flow/runtime.py`).
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from ssm_stream.autoconfig.worth import by_worth
from ssm_stream.config import MAX_NAME_LENGTH, Config, ConfigError, Event
from ssm_stream.config.paths import PathError, head_of, is_message_field, parse_path
from ssm_stream.ingest.events import MAX_NUMBER, EventReader, Events
from ssm_stream.ingest.json_values import abbreviated, is_utf8
from ssm_stream.ingest.timestamps import UNITS_PER_MS, YEAR_2000_MS, is_iso_time

SAMPLE = 200
"""Documents that are examined."""
MAX_COLUMNS = 64
MAX_CATEGORY_VALUES = 32
"""A column with more values is an identifier of each event, such as a serial number, and no category."""
MAX_FLEET_VALUES = 4 * MAX_CATEGORY_VALUES
"""Those of a fleet whose machines have few each: an input for each of the first 32, and one for the others."""
MAX_INVALID = 0.05
"""Share of events that may have no usable number in some feature. They are refused, so all columns share it."""
MIN_OWN = 10
"""Events of an entity that show whether it has a column that half of the events of other entities have."""
MAX_CHANCE = 0.5**MIN_OWN
"""Probability that an entity which has a column now and then, as others have it, is without it in all its events."""
HIGH_CORRELATION = 0.98
"""Correlation with the target from which a remark is made: the feature may be another form of it."""
MIN_CORRELATED = 20
"""Events with both values that a correlation needs."""
MAX_DEPTH = 8
"""Levels of nested objects that are searched for columns."""
DAY = 86_400_000.0


class FeatureSelection(NamedTuple):
    """The inputs that were selected.

    Attributes:
        config: with `event.features` and `event.categories` filled in
        events: number of events examined
        left_out: path of a column → why it is no input
        remarks: further observations for the user
    """

    config: Config
    events: int
    left_out: dict[str, str]
    remarks: list[str]

    def lines(self, limit: int = 20) -> list[str]:
        """Return the selection as lines of text, with at most `limit` of the columns left out."""
        event = self.config.event
        lines = [
            f"selected from the first {self.events} events (event.features: auto)",
            f"  features    {', '.join(map(_short, event.numbers)) or 'none'}",
            f"  categories  {', '.join(map(_short, event.categories)) or 'none'}",
        ]
        lines += [f"  left out    {_short(path)}: {why}" for path, why in islice(self.left_out.items(), limit)]
        if len(self.left_out) > limit:
            lines.append(f"  left out    and {len(self.left_out) - limit} more")
        return lines + [f"  note        {remark}" for remark in self.remarks]


class _Role(NamedTuple):
    """What a column is used for; why: the reason if it is left out; invalid: events that would be refused for it."""

    kind: Literal["feature", "category", "none"]
    why: str = ""
    invalid: frozenset[int] = frozenset()


def select_features(config: Config, documents: Sequence[Any], limit: int = SAMPLE) -> FeatureSelection:
    """Return the configuration with `event.features`, and `event.categories` if it is empty, from the first documents.

    Args:
        config: with `event.features: auto`; with a list it is returned as it is
        documents: parsed JSON or rows; of the first `limit`, those that are events are examined
        limit: number of documents

    Raises:
        ConfigError: no document is an event, or no input is left.
    """
    event = config.event
    if event.features != "auto":
        return FeatureSelection(config, 0, {}, [])
    usable, events, targets = _usable(event, documents[:limit])
    columns, left_out = values_by_column(usable)
    flags = event.quality.flags if event.quality is not None else []
    for path in (event.entity, event.timestamp, *event.targets, *event.categories, *event.derive, *flags):
        columns.pop(path, None)

    roles = {path: _role(columns[path], events, targets, bool(event.categories)) for path in sorted(columns)}
    remarks = [
        f"the target `{path}` is in none of these events" for path, y in targets.items() if not np.isfinite(y).any()
    ]
    refused: frozenset[int] = frozenset()
    for path, role in sorted(roles.items(), key=lambda item: len(item[1].invalid)):
        if role.invalid:
            why = f"no usable number in {len(role.invalid)} of {len(usable)} events, and such events are refused"
            if len(refused | role.invalid) > MAX_INVALID * len(usable):
                roles[path] = _Role("none", why)
            else:
                refused |= role.invalid
                remarks.append(f"{_short(path)}: {why}")
    left_out |= {path: role.why for path, role in roles.items() if role.kind == "none"}
    kinds = {path: role.kind for path, role in roles.items() if role.kind != "none"}
    room = max(MAX_COLUMNS - len(event.categories) - len(event.derive), 0)
    for path in by_worth({path: columns[path] for path in kinds}, len(usable))[room:]:
        del kinds[path]
        left_out[path] = (
            f"more than {MAX_COLUMNS} columns: the most complete are used, of equal ones some of each kind of name; "
            "list those that matter in event.features, or the others in a second file"
        )

    features = [path for path, kind in kinds.items() if kind == "feature"]
    for path in features:
        for name, target in targets.items():
            correlation = _correlation(columns[path], target)
            if correlation >= HIGH_CORRELATION:
                remarks.append(
                    f"{_short(path)}: moves with {_the_target(name, targets)} almost exactly (correlation "
                    f"{correlation:.3f}); if it is known only after the target, list the features without it"
                )
    categories = event.categories or [path for path, kind in kinds.items() if kind == "category"]
    if not features and not categories and not event.derive and not event.lags and not event.calendar:
        raise ConfigError(
            f"event.features: auto: no column of the first {len(usable)} events can be an input, and there are no lags "
            f"and no calendar; name features, or set lags to 1 or more{_reasons(left_out)}"
        )
    resolved = with_columns(config, features, categories)
    if event.derive:
        remarks += _derived_remarks(resolved.event, usable, targets)
    return FeatureSelection(resolved, len(usable), dict(sorted(left_out.items())), remarks)


def _derived_remarks(event: Event, documents: Sequence[Any], targets: dict[str, NDArray[np.float64]]) -> list[str]:
    """Return remarks on the derived inputs: those that are hardly known, and those that move with a target."""
    bare = event.model_copy(update={"features": list(event.derive), "categories": []})
    events, refused = EventReader(bare).read(documents)
    if refused:
        return [f"derive: {len(refused)} of {len(documents)} events are refused for it, the first: {refused[0].reason}"]
    out = []
    for j, (name, derived) in enumerate(event.derive.items()):
        if derived.past:
            continue  # known from the second event of an entity on at the latest
        known = {i: value for i, value in enumerate(events.features[:, j].tolist()) if value == value}
        if 2 * len(known) < len(documents):
            out.append(f"{name} = {derived.text}: known in only {len(known)} of {len(documents)} events")
        for path, target in targets.items():
            if (found := _correlation(known, target)) >= HIGH_CORRELATION:
                out.append(
                    f"{name} = {derived.text}: moves with {_the_target(path, targets)} almost exactly (correlation "
                    f"{found:.3f}); if a part of it is known only after the target, leave it out"
                )
    return out


def with_columns(config: Config, features: list[str], categories: list[str]) -> Config:
    """Return the configuration with these inputs.

    Raises:
        ConfigError: the target is among them, or one is named twice.
    """
    try:
        event = Event.model_validate({**config.event.model_dump(), "features": features, "categories": categories})
    except ValidationError as error:
        reasons = "; ".join(item["msg"].removeprefix("Value error, ") for item in error.errors())
        raise ConfigError(f"event.features: auto: {reasons}") from error
    return config.replace(event=event)


def _usable(
    event: Event, documents: Sequence[Any]
) -> tuple[list[dict[str, Any]], Events, dict[str, NDArray[np.float64]]]:
    """Return the documents that are events whatever their inputs, as events, too, and each target (n,)."""
    if not documents:
        raise ConfigError("event.features: auto: there is no event to select from; name features, or send events first")
    bare = event.model_copy(update={"features": [], "categories": []})
    events, refused = EventReader(bare).read(documents)
    if not len(events):
        raise ConfigError(
            f"event.features: auto: none of the first {len(documents)} documents is an event: {refused[0].reason}"
        )
    columns = events.target.reshape(len(events), -1).T
    return [documents[i] for i in events.position.tolist()], events, dict(zip(event.targets, columns, strict=True))


def values_by_column(documents: Iterable[dict[str, Any]]) -> tuple[dict[str, dict[int, Any]], dict[str, str]]:
    """Return path → document → value, without nulls; and path → reason for paths that no configuration can name."""
    columns: dict[str, dict[int, Any]] = {}
    unnamed: dict[str, str] = {}
    for i, document in enumerate(documents):
        for path, value, nameable in _leaves(document):
            if not nameable:
                unnamed[path] = "a name with a dot or a bracket inside an object; it cannot be written as a path"
            elif not path or len(path) > MAX_NAME_LENGTH or not is_utf8([path]):
                unnamed[path] = "a name that is empty, too long or not UTF-8"
            elif (wrong := _no_path(path)) is not None:
                unnamed[path] = wrong
            else:
                column = columns.setdefault(path, {})
                if value is not None:
                    column[i] = value
    return columns, {path: why for path, why in unnamed.items() if path not in columns}


@functools.lru_cache(10_000)
def _no_path(name: str) -> str | None:
    """Return why a name cannot be written as a path; None if it can."""
    try:
        parse_path(name)
    except PathError as error:
        return f"a name that is no path: {error}"
    return None


def _leaves(document: dict[str, Any]) -> Iterator[tuple[str, Any, bool]]:
    """Yield (path, value, whether the reader finds it) of all values that are no objects, or too deep to search."""
    waiting: list[tuple[str, dict[str, Any], tuple[tuple[int, dict[str, Any]], ...]]] = [("", document, ())]
    while waiting:
        above, within, outer = waiting.pop()
        for key, value in within.items():
            path = above + key
            if not above and is_message_field(key):
                continue  # an input only where the configuration names it
            if any(path[at:] in each for at, each in outer):
                continue  # as for the reader, a key that itself has the dots comes first
            if above and "." in key and type(value) is dict:
                yield path, value, False
            elif type(value) is dict and "." not in key and key and len(outer) + 1 < MAX_DEPTH:
                waiting.append((f"{path}.", value, (*outer, (len(above), within))))
            else:
                yield path, value, _is_nameable(path, nested=bool(above))


def _is_nameable(path: str, *, nested: bool) -> bool:
    """Return whether a configuration can name the field of this path: a bracket may not read as a step into a list."""
    try:
        return not nested or not head_of(path)[1]
    except PathError:
        return False


def _role(
    column: dict[int, Any], events: Events, targets: dict[str, NDArray[np.float64]], categories_given: bool
) -> _Role:
    """Return what a column is used for.

    Args:
        column: document → value, without nulls
        events: all documents, without inputs; targets: each target (n,) of them
        categories_given: whether the configuration names its categories
    """
    n, known = len(events), column.values()
    if not column:
        return _Role("none", f"null in all of the {n} events that were examined")
    for name, target in targets.items():
        ys = target.tolist()
        both = [(value, y) for value, y in ((v, ys[i]) for i, v in column.items()) if y == y]
        if both and all(_same(value, y) for value, y in both):
            which = _the_target(name, targets)
            return _Role("none", f"the same as {which} in all {len(both)} events that have both: a copy of it")
    texts = [value for value in known if type(value) is str]
    flags = sum(type(value) is bool for value in known)
    invalid = frozenset(i for i, value in column.items() if not is_number(value))
    numbers = len(known) - flags - len(invalid)
    unusable = len(invalid) - len(texts)
    if _is_time(column, texts, events.ts):
        return _Role("none", "a time")
    if numbers and len(invalid) <= MAX_INVALID * numbers:
        return _as_feature(numbers + flags, count_expected(column, events.entity), invalid)
    if unusable:
        if any(type(value) in (list, dict) for value in known):
            return _Role("none", f"lists or objects in {unusable} of {n} events")
        first = next(column[i] for i in sorted(invalid) if type(column[i]) is not str)
        found = f"numbers that cannot be used, such as {abbreviated(first)}, in {unusable} of {n} events"
        return _Role("none", f"{found}: leave the value out where it is unknown")
    if texts and (max(map(len, texts)) > MAX_NAME_LENGTH or not is_utf8(texts)):
        return _Role("none", f"text of more than {MAX_NAME_LENGTH} characters, or not UTF-8")
    distinct = len(set(known))
    if not texts and (distinct == 1 or categories_given):
        return _as_feature(flags, count_expected(column, events.entity), frozenset())
    if categories_given:
        return _Role("none", "text; event.categories names others")
    if distinct == 1:
        return _Role("none", "the same text in all events")
    if distinct > MAX_CATEGORY_VALUES:
        what = "numbers and text" if numbers else "text"
        return _Role("none", f"{what} with {distinct} different values; a category has at most {MAX_CATEGORY_VALUES}")
    return _Role("category")


def _the_target(path: str, targets: Collection[str]) -> str:
    return "the target" if len(targets) == 1 else f"the target {_short(path)}"


def _as_feature(numbers: int, n: int, invalid: frozenset[int]) -> _Role:
    if 2 * numbers < n:
        return _Role("none", f"a number in only {numbers} of {n} events")
    return _Role("feature", invalid=invalid)


def count_expected(rows: Collection[int], owners: Sequence[Any]) -> int:
    """Return how many rows a column may be expected in: all, but those of entities that never have it.

    Few rows show that an entity never has a column which others have nearly always; many are needed of one that others
    have now and then.

    Args:
        rows: that have a value
        owners: of each row, the name of its entity
    """
    events, values = Counter(owners), Counter(owners[i] for i in rows)
    having = sum(events[name] for name in values)
    # How often: of each entity without one value, by which it is among those that have the column.
    share = (len(rows) - len(values)) / (having - len(values) + 1)
    return sum(n for name, n in events.items() if name in values or (1.0 - share) ** n > MAX_CHANCE)


def spread_rows(owners: Sequence[Any]) -> list[int]:
    """Return the rows of a sample that are examined, in their order: of each entity some, from its first to its last.

    Even steps over all rows would not do: where entities take turns, they may pass by the same ones at each turn.

    owners: of each row, the name of its entity
    """
    rows: dict[Any, list[int]] = {}
    for i, name in enumerate(owners):
        rows.setdefault(name, []).append(i)
    n = min(max(SAMPLE, MIN_OWN * len(rows)), len(owners))
    out, left = list[int](), len(rows)
    for mine in sorted(rows.values(), key=len):  # what those with few rows leave is for the others
        share = min(-(-(n - len(out)) // left), len(mine))
        out += [mine[i] for i in np.linspace(0, len(mine) - 1, share).astype(int).tolist()]
        left -= 1
    return sorted(out)


def is_number(value: Any) -> bool:
    """Return whether a value is a number, or true or false, that fits a 32-bit float."""
    if type(value) is float:
        return math.isfinite(value) and abs(value) <= MAX_NUMBER
    return type(value) in (bool, int) and abs(value) <= MAX_NUMBER


def _same(value: Any, y: float) -> bool:
    """Return whether a value equals the target, also as text."""
    if type(value) is str:
        try:
            return float(value) == y
        except ValueError:
            return False
    return type(value) in (int, float, bool) and value == y


def _correlation(column: dict[int, Any], target: NDArray[np.float64]) -> float:
    """Return |correlation| of numbers with the target; 0 if too few events have both, or one of them is constant."""
    at = [i for i, value in column.items() if is_number(value) and not math.isnan(target[i])]
    x, y = np.array([float(column[i]) for i in at]), target[at]
    # Scaled first: squares of the largest numbers are finite then.
    x, y = (v / max(float(np.abs(v).max(initial=0.0)), 1.0) for v in (x, y))
    if len(at) < MIN_CORRELATED or x.std() < 1e-9 or y.std() < 1e-9:
        return 0.0
    return abs(float(np.corrcoef(x, y)[0, 1]))


def _is_time(column: dict[int, Any], texts: list[str], ts: NDArray[np.int64]) -> bool:
    """Return whether most texts are ISO 8601, or all numbers, in one of the units, within a day of the event's time."""
    if texts:
        return 2 * sum(map(is_iso_time, texts)) > len(column)
    when = ts[list(column)]
    if not all(type(v) in (int, float) and is_number(v) for v in column.values()) or when.min() < YEAR_2000_MS:
        return False
    numbers = np.array(list(column.values()), np.float64)
    return any(bool(np.all(np.abs(numbers / unit - when) <= DAY)) for unit in UNITS_PER_MS.values())


def _short(path: str) -> str:
    return path if len(path) <= 60 else f"{path[:57]}..."


def _reasons(left_out: dict[str, str]) -> str:
    few = [f"\n  {_short(path)}: {why}" for path, why in islice(left_out.items(), 10)]
    return "".join(few)
