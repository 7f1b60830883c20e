"""Brokers that want TLS and a login: who is let in, who is not, and what is said of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from brokers import LocalKafka, local_obstacle, start_local
from certificates import Authority
from confluent_kafka import KafkaError
from forked import ran
from structlog.testing import capture_logs
from tls import Proxy
from tokens import issuer
from typer.testing import CliRunner

from ssm_stream.cli.app import app
from ssm_stream.config import Config, parse_config
from ssm_stream.config.sections import Source
from ssm_stream.flow.runtime import prepare
from ssm_stream.kafka.admin import create_topics
from ssm_stream.kafka.client import BrokerError, LastError
from ssm_stream.kafka.cluster import check_broker

PASSWORD = "pw-of-the-test"
USERS = {"ssm-stream": PASSWORD}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    if (why := local_obstacle()) is not None:
        pytest.skip(why)
    kafka = start_local(tmp_path_factory.mktemp("broker"))
    yield kafka
    kafka.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PW", PASSWORD)


def configured(proxy: Proxy, kafka: dict[str, Any], wait: str = "1s", **more: Any) -> Config:
    source = {"brokers": proxy.bootstrap_servers, "topic": "events", "wait": wait, "kafka": kafka}
    content = {"source": source, "event": {"entity": "e", "timestamp": "t", "features": ["a"]}, **more}
    return parse_config(yaml.safe_dump(content), "f.yaml")


def trusting(authority: Authority, **more: Any) -> dict[str, Any]:
    return {"security.protocol": "SSL", "ssl.ca.location": str(authority.certificate), **more}


def refusal(proxy: Proxy, kafka: dict[str, Any]) -> BrokerError:
    with pytest.raises(BrokerError) as caught:
        check_broker(configured(proxy, kafka).source)
    assert proxy.passed_on == 0
    assert proxy.bootstrap_servers in str(caught.value)
    assert PASSWORD not in str(caught.value)
    return caught.value


def test_a_broker_with_the_right_certificate_is_believed(broker: LocalKafka, authority: Authority) -> None:
    with Proxy(broker.port, authority.issue("server")) as proxy:
        config = configured(proxy, trusting(authority), "20s")
        cluster = check_broker(config.source)
        assert list(cluster.addresses.values()) == [proxy.bootstrap_servers], "clients stay with the proxy"
        assert create_topics(config.source, {"tls-made": 2}, replication=1) == ["tls-made"]
        assert check_broker(config.source).partitions_of("tls-made") == (0, 1)
        assert proxy.passed_on


def test_an_unknown_authority_is_refused(broker: LocalKafka, authority: Authority, tmp_path: Path) -> None:
    with Proxy(broker.port, authority.issue("server")) as proxy:
        told = refusal(proxy, trusting(Authority(tmp_path, "other-ca")))
    assert f"certificate of {proxy.bootstrap_servers} is not trusted: " in str(told)
    assert "issuer" in str(told)
    assert "ssl.*" in told.cure


def test_an_expired_certificate_is_refused(broker: LocalKafka, authority: Authority) -> None:
    with Proxy(broker.port, authority.issue("late", expired=True)) as proxy:
        told = refusal(proxy, trusting(authority))
    assert "certificate has expired" in str(told)
    assert "ssl.*" in told.cure


def test_a_certificate_of_another_host_is_refused(broker: LocalKafka, authority: Authority) -> None:
    with Proxy(broker.port, authority.issue("elsewhere", address="DNS:elsewhere.example,IP:127.0.0.9")) as proxy:
        told = refusal(proxy, trusting(authority))
        assert "mismatch, certificate is not valid for '127.0.0.1'" in str(told)
        assert "ssl.*" in told.cure
        weak = trusting(authority, **{"ssl.endpoint.identification.algorithm": "none"})
        assert check_broker(configured(proxy, weak, "20s").source).addresses


def test_no_verification_is_what_it_says(broker: LocalKafka, authority: Authority) -> None:
    weak = {"security.protocol": "SSL", "enable.ssl.certificate.verification": False}
    with Proxy(broker.port, authority.issue("late", expired=True)) as proxy:
        config = configured(proxy, weak, "20s")
        assert check_broker(config.source).addresses
        with capture_logs() as logs, pytest.raises(BrokerError, match="does not exist"):
            prepare(config)  # as `run` does
        (warned,) = (line for line in logs if line["event"] == "weak_protection")
        assert "is not authenticated" in warned["what"]


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ("Receive failed: error:0A00045C:SSL routines::tlsv13 alert certificate required", "ssl.*"),
        (
            "Send failed: system library::Connection reset by peer: tls_retry_write_records failure",
            "ssl.*",
        ),
        ("Connect to ipv4#127.0.0.1:9092 failed: Connection refused", "start the broker"),
    ],
)
def test_a_refused_handshake_is_no_broker_that_is_away(text: str, cure: str) -> None:
    last = LastError(Source(brokers="localhost:9092", topic="events"))
    last(KafkaError(KafkaError._TRANSPORT, text))
    assert cure in last.cure


def test_a_certificate_of_the_client_may_be_needed(
    broker: LocalKafka, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = authority.issue("user", password=PASSWORD)
    mine = {"ssl.certificate.location": str(user.certificate), "ssl.key.location": str(user.key)}
    with Proxy(broker.port, authority.issue("server"), clients=authority.certificate) as proxy:
        told = refusal(proxy, trusting(authority))
        assert "certificate" in str(told).lower()
        assert "ssl.*" in told.cure
        stranger = Authority(tmp_path, "other-ca").issue("user")
        theirs = {"ssl.certificate.location": str(stranger.certificate), "ssl.key.location": str(stranger.key)}
        assert "ssl.*" in refusal(proxy, trusting(authority, **theirs)).cure
        mine["ssl.key.password"] = "${PW}"
        assert check_broker(configured(proxy, trusting(authority, **mine), "20s").source).addresses
        monkeypatch.setenv("PW", "another-pw")
        with pytest.raises(BrokerError, match=r"source\.kafka: .*ssl\.key\.location failed") as caught:
            check_broker(configured(proxy, trusting(authority, **mine)).source)
        assert "another-pw" not in str(caught.value)


def test_a_client_without_tls_is_told_so(broker: LocalKafka, authority: Authority) -> None:
    with Proxy(broker.port, authority.issue("server")) as proxy:
        assert "set security.protocol" in refusal(proxy, {}).cure
    with Proxy(broker.port) as plain:
        told = refusal(plain, trusting(authority))
        assert "ssl" in str(told).lower()


LOGIN = {"sasl.username": "ssm-stream", "sasl.password": "${PW}"}


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_users_are_let_in_by_their_password(
    mechanism: str, broker: LocalKafka, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka = trusting(authority, **LOGIN, **{"sasl.mechanism": mechanism}) | {"security.protocol": "SASL_SSL"}
    with Proxy(broker.port, authority.issue("server"), users=USERS) as proxy:
        assert check_broker(configured(proxy, kafka, "20s").source).addresses
        assert proxy.passed_on
    # Another one: a request of the client that was let in may still be on its way.
    with Proxy(broker.port, authority.issue("server"), users=USERS) as proxy:
        monkeypatch.setenv("PW", "another-pw")
        told = refusal(proxy, kafka)
        assert "another-pw" not in str(told)
        assert "sasl.*" in told.cure
        assert proxy.refused


def test_users_are_let_in_by_their_token(
    broker: LocalKafka, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    with issuer(PASSWORD) as tokens:
        kafka = trusting(authority) | tokens.properties
        kafka |= {
            "security.protocol": "SASL_SSL",
            "sasl.oauthbearer.client.id": "ssm-stream",
            "sasl.oauthbearer.client.secret": "${PW}",
        }
        with Proxy(broker.port, authority.issue("server"), users=USERS) as proxy:
            assert check_broker(configured(proxy, kafka, "20s").source).addresses
        with Proxy(broker.port, authority.issue("server"), users=USERS) as proxy:
            monkeypatch.setenv("PW", "another-pw")
            assert "another-pw" not in str(refusal(proxy, kafka))
            monkeypatch.setenv("PW", PASSWORD)
            assert "sasl.*" in refusal(proxy, kafka | {"sasl.oauthbearer.client.id": "stranger"}).cure


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_a_run_behind_tls_and_a_login(delivery: str, broker: LocalKafka, authority: Authority, tmp_path: Path) -> None:
    """Reading, writing, committing and transactions, all as one user over TLS."""
    names = {name: broker.topic(name) for name in ("events", "predictions", "alerts", "letters")}
    good = [orjson.dumps({"e": f"m{i % 7}", "t": 60 * i, "a": i % 5, "target": i % 5}) for i in range(300)]
    broker.produce(names["events"], [*good, b"no event"])
    kafka = trusting(authority, **LOGIN, **{"sasl.mechanism": "SCRAM-SHA-512"}) | {"security.protocol": "SASL_SSL"}
    with Proxy(broker.port, authority.issue("server"), users=USERS) as proxy:
        source = {"brokers": proxy.bootstrap_servers, "topic": names["events"], "wait": "20s", "kafka": kafka}
        sinks = {"predictions": names["predictions"], "alerts": names["alerts"], "dead_letters": names["letters"]}
        content = {
            "delivery": delivery, "source": source, "sinks": sinks,
            "event": {"entity": "e", "timestamp": "t", "features": ["a"]},
            "recovery": {"directory": str(tmp_path / "state"), "epoch_interval": "500ms"},
        }  # fmt: skip
        file = tmp_path / "monitor.yaml"
        file.write_text(yaml.safe_dump(content))
        done = ran("run", str(file), "--until-eof")
        assert done.returncode == 0, done.stderr
        assert PASSWORD not in done.stdout + done.stderr
        assert len(broker.read(names["predictions"], expected=300)) == 300
        assert len(broker.read(names["letters"], expected=1)) == 1
        assert proxy.passed_on
        checked = CliRunner().invoke(app, ["doctor", str(file)])
        assert checked.exit_code == 0, checked.output
        assert PASSWORD not in checked.output
