"""Alert rules, dashboard and runbook: rules fire when they should, charts ask for what there is, each alert has its
section, and the commands in it exist. A real Prometheus runs them in test_prometheus.py.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from programs import ran
from prometheus_client import Metric
from sandbox import DOCKER, REPOSITORY
from typer.main import get_command

from ssm_stream.cli.app import app
from ssm_stream.config import parse_config
from ssm_stream.flow.group.metrics import GroupMetrics
from ssm_stream.notify.metrics import NotifyMetrics
from ssm_stream.ops.metrics import Metrics

PROMETHEUS = DOCKER / "prometheus"
DASHBOARD = json.loads((DOCKER / "grafana/dashboards/ssm-stream.json").read_text())
BY_ENTITY = json.loads((DOCKER / "grafana/dashboards/ssm-stream-entity.json").read_text())
"""The dashboard of one entity: part of its panels read the live page, which tests/test_json_api.py serves."""
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"] for rule in group["rules"]
]
PROMETHEUS_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
PAGE_SOURCE = {"type": "yesoreyeram-infinity-datasource", "uid": "${page}"}
ALERTS = [rule for rule in RULES if "alert" in rule]


def test_rules_and_configuration_of_prometheus() -> None:
    ran("promtool", "check", "rules", "rules.yml", cwd=PROMETHEUS)
    ran("promtool", "check", "config", "prometheus.yml", cwd=PROMETHEUS)


def test_each_rule_fires_when_it_should_and_not_otherwise() -> None:
    ran("promtool", "test", "rules", "rules_test.yml", cwd=PROMETHEUS, timeout=300)
    text = (PROMETHEUS / "rules_test.yml").read_text()
    assert not [rule["alert"] for rule in ALERTS if rule["alert"] not in text], "rules without a test"


def known_names() -> set[str]:
    """Every series that a process may have."""
    metrics = Metrics(parse_config("source: {brokers: a, topic: t}\nevent: {entity: e, timestamp: t, features: [a]}"))

    def names(family: Metric) -> list[str]:
        endings = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
        return [family.name + ending for ending in endings.get(family.type, [""])]

    GroupMetrics(metrics)
    families = [*metrics.registry.collect(), *NotifyMetrics(["slack"]).registry.collect()]
    return {name for family in families for name in names(family)}


def expressions() -> list[str]:
    """Of all rules, panels, variables and annotations."""
    panels = [*DASHBOARD["panels"], *BY_ENTITY["panels"]]
    shown = [target["expr"] for panel in panels for target in panel.get("targets", []) if "expr" in target]
    shown += [v["definition"] for v in DASHBOARD["templating"]["list"] if "definition" in v]
    shown += [a["expr"] for a in DASHBOARD["annotations"]["list"] if "expr" in a]
    return [*shown, *(rule["expr"] for rule in RULES)]


def names_in(expression: str) -> set[str]:
    """The series that it asks for, recorded ones included."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}', "", expression)
    return set(re.findall(r"(?<![\w:])(?:\w+:)*(?:ssm_stream|process|python|bytewax)_\w+(?::\w+)*", bare))


def test_only_metrics_that_exist_are_asked_for() -> None:
    known = known_names() | {rule["record"] for rule in RULES if "record" in rule}
    asked = set().union(*map(names_in, expressions()))
    bytewax = {name for name in asked if name.startswith("bytewax_")}  # tests/test_prometheus.py asks Bytewax itself
    assert len(asked) > 30
    assert asked - bytewax <= known, asked - bytewax - known
    documented = set(re.findall(r"`(ssm_stream_\w+)`", (REPOSITORY / "docs/metrics.md").read_text()))
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked if name.startswith("ssm_stream_")}
    assert shown == documented, "a metric that no chart or rule uses, or the other way round"


def test_alerts_say_how_bad_what_and_where_to_read_on() -> None:
    text = (REPOSITORY / "docs/runbook.md").read_text()
    sections = re.findall(r"^## (SsmStream\w+)$", text, re.MULTILINE)
    assert sorted(sections) == sorted(rule["alert"] for rule in ALERTS)
    for rule in ALERTS:
        name, severity = rule["alert"], rule["labels"]["severity"]
        assert severity in ("critical", "warning")
        assert {"summary", "description"} < set(rule["annotations"])
        assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"
        assert "for" in rule or name in ("SsmStreamRestarting", "SsmStreamKernelDeviates"), "it would flap"
        assert re.search(rf"^\| \[{name}\]\(#{name.lower()}\) \| {severity} \|", text, re.MULTILINE), name
        section = text.split(f"## {name}\n")[1].split("\n## ")[0]
        for word in ("**Means.**", "do.**" if "**Look at, do.**" in section else "**Do.**"):
            assert word in section, f"{name}: {word}"


@pytest.mark.parametrize("dashboard", [DASHBOARD, BY_ENTITY], ids=["flow", "entity"])
def test_panels_say_what_they_show_and_in_which_unit(dashboard: dict[str, Any]) -> None:
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    boxes = []
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        boxes.append((at["x"], at["y"], at["x"] + at["w"], at["y"] + at["h"]))
    overlapping = [
        (a, b)
        for i, a in enumerate(boxes)
        for b in boxes[:i]
        if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
    ]
    assert not overlapping
    for panel in panels:
        assert panel["description"], panel["title"]
        assert panel["datasource"] in (PROMETHEUS_SOURCE, PAGE_SOURCE)
        assert panel["datasource"] == PROMETHEUS_SOURCE or dashboard is BY_ENTITY
        assert panel["type"] in ("table", "heatmap") or panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        for target in panel["targets"]:
            chosen = (
                target["url"].startswith("/ui/api/") if panel["datasource"] == PAGE_SOURCE else "$job" in target["expr"]
            )
            assert chosen, f"{panel['title']}: of all flows, whatever is chosen"
    own = {"page", "entity", "target"} if dashboard is BY_ENTITY else set()
    assert {v["name"] for v in dashboard["templating"]["list"]} == {"datasource", "job", "instance"} | own
    marks = [each["name"] for each in dashboard["annotations"]["list"]]
    assert any("Alerts" in name for name in marks[1:]), "alerts are annotations"


# What people are told to type.


@pytest.mark.parametrize("page", ["runbook", "deploy"])
def test_commands_in_the_documentation_exist(page: str) -> None:
    text = (REPOSITORY / f"docs/{page}.md").read_text()
    told = re.findall(r"(?:^|`)ssm-stream ((?:state )?[a-z-]+)((?: +[^\s`]+)*)", text, re.MULTILINE)
    assert len(told) > 3
    for name, rest in told:
        command: Any = get_command(app)
        for part in name.split():
            assert part in command.commands, f"ssm-stream {name}"
            command = command.commands[part]
        options = {option for parameter in command.params for option in parameter.opts}
        assert set(re.findall(r" (--?[a-z-]+)", rest)) <= options, f"ssm-stream {name}{rest}"


@pytest.mark.parametrize("page", ["runbook", "deploy"])
def test_links_in_the_documentation_lead_somewhere(page: str) -> None:
    path = REPOSITORY / f"docs/{page}.md"
    for target in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        file, _, anchor = target.partition("#")
        found = (path.parent / file).resolve() if file else path
        assert found.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", found.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}, target
