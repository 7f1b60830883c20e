"""One alert for an event that affects many entities of a pool.

A fleet episode of a pool (the entities of one shard and source) and kind starts when enough of its entities have
started an episode of their own within `ROUNDS` rounds, a round being as many events as there are entities: more than
start in so many by chance, where the budget of false alarms is loose. It is reported again (`ongoing`) whenever twice
as many are open as at the last report. It recovers when fewer than half of the threshold are left: of those that
started within its window, and of all without as many as had been open before, as with a loose budget some always are.
While it lasts, `started` and `ongoing` of single entities are withheld. An entity whose `started` was sent before gets
its `recovered` all the same; one whose `started` was withheld gets none. When the fleet episode recovers, the entities
that are still open get their `started`, since their own time.

This runs only when an entity has an alert, which is rare, and not for each event.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from typing import Any

from ssm_stream.config import Config
from ssm_stream.engine.alerts import Alert, render
from ssm_stream.engine.kernel_params import ttl_ms

ROUNDS = 20
"""Episodes that start within so many events an entity belong together."""
CHANCE_DEVIATIONS = 4.0
"""Standard deviations by which the starts within `ROUNDS` must exceed the mean number of false alarms."""
MAX_LISTED = 100
"""Entities that a fleet alert names at most, those with the highest scores."""
LastLabelled = Callable[[str, int], float]
"""Entity, row of the batch → event time, ms, at which the entity was last labelled by then."""
PoolKind = tuple[int, int, str]
"""Shard and source of a pool, and kind."""


@dataclass(slots=True)
class MemberEpisode:
    """The open episode of an entity.

    score: at its last report; since: time of its first event, ms
    at: labelled events of the pool when it started
    withheld: its last alert, if its `started` was withheld, else None. It is rendered only when it is sent or put into
        a snapshot: most recover before
    """

    score: float
    since: int
    at: int
    withheld: Alert | None

    def render_withheld(self) -> dict[str, Any] | None:
        """Return the complete message of the withheld alert."""
        if self.withheld is None:
            return None
        self.withheld = render(self.withheld)
        return self.withheld.message


@dataclass(slots=True)
class FleetEpisode:
    """The open episodes of a pool and kind, and its fleet episode if it has one.

    open: entity → episode, in the order in which they started; entities: labelled ones of the pool at its last alert
    reported: number of open ones at the last fleet alert, 0 without a fleet episode; since: of that, ms
    before: number of those that were open already when it started, from too long before to be part of it
    first, last: its window: labelled events of the pool between which its members start
    absorbed: the most events that an entity needed to recover in it, so far
    due: watermark, ms, up to which no open one can be past its TTL
    """

    open: dict[str, MemberEpisode] = field(default_factory=dict)
    entities: int = 0
    reported: int = 0
    before: int = 0
    first: int = 0
    last: int = 0
    since: int = 0
    absorbed: int = 0
    due: float = -math.inf


class FleetAlerts:
    """The fleet episodes of all pools. config: with `model.fleet`"""

    def __init__(self, config: Config) -> None:
        self._rules, self._critical = config.alerts.fleet, config.alerts.critical
        self._ttl = ttl_ms(config)
        self._budgets = {"anomaly": config.alerts.anomaly.budget.events, "drift": config.alerts.drift.budget.events}
        """Events in which an entity may raise one false alarm; 0 if the budget is in time."""
        self._episodes: dict[PoolKind, FleetEpisode] = {}

    def update(
        self, alerts: Sequence[Alert], reset: Sequence[tuple[int, str]], last_labelled: LastLabelled
    ) -> list[Alert]:
        """Return the alerts of a batch that are to be sent, fleet alerts among them, in the order of their events.

        They have yet to be completed by `render`.

        Args:
            alerts: one an event and kind at most, in the order of their events
            reset: row and entity of those that started afresh at that event
            last_labelled: of the batch
        """
        left, out = sorted(reset, reverse=True), list[Alert]()
        for alert in alerts:
            while left and left[-1][0] <= alert.row:
                self._remove(left.pop()[1])
            self._update_one(alert, last_labelled, out)
        while left:
            self._remove(left.pop()[1])
        return out

    def _update_one(self, alert: Alert, last_labelled: LastLabelled, out: list[Alert]) -> None:
        message = alert.message
        entity, kind, recovers = message["entity"], message["kind"], message["phase"] == "recovered"
        here = (*alert.pool, kind)
        # An entity with several sources stays in the pool in which its episode started.
        homes = (key for key, each in self._episodes.items() if key[2] == kind and entity in each.open)
        key = next(homes, here)
        episode = self._episodes.setdefault(key, FleetEpisode())
        if key == here:
            episode.entities = alert.entities
            self._remove_expired(episode, alert, last_labelled)
        member = episode.open.pop(entity, None) if recovers else episode.open.get(entity)
        if recovers:
            if episode.reported:
                episode.absorbed = max(episode.absorbed, message["absorbed_after"])
            if member is None or member.withheld is None:
                out.append(alert)
        # Others may have expired without an alert, so that the episode may be over at any alert.
        if episode.reported and self._is_over(episode):
            self._recover(key, episode, alert, out)
        if not recovers:
            sent = message["phase"] == "ongoing" and member is not None and member.withheld is None
            at = alert.labelled if member is None else member.at
            episode.open[entity] = MemberEpisode(message["score"], message["since"], at, None if sent else alert)
            episode.due = min(episode.due, last_labelled(entity, alert.row) + self._ttl)
            self._report(key, episode, alert, out)

    def _report(self, key: PoolKind, episode: FleetEpisode, alert: Alert, out: list[Alert]) -> None:
        """Send the alert of an entity that starts or goes on, the fleet's, or none."""
        count = len(episode.open)
        if episode.reported:
            if count >= 2 * episode.reported:
                episode.reported, episode.last = count, alert.labelled + ROUNDS * episode.entities
                out.append(self._alert("ongoing", key, episode, alert))
            return
        recent = self._started_recently(episode, alert)
        if recent >= max(self._threshold(episode), self._expected_by_chance(episode, key[2])):
            window = ROUNDS * episode.entities
            episode.first, episode.last = alert.labelled - window, alert.labelled + window
            episode.reported, episode.before = count, count - recent
            episode.since = min(member.since for member in episode.open.values())
            out.append(self._alert("started", key, episode, alert))
        else:
            episode.open[alert.message["entity"]].withheld = None
            out.append(alert)

    def _recover(self, key: PoolKind, episode: FleetEpisode, alert: Alert, out: list[Alert]) -> None:
        """End the fleet episode, and send the withheld alerts of the entities that are still open."""
        out.append(self._alert("recovered", key, episode, alert))
        episode.reported = episode.before = episode.first = episode.last = episode.since = episode.absorbed = 0
        withheld = [member for member in episode.open.values() if member.withheld is not None]
        for i, member in enumerate(withheld):
            assert member.withheld is not None
            # Its own event is past: it is sent at another entity's event, with an id of its own.
            message = {**member.withheld.message, "phase": "started"}
            out.append(alert._replace(message=message, suffix=f"-{i + 1}", details=member.withheld.details))
            member.withheld = None

    @staticmethod
    def _started_recently(episode: FleetEpisode, alert: Alert) -> int:
        """Count the open entities that started within `ROUNDS`: one that sends no more events never recovers."""
        first = alert.labelled - ROUNDS * episode.entities
        return sum(member.at >= first for member in episode.open.values())

    def _is_over(self, episode: FleetEpisode) -> bool:
        """Return whether too few are left: of the window's, and of all beyond those that were open before."""
        least = self._threshold(episode) / 2
        if len(episode.open) - episode.before >= least:  # mostly so: spares counting them at each alert
            return False
        return sum(episode.first <= member.at <= episode.last for member in episode.open.values()) < least

    def _threshold(self, episode: FleetEpisode) -> float:
        return max(self._rules.min_entities, self._rules.share * episode.entities)

    def _expected_by_chance(self, episode: FleetEpisode, kind: str) -> float:
        """Return how many entities false alarms alone may start within `ROUNDS`, by their budget."""
        events = self._budgets[kind]
        mean = ROUNDS * episode.entities / events if events else 0.0
        return mean + CHANCE_DEVIATIONS * math.sqrt(mean)

    def _alert(self, phase: str, key: PoolKind, episode: FleetEpisode, alert: Alert) -> Alert:
        """Return the fleet alert at the event of an entity's alert, with a list of the open entities."""
        ranked = sorted(episode.open.items(), key=lambda item: -item[1].score)
        highest = max([alert.message["score"], *(member.score for _, member in ranked[:1])])
        shard, source, _ = key
        message = {
            **alert.message,
            "entity": "*",
            "scope": "fleet",
            "phase": phase,
            "severity": "critical" if highest >= self._critical else "warning",
            "score": highest,
            "since": episode.since,
            "absorbed_after": episode.absorbed if phase == "recovered" else None,
            "pool": f"{source}-{shard}",
            "count": len(ranked),
            "entities": [{"entity": name, "score": m.score, "since": m.since} for name, m in ranked[:MAX_LISTED]],
        }
        return alert._replace(message=message, suffix="-fleet")

    def _remove_expired(self, episode: FleetEpisode, alert: Alert, last_labelled: LastLabelled) -> None:
        """Remove entities past their TTL, though no event of theirs has shown it yet.

        A snapshot may have removed them long before: either way they are gone by the next alert of their pool.
        """
        if alert.watermark <= episode.due:
            return
        last = {entity: last_labelled(entity, alert.row) for entity in episode.open}
        for entity, ts in last.items():
            if alert.watermark - ts > self._ttl:
                del episode.open[entity]
        episode.due = min((last[entity] + self._ttl for entity in episode.open), default=math.inf)

    def _remove(self, entity: str) -> None:
        for episode in self._episodes.values():
            episode.open.pop(entity, None)

    def retain(self, entities: Container[str]) -> None:
        """Keep only the episodes of these entities, which are in memory."""
        for entity in {name for episode in self._episodes.values() for name in episode.open}:
            if entity not in entities:
                self._remove(entity)

    def end_episodes(self, kind: str, entity: str | None = None) -> None:
        """End the episodes of a kind without an alert: of one entity, or of all and the fleet's."""
        for key in [key for key in self._episodes if key[2] == kind]:
            if entity is None:
                del self._episodes[key]
            else:
                self._episodes[key].open.pop(entity, None)

    def dump(self) -> list[list[Any]]:
        """Return all pools and kinds as JSON has them, sorted."""
        out: list[list[Any]] = []
        for key, e in sorted(self._episodes.items()):
            if e.open or e.reported:
                members = [[name, m.score, m.since, m.at, m.render_withheld()] for name, m in e.open.items()]
                out.append([*key, e.entities, e.reported, e.since, e.absorbed, members, e.before, e.first, e.last])
        return out

    def load(self, rows: list[list[Any]]) -> None:
        """Load what `dump` returned."""
        for shard, source, kind, entities, reported, since, absorbed, members, before, first, last in rows:
            open_ = {
                name: MemberEpisode(score, began, at, None if withheld is None else Alert(0, withheld))
                for name, score, began, at, withheld in members
            }
            self._episodes[shard, source, kind] = FleetEpisode(
                open_, entities, reported, before, first, last, since, absorbed
            )


def withheld_episodes(rows: list[list[Any]]) -> list[tuple[str, str]]:
    """Return entity and kind of the episodes whose `started` was withheld, in what `FleetAlerts.dump` returned."""
    return [
        (name, kind)
        for _, _, kind, _, _, _, _, members, *_ in rows
        for name, *_, withheld in members
        if withheld is not None
    ]
