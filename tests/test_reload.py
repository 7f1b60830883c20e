"""`run --watch`: a changed file is taken over as a restart would, or refused with the reason while the flow goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from brokers import Kafka, free_port
from bytewax.recovery import init_db_dir
from notified import until as wait_until
from test_ops import ask, until
from test_stream import Job, events, finished

from ssm_stream.config import Config, parse_config
from ssm_stream.config.changes import NOT_LIVE
from ssm_stream.flow import reload
from ssm_stream.flow.reload import RefusedError, Reload, live_changes
from ssm_stream.kafka.client import STOP

BASE: dict[str, Any] = {
    "source": {"brokers": "a:1", "topic": "t"},
    "event": {"entity": "e", "timestamp": "t", "features": ["a"]},
}


def config(folder: Path, **changes: Any) -> Config:
    content = orjson.loads(orjson.dumps({**BASE, "recovery": {"directory": str(folder)}}))
    for path, value in changes.items():
        *above, last = path.split("__")
        section = content
        for key in above:
            section = section.setdefault(key, {})
        section[last] = value
    return parse_config(orjson.dumps(content).decode())


def test_what_decides_no_state_and_what_migrates_one_is_live(tmp_path: Path) -> None:
    old = config(tmp_path)
    assert live_changes(old, config(tmp_path)) == []
    new = config(tmp_path, alerts__drift__budget="1 per 500 events", sinks__kafka={"linger.ms": 20}, ops__ui=True)
    told = live_changes(old, new)
    assert [line.split(":")[0] for line in told] == ["alerts.drift.budget", "sinks.kafka.linger.ms", "ops.ui"]
    assert told[1].startswith("sinks.kafka.linger.ms: unset → *** (kept")


@pytest.mark.parametrize(
    "changes",
    [
        {"source__brokers": "b:1"},
        {"source__topic": "u"},
        {"source__partitions": [0]},
        {"source__start": "latest"},
        {"source__group": "g"},
        {"delivery": "exactly_once"},
        {"recovery__directory": "/elsewhere"},
    ],
)
def test_another_stream_is_not_taken_over(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = next(iter(changes)).replace("__", ".")
    with pytest.raises(RefusedError, match=f"{path}: {NOT_LIVE[path]}"):
        live_changes(config(tmp_path), config(tmp_path, **changes))


def test_what_a_start_would_refuse_too_names_no_start_as_its_cure(tmp_path: Path) -> None:
    old = config(tmp_path, event__target="all", event__features=["a", "b"])
    with pytest.raises(RefusedError, match="none of the targets stays") as caught:
        live_changes(old, config(tmp_path, event__target="all", event__features=["c", "d"]))
    assert "start it again" not in str(caught.value)
    with pytest.raises(RefusedError, match=r"event\.features: it changes .* or targets, .* start it again"):
        live_changes(old, config(tmp_path, event__target="all", event__features=["a", "b", "c"]))
    elsewhere = config(
        tmp_path, event__target="all", event__features=["a", "b", "c"], recovery__directory=str(tmp_path / "other")
    )
    with pytest.raises(RefusedError, match=r"event\.features: it changes .* start it again"):
        live_changes(old, elsewhere)


def test_times_may_be_read_otherwise_in_the_life_of_a_state(tmp_path: Path) -> None:
    """A producer that changes the form of its times is no reason to forget what was learned."""
    old = config(tmp_path, event__timestamp_format="iso")
    (change,) = live_changes(old, config(tmp_path))
    assert change.startswith("event.timestamp_format: iso → auto (migrated: the learner stays")
    (change,) = live_changes(old, config(tmp_path, event__timestamp="time", event__timestamp_format="iso"))
    assert change.startswith("event.timestamp: ")
    assert "→ time (migrated: the learner stays" in change


def test_the_databases_of_a_running_flow_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second SQLite in their process cuts the shared memory of the first, which dies of it now and then."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a database was opened")

    init_db_dir(tmp_path, 1)
    monkeypatch.setattr("ssm_stream.recovery.bytewax_db.sqlite3.connect", refuse)
    told = live_changes(config(tmp_path), config(tmp_path, alerts__drift__budget="1 per 500 events"))
    assert len(told) == 1
    assert "(migrated: " in told[0]
    with pytest.raises(RefusedError, match=r"the state cannot continue with it:\n  event\.time_zone"):
        live_changes(config(tmp_path), config(tmp_path, event__time_zone="Asia/Tokyo"))
    with pytest.raises(RefusedError, match=r"while the flow runs:\n  event\.features: it changes the learner's inputs"):
        live_changes(config(tmp_path), config(tmp_path, event__features=["b"]))


def test_nothing_is_taken_over_without_a_state_on_disk(tmp_path: Path) -> None:
    old = config(tmp_path, recovery__directory=None)
    with pytest.raises(RefusedError, match="a reload would lose what was learned"):
        live_changes(old, config(tmp_path, recovery__directory=None, alerts__drift__budget="1 per 500 events"))


def lines(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    process.send_signal(signal.SIGTERM)
    output = finished(process, 30)
    assert process.returncode == 0, output
    return [orjson.loads(line) for line in output.splitlines() if line.startswith("{")]


def running(address: str) -> str | None:
    """Hash of the configuration that a process runs."""
    try:
        return str(orjson.loads(ask(address, "/config")[2])["config_hash"])
    except OSError:
        return None


def change(job: Job, **sections: Any) -> None:
    content = orjson.loads(job.path.read_bytes())
    job.path.write_bytes(orjson.dumps({**content, **sections}))


def test_a_run_that_is_changed_is_one_that_was_restarted(kafka: Kafka, tmp_path: Path) -> None:
    """Budget changed between two halves of the stream, by reload and by restart: every id once, the same state."""
    first, second = events(2000, seed=1), events(4000, seed=1)[2000:]
    alerts = {"drift": {"budget": "1 per 200 events"}}

    def made(name: str, **keys: Any) -> Job:
        topic = kafka.topic("events", 3)
        kafka.produce(topic, first)
        return Job(kafka, tmp_path / name, topic, **keys)

    calm = made("calm")
    calm.run()
    change(calm, alerts=alerts)
    kafka.produce(calm.topic, second)
    calm.run()

    address = f"127.0.0.1:{free_port()}"
    live = made("live", ops={"address": address})
    process = live.start("--watch", "--log-format", "json")
    told: Callable[[], int] = lambda: sum(live.ids().values())  # noqa: E731
    until(lambda: told() == 2000, 60, process)
    before = live.config.hash
    change(live, alerts=alerts)
    after = live.config.hash
    until(lambda: running(address) == after, 30, process)
    kafka.produce(live.topic, second[:1000])
    until(lambda: told() == 3000, 60, process)
    good = live.path.read_bytes()
    for bad in (
        b"source: [",
        good.replace(b'"features": ["a", "b"]', b'"features": ["a"]').replace(b'["a","b"]', b'["a"]'),
        good.replace(live.predictions.encode(), b"no-such-topic"),
    ):
        assert bad != good
        live.path.write_bytes(bad)
        time.sleep(2.5)  # two looks at the file
    kafka.produce(live.topic, second[1000:])
    until(lambda: told() == 4000, 60, process)
    log = lines(process)
    names = [line["event"] for line in log]
    refused = [line["error"] for line in log if line["event"] == "config_refused"]
    live.path.write_bytes(good)

    assert names.count("config_reloading") == 2, "the missing topic is only found when it is asked for"
    (reloading, _) = (line for line in log if line["event"] == "config_reloading")
    assert any(text.startswith("alerts.drift.budget: ") and "migrated" in text for text in reloading["changes"])
    assert len(refused) == 3
    assert "not valid YAML" in refused[0]
    assert "event.features" in refused[1]
    assert "the learner's inputs" in refused[1]
    assert "no-such-topic" in refused[2]
    assert [line["config_hash"] for line in log if line["event"] == "started"] == [before, after, after]
    assert log[-1]["event"] == "stopped"
    assert log[-1]["reason"] == "signal"
    assert set(live.ids().values()) == {1}
    assert live.state() == calm.state()


def test_a_file_that_is_saved_again_as_it_was_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was refused for a topic that did not exist, which exists now."""
    monkeypatch.setattr(reload, "POLL_EVERY", 0.01)
    monkeypatch.setattr(reload, "SETTLED", 0.01)
    file = tmp_path / "config.yaml"
    file.write_bytes(orjson.dumps({**BASE, "recovery": {"directory": str(tmp_path)}, "alerts": {"language": "ja"}}))
    with Reload(file, config(tmp_path)) as found:
        time.sleep(0.3)
        assert found.new_config is None, "it is refused once, not again and again"
        saved = file.stat().st_mtime_ns + 1_000_000_000
        os.utime(file, ns=(saved, saved))
        wait_until(lambda: found.new_config is not None)
    STOP.clear()
    assert found.new_config is not None
    assert found.new_config.alerts.language == "ja"


def test_half_a_file_is_not_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an editor has written so far may well be a configuration, with other settings than are meant."""
    monkeypatch.setattr(reload, "POLL_EVERY", 0.01)
    monkeypatch.setattr(reload, "SETTLED", 0.5)
    file, running_ = tmp_path / "config.yaml", config(tmp_path)
    whole = {**BASE, "recovery": {"directory": str(tmp_path)}, "model": {"warmup": 20}, "alerts": {"language": "ja"}}
    file.write_bytes(orjson.dumps({**BASE, "recovery": {"directory": str(tmp_path)}}))
    with Reload(file, running_) as found:
        file.write_bytes(b"")
        time.sleep(0.05)
        file.write_bytes(orjson.dumps({**whole, "alerts": {}}))
        time.sleep(0.05)
        file.write_bytes(orjson.dumps(whole))
        wait_until(lambda: found.new_config is not None)
    STOP.clear()
    assert found.new_config is not None
    assert found.new_config.alerts.language == "ja"
