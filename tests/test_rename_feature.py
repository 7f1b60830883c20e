"""Inputs of a recovery directory change between two runs: renamed to the bit, added, removed, or refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ssm_stream.cli.app import app
from ssm_stream.config import load_config
from ssm_stream.engine.snapshot_format import StateError
from ssm_stream.ingest.events import Events
from ssm_stream.recovery import rename_feature as renaming
from ssm_stream.recovery.directory import open_recovery
from tests import test_kept
from tests.test_kept import N, Told, copied, hashes_of, run

FILE = """\
source: {{brokers: "localhost:9", topic: events}}
event: {{entity: e, timestamp: t, {event}}}
state: {{shards: 3, ttl: null}}
recovery: {{directory: {directory}}}
{more}
"""
BEFORE = "features: [a, b]"
RULES = "alerts: {silence: {}, stuck: true}"


def edited(path: Path, event: str, more: str = "") -> Path:
    """The file with other inputs."""
    path.write_text(FILE.format(directory=path.with_suffix(""), event=event, more=more))
    return path


def command(*words: str | Path, code: int = 0) -> str:
    found = CliRunner().invoke(app, [str(word) for word in words])
    assert found.exit_code == code, found.output
    return " ".join(found.output.split())


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state of half of the events, with incremental files."""
    path = edited(tmp_path_factory.mktemp("half") / "monitor.yaml", BEFORE, RULES)
    run(path, N // 2)
    assert any((path.with_suffix("") / "state").iterdir())
    return path


@pytest.fixture(scope="module")
def rest(half: Path, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """The predictions of the other half, undisturbed."""
    path = copied(half, tmp_path_factory.mktemp("rest"))
    return run(edited(path, BEFORE, RULES), N)


@pytest.mark.parametrize("first", ["rename", "edit"])
def test_a_renamed_input_goes_on_to_the_bit(half: Path, rest: Told, tmp_path: Path, first: str) -> None:
    path = edited(copied(half, tmp_path), BEFORE, RULES)
    hashes = hashes_of(path)
    if first == "edit":
        edited(path, "features: [a, pressure]", RULES)
        assert "added: pressure, at weight zero; removed: b; kept: 1" in command("validate", path)
    said = command("state", "rename-feature", path, "b", "pressure", "--dry-run")
    assert "would rename 'b' to 'pressure' in event.features of the state, 3 shards" in said
    assert ("in the file in place of" in said) == (first == "rename")
    assert hashes_of(path) == hashes, "nothing has changed"
    planned = json.loads(command("state", "rename-feature", path, "b", "pressure", "--dry-run", "--json"))
    done = json.loads(command("state", "rename-feature", path, "b", "pressure", "--yes", "--json"))
    assert (planned["arrays"], planned["done"], done["done"]) == (done["arrays"], False, True)
    edited(path, "features: [a, pressure]", RULES)
    assert "kept the stored state continues as it is" in command("validate", path)
    assert hashes_of(path) == hashes
    assert run(path, N) == rest
    assert "has no input or target 'b': it may have been renamed" in command(
        "state", "rename-feature", path, "b", "pressure", code=1
    )


def test_a_kill_leaves_the_old_name_or_the_new_one(half: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = edited(copied(half, tmp_path), BEFORE, RULES)
    hashes = hashes_of(path)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(renaming, "fill_databases", killed)
    with pytest.raises(KeyboardInterrupt):
        renaming.rename_feature(load_config(path), "b", "c")
    monkeypatch.undo()
    assert "kept the stored state continues" in command("validate", path)
    assert hashes_of(path) == hashes
    renaming.rename_feature(load_config(path), "b", "c")
    assert "kept the stored state continues" in command("validate", edited(path, "features: [a, c]", RULES))


def test_it_asks_first(half: Path, tmp_path: Path) -> None:
    path = edited(copied(half, tmp_path), BEFORE, RULES)
    found = CliRunner().invoke(app, ["state", "rename-feature", str(path), "b", "c"], input="n\n")
    assert found.exit_code == 1
    assert "rename 'b'?" in found.output
    assert "kept      the stored state" in CliRunner().invoke(app, ["validate", str(path)]).output


REFUSALS = {
    ("x", "y"): "has no input or target 'x': they are a, b, target",
    (
        "nope",
        "a",
    ): "has no input or target 'nope': it may have been renamed to 'a' already, which it has; they are a, b,",
    ("b", "a"): "has 'a' already",
    ("b", "target"): "has 'target' already",
    ("b", ""): "cannot read the settings",
}


@pytest.mark.parametrize("names", REFUSALS)
def test_names_that_cannot_be(half: Path, tmp_path: Path, names: tuple[str, str]) -> None:
    path = edited(copied(half, tmp_path), BEFORE, RULES)
    assert REFUSALS[names] in command("state", "rename-feature", path, *names, "--yes", code=1)
    assert "kept the stored state" in command("validate", path)


def test_nothing_is_there(tmp_path: Path) -> None:
    path = edited(tmp_path / "monitor.yaml", BEFORE)
    assert "does not exist" in command("state", "rename-feature", path, "a", "c", "--yes", code=1)


def test_under_a_process_it_is_refused(half: Path, tmp_path: Path) -> None:
    path = edited(copied(half, tmp_path), BEFORE, RULES)
    recovery = open_recovery(load_config(path))
    assert recovery is not None
    assert recovery.lock is not None
    with recovery.lock:
        assert "in use" in command("state", "rename-feature", path, "b", "c", "--yes", code=1)


# Added, removed, and the past.


def with_columns(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the events have the columns of the file: a, b, and c, which is b and noise."""
    original, names = test_kept.events_of, load_config(path).event.columns

    def events_of(partition: int) -> Events:
        events = original(partition)
        a, b = events.features.T
        columns = {"a": a, "b": b, "c": b + np.random.default_rng(7).normal(size=N)}
        return replace(events, features=np.stack([columns[name] for name in names], axis=1))

    monkeypatch.setattr(test_kept, "events_of", events_of)
    return path


@pytest.mark.parametrize(
    ("event", "text"),
    [
        ("features: [a, b, c]", "added: c, at weight zero; kept: 2"),
        ("features: [b]", "removed: a; kept: 1"),
        ("features: [c, a]", "added: c, at weight zero; removed: b; kept: 1"),
        ("features: [b, a]", "all are kept, in another order"),
        (f"{BEFORE}, lags: 3", "inputs from the past target 4 to 8 back are removed"),
        (f"{BEFORE}, feature_lags: 2", "inputs from the past event's features 1 to 2 back are added"),
    ],
)
def test_a_run_goes_on_with_other_inputs(
    half: Path, rest: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, event: str, text: str
) -> None:
    path = with_columns(edited(copied(half, tmp_path), event, RULES), monkeypatch)
    said = command("validate", path)
    assert "migrated the stored state continues under the new settings" in said
    assert text in said
    went_on = run(path, N // 2 + 300)
    assert went_on.keys() == {key for key in rest if key[1] < N // 2 + 300}
    fresh = run(edited(tmp_path / "fresh.yaml", event, RULES), 300)
    targets = {partition: test_kept.events_of(partition).target for partition in range(test_kept.PARTITIONS)}
    error = [np.median([abs(yhat - targets[at[0]][at[1]]) for at, yhat in each.items()]) for each in (went_on, fresh)]
    assert error[0] < error[1]
    assert "kept the stored state continues" in command("validate", path)
    back = edited(path, BEFORE, RULES)
    with monkeypatch.context() as again:
        again.setattr(test_kept, "events_of", ORIGINAL)
        run(back, N // 2 + 600)
    assert "kept the stored state continues" in command("validate", back)


ORIGINAL = test_kept.events_of


def test_a_start_without_past_targets_is_refused(half: Path, tmp_path: Path) -> None:
    path = edited(copied(half, tmp_path), f"{BEFORE}, lags: 0", RULES)
    assert "event.lags: 8 → 0 (refused: with `lags: 0` the target is learned" in command("validate", path, code=1)
    with pytest.raises(StateError, match="another recovery"):
        run(path, N)
