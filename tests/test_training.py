"""Meta-training of the frozen weights, their file, and what the engine makes of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from typer.testing import CliRunner

from ssm_stream.cli.app import app
from ssm_stream.config import Config, ConfigError, parse_config
from ssm_stream.core import frozen_weights
from ssm_stream.core.frozen_weights import Weights, WeightsError, untrained
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.snapshot_format import StateError
from ssm_stream.ingest.events import EventReader, Events
from ssm_stream.training import recipe as recipes
from ssm_stream.training import streams as tasks
from ssm_stream.training import training
from ssm_stream.training.batches import new_batch, predict
from ssm_stream.training.history import split_history
from ssm_stream.training.offsets import Offsets
from ssm_stream.training.recipe import Recipe, Setting, TrainingError
from ssm_stream.training.validation import HISTORY

TINY = Recipe(
    rounds=2, candidates=4, events=40, features=(2,), burn_in=4, every=1,
    held_streams=1, held_events=80, held_burn_in=10,
    settings=(Setting("past", 2, 1), Setting("pool", 2, 2), Setting("late", 0, 1, 4)),
)  # fmt: skip


def same(a: Weights, b: Weights) -> bool:
    pairs = zip(a, b, strict=True)
    return all(x.shape == y.shape and x.dtype == y.dtype and x.tobytes() == y.tobytes() for x, y in pairs)


# The file of weights.


def test_saved_weights_are_loaded_bit_by_bit_and_files_are_equal(tmp_path: Path) -> None:
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    rng = np.random.default_rng(0)
    given = untrained()._replace(phase=rng.normal(size=64))
    frozen_weights.save(given, first, {"score": 0.5, "about": "a test"})
    frozen_weights.save(frozen_weights.load(first), second, {"about": "a test", "score": 0.5})
    assert same(frozen_weights.load(second), given)
    assert first.read_bytes() == second.read_bytes()
    assert frozen_weights.card(first) == {"format": frozen_weights.FORMAT, "score": 0.5, "about": "a test"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]


def test_the_package_ships_weights_with_a_card() -> None:
    shipped = frozen_weights.load(None)
    about = frozen_weights.card(None)
    assert about["weights"] == frozen_weights.digest(shipped)
    assert about["trained"] == (not same(shipped, untrained()))
    assert same(frozen_weights.load(Path("untrained")), untrained())
    assert frozen_weights.card(Path("untrained")) == {}


def tensors() -> dict[str, np.ndarray]:
    return {name: np.array(array) for name, array in untrained()._asdict().items()}


def write(path: Path, changed: dict[str, np.ndarray], form: str = frozen_weights.FORMAT) -> Path:
    path.write_bytes(safetensors.numpy.save(changed, metadata={"card": json.dumps({"format": form})}))
    return path


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("moment_decay", np.array([1.0, 0.9]), r"moment_decay\[0\]: found .*1\.0.* between 0\.0 and 1\.0"),
        ("moment_decay", np.array([0.9]), r"moment_decay: found shape \[1\] of float64, want \[2\] of float64"),
        ("moment_ridge", np.array([1.0, -1.0]), r"moment_ridge\[1\]: found"),
        ("slow_step", np.array(np.nan), r"slow_step: found .*nan"),
        ("embedding_step", np.array(2.0), r"embedding_step: found .* between 0\.0 and 2\.0"),
        ("top_decay", np.array(0.1, np.float32), r"top_decay: found shape \[\] of float32"),
        ("soft", np.full((2, 4), 0.5) * [[1, 1, 1, 4]], r"soft\[0, 3\]: found"),
        ("phase", np.full(64, np.inf), r"phase\[0\]: found"),
        ("surprise", np.array([-1.0, 0.1, 0.1]), r"surprise\[0\]: found"),
    ],
)
def test_tensors_that_cannot_be_are_refused(tmp_path: Path, name: str, value: np.ndarray, says: str) -> None:
    path = write(tmp_path / "w.safetensors", tensors() | {name: value})
    with pytest.raises(WeightsError, match=says) as caught:
        frozen_weights.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).endswith(frozen_weights.CURE)


def test_missing_and_extra_tensors_and_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    short = tensors()
    del short["phase"]
    with pytest.raises(WeightsError, match="without the tensors phase"):
        frozen_weights.load(write(path, short))
    with pytest.raises(WeightsError, match="unknown tensors more"):
        frozen_weights.load(write(path, tensors() | {"more": np.zeros(1)}))
    with pytest.raises(WeightsError, match="found format 'other'"):
        frozen_weights.load(write(path, tensors(), "other"))
    with pytest.raises(WeightsError, match="cannot be read: No such file"):
        frozen_weights.load(tmp_path / "absent")
    with pytest.raises(WeightsError, match="cannot be read"):
        frozen_weights.load(tmp_path)
    whole = write(path, tensors()).read_bytes()
    for damaged in (b"", b"weights", whole[:-1], whole[:100], b"\xff" * 8 + whole[8:]):
        path.write_bytes(damaged)
        with pytest.raises(WeightsError, match="not a safetensors file of weights"):
            frozen_weights.load(path)


def test_weights_out_of_bounds_are_not_written(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    with pytest.raises(WeightsError, match="top_decay"):
        frozen_weights.save(untrained()._replace(top_decay=np.array(1.5)), path, {})
    assert not list(tmp_path.iterdir())


# Configuration and engine.

TEXT = """
source: {{brokers: "localhost:9092", topic: events}}
event: {{entity: machine, timestamp: ts, features: [load], target: temp}}
model:
  weights: {weights}
