"""With several targets: the prediction that a reproduced alert explains is that of the target that began it."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from brokers import Kafka
from test_reproduce_alert import ALERTS, explained, run
from test_stream import Job, events


@pytest.fixture(scope="module")
def job(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("several")
    topic = kafka.topic("events", 1)
    sent = events(3000, seed=3)
    last = orjson.loads(sent[0][1])
    paths = [name for name, value in last.items() if isinstance(value, float)][:3]
    kafka.produce(topic, sent)
    made = Job(kafka, folder, topic)
    content = orjson.loads(made.path.read_bytes())
    kept = {name: content["event"][name] for name in ("entity", "timestamp")}
    content["event"] = {**kept, "target": "all", "features": sorted(paths)}
    made.path.write_bytes(orjson.dumps({**content, "alerts": ALERTS, "model": {"warmup": 20}}))
    made.run()
    return made


def test_the_target_that_began_is_explained(job: Job, tmp_path: Path) -> None:
    told = {wanted: orjson.loads(sent) for wanted, sent in job.told_alerts().items()}
    first = sorted(orjson.loads(job.path.read_bytes())["event"]["features"])[0]
    others = [
        wanted
        for wanted, message in told.items()
        if message["scope"] == "entity" and message["target"] not in (None, first) and message["y"] is not None
    ]
    assert others, {message["target"] for message in told.values()}
    wanted = others[0]
    found = explained(job, wanted)
    assert found["same"] is True
    assert found["explanation"]["target"] == told[wanted]["target"]
    assert found["explanation"]["yhat"] == pytest.approx(told[wanted]["yhat"], rel=1e-6)
    shown = run("explain", str(job.path), wanted, "--html", str(tmp_path / "a.html")).output
    assert f", {told[wanted]['target']} at " in shown
    assert f", {told[wanted]['target']} at " in (tmp_path / "a.html").read_text()
