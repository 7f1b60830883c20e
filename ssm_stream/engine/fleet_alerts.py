"""One alert for an event that affects many entities of a pool.

A fleet episode of a pool (the entities of one shard and source) and kind starts when enough of its entities have
started an episode of their own within `ROUNDS` rounds, a round being as many events as there are entities: more than
start in so many by chance, where the budget of false alarms is loose. It is reported again (`ongoing`) whenever twice
as many are open as at the last report. It recovers when fewer than half of the threshold are left: of those that
started within its window, and of all without as many as had been open before, as with a loose budget some always are.
While it lasts, `started` and `ongoing` of single entities are withheld: they are suppressed by the fleet episode. An
entity whose `started` was sent before gets its `recovered` all the same; one whose `started` was withheld gets none.
When the fleet episode recovers, the entities that are still open get their `started`, since their own time.

So that the first and the last members are part of it as well, a `started` waits for the others for `alerts.fleet.wait`
rounds, and what is still open when it recovers waits for its own end for `ROUNDS` (`episodes.waiting`).

This runs only when an entity has an alert or waits, and not for each event.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ssm_stream.config import Config
from ssm_stream.engine.alert_kinds import BY_EVENT, FLEET, OTHER
from ssm_stream.engine.alert_summary import Members
from ssm_stream.engine.alerts import Alert, render
from ssm_stream.engine.episodes.pool_clocks import CountLabelled, PoolClocks
from ssm_stream.engine.episodes.waiting import Labelled, PoolKind, WaitingAlerts

ROUNDS = 20
"""Episodes that start, or end, within so many events an entity belong together."""
CHANCE_DEVIATIONS = 4.0
"""Standard deviations by which the starts within `ROUNDS` must exceed the mean number of false alarms."""
MAX_LISTED = 100
"""Entities that a fleet alert names at most, those with the highest scores."""


@dataclass(slots=True)
class MemberEpisode:
    """The open episode of an entity.

    score: at its last report; since: time of its first event, ms
    at: labelled events of the pool when it started; target: that its last report was about; None with one target
    withheld: its last alert, if its `started` was withheld, else None. It is rendered only when it is sent or put into
        a snapshot: most recover before
    """

    score: float
    since: int
    at: int
    target: str | None
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
    """

    open: dict[str, MemberEpisode] = field(default_factory=dict)
    entities: int = 0
    reported: int = 0
    before: int = 0
    first: int = 0
    last: int = 0
    since: int = 0
    absorbed: int = 0


