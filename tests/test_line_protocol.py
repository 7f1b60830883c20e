"""Files of line protocol are read as Telegraf's JSON; other formats of agents are refused with the cure."""

from __future__ import annotations

import gzip
from pathlib import Path

import orjson
import pytest
from brokers import Kafka
from test_init_measurements import AGENT, sent
from typer.testing import CliRunner

from ssm_stream.cli.app import app
from ssm_stream.evaluate.recordings import Recording, RecordingError

LINE = r'my\,disk,host=a\ b,path=/x\=y used=1.5,free=7i,n=2u,ok=true,note="a, \"b\" c=d",e=-1e3 1700000000500000000'


OTLP = (
    '{"resourceMetrics": [{"resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "cart"}}]}, '
    '"scopeMetrics": [{"scope": {"name": "http"}, "metrics": [{"name": "queue.length", "gauge": {"dataPoints": '
    '[{"timeUnixNano": "1772409600000000000", "asInt": "3"}]}}]}]}]}\n'
)
"""What OpenTelemetry's collector writes to files and topics."""


def written(rows: list[dict[str, object]]) -> str:
    """Rows of Telegraf's JSON as line protocol."""
    lines = []
    for row in rows:
        tags, fields = (",".join(f"{k}={v}" for k, v in row[part].items()) for part in ("tags", "fields"))  # type: ignore[attr-defined]
        lines.append(f"{row['name']},{tags} {fields} {row['timestamp']}000000000\n")
    return "".join(lines)


def test_a_line_is_the_json_that_telegraf_makes_of_it(tmp_path: Path) -> None:
    path = tmp_path / "metrics.out"
    path.write_text(f"# a comment\n{LINE}\n\nup v=1\n")
    fields = {"used": 1.5, "free": 7, "n": 2, "ok": True, "note": 'a, "b" c=d', "e": -1000.0}
    tags = {"host": "a b", "path": "/x=y"}
    assert list(Recording(path)) == [
        {"fields": fields, "name": "my,disk", "tags": tags, "timestamp": 1700000000.5},
        {"fields": {"v": 1.0}, "name": "up", "tags": {}},
    ]
    assert Recording(path).count() == 2


@pytest.mark.parametrize("time", ["1700000000", "1700000000000", "1700000000000000", "1700000000000000000"])
def test_the_first_time_shows_the_unit(tmp_path: Path, time: str) -> None:
    path = tmp_path / "m.txt"
    path.write_text(f"a v=1 {time}\n")
    assert [row["timestamp"] for row in Recording(path)] == [1_700_000_000]


def test_one_configuration_reads_lines_and_json(tmp_path: Path) -> None:
    """Under names that are those of tables, and packed."""
    rows, run = sent(AGENT), CliRunner()
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(map(orjson.dumps, rows)))
    (tmp_path / "a.csv").write_text(written(rows))
    (tmp_path / "a.lp.gz").write_bytes(gzip.compress(written(rows).encode()))
    out = str(tmp_path / "monitor.yaml")
    drafted = run.invoke(app, ["init", str(tmp_path / "a.csv"), "--out", out])
    assert drafted.exit_code == 0, drafted.output
    found = [run.invoke(app, ["backtest", out, str(tmp_path / f), "--json"]) for f in ("a.jsonl", "a.csv", "a.lp.gz")]
    assert [each.exit_code for each in found] == [0, 0, 0]
    counts = [orjson.loads(each.stdout) for each in found]
    assert counts[0]["events"] > 0
    assert [each["by_entity"] for each in counts] == [counts[0]["by_entity"]] * 3


def test_a_last_line_that_is_cut_is_left_out(tmp_path: Path) -> None:
    """A time without its last digits would be another one."""
    path = tmp_path / "m.out"
    for end in ("b v=2 17000", "b v=", "b"):
        path.write_text(f"a v=1 1700000000000000000\n{end}")
        assert [row["name"] for row in Recording(path)] == ["a"]
        assert Recording(path).count() == 1
    path.write_text("a v=1 1700000000000000000\nb v=2 1700000000000000000")
    assert Recording(path).count() == 2


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.out"
    path.write_text("a v=1 1700000000\nb v=x 1700000000\n")
    with pytest.raises(RecordingError, match=r"m\.out:2: not `measurement,tag=value field=value time`"):
        list(Recording(path))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("m.txt", '# HELP up x\n# TYPE up gauge\nup{job="a"} 1\n', ["Prometheus's text format", "query_range"]),
        ("m.prom", 'up{job="a"} 1\nup{job="b"} 0\n', ["Prometheus's text format", "query_range"]),
        ("m.json", '{"data": {"resultType": "vector", "result": []}}', ["resultType: vector", "query_range"]),
        (
            "m.jsonl",
            '{"timeseries": [{"labels": [{"name": "a", "value": "b"}], "samples": [{"value": 1, "timestamp": 2}]}]}\n'
            * 2,
            ["remote write", "query_range"],
        ),
        (
            "m.json",
            '{"timeseries": [{"labels": [{"name": "a", "value": "b"}], "samples": [{"value": 1, "timestamp": 2}]}]}',
            ["remote write", "query_range"],
        ),
        ("m.jsonl", OTLP * 2, ["OpenTelemetry", "an event a data point", '"metric"', "readings"]),
        ("m.json", OTLP, ["OpenTelemetry", "an event a data point", '"metric"', "readings"]),
    ],
)
def test_other_formats_of_agents_are_refused_with_the_cure(
    tmp_path: Path, name: str, content: str, words: list[str]
) -> None:
    (tmp_path / name).write_text(content)
    result = CliRunner().invoke(app, ["init", str(tmp_path / name), "--out", str(tmp_path / "o.yaml")])
    assert result.exit_code != 0
    assert all(word in " ".join(result.output.split()) for word in words), result.output
    assert "In lists" not in result.output


def test_a_topic_of_lines_names_telegrafs_setting(kafka: Kafka, tmp_path: Path) -> None:
    topic = kafka.topic("events", 1)
    kafka.produce(topic, [(b"a", f"cpu,host=a v={i} {1_700_000_000 + i}000000000".encode()) for i in range(5)])
    where = ["--topic", topic, "--brokers", kafka.bootstrap_servers, "--out", str(tmp_path / "o.yaml")]
    result = CliRunner().invoke(app, ["init", *where])
    assert result.exit_code == 2
    assert 'data_format = "json"' in " ".join(result.output.split())
