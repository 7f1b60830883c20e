r"""Paths of fields: how a configuration names a value of an event, and the one parser of these texts.

The grammar:

    path    = field | "$key" | "$header." NAME
    field   = KEY { step }
    step    = "." KEY                    key of an object
            | "[" N "]"                  element of a list, counted from 0
            | "[" KEY "=" VALUE "]"      first object of a list whose KEY has this value
    KEY     = any text without "." and without a bracket that begins a step
    VALUE   = text without "]", or text within double quotes, where \" and \\ stand for " and \

A document that has the whole path as a key has its value there: a column of a file may have any name. So may the part
before the first bracket be one key, and, of an object on the way, all keys that are left, as labels of Kubernetes are:
`labels.app.kubernetes.io/name` is `app.kubernetes.io/name` of `labels` where that has it. `[` begins a step
only directly after a key or another step, and `[N]` only before a dot, another `[` or the end: in `temp [°C]`,
`temp[°C]` and `ch[0]_temp` it belongs to the key. `$key` and `$header.NAME` are the message's key and its last header
of that name, as text.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

KEY = "$key"
HEADER = "$header."


class PathError(ValueError):
    """A text that is no path. The message names it, the character (counted from 1) and the cure."""


class Match(NamedTuple):
    """A step into a list: its first object whose key has this value."""

    key: str
    value: str

    def matches(self, element: Any) -> bool:
        """Return whether an element of a list is the object: the value is this text, or a number written like it."""
        if not isinstance(element, dict):
            return False
        found = element.get(self.key)
        if type(found) is bool:
            return self.value == ("true" if found else "false")
        return found == self.value if type(found) is str else type(found) in (int, float) and str(found) == self.value


Step = str | int | Match
"""A key of an object, an index of a list, or a match among the objects of a list."""
MESSAGE = re.compile(r"\$(?:key|header)", re.IGNORECASE)
QUOTED = re.compile(r'"((?:[^"\\]|\\["\\])*)"\]')


def is_message_field(path: str) -> bool:
    """Return whether a path is of the message's key or of a header, not of the document."""
    return path == KEY or path.startswith(HEADER)


@functools.lru_cache(10_000)
def parse_path(path: str) -> tuple[Step, ...]:
    """Return the steps of a path, the first of them a key; a message's field is one key.

    >>> parse_path("payload.sensors[0].value")
    ('payload', 'sensors', 0, 'value')
    >>> parse_path("payload.sensors[name=temp].value")
    ('payload', 'sensors', Match(key='name', value='temp'), 'value')
    >>> parse_path("$header.machine.id")
    ('$header.machine.id',)

    Raises:
        PathError: the text is no path.
    """
    if (found := MESSAGE.match(path)) is not None:
        return (_message_field(path, found.end()),)
    steps = list[Step]()
    at = 0
    while True:
        end, step = _key_end(path, at)
        steps.append(path[at:end])
        while step is not None:
            what, end = step
            steps.append(what)
            step = _list_step(path, end) if path.startswith("[", end) else None
        if end == len(path):
            return tuple(steps)
        if path[end] != ".":
            raise _error(path, end, f"{path[end]!r} follows a bracket", "after `]` comes a dot, another `[` or the end")
        at = end + 1


def head_of(path: str) -> tuple[str, tuple[Step, ...]]:
    """Return a path up to its first step into a list, and the steps from there on: `a.b[0].c` → `a.b`, (0, "c")."""
    steps = parse_path(path)
    first = next((i for i, step in enumerate(steps) if not isinstance(step, str)), len(steps))
    return ".".join(step for step in steps[:first] if isinstance(step, str)), steps[first:]


def joined_keys(steps: Sequence[Step]) -> str:
    """Return the steps as the one key that may stand for them in an object; empty: they are one, or lead into a list.

    >>> joined_keys(("app", "kubernetes", "io/name"))
    'app.kubernetes.io/name'
    """
    keys = [step for step in steps if isinstance(step, str)]
    return ".".join(keys) if 1 < len(keys) == len(steps) else ""


def columns_of(path: str) -> set[str]:
    """Return the columns of a file in which the value at a path may be: of its name, or nested."""
    first = parse_path(path)[0]
    assert isinstance(first, str), "the first step is a key"
    return {path, head_of(path)[0], first}


def is_flat(path: str) -> bool:
    """Return whether a path is a key of the document itself."""
    return len(parse_path(path)) == 1


def has_list_step(path: str) -> bool:
    """Return whether a path leads into a list."""
    return any(not isinstance(step, str) for step in parse_path(path))


def _message_field(path: str, end: int) -> str:
    if is_message_field(path) and path != HEADER:
        return path
    cure = f"write `{KEY}` for the message's key, or `{HEADER}NAME` for a header"
    wrong = 0 if path[:end] != path[:end].lower() else min(end, len(path) - 1)
    raise _error(path, wrong, "no field of a message has this name", cure)


def _key_end(path: str, at: int) -> tuple[int, tuple[Step, int] | None]:
    """Return where the key that begins at a place ends, and the step into a list that follows it, with its end."""
    for end in range(at, len(path)):
        if path[end] == ".":
            return end, None
        if path[end] == "[" and end > at and path[end - 1] != " " and (step := _list_step(path, end)) is not None:
            return end, step
    return len(path), None


def _list_step(path: str, at: int) -> tuple[Step, int] | None:
    """Return the step whose bracket is at a place, and the place after it; None if the bracket belongs to a key."""
    end = path.find("]", at)
    inner = path[at + 1 : end if end >= 0 else len(path)]
    if re.fullmatch("-?[0-9]+", inner):
        if end < 0:
            raise _error(path, at, "`[` is never closed", "write `]` after the number")
        if path[end + 1 : end + 2] not in ("", ".", "["):
            return None
        if inner[0] == "-":
            raise _error(path, at + 1, "a list is counted from its beginning", "write a whole number from 0")
        return int(inner), end + 1
    key, equals, value = inner.partition("=")
    if not equals:
        return None
    if not key:
        raise _error(path, at + 1, "a key is missing before `=`", "write [name=temp]")
    if value.startswith('"'):
        begin = at + 2 + len(key)
        found = QUOTED.match(path, begin)
        if found is None:
            raise _error(path, begin, 'the quote is never closed by `"]`', 'write [name="a text"]')
        return Match(key, re.sub(r"\\(.)", r"\1", found[1])), found.end()
    if end < 0:
        raise _error(path, at, "`[` is never closed", "write `]` after the value")
    if not value:
        raise _error(path, end, "a value is missing after `=`", "write [name=temp]")
    return Match(key, value), end + 1


def _error(path: str, at: int, found: str, cure: str) -> PathError:
    return PathError(f"found {path!r}: at character {at + 1} {found}; {cure}")
