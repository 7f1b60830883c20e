"""Apache Kafka's own TLS, logins and permissions: who is let in, and what a missing right is reported as."""

from __future__ import annotations

import os
import re
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
import yaml
from brokers.apache import kafka_obstacle
from brokers.secure import USER, Right, SecureKafka
from certificates import Authority
from forked import ran
from tokens import issuer
from typer.testing import CliRunner

from ssm_stream.cli.app import app
from ssm_stream.config import Config, parse_config
from ssm_stream.kafka.client import BrokerError
from ssm_stream.kafka.cluster import check_broker

PASSWORD = "pw-of-the-test"
EVENTS = 120
DELIVERIES = ["at_least_once", "exactly_once"]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    if (why := kafka_obstacle()) is not None:
        pytest.skip(why)
    kafka = SecureKafka(tmp_path_factory.mktemp("secure"), PASSWORD)
    yield kafka
    kafka.close()


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PW", PASSWORD)


def trusting(broker: SecureKafka) -> dict[str, Any]:
    return {"ssl.ca.location": str(broker.authority.certificate)}


def login(broker: SecureKafka, mechanism: str) -> dict[str, Any]:
    user = {"sasl.mechanism": mechanism, "sasl.username": USER, "sasl.password": "${PW}"}
    return trusting(broker) | user | {"security.protocol": "SASL_SSL"}


def certified(broker: SecureKafka, authority: Authority, user: str = USER) -> dict[str, Any]:
    mine = authority.issue(f"user-{uuid.uuid4().hex[:8]}", subject=user)
    own = {"ssl.certificate.location": str(mine.certificate), "ssl.key.location": str(mine.key)}
    return trusting(broker) | own | {"security.protocol": "SSL"}


class Flow(NamedTuple):
    """A configuration with topics of its own, and what its user must be allowed."""

    file: Path
    content: dict[str, Any]
    rights: list[Right]

    @property
    def topics(self) -> dict[str, str]:
        sinks = self.content["sinks"]
        return {"events": self.content["source"]["topic"], **sinks}

    @property
    def config(self) -> Config:
        return parse_config(yaml.safe_dump(self.content), "f.yaml")

    def run(self) -> subprocess.CompletedProcess[str]:
        """`ssm-stream run` to the end of the topic, from an empty recovery directory."""
        directory = str(self.file.parent / f"state-{uuid.uuid4().hex[:8]}")
        changed = {**self.content, "recovery": {**self.content["recovery"], "directory": directory}}
        self.file.write_text(yaml.safe_dump(changed))
        done = ran("run", str(self.file), "--until-eof")
        assert PASSWORD not in done.stdout + done.stderr
        return done

    def doctor(self, *options: str) -> str:
        checked = CliRunner().invoke(app, ["doctor", str(self.file), *options])
        assert PASSWORD not in checked.output
        return " ".join(checked.output.split())


def flow(broker: SecureKafka, folder: Path, kafka: dict[str, Any], delivery: str, wait: str = "20s") -> Flow:
    """The rights are those of the tables in docs/security.md."""
    topics = {name: broker.topic(name) for name in ("events", "predictions", "alerts", "dead_letters")}
    good = [orjson.dumps({"e": f"m{i % 7}", "t": 60 * i, "a": i % 5, "target": i % 5}) for i in range(EVENTS)]
    broker.produce(topics["events"], [*good, b"no event"])
    events = topics.pop("events")
    group = f"ssm-stream-{events}"
    servers = broker.login_servers if "sasl.mechanism" in kafka else broker.tls_servers
    content = {
        "delivery": delivery,
        "source": {"brokers": servers, "topic": events, "wait": wait, "kafka": kafka},
        "event": {"entity": "e", "timestamp": "t", "features": ["a"]},
        "sinks": topics,
        "recovery": {"directory": str(folder / "state"), "epoch_interval": "500ms"},
        "ops": {"address": None},
    }
    rights = [Right("Read", "topic", events), Right("Read", "group", group)]
    rights += [Right("Write", "topic", topic) for topic in topics.values()]
    if delivery == "exactly_once":
        rights.append(Right("Write", "transactional_id", f"{group}-", prefixed=True))
        rights.append(Right("Read", "group", f"{group}-", prefixed=True))
        rights += [Right("DescribeConfigs", "topic", topic) for topic in topics.values()]
    return Flow(folder / "monitor.yaml", content, rights)


