"""The server for AI assistants, by the SDK's own client: what it answers, what it may read, that it keeps secrets."""

from __future__ import annotations

import asyncio
import functools
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from answering import served
from brokers import Kafka, free_port

pytest.importorskip("mcp")

import httpx2
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from ssm_stream.cli.topic.mcp import EXTRA
from ssm_stream.config import ConfigError, load_config
from ssm_stream.evaluate.examples import write_examples
from ssm_stream.mcp import documentation
from ssm_stream.mcp.allowed_files import AllowedFiles, NotAllowedError
from ssm_stream.mcp.commands import shortened
from ssm_stream.mcp.redaction import Redactor, secrets_of
from ssm_stream.mcp.server import Access, http_token, make_server, parse_address
from ssm_stream.mcp.tools.entities import _error
from ssm_stream.mcp.tools.explanation import explain_message
from ssm_stream.mcp.view.episodes import MAX_EPISODES, Episodes
from ssm_stream.mcp.view.predictions import POINTS, Predictions
from ssm_stream.mcp.view.topics import FlowView

TOKEN = "a token of sixteen or more"
PASSWORD = "correct-horse-battery"


@functools.cache
def start() -> int:
    """The time of the first event, ms: 50 minutes before it is asked for first, not before the tests were collected."""
    return int(time.time() * 1000) - 3_000_000


READ = ["overview", "list_entities", "get_entity", "get_predictions", "list_alerts", "get_alert", "count_alerts"]
READ += ["explain_entity"]
READ += ["list_planned_stops", "get_health", "get_metrics", "get_configuration", "search_docs", "read_doc"]
FILES = ["list_files", "validate", "init", "backtest", "tune"]


def prediction(entity: str, i: int, score: float = 0.2, **more: Any) -> dict[str, Any]:
    return {
        "entity": entity, "ts": start() + 1000 * i, "y": 10.0 + i, "yhat": 10.5 + i, "yhat_lower": 9.0 + i,
        "yhat_upper": 12.0 + i, "anomaly_score": score, "warmup": i < 2, "n": i, "fleet": 0.5,
        "id": f"events-0-{i}", **more,
    }  # fmt: skip


def alert(entity: str, offset: int, phase: str = "started", kind: str = "anomaly", **more: Any) -> dict[str, Any]:
    name = f"events-0-{offset}-{kind}"
    return {
        "entity": entity, "scope": "entity", "kind": kind, "phase": phase, "episode": name, "ended_by": None,
        "severity": "warning", "summary": f"{entity}: temp is 14, expected 10 ± 2.", "ts": start() + 1000 * offset,
        "score": 2.5, "since": start() + 1000 * offset, "y": 14.0, "yhat": 10.0, "yhat_lower": 8.0, "yhat_upper": 12.0,
        "channel": "residual", "contributions": [{"feature": "a", "share": 0.75}, {"feature": "b", "share": -0.25}],
        "heads": [], "weight_change": [], "change": None, "budget": "1 per 30d", "id": name, **more,
    }  # fmt: skip


def messages() -> tuple[list[tuple[str, bytes]], list[tuple[str, bytes]]]:
    """Keys and values of predictions and alerts of a small fleet."""
    predictions = [prediction(f"press-{e}", i, 0.1 * e) for i in range(5) for e in range(12)]
    predictions += [prediction("oven-1", 9, 3.0), prediction("idle-1", 3, 0.0)]
    alerts = [
        alert("press-1", 1), alert("press-1", 3, "recovered", id="events-0-3-anomaly", episode="events-0-1-anomaly",
                                   ended_by="recovered"),
        alert("oven-1", 9, severity="critical", score=5.0), alert("press-2", 2, kind="drift", change="higher"),
        alert("*", 4, scope="fleet", id="events-0-4-anomaly-fleet", episode="events-0-4-anomaly-fleet", count=2,
              pool="0-0", entities=[{"entity": "press-3"}, {"entity": "press-4"}]),
    ]  # fmt: skip
    return [[(each["entity"], orjson.dumps(each)) for each in found] for found in (predictions, alerts)]  # type: ignore[return-value]


