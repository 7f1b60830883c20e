"""Own parts: message formats and anomaly channels that other packages bring, as entry points of Python packages."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, NamedTuple

from ssm_stream.config.sections.base import ConfigError
from ssm_stream.config.sections.registry import OF_REGISTRY

Kind = Literal["format", "channel"]
GROUPS: dict[Kind, str] = {"format": "ssm_stream.formats", "channel": "ssm_stream.channels"}
"""Kind of part → the group of its entry points."""
BUILT_IN: dict[Kind, tuple[str, ...]] = {
    "format": ("json", *OF_REGISTRY),
    "channel": ("residual", "novelty", "levels"),
}
"""Names of the parts that the product has itself."""


class OwnPart(NamedTuple):
    """An installed part: its kind, its name, its function as `module:name`, and the package with its version."""

    kind: Kind
    name: str
    function: str
    package: str


def installed_parts() -> list[OwnPart]:
    """Return all own parts that are installed, without loading them."""
    return [
        OwnPart(kind, point.name, point.value, _package(point))
        for kind in GROUPS
        for name in sorted(_points(kind))
        for point in _points(kind)[name]
    ]


def require_part(kind: Kind, name: str) -> EntryPoint:
    """Return the entry point of an own part.

    Raises:
        ConfigError: no package has it, or several have.
    """
    found = _points(kind)
    if name not in found:
        known = ", ".join([*BUILT_IN[kind], *sorted(set(found) - set(BUILT_IN[kind]))])
        raise ConfigError(
            f"found {name!r}, which is no {kind} that is installed ({known}); correct the name, or install the package "
            f"that has it as an entry point of {GROUPS[kind]}"
        )
    if len(found[name]) > 1:
        packages = " and ".join(sorted(map(_package, found[name])))
        raise ConfigError(f"found {name!r}, a {kind} of {packages}; remove one of them")
    return found[name][0]


def load_part(kind: Kind, name: str) -> Any:
    """Return the function of an own part.

    Raises:
        ConfigError: it is not installed, or cannot be imported, or is no function.
    """
    point = require_part(kind, name)
    where = f"{kind} {name!r} ({point.value} of {_package(point)})"
    try:
        function = point.load()
    except Exception as error:
        raise ConfigError(f"{where} cannot be imported: {type(error).__name__}: {error}") from error
    if not callable(function):
        raise ConfigError(f"{where} is no function: found {type(function).__name__}")
    return function


def _points(kind: Kind) -> dict[str, list[EntryPoint]]:
    """Return the entry points by name; a package that is found twice on the path counts once."""
    out: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=GROUPS[kind]):
        some = out.setdefault(point.name, [])
        if all((point.value, _package(point)) != (other.value, _package(other)) for other in some):
            some.append(point)
    return out


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else "an unknown package"
