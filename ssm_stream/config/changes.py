"""What a changed configuration does to a state that is there: setting by setting, known before anything runs.

A state is *kept* where only things change that it knows nothing of (where events come from, where results go). It is
*migrated* where its arrays keep their meaning under the new settings, or where whole groups of them come and go (a
detector that is switched on begins as a new entity's): what has been learned stays to the bit. Any other change is
*refused*: the arrays would mean something else.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from ssm_stream.config import Config

Effect = Literal["kept", "migrated", "refused"]
UNSET = "unset"
"""Stands for a value that is not there: a setting that only one of two releases or files has."""

_RULE = "it is a rule for alerts from now on"
_SWITCH = "the learner stays; a detector that is switched on begins anew, one that is switched off is dropped"
MIGRATES = {
    "model.warmup": _RULE,
    "alerts.anomaly.enabled": f"{_SWITCH}; episodes open by then are not told as recovered",
    "alerts.anomaly.budget": "the learner stays; the bounds follow the new budget from where they are",
    "alerts.anomaly.channels": _SWITCH,
    "alerts.anomaly.direction": _RULE,
    "alerts.anomaly.min_deviation": _RULE,
    "alerts.anomaly.min_deviation_relative": _RULE,
    "alerts.anomaly.consecutive": _RULE,
    "alerts.anomaly.recover_after": _RULE,
    "alerts.anomaly.cooldown": "episodes that end from now on have it",
    "alerts.anomaly.learn": "events from now on are learned by it",
    "alerts.drift.enabled": f"{_SWITCH}; episodes open by then are not told as recovered",
    "alerts.drift.budget": "the learner stays; the threshold is the new one at once",
    "alerts.drift.cooldown": "episodes that end from now on have it",
    "alerts.drift.learn": "events from now on are learned by it",
    "alerts.fleet.enabled": "switched on, it sees episodes from now on; switched off, those inside of one start anew",
    "alerts.fleet.share": _RULE,
    "alerts.fleet.least": _RULE,
    "alerts.ongoing_every": _RULE,
    "alerts.critical": _RULE,
    "alerts.contributions": "it is what alerts tell from now on",
    "state.ttl": "clocks stay; it is asked for from now on",
}
"""Settings that a state may be taken along under, and what then happens."""

_INPUTS = "the learner's inputs, or how they are read, would be others"
_LEARNER = "the learner itself would be another"
WHY_REFUSED = {
    "event.": _INPUTS,
    "model.interval": "the interval's width has been tuned for the old share",
    "model.weights": "the file's content differs: a state only fits the weights that it was made with",
    "model.": _LEARNER,
    "state.shards": "entities would belong to other shards than those that they have learned in",
    "labels": "what waits for its target was kept by the old rule",
}
"""By the beginning of the path, the first that fits."""

WITHOUT = {
    "source.brokers": "positions stay as they are: the other cluster must hold the same messages at the same offsets",
    "source.topic": "positions stay as they are: the other topic must hold the same messages at the same offsets",
    "source.partitions": "positions of partitions that are left out stay for when they come back",
    "source.start": "it only counts where there is no state",
    "event.entity_default": "it holds for messages from now on",
    "event.framed": "it holds for messages from now on",
    "event.max_bytes": "it holds for messages from now on",
    "state.max_entities": "it holds for entities that are new from now on",
    "state.when_full": "it holds for entities that are new from now on",
    "delivery": "results of the epoch that is repeated at the start may come twice",
}
_NOTHING = "the state knows nothing of it"


class Change(NamedTuple):
    """A setting that differs: its path, what it was and is (`UNSET`: not there), what that does to a state, and why."""

    path: str
    old: Any
    new: Any
    effect: Effect
    why: str

    @property
    def text(self) -> str:
        """`path: old → new (effect: why)`."""
        return f"{self.path}: {shown(self.old)} → {shown(self.new)} ({self.effect}: {self.why})"


def shown(value: Any) -> str:
    """A value as a person writes it, cut where it is long."""
    words = {type(None): "null", bool: str(value).lower()}
    text = words.get(type(value), str(value))
    return text if len(text) <= 80 else text[:77] + "…"


def decided(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    """The settings that differ between two `Config.deciding`, in the order of the file."""
    return [Change(path, was, now, *_effect(path)) for path, was, now in different(old, new)]


def beside(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    """The settings that differ between two `around`."""
    exactly = old.get("delivery") == new.get("delivery") == "exactly_once"
    return [
        Change(path, was, now, "refused", "a state goes on with the writers that it knows")
        if path == "sinks.writers" and (exactly or UNSET in (was, now) or now < was)
        else Change(path, was, now, "kept", WITHOUT.get(path, _NOTHING))
        for path, was, now in different(old, new)
    ]


def around(config: Config) -> dict[str, Any]:
    """The settings that decide nothing of a state, without any that may hold a secret."""
    source = {"brokers", "topic", "partitions", "start", "group", "batch", "wait"}
    sinks = {"predictions", "alerts", "dead_letters"}
    limits = {"event": {"entity_default", "framed", "max_bytes"}, "state": {"max_entities", "when_full"}}
    content = config.model_dump(mode="json", include={"delivery": True, "source": source, "sinks": sinks, **limits})
    content["sinks"]["writers"] = config.writers
    content["recovery"] = {"epoch_interval": config.epoch_interval}
    content["alerts"] = {"feedback": config.alerts.feedback.topic if config.alerts.feedback else None}
    return content


def worst(changes: Iterable[Change]) -> Effect:
    """What all of the changes together do to a state."""
    effects = {change.effect for change in changes}
    return "refused" if "refused" in effects else "migrated" if "migrated" in effects else "kept"


def _effect(path: str) -> tuple[Effect, str]:
    if path in MIGRATES:
        return "migrated", MIGRATES[path]
    why = next((why for start, why in WHY_REFUSED.items() if path.startswith(start)), "this release does not know it")
    return "refused", why


def different(old: dict[str, Any], new: dict[str, Any], above: str = "") -> list[tuple[str, Any, Any]]:
    """Path, old and new value of all that differs between two trees of settings, in the order of the new one."""
    out = []
    for key in dict.fromkeys([*new, *old]):
        was, now, path = old.get(key, UNSET), new.get(key, UNSET), f"{above}{key}"
        if isinstance(was, dict) and isinstance(now, dict):
            out += different(was, now, f"{path}.")
        elif was != now:
            out.append((path, was, now))
    return out
