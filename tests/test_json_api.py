"""The JSON of the live page: what other programs read, who may, and what the dashboard of one entity reads of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from brokers import free_port
from test_alert_rules import BY_ENTITY, PAGE_SOURCE
from test_ui_server import ODD, TOKEN, Served, alert, batch, config, sent

from ssm_stream.ui.followed_entities import MAX_POINTS

LIMITS = "alerts: {limits: [{column: a, above: 90, entities: 'm*'}]}\n"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    one = Served(config(f"ui: true, address: '127.0.0.1:{free_port()}'", LIMITS))
    names = [f"m{i}" for i in range(20)]
    for at in range(0, 60, 20):
        one.page.on_sent(sent(*batch(names, at)))
    one.page.on_sent(sent(*batch([*ODD, "m3"], 80, score=3.0)))
    one.page.queue_alerts([
        alert("started", "m1", 10, id="events-0-10-anomaly", episode="events-0-10-anomaly", summary="m1: y is 1."),
        alert("recovered", "m1", 30, id="events-0-30-anomaly", episode="events-0-10-anomaly", ended_by="recovered",
              summary="m1: y is as expected again."),
        alert("started", "m3", 40, since=40_000, id="events-0-40-anomaly", episode="events-0-40-anomaly"),
    ])  # fmt: skip
    one.page.drain()
    yield one
    one.server.close()


def got(served: Served, path: str, **headers: str) -> Any:
    status, answered, body = served.ask(path, **headers)
    assert (status, answered["Content-Type"]) == (200, "application/json")
    return orjson.loads(body)


def test_entities(served: Served) -> None:
    found = got(served, "/ui/api/entities")
    assert (found["total"], found["matching"], len(found["entities"])) == (27, 27, 27)
    first = found["entities"][0]
    assert (first["entity"], first["open_alerts"], first["anomaly_score"]) == ("m3", "anomaly", 3.0)
    assert {"time", "target", "y", "yhat", "yhat_lower", "yhat_upper", "warmup"} <= first.keys()
    assert got(served, "/ui/api/entities?q=m1&sort=name&limit=12")["matching"] == 11
    one = got(served, "/ui/api/entities?limit=1&q=m1&sort=name&page=3")
    assert [each["entity"] for each in one["entities"]] == ["m12"]
    assert (one["page"], one["pages"], one["matching"]) == (3, 11, 11)
    assert len(got(served, "/ui/api/entities?limit=0")["entities"]) == 1
    assert len(got(served, "/ui/api/entities?limit=x")["entities"]) == 27
    assert set(ODD) <= {each["entity"] for each in found["entities"]}


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("entities?state=silent", "state: found 'silent'; write one of open, anomaly, drift"),
        ("entities?sort=error", "sort: found 'error'; write one of attention, score"),
        ("entity?name=m3&target=1", "target: found '1'; write its number, from 0 to 0"),
        ("entity?name=m3&target=temp", "target: found 'temp'; write its number"),
    ],
)
def test_what_there_is_not_is_refused(query: str, words: str, served: Served) -> None:
    status, _, body = served.ask(f"/ui/api/{query}")
    assert (status, words in body.decode()) == (400, True), body
    assert got(served, "/ui/api/entities?state=&sort=&q=")["matching"] == 27
    assert got(served, "/ui/api/entities?state=silence&sort=seen")["matching"] == 0
    assert got(served, "/ui/api/entity?name=m3&target=")["known"]


def test_one_entity(served: Served) -> None:
    found = got(served, "/ui/api/entity?name=m3")
    assert [(each["time"], each["y"]) for each in found["points"]] == [
        (1000 * at, float(at)) for at in (3, 23, 43, 80 + len(ODD))
    ]
    assert found["limits"] == [{"column": "a", "text": "a above 90"}]
    assert found["explanation"] is None
    assert len(got(served, "/ui/api/entity?name=m3")["points"]) == 4, "all of them each time"
    for name in ODD:
        assert got(served, f"/ui/api/entity?name={quote(name, safe='')}")["entity"] == name
    unknown = got(served, "/ui/api/entity?name=nobody")
    assert (unknown["known"], unknown["points"]) == (False, [])
    assert MAX_POINTS == 600


def test_alerts_are_annotations(served: Served) -> None:
    first, second = got(served, "/ui/api/alerts")["alerts"]
    assert (first["time"], first["time_end"], first["text"]) == (
        500, 30_000, "m1: y is 1. m1: y is as expected again."
    )  # fmt: skip
    assert (second["time"], second["time_end"], second["tags"]) == (40_000, None, "anomaly,warning,open")
    assert len(got(served, "/ui/api/alerts?entity=m3")["alerts"]) == 1
    assert [each["entity"] for each in got(served, "/ui/api/alerts?from=31000")["alerts"]] == ["m3"]
    assert [each["entity"] for each in got(served, "/ui/api/alerts?to=1000")["alerts"]] == ["m1"]
    assert len(got(served, "/ui/api/alerts?from=x&limit=1")["alerts"]) == 1


def test_what_a_stop_withholds_is_not_open() -> None:
    one = Served(config(f"ui: true, address: '127.0.0.1:{free_port()}'"))
    try:
        one.page.on_sent(sent(*batch(["m1", "m2"])))
        one.page.queue_alerts([alert(entity="m1", suppressed_by="maintenance"), alert(entity="m2", offset=2)])
        one.page.drain()
        entities = got(one, "/ui/api/entities?sort=name")["entities"]
        assert [each["open_alerts"] for each in entities] == ["", "anomaly"]
        tags = [each["tags"] for each in got(one, "/ui/api/alerts")["alerts"]]
        assert tags == ["anomaly,warning,suppressed", "anomaly,warning,open"]
    finally:
        one.server.close()


def test_who_may_read_it(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    assert served.ask("/ui/api/alerts", Host="evil.example")[0] == 403
    assert served.ask("/ui/api/alerts", "POST", b"{}")[0] == 405
    assert served.ask("/ui/api/nothing")[0] == 404
    monkeypatch.setenv("UI_TOKEN", TOKEN)
    guarded = Served(config(f"ui: true, address: '127.0.0.1:{free_port()}', token: '${{UI_TOKEN}}'"))
    try:
        for path in ("entities", "entity?name=m1", "alerts"):
            assert guarded.ask(f"/ui/api/{path}")[0] == 401
            assert guarded.ask(f"/ui/api/{path}", Authorization="Bearer wrong")[0] == 401
            got(guarded, f"/ui/api/{path}", Authorization=f"Bearer {TOKEN}", Host="plant.example:9464")
    finally:
        guarded.server.close()


# Grafana


def queries() -> list[Any]:
    """Every query of the dashboard that reads the page, with the name of its place."""
    found = [(each["title"], target) for each in BY_ENTITY["panels"] for target in each.get("targets", [])]
    found += [(each["name"], each["target"]) for each in BY_ENTITY["annotations"]["list"] if "target" in each]
    variables = [each for each in BY_ENTITY["templating"]["list"] if each.get("datasource") == PAGE_SOURCE]
    found += [(each["label"], each["query"]["infinityQuery"]) for each in variables]
    return [pytest.param(query, id=title) for title, query in found if query.get("datasource") == PAGE_SOURCE]


@pytest.mark.parametrize("query", queries())
def test_the_dashboard_asks_for_what_there_is(query: dict[str, Any], served: Served) -> None:
    followed = served.page.followed.follow("m3", 0)
    followed.explanation = {
        "ts": 1, "n": 1, "yhat": 1.0, "base": 0.5, "constant": 0.1, "rest": 0.0, "fleet": 0.0,
        "parts": [["a", 1.0, 0.5, 0.5, None]], "others": [0, 0.0], "answers": [["fleet: moments", 1.0, 1.0]],
    }  # fmt: skip
    followed.explained = 1
    url = query["url"]
    for name, value in {"entity:percentencode": "m3", "target": "0", "__from": "0", "__to": "9999999"}.items():
        url = url.replace(f"${{{name}}}", value)
    assert not re.search(r"\$", url), url
    rows: Any = got(served, url)
    for name in query["root_selector"].split("."):
        rows = rows[name]
    assert rows
    for column in query["columns"]:
        assert all(column["selector"] in row for row in rows), column
    if query["format"] == "timeseries":
        assert query["columns"][0]["type"] == "timestamp_epoch"


def test_there_are_queries_of_each_kind() -> None:
    assert len(queries()) == 7
