"""The page of the report on a period: a sentence, tables and charts a section; nothing to fetch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ssm_stream.evaluate.report.numbers import number
from ssm_stream.evaluate.report.period.words import Words
from ssm_stream.evaluate.report.render import render
from ssm_stream.evaluate.report.section import Cell, Chart, Section, Series, Table

Figures = dict[str, Any]
SAME = 0.05
"""Relative change of the error up to which it counts as the same."""


def page(found: Figures, topics: Sequence[str], words: Words) -> str:
    """Return the page. found: the figures; topics: that were read, the events topic first"""
    of = found["period"]
    since, until = words.time(of["since"]), words.time(of["until"])
    unset = [name for name in ("summaries", "feedback") if not (found["has"] | found["configured"])[name]]
    facts = [
        (words("facts.flow"), topics[0]),
        (
            words("facts.period"),
            words("facts.period.value", since=since, until=until, zone=of["time_zone"], days=f"{of['days']:g}"),
        ),
        (words("facts.read"), ", ".join(topics[1:])),
        *((words("facts.missing"), words(f"facts.missing.{name}")) for name in unset),
        *([(words("facts.empty"), words("facts.empty.summaries"))] if _awaits_summaries(found) else []),
    ]
    return render(
        "period.html.j2",
        title=words("title", since=since[:10], until=until[:10]),
        language=words.language,
        sections=sections(found, words),
        lead=lead(found, words),
        facts=facts,
    )


def _awaits_summaries(found: Figures) -> bool:
    """Return whether the topic of summaries is configured and has none of the period."""
    return bool(found["configured"]["summaries"]) and not found["has"]["summaries"]


def lead(found: Figures, words: Words) -> str:
    """Return the report in a sentence."""
    alerts = found["alerts"]
    if not alerts["started"]:
        return words("lead.none")
    open_ = words("lead.open", n=alerts["open"]) if alerts["open"] else words("lead.all_ended")
    return words(
        "lead.some", alerts=words.count(alerts["started"], "alert"), critical=alerts["critical"], open=open_,
        compared=words.compared(alerts["started"], alerts["before"]),
    )  # fmt: skip


def sections(found: Figures, words: Words) -> list[Section]:
    """Return the sections in the order of a meeting: what happened, whether it was right, where, and what else."""
    made = (_teams, _rules, _budget, _entities, _silence, _episodes, _errors, _stops)
    return [each(found, words) for each in made]


def _teams(found: Figures, words: Words) -> Section:
    alerts, days = found["alerts"], found["period"]["days"]
    text = [
        words(
            "teams.text", alerts=words.count(alerts["started"], "alert"), days=f"{days:g}",
            rate=f"{alerts['started'] / days:.1f}", compared=words.compared(alerts["started"], alerts["before"]),
        )
    ]  # fmt: skip
    named = [each for each in alerts["teams"] if each["team"]]

    def name(team: str) -> str:
        return team or words("teams.other" if named else "teams.all")

    if named and alerts["started"]:
        busiest = max(alerts["teams"], key=lambda each: each["alerts"])
        text.append(words("teams.busiest", team=name(busiest["team"]), n=busiest["alerts"]))
    rows: list[list[Cell]] = [
        [name(each["team"]), each["alerts"], f"{each['a_day']:.1f}", each["before"]] for each in alerts["teams"]
    ]
    by_day: list[list[Cell]] = [[each["day"], each["alerts"]] for each in alerts["by_day"]]
    columns = [words(key) for key in ("teams.team", "alerts", "a_day", "before")]
    note = "" if named else words("teams.none")
    tables = [Table("", columns, rows, note), Table("", [words("day"), words("alerts")], by_day)]
    return Section(words("teams"), text, tables=tables)


def _rules(found: Figures, words: Words) -> Section:
    feedback, started = found["feedback"], found["alerts"]["started"]
    if not started:
        text = words("rules.text.none")
    elif feedback is None:
        text = words("rules.text.no_topic")
    elif not feedback["true"] + feedback["false"]:
        text = words("rules.text.none_judged")
    else:
        text = words("rules.text.judged", judged=feedback["true"] + feedback["false"], **feedback)
    rows: list[list[Cell]] = [
        [
            words.rule(each["rule"]), each["alerts"], each["before"], each["true"], each["false"],
            words.percent(each["precision"]),
        ]
        for each in found["rules"]
    ]  # fmt: skip
    columns = [words(key) for key in ("rule", "alerts", "before", "true", "false", "precision")]
    return Section(words("rules"), [text], tables=[Table("", columns, rows)] if rows else [])


def _budget(found: Figures, words: Words) -> Section:
    budget = found["budget"]
    if budget is None:
        return Section(words("budget"), [words("budget.empty" if _awaits_summaries(found) else "budget.none")])
    allowed, doubtful = f"{budget['allowed']:.1f}", budget["alerts"] - budget["true"]
    text = words(
        f"budget.{budget['kept']}", allowed=allowed, doubtful=words.count(doubtful, "alert"), false=budget["false"]
    )
    return Section(words("budget"), [text, words("budget.note", text=budget["text"])])


def _entities(found: Figures, words: Words) -> Section:
    worst = found["entities"]
    if not worst:
        return Section(words("entities"), [words("entities.none")])
    first, text = worst[0], list[str]()
    if first["alerts"]:
        alerts, hours = words.count(first["alerts"], "alert"), words.hours(first["episode_hours"])
        alerts = str(first["alerts"]) if words.language == "ja" else alerts
        text.append(words("entities.text", entity=first["entity"], alerts=alerts, hours=hours))
    known = [each for each in worst if each["relative_error"] is not None]
    largest = max(known, key=lambda each: each["relative_error"], default=None)
    if largest is not None and largest["relative_error"] > 1.5:
        ratio = f"{largest['relative_error']:.1f}"
        text.append(words("entities.text.errors", entity=largest["entity"], ratio=ratio))
    rows: list[list[Cell]] = [
        [
            each["entity"], each["alerts"], each["false"], f"{each['episode_hours']:.1f}",
            _decimal(each["relative_error"], words), words.percent(each["coverage"]), _decimal(each["score"], words),
        ]
        for each in worst
    ]  # fmt: skip
    keys = ("entity", "alerts", "false", "episode_hours", "relative_error", "coverage", "score")
    return Section(words("entities"), text, tables=[Table("", [words(key) for key in keys], rows)])


def _known(value: float | None, words: Words) -> Cell:
    return words("unknown") if value is None else float(value)


def _decimal(value: float | None, words: Words) -> str:
    """Return a ratio or a score, to the second digit after the point."""
    return words("unknown") if value is None else f"{value:,.2f}"


def _silence(found: Figures, words: Words) -> Section:
    rows, since = found["silence"], found["all_silent_since"]
    nothing = [words("silence.all", since=words.time(since))] if since is not None else []
    if not rows:
        known = found["has"]["summaries"] or found["configured"]["silence"]
        key = "silence.none" if known else "silence.empty" if _awaits_summaries(found) else "silence.unknown"
        return Section(words("silence"), nothing or [words(key)])
    text = words(
        "silence.text", entities=words.count(len(rows), "entity"), entity=rows[0]["entity"],
        since=words.time(rows[0]["since"]),
    )  # fmt: skip
    cells: list[list[Cell]] = [
        [each["entity"], words.time(each["since"]), words("yes" if each["alert"] else "no")] for each in rows
    ]
    columns = [words(key) for key in ("entity", "since", "by_alert")]
    return Section(words("silence"), [*nothing, text], tables=[Table("", columns, cells)])


def _episodes(found: Figures, words: Words) -> Section:
    rows = found["episodes"]
    elsewhere = [words("episodes.silent")] if any(each["alert"] for each in found["silence"]) else []
    if not rows:
        return Section(words("episodes"), elsewhere or [words("episodes.none")])
    first = rows[0]
    text = words(
        "episodes.text", hours=words.hours(first["hours"]), entity=words.entity(first["entity"]),
        rule=words.rule(first["rule"]), since=words.time(first["since"]),
    )  # fmt: skip
    cells: list[list[Cell]] = [
        [
            words.entity(each["entity"]), words.rule(each["rule"]), words.time(each["since"]),
            words.hours(each["hours"]), words("yes" if each["open"] else "no"), each["summary"],
        ]
        for each in rows
    ]  # fmt: skip
    columns = [words(key) for key in ("entity", "rule", "from", "lasted", "still_open", "what")]
    return Section(words("episodes"), [text, *elsewhere], tables=[Table("", columns, cells)])


def _errors(found: Figures, words: Words) -> Section:
    rows = found["errors"]
    if not rows:
        key = "unjudged" if found["has"]["summaries"] else "empty" if _awaits_summaries(found) else "none"
        return Section(words("errors"), [words(f"errors.{key}")])
    text = [_error_text(each, words) for each in rows]
    cells: list[list[Cell]] = [
        [
            each["target"], _known(each["error"], words), _known(each["before"], words), _decimal(each["ratio"], words),
            words.percent(each["coverage"]), words.percent(each["level"]),
        ]
        for each in rows
    ]  # fmt: skip
    columns = [words(key) for key in ("target", "error", "before", "ratio", "coverage", "level")]
    note = words("errors.both") if any(each["before"] is not None for each in rows) else ""
    series = []
    for each in rows:
        known = [(float(i), day["relative_error"]) for i, day in enumerate(each["by_day"], 1) if day["relative_error"]]
        series.append(Series(each["target"], [x for x, _ in known], [y for _, y in known]))
    shown = [each for each in series if len(each.x) > 1]
    charts = [Chart(words("errors.chart"), words("days.of"), words("relative_error"), shown)] if shown else []
    return Section(words("errors"), text, tables=[Table("", columns, cells, note)], charts=charts)


def _error_text(row: Figures, words: Words) -> str:
    if row["ratio"] is None:
        return words("errors.text.alone", target=row["target"], error=number(row["error"]))
    change = row["ratio"] - 1.0
    key = "same" if abs(change) <= SAME else "worse" if change > 0 else "better"
    percent = f"{change:+.0%}".replace("-", "−")
    values = {"error": number(row["of_both"]), "before": number(row["before"]), "percent": percent}
    return words(f"errors.text.{key}", target=row["target"], **values)


def _stops(found: Figures, words: Words) -> Section:
    stops, text = found["stops"], list[str]()
    suppressed, announced = stops["suppressed"], stops["announced"]
    if announced or suppressed["maintenance"]:
        count = words.count(len(announced), "stop")
        text.append(words("stops.text", stops=count, suppressed=words.count(suppressed["maintenance"], "alert")))
    if stops["weekly"]:
        text.append(words("stops.weekly", listed="; ".join(stops["weekly"])))
    if stops["rewound"]:
        each = [f"{one['entity']}: {words.time(one['from'])} – {words.time(one['to'])}" for one in stops["rewound"]]
        text.append(words("stops.rewound", listed="; ".join(each)))
    if not text:
        text.append(words("stops.none"))
    text += [words(f"stops.{by}", n=suppressed[by]) for by in ("fleet", "shadow") if suppressed[by]]
    rows: list[list[Cell]] = [
        [each["entity"], words.time(each["from"]), words.time(each["to"]), each["reason"], each["by"]]
        for each in announced
    ]
    columns = [words(key) for key in ("entity", "from", "to", "reason", "by")]
    return Section(words("stops"), text, tables=[Table("", columns, rows)] if rows else [])
