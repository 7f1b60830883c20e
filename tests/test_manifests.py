"""The systemd unit and the Kubernetes manifests: schemas, and that they fit the image and the configuration."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from programs import ran
from sandbox import DOCKER, image, services
from typer.main import get_command
from typer.testing import CliRunner

from ssm_stream.cli.app import app
from ssm_stream.config import parse_config

OPS_PORT = 9464
RULES = DOCKER / "prometheus/rules.yml"


def test_the_unit_is_one_that_systemd_takes_and_confines(tmp_path: Path) -> None:
    unit = (DOCKER / "systemd/ssm-stream.service").read_text()
    # It wants programs that are there.
    here = tmp_path / "ssm-stream.service"
    here.write_text(unit.replace("/opt/ssm-stream/bin/ssm-stream", "/bin/true"))
    assert ran("systemd-analyze", "verify", "--man=no", str(here), cwd=tmp_path) == ""
    text = ran("systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=15", str(here), cwd=tmp_path)
    assert "Overall exposure level" in text
    assert "KillSignal=SIGTERM" in unit
    assert re.search(r"^Restart=on-failure$", unit, re.MULTILINE)
    assert "RestartPreventExitStatus=2" in unit


def manifest(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((DOCKER / "kubernetes" / name).read_text())
    return content


def test_manifests_are_what_kubernetes_takes() -> None:
    schemas = pytest.importorskip("kubernetes_validate")
    files = sorted((DOCKER / "kubernetes").glob("*.yaml"))
    assert len(files) == 4
    for file in files:
        schemas.validate(manifest(file.name), "1.32", strict=True)


def test_pods_of_a_group_differ_from_single_ones_in_what_they_share_alone() -> None:
    """A Deployment whose pods have one file and one store; all else is as in the StatefulSet."""
    schemas = pytest.importorskip("kubernetes_validate")
    group = {file.stem: manifest(f"group/{file.name}") for file in (DOCKER / "kubernetes/group").glob("*.yaml")}
    for name, content in group.items():
        if name != "scaledobject":  # of KEDA
            schemas.validate(content, "1.32", strict=True)
    one, several = (each["spec"]["template"]["spec"] for each in (manifest("statefulset.yaml"), group["deployment"]))
    [single], [member] = one["containers"], several["containers"]
    own = {"args", "env", "volumeMounts"}
    assert {k: v for k, v in member.items() if k not in own} == {k: v for k, v in single.items() if k not in own}
    assert several["securityContext"] == one["securityContext"]
    [file] = group["configmap"]["data"]
    assert member["args"] == ["run", f"/etc/ssm-stream/{file}", "--log-format", "json"]
    config = parse_config(group["configmap"]["data"][file])
    mounts = {mount["mountPath"] for mount in member["volumeMounts"]}
    assert str(config.state.store) in mounts
    assert group["claim"]["spec"]["accessModes"] == ["ReadWriteMany"]
    [trigger] = group["scaledobject"]["spec"]["triggers"]
    assert trigger["metadata"]["consumerGroup"] == config.source.group_id
    assert trigger["metadata"]["topic"] == config.source.topic


def test_pods_are_restricted_and_watched() -> None:
    """The restricted Pod Security Standard; and ports, probes and folders as the configuration has them."""
    stateful = manifest("statefulset.yaml")
    spec = stateful["spec"]["template"]["spec"]
    [container] = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["runAsUser"] == image().uid
    assert spec["securityContext"]["fsGroup"] == image().gid
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    expected = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    assert container["securityContext"] == expected
    assert spec["automountServiceAccountToken"] is False
    assert container["image"].rpartition(":")[2] != "latest"
    [port] = container["ports"]
    assert port["containerPort"] == OPS_PORT
    paths = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
    assert paths == {
        "startup": {"path": "/healthz", "port": port["name"]},
        "liveness": {"path": "/healthz", "port": port["name"]},
        "readiness": {"path": "/readyz", "port": port["name"]},
    }
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 60, "a start reads a large state"
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    claims = {claim["metadata"]["name"] for claim in stateful["spec"]["volumeClaimTemplates"]}
    assert {mounts[at] for at in image().volumes} == claims
    assert set(mounts.values()) == claims | {volume["name"] for volume in spec["volumes"]}
    labels = stateful["spec"]["template"]["metadata"]["labels"]
    assert stateful["spec"]["selector"]["matchLabels"] == labels
    service, budget = manifest("service.yaml"), manifest("poddisruptionbudget.yaml")
    assert service["metadata"]["name"] == stateful["spec"]["serviceName"]
    assert service["spec"]["selector"] == budget["spec"]["selector"]["matchLabels"] == labels
    assert service["spec"]["ports"][0]["port"] == OPS_PORT
    files = manifest("configmap.yaml")["data"]
    for number in range(stateful["spec"]["replicas"]):
        config = parse_config(files[f"{stateful['metadata']['name']}-{number}.yaml"])
        assert config.ops.address == f"0.0.0.0:{OPS_PORT}"
        assert config.recovery.directory is not None
        assert any(config.recovery.directory.is_relative_to(at) for at in mounts)


def test_the_operator_gets_the_same_rules() -> None:
    rules = manifest("monitoring/prometheusrule.yaml")["spec"]
    assert rules == yaml.safe_load(RULES.read_text()), "its first lines say how to renew it"
    monitor = manifest("monitoring/servicemonitor.yaml")["spec"]
    assert monitor["selector"]["matchLabels"] == manifest("service.yaml")["metadata"]["labels"]
    assert monitor["endpoints"][0]["port"] == manifest("service.yaml")["spec"]["ports"][0]["name"]


def test_the_rule_on_memory_is_that_of_the_manifests() -> None:
    assert 'process_resident_memory_bytes{job=~"ssm-stream.*"} > 0.9 * 2 * 1024 ^ 3\n' in RULES.read_text()
    assert services()["ssm-stream"]["mem_limit"] == "2g"
    [pod] = manifest("statefulset.yaml")["spec"]["template"]["spec"]["containers"]
    assert pod["resources"]["limits"]["memory"] == "2Gi"
    assert "MemoryMax=2G\n" in (DOCKER / "systemd/ssm-stream.service").read_text()


def test_commands_and_places_are_the_product_s(tmp_path: Path) -> None:
    """What the unit and the pods call exists, with the files, folders and variables that they have."""
    commands: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
    unit = (DOCKER / "systemd/ssm-stream.service").read_text()
    called = re.findall(r"^Exec\w+=(\S+) (\w+) (\S+)$", unit, re.MULTILINE)
    # systemd does not hold another command to RestartPreventExitStatus: run itself refuses a wrong configuration.
    assert [command for _, command, _ in called] == ["run"]
    assert re.findall(r"^Exec\w+=", unit, re.MULTILINE) == ["ExecStart="]
    folder = re.search(r"^StateDirectory=(.+)$", unit, re.MULTILINE)
    assert folder is not None
    assert f"recovery.directory: /var/lib/{folder[1]}/" in unit
    assert "StateDirectoryMode=0700" in unit
    stateful = manifest("statefulset.yaml")
    [pod] = stateful["spec"]["template"]["spec"]["containers"]
    command, file, *_ = pod["args"]
    assert {command, "validate"} <= set(commands)
    variables = set(re.findall(r"\$\((\w+)\)", file))
    assert variables == {each["name"] for each in pod["env"]}
    mounted = {mount["mountPath"] for mount in pod["volumeMounts"]}
    assert str(Path(file).parent) in mounted
    files = manifest("configmap.yaml")["data"]
    for number in range(stateful["spec"]["replicas"]):
        name = Path(file.replace("$(POD_NAME)", f"{stateful['metadata']['name']}-{number}")).name
        (tmp_path / name).write_text(files[name].replace("/var/lib/ssm-stream", str(tmp_path)))
        checked = CliRunner().invoke(app, ["validate", str(tmp_path / name)])
        assert checked.exit_code == 0, checked.output
