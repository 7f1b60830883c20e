"""One alert for an entity, whichever of its targets have an open episode.

An episode of an entity and kind starts with the first target whose own episode starts, lasts while any target's is
open, and recovers with the last of them. It is reported when it starts, when another target joins (`ongoing`), while it
lasts (`ongoing`, whenever the target that is open for longest has an `ongoing` of its own), and when it recovers.

This runs only when a target has an alert, which is rare, and not for each event.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ssm_stream.config import Config
from ssm_stream.engine.alert_kinds import BY_EVENT, KINDS, OTHER
from ssm_stream.engine.alerts import Alert

CAUSE_FIELDS = ("score", "since", "y", "yhat", "yhat_lower", "yhat_upper")
"""Fields of an alert that are kept for each target; `since` is the target's own."""


@dataclass(slots=True)
class JointEpisode:
    """The episode of an entity and kind, over all targets.

    since: time of the first event, ms; absorbed: the most events that a target needed to recover, so far
    open: target → its last alert's `CAUSE_FIELDS`, in the order in which the targets joined
    """

    since: int
    absorbed: int = 0
    open: dict[str, dict[str, Any]] = field(default_factory=dict)


class MultiTargetAlerts:
    """The joint episodes of all entities. config: with several targets"""

    def __init__(self, config: Config) -> None:
        self._targets, self._hash, self._critical = config.event.targets, config.hash, config.alerts.critical
        self._episodes: dict[tuple[str, str], JointEpisode] = {}

    def update(self, alerts: Sequence[Sequence[Alert]]) -> list[Alert]:
        """Return the joint alerts of a batch, in the order of their events.

        Args:
            alerts: of each target, in the order of their events
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
        joint = (self._merge(turns[turn]) for turn in sorted(turns))
        return [alert for alert in joint if alert is not None]

    def _merge(self, alerts: list[tuple[str, Alert]]) -> Alert | None:
        """Return the alerts of an entity and kind at one event as one alert; None if it is not to be reported."""
        first = alerts[0][1].message
        key = (first["entity"], first["kind"])
        began = key not in self._episodes
        episode = self._episodes.setdefault(key, JointEpisode(first["since"]))
        phases: dict[str, list[tuple[str, Alert]]] = {"started": [], "ongoing": [], "recovered": []}
        for target, alert in alerts:
            phase, message = alert.message["phase"], alert.message
            phases[phase].append((target, alert))
            if phase == "recovered":
                episode.open.pop(target, None)
                episode.absorbed = max(episode.absorbed, message["absorbed_after"] or 0)
            else:
                episode.open[target] = {name: message[name] for name in CAUSE_FIELDS}
        if began:
            episode.since = min(alert.message["since"] for _, alert in alerts)
        if not episode.open:
            del self._episodes[key]
            return self._alert("recovered", phases["recovered"], episode)
        if phases["started"]:
            return self._alert("started" if began else "ongoing", phases["started"], episode)
        longest = next(iter(episode.open))
        again = [(target, alert) for target, alert in phases["ongoing"] if target == longest]
        return self._alert("ongoing", again, episode) if again else None

    def _alert(self, phase: str, causes: list[tuple[str, Alert]], episode: JointEpisode) -> Alert:
        """Return the alert of the cause with the highest score, with a list of all open targets."""
        target, alert = max(causes, key=lambda cause: float(cause[1].message["score"] or 0.0))
        ranked = sorted(episode.open.items(), key=lambda item: -item[1]["score"])
        highest = max([alert.message["score"] or 0.0, *(cause["score"] for _, cause in ranked)])
        ended_by = alert.message["ended_by"] if phase == "recovered" else None
        message = {
            **alert.message,
            "phase": phase,
            "ended_by": ended_by,
            "severity": "critical" if highest >= self._critical else "warning",
            "since": episode.since,
            "absorbed_after": episode.absorbed if ended_by in BY_EVENT else None,
            "config_hash": self._hash,
            "target": target,
            "targets": [{"target": name, **cause} for name, cause in ranked],
        }
        return alert._replace(message=message)

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
        return [[*key, e.since, e.absorbed, list(e.open.items())] for key, e in episodes]

    def load(self, rows: list[list[Any]]) -> None:
        """Load what `dump` returned."""
        for name, kind, since, absorbed, items in rows:
            self._episodes[name, kind] = JointEpisode(since, absorbed, dict(items))
