"""The small picture of an alert in a message: drawn, attached to mail, in a webhook's message where it is asked for."""

from __future__ import annotations

import base64
import io
import math
import time
from typing import Any

import numpy as np
import orjson
import pytest
from brokers import Kafka, free_port
from notified import Receiver, alert, config, next_phase, send
from test_notify import Mail, mail, receiver, running, until  # noqa: F401
from test_ui_server import Served, batch, sent
from test_ui_server import config as page_config

from ssm_stream.notify.alerts import Episode
from ssm_stream.notify.charts.charts import Charts
from ssm_stream.notify.charts.points import LastPredictions, Point

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed: pip install 'ssm-stream[notify]'")
drawing = pytest.importorskip("ssm_stream.notify.charts.drawing")
COLOURS = (drawing.VALUE, drawing.PREDICTION, drawing.BAND, drawing.ALERT)


def near(content: bytes, colour: str) -> int:
    """Decode a picture; return how many of its pixels have about this colour."""
    picture = Image.open(io.BytesIO(content))
    picture.load()
    assert (picture.format, picture.size) == ("PNG", (drawing.WIDTH, drawing.HEIGHT))
    wanted = tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))
    pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3).astype(int)
    return int((np.abs(pixels - wanted).max(axis=1) < 24).sum())


def points(n: int = 60, step: int = 1000) -> list[Point]:
    return [Point(i * step, 70 + 5 * math.sin(i / 5) + (20 if i > 40 else 0), 70.0, 66.0, 74.0) for i in range(n)]


def test_it_shows_value_prediction_interval_and_begin() -> None:
    content = drawing.draw(points(), 41_000, 45_000, "pump-3: anomaly", "Asia/Tokyo", "temp °C")
    assert all(near(content, colour) > 50 for colour in COLOURS)
    assert len(content) < 30_000, "small"
    before = drawing.draw(points(), -5000, 9000, "pump-3: anomaly", "UTC", "temp")
    assert near(before, drawing.ALERT) == 0, "it began before the points"
    unnamed = drawing.draw(points(), 41_000, 45_000, "pump-3: anomaly", "Asia/Tokyo", "")
    assert near(unnamed, drawing.INK) < near(content, drawing.INK), "whose values these are"


@pytest.mark.parametrize("odd", [
    [Point(0, math.nan, 1.0, math.nan, math.nan), Point(1, math.nan, 2.0, math.nan, math.nan)],
    [Point(0, 5.0, math.nan, -1e300, 1e300), Point(0, 5.0, 5.0, 5.0, 5.0)],
    [Point(i * 86_400_000, 1e9 * i, 0.0, -1e9, 1e12) for i in range(3)],
])  # fmt: skip
def test_odd_points_are_drawn(odd: list[Point]) -> None:
    assert (
        near(drawing.draw(odd, 0, 10**12, "温度センサー-1: anomaly " + "x" * 300, "UTC", "y" * 300), drawing.PAPER)
        > 1000
    )


def prediction(entity: str, ts: int, y: float) -> dict[str, Any]:
    return {
        "entity": entity, "ts": ts, "y": y, "yhat": 70.0, "yhat_lower": 66.0, "yhat_upper": 74.0, "anomaly_score": 0.1
    }  # fmt: skip


def with_predictions(kafka: Kafka, topic: str, notify: str, names: list[str]) -> Any:
    """A configuration, and predictions of these entities on its topic."""
    predictions, now = kafka.topic("predictions", 2), int(time.time() * 1000)
    loaded = config(kafka, topic, notify)
    rows = [prediction(name, now - (50 - i) * 1000, 70.0 + i % 7) for i in range(50) for name in names]
    kafka.produce(predictions, [(each["entity"], orjson.dumps(each)) for each in rows])
    ops = loaded.ops.model_copy(update={"address": f"127.0.0.1:{free_port()}"})
    return loaded.replace(sinks=loaded.sinks.model_copy(update={"predictions": predictions}), ops=ops)


def test_mail_has_a_picture_of_each_alert_in_detail(kafka: Kafka, mail: Mail) -> None:  # noqa: F811
    topic = kafka.topic("alerts")
    names = [f"pump-{i}" for i in range(7)] + ['a "b"/温度']
    notify = "  targets: [{apprise: '${NOTIFY_URL}'}]\n  group: 1s"
    loaded = with_predictions(kafka, topic, notify, names)
    with running(loaded):
        until(lambda: len(mail.messages) == 1)
        assert not list(mail.messages[0].iter_attachments())
        send(kafka, topic, [first := alert(names[-1]), alert("unknown")])
        until(lambda: len(mail.messages) == 2)
        (attached,) = mail.messages[1].iter_attachments()
        assert (attached.get_content_type(), attached.get_filename()) == ("image/png", "a_b-anomaly.png")
        assert all(near(attached.get_content(), colour) > 50 for colour in COLOURS[:3])
        send(kafka, topic, [alert(name) for name in names[:7]])
        until(lambda: len(mail.messages) == 3)
        assert len(list(mail.messages[2].iter_attachments())) == 5, "those in detail"
        send(kafka, topic, [next_phase(first, "recovered")])
        until(lambda: len(mail.messages) == 4)
        assert not list(mail.messages[3].iter_attachments())


