"""`ssm-stream report`: the figures of a flow's topics, and the page in both languages."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from brokers import Kafka
from test_stream import Job
from typer.testing import CliRunner

from ssm_stream.cli.app import app
from ssm_stream.cli.inputs import load_with_stored_features
from ssm_stream.config import parse_config
from ssm_stream.evaluate.report.period.figures import figures
from ssm_stream.evaluate.report.period.messages import DAY, AnnouncedStop, Period, RewoundStretch
from ssm_stream.evaluate.report.period.page import page
from ssm_stream.evaluate.report.period.words import words
from ssm_stream.evaluate.report.texts import LANGUAGES, read_texts
from ssm_stream.flow.doctor import create_missing, diagnose
from ssm_stream.flow.period import read_period, rewound_stretches
from ssm_stream.recovery.exclusions import EXCLUSIONS

HOUR = 3_600_000
MONDAY = 1_767_571_200_000
"""2026-01-05T00:00Z."""
TEXT = """
source: {brokers: a, topic: events}
event: {entity: m, timestamp: ts, features: [a], target: y}
sinks: {suppressed: withheld, summaries: summaries}
alerts: {silence: {after: 2h}, feedback: {topic: feedback}, maintenance: [{entities: p-*, weekly: Sun 06:00-18:00}]}
"""


def alert(offset: int, entity: str, ts: int, phase: str = "started", episode: int | None = None, **more: Any) -> Any:
    """An alert message with what the report reads."""
    kind = more.get("kind", "anomaly")
    name = f"events-0-{offset if episode is None else episode}-{kind}"
    return {
        "id": f"events-0-{offset}-{kind}", "episode": name, "entity": entity, "kind": kind, "scope": "entity",
        "phase": phase, "severity": "warning", "summary": f"{entity}: high", "ts": ts, "since": ts, **more,
    }  # fmt: skip


def summary(entity: str, hour: int, error: float | None = 1.0, **more: Any) -> dict[str, Any]:
    judged = 0 if error is None else 60
    return {
        "entity": entity, "hour": hour, "events": 60, "labelled": 60, "mean": 70.0, "mean_predicted": 70.5,
        "judged": judged, "error": error, "usual_error": 1.0, "relative_error": error, "coverage": 0.9, "score": 0.5,
        "stopped": 0,
        "episode_seconds": 0.0, "open": [], "alerts": {}, "last": hour + HOUR - 1, "silent_since": None, **more,
    }  # fmt: skip


def week(**more: Any) -> Period:
    """A week from MONDAY + 7 d on."""
    since = MONDAY + 7 * DAY
    alerts = [
        alert(1, "pump-1", since - 2 * DAY),
        alert(2, "pump-1", since - DAY, "recovered", 1, since=since - 2 * DAY),
        alert(3, "pump-2", since - HOUR, kind="drift"),
        alert(10, "pump-1", since + HOUR),
        alert(11, "pump-1", since + 3 * HOUR, "recovered", 10, since=since + HOUR),
        alert(12, "fan-1", since + DAY, severity="critical"),
        alert(13, "fan-1", since + DAY + HOUR, "ongoing", 12),
        alert(14, "*", since + 2 * DAY, scope="fleet"),
        alert(15, "pump-2", since + 3 * DAY, "recovered", 3, since=since - HOUR, kind="drift"),
        alert(16, "fan-2", since + 4 * DAY, kind="silence", since=since + 4 * DAY - 2 * HOUR),
        alert(17, "fan-2", since + 8 * DAY, "recovered", 16, kind="silence"),
    ]
    hours = range(MONDAY, since + 7 * DAY, HOUR)
    summaries = [summary("pump-1", hour, 1.0 if hour < since else 1.3) for hour in hours]
    summaries += [summary("pump-2", hour) for hour in hours]
    summaries += [summary("fan-2", hour, None) for hour in hours if hour < since + 4 * DAY]
    given: dict[str, Any] = {
        "alerts": alerts,
        "suppressed": [alert(20, "pump-3", since + DAY, suppressed_by="maintenance")],
        "verdicts": {"events-0-10-anomaly": True, "events-0-13-anomaly": False},
        "summaries": summaries,
        "stops": [AnnouncedStop("pump-*", since + DAY, since + 2 * DAY, "bearing", "Kim")],
    }
    return Period(since, since + 7 * DAY, **{**given, **more})


def test_the_figures_of_a_week() -> None:
    found = figures(parse_config(TEXT), week())
    alerts = found["alerts"]
    assert (alerts["started"], alerts["before"], alerts["critical"], alerts["open"]) == (4, 2, 1, 3)
    assert [each["alerts"] for each in alerts["by_day"]] == [1, 1, 1, 0, 1, 0, 0]
    assert alerts["teams"] == [{"team": "", "alerts": 4, "a_day": 0.57, "before": 2}]
    assert [(each["rule"], each["alerts"], each["true"], each["false"]) for each in found["rules"]] == [
        ("anomaly", 2, 1, 1), ("anomaly-fleet", 1, 0, 0), ("silence", 1, 0, 0),
    ]  # fmt: skip
    assert found["feedback"] == {"true": 1, "false": 1, "precision": 0.5, "unjudged": 2}
    # 264 labelled events of 10,000 for each of two kinds.
    labelled = 60 * (2 * 168 + 96)
    assert found["budget"]["allowed"] == pytest.approx(2 * labelled / 10_000)
    assert (found["budget"]["alerts"], found["budget"]["kept"]) == (3, "yes")
    assert [(each["entity"], each["alerts"], each["episode_hours"]) for each in found["entities"]] == [
        ("fan-1", 1, 144.0), ("fan-2", 1, 74.0), ("pump-1", 1, 2.0), ("pump-2", 0, 72.0),
    ]  # fmt: skip
    assert found["silence"] == [
        {"entity": "fan-2", "since": "2026-01-15T22:00+00:00", "alert": True, "summary": "fan-2: high"}
    ]
    assert [(each["entity"], each["hours"], each["open"]) for each in found["episodes"]] == [
        ("fan-1", 144.0, True), ("*", 120.0, True), ("pump-2", 73.0, False), ("pump-1", 2.0, False),
    ]  # fmt: skip
    (error,) = found["errors"]
    assert (error["error"], error["before"], error["ratio"]) == (pytest.approx(1.15), 1.0, pytest.approx(1.15))
    assert len(error["by_day"]) == 7
    assert found["stops"]["suppressed"] == {"fleet": 0, "shadow": 0, "maintenance": 1}
    assert [each["reason"] for each in found["stops"]["announced"]] == ["bearing"]


def test_the_time_in_episodes_has_the_hours_without_a_summary() -> None:
    """A machine that is away for days, one that was silent before the period began, and one known by hours alone."""
    since = MONDAY + 7 * DAY
    alerts = [
        alert(1, "old", since - DAY, kind="silence"),
        alert(2, "away", since + 3 * HOUR, kind="silence", since=since + HOUR // 2),
        alert(3, "away", since + 60 * HOUR, "recovered", 2, kind="silence"),
        alert(4, "away", since + 59 * HOUR),
        alert(5, "away", since + 61 * HOUR, "recovered", 4),
    ]
    hours = [summary("away", since, episode_seconds=900.0), summary("away", since + 60 * HOUR, episode_seconds=3600.0)]
    hours.append(summary("known", since + HOUR, episode_seconds=1800.0, target="y"))
    hours.append({**hours[-1], "target": "z"})
    found = figures(parse_config(TEXT), week(alerts=alerts, summaries=hours))
    assert {each["entity"]: each["episode_hours"] for each in found["entities"]} == {
        "away": 60.5, "old": 168.0, "known": 0.5,
    }  # fmt: skip
    longest = max(each["hours"] for each in found["episodes"] if each["entity"] == "away")
    assert found["entities"][0]["episode_hours"] >= longest


def test_what_a_rewind_left_out_is_not_of_the_configuration(tmp_path: Path) -> None:
    since = MONDAY + 7 * DAY
    out = [RewoundStretch("fan-1", since + HOUR, since + 2 * HOUR), RewoundStretch("fan-2", MONDAY, MONDAY + HOUR)]
    found = figures(parse_config(TEXT.replace("event: {", "event: {time_zone: Asia/Tokyo, ")), week(rewound=out))
    assert found["stops"]["weekly"] == ["p-*: Sun 06:00-18:00"]
    assert [(each["entity"], each["from"]) for each in found["stops"]["rewound"]] == [
        ("fan-1", "2026-01-12T10:00+09:00")
    ]
    text = page(found, ["events"], words("en"))
    assert "(`ssm-stream state rewind`): fan-1: 2026-01-12 10:00 – 2026-01-12 11:00." in text
    path, state = tmp_path / "monitor.yaml", tmp_path / "state"
    path.write_text(f"{TEXT}recovery: {{directory: {state}}}\n")
    state.mkdir()
    excluded = [{"entities": "fan-1", "from": "2026-01-12T01:00:00Z", "to": "2026-01-12T02:00:00Z"}]
    made = {"at": "2026-01-13T00:00:00Z", "by": "ann", "to": "2026-01-12T01:00:00Z", "excluded": excluded}
    (state / EXCLUSIONS).write_bytes(orjson.dumps({"rewinds": [made]}))
    loaded = load_with_stored_features(path, exclusions=False)
    assert [each.text for each in loaded.alerts.maintenance] == ["Sun 06:00-18:00"]
    assert rewound_stretches(loaded) == out[:1]


def test_each_day_is_listed_when_the_clocks_change() -> None:
    """Monday 00:05 after the Sunday of 23 hours: the week before, as of each Monday."""
    zoned = parse_config(TEXT.replace("event: {", "event: {time_zone: Europe/Berlin, "))
    until = 1_774_821_900_000  # 2026-03-30T00:05+02:00
    sunday = alert(1, "fan-1", until - 12 * HOUR)
    spring = figures(zoned, week(alerts=[sunday])._replace(since=until - 7 * DAY, until=until))["alerts"]
    assert spring["by_day"] == [
        {"day": f"2026-03-{day}", "alerts": int(day == 29)} for day in range(22, 31)
    ]  # fmt: skip
    until = 1_792_969_500_000  # 2026-10-26T00:05+01:00
    autumn = figures(zoned, week(alerts=[])._replace(since=until - 7 * DAY, until=until))["alerts"]
    assert [each["day"][-2:] for each in autumn["by_day"]] == [str(day) for day in range(19, 27)]


def test_without_summaries_and_feedback_it_names_what_is_missing() -> None:
    found = figures(parse_config(TEXT), week(summaries=None, verdicts=None, alerts=[]))
    assert (found["feedback"], found["budget"], found["errors"]) == (None, None, [])
    text = page(found, ["events", "alerts"], words("en"))
    assert "sinks.summaries: errors and coverage are missing" in text
    assert "No alert started." in text
    team = parse_config(TEXT.replace("alerts: {", "alerts: {budget: {alerts: 2, per: 7d, entities: 3}, "))
    budget = figures(team, week(verdicts={}))["budget"]
    assert (budget["allowed"], budget["kept"]) == (2.0, "open")


def test_summaries_that_are_yet_to_come_are_not_called_unconfigured() -> None:
    quiet = parse_config(TEXT.replace("silence: {after: 2h}, ", ""))
    empty = {"summaries": [], "verdicts": None, "alerts": []}
    text = page(figures(quiet, week(**empty)), ["events", "alerts", "summaries"], words("en"))
    assert "sinks.summaries: the topic has no hour of this period" in text
    assert text.count("(sinks.summaries) has none of this time yet") == 3
    assert "are configured." not in text
    watched = page(figures(parse_config(TEXT), week(**empty | {"summaries": None})), ["events"], words("en"))
    assert "All that sent data in this time or before it still did at the end." in watched
    assert "sinks.summaries: errors and coverage are missing" in watched
    unset = figures(quiet, week(**empty | {"summaries": None}))
    assert "neither alerts.silence nor hourly summaries (sinks.summaries) are configured" in page(
        unset, ["events"], words("en")
    )


def test_that_all_are_silent_is_not_that_all_still_send() -> None:
    """Who is silent is found by the others: where nothing comes at all, none stands out."""
    text, since = parse_config(TEXT), MONDAY + 7 * DAY
    sent = [summary(name, since + hour * HOUR) for name in ("pump-1", "fan-1") for hour in range(48)]
    found = figures(text, week(alerts=[], summaries=sent))
    assert (found["silence"], found["all_silent_since"]) == ([], "2026-01-13T23:59+00:00")
    stopped = page(found, ["events"], words("en"))
    assert "No entity has sent anything since 2026-01-13 23:59" in stopped
    assert "still did at the end" not in stopped
    sent += [summary("fan-1", since + hour * HOUR) for hour in range(48, 7 * 24)]
    found = figures(text, week(alerts=[], summaries=sent))
    assert ([each["entity"] for each in found["silence"]], found["all_silent_since"]) == (["pump-1"], None)


def test_a_silence_that_has_ended_is_an_episode_as_others() -> None:
    since = MONDAY + 7 * DAY
    silences = [
        alert(1, "press", since + 3 * HOUR, kind="silence", since=since + HOUR),
        alert(2, "press", since + 60 * HOUR, "recovered", 1, kind="silence"),
        alert(3, "pump", since + 2 * HOUR, kind="silence"),
    ]
    found = figures(parse_config(TEXT), week(alerts=silences))
    assert [(each["entity"], each["hours"]) for each in found["episodes"]] == [("press", 59.0)]
    text = page(found, ["events"], words("en"))
    assert "press, silence, from" in text
    assert "Silences that last are left out here: they are listed above." in text
    last = page(figures(parse_config(TEXT), week(alerts=silences[2:])), ["events"], words("en"))
    assert ("Silences that last are left out here" in last, "There was no episode." in last) == (True, False)
    last = page(figures(parse_config(TEXT), week(alerts=silences[:2])), ["events"], words("en"))
    assert "Silences that last are left out here" not in last


def test_alerts_count_for_the_first_team_whose_pattern_matches() -> None:
    teams = "notify: {teams: {Pumps: 'pump-*', Fans: 'fan-1'}, targets: [{webhook: 'http://localhost:1/'}]}\n"
    found = figures(parse_config(TEXT + teams), week())
    counted = [(each["team"], each["alerts"], each["before"]) for each in found["alerts"]["teams"]]
    assert counted == [("Pumps", 1, 2), ("Fans", 1, 0), ("", 2, 0)]
    assert "The most were for (no team): 2." in page(found, ["events"], words("en"))
    # An alert for many at once is of the team that notify sends it to, and of none where it lists nobody.
    at, listed = MONDAY + 9 * DAY, [{"entity": name, "score": 3.0} for name in ("fan-9", "pump-7", "fan-1")]
    fleets = [alert(1, "*", at, scope="fleet", entities=listed), alert(2, "*", at, scope="fleet", entities=[])]
    found = figures(parse_config(TEXT + teams.replace("Fans: 'fan-1'", "Rest: '*'")), week(alerts=fleets[1:]))
    assert [(each["team"], each["alerts"]) for each in found["alerts"]["teams"]] == [("Pumps", 0), ("Rest", 0), ("", 1)]
    found = figures(parse_config(TEXT + teams), week(alerts=fleets[:1]))
    assert [(each["team"], each["alerts"]) for each in found["alerts"]["teams"]] == [("Pumps", 1), ("Fans", 0)]


def test_several_targets_share_the_budget_of_their_entity() -> None:
    one = week()
    each = [{**row, "target": target} for row in one.summaries or () for target in ("y", "z")]
    two = figures(parse_config(TEXT.replace("target: y", "target: [y, z]")), one._replace(summaries=each))
    allowed = figures(parse_config(TEXT), one)["budget"]["allowed"]
    assert two["budget"]["allowed"] == pytest.approx(allowed)
    each[-1]["labelled"] = 0  # an event may lack one of them, and the others have its part of the budget
    two = figures(parse_config(TEXT.replace("target: y", "target: [y, z]")), one._replace(summaries=each))
    assert two["budget"]["allowed"] == pytest.approx(allowed)


class Body(HTMLParser):
    """The text of a page, and whether its tags are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.fetched = list[str](), list[str]()
        self.feed(text)

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [str(value) for name, value in attrs if name in ("src", "href") and str(value)[:1] != "#"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_is_in_a_language_and_fetches_nothing(language: Any) -> None:
    found = figures(parse_config(TEXT), week(suppressed=[alert(1, "<b>x</b>", MONDAY + 8 * DAY)]))
    found["entities"][0]["entity"] = "<script>alert(1)</script>"
    text = page(found, ["events", "alerts"], words(language))
    body = Body(text)
    assert body.fetched == ["data:,"]
    assert "<script>" not in text
    assert f'<html lang="{language}">' in text
    assert not re.search(r"\{\w+\}", "".join(body.text).split("</style>")[-1].split("}\n")[-1])
    assert text.count("<section") == 8


def test_the_texts_have_the_same_keys_and_names() -> None:
    package = "ssm_stream.evaluate.report.period"
    en, ja = (read_texts(package, f"words.{language}.yaml") for language in LANGUAGES)
    assert en.keys() == ja.keys()
    for key in en:
        names = [set(re.findall(r"\{(\w+)\}", str(each[key]))) for each in (en, ja)]
        assert names[0] == names[1], key


def test_a_report_on_the_topics_of_a_run(kafka: Kafka, tmp_path: Path) -> None:
    """From events to the page: two weeks of machines, one of which falls silent and one of which becomes worse."""
    topic, rng = kafka.topic("events", 2), np.random.default_rng(1)
    messages = []
    for step in range(14 * 72):  # three an hour
        ts = MONDAY + step * HOUR // 3
        for e in range(4):
            if e == 3 and step > 10 * 72:
                continue
            a = float(rng.normal())
            y = 2 * a + 0.1 * float(rng.normal()) * (20 if e == 1 and step > 8 * 72 else 1)
            y += 20 * (e == 0 and 9 * 72 <= step < 9 * 72 + 6)
            value = {"entity": f"m{e}", "ts": ts, "a": a, "b": 0.0, "target": round(y, 4)}
            messages.append((b"m%d" % e, orjson.dumps(value)))
    kafka.produce(topic, messages)
    job = Job(kafka, tmp_path, topic)
    content = orjson.loads(job.path.read_bytes())
    content["sinks"] |= {"suppressed": f"{job.alerts}-withheld", "summaries": f"{job.alerts}-summaries"}
    content["alerts"] = {"silence": {"after": "2h"}, "feedback": {"topic": f"{job.alerts}-feedback"}}
    content["alerts"]["fleet"] = {"enabled": False}
    job.path.write_bytes(orjson.dumps(content))
    assert create_missing(job.config, 2).ok
    job.run()
    sent = [orjson.loads(each.value() or b"") for each in kafka.read(job.alerts)]
    first = next(each for each in sent if each["phase"] == "started" and each["ts"] > MONDAY + 7 * DAY)
    kafka.produce(f"{job.alerts}-feedback", [(first["id"].encode(), orjson.dumps({"id": first["id"], "true": True}))])
    out = tmp_path / "report.html"
    times = [
        "--since",
        "2026-01-12T00:00Z",
        "--until",
        "2026-01-19T00:00Z",
        "--out",
        str(out),
        "--lang",
        "ja",
        "--json",
    ]
    result = CliRunner().invoke(app, ["report", str(job.path), *times])
    assert result.exit_code == 0, result.output
    found = orjson.loads(result.stdout)
    assert found["has"] == {"feedback": True, "summaries": True, "before": True}
    started = [e for e in sent if e["phase"] == "started" and MONDAY + 7 * DAY <= e["ts"] < MONDAY + 14 * DAY]
    assert found["alerts"]["started"] == len(started)
    assert found["feedback"]["true"] == 1
    assert [each["entity"] for each in found["silence"]] == ["m3"]
    (error,) = found["errors"]
    assert error["ratio"] > 1.1
    assert "m1" in {each["entity"] for each in found["entities"]}
    assert "予測誤差" in out.read_text(encoding="utf-8")
    empty = CliRunner().invoke(app, ["report", str(job.path), "--out", str(out), "--lang", "en"])
    assert (empty.exit_code, "No alert started." in empty.stdout) == (0, True)
    assert "go by the time of events" in empty.stderr


def test_what_another_flow_wrote_to_the_same_topics_is_left_out(kafka: Kafka, tmp_path: Path) -> None:
    job, at = Job(kafka, tmp_path, kafka.topic("events", 1)), int(1000 * time.time())
    for offset, topic in enumerate([job.topic, "line-b", f"{job.topic}-2"]):
        source = {"topic": topic, "partition": 0, "offset": offset}
        message = alert(offset, "m", at, id=f"{topic}-0-{offset}-anomaly", episode=None, source=source)
        kafka.produce(job.alerts, [(b"m", orjson.dumps(message))])
    found = read_period(job.config, at - DAY, at + DAY).alerts
    assert [each["id"] for each in found] == [f"{job.topic}-0-0-anomaly"]
    kafka.produce(job.predictions, [(b"m", orjson.dumps({"id": f"{job.topic}-0-{i}"})) for i in range(3)])
    checks = [each for each in diagnose(job.config) if each.name == "other flows"]
    assert [(each.ok, each.found) for each in checks] == [
        (True, f"2 of the last 3 messages of {job.alerts} are another flow's, such as {job.topic}-2-0-2-anomaly")
    ]
    assert f"here alerts: {job.topic}-alerts" in checks[0].cure
    done = CliRunner().invoke(app, ["doctor", str(job.path)])
    assert (done.exit_code, "warn  other flows: 2 of the last 3" in done.stdout) == (0, True), done.stdout
    assert done.stdout.endswith(" checks passed, 1 with a warning\n")
    kafka.produce(job.predictions, [(b"m", orjson.dumps({"id": f"{job.topic}-2-0-7"}))])
    checks = [each for each in diagnose(job.config) if each.name == "other flows"]
    assert checks[0].found.endswith(f"{job.predictions} are another flow's, such as {job.topic}-2-0-7")


def test_a_stop_that_was_ended_is_as_long_as_it_lasted(kafka: Kafka, tmp_path: Path) -> None:
    job = Job(kafka, tmp_path, kafka.topic("events", 1))
    control, now = kafka.topic("control", 1), int(1000 * time.time())
    content = orjson.loads(job.path.read_bytes())
    job.path.write_bytes(orjson.dumps(content | {"alerts": {"control": {"topic": control}}}))
    for entity, begin in (("ended", -HOUR), ("lasts", -HOUR), ("withdrawn", HOUR)):
        document = {"entity": entity, "from": now + begin, "to": now + begin + 8 * HOUR, "reason": "bearing"}
        kafka.produce(control, [(entity.encode(), orjson.dumps(document))])
    for name in ("0-0", "0-2", "0-0"):
        kafka.produce(control, [(b"end", orjson.dumps({"ends": name}))])
    stops = {each.entity: each for each in read_period(job.config, now - DAY, now + DAY).stops}
    assert sorted(stops) == ["ended", "lasts"], "one that was ended before its begin acts on nothing"
    assert stops["lasts"].end == now + 7 * HOUR
    assert now - 1000 <= stops["ended"].begin <= stops["ended"].end < now + 60_000


@pytest.mark.parametrize(
    ("since", "words"),
    [("9999999d", "write how long ago, such as 7d"), ("700000d", "write a shorter period, such as 30d")],
)
def test_a_time_that_no_date_has_is_refused(tmp_path: Path, since: str, words: str) -> None:
    path = tmp_path / "monitor.yaml"
    path.write_text(TEXT)
    done = CliRunner().invoke(app, ["report", str(path), "--since", since, "--out", str(tmp_path / "report.html")])
    assert done.exit_code == 2
    assert f"--since: found '{since}'" in done.stderr
    assert words in " ".join(done.stderr.split())
