"""Labels over the broker: on a topic of their own or among the events, matched or dead-lettered, through a SIGKILL."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from brokers import Kafka
from test_stream import Job, events, finished

from ssm_stream.config import Config, parse_config
from ssm_stream.kafka.decoder import Decoder
from ssm_stream.kafka.encoder import Encoder
from ssm_stream.kafka.records import LabelBatch, PredictedBatch, ShardBatch
from ssm_stream.operators.shard_operator import ShardLogic
from ssm_stream.operators.source import KafkaSource, label_source

Messages = list[tuple[bytes, bytes]]


def parted(messages: Messages) -> tuple[Messages, Messages]:
    """Events without targets, and their labels."""
    bare, labels = [], []
    for key, value in messages:
        event = orjson.loads(value)
        target = event.pop("target")
        bare.append((key, orjson.dumps(event)))
        labels.append((key, orjson.dumps({"entity": event["entity"], "ts": event["ts"], "target": target})))
    return bare, labels


def job(kafka: Kafka, folder: Path, topic: str, labels: dict[str, Any]) -> Job:
    made = Job(kafka, folder, topic)
    content = orjson.loads(made.path.read_bytes())
    made.path.write_bytes(orjson.dumps({**content, "labels": labels}))
    return made


def test_labels_by_a_topic_of_their_own_are_learned_or_dead_lettered(kafka: Kafka, tmp_path: Path) -> None:
    bare, labels = parted(events(2000))
    strange = [
        (b"m1", orjson.dumps({"entity": "m1", "ts": 1, "target": 5})),
        (b"nobody", orjson.dumps({"entity": "nobody", "ts": 1_700_000_000_000, "target": 5})),
        (b"m2", orjson.dumps({"entity": "m2", "ts": 1_700_000_000_001})),
        (b"m2", b"not json"),
    ]
    topic, results = kafka.topic("events", 3), kafka.topic("labels", 2)
    made = job(kafka, tmp_path / "job", topic, {"topic": results, "wait": "1h"})
    kafka.produce(topic, bare)
    made.run(timeout=600)
    kafka.produce(results, [*labels, *strange])
    made.run(timeout=600)
    predictions = [orjson.loads(m.value() or b"") for m in kafka.read(made.predictions)]
    assert len(predictions) == 2000
    assert all(row["y"] is None and row["anomaly_score"] == 0 for row in predictions)
    letters = {m.value(): dict(m.headers() or []) for m in kafka.read(made.dead)}
    # The label of an entity without events waits for one.
    assert sorted(letters) == sorted(value for key, value in strange if key != b"nobody")
    stages = Counter(headers["__connect.errors.stage"] for headers in letters.values())
    assert stages == {b"label": 1, b"decode": 2}
    lost = letters[strange[0][1]]
    assert lost["__connect.errors.topic"] == results.encode()
    assert lost["__connect.errors.exception.class.name"] == b"ssm_stream.UnmatchedLabel"
    assert b"waits for a label" in lost["__connect.errors.exception.message"]
    kafka.produce(topic, bare[:50])
    made.run(timeout=600)
    rows = [orjson.loads(m.value() or b"") for m in kafka.read(made.predictions)]
    # Those that came before the labels knew of none.
    assert Counter(row["n"] > 0 for row in rows) == {False: 2000, True: 50}


def test_a_kill_loses_no_event_and_no_label(kafka: Kafka, tmp_path: Path) -> None:
    bare, labels = parted(events(3000))
    topic, results = kafka.topic("events", 3), kafka.topic("labels", 3)
    made = job(kafka, tmp_path / "job", topic, {"topic": results})
    kafka.produce(topic, bare)
    process = made.start()
    kafka.produce(results, labels[:1500])
    deadline = time.monotonic() + 300
    while not kafka.read(made.predictions) and time.monotonic() < deadline:
        time.sleep(0.2)
    process.kill()
    finished(process, 30)
    kafka.produce(results, labels[1500:])
    made.run(timeout=600)
    ids = {orjson.loads(m.value() or b"")["id"] for m in kafka.read(made.predictions)}
    assert len(ids) == 3000
    assert kafka.read(made.dead) == []
    kafka.produce(topic, bare[:60])
    made.run(timeout=600)
    rows = [orjson.loads(m.value() or b"") for m in kafka.read(made.predictions)]
    last = {row["entity"]: row["n"] for row in rows if row["id"] not in ids}
    counted = Counter(key.decode() for key, _ in bare)
    # Those predicted before an entity's first label teach its past targets only.
    assert all(0 < last[name] <= counted[name] for name in last)


# Without a broker.


class Told:
    """A message as the client hands it over."""

    def __init__(self, offset: int, value: bytes) -> None:
        self._offset, self._value = offset, value

    def offset(self) -> int:
        return self._offset

    def value(self) -> bytes:
        return self._value

    def key(self) -> bytes:
        return b"key"

    def headers(self) -> None:
        return None

    def timestamp(self) -> tuple[int, int]:
        return 1, 1_800_000_000_000 + self._offset


def configured(labels: str) -> Config:
    return parse_config(
        "source: {brokers: 'localhost:9092', topic: events}\n"
        f"event: {{entity: e, timestamp: t, features: [a], target: y}}\nstate: {{shards: 3}}\nlabels: {labels}\n"
        "recovery: {directory: null}\n"
    )


def decoded(config: Config, rows: list[dict[str, Any]], topic: str = "events") -> list[tuple[str, Any]]:
    from ssm_stream.kafka.records import Chunk

    messages: Any = [Told(100 + i, orjson.dumps(row)) for i, row in enumerate(rows)]
    return Decoder(config).decode(Chunk(topic, 0, messages))


def test_labels_among_the_events_are_told_apart() -> None:
    config = configured("{topic: null, marker: result, target: result}")
    rows = [{"e": "x", "t": i, "a": 1, **({"result": 2.5} if i % 2 else {})} for i in range(6)]
    rows.append({"e": "x", "t": 9, "result": "high"})
    got = [item for _, item in decoded(config, rows)]
    # In the order of the messages, so that no result depends on how they are cut.
    kinds = [type(item) for item in got[:6]]
    assert kinds == [ShardBatch, LabelBatch] * 3
    labels = [item.labels for item in got if isinstance(item, LabelBatch)]
    assert [each.position.tolist() for each in labels] == [[101], [103], [105]]
    assert [each.target.tolist() for each in labels] == [[2.5]] * 3
    assert [item.offsets for item in got if isinstance(item, ShardBatch)] == [[100], [102], [104]]
    (letters,) = [item for item in got if not isinstance(item, LabelBatch | ShardBatch)]
    assert [dict(r.headers)["__connect.errors.offset"] for r in letters.others] == [b"106"]


def test_ids_join_events_and_labels_and_must_be_there() -> None:
    config = configured("{topic: results, id: ref, event_id: sample.id}")
    got = decoded(config, [{"e": "x", "t": 1, "a": 1, "sample": {"id": 7}}, {"e": "x", "t": 2, "a": 1}])
    (key, batch), (_, letters) = got
    assert len(batch.events) == 1
    assert "sample.id" in dict(letters.others[0].headers)["__connect.errors.exception.message"].decode()
    logic = ShardLogic(config, None)
    logic.on_batch([batch])
    ((label_key, labels),) = decoded(config, [{"e": "x", "ref": "7", "y": 3.0}], "results")
    assert label_key == key
    (output,), _ = logic.on_batch([labels])
    assert output.others == []
    assert logic.engine.label_counts["matched"] == 1
    restored = ShardLogic(config, logic.snapshot())
    assert restored.engine.label_counts == logic.engine.label_counts


def test_a_label_given_up_later_keeps_key_and_value() -> None:
    config = configured("{topic: results, wait: 10s}")
    logic = ShardLogic(config, None)
    ((_, labels),) = decoded(config, [{"e": "x", "t": 100, "y": 3.0}], "results")
    logic.on_batch([labels])
    logic = ShardLogic(config, logic.snapshot())
    ((_, batch),) = decoded(config, [{"e": "x", "t": 200, "a": 1.0}])
    outputs = list(logic.on_batch([batch])[0])
    (record,) = outputs[1].others
    assert (record.key, orjson.loads(record.value or b"")) == (b"key", {"e": "x", "t": 100, "y": 3.0})
    headers = dict(record.headers or [])
    assert headers["__connect.errors.topic"] == b"results"
    assert headers["__connect.errors.offset"] == b"100"


def test_the_labels_topic_is_read_beside_the_events() -> None:
    config = configured("{topic: results}")
    source = KafkaSource(config.source, (0, 1), label_source(config, (0, 2)))
    assert source.list_parts() == ["00000", "00001", "labels:00000", "labels:00002"]
    assert source.labels is not None
    assert source.labels.source.topic == "results"
    assert KafkaSource(config.source, (0,)).list_parts() == ["00000"]


def test_a_horizon_is_told_in_the_predictions() -> None:
    text = (
        "source: {{brokers: 'localhost:9092', topic: events}}\n"
        "event: {{entity: e, timestamp: t, features: [a], target: y}}\nmodel: {{horizon: {}}}\n"
    )
    for horizon, until in (("90s", 90_000), ("2", None)):
        config = parse_config(text.format(horizon))
        ((_, batch),) = decoded(config, [{"e": "x", "t": 0, "a": 1.0, "y": 2.0}])
        (judged,), _ = ShardLogic(config, None).on_batch([batch])
        assert isinstance(judged, PredictedBatch)
        row = orjson.loads(Encoder(config).encode(*judged).values[0])
        assert list(row)[:4] == ["entity", "ts", "for", "y"]
        assert (row["for"], row["y"]) == (until, 2.0)
    assert Encoder(configured("{topic: r}"))._ahead is None
    assert np.isfinite(row["yhat"])
