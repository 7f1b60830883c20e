"""Planned stops, limits and silence on the live page, without a browser: what it keeps, and who may mute."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import orjson
import pytest
from brokers import free_port
from test_ui_server import OURS, TOKEN, Served, alert, batch, config, held, sent

from ssm_stream.engine.alert_kinds import MAINTENANCE
from ssm_stream.ingest.control import ControlError, ControlReader, ControlWindow
from ssm_stream.ops.metrics import Metrics
from ssm_stream.ops.observers import Sent
from ssm_stream.ui.alert_episodes import AlertEpisodes
from ssm_stream.ui.entity_cache import ANOMALY, LIMIT_FLAG, SILENCE_FLAG, STOPPED, EntityCache
from ssm_stream.ui.live_page import LivePage, is_shown
from ssm_stream.ui.planned_stops import AnnouncedStop, PlannedStops, StopsView
from ssm_stream.ui.views import STATES

HOUR = 3_600_000
ALERTS = """
alerts:
  control: true
  limits: [{column: target, above: 95, entities: "press-*"}, {column: a, from: 3, to: 4}]
  silence: {after: auto}
  maintenance:
    - {entities: "press-*", weekly: "Sat,Sun 00:00-24:00", time_zone: Europe/Berlin}
    - {from: 2026-08-10T06:00, to: 2026-08-10T18:00, learn: adapt, limits: true}
