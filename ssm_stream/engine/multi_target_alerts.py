"""MultiTargetAlerts episodes: what several targets tell of one entity is one alert, not as many as there are targets.

An episode of an entity and kind starts with the first target whose own episode starts, goes on while any target's is
open, and recovers with the last of them. It is reported when it starts, when another target joins (`ongoing`), while it
lasts (`ongoing`, whenever the target that is open for longest has itself to be reported again), and when it recovers.

This runs when a target has something to tell, which is rare, and never for each event.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import Any

from ssm_stream.config import Config
from ssm_stream.engine.alerts import Alert
from ssm_stream.kernels.lifecycle import KINDS

CAUSE = ("score", "since", "y", "yhat", "yhat_lower", "yhat_upper")
"""Fields of an alert that are kept of each target; `since` is the target's own."""


@dataclass(slots=True)
class Episode:
    """since: time of the first event, ms; absorbed: the most events that a target took to recover, so far
    open: target → what it told last, in the order in which they joined"""

    since: int
    absorbed: int = 0
    open: dict[str, dict[str, Any]] = field(default_factory=dict)


class MultiTargetAlerts:
    """The joint episodes of all entities. config: with several targets"""

    def __init__(self, config: Config) -> None:
        self._targets, self._hash, self._critical = config.event.targets, config.hash, config.alerts.critical
        self._episodes: dict[tuple[str, str], Episode] = {}

    def follow(self, alerts: Sequence[Sequence[Alert]], expired: Sequence[Sequence[tuple[int, str]]]) -> list[Alert]:
        """The joint alerts of a batch, in the order of their events.

        Args:
            alerts: of each target, in the order of their events
            expired: of each target, row and entity of those that started afresh at that event
        """
        # A target may have told twice at an event, where several predictions met their targets: in turn, then.
        turns: dict[tuple[int, int, int], list[tuple[str, Alert]]] = {}
        for target, told in zip(self._targets, alerts, strict=True):
            count = Counter[tuple[int, int]]()
            for alert in told:
                place = (alert.row, KINDS.index(alert.message["kind"]))
                turns.setdefault((*place, count[place]), []).append((target, alert))
                count[place] += 1
        gone = [(*item, target) for target, items in zip(self._targets, expired, strict=True) for item in items]
        gone.sort(reverse=True)
        out = []
        for turn in sorted(turns):
            while gone and gone[-1][0] <= turn[0]:
                self._forget(*gone.pop()[1:])
            joint = self._step(turns[turn])
            if joint is not None:
                out.append(joint)
        while gone:
            self._forget(*gone.pop()[1:])
        return out

    def _step(self, told: list[tuple[str, Alert]]) -> Alert | None:
        """What the targets told of an entity and kind at one event, as one alert; None where it need not be said."""
        first = told[0][1].message
        key = (first["entity"], first["kind"])
        began = key not in self._episodes
        episode = self._episodes.setdefault(key, Episode(first["since"]))
        phases: dict[str, list[tuple[str, Alert]]] = {"started": [], "ongoing": [], "recovered": []}
        for target, alert in told:
            phase, message = alert.message["phase"], alert.message
            phases[phase].append((target, alert))
            if phase == "recovered":
                episode.open.pop(target, None)
                episode.absorbed = max(episode.absorbed, message["absorbed_after"])
            else:
                episode.open[target] = {name: message[name] for name in CAUSE}
        if began:
            episode.since = min(alert.message["since"] for _, alert in told)
        if not episode.open:
            del self._episodes[key]
            return self._alert("recovered", phases["recovered"], episode)
        if phases["started"]:
            return self._alert("started" if began else "ongoing", phases["started"], episode)
        longest = next(iter(episode.open))
        again = [(target, alert) for target, alert in phases["ongoing"] if target == longest]
        return self._alert("ongoing", again, episode) if again else None

    def _alert(self, phase: str, causes: list[tuple[str, Alert]], episode: Episode) -> Alert:
        """The weightiest cause's own alert, with what is open beside it."""
        target, alert = max(causes, key=lambda cause: float(cause[1].message["score"]))
        ranked = sorted(episode.open.items(), key=lambda item: -item[1]["score"])
        worst = max([alert.message["score"], *(cause["score"] for _, cause in ranked)])
        message = {
            **alert.message,
            "phase": phase,
            "severity": "critical" if worst >= self._critical else "warning",
            "since": episode.since,
            "absorbed_after": episode.absorbed if phase == "recovered" else None,
            "config_hash": self._hash,
            "target": target,
            "targets": [{"target": name, **cause} for name, cause in ranked],
        }
        return alert._replace(message=message)

    def _forget(self, entity: str, target: str) -> None:
        """A target of an entity has started afresh: its episodes are gone, as if they had never been."""
        for kind in KINDS:
            episode = self._episodes.get((entity, kind))
            if episode is not None:
                episode.open.pop(target, None)
                if not episode.open:
                    del self._episodes[entity, kind]

    def retain(self, known: Sequence[Container[str]]) -> None:
        """Only the entities that each target still knows. known: by target"""
        for entity, _ in list(self._episodes):
            for target, names in zip(self._targets, known, strict=True):
                if entity not in names:
                    self._forget(entity, target)

    def end(self, kind: str, entity: str | None = None) -> None:
        """The episodes of a kind, of one entity or of all, are over, without a word."""
        for name, each in list(self._episodes):
            if each == kind and entity in (None, name):
                del self._episodes[name, each]

    def rows(self, entity: str | None = None) -> list[list[Any]]:
        """All episodes, or those of an entity, as JSON has them, sorted by name."""
        keys = (
            sorted(self._episodes) if entity is None else [(entity, k) for k in KINDS if (entity, k) in self._episodes]
        )
        episodes = [(key, self._episodes[key]) for key in keys]
        return [[*key, e.since, e.absorbed, list(e.open.items())] for key, e in episodes]

    def load(self, rows: list[list[Any]]) -> None:
        """What `rows` gave."""
        for name, kind, since, absorbed, items in rows:
            self._episodes[name, kind] = Episode(since, absorbed, dict(items))
