"""The accuracy benchmark: which rows and columns count, the peers' protocol, and what its checks say."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import accuracy
import accuracy_peers
import accuracy_product
from accuracy_peers import INPUTS, LEARNERS, PUBLISHED, SCORED_FROM, Cache, Found, Job, Sample
from accuracy_product import ABLATIONS, configuration

from ssm_stream.config import Event, Model


def write(folder: Path, name: str, lines: list[str]) -> Path:
    path = folder / f"{name}.csv.gz"
    path.write_bytes(gzip.compress("\n".join([*lines, ""]).encode()))
    return path


def recorded(folder: Path, name: str, count: int = SCORED_FROM + 60) -> Path:
    """Two entities in turn; the target follows one column, another column is noise."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, count)).round(4)
    lines = [
        f"m{i % 2},2024-01-01T{i // 60:02d}:{i % 60:02d}:00,{a[i]},{b[i]},{5 + 2 * a[i] + i % 2:.4f},1"
        for i in range(count)
    ]
    return write(folder, name, ["entity,ts,a,b,target,label_x", *lines])


def test_rows_are_in_time_order_and_only_inputs_are_features(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "press",
        [
            "entity,ts,load,word,alt_target_z,label_fault,empty,target",
            "a,2024-01-01T00:02:00,3,x,9,0,1,30",
            "b,2024-01-01T00:01:00,2,y,9,0,,20",
            "a,2024-01-01T00:01:00,4,z,9,0,2,21",
            "a,2024-01-01T00:00:00,1,x,9,0,3,",
        ],
    )
    recording = accuracy_product.read(path, 2)
    assert (recording.name, recording.features) == ("press", ["load", "empty"])
    # The stable order keeps b before a; the row without a target does not count.
    assert [(row["entity"], row["target"], row["empty"]) for row in recording.rows] == [("b", 20, None), ("a", 21, 2)]
    assert accuracy.sample_of(recording).soft.tolist() == [[2.0, 0.0], [4.0, 2.0]]


def test_past_targets_are_the_entitys_own_and_start_with_its_first() -> None:
    y = np.array([1.0, 10.0, 2.0, 20.0, 3.0])
    table, last = accuracy_peers.past_targets(y, np.array([0, 1, 0, 1, 0]))
    assert last.tolist() == [1.0, 10.0, 1.0, 10.0, 2.0]
    assert table[4].tolist() == [2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]


class Repeats:
    """Predicts what it learned last."""

    def __init__(self) -> None:
        self.last: float | None = None

    def predict_one(self, features: dict[str, float]) -> float | None:
        return self.last

    def learn_one(self, features: dict[str, float], target: float) -> None:
        self.last = target


def test_each_event_is_predicted_before_it_is_learned() -> None:
    n = SCORED_FROM + 10
    y, group, x = np.arange(n) ** 2.0, np.arange(n) % 2, np.zeros((n, 0))
    zero = np.zeros(n)
    alone = accuracy_peers.prequential(Repeats, x, y, zero, zero.astype(np.int64), 60.0)
    assert alone == pytest.approx(np.diff(y)[SCORED_FROM - 1 :].mean())
    split = accuracy_peers.prequential(Repeats, x, y, zero, group, 60.0)
    assert split == pytest.approx((y[2:] - y[:-2])[SCORED_FROM - 2 :].mean())
    assert accuracy_peers.prequential(Repeats, x, y, zero, group, -1.0) is None


def sample(entities: int = 1) -> Sample:
    entity = np.arange(4) % entities
    return Sample("press", "digest", np.zeros((4, 1)), np.zeros((4, 9)), np.zeros(4), np.zeros(4), entity)


def test_one_model_for_all_is_tried_only_where_there_are_several_entities() -> None:
    assert len(accuracy_peers.jobs_of(sample())) == len(LEARNERS) * len(INPUTS)
    assert len(accuracy_peers.jobs_of(sample(2))) == 2 * len(LEARNERS) * len(INPUTS)
    without_columns = sample()._replace(soft=np.zeros((4, 0)))
    assert {job.inputs for job in accuracy_peers.jobs_of(without_columns)} == {"lags", "residual"}


