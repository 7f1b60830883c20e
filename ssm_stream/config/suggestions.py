"""Cures for names that are not there: the nearest name that is, and the names to choose from."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterable
from itertools import accumulate

from ssm_stream.config.config import Config
from ssm_stream.config.paths import HEADER, KEY, columns_of, is_message_field
from ssm_stream.config.sections import ConfigError, Event

CUTOFF = 0.7
"""Similarity (difflib's ratio, 0 to 1) from which a name is suggested: two names that share a few letters are not."""
MAX_NAMES, MAX_LETTERS = 20, 400
"""Names listed in a message, and letters of them: a message may have many such lists, and paths into lists are long."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like this one, capitals aside; None if none is close."""
    by_lower = {each.lower(): each for each in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=CUTOFF)
    return by_lower[close[0]] if close else None


def nearest_path(path: str, known: Iterable[str]) -> str | None:
    """Return the known path that is most like this one, or that leads elsewhere to a field of the same name."""
    paths = list(known)
    near = nearest(path, paths)
    if near is not None:
        return near
    last = re.split(r"[.\]]", path)[-1].lower()
    same = [each for each in paths if last and re.split(r"[.\]]", each)[-1].lower() == last]
    return same[0] if same else None


def suggest(
    name: str,
    known: Collection[str],
    listed: str = "known here",
    find: Callable[[str, Iterable[str]], str | None] = nearest,
) -> str:
    """Return the cure for an unknown name: the nearest known one, and the list of them.

    >>> suggest("tagret", ["entity", "target"])
    'did you mean `target`? known here: entity, target'
    >>> suggest("listen", ["token", "ui"])
    'known here: token, ui'
    """
    names = list(known)
    shown = [each for each, end in zip(names, accumulate(map(len, names)), strict=True) if end <= MAX_LETTERS]
    shown = (shown or names)[: MAX_NAMES if shown else 1]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    text = f"{listed}: {', '.join(shown) or 'none'}{more}"
    near = find(name, names)
    return f"did you mean `{near}`? {text}" if near is not None else text


def column_paths(config: Config) -> dict[str, str]:
    """Return path → configuration key of each column that events must have; with `features: auto` without features.

    Targets are not among them if `labels` brings them, nor the entity if it has a default.
    """
    event = config.event
    if event.makes_rows:
        return message_paths(event)
    paths = {} if event.entity_default is not None else {event.entity: "event.entity"}
    return value_paths(config, paths | {event.timestamp: "event.timestamp"})


def value_paths(config: Config, before: dict[str, str]) -> dict[str, str]:
    """Return path → configuration key of each column of a row, after those `before`, which come first."""
    event, paths = config.event, before
    if config.labels is None:
        paths |= dict.fromkeys(event.targets, "event.target")
    for name, derived in event.derive.items():
        paths |= {path: f"event.derive.{name}" for path in derived.sources if path not in paths}
    if event.features != "auto":
        paths |= dict.fromkeys((path for path in event.features if path not in event.derive), "event.features")
    paths |= dict.fromkeys(event.numbers if event.watches_all else (), "event.inputs")
    paths |= dict.fromkeys(event.categories, "event.categories")
    others = {path: "event.when" for each in event.when for path in each.condition}
    flags = [] if event.quality is None or event.makes_rows else event.quality.flags
    others |= dict.fromkeys(flags, "event.quality")
    others |= {limit.column: "alerts.limits" for limit in config.alerts.limits}
    return paths | {path: key for path, key in others.items() if path not in (*paths, *event.derive, *event.targets)}


def message_paths(event: Event) -> dict[str, str]:
    """Return path → configuration key of each field that a message must have, where messages are no rows yet."""
    paths = (
        {} if event.entity_default is not None else {event.entity: "event.entity" if event.tag is None else "event.tag"}
    )
    paths[event.timestamp] = "event.timestamp"
    if event.aggregate is None:
        paths.setdefault(event.value, "event.value")
    else:
        paths |= {path: "event.aggregate" for path in event.aggregate.paths if path not in paths}
    if event.signal is not None:
        paths.setdefault(event.signal, "event.signal")
    flags = [] if event.quality is None else event.quality.flags
    return paths | {path: "event.quality" for path in flags if path not in paths}


def missing_columns(config: Config, columns: Collection[str], place: str) -> list[str]:
    """Return an error sentence for each configured column that is not there.

    Args:
        columns: names of the columns; a dotted path is there if its first part is, as objects may be nested
        place: what has the columns, such as "the frame" or "events.csv"
    """
    there = set(columns)
    return [
        missing_path(key, path, columns, place)
        for path, key in column_paths(config).items()
        if there.isdisjoint(columns_of(path))
    ]


def missing_path(key: str, path: str, known: Collection[str], place: str) -> str:
    """Return the error sentence for a configured path that is not there. known: the paths that are"""
    if is_message_field(path):
        what = "the message's key" if path == KEY else f"the header `{path.removeprefix(HEADER)}` of the message"
        return (
            f"{key}: `{path}` is {what}, which {place} does not have; record the topic with this configuration "
            f"(`ssm-stream record`), or add a column `{path}`"
        )
    if path in known:
        return (
            f"{key}: no path leads to `{path}` in {place}: a name within it has a dot or a bracket of its own, which "
            "a path has as a step; have it renamed where the events are made"
        )
    one = ""
    if key == "event.entity" and nearest_path(path, known) is None:
        one = "; if all of it is of one machine, write its name as `event.entity_default`"
    return f"{key}: no column {path!r} in {place}; {suggest(path, known, 'its columns', nearest_path)}{one}"


def missing_signals(config: Config, signals: Collection[str], place: str) -> list[str]:
    """Return an error sentence for each configured signal that no reading has.

    Args:
        signals: names of those that readings have
        place: what has the readings, such as "events.csv"
    """
    return [
        f"{key}: no signal {path!r} in {place}; {suggest(path, sorted(signals), 'its signals')}"
        for path, key in value_paths(config, {}).items()
        if path not in signals and path not in config.event.facts
    ]


def check_columns(config: Config, columns: Collection[str], place: str) -> None:
    """Check that every configured column is there; see `missing_columns`.

    Raises:
        ConfigError: names each missing column, its configuration key and the nearest column.
    """
    if missing := missing_columns(config, columns, place):
        raise ConfigError("\n".join(missing))
