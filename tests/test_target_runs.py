"""A recovery directory whose targets change between two runs, of several shards: added, removed, renamed, killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ssm_stream.config import load_config
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.snapshot_format import StateError
from ssm_stream.ingest.events import Events
from ssm_stream.recovery.reader import with_state
from tests import test_kept
from tests.test_kept import PARTITIONS, N, copied, hashes_of, run
from tests.test_rename_feature import command, edited

RULES = """alerts: {silence: {}, stuck: [v, w], limits: [{column: v, above: 20}], fleet: {enabled: false}}
model: {warmup: 20}"""
BEFORE = "features: [a, b], target: [v, w]"
ALL = "features: [v, w, x], target: all, inputs: [v]"
ORIGINAL = test_kept.events_of
Told = dict[tuple[int, int], list[float]]
"""Partition and offset → yhat of each target."""
KILLED = """
import sys
from pathlib import Path
from tests import test_kept, test_target_runs
test_kept.events_of = test_target_runs.events_of(sys.argv[2])
test_kept.run(Path(sys.argv[1]), test_kept.N)
"""


def events_of(targets: str):  # type: ignore[no-untyped-def]
    """Return what makes the events with these targets, of v, w, x and y."""

    def made(partition: int) -> Events:
        events = ORIGINAL(partition)
        rng = np.random.default_rng(10 + partition)
        at = np.arange(N) - N // 2
        fault = (
            np.random.default_rng(1).choice([40.0, 90.0], N)
            * (np.array(events.entity) == events.entity[N // 2 - 5])
            * ((at > -80) & (at < 80))
        )
        columns = {"v": events.target + fault, "z": events.target + fault}
        for name in "wxy":
            columns[name] = events.features @ rng.normal(size=2) + 0.2 * rng.normal(size=N)
        features = events.features if targets.isalpha() else np.zeros((N, 0))
        names = [name for name in targets if name.isalpha()]
        return replace(events, target=np.column_stack([columns[name] for name in names]), features=features)

    return made


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state of half of the events, with incremental files."""
    path = edited(tmp_path_factory.mktemp("half") / "monitor.yaml", BEFORE, RULES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(test_kept, "events_of", events_of("vw"))
        run(path, N // 2, workers=2)
    return path


@pytest.fixture(scope="module")
def rest(half: Path, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """The predictions of the other half, undisturbed."""
    path = edited(copied(half, tmp_path_factory.mktemp("rest")), BEFORE, RULES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(test_kept, "events_of", events_of("vw"))
        return run(path, N)  # type: ignore[return-value]


def of(told: Told, place: int) -> dict[tuple[int, int], float]:
    return {at: yhat[place] for at, yhat in told.items()}


def test_a_target_is_added_then_removed(
    half: Path, rest: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = edited(copied(half, tmp_path), "features: [a, b], target: [w, x, v]", RULES)
    said = command("validate", path)
    assert "migrated the stored state continues under the new settings" in said
    assert "event.target: ['v', 'w'] → ['w', 'x', 'v'] (migrated: added: x, learned anew; kept: 2" in said
    before = hashes_of(path)
    monkeypatch.setattr(test_kept, "events_of", events_of("wxv"))
    more: Told = run(path, N // 2 + 400, workers=2)  # type: ignore[assignment]
    assert "kept the stored state continues" in command("validate", path)
    assert "differ" in command("state", "diff", half.with_suffix(""), path.with_suffix(""), code=1)
    shown = json.loads(command("state", "show", path, "m3", "--json"))
    assert len(shown["targets"]) == 3
    assert hashes_of(path).keys() == before.keys()
    edited(path, BEFORE, RULES)
    assert "removed: x; what is open of it ends (`ended_by: disabled`); kept: 2" in command("validate", path)
    monkeypatch.setattr(test_kept, "events_of", events_of("vw"))
    less: Told = run(path, N)  # type: ignore[assignment]
    assert of(more, 2) | of(less, 0) == of(rest, 0)
    assert of(more, 0) | of(less, 1) == of(rest, 1)


def test_a_kill_amid_the_first_run_leaves_a_state_that_goes_on(half: Path, rest: Told, tmp_path: Path) -> None:
    path = edited(copied(half, tmp_path), "features: [a, b], target: [v, w, y]", RULES)
    root = Path(__file__).parents[1]
    for wait in (0, 3):
        files = {each.name for each in (path.with_suffix("") / "state").iterdir()}
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(root / "tests")])}
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(path), "vwy"], cwd=root, env=env)
        while len({each.name for each in (path.with_suffix("") / "state").iterdir()} - files) <= wait:
            assert process.poll() is None
            time.sleep(0.001)
        process.kill()
        process.wait()
        assert "refused" not in command("validate", path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(test_kept, "events_of", events_of("vwy"))
        told: Told = run(path, N)  # type: ignore[assignment]
    assert told
    for place in (0, 1):
        assert of(told, place).items() <= of(rest, place).items()


@pytest.mark.parametrize("first", ["rename", "edit"])
def test_a_renamed_target_goes_on_to_the_bit(
    half: Path, rest: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    path = edited(copied(half, tmp_path), BEFORE, RULES)
    after, rules = BEFORE.replace("v", "z"), RULES.replace("[v, w]", "[z, w]").replace("column: v", "column: z")
    hashes = hashes_of(path)
    opened = open_episodes(path)
    assert any(kind == "limit v above 20" for _, kind in opened)
    assert any(kind == "anomaly" for _, kind in opened)
    if first == "edit":
        edited(path, after, rules)
        assert "`ssm-stream state rename-feature` first" in command("validate", path)
    said = command("state", "rename-feature", path, "v", "z", "--yes")
    assert "renamed 'v' to 'z' in event.target, alerts.stuck, alerts.limits of the state, 3 shards" in said
    assert ("in the file in place of" in said) == (first == "rename")
    edited(path, after, rules)
    assert "kept the stored state continues as it is" in command("validate", path)
    assert hashes_of(path).keys() == hashes.keys()
    assert open_episodes(path) == {(entity, kind.replace(" v", " z")) for entity, kind in opened}
    monkeypatch.setattr(test_kept, "events_of", events_of("zw"))
    assert run(path, N) == rest


def open_episodes(path: Path) -> set[tuple[str, str]]:
    """Entity and kind of what is open."""
    config = load_config(path)
    found = set[tuple[str, str]]()

    def collect(engine: Engine) -> None:
        found.update((each.key.entity, each.key.kind) for each in engine.episodes.open("x"))

    assert config.recovery.directory is not None
    with_state(config.recovery.directory, lambda stored: [collect(stored.engine(shard)) for shard in stored.chains])
    return found


def test_a_target_of_all_is_renamed_to_the_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = edited(tmp_path / "monitor.yaml", ALL, "alerts: {stuck: true}")
    monkeypatch.setattr(test_kept, "events_of", events_of("vwx-"))
    run(path, N // 2)
    other = edited(copied(path, tmp_path / "other"), ALL, "alerts: {stuck: true}")
    edited(path, ALL, "alerts: {stuck: true}")
    steady = run(other, N)
    assert "event.features, event.inputs of the state" in command("state", "rename-feature", path, "v", "z", "--yes")
    edited(path, "features: [z, w, x], target: all, inputs: [z]", "alerts: {stuck: true}")
    assert "kept the stored state continues as it is" in command("validate", path)
    monkeypatch.setattr(test_kept, "events_of", events_of("zwx-"))
    assert run(path, N) == steady


def test_what_is_refused_leaves_the_state_as_it_is(half: Path, tmp_path: Path) -> None:
    rules = RULES.replace("[v, w]", "[x]").replace("column: v", "column: x")
    path = edited(copied(half, tmp_path), "features: [a, b], target: [x, y]", rules)
    said = command("validate", path, code=1)
    assert "(refused: none of the targets stays" in said
    with pytest.raises(StateError, match="another recovery"):
        run(path, N)
    assert "'w' already" in command("state", "rename-feature", edited(path, BEFORE, RULES), "v", "w", "--yes", code=1)
    assert len(hashes_of(path)) > 0
    assert PARTITIONS == 2
