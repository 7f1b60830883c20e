"""tune and ablate on recordings whose truth is known: what is found, what is refused, what is kept, what is written."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from typer.testing import CliRunner, Result

import ssm_stream
from ssm_stream.cli.app import app
from ssm_stream.config import Config, ConfigError, load_config, parse_config
from ssm_stream.core import native
from ssm_stream.evaluate.alarm_matching import Alarm
from ssm_stream.evaluate.backtest import backtest
from ssm_stream.evaluate.recordings import Recording, RecordingError
from ssm_stream.evaluate.true_events import TrueEvent
from ssm_stream.evaluate.tuning import digests
from ssm_stream.evaluate.tuning import runner as running
from ssm_stream.evaluate.tuning.ablation import ablate, parts
from ssm_stream.evaluate.tuning.alarm_score import f1_change, score_alarms
from ssm_stream.evaluate.tuning.candidates import budgets, candidates, without_columns
from ssm_stream.evaluate.tuning.climb import steps
from ssm_stream.evaluate.tuning.comparison import Change, compare
from ssm_stream.evaluate.tuning.config_edit import diff, edited
from ssm_stream.evaluate.tuning.result import Tried, Tuning
from ssm_stream.evaluate.tuning.runner import Runner
from ssm_stream.evaluate.tuning.search import Plan, _costly, _Measured, find_cut, tune
from ssm_stream.evaluate.tuning.targets import Targets, read_targets
from ssm_stream.evaluate.tuning.trials import Trial, run_trial, with_settings

HEAD = "source: {brokers: 'x:1', topic: t}\n"
HOUR = 3_600_000
ONE = Targets(np.empty(0, np.int64), negative=True, entities=frozenset("m"))


def config(event: str, more: str = "") -> Config:
    return parse_config(f"{HEAD}event: {{entity: e, timestamp: t, target: y, {event}}}\n{more}")


def written(folder: Path, columns: dict[str, Any], entity: list[str] | None = None) -> Path:
    n = len(next(iter(columns.values())))
    path = folder / "recording.csv"
    names = entity or ["m"] * n
    pl.DataFrame({"e": names, "t": 1_700_000_000 + 3600 * np.arange(n), **columns}).write_csv(path)
    return path


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A relation that stays: y from a; b says nothing."""
    rng = np.random.default_rng(1)
    a, b, c = rng.normal(size=(3, 2000))
    columns = {"a": a, "b": b, "c": c, "y": 2 * a + c + rng.normal(size=2000)}
    return written(tmp_path_factory.mktemp("steady"), columns)


def searched(config: Config, file: Path, folder: Path, **plan: Any) -> Tuning:
    told = read_targets(config, file)
    with Runner(file, folder=folder, jobs=1) as runner:
        return tune(config, runner, find_cut(told.ts, "x"), told, Plan(**plan))


# What a trial is.


def test_a_trial_has_the_errors_and_alerts_of_a_backtest(steady: Path) -> None:
    plain = config("features: [a, b], lags: 2", "alerts: {drift: {budget: 1 per 20 events}}\n")
    trial, expected = run_trial(plain, steady), backtest(plain, Recording(steady))
    figures = trial.figures()
    for name in ("mae", "mae_persistence", "coverage", "interval_width"):
        # A backtest counts intervals of an entity's first target, too, which is in warm-up.
        assert figures[name] == pytest.approx(expected[name], rel=1e-12), name
    assert (figures["anomalies"], figures["drifts"]) == (expected["anomalies"], expected["drifts"])
    assert figures["drifts"] > 0


def test_what_chooses_sees_nothing_of_what_judges(steady: Path, tmp_path: Path) -> None:
    """Also where the rows are not in order of time: entity after entity."""
    plain = config("features: [a], lags: 1")
    frame = pl.read_csv(steady)
    one, two = frame[:1000], frame[:1000].with_columns(e=pl.lit("n"), y=pl.col("y") * 3)
    cut = find_cut(np.sort(one["t"].to_numpy()) * 1000, "x")
    shown = []
    for later in (0.0, 1e3):
        both = pl.concat([one, two]).with_columns(
            y=pl.when(pl.col("t") * 1000 >= cut).then(pl.col("y") + later).otherwise(pl.col("y"))
        )
        both.write_csv(tmp_path / "both.csv")
        shown.append(run_trial(plain, tmp_path / "both.csv", until=cut))
    assert np.array_equal(shown[0].error, shown[1].error)
    assert set(shown[0].entity) == {0, 1}
    assert shown[0].ts.max() < cut


def test_with_a_horizon_a_row_is_judged_by_what_was_said_of_it_before(steady: Path) -> None:
    ahead = config("features: [a], lags: 2", "model: {horizon: 3 events}\n")
    trial, expected = run_trial(ahead, steady), backtest(ahead, Recording(steady))
    assert trial.error.mean() == pytest.approx(expected["mae"], rel=1e-9)
    assert trial.step.mean() == pytest.approx(expected["mae_persistence"], rel=1e-9), "over the horizon"
    assert len(np.unique(trial.row)) == len(trial.row) == expected["events"]


