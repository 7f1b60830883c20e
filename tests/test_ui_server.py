"""The live page without a browser: what it keeps, what it tells, who is let in."""

from __future__ import annotations

import http.client
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import orjson
import pytest
from brokers import free_port

from ssm_stream.config import Config, ConfigError, parse_config
from ssm_stream.core.loop import Predictions
from ssm_stream.flow.reload import live_changes
from ssm_stream.flow.runtime import prepare
from ssm_stream.ingest.events import Events
from ssm_stream.ingest.verdicts import AlertAcknowledgement, FeedbackReader
from ssm_stream.kafka.records import PredictedBatch, ShardBatch
from ssm_stream.operators.shard_operator import ShardLogic
from ssm_stream.ops.health import Health
from ssm_stream.ops.http_auth import HttpAuth
from ssm_stream.ops.metrics import Metrics
from ssm_stream.ops.observers import SentBatch
from ssm_stream.ops.server import OpsServer, serve
from ssm_stream.ui import site
from ssm_stream.ui.alert_episodes import MAX_EPISODES, AlertEpisodes
from ssm_stream.ui.entity_cache import ANOMALY, DRIFT, FLEET_ANOMALY, LIMIT_FLAG, POINTS, EntityCache
from ssm_stream.ui.live_page import LivePage
from ssm_stream.ui.views import EntityView, FleetView, NameOrder, natural_key

ODD = [
    '<img src=x onerror="alert(1)">',
    "a'b\"c & d",
    "温度センサー 1",
    "\x1b[31mred\x07",
    "‮reversed",
    "a/b?c#d%20",
    "x" * 512,
]
TOKEN = "correct horse battery staple"


def config(ops: str = "ui: true", more: str = "", event: str = "features: [a, b]") -> Config:
    return parse_config(
        f"source: {{brokers: 'localhost:1', topic: events}}\nevent: {{entity: e, timestamp: t, {event}}}\n"
        f"recovery: {{directory: null}}\nops: {{{ops}}}\n{more}"
    )


def batch(names: list[str], at: int = 0, targets: int = 1, score: float = 0.1) -> tuple[Events, Predictions]:
    """Events of these names whose target is their place, counted from `at`."""
    n = len(names)
    shape = (n,) if targets == 1 else (n, targets)
    y = np.broadcast_to((at + np.arange(n, dtype=np.float64)).reshape(n, *([1] * (targets - 1 and 1))), shape).copy()
    events = Events(names, 1000 * (at + np.arange(n)), np.zeros((n, 2)), y, np.arange(n))
    said = Predictions(
        y + 0.5, y - 1, y + 1, np.full(shape, score), np.zeros(shape, np.bool_), np.full(shape, 7), np.zeros(shape)
    )
    return events, said


def sent(events: Events, predictions: Predictions) -> SentBatch:
    """What the sink reports of a batch of events."""
    return SentBatch(len(events), [], events=events, predicted=predictions)


def alert(phase: str = "started", entity: str = "m1", offset: int = 1, **more: Any) -> bytes:
    scope = more.get("scope", "entity")
    kind = more.pop("kind", "anomaly")
    suffix = "-fleet" if scope == "fleet" else ""
    return orjson.dumps(
        {
            "entity": entity, "ts": 1000 * offset, "scope": "entity", "kind": kind, "phase": phase, "score": 2.0,
            "severity": "warning", "since": 500, "y": 1.0, "yhat": 2.0, "yhat_lower": 1.5, "yhat_upper": 2.5,
            "contributions": [{"feature": "<b>", "share": 0.5}], "channel": "residual",
            "id": f"events-0-{offset}-{kind}{suffix}", **more,
        }
    )  # fmt: skip


def held(names: list[str]) -> EntityCache:
    """A cache that has taken an event of each."""
    cache = EntityCache()
    cache.observe(0, *batch(names))
    cache.merge()
    return cache


# What the cache keeps.


def test_the_board_has_the_last_events_of_each_in_order() -> None:
    cache = EntityCache()
    for at in range(0, 400, 40):
        cache.observe(0, *batch([f"m{i % 3}" for i in range(at, at + 40)], at))
        if at % 120 == 0:
            cache._budget = 1.0  # whatever it costs here
            cache.merge()
    cache.merge()
    assert cache.names == ["m0", "m1", "m2"]
    tail = cache.tail(1, 0)
    mine = [i for i in range(400) if i % 3 == 1][-POINTS:]
    assert tail.ts.tolist() == [1000 * i for i in mine]
    assert tail.values[:, 0].tolist() == mine
    assert cache.last[1, 0].tolist() == pytest.approx([mine[-1], mine[-1] + 0.5, mine[-1] - 1, mine[-1] + 1, 0.1])


