"""`ssm-stream init` where machines come and go: what ends after the sample of a file counts, too."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from brokers import Kafka, MockKafka
from confluent_kafka import Producer
from typer.testing import CliRunner

import ssm_stream.cli.init as cli_init
from ssm_stream.autoconfig import stops as module
from ssm_stream.autoconfig.stops import LaterRows, Life, Stops, ends_note, judge_last
from ssm_stream.cli.app import app
from ssm_stream.config import Config, Event, load_config
from ssm_stream.ingest.events import EventReader

START, DAY = 1_772_000_000, 86_400
PODS = 25


def pods(steps: int = 2_600, every: int = 1, *, days: float = 0.0) -> Iterator[dict[str, Any]]:
    """25 pods at a time, a row each in ten seconds: none ends in the first 800 steps, which are the 20,000 rows of a
    sample, and afterwards one in 50 steps, which another one follows.

    every: steps of which one is kept; days: shift of what comes after the sample
    """
    rng = np.random.default_rng(0)
    for step in range(steps):
        values = rng.normal(0.0, 1.0, (PODS, 2)).round(3).tolist()
        later = step >= 800
        for k, (x, z) in enumerate(values):
            if step % every == 0:
                name = f"s{k % 5}-{k:02d}{'b' * (step >= 900 + 50 * k)}"
                ts = START + 10 * step + int(DAY * days) * later
                yield {"ts": ts, "pod": name, "service": f"s{k % 5}", "cpu": 40 + x, "memory": 200 + z}


def write(rows: Iterator[dict[str, Any]], file: Path) -> Path:
    if file.suffix == ".jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif file.suffix == ".parquet":
        pl.DataFrame(list(rows)).write_parquet(file)
    else:
        pl.DataFrame(list(rows)).write_csv(file)
    return file


def drafted(file: Path, *topic: str) -> tuple[Config, str, str]:
    """The configuration of a file, or of a topic, its text, and what is printed."""
    out = file.with_suffix(".yaml")
    made = CliRunner().invoke(app, ["init", *(topic or [str(file)]), "--out", str(out), "--force"])
    assert made.exit_code == 0, made.output
    return load_config(out), out.read_text(), made.stderr


def test_clocks_that_are_ahead_of_all_others_end_no_machine(tmp_path: Path) -> None:
    """Two of forty are an hour off: the others have no rows in the last hour of the sample, as nobody has."""
    rng = np.random.default_rng(1)
    rows = [
        {"ts": START + 120 * step + 3600 * (k in (3, 17)), "pod": f"m-{k:02d}", "cpu": 40 + x, "memory": 200 + z}
        for step in range(90)
        for k, (x, z) in enumerate(rng.normal(0.0, 1.0, (40, 2)).round(3).tolist())
    ]
    config, _, printed = drafted(write(iter(rows), tmp_path / "machines.jsonl"))
    assert config.alerts.silence is not None
    assert "end within" not in printed
    assert "end in the sample" not in printed


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_machines_that_end_after_the_sample_are_no_alerts(suffix: str, tmp_path: Path) -> None:
    config, text, printed = drafted(write(pods(), tmp_path / f"pods.{suffix}"))
    assert config.alerts.silence is None
    assert config.state.ttl == 7 * DAY
    why = "25 of 50 machines end within the file's first 65,000 rows"
    assert f"# silence: {{after: auto}}   # left out: {why}" in text
    assert f"state.ttl   7d: {why}: after so long without events the open alerts of one end, too" in printed
    assert "alerts.silence" not in printed


def test_a_file_leads_to_the_decision_that_a_thinned_one_does(tmp_path: Path) -> None:
    whole, *_ = drafted(write(pods(), tmp_path / "pods.csv"))
    thinned, text, _ = drafted(write(pods(every=10), tmp_path / "thinned.csv"))
    assert (whole.alerts.silence, whole.state.ttl) == (thinned.alerts.silence, thinned.state.ttl) == (None, 7 * DAY)
    # Of the 25 that end, those that a day of rows shows: silence judges the first day of a fleet that pauses mildly.
    assert "left out: 17 of 50 machines end within the sample" in text


def test_a_sample_of_hours_does_not_show_that_machines_come_and_go(tmp_path: Path) -> None:
    config, _, printed = drafted(write(pods(800), tmp_path / "short.csv"))
    assert config.alerts.silence is not None
    (note,) = [line.split("note")[1].strip() for line in printed.splitlines() if "alerts.silence" in line]
    assert note == (
        "the 2.2 h of the file's first 20,000 rows are too short a time to show whether 25 machines come and go, as "
        "pods do: if so, take alerts.silence out, as each end would be an alert that stays open until state.ttl (90 "
        "days), and set state.ttl to 7d"
    )


def test_that_they_do_not_is_shown_by_a_day_or_by_few_machines() -> None:
    watched = Stops(machines=25, span=8_000.0)
    assert "the 2.2 h of the sample are" in str(ends_note(watched))
    assert ends_note(watched._replace(span=1.0 * DAY)) is None
    assert ends_note(watched._replace(machines=9)) is None
    assert ends_note(watched._replace(silence="left out")) is None
    assert ends_note(None) is None


def test_the_time_to_live_is_longer_than_the_lives_and_absences_of_later_rows(tmp_path: Path) -> None:
    config, *_ = drafted(write(pods(days=3.0), tmp_path / "pods.csv"))
    assert config.state.ttl == 13 * DAY, "the machines that are there in both stretches were away for three days"


def test_machines_that_come_back_after_the_sample_have_not_ended(tmp_path: Path) -> None:
    """Half of them stand still for the last 20 minutes of the sample."""
    rows = (row for row in pods(1_500) if not (row["service"] in ("s0", "s1") and 680 <= step(row) < 830))
    rows = ({**row, "pod": row["pod"].rstrip("b")} for row in rows)
    file = write(rows, tmp_path / "machines.csv")
    config, _, printed = drafted(file)
    assert config.alerts.silence is not None
    assert config.state.ttl == 90 * DAY
    assert "state.ttl  " not in printed
    head = tmp_path / "head.csv"
    head.write_text("".join(file.read_text().splitlines(keepends=True)[:19_001]))
    assert "machines end within the sample" in drafted(head)[1]


def step(row: dict[str, Any]) -> int:
    return int(row["ts"] - START) // 10


@pytest.mark.parametrize(("gone", "days", "watched"), [(4, 77, True), (4, 7, False), (3, 7, True), (16, 300, False)])
def test_machines_that_are_taken_out_now_and_then_are_watched(gone: int, days: int, watched: bool) -> None:
    """Of 30 machines: where four end in eleven weeks, silence is worth its alerts."""
    rows = [
        {"ts": START + days * DAY * i // 400, "pod": f"m{k}", "cpu": 1.0}
        for i in range(400)
        for k in range(30)
        if k >= gone or i < 200 + 5 * k
    ]
    later = LaterRows(EVENT, 60.0)
    assert later.add(EventReader(later.event).read(rows)[0])
    stops = later.judge(Stops(), "the file")
    assert stops.silence == (None if watched else f"{gone} of 30 machines end within the file")
    assert (stops.ttl is None) == watched or days == 300


def test_a_broken_row_after_the_sample_is_no_error(tmp_path: Path) -> None:
    file = write(pods(), tmp_path / "pods.jsonl")
    lines = file.read_text().splitlines(keepends=True)
    lines[60_000] = "[broken\n"
    file.write_text("".join(lines))
    config, text, _ = drafted(file)
    assert config.alerts.silence is None
    assert "machines end within the file's first 60,000 rows" in text


EVENT = Event.model_validate({"entity": "pod", "timestamp": "ts", "target": "cpu"})


def test_the_parts_in_which_rows_are_read_do_not_matter() -> None:
    rows = [row for row in pods(500) if row["ts"] % 70]
    rows += [{**row, "ts": row["ts"] - 60} for row in rows[:100]]
    found = []
    for part in (len(rows), 997):
        later = LaterRows(EVENT)
        reader = EventReader(later.event)
        for i in range(0, len(rows), part):
            assert later.add(reader.read(rows[i : i + part])[0])
        found.append((later.judge(Stops(), "the rows"), later._lives))
    assert found[0] == found[1]
    times = [row["ts"] for row in rows if row["pod"] == "s3-03"]
    assert found[0][1]["s3-03"] == Life(1000 * min(times), 1000 * max(times), 20_000.0, len(times))


def test_what_is_kept_of_later_rows_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_MACHINES", 20)
    later = LaterRows(EVENT)
    reader = EventReader(later.event)
    rows = list(pods(4))
    assert later.add(reader.read(rows[:19])[0])
    assert later.add(reader.read([])[0])
    assert not later.add(reader.read(rows[19:])[0])


def test_readings_after_the_sample_count_as_rows_do(tmp_path: Path) -> None:
    readings = (
        {"ts": row["ts"], "pod": row["pod"], "signal": name, "value": row[name]}
        for row in pods(2_600, every=2)
        for name in ("cpu", "memory")
    )
    config, text, _ = drafted(write(readings, tmp_path / "readings.csv"))
    assert config.event.layout == "readings"
    assert config.alerts.silence is None
    assert "25 of 50 machines end within the file's first 65,000 rows" in text


@pytest.fixture
def small_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sample is a tenth as large, so that a topic is which goes on after it."""
    monkeypatch.setattr(cli_init, "ROWS", 2_000)


