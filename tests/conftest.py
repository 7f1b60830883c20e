"""Fixtures: a broker for the session, a mock cluster for faults, private brokers that may be stopped."""

from __future__ import annotations

import functools
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from brokers import Choice, Kafka, LocalKafka, MockKafka, choose_broker, local_obstacle, start_broker, start_local

from ssm_stream.config import parse_config
from ssm_stream.engine.engine import Engine
from ssm_stream.ingest.events import EventReader
from ssm_stream.kafka.client import BrokerError
from ssm_stream.kafka.decoder import Decoder
from ssm_stream.kafka.encoder import Encoder
from ssm_stream.kafka.records import ShardBatch
from ssm_stream.kernels.cache import are_compiled

# A machine's first start compiles the kernels, which takes about a minute.
EVENTS = "source: {brokers: a, topic: t}\nevent: {entity: e, timestamp: t, features: [a]}"
chosen = functools.cache(choose_broker)


def pytest_report_header() -> str:
    try:
        choice = chosen()
    except BrokerError as error:
        raise pytest.UsageError(str(error)) from None
    return f"kafka: {choice.kind} ({choice.reason})"


BEGIN = """
import sys
sys.path.insert(0, sys.argv[1])
"""
COMPILE = (
    """
from conftest import have_kernels
have_kernels()
import test_learner
small = test_learner.CASES["no features"]
test_learner.fused(small, small.stream())
from test_labels import config
from ssm_stream.ui.compile_explain import compile_explain
compile_explain(config("features: [a, b]"))
""",
    """
from test_labels import LATE, apart, bare, config, fleet, labels_of
from ssm_stream.engine.engine import Engine
events, engine = apart(fleet(40), 0), Engine(config("features: [a, b]", LATE))
engine.process(bare(events))
engine.learn(labels_of(events))
import test_verify
from ssm_stream.verify.certificate import verify
verify(test_verify.parsed(), test_verify.rows(300))
""",
)
compiling: list[subprocess.Popen[bytes]] = []
FIRST = 240.0
"""Seconds that the compilation of the first kernels may take."""


def pytest_sessionstart(session: pytest.Session) -> None:
    """On a fresh machine the kernels are compiled by two processes of their own: those of `run`, which the tests wait
    for, so that no two compile the same, then those of explanations; and beside them those of late labels, then of
    certificates."""
    if are_compiled() or session.config.option.collectonly:
        return
    if not hasattr(session.config, "workerinput"):  # the one process that starts the others, or is alone
        for code in COMPILE:
            command = [sys.executable, "-c", BEGIN + code, str(Path(__file__).parent)]
            compiling.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    deadline = time.monotonic() + FIRST
    while not are_compiled() and time.monotonic() < deadline:
        if compiling and compiling[0].poll() is not None:
            break  # the tests will say why
        time.sleep(0.5)


def pytest_sessionfinish() -> None:
    for process in compiling:
        process.kill()
        process.wait()


def have_kernels() -> None:
    """Compile the kernels that `run` needs, or read them from the disk."""
    config = parse_config(EVENTS)
    events, _ = EventReader(config.event).read([{"e": "m", "t": i, "a": i, "target": i} for i in range(3)])
    Decoder(config)
    Encoder(config).encode(ShardBatch(0, events, [0, 1, 2]), *Engine(config).process(events))


@pytest.fixture(scope="session")
def compiled() -> None:
    """The kernels are on disk: for tests that measure time, or start processes that must answer soon."""
    have_kernels()


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """The broker that `choose_broker` names, one for the session: use topics of your own (`kafka.topic(...)`)."""
    directory = tmp_path_factory.mktemp("kafka")
    choice = chosen()
    try:
        broker = start_broker(choice, directory)
    except subprocess.SubprocessError as error:  # only Docker: its image may be out of reach
        instead = "mock" if local_obstacle() else "noida-db"
        warnings.warn(f"kafka: {instead} instead (Docker could not start Kafka: {error})", stacklevel=1)
        broker = start_broker(Choice(instead, str(error)), directory)
    yield broker
    broker.close()


@pytest.fixture
def mock_kafka() -> Iterator[MockKafka]:
    """librdkafka's mock cluster, new for the test, with faults."""
    with MockKafka() as broker:
        yield broker


@pytest.fixture
def private_kafka(tmp_path: Path) -> Iterator[Callable[[], LocalKafka]]:
    """A function that starts a broker of the test's own, which it may stop and start again."""
    if (obstacle := local_obstacle()) is not None:
        pytest.skip(obstacle)
    started: list[LocalKafka] = []

    def start() -> LocalKafka:
        started.append(start_local(tmp_path / f"broker-{len(started)}"))
        return started[-1]

    yield start
    for broker in started:
        broker.close()
