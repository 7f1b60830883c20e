"""How a file is read where that is not detected: the options of the commands, and what a configuration adds to them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ssm_stream.config import ConfigError, Event
from ssm_stream.config.suggestions import suggest
from ssm_stream.ingest.rows.reader import message_event

DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|", "space": " "}
ORDERS = ("day-first", "month-first", "year-first")
HELP = {
    "delimiter": "comma, semicolon, tab or pipe",
    "decimal": "comma or point",
    "dates": "day-first, month-first or year-first",
    "encoding": "cp1252, shift_jis, …",
    "header": "the number of its line, or none",
    "sheet": "name of the sheet",
    "tags": "pattern such as '{entity}.{signal}' for columns that are one tag each, or none",
}


class FileOptions(NamedTuple):
    """What is given, in place of what would be detected; None: it is detected."""

    delimiter: str | None = None
    decimal: str | None = None
    """`.` or `,`"""
    dates: str | None = None
    """One of `ORDERS`."""
    encoding: str | None = None
    header: int | None = None
    """Number of its line, from 1; 0: there is none."""
    sheet: str | None = None
    tags: str | None = None
    """Pattern of the names of columns, or `none`."""
    every: float | None = None
    """Seconds between two rows of a file without times."""
    columns: frozenset[str] = frozenset()
    """Paths that the configuration names."""
    entity: str | None = None
    """Path of the entity, of the configuration."""
    timestamp: str | None = None
    """Path of the time, of the configuration."""
    time_zone: str = "UTC"
    """Zone of local times, of the configuration."""

    def of_event(self, event: Event) -> FileOptions:
        """Return the options with what a configuration adds."""
        read = message_event(event)
        named = [] if read.features == "auto" else [*read.columns, *read.context]
        columns = frozenset({*named, *read.targets})
        return self._replace(columns=columns, entity=event.entity, timestamp=event.timestamp, time_zone=event.time_zone)


DETECTED = FileOptions()
"""Nothing is given."""


def parse_options(texts: Iterable[str], every: float | None = None) -> FileOptions:
    """Return the options of texts NAME=VALUE.

    Raises:
        ConfigError: an unknown name, or a value that is none of it.
    """
    found: dict[str, object] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if name not in HELP or not equals or not value:
            cure = suggest(name, list(HELP)) if name not in HELP else f"write {name}=…: {HELP[name]}"
            raise ConfigError(f"--read: found {text!r}; {cure}")
        found[name] = _value(name, value)
    return FileOptions(**found, every=every)  # type: ignore[arg-type]


def _value(name: str, value: str) -> object:
    parsed: object = value
    if name == "delimiter":
        parsed = DELIMITERS.get(value, value.replace("\\t", "\t"))
    elif name == "decimal":
        parsed = {"comma": ",", "point": "."}.get(value, value)
    elif name == "header":
        parsed = 0 if value == "none" else int(value) if value.isdecimal() and int(value) else None
    valid = {
        "delimiter": isinstance(parsed, str) and len(parsed) == 1,
        "decimal": parsed in (".", ","),
        "dates": parsed in ORDERS,
        "encoding": _is_encoding(value),
        "header": parsed is not None,
        "tags": value == "none" or ("{entity}" in value and "{signal}" in value),
    }
    if not valid.get(name, True):
        raise ConfigError(f"--read {name}: found {value!r}; write {HELP[name]}")
    return parsed


def _is_encoding(name: str) -> bool:
    import codecs

    try:
        return bool(codecs.lookup(name)._is_text_encoding)
    except (LookupError, AttributeError):
        return False
