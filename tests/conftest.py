"""Fixtures: a broker for the session, a mock cluster for faults, private brokers that may be stopped."""

from __future__ import annotations

import functools
import gc
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import typer.testing
from brokers import Choice, Kafka, LocalKafka, MockKafka, choose_broker, local_obstacle, start_broker, start_local
from brokers.keeper import Keeper, kept
from hypothesis import settings
from registry import registry_obstacle

from ssm_stream.kafka.client import BrokerError

sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
"""Hundreds of processes start in these tests: each that must compile the product itself takes twice as long."""
for _library in ("OMP", "OPENBLAS"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")
"""As many processes run tests as there is room for: arithmetic on more threads takes more CPU, and no less time."""
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")
"""An example may take seconds where others use the machine: that is no failure."""
gc.disable()  # until all is loaded, of which nothing is garbage; and none of it is looked at again
chosen = functools.cache(choose_broker)
kept_broker = functools.cache(kept)
typer.testing._get_command = functools.cache(typer.testing._get_command)  # type: ignore[attr-defined]
"""The commands are made from their functions once, which takes 30 ms, and not for each that a test runs."""
FIRST = (
    "group_inputs", "throughput_benchmark", "torture", "verify", "rewind", "stream", "learner", "operators", "group",
    "outages", "secure_kafka", "kept", "entity_limiter", "topics", "tuning", "mcp", "context_rows", "store", "rounds",
    "tuning_targets", "init", "registry_failures", "repartition", "notify", "transactions", "contract", "target_all",
    "notify_benchmark", "dead_letters", "tune_feedback", "state", "training", "alerts", "context", "group_state",
    "flows", "tls", "foresight", "formats", "control", "input_changes", "ui", "readings_stream", "added_partitions",
    "resume", "docs", "paper_page", "broker", "summaries", "rename_feature", "alert_rules", "windows_stream",
    "ui_call", "episodes", "accuracy_benchmark", "reproduce_alert", "plugin_benchmark", "single_event", "ops",
    "containers", "finite",
)  # fmt: skip
"""The files that take the longest begin first, so that none is left over for one worker at the end."""


def pytest_report_header() -> list[str]:
    try:
        choice = chosen()
    except BrokerError as error:
        raise pytest.UsageError(str(error)) from None
    registry = registry_obstacle() or f"Apicurio ({os.environ['SCHEMA_REGISTRY_HOME']})"
    return [f"kafka: {choice.kind} ({choice.reason})", f"schema registry: {registry}"]


def pytest_configure(config: pytest.Config) -> None:
    # A shell starts what runs in its background with Ctrl-C ignored, and so would be every process of a test.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None) or config.option.collectonly:
        return
    with suppress(BrokerError):  # the report's header says which
        if chosen().kind == "Apache Kafka":
            folder = cache.mkdir("kafka") if (cache := getattr(config, "cache", None)) is not None else None
            keeper = Keeper(folder, whole=config.args_source is pytest.Config.ArgsSource.TESTPATHS)
            keeper.start()
            config.add_cleanup(keeper.end)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {f"test_{name}": i for i, name in enumerate(FIRST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(FIRST)))


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()
    gc.set_threshold(10_000, 20, 50)  # a tenth of the CPU of tests that make many objects, none of them garbage


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """The broker that `choose_broker` names, one for all tests: use topics of your own (`kafka.topic(...)`)."""
    directory = tmp_path_factory.mktemp("kafka")
    choice = chosen()
    if (shared := kept_broker()) is not None:
        yield shared
        return
    try:
        broker = start_broker(choice, directory)
    except subprocess.SubprocessError as error:  # only Docker: its image may be out of reach
        instead = "mock" if local_obstacle() else "noida-db"
        warnings.warn(f"kafka: {instead} instead (Docker could not start Kafka: {error})", stacklevel=1)
        broker = start_broker(Choice(instead, str(error)), directory)
    yield broker
    broker.close()


@pytest.fixture(scope="module", autouse=True)
def _few_topics() -> Iterator[None]:
    """The topics of a file end with it: the more there are, the longer takes what lists them all, as a start does."""
    yield
    if kept_broker.cache_info().currsize and (shared := kept_broker()) is not None:
        shared.delete_topics()


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


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of a server that speaks S3, with a bucket `states`, which the environment has."""
    from object_server import S3Server

    server = S3Server()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield server.environment["AWS_ENDPOINT_URL"].removeprefix("http://")
    server.stop()