def test_the_cache_keeps_answers_but_not_those_that_had_less_time(tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    done, late = Job(sample(), "kNN", "soft", "entity"), Job(sample(), "ARF", "lags", "entity")
    cache = Cache(path)
    cache.put(done, "1.0", {"mae": 2.0, "seconds": 1.0, "limit": 5.0})
    cache.put(late, "1.0", {"mae": None, "seconds": 5.0, "limit": 5.0})
    again = Cache(path)
    assert again.get(done, "1.0", 240.0) == {"mae": 2.0, "seconds": 1.0, "limit": 5.0}
    assert again.get(late, "1.0", 5.0) is not None
    assert again.get(late, "1.0", 240.0) is None
    assert again.get(done, "1.1", 240.0) is None


def test_the_best_of_the_columns_alone_leaves_past_targets_out() -> None:
    found = Found({"kNN, soft": 3.0, "ARF, soft, global": 2.5, "kNN, residual": 1.0, "AMF, lags": 1.5}, [])
    assert accuracy.bests(found) == {
        "soft": 2.5,
        "soft_by": "ARF, soft, global",
        "any": 1.0,
        "any_by": "kNN, residual",
    }
    assert accuracy.bests(Found({}, ["kNN, soft"])) == {}


def test_the_product_runs_with_its_defaults() -> None:
    config = configuration(["x"], "fast")
    changed = {"entity": "entity", "timestamp": "ts", "features": ["x"], "target": "target"}
    assert config.event == Event(**changed)
    assert config.model == Model()
    assert configuration(["x"], "accurate").model == Model(profile="accurate")


@pytest.mark.parametrize("profile", ["fast", "accurate"])
@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_changes_the_configuration(name: str, profile: str) -> None:
    assert configuration(["x"], profile, accuracy_product.ablation(name, profile)) != configuration(["x"], profile)


def cell_rows(ratio: float) -> list[dict[str, Any]]:
    return [
        {"name": f"{short}/{cell}", "recording": name, "cell": cell, "ratio": ratio}
        for name, short in accuracy.SHORT.items()
        for cell in ("soft", "any")
    ]


def test_checks_hold_the_cells_the_means_the_cost_and_the_state() -> None:
    cost, state = {"8 features": 1.0, "50 columns": 9.0}, {"alone": 1000.0, "fleet": 5000.0, "fleet, defaults": 1.0}
    told = {one["name"]: one for one in accuracy.checks("fast", "", cell_rows(0.8), cost, state)}
    assert len([name for name in told if name.endswith(("/soft", "/any"))]) == 16 + 2
    assert told["bike/any"] == {"name": "bike/any", "value": 0.8, "relation": "<=", "bar": 1.0, "ok": True}
    assert (told["ratio/soft"]["ok"], told["ratio/any"]["ok"], told["cells below 1"]["value"]) == (False, True, 16)
    assert (told["cost/8 features"]["ok"], told["cost/50 columns"]["ok"]) == (True, False)
    assert (told["state/alone"]["ok"], told["state/fleet"]["ok"]) == (True, False)
    assert "state/fleet, defaults" not in told
    some = [one["name"] for one in accuracy.checks("accurate", "accurate/", cell_rows(0.8)[:4], {}, {})]
    assert some == ["accurate/bike/soft", "accurate/bike/any", "accurate/gas/soft", "accurate/gas/any"]


def test_every_recording_with_a_bar_has_published_figures() -> None:
    assert list(PUBLISHED) == list(accuracy.SHORT)
    assert all(one.any <= one.soft for one in PUBLISHED.values())


def test_a_folder_gives_a_table_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded(tmp_path, "water_flow")
    recorded(tmp_path, "other")
    options = accuracy.parsed(["--data", str(tmp_path), "--no-peers", "--no-costs", "--delays"])
    report = accuracy.measure(accuracy.find(tmp_path, None, options.rows), options)
    accuracy.show(report)
    assert capsys.readouterr().out == ""
    report = json.loads(json.dumps(accuracy.plain(report), allow_nan=False))
    assert [row["name"] for row in report["rows"]] == ["water/soft", "water/any", "other/soft", "other/any"]
    assert [one["source"] for one in report["references"]] == ["published", None]
    assert [one["name"] for one in report["checks"]] == ["water/soft", "water/any"]
    errors = {row["name"]: row["mae"] for row in report["rows"]}
    assert errors["other/soft"] < 0.5 * report["references"][1]["persistence"]
    assert all(list(found) == ["1", "10", "100"] for found in report["delays"]["fast"].values())
    assert len(report["delays"]["fast"]) == 4


def test_ablations_stand_beside_the_whole(capsys: pytest.CaptureFixture[str]) -> None:
    whole = [{**row, "profile": "fast", "mae": 1.0} for row in cell_rows(0.8)]
    less = [{**row, "ratio": 0.9} for row in whole]
    accuracy.show_ablations("fast", {"no gate": {"rows": less}}, whole)
    lines = [line.split() for line in capsys.readouterr().err.splitlines()]
    assert ["nothing", "soft", *["0.800"] * 9] in lines
    assert ["no", "gate", "any", *["0.900"] * 9] in lines


def test_names_may_be_short_and_unknown_ones_are_refused(tmp_path: Path) -> None:
    recorded(tmp_path, "water_flow")
    assert [one.name for one in accuracy.find(tmp_path, ["water"], 3000)] == ["water_flow"]
    with pytest.raises(SystemExit, match="no fire; it has water_flow"):
        accuracy.find(tmp_path, ["fire"], 3000)
    recorded(tmp_path, "short", 20)
    with pytest.raises(SystemExit, match="short: 20 rows"):
        accuracy.find(tmp_path, ["short"], 3000)


def test_river_is_searched_and_remembered(tmp_path: Path) -> None:
    pytest.importorskip("river")
    recording = accuracy_product.read(recorded(tmp_path, "other"), 3000)
    told: list[str] = []

    def search() -> dict[str, Found]:
        _, found = accuracy_peers.search(
            [accuracy.sample_of(recording)],
            sys.executable,
            tmp_path,
            processes=1,
            cache=tmp_path / "peers.json",
            progress=told.append,
        )
        return found

    first = search()
    assert len(told) == 2 * len(LEARNERS) * len(INPUTS)
    assert first["other"].unfinished == []
    assert search() == first
    assert len(told) == 2 * len(LEARNERS) * len(INPUTS)
