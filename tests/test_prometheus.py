"""A real Prometheus scrapes a real run under load with our rules: every query of the dashboard and every rule works,
and those that should have data do.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from brokers import Kafka, free_port
from patience import SLOWER
from programs import program
from prometheus_client import start_http_server
from test_alert_rules import ALERTS, BY_ENTITY, DASHBOARD, PROMETHEUS, RULES, names_in
from test_stream import Job, events, finished

from ssm_stream.notify.metrics import NotifyMetrics

EMPTY = {
    "What fires": "nothing is wrong",
    "What operators said": "there is no feedback",
    "Starts": "it was started once",
    "Partitions by member": "it is no member of a group",
    "Rebalances": "it is no member of a group",
    "State of a partition": "it is no member of a group",
    "Age of a partition's state": "it is no member of a group",
    "Partitions that nobody reads": "it is no member of a group",
    "Time without an owner": "it is no member of a group",
}
"""Charts that may have nothing to show in a run of seconds, and why."""
CHOSEN = {"$__rate_interval": "10s", "$__range": "30s", "$job": "ssm-stream.*", "$instance": ".*"}
"""Grafana's variables and what they stand for here."""


GROUP_ALONE = {"ssm_stream_partitions_held", "ssm_stream_topic_partitions"}
"""Series that the members of a group have alone: tests/test_alert_rules.py knows them."""