sinks: {suppressed: hidden}
"""
EVENT = "target: target, features: [a, b]"


def stop(name: str = "0-0", entity: str = "press-4", begin: int = 0, **more: Any) -> AnnouncedStop:
    window = ControlWindow(name, entity, begin, begin + 8 * HOUR, True, more.pop("reason", "bearing"), "Ann")
    return AnnouncedStop(window, **{"acts_from": {0: 7}, "written": begin} | more)


def at(text: str, zone: str = "UTC") -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


# Which stops an entity has.


def test_the_weekend_is_one_stop_as_long_as_its_clock_makes_it() -> None:
    stops = PlannedStops(config(more=ALERTS, event=EVENT))
    begin, end = at("2026-03-20"), at("2026-04-01")
    spans = stops.spans("press-1", begin, end)
    berlin = [("2026-03-21", "2026-03-23"), ("2026-03-28", "2026-03-30")]
    assert [span[:2] for span in spans] == [[at(a, "Europe/Berlin"), at(b, "Europe/Berlin")] for a, b in berlin]
    assert [(b - a) // HOUR for a, b, _ in spans] == [48, 47], "the clocks change in the second one"
    assert spans[0][2] == "Sat,Sun 00:00-24:00 Europe/Berlin"
    once = [at("2026-08-10T06:00"), at("2026-08-10T18:00"), "2026-08-10T06:00 to 2026-08-10T18:00"]
    assert stops.spans("oven-1", at("2026-08-10"), at("2026-08-11")) == [once]
    assert stops.spans("oven-1", begin, end) == []
    assert [each["entity"] for each in stops.listed("oven-1")["file"]] == ["*"]


def test_an_announced_stop_is_shown_where_it_acts() -> None:
    stops = PlannedStops(config(more=ALERTS, event=EVENT))
    begin = at("2026-05-06T08:00")
    stops.announce([stop(begin=begin)])
    assert (stops.version, stops.is_announced("0-0"), stops.is_announced("0-1")) == (1, True, False)
    stops.announce([stop(begin=begin)])
    assert stops.version == 1, "nothing has changed"
    ((first, last, why),) = stops.spans("press-4", begin - HOUR, begin + 9 * HOUR)
    assert (first, last, why) == (begin, begin + 8 * HOUR, "bearing")
    assert stops.spans("press-5", begin - HOUR, begin + 9 * HOUR) == []
    # Announced within its time, and ended before it: what came before and after was not in it.
    stops.announce([stop(begin=begin, written=begin + HOUR, ended=begin + 3 * HOUR)])
    assert stops.spans("press-4", begin, begin + HOUR * 9)[0][:2] == [begin + HOUR, begin + 3 * HOUR]
    # A recording, whose time is another one than that of the messages.
    stops.announce([stop(begin=begin, written=begin + 10**10, ended=begin + 10**10)])
    assert stops.spans("press-4", begin, begin + HOUR * 9)[0][:2] == [begin, begin + 8 * HOUR]
    # Ended before its begin: there was none.
    stops.announce([stop(begin=begin, written=begin - 2 * HOUR, ended=begin - HOUR)])
    assert stops.spans("press-4", begin, begin + HOUR * 9) == []


def test_a_browser_gets_the_stops_once_and_then_what_has_changed() -> None:
    stops = PlannedStops(config(more=ALERTS, event=EVENT))
    begin = at("2026-05-06T08:00")
    reach = [begin - HOUR, begin]
    every, own = (
        StopsView(stops, lambda: begin),
        StopsView(stops, lambda: begin, "press-4", lambda: (reach[0], reach[1])),
    )
    assert len(every.next()["stops"]["file"]) == 2
    assert own.next()["stops"]["announced"] == []
    assert (every.next(), own.next()) == ({}, {})
    stops.announce([stop(begin=begin, acts_from={})])
    (told,) = every.next()["stops"]["announced"]
    assert told == {
        "id": "0-0", "entity": "press-4", "from": begin, "to": begin + 8 * HOUR, "learn": "hold", "reason": "bearing",
        "by": "Ann", "acts": [], "ended": None, "end_acts": False,
    }  # fmt: skip
    assert len(own.next()["stops"]["spans"]) == 2, "it, and the weekend to come"
    reach[1] += 8 * 24 * HOUR
    assert len(own.next()["stops"]["spans"]) == 3, "time has gone on, and the next weekend is near"
    assert own.next() == {}


# What is kept of alerts.


def test_what_a_stop_suppresses_is_shown_and_is_not_open() -> None:
    assert is_shown(Sent("suppressed", ("anomaly", "started", MAINTENANCE)))
    assert not is_shown(Sent("suppressed", ("anomaly", "started", "fleet")))
    cache = held(["m1"])
    episodes = AlertEpisodes(cache)
    episodes.add([alert(suppressed_by=MAINTENANCE)])
    (episode,) = episodes.changes().episodes
    assert (episode["suppressed_by"], episodes.open, cache.flags[0]) == (MAINTENANCE, 0, 0)
    # It has not come back by the end of the window: an alert of its own.
    episodes.add([alert(offset=9, episode="events-0-9-anomaly")])
    first, second = episodes.changes().episodes
    assert (first["phase"], first["ended_by"]) == ("recovered", MAINTENANCE)
    assert (second["phase"], second["suppressed_by"], episodes.open, cache.flags[0]) == ("started", None, 1, ANOMALY)


def test_rules_mark_their_entity_until_the_last_one_is_over() -> None:
    cache = held(["m1", "m2"])
    episodes = AlertEpisodes(cache)
    one, two = ({"kind": "limit", "limit": text, "column": "a", "value": 9.0} for text in ("a above 3", "a above 5"))
    episodes.add([alert(offset=1, **one), alert(offset=2, id="events-0-2-limit-1", **two)])
    episodes.add([alert(entity="m2", kind="silence", column=None, offset=3)])
    assert cache.flags.tolist()[:2] == [LIMIT_FLAG, SILENCE_FLAG]
    assert cache.levels().tolist() == [7, 6]
    assert [STATES[name](cache).tolist() for name in ("limit", "silence", "open")] == [[1, 0], [0, 1], [1, 1]]
    assert [each["limit"] for each in episodes.changes().episodes] == ["a above 3", "a above 5", None]
    episodes.add([alert("recovered", offset=4, **one)])
    assert cache.flags[0] == LIMIT_FLAG
    episodes.add([alert("recovered", offset=5, id="events-0-5-limit-1", **two)])
    assert (cache.flags[0], episodes.open) == (0, 1)


def test_events_of_a_stop_mark_their_entity() -> None:
    cache = EntityCache()
    events, said = batch(["m1", "m2"])
    cache.observe(0, replace(events, maintenance=np.array([2, 0], np.int8)), said)
    cache.observe(0, *batch(["m3"]))
    cache.merge()
    assert cache.flags.tolist()[:3] == [STOPPED, 0, 0]
    assert cache.levels().tolist() == [8, 1, 1]
    assert [STATES[name](cache).tolist() for name in ("stopped", "open")] == [[1, 0, 0], [0, 0, 0]]
    cache.set_flag(["m1"], ANOMALY, True)
    cache._budget = 1.0
    cache.observe(0, *batch(["m1"], 5))
    cache.merge()
    assert cache.flags[0] == ANOMALY, "the stop is over, the episode is not"


def test_the_time_of_the_stream_is_that_of_its_events_where_it_is_another_one() -> None:
    page = LivePage(config(), Metrics(config()))
    assert abs(page.clock() - time.time() * 1000) < 1000
    page.on_sent(sent(*batch(["a", "b"], 1000)))
    page.refresh()
    assert 1_000_000 <= page.clock() < 1_010_000
    events, said = batch(["a", "b", "c"])
    page.cache._budget = 1.0
    page.on_sent(sent(replace(events, ts=np.full(3, round(time.time() * 1000) - HOUR // 2)), said))
    page.refresh()
    assert abs(page.clock() - time.time() * 1000) < 1000, "half an hour behind is late, not another time"


def test_limits_are_those_of_the_entity() -> None:
    page = LivePage(config(more=ALERTS, event=EVENT), Metrics(config()))
    column = {"column": "a", "text": "a from 3 and to 4", "severity": "critical", "bounds": {"from": 3.0, "to": 4.0}}
    assert page.limits_of("oven-1") == [column]
    assert [each["bounds"] for each in page.limits_of("press-1")] == [{"above": 95.0}, {"from": 3.0, "to": 4.0}]
    assert page.info()["rules"] == ["limit", "silence"]


# Who may mute.


@pytest.fixture(scope="module")
def muting() -> Iterator[Served]:
    settings = config(f"ui: true, address: '127.0.0.1:{free_port()}'", ALERTS, EVENT)
    said: list[tuple[str, dict[str, Any]]] = []

    def write(key: str, document: dict[str, Any]) -> str:
        ControlReader(settings)(orjson.dumps(document), "")
        if key == "away":
            raise RuntimeError("topic 'events-control' did not take the message")
        said.append((key, document))
        return "0-5"

    one = Served(settings, None, write)
    one.said = said
    one.page.stops.announce([stop()])
    yield one
    one.server.close()


def asked(served: Served, document: Any, **headers: str) -> tuple[int, dict[str, Any]]:
    status, _, body = served.ask("/ui/stops", "POST", orjson.dumps(document), **{**OURS, **headers})
    return status, orjson.loads(body)


def test_a_stop_is_announced_and_ended(muting: Served) -> None:
    muting.said.clear()
    before = time.time() * 1000
    status, told = asked(muting, {"entity": " press-4 ", "for": "8h", "reason": "bearing", "by": "Ann"})
    assert (status, told["id"]) == (200, "0-5")
    ((key, document),) = muting.said
    window = ControlReader(muting.page.config)(orjson.dumps(document), "0-5")
    assert isinstance(window, ControlWindow)
    assert (key, window.entity, window.reason, window.by, window.held) == ("press-4", "press-4", "bearing", "Ann", True)
    assert abs(window.begin - before) < 2000
    assert window.end - window.begin == 8 * HOUR
    planned = {"entity": "press-*", "from": "2026-08-10T06:00", "to": "2026-08-10T14:00", "by": "Ann", "learn": "adapt"}
    assert asked(muting, planned)[0] == 200
    assert muting.said[-1][1] == {**planned, "from": "2026-08-10T06:00:00Z", "to": "2026-08-10T14:00:00Z", "reason": ""}
    assert asked(muting, {"ends": "0-0", "by": "Bob"})[0] == 200
    assert muting.said[-1] == ("0-0", {"ends": "0-0", "reason": "", "by": "Bob"})


GOOD = {"entity": "press-4", "for": "8h", "by": "Ann"}


@pytest.mark.parametrize(
    ("document", "headers", "status", "why"),
    [
        (GOOD | {"by": " "}, {}, 400, "who announces it"),
        (GOOD | {"for": "long"}, {}, 400, "such as 30m, 8h or 2d"),
        (GOOD | {"for": "99999999999d"}, {}, 400, "before the year 9999"),
        (GOOD | {"from": "9999-12-31T00:00", "for": "30d"}, {}, 400, "`from` must be a time"),
        (GOOD | {"from": "soon"}, {}, 400, "`from` must be a time"),
        (GOOD | {"from": "2026-08-10", "to": "2026-08-09"}, {}, 400, "`to` must be later"),
        (GOOD | {"entity": ""}, {}, 400, "`entity`"),
        (GOOD | {"entity": 7}, {}, 400, "`entity` must be a text"),
        (GOOD | {"entity": "away"}, {}, 502, "did not take"),
        ({"ends": "0-99", "by": "Ann"}, {}, 400, "no planned stop"),
        ([], {}, 400, "JSON object"),
        (GOOD, {"Origin": "http://evil.example"}, 403, "not another site"),
        (GOOD, {"X_Ssm_Stream": "0"}, 403, "only the page itself"),
        (GOOD, {"Host": "evil.example"}, 403, "localhost"),
    ],
    ids=range(14),
)
def test_what_is_no_stop_or_comes_from_elsewhere_is_refused(
    muting: Served, document: Any, headers: dict[str, str], status: int, why: str
) -> None:
    muting.said.clear()
    found, told = asked(muting, document, **headers)
    assert (found, muting.said) == (status, [])
    assert why in told["error"]


def test_without_a_control_topic_nobody_is_muted_and_the_page_says_how() -> None:
    one = Served(config(f"ui: true, address: '127.0.0.1:{free_port()}'"))
    try:
        assert one.page.info()["no_control"] == "no topic"
        status, told = asked(one, GOOD)
        assert status == 409
        assert "alerts: {control: true}" in told["error"]
    finally:
        one.server.close()


def test_only_who_has_the_token_may_mute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UI_TOKEN", TOKEN)
    said: list[Any] = []
    ops = f"ui: true, address: '127.0.0.1:{free_port()}', token: '${{UI_TOKEN}}'"
    one = Served(config(ops, ALERTS, EVENT), None, lambda *each: said.append(each) or "0-1")
    try:
        assert asked(one, GOOD)[0] == 401
        cookie = one.ask(f"/ui/?token={TOKEN.replace(' ', '%20')}")[1]["Set-Cookie"].partition(";")[0]
        assert asked(one, GOOD, Cookie=cookie[:-1] + "x")[0] == 401
        assert said == []
        assert asked(one, GOOD, Cookie=cookie)[0] == 200
        assert len(said) == 1
    finally:
        one.server.close()


def test_a_message_that_could_not_be_used_is_not_written() -> None:
    with pytest.raises(ControlError):
        ControlReader(config())(orjson.dumps({"entity": "", "from": 0, "to": 1}), "")
    assert issubclass(ControlError, ValueError), "the page refuses it with its reason"
