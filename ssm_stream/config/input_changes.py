"""What a change of the learner's inputs does to a state: which are added, removed and kept, or why it is refused.

Inputs are compared by name: an input that both settings have keeps what was learned of it, wherever it stands in the
list. A derived input with another definition is another input.
"""

from __future__ import annotations

from typing import Any, NamedTuple

PATHS = (
    "event.features", "event.categories", "event.derive", "event.inputs", "event.lags", "event.differences",
    "event.feature_lags", "event.aggregate.columns",
)  # fmt: skip
"""Settings of which inputs there are."""
ANEW = "put it back, or start with another recovery.directory"


class InputSettings(NamedTuple):
    """The settings of PATHS, from the `event` of `Config.model_settings`."""

    features: list[str]
    categories: list[str]
    derive: dict[str, Any]
    inputs: list[str] | None
    lags: int
    differences: bool | None
    feature_lags: int
    columns: dict[str, Any]
    """Of windows."""


def input_settings(event: dict[str, Any]) -> InputSettings:
    """Return the settings of the inputs. event: of `Config.model_settings`, in which defaults may be missing"""
    return InputSettings(
        list(event.get("features", [])), list(event.get("categories", [])), event.get("derive") or {},
        event.get("inputs"), event.get("lags", 8), event.get("differences"), event.get("feature_lags", 0),
        (event.get("aggregate") or {}).get("columns", {}),
    )  # fmt: skip


def is_of_inputs(path: str) -> bool:
    """Return whether a setting is one of PATHS, or inside of one."""
    return any(path == start or path.startswith(f"{start}.") for start in PATHS)


def why_refused(old: dict[str, Any], new: dict[str, Any]) -> str | None:
    """Return why a state cannot continue with the inputs of other settings; None if it can.

    old, new: `event` of `Config.model_settings`
    """
    was, now = input_settings(old), input_settings(new)
    if was == now:
        return None
    if "all" in (old.get("target"), new.get("target")) and was.features != now.features:
        return f"with `target: all` each feature is a target, too, with a learner of its own: {ANEW}"
    if (was.lags > 0) != (now.lags > 0):
        return f"with `lags: 0` the target is learned, else its change since the last one: {ANEW}"
    if other := sorted(
        path for path in _targets(new) & was.columns.keys() if was.columns[path] != now.columns.get(path)
    ):
        return f"the target {other[0]!r} would be another column of windows: {ANEW}"
    if not now.lags and _has_numbers(old) != _has_numbers(new):
        return f"a learner without numbers has other answers: {ANEW}"
    return None


def _targets(event: dict[str, Any]) -> set[str]:
    target = event.get("target", [])
    return set(event.get("features", [])) if target == "all" else {target} if isinstance(target, str) else set(target)


def redefined(old: InputSettings, new: InputSettings) -> set[str]:
    """Return the features that have the same name and are something else: derived otherwise, or from other columns."""
    columns = {path for path in {*old.columns, *new.columns} if old.columns.get(path) != new.columns.get(path)}
    derived = {
        name for name in {*old.derive, *new.derive}
        if old.derive.get(name) != new.derive.get(name) or any(uses({name: new.derive[name]}, path) for path in columns)
    }  # fmt: skip
    return columns | derived


def _has_numbers(event: dict[str, Any]) -> bool:
    calendar = event.get("calendar", "auto")
    cycles = calendar != "auto" and any(part.endswith("_cycle") for part in calendar)
    return bool(event.get("features") or cycles or event.get("holidays"))


def describe(path: str, old: dict[str, Any], new: dict[str, Any]) -> str:
    """Return what becomes of the inputs by the change of one setting that is not refused."""
    was, now = input_settings(old), input_settings(new)
    name = path.split(".")[1]
    if name == "lags":
        return _describe_past(was.lags, now.lags, "past target")
    if name == "feature_lags":
        return _describe_past(was.feature_lags, now.feature_lags, "past event's features")
    if name == "differences":
        return "changes of the features that are new start at weight zero, those that are gone leave; the rest stays"
    if name == "derive":
        return "derived inputs that are new, or defined otherwise, start at weight zero; the others stay"
    if name == "aggregate":
        return _describe_columns(was, now)
    before, after = (list(getattr(each, name) or []) for each in (was, now))
    added = [each for each in after if each not in before]
    removed = [each for each in before if each not in after]
    kept = len(after) - len(added)
    parts = [f"added: {', '.join(added)}, at weight zero"] if added else []
    parts += [f"removed: {', '.join(removed)}"] if removed else []
    parts.append(f"kept: {kept}" if added or removed else "all are kept, in another order")
    if added and removed and name in ("features", "categories"):
        parts.append("for a new name of the same input: `ssm-stream state rename-feature` first")
    return "; ".join(parts)


def _describe_columns(was: InputSettings, now: InputSettings) -> str:
    added = [each for each in now.columns if each not in was.columns]
    removed = [each for each in was.columns if each not in now.columns]
    other = [each for each in now.columns if each in was.columns and was.columns[each] != now.columns[each]]
    parts = [f"columns added: {', '.join(added)}"] if added else []
    parts += [f"removed: {', '.join(removed)}"] if removed else []
    parts += [f"defined otherwise, which are new inputs: {', '.join(other)}"] if other else []
    parts.append("windows that are open go on; what they have not gathered from their begin is unknown in them")
    return "; ".join(parts)


def _describe_past(before: int, after: int, what: str) -> str:
    if after > before:
        return f"inputs from the {what} {before + 1} to {after} back are added, at weight zero; the others stay"
    return f"inputs from the {what} {after + 1} to {before} back are removed; the others stay"


def uses(derive: dict[str, Any], path: str) -> bool:
    """Return whether a derived input has this name or is computed from this path. derive: as JSON has it"""
    sources = [source for each in derive.values() for source in each.values()]
    return path in derive or any(path == source or (isinstance(source, list) and path in source) for source in sources)