class Flow:
    """Topics with the messages of a flow, and its configuration."""

    def __init__(self, kafka: Kafka, folder: Path) -> None:
        self.events, self.feedback = kafka.topic("events"), kafka.topic("feedback")
        self.predictions, self.alerts = kafka.topic("predictions", 3), kafka.topic("alerts", 2)
        predictions, alerts = messages()
        self.rename = lambda value: value.replace(b'"events-0-', f'"{self.events}-0-'.encode())
        other = {"source": {"topic": "line-b", "partition": 0, "offset": 9}, "id": "line-b-0-9-anomaly"}
        # Another flow writes to the same topics.
        kafka.produce(self.predictions, [orjson.dumps(prediction("line-b", i, id=f"line-b-0-{i}")) for i in range(5)])
        kafka.produce(self.alerts, [orjson.dumps(alert("press-1", 9, **other))])
        for topic, own in ((self.predictions, predictions), (self.alerts, alerts)):
            kafka.produce(topic, [(key, self.rename(value)) for key, value in own])
        kafka.produce(self.feedback, [orjson.dumps({"id": self.id(9), "true": True})])
        kafka.produce(self.feedback, [orjson.dumps({"id": self.id(2, "drift"), "acknowledged": True, "by": "Ann"})])
        self.port = free_port()
        self.file = folder / "monitor.yaml"
        self.file.write_text(
            f"source: {{brokers: '{kafka.bootstrap_servers}', topic: {self.events},\n"
            "  kafka: {client.rack: '${RACK}'}}\n"
            "event: {entity: e, timestamp: t, target: y, features: [a, b]}\n"
            f"sinks: {{predictions: {self.predictions}, alerts: {self.alerts}}}\n"
            f"alerts: {{feedback: {{topic: {self.feedback}}},\n"
            "  limits: [{column: a, above: 90, entities: 'press-*'}],\n"
            "  maintenance: [{entities: 'oven-*', weekly: 'Sat 06:00-10:00'}]}\n"
            f"ops: {{address: '127.0.0.1:{self.port}', token: '${{TOKEN}}'}}\n"
            "recovery: {directory: null}\n"
        )

    def id(self, offset: int, kind: str = "anomaly") -> str:
        return f"{self.events}-0-{offset}-{kind}"