def test_what_costs_too_much_is_left_out_and_taken_in_when_somebody_looks() -> None:
    cache = held(["a"])
    cache._budget = -1.0
    cache.observe(0, *batch(["a"], 5))
    cache.observe(0, *batch(["a", "b"], 9))
    cache.observe(1, *batch(["c"], 10))
    cache.merge()
    assert (len(cache), cache.skipped, cache.over_budget) == (1, 1, True)
    cache._budget = 1.0
    cache.merge()
    assert cache.last[0, 0, 0] == 9
    assert cache.names == ["a", "b", "c"]
    cache.merge()
    assert cache.count[0] == 2, "taken in once"


def test_while_the_flow_lags_sources_take_turns_and_none_is_forgotten() -> None:
    cache = EntityCache()
    cache.lagging = True
    for at in range(3):
        for source in range(3):
            cache.observe(source, *batch([f"m{source}"], 10 * at))
    for known in (["m0"], ["m0", "m1"], ["m0", "m1", "m2"]):
        cache._budget = 1.0
        cache.merge()
        assert cache.names == known
    assert cache.last[:3, 0, 0].tolist() == [20.0] * 3, "the last one of each"
    assert (cache.skipped, cache.merged) == (6, 3)
    cache.observe(0, *batch(["m0"], 30))
    cache.observe(1, *batch(["m1"], 30))
    cache.lagging = False
    cache._budget = 1.0
    cache.merge()
    assert cache.last[:3, 0, 0].tolist() == [30.0, 30.0, 20.0], "nothing is kept waiting once there is time"


def test_nothing_waits_for_long_while_nobody_looks() -> None:
    cache = EntityCache()
    for at in range(0, 6000, 50):
        cache._budget = 1.0
        cache.observe(0, *batch(["a"] * 50, at))
        assert cache._events < 2000
    cache.observe(0, *batch(["a"]))
    cache._oldest -= 1.0
    cache.observe(0, *batch(["b"]))
    assert not cache._waiting


def test_a_flood_of_names_stays_within_bounds() -> None:
    cache = EntityCache()
    cache.capacity = 300
    for at in range(0, 5000, 100):
        cache._budget = 1.0
        cache.observe(0, *batch([f"n{i}" for i in range(at, at + 100)], at))
        cache.merge()
    cache.observe(0, *batch([f"big{i}" for i in range(1000)], 9000))
    cache.merge()
    assert len(cache) == 300
    assert cache._room <= 300
    assert len(cache._index) == 300
    assert all(cache.names[row] == name for name, row in cache._index.items())
    assert cache.tail(cache._index["big0"], 0).values[:, 0].tolist() == [9000.0], "nothing of the one before it"


def test_many_targets_take_no_more_memory() -> None:
    assert EntityCache(64).capacity < 1000 < EntityCache(1).capacity == 20_000
    cache = EntityCache(3)
    events, said = batch(["a", "b"], targets=3)
    said.score[1, 2] = 5.0
    cache.observe(0, events, said)
    cache.merge()
    assert cache.worst_targets().tolist() == [0, 2]
    assert cache.levels().tolist() == [1, 3]


# What is kept of alerts.


def test_an_episode_is_one_item_from_start_to_recovery() -> None:
    cache = held(["m1", "m2"])
    alert_episodes = AlertEpisodes(cache)
    alert_episodes.add(
        [alert(), b"no JSON", b"[]", b"{}", None, b"\0\0\0\0\7" + alert("ongoing", offset=5, score=9.0), alert()]
    )
    (episode,) = alert_episodes.changes().episodes
    assert (episode["phase"], episode["top"], episode["reports"], alert_episodes.open) == ("ongoing", 9.0, 2, 1)
    assert episode["id"] == "events-0-1-anomaly", "a verdict is on its start"
    assert cache.flags.tolist()[:2] == [ANOMALY, 0]
    seen = alert_episodes.version
    alert_episodes.add([alert("recovered", offset=9, absorbed_after=8), alert(kind="drift", entity="m2", offset=11)])
    changed = alert_episodes.changes(seen).episodes
    assert [(e["entity"], e["phase"]) for e in changed] == [("m1", "recovered"), ("m2", "started")]
    assert cache.flags.tolist()[:2] == [0, DRIFT]
    assert alert_episodes.changes(entity="m2").episodes == changed[1:]


