"""docker/Dockerfile and compose.yaml: what can be known of them without Docker. Files are there and fit together; a
linter; and the services of compose.yaml run as the image's user with a read-only root.
"""

from __future__ import annotations

import http.server
import json
import os
import re
import signal
import subprocess
import sys
import threading
import tomllib
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from brokers import ApacheKafka, LocalKafka, free_port, kafka_obstacle
from brokers.apache import kafka_home
from brokers.composed import ComposedKafka, composed_settings
from brokers.docker import DOCKER_IMAGE
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME
from programs import program, ran
from sandbox import DOCKER, REPOSITORY, Sandbox, image, instructions, obstacle, services
from typer.main import get_command

from ssm_stream.cli.app import app
from ssm_stream.config import Source, load_config
from ssm_stream.kafka.cluster import check_broker
from ssm_stream.ops.supervisor import BYTEWAX_API

OURS = ("topics", "ssm-stream", "replayer")
COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
MONITOR = load_config(DOCKER / "monitor.yaml")
OPS_PORT = 9464


# The image.


def test_dockerfile_passes_the_linter() -> None:
    ran("hadolint", "--failure-threshold", "info", "Dockerfile", cwd=DOCKER)


def test_the_context_is_what_the_build_reads_and_no_more() -> None:
    """.dockerignore lets through what pyproject.toml and CMakeLists.txt name, and of the rest nothing: it would only be
    sent."""
    allowed = [line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    read = {"pyproject.toml", "CMakeLists.txt", project["project"]["readme"], *project["project"]["license-files"]}
    read |= {*project["build-system"]["backend-path"], *project["tool"]["scikit-build"]["wheel"]["packages"]}
    installed = re.findall(r"install\(FILES ([^)]*?)\s+DESTINATION", (REPOSITORY / "CMakeLists.txt").read_text())
    read |= {file for files in installed for file in files.split()}
    copied = [rest.split()[0] for name, rest in instructions(DOCKER / "Dockerfile") if name == "COPY"]
    assert sorted(allowed) == sorted({*read, *copied})
    assert all((REPOSITORY / source).exists() for source in allowed)


def test_the_image_is_no_root_and_has_no_compiler() -> None:
    said = instructions(DOCKER / "Dockerfile")
    final = said[[name for name, _ in said].index("FROM") :]
    assert [name for name, _ in said].count("FROM") == 1
    runs = [rest for name, rest in final if name == "RUN"]
    assert not [rest for rest in runs if re.search(r"\b(apt|apt-get|gcc|g\+\+|clang)\b", rest)]
    # What builds leaves neither a cache nor a wheel in its layer, and the sources are mounted, not copied.
    (build,) = [rest for rest in runs if "pip wheel" in rest]
    assert "--mount=type=bind,target=/src,rw" in build
    made = {*re.findall(r"XDG_CACHE_HOME=(\S+)", build), *re.findall(r"--wheel-dir (\S+)", build)}
    assert len(made) == 2
    assert made == set(re.findall(r"rm -rf (.+)", build)[0].split())
    assert all(
        "--no-cache-dir" in part
        for rest in runs
        for part in rest.split("&&")
        if re.search(r"pip (install|wheel)", part)
    )
    names = [name for name, _ in final]
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert image().uid >= 10_000
    assert f"useradd --uid {image().uid}" in " ".join(rest for _, rest in final)
    assert dict(final)["STOPSIGNAL"] == "SIGTERM"
    assert dict(final)["EXPOSE"] == str(OPS_PORT)
    assert image().entrypoint == ["ssm-stream"]
    assert "HEALTHCHECK" in names
    labels = " ".join(rest for name, rest in final if name == "LABEL")
    for key in ("title", "description", "licenses", "version", "revision", "created"):
        assert f"org.opencontainers.image.{key}=" in labels
    arguments = dict(rest.partition("=")[::2] for name, rest in said if name == "ARG")
    assert arguments["PYTHON_IMAGE"] == "python:3.12-slim"


@pytest.fixture
def answering() -> Iterator[Callable[[int], str]]:
    """A function that serves that status at every path, and gives the address."""
    servers: list[http.server.HTTPServer] = []

    def serve(status: int) -> str:
        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status if self.path == "/healthz" else 404)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        servers.append(http.server.HTTPServer(("127.0.0.1", 0), Answer))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"127.0.0.1:{servers[-1].server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (None, 1)])
def test_the_health_check_asks_the_process_itself(
    answering: Callable[[int], str], status: int | None, code: int
) -> None:
    address = f"127.0.0.1:{free_port()}" if status is None else answering(status)
    # A proxy, as plants have them, is not asked for this machine's own address.
    environment = {"SSM_STREAM_OPS": address, "http_proxy": "http://127.0.0.1:9", "PATH": os.environ["PATH"]}
    command = [sys.executable, "-I", str(DOCKER / "healthcheck.py")]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20, check=False)
    assert (result.returncode, result.stdout) == (code, "")
    assert (result.stderr == "") == (code == 0)
    assert "Traceback" not in result.stderr