# Who is let in.


@pytest.mark.parametrize(
    ("how", "delivery"),
    [
        ("SCRAM-SHA-512", "at_least_once"),
        ("SCRAM-SHA-512", "exactly_once"),
        ("PLAIN", "exactly_once"),
        ("certificate", "exactly_once"),
        ("OAUTHBEARER", "exactly_once"),
    ],
)
def test_a_run_as_a_user_with_no_more_than_its_rights(
    how: str, delivery: str, broker: SecureKafka, tmp_path: Path
) -> None:
    with issuer(PASSWORD) as tokens:
        if how == "certificate":
            kafka = certified(broker, broker.authority)
        elif how == "OAUTHBEARER":
            client = {"sasl.oauthbearer.client.id": USER, "sasl.oauthbearer.client.secret": "${PW}"}
            kafka = trusting(broker) | tokens.properties | client | {"security.protocol": "SASL_SSL"}
        else:
            kafka = login(broker, how)
        made = flow(broker, tmp_path, kafka, delivery)
        broker.grant(made.rights)
        done = made.run()
        assert done.returncode == 0, done.stderr
        # a broker that is busy may be waited for
        lines = [line for line in done.stderr.splitlines() if '"waiting_for_brokers"' not in line]
        assert "warning" not in "".join(lines), done.stderr
        topics = made.topics
        assert len(broker.read(topics["predictions"], expected=EVENTS)) == EVENTS
        assert len(broker.read(topics["dead_letters"], expected=1)) == 1
        assert "all" in (said := made.doctor()), said
        assert "checks passed" in said, said
        broker.take(made.rights)