class FleetAlerts:
    """The fleet episodes of all pools. config: with `model.fleet`"""

    def __init__(self, config: Config) -> None:
        self._rules, self._critical = config.alerts.fleet, config.alerts.critical
        self._budgets = {"anomaly": config.alerts.anomaly.budget.events, "drift": config.alerts.drift.budget.events}
        """Events in which an entity may raise one false alarm; 0 if the budget is in time."""
        self._episodes: dict[PoolKind, FleetEpisode] = {}
        self.waiting = WaitingAlerts()
        self._clocks = PoolClocks() if len(config.event.targets) > 1 else None

    def pass_by(self, count: CountLabelled) -> None:
        """Let a batch go by that has no alerts, while none waits. count: the labelled events of a pool in it"""
        if self._clocks is not None and self._episodes:
            self._clocks.finish({key[:2] for key, each in self._episodes.items() if _is_open(each)}, count)

    def update(self, alerts: Sequence[Alert], labelled: Labelled) -> list[Alert]:
        """Return the alerts of a batch, fleet alerts among them, in the order of their events.

        They have yet to be completed by `render`. Those that a fleet episode replaces have its pool in `suppressed_by`,
        and those that are sent later `waits`.

        Args:
            alerts: of entities, in the order of their events
            labelled: the labelled events of the batch
        """
        out = list[Alert]()
        self.waiting.begin(labelled)
        for alert in alerts:
            self._send_due(alert.row, out)
            self._update_one(alert, out)
        self._send_due(math.inf, out)
        if self._clocks is not None:
            self.pass_by(lambda pool: len(self.waiting.labelled(pool).rows))
            out = [each._replace(labelled=0) for each in out]  # of a clock that means nothing elsewhere
        self.waiting.finish()
        return out

    def _send_due(self, before: float, out: list[Alert]) -> None:
        """Send what has waited long enough before a row of the batch."""
        for row, key, entity, alerts in self.waiting.pop_due(before):
            out += alerts
            member = self._episodes[key].open[entity]
            if member.withheld is not None:
                out.append(_own_start(Alert(row, {}), key, member))

    def _update_one(self, alert: Alert, out: list[Alert]) -> None:
        message = alert.message
        entity, kind, recovers = message["entity"], message["kind"], message["phase"] == "recovered"
        here = (*alert.pool, kind)
        # An entity with several sources stays in the pool in which its episode started.
        homes = (key for key, each in self._episodes.items() if key[2] == kind and entity in each.open)
        key = next(homes, here)
        episode = self._episodes.setdefault(key, FleetEpisode())
        if self._clocks is not None:
            alert = self._on_common_clock(self._clocks, alert, key[:2])
        if key == here and alert.suffix != OTHER:
            episode.entities = alert.entities
        member = episode.open.pop(entity, None) if recovers else episode.open.get(entity)
        if recovers:
            if episode.reported:
                episode.absorbed = max(episode.absorbed, message["absorbed_after"] or 0)
            withheld = member is not None and member.withheld is not None
            out += self.waiting.pop(kind, entity, alert.row)
            out.append(_suppressed(alert, key) if withheld else alert)
        # Others may have been reset, so that the episode may be over at any alert.
        if episode.reported and self._is_over(episode):
            self._recover(key, episode, alert, out)
        if not recovers:
            # One that goes on without having started here was sent before fleet alerts were switched on.
            sent = message["phase"] == "ongoing" and (member is None or member.withheld is None)
            at = alert.labelled if member is None else member.at
            episode.open[entity] = MemberEpisode(
                message["score"], message["since"], at, message.get("target"), None if sent else alert
            )
            self._report(key, episode, alert, out)

    def _on_common_clock(self, clocks: PoolClocks, alert: Alert, pool: tuple[int, int]) -> Alert:
        """Return an alert with the events and the entities of a pool that were labelled for any target."""
        if alert.suffix != OTHER:
            clocks.note(alert)
        labelled = clocks.count(alert.row, pool, self.waiting.labelled)
        return alert._replace(labelled=labelled, entities=clocks.entities(pool)[0])

    def _report(self, key: PoolKind, episode: FleetEpisode, alert: Alert, out: list[Alert]) -> None:
        """Add the alert of an entity that starts or goes on, and the fleet's if it is to be reported."""
        count = len(episode.open)
        if episode.reported:
            if count >= 2 * episode.reported:
                episode.reported, episode.last = count, alert.labelled + ROUNDS * episode.entities
                out.append(self._alert("ongoing", key, episode, alert))
            out.append(_suppressed(alert, key))
            return
        recent = self._started_recently(episode, alert)
        if recent >= max(self._threshold(episode), self._expected_by_chance(episode, key[2])):
            window = ROUNDS * episode.entities
            episode.first, episode.last = alert.labelled - window, alert.labelled + window
            episode.reported, episode.before = count, count - recent
            episode.since = min(member.since for member in episode.open.values() if member.at >= episode.first)
            out.append(self._alert("started", key, episode, alert))
            for name, waited in self.waiting.pop_pool(key, alert.row).items():
                out += [_suppressed(each, key) for each in waited]
                if waited and name != alert.message["entity"]:
                    episode.open[name].withheld = waited[-1]
            out.append(_suppressed(alert, key))
        elif self.waiting.is_left_over(key[2], alert.message["entity"]):
            out.append(_suppressed(alert, key))
        else:
            episode.open[alert.message["entity"]].withheld = None
            out.append(self._hold(key, episode, alert))

    def _hold(self, key: PoolKind, episode: FleetEpisode, alert: Alert) -> Alert:
        """Return an entity's alert as one that waits; as it is if a fleet alert is out of reach, or it has waited."""
        queued = self.waiting.queue(alert)
        if queued is not None:
            return queued
        out_of_reach = max(self._threshold(episode), self._expected_by_chance(episode, key[2])) > episode.entities
        if alert.message["phase"] != "started" or not self._rules.wait or out_of_reach:
            return alert
        return self.waiting.add(key, alert, self._rules.wait, episode.entities)

    def _recover(self, key: PoolKind, episode: FleetEpisode, alert: Alert, out: list[Alert]) -> None:
        """End the fleet episode; the entities still open get a `started` of their own, at once or after a wait."""
        out.append(self._alert("recovered", key, episode, alert))
        episode.reported = episode.before = episode.first = episode.last = episode.since = episode.absorbed = 0
        for name, member in episode.open.items():
            if member.withheld is not None and self._rules.wait:
                self.waiting.add_left_over(key, name, alert, ROUNDS, episode.entities)
            elif member.withheld is not None:
                out.append(_own_start(alert, key, member))

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
        scores = [alert.message["score"], *(member.score for _, member in ranked[:1])]
        highest = max((score for score in scores if score is not None), default=None)
        # Without an end of an entity's: the pool has grown, and so has the threshold, or members were reset.
        ended_by = (alert.message["ended_by"] or "recovered") if phase == "recovered" else None
        message = {
            **alert.message,
            "entity": "*",
            "scope": "fleet",
            "phase": phase,
            "ended_by": ended_by,
            "severity": "critical" if highest is not None and highest >= self._critical else "warning",
            "score": highest,
            "since": episode.since,
            "absorbed_after": (episode.absorbed or None) if ended_by in BY_EVENT else None,
            "pool": _pool_name(key),
            "count": len(ranked),
            "entities": [{"entity": name, "score": m.score, "since": m.since} for name, m in ranked[:MAX_LISTED]],
        }
        partly = self._clocks is not None and self._clocks.entities(key[:2])[1]
        members = Members([member.target for _, member in ranked], partly, alert.message["entity"])
        return alert._replace(message=message, pool=key[:2], suffix=FLEET, members=members)

    def unsent(self, entity: str, kind: str) -> list[dict[str, Any]]:
        """Return the messages of an entity that wait or are withheld."""
        withheld = [each.open[entity].render_withheld() for each in self._of(entity, kind)]
        return [*self.waiting.messages(entity, kind), *(message for message in withheld if message is not None)]

    def retarget(self, entity: str, kind: str, target: str) -> None:
        """Let an entity's episode be about another target."""
        for each in self._of(entity, kind):
            each.open[entity].target = target

    def _of(self, entity: str, kind: str) -> list[FleetEpisode]:
        return [each for key, each in self._episodes.items() if key[2] == kind and entity in each.open]

    def end_episodes(self, kind: str, entity: str | None = None) -> None:
        """End the episodes of a kind without an alert: of one entity, or of all and the fleet's."""
        self.waiting.remove(kind, entity)
        for key in [key for key in self._episodes if key[2] == kind]:
            if entity is None:
                del self._episodes[key]
            else:
                self._episodes[key].open.pop(entity, None)

    def dump(self) -> list[list[Any]]:
        """Return all pools and kinds as JSON has them, sorted."""
        out: list[list[Any]] = []
        for key, e in sorted(self._episodes.items()):
            if _is_open(e):
                several = self._clocks is not None
                now = 0 if self._clocks is None else self._clocks.now(key[:2])
                members = [
                    [name, m.score, m.since, m.at - now, *([m.target] if several else []), m.render_withheld()]
                    for name, m in e.open.items()
                ]
                window = (e.first - now, e.last - now) if e.reported else (0, 0)
                out.append([*key, e.entities, e.reported, e.since, e.absorbed, members, e.before, *window])
        return out

    def load(self, rows: list[list[Any]]) -> None:
        """Load what `dump` returned."""
        for shard, source, kind, entities, reported, since, absorbed, members, before, first, last in rows:
            # Of a state with one target, which counts from the beginning, the latest counts as having just started.
            now = 0 if self._clocks is None else max((each[3] for each in members if each[3] > 0), default=0)
            open_ = {
                name: MemberEpisode(
                    score, began, at - now, target[0] if target else None, Alert(0, withheld) if withheld else None
                )
                for name, score, began, at, *target, withheld in members
            }
            self._episodes[shard, source, kind] = FleetEpisode(
                open_, entities, reported, before, first - now, last - now, since, absorbed
            )

    def dump_pools(self) -> list[list[Any]]:
        """Return what is known of the pools of several targets, as JSON has it."""
        return [] if self._clocks is None else self._clocks.dump()

    def load_pools(self, rows: list[list[Any]]) -> None:
        """Load what `dump_pools` returned."""
        if self._clocks is not None:
            self._clocks.load(rows)


