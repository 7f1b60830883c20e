"""The flows of the checkout, and the service by a runner of one's own: no effects before they run, state kept."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bytewax.operators as op
import orjson
import pytest
from brokers import Kafka
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow, Stream
from bytewax.testing import run_main
from patience import SLOWER
from test_stream import Job, events, finished

import ssm_stream.operators as sop

ROOT = Path(__file__).parents[1]
PURE = """
import signal, socket, sys, threading, time

began = time.perf_counter()
opened = []
effects = ("socket.connect", "socket.bind", "subprocess.Popen")
sys.addaudithook(lambda event, args: opened.append(event) if event in effects else None)
handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
import flows.monitor, flows.replay
imported = time.perf_counter() - began
flow = flows.monitor.build(sys.argv[1])
flows.replay.build(sys.argv[1], "recording.csv")
assert not opened, opened
assert threading.active_count() == 1, threading.enumerate()
assert handlers == [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
print(imported)
"""


def content(folder: Path) -> dict[str, Any]:
    return {
        "source": {"brokers": "127.0.0.1:9", "topic": "events"},
        "event": {"entity": "entity", "timestamp": "ts", "features": ["a", "b"]},
        "recovery": {"directory": str(folder / "state")},
    }


def test_importing_and_building_have_no_effects(tmp_path: Path) -> None:
    """No thread, no connection, no file, no signal handler, without a broker."""
    file = tmp_path / "monitor.yaml"
    file.write_bytes(orjson.dumps(content(tmp_path)))
    done = subprocess.run(
        [sys.executable, "-c", PURE, str(file)], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == [file]


def test_the_wheel_has_no_flows() -> None:
    """A package of that name is the user's own."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["scikit-build"]["wheel"]["packages"] == ["ssm_stream"]


OWN = """
import sys
from datetime import timedelta
from pathlib import Path

from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main

import flows.monitor

folder = Path(sys.argv[2])
if not folder.exists():
    folder.mkdir()
    init_db_dir(folder, 2)
cli_main(
    flows.monitor.build(sys.argv[1]),
    workers_per_process=int(sys.argv[3]),
    epoch_interval=timedelta(seconds=0.2),
    recovery_config=RecoveryConfig(str(folder), timedelta(0)),
)
"""


@pytest.fixture
def job(kafka: Kafka, tmp_path: Path) -> Callable[..., Job]:
    def make(messages: list[tuple[bytes, bytes]], name: str = "job", topic: str = "") -> Job:
        if not topic:
            topic = kafka.topic("events", 3)
            kafka.produce(topic, messages)
        return Job(kafka, tmp_path / name, topic)

    return make


def test_a_runner_of_ones_own_keeps_the_state(job: Callable[..., Job], kafka: Kafka, tmp_path: Path) -> None:
    """State in the snapshots; killed, and started again with other numbers of workers: every message as by `run`."""
    n = 4_000
    calm = job(events(n), "calm")
    calm.run()
    mine = job([], "mine", calm.topic)
    folder = tmp_path / "mine-state"

    def start(workers: int) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", OWN, str(mine.path), str(folder), str(workers)],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    for workers in (1, 3, 2):
        process, before = start(workers), len(mine.messages())
        deadline = time.monotonic() + 30
        while len(mine.messages()) <= before < n and time.monotonic() < deadline:
            time.sleep(0.1)
        process.kill()
        process.communicate()
    kafka.produce(calm.topic, events(500, seed=1))
    calm.run()
    expected = calm.messages()
    process = start(1)
    deadline = time.monotonic() + 60
    while len(mine.messages()) < len(expected) and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    output = finished(process, 20)
    assert process.returncode == 0, output
    assert mine.messages() == expected


def test_a_missing_broker_is_one_sentence(tmp_path: Path) -> None:
    """Neither frames of Python nor of Rust."""
    file = tmp_path / "monitor.yaml"
    given = content(tmp_path)
    given["source"]["wait"] = "1s"
    file.write_bytes(orjson.dumps(given))
    done = subprocess.run(
        [sys.executable, "-c", OWN, str(file), str(tmp_path / "r"), "1"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "127.0.0.1:9" in done.stderr
    assert "panicked" not in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ")


def run_until(flow: str, done: Callable[[], bool], state: Path, timeout: float = 60) -> str:
    """Run a flow of the checkout by Bytewax's runner until something is so; returns its output."""
    state.mkdir()
    subprocess.run([sys.executable, "-m", "bytewax.recovery", str(state), "2"], check=True, timeout=30)
    path = state / "output"  # a pipe that nobody reads would be full after 64 KiB
    with path.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "bytewax.run", flow, "-r", str(state), "-s", "1", "-b", "0"],
            cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
    deadline = time.monotonic() + SLOWER * timeout
    while not done() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.3)
    # Python loses an interrupt that comes in a callback of a C library: Bytewax's own runner hears the next one.
    deadline = time.monotonic() + 40
    while process.poll() is None and time.monotonic() < deadline:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
    if process.poll() is None:
        process.kill()
        pytest.fail(f"still running after 40 s:\n{path.read_text()[-3000:]}")
    output = path.read_text()
    assert done(), output
    return output


def test_an_enrichment_in_front(job: Callable[..., Job], kafka: Kafka, tmp_path: Path) -> None:
    """Fields of a table reach the model; dead letters of both steps reach the topic."""
    made = job([*events(600), (b"x", b"no json"), (b"m1", b'{"entity": "m1"}')])
    given = orjson.loads(made.path.read_bytes())
    given["event"]["features"] = ["a", "b", "power"]
    made.path.write_bytes(orjson.dumps(given))
    table = tmp_path / "machines.csv"
    table.write_text("machine,power\n" + "".join(f"m{i},{i}\n" for i in range(60)))
    flow = f"flows.enriched:build({str(made.path)!r}, {str(table)!r})"
    run_until(flow, lambda: len(made.ids()) == 600 and len(kafka.read(made.dead)) == 2, tmp_path / "r")
    values = [message.value() for message in kafka.read(made.dead)]
    assert b"no json" in values
    assert b'{"entity": "m1"}' in values, "as it came, without the field of the table"


def test_two_monitors_of_one_topic(job: Callable[..., Job], tmp_path: Path) -> None:
    first = job(events(500), "first")
    second = job([], "second", first.topic)
    given = orjson.loads(second.path.read_bytes())
    given["event"]["target"] = "a"
    given["event"]["features"] = ["b"]
    second.path.write_bytes(orjson.dumps(given))
    flow = f"flows.two_monitors:build({str(first.path)!r}, {str(second.path)!r})"
    run_until(flow, lambda: len(first.ids()) == len(second.ids()) == 500, tmp_path / "r")
    assert first.messages().keys() >= second.ids().keys()
    assert first.messages() != second.messages()


def test_alerts_joined_with_their_predictions(job: Callable[..., Job], tmp_path: Path) -> None:
    calm = job(events(9_000), "calm")
    calm.run()
    expected = {name: orjson.loads(value) for name, value in calm.told_alerts().items()}
    expected = {name: alert for name, alert in expected.items() if alert["scope"] == "entity"}
    assert expected
    written = tmp_path / "r" / "output"
    flow = f"flows.alert_context:build({str(calm.path)!r})"
    output = run_until(flow, lambda: written.read_text().count('{"alert"') >= len(expected), tmp_path / "r")
    found = [orjson.loads(line) for line in output.splitlines() if line.startswith('{"alert"')]
    assert {each["alert"]["id"]: each["alert"] for each in found} == expected
    assert all(each["alert"]["id"].startswith(each["predictions"][-1]["id"]) for each in found)
    assert max(len(each["predictions"]) for each in found) == 20


def test_batches_from_topic_to_topic_in_a_flow_of_ones_own(job: Callable[..., Job]) -> None:
    """`kafka_input(…, batches=True)`: columns from the source to the sink, to the byte what `run` writes."""
    calm = job([*events(1_200), (b"x", b"no json")], "calm")
    calm.run()
    mine = job([], "mine", calm.topic)
    config, flow = mine.config, Dataflow("mine")
    decoded = sop.decode("decode", sop.kafka_input("source", flow, config, batches=True, until_eof=True), config)
    watched = sop.monitor("watch", decoded.events, config)
    sop.kafka_output("sink", op.merge("all", watched.batches, decoded.letters), config)
    run_main(flow)
    assert mine.messages() == calm.messages()
    assert len(mine.kafka.read(mine.dead)) == 1


def test_connectors_of_bytewax_do_as_well(job: Callable[..., Job], kafka: Kafka) -> None:
    calm = job(events(600), "calm")
    calm.run()
    mine = job([], "mine", calm.topic)
    config, flow, brokers = mine.config, Dataflow("mine"), [kafka.bootstrap_servers]
    read = kop.input("source", flow, brokers=brokers, topics=[mine.topic], tail=False)
    watched = sop.monitor("watch", sop.decode("decode", read.oks, config).events, config)
    both: Stream[Any] = op.merge("both", watched.predictions, watched.alerts)
    kop.output("sink", sop.encode("encode", both, config), brokers=brokers, topic="unused")
    run_main(flow)
    assert mine.messages() == calm.messages()
