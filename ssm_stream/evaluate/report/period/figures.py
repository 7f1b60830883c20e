"""The figures of a period: what `report --json` prints, and what the page is made of."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from ssm_stream.config import Budget, Config
from ssm_stream.engine.alert_kinds import KINDS, SHADOW, SUPPRESSED_BY
from ssm_stream.evaluate.report.period.episodes import OTHER, Episode, join_episodes
from ssm_stream.evaluate.report.period.messages import DAY, Message, Period
from ssm_stream.ingest.entity_filter import Teams

LISTED = 10
"""Rows of a list of entities, episodes or stops."""
HOUR = 3_600_000


def figures(config: Config, period: Period) -> dict[str, Any]:
    """Return the figures as JSON has them; `null` where the topics do not have what they need."""
    zone, since, until = ZoneInfo(config.event.time_zone), period.since, period.until
    episodes = join_episodes(period.alerts, period.verdicts or {}, until)
    now = [each for each in episodes if each.started and since <= each.ts]
    past = [each for each in episodes if each.started and period.before <= each.ts < since]
    rows = _Summaries(period)
    suppressed = join_episodes(period.suppressed, {}, until)
    return {
        "period": {
            "since": _iso(since, zone), "until": _iso(until, zone), "days": round(period.days, 3),
            "before": _iso(period.before, zone), "time_zone": config.event.time_zone,
        },
        "has": {"feedback": period.verdicts is not None, "summaries": bool(rows.now), "before": bool(rows.past)},
        "configured": {"summaries": period.summaries is not None, "silence": config.alerts.silence is not None},
        "alerts": {
            "started": len(now), "before": len(past),
            "critical": sum(each.severity == "critical" for each in now),
            "open": sum(each.ended is None for each in now),
            "by_day": _by_day(now, since, until, zone),
            "teams": _teams(config, now, past, period.days),
        },
        "rules": _rules(now, past),
        "feedback": None if period.verdicts is None else _feedback(now),
        "budget": _budget(config, now, rows, period),
        "entities": _entities(episodes, rows, since, until),
        "silence": _silence(episodes, rows, zone, until),
        "all_silent_since": _last_of_all(rows, zone, until),
        "episodes": _longest(episodes, zone, since, until),
        "errors": _errors(config, rows, zone),
        "stops": {
            "weekly": [f"{each.entities}: {each.text}" for each in config.alerts.maintenance],
            "announced": _stops(period, zone),
            "rewound": [
                {"entity": each.entity, "from": _iso(each.begin, zone), "to": _iso(each.end, zone)}
                for each in period.rewound
                if each.begin < until and each.end > since
            ],
            "suppressed": {
                by: sum(_suppressed_by(each) == by for each in suppressed if each.started and since <= each.ts)
                for by in SUPPRESSED_BY
            },
        },
    }  # fmt: skip


class _Summaries:
    """now, past: the summaries of the period and of the one before it, one a target"""

    def __init__(self, period: Period) -> None:
        all_ = period.summaries or ()
        self.now = [each for each in all_ if period.since <= each["hour"] < period.until]
        self.past = [each for each in all_ if period.before <= each["hour"] < period.since]

    def labelled(self) -> float:
        """Return the labelled events of the period. Of several targets, which share each event's budget, those of the
        one with most: a machine may lack some of them.
        """
        most = dict[tuple[str, int], int]()
        for each in self.now:
            key = each["entity"], each["hour"]
            most[key] = max(most.get(key, 0), each["labelled"])
        return float(sum(most.values()))

    def last(self) -> dict[str, int]:
        """Return the time of the last event of each entity, ms."""
        out = dict[str, int]()
        for each in (*self.past, *self.now):
            if each["last"] is not None:
                out[each["entity"]] = max(each["last"], out.get(each["entity"], 0))
        return out


def _iso(ms: int, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).astimezone(zone).isoformat(timespec="minutes")


def _date(ms: int, zone: ZoneInfo) -> date:
    return datetime.fromtimestamp(ms / 1000, UTC).astimezone(zone).date()


def _day(ms: int, zone: ZoneInfo) -> str:
    return _date(ms, zone).strftime("%Y-%m-%d")


def _suppressed_by(each: Episode) -> str:
    return each.suppressed_by if each.suppressed_by in (SHADOW, "maintenance") else "fleet"


def _by_day(now: list[Episode], since: int, until: int, zone: ZoneInfo) -> list[dict[str, Any]]:
    counts = Counter(_day(each.ts, zone) for each in now)
    # Days of the calendar: one on which the clocks change has 23 or 25 hours.
    first, last = _date(since, zone), _date(until - 1, zone)
    days = [(first + timedelta(days=i)).strftime("%Y-%m-%d") for i in range((last - first).days + 1)]
    return [{"day": day, "alerts": counts[day]} for day in days]


def _teams(config: Config, now: list[Episode], past: list[Episode], days: float) -> list[dict[str, Any]]:
    teams = {} if config.notify is None else config.notify.teams
    team_of = Teams(teams).of_first
    counts, before = (Counter(team_of(each.entities) or OTHER for each in some) for some in (now, past))
    names = [*teams, *([""] if counts[""] or before[""] or not teams else [])]
    return [
        {"team": name, "alerts": counts[name], "a_day": round(counts[name] / days, 2), "before": before[name]}
        for name in names
    ]


def _rules(now: list[Episode], past: list[Episode]) -> list[dict[str, Any]]:
    before, out = Counter(each.rule for each in past), list[dict[str, Any]]()
    for rule, count in sorted(Counter(each.rule for each in now).items(), key=lambda item: (-item[1], item[0])):
        mine = [each for each in now if each.rule == rule]
        out.append({"rule": rule, "alerts": count, "before": before[rule], **_judged(mine)})
    return out


def _judged(some: list[Episode]) -> dict[str, Any]:
    true, false = (sum(each.true is value for each in some) for value in (True, False))
    return {"true": true, "false": false, "precision": true / (true + false) if true + false else None}


def _feedback(now: list[Episode]) -> dict[str, Any]:
    found = _judged(now)
    return {**found, "unjudged": len(now) - found["true"] - found["false"]}


def _budget(config: Config, now: list[Episode], rows: _Summaries, period: Period) -> dict[str, Any] | None:
    """Return the false alarms that are allowed, and those that may have been: all that were not called true."""
    mine = [each for each in now if each.rule.removesuffix("-fleet") in KINDS]
    team = config.alerts.budget
    if team is not None:
        allowed, text = team.alerts * period.days * 86_400 / team.per, team.text
    else:
        kinds = [each for each in (config.alerts.anomaly, config.alerts.drift) if each.enabled]
        events, entities = rows.labelled(), len({each["entity"] for each in rows.now})
        if not entities or not kinds:
            return None
        allowed = sum(_allowed(each.budget, events, entities, period.days) for each in kinds)
        text = "; ".join(dict.fromkeys(each.budget.text for each in kinds))
    false, true = (sum(each.true is value for each in mine) for value in (False, True))
    doubtful = len(mine) - true
    kept = "yes" if doubtful <= allowed else "no" if false > allowed else "open"
    return {
        "text": text, "team": team is not None, "allowed": allowed, "alerts": len(mine), "true": true, "false": false,
        "kept": kept,
    }  # fmt: skip


def _allowed(budget: Budget, events: float, entities: int, days: float) -> float:
    return events / budget.events if budget.events else entities * days * 86_400 / budget.seconds


def _mean(rows: Sequence[Message], name: str) -> float | None:
    """Return the mean of a figure over the targets that were judged."""
    known = [each for each in rows if each[name] is not None and each["judged"]]
    weight = sum(each["judged"] for each in known)
    return sum(each[name] * each["judged"] for each in known) / weight if weight else None


def _entities(episodes: list[Episode], rows: _Summaries, since: int, until: int) -> list[dict[str, Any]]:
    """Return the entities with the most alerts, then with the longest time in episodes, then the largest errors."""
    own = [each for each in episodes if each.entity != "*" and (each.ended or until) >= since]
    now = [each for each in own if each.started and since <= each.ts]
    alerts, false = (Counter(each.entity for each in some) for some in (now, [e for e in now if e.true is False]))
    spans = defaultdict[str, list[tuple[int, int]]](list)
    for each in own:
        spans[each.entity].append((max(each.since, since), each.ended or until))
    by_entity, seconds = defaultdict[str, list[Message]](list), defaultdict[str, dict[int, float]](dict)
    for row in rows.now:
        by_entity[row["entity"]].append(row)
        seconds[row["entity"]][row["hour"]] = row["episode_seconds"]
    out = list[dict[str, Any]]()
    for name in {*spans, *by_entity}:
        mine = by_entity.get(name, [])
        out.append({
            "entity": name, "alerts": alerts[name],
            "episode_hours": round(_inside(spans.get(name, []), seconds.get(name, {})), 2),
            "relative_error": _mean(mine, "relative_error"), "coverage": _mean(mine, "coverage"),
            "score": max((row["score"] for row in mine), default=None), "false": false[name],
        })  # fmt: skip
    worst = [each for each in out if each["alerts"] or each["episode_hours"] or (each["relative_error"] or 0) > 1.5]
    worst.sort(
        key=lambda each: (-each["alerts"], -each["episode_hours"], -(each["relative_error"] or 0), each["entity"])
    )
    return worst[:LISTED]


def _inside(spans: list[tuple[int, int]], seconds: dict[int, float]) -> float:
    """Return the hours inside episodes. spans: of these, ms; seconds: by hour, as the summaries have them

    Neither has all: an hour without an event has no summary, and an episode that is older than the messages that were
    read is in the summaries alone.
    """
    covered, reached = Counter[int](), 0
    for begin, end in sorted(spans):
        begin = max(begin, reached)
        reached = max(reached, end)
        while begin < end:
            hour = begin - begin % HOUR
            covered[hour] += min(end, hour + HOUR) - begin
            begin = hour + HOUR
    return sum(max(covered[hour], 1000 * seconds.get(hour, 0.0)) for hour in {*covered, *seconds}) / HOUR


def _silence(episodes: list[Episode], rows: _Summaries, zone: ZoneInfo, until: int) -> list[dict[str, Any]]:
    """Return who sends nothing at the end: by alerts of silence, and entities that have had no event for a day."""
    out = {
        each.entity: {"entity": each.entity, "since": _iso(each.since, zone), "alert": True, "summary": each.summary}
        for each in episodes
        if each.rule == "silence" and each.ended is None
    }
    last = rows.last()
    newest = min(max(last.values(), default=0), until)
    for name, at in last.items():
        if at < newest - DAY:
            out.setdefault(name, {"entity": name, "since": _iso(at, zone), "alert": False, "summary": ""})
    return sorted(out.values(), key=lambda each: (str(each["since"]), str(each["entity"])))


def _last_of_all(rows: _Summaries, zone: ZoneInfo, until: int) -> str | None:
    """Return the time of the last event of all, if it was more than a day before the end: `_silence` compares entities
    with each other, and finds none then."""
    newest = max(rows.last().values(), default=until)
    return _iso(newest, zone) if newest < until - DAY else None


def _longest(episodes: list[Episode], zone: ZoneInfo, since: int, until: int) -> list[dict[str, Any]]:
    """Return the longest that were open in the period, but the silences that still are: `_silence` has these."""
    mine = [each for each in episodes if (each.rule != "silence" if each.ended is None else each.ended >= since)]
    mine.sort(key=lambda each: -each.hours(until))
    return [
        {
            "entity": each.entity, "rule": each.rule, "since": _iso(each.since, zone), "open": each.ended is None,
            "hours": round(each.hours(until), 2), "summary": each.summary, "id": each.id,
        }
        for each in mine[:LISTED]
    ]  # fmt: skip


def _errors(config: Config, rows: _Summaries, zone: ZoneInfo) -> list[dict[str, Any]]:
    """Return error and coverage of each target: of the period, of the one before, and day by day.

    Both errors are of the entities that have some in both, so that a new one changes neither.
    """
    out = []
    for target in config.event.targets:
        now, past = ([r for r in some if r.get("target", target) == target] for some in (rows.now, rows.past))
        if not any(row["judged"] for row in now):
            continue
        both = {row["entity"] for row in now if row["judged"]} & {row["entity"] for row in past if row["judged"]}
        error, before = (_mean([r for r in some if r["entity"] in both], "error") for some in (now, past))
        days = defaultdict[str, list[Message]](list)
        for row in now:
            days[_day(row["hour"], zone)].append(row)
        out.append({
            "target": target, "error": _mean(now, "error"), "of_both": error, "before": before,
            "ratio": error / before if error is not None and before else None, "coverage": _mean(now, "coverage"),
            "level": config.model.interval, "judged": sum(row["judged"] for row in now),
            "by_day": [
                {"day": day, "relative_error": _mean(some, "relative_error"), "coverage": _mean(some, "coverage")}
                for day, some in sorted(days.items())
            ],
        })  # fmt: skip
    return out


def _stops(period: Period, zone: ZoneInfo) -> list[dict[str, Any]]:
    mine = [each for each in period.stops if each.begin < period.until and each.end > period.since]
    return [
        {
            "entity": each.entity, "from": _iso(each.begin, zone), "to": _iso(each.end, zone),
            "hours": round((each.end - each.begin) / HOUR, 2), "reason": each.reason, "by": each.by,
        }
        for each in sorted(mine, key=lambda each: each.begin)
    ]  # fmt: skip
