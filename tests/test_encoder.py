"""Encoder: predictions and alerts have exactly the fields of the contract."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

import numpy as np
import orjson
import pytest
from test_decoder import ALERTS, CONFIG, PREDICTIONS, decode, event

from ssm_stream.config import Config
from ssm_stream.engine.engine import Engine
from ssm_stream.kafka.encoder import Encoder
from ssm_stream.kafka.records import ProducerRecord

PREDICTION = {
    "entity": str, "ts": int, "y": float, "yhat": float, "yhat_lower": float, "yhat_upper": float,
    "anomaly_score": float, "warmup": bool, "n": int, "fleet": float, "id": str,
}  # fmt: skip


def encoded(values: list[bytes | None], config: Config = CONFIG, engine: Engine | None = None) -> list[ProducerRecord]:
    engine, encoder = Engine(config) if engine is None else engine, Encoder(config)
    batches, letters = decode(values, config)
    assert letters == []
    results = ((b, engine.process(b.events, b.partition, encoder.event_ids(b))) for _, b in batches)
    return [r for b, result in results for r in encoder.encode(b, *result).records]


def noisy(n: int, **changed: Any) -> list[bytes | None]:
    rng = np.random.default_rng(1)
    return [event(ts=1000 + i, temp=20 + float(rng.normal()), load=float(rng.normal()), **changed) for i in range(n)]


def test_a_prediction_has_exactly_the_fields_of_the_contract() -> None:
    records = encoded(noisy(300))
    assert len(records) == 300
    for i, record in enumerate(records):
        assert (record.topic, record.key, record.headers) == (PREDICTIONS, "press-1", None)
        body = orjson.loads(record.value or b"")
        assert list(body) == list(PREDICTION)
        assert {name: type(value) for name, value in body.items()} == PREDICTION
        assert (body["entity"], body["ts"], body["n"], body["warmup"]) == ("press-1", 1_000_000 + 1000 * i, i, i < 100)
        assert body["id"] == f"plant.events-3-{100 + i}"
        assert body["yhat_lower"] <= body["yhat"] <= body["yhat_upper"]
        assert (body["anomaly_score"] == 0) or i >= 100
        assert body["fleet"] == 0, "it is alone"


def test_a_prediction_says_how_much_of_it_rests_on_other_entities() -> None:
    """Nothing before a second entity comes; most of the newcomer's, from its second event on; never outside [0, 1]."""
    config = CONFIG.model_copy(update={"state": CONFIG.state.model_copy(update={"shards": 1})})
    records = encoded([*noisy(200), *noisy(3, machine="press-2"), *noisy(3)], config)
    share = [orjson.loads(record.value or b"")["fleet"] for record in records]
    assert share[:200] == [0] * 200
    assert all(0.3 < value <= 1 for value in share[201:])
    assert all(type(value) is float for value in share)


@pytest.mark.parametrize("absent", [event(temp=None), b'{"machine":"press-1","ts":9}'])
def test_an_event_without_target_is_predicted_with_y_null_and_leaves_the_state(absent: bytes) -> None:
    engine = Engine(CONFIG)
    encoded(noisy(150), engine=engine)
    before = engine.state_hash("press-1")
    (record,) = encoded([absent], engine=engine)
    body = orjson.loads(record.value or b"")
    assert body["y"] is None
    assert all(math.isfinite(body[name]) for name in ("yhat", "yhat_lower", "yhat_upper", "anomaly_score"))
    assert body["n"] == 150
    assert engine.state_hash("press-1") == before


def test_an_id_follows_from_the_source_alone() -> None:
    first, second = (encoded([event()] * 3) for _ in range(2))
    assert [r.value for r in first] == [r.value for r in second]
    assert len({orjson.loads(r.value or b"")["id"] for r in first}) == 3


def alerts_of(values: list[bytes | None], config: Config = CONFIG) -> list[ProducerRecord]:
    return [r for r in encoded(values, config) if r.topic == config.sinks.alerts]


def test_an_alert_is_a_cloud_event_in_binary_mode_with_the_fields_of_the_contract() -> None:
    values = noisy(400, machine="Öfen/4")
    values[300] = event(machine="Öfen/4", ts=1300.5, temp=900.0, load=0.1)
    records = alerts_of(values)
    assert [orjson.loads(r.value or b"")["phase"] for r in records] == ["started", "recovered"]
    record = records[0]
    body = orjson.loads(record.value or b"")
    assert record.key == body["entity"] == "Öfen/4"
    assert set(body) == {
        "entity", "scope", "kind", "phase", "severity", "ts", "score", "y", "yhat", "yhat_lower", "yhat_upper", "since",
        "absorbed_after", "contributions", "weight_change", "heads", "channel", "change", "learning", "budget",
        "config_hash", "state_hash", "source", "id", "episode", "ended_by",
    }  # fmt: skip
    assert (body["episode"], body["ended_by"]) == (body["id"], None)
    over = orjson.loads(records[1].value or b"")
    assert (over["episode"], over["ended_by"]) == (body["id"], "recovered")
    assert (body["kind"], body["severity"], body["ts"], body["y"]) == ("anomaly", "critical", 1_300_500, 900)
    assert body["source"] == {"topic": "plant.events", "partition": 3, "offset": 400}
    assert body["id"] == "plant.events-3-400-anomaly"
    assert body["config_hash"] == CONFIG.hash
    for item in body["contributions"]:
        assert set(item) == {"feature", "share"}
    assert dict(record.headers or []) == {
        "ce_specversion": b"1.0",
        "ce_id": b"plant.events-3-400-anomaly",
        "ce_source": b"/ssm-stream/plant.events",
        "ce_type": b"io.ssm-stream.anomaly.started",
        "ce_subject": "Öfen/4".encode(),
        "ce_time": b"1970-01-01T00:21:40.500Z",
        "content-type": b"application/json",
    }


@pytest.mark.parametrize("ts", ["0002-01-01T00:00:00Z", "9998-12-31T23:59:59.999Z", "1969-12-31T23:59:59.999Z"])
def test_an_alert_at_either_end_of_time_is_written(ts: str) -> None:
    values = noisy(400)
    values[300] = event(ts=ts, temp=90.0)
    time = dict(alerts_of(values)[0].headers or [])["ce_time"]
    assert isinstance(time, bytes)
    assert datetime.fromisoformat(time.decode()) == datetime.fromisoformat(ts)


def test_alerts_and_predictions_may_be_switched_off_each_alone() -> None:
    values = noisy(400)
    values[300] = event(ts=1300, temp=90.0)
    for off, left in (("predictions", ALERTS), ("alerts", PREDICTIONS)):
        sinks = CONFIG.sinks.model_copy(update={off: None})
        records = encoded(values, CONFIG.model_copy(update={"sinks": sinks}))
        assert {r.topic for r in records} == {left}