def _is_open(episode: FleetEpisode) -> bool:
    return bool(episode.open) or episode.reported > 0


def _pool_name(key: PoolKind) -> str:
    """Return a pool as the message names it."""
    shard, source, _ = key
    return f"{source}-{shard}"


def _own_start(alert: Alert, key: PoolKind, member: MemberEpisode) -> Alert:
    """Return the `started` of an entity that a fleet episode has left open, with its last report.

    Its own event is past: it is sent at another event, that of `alert`, with an id of its own.
    """
    withheld, member.withheld = member.withheld, None
    assert withheld is not None
    message = {**withheld.message, "phase": "started"}
    reported = withheld.reported
    return Alert(alert.row, message, key[:2], suffix=OTHER, details=withheld.details, reported=reported)


def _suppressed(alert: Alert, key: PoolKind) -> Alert:
    """Return an alert as one that the fleet episode of a pool and kind replaces."""
    return alert._replace(suppressed_by=_pool_name(key))


def withheld_episodes(rows: list[list[Any]], waiting: list[list[Any]]) -> list[tuple[str, str]]:
    """Return entity and kind of the episodes whose `started` was withheld or waits.

    rows, waiting: what `FleetAlerts.dump` and `WaitingAlerts.dump` returned
    """
    return [(entity, kind) for _, _, kind, entity, *_ in waiting] + [
        (name, kind)
        for _, _, kind, _, _, _, _, members, *_ in rows
        for name, *_, withheld in members
        if withheld is not None
    ]