class Prometheus:
    """One on a free loopback port, with the shipped configuration and rules at a faster pace."""

    def __init__(self, folder: Path, scraped: str, notify: str) -> None:
        content = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
        content["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
        content["scrape_configs"] = [
            {"job_name": job, "static_configs": [{"targets": [address]}]}
            for job, address in ((content["scrape_configs"][0]["job_name"], scraped), ("ssm-stream-notify", notify))
        ]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(content))
        shutil.copy(PROMETHEUS / "rules.yml", folder)
        self.address = f"127.0.0.1:{free_port()}"
        # setpriv: a test run that is killed takes it along.
        guard = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
        options = [f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [*guard, program("prometheus"), *options, f"--web.listen-address={self.address}", "--log.level=warn"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.log = folder / "log"
        deadline = time.monotonic() + 30
        while not self._ready():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.address}/-/ready", timeout=10) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError):
            return False

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of an answer.

        Raises:
            AssertionError: with what it said of the query.
        """
        try:
            with urllib.request.urlopen(
                f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}", timeout=10
            ) as answer:
                content = json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{parameters}: {error.read().decode()}") from error
        assert content["status"] == "success", content
        assert not content.get("warnings"), content["warnings"]
        return content["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return found

    def until(self, expression: str, seconds: float) -> None:
        """Wait until it has a result."""
        deadline = time.monotonic() + SLOWER * seconds
        while not self.query(expression):
            assert time.monotonic() < deadline, f"after {SLOWER * seconds:g} s: nothing for {expression}"
            time.sleep(0.2)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="module")
def watched(
    kafka: Kafka, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Prometheus, Callable[[], None], subprocess.Popen[str]]]:
    """A Prometheus, what sends some more events, and the process that reads them."""
    program("prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    address, topic = f"127.0.0.1:{free_port()}", kafka.topic("events", 2)
    job = Job(kafka, folder / "job", topic, ops={"address": address})
    content = orjson.loads(job.path.read_bytes())
    job.path.write_bytes(orjson.dumps({**content, "state": {**content["state"], "max_entities": 1000}}))
    content = orjson.loads(job.path.read_bytes())
    # An entity has an event in 60 ms: about one false alarm of a kind in 100 events.
    content["alerts"] = {"budget": {"alerts": 72_000, "per": "1h", "entities": 60}}
    job.path.write_bytes(orjson.dumps(content))
    sent = events(40_000, seed=4)
    before: list[int] = [0]

    def more() -> None:
        kafka.produce(topic, [*sent[before[0] : before[0] + 1500], (b"m1", b"no JSON")])
        before[0] += 1500

    notify = free_port()
    server, _ = start_http_server(notify, "127.0.0.1", NotifyMetrics(["slack"]).registry)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BYTEWAX_DATAFLOW_API_ENABLED", "1")
        process = job.start()
    prometheus = Prometheus(folder, address, f"127.0.0.1:{notify}")
    try:
        yield prometheus, more, process
    finally:
        prometheus.stop()
        server.shutdown()
        process.send_signal(signal.SIGTERM)
        assert "Traceback" not in finished(process, 30)
        assert process.returncode == 0


@pytest.fixture(scope="module")
def prometheus(watched: tuple[Prometheus, Callable[[], None], subprocess.Popen[str]]) -> Prometheus:
    """After some seconds of load and several epochs."""
    found, more, _ = watched
    found.until("ssm_stream_ready == 1", 90)
    for _ in range(5):
        more()
        time.sleep(0.5)
    for expression in (
        "sum(ssm_stream_predictions_total) == 7500",
        "ssm_stream_alerts_total > 0",
        "rate(ssm_stream_snapshot_duration_seconds_count[10s]) > 0",
        "job_instance:ssm_stream_dead_letters:ratio15m > 0",
    ):
        found.until(expression, 60)
    more()  # so that rates over the last seconds are not zero
    time.sleep(1.2)
    return found


def here(expression: str) -> str:
    for name, value in CHOSEN.items():
        expression = expression.replace(name, value)
    assert "$" not in expression
    return expression


def test_every_chart_has_something_to_show(prometheus: Prometheus) -> None:
    panels = [*DASHBOARD["panels"], *BY_ENTITY["panels"]]
    targets = [(panel["title"], target) for panel in panels for target in panel.get("targets", [])]
    asked = [(title, target["expr"]) for title, target in targets if "expr" in target]
    asked += [(each["name"], each["expr"]) for each in DASHBOARD["annotations"]["list"] if "expr" in each]
    assert len(asked) > 40
    silent = {title for title, expression in asked if not prometheus.query(here(expression))}
    assert silent <= set(EMPTY), silent - set(EMPTY)


def test_what_charts_show_is_true(prometheus: Prometheus) -> None:
    """Not only some number: behind by nothing, better than the last value, the share of dead letters that was sent."""

    def shown(title: str) -> float:
        [panel] = [p for p in DASHBOARD["panels"] if p["title"] == title and p["type"] == "stat"]
        [series] = prometheus.query(here(panel["targets"][0]["expr"]))
        return float(series["value"][1])

    assert shown("Ready") == 1
    assert shown("Entities now") == 60
    assert 0 < shown("Events") < 5000
    assert 0 <= shown("Behind now") < 10
    assert 0 < shown("Dead letters") < 0.01
    assert 0 < shown("Error against the last value") < 1
    assert 0 < shown("Latency, p99") <= 43200


def test_every_rule_is_evaluated(prometheus: Prometheus) -> None:
    groups = prometheus.ask("rules")["groups"]
    rules = {rule["name"]: rule for group in groups for rule in group["rules"]}
    assert set(rules) == {rule.get("alert") or rule["record"] for rule in RULES}
    for name, rule in rules.items():
        assert (rule["health"], rule.get("lastError", "")) == ("ok", ""), name
    assert all(prometheus.query(rule["record"]) for rule in RULES if "record" in rule)


def test_every_rule_looks_at_series_that_are_there(prometheus: Prometheus) -> None:
    """Healthy, an alert's expression has no result; what it is made of must have one."""
    names = {name for rule in ALERTS for name in names_in(rule["expr"])}
    for name in names - GROUP_ALONE:  # rules are evaluated, and pages are scraped, every few seconds
        prometheus.until(name, 20)
    assert {name for name in names if not prometheus.query(name)} == GROUP_ALONE


def test_nothing_fires_in_a_healthy_run_but_what_was_made_to(prometheus: Prometheus) -> None:
    """Alerts that need longer are pending at most; their texts are whole."""
    alerts = prometheus.ask("alerts")["alerts"]
    assert not [alert["labels"] for alert in alerts if alert["state"] == "firing"]
    for alert in alerts:
        assert all("error" not in text.lower() or "<" not in text for text in alert["annotations"].values()), alert


def test_the_names_and_units_are_those_that_prometheus_wants(prometheus: Prometheus) -> None:
    targets = prometheus.ask("targets")["activeTargets"]
    assert len(targets) == 2, "the flow and notify"
    for target in targets:
        assert (target["health"], target["lastError"]) == ("up", "")
        with urllib.request.urlopen(target["scrapeUrl"], timeout=10) as answer:
            page = answer.read()
        ours = b"".join(line for line in page.splitlines(keepends=True) if b"ssm_stream_" in line)
        told = subprocess.run([program("promtool"), "check", "metrics"], input=ours, capture_output=True, check=False)
        assert (told.returncode, told.stderr.decode()) == (0, "")


def test_it_says_when_the_process_is_gone(
    prometheus: Prometheus, watched: tuple[Prometheus, Callable[[], None], subprocess.Popen[str]]
) -> None:
    """The last test: the process is stopped, and the alert for that is pending within a scrape or two."""
    process = watched[2]
    process.send_signal(signal.SIGTERM)
    finished_within(process, 30)
    prometheus.until('ALERTS{alertname="SsmStreamDown", alertstate="pending"}', 20)


def finished_within(process: subprocess.Popen[str], seconds: float) -> None:
    deadline = time.monotonic() + SLOWER * seconds
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    assert process.poll() == 0
