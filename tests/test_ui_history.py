"""What the live page shows of topics: entities and alerts of other processes, days and weeks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from brokers import Kafka, free_port
from test_report import alert, summary
from test_ui_server import Served, batch, config, sent

from ssm_stream.config import Config, parse_config
from ssm_stream.flow.live_page import open_page
from ssm_stream.ops.metrics import Metrics
from ssm_stream.ui.entity_cache import ANOMALY
from ssm_stream.ui.history import hours
from ssm_stream.ui.history.hours import HOURS, HourlyHistory
from ssm_stream.ui.history.report import entity_history, fleet_report

HOUR = 3_600_000
DAY = 24 * HOUR
MONDAY = 1_769_990_400_000


def week_of(names: list[str], now: int) -> list[dict[str, Any]]:
    """Summaries of a week up to an hour ago; the second entity is the one to look at, the last one is silent."""
    end = now // HOUR * HOUR - HOUR
    found = []
    for name in names:
        for i in range(HOURS):
            more: dict[str, Any] = {"score": 0.3 + (i % 24) / 48}
            if name == names[1] and i % 30 < 3:
                more |= {"episode_seconds": 1800.0, "alerts": {"anomaly": int(i % 30 == 0)}, "score": 2.5}
            if name != names[-1] or i > 40:
                found.append(summary(name, end - i * HOUR, 1.0 + (i % 24) / 20, **more))
    return sorted(found, key=lambda each: (each["hour"], each["entity"]))


def test_a_slot_keeps_its_latest_hour_and_the_last_summary_of_it() -> None:
    history = HourlyHistory()
    history.add([summary("m", MONDAY, 1.0), summary("m", MONDAY + HOUR, 2.0), {"no": "summary"}])
    assert history.add([summary("m", MONDAY, 1.5), summary("n", MONDAY + HOURS * HOUR)]) == ["m", "n"]
    assert entity_history(history, "m")["targets"][0]["error"] == [2.0], "the first hour is a week ago"
    history.add([summary("m", MONDAY + HOURS * HOUR, 3.0), summary("m", MONDAY, 9.0)])
    found = entity_history(history, "m")["targets"][0]
    assert (found["error"], found["hour"]) == ([2.0, 3.0], [MONDAY + HOUR, MONDAY + HOURS * HOUR])
    assert history.add([summary("m", int(time.time() * 1000) + 3 * DAY)]) == [], "a clock that is wrong"
    assert history.newest == MONDAY // HOUR + HOURS


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hours, "MAX_BYTES", 20 * HOURS * hours.CELL.itemsize)
    history = HourlyHistory()
    history.add([summary(f"m{i}", MONDAY) for i in range(30)])
    assert (len(history), len(history.cells), history.left_out) == (20, 20, 10)
    history.add([summary(f"n{i}", MONDAY + 2 * DAY) for i in range(5)])
    assert sorted(history.latest) == [f"n{i}" for i in range(5)], "those without a summary for a day make room"
    assert fleet_report(history, 7)["entities"] == 5


def test_a_day_and_a_week_of_the_fleet() -> None:
    history = HourlyHistory()
    now = MONDAY + 7 * DAY
    history.add(week_of(["press-1", "press-2", "press-3"], now))
    week, day = fleet_report(history, 7), fleet_report(history, 1)
    assert (week["end"], week["entities"], week["kinds"][0]) == (now, 3, "anomaly")
    assert (week["alerts"][0], week["inside"], day["alerts"][0]) == (6, 18 * 1800, 1)
    assert [each["begin"] for each in week["days"]] == [now - i * DAY for i in range(7, 0, -1)]
    assert sum(each["alerts"][0] for each in week["days"]) == 6
    assert week["events"] == sum(each["events"] for each in week["days"]) == 60 * (3 * HOURS - 41)
    assert week["relative"] == pytest.approx(1.0 + 11.5 / 20, abs=0.03)
    assert week["coverage"] == pytest.approx(0.9, abs=1e-3)
    worst = week["worst"][0]
    assert (worst["entity"], worst["alerts"], worst["inside"], worst["score"]) == ("press-2", 6, 18 * 1800, 2.5)
    assert (worst["relative"], worst["open"]) == (pytest.approx(1.575, abs=1e-3), [])
    assert [each["entity"] for each in week["silent"]] == ["press-3"]
    assert fleet_report(HourlyHistory(), 7)["end"] is None


def test_several_targets_count_an_alert_once() -> None:
    history = HourlyHistory()
    history.add([
        summary("m", MONDAY, error, target=target, alerts={"drift": 2}, episode_seconds=60.0)
        for target, error in (("y", 1.0), ("z", 3.0))
    ])  # fmt: skip
    found = fleet_report(history, 1)
    assert (found["alerts"][1], found["inside"], found["events"], found["relative"]) == (2, 60, 60, 2.0)
    assert [each["target"] for each in entity_history(history, "m")["targets"]] == ["y", "z"]


def test_an_episode_lasts_through_the_hours_without_a_summary() -> None:
    history = HourlyHistory()
    away = {"episode_seconds": 600.0, "open": ["silence"], "alerts": {"silence": 1}}
    history.add([
        summary("back", MONDAY, **away),
        summary("back", MONDAY + 20 * HOUR, episode_seconds=60.0),
        summary("gone", MONDAY - 3 * DAY, **away),
        summary("calm", MONDAY),
        *(summary("here", MONDAY + i * HOUR) for i in range(31)),
    ])  # fmt: skip
    week, day = fleet_report(history, 7), fleet_report(history, 1)
    hours = {"back": 19 * 3600 + 660, "gone": (72 + 29) * 3600 + 600}
    assert {each["entity"]: each["inside"] for each in week["worst"]} == hours
    assert (week["inside"], sum(each["inside"] for each in week["days"])) == (sum(hours.values()),) * 2
    assert {each["entity"]: each["inside"] for each in day["worst"]} == {"back": 13 * 3600 + 60, "gone": 23 * 3600}
    assert day["events"] == 60 * 25
    (back,) = entity_history(history, "back")["targets"]
    assert (back["inside"], back["events"][:2]) == ([600, *[3600] * 19, 60], [60, 0])
    assert (back["error"][1], back["score"][1]) == (None, None)


@pytest.fixture
def served() -> Iterator[Served]:
    one = Served(config(f"ui: true, address: '127.0.0.1:{free_port()}'", "sinks: {summaries: s}"))
    yield one
    one.server.close()


def test_entities_of_other_processes_are_listed_and_marked(served: Served) -> None:
    page, now = served.page, int(time.time() * 1000)
    page.on_sent(sent(*batch(["here-1", "here-2"])))
    page.refresh()
    page.alert_episodes.add([orjson.dumps(alert(1, "there-2", now))])
    page.add_summaries(week_of(["here-1", "there-1", "there-2"], now))
    page._flagged_at = 0.0
    page.refresh()
    found = orjson.loads(served.ask("/ui/api/entities?sort=name")[2])["entities"]
    assert [(each["entity"], each["source"]) for each in found] == [
        ("here-1", "process"), ("here-2", "process"), ("there-1", "summaries"), ("there-2", "summaries"),
    ]  # fmt: skip
    assert found[3]["open_alerts"] == "anomaly"
    assert page.cache.flags[page.cache.row_of("there-2") or 0] & ANOMALY, "of an alert that came before its entity"
    assert page.cache.levels().tolist() == [1, 1, 9, 5]
    page.on_sent(sent(*batch(["there-1"])))
    page.refresh()
    assert not page.cache.other[page.cache.row_of("there-1") or 0], "its events come through this process now"
    told = orjson.loads(served.ask(f"/ui/api/history?name={quote('there-2')}")[2])
    assert (told["known"], len(told["targets"][0]["hour"])) == (True, HOURS - 41)
    assert orjson.loads(served.ask("/ui/api/history?name=nobody")[2])["known"] is False
    assert orjson.loads(served.ask("/ui/api/report?days=1")[2])["entities"] == 2


def test_a_report_that_was_made_while_summaries_were_read_is_made_again(served: Served) -> None:
    def told() -> tuple[int, str]:
        found = orjson.loads(served.ask("/ui/api/report?days=2")[2])
        return found["entities"], found["state"]

    served.page.history, served.page.history_state = HourlyHistory(), "loading"
    assert told() == (0, "loading")
    served.page.add_summaries(week_of(["m1", "m2"], int(time.time() * 1000)))
    served.page.history_state = ""
    assert told() == (2, "")
    served.page.add_summaries(week_of(["m3", "m4"], int(time.time() * 1000)))
    assert told() == (2, ""), "kept: of a large fleet it takes a while"


def flow_config(kafka: Kafka) -> Config:
    topics = {name: kafka.topic(name, 2) for name in ("events", "alerts", "summaries", "feedback")}
    return parse_config(
        f"source: {{brokers: '{kafka.bootstrap_servers}', topic: {topics['events']}}}\n"
        f"event: {{entity: m, timestamp: t, features: [a]}}\n"
        f"sinks: {{alerts: {topics['alerts']}, summaries: {topics['summaries']}}}\n"
        f"alerts: {{feedback: {{topic: {topics['feedback']}}}}}\nrecovery: {{directory: null}}\n"
    )


def test_the_page_follows_what_other_processes_write(kafka: Kafka) -> None:
    settings = flow_config(kafka)
    now = int(time.time() * 1000)

    def write(topic: str | None, *contents: Any) -> None:
        assert topic is not None
        kafka.produce(topic, [(each["entity"].encode(), orjson.dumps(each)) for each in contents])

    named = f"{settings.source.topic}-0-2-drift"
    write(
        settings.sinks.alerts, alert(1, "press-1", now - HOUR), alert(2, "press-2", now - HOUR, kind="drift", id=named)
    )
    other = {"source": {"topic": "line-b", "partition": 0, "offset": 3}, "id": "line-b-0-3-anomaly"}
    write(settings.sinks.alerts, alert(3, "line-b", now, **other))  # another flow's
    write(settings.sinks.summaries, *week_of(["press-1", "press-2", "press-3"], now))
    page = open_page(settings, Metrics(settings))
    try:
        assert page.history_read.wait(20)
        assert {each["entity"] for each in page.alert_episodes.changes().episodes} == {"press-1", "press-2"}
        assert page.history is not None
        assert len(page.history) == 0, "nobody looks: nothing is read"
        page.set_viewers(1)
        deadline = time.monotonic() + 20
        while page.history_state and time.monotonic() < deadline:
            time.sleep(0.05)
        assert (page.history_state, len(page.history)) == ("", 3)
        write(settings.sinks.alerts, alert(9, "press-1", now, "recovered", 1, ended_by="recovered"))
        write(settings.sinks.summaries, summary("press-4", now // HOUR * HOUR, 2.0))
        feedback = {"id": named, "by": "Ann", "acknowledged": True}
        assert settings.alerts.feedback is not None
        kafka.produce(settings.alerts.feedback.topic, [(b"x", orjson.dumps(feedback))])

        def shown() -> bool:
            episodes = {each["entity"]: each for each in page.alert_episodes.changes().episodes}
            over, acknowledged = episodes["press-1"]["phase"], episodes["press-2"]["acknowledged"]
            latest = {} if page.history is None else page.history.latest
            return over == "recovered" and bool(acknowledged) and "press-4" in latest

        while not shown() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert shown()
        assert page.cache.row_of("press-4") is not None
    finally:
        page.close()
