"""The pilot report with several targets: each as its own engine predicts it, joint alarms once, one verdict for all."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_pilot import NAME, START, balanced, ssm_stream

from ssm_stream.cli import pilot as pilot_command
from ssm_stream.config import Config, ConfigError, parse_config
from ssm_stream.evaluate.backtest import backtest
from ssm_stream.evaluate.chosen_targets import alone, choose_targets
from ssm_stream.evaluate.engine_run import run_engine, run_targets, with_inputs
from ssm_stream.evaluate.pilot.costs import Costs
from ssm_stream.evaluate.pilot.detectors import signals, together
from ssm_stream.evaluate.pilot.evaluation import Pilot, run_pilot
from ssm_stream.evaluate.pilot.format import paragraph
from ssm_stream.evaluate.pilot.page import page
from ssm_stream.evaluate.pilot.split import split_run, split_targets
from ssm_stream.evaluate.true_events import TrueEvent

MINUTE = 60_000
SPIKES = (900, 1_000, 1_100, 1_200, 1_300, 1_400)
SIGNALS = ["load", "temp", NAME]


def settings(more: str = "", event: str = "", alerts: str = "fleet: {enabled: false}") -> Config:
    names = json.dumps(SIGNALS)
    return parse_config(
        "source: {brokers: b, topic: t}\n"
        f"event: {{entity: e, timestamp: ts, target: all, features: {names}, lags: 2, categories: [mode]{event}}}\n"
        f"alerts: {{{alerts}}}\n{more}"
    )


def rows(n: int = 1_500) -> list[dict[str, Any]]:
    """Rows a minute of two machines; `temp` of m0 has spikes, and with it the last signal, which misses values."""
    rng, out = np.random.default_rng(1), []
    for i in range(n):
        for e in ("m0", "m1"):
            load = float(50 + 5 * np.sin(i / 30) + rng.normal())
            spike = 6.0 if e == "m0" and i in SPIKES else 0.0
            temp = 0.4 * load + spike + float(rng.normal(0, 0.3))
            last = None if i % 40 == 3 else 0.01 * load + spike + float(rng.normal(0, 0.01))
            out.append({"e": e, "ts": START + MINUTE * i, "mode": "AB"[i // 200 % 2], "load": load, "temp": temp,
                        NAME: last})  # fmt: skip
    return out


def spikes() -> list[TrueEvent]:
    return [TrueEvent("m0", START + MINUTE * (i - 1), START + MINUTE * (i + 5)) for i in SPIKES]


@pytest.fixture(scope="module")
def made() -> Pilot:
    done = run_pilot(settings(), rows(), lambda _: spikes(), Costs(false_alarm=10.0, missed_hour=1000.0))
    done.report["recording"]["file"] = "r.csv"
    done.report["verdict"]["text"] = paragraph(done.report, "en")
    return done


@pytest.mark.parametrize("more", ["", "model: {horizon: 3 events}"])
def test_each_target_of_a_run_is_that_of_an_engine_of_its_own(more: str) -> None:
    config = settings(more)
    runs = run_targets(config, rows(400), keep_events=True)
    assert [run.target for run in runs] == SIGNALS
    for run in runs:
        single = run_engine(alone(config, run.target), rows(400), keep_events=True)
        for name in ("entity", "ts", "y", "position", "yhat", "lower", "upper", "warmup", "origin"):
            np.testing.assert_array_equal(getattr(run, name), getattr(single, name), name)
        np.testing.assert_array_equal(with_inputs(config, run).features, single.features)


def test_one_target_alone_has_its_share_of_the_budgets() -> None:
    config = settings(alerts="anomaly: {budget: 1 per 1000 events}, drift: {budget: 1 per 30d}")
    own = alone(config, "temp")
    assert own.event.targets == ["temp"]
    assert own.alerts.anomaly.budget.text == "1 per 3000 events"
    assert own.alerts.drift.budget.text == "1 per 90d"
    team = settings(alerts="budget: {alerts: 30, per: 7d, entities: 10}")
    expected = team.for_target("temp").alerts
    assert alone(team, "temp").alerts.anomaly.budget.seconds == pytest.approx(expected.anomaly.budget.seconds)
    assert alone(config, None) is config


def test_targets_are_chosen_in_the_order_of_the_configuration() -> None:
    config = settings()
    assert choose_targets(config) == SIGNALS
    assert choose_targets(config, ["temp", "load"]) == ["load", "temp"]
    with pytest.raises(ConfigError, match="--target: 'tmp' is no target; did you mean `temp`"):
        choose_targets(config, ["tmp"])


def test_joint_alarms_count_once_as_backtest_counts_them(made: Pilot) -> None:
    counted = backtest(settings(), rows())
    assert len(made.alarms) == counted["anomalies"] + counted["drifts"]
    by_target = {
        path: sum(alarm.message["target"] == path for alarm in made.alarms) for path in settings().event.targets
    }
    assert by_target == {path: m["anomalies"] + m["drifts"] for path, m in counted["by_target"].items()}
    report = made.report
    assert sum(each["alarms"] for each in report["targets"]) == report["kpis"]["alarms"]
    assert sum(each["false"] for each in report["targets"]) == report["detection"]["methods"]["product"]["false"]
    assert report["detection"]["methods"]["product"]["found"] >= 4


def test_the_worst_target_comes_first_and_all_are_one_in_units_of_persistence(made: Pilot) -> None:
    report = made.report
    relative = [each["relative"] for each in report["targets"]]
    assert relative == sorted(relative, reverse=True)
    assert {each["target"] for each in report["targets"]} == set(SIGNALS)
    # By hand: every error over the mean error of persistence of its target and entity, on the rows that all predict.
    found = {"product": [], "persistence": []}
    for part in made.targets.values():
        usable = np.isfinite(np.column_stack(list(part.predictions.values()))).all(axis=1) & (part.block >= 0)
        for e in range(2):
            mine = usable & (part.run.entity == e)
            unit = np.abs(part.run.y - part.predictions["persistence"])[mine].mean()
            for name, each in found.items():
                each += (np.abs(part.run.y - part.predictions[name])[mine] / unit).tolist()
    methods = report["errors"]["methods"]
    assert methods["product"]["relative"]["value"] == pytest.approx(np.mean(found["product"]))
    assert methods["persistence"]["relative"]["value"] == pytest.approx(1.0)
    assert methods["product"]["mae"] is None
    assert report["errors"]["by_target"]["temp"]["methods"]["product"]["mae"] > 0
    inside = [(p.run.lower <= p.run.y) & (p.run.y <= p.run.upper) & (p.block >= 0) for p in made.targets.values()]
    count = sum(int((part.block >= 0).sum()) for part in made.targets.values())
    assert report["coverage"]["value"] == pytest.approx(sum(map(np.sum, inside)) / count)


def test_an_entity_is_judged_from_where_all_of_its_targets_can_be() -> None:
    runs = run_targets(settings(), rows(600))
    runs[2].y[runs[2].position < 600] = np.nan  # the last signal begins halfway
    whole, parts = split_targets(runs, 0.3, 100)
    own = [split_run(run, 0.3, 100).first for run in runs]
    np.testing.assert_array_equal(whole.first, np.max(own, axis=0))
    assert (own[2] > own[0]).all()
    for part in parts:
        np.testing.assert_array_equal(part.first, whole.first)
    np.testing.assert_array_equal(whole.judged, parts[0].judged | parts[2].judged)


def test_detectors_watch_the_largest_deviation_of_all_targets() -> None:
    runs = run_targets(settings(), rows(600))
    _, parts = split_targets(runs, 0.3, 100)
    each = [signals(run, part) for run, part in zip(runs, parts, strict=True)]
    both = together(each, runs[0].entity)
    np.testing.assert_array_equal(both.begin, np.diff(runs[0].entity[both.row], prepend=-1) != 0)
    at = {int(row): i for i, row in enumerate(both.row)}
    for one in each:
        places = [at[int(row)] for row in one.row]
        assert (both.z[places] >= one.z).all()
    assert both.z.max() == max(one.z.max() for one in each)
    assert together(each[:1], runs[0].entity) is each[0]


@pytest.mark.parametrize("language", ["en", "ja"])
def test_the_page_has_a_table_a_target(made: Pilot, language: Any) -> None:
    text = page(made, language, "r.csv")
    balanced(text)
    assert text.count('id="targets"') == 1
    assert "<img src=x" not in text
    for i, each in enumerate(made.report["targets"]):
        assert f'<data value="{each["relative"]!r}" data-at="targets.{i}.relative"' in text
        assert f'data-at="targets.{i}.methods.product.mae"' in text
    assert '<th scope="row" class="name">temp</th>' in text


def test_the_commands_take_several_targets_and_one_of_them(tmp_path: Path) -> None:
    file, config = tmp_path / "r.csv", tmp_path / "c.yaml"
    with file.open("w", newline="") as opened:
        out = csv.DictWriter(opened, ["e", "ts", "mode", *SIGNALS])
        out.writeheader()
        out.writerows(rows(900))
    names = json.dumps(SIGNALS)
    config.write_text(
        "source: {brokers: b, topic: t}\n"
        f"event: {{entity: e, timestamp: ts, target: all, features: {names}, lags: 2}}\n"
    )
    page_file = tmp_path / "report.html"
    told = ssm_stream(config, file, "--out", page_file)
    assert told.exit_code == 0, told.output
    assert "over persistence" in told.output
    assert json.loads((tmp_path / "report.json").read_bytes())["recording"]["targets"] == SIGNALS
    told = ssm_stream(config, file, "--out", page_file, "--target", "temp", "--json")
    assert told.exit_code == 0, told.output
    assert json.loads((tmp_path / "report.json").read_bytes())["recording"]["targets"] == ["temp"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pilot_command, "MAX_TARGETS", 1)
        told = ssm_stream(config, file, "--out", page_file)
    _, *rest = json.loads((tmp_path / "report.json").read_bytes())["targets"]
    assert not any(each["target"] in told.stdout.split("over persistence")[1] for each in rest)
    span = f"{rest[-1]['relative']:.3f} to {rest[0]['relative']:.3f} over persistence"
    counts = [sum(each[f"{kind}_alarms"] for each in rest) for kind in ("anomaly", "drift")]
    alarms = f"alarms: {counts[0]} of anomaly, {counts[1]} of drift: see {page_file}"
    assert f"{len(rest)} targets more, {span}, {alarms}" in told.stdout
    told = ssm_stream(config, file, "--out", page_file, "--target", "tempp")
    assert told.exit_code == 2
    assert "did you mean `temp`" in told.output