def test_an_episode_is_told_by_its_name_and_shows_what_ended_it() -> None:
    alert_episodes = AlertEpisodes(EntityCache())
    alert_episodes.add_verdict("events-0-1-anomaly", True)
    ended = {"score": None, "y": None, "yhat": None, "absorbed_after": None, "ended_by": "ttl"}
    first, second = "events-0-1-anomaly", "events-0-9-anomaly"
    alert_episodes.add(
        [
            alert("ongoing", offset=4, episode=first),  # its beginning is no longer on the topic
            alert("started", offset=9, episode=second),
            alert("recovered", offset=9, episode=first, id="events-0-9-anomaly-1", **ended),
        ]
    )
    one, two = alert_episodes.changes().episodes
    assert (one["id"], one["phase"], one["ended_by"]) == (first, "recovered", "ttl")
    assert (one["reports"], one["verdict"]) == (2, True)
    assert (one["y"], one["absorbed_after"]) == (1.0, None), "what was last measured"
    assert (two["id"], two["phase"], two["ended_by"], alert_episodes.open) == (second, "started", None, 1)
    alert_episodes.add([alert("recovered", offset=20, episode=second, ended_by="recovered", absorbed_after=3)])
    assert alert_episodes.open == 0


def test_an_alert_that_was_critical_stays_so_when_it_has_ended() -> None:
    alert_episodes = AlertEpisodes(EntityCache())
    alert_episodes.add([alert(offset=1), alert("ongoing", offset=2, severity="critical", score=8.8)])
    alert_episodes.add([alert("recovered", offset=3)])
    (episode,) = alert_episodes.changes().episodes
    assert (episode["phase"], episode["severity"], episode["top"]) == ("recovered", "critical", 8.8)


def test_a_fleet_alert_marks_its_entities() -> None:
    cache = held(["m1", "m2", "m3"])
    alert_episodes = AlertEpisodes(cache)
    fleet = {"scope": "fleet", "pool": "0-0", "count": 2}
    alert_episodes.add([alert(entity="*", entities=[{"entity": "m1"}, {"entity": "m2"}], **fleet)])
    assert cache.flags.tolist()[:3] == [FLEET_ANOMALY, FLEET_ANOMALY, 0]
    alert_episodes.add([alert("ongoing", entity="*", offset=2, entities=[{"entity": "m3"}], **fleet)])
    assert cache.flags.tolist()[:3] == [0, 0, FLEET_ANOMALY]
    assert len(alert_episodes.changes(entity="m3").episodes) == 1
    alert_episodes.add([alert("recovered", entity="*", offset=3, **fleet)])
    assert not cache.flags.any()


def test_episodes_are_bounded_and_verdicts_find_them() -> None:
    alert_episodes = AlertEpisodes(EntityCache())
    alert_episodes.add_verdict("events-0-3-anomaly", True)
    alert_episodes.add(alert("started", entity=f"m{i}", offset=i) for i in range(MAX_EPISODES + 200))
    episodes = alert_episodes.changes().episodes
    assert len(episodes) == MAX_EPISODES
    assert len(alert_episodes._of) == MAX_EPISODES
    alert_episodes.add_verdict(episodes[-1]["id"], False)
    assert alert_episodes.changes().episodes[-1]["verdict"] is False
    fresh = AlertEpisodes(EntityCache())
    fresh.add_verdict("events-0-3-anomaly", True)
    fresh.add([alert(offset=3)])
    assert fresh.changes().episodes[0]["verdict"] is True
    fresh.add(alert("ongoing", offset=4 + i) for i in range(500))
    assert len(fresh._of) <= 60, "an episode without an end"


def test_what_goes_on_counts_also_where_there_is_no_room_for_it() -> None:
    cache = held(["m0", "m1"])
    found = AlertEpisodes(cache)
    found.add(alert("started", entity=f"m{i}", offset=i) for i in range(MAX_EPISODES + 200))
    assert (len(found.changes().episodes), found.open) == (MAX_EPISODES, MAX_EPISODES + 200)
    assert (found.find("events-0-0-anomaly"), found.open_kinds()["m0"]) == (None, {"anomaly"})
    found.add([alert("started", entity="m0", offset=5000, kind="limit", limit="l", column="y")])
    assert found.open_kinds()["m0"] == {"anomaly", "limit"}
    found.add([alert("recovered", entity="m0", offset=5001, episode="events-0-0-anomaly")])
    assert (found.open, found.open_kinds()["m0"], cache.flags[0]) == (MAX_EPISODES + 200, {"limit"}, LIMIT_FLAG)
    found.add([alert("ongoing", entity="m1", offset=5002, episode="events-0-1-anomaly")])
    assert found.open == MAX_EPISODES + 200, "it is the same one"
    found.add(
        alert("recovered", entity=f"m{i}", offset=6000 + i, episode=f"events-0-{i}-anomaly")
        for i in range(MAX_EPISODES + 200)
    )
    assert (found.open, found.open_kinds()) == (1, {"m0": {"limit"}})
    assert len(found._open) == 1


# What a view tells.