@pytest.fixture(scope="module")
def flow(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    os.environ |= {"TOKEN": TOKEN, "RACK": PASSWORD}
    yield Flow(kafka, tmp_path_factory.mktemp("mcp"))
    del os.environ["TOKEN"], os.environ["RACK"]


@pytest.fixture(scope="module")
def view(flow: Flow) -> Iterator[FlowView]:
    found = FlowView(load_config(flow.file))
    found.start()
    assert found.wait(30)
    yield found
    found.close()


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files") / "examples"
    write_examples(folder)
    return folder


def with_client(
    view: FlowView, file: Path, use: Callable[[Client], Awaitable[Any]], files: tuple[Path, ...] = ()
) -> Any:
    async def run() -> Any:
        async with Client(make_server(view.config, file, view, Access(files))) as client:
            return await use(client)

    return asyncio.run(run())


@pytest.fixture
def call(flow: Flow, view: FlowView, examples: Path) -> Callable[..., Any]:
    """Calls a tool by the SDK's client; returns its structured answer, or the text of its error."""

    def call(name: str, **arguments: Any) -> Any:
        found = with_client(view, flow.file, lambda client: client.call_tool(name, arguments), (examples,))
        if found.is_error:
            return found.content[0].text
        assert orjson.loads(found.content[0].text) == found.structured_content, "text and structure are the same"
        return found.structured_content

    return call


# Tools


def test_tools_describe_themselves_and_only_read(flow: Flow, view: FlowView, examples: Path) -> None:
    listed = with_client(view, flow.file, lambda client: client.list_tools())
    assert [each.name for each in listed.tools] == READ, "the tools on files are off"
    listed = with_client(view, flow.file, lambda client: client.list_tools(), (examples,))
    assert [each.name for each in listed.tools] == READ + FILES
    for each in listed.tools:
        assert len(each.description) > 50
        assert each.annotations.read_only_hint
        assert each.output_schema["properties"]
        assert each.input_schema.get("additionalProperties", True) is not bool(each.input_schema["properties"])
        described = [name for name, field in each.input_schema["properties"].items() if "description" in str(field)]
        assert set(each.input_schema["properties"]) - set(described) <= {"sort", "limit", "offset"}, each.name


def test_overview(call: Callable[..., Any], flow: Flow) -> None:
    found = call("overview")
    assert (found["entities"], found["entities_above_1"], found["open_alerts"]) == (14, 2, 3)
    assert found["open_alerts_by_kind"] == {"anomaly": 2, "drift": 1}
    assert [each["entity"] for each in found["worst"]][:2] == ["oven-1", "press-11"]
    assert found["notes"] == []
    assert {each["topic"] for each in found["topics"]} == {flow.predictions, flow.alerts, flow.feedback}


def test_entities(call: Callable[..., Any]) -> None:
    found = call("list_entities", limit=5)
    assert (found["total"], found["next_offset"], len(found["entities"])) == (14, 5, 5)
    assert found["entities"][0]["open_alerts"] == ["anomaly"]
    rest = call("list_entities", limit=200, offset=5)
    assert (len(rest["entities"]), rest["next_offset"]) == (9, None)
    assert call("list_entities", pattern="oven-*")["total"] == 1
    assert call("list_entities", contains="PRESS")["total"] == 12
    alerting = call("list_entities", state="alerting", sort="name")
    assert [each["entity"] for each in alerting["entities"]] == ["oven-1", "press-2", "press-3", "press-4"]
    assert [e["entity"] for e in call("list_entities", sort="oldest", limit=1)["entities"]] == ["idle-1"]
    assert call("list_entities", no_event_for_seconds=10**9)["total"] == 0
    assert "less than or equal to 200" in call("list_entities", limit=10_000)


def test_one_entity(call: Callable[..., Any], flow: Flow) -> None:
    found = call("get_entity", entity="press-1")
    assert found["predictions"][0]["y"] == 14.0
    assert found["recent"][0]["columns"]["y"] == [10, 11, 12, 13, 14]
    assert found["recent"][0]["mean_absolute_error"] == pytest.approx(0.5)
    assert found["recent"][0]["share_inside_interval"] == 1
    assert [each["id"] for each in found["past_alerts"]] == [flow.id(1)]
    assert found["limits"] == ["a above 90"]
    assert call("get_entity", entity="oven-1")["planned_stops"][0]["when"]
    unknown = call("get_entity", entity="Press-1x")
    assert not unknown["known"]
    assert "press-1" in unknown["similar_names"]
    both = call("get_predictions", entities=["press-1", "nobody"])
    assert [each["entity"] for each in both["predictions"]] == ["press-1"]
    assert both["unknown"] == ["nobody"]
    one = call("get_predictions", entities=["press-1"], target="y")
    assert (len(one["predictions"]), one["unknown"]) == (1, [])
    assert "target: found 'x'; the configuration has y" in call("get_predictions", entities=["press-1"], target="x")


def test_alerts(call: Callable[..., Any], flow: Flow) -> None:
    assert call("list_alerts")["total"] == 4
    opened = call("list_alerts", which={"open": True, "severity": "critical"})["alerts"]
    assert [(each["id"], each["verdict"], each["score"]) for each in opened] == [(flow.id(9), True, 5.0)]
    assert call("list_alerts", which={"entity": "press-3"})["alerts"][0]["entity"] == "*", "one of a fleet alert's"
    assert call("list_alerts", which={"acknowledged": True})["alerts"][0]["acknowledged_by"] == "Ann"
    assert call("list_alerts", which={"since": "30m"})["total"] == 3, "those that go on"
    assert call("list_alerts", which={"until": "2001-01-01T00:00:00"})["total"] == 0
    assert "write how long ago" in call("list_alerts", which={"since": "yesterday"})
    assert "no argument 'which.machine'; there are open, entity, kind" in call("list_alerts", which={"machine": "x"})
    counts = call("count_alerts", by="entity", which={"kind": "anomaly"})
    assert {each["group"]: each["alerts"] for each in counts["groups"]} == {"*": 1, "oven-1": 1, "press-1": 1}
    assert sum(each["called_true"] for each in counts["groups"]) == 1
    assert call("count_alerts", by="ended_by")["groups"][0]["group"] == "open"


def test_an_argument_that_a_tool_does_not_have_is_refused(call: Callable[..., Any]) -> None:
    refused = call("list_alerts", entity="press-1")
    assert 'no argument \'entity\'; write it within which: {"which": {"entity": …}}' in refused
    assert "within which" in call("count_alerts", kind="silence")
    assert "no argument 'machine'; there are which, sort, limit, offset" in call("list_alerts", machine="press-1")
    assert call("overview", random_string="")["entities"] == 14, "some clients send it to tools without arguments"
    wrong = call("list_alerts", sort="worst", which={"kind": "lie"})
    assert "sort: Input should be 'newest', 'oldest' or 'score' (found 'worst')" in wrong
    assert "which.kind: Input should be" in wrong
    assert "pydantic" not in wrong
    assert "entity: Field required" in call("get_entity")
    assert call("list_alerts", which='{"entity": "press-1"}')["total"] == 1, "as some clients write it"


def test_one_alert_is_explained(call: Callable[..., Any], flow: Flow) -> None:
    found = call("get_alert", id=flow.id(3))
    assert found["alert"]["id"] == flow.id(1)
    text = " ".join(found["explanation"])
    assert "temp is 14" in text
    assert "a +75%, b -25%" in text
    assert "outside the interval 8 to 12" in text
    assert "normal again" in text
    assert [each["entity"] for each in found["at_the_same_time"]] == ["press-2"]
    assert found["reproduce"] == f"ssm-stream explain {flow.file} {flow.id(1)}"
    assert "list_alerts has the ids" in call("get_alert", id="nothing")


def test_documentation(call: Callable[..., Any], view: FlowView, flow: Flow) -> None:
    found = call("search_docs", query="how does an episode end")
    assert {"messages.md"} <= {each["page"] for each in found["sections"]}
    page = call("read_doc", page="messages.md", heading="How an episode ends")
    assert page["text"].startswith("### How an episode ends")
    assert "there are: " in call("read_doc", page="../README.md")
    text = with_client(view, flow.file, lambda client: client.read_resource("ssm-stream://docs/config/alerts.md"))
    assert text.contents[0].text == documentation.pages()["config/alerts.md"]
    assert call("search_docs", query="アラート", language="ja")["sections"]
    listed = with_client(view, flow.file, lambda client: client.list_resources()).resources
    assert {each.name: str(each.uri) for each in listed} == {
        name: f"ssm-stream://docs/{name}" for name in documentation.pages()
    }

    async def unknown(client: Client) -> None:
        with pytest.raises(MCPError, match=r"no page 'nothing.md'; there are: .*alerts.md"):
            await client.read_resource("ssm-stream://docs/nothing.md")

    with_client(view, flow.file, unknown)


def test_an_entity_is_ordered_by_the_target_with_the_largest_error() -> None:
    found = Predictions()
    found.add([
        prediction("m1", 1, 3.0, target="a", y=1.0, yhat=1.5), prediction("m1", 1, 0.1, target="b", y=1.0, yhat=9.0),
    ])  # fmt: skip
    assert (found.worst()["m1"].target, found.worst(_error)["m1"].target) == ("a", "b")


def test_processes(call: Callable[..., Any], flow: Flow) -> None:
    found = call("get_health")["processes"][0]
    assert not found["reachable"]
    assert call("get_metrics")["errors"]
    metrics = b'# HELP lag Messages behind.\n# TYPE lag gauge\nlag{partition="0"} 7\n'
    metrics += b"# HELP read_total Messages read.\n# TYPE read_total counter\nread_total 5\n"
    metrics += b"# HELP wait_seconds Waits.\n# TYPE wait_seconds histogram\n"
    metrics += b'wait_seconds_bucket{le="+Inf"} 2\nwait_seconds_count 2\nwait_seconds_sum 3\n'
    answers = {"/readyz": b'{"ready": true, "checks": {"caught_up": true}}', "/metrics": metrics}
    with served(flow.port, answers) as seen:
        assert call("get_health")["processes"][0]["ready"]
        assert call("get_metrics", contains="LAG")["metrics"][0]["samples"] == [
            {"name": "lag", "partition": "0", "value": 7.0}
        ]
        (counter,) = call("get_metrics", contains="read_total")["metrics"]
        assert (counter["name"], counter["samples"]) == ("read_total", [{"name": "read_total", "value": 5.0}])
        (histogram,) = call("get_metrics", contains="wait_seconds_count")["metrics"]
        assert [each["name"] for each in histogram["samples"]] == ["wait_seconds_count", "wait_seconds_sum"]
    assert set(seen) == {f"Bearer {TOKEN}"}


def test_a_current_prediction_is_explained_by_its_process(call: Callable[..., Any], flow: Flow) -> None:
    assert "not reachable" in call("explain_entity", entity="press-1")["notes"][0]
    part = {"input": "a", "value": 2.0, "weight": 0.25, "contribution": 0.5, "reading": None}
    explanation = {
        "yhat": 10.5, "base": 10.0, "constant": 0.0, "rest": 0.0, "fleet": 0.3, "parts": [part],
        "other_inputs": {"number": 0, "contribution": 0.0}, "heads": [{"head": "fleet: moments", "weight": 1.0}],
    }  # fmt: skip
    known = {"known": True, "explanation": explanation}
    misread = {"input": "b", "value": None, "weight": 0.25, "contribution": 0.0, "reading": 9999.0}
    explanation["parts"].append(misread)  # type: ignore[attr-defined]
    with served(flow.port, {"/ui/api/entity": orjson.dumps(known)}):
        found = call("explain_entity", entity="press-1")
    said = " ".join(found["explanation"])
    assert "a contributes +0.5: its value is 2, its weight" in said
    assert "its value is unknown (its reading, 9999, is too far off to be believed)" in said
    with served(flow.port, {"/ui/api/entity": b'{"known": true, "explanation": null}'}):
        assert "call again" in call("explain_entity", entity="press-1")["notes"][0]
    assert "target: found 'b'; the configuration has" in call("explain_entity", entity="press-1", target="b")
    with served(flow.port, {"/ui/api/entity": b'{"known": false}'}):
        assert "since its start" in call("explain_entity", entity="press-1")["notes"][0]


def test_an_alert_of_several_targets_says_which_began_and_which_are_open() -> None:
    told = explain_message(alert("press-1", 1, target="temp", targets=[{"target": "temp"}, {"target": "load"}]))
    assert "It began with the target temp; open as well: load." in told
    assert not any("began with" in each for each in explain_message(alert("press-1", 1)))


@pytest.mark.parametrize(
    ("more", "words", "never"),
    [
        ({"channel": "novelty"}, "the target's own value is unlike those", "inputs are"),
        ({"channel": "levels"}, "the level of inputs or target", "the values"),
        ({"kind": "limit", "channel": None, "ended_by": "recovered"}, "within its limit again", "errors"),
        ({"kind": "silence", "channel": None, "ended_by": "recovered"}, "something came again", "errors"),
        ({"kind": "stuck", "channel": None, "ended_by": "recovered"}, "the value changed again", "errors"),
        ({"kind": "limit", "channel": None, "ended_by": "ttl"}, "state.ttl", "errors"),
        ({"ended_by": "recovered"}, "errors were normal again", "limit"),
    ],
)
def test_an_explanation_is_of_what_the_alert_is_about(more: dict[str, Any], words: str, never: str) -> None:
    said = " ".join(explain_message({**alert("press-1", 1), **more}))
    assert words in said
    assert never not in said


# Files


def test_only_named_files_are_read(call: Callable[..., Any], examples: Path, flow: Flow) -> None:
    names = [each["name"] for each in call("list_files")["files"]]
    assert "examples/plant.csv.gz" in names
    outside = examples.parent / "outside.yaml"
    outside.write_text("secret: 1")
    (examples / "link.yaml").symlink_to(outside)
    for name in (
        "../outside.yaml",
        str(outside),
        "examples/../outside.yaml",
        "/etc/passwd",
        "examples/link.yaml",
        "\0",
    ):
        assert "that may be read" in call("validate", config=name), name
    with pytest.raises(NotAllowedError, match="a link"):
        AllowedFiles([examples])(str(examples))
    (examples / "link.yaml").unlink()
    assert AllowedFiles([examples])("plant.csv.gz") == examples / "plant.csv.gz"
    assert call("validate")["valid"], "the server's own file may be read"


def test_files_of_the_same_name_are_the_ones_that_were_named(flow: Flow, view: FlowView, tmp_path: Path) -> None:
    folders = [tmp_path / "b", tmp_path / "c" / "b"]
    for i, folder in enumerate(folders):
        folder.mkdir(parents=True)
        (folder / flow.file.name).write_text(f"source: {{topic: of-{i}}}\nevent: {{entity: [], timestamp: t}}\n")

    def ask(name: str | None, *files: Path) -> Any:
        found = with_client(view, flow.file, lambda client: client.call_tool("validate", {"config": name}), files)
        return found.structured_content

    own = folders[0] / flow.file.name
    assert not ask(flow.file.name, own)["valid"], "not the server's own"
    assert ask(None, own)["valid"]
    assert ask(flow.file.name, folders[0] / "..")["valid"], "no file there has its name"
    names = dict(AllowedFiles(folders).list())
    assert list(names) == [str(folders[1] / flow.file.name), f"b/{flow.file.name}"]
    for name, path in names.items():
        assert AllowedFiles(folders)(name) == path


def test_validate(call: Callable[..., Any], examples: Path) -> None:
    found = call("validate", config="examples/soft-sensor.yaml", recording="examples/plant.csv.gz")
    assert (found["valid"], found["errors"]) == (True, [])
    bad = examples / "bad.yaml"
    bad.write_text("source: {brokers: 'h:1', topic: '${TOKEN}'}\nevent: {entity: e, timestamp: t, lags: -1}\n")
    found = call("validate", config="examples/bad.yaml")
    assert not found["valid"]
    assert "bad.yaml:1: source.topic" in found["errors"][0]
    assert "(found '${TOKEN}')" in found["errors"][0], "a placeholder, not what it stands for"
    assert "bad.yaml:2: event.lags" in found["errors"][1]
    other = call("validate", config="examples/soft-sensor.yaml", recording="examples/services.csv.gz")
    assert not other["valid"]
    assert other["errors"]


def test_init_backtest_and_tune(call: Callable[..., Any], examples: Path) -> None:
    before = sorted(path.name for path in examples.iterdir())
    drafted = call("init", recording="examples/plant.csv.gz", target=["power"])
    assert drafted["exit_code"] == 0
    assert "target: power" in drafted["file"]
    steps = " ".join(drafted["messages"])
    assert "not written: save `file` as monitor.yaml; next:   ssm-stream validate monitor.yaml" in steps
    assert drafted["result"]["out"] == "monitor.yaml"
    run = call("backtest", recording="examples/plant.csv.gz", config="examples/soft-sensor.yaml", rows=2000)
    assert run["exit_code"] == 0
    assert run["result"]["events"] == 2000
    tuned = call(
        "tune", recording="examples/plant.csv.gz", config="examples/soft-sensor.yaml", rows=1500, only=["lags"]
    )
    assert tuned["exit_code"] == 0, tuned["messages"]
    assert "verdict" in tuned["result"]
    assert not [each for each in tuned["messages"] if "ssm-stream-" in each], "the folder is gone"
    failed = call("init", recording="examples/plant.csv.gz", target=["--force"], entity="a (b)")
    assert failed["exit_code"] != 0
    assert failed["command"] == "ssm-stream init examples/plant.csv.gz --target=--force '--entity=a (b)'"
    assert sorted(path.name for path in examples.iterdir()) == before, "nothing is written"


# Secrets


def test_no_answer_holds_a_secret(call: Callable[..., Any], examples: Path) -> None:
    (examples / "leaky.yaml").write_text(
        "source: {brokers: '${RACK}:1', topic: 'a-${TOKEN}', kafka: {sasl.password: '${TOKEN}'}}\n"
        f"event: {{entity: '${{file:{examples}/secret}}', timestamp: t, features: [a]}}\n"
    )
    (examples / "secret").write_text("the-content-of-a-file")
    answers = [call(name) for name in ("overview", "get_configuration", "get_health", "get_metrics", "validate")]
    answers += [call("validate", config="examples/leaky.yaml"), call("get_alert", id=TOKEN)]
    answers += [call("get_entity", entity=PASSWORD), call("backtest", recording="examples/plant.csv.gz", rows=100)]
    for each in answers:
        text = orjson.dumps(each).decode()
        assert TOKEN not in text
        assert "the-content-of-a-file" not in text
    for each in answers[:6]:
        assert PASSWORD not in orjson.dumps(each).decode()


def test_secrets_of_every_section_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", "https://chat.example/a-secret-path")
    file = tmp_path / "notify.yaml"
    file.write_text(
        "source: {brokers: 'h:1', topic: t, kafka: {security.protocol: SASL_SSL, sasl.mechanism: PLAIN,\n"
        "  sasl.username: u, sasl.password: '${TOKEN}'}}\nevent: {entity: e, timestamp: t, features: [a]}\n"
        "notify: {targets: [{name: chat, webhook: '${HOOK}'}]}\n"
    )
    monkeypatch.setenv("TOKEN", TOKEN)
    assert {TOKEN, "https://chat.example/a-secret-path"} <= set(secrets_of(load_config(file)))
    assert Redactor([TOKEN])({"a": [f"x {TOKEN} http://u:p@h/"]}) == {"a": ["x *** http://***@h/"]}


# Transports


def test_stdio(flow: Flow, examples: Path) -> None:
    arguments = ["-m", "ssm_stream", "mcp", str(flow.file), "--files", str(examples)]
    environment = {**os.environ, "TOKEN": TOKEN, "RACK": PASSWORD}

    async def run() -> None:
        async with Client(StdioServerParameters(command=sys.executable, args=arguments, env=environment)) as client:
            assert len((await client.list_tools()).tools) == len(READ + FILES)
            found = await client.call_tool("overview", {})
            assert found.structured_content is not None
            assert found.structured_content["entities"] == 14

    asyncio.run(run())


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "[::1]"])
def test_http_needs_the_token(flow: Flow, host: str) -> None:
    port = free_port()
    address = str(port) if host == "127.0.0.1" else f"{host}:{port}"
    command = [sys.executable, "-m", "ssm_stream", "mcp", str(flow.file), "--http", address]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        try:
            url = f"http://{host}:{port}/mcp"
            deadline = time.monotonic() + 60
            while (status := _status(url)) is None:
                assert time.monotonic() < deadline
                time.sleep(0.2)
            assert status == 401
            assert _status(url, "Bearer wrong") == 401
            assert _status(url, f"Bearer {TOKEN}", host="evil.example") in (403, 421)
            assert _status(url, f"Bearer {TOKEN}", origin="http://evil.example") == 403

            async def run() -> Any:
                async with (
                    httpx2.AsyncClient(headers={"Authorization": f"Bearer {TOKEN}"}) as http,
                    Client(streamable_http_client(url, http_client=http)) as client,
                ):
                    return (await client.call_tool("overview", {})).structured_content

            assert asyncio.run(run())["entities"] == 14
        finally:
            process.terminate()
            _, printed = process.communicate(timeout=30)
    assert TOKEN not in printed
    assert f"serving {url};" in printed


