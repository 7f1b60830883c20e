"""The effect of a changed configuration on an existing state, setting by setting, before anything runs.

A state is *kept* where only settings change that it does not depend on (where events come from, where results go). It
is *migrated* where its arrays keep their meaning under the new settings, or where whole groups of arrays are added or
dropped (a detector that is switched on starts as for a new entity): what has been learned stays the same to the bit.
Where inputs are added or removed (`input_changes`), what was learned of the others stays. Any other change is
*refused*, because the arrays would mean something else.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from ssm_stream.config import Config, input_changes
from ssm_stream.config.earlier import MOVED
from ssm_stream.config.sections.holidays import Holidays, from_years, ranges
from ssm_stream.config.setting_text import format_value

Effect = Literal["kept", "migrated", "refused"]
UNSET = "unset"
"""Stands for a missing value: a setting that only one of two releases or files has."""
HOLIDAYS = "event.holidays.days"

_RULE = "the rule applies to alerts from now on"
_SWITCH = "the learner stays; a detector that is switched on starts anew, one that is switched off is dropped"
_BUDGET = "the learner stays; bounds and thresholds follow the new budget"
_INPUTS = "inputs and targets that are new start at weight zero, those that are gone leave, the others stay as learned"
MIGRATES = {
    **dict.fromkeys(input_changes.PATHS, _INPUTS),
    "event.timestamp": "the learner stays; times of messages are read from there from now on",
    "event.timestamp_format": "the learner stays; times of messages are read so from now on",
    "event.when": "the learner stays; it applies to events from now on",
    "event.quality": "the learner stays; it applies to events from now on",
    "event.max_age": "the learner stays; rows are made so from now on",
    "event.grace": "the learner stays; rows are made so from now on",
    "event.aggregate.grace": "the learner stays; windows are closed so from now on",
    "model.warmup": _RULE,
    "alerts.budget": _BUDGET,
    "alerts.budget.alerts": _BUDGET,
    "alerts.budget.per": _BUDGET,
    "alerts.budget.entities": _BUDGET,
    "alerts.anomaly.enabled": f"{_SWITCH}; open episodes end (`ended_by: disabled`)",
    "alerts.anomaly.budget": "the learner stays; the bounds follow the new budget from where they are",
    "alerts.anomaly.channels": _SWITCH,
    "alerts.anomaly.direction": _RULE,
    "alerts.anomaly.min_deviation": _RULE,
    "alerts.anomaly.min_deviation_relative": _RULE,
    "alerts.anomaly.consecutive": _RULE,
    "alerts.anomaly.recover_after": _RULE,
    "alerts.anomaly.cooldown": "it applies to episodes that end from now on",
    "alerts.anomaly.absorb_after": _RULE,
    "alerts.anomaly.learn": "it applies to events from now on",
    "alerts.drift.enabled": f"{_SWITCH}; open episodes end (`ended_by: disabled`)",
    "alerts.drift.budget": "the learner stays; the threshold is the new one at once",
    "alerts.drift.cooldown": "it applies to episodes that end from now on",
    "alerts.drift.absorb_after": _RULE,
    "alerts.drift.learn": "it applies to events from now on",
    "alerts.fleet.enabled": "it counts from now on; switched off, open ones end (`disabled`), those inside start anew",
    "alerts.fleet.share": _RULE,
    "alerts.fleet.min_entities": _RULE,
    "alerts.fleet.wait": "it applies to episodes that start from now on",
    "alerts.limits": "they apply from now on; the alerts of those that are gone end (`ended_by: disabled`)",
    "alerts.silence": "gaps are counted from now on; switched off, open alerts end (`ended_by: disabled`)",
    "alerts.silence.after": "it applies to gaps that begin from now on",
    "alerts.silence.columns": "gaps are counted from now on; switched off, open alerts end (`ended_by: disabled`)",
    "alerts.stuck": "runs are counted from now on; switched off, open alerts end (`ended_by: disabled`)",
    "alerts.maintenance": "the windows apply from now on; an episode that began in one stays suppressed to its end",
    "alerts.ongoing_every": _RULE,
    "alerts.critical": _RULE,
    "alerts.contributions": "alerts list that many from now on",
    "alerts.language": "alerts have sentences in it from now on",
    HOLIDAYS: "days after the last event that was learned follow the list of now",
    "state.ttl": "the entities' clocks stay; the new limit applies from now on",
}
"""Settings whose change migrates a state, and what happens then."""

WHY_REFUSED = {
    "event.": "it changes the learner's inputs",
    "model.interval": "the width of the interval was learned for the old share",
    "model.weights": "the content of the file differs; a state is valid only with the weights that made it",
    "model.": "it changes the learner",
    "state.shards": "entities would move to other shards than those that hold their state",
    "labels": "the predictions that wait for their labels were stored under the old rule",
}
"""Reason by prefix of the setting's path; the first prefix that matches counts."""