def applied(told: list[dict[str, Any]]) -> dict[str, float]:
    """Name → value, as a browser has it after these messages."""
    names: list[str] = []
    values: dict[int, float] = {}
    for one in told:
        one = orjson.loads(orjson.dumps(one, option=orjson.OPT_SERIALIZE_NUMPY))
        if "page" in one:
            names, values = one["page"]["names"], {}
        for place, value in zip(*[one["tick"][i] for i in (0, 2)], strict=True) if "tick" in one else ():
            values[place] = value
    return {names[place]: value for place, value in values.items()}


def test_tiles_are_told_once_and_then_by_what_changed() -> None:
    cache = held([f"m{i}" for i in range(30)])
    view = FleetView(cache, NameOrder(cache), {"sort": "name", "size": "12", "page": "1"})
    first = view.next()
    assert first["page"]["names"] == [f"m{i}" for i in range(12, 24)]
    assert (first["page"]["total"], first["page"]["pages"]) == (30, 3)
    assert view.next() == {}
    cache.observe(0, *batch(["m13", "m29"], 100))
    cache.merge()
    second = view.next()
    assert second["tick"][0].tolist() == [1]
    assert applied([first, second])["m13"] == 100
    assert first["map"]["levels"] == "1" * 30
    cache.observe(0, *batch(["m29"], 200, score=3.0))
    cache.merge()
    time.sleep(0.11)
    assert [part.tolist() for part in view.next()["cells"]] == [[29], [3]]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({"sort": "attention"}, ["m2", "m0", "m10"]),
        ({"sort": "score"}, ["m10", "m0", "m2"]),
        ({"sort": "name"}, ["m0", "m2", "m10"]),
        ({"sort": "name", "up": "1"}, ["m10", "m2", "m0"]),
        ({"sort": "value", "up": "1"}, ["m0", "m2", "m10"]),
        ({"q": "M1"}, ["m10"]),
        ({"q": "<"}, []),
        ({"state": "open"}, ["m2"]),
        ({"page": "99", "size": "x"}, ["m2", "m10", "m0"]),
    ],
)
def test_tiles_are_sorted_and_filtered_by_the_process(query: dict[str, str], names: list[str]) -> None:
    cache = EntityCache()
    events, said = batch(["m0", "m2", "m10"])
    said.score[:] = [0.5, 0.2, 0.9]
    cache.observe(0, events, said)
    cache.merge()
    cache.set_flag(["m2"], DRIFT, True)
    if query == {"sort": "attention"}:
        cache.heat[2] = 0.1  # a score that has faded
    assert FleetView(cache, NameOrder(cache), query).next()["page"]["names"] == names


def test_numbers_in_names_count() -> None:
    assert sorted(["m10", "m9", "M1b", "m1", ""], key=natural_key) == ["", "m1", "M1b", "m9", "m10"]


def test_an_entity_is_followed_event_by_event() -> None:
    page = LivePage(config(), Metrics(config()))
    page.on_sent(sent(*batch(["a", "b", "a"])))
    page.refresh()
    view = EntityView(page.cache, page.followed, {"name": "a"})
    first = view.next()
    assert first["entity"] == {"name": "a", "known": True, "target": 0}
    assert first["points"][0] == [0, 2000]
    page.on_sent(sent(*batch(["b", "a", "a", "a"], 10)))
    page.refresh()
    told = view.next()
    assert told["points"][0] == [11_000, 12_000, 13_000]
    assert told["points"][2].tolist() == [11.5, 12.5, 13.5]
    assert (told["now"]["labelled"], view.next()) == (7, {})
    other = EntityView(page.cache, page.followed, {"name": "zz", "target": "9"})
    assert other.next() == {"entity": {"name": "zz", "known": False, "target": 0}}
    assert other.next() == {}
    page.on_sent(sent(*batch(["zz"], 50)))
    page.refresh()
    assert other.next()["points"][0] == [50_000]


# Why it predicts so.


def rows(n: int, seed: int = 0) -> Events:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    y = x @ [1.0, -2.0] + 0.1 * rng.normal(size=n)
    return Events([f"m{i % 3}" for i in range(n)], 60_000 * np.arange(n), x, y, np.arange(n))


