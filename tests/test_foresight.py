"""What doctor and the start know beforehand: rights without writing, and settings of topics."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from brokers import ApacheKafka, Kafka, free_port, kafka_obstacle
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from forked import ran
from test_group import member
from test_stream import Job, events, finished
from test_transactions import ExactJob

from ssm_stream.config import load_config
from ssm_stream.flow.doctor import Check, diagnose

LOGIN = {
    "security.protocol": "SASL_PLAINTEXT",
    "sasl.mechanism": "PLAIN",
    "sasl.username": "flow",
    "sasl.password": "secret-7",
}


class GuardedKafka(ApacheKafka):
    """A node with rights: on its own port everything is allowed, on `guarded` the user `flow` needs each right."""

    guarded = 0

    def _format(self, settings: Path) -> None:
        super()._format(settings)
        self.guarded = free_port()
        text = settings.read_text()
        sasl = f"SASL_PLAINTEXT://127.0.0.1:{self.guarded}"
        text = text.replace("\nlisteners=", f"\nlisteners={sasl},")
        text = text.replace("\nadvertised.listeners=", f"\nadvertised.listeners={sasl},")
        text = text.replace("map=PLAINTEXT:", "map=SASL_PLAINTEXT:SASL_PLAINTEXT,PLAINTEXT:")
        module = "org.apache.kafka.common.security.plain.PlainLoginModule"
        lines = {
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            "sasl.enabled.mechanisms": "PLAIN",
            "inter.broker.listener.name": "PLAINTEXT",
            "listener.name.sasl_plaintext.plain.sasl.jaas.config": f'{module} required user_flow="secret-7";',
        }
        settings.write_text(text + "".join(f"{name}={value}\n" for name, value in lines.items()))

    def allow(self, operation: AclOperation, kind: ResourceType, name: str, *, prefixed: bool = False) -> None:
        client = AdminClient({"bootstrap.servers": self.bootstrap_servers})
        pattern = ResourcePatternType.PREFIXED if prefixed else ResourcePatternType.LITERAL
        binding = AclBinding(kind, name, pattern, "User:flow", "*", operation, AclPermissionType.ALLOW)
        for answer in client.create_acls([binding]).values():
            answer.result(20)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedKafka]:
    if (obstacle := kafka_obstacle()) is not None:
        pytest.skip(obstacle)
    kafka = GuardedKafka(tmp_path_factory.mktemp("guarded"))
    yield kafka
    kafka.close()


def failed(checks: list[Check]) -> dict[str, list[Check]]:
    found: dict[str, list[Check]] = {}
    for check in checks:
        if not check.ok:
            found.setdefault(check.name, []).append(check)
    return found


def test_each_right_is_known_without_writing(
    guarded: GuardedKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other is granted; what is missing is named with its topic, by doctor and by the start."""
    monkeypatch.setenv("FLOW_PASSWORD", LOGIN["sasl.password"])
    topic = guarded.topic("events", 1)
    guarded.produce(topic, events(50))
    made = ExactJob(guarded, tmp_path / "job", topic)
    secret = {**LOGIN, "sasl.password": "${FLOW_PASSWORD}"}
    brokers = f"127.0.0.1:{guarded.guarded}"
    made.write(source={"brokers": brokers, "kafka": secret, "wait": "10s"})
    sinks = [made.predictions, made.alerts, made.dead]
    for name in [topic, *sinks]:
        guarded.allow(AclOperation.DESCRIBE, ResourceType.TOPIC, name)
    guarded.allow(AclOperation.WRITE, ResourceType.TOPIC, made.predictions)
    guarded.allow(AclOperation.WRITE, ResourceType.TOPIC, made.alerts)

    missing = " ".join(f"{check.found} {check.cure}" for check in failed(diagnose(made.config))["rights"])
    assert f"right Read on topic {topic!r}" in missing
    assert f"right Write on topic {made.dead!r}" in missing
    assert made.predictions not in missing
    process = made.start("--until-eof")
    output = finished(process, 60)
    assert process.returncode == 1, output
    assert f"lacks the right Read on topic {topic!r}" in output
    assert "start the broker" not in output

    guarded.allow(AclOperation.READ, ResourceType.TOPIC, topic)
    found = failed(diagnose(made.config))
    missing = " ".join(check.found for check in found["rights"])
    assert f"Write on topic {made.dead!r}" in missing
    assert f"Read on topic {topic!r}" not in missing
    assert f"Read on group {made.config.source.group_id!r}" in missing
    assert f"Read on group '{made.config.source.group_id}-writer-0003'" in missing
    process = made.start("--until-eof")
    output = finished(process, 60)
    assert process.returncode == 1, output
    assert "lacks the right " in output
    assert not guarded.read(made.dead)

    guarded.allow(AclOperation.WRITE, ResourceType.TOPIC, made.dead)
    for group in ("", *(f"-writer-000{i}" for i in range(4))):
        guarded.allow(AclOperation.READ, ResourceType.GROUP, made.config.source.group_id + group)
    assert "rights" not in failed(diagnose(made.config))


