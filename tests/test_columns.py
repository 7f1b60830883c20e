"""Recordings by column: the events and refusals of their rows one by one, in any mixture; the usual needs no rows."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ssm_stream.autoconfig.feature_selection import select_features
from ssm_stream.config import Event, parse_config
from ssm_stream.evaluate.recordings import Recording, RecordingError, parquet_file, recording
from ssm_stream.evaluate.recordings.column_reader import ColumnReader
from ssm_stream.ingest.events import EventReader, Events


def event(more: str = "", target: str = "y") -> Event:
    return parse_config(
        "source: {brokers: a, topic: t}\n"
        f"event: {{entity: m, timestamp: ts, features: [a, b.c], categories: [k], target: {target}{more}}}"
    ).event


def assert_same(found: Events, expected: Events) -> None:
    assert found.entity == expected.entity
    for name in ("ts", "features", "target", "position"):
        mine, other = getattr(found, name), getattr(expected, name)
        assert mine.dtype == other.dtype, name
        assert mine.shape == other.shape, name
        assert mine.tobytes() == other.tobytes(), name


def assert_read_alike(recording: Recording, rules: Event) -> None:
    reader = ColumnReader(rules)
    for part, whole in zip(recording.slices(reader.names), recording.slices(), strict=True):
        events, refused = reader.read(part)
        expected, reasons = EventReader(rules).read(whole.rows())
        assert_same(events, expected)
        assert refused == reasons


def plain(n: int) -> pl.DataFrame:
    rng = np.random.default_rng(n)
    return pl.DataFrame(
        {
            "m": [f"press-{i % 7}" for i in range(n)],
            "ts": [f"2024-02-{1 + i % 28:02d} 12:00:{i % 60:02d}" for i in range(n)],
            "a": pl.Series([None if i % 5 == 0 else float(v) for i, v in enumerate(rng.normal(size=n))]),
            "b.c": rng.integers(-5, 5, n),
            "k": ["on", "off", None] * (n // 3) + ["on"] * (n % 3),
            "y": rng.normal(size=n),
        }
    )


@pytest.mark.parametrize("name", ["plain.csv", "plain.csv.gz", "plain.parquet"])
def test_plain_recordings_need_no_rows(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path, frame = tmp_path / name, plain(2500)
    if name.endswith("parquet"):
        frame.write_parquet(path, row_group_size=700)
    else:
        import gzip

        (gzip.open if name.endswith("gz") else open)(path, "wb").write(frame.write_csv().encode())  # type: ignore[operator]
    for module in (recording, parquet_file):
        monkeypatch.setattr(module, "SLICE", 1000)
    assert_read_alike(Recording(path), event())
    assert [part.height for part in Recording(path, 1500).slices()] == [1000, 500]
    assert len(list(Recording(path, 1500))) == 1500

    def never(*_: object) -> None:
        raise AssertionError("read row by row")

    monkeypatch.setattr(EventReader, "read", never)
    parts = [ColumnReader(event()).read(part)[0] for part in Recording(path).slices()]
    assert sum(map(len, parts)) == 2500


CELLS: dict[str, list[Any]] = {
    "m": ["x", "", "é" * 600, "007", 7, -3, 1.5, None, True],
    "ts": [
        0, 1e9, 1.7e12, 1.7e15, -1e30, float("nan"), None, "2024-02-30 00:00:00", "2024-02-03T04:05:06",
        "2024-02-03 04:05:06.123456", "2024-02-03 04:05:60", "2024-02-03 24:00:00", "2024-02-03T04:05:06Z",
        "2024-02-03T04:05:06+02:00", "2024-02-03T04:05:06-23:59", "2024-02-03T04:05:06+24:00", "2024-02-03",
        "0001-01-01 00:00:00", "2024-2-3 04:05:06", "１024-02-03 04:05:06", "20240203", True,
        dt.datetime(1969, 12, 31, 23, 59, 59, 999_999), dt.datetime(2024, 7, 1, 2, tzinfo=dt.UTC), dt.date(2024, 7, 1),
    ],
    "a": [1, 1.5, None, float("nan"), float("inf"), 1e39, 2**60 + 1, "n/a", "", True, [1]],
    "b.c": [1, None, 2.5, "x"],
    "k": ["on", "", None, 3, 2.5, True, "é" * 600],
    "y": [1, 1.5, None, float("nan"), True, "?"],
}  # fmt: skip
FORMS = ["", ", timestamp_format: ms", ", timestamp_format: iso", ", time_zone: Europe/Berlin"]


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_stands_in_a_file_is_read_as_its_rows_are(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    """Columns of one kind of cell, or of any mixture that the format can hold; absent columns; every kind of time."""
    n = data.draw(st.integers(1, 6))
    kind = data.draw(st.sampled_from(["parquet", "csv", "jsonl"]))
    columns = {}
    for name, cells in CELLS.items():
        if data.draw(st.integers(0, 9)) == 0:
            continue
        some = data.draw(st.lists(st.sampled_from(cells), min_size=1, max_size=3))
        columns[name] = data.draw(st.lists(st.sampled_from(some), min_size=n, max_size=n))
    path = tmp_path_factory.mktemp("any") / f"any.{kind}"
    try:
        frame = pl.DataFrame({name: pl.Series(name, values, strict=True) for name, values in columns.items()})
    except TypeError:  # a mixture that no frame can hold as it is
        frame = pl.DataFrame({name: pl.Series(name, [str(v) for v in values]) for name, values in columns.items()})
    if not frame.width:
        return
    try:
        {"parquet": frame.write_parquet, "csv": frame.write_csv, "jsonl": frame.write_ndjson}[kind](path)
    except pl.exceptions.ComputeError:  # CSV has no lists
        return
    rules = event(data.draw(st.sampled_from(FORMS)), data.draw(st.sampled_from(["y", "[y, a2]"])))
    try:
        recording = list(Recording(path))
    except RecordingError:  # a CSV file of empty lines only
        return
    assert recording
    assert_read_alike(Recording(path), rules)


@pytest.mark.parametrize(
    "times",
    [
        pl.Series(["2024-02-03T04:05:06", "1969-12-31T23:59:59.9995"]),
        pl.Series(["2024-02-03 04:05:06Z", "2024-02-03 04:05:07.5Z"]),
        pl.Series(["2024-02-03T04:05:06+02:00", "2024-02-03T04:05:06-11:30"]),
        pl.Series([dt.datetime(1969, 12, 31, 23, 59, 59, 999_999), dt.datetime(2024, 2, 3)]),
        pl.Series([dt.datetime(2024, 2, 3)] * 2).cast(pl.Datetime("ns", "Asia/Tokyo")),
        pl.Series([dt.date(2024, 2, 3), dt.date(1960, 2, 3)]),
        pl.Series([1.7e9, 1.7e9 + 0.0015]),
        pl.Series([1_700_000_000_000_000, 1_700_000_000_000_001], dtype=pl.UInt64),
    ],
)
def test_usual_forms_of_time_need_no_rows(tmp_path: Path, times: pl.Series, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "times.parquet"
    plain(2).with_columns(ts=times).write_parquet(path)
    assert_read_alike(Recording(path), event())
    (part,) = Recording(path).slices()
    expected = EventReader(event()).read(part.rows())[0]
    monkeypatch.setattr(EventReader, "read", lambda *_: pytest.fail("read row by row"))
    assert_same(ColumnReader(event()).read(part)[0], expected)


def test_structs_are_looked_into_row_by_row(tmp_path: Path) -> None:
    path = tmp_path / "nested.parquet"
    plain(5).drop("b.c").with_columns(b=pl.Series([{"c": i} for i in range(5)])).write_parquet(path)
    assert_read_alike(Recording(path), event())
    (part,) = Recording(path).slices()
    assert ColumnReader(event()).read(part)[0].features[:, 1].tolist() == [0, 1, 2, 3, 4]


DATA = Path(os.environ.get("SSM_STREAM_DATA") or Path(__file__).parents[2] / "shared" / "data")


@pytest.mark.parametrize("name", ["gas_turbine_nox", "steel_energy", "parking_birmingham", "bike_sharing_hourly"])
def test_real_recordings_are_read_alike_and_need_no_rows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = DATA / f"{name}.csv.gz"
    if not path.exists():
        pytest.skip(f"{name} is not in {DATA}; set SSM_STREAM_DATA to the folder that holds it")
    config = parse_config(
        "source: {brokers: a, topic: t}\nevent: {entity: entity, timestamp: ts, features: auto, target: target}"
    )
    rules = select_features(config, list(Recording(path, 200))).config.event
    assert_read_alike(Recording(path), rules)
    monkeypatch.setattr(EventReader, "read", lambda *_: pytest.fail("read row by row"))
    for part in Recording(path).slices():
        ColumnReader(rules).read(part)


@pytest.mark.parametrize("name", ["m", "nobody", "a"])
@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_rows_without_a_name_have_the_default_one(tmp_path: Path, name: str, kind: str) -> None:
    """A column with gaps, none at all, and one that holds no names."""
    frame = plain(30).with_columns(pl.when(pl.int_range(30) % 3 == 0).then(None).otherwise(pl.col("m")).alias("m"))
    path = tmp_path / f"recording.{kind}"
    frame.write_parquet(path) if kind == "parquet" else frame.write_csv(path)
    rules = event().model_copy(update={"entity": name, "entity_default": "line-1"})
    assert_read_alike(Recording(path), rules)