def test_a_look_is_at_the_prediction_that_is_sent_and_changes_no_bit() -> None:
    settings = config()
    page = LivePage(settings, Metrics(settings))
    watched, alone = ShardLogic(settings, None, page), ShardLogic(settings, None)
    events, looks = rows(600), 0
    for begin in range(0, 600, 60):
        part = events.take(np.arange(begin, begin + 60))
        given = ShardBatch(0, part, list(range(begin, begin + 60)), None, (1, 2), begin)
        out = [each for each in watched.on_batch([given])[0] if isinstance(each, PredictedBatch)]
        (expected,) = (each for each in alone.on_batch([given])[0] if isinstance(each, PredictedBatch))
        assert [o for each in out for o in each.batch.offsets] == given.offsets
        assert [s for each in out for s in each.batch.timestamps] == [1, 2], "the timestamps count once"
        together = np.concatenate([each.predictions.yhat for each in out])
        assert together.tobytes() == expected.predictions.yhat.tobytes()
        for each in out:
            page.on_sent(sent(each.batch.events, each.predictions))
        followed = page.followed.follow("m1", 0)
        if followed.explained > looks:
            looks, look = followed.explained, followed.explanation
            assert look is not None
            shown = expected.predictions.yhat[int(np.flatnonzero(part.ts == look["ts"])[0])]
            assert look["yhat"] == shown
            parts = sum(p[3] for p in look["parts"]) + look["others"][1]
            assert look["base"] + look["constant"] + parts + look["rest"] == pytest.approx(shown, rel=1e-9)
        followed.due = page.followed._next = 0.0
    assert looks >= 8
    assert watched.engine.snapshot() == alone.engine.snapshot()
    told = page.followed.follow("m1", 0).weights_over_time()
    assert len(told["ts"]) == looks
    assert {"a", "b"} <= told["weights"].keys()


def test_a_look_that_fails_ends_no_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config()
    page = LivePage(settings, Metrics(settings))
    page.followed.follow("m1", 0)

    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("ssm_stream.ui.followed_entities.explain_prediction", broken)
    logic = ShardLogic(settings, None, page)
    events = rows(60)
    assert len(list(logic.on_batch([ShardBatch(0, events, list(range(60)))])[0])) == 2
    assert (page.followed.unavailable, page.followed.positions_to_explain(["m1"])) == ("failed", [])


def test_late_targets_are_not_taken_apart() -> None:
    settings = config(more="model: {horizon: 1h}")
    page = LivePage(settings, Metrics(settings))
    assert (page.info()["no_looks"], page.info()["ahead"]) == ("late", 3_600_000)


# Who is let in.


class Served:
    """A page on a server, and requests to it."""

    said: list[tuple[str, dict[str, Any]]]

    def __init__(self, settings: Config, feedback: Any = None, control: Any = None) -> None:
        self.metrics = Metrics(settings)
        self.page = LivePage(settings, self.metrics, feedback, control)
        self.page.history_read.set()
        self.server = OpsServer(settings, self.metrics, Health(self.metrics, 1), site.Site(self.page))
        self.port = self.server.port

    def ask(
        self, path: str, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body, given)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def stream(self, query: str = "", **headers: str) -> Iterator[dict[str, Any]]:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("GET", f"/ui/stream?{query}", headers=given)
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Content-Type"]) == (200, "text/event-stream; charset=utf-8")
        assert answer.readline() == b"retry: 1000\n"
        try:
            while line := answer.readline():
                assert line.startswith(b"data: ")
                assert answer.readline() == b"\n"
                yield orjson.loads(line[6:])
        finally:
            connection.close()


def opened() -> Iterator[Served]:
    said: list[tuple[str, dict[str, Any]]] = []

    def write(key: str, document: dict[str, Any]) -> str:
        said.append((key, document))
        return key

    one = Served(config(f"ui: true, address: '127.0.0.1:{free_port()}'"), write)
    one.said = said
    yield one
    one.server.close()


fresh = pytest.fixture(opened, name="fresh")
shared = pytest.fixture(opened, scope="module", name="shared")


@pytest.fixture
def served(shared: Served) -> Served:
    shared.said.clear()
    return shared


def test_the_page_and_its_files_come_with_a_strict_policy(served: Served) -> None:
    assert served.ask("/")[1]["Location"] == served.ask("/ui")[1]["Location"] == "/ui/"
    status, headers, body = served.ask("/ui/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Frame-Options"] == "DENY"
    assert b"<script>" not in body
    assert b"style=" not in body
    assert b"//" not in body.replace(b"<!doctype html>", b""), "nothing from elsewhere"
    for name in (
        "app.js",
        "fleet.js",
        "entity.js",
        "alert.js",
        "alerts.js",
        "acknowledge.js",
        "history.js",
        "stops.js",
        "charts.js",
        "words.js",
        "dom.js",
        "style.css",
        "mark.svg",
    ):
        status, headers, content = served.ask(f"/ui/{name}")
        assert status == 200, name
        assert b"http://" not in content.replace(b"http://www.w3.org/2000/svg", b"")
        assert b"innerHTML" not in content
    assert served.ask("/ui/../config.py")[0] == 404
    assert served.ask("/ui/%2e%2e/cache.py")[0] == 404
    assert served.ask("/ui/app.js", "HEAD")[2] == b""
    assert served.ask("/ui/", "PUT")[0] == 405
    assert served.ask("/healthz")[0] == 200