def test_a_member_needs_its_group_and_the_prefix_of_its_transactions(
    guarded: GuardedKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their name is another one at each start, and there is no group with a marker."""
    monkeypatch.setenv("FLOW_PASSWORD", LOGIN["sasl.password"])
    topics = {name: guarded.topic(name, 1) for name in ("events", "predictions", "alerts", "dead_letters")}
    events_topic = topics.pop("events")
    guarded.produce(
        events_topic, [(f"m{i % 2}", json.dumps({"e": f"m{i % 2}", "t": i, "y": i % 5})) for i in range(40)]
    )
    file, log = tmp_path / "member.yaml", tmp_path / "member.log"
    source = {"brokers": f"127.0.0.1:{guarded.guarded}", "topic": events_topic, "assignment": "group", "wait": "30s"}
    content = {
        "source": {**source, "kafka": {**LOGIN, "sasl.password": "${FLOW_PASSWORD}"}},
        "event": {"entity": "e", "timestamp": "t", "target": "y", "features": []},
        "sinks": topics, "delivery": "exactly_once", "recovery": {"epoch_interval": "200ms"},
        "state": {"store": str(tmp_path / "store")}, "ops": {"address": None},
    }  # fmt: skip
    file.write_text(json.dumps(content))
    group = load_config(file).source.group_id
    guarded.allow(AclOperation.READ, ResourceType.TOPIC, events_topic)
    for name in topics.values():
        guarded.allow(AclOperation.WRITE, ResourceType.TOPIC, name)
    done = ran("run", str(file))
    assert done.returncode == 1
    assert f"lacks the right Read on group {group!r}" in done.stderr
    guarded.allow(AclOperation.READ, ResourceType.GROUP, group)
    assert "rights" not in failed(diagnose(load_config(file)))
    began = time.monotonic()
    done = ran("run", str(file))
    assert (done.returncode, time.monotonic() - began < 25) == (1, True), "it is not waited for"
    assert f"operation Write on the transactional ids that begin with '{group}-'" in done.stderr
    assert "joining_again" not in done.stderr
    guarded.allow(AclOperation.WRITE, ResourceType.TRANSACTIONAL_ID, f"{group}-", prefixed=True)
    with member(file, log):
        assert len(guarded.read(topics["predictions"], expected=40, timeout=60)) == 40, log.read_text()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"cleanup.policy": "compact"}, "is compacted"),
        ({"cleanup.policy": "compact,delete"}, "is compacted"),
        ({"retention.ms": "3600000"}, "for 1 h only"),
    ],
)
def test_an_events_topic_that_loses_events(kafka: Kafka, tmp_path: Path, settings: dict[str, str], words: str) -> None:
    if kafka.kind != "Apache Kafka":
        pytest.skip("needs the settings of topics")
    topic = kafka.topic("events", 1, settings)
    kafka.produce(topic, events(20))
    made = Job(kafka, tmp_path / "job", topic)
    (check,) = failed(diagnose(made.config))["topic settings"]
    assert words in check.found
    assert topic in check.found
    assert check.cure
    assert '"event": "topic_settings"' in made.run()


def test_a_topic_that_takes_too_little(kafka: Kafka, tmp_path: Path) -> None:
    if kafka.kind != "Apache Kafka":
        pytest.skip("needs the settings of topics")
    topic = kafka.topic("events", 1)
    kafka.produce(topic, events(20))
    made = Job(kafka, tmp_path / "job", topic)
    small = kafka.topic("alerts", 1, {"max.message.bytes": "2000"})
    middling = kafka.topic("predictions", 1, {"max.message.bytes": "100000"})
    made.path.write_text(made.path.read_text().replace(made.alerts, small).replace(made.predictions, middling))
    found = {check.found.split("'")[1]: check for check in failed(diagnose(made.config))["topic settings"]}
    assert set(found) == {small, middling}
    assert "max.message.bytes" in found[small].cure
    assert "batch.size" in found[middling].cure
