"""What a process tells of itself: metrics, health, configuration and log lines, of a real run and part by part."""

from __future__ import annotations

import gzip
import http.server
import math
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import numpy as np
import orjson
import pytest
import structlog
from brokers import Kafka, LocalKafka, free_port
from forked import Forked
from patience import SLOWER
from prometheus_client.parser import text_string_to_metric_families
from test_stream import Job, events, finished

from ssm_stream.config import Config, ConfigError, parse_config
from ssm_stream.engine.target_engine import TargetEngine
from ssm_stream.kafka.records import ProducerRecord
from ssm_stream.ops import self_check
from ssm_stream.ops.health import Health
from ssm_stream.ops.logging import Limiter
from ssm_stream.ops.metrics import Metrics
from ssm_stream.ops.observers import ObservedShard, PartitionPosition, Sent, SentBatch
from ssm_stream.ops.prediction_quality import PredictionQuality
from ssm_stream.ops.server import OpsServer, serve
from ssm_stream.ops.traces import Traces
from ssm_stream.verify import golden

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hunter2")


def config(more: str = "", event: str = "features: [a, b]") -> Config:
    return parse_config(
        "source: {brokers: 'localhost:9092', topic: events, kafka: {security.protocol: SASL_SSL, client.id: me, "
        "sasl.mechanism: PLAIN, sasl.username: me, sasl.password: '${SECRET}'}}\n"
        f"event: {{entity: e, timestamp: t, {event}}}\nrecovery: {{directory: null}}\n{more}"
    )