# Whether a difference is more than luck.


def of_errors(error: Any, step: float = 1.0, entity: Any = None) -> Trial:
    n = len(error)
    ids = np.zeros(n, np.int64) if entity is None else entity
    names = [str(i) for i in range(int(ids.max()) + 1)]
    steps, flags = np.full(n, step), np.ones(n, np.int64)
    return Trial(
        names,
        ["y"],
        np.arange(n),
        np.zeros(n, np.int64),
        ids,
        np.arange(n) * HOUR,
        np.asarray(error),
        steps,
        flags,
        steps,
        [],
        1.0,
    )


def test_a_real_difference_is_told_from_noise() -> None:
    rng = np.random.default_rng(0)
    error = np.abs(rng.normal(size=2000))
    same, less = error + 0.05 * rng.normal(size=2000), 0.97 * error
    noise, gain = compare(of_errors(error), of_errors(same)), compare(of_errors(error), of_errors(less))
    assert noise is not None
    assert gain is not None
    assert not noise.better
    assert not noise.worse
    assert gain.better
    assert gain.value == pytest.approx(-0.03)
    wide = compare(of_errors(error), of_errors(same), comparisons=50)
    assert wide is not None
    assert wide.low < noise.low < noise.high < wide.high
    assert compare(of_errors(error), of_errors(same)) == noise, "the draws are seeded"
    assert compare(of_errors(error[:200]), of_errors(same[:200])) is None


def test_useless_candidates_are_hardly_ever_sure() -> None:
    """Autocorrelated noise, 20 candidates together: at most 5 % of the families may have a sure one."""
    rng, wrong = np.random.default_rng(3), 0
    for _ in range(40):
        common = np.abs(rng.normal(size=1500))
        for _ in range(20):
            slow = np.convolve(rng.normal(size=1510), np.ones(11) / 11, "valid")
            found = compare(of_errors(common), of_errors(common + 0.3 * slow), comparisons=20)
            assert found is not None
            if found.better:
                wrong += 1
                break
    assert wrong <= 6


def test_an_entity_with_large_numbers_does_not_decide_for_all() -> None:
    error, entity = np.ones(2000), np.arange(2000) % 2
    large = np.where(entity == 0, 1e6, 1.0)
    old = of_errors(error * large, entity=entity)._replace(step=large)
    new = of_errors(error * large * np.where(entity == 0, 0.9, 1.3), entity=entity)._replace(step=large)
    found = compare(old, new)
    assert found is not None
    assert found.value == pytest.approx(0.1)


# The search.


def test_a_better_half_life_is_found_and_holds(steady: Path, tmp_path: Path) -> None:
    hasty = config("features: [a, b, c], lags: 0, calendar: []", "model: {heads: [moments], half_lives: [10 events]}\n")
    found = searched(hasty, steady, tmp_path, groups=["half_lives"])
    assert found.held is not None
    assert found.held.better
    assert found.after is not None
    assert found.after["mae"] < 0.97 * found.before["mae"]
    lives = found.settings["model.tuning.half_lives"]
    assert lives is None or int(lives[0].split()[0]) >= 100
    assert found.verdict.startswith("It held")
    assert all(row["ok"] for row in found.checks())


def test_useless_columns_go_and_the_useful_stay(tmp_path: Path) -> None:
    rng, n = np.random.default_rng(5), 2500
    x, names = rng.normal(size=(n, 16)), [f"x{i}" for i in range(16)]
    file = written(tmp_path, {**dict(zip(names, x.T, strict=True)), "y": x[:, 0] + rng.normal(size=n)})
    hasty = "model: {heads: [moments], half_lives: [30 events]}\n"
    plain = config(f"features: [{', '.join(names)}], lags: 0, calendar: []", hasty)
    found = searched(plain, file, tmp_path / "kept", groups=["features"])
    assert "x0" in found.settings["event.features"]
    assert len(found.settings["event.features"]) < 5
    assert {t.words: t.kept for t in found.tried}["without x0"] is False


def test_figures_before_and_after_are_of_the_same_events(tmp_path: Path) -> None:
    """Where text in a useless column makes rows refused, more events are read without it."""
    rng, n = np.random.default_rng(5), 2500
    x, names = rng.normal(size=(n, 16)), [f"x{i}" for i in range(16)]
    y = x[:, 0] + rng.normal(size=n)
    file = tmp_path / "recording.jsonl"
    with file.open("w") as out:
        for i in range(n):
            row = {"e": "m", "t": 1_700_000_000 + 3600 * i, "y": y[i], **dict(zip(names, x[i].tolist(), strict=True))}
            out.write(json.dumps(row | ({"x9": "stopped"} if i % 5 == 0 else {})) + "\n")
    hasty = "model: {heads: [moments], half_lives: [30 events]}\n"
    plain = config(f"features: [{', '.join(names)}], lags: 0, calendar: []", hasty)
    found = searched(plain, file, tmp_path / "kept", groups=["features"])
    assert "x9" not in found.settings["event.features"]
    assert found.after is not None
    assert found.held is not None
    assert found.before["rows"] == found.after["rows"] == found.held.rows
    assert found.after["mae"] / found.before["mae"] - 1 == pytest.approx(found.held.value)
    (note,) = [each for each in found.notes if "more events of the later part" in each]
    assert note.endswith(f"errors are compared on the {found.after['rows']:,} that both have")
    with Runner(file, folder=tmp_path / "kept", jobs=1) as runner:
        parted = ablate(plain, runner, found.cut, ONE)
    assert {each.figures["rows"] for each in parted.parts} == {parted.everything["rows"]}


