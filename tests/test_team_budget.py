"""One budget of false alarms for a whole deployment: its shares, what it replaces, and how often alarms are then."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from engines import config, made, run, started
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from ssm_stream.cli.app import app
from ssm_stream.config import Config, ConfigError, load_config
from ssm_stream.config.changes import diff_model_settings, overall_effect
from ssm_stream.config.quantities import UNITS, format_duration
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.kernel_params import build_rules
from ssm_stream.evaluate.pilot.variants import with_budget
from ssm_stream.evaluate.tuning.candidates import budgets
from ssm_stream.evaluate.tuning.config_edit import edited
from ssm_stream.evaluate.tuning.trials import with_settings

TEAM = "budget: {alerts: 20, per: 7d, entities: 250}"
WEEK = 7 * 86_400.0


def team(more: str = "", event: str = "features: [a, b]") -> Config:
    return config(event, f"alerts: {{{TEAM}{more}}}\n")


@given(
    st.floats(0.1, 1e4), st.sampled_from(["1h", "12h", "7d", "30d"]), st.integers(1, 100_000),
    st.sets(st.sampled_from(["anomaly", "drift"]), min_size=1), st.integers(1, 3),
)  # fmt: skip
def test_the_shares_of_all_entities_kinds_and_targets_add_up_to_the_whole(
    alerts: float, per: str, entities: int, kinds: set[str], targets: int
) -> None:
    off = "".join(f", {kind}: {{enabled: false}}" for kind in ("anomaly", "drift") if kind not in kinds)
    paths = ", ".join("yzx"[:targets])
    whole = config(
        f"features: [a], target: [{paths}]",
        f"alerts: {{budget: {{alerts: {alerts!r}, per: {per}, entities: {entities}}}{off}}}\n",
    )
    rate = 0.0  # false alarms a second, over all detectors
    for target in whole.event.targets:
        own = whole.for_target(target).alerts
        sections = {"anomaly": own.anomaly, "drift": own.drift}
        rate += entities * sum(1.0 / sections[kind].budget.seconds for kind in kinds)
    seconds = float(per[:-1]) * UNITS[per[-1]]
    assert rate * seconds == pytest.approx(alerts)


def test_the_core_gets_times_and_the_messages_the_words_of_the_team() -> None:
    settings = team()
    rules = build_rules(settings)
    assert (rules.anomaly_events, rules.anomaly_seconds) == (0.0, WEEK * 250 * 2 / 20)
    assert (rules.drift_events, rules.drift_seconds) == (0.0, WEEK * 250 * 2 / 20)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 2))
    y = x @ [2.0, -1.0] + 0.1 * rng.normal(size=600)
    y[500] += 100
    _, alerts = run(Engine(settings), made(y, x, ts=np.arange(600) * 3_600_000))
    assert started(alerts, "anomaly") == [500]
    assert {alert.message["budget"] for alert in alerts} == {"20 per 7d for 250 entities"}


@pytest.mark.parametrize("kind", ["anomaly", "drift"])
def test_beside_the_budget_of_a_kind_it_is_an_error_that_says_what_to_do(kind: str) -> None:
    with pytest.raises(ConfigError) as error:
        team(f", {kind}: {{budget: 1 per 30d}}")
    text = str(error.value)
    assert "20 per 7d for 250 entities" in text
    assert "'1 per 30d'" in text
    assert f"leave alerts.budget or alerts.{kind}.budget out" in text
    team(f", {kind}: {{cooldown: 3}}")


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ("{alerts: 0, per: 7d, entities: 5}", "alerts.budget.alerts: .*greater than 0"),
        ("{alerts: 1, per: week, entities: 5}", "alerts.budget.per: found 'week'; write a duration"),
        ("{alerts: 1, per: 7d, entities: 0}", "alerts.budget.entities: .*greater than or equal to 1"),
        ("{alerts: 1, per: 7d}", "alerts.budget.entities: missing"),
        ("20 per 7d", "alerts.budget: "),
    ],
)
def test_a_budget_that_cannot_be_is_refused(budget: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        config(sections=f"alerts: {{budget: {budget}}}")


def test_what_is_dumped_is_what_the_file_has() -> None:
    settings = team(", anomaly: {consecutive: 2}")
    dumped = settings.model_dump(mode="json")
    assert Config.model_validate(dumped) == settings
    assert "budget" not in dumped["alerts"]["anomaly"]
    assert Config.model_validate(dumped).alerts.drift.budget == settings.alerts.drift.budget
    assert Config.model_validate(dumped).hash == settings.hash
    assert config().model_dump(mode="json")["alerts"]["anomaly"]["budget"] == "1 per 10000 events"
    assert "budget" not in config().model_settings["alerts"], "states from before keep their hash"


def test_it_may_be_set_changed_and_dropped_in_the_life_of_a_state() -> None:
    other = config(sections="alerts: {budget: {alerts: 5, per: 1d, entities: 250}}\n")
    for before, after in [(config(), team()), (team(), other), (team(), config())]:
        assert overall_effect(diff_model_settings(before.model_settings, after.model_settings)) == "migrated"
        assert before.hash != after.hash


def test_other_budgets_of_a_pilot_and_of_tune_are_the_teams() -> None:
    settings = team()
    wide = with_budget(settings, 3.0)
    assert wide.alerts.anomaly.budget.seconds == pytest.approx(settings.alerts.anomaly.budget.seconds / 3)
    assert wide.alerts.drift.budget.text == "60 per 7d for 250 entities"
    assert wide.hash != settings.hash
    assert budgets(settings, 0.1) == {"alerts.budget.alerts": 2.0}
    assert with_settings(settings, budgets(settings, 0.1)).alerts.drift.budget.text == "2 per 7d for 250 entities"
    text = f"source: {{brokers: a, topic: t}}\nevent: {{entity: e, timestamp: t, features: [a]}}\nalerts:\n  {TEAM}\n"
    assert "alerts: 2.0" in edited(text, budgets(settings, 0.1), "config")


@given(st.sampled_from(sorted(UNITS)), st.integers(1, 999))
def test_a_duration_is_written_as_one_reads_it(unit: str, count: int) -> None:
    seconds = count * UNITS[unit]
    text = format_duration(seconds)
    assert config(sections=f"alerts: {{budget: {{alerts: 1, per: {text}, entities: 1}}}}").alerts.budget is not None
    found = config(sections=f"state: {{ttl: {text}}}").state.ttl
    assert found == pytest.approx(seconds)


def test_init_writes_it_with_the_entities_of_the_sample(tmp_path: Path) -> None:
    rows = ["machine,ts,load,target"]
    rows += [f"m{i % 4},{1_772_000_000 + 60 * (i // 4)},{i % 7},{i % 5 + 0.5}" for i in range(400)]
    (tmp_path / "line.csv").write_text("\n".join(rows))
    out = tmp_path / "monitor.yaml"
    result = CliRunner().invoke(
        app, ["init", str(tmp_path / "line.csv"), "--out", str(out), "--alerts-per-week", "20", "--entity", "machine"]
    )
    assert result.exit_code == 0, result.output
    assert load_config(out).alerts.drift.budget.text == "20 per 7d for 4 entities"
