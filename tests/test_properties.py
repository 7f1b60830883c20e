"""Kafka's properties in the configuration: what is refused before any client exists, and that secrets are not shown."""

from __future__ import annotations

import io
import os
import pickle
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from brokers import MockKafka, free_port
from typer.testing import CliRunner

from ssm_stream.cli.app import app
from ssm_stream.config import MAX_FILE_BYTES, Config, ConfigError, parse_config
from ssm_stream.config.client_properties import is_redacted, is_secret, security_warnings
from ssm_stream.engine.snapshot_format import SnapshotReader, StateError
from ssm_stream.kafka.client import BrokerError
from ssm_stream.kafka.cluster import check_broker
from ssm_stream.kafka.producer import OutputProducer
from ssm_stream.recovery.directory import open_recovery, writable_by_others

SENTINEL = "s3ntinel-never-shown"
PLAIN = {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.username": "u", "sasl.password": "${PW}"}
OIDC = {
    "security.protocol": "SASL_SSL",
    "sasl.mechanism": "OAUTHBEARER",
    "sasl.oauthbearer.method": "oidc",
    "sasl.oauthbearer.token.endpoint.url": "https://idp.example/token",
    "sasl.oauthbearer.client.id": "ssm-stream",
    "sasl.oauthbearer.client.secret": "${PW}",
}


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PW", SENTINEL)


def text(kafka: Any, sinks: Any = None, brokers: str = "localhost:9092", **more: Any) -> str:
    source = {"brokers": brokers, "topic": "events", "kafka": kafka, "wait": "1s"}
    content = {"source": source, "event": {"entity": "e", "timestamp": "t", "features": ["a"]}, **more}
    return yaml.safe_dump(content | ({"sinks": {"kafka": sinks}} if sinks else {}))


def refusal(kafka: Any, sinks: Any = None, brokers: str = "localhost:9092", **more: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(text(kafka, sinks, brokers, **more), "f.yaml")
    assert SENTINEL not in str(caught.value)
    assert caught.value.__cause__ is None
    return str(caught.value)


def without(properties: dict[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in properties.items() if name not in names}


@pytest.mark.parametrize(
    "kafka",
    [
        {},
        PLAIN,
        PLAIN | {"sasl.mechanism": "SCRAM-SHA-512"},
        without(PLAIN, "sasl.mechanism") | {"sasl.mechanisms": "SCRAM-SHA-256", "security.protocol": "sasl_plaintext"},
        OIDC,
        without(OIDC, "sasl.oauthbearer.client.id", "sasl.oauthbearer.client.secret")
        | {"sasl.oauthbearer.client.credentials.client.id": "c"}
        | {"sasl.oauthbearer.client.credentials.client.secret": "${PW}"},
        {"security.protocol": "ssl", "ssl.ca.location": "probe"},
        {"security.protocol": "ssl", "ssl.ca.location": str(Path(__file__).parent)},
        {"security.protocol": "ssl", "ssl.key.pem": "${PW}", "ssl.certificate.pem": "public"},
        {"linger.ms": 5, "compression.type": "zstd", "socket.keepalive.enable": True, "acks": 1},
    ],
)
def test_what_can_work_is_taken(kafka: dict[str, Any]) -> None:
    parse_config(text(kafka))


@pytest.mark.parametrize(
    ("kafka", "words"),
    [
        (without(PLAIN, "security.protocol"), ["kafka.sasl.mechanism", "PLAINTEXT", "set security.protocol: SASL_SSL"]),
        (PLAIN | {"security.protocol": "SSL"}, ["security.protocol is SSL", "SASL_SSL"]),
        (without(PLAIN, "sasl.mechanism"), ["found SASL_SSL without sasl.mechanism", "SCRAM-SHA-512"]),
        (without(PLAIN, "sasl.password"), ["'PLAIN' without sasl.password", "${KAFKA_PASSWORD}", "${file:/run/"]),
        (without(PLAIN, "sasl.username"), ["'PLAIN' without sasl.username; set sasl.username: ${KAFKA_USERNAME}"]),
        (PLAIN | {"sasl.mechanism": "plain"}, ["found 'plain'; write PLAIN"]),
        (PLAIN | {"sasl.mechanism": "GSSAPI"}, ["GSSAPI", "kinit"]),
        (PLAIN | {"sasl.mechanism": "MD5"}, ["found 'MD5'; use PLAIN, SCRAM"]),
        (PLAIN | {"security.protocol": "tls"}, ["f.yaml", "source.kafka.security.protocol", 'Invalid value "tls"']),
        (without(OIDC, "sasl.oauthbearer.method"), ["a source of tokens", "sasl.oauthbearer.method: oidc"]),
        (without(OIDC, "sasl.oauthbearer.client.secret"), ["without sasl.oauthbearer.client.secret", "${file:/"]),
        (OIDC | {"sasl.oauthbearer.token.endpoint.url": "http://idp.example"}, ["unencrypted", "https://"]),
        ({"ssl.ca.location": "/etc/passwd"}, ["ssl.ca.location", "without encryption", "security.protocol: SSL"]),
        ({"security.protocol": "ssl", "ssl.ca.location": "/no/ca.pem"}, ["/no/ca.pem: there is no such file"]),
        ({"security.protocol": "ssl", "ssl.certificate.location": "/etc"}, ["/etc: is a folder"]),
        ({"security.protocol": "ssl", "ssl.key.location": "/etc/passwd"}, ["a key without its certificate"]),
        ({"security.protocol": "ssl", "ssl.certificate.pem": "x"}, ["a certificate without its key"]),
        ({"no.such.property": 1}, ["source.kafka.no.such.property", "No such configuration property"]),
        ({"linger.ms": "soon"}, ["source.kafka.linger.ms", "Invalid value"]),
        ({"error_cb": "print"}, ["source.kafka.error_cb"]),
        ({"bootstrap.servers": "b:1"}, ["source.kafka.bootstrap.servers", "source.brokers"]),
        ({"group.id": "g"}, ["source.kafka.group.id", "source.group"]),
        ({"enable.auto.commit": True}, ["source.kafka.enable.auto.commit", "leave it out"]),
        ({"isolation.level": "read_uncommitted"}, ["source.kafka.isolation.level", "leave it out"]),
        ({"transactional.id": "t"}, ["source.kafka.transactional.id", "exactly_once sets it"]),
        ({"auto.offset.reset": "latest"}, ["source.kafka.auto.offset.reset", "source.start"]),
        ({"plugin.library.paths": "/tmp/evil.so"}, ["source.kafka.plugin.library.paths", "may not execute code"]),
        ({"ssl.engine.location": "/tmp/evil.so"}, ["source.kafka.ssl.engine.location", "may not execute code"]),
        ({"sasl.kerberos.kinit.cmd": "rm -rf /"}, ["source.kafka.sasl.kerberos.kinit.cmd", "may not execute code"]),
        ({"acks": 0}, ["source.kafka.acks", "lost messages would go unnoticed"]),
        ({"client.rack": "a\0b"}, ["a zero byte"]),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_with_its_cure(kafka: dict[str, Any], words: list[str]) -> None:
    told = refusal(kafka)
    assert told.startswith("f.yaml:"), told
    assert all(word in told for word in words), told


def test_producers_have_their_own_properties_on_top(tmp_path: Path) -> None:
    assert "sinks.kafka.acks: found 0" in refusal({}, {"acks": 0})
    assert "sinks.kafka.transactional.id" in refusal(PLAIN, {"transactional.id": "x"})
    assert "source.kafka.sasl.mechanism" in refusal(PLAIN, {"security.protocol": "SSL"}), "which the sinks switch off"
    parse_config(text(PLAIN, {"sasl.username": "writer", "sasl.password": "${PW}"}))


@pytest.mark.parametrize("name", ["acks", "enable.idempotence"])
def test_transactions_need_what_they_need(name: str) -> None:
    wrong = {"acks": 1, "enable.idempotence": False}[name]
    assert f"sinks.kafka.{name}: found" in refusal({}, {name: wrong}, delivery="exactly_once")
    parse_config(text({}, {name: wrong}))
    parse_config(text({}, {"acks": "all", "enable.idempotence": True}, delivery="exactly_once"))


@pytest.mark.parametrize(
    ("kafka", "words"),
    [
        ({"security.protocol": "ssl", "enable.ssl.certificate.verification": False}, "certificate.verification: false"),
        ({"security.protocol": "ssl", "ssl.endpoint.identification.algorithm": "none"}, "identification.algorithm"),
        (PLAIN | {"security.protocol": "SASL_PLAINTEXT"}, "unencrypted"),
        (
            {"security.protocol": "SASL_SSL", "sasl.mechanism": "OAUTHBEARER"}
            | {"enable.sasl.oauthbearer.unsecure.jwt": True, "sasl.oauthbearer.config": "principal=admin"},
            "anyone can make them",
        ),
    ],
)
def test_weak_protection_is_a_warning(kafka: dict[str, Any], words: str, tmp_path: Path) -> None:
    config = parse_config(text(kafka))
    (told,) = security_warnings(config.source.kafka)
    assert words in told
    file = tmp_path / "f.yaml"
    file.write_text(text(kafka))
    assert f"warning   {told}" in CliRunner().invoke(app, ["validate", str(file)]).output
    assert not security_warnings(PLAIN)


def test_brokers_have_no_users_in_their_address() -> None:
    told = refusal({}, brokers=f"https://user:{SENTINEL}@kafka:9092")
    assert "source.brokers: found a user in it" in told


SECRETS = [
    "sasl.password", "ssl.key.password", "ssl.keystore.password", "ssl.key.pem", "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.client.credentials.client.secret", "sasl.oauthbearer.assertion.private.key.passphrase",
    "sasl.oauthbearer.assertion.private.key.pem",
]  # fmt: skip


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("written", [SENTINEL, f"a{SENTINEL}${{PW}}", f"${{PW:-{SENTINEL}}}", [SENTINEL], 4711])
def test_a_secret_must_not_be_written_in_the_file(name: str, written: Any) -> None:
    told = refusal({name: written})
    assert told.startswith("f.yaml:")
    assert f"source.kafka.{name}: a secret must not be written in the file; write ${{NAME}}" in told
    assert "${file:/path}" in told


def test_what_names_a_secret_is_none() -> None:
    assert not any(map(is_secret, ["ssl.key.location", "sasl.oauthbearer.assertion.private.key.file", "sasl.username"]))
    assert is_redacted("sasl.oauthbearer.config")


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_value_from_a_file(tmp_path: Path, ending: str) -> None:
    file = tmp_path / "password"
    file.write_bytes(f"two\nlines{ending}".encode())
    config = parse_config(text(PLAIN | {"sasl.password": f"${{file:{file}}}"}))
    assert config.source.kafka["sasl.password"] == "two\nlines"
    link = tmp_path / "link"
    link.symlink_to(file)  # as mounted secrets are
    assert parse_config(text({"client.id": f"a-${{file:{link}}}"})).source.kafka["client.id"] == "a-two\nlines"


def test_files_that_are_no_value(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, content in (
        ("empty", b"\n"),
        ("large", b"x" * (MAX_FILE_BYTES + 1)),
        ("latin", b"\xfc"),
        ("zero", b"a\0"),
    ):
        (tmp_path / name).write_bytes(content)
    for path, words in (
        (tmp_path / "none", "there is no such file"),
        (Path("relative"), "the path is relative"),
        (tmp_path, "it is not a file"),
        (tmp_path / "pipe", "it is not a file"),
        (tmp_path / "empty", "is empty"),
        (tmp_path / "large", f"more than {MAX_FILE_BYTES} bytes"),
        (tmp_path / "latin", "not UTF-8"),
        (tmp_path / "zero", "zero byte"),
    ):
        told = refusal(PLAIN | {"sasl.password": f"${{file:{path}}}"})
        assert "source.kafka.sasl.password: ${file:" in told
        assert words in told
    if os.geteuid():
        (tmp_path / "empty").chmod(0)
        assert "cannot be read" in refusal(PLAIN | {"sasl.password": f"${{file:{tmp_path}/empty}}"})


def test_what_came_from_a_file_is_in_no_message(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"{SENTINEL} with 'quotes'\n")
    placeholder = f"${{file:{tmp_path}/secret}}"
    wrong = {"topic": placeholder, "wait": placeholder, "start": placeholder, "partitions": [placeholder]}
    content = yaml.safe_load(text({"linger.ms": {"a": placeholder}}))
    content["source"] |= wrong
    content["event"]["time_zone"] = placeholder
    with pytest.raises(ConfigError) as caught:
        parse_config(yaml.safe_dump(content), "f.yaml")
    assert SENTINEL not in str(caught.value)
    assert str(caught.value).count("***") >= 4


def test_a_secret_in_the_wrong_place_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SENTINEL)
    placeholder = f"${{file:{tmp_path}/secret}}"
    for name in ("auto.offset.reset", "security.protocol", "sasl.mechanism", "ssl.ca.location", "compression.codec"):
        refusal(PLAIN | {name: placeholder})
        refusal({"security.protocol": "ssl"} | {name: placeholder})


@pytest.mark.parametrize("tail", ["@x", " *x", "  : [", " !x", '"', "\t\t- x: &a"])
def test_a_broken_file_does_not_quote_its_secrets(tail: str) -> None:
    for line in (f"sasl.password: {SENTINEL}{tail}", f"sasl.password: *{SENTINEL}", f"sasl.password: !{SENTINEL} x"):
        with pytest.raises(ConfigError) as caught:
            parse_config(f"source:\n  kafka:\n    {line}\n")
        assert SENTINEL not in str(caught.value)


CODE = [
    "a: !!python/object/apply:os.system ['touch {file}']",
    "a: !!python/object/new:os.system ['touch {file}']",
    "a: !!python/name:os.system ''",
    "a: !!python/module:os ''",
    "!!python/object/apply:subprocess.check_output [['touch', '{file}']]",
]


@pytest.mark.parametrize("line", CODE)
def test_a_configuration_cannot_execute_code(line: str, tmp_path: Path) -> None:
    file = tmp_path / "executed"
    with pytest.raises(ConfigError, match="not valid YAML"):
        parse_config(line.replace("{file}", str(file)))
    assert not file.exists()


def everything(tmp_path: Path, brokers: str) -> str:
    """A file with every secret that there is; the key and its certificate are no good."""
    secrets = {name: "${PW}" for name in SECRETS if name != "sasl.oauthbearer.client.credentials.client.secret"}
    kafka = OIDC | {"sasl.mechanism": "PLAIN", "sasl.username": "u", "sasl.oauthbearer.config": "${PW}"} | secrets
    kafka |= {"ssl.certificate.pem": "none"}
    return text(kafka, {"sasl.password": "${OTHER}"}, brokers, alerts={"feedback": {"topic": "feedback"}})


COMMANDS = ["validate", "validate --json", "doctor", "doctor --json", "run", "replay", "feedback"]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("working_key", [False, True])
def test_no_command_shows_a_secret(
    command: str, working_key: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTHER", SENTINEL + "-too")
    written = everything(tmp_path, f"127.0.0.1:{free_port()}")
    if working_key:  # then the client is made, and the broker is what does not work
        content = yaml.safe_load(written)
        content["source"]["kafka"] = PLAIN | {"sasl.oauthbearer.config": "${PW}"}
        written = yaml.safe_dump(content)
    file = tmp_path / "f.yaml"
    file.write_text(written)
    (tmp_path / "events.csv").write_text("e,t,a,target\nx,1,2,3\n")
    more = [str(tmp_path / "events.csv")] if command == "replay" else []
    result = CliRunner().invoke(app, [*command.split(), str(file), *more])
    assert result.exit_code == (0 if command.startswith("validate") else 1)
    shown = result.output + repr(result.exception) + repr(getattr(result.exception, "__cause__", None))
    assert "127.0.0.1" in shown or "kafka" in shown, shown
    assert SENTINEL not in shown


@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
def test_a_broker_that_lets_nobody_in_is_told_of_without_the_secret(mock_kafka: MockKafka, protocol: str) -> None:
    config = parse_config(text(PLAIN | {"security.protocol": protocol}, brokers=mock_kafka.bootstrap_servers))
    assert SENTINEL not in repr(config)
    with pytest.raises(BrokerError) as caught:
        check_broker(config.source)
    assert SENTINEL not in str(caught.value)


def test_a_producer_that_cannot_be_made_is_told_of_without_the_secret(mock_kafka: MockKafka, tmp_path: Path) -> None:
    key = {"security.protocol": "ssl", "ssl.key.pem": "${PW}", "ssl.certificate.pem": "none"}
    config = parse_config(text({}, key, mock_kafka.bootstrap_servers))
    with pytest.raises(BrokerError, match=r"sinks\.kafka: ") as caught:
        OutputProducer(config)
    assert SENTINEL not in str(caught.value)


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.file}",)


def test_weights_that_are_a_pickle_are_refused(tmp_path: Path) -> None:
    file, executed = tmp_path / "weights.safetensors", tmp_path / "executed"
    for content in (pickle.dumps(Evil(executed)), io_of(Evil(executed))):
        file.write_bytes(content)
        with pytest.raises(ConfigError, match=r"model\.weights"):
            parse_config(text({}, model={"weights": str(file)}))
        with pytest.raises(StateError):
            SnapshotReader(io.BytesIO(content))
    assert not executed.exists()


def io_of(content: Evil) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def test_what_bytewax_unpickles_only_its_owner_may_write(tmp_path: Path) -> None:
    config: Config = parse_config(text({}, recovery={"directory": str(tmp_path / "deep" / "state")}))
    before = os.umask(0o002)
    try:
        recovery = open_recovery(config)
    finally:
        os.umask(before)
    assert recovery is not None
    assert recovery.lock is not None
    assert stat.S_IMODE((tmp_path / "deep" / "state").stat().st_mode) == 0o700
    recovery.lock.close()
    (tmp_path / "deep" / "state").chmod(0o777)
    assert writable_by_others(tmp_path / "deep" / "state")