def test_a_column_is_added_only_when_it_is_named(steady: Path, tmp_path: Path) -> None:
    plain = config("features: [a], lags: 1, calendar: []")
    found = searched(plain, steady, tmp_path, groups=["features"], add={"c": "event.features"})
    assert found.settings == {"event.features": ["a", "c"]}
    assert not searched(plain, steady, tmp_path, groups=["features"]).settings


def test_nothing_is_proposed_where_nothing_helps(tmp_path: Path) -> None:
    """A random walk: its last value is all that can be known."""
    rng = np.random.default_rng(2)
    file = written(tmp_path, {"a": rng.normal(size=1500), "y": np.cumsum(rng.normal(size=1500))})
    found = searched(config("features: [a], lags: 1"), file, tmp_path / "kept")
    assert found.settings == {}
    assert found.chosen == {}
    assert found.verdict.startswith("Keep what you have")
    assert len(found.tried) > 10
    assert [row["level"] for row in found.levels] == [0.8, 0.9, 0.95, 0.99]
    assert found.levels[0]["width"] < found.levels[-1]["width"]


def test_a_constant_target_is_called_so(tmp_path: Path) -> None:
    file = written(tmp_path, {"a": np.random.default_rng(2).normal(size=1500), "y": np.full(1500, 21.5)})
    plain = config("features: [a], lags: 1")
    found = searched(plain, file, tmp_path / "kept", groups=["lags"])
    assert "nothing could be compared on the first part: constant target" in found.notes
    told = read_targets(plain, file)
    with Runner(file, folder=tmp_path / "kept", jobs=1) as runner:
        worth = ablate(plain, runner, find_cut(told.ts, "x"), told)
    assert {each.verdict for each in worth.parts} == {"constant target"}


def test_what_does_not_hold_later_is_not_proposed(tmp_path: Path) -> None:
    """A column that tells the target until the cut, and noise of the target's size from there on."""
    rng = np.random.default_rng(4)
    y = rng.normal(size=2000)
    b = np.where(np.arange(2000) < 1400, y, 3 * rng.normal(size=2000))
    file = written(tmp_path, {"a": rng.normal(size=2000), "b": b, "y": y})
    plain = config("features: [a], lags: 0, calendar: []", "model: {heads: [moments], half_lives: [3000 events]}\n")
    found = searched(plain, file, tmp_path / "kept", groups=["features"], add={"b": "event.features"})
    assert found.chosen == {"event.features": ["a", "b"]}
    assert found.settings == {}
    assert "did not hold" in found.verdict
    assert found.verdict.endswith("Keep what you have.")
    assert not found.checks()[0]["ok"]


def test_what_a_person_has_to_know_is_left_alone() -> None:
    soft = config("features: [a], lags: 0")
    assert candidates("lags", soft, ONE) == []
    assert candidates("log_space", soft, ONE) == []
    assert candidates("fleet", soft, ONE) == []
    assert {tuple(s) for s in without_columns(soft)} == {("event.features",)}
    lagged = config("features: [a], lags: 8")
    assert {"event.lags": 0} not in candidates("lags", lagged, ONE)
    assert {"event.feature_lags": 1} not in candidates("feature_lags", lagged, ONE), "that is what differences are"


def test_the_learner_is_tried_and_its_cost_stands_beside() -> None:
    plain = config("features: [a, b]")
    assert candidates("profile", plain, ONE) == [{"model.profile": "accurate"}]
    assert candidates("window", plain, ONE) == [], "nothing attends"
    assert candidates("gate", plain, ONE) == [{"model.tuning.gate": "equal"}]
    assert [each["model.tuning.embedding.size"] for each in candidates("embedding_size", plain, ONE)] == [
        16,
        64,
        128,
        256,
    ]
    assert [each["model.tuning.embedding.scale"] for each in candidates("embedding_scale", plain, ONE)] == [0.5, 2.0]
    heads = [each["model.tuning.heads"] for each in candidates("heads", plain, ONE)]
    assert ["moments", "products", "proximal"] in heads
    assert len(heads) == 4
    accurate = config("features: [a, b]", "model: {profile: accurate, heads: [moments, attention]}\n")
    assert candidates("profile", accurate, ONE) == [], "the list of heads decides"
    assert [each["model.tuning.window"] for each in candidates("window", accurate, ONE)] == [128, 256]
    assert candidates("embedding_size", accurate, ONE) == []
    alone = config("features: [a]", "model: {heads: [moments]}\n")
    assert candidates("gate", alone, ONE) == []
    assert {"model.tuning.heads": ["moments", "embedding"]} in candidates("heads", alone, ONE)
    kept = config("features: [a]", "model: {embedding: {size: 64}}\n")
    assert all("embedding" in each["model.tuning.heads"] for each in candidates("heads", kept, ONE))


