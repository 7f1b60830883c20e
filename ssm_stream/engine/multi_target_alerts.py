"""One alert for an entity, whichever of its targets have an open episode.

An episode of an entity and kind starts with the first target whose own episode starts, lasts while any target's is
open, and recovers with the last of them. It is reported when it starts, when another target joins or one of them is
farther off (`ongoing`), while it lasts (`ongoing`, whenever the target that is open for longest has an `ongoing` of its
own), and when it recovers.

A target's detector watches the levels of its inputs, too, which with `target: all` are targets themselves. What the
level of another target has raised is about that one: many detectors may report the same column, and are one entry of
`targets`. The end is about the target that the start was about, if its part ended as the last one's did.

This runs only when a target has an alert, which is rare, and not for each event.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ssm_stream.config import Config
from ssm_stream.core.detect import SMALLER
from ssm_stream.engine.alert_kinds import BY_EVENT, KINDS, OTHER
from ssm_stream.engine.alerts import Alert
from ssm_stream.engine.episodes.event_values import ValuesAt

CHANGE = "change"
"""Field of an alert that is kept for each target, and in no list of them."""
CAUSE_FIELDS = ("score", "since", "y", "yhat", "yhat_lower", "yhat_upper")
"""Fields of an alert that are kept for each target; `since` is the target's own."""


@dataclass(slots=True)
class JointEpisode:
    """The episode of an entity and kind, over all targets.

    since: time of the first event, ms; absorbed: the most events that a target needed to recover, so far
    open: target → its last alert's `CAUSE_FIELDS` and `CHANGE`, and `target` that it is about, in the order in which
        they joined
    target: that its `started` was about; ended: target → what ended its part, of those that have left
    """

    since: int
    absorbed: int = 0
    open: dict[str, dict[str, Any]] = field(default_factory=dict)
    target: str | None = None
    ended: dict[str, str] = field(default_factory=dict)

    def join(self, target: str, message: dict[str, Any]) -> None:
        """Note the report of a target that is open. message: with the target that it is about"""
        about = message["target"]
        cause = {name: message[name] for name in CAUSE_FIELDS}
        self.open[target] = {"target": about, **cause, CHANGE: message.get(CHANGE)}
        self.ended.pop(about, None)

    def leave(self, target: str, message: dict[str, Any]) -> str:
        """Note that the part of a target is over; return the target that it was about."""
        about = str(self.open.pop(target, {"target": target})["target"])
        self.ended.pop(about, None)
        self.ended[about] = message["ended_by"]
        self.absorbed = max(self.absorbed, message["absorbed_after"] or 0)
        return about

    def listed(self) -> list[dict[str, Any]]:
        """Return the targets that the open ones are about, each once, the highest score first."""
        found = dict[str, dict[str, Any]]()
        for each in sorted(self.open.values(), key=lambda cause: -cause["score"]):
            shown = {name: value for name, value in each.items() if name != CHANGE}
            known = found.setdefault(each["target"], shown)
            known["since"] = min(known["since"], each["since"])
        return list(found.values())

    def worst(self) -> float:
        """Return the highest score of the open targets, without errors that have only become smaller; 0: of none."""
        return max((cause["score"] for cause in self.open.values() if cause.get(CHANGE) != SMALLER), default=0.0)