# compose.yaml


def test_compose_takes_the_file() -> None:
    """Docker Compose itself, which needs no Docker for this."""
    ran("docker-compose", "--file", "compose.yaml", "config", "--quiet", cwd=DOCKER)
    group = ("--file", "compose.yaml", "--file", "compose.group.yaml")
    text = ran("docker-compose", *group, "config", cwd=DOCKER)
    assert "published: 9464-9475" in text
    assert text.count("docker/monitor.group.yaml") == 2, "topics and processes; the recording goes on by its own"
    one, several = (load_config(DOCKER / f"monitor{name}.yaml") for name in ("", ".group"))
    assert several.source.assignment == "group"
    assert (several.event, several.sinks, several.ops.address) == (one.event, one.sinks, one.ops.address)


def test_images_are_pinned() -> None:
    for name, service in services().items():
        repository, _, tag = service["image"].rpartition(":")
        assert repository, name
        assert re.search(r"\d+\.\d+", tag), f"{name}: {service['image']} says no version"
        assert "latest" not in tag


def test_services_are_confined() -> None:
    """No privileges, no more memory than said, ports on loopback; the root of all but Kafka's image is read-only."""
    for name, service in services().items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["mem_limit"], name
        assert "privileged" not in service
        assert service.get("read_only") is (None if name == "kafka" else True), name
        assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", [])), name
    for name in OURS:
        service = services()[name]
        assert service["user"] == f"{image().uid}:{image().gid}"
        assert [mount.partition(":")[0] for mount in service["tmpfs"]] == ["/tmp"]
    assert int(services()["ssm-stream"]["stop_grace_period"].removesuffix("s")) >= 60


def test_services_that_last_have_health_checks_and_jobs_have_none() -> None:
    for name, service in services().items():
        job = name in ("topics", "replayer")
        assert service["healthcheck"].get("disable", False) is job, name
        for needed, how in service.get("depends_on", {}).items():
            condition = how["condition"]
            assert condition in ("service_healthy", "service_completed_successfully")
            assert (condition == "service_completed_successfully") == (needed == "topics")
    declared = dict(instructions(DOCKER / "Dockerfile"))["HEALTHCHECK"]
    in_image = yaml.safe_load(declared[declared.index("CMD") + 3 :])
    assert services()["ssm-stream"]["healthcheck"]["test"] == ["CMD", *in_image]


def test_mounted_files_are_there_and_read_only() -> None:
    volumes = yaml.safe_load((DOCKER / "compose.yaml").read_text())["volumes"]
    for name, service in services().items():
        for entry in service.get("volumes", []):
            source, _, *how = entry.split(":")
            if source.startswith("."):
                assert (DOCKER / source).resolve().exists(), f"{name}: {source}"
                assert how == ["ro"], f"{name}: {entry}"
            else:
                assert source in volumes, f"{name}: {source}"