def test_a_service_that_refuses_the_picture_gets_the_message_without(
    kafka: Kafka,
    mail: Mail,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    topic = kafka.topic("alerts")
    loaded = with_predictions(kafka, topic, "  targets: [{apprise: '${NOTIFY_URL}'}]\n  group: 1s", ["pump-1"])
    apprise = pytest.importorskip("apprise")
    plugin, tried = type(apprise.Apprise.instantiate(mail.url)), list[bool]()
    notify = plugin.notify

    def refusing(self: Any, **given: Any) -> Any:
        tried.append(bool(given.get("attach")))
        return False if tried[-1] else notify(self, **given)

    monkeypatch.setattr(plugin, "notify", refusing)
    with running(loaded):
        until(lambda: len(mail.messages) == 1)
        send(kafka, topic, [alert("pump-1")])
        until(lambda: len(mail.messages) == 2)
    assert tried == [False, True, False]


def test_a_webhook_gets_it_only_where_it_is_asked_for(kafka: Kafka, receiver: Receiver) -> None:  # noqa: F811
    topic = kafka.topic("alerts")
    targets = f"{{webhook: '{receiver.url}/with', chart: true}}, {{webhook: '{receiver.url}/without'}}"
    loaded = with_predictions(kafka, topic, f"  targets: [{targets}]", ["pump-1"])
    with running(loaded):
        send(kafka, topic, [first := alert("pump-1"), second := next_phase(first, "recovered")])
        until(lambda: len(receiver.accepted) == 4)
    got = {path: [r.json for r in receiver.accepted if r.path == path] for path in ("/with", "/without")}
    assert got["/without"] == [first, second]
    picture = got["/with"][0].pop("chart")
    assert got["/with"] == [first, second], "nothing else differs, and the end has none"
    head, _, content = picture.partition(",")
    assert head == "data:image/png;base64"
    assert near(base64.b64decode(content), drawing.VALUE) > 50


def test_the_points_come_from_the_page_where_it_is_reachable(kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGE_TOKEN", "correct horse battery staple")
    settings = page_config(f"ui: true, address: '127.0.0.1:{free_port()}', token: '${{PAGE_TOKEN}}'")
    served = Served(settings)
    try:
        for at in range(30):
            served.page.on_sent(sent(*batch(["pump-1"], at)))
        served.page.refresh()
        loaded = config(kafka, kafka.topic("alerts"), "  targets: [{webhook: 'http://localhost:1'}]")
        found = LastPredictions(loaded.replace(ops=settings.ops)).of([("pump-1", None), ("pump-2", None)])
        assert list(found) == [("pump-1", None)]
        assert [each.y for each in found["pump-1", None]] == [float(i) for i in range(30)]
    finally:
        served.server.close()


def test_a_picture_is_of_the_target_that_the_alert_is_about_and_names_it(
    kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = config(kafka, kafka.topic("alerts"), "  targets: [{webhook: 'http://localhost:1'}]")
    two = loaded.replace(event=loaded.event.model_copy(update={"target": ["temp", "bar"]}))
    for settings, about, read, shown in (
        (two, {"target": "bar"}, "bar", "bar"),
        (two, {"kind": "limit", "column": "bar", "target": None}, "bar", "bar"),
        (two, {"kind": "limit", "column": "flow"}, "temp", "temp"),
        (two, {"kind": "silence", "column": None}, "temp", "temp"),
        (loaded, {"kind": "limit", "column": "flow"}, None, "target"),
    ):
        charts, series = Charts(settings), ("pump-3", read)
        monkeypatch.setattr(charts._points, "of", lambda found, one=series: {one: points()} if one in found else {})
        monkeypatch.setattr(drawing, "draw", lambda *given: given[-1].encode())
        found = charts.of([Episode("e", alert(since=30_000, ts=31_000, **about), "warning", 0.0, 0.0)])
        assert [each.content.decode() for each in found] == [shown], about


def test_an_alert_beyond_the_points_has_none(kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = config(kafka, kafka.topic("alerts"), "  targets: [{webhook: 'http://localhost:1'}]")
    charts = Charts(loaded)
    monkeypatch.setattr(charts._points, "of", lambda series: dict.fromkeys(series, points()))

    def drawn(since: int, ts: int) -> bool:
        content = alert(since=since, ts=ts)
        return bool(charts.of([Episode("e", content, "warning", 0.0, 0.0)]))

    assert drawn(30_000, 31_000)
    assert drawn(90_000, 95_000), "silence is longer than its wait"
    assert drawn(-9000, 20_000), "it began before them"
    assert not drawn(-9000, -8000)
    assert not drawn(190_000, 195_000)