class MultiTargetAlerts:
    """The joint episodes of all entities. config: with several targets"""

    def __init__(self, config: Config) -> None:
        self._targets, self._hash, self._critical = config.event.targets, config.hash, config.alerts.critical
        self._episodes: dict[tuple[str, str], JointEpisode] = {}

    def update(self, alerts: Sequence[Sequence[Alert]], values: ValuesAt | None = None) -> list[Alert]:
        """Return the joint alerts of a batch, in the order of their events.

        Args:
            alerts: of each target, in the order of their events
            values: of all targets at the events; None: not known
        """
        # A target has several alerts at an event at which several of its predictions met their targets: take turns.
        # Before these, episodes of other entities may end at the event.
        turns: dict[tuple[int, bool, str, int, int], list[tuple[str, Alert]]] = {}
        for target, own in zip(self._targets, alerts, strict=True):
            count = Counter[tuple[int, bool, str, int]]()
            for alert in own:
                place = (
                    alert.row, alert.suffix != OTHER, alert.message["entity"], KINDS.index(alert.message["kind"]),
                )  # fmt: skip
                turns.setdefault((*place, count[place]), []).append((target, alert))
                count[place] += 1
        joint = (self._merge(turns[turn], values) for turn in sorted(turns))
        return [alert for alert in joint if alert is not None]

    def _merge(self, alerts: list[tuple[str, Alert]], values: ValuesAt | None) -> Alert | None:
        """Return the alerts of an entity and kind at one event as one alert; None if it is not to be reported."""
        first = alerts[0][1].message
        key = (first["entity"], first["kind"])
        began = key not in self._episodes
        episode = self._episodes.setdefault(key, JointEpisode(first["since"]))
        before = episode.listed()
        phases: dict[str, list[tuple[str, Alert]]] = {"started": [], "ongoing": [], "recovered": []}
        reported = dict[str, None]()
        for target, alert in alerts:
            phase, message = alert.message["phase"], alert.message
            if phase == "recovered":
                alert = self._rename(alert, target, episode.leave(target, message), values)
            else:
                known = episode.open.get(target, {"target": target})["target"]
                alert = self._about(target, known, alert, values)
                episode.join(target, alert.message)
                reported[alert.message["target"]] = None
            phases[phase].append((target, alert))
        if began:
            episode.since = min(alert.message["since"] for _, alert in alerts)
        if not episode.open:
            del self._episodes[key]
            return self._end([alert for _, alert in phases["recovered"]], episode, values)
        if began or (phases["started"] and self._is_news(before, episode.listed())):
            found = self._alert("started" if began else "ongoing", [alert for _, alert in phases["started"]], episode)
            episode.target = found.message["target"] if began else episode.target
            return found._replace(reported=tuple(reported))
        longest = next(iter(episode.open))
        again = [alert for target, alert in phases["ongoing"] if target == longest]
        return self._alert("ongoing", again, episode)._replace(reported=tuple(reported)) if again else None

    @staticmethod
    def _is_news(before: list[dict[str, Any]], now: list[dict[str, Any]]) -> bool:
        """Return whether a target is open that was not, or is farther off: many detectors may report one column."""
        known = {cause["target"]: cause["score"] for cause in before}
        return any(cause["score"] > known.get(cause["target"], -1.0) for cause in now)

    def _about(self, target: str, known: str, alert: Alert, values: ValuesAt | None) -> Alert:
        """Return the alert of a target as one about the target whose level caused it, with the values of that.

        known: the one that its episode is about so far, which an event that is not unusual does not change
        """
        about = alert.cause if alert.cause in self._targets else target
        about = known if (alert.message["score"] or 0.0) <= 1.0 else about
        return self._rename(alert._replace(cause=None), target, str(about), values)

    def _rename(self, alert: Alert, target: str, about: str, values: ValuesAt | None) -> Alert:
        """Return the alert of a target as one about another, if that has values at the event."""
        own = None if values is None or about == target else values(self._targets.index(about), alert.row)
        return alert._replace(message={**alert.message, **(own or {}), "target": about if own else target})

    def _end(self, alerts: list[Alert], episode: JointEpisode, values: ValuesAt | None) -> Alert:
        """Return the alert that ends an episode, about the target that its start was about, if that is true of it."""
        first = episode.target
        found = self._alert(
            "recovered", [each for each in alerts if each.message["target"] == first] or alerts, episode
        )
        last, by = found.message["target"], found.message["ended_by"]
        if by not in BY_EVENT:
            return found._replace(message=found.message | {"target": first or last})
        if first is not None and episode.ended.get(first) == by:
            found = self._rename(found, last, first, values)
        about = found.message["target"]
        others = [(name, how) for name, how in episode.ended.items() if name != about and how in BY_EVENT]
        return found._replace(ended=tuple((name, how) for name, how in others if how == by or name == first))

    def _alert(self, phase: str, causes: list[Alert], episode: JointEpisode) -> Alert:
        """Return the alert of the cause with the highest score, with a list of all open targets."""
        alert = max(causes, key=lambda cause: float(cause.message["score"] or 0.0))
        listed = episode.listed()
        own_score = 0.0 if alert.message.get(CHANGE) == SMALLER else alert.message["score"] or 0.0
        highest = max(own_score, episode.worst())
        ended_by = alert.message["ended_by"] if phase == "recovered" else None
        message = {
            **alert.message,
            "phase": phase,
            "ended_by": ended_by,
            "severity": "critical" if highest >= self._critical else "warning",
            "since": episode.since,
            "absorbed_after": episode.absorbed if ended_by in BY_EVENT else None,
            "config_hash": self._hash,
            "targets": listed,
        }
        own = alert.message
        counts = (own["since"], own["absorbed_after"]) == (episode.since, episode.absorbed)
        return alert._replace(message=message, counts=counts or phase != "recovered")

    def drop(self, gone: Collection[str]) -> Iterator[tuple[str, str, list[str]]]:
        """Drop targets that are removed; yield entity and kind of the episodes that they were part of.

        With them those of its open targets whose parts are over: theirs, and those of which the last report was about
        one of them. An episode that has no other is over, and left to `end_episodes`.
        """
        for (entity, kind), episode in list(self._episodes.items()):
            over = [name for name, cause in episode.open.items() if {name, cause["target"]} & {*gone}]
            episode.open = {name: cause for name, cause in episode.open.items() if name not in over}
            episode.ended = {name: how for name, how in episode.ended.items() if name not in gone}
            episode.target = None if episode.target in gone else episode.target
            if over:
                yield entity, kind, over

    def targets_of(self, entity: str, kind: str) -> list[str]:
        """Return what the open targets of an entity's episode are about; none without one."""
        episode = self._episodes.get((entity, kind))
        return [] if episode is None else [cause["target"] for cause in episode.listed()]

    def end_episodes(self, kind: str, entity: str | None = None) -> None:
        """End the episodes of a kind without an alert: of one entity, or of all."""
        for name, each in list(self._episodes):
            if each == kind and entity in (None, name):
                del self._episodes[name, each]

    def dump(self, entity: str | None = None) -> list[list[Any]]:
        """Return all episodes, or those of an entity, as JSON has them, sorted by name."""
        keys = (
            sorted(self._episodes) if entity is None else [(entity, k) for k in KINDS if (entity, k) in self._episodes]
        )
        episodes = [(key, self._episodes[key]) for key in keys]
        return [
            [*key, e.since, e.absorbed, list(e.open.items()), e.target, list(e.ended.items())] for key, e in episodes
        ]

    def load(self, rows: list[list[Any]]) -> None:
        """Load what `dump` returned."""
        for name, kind, since, absorbed, items, *more in rows:
            target, ended = more or (None, [])  # a state of before has neither
            open_ = {own: {"target": own, **cause} for own, cause in items}
            self._episodes[name, kind] = JointEpisode(since, absorbed, open_, target, dict(ended))
