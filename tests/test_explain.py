"""An explanation adds up to the prediction that the engine makes, names its heads, and changes nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest
from engines import config
from typer.testing import CliRunner

from ssm_stream.cli.app import app
from ssm_stream.config import Config, load_config
from ssm_stream.core.implicit import answer_names
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.explain import UnknownEntityError, explain, explain_recorded
from ssm_stream.evaluate.document_engine import DocumentEngine
from ssm_stream.evaluate.report.explain_words import words
from ssm_stream.flow.alert_id import parse_alert_id
from ssm_stream.flow.sent_alert import read_alert_file
from ssm_stream.ingest.events import EventReader

CASES = {
    "defaults": ("features: [a, b]", ""),
    "soft": ("features: [a, b], lags: 0", ""),
    "soft, labels": ("features: [a, b], lags: 0", "labels: {topic: results}"),
    "codes": ("features: [a, b], categories: [c]", ""),
    "accurate": ("features: [a, b]", "model: {profile: accurate, window: 128}"),
    "alone": ("features: [a, b]", "model: {fleet: false}"),
    "half-lives": ("features: [a, b]", "model: {half_lives: [500 events, 6h]}"),
    "gd": ("features: [a, b]", "model: {heads: [gd, moments]}"),
}


def rows(entities: int, count: int = 600) -> list[dict[str, Any]]:
    g, out = np.random.default_rng(1), []
    for i in range(count):
        a, b, noise = g.normal(size=3).tolist()
        y = 20 + 2 * a - b + noise * 0.1
        row = {"e": f"m{i % entities}", "t": 1.7e9 + 600 * i, "a": a, "b": b, "c": "xyz"[i % 3], "target": y}
        out.append(row if i % 17 else {**row, "a": None})
    return out


@pytest.mark.parametrize("entities", [1, 3])
@pytest.mark.parametrize("case", [case for case in CASES if "labels" not in case])  # they come after their events
def test_parts_and_answers_add_up_to_the_engines_prediction(case: str, entities: int) -> None:
    settings: Config = config(*CASES[case])
    recorded = rows(entities)
    found, _ = explain_recorded(settings, recorded, "m0", 545 if entities == 1 else 598)
    events, _ = EventReader(settings.event).read(recorded)
    told, _ = Engine(settings).process(events)
    at = 544 if entities == 1 else 597  # where no answer is held at the last target
    assert found.yhat == told.yhat[at]
    assert found.fleet == told.fleet[at]
    assert found.n == told.n[at]
    total = found.base + found.constant + sum(part.contribution for part in found.parts) + found.rest
    assert total == pytest.approx(found.yhat, rel=1e-9)
    mixed = sum(answer.answer * answer.weight for answer in found.answers)
    assert mixed == pytest.approx(found.yhat, rel=1e-5)
    if case not in ("gd", "accurate"):
        assert {part.feature for part in found.parts[:3]} & {"a", "b", "last"}


@pytest.mark.parametrize("entities", [1, 3])
def test_a_soft_sensor_starts_from_the_mean_of_its_target(entities: int) -> None:
    found, _ = explain_recorded(config(*CASES["soft"]), rows(entities), "m0", 545 if entities == 1 else 598)
    assert found.base == pytest.approx(20, abs=0.5)
    assert abs(found.rest) < 0.05 * found.base, "the level of a target is no effect that has no input"


def with_labels(entities: int, delay: int, by: str) -> list[dict[str, Any]]:
    """Events without targets, and of every third its label, `delay` rows later. by: path of what joins them"""
    out, own = list[dict[str, Any]](), rows(entities)
    for i, row in enumerate(own):
        out.append({**row, "target": None, "sample": f"s{i}"})
        if i >= delay and i % 3 == 0:
            then = own[i - delay]
            label = {"e": then["e"], "t": then["t"], "lab": then["target"], "sample": f"s{i - delay}"}
            out.append({name: value for name, value in label.items() if name in ("e", "lab", by)})
    return out


@pytest.mark.parametrize(("entities", "by"), [(1, "t"), (3, "t"), (3, "sample")])
def test_with_late_labels_an_event_is_explained_as_it_was_predicted(entities: int, by: str) -> None:
    joined = "" if by == "t" else ", id: sample"
    settings = config("features: [a, b], lags: 0", f"labels: {{marker: lab, target: lab, wait: 30d{joined}}}")
    recorded = with_labels(entities, 36, by)
    events = DocumentEngine(settings).process_documents(recorded).predictions
    own = [each for each in events if each.entity == "m0"]
    assert own[-1].n > 20
    for made in (own[3], own[100 // entities], own[400 // entities], own[-1]):
        found, history = explain_recorded(settings, recorded, "m0", made.row + 1, history=5)
        assert (found.ts, found.n, found.yhat, found.fleet) == (made.ts, made.n, made.yhat, made.fleet)
        total = found.base + found.constant + sum(part.contribution for part in found.parts) + found.rest
        assert total == pytest.approx(found.yhat, rel=1e-9, abs=1e-9)
        earlier = {each.ts: each.yhat for each in own}
        assert [each.yhat for each in history] == [earlier[each.ts] for each in history]
    last = next(i for i in reversed(range(len(recorded))) if "lab" in recorded[i] and recorded[i]["e"] == "m0")
    mine = (row for row, each in enumerate(recorded) if "a" in each and each[by] == recorded[last][by])
    found, _ = explain_recorded(settings, recorded, "m0", last + 1)
    assert found == explain_recorded(settings, recorded, "m0", next(mine) + 1)[0], "a label's row is its event's"
    assert found.y == recorded[last]["lab"]


def test_the_command_explains_the_event_of_a_late_label(tmp_path: Path) -> None:
    file, settings = tmp_path / "events.csv", tmp_path / "flow.yaml"
    recorded = with_labels(2, 36, "t")
    pl.DataFrame(recorded, infer_schema_length=None).write_csv(file)
    settings.write_text(
        "source: {brokers: 'localhost:9092', topic: t}\nevent: {entity: e, timestamp: t, features: [a, b], "
        "target: lab, lags: 0}\nlabels: {marker: lab, wait: 30d}\n"
    )
    label = next(i for i, row in enumerate(recorded) if i > 500 and "lab" in row)
    name = recorded[label]["e"]
    arguments = ["explain", str(settings), name, "--recording", str(file), "--row", str(label + 1)]
    told = CliRunner().invoke(app, [*arguments, "--json"])
    assert told.exit_code == 0, told.output
    found = orjson.loads(told.stdout)
    assert (found["ts"], found["y"]) == (1000 * recorded[label]["t"], recorded[label]["lab"])
    shown = CliRunner().invoke(app, [*arguments, "--html", str(tmp_path / "page.html")])
    assert shown.exit_code == 0, shown.output


def test_targets_in_their_rows_are_explained_where_labels_have_a_topic() -> None:
    settings = config(*CASES["soft, labels"])
    events, _ = EventReader(settings.event).read(rows(1))
    told, _ = Engine(settings).process(events)
    assert explain_recorded(settings, rows(1), "m0", 545)[0].yhat == told.yhat[544]


def test_what_is_predicted_ahead_is_refused_with_the_cure() -> None:
    with pytest.raises(UnknownEntityError, match=r"predicts a later one: remove `model.horizon`"):
        explain_recorded(config("features: [a, b]", "model: {horizon: 5 events}"), rows(1), "m0")


@pytest.mark.parametrize("case", CASES)
def test_every_answer_has_a_name(case: str) -> None:
    settings = config(*CASES[case])
    for entities in (1, 3):
        events, _ = EventReader(settings.event).read(rows(entities))
        engine = Engine(settings).target_engines[0]
        engine.process(events)
        trace = engine.trace_prediction(events.take(np.array([597 if entities == 3 else 594])))
        many = entities == 3 and settings.model.fleet
        assert len(answer_names(trace.params, many)) == trace.scratch.places[0]


def test_explaining_changes_nothing() -> None:
    settings = config()
    events, _ = EventReader(settings.event).read(rows(3))
    engine = Engine(settings)
    engine.process(events)
    before = engine.snapshot()
    explain(engine.target_engines[0], events.take(np.array([597])))
    assert engine.snapshot() == before


def test_a_source_that_the_entity_never_came_from_is_an_error() -> None:
    settings = config()
    events, _ = EventReader(settings.event).read(rows(3))
    engine = Engine(settings).target_engines[0]
    engine.process(events)
    with pytest.raises(KeyError, match="no event of 'm0' has come from source 1"):
        explain(engine, events.take(np.array([597])), 1)


def test_what_is_not_there_is_an_error() -> None:
    with pytest.raises(UnknownEntityError, match=r"'m9'.*m0, m1, m2"):
        explain_recorded(config(), rows(3), "m9")
    with pytest.raises(UnknownEntityError, match="row 2 is an event of 'm1'"):
        explain_recorded(config(), rows(3), "m0", 2)
    with pytest.raises(UnknownEntityError, match="row 1 is the first"):
        explain_recorded(config(), rows(3), "m0", 1)
    with pytest.raises(UnknownEntityError, match="'speed'"):
        explain_recorded(config(), rows(3), "m0", target="speed")


def test_the_command_prints_a_table_and_json(tmp_path: Path) -> None:
    file, settings = tmp_path / "events.jsonl", tmp_path / "flow.yaml"
    file.write_bytes(b"\n".join(map(orjson.dumps, rows(2))))
    settings.write_text(
        "source: {brokers: 'localhost:9092', topic: t}\nevent: {entity: e, timestamp: t, features: [a, b]}\n"
    )
    runner = CliRunner()
    shown = runner.invoke(app, ["explain", str(settings), "m1", "--recording", str(file)])
    assert shown.exit_code == 0, shown.output
    assert "is learned from other entities" in shown.output
    assert "rest (not linear)" in shown.output
    told = runner.invoke(app, ["explain", str(settings), "m1", "--recording", str(file), "--json"])
    assert orjson.loads(told.stdout)["entity"] == "m1"
    wrong = runner.invoke(app, ["explain", str(settings), "nobody", "--recording", str(file)])
    assert wrong.exit_code == 2
    assert "nobody" in wrong.output
    alert = runner.invoke(app, ["explain", str(settings), "events.jsonl-0-41-anomaly", "--recording", str(file)])
    assert alert.exit_code == 2
    assert "--row 42" in alert.output


def test_the_id_of_an_alert_of_a_pilot_report_gets_its_row_and_of_several_targets_the_option(tmp_path: Path) -> None:
    """Ids of a pilot report begin with the topic, as those of a live run do: there was no cure for them."""
    file, settings = tmp_path / "events.jsonl", tmp_path / "flow.yaml"
    file.write_bytes(b"\n".join(map(orjson.dumps, rows(2))))
    settings.write_text(
        "source: {brokers: 'localhost:9092', topic: mine}\n"
        "event: {entity: e, timestamp: t, features: [a], target: [b, target]}\n"
    )
    for name in ("mine-0-41-anomaly", "events.jsonl-0-41-anomaly"):
        told = CliRunner().invoke(app, ["explain", str(settings), name, "--recording", str(file)])
        assert told.exit_code == 2
        error = re.sub(r"[│\s]+", " ", told.output.partition("Error")[2])
        assert {"--row 42", "--target"} <= set(re.findall(r"--row \d+|--target", error)), error
    other = CliRunner().invoke(app, ["explain", str(settings), "another-0-41-anomaly", "--recording", str(file)])
    assert "--row" not in other.output


def test_the_message_of_an_alert_may_be_a_line_of_those_of_a_backtest(tmp_path: Path) -> None:
    """The second line was an error of the JSON parser, with a traceback."""
    settings, file = tmp_path / "monitor.yaml", tmp_path / "alerts.jsonl"
    settings.write_text(
        "source: {brokers: 'localhost:9092', topic: t}\nevent: {entity: e, timestamp: t, features: [a], target: y}\n"
    )
    lines = [orjson.dumps({"id": f"t-0-{row}-drift", "score": row}) for row in (3, 7)]
    file.write_bytes(b"\n".join(lines) + b"\n")
    wanted = parse_alert_id("t-0-7-drift")
    assert wanted is not None
    assert read_alert_file(load_config(settings), wanted, file) == lines[1]
    for content, why in ((lines[0] + b"\n" + lines[0], "holds the alert 't-0-3-drift', not 't-0-7-drift'"),
                         (b"row,score\n3,7\n", "holds no message of an alert")):  # fmt: skip
        file.write_bytes(content)
        found = CliRunner().invoke(app, ["explain", str(settings), "t-0-7-drift", "--alert", str(file)])
        assert found.exit_code == 2
        assert why in " ".join(found.stderr.split())


@pytest.mark.parametrize(("language", "less"), [("en", "less the last"), ("ja", "直前の目標値との差")])
def test_what_is_usual_at_an_hour_is_shown_as_the_difference_that_it_is(language: str, less: str) -> None:
    """Else a latency of 23 ms after one of 130 reads as `usual at this hour: -107`."""
    for name in ("usual at this hour", "usual at this hour of the week"):
        assert less in words(language).name(name)