RUNTIME_EFFECTS = {
    "source.brokers": "positions stay as they are: the other cluster must hold the same messages at the same offsets",
    "source.topic": "positions stay as they are: the other topic must hold the same messages at the same offsets",
    "source.topics": "topics that are added at the end of the list begin by `source.start`; those that are taken out "
    "there keep their positions, for when they come back",
    "source.repartition": "what was copied stays; the other topic is copied by `source.start`",
    "source.context": "it applies to events from now on",
    "source.partitions": "positions of removed partitions stay, for when they are added again",
    "source.assignment": "the state is elsewhere with it: a start begins anew, by `source.start`",
    "state.store": "the state stays where it is: move the folder, too",
    "source.start": "it applies only where there is no state",
    "source.on_gap": "it applies at the next gap",
    "event.entity_default": "it applies to messages from now on",
    "event.only": "it applies to messages from now on; entities that it leaves out keep their state",
    "event.format": "it applies to messages from now on",
    "alerts.control": "stops that are announced there apply from now on",
    "alerts.shadow": "it applies to episodes that start from now on; open ones go on where they began",
    "state.max_entities": "it applies to entities that are new from now on",
    "state.when_full": "it applies to entities that are new from now on",
    "delivery": "results of the epoch that the start repeats may be delivered twice",
}
WRITERS = "sinks.writers"
"""Producers: no setting, but what follows from `state.shards`, whose change a state names by itself."""
TAKEN_OUT = "source.taken_out"
"""Topics that an earlier list had after those of now: it is kept of them which place they have."""
GONE = ("event.framed", "event.max_bytes")
"""Settings of earlier releases that the messages themselves replace."""
_INDEPENDENT = "the state does not depend on it"

_STREAM = "it names another stream or another state: stop the process and start it again"
_INPUTS_LIVE = (
    "it changes the learner's inputs or targets, and what leaves is lost: stop the process and start it again"
)
NOT_LIVE = {
    **dict.fromkeys(input_changes.PATHS, _INPUTS_LIVE),
    "source.brokers": _STREAM,
    "source.topic": _STREAM,
    "source.topics": _STREAM,
    "source.repartition": _STREAM,
    "source.partitions": _STREAM,
    "source.assignment": _STREAM,
    "state.store": _STREAM,
    "source.start": "it only applies without a state",
    "source.group": _STREAM,
    "delivery": "consumers depend on it: stop the process and start it again",
    "recovery.directory": _STREAM,
}
"""Settings that a restart may change, and a reload may not."""


class Change(NamedTuple):
    """A setting that differs: its path, old and new value (or `UNSET`), the effect on a state, and the reason."""

    path: str
    old: Any
    new: Any
    effect: Effect
    why: str

    @property
    def text(self) -> str:
        """`path: old → new (effect: why)`."""
        was, now = (format_value(value, self.path) for value in (self.old, self.new))
        return f"{self.path}: {was} → {now} ({self.effect}: {self.why})"