def test_both_languages_say_everything() -> None:
    text = (Path(site.__file__).parent / "web" / "words.js").read_text()
    english, japanese = text.partition("const JA = ")[0], text.partition("const JA = ")[2].partition("const ALL")[0]
    keys = [set(re.findall(r'(?:^|[{,]\s*)"?([\w ]+)"?: "', part, re.MULTILINE)) for part in (english, japanese)]
    assert keys[0] == keys[1]
    assert len(keys[0]) > 100
    used = set()
    for file in (Path(site.__file__).parent / "web").glob("*.js"):
        used |= set(re.findall(r'\bt\("(\w+)"', file.read_text()))
    assert used <= keys[0]


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:9464", "127.0.0.1:1", "[::1]:9464", "127.8.8.8", "LOCALHOST."]
)
def test_loopback_names_are_let_in(served: Served, host: str) -> None:
    assert served.ask("/ui/", Host=host)[0] == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "", "10.0.0.5", "[::1", "a@localhost"[:2]],
)
def test_names_of_others_are_not(served: Served, host: str) -> None:
    for path in ("/", "/ui/", "/ui/app.js", "/ui/stream"):
        assert served.ask(path, Host=host)[0] == 403, "DNS rebinding"
    assert served.ask("/metrics", Host=host)[0] == 200, "scrapers are none of the page's business"


VERDICT = orjson.dumps({"id": "events-0-7-anomaly", "true": False})
OURS = {"Content_Type": "application/json", "X_Ssm_Stream": "1"}


def test_an_acknowledgement_goes_to_the_topic_beside_the_verdict(served: Served) -> None:
    served.page.alert_episodes.add([alert(offset=7)])
    before = time.time() * 1000
    given = orjson.dumps({"id": "events-0-7-anomaly", "by": " Ann ", "note": "on my way"})
    status, _, body = served.ask("/ui/acknowledge", "POST", given, **OURS)
    told = orjson.loads(body)
    assert (status, told["by"], told["note"]) == (200, "Ann", "on my way")
    assert served.said == [("events-0-7-anomaly-acknowledged", told)], "a key of its own"
    (found,) = served.page.alert_episodes.changes().episodes
    assert (found["acknowledged"]["by"], found["acknowledged"]["note"]) == ("Ann", "on my way")
    assert 0 <= found["acknowledged"]["at"] - before + 1000 < 5000
    assert FeedbackReader(served.page.config)(orjson.dumps(told)) == AlertAcknowledgement(
        "events-0-7-anomaly", "Ann", "on my way", found["acknowledged"]["at"]
    )
    for wrong in ({"by": "Ann"}, {"id": "events-0-7-anomaly", "by": " "}, {"id": "other-0-1-drift", "by": "Ann"}, []):
        assert served.ask("/ui/acknowledge", "POST", orjson.dumps(wrong), **OURS)[0] == 400
    assert served.ask("/ui/feedback", "POST", orjson.dumps(told), **OURS)[0] == 400, "no verdict"
    assert len(served.said) == 1


def test_an_acknowledgement_is_kept_until_its_alert_is_known() -> None:
    episodes = AlertEpisodes(EntityCache())
    for by in ("Ann", "Bob"):
        episodes.add_acknowledgement(AlertAcknowledgement("events-0-3-anomaly", by))
    episodes.add([alert(offset=3), alert("ongoing", offset=5, episode="events-0-3-anomaly")])
    (found,) = episodes.changes().episodes
    assert found["acknowledged"] == {"by": "Bob", "note": "", "at": None}
    version = episodes.version
    episodes.add_acknowledgement(AlertAcknowledgement("events-0-3-anomaly", "Bob"))
    assert episodes.version == version, "the flow reads what the page wrote"
    assert episodes.find("events-0-5-anomaly") == episodes.find("events-0-3-anomaly")
    assert (found["n"], found["entity"]) == (1, "m1")
    assert episodes.find("events-0-9-anomaly") is None


def test_an_alert_has_the_values_of_the_target_that_it_is_about() -> None:
    one = Served(config(f"ui: true, address: '127.0.0.1:{free_port()}'", event="features: [a], target: [temp, bar]"))
    try:
        one.page.on_sent(sent(*batch(["m1"], targets=2)))
        about = [{"target": "bar"}, {"column": "bar", "kind": "limit"}, {"target": "temp"}, {"kind": "silence"}]
        about.append({"column": "flow", "kind": "stuck"})
        one.page.alert_episodes.add([alert(offset=i, id=f"i{i}", **each) for i, each in enumerate(about)])
        for name, number in (("i0", 1), ("i1", 1), ("i2", 0), ("i3", 0), ("i4", 0)):
            stream = one.stream(f"view=alert&id={name}")
            assert next(each["entity"] for each in stream if "entity" in each)["target"] == number, name
    finally:
        one.server.close()


