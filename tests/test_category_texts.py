"""Alerts and explanations show the text of a category's value, wherever the state comes from; the texts are bounded."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from ssm_stream.cli.app import app
from ssm_stream.config import Config, parse_config
from ssm_stream.core.shapes import VALUES
from ssm_stream.engine.category_texts import MIN_PRUNED
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.explain import explain_recorded
from ssm_stream.engine.snapshot_format import SnapshotReader
from ssm_stream.ingest.events import EventReader, Events
from ssm_stream.ingest.labels import Labels

PRODUCTS = ("A", "B", "Ölfilter 7", "")
SHOWN = {f"product={product}" for product in PRODUCTS}
SETTINGS = """source: {brokers: a, topic: t}
event: {entity: m, timestamp: t, features: [a], categories: [product], target: y, calendar: [], lags: 1}
alerts: {anomaly: {budget: 1 per 100 events}, drift: {budget: 1 per 100 events}}
state: {shards: 2}
"""


def ssm_stream(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def config(model: str = "", more: str = "") -> Config:
    return parse_config(f"{SETTINGS}model: {{warmup: 10{model}}}\n{more}")


def rows(n: int = 1500) -> list[dict[str, Any]]:
    """The product decides most of the target, the other way round from the middle on; m0 is alone in the last tenth."""
    rng = np.random.default_rng(7)
    effect, out = np.linspace(-9.0, 9.0, len(PRODUCTS)), []
    for i in range(n):
        kind = int(rng.integers(len(PRODUCTS)))
        y = effect[kind] * (1 if i < n // 2 else -1) + rng.normal() / 4 + 30 * (i % 97 == 96)
        out.append(
            {
                "m": f"m{i % 3 if i < n * 0.9 else 0}",
                "t": 60 * i,
                "a": float(rng.normal()),
                "product": PRODUCTS[kind],
                "y": float(y),
            }
        )
    return out


def read(settings: Config, documents: list[dict[str, Any]]) -> Events:
    events, refused = EventReader(settings.event).read(documents)
    assert not refused
    return events


def batches(events: Events, size: int = 100) -> Iterator[Events]:
    for start in range(0, len(events), size):
        yield events.take(np.arange(start, min(start + size, len(events))))


def products(messages: list[dict[str, Any]]) -> set[str]:
    """Names of the inputs that the product has, in all alerts."""
    parts = [part["feature"] for m in messages for part in [*m["contributions"], *m["weight_change"]]]
    return {name for name in parts if name.startswith("product")}


@pytest.mark.parametrize("model", ["", ", fleet: false"])
def test_alerts_show_the_text_also_after_a_restore(model: str) -> None:
    settings = config(model)
    found, states = [], []
    for restored in (False, True):
        engine, messages = Engine(settings), []
        for part in batches(read(settings, rows())):
            if restored:
                engine = Engine.restore(settings, engine.snapshot())
            messages += [alert.message for alert in engine.process(part)[1]]
        found.append(messages)
        states.append(engine.snapshot())
    assert products(found[0]) == SHOWN
    assert found[0] == found[1]
    assert states[0] == states[1]


def test_incremental_snapshots_have_the_texts() -> None:
    settings = config()
    engine, copy, name, files = Engine(settings), Engine(settings), "", list[BytesIO]()
    for part in batches(read(settings, rows()), 10):
        engine.process(part)
        full = engine.changed_share == 1
        files = [BytesIO()] if full else [*files, BytesIO()]
        name = engine.write_snapshot(files[-1], full=full, base=name)
    assert len(files) > 1
    for file in files:
        copy.load(SnapshotReader(file))
    copy.finish_load()
    assert set(engine.input_names(0)) >= SHOWN
    assert copy.input_names(0) == engine.input_names(0)
    assert copy.snapshot() == engine.snapshot()


@pytest.mark.parametrize("restored", [False, True])
def test_a_label_that_comes_later_still_finds_the_text(restored: bool) -> None:
    settings = config(more="labels: {topic: labels, wait: 1d}\n")
    events, messages, engine = read(settings, rows()), [], Engine(settings)
    for part in batches(events):
        bare = replace(part, target=np.full(len(part), np.nan))
        engine.process(bare)
        if restored:
            engine = Engine.restore(settings, engine.snapshot())
        zeros = np.zeros(len(part), np.int64)
        result = engine.learn(Labels(part.entity, part.ts, zeros, part.target, part.position))
        messages += [alert.message for alert in result.alerts]
    assert set() < products(messages) <= SHOWN
    assert set(engine.input_names(0)) >= SHOWN


@pytest.mark.parametrize("more", ["", "labels: {topic: labels, wait: 1h}\n"])
@pytest.mark.parametrize("model", ["", ", fleet: false"])
def test_texts_without_end_stay_bounded(model: str, more: str) -> None:
    settings = config(model, more)
    engine = Engine(settings)
    documents = [{**row, "product": f"serial number {i}"} for i, row in enumerate(rows(6000))]
    for part in batches(read(settings, documents), 500):
        engine.process(part)
        if more:
            engine.learn(Labels(part.entity, part.ts, np.zeros(len(part), np.int64), part.target, part.position))
    store = engine.target_engines[0].store
    assert len(store.category_texts) <= 2 * MIN_PRUNED
    engine.snapshot()
    pools = 3 if model else 2
    assert 0 < len(store.category_texts) <= pools * VALUES
    assert "product=another" in engine.input_names(0)


def test_numbers_of_a_category_stay_numbers() -> None:
    settings = config()
    documents = [{**row, "product": PRODUCTS.index(row["product"])} for row in rows()]
    engine = Engine(settings)
    engine.process(read(settings, documents))
    assert {name for name in engine.input_names(0) if name.startswith("product")} == {f"product={i}" for i in range(4)}


def test_an_explanation_shows_the_text() -> None:
    found, _ = explain_recorded(config(), rows(), "m1")
    names = {part.feature for part in found.parts if part.feature.startswith("product")}
    assert {name for name in names if "×" not in name and "²" not in name} == SHOWN


def test_a_backtest_and_explain_show_the_text(tmp_path: Path) -> None:
    """By way of the columns of a file, and in the program's own output."""
    file, settings = tmp_path / "recording.csv", tmp_path / "monitor.yaml"
    settings.write_text(SETTINGS + "model: {warmup: 10}\n")
    with file.open("w", newline="", encoding="utf-8") as out:
        table = csv.DictWriter(out, list(rows(1)[0]))
        table.writeheader()
        table.writerows(row for row in rows() if row["product"])
    ssm_stream("backtest", settings, file, "--alerts", tmp_path / "alerts.jsonl")
    text = (tmp_path / "alerts.jsonl").read_text(encoding="utf-8")
    assert "product=B" in text
    assert "product=Ölfilter 7" in text
    assert "e+" not in text.replace("e+0", "")
    assert "product=Ölfilter 7" in ssm_stream("explain", settings, "m1", "--recording", file, "--top", 20)