def test_more_embedding_is_found_where_it_pays_and_what_it_costs(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    a, b = rng.uniform(-2, 2, (2, 4000))
    file = written(tmp_path, {"a": a, "b": b, "y": np.sin(1.5 * a) + np.cos(1.5 * b) + 0.05 * rng.normal(size=4000)})
    only = config("features: [a, b], lags: 0, calendar: []", "model: {heads: [embedding], embedding: {size: 16}}\n")
    found = searched(only, file, tmp_path / "kept", groups=["embedding_size"])
    assert found.settings["model.tuning.embedding.size"] > 16
    memory = {each.settings["model.tuning.embedding.size"]: each.memory for each in found.tried}
    assert memory[32] < memory[64] < memory[128] < memory[256]
    assert all(0 < each.micros < 1e4 for each in found.tried)
    content = found.as_json()
    assert content["after"]["bytes_per_entity"] > content["before"]["bytes_per_entity"]
    assert all({"micros_per_event", "bytes_per_entity"} <= set(each) for each in content["tried"])


def test_what_takes_longer_must_gain_more() -> None:
    change = Change(-0.008, -0.01, -0.006, 1000)
    assert _Measured(change, 10.0, 1.0, 1.2).sure
    assert not _Measured(change, 50.0, 1.0, 5.0).sure
    assert _Measured(change._replace(value=-0.03), 50.0, 1.0, 5.0).sure
    assert not _Measured(None, 10.0, 1.0, 1.0).sure
    tried = Tried("profile", {}, "profile: accurate", change, False, 50.0, 2000.0, 5.0)
    assert _costly([tried]) == [
        "profile: accurate: surely better by 0.8%, at 5 times the time (50 µs an event, 2,000 bytes an entity): a "
        "matter of choice, not proposed"
    ]


def test_a_derived_input_is_proposed_by_name_only(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    power, flow = rng.uniform(1, 4, 2500), rng.uniform(0.5, 3, 2500)
    file = written(tmp_path, {"power": power, "flow": flow, "y": 3 * power / flow + 0.1 * rng.normal(size=2500)})
    plain = config("features: [power, flow], lags: 0, calendar: []")
    assert "derive" not in Plan().groups
    found = searched(plain, file, tmp_path / "kept", groups=["derive"])
    assert found.settings == {"event.derive.power_per_flow": {"ratio": ["power", "flow"]}}
    assert [each.words for each in found.tried if each.kept] == ["with power_per_flow: power / flow"]
    text = f"{HEAD}event:\n  entity: e\n  timestamp: t\n  target: y\n  features: [power, flow]\n"
    out = edited(text, found.settings, "f.yaml")
    assert out == f"{text}  derive:\n    power_per_flow: {{ratio: [power, flow]}}\n"


def test_a_derived_input_may_be_left_out() -> None:
    both = config("features: [a], derive: {r: {ratio: [a, b]}, m: {rolling_mean: a, over: 9}}")
    left = without_columns(both)
    assert {"event.features": ["a", "m"], "event.derive": {"m": {"rolling_mean": "a", "over": 9}}} in left
    assert with_settings(both, left[1]).event.numbers == ["a", "m"]
    assert [part.name for part in parts(both, ONE) if part.kind == "feature"] == ["a", "r", "m"]


def test_budgets_are_written_as_a_person_would() -> None:
    timed = config("features: [a]", "alerts: {anomaly: {budget: 2 per 30d}, drift: {enabled: false}}\n")
    assert budgets(timed, 3.0) == {"alerts.anomaly.budget": "1 per 5d"}
    assert budgets(timed, 0.1) == {"alerts.anomaly.budget": "1 per 150d"}
    plain = budgets(config("features: [a]"), 3.0)
    assert plain == {f"alerts.{kind}.budget": "1 per 3300 events" for kind in ("anomaly", "drift")}
    with_settings(timed, budgets(timed, 10.0))


# Labels.


def test_alarms_are_matched_as_in_the_pilot() -> None:
    events = [TrueEvent("0", 10 * HOUR, 20 * HOUR), TrueEvent("0", 50 * HOUR, 60 * HOUR), TrueEvent("0", 0, 3 * HOUR)]
    calls = [Alarm(i * HOUR, (0,), "drift") for i in (2, 12, 13, 30, 70)]
    trial = of_errors(np.ones(100))._replace(alarms=calls)
    found = score_alarms(trial.part(since=HOUR), events, since=HOUR)
    assert (found.events, found.found, found.false, found.repeats, found.delays) == (2, 1, 2, 1, [2.0])
    assert found.f1 == pytest.approx(2 / (2 + 1 + 2))
    value, low, high = f1_change(found, found)
    assert (value, low, high) == (0.0, 0.0, 0.0)


def test_labels_choose_a_budget(tmp_path: Path) -> None:
    """Rare spikes, a budget that allows for twice as many false alarms as spikes, and what the laboratory found:
    a true event, though nobody watches its column."""
    rng = np.random.default_rng(7)
    y, lines = rng.normal(size=4000), ["entity,start,end,signal", "m,1700000000,1700007200,bath"]
    for row in range(300, 3950, 80):
        y[row] += 9.0
        lines.append(f"m,{1_700_000_000 + 3600 * row},{1_700_000_000 + 3600 * (row + 2)},")
    file = written(tmp_path, {"y": y, "bath": rng.normal(size=4000)})
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "m.yaml").write_text(
        f"{HEAD}event: {{entity: e, timestamp: t, target: y, lags: 0, calendar: [hour]}}\n"
        "alerts:\n  anomaly: {budget: 1 per 40 events, cooldown: 0, recover_after: 1, channels: [residual]}  # loose\n"
        "  drift: {enabled: false}\n"
    )
    result = told(
        "tune", tmp_path / "m.yaml", file, "--labels", tmp_path / "labels.csv", "--cache", tmp_path / "kept", "--jobs",
        "1", "--only", "log_space", "--json",
    )  # fmt: skip
    assert "1 true event of `bath`, which is no target and no input" in result.stderr
    found = json.loads(result.stdout)
    assert found["budget_change"] is not None, found["budgets"]
    assert found["budget_change"][1] > 0.0
    assert "# loose" in found["diff"]
    assert int(found["settings"]["alerts.anomaly.budget"].split()[2]) > 40
    now = next(row for row in found["budgets"] if row["factor"] == 1.0)
    assert now["false"] > 10
    assert now["f1"] < max(row["f1"] for row in found["budgets"])


# Ablation.


def test_a_useful_feature_is_worth_something_and_a_useless_one_nothing(steady: Path, tmp_path: Path) -> None:
    plain = config("features: [a, b, c], lags: 2")
    with Runner(steady, folder=tmp_path, jobs=1) as runner:
        found = ablate(plain, runner, find_cut(read_targets(plain, steady).ts, "x"), ONE)
    of = {each.part.name: each for each in found.parts}
    assert set(of) == {
        "gate", "head moments", "head products", "head proximal", "head embedding", "calendar", "lags",
        "differences", "a", "b", "c",
    }  # fmt: skip
    assert of["a"].verdict == of["c"].verdict == "worth it"
    assert of["b"].verdict in ("not sure", "harmful")
    a, b, c = (of[name].change for name in "abc")
    assert a is not None
    assert b is not None
    assert c is not None
    assert a.value > c.value > 0.1
    assert abs(b.value) < 0.02
    assert found.parts[0].part.name == "a"
    rows = found.checks()
    assert {"name", "value", "relation", "bar", "ok"} == set(rows[0])
    assert len(rows) == len(found.parts)


def test_what_is_left_out_leaves_something() -> None:
    assert "a" not in {part.name for part in parts(config("features: [a], lags: 0, calendar: []"), ONE)}
    fleet = {
        part.name: part.settings
        for part in parts(config("lags: 3"), ONE._replace(negative=False, entities=frozenset("mnop")))
    }
    assert {"fleet", "log space", "lags"} <= set(fleet)
    assert fleet["fleet"] == {"model.fleet": False}
    deep = {part.name for part in parts(config("features: [a], feature_lags: 3"), ONE)}
    assert "feature lags, differences" in deep


# From the paper's layer to the configuration.


def test_the_climb_ends_at_the_configuration() -> None:
    for event, more in [
        ("features: [a, b, c], lags: 2", ""),
        ("lags: 3", ""),
        ("features: [a], feature_lags: 3, calendar: []", "model: {profile: accurate}"),
        ("features: [a], lags: 0", "model: {heads: [gd, moments], gate: equal}"),
        ("features: [a]", "model: {heads: [embedding]}"),
    ]:
        loaded = config(event, more)
        way = steps(loaded, ONE._replace(negative=False, entities=frozenset("mn")))
        assert with_settings(loaded, way[0].settings).model.tuned.heads == ["gd"]
        last = [step for step in way if not step.beyond][-1]
        assert last.settings == {}, (event, more, way)
        assert len({str(step.settings) for step in way}) == len(way)


def test_the_climb_measures_each_step(steady: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(
        f"{HEAD}event: {{entity: e, timestamp: t, target: y, features: [a, b, c], lags: 2, calendar: []}}\n"
    )
    common = ("ablate", path, steady, "--from", "paper", "--cache", tmp_path / "kept", "--jobs", 1)
    found = json.loads(told(*common, "--json").stdout)
    rows = found["steps"]
    assert rows[0]["step"] == "the paper's layer: one gradient step with decay"
    assert rows[0]["change"] is None
    assert [row["beyond_the_configuration"] for row in rows].count(True) == 1
    assert all(row["us_per_event"] > 0 and row["bytes_per_entity"] > 0 for row in rows)
    moments = next(row for row in rows if row["step"].startswith("moments"))
    assert moments["verdict"] == "better"
    # The relation is linear and stays, so that one step with a long memory is not far from the best.
    assert -0.2 < found["whole"]["value"] < 0.02
    assert found["checks"][0]["ok"] is (found["whole"]["high"] <= 0.0)
    assert rows[0]["mae"] < found["mae_persistence"]
    shown = told(*common).stdout
    assert "+ gate" in shown
    assert re.search(r"not\s+configured", shown), shown  # in a narrow table over two lines


# Runs are kept.


def test_runs_are_made_once(steady: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, other = config("features: [a]"), config("features: [b]")
    made = []

    def counted(*arguments: Any) -> Trial:
        made.append(arguments[0].event.features)
        if made[-1] == ["c"]:
            raise KeyboardInterrupt
        return run_trial(*arguments)

    monkeypatch.setattr(running, "run_trial", counted)
    with pytest.raises(KeyboardInterrupt), Runner(steady, folder=tmp_path, jobs=1) as runner:
        runner.run([plain, plain, other, config("features: [c]")])
    assert made == [["a"], ["b"], ["c"]]
    with Runner(steady, folder=tmp_path, jobs=1) as runner:
        first, second = runner.run([plain, other])
        assert (runner.done, runner.reused) == (2, 2)
        assert runner.key(plain, None) != runner.key(plain, 5)
    assert len(made) == 3, "the second job has read them"
    again = run_trial(plain, steady)
    assert np.array_equal(first.error, again.error)
    assert first.alarms == again.alarms
    assert not np.array_equal(first.error, second.error)
    for kept in tmp_path.glob("*.npz"):
        kept.write_bytes(kept.read_bytes()[:100])
    with Runner(steady, folder=tmp_path, jobs=1) as runner:
        runner.one(plain)
    assert len(made) == 4, "a torn file is made anew"


@pytest.mark.parametrize("name", ["evaluate/engine_run.py", "core/shapes.py", "ingest/events.py", None])
def test_a_run_of_other_code_is_not_reused(
    name: str | None, steady: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of any module, and of the compiled core: of a checkout the release stays the same for months."""
    before = digests.package_digest()
    folder = shutil.copytree(Path(ssm_stream.__file__).parent, tmp_path / "package")
    core = shutil.copy(native.__file__, tmp_path)  # an editable installation has it in another folder
    changed = folder / name if name else Path(core)
    monkeypatch.setattr(ssm_stream, "__file__", str(folder / "__init__.py"))
    monkeypatch.setattr(native, "__file__", core)
    assert digests.package_digest.__wrapped__() == before
    changed.write_bytes(changed.read_bytes() + b"\n")
    after = digests.package_digest.__wrapped__()
    assert after != before
    with Runner(steady, folder=tmp_path / "kept", jobs=1) as runner:
        key = runner.key(config("features: [a]"), None)
        monkeypatch.setattr(digests, "package_digest", lambda: after)
        assert runner.key(config("features: [a]"), None) != key


def test_a_run_with_other_facts_is_not_reused(steady: Path, tmp_path: Path) -> None:
    file = tmp_path / "week.csv"
    file.write_bytes(steady.read_bytes())
    joined = parse_config(
        "source: {brokers: 'x:1', topic: t, context: [{topic: orders, entity: e, timestamp: t, columns: [paint]}]}\n"
        "event: {entity: e, timestamp: t, target: y, features: [n], categories: [paint], "
        "aggregate: {every: 1h, columns: {n: count, y: {mean: y}}}}\n"
    )
    facts = tmp_path / "week.orders.csv"
    keys = set[str]()
    with Runner(file, folder=tmp_path / "kept", jobs=1) as runner:
        for paint in ("red", "blue"):
            facts.write_text(f"e,t,paint\nm,1700000000,{paint}\n")
            keys.add(runner.key(joined, None))
    assert len(keys) == 2


def test_the_files_of_a_folder_are_one_recording(steady: Path, tmp_path: Path) -> None:
    lines = steady.read_text().splitlines()
    folder = tmp_path / "months"
    folder.mkdir()
    for name, part in (("1.csv", lines[1:900]), ("2.csv", lines[900:])):
        (folder / name).write_text("\n".join([lines[0], *part]))
    plain = config("features: [a]")
    with Runner(folder, folder=tmp_path / "kept", jobs=1) as runner:
        assert np.array_equal(runner.one(plain).error, run_trial(plain, steady).error)
    with Runner(folder, folder=tmp_path / "kept", jobs=1) as runner:
        runner.one(plain)
        assert runner.reused == 1
    (folder / "2.csv").write_text("\n".join([lines[0], *lines[900:-1]]))
    with Runner(folder, folder=tmp_path / "kept", jobs=1) as runner:
        runner.one(plain)
        assert runner.reused == 0
    with pytest.raises(RecordingError, match="is a folder without a recording"):
        Runner(tmp_path / "kept")


def test_processes_give_what_one_gives(steady: Path, tmp_path: Path) -> None:
    settings = [config("features: [a]"), config("features: [b]")]
    with Runner(steady, folder=tmp_path / "one", jobs=1) as runner:
        alone = runner.run(settings)
    with Runner(steady, folder=tmp_path / "two", jobs=2) as runner:
        apart = runner.run(settings)
    for one, other in zip(alone, apart, strict=True):
        assert np.array_equal(one.error, other.error)
        assert one.alarms == other.alarms


# The file.

COMMENTED = """\
# Our machine.
source:
  brokers: localhost:9092 # the broker
  topic: events
event:
  entity: e
  timestamp: t
  features:
    # the first
    - a # load
    - b # noise, it seems
    - c
  target: y
  lags: 8   # hours
model: {interval: 0.95, horizon: 0}  # as agreed
sinks:
  predictions: p
"""


def test_an_edit_changes_its_lines_only() -> None:
    settings = {
        "event.features": ["a", "c"], "event.lags": 4, "model.tuning.half_lives": ["100 events", "6h"],
        "alerts.drift.budget": "1 per 30d", "event.calendar": ["hour"],
    }  # fmt: skip
    out = edited(COMMENTED, settings, "m.yaml")
    found = parse_config(out)
    assert found.event.features == ["a", "c"]
    assert found.event.lags == 4
    assert [each.text for each in found.model.tuned.half_lives or []] == ["100 events", "6h"]
    assert found.alerts.drift.budget.seconds == 30 * 86400
    for kept in ("# Our machine.", "# the broker", "# the first", "- a # load", "  lags: 4   # hours", "# as agreed"):
        assert kept in out
    assert "noise, it seems" not in out
    changed = [line for line in diff(COMMENTED, out, "m.yaml", "").splitlines() if line[:1] in "+-"]
    assert len(changed) <= 14


@pytest.mark.parametrize(
    ("text", "settings", "expected"),
    [
        (
            "event:\n  entity: e\n  timestamp: t\n  features:\n  - a\n  - b\n",
            {"event.features": ["c"]},
            "features: [c]\n",
        ),
        ("event: {entity: e, timestamp: t, features: [a]}", {"event.lags": 3}, "features: [a], lags: 3}"),
        ("event: {entity: e, timestamp: t}\nmodel: {}\n", {"model.fleet": False}, "model: {fleet: false}"),
        ("event: {entity: e, timestamp: t, lags: 3} # x\n", {"event.lags": 4}, "lags: 4} # x"),
        (
            "event: {entity: e, timestamp: t}\n",
            {"model.tuning.half_lives": None},
            "model:\n  tuning:\n    half_lives: null\n",
        ),
        (
            "event: {entity: e, timestamp: t}\nmodel: {tuning: null}\n",
            {"model.tuning.embedding.size": 32},
            "tuning: {embedding: {size: 32}}",
        ),
        ("event: {entity: e, timestamp: t}\r\n", {"model.fleet": False}, "\r\nmodel:\r\n  fleet: false\r\n"),
        ("event: {entity: e, timestamp: t, features: []}\n", {"event.features": ["x: y", "ü"]}, "['x: y', ü]"),
    ],
)
def test_edits_of_all_layouts(text: str, settings: dict[str, Any], expected: str) -> None:
    out = edited(HEAD + text, settings, "m.yaml")
    assert expected in out
    for key, value in settings.items():
        found = yaml.safe_load(out)
        for part in key.split("."):
            found = found[part]
        assert found == value


def test_an_edit_that_would_say_more_is_refused() -> None:
    text = f"{HEAD}event: &it {{entity: e, timestamp: t, lags: 2}}\n"
    assert edited(text, {"event.lags": 3}, "m.yaml")
    shared = "alerts:\n  anomaly: &both {budget: 1 per 30d}\n  drift: *both\n"
    with pytest.raises(ConfigError, match=r"m\.yaml: cannot be edited in place .*by hand"):
        edited(f"{text}{shared}", {"alerts.drift.budget": "1 per 5d"}, "m.yaml")


# The commands.


def told(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == code, result.output
    return result


def test_tune_writes_a_copy_and_leaves_the_file_alone(steady: Path, tmp_path: Path) -> None:
    path, out, patch = tmp_path / "m.yaml", tmp_path / "tuned.yaml", tmp_path / "m.diff"
    text = COMMENTED.replace("lags: 8 ", "lags: 0 ").replace("horizon: 0", "heads: [moments], half_lives: [10 events]")
    path.write_text(text)
    common = ("tune", path, steady, "--cache", tmp_path / "kept", "--jobs", 1, "--only", "half_lives")
    first = told(*common, "--out", out, "--diff", patch)
    assert "up to" in first.stderr
    assert "It held" in first.stdout
    assert "+model: {interval: 0.95, heads: [moments], half_lives: " in first.stdout
    assert path.read_text() == text
    assert "# as agreed" in out.read_text()
    assert load_config(out).hash != load_config(path).hash
    assert patch.read_text() in first.stdout
    again = [json.loads(told(*common, "--json").stdout) for _ in range(2)]
    assert again[0] == again[1]
    assert again[0]["held"]["high"] < 0
    assert again[0]["checks"][0]["ok"]
    refused = told(*common, "--out", path, code=2)
    assert "is an input file and is not overwritten" in re.sub(r"\s*│?\n│?\s*", " ", refused.output)
    assert path.read_text() == text


def test_picked_columns_are_written_out_when_one_goes(steady: Path, tmp_path: Path) -> None:
    from ssm_stream.evaluate.tuning.config_edit import for_the_file

    path = tmp_path / "m.yaml"
    path.write_text(f"{HEAD}event: {{entity: e, timestamp: t, target: y, features: auto}}\n")
    picked = config("features: [a, b], categories: [c]")
    assert for_the_file({"event.lags": 3}, path, picked) == {"event.lags": 3}
    settings = for_the_file({"event.features": ["a"]}, path, picked)
    assert settings == {"event.features": ["a"], "event.categories": ["c"]}


def test_ablate_prints_a_table(steady: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(f"{HEAD}event: {{entity: e, timestamp: t, target: y, features: [a, b], lags: 0, calendar: []}}\n")
    common = ("ablate", path, steady, "--cache", tmp_path / "kept", "--jobs", 1)
    shown = told(*common)
    assert "worth it" in shown.stdout
    assert "(nothing)" in shown.stdout
    found = json.loads(told(*common, "--json").stdout)
    assert found["parts"][0]["part"] == "a"
    assert found["parts"][0]["worth"]["low"] > 0


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--limit", "600"], 1, "too short to choose on one part and judge on another"),
        (["--only", "half_life"], 2, "known: lags"),
        (["--add", "b", "--only", "lags"], 2, "give --only features, too"),
        (["--add", "nope"], 2, "no column 'nope' in the first rows"),
        (["--add", "y"], 2, "found 'y', which is in use (event.target); name a column that is not"),
        (["--add", "a"], 2, "found 'a', which is in use (event.features); name a column that is not"),
        (["--labels", "nope.csv"], 1, "nope.csv: no such file"),
        (["--out", "/nope/x.yaml"], 2, "cannot write /nope/x.yaml"),
    ],
)
def test_errors_say_what_would_be_right(
    steady: Path, tmp_path: Path, options: list[str], code: int, words: str
) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(f"{HEAD}event: {{entity: e, timestamp: t, target: y, features: [a]}}\n")
    result = told("tune", path, steady, "--cache", tmp_path / "kept", *options, code=code)
    assert words in " ".join(result.output.split())


def test_text_that_is_added_becomes_a_category_and_no_row_is_lost(tmp_path: Path) -> None:
    rng, n = np.random.default_rng(6), 1500
    product, a = rng.integers(0, 2, n), rng.normal(size=n)
    columns = {"a": a, "product": ["AB"[i] for i in product], "y": a + 3 * product + rng.normal(size=n)}
    late = ["xyz" if i == n - 2 else f"{value:.3f}" for i, value in enumerate(rng.normal(size=n))]
    file, path = written(tmp_path, {**columns, "late": late}), tmp_path / "m.yaml"
    path.write_text(f"{HEAD}event: {{entity: e, timestamp: t, target: y, features: [a], lags: 0, calendar: []}}\n")
    common = ("tune", path, file, "--cache", tmp_path / "kept", "--jobs", 1, "--only", "features", "--add")
    assert json.loads(told(*common, "product", "--json").stdout)["settings"] == {"event.categories": ["product"]}
    refused = " ".join(told(*common, "late", code=2).output.split())
    assert "for 'late' among event.features rows are refused that are events without it (1)" in refused
    assert "the first, row 1499: `late` must be a number, found 'xyz'" in refused


def test_what_cannot_be_tuned_is_told_of(steady: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(f"{HEAD}event: {{entity: e, timestamp: t, target: all, features: [y, a]}}\n")
    added = told("tune", path, steady, "--add", "b", "--only", "features", code=2).output
    assert "with `target: all` a feature is a target, too" in " ".join(added.split())
    path.write_text(f"{HEAD}event: {{entity: e, timestamp: t, target: nothing}}\n")
    assert "event.target: no column 'nothing'" in told("tune", path, steady, code=2).output
    with pytest.raises(RecordingError):
        Runner(tmp_path / "nope.csv", folder=tmp_path)
