"""Settings that have another name now. The old one is read for one minor version more, with a warning, then refused.

Semantic versioning: a patch changes no setting, message or state; a minor version may add some, and may deprecate; what
was deprecated is gone in the next minor version after the one that said so. docs/upgrades.md has the rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Renamed(NamedTuple):
    """An old path and the one that it has now, since which release, and in which release the old one is refused."""

    old: str
    new: str
    since: str
    gone: str

    @property
    def text(self) -> str:
        """For whoever has the old one in a file."""
        return f"{self.old} is called {self.new} since {self.since}; the old name is refused from {self.gone} on"


RENAMED: tuple[Renamed, ...] = ()
"""All that are still read."""


def renew(raw: dict[Any, Any], renamed: tuple[Renamed, ...] | None = None) -> tuple[dict[Any, Any], list[str]]:
    """The settings under their present names, and what is to be said of the old ones.

    A value is moved as it is. Where both names stand in the file, both stay, and the old one is refused as unknown.

    >>> renew({"state": {"parts": 4}}, (Renamed("state.parts", "state.shards", "0.2", "0.3"),))[0]
    {'state': {'shards': 4}}
    """
    told: list[str] = []
    for each in RENAMED if renamed is None else renamed:
        *above, last = each.old.split(".")
        home = _section(raw, above)
        if home is None or last not in home:
            continue
        *there, name = each.new.split(".")
        if name in (_section(raw, there) or {}):
            continue
        raw = _without(raw, above, last)
        raw = _with(raw, there, name, home[last])
        told.append(each.text)
    return raw, told


def _section(raw: Any, path: list[str]) -> Mapping[Any, Any] | None:
    for key in path:
        raw = raw.get(key) if isinstance(raw, Mapping) else None
    return raw if isinstance(raw, Mapping) else None


def _without(raw: dict[Any, Any], path: list[str], name: str) -> dict[Any, Any]:
    if not path:
        return {key: value for key, value in raw.items() if key != name}
    return {**raw, path[0]: _without(raw[path[0]], path[1:], name)}


def _with(raw: dict[Any, Any], path: list[str], name: str, value: Any) -> dict[Any, Any]:
    if not path:
        return {**raw, name: value}
    inside = raw.get(path[0])
    return {**raw, path[0]: _with(inside if isinstance(inside, dict) else {}, path[1:], name, value)}