def test_a_verdict_goes_to_the_topic(served: Served) -> None:
    served.page.alert_episodes.add([alert(offset=7)])
    origin = f"http://127.0.0.1:{served.port}"
    status, _, body = served.ask("/ui/feedback", "POST", VERDICT, Origin=origin, **OURS)
    assert (status, orjson.loads(body)) == (200, {"id": "events-0-7-anomaly", "true": False})
    assert served.said == [("events-0-7-anomaly", {"id": "events-0-7-anomaly", "true": False})]
    assert served.page.alert_episodes.changes().episodes[0]["verdict"] is False


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (VERDICT, {**OURS, "Origin": "http://evil.example"}, 403),
        (VERDICT, {**OURS, "Origin": "null"}, 403),
        (VERDICT, {**OURS, "Sec_Fetch_Site": "cross-site"}, 403),
        (VERDICT, {**OURS, "Sec_Fetch_Site": "same-site"}, 403),
        (VERDICT, {"Content_Type": "application/json"}, 403),
        (VERDICT, {"Content_Type": "text/plain", "X_Ssm_Stream": "1"}, 403),
        (VERDICT, {**OURS, "Host": "evil.example"}, 403),
        (b"no JSON", OURS, 400),
        (b'{"id": "other-0-1-anomaly", "true": true}', OURS, 400),
        (b'{"id": "events-0-1-anomaly", "true": 1}', OURS, 400),
        (b"x" * 5000, OURS, 413),
    ],
    ids=range(11),
)
def test_a_verdict_from_elsewhere_is_refused(served: Served, body: bytes, headers: dict[str, str], status: int) -> None:
    found, _, told = served.ask("/ui/feedback", "POST", body, **headers)
    assert found == status
    assert "error" in orjson.loads(told)
    assert served.said == []


def test_without_a_topic_there_are_no_verdicts() -> None:
    one = Served(config(f"ui: true, address: '127.0.0.1:{free_port()}'"))
    try:
        assert one.page.info()["no_feedback"] == "no topic"
        status, _, body = one.ask("/ui/feedback", "POST", VERDICT, **OURS)
        assert status == 409
        assert "alerts.feedback" in orjson.loads(body)["error"]
    finally:
        one.server.close()


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setenv("UI_TOKEN", TOKEN)
    monkeypatch.setattr(site, "WRONG_TOKEN_DELAY", 0.0)
    one = Served(config(f"ui: true, address: '127.0.0.1:{free_port()}', token: '${{UI_TOKEN}}'"))
    yield one
    one.server.close()


def test_a_token_is_asked_for_and_remembered(guarded: Served) -> None:
    status, headers, body = guarded.ask("/ui/", Host="plant.example:9464")
    assert (status, b"password" in body, "Set-Cookie" in headers) == (401, True, False)
    assert guarded.ask("/ui/stream")[0] == 401
    assert guarded.ask("/ui/feedback", "POST", VERDICT, **OURS)[0] == 401
    assert guarded.ask("/ui/style.css")[0] == 200, "the form has its style"
    for wrong in ("", "x", TOKEN[:-1], "ü"):
        assert guarded.ask(f"/ui/?token={quote(wrong)}")[0] == 401
        assert guarded.ask("/ui/login", "POST", f"token={quote(wrong)}".encode())[0] == 401
    for path, method, form in (
        (f"/ui/?token={quote(TOKEN)}", "GET", None),
        ("/ui/login", "POST", f"token={quote(TOKEN)}".encode()),
    ):
        status, headers, _ = guarded.ask(path, method, form)
        assert (status, headers["Location"]) == (303, "/ui/"), "the address has it no longer"
        cookie = headers["Set-Cookie"]
        assert {"HttpOnly", "SameSite=Lax"} <= set(cookie.split("; "))
        assert "horse" not in cookie
    given = cookie.partition(";")[0]
    assert guarded.ask("/ui/", Cookie=f"a=b; {given}", Host="plant.example")[0] == 200
    assert next(guarded.stream(Cookie=given))["hello"]["topic"] == "events"
    assert guarded.ask("/ui/", Cookie=given[:-1] + "x")[0] == 401
    assert guarded.ask("/ui/login", "POST", f"token={quote(TOKEN)}".encode(), Origin="http://evil.example")[0] == 403
    assert TOKEN.encode() not in guarded.ask("/config")[2]


def test_off_loopback_a_token_is_made_and_logged_once() -> None:
    ops = config("ui: true, address: '0.0.0.0:9464'").ops
    first, second = HttpAuth(ops, 9464), HttpAuth(ops, 9464)
    assert first.needs_token
    assert first.generated_token is not None
    assert first.generated_token != second.generated_token
    assert first.is_token(first.generated_token)
    assert not second.is_token(first.generated_token)
    assert not HttpAuth(config().ops, 9464).needs_token


