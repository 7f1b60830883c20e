"""The adaptation benchmark: its streams, what its learners see and when, and what its figures and checks say."""

from __future__ import annotations

import gzip
import itertools
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import adaptation
import adaptation_peers
import adaptation_plot
import adaptation_run
import adaptation_streams
from adaptation_run import Figures
from adaptation_streams import KINDS, generated


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_changes_where_it_says(kind: str) -> None:
    stream, again = generated(kind, 101), generated(kind, 101)
    assert stream.key == again.key
    assert stream.key != generated(kind, 102).key
    assert (np.diff(stream.ts) >= 0).all()
    assert stream.start <= stream.at < len(stream.y)
    assert not stream.counted[: stream.start].any()
    early, late = np.arange(stream.start), np.arange(stream.at, len(stream.y))
    if kind == "product":
        assert set(stream.x[early, 8]) == {0.0, 1.0}
        assert set(stream.x[late, 8]) == {0.0, 2.0}
    if kind == "noise":
        assert stream.noise[late].mean() / stream.noise[early].mean() == pytest.approx(2.0, rel=0.1)
    if kind == "machine":
        assert set(stream.entity[early]) == set(range(6))
        assert stream.counted.sum() == 500
    if kind == "coefficients":
        x = np.hstack([stream.x, np.ones((len(stream.y), 1))])
        W = np.linalg.lstsq(x[early], stream.y[early], rcond=None)[0]
        error = np.abs(x @ W - stream.y)
        assert error[early].mean() == pytest.approx(stream.noise[early].mean(), rel=0.05)
        assert error[late].mean() > 5 * stream.noise.mean()


def test_the_error_is_back_once_a_whole_block_after_the_change_is() -> None:
    error = np.concatenate([np.ones(100), np.full(10, 9.0), np.ones(90)])
    assert adaptation_run.until_back(error, 100, 1.0) == 35.0
    assert adaptation_run.until_back(error, 100, 10.0) == 25.0
    assert adaptation_run.until_back(error, 100, 0.1) == math.inf


def test_least_squares_with_forgetting_is_the_weighted_solution() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 3)), rng.normal(size=40)
    made = adaptation_peers.least_squares(x, y, np.zeros(40, np.int64))
    for i, rate in enumerate(adaptation_peers.RATES):
        w = rate ** np.arange(38, -1, -1.0)
        S = (x[:39] * w[:, None]).T @ x[:39] + adaptation_peers.RIDGE * np.eye(3)
        assert made[i, 39] == pytest.approx(x[39] @ np.linalg.solve(S, (x[:39] * w[:, None]).T @ y[:39]))


def test_nobody_sees_the_target_before_predicting_it() -> None:
    """What is learned of targets from an event on changes no prediction up to it."""
    stream = generated("product", 101)
    data = adaptation_run.arrays(stream)
    data |= {name: data[name][:1400] for name in ("x", "y", "ts", "entity")}
    other = {**data, "y": np.where(np.arange(1400) < 1250, data["y"], 0.0)}
    x, codes, _ = adaptation_peers.table(data)
    fit = adaptation_peers.ridge(codes, [np.unique(x[:, i]) for i in codes])
    when = adaptation_peers.nights(data["ts"], 1000)
    assert when[0] == 1000
    assert all(144 >= b - a > 0 for a, b in itertools.pairwise(when))
    for window in (None, 500):
        (first, cost), (second, _) = (
            adaptation_peers.predictions(fit, x, each["y"], when, window) for each in (data, other)
        )
        assert len(cost) == len(when)
        assert np.isnan(first[:1000]).all()
        np.testing.assert_array_equal(first[1000:1250], second[1000:1250])
        assert (first[1300:] != second[1300:]).any()
    ours, theirs = (adaptation_peers.run(each, "least squares") for each in (data, other))
    for name, (made, _) in ours.items():
        np.testing.assert_array_equal(made[:1251], theirs[name][0][:1251])