def _status(url: str, token: str = "", host: str = "", origin: str = "") -> int | None:
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    headers |= {"Authorization": token} if token else {}
    headers |= {name: value for name, value in (("Host", host), ("Origin", origin)) if value}
    try:
        request = urllib.request.Request(url, b'{"jsonrpc":"2.0","id":1,"method":"ping"}', headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def test_http_is_for_loopback_only(flow: Flow) -> None:
    assert parse_address("9465") == ("127.0.0.1", 9465)
    assert parse_address("[::1]:9465") == ("::1", 9465)
    assert parse_address("[0:0:0:0:0:0:0:1]:9480") == ("::1", 9480)
    for address in ("0.0.0.0:9465", "10.0.0.1:9465"):
        with pytest.raises(ConfigError, match=r"--http: .*loopback only"):
            parse_address(address)
    for address in ("plant:9465", "127.0.0.1:x", "0", "99999", "10.0.0.1:99999"):
        with pytest.raises(ConfigError, match=r"--http: .*write a port from 1 to 65535"):
            parse_address(address)
    assert http_token(load_config(flow.file)) == (TOKEN, False)


def test_http_on_a_taken_port_is_refused_before_it_is_announced(flow: Flow) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "ssm_stream", "mcp", str(flow.file), "--http", str(port)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ), timeout=60)
    assert done.returncode == 1
    assert f"--http: cannot listen on 127.0.0.1:{port}: Address already in use" in done.stderr
    assert "give another port" in done.stderr
    assert "serving" not in done.stderr