def produced(mock_kafka: MockKafka, partitions: int, rows: Iterable[dict[str, Any]]) -> list[str]:
    """A topic with these rows, by service; the options that name it."""
    topic = mock_kafka.topic("events", partitions)
    producer = Producer({"bootstrap.servers": mock_kafka.bootstrap_servers})
    for row in rows:
        at = int(row["service"][1:]) % partitions
        producer.produce(topic, json.dumps(row), partition=at, timestamp=1000 * row["ts"])
    producer.flush()
    return ["--topic", topic, "--brokers", mock_kafka.bootstrap_servers]


@pytest.mark.usefixtures("small_sample")
@pytest.mark.parametrize("partitions", [1, 3])
def test_machines_of_the_first_messages_that_are_not_in_the_last_have_ended(
    partitions: int, mock_kafka: MockKafka, tmp_path: Path
) -> None:
    out = tmp_path / "monitor.yaml"
    where = produced(mock_kafka, partitions, (row for row in pods(2_400) if not 300 <= step(row) < 2_300))
    config, text, printed = drafted(out, *where)
    why = f"25 of 25 machines of the topic's first messages are not in its last {2_000 if partitions == 1 else 1_669:,}"
    assert config.alerts.silence is None
    assert config.state.ttl == 7 * DAY
    assert f"left out: {why}" in text
    assert f"state.ttl   7d: {why}" in printed
    assert "come and go" not in printed