def ask(address: str, path: str, method: str = "GET", headers: dict[str, str] | None = None) -> tuple[int, str, bytes]:
    """Status, content type and body."""
    request = urllib.request.Request(f"http://{address}{path}", method=method, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read()


class Series(dict[tuple[str, tuple[tuple[str, str], ...]], float]):
    """The samples of a page by name and labels."""

    def __init__(self, text: str) -> None:
        self.types = {}
        for family in text_string_to_metric_families(text):
            self.types[family.name] = family.type
            for sample in family.samples:
                self[sample.name, tuple(sorted(sample.labels.items()))] = sample.value

    def of(self, name: str, **labels: str) -> float:
        return sum(v for (n, told), v in self.items() if n == name and labels.items() <= dict(told).items())

    def names(self) -> set[str]:
        return {name for name, _ in self}


def scraped(address: str) -> Series:
    status, kind, body = ask(address, "/metrics")
    assert status == 200
    assert kind.startswith("text/plain")
    return Series(body.decode())


def until(what: Callable[[], bool], seconds: float, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + SLOWER * seconds
    while not what():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(process.communicate()[0][-3000:])
        time.sleep(0.1)


def ready(address: str) -> bool:
    try:
        return ask(address, "/readyz")[0] == 200
    except OSError:
        return False


def end(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """Ends a process as an operator would; its log lines."""
    process.send_signal(signal.SIGTERM)
    output = finished(process, 30)
    assert process.returncode == 0, output
    return [orjson.loads(line) for line in output.splitlines() if line.startswith("{")]


# A real run.


class Collector(http.server.BaseHTTPRequestHandler):
    """Takes OpenTelemetry's traces, as they come over HTTP."""

    spans: ClassVar[list[Any]] = []

    def do_POST(self) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        body = self.rfile.read(int(self.headers["Content-Length"]))
        body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
        request = ExportTraceServiceRequest.FromString(body)
        self.spans.extend(s for r in request.resource_spans for scope in r.scope_spans for s in scope.spans)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def collector() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1/traces"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def told(kafka: Kafka, collector: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run that has processed all of its topic, as its endpoint and its topics show it."""
    address = f"127.0.0.1:{free_port()}"
    topic = kafka.topic("events", 3)
    messages = events(8000, seed=4)
    kafka.produce(topic, messages)
    kafka.produce(topic, [(b"m1", b"no JSON"), (b"m1", b'{"entity": "m1"}'), (b"m1", b"[]"), (b"m1", b"")], 0)
    ops = {"address": address, "traces": collector}
    alerts = {"drift": {"budget": "1 per 500 events"}, "anomaly": {"budget": "1 per 100 events"}}
    job = Job(kafka, tmp_path_factory.mktemp("ops"), topic, ops=ops, epoch="50ms")  # of which it has several
    content = orjson.loads(job.path.read_bytes())
    job.path.write_bytes(orjson.dumps({**content, "alerts": alerts}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_TRACES_SAMPLER_ARG", "1.0")
        patch.setenv("BYTEWAX_DATAFLOW_API_ENABLED", "1")
        process = job.start("--log-format", "json")
    until(lambda: ready(address), 90, process)
    until(lambda: scraped(address).of("ssm_stream_events_total") == len(messages) + 4, 60, process)
    until(lambda: scraped(address).of("ssm_stream_predictions_total") == len(messages), 60, process)
    until(lambda: not math.isnan(scraped(address).of("ssm_stream_verify_deviation_ratio")), 300, process)
    until(lambda: scraped(address).of("ssm_stream_epoch_duration_seconds_count") > 0, 60, process)  # two ends of epochs
    time.sleep(1.5)  # the next look at the lag
    found = {
        "series": scraped(address),
        "openmetrics": urllib.request.urlopen(
            urllib.request.Request(
                f"http://{address}/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}
            )
        ).read(),
        "config": ask(address, "/config"),
        "ready": ask(address, "/readyz"),
        "alive": ask(address, "/healthz"),
        "nothing": ask(address, "/secret"),
        "posted": ask(address, "/config", "POST"),
        "head": ask(address, "/healthz", "HEAD"),
        "count": len(messages),
        "job": job,
    }
    found["log"] = end(process)
    return found


def test_counters_equal_what_is_on_the_topics(told: dict[str, Any], kafka: Kafka) -> None:
    job, series = told["job"], told["series"]
    assert series.of("ssm_stream_events_total", topic=job.topic) == told["count"] + 4
    assert series.of("ssm_stream_predictions_total") == len(kafka.read(job.predictions)) == told["count"]
    alerts = [orjson.loads(message.value() or b"") for message in kafka.read(job.alerts)]
    assert len(alerts) > 5
    by = Counter((a["kind"], a["phase"], a["scope"]) for a in alerts)
    for (kind, phase, scope), count in by.items():
        assert series.of("ssm_stream_alerts_total", kind=kind, phase=phase, scope=scope) == count
    assert series.of("ssm_stream_alerts_total") == len(alerts)
    letters = [dict(message.headers() or []) for message in kafka.read(job.dead)]
    reasons = Counter(h["__connect.errors.exception.class.name"].decode().split(".")[-1] for h in letters)
    assert sum(reasons.values()) == 4
    for reason, count in reasons.items():
        assert series.of("ssm_stream_dead_letters_total", reason=reason, stage="decode") == count


def test_gauges_say_how_it_stands(told: dict[str, Any]) -> None:
    series, topic = told["series"], told["job"].topic
    assert series.of("ssm_stream_entities") == 60
    assert series.of("ssm_stream_ready") == 1
    lags = [v for (name, _), v in series.items() if name == "ssm_stream_consumer_lag_messages"]
    assert lags == [0, 0, 0]
    read = [v for (name, _), v in series.items() if name == "ssm_stream_consumer_last_message_timestamp_seconds"]
    began = series.of("process_start_time_seconds")
    assert len(read) == 3
    # All had been read when the process was scraped, seconds after its last message.
    assert all(began < at < series.of("ssm_stream_last_snapshot_timestamp_seconds") for at in read)
    assert series.of("ssm_stream_consumer_offset", topic=topic) == told["count"] + 4
    assert (
        0
        < series.of("ssm_stream_prediction_mean_absolute_error", target="target")
        < series.of("ssm_stream_prediction_persistence_mean_absolute_error", target="target")
    )
    assert abs(series.of("ssm_stream_interval_coverage_ratio") - series.of("ssm_stream_interval_level_ratio")) < 0.05
    assert series.of("ssm_stream_alarms_allowed_total", kind="anomaly") == pytest.approx(told["count"] / 100)
    assert series.of("ssm_stream_alarms_allowed_total", kind="drift") == pytest.approx(told["count"] / 500)
    assert series.of("ssm_stream_labelled_events_total") == told["count"]
    inside = series.of("ssm_stream_episode_events_total", kind="anomaly")
    assert series.of("ssm_stream_alerts_total", kind="anomaly", phase="started") < inside < told["count"]
    assert 0 <= series.of("ssm_stream_episode_longest_events", kind="anomaly") < told["count"]
    assert series.of("ssm_stream_episode_longest_seconds", kind="drift") >= 0
    assert series.of("ssm_stream_verify_deviation_ratio") == 0
    assert time.time() - series.of("ssm_stream_last_snapshot_timestamp_seconds") < 60
    assert series.of("ssm_stream_config_info", config_hash=told["job"].config.hash, topic=topic) == 1
    assert series.of("ssm_stream_build_info") == 1


def test_histograms_have_seen_every_stage(told: dict[str, Any]) -> None:
    series = told["series"]
    for stage in ("read", "decode", "learn", "encode", "produce", "deliver"):
        assert series.of("ssm_stream_stage_duration_seconds_count", stage=stage) > 0, stage
        assert series.of("ssm_stream_stage_duration_seconds_sum", stage=stage) > 0, stage
    assert series.of("ssm_stream_batch_size_events_sum") == told["count"]
    for name in ("epoch_duration", "snapshot_duration", "end_to_end_latency"):
        assert series.of(f"ssm_stream_{name}_seconds_count") > 0, name
    assert series.of("ssm_stream_snapshot_written_bytes_total") > 10_000


def test_every_metric_is_in_the_documentation_and_follows_the_conventions(told: dict[str, Any]) -> None:
    series = told["series"]
    text = (DOCS / "metrics.md").read_text()
    documented = set(re.findall(r"^\| `(ssm_stream_\w+)` \|", text, re.MULTILINE))
    of_kind = {f"{n}_total" if kind == "counter" else n for n, kind in series.types.items()}
    ours = {name for name in of_kind if name.startswith("ssm_stream_")}
    # Without feedback nobody has judged; without a wait nothing is evicted, which is a 0. Others' are not here: those
    # of a member of a group, of notify, and of a flow that went on over a gap.
    group = ("partitions_held", "partition_unowned_", "topic_partitions", "rebalances_", "stored_snapshot_")
    of_others = (*group, "notify_", "missing_offsets")
    here = {name for name in documented if not name.removeprefix("ssm_stream_").startswith(of_others)}
    assert ours | {"ssm_stream_feedback_total"} == here | (ours & documented)
    assert ours <= documented
    for name in ours:
        assert re.fullmatch(r"[a-z][a-z0-9_]*[a-z]", name), name
        assert not name.endswith(("_ms", "_milliseconds", "_percent", "_kb")), name
    named = {label for (name, labels), _ in series.items() if name.startswith("ssm_stream_") for label, _ in labels}
    assert named <= {
        "topic", "partition", "kind", "phase", "scope", "by", "stage", "reason", "rule", "verdict", "target", "le",
        "config_hash", "delivery", "version", "python", "bytewax", "torch",
    }  # fmt: skip
    values = {value for (name, labels), _ in series.items() if name.startswith("ssm_stream_") for _, value in labels}
    assert not any(re.fullmatch(r"m\d+", value) for value in values), "an entity is a label"


def test_bytewax_is_on_the_same_page_once(told: dict[str, Any]) -> None:
    series = told["series"]
    assert series.of("bytewax_item_inp_count_total") > 0
    assert {"process_resident_memory_bytes", "python_info"} <= series.names()
    text = told["openmetrics"].decode()
    assert text.endswith("# EOF\n")
    families = re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE)
    assert len(families) == len(set(families))


def test_batches_are_traced_by_the_conventions_for_messaging(told: dict[str, Any]) -> None:
    topic, traces = told["job"].topic, dict[bytes, list[Any]]()
    for span in Collector.spans:
        traces.setdefault(span.trace_id, []).append(span)
    polled = processed = 0
    for spans in traces.values():
        (root,) = (span for span in spans if not span.parent_span_id)
        assert root.name == f"poll {topic}"
        assert {span.parent_span_id for span in spans if span is not root} <= {root.span_id}
        said = {a.key: a.value for a in root.attributes}
        assert said["messaging.system"].string_value == "kafka"
        assert said["messaging.operation.type"].string_value == "receive"
        assert said["messaging.destination.name"].string_value == topic
        polled += said["messaging.batch.message_count"].int_value
        for span in spans:
            assert span.start_time_unix_nano < span.end_time_unix_nano
            if span.name == f"process {topic}":
                said = {a.key: a.value for a in span.attributes}
                processed += said["messaging.batch.message_count"].int_value
    assert polled == told["count"] + 4
    assert processed == told["count"]
    sent = {span.name for spans in traces.values() for span in spans} - {f"poll {topic}", f"process {topic}"}
    assert sent == {f"send {told['job'].predictions}"}


def test_traces_without_their_packages_are_refused_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    with pytest.raises(ConfigError, match=r"pip install -e '\.\[otel\]'"):
        Traces(config("ops: {traces: 'http://localhost:4318/v1/traces'}"))


def test_health_and_configuration_are_served(told: dict[str, Any]) -> None:
    assert told["alive"] == (200, "application/json", b'{"alive":true}')
    checks = {"source_assigned": True, "broker_reachable": True, "caught_up": True}
    assert orjson.loads(told["ready"][2]) == {"ready": True, "checks": checks}
    content = orjson.loads(told["config"][2])
    assert content["config_hash"] == told["job"].config.hash
    assert content["source"]["topic"] == told["job"].topic
    assert told["nothing"][0] == 404
    assert "/metrics" in told["nothing"][2].decode()
    assert told["posted"][0] == 405
    assert told["head"][0] == 200
    assert told["head"][2] == b""


def test_the_log_says_what_happens_and_how_far_it_is(told: dict[str, Any]) -> None:
    log, topic = told["log"], told["job"].topic
    names = [line["event"] for line in log]
    assert {"ops_served", "started", "ready", "progress", "self_check", "stopped"} <= set(names)
    assert len(log) < 100, "a line an event"
    hash_ = told["job"].config.hash
    assert all(line["config_hash"] == hash_ for line in log[names.index("started") :])
    lines = [line for line in log if line["event"] == "progress" and line["positions"]]
    assert lines[-1]["lag"] == 0
    assert lines[-1]["entities"] == 60
    assert sum(lines[-1]["positions"][f"{topic}-{p}"] for p in range(3)) == told["count"] + 4


def test_the_last_line_of_the_log_has_where_all_was_left(kafka: Kafka, tmp_path: Path) -> None:
    topic = kafka.topic("events", 3)
    job = Job(kafka, tmp_path, topic, shards=2)
    kafka.produce(topic, events(900))
    for _ in range(2):  # the second run has nothing to read
        lines = [orjson.loads(line) for line in job.run().splitlines() if line.startswith("{")]
        last = [line for line in lines if line["event"] == "progress"][-1]
        assert sum(last["positions"][f"{topic}-{p}"] for p in range(3)) == 900
        assert (last["entities"], last["lag"]) == (60, 0)


def test_not_ready_while_the_broker_is_away(private_kafka: Callable[[], LocalKafka], tmp_path: Path) -> None:
    broker = private_kafka()
    address = f"127.0.0.1:{free_port()}"
    topic = broker.topic("events", 1)
    broker.produce(topic, events(300))
    job = Job(broker, tmp_path, topic, source={"wait": "60s"}, ops={"address": address})
    process = job.start()
    try:
        until(lambda: ready(address), 90, process)
        broker.stop()
        until(lambda: not ready(address), 30, process)
        status, _, body = ask(address, "/readyz")
        assert status == 503
        assert orjson.loads(body)["checks"]["broker_reachable"] is False
        assert ask(address, "/healthz")[0] == 200
        broker.start()
        until(lambda: ready(address), 60, process)
    finally:
        if process.poll() is None:
            end(process)


def test_probes_are_answered_while_a_start_waits_for_its_brokers(tmp_path: Path) -> None:
    path, address, brokers = tmp_path / "monitor.yaml", f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    path.write_text(
        f"source: {{brokers: '{brokers}', topic: t, wait: 60s}}\nevent: {{entity: e, timestamp: t, features: auto}}\n"
        f"recovery: {{directory: null}}\nops: {{address: '{address}'}}\n"
    )
    with Forked("run", str(path), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        line = orjson.loads(process.stderr.readline())
        assert (line["event"], line["brokers"], line["wait_s"]) == ("waiting_for_brokers", brokers, 60.0)
        assert ask(address, "/healthz")[0] == 200
        status, _, body = ask(address, "/readyz")
        assert (status, orjson.loads(body)["checks"]["broker_reachable"]) == (503, False)
        assert b"\nssm_stream_ready 0.0\n" in ask(address, "/metrics")[2]
        assert ask(address, "/ui/")[0] == 503
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read().splitlines()
    assert (process.returncode, [orjson.loads(each)["event"] for each in rest]) == (0, ["stopped"])
    with pytest.raises(urllib.error.URLError):
        ask(address, "/healthz")


# Part by part.


class Reading:
    def __init__(self, *places: PartitionPosition, away: bool = False) -> None:
        self.places, self.away = list(places), away

    def positions(self) -> list[PartitionPosition]:
        return self.places


def place(partition: int, *, caught_up: bool = True, topic: str = "events") -> PartitionPosition:
    return PartitionPosition(topic, partition, 10, 0, caught_up)


@pytest.mark.parametrize(
    ("readers", "cluster", "failing"),
    [
        ([], False, {"source_assigned", "broker_reachable", "caught_up"}),
        ([Reading(place(0))], False, {"source_assigned", "caught_up"}),
        ([Reading(place(0))], True, set()),
        ([Reading(place(0), place(1, caught_up=False))], False, {"caught_up"}),
        ([Reading(place(0), place(1), away=True)], False, {"broker_reachable"}),
        ([Reading(place(0)), Reading(place(0, topic="labels"))], False, set()),
    ],
)
def test_ready_is_who_has_all_and_is_at_the_end_of_it(readers: list[Reading], cluster: bool, failing: set[str]) -> None:
    metrics = Metrics(config())
    for reader in readers:
        metrics.register_reader(reader)
    health = Health(metrics, 2, cluster=cluster)
    assert {name for name, ok in health.checks().items() if not ok} == failing
    assert health.ready == (not failing)


@pytest.fixture
def server() -> Iterator[tuple[str, Metrics]]:
    settings = config(f"ops: {{address: '127.0.0.1:{free_port()}'}}")
    metrics = Metrics(settings)
    made = OpsServer(settings, metrics, Health(metrics, 1))
    assert settings.ops.address is not None
    yield settings.ops.address, metrics
    made.close()


def test_the_configuration_is_shown_without_secrets(server: tuple[str, Metrics]) -> None:
    status, _, body = ask(server[0], "/config")
    assert status == 200
    assert b"hunter2" not in body
    assert orjson.loads(body)["source"]["kafka"][-2:] == ["sasl.username", "security.protocol"]


def test_a_token_closes_metrics_and_configuration_and_leaves_health_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "sixteen-letters!")
    address = f"127.0.0.1:{free_port()}"
    settings = config(f"ops: {{address: '{address}', token: '${{TOKEN}}'}}")
    metrics = Metrics(settings)
    made = OpsServer(settings, metrics, Health(metrics, 1))
    try:
        for path in ("/metrics", "/config"):
            assert ask(address, path)[0] == 401
            assert b"Bearer" in ask(address, path)[2]
            for word, status in (("Bearer sixteen-letters!", 200), ("Bearer sixteen-letters?", 401), ("Basic x", 401)):
                assert ask(address, path, headers={"Authorization": word})[0] == status, word
        assert ask(address, "/healthz")[0] == 200
        assert ask(address, "/readyz")[0] == 503
        told = ask(address, "/config", headers={"Authorization": "Bearer sixteen-letters!"})[2]
        assert b"sixteen" not in told
    finally:
        made.close()
    monkeypatch.setenv("TOKEN", "short")
    with pytest.raises(ConfigError, match="16 characters"):
        config("ops: {token: '${TOKEN}'}")
    with pytest.raises(ConfigError, match="a secret must not be written in the file"):
        config("ops: {token: sixteen-letters!}")


def test_a_busy_address_that_was_chosen_is_an_error_and_the_default_one_is_not(
    server: tuple[str, Metrics], capsys: pytest.CaptureFixture[str]
) -> None:
    settings = config(f"ops: {{address: '{server[0]}'}}")
    metrics = Metrics(settings)
    with pytest.raises(ConfigError, match=r"ops.address: cannot listen on 127.0.0.1:\d+: another process"):
        serve(settings, metrics, Health(metrics, 1))
    default = config()
    assert default.ops.address == "127.0.0.1:9464"
    assert not default.ops.open_to_others
    with socket.socket() as taken:
        try:
            taken.bind(("127.0.0.1", 9464))
            taken.listen()
        except OSError:
            pass  # somebody else has it, which does as well
        assert serve(default, metrics, Health(metrics, 1)) is None
    assert serve(config("ops: {address: null}"), metrics, Health(metrics, 1)) is None


@pytest.mark.parametrize(
    ("ops", "told"),
    [
        ("{address: nowhere}", "ops.address"),
        ("{address: 'localhost:99999'}", "a port is a number from 1 to 65535"),
        ("{adress: 'localhost:9464'}", "did you mean `address`?"),
        ("{log_every: 5m}", "logged once a minute"),
    ],
)
def test_a_wrong_address_is_refused_with_the_cure(ops: str, told: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)):
        config(f"ops: {ops}")


@pytest.mark.parametrize(
    ("address", "open_"),
    [("127.0.0.1:1", False), ("localhost:1", False), ("[::1]:1", False), ("0.0.0.0:1", True), ("[::]:1", True)],
)
def test_an_address_that_others_reach_is_known(address: str, open_: bool) -> None:
    assert config(f"ops: {{address: '{address}'}}").ops.open_to_others is open_


def test_how_the_process_is_watched_decides_nothing() -> None:
    assert config().hash == config("ops: {address: null}").hash


@pytest.mark.parametrize(("rules", "kinds"), [("", ""), ("silence: {after: 10m}, stuck: true", "silence stuck")])
def test_alerts_of_each_kind_are_counted_from_zero(rules: str, kinds: str) -> None:
    """`increase` misses the first alert of a series that begins with it."""
    metrics = Metrics(config(f"alerts: {{{rules}}}"))
    for kind in ("anomaly", "drift", "silence", "stuck", "limit"):
        expected = 0 if kind in f"anomaly drift {kinds}" else None
        assert metrics.value("ssm_stream_alerts_total", kind=kind, phase="started", scope="entity") == expected


def test_a_budget_in_time_allows_by_the_time_that_passes() -> None:
    metrics = Metrics(config("alerts: {drift: {budget: 2 per 1d}, anomaly: {enabled: false}}"))
    metrics.allow_alarms(labelled=100, entities=10, seconds=86_400 / 4)
    metrics.allow_alarms(labelled=0, entities=10, seconds=1e9)  # a wrong clock counts for a day
    assert metrics.value("ssm_stream_alarms_allowed_total", kind="drift") == pytest.approx(2 * 10 * 1.25)
    assert metrics.value("ssm_stream_alarms_allowed_total", kind="anomaly") == 0


def test_a_budget_in_events_allows_by_the_labels_that_come_later() -> None:
    metrics = Metrics(config("labels: {topic: labels}\nalerts: {anomaly: {budget: 1 per 2000 events}}"))
    told, item = np.zeros(500), np.arange(500)
    resolved = SimpleNamespace(item=item, ts=item, y=told, yhat=told, lower=told, upper=told, warmup=told == 1)
    store = SimpleNamespace(row_by_name={})
    engine = SimpleNamespace(resolved_predictions=[resolved], target_engines=[SimpleNamespace(store=store)])
    shard = cast("ObservedShard", SimpleNamespace(engine=engine))
    metrics.on_labels(shard, ["pump-1"] * 500, 0)
    assert metrics.value("ssm_stream_labelled_events_total") == 500
    assert metrics.value("ssm_stream_alarms_allowed_total", kind="anomaly") == pytest.approx(0.25)


def test_the_entities_of_a_teams_budget_are_a_metric_and_only_there() -> None:
    head = "source: {brokers: a, topic: t}\nevent: {entity: e, timestamp: t, features: [a]}\n"
    team = Metrics(parse_config(f"{head}alerts: {{budget: {{alerts: 20, per: 7d, entities: 250}}}}"))
    assert team.value("ssm_stream_alarm_budget_entities") == 250
    assert Metrics(parse_config(head)).value("ssm_stream_alarm_budget_entities") is None
    team.allow_alarms(0, 250, 86_400.0)
    allowed = sum(team.value("ssm_stream_alarms_allowed_total", kind=kind) or 0.0 for kind in ("anomaly", "drift"))
    assert allowed == pytest.approx(20 / 7), "as the team has it, for a day"


def test_what_was_sent_is_counted_by_its_kind() -> None:
    metrics = Metrics(config())
    alert = ProducerRecord("alerts", None, b"", None, 0, Sent("alert", ("drift", "started", "fleet")))
    letter = ProducerRecord("dead-letters", None, b"", None, 0, Sent("dead_letter", ("decode", "NotJson")))
    metrics.on_sent(SentBatch(5, [alert, letter]))
    metrics.on_sent(SentBatch(0, [alert]))
    assert metrics.value("ssm_stream_predictions_total") == 5
    assert metrics.value("ssm_stream_alerts_total", kind="drift", phase="started", scope="fleet") == 2
    assert metrics.value("ssm_stream_dead_letters_total", stage="decode", reason="NotJson") == 1


def test_quality_is_of_the_events_past_their_warm_up_and_follows_the_present() -> None:
    quality, rng = PredictionQuality(), np.random.default_rng(0)
    assert all(map(math.isnan, quality.read()))

    def add(n: int, error: float, *, warm: bool = True) -> None:
        y = rng.normal(size=n)
        side = error * rng.choice([-1, 1], n)
        quality.add(["e"] * n, y, y + side, y + side - 1, y + side + 1, np.full(n, not warm))

    add(1000, 50.0, warm=False)
    assert all(map(math.isnan, quality.read()[::2]))
    for _ in range(100):
        add(100, 0.5)
    assert quality.read().mae == pytest.approx(0.5)
    assert quality.read().coverage == 1.0
    for _ in range(1000):
        add(100, 2.0)
    assert quality.read().mae == pytest.approx(2.0, rel=0.01)
    assert quality.read().coverage < 0.01
    # Normal values: the difference of two has a mean size of 2 / √π.
    assert quality.read().persistence == pytest.approx(2 / math.sqrt(math.pi), rel=0.15)


@pytest.mark.parametrize(("entities", "batch"), [(1, 1), (3, 40), (100, 500), (20_000, 1000)])
def test_repeating_the_last_value_is_judged_now_and_then_at_any_size(entities: int, batch: int) -> None:
    """Each entity counts up: a last value is always 1 off, unless one was missed."""
    quality, rng = PredictionQuality(), np.random.default_rng(0)
    level, most = np.zeros(entities), 0
    for _ in range(400):
        who = rng.integers(0, entities, batch)
        y = np.empty(batch)
        for i, e in enumerate(who.tolist()):
            level[e] += 1
            y[i] = level[e]
        quality.add([f"e{e}" for e in who.tolist()], y, y, y, y, np.zeros(batch, bool))
        most = max(most, len(quality._samples[0].last))
    assert quality.read() == (0.0, pytest.approx(1.0), 1.0)
    assert most <= 10_000, "a large fleet is not remembered"


def test_both_errors_are_of_the_same_events_after_a_catch_up() -> None:
    """10 entities whose value jumps by 1 at each event; then few events with jumps of 9, one at a time."""
    quality, sides = PredictionQuality(), np.ones(10)
    for i in range(6):
        y = np.tile(sides, 1000) * np.repeat(np.arange(1000) % 2, 10)
        quality.add([f"e{k % 10}" for k in range(10_000)], y, y + 1.0, y, y, np.zeros(10_000, bool), i % 3)
    assert quality.read()[:2] == pytest.approx((1.0, 1.0)), "a few large batches are enough"
    for k in range(200):
        y = np.full(1, 9.0 * (k // 10 % 2))
        quality.add([f"e{k % 10}"], y, y + 9.0, y, y, np.zeros(1, bool))
    found = quality.read()
    assert 1.05 < found.mae < 1.15
    assert found.persistence == pytest.approx(found.mae, rel=0.05), "not 9, and not 1"


def test_a_fleet_in_its_warm_up_is_not_remembered_for_ever() -> None:
    quality, warm = PredictionQuality(), np.ones(1000, bool)
    y, paused = np.zeros(1000), 0
    for i in range(100):
        quality.add([f"e{(1000 * i + k) % 5000}" for k in range(1000)], y, y, y, y, warm)
        paused += not quality._samples[0].last
    assert paused > 75


def test_a_line_that_comes_again_and_again_is_left_out_and_counted() -> None:
    limit = Limiter(limit=2, window=0.05)

    def say(name: str, level: str = "info") -> dict[str, Any] | None:
        try:
            return dict(limit(None, level, {"event": name}))
        except structlog.DropEvent:
            return None

    assert [say("a") for _ in range(5)] == [{"event": "a"}] * 2 + [None] * 3
    assert say("b") == {"event": "b"}
    assert all(say("a", "error") for _ in range(5)), "an error is always said"
    time.sleep(0.06)
    assert say("a") == {"event": "a", "left_out": 3}
    assert say("a") == {"event": "a"}


def test_the_self_check_finds_the_golden_bits() -> None:
    assert self_check.check_core() == 0.0


def test_the_self_check_finds_one_wrong_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    right = TargetEngine.process

    def wrong(self: TargetEngine, *args: Any) -> Any:
        predictions, alerts = right(self, *args)
        predictions.yhat[200] = np.nextafter(predictions.yhat[200], np.inf)
        return predictions, alerts

    monkeypatch.setattr(TargetEngine, "process", wrong)
    assert 0.0 < self_check.check_core() < 1e-12


def test_a_self_check_without_its_golden_results_is_not_a_number(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = golden.FILE.read_bytes()
    monkeypatch.setattr(golden, "FILE", tmp_path / "golden.npz")
    assert math.isnan(self_check.check_core())
    for size in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        golden.FILE.write_bytes(whole[:size])
        assert math.isnan(self_check.check_core()), size
