"""Values at paths of documents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ssm_stream.config.paths import Match, Step, head_of, joined_keys, parse_path

Getter = Callable[[Any], Any]
MAX_DEPTH = 8
"""Levels of objects and lists that are searched for paths."""
MAX_ELEMENTS = 32
"""Elements of a list that are searched for paths."""
NAMES = ("name", "id", "key", "tag", "signal", "metric", "sensor", "alias", "type", "channel")
"""Keys by which the objects of a list are named, those that are the most likely first."""


def path_getter(path: str, default: Any = None) -> Getter:
    """Return a function that gets the value at a path of a document.

    The value of the key itself if the document has it, else step by step; of an object on the way, too, all keys that
    are left may be one. `default` if there is no such path.
    """
    steps = parse_path(path)
    if len(steps) == 1:
        return lambda document: document.get(path, default)

    head, rest = head_of(path)
    # Each step, with the one key that may stand for it and all after it; that of the document itself is the path.
    whole = [(joined_keys(steps[i:]) if i else "", step) for i, step in enumerate(steps)]
    after_head = whole[len(steps) - len(rest) :]

    def nested(document: Any) -> Any:
        if path in document:
            return document[path]
        if rest and head in document:
            document, below = document[head], after_head
        else:
            below = whole
        for one_key, step in below:
            if one_key and isinstance(document, dict) and one_key in document:
                return document[one_key]
            document = _at(document, step, default)
            if document is default:
                return default
        return document

    return nested


def _at(value: Any, step: Step, default: Any) -> Any:
    """Return what one step leads to."""
    if type(step) is str:
        return value.get(step, default) if isinstance(value, dict) else default
    if type(value) is not list:
        return default
    if type(step) is int:
        return value[step] if step < len(value) else default
    assert isinstance(step, Match)
    return next(filter(step.matches, value), default)


def leaf_paths(document: dict[str, Any]) -> Iterator[str]:
    """Yield the paths of the values of a document that are neither objects nor lists.

    An object of a list is named by a key such as `name`, where each object has another text there, else by its index.
    """
    waiting: list[tuple[str, Any, int]] = [("", document, 0)]
    while waiting:
        path, value, depth = waiting.pop()
        if type(value) is dict and (value or not path) and depth < MAX_DEPTH:
            below = [(f"{path}.{key}" if path else key, each, depth + 1) for key, each in value.items()]
        elif type(value) is list and value and depth < MAX_DEPTH:
            below = [(f"{path}{name}", each, depth + 1) for name, each in _elements(value[:MAX_ELEMENTS])]
        else:
            yield path
            continue
        waiting += reversed(below)


def _elements(values: list[Any]) -> list[tuple[str, Any]]:
    """Return the elements of a list by the step that leads to each."""
    for name in NAMES:
        found = [each.get(name) if type(each) is dict else None for each in values]
        texts = [text for text in found if type(text) is str and text]
        if len(set(texts)) == len(values):
            return [(f"[{name}={_quoted(text)}]", each) for text, each in zip(texts, values, strict=True)]
    return [(f"[{i}]", each) for i, each in enumerate(values)]


def _quoted(text: str) -> str:
    """Return a value as a path has it, in quotes where it needs them."""
    if "]" not in text and not text.startswith('"'):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
