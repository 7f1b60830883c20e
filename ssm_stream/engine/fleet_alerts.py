"""Fleet alerts: what happens to many entities of a pool at once is one alert, not as many as there are entities.

A fleet episode of a pool (the entities of one shard and source) and kind starts when enough of its entities have
started an episode of their own within `ROUNDS` rounds, a round being as many events as there are entities: more than
start in so many by chance, where the budget of false alarms is loose. It is reported again (`ongoing`) whenever twice
as many are open as at the last report. It recovers when fewer than half of the threshold are left: of those that
started about then, and of all without as many as had been open before, as with a loose budget some always are. While
it lasts, `started` and `ongoing` of single entities are not sent: they are inside. An entity whose `started` was sent
before gets its `recovered` all the same; one whose `started` was not gets none. Those still open when the fleet episode
recovers are told then, as `started` since their own time.

This runs when an entity has something to tell, which is rare, and never for each event.
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
"""What starts within so many events an entity is at once; what started before that has nothing to do with it."""
BY_CHANCE = 4.0
"""Standard deviations of the number of false alarms within `ROUNDS` by which those at once must exceed its mean."""
LISTED = 100
"""Entities that a fleet alert names at most, those with the highest scores."""
Heard = Callable[[str, int], float]
"""Event time, ms, that an entity was last labelled at, as of a row of the batch."""


@dataclass(slots=True)
class Member:
    """An entity whose episode is open.

    score: at its last report; since: time of its episode's first event, ms
    at: labelled events of the pool when it started
    held: what it had to tell last, where its `started` was not sent; None: it was. Its words are made when it is
        told, or kept in a snapshot: most recover before
    """

    score: float
    since: int
    at: int
    held: Alert | None

    def said(self) -> dict[str, Any] | None:
        """The whole message of what is held."""
        if self.held is None:
            return None
        self.held = render(self.held)
        return self.held.message


@dataclass(slots=True)
class Group:
    """The entities of a pool that have an episode of a kind open, and the fleet episode.

    open: in the order in which they started; entities: labelled ones of the pool at its last alert
    reported: open ones at the last fleet alert, 0 where no fleet episode lasts; since: of that, ms
    before: how many had been open when it started, from too long before to be part of it
    first, last: labelled events of the pool between which those start that are
    absorbed: the most events that an entity took to recover in it, so far
    due: while the watermark is not beyond, ms, no open one is past its TTL
    """

    open: dict[str, Member] = field(default_factory=dict)
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
        self._false = {"anomaly": config.alerts.anomaly.budget.events, "drift": config.alerts.drift.budget.events}
        """Events in which an entity may raise one false alarm; 0 where the budget is in time."""
        self._groups: dict[tuple[int, int, str], Group] = {}

    def follow(self, alerts: Sequence[Alert], gone: Sequence[tuple[int, str]], heard: Heard) -> list[Alert]:
        """What is to be sent of a batch's alerts, and the fleet alerts among them, in the order of their events.

        Their messages have yet to be put `render`.

        Args:
            alerts: one an event and kind at most, in the order of their events
            gone: row and entity of those that started afresh at that event
            heard: of the batch
        """
        left, out = sorted(gone, reverse=True), list[Alert]()
        for alert in alerts:
            while left and left[-1][0] <= alert.row:
                self._forget(left.pop()[1])
            self._step(alert, heard, out)
        while left:
            self._forget(left.pop()[1])
        return out

    def _step(self, alert: Alert, heard: Heard, out: list[Alert]) -> None:
        message = alert.message
        entity, kind, recovers = message["entity"], message["kind"], message["phase"] == "recovered"
        here = (*alert.pool, kind)
        # An entity that comes by several sources stays in the pool in which its episode started.
        homes = (key for key, each in self._groups.items() if key[2] == kind and entity in each.open)
        key = next(homes, here)
        group = self._groups.setdefault(key, Group())
        if key == here:
            group.entities = alert.entities
            self._drop_silent(group, alert, heard)
        member = group.open.pop(entity, None) if recovers else group.open.get(entity)
        if recovers:
            if group.reported:
                group.absorbed = max(group.absorbed, message["absorbed_after"])
            if member is None or member.held is None:
                out.append(alert)
        # Others may have left in silence, so that any alert may find the episode over.
        if group.reported and self._over(group):
            self._end(key, group, alert, out)
        if not recovers:
            sent = message["phase"] == "ongoing" and member is not None and member.held is None
            at = alert.labelled if member is None else member.at
            group.open[entity] = Member(message["score"], message["since"], at, None if sent else alert)
            group.due = min(group.due, heard(entity, alert.row) + self._ttl)
            self._tell(key, group, alert, out)

    def _tell(self, key: tuple[int, int, str], group: Group, alert: Alert, out: list[Alert]) -> None:
        """An entity has started or goes on: send its alert, the fleet's, or none."""
        count = len(group.open)
        if group.reported:
            if count >= 2 * group.reported:
                group.reported, group.last = count, alert.labelled + ROUNDS * group.entities
                out.append(self._alert("ongoing", key, group, alert))
        elif (at_once := self._at_once(group, alert)) >= max(self._threshold(group), self._by_chance(group, key[2])):
            window = ROUNDS * group.entities
            group.first, group.last = alert.labelled - window, alert.labelled + window
            group.reported, group.before = count, count - at_once
            group.since = min(member.since for member in group.open.values())
            out.append(self._alert("started", key, group, alert))
        else:
            group.open[alert.message["entity"]].held = None
            out.append(alert)

    def _end(self, key: tuple[int, int, str], group: Group, alert: Alert, out: list[Alert]) -> None:
        """The fleet episode recovers; those that were inside and are still open stand for themselves from now on."""
        out.append(self._alert("recovered", key, group, alert))
        group.reported = group.before = group.first = group.last = group.since = group.absorbed = 0
        inside = [member for member in group.open.values() if member.held is not None]
        for i, member in enumerate(inside):
            assert member.held is not None
            # Its own event is past: these come at the event of another, each under an id of its own.
            message = {**member.held.message, "phase": "started"}
            out.append(alert._replace(message=message, suffix=f"-{i + 1}", words=member.held.words))
            member.held = None

    @staticmethod
    def _at_once(group: Group, alert: Alert) -> int:
        """Open entities that have started lately. One that sends no more never recovers: it may not count for ever."""
        first = alert.labelled - ROUNDS * group.entities
        return sum(member.at >= first for member in group.open.values())

    def _over(self, group: Group) -> bool:
        """Too few are left of those at once, and of all beyond what was open before."""
        least = self._threshold(group) / 2
        if len(group.open) - group.before >= least:  # most often: they need not be counted at each alert
            return False
        return sum(group.first <= member.at <= group.last for member in group.open.values()) < least

    def _threshold(self, group: Group) -> float:
        return max(self._rules.min_entities, self._rules.share * group.entities)

    def _by_chance(self, group: Group, kind: str) -> float:
        """Entities that may start within `ROUNDS` with nothing but false alarms, by their budget."""
        events = self._false[kind]
        mean = ROUNDS * group.entities / events if events else 0.0
        return mean + BY_CHANCE * math.sqrt(mean)

    def _alert(self, phase: str, key: tuple[int, int, str], group: Group, alert: Alert) -> Alert:
        """The alert of the entity that tipped it, with what is open beside it."""
        ranked = sorted(group.open.items(), key=lambda item: -item[1].score)
        worst = max([alert.message["score"], *(member.score for _, member in ranked[:1])])
        shard, source, _ = key
        message = {
            **alert.message,
            "entity": "*",
            "scope": "fleet",
            "phase": phase,
            "severity": "critical" if worst >= self._critical else "warning",
            "score": worst,
            "since": group.since,
            "absorbed_after": group.absorbed if phase == "recovered" else None,
            "pool": f"{source}-{shard}",
            "count": len(ranked),
            "entities": [{"entity": name, "score": m.score, "since": m.since} for name, m in ranked[:LISTED]],
        }
        return alert._replace(message=message, suffix="-fleet")

    def _drop_silent(self, group: Group, alert: Alert, heard: Heard) -> None:
        """Entities past their TTL leave without a word, though no event of theirs has shown it yet.

        A snapshot may have dropped them long before: either way they are gone by the next alert of their pool.
        """
        if alert.mark <= group.due:
            return
        last = {entity: heard(entity, alert.row) for entity in group.open}
        for entity, ts in last.items():
            if alert.mark - ts > self._ttl:
                del group.open[entity]
        group.due = min((last[entity] + self._ttl for entity in group.open), default=math.inf)

    def _forget(self, entity: str) -> None:
        for group in self._groups.values():
            group.open.pop(entity, None)

    def retain(self, known: Container[str]) -> None:
        """Only the entities that are still known."""
        for entity in {name for group in self._groups.values() for name in group.open}:
            if entity not in known:
                self._forget(entity)

    def end(self, kind: str, entity: str | None = None) -> None:
        """The episodes of a kind are over, without a word: of all, the fleet's too, or of one entity."""
        for key in [key for key in self._groups if key[2] == kind]:
            if entity is None:
                del self._groups[key]
            else:
                self._groups[key].open.pop(entity, None)

    def rows(self) -> list[list[Any]]:
        """All groups as JSON has them, sorted by pool and kind."""
        out: list[list[Any]] = []
        for key, g in sorted(self._groups.items()):
            if g.open or g.reported:
                members = [[name, m.score, m.since, m.at, m.said()] for name, m in g.open.items()]
                out.append([*key, g.entities, g.reported, g.since, g.absorbed, members, g.before, g.first, g.last])
        return out

    def load(self, rows: list[list[Any]]) -> None:
        """What `rows` gave."""
        for shard, source, kind, entities, reported, since, absorbed, members, *window in rows:
            open_ = {
                name: Member(score, first, at, None if held is None else Alert(0, held))
                for name, score, first, at, held in members
            }
            before, first, last = window or (0, 0, 0)  # of a state from before these were kept
            self._groups[shard, source, kind] = Group(open_, entities, reported, before, first, last, since, absorbed)


def inside(rows: list[list[Any]]) -> list[tuple[str, str]]:
    """Entity and kind of the episodes whose `started` was not sent, in what `FleetAlerts.rows` gave."""
    return [
        (name, kind) for _, _, kind, _, _, _, _, members, *_ in rows for name, *_, held in members if held is not None
    ]