def test_the_token_stands_in_no_file_and_in_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ("abc", "'${UI_TOKEN:-abcdefghijklmnopqrstuvw}'"):
        with pytest.raises(ConfigError, match=r"ops\.token: a secret must not be written in the file"):
            config(f"token: {wrong}")
    monkeypatch.setenv("UI_TOKEN", "short-sentinel")
    with pytest.raises(ConfigError, match="16 characters") as caught:
        config("token: '${UI_TOKEN}'")
    assert "sentinel" not in str(caught.value)
    monkeypatch.setenv("UI_TOKEN", TOKEN)
    one = config("token: '${UI_TOKEN}'")
    assert "horse" not in repr(one) + str(one.redacted()) + one.model_dump_json()
    monkeypatch.setenv("UI_TOKEN", TOKEN + TOKEN)
    other = config("token: '${UI_TOKEN}'")
    assert one.hash == other.hash == config("").hash
    kept = {"recovery": one.recovery.model_copy(update={"directory": Path("/nowhere")})}
    (told,) = live_changes(one.model_copy(update=kept), other.model_copy(update=kept))
    assert told.startswith("ops.token: ***")


def test_the_page_needs_an_address() -> None:
    with pytest.raises(ConfigError, match=r"ui: true needs an `address`"):
        config("ui: true, address: null")


def test_a_taken_default_address_is_an_error_with_the_page() -> None:
    settings = config()
    metrics = Metrics(settings)
    shown = site.Site(LivePage(settings, metrics))
    taken = config(f"address: '127.0.0.1:{free_port()}'")
    first = OpsServer(taken, Metrics(taken), Health(Metrics(taken), 1))
    try:
        object.__setattr__(settings.ops, "address", taken.ops.address)
        settings.ops.model_fields_set.discard("address")
        with pytest.raises(ConfigError, match="another process listens on it"):
            serve(settings, metrics, Health(metrics, 1), shown)
    finally:
        first.close()


# The stream.


def test_a_stream_begins_with_everything_and_goes_on_with_changes(fresh: Served) -> None:
    served = fresh
    served.page.on_sent(sent(*batch(ODD)))
    served.page.queue_alerts([alert(entity=ODD[0])])
    stream = served.stream("view=fleet&rate=30")
    assert next(stream)["hello"]["boot"] == served.page.boot
    first = next(stream)
    assert first["page"]["total"] == len(ODD)
    assert sorted(first["page"]["names"]) == sorted(ODD), "as they are: the page makes text of them"
    assert first["episodes"]["items"][0]["entity"] == ODD[0]
    assert first["pulse"]["entities"] == 0
    none = {"started": 0, "share": None, "longest": 0}
    assert first["pulse"]["episodes"] == [{"kind": kind, **none} for kind in ("anomaly", "drift")]
    served.page.on_sent(sent(*batch([ODD[2]], 40)))
    second = next(one for one in stream if "tick" in one)
    assert "page" not in second
    assert second["tick"][2] == [40.0]
    stream.close()


def test_streams_are_bounded_and_freed(fresh: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    served = fresh
    monkeypatch.setattr(site, "MAX_STREAMS", 3)
    monkeypatch.setattr(site, "HEARTBEAT", 0.1)
    streams = [served.stream() for _ in range(3)]
    for stream in streams:
        next(stream)
    assert served.page.cache.has_viewers
    status, headers, _ = served.ask("/ui/stream")
    assert (status, headers["Retry-After"]) == (503, "5")
    assert any("beat" in one for one, _ in zip(streams[0], range(20), strict=False))
    served.page.cache.lagging = True
    for stream in streams:
        stream.close()
    deadline = time.monotonic() + 5
    while served.page.cache.has_viewers and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not served.page.cache.has_viewers
    assert not served.page.cache.lagging, "nobody would see that the lag is over"
    assert next(served.stream())["hello"]


def test_the_end_of_the_process_ends_the_streams(fresh: Served) -> None:
    served = fresh
    stream = served.stream()
    next(stream)
    threading.Timer(0.3, served.page.close).start()
    began = time.monotonic()
    assert all(isinstance(one, dict) for one in stream)
    assert time.monotonic() - began < 3
    assert served.ask("/ui/stream")[0] == 503


def test_asking_for_the_page_without_an_address_is_refused(mock_kafka: Any) -> None:
    mock_kafka.create_topic("events", 1)
    for topic in ("predictions", "alerts", "dead-letters"):
        mock_kafka.create_topic(topic, 1)
    settings = parse_config(
        f"source: {{brokers: '{mock_kafka.bootstrap_servers}', topic: events}}\n"
        "event: {entity: e, timestamp: t}\nrecovery: {directory: null}\nops: {address: null}"
    )
    with pytest.raises(ConfigError, match=r"ops\.address: null"):
        prepare(settings, ui=True)