def refusal(broker: SecureKafka, kafka: dict[str, Any]) -> BrokerError:
    servers = broker.login_servers if "sasl.mechanism" in kafka else broker.tls_servers
    source = {"brokers": servers, "topic": "events", "wait": "2s", "kafka": kafka}
    content = {"source": source, "event": {"entity": "e", "timestamp": "t", "features": ["a"]}}
    with pytest.raises(BrokerError) as caught:
        check_broker(parse_config(yaml.safe_dump(content), "f.yaml").source)
    assert os.environ["PW"] not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_a_wrong_password_is_refused(mechanism: str, broker: SecureKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PW", "another-pw")
    assert "sasl.*" in refusal(broker, login(broker, mechanism)).cure


def test_an_old_token_is_refused(broker: SecureKafka) -> None:
    with issuer(PASSWORD) as tokens:
        tokens.lifetime = -3600
        client = {"sasl.oauthbearer.client.id": USER, "sasl.oauthbearer.client.secret": "${PW}"}
        refused = refusal(broker, trusting(broker) | tokens.properties | client | {"security.protocol": "SASL_SSL"})
    assert "sasl.*" in refused.cure


def test_only_certificates_of_the_authority_are_let_in(broker: SecureKafka, tmp_path: Path) -> None:
    assert "ssl.*" in refusal(broker, trusting(broker) | {"security.protocol": "SSL"}).cure
    assert "ssl.*" in refusal(broker, certified(broker, Authority(tmp_path, "other-ca"))).cure


def test_a_broker_of_another_authority_is_not_believed(broker: SecureKafka, tmp_path: Path) -> None:
    stranger = {"ssl.ca.location": str(Authority(tmp_path, "other-ca").certificate)}
    refused = refusal(broker, login(broker, "SCRAM-SHA-512") | stranger)
    assert "is not trusted" in refused.found
    assert "ssl.*" in refused.cure


def test_a_login_without_tls_is_refused(broker: SecureKafka) -> None:
    kafka = login(broker, "SCRAM-SHA-512") | {"security.protocol": "SASL_PLAINTEXT"}
    del kafka["ssl.ca.location"]
    assert "security.protocol" in refusal(broker, kafka).cure


# What they may do.

RESOURCES = {"topic": "topics?", "group": "(?:consumer )?group", "transactional_id": "transactional id"}


def names_right(said: str, right: Right) -> bool:
    """Whether a text has the operation, the kind of resource and its name, which a prefix begins: as it is known
    beforehand (`lacks the right Write on topic`), or as the broker refuses it (`the operation Write on the topic`)."""
    name = re.escape(right.name) + ("" if right.prefixed else "'")
    found = rf"the (?:operation|right) {right.operation} on (?:the )?{RESOURCES[right.resource]} '[^:]*{name}"
    return re.search(found, said) is not None


@pytest.mark.parametrize("delivery", DELIVERIES)
def test_each_missing_right_is_named(delivery: str, broker: SecureKafka, tmp_path: Path) -> None:
    """Taken away entirely, so that the user may not even see the resource."""
    made = flow(broker, tmp_path, login(broker, "SCRAM-SHA-512"), delivery, wait="3s")
    broker.grant(made.rights)
    for right in made.rights:
        with broker.without(right):
            done, checked = made.run(), made.doctor()
        if right.operation == "DescribeConfigs":  # Kafka's default size counts
            (line,) = [orjson.loads(line) for line in done.stderr.splitlines() if "limits_unknown" in line]
            assert done.returncode == 0
            assert line["topics"] == [right.name]
            assert "DescribeConfigs" in line["cure"]
            continue
        if delivery == "exactly_once" and right.resource == "group" and not right.prefixed:
            # The prefix, too, ends in a hyphen: positions for lag tools are committed in this group only.
            assert names_right(checked, right), checked
        assert done.returncode == 1, f"{right}: {done.stderr}"
        assert names_right(" ".join(done.stderr.split()), right), f"{right}: {done.stderr}"
        assert "Traceback" not in done.stderr
        assert "panicked" not in done.stderr
        if right.resource in ("topic", "group") and not right.prefixed:
            assert names_right(checked, right), f"{right}: {checked}"
    assert made.run().returncode == 0


@pytest.mark.parametrize("delivery", DELIVERIES)
def test_a_right_to_see_is_none_to_use(delivery: str, broker: SecureKafka, tmp_path: Path) -> None:
    """The user has Describe on everything: the broker refuses later, when it is used."""
    kafka = login(broker, "SCRAM-SHA-512")
    made = flow(broker, tmp_path, kafka, delivery, wait="3s")
    for i, (operation, *_) in enumerate(made.rights):
        if operation == "DescribeConfigs":
            continue
        made = flow(broker, tmp_path, kafka, delivery, wait="3s")
        broker.grant(made.rights)
        broker.grant({each._replace(operation="Describe") for each in made.rights})
        right = made.rights[i]
        if right.name == made.topics["alerts"]:
            continue  # these events raise none
        broker.take([right])
        done = made.run()
        text = " ".join(done.stderr.split())
        assert names_right(text, right), f"{right}: {text}"
        positions = right.resource == "group" and not right.prefixed  # only lag tools miss these
        assert done.returncode == (0 if positions else 1), f"{right}: {text}"
        assert "Traceback" not in text


def test_the_right_to_create_topics_is_named(broker: SecureKafka, tmp_path: Path) -> None:
    made = flow(broker, tmp_path, login(broker, "SCRAM-SHA-512"), "at_least_once")
    broker.grant(made.rights)
    new = f"alerts-{uuid.uuid4().hex[:8]}"
    made.content["sinks"]["alerts"] = new
    made.file.write_text(yaml.safe_dump(made.content))
    right = Right("Create", "topic", new)
    said = made.doctor("--create-topics")
    assert names_right(said, right), said
    broker.grant([right, Right("Write", "topic", new)])
    said = made.doctor("--create-topics")
    assert "checks passed" in said, said


def test_dead_letters_are_read_and_sent_back_with_their_own_rights(broker: SecureKafka, tmp_path: Path) -> None:
    made = flow(broker, tmp_path, login(broker, "SCRAM-SHA-512"), "at_least_once", wait="5s")
    broker.grant(made.rights)
    assert made.run().returncode == 0
    letters, events = made.topics["dead_letters"], made.topics["events"]

    def said(*command: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["dlq", command[0], str(made.file), *command[1:]])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, " ".join(done.output.split())

    read = Right("Read", "topic", letters)
    code, text = said("ls")
    assert (code, names_right(text, read)) == (1, True), text
    broker.grant([read])
    assert said("ls")[0] == 0
    redrive = ("redrive", "--failing", "--yes")
    transactions = Right("Write", "transactional_id", f"ssm-stream-redrive-{letters}")
    for right in (transactions, Right("Write", "topic", events)):
        code, text = said(*redrive)
        assert (code, names_right(text, right)) == (1, True), text
        broker.grant([right])
    assert said(*redrive)[0] == 0