def test_the_instructions_name_commands_that_change_something(flow: Flow, view: FlowView) -> None:
    text = make_server(view.config, flow.file, view, Access()).instructions
    assert re.findall(r"`ssm-stream (\w+)`", text or "") == ["mute"], "feedback only prints"


def test_without_the_sdk_the_cure_is_named(flow: Flow) -> None:
    code = "import sys; sys.modules['mcp'] = None; from ssm_stream.cli.app import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "mcp", str(flow.file)], capture_output=True, text=True, check=False,
        env=dict(os.environ),
    )  # fmt: skip
    assert done.returncode == 2
    assert EXTRA in done.stderr


def test_other_commands_do_not_load_the_sdk() -> None:
    code = "import sys, ssm_stream.cli.app; sys.exit('mcp' in sys.modules or 'starlette' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# The view


def test_what_is_withheld_is_not_open() -> None:
    episodes = Episodes()
    episodes.add([alert("m1", 1, suppressed_by="maintenance"), alert("m2", 2)])
    assert list(episodes.open_by_entity()) == ["m2"]


def test_the_view_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Predictions()
    held.add(prediction("a", i) for i in range(500))
    points = held.of("a")[0].points()
    assert [point[1] for point in points] == [10.0 + i for i in range(500 - POINTS, 500)]
    monkeypatch.setattr("ssm_stream.mcp.view.predictions.MAX_SERIES", 10)
    held.add(prediction(f"m{i}", i) for i in range(25))
    assert held.names() == [f"m{i}" for i in range(15, 25)]
    assert held.evicted == 16
    held.add([None, [], {"entity": "x"}, "text"])
    episodes = Episodes()
    episodes.add(alert(f"m{i}", i) for i in range(MAX_EPISODES + 5))
    assert len(episodes.all()) == MAX_EPISODES
    assert episodes.find("events-0-0-anomaly") is None
    for i in range(100):
        episodes.add([alert("m9", 9, "ongoing", id=f"events-0-{20_000 + i}-anomaly", episode="events-0-9-anomaly")])
    assert len(episodes.find("events-0-9-anomaly").ids) <= 51  # type: ignore[union-attr]