def figures(mae: float, own: float = 1.0, events: float = 50.0, cpu: float = 1.0) -> Figures:
    return Figures(mae, own, own, events, cpu, np.ones(3000))


def test_checks_hold_errors_recovery_and_cost() -> None:
    stream = generated("coefficients", 101)
    rows: Any = {
        "ssm-stream": {"default": figures(1.0, 1.03, 60.0, 0.01)},
        "frozen": {"trees": figures(3.0, 2.0, math.inf), "linear trees": figures(2.0, 2.0, math.inf)},
        "nightly": {"trees": figures(1.1, 2.0, math.inf, 2.0), "linear trees": figures(1.2, 2.0, math.inf, 1.0)},
        "least squares": {"0.95": figures(1.0, 1.1, 40.0), "0.99": figures(1.0, 1.02, 300.0)},
    }
    told = {one["name"]: one for one in adaptation.checks([stream], {stream.name: rows})}
    assert told["error/frozen"] == {"name": "error/frozen", "value": 0.5, "relation": "<=", "bar": 0.7, "ok": True}
    assert told["error/nightly"]["ok"] is False
    assert told["coefficients/events until back"]["value"] == 60.0
    assert told["coefficients/learners ahead in both"]["value"] == 0.0
    assert told["cpu/nightly"]["value"] == 0.01
    rows["least squares"]["0.97"] = figures(1.0, 1.02, 55.0)
    told = {one["name"]: one for one in adaptation.checks([stream], {stream.name: rows})}
    assert told["coefficients/learners ahead in both"]["ok"] is False


def test_a_change_is_injected_into_a_recording(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 600)).round(4)
    lines = [
        f"m,2024-01-{1 + i // 144:02d}T{i // 6 % 24:02d}:{i % 6}0:00,{a[i]},{b[i]},{5 + 2 * a[i]:.4f}"
        for i in range(600)
    ]
    path = tmp_path / "water_flow.csv.gz"
    path.write_bytes(gzip.compress("\n".join(["entity,ts,a,b,target", *lines, ""]).encode()))
    streams = {stream.name: stream for stream in adaptation_streams.recorded(tmp_path)}
    assert list(streams) == ["water/coefficients", "water/offset"]
    changed, moved = streams.values()
    np.testing.assert_allclose(changed.y[:300], 5 + 2 * a[:300], atol=1e-4)
    assert np.corrcoef(changed.y[300:] - moved.y[300:], a[300:])[0, 1] == pytest.approx(1.0)
    assert (moved.x[300:, 0] - a[300:]).mean() == pytest.approx(3.0 * a[:300].std())
    x, codes, bases = adaptation_peers.table(adaptation_run.arrays(changed))
    assert (x.shape[1], codes, list(bases)) == (2 + 8 + 2, [], ["target", "change"])


def test_product_and_others_come_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(adaptation_run, "GROUPS", ("least squares",))
    monkeypatch.setattr(adaptation_plot, "LINES", {"ssm-stream": ("product", "#1a73e8", 2.0)})
    options = adaptation.parsed(["--seeds", "101", "--kinds", "coefficients", "--peers-python", sys.executable])
    options.peers_cache = tmp_path
    streams = adaptation.streams_of(options)
    monkeypatch.setattr(adaptation, "checks", lambda *_: [])
    report, found = adaptation.measure(streams, options)
    adaptation.show(report)
    assert capsys.readouterr().out == ""
    json.dumps(adaptation.plain(report), allow_nan=False)
    recovery = report["recovery"]
    assert recovery["ssm-stream: default"]["before_of_noise"] < 1.1
    assert recovery["least squares: 1.0, target, one for all"]["events"] > 1000
    adaptation_plot.draw(streams, found, tmp_path / "picture.svg")
    assert (tmp_path / "picture.svg").stat().st_size > 1000
