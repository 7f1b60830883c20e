"""The demonstration: an embedded broker, a bundled recording, and the production dataflow in a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson

from ssm_stream.config import Config, load_config
from ssm_stream.core.loop import Predictions
from ssm_stream.evaluate.recordings import Recording, count_rows
from ssm_stream.evaluate.scores import Scores
from ssm_stream.kafka.client import client_properties
from ssm_stream.kafka.embedded_broker import EmbeddedBroker
from ssm_stream.kafka.replay import ReplayError, replay
from ssm_stream.kafka.topic_reader import follow_topics
from ssm_stream.ops.bytewax_metrics import free_port

PARTITIONS = 1  # the car parks of a partition learn together
TOPICS_ONE = ("alerts", "dead-letters")
LIVE_PAGE_SETTINGS = "\nops: {{address: '127.0.0.1:{port}', ui: true}}\nalerts: {{feedback: {{topic: feedback}}}}\n"
"""Appended to the configuration for the live page."""
TIMEOUT = 60.0  # seconds without a result after which the demonstration fails


class DemoError(RuntimeError):
    """The demonstration failed; the text has the reason."""


class Progress(NamedTuple):
    """The messages since the last call; of dead letters their number."""

    predictions: list[dict[str, Any]]
    alerts: list[dict[str, Any]]
    dead_letters: int


def recording() -> Path:
    """Return the bundled recording."""
    return Path(str(resources.files("ssm_stream.data"))) / "parking_birmingham.csv.gz"


def demonstrate(
    rate: float, on_progress: Callable[[Progress], None], on_page: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """Replay the bundled recording through Kafka into the production dataflow.

    Args:
        rate: events a second
        on_progress: called a few times a second, from this thread
        on_page: called with the URL of the live page once it is served; the flow then continues after the recording
            until a KeyboardInterrupt. None: without a page

    Returns:
        the figures of the summary

    Raises:
        DemoError: the dataflow ended early or produced nothing for too long.
    """
    file = recording()
    total = count_rows(file)
    topics = {"events": PARTITIONS, "predictions": PARTITIONS, **dict.fromkeys((*TOPICS_ONE, "feedback"), 1)}
    with EmbeddedBroker(topics) as broker, tempfile.TemporaryDirectory(prefix="ssm-stream-demo-") as folder:
        os.environ["SSM_STREAM_DEMO_BROKERS"] = broker.bootstrap_servers
        path = file.with_name("demo.yaml")
        if on_page is not None:
            path, text, port = Path(folder) / "demo.yaml", path.read_text(), free_port()
            path.write_text(text + LIVE_PAGE_SETTINGS.format(port=port))
        config = load_config(path)
        with _dataflow(path, Path(folder) / "log.txt") as flow:
            if on_page is not None:
                on_page(_page_url(port, flow))
            with _replaying(config, file, rate) as failed:
                result = _collect(config, total, flow, failed, on_progress)
            if on_page is not None:
                with contextlib.suppress(KeyboardInterrupt):
                    flow.wait()
            return result


def _page_url(port: int, flow: subprocess.Popen[bytes]) -> str:
    """Return the URL of the live page once its server accepts connections."""
    deadline = time.monotonic() + TIMEOUT
    while flow.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        time.sleep(0.05)
    return f"http://127.0.0.1:{port}/ui/"


@contextlib.contextmanager
def _dataflow(path: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run `ssm-stream run` exactly as in production; end it by SIGTERM."""
    command = [sys.executable, "-m", "ssm_stream", "run", str(path)]
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)
    try:
        yield process
        if process.poll() not in (None, 0):
            raise DemoError(f"the dataflow ended with exit code {process.returncode}:\n{log.read_text()[-2000:]}")
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def _replaying(config: Config, file: Path, rate: float) -> Iterator[list[str]]:
    """Send the recording to the events topic in a thread; yields a list that receives an error, if any."""
    stop, failed = threading.Event(), list[str]()

    def work() -> None:
        try:
            replay(
                client_properties(config.source), config.source.topic, iter(Recording(file)), config.event,
                rate=rate, should_stop=stop.is_set,
            )  # fmt: skip
        except ReplayError as error:
            failed.append(str(error))

    thread = threading.Thread(target=work, name="replay", daemon=True)
    thread.start()
    try:
        yield failed
    finally:
        stop.set()
        thread.join(10)


def _collect(
    config: Config,
    total: int,
    flow: subprocess.Popen[bytes],
    failed: list[str],
    on_progress: Callable[[Progress], None],
) -> dict[str, Any]:
    """Read the outputs until every event has a prediction or a dead letter, and return the figures."""
    sinks = config.sinks
    scores, done, dead_letters = Scores(), 0, 0
    began, last = 0.0, time.monotonic()
    for messages in follow_topics(config.source, {"predictions": PARTITIONS, **dict.fromkeys(TOPICS_ONE, 1)}):
        predictions: list[dict[str, Any]] = []
        alerts: list[dict[str, Any]] = []
        letters = 0
        for message in messages:
            topic = message.topic()
            if topic == sinks.dead_letters:
                letters += 1
            else:
                value = orjson.loads(message.value() or b"")
                (predictions if topic == sinks.predictions else alerts).append(value)
        now = time.monotonic()
        if predictions or alerts or letters:
            last, began = now, began or now
            done, dead_letters = done + len(predictions), dead_letters + letters
            _count(scores, predictions, alerts)
            on_progress(Progress(predictions, alerts, letters))
        if done + dead_letters >= total:
            break
        ended = flow.poll() is not None
        if ended or now - last > TIMEOUT or failed:
            why = failed[0] if failed else "the dataflow ended" if ended else f"no result for {TIMEOUT:.0f} s"
            raise DemoError(f"the demonstration stopped after {done:,} of {total:,} events: {why}")
    seconds = time.monotonic() - began
    return {
        **scores.total(),
        "level": config.model.interval,
        "dead_letters": dead_letters,
        "seconds": seconds,
        "events_per_s": done / seconds,
    }


def _count(scores: Scores, predictions: list[dict[str, Any]], alerts: list[dict[str, Any]]) -> None:
    """Add messages to the scores."""

    # An entity's messages come in order, as its partition has them; alerts may come before their prediction is read.
    def column(name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.array([p[name] for p in predictions], np.float64)  # null becomes NaN

    predicted = Predictions(
        column("yhat"),
        column("yhat_lower"),
        column("yhat_upper"),
        column("anomaly_score"),
        column("warmup").astype(np.bool_),
        column("n").astype(np.int64),
        column("fleet"),
    )
    # A fleet alert belongs to no entity.
    names = ["" if a["scope"] == "fleet" else a["entity"] for a in alerts]
    started = [f"{name}\t{a['kind']}" for name, a in zip(names, alerts, strict=True) if a["phase"] == "started"]
    scores.add([p["entity"] for p in predictions], column("y"), predicted, started)