def test_a_broker_that_is_away_is_named(flow: Flow, tmp_path: Path) -> None:
    file = tmp_path / "away.yaml"
    file.write_text(
        "source: {brokers: 'localhost:1', topic: t, wait: 1s}\nevent: {entity: e, timestamp: t, features: [a]}\n"
    )
    view = FlowView(load_config(file))
    view.start()
    try:
        found = with_client(view, file, lambda client: client.call_tool("overview", {}))
    finally:
        view.close()
    assert found.is_error
    assert "no broker at localhost:1" in found.content[0].text


def test_what_a_topic_that_cannot_be_read_would_add_is_noted(kafka: Kafka, flow: Flow, tmp_path: Path) -> None:
    file = tmp_path / "partly.yaml"
    text = flow.file.read_text().replace(f"topic: {flow.feedback}", "topic: no-feedback")
    file.write_text(text.replace("alerts: {feedback", "alerts: {control: {topic: no-control}, feedback"))
    view = FlowView(load_config(file))
    view.start()

    async def ask(client: Client) -> list[Any]:
        calls = [("list_planned_stops", {}), ("get_entity", {"entity": "press-1"}), ("count_alerts", {})]
        calls += [("list_alerts", {"which": {"verdict": "false"}}), ("get_alert", {"id": flow.id(9)}), ("overview", {})]
        return [(await client.call_tool(name, given)).structured_content["notes"] for name, given in calls]

    try:
        stops, entity, *others = with_client(view, file, ask)
    finally:
        view.close()
    assert [("no-control" in note) for note in stops] == [True]
    assert ["no-feedback" in entity[0], "no-control" in entity[1]] == [True, True]
    for notes in others:
        assert ["cannot be read, and is missing here" in note and "no-feedback" in note for note in notes] == [True]


def test_long_results_are_cut() -> None:
    found = shortened(
        {"by_entity": {f"m{i}": {"mae": i} for i in range(1000)}, "list": list(range(100)), "t": "x" * 9000}
    )
    assert len(found["by_entity"]) == 21
    assert found["list"][-1] == "… 80 more"
    assert len(orjson.dumps(found)) < 5000