"""


def configured(path: Path | str) -> Config:
    return parse_config(TEXT.format(weights=path), "monitor.yaml")


def events_for(config: Config, n: int = 200) -> Events:
    rng = np.random.default_rng(3)
    load = rng.normal(size=n).cumsum()
    temp = 3 * load + rng.normal(size=n)
    rows = [{"machine": "m", "ts": 60 * i, "load": load[i].item(), "temp": temp[i].item()} for i in range(n)]
    events, refused = EventReader(config.event).read(rows)
    assert not refused
    return events


def test_the_configuration_names_the_line_of_a_wrong_file_and_commands_exit_with_2(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"monitor.yaml:5: model.weights: .*absent: cannot be read"):
        configured(tmp_path / "absent")
    file = tmp_path / "monitor.yaml"
    file.write_text(TEXT.format(weights=write(tmp_path / "w", tensors() | {"slow_step": np.array(-1.0)})))
    result = CliRunner().invoke(app, ["validate", str(file)])
    assert result.exit_code == 2
    assert "slow_step: found" in result.output


def test_the_hash_counts_the_content_of_a_file_of_weights_not_its_name(tmp_path: Path) -> None:
    first, second, other = (tmp_path / name for name in ("a", "b", "c"))
    frozen_weights.save(untrained(), first, {})
    frozen_weights.save(untrained(), second, {})
    frozen_weights.save(untrained()._replace(slow_step=np.array(0.1)), other, {})
    assert configured(first).hash == configured(second).hash
    assert len({configured(path).hash for path in (first, other, "untrained", "null")}) == 4


def test_the_engine_uses_named_weights_and_refuses_a_state_made_with_others(tmp_path: Path) -> None:
    first, other = tmp_path / "a", tmp_path / "b"
    frozen_weights.save(untrained(), first, {})
    frozen_weights.save(untrained()._replace(moment_decay=np.array([0.9, 0.5])), other, {})
    engines = [Engine(configured(path)) for path in (first, other, "untrained")]
    yhat = [engine.process(events_for(engine.config))[0].yhat for engine in engines]
    assert (yhat[0] == yhat[2]).all()
    assert (yhat[0] != yhat[1]).any()
    snapshot = engines[0].snapshot()
    assert Engine.restore(configured(first), snapshot).names == ["m"]
    with pytest.raises(StateError, match="made by configuration"):
        Engine.restore(configured(other), snapshot)


# Streams.


def test_streams_are_finite_and_the_same_for_the_same_seed() -> None:
    streams, again = (tasks.draw((5,), tasks.KINDS, 150, 3, 2) for _ in range(2))
    other = tasks.draw((6,), tasks.KINDS, 150, 3, 2)
    for part, twin, third in zip(streams[1:], again[1:], other[1:], strict=True):
        assert np.isfinite(part).all()
        assert (part == twin).all()
        assert (part != third).any()
    assert streams.x.shape == (len(tasks.KINDS), 150, 3)
    assert (streams.y[tasks.KINDS.index("positive")] > 0).all()


# Training.


def test_offsets_start_at_the_start_and_stay_within_bounds() -> None:
    offsets = Offsets(untrained())
    assert offsets.weights(np.zeros(offsets.size)) is offsets.start
    for name, part in offsets.weights(np.full(offsets.size, 1e-14))._asdict().items():
        np.testing.assert_allclose(part, getattr(offsets.start, name), rtol=1e-12)
    for far in (-training.REACH, training.REACH):
        moved = offsets.weights(np.full(offsets.size, far))
        for name, array in moved._asdict().items():
            low, high = frozen_weights.bounds(name)
            assert array.shape == getattr(offsets.start, name).shape
            assert ((array > low) & (array < high)).all(), name
            if name != "phase":
                assert ((array > getattr(offsets.start, name)) == (far > 0)).all(), name


def test_labels_that_come_late_are_not_known_before() -> None:
    batch = new_batch(tasks.draw((2,), ("drift", "daily"), 60, 2), 1)
    at_once, late = (predict(Setting("", 0, 1, delay), batch, untrained()) for delay in (1, 10))
    cut = batch._replace(y=np.where(np.arange(60) < 30, batch.y, 100.0))
    for delay, known in ((1, at_once), (10, late)):
        other = predict(Setting("", 0, 1, delay), cut, untrained())
        assert (other[:, : 31 + delay] == known[:, : 31 + delay]).all()
        assert (other[:, 31 + 2 * delay :] != known[:, 31 + 2 * delay :]).all()
    assert (at_once[:, 12:] != late[:, 12:]).any()


def test_a_search_finds_weights_that_suit_the_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "KINDS", ("lagged", "season"))
    recipe = TINY._replace(
        rounds=12, candidates=8, events=250, held_events=300, every=2, settings=(Setting("past", 2, 1),)
    )
    result = training.train(recipe, untrained())
    assert result.better
    assert result.score < 0.99


def test_the_same_seed_gives_the_same_weights_and_resuming_changes_no_bit(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    recipe = TINY._replace(rounds=3)
    whole = training.train(recipe, untrained())
    training.train(recipe._replace(rounds=2), untrained(), checkpoint=path)
    told: list[str] = []
    resumed = training.train(recipe, untrained(), checkpoint=path, resume=True, notify=told.append)
    assert "going on after" in told[0]
    assert same(whole.weights, resumed.weights)
    assert (whole.curve, whole.score, whole.rows) == (resumed.curve, resumed.score, resumed.rows)
    assert whole.score <= 1.0
    assert all(np.isfinite([row.untrained, row.start, row.trained]).all() for row in whole.rows)
    with pytest.raises(TrainingError, match="another training"):
        training.train(recipe._replace(seed=1), untrained(), checkpoint=path, resume=True)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(TrainingError, match="not a checkpoint"):
        training.train(recipe, untrained(), checkpoint=path, resume=True)


def test_the_start_is_kept_where_nothing_better_is_found() -> None:
    result = training.train(TINY._replace(rounds=9, spread=3.0, patience=1, settings=TINY.settings[:1]), untrained())
    assert not result.better
    assert result.score == 1.0
    assert same(result.weights, untrained())
    assert result.reason == "1 judgements without a better candidate"


def test_a_history_trains_and_validates() -> None:
    text = TEXT.format(weights="null").replace("features: [load]", "features: [load], lags: 2")
    config = parse_config(text)
    rng = np.random.default_rng(4)
    load = rng.integers(0, 4, 400)
    rows = [
        {"machine": f"m{i % 2}", "ts": 3600 * i, "load": int(load[i]), "temp": float(load[i] ** 2 + rng.normal())}
        for i in range(400)
    ]
    history = split_history(config, EventReader(config.event).read(rows)[0])
    recipe = TINY._replace(settings=TINY.settings[:1], events=16)
    result = training.train(recipe, untrained(), [history])
    assert [row.streams for row in result.rows if row.kind == HISTORY] == [1]
    short = history.events.take(np.arange(150))
    with pytest.raises(TrainingError, match="105 and 45 events with a target"):
        split_history(config, short)


def test_without_its_package_the_command_names_what_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cma", None)
    monkeypatch.setattr(training, "Validation", None)  # nothing is worked out before
    result = CliRunner().invoke(app, ["train", "--quick", "--out", str(tmp_path / "w.safetensors")])
    assert result.exit_code == 2
    assert "train needs the extra `train`: pip install 'ssm-stream[train]'" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_weights_that_production_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "QUICK", TINY)
    out = tmp_path / "w.safetensors"
    result = CliRunner().invoke(app, ["train", "--quick", "--out", str(out), "--start", "untrained", "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["card"] == frozen_weights.card(out)
    assert told["card"]["weights"] == frozen_weights.digest(frozen_weights.load(out))
    assert {"name", "value", "relation", "bar", "ok"} == set(told["checks"][0])
    Engine(configured(out))
    assert CliRunner().invoke(app, ["train", "--out", str(tmp_path)]).exit_code == 2
    wrong = CliRunner().invoke(app, ["train", "--start", str(tmp_path / "absent"), "--out", str(out)])
    assert wrong.exit_code == 2
