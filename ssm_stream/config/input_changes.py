"""What a change of the learner's inputs does to a state: which are added, removed and kept, or why it is refused.

Inputs are compared by name: an input that both settings have keeps what was learned of it, wherever it stands in the
list. A derived input with another definition is another input. So are several targets, each of which has a learner of
its own.
"""

from __future__ import annotations

from typing import Any, NamedTuple

PATHS = (
    "event.target", "event.features", "event.categories", "event.derive", "event.inputs", "event.lags",
    "event.differences", "event.feature_lags", "event.aggregate.columns",
)  # fmt: skip
"""Settings of which inputs and targets there are."""
ANEW = "put it back, or start with another recovery.directory"
TARGET = "target"
"""The target where the file names none."""


class InputSettings(NamedTuple):
    """The settings of PATHS, from the `event` of `Config.model_settings`."""

    target: str | list[str]
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
        event.get("target", TARGET), list(event.get("features", [])), list(event.get("categories", [])),
        event.get("derive") or {},
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
    before, after = _targets(old), _targets(new)
    if before != after and (why := _why_other_targets(before, after)):
        return f"{why}: {ANEW}"
    if (was.lags > 0) != (now.lags > 0):
        return f"with `lags: 0` the target is learned, else its change since the last one: {ANEW}"
    if other := sorted(
        path for path in {*before} & {*after} & was.columns.keys() if was.columns[path] != now.columns.get(path)
    ):
        return f"the target {other[0]!r} would be another column of windows: {ANEW}"
    if not now.lags and _has_numbers(old) != _has_numbers(new):
        return f"a learner without numbers has other answers: {ANEW}"
    return None


def _why_other_targets(before: list[str], after: list[str]) -> str | None:
    """Return why a state of some targets cannot continue with others; None if it can."""
    if len(before) == 1 and len(after) == 1:
        return f"{after[0]!r} is learned anew, as another target than {before[0]!r}"
    return None if {*before} & {*after} else "none of the targets stays, so that nothing would go on"


def why_first_refused(old: dict[str, Any], new: dict[str, Any]) -> str | None:
    """Return why the first target must stay one that was; None if it need not.

    By what it has seen the alerts of rules end where an entity is past its TTL, and a new one has seen no entity yet.

    old, new: `Config.model_settings`
    """
    before, after = _targets(old.get("event", {})), _targets(new.get("event", {}))
    rules = any(new.get("alerts", {}).get(name) for name in ("limits", "silence", "stuck"))
    if len(after) < 2 or after[0] in before or not rules or new.get("state", {}).get("ttl") is None:
        return None
    return (
        f"the first target, {after[0]!r}, is new, and by it alerts.limits, silence and stuck are ended after "
        "state.ttl: write it after one that stays"
    )


def _targets(event: dict[str, Any]) -> list[str]:
    target = event.get("target", TARGET)
    return list(event.get("features", [])) if target == "all" else [target] if isinstance(target, str) else target


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
    if name == "target" or (name == "features" and "all" in (was.target, now.target)):
        return _describe_targets(old, new)
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


def _describe_targets(old: dict[str, Any], new: dict[str, Any]) -> str:
    before, after = _targets(old), _targets(new)
    added = [each for each in after if each not in before]
    removed = [each for each in before if each not in after]
    everything = "all" in (old.get("target"), new.get("target"))
    join, leave = (", and as inputs of others at weight zero", ", and as inputs of others") if everything else ("", "")
    parts = [f"added: {', '.join(added)}, learned anew{join}"] if added else []
    parts += (
        [f"removed: {', '.join(removed)}{leave}; what is open of it ends (`ended_by: disabled`)"] if removed else []
    )
    stay = len(after) - len(added)
    parts.append(f"kept: {stay}, as learned" if added or removed else "all targets are kept, in another order")
    if len(before) != len(after) and 1 in (len(before), len(after)):
        parts.append("open anomalies and drifts end (`ended_by: disabled`), as several targets have theirs in common")
    if len(before) != len(after):
        parts.append(f"alarm budgets are {f'shared by {len(after)}' if len(after) > 1 else 'its own'} from now on")
    if added and removed:
        parts.append("for a new name of the same target: `ssm-stream state rename-feature` first")
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
