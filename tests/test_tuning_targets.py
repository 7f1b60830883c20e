"""tune, ablate, verify and train with several targets: what each makes of all of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.progress import Progress, TaskID
from test_training import TINY
from test_tuning import HEAD, told, written

from ssm_stream.cli.terminal import console
from ssm_stream.config import Config, parse_config
from ssm_stream.core.frozen_weights import untrained
from ssm_stream.evaluate.backtest import backtest
from ssm_stream.evaluate.chosen_targets import alone
from ssm_stream.evaluate.recordings import Recording
from ssm_stream.evaluate.tuning.ablation import parts
from ssm_stream.evaluate.tuning.candidates import candidates, describe, listed
from ssm_stream.evaluate.tuning.climb import steps
from ssm_stream.evaluate.tuning.comparison import compare
from ssm_stream.evaluate.tuning.runner import Runner
from ssm_stream.evaluate.tuning.search import Plan, find_cut, tune
from ssm_stream.evaluate.tuning.targets import read_targets
from ssm_stream.evaluate.tuning.trials import ARRAYS, Trial, over_persistence, run_trial
from ssm_stream.ingest.rows.stage import read_rows
from ssm_stream.training import training
from ssm_stream.training.history import target_histories
from ssm_stream.training.recipe import TrainingError
from ssm_stream.training.validation import HISTORY
from ssm_stream.verify.certificate import verify
from ssm_stream.verify.report import is_decisive
from ssm_stream.verify.several import verify_targets, worst_deviation
from ssm_stream.verify.words import words

SIGNALS = ["a", "y", "z"]


def config(event: str = "lags: 2", more: str = "") -> Config:
    return parse_config(
        f"{HEAD}event: {{entity: e, timestamp: t, target: all, features: [a, y, z], inputs: [a, z], {event}}}\n{more}"
    )


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """y from a; z says nothing, in numbers a thousand times as large, and misses some."""
    rng = np.random.default_rng(1)
    a, z = rng.normal(size=(2, 2000))
    columns = {
        "a": a,
        "y": 2 * a + rng.normal(size=2000),
        "z": [None if i % 9 == 4 else 1000 * z[i] for i in range(2000)],
    }
    return written(tmp_path_factory.mktemp("plant"), columns)


def test_of_signals_that_may_be_stuck_one_target_alone_has_those_that_are_left() -> None:
    """The list that `init` writes has all targets: `verify`, and each --target, refused what was drafted."""
    listed = config(more="alerts: {stuck: [y, z]}")
    assert [alone(listed, path).alerts.stuck for path in SIGNALS] == [["z"], ["y", "z"], ["z"]]
    assert alone(config(more="alerts: {stuck: [y]}"), "z").alerts.stuck is False
    assert alone(config(more="alerts: {stuck: true}"), "z").alerts.stuck is True


# A trial.


def test_a_trial_has_the_errors_of_a_backtest_by_target_and_joint_alerts_once(plant: Path, tmp_path: Path) -> None:
    plain = config(more="alerts: {drift: {budget: 1 per 100 events}}\n")
    trial, expected = run_trial(plain, plant), backtest(plain, Recording(plant))
    figures = trial.figures()
    for path in SIGNALS:
        for name in ("mae", "mae_persistence", "interval_width"):
            assert figures["by_target"][path][name] == pytest.approx(expected["by_target"][path][name], rel=1e-12)
    assert (figures["anomalies"], figures["drifts"]) == (expected["anomalies"], expected["drifts"])
    assert figures["rows"] == trial.events == 1999
    assert figures["mae"] is figures["interval_width"] is None
    ratios = [m["mae"] / m["mae_persistence"] for m in figures["by_target"].values()]
    assert figures["over_persistence"] == pytest.approx(np.exp(np.mean(np.log(ratios))))
    assert (np.diff(trial.row * 3 + trial.target) > 0).all()
    with Runner(plant, folder=tmp_path) as runner:
        made = runner.one(plain)
        kept = Runner(plant, folder=tmp_path).one(plain)
    assert kept.targets == made.targets == SIGNALS
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(kept, name), getattr(made, name))


def of_errors(errors: list[np.ndarray[Any, Any]], steps: list[float]) -> Trial:
    """Hourly rows of one entity with several targets."""
    n, m = len(errors[0]), len(errors)
    row, target = np.repeat(np.arange(n), m), np.tile(np.arange(m), n)
    step = np.tile(np.array(steps), n)
    ones, zeros = np.ones(n * m), np.zeros(n * m, np.int64)
    error = np.stack(errors, axis=1).ravel()
    return Trial(["e"], SIGNALS[:m], row, target, zeros, row * 3_600_000, error, step, zeros, ones, [], 1.0)


def test_the_change_is_the_geometric_mean_whatever_the_units() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.uniform(0.5, 1.5, size=(2, 1000))
    before = of_errors([one, 1000 * other], [1.0, 1000.0])
    after = of_errors([one / 2, 1000 * other * 1.5], [1.0, 1000.0])
    change = compare(before, after)
    assert change is not None
    assert change.value == pytest.approx(np.sqrt(0.5 * 1.5) - 1.0)
    assert (change.low, change.high) == pytest.approx((change.value, change.value))
    same = compare(before, before)
    assert same is not None
    assert same[:3] == (0.0, 0.0, 0.0)
    assert over_persistence([{"mae": 1.0, "mae_persistence": 0.0}]) is None


def test_too_few_events_say_nothing_however_many_targets_they_have() -> None:
    short = of_errors([np.ones(200)] * 3, [1.0] * 3)
    assert compare(short, short) is None


# What is tried.


def test_inputs_are_left_out_and_never_targets(plant: Path) -> None:
    told_of = read_targets(config(), plant)
    assert (len(told_of.ts), told_of.negative) == (2000, True)
    assert candidates("features", config(), told_of) == [{"event.inputs": ["z"]}, {"event.inputs": ["a"]}]
    all_inputs = parse_config(f"{HEAD}event: {{entity: e, timestamp: t, target: all, features: [a, y, z]}}\n")
    assert listed(all_inputs, "event.inputs") == SIGNALS
    assert describe({"event.inputs": ["a", "z"]}, all_inputs) == "without y"
    assert {"event.differences": False} in candidates("differences", config(), told_of)
    assert candidates("feature_lags", config(), told_of)
    names = {part.name for part in parts(config(), told_of)}
    assert names >= {"a", "z", "lags", "differences"}
    assert "y" not in names
    assert steps(config(), told_of)[0].settings["event.lags"] == 0


def test_one_set_of_settings_is_judged_over_all_targets(plant: Path, tmp_path: Path) -> None:
    told_of = read_targets(config(), plant)
    with Runner(plant, folder=tmp_path, jobs=1) as runner:
        found = tune(config(), runner, find_cut(told_of.ts, "x"), told_of, Plan(("features", "lags")))
    assert any("all 3 targets, judged by the geometric mean" in note for note in found.notes)
    by_words = {each.words: each for each in found.tried}
    without = by_words["without a"]
    assert without.change is not None
    assert without.change.worse, "y needs a"
    assert found.settings.get("event.inputs", ["a"]) == ["a"], "z says nothing, and may go"
    assert found.before["over_persistence"] < 1.0


def test_the_commands_say_how_targets_are_one(plant: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(f"{HEAD}event: {{entity: e, timestamp: t, target: all, features: [a, y, z], lags: 2}}\n")
    cache = ["--cache", tmp_path / "kept"]
    shown = " ".join(told("tune", path, plant, *cache, "--only", "features").output.split())
    assert "geometric mean of their errors" in shown
    assert "MAE/naive" in shown
    shown = told("ablate", path, plant, *cache).output
    assert "MAE/naive" in shown
    assert "worth it" in shown
    found = json.loads(told("ablate", path, plant, *cache, "--json").stdout)
    assert set(found["everything"]["by_target"]) == set(SIGNALS)
    assert "MAE/naive" in told("ablate", path, plant, *cache, "--from", "paper").output


# verify.


def test_each_target_is_verified_as_by_itself_and_the_worst_is_named(plant: Path, tmp_path: Path) -> None:
    both, rows = config("lags: 2"), Recording(plant, 500)
    found = verify_targets(both, ["a", "y"], lambda path: verify(alone(both, path), rows), words("en"))
    single = verify(alone(both, "y"), rows)
    assert [check.row() for check in found.by_target["y"].checks] == [check.row() for check in single.checks]
    worst = {path: worst_deviation(each) for path, each in found.by_target.items()}
    largest = max(worst, key=lambda path: worst[path].value / worst[path].bar)
    assert found.lines()[0][0] == largest
    assert f"of {largest}." in found.verdict.text
    for path, each in found.by_target.items():
        shares = [c.value / c.bar for c in each.checks if is_decisive(c) and c.bar]
        assert worst[path].value / worst[path].bar == max(shares)
    content = found.as_json()
    assert content["by_target"].keys() == {"a", "y"}
    assert content["checks"][0]["name"].startswith("a: ")
    page = found.html([])
    assert both.hash in page
    assert "a · The production kernel" in page
    assert "<h2>Target by target" in page or "Target by target</h2>" in page


def test_the_command_verifies_all_targets_or_those_that_are_named(plant: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "m.yaml", tmp_path / "c.html"
    path.write_text(f"{HEAD}event: {{entity: e, timestamp: t, target: all, features: [a, y, nothing], lags: 1}}\n")
    file = tmp_path / "r.jsonl"
    rows = [{**row, "nothing": None} for row in Recording(plant, 300)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = told("verify", path, file, "--out", out, "--tolerance", "0", code=1)
    assert "Verified: 0 of 2 targets." in result.output
    assert "Nothing to verify: nothing." in " ".join(result.output.split())
    one = told("verify", path, file, "--out", out, "--target", "y", "--tolerance", "0", code=1)
    assert "Not verified" in one.output
    assert "targets" not in one.output
    assert "did you mean" in told("verify", path, file, "--target", "nothin", code=2).output


def test_the_progress_of_verify_counts_all_targets(
    plant: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, shares = tmp_path / "c.yaml", list[tuple[str, float]]()
    path.write_text(f"{HEAD}event: {{entity: e, timestamp: t, target: [y, a], features: [z], lags: 2}}\n")

    def update(bar: Progress, task: TaskID, **changes: Any) -> None:
        assert bar.tasks[task].total == 2
        shares.append((changes["description"], changes["completed"]))

    monkeypatch.setattr(console._Bar, "update", update)
    told("verify", path, plant, "--limit", "400", "--out", tmp_path / "v.html")
    assert shares[0] == ("target 1 of 2, y: engine", 0.0)
    assert ("target 2 of 2, a: engine", 1.0) in shares
    assert shares[-1] == ("target 2 of 2, a: construction", 2.0)
    assert [share for _, share in shares] == sorted(share for _, share in shares)


# train.


def test_all_targets_train_and_validate(plant: Path) -> None:
    both = config()
    events, _ = read_rows(both.event, list(Recording(plant, 400)))
    histories, short = target_histories(both, events, SIGNALS)
    assert short == []
    assert [each.config.event.target for each in histories] == SIGNALS
    assert histories[1].events.features.shape == (400, 2)
    recipe = TINY._replace(rounds=2, settings=TINY.settings[:1], events=16)
    result = training.train(recipe, untrained(), histories)
    assert [row.streams for row in result.rows if row.kind == HISTORY] == [3]
    named, _ = target_histories(both, events, ["y"])
    assert [each.config.event.target for each in named] == ["y"]
    with pytest.raises(TrainingError, match="events with a target"):
        target_histories(both, events.take(np.arange(150)), SIGNALS)
