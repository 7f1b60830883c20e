"""Entities side by side in torch are the engine's kernel, one event after another; on a GPU where there is one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssm_stream.config import Config, ConfigError, parse_config
from ssm_stream.engine.engine import Engine
from ssm_stream.evaluate.device_backtest import DeviceEngine, split_rounds
from ssm_stream.evaluate.prequential import prequential

YAML = """
source: {brokers: "localhost:9092", topic: events}
event: {entity: machine, timestamp: ts, features: [load, mode], categories: [shift], target: temp}
model: {fleet: false}
"""
TYPICAL, RARELY = 1e-4, 1e-3  # of the target's deviation, as in test_learner.py: the kernel's heads are 32-bit
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU here")),
]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Tensors this small are slower on more threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def config(more: str = "") -> Config:
    return parse_config(YAML.replace("{fleet: false}", f"{{fleet: false{more}}}"))


def stream(n: int, entities: int = 7) -> list[dict[str, Any]]:
    """Entities of different sizes and paces, a whole-numbered feature, names, unknown values and targets, outliers."""
    rng = np.random.default_rng(2)
    rows = []
    for i in range(n):
        m = int(min(rng.geometric(0.3), entities)) - 1
        load, mode, shift = rng.normal(), int(rng.integers(0, 4)), "abc"[rng.integers(0, 3)]
        temp = (m + 1) * (20 + 3 * load + 2 * (mode == 2) + (shift == "b") + 0.3 * rng.normal())
        temp += 300 * (rng.random() < 0.005)
        rows.append(
            {
                "machine": f"m{m}", "ts": 1_700_000_000 + 600 * i, "load": load if rng.random() > 0.02 else None,
                "mode": mode, "shift": shift, "temp": temp if rng.random() > 0.1 else None,
            }
        )  # fmt: skip
    return rows


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("more", ["", ", profile: accurate, window: 128", ", heads: [moments, gd], half_lives: [6h]"])
def test_predictions_are_those_of_the_kernel(device: str, more: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of any size: rounds never cross them."""
    monkeypatch.setattr("ssm_stream.evaluate.prequential.BATCH", 700)
    rows, c = stream(1200), config(more)
    kernel, torches = Engine(c), DeviceEngine(c, device)
    scale = float(np.nanstd([row["temp"] or np.nan for row in rows]))
    off = []
    for ours, theirs in zip(prequential(c, rows, torches), prequential(c, rows, kernel), strict=True):
        off.append(np.abs(ours.predictions.yhat - theirs.predictions.yhat) / scale)
        assert (ours.predictions.n == theirs.predictions.n).all()
        assert ours.alerts == []
        assert np.isnan(ours.predictions.upper).all()
    assert np.quantile(np.concatenate(off), 0.99) < TYPICAL
    assert np.concatenate(off).max() < RARELY
    assert torches.params.K == kernel.params.K > 8, "codes were given"
    assert torches.bytes_per_entity > 0


@given(st.lists(st.integers(0, 5), max_size=40))
def test_rounds_keep_every_entitys_order(rows: list[int]) -> None:
    """Every event once; in a round an entity at most once; an entity's events in their order."""
    rounds = split_rounds(np.array(rows, np.int64))
    assert sorted(i for at in rounds for i in at.tolist()) == list(range(len(rows)))
    last = dict.fromkeys(rows, -1)
    for at in rounds:
        mine = [rows[i] for i in at.tolist()]
        assert len(set(mine)) == len(mine) > 0
        for i in at.tolist():
            assert last[rows[i]] < i
            last[rows[i]] = i


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("fleet: false", "fleet: true", ["model.fleet", "found true", "set it to false"]),
        ("target: temp", "target: [temp, noise]", ["event.target", "2 targets", "name one"]),
        ("fleet: false", "fleet: false, horizon: 1h", ["model.horizon", "'1h'", "leave it out"]),
        ("model:", "alerts: {drift: {learn: hold}}\nmodel:", ["alerts.drift.learn", "'hold'", "set it to adapt"]),
        ("model:", "labels: {topic: labels}\nmodel:", ["labels", "leave the section out"]),
    ],
)
def test_what_cannot_be_computed_so_is_refused(old: str, new: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        DeviceEngine(parse_config(YAML.replace(old, new)), "cpu")
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_recording_longer_than_the_ttl_is_refused() -> None:
    rows = [{**row, "ts": row["ts"] + 100 * 86_400 * (i == 9)} for i, row in enumerate(stream(10))]
    with pytest.raises(ConfigError, match=r"state.ttl: found 90 days, and the recording covers 100"):
        list(prequential(config(), rows, DeviceEngine(config(), "cpu")))


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch finds a GPU here")
def test_without_a_gpu_cuda_is_refused() -> None:
    with pytest.raises(ConfigError, match="--device: found cuda; torch finds no GPU"):
        DeviceEngine(config(), "cuda")