def test_ports_topics_and_folders_are_the_configuration_s() -> None:
    kafka, product = services()["kafka"]["environment"], services()["ssm-stream"]
    assert MONITOR.source.brokers in kafka["KAFKA_ADVERTISED_LISTENERS"]
    assert kafka["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    assert MONITOR.ops.address == f"0.0.0.0:{OPS_PORT}"
    assert product["ports"] == [f"127.0.0.1:{OPS_PORT}:{OPS_PORT}"]
    scraped = yaml.safe_load((DOCKER / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    (found,) = scraped[0]["dns_sd_configs"]  # all containers of the service, of which a group has several
    assert (found["names"], found["type"], found["port"]) == (["ssm-stream"], "A", OPS_PORT)
    assert "static_configs" not in scraped[0]
    assert MONITOR.recovery.directory is not None
    folders = [entry.split(":")[1] for entry in product["volumes"]]
    assert any(MONITOR.recovery.directory.is_relative_to(folder) for folder in folders)
    assert set(image().volumes) <= set(folders)
    for name in OURS:
        command = services()[name]["command"]
        mounted = {entry.split(":")[1] for entry in services()[name]["volumes"]}
        assert {word for word in command if word.startswith("/")} <= mounted, name
    source = yaml.safe_load((DOCKER / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"][0]
    port = services()["prometheus"]["ports"][0].split(":")[-1]
    assert source["url"] == f"http://prometheus:{port}"
    provider = yaml.safe_load((DOCKER / "grafana/provisioning/dashboards/ssm-stream.yaml").read_text())["providers"][0]
    home = Path(services()["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    mounts = {at: DOCKER / path for path, at, _ in (e.split(":") for e in services()["grafana"]["volumes"][:2])}
    assert provider["options"]["path"] == str(home.parent)
    assert (mounts[str(home.parent)] / home.name).exists()


# What compose.yaml sets and the tests' broker does not, and the reverse; all else is the same.
ONLY_COMPOSED = {
    "log.message.timestamp.type",  # the recording is of 2016
    "log.retention.hours",
}
ONLY_TESTED = {  # a start is quicker with few partitions and threads, and an idle node writes nothing
    "offsets.topic.num.partitions",
    "transaction.state.log.num.partitions",
    "metadata.max.idle.interval.ms",
    "num.io.threads",
    "num.network.threads",
    "background.threads",
}
PLACES = {"listeners", "advertised.listeners", "listener.security.protocol.map", "controller.quorum.voters", "log.dirs"}


def test_kafka_has_the_settings_that_the_tests_run_with(tmp_path: Path) -> None:
    tested = object.__new__(ApacheKafka)
    tested.directory, tested.port = tmp_path, 9092
    there, here = composed_settings(), {name: str(value) for name, value in tested.settings(9093).items()}
    assert set(there) - set(here) == ONLY_COMPOSED
    assert set(here) - set(there) == ONLY_TESTED
    shared = set(there) & set(here) - PLACES
    assert {name: there[name] for name in shared} == {name: here[name] for name in shared}
    folders = [entry.split(":")[1] for entry in services()["kafka"]["volumes"]]
    assert folders == [there["log.dirs"]]
    names = {name.split(":")[0] for name in there["listener.security.protocol.map"].split(",")}
    ports = {name: port for name, _, port in re.findall(r"(\w+)://([\w]*):(\d+)", there["listeners"])}
    assert names == set(ports)
    advertised = {
        name: f"{host}:{port}" for name, host, port in re.findall(r"(\w+)://(\w+):(\d+)", there["advertised.listeners"])
    }
    assert {name: each.rpartition(":")[2] for name, each in advertised.items()} == {
        name: port for name, port in ports.items() if name != there["controller.listener.names"]
    }
    assert services()["kafka"]["hostname"] == advertised["PLAINTEXT"].partition(":")[0] == "kafka"
    assert services()["kafka"]["ports"] == [f"127.0.0.1:{ports['HOST']}:{ports['HOST']}"]
    assert there["controller.quorum.voters"] == f"{there['node.id']}@kafka:{ports['CONTROLLER']}"


def test_kafka_s_version_is_the_one_that_the_tests_run_with() -> None:
    if kafka_obstacle() is not None:
        pytest.skip(f"no Apache Kafka: {kafka_obstacle()}")
    (client,) = kafka_home().glob("libs/kafka-clients-*.jar")  # type: ignore[union-attr]
    assert services()["kafka"]["image"] == f"apache/kafka:{client.stem.removeprefix('kafka-clients-')}" == DOCKER_IMAGE


def test_variables_have_a_use_and_a_default() -> None:
    """Compose sets none for the product, but what switches Bytewax's metrics on: what monitor.yaml names has a default,
    which is a service of the file."""
    text = (DOCKER / "monitor.yaml").read_text()
    variables = dict(re.findall(r"\$\{(\w+):-([^}]+)\}", text))
    assert set(variables) == set(re.findall(r"\$\{(\w+)", text))
    given = {key: value for name in OURS for key, value in services()[name].get("environment", {}).items()}
    assert given == {BYTEWAX_API: "1"}
    assert variables["KAFKA_BOOTSTRAP_SERVERS"].partition(":")[0] in services()
    # Anything that compose would replace itself is meant for nobody.
    assert "${" not in (DOCKER / "compose.yaml").read_text()


def test_volumes_are_declared_and_used_once() -> None:
    declared = set(yaml.safe_load((DOCKER / "compose.yaml").read_text())["volumes"])
    used = [e.split(":")[0] for s in services().values() for e in s.get("volumes", []) if not e.startswith(".")]
    assert declared == set(used)
    assert {name for name in used if used.count(name) > 1} == {"state"}, "doctor checks the flow's"


def test_prometheus_takes_its_command() -> None:
    """Its options, where Prometheus is installed, and the places that they name."""
    command, volumes = services()["prometheus"]["command"], services()["prometheus"]["volumes"]
    mounted = {entry.split(":")[1] for entry in volumes}
    options = dict(option.removeprefix("--").split("=", 1) for option in command)
    assert {options["config.file"], options["storage.tsdb.path"]} <= mounted
    rules = yaml.safe_load((DOCKER / "prometheus/prometheus.yml").read_text())["rule_files"]
    assert {str(Path(options["config.file"]).parent / name) for name in rules} <= mounted
    shown = subprocess.run([program("prometheus"), "--help"], capture_output=True, text=True, check=False)
    assert {name for name in options if f"--{name}=" not in shown.stdout + shown.stderr} == set()


def test_the_commands_exist() -> None:
    """Each service's options are those of the command line."""
    for name in OURS:
        command, *rest = services()[name]["command"]
        options = {option for parameter in COMMANDS[command].params for option in parameter.opts}
        assert {word for word in rest if word.startswith("--")} <= options, name


def test_the_events_are_those_of_an_example() -> None:
    """The same as of configs/forecast-fleet.yaml, whose recording is replayed."""
    content = yaml.safe_load((DOCKER / "monitor.yaml").read_text())
    assert content["event"] == yaml.safe_load((REPOSITORY / "configs/forecast-fleet.yaml").read_text())["event"]


# As Docker would run it.


@pytest.fixture
def composed(private_kafka: Callable[[], LocalKafka], tmp_path: Path) -> Iterator[LocalKafka]:
    """The service `kafka` where Apache Kafka is there, else another broker."""
    if kafka_obstacle() is not None:
        yield private_kafka()
        return
    kafka = ComposedKafka(tmp_path / "composed")
    yield kafka
    kafka.close()


def test_services_run_with_a_read_only_root_and_no_privileges(composed: LocalKafka, tmp_path: Path) -> None:
    """Topics, product and replayer of compose.yaml: as user 10001, without capabilities, the root read-only, and only
    the state and /tmp to write to; on Kafka with the file's settings. In mount namespaces; Docker itself has no part
    in it."""
    if (why := obstacle()) is not None:
        pytest.skip(why)
    kafka = composed
    address = f"127.0.0.1:{free_port()}"
    box = Sandbox(tmp_path, {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers, "SSM_STREAM_OPS": address})
    topics = box.start("topics")
    assert "checks passed" in finished(topics)
    assert topics.returncode == 0
    configured = {MONITOR.source.topic: 1, **dict.fromkeys(MONITOR.sinks.topics, 1)}
    cluster = check_broker(kafka.source())
    assert {name: len(p) for name, p in cluster.topics.items() if not name.startswith("__")} == configured
    flow, replayer = box.start("ssm-stream"), box.start("replayer")
    try:
        assert MONITOR.sinks.predictions is not None
        predicted = kafka.read(MONITOR.sinks.predictions, expected=60, timeout=90)
        if isinstance(kafka, ComposedKafka):
            assert {message.timestamp()[0] for message in predicted} == {TIMESTAMP_LOG_APPEND_TIME}
            assert kafka.healthy()
            host = Source(brokers=f"127.0.0.1:{kafka.host_port}", topic=MONITOR.source.topic)
            assert check_broker(host).addresses == {1: host.brokers}, "programs on the host stay with their listener"
        body = get(f"http://{address}/metrics")
        assert "ssm_stream_events_total" in body
        confined(flow.pid)
        confined(replayer.pid)
        health = ["python", str(DOCKER / "healthcheck.py")]
        assert finished(box.start("ssm-stream", *health)) == ""
    finally:
        replayer.send_signal(signal.SIGTERM)
        flow.send_signal(signal.SIGTERM)
        said = finished(flow)
    assert "stopped after row" in finished(replayer)
    assert flow.returncode == 0, said
    names = [json.loads(line)["event"] for line in said.splitlines() if line.startswith("{")]
    assert "stopped" in names
    state = box.volume("state") / "state"
    assert (state.stat().st_uid, state.stat().st_mode & 0o777) == (image().uid, 0o700)
    assert any(state.rglob("*.state"))


WRITABLE = """
import sys
from pathlib import Path
for folder in ["/", "/etc/ssm-stream", "/usr", "/tmp", "/var", sys.prefix, *sys.argv[1:]]:
    try:
        Path(folder, "written").touch()
        print(folder)
    except OSError as error:
        assert error.errno == 30, error  # EROFS: not a matter of permissions
"""


def test_only_the_volumes_can_be_written(tmp_path: Path) -> None:
    if (why := obstacle()) is not None:
        pytest.skip(why)
    process = Sandbox(tmp_path, {}).start("ssm-stream", "python", "-c", WRITABLE, str(REPOSITORY), *image().volumes)
    assert finished(process).split() == ["/tmp", *image().volumes]


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def finished(process: subprocess.Popen[str]) -> str:
    try:
        return process.communicate(timeout=60)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(f"still running:\n{process.communicate()[0][-3000:]}")


def confined(pid: int) -> None:
    """The user is the image's, and there is no way to be more."""
    said = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    assert said["Uid"].split() == [str(image().uid)] * 4
    assert said["Gid"].split() == [str(image().gid)] * 4
    assert said["Groups"].strip() == ""
    assert said["NoNewPrivs"] == "1"
    assert {said[name] for name in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb")} == {"0" * 16}