@pytest.mark.usefixtures("small_sample")
@pytest.mark.parametrize(("days", "noted"), [(0.0, True), (2.0, False)])
def test_machines_that_are_there_at_both_ends_of_a_topic_last(
    days: float, noted: bool, mock_kafka: MockKafka, tmp_path: Path
) -> None:
    rows = ({**row, "pod": row["pod"].rstrip("b")} for row in pods(900, days=days) if not 100 <= step(row) < 800)
    config, _, printed = drafted(tmp_path / "monitor.yaml", *produced(mock_kafka, 1, rows))
    assert config.alerts.silence is not None
    assert ("the 2.5 h of the topic are too short a time to show whether 25 machines come" in printed) == noted


@pytest.mark.usefixtures("small_sample")
@pytest.mark.parametrize("begin", [0, 600])
def test_partitions_of_unequal_rates_show_no_ends(begin: int, kafka: Kafka, tmp_path: Path) -> None:
    """Of each as many messages, those of the busy one end before the others do; and of one, retention has deleted more.

    begin: step before which one of the partitions has no messages any more
    """
    if begin and kafka.kind == "mock":
        pytest.skip("the mock cluster finds no message by its time")
    topic, rows = kafka.topic("events", 3), list(pods(1_500))
    for at, services in enumerate(({"s0"}, {"s1"}, {"s2", "s3", "s4"})):
        some = [row for row in rows if row["service"] in services and (at or step(row) >= begin)]
        pods_of = [json.dumps({**row, "pod": row["pod"].rstrip("b")}) for row in some]
        kafka.produce(topic, pods_of, at, timestamps=[1000 * row["ts"] for row in some])
    where = ["--topic", topic, "--brokers", kafka.bootstrap_servers]
    config, _, printed = drafted(tmp_path / "monitor.yaml", *where)
    assert "the first 2,000 messages" in printed
    assert "end within" not in printed
    assert config.alerts.silence is not None


def test_last_messages_of_too_short_a_time_show_no_end() -> None:
    """One of many partitions, of which few are read."""
    rows = list(pods(1_000))
    others = [{**row, "ts": row["ts"] + DAY, "pod": f"{row['pod']}c"} for row in rows]
    first = Stops(machines=25)
    assert judge_last(first, EVENT, rows[:2000], others[-200:]) == first
    assert judge_last(first, EVENT, rows[:2000], []) == first
    assert judge_last(first, EVENT, rows[:2000], rows[1000:3000]) == first
    assert "25 of 25 machines" in str(judge_last(first, EVENT, rows[:2000], others[-2000:]).silence)


def test_a_sample_of_a_topic_is_as_large_as_one_of_a_file(mock_kafka: MockKafka, tmp_path: Path) -> None:
    """Fewer messages of a busy topic are minutes, in which a text of each job is a category of few values."""
    rows = ({**row, "pod": row["pod"].rstrip("b")} for row in pods(420))
    _, _, printed = drafted(tmp_path / "monitor.yaml", *produced(mock_kafka, 1, rows))
    assert "sampled 10,500 messages of topic" in printed