def diff_model_settings(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    """The settings that differ between two `Config.model_settings`, in the order of the file."""
    before, after = old.get("event", {}), new.get("event", {})
    refused = input_changes.why_refused(before, after) or input_changes.why_first_refused(old, new)

    def effect(path: str) -> tuple[Effect, str]:
        if not input_changes.is_of_inputs(path):
            return _effect(path)
        return ("migrated", input_changes.describe(path, before, after)) if refused is None else ("refused", refused)

    return [Change(_place(path), was, now, *effect(path)) for path, was, now in diff_settings(old, new)]


def _place(path: str) -> str:
    """Return the place in the file of a setting that states name by an earlier one."""
    old = next((old for old in MOVED if path == old or path.startswith(f"{old}.")), "")
    return MOVED[old] + path.removeprefix(old) if old else path


def diff_runtime_settings(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    """The settings that differ between two `runtime_settings`."""
    moved = moved_topics(old, new)
    exactly = old.get("delivery") == new.get("delivery") == "exactly_once"
    return [
        Change("state.shards (writers)", was, now, "refused", "a state is bound to the writers that made it")
        if path == WRITERS
        else Change(path, was, now, "refused", moved)
        if path == "source.topics" and moved
        else Change(path, was, now, "kept", _why_kept(path, was, now, exactly=exactly))
        for path, was, now in diff_settings(old, new)
        if path not in GONE and path != TAKEN_OUT and (path != WRITERS or exactly or UNSET in (was, now) or now < was)
    ]


def _why_kept(path: str, was: Any, now: Any, *, exactly: bool) -> str:
    """Return what becomes of a state. exactly: it has writers, whose names `source.partitions` is in"""
    if path == "alerts.control" and UNSET not in (was, now):
        return "stops that are announced on the other topic apply from now on, those of the former one no longer"
    if path == "alerts.control" and now == UNSET:
        return "stops that were announced there apply no longer"
    why = RUNTIME_EFFECTS.get(path, _INDEPENDENT)
    if path == "source.partitions" and exactly:
        return f"{why}; exactly_once names its writers by them: ssm-stream state resume CONFIG --from earliest first"
    return why


def moved_topics(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Return why a state cannot continue with the events topics of other `runtime_settings`; empty if it can."""
    before, now = _topics(old), _topics(new)
    out = old["source"].get("taken_out", [])
    places = dict(enumerate([*before, *out]))
    moved = [name for at, name in places.items() if name in now and now.index(name) != at]
    if moved:
        return f"{moved[0]} has another place in the list, by which states are kept: add topics at its end"
    for at, name in enumerate(now[len(before) :], len(before)):
        if places.get(at, name) != name:
            return (
                f"{name} would go on at the positions of {places[at]}, which was taken out at this place of the list: "
                f"write {places[at]} there again, and {name} after it"
            )
    return ""


def taken_out(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return the topics at the end of the former list that the new `runtime_settings` do not have, in their order."""
    return [*_topics(old), *old["source"].get("taken_out", [])][len(_topics(new)) :]


def _topics(settings: dict[str, Any]) -> list[str]:
    source = settings["source"]
    return list(source.get("topics") or [source.get("topic")])


def runtime_settings(config: Config) -> dict[str, Any]:
    """The settings that a state does not depend on, without any that may hold a secret."""
    source = {"brokers", "topic", "partitions", "start", "group", "batch", "wait"}
    sinks = {"predictions", "alerts", "dead_letters"}
    limits = {"event": {"entity_default", "only"}, "state": {"max_entities", "when_full"}}
    content = config.model_dump(mode="json", include={"delivery": True, "source": source, "sinks": sinks, **limits})
    content["sinks"]["writers"] = config.writers
    content["recovery"] = {"epoch_interval": config.epoch_interval}
    content["alerts"] = {"feedback": config.alerts.feedback.topic if config.alerts.feedback else None}
    # A state from before these settings does not differ by them.
    if config.alerts.shadow:
        content["alerts"]["shadow"] = True
    if config.control_topic:
        content["alerts"]["control"] = config.control_topic
    if not config.event.only:
        del content["event"]["only"]
    if config.source.context:
        content["source"]["context"] = config.model_dump(mode="json")["source"]["context"]
    if len(config.source.names) > 1:
        content["source"]["topics"] = config.source.names
    return content


def overall_effect(changes: Iterable[Change]) -> Effect:
    """The effect of all changes together on a state."""
    effects = {change.effect for change in changes}
    return "refused" if "refused" in effects else "migrated" if "migrated" in effects else "kept"


def _setting(path: str) -> str:
    """Return the setting that a path is in: all of `event.quality` is one, all of `max_age`, and all of `derive`."""
    whole = ("event.quality", "event.max_age", "event.derive")
    return next((name for name in whole if path.startswith(f"{name}.")), path)


def _effect(path: str) -> tuple[Effect, str]:
    path = _setting(path)
    if path in MIGRATES:
        return "migrated", MIGRATES[path]
    why = next(
        (why for start, why in WHY_REFUSED.items() if path.startswith(start)), "this release has no such setting"
    )
    return "refused", why


def change_needs(path: str) -> Literal["reload", "restart", "anew"]:
    """Return what another value of a setting takes: a reload, a restart, or a new state that learns from the start."""
    if any(path == start or path.startswith(f"{start}.") for start in NOT_LIVE):
        return "restart"
    independent = path in RUNTIME_EFFECTS or _setting(path) in MIGRATES
    return "anew" if not independent and any(path.startswith(start) for start in WHY_REFUSED) else "reload"


def holiday_changes(old: Holidays, new: Holidays) -> list[tuple[str, Any, Any]]:
    """Return a difference as `diff_settings` does, of the days that only one of two lists has."""
    gone, added = old.difference(new)
    return [(HOLIDAYS, ranges(gone) or UNSET, ranges(added) or UNSET)] if gone or added else []


def diff_settings(old: dict[str, Any], new: dict[str, Any], above: str = "") -> list[tuple[str, Any, Any]]:
    """Path, old and new value of each difference between two trees of settings, in the order of the new one."""
    out = []
    for key in dict.fromkeys([*new, *old]):
        was, now, path = old.get(key, UNSET), new.get(key, UNSET), f"{above}{key}"
        if path == HOLIDAYS and isinstance(was, dict) and isinstance(now, dict):
            out += holiday_changes(Holidays(days=from_years(was)), Holidays(days=from_years(now)))
        elif isinstance(was, dict) and isinstance(now, dict):
            out += diff_settings(was, now, f"{path}.")
        elif was != now:
            out.append((path, was, now))
    return out
