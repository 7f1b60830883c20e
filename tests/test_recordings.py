"""Recordings: what is read, what survives, what is refused and how that is said."""

from __future__ import annotations

import contextlib
import csv
import datetime
import gzip
import json
import math
import string
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ssm_stream.config import ConfigError, parse_config
from ssm_stream.evaluate.recordings import Recording, RecordingError, count_rows, read_recording, recording
from ssm_stream.evaluate.recordings.exports.cells import MISSING, WITH_UNIT

CSV = "entity,ts,temp,count,target\npump-1,2026-01-01T00:00:00,20.5,3,1\npump-2,2026-01-01T00:01:00,,4,\n"
ROWS = [
    {"entity": "pump-1", "ts": "2026-01-01T00:00:00", "temp": 20.5, "count": 3, "target": 1},
    {"entity": "pump-2", "ts": "2026-01-01T00:01:00", "temp": None, "count": 4, "target": None},
]


def write(path: Path, content: str | bytes) -> Path:
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "A.CSV", "a.jsonl", "a.jsonl.gz", "a.ndjson", "a.ndjson.gz"])
def test_text_formats_give_the_same_rows(tmp_path: Path, name: str) -> None:
    content = CSV if "csv" in name.lower() else "\n".join(map(json.dumps, ROWS)) + "\n"
    path = write(tmp_path / name, content)
    assert list(Recording(path)) == ROWS
    assert [type(value) for value in next(iter(Recording(path))).values()] == [str, str, float, int, int]
    assert count_rows(path) == 2
    (frame,) = read_recording(path)
    assert frame["count"].to_list() == [3, 4]
    assert frame["temp"].to_list() == [20.5, None]


def test_parquet_times_become_iso_text_and_nesting_stays(tmp_path: Path) -> None:
    moment = datetime.datetime(2026, 1, 1, 12, 30, tzinfo=datetime.UTC)
    frame = pl.DataFrame(
        {
            "entity": ["a", "b"],
            "ts": [moment, None],
            "day": [moment.date()] * 2,
            "payload": [{"temp": 1.5, "seen": moment}, {"temp": None, "seen": None}],
            "target": [math.nan, 2.0],
        }
    )
    path = tmp_path / "a.parquet"
    frame.write_parquet(path)
    first, second = Recording(path)
    assert first["ts"] == first["payload"]["seen"] == "2026-01-01T12:30:00+00:00"
    assert first["day"] == "2026-01-01"
    assert math.isnan(first["target"])
    assert second["ts"] is None
    assert second["payload"] == {"temp": None, "seen": None}
    assert count_rows(path) == 2
    assert next(read_recording(path)).height == 2


def test_a_stray_text_late_in_the_file_costs_only_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "SLICE", 1000)
    lines = [f"a,{i},{i}" for i in range(5000)]
    lines[4500] = "a,4500,broken"
    path = write(tmp_path / "late.csv", "entity,ts,target\n" + "\n".join(lines) + "\n")
    values = [row["target"] for row in Recording(path)]
    assert values[4500] == "broken"
    assert values[:4500] + values[4501:] == [*range(4500), *range(4501, 5000)]
    frames = list(read_recording(path))
    assert [frame.height for frame in frames] == [1000] * 5
    assert {str(frame.schema["target"]) for frame in frames} == {"Float64"}
    assert math.isnan(frames[4]["target"][500])


@pytest.mark.parametrize(
    ("cell", "expected"), [("NaN", None), ("inf", math.inf), ("n/a", None), ("oops", "oops"), ("", None)]
)
def test_odd_cells_among_numbers(tmp_path: Path, cell: str, expected: object) -> None:
    path = write(tmp_path / "odd.csv", f"entity,target\na,1.5\na,2.5\na,{cell}\n")
    found = list(Recording(path))[2]["target"]
    assert found == expected
    assert next(read_recording(path))["target"].to_list()[:2] == [1.5, 2.5]


def test_names_stay_names(tmp_path: Path) -> None:
    path = write(tmp_path / "names.csv", "entity,line,target\n007,1,1\n12,2,2\n13,A3,3\n")
    assert [row["entity"] for row in Recording(path)] == ["007", "12", "13"], "a leading zero makes the column text"
    assert [row["line"] for row in Recording(path)] == [1, 2, "A3"]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["50.5", "00.0", "00"], [50.5, 0.0, 0.0]),
        (["0050.50", "-0051.25"], [50.5, -51.25]),
        (["\u22125.5", "5.5"], [-5.5, 5.5]),
        (["\u22125", "n/a", "5"], [-5, None, 5]),
        (["\u22121.234,5", "5,5"], [-1234.5, 5.5]),
    ],
)
def test_zeros_before_numbers_and_a_typeset_minus(tmp_path: Path, cells: list[str], expected: list[object]) -> None:
    text = "time;y\n" + "".join(f"2026-01-01;{cell}\n" for cell in cells)
    assert [row["y"] for row in Recording(write(tmp_path / "a.csv", text))] == expected
    late = [*(["1.5" if "," not in cells[0] else "1,5"] * 600), *cells]
    rows = Recording(write(tmp_path / "b.csv", "time;y\n" + "".join(f"2026-01-01;{cell}\n" for cell in late)))
    assert [row["y"] for row in rows][600:] == expected


def test_a_column_of_numbers_that_is_text_names_the_cell_that_makes_it_so(tmp_path: Path) -> None:
    def said(*cells: str) -> str:
        return Recording(
            write(tmp_path / "a.csv", "time,y\n" + "".join(f"2026-01-0{i},{c}\n" for i, c in enumerate(cells, 1)))
        ).describe()

    assert said("50", "51", "00", "52") == "`y` is text, as line 4 holds '00'"
    assert said("50.5", "n/a", "Configure", "Configure") == "`y` is text, as line 4 holds 'Configure'"
    assert said("001", "002", "003", "100") == said("a", "b") == said("1", "2", "x") == ""


def test_huge_whole_numbers_do_not_fail(tmp_path: Path) -> None:
    path = write(tmp_path / "huge.csv", "entity,target\na,1\na,123456789012345678901234567890\n")
    assert [row["target"] for row in Recording(path)] == [1.0, 123456789012345678901234567890.0]


def test_csv_dialects(tmp_path: Path) -> None:
    assert list(Recording(write(tmp_path / "a.csv", "\ufeffentity; target\r\na b;1\r\n\r\nc;2\r\n"))) == [
        {"entity": "a b", "target": 1},
        {"entity": "c", "target": 2},
    ]
    assert list(Recording(write(tmp_path / "b.csv", 'entity,target\n"a,1\nx",1\n"say ""hi""",2'))) == [
        {"entity": "a,1\nx", "target": 1},
        {"entity": 'say "hi"', "target": 2},
    ]
    short = write(tmp_path / "c.csv", "entity,ts,target\na\nb,1,2\n")
    assert next(iter(Recording(short))) == {"entity": "a", "ts": None, "target": None}


def test_a_line_break_in_quotes_on_the_edge_of_a_slice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "SLICE", 2)
    path = write(tmp_path / "edge.csv", 'entity,target\na,1\n"b\nc\nd",2\ne,3\n')
    assert [row["entity"] for row in Recording(path)] == ["a", "b\nc\nd", "e"]
    assert count_rows(path) == 3


def test_json_lines_take_what_orjson_does_not(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"a": NaN, "b": 123456789012345678901234567890}\n\n{"a": {"b": [1]}}\n')
    first, second = Recording(path)
    assert math.isnan(first["a"])
    assert first["b"] == 123456789012345678901234567890 or first["b"] == pytest.approx(1.2345678901234568e29)
    assert second == {"a": {"b": [1]}}
    assert count_rows(path) == 2


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.json", '[{"e": "a", "y": 1}, {"e": "b", "y": 2.5}]'),
        ("list.jsonl", '\ufeff\n [{"e": "a", "y": 1},\n{"e": "b", "y": 2.5}]'),
        ("lines.json", '{"e": "a", "y": 1}\n{"e": "b", "y": 2.5}'),
        ("inside.json", '{"status": "ok", "unit": ["K"], "data": [{"e": "a", "y": 1}, {"e": "b", "y": 2.5}]}'),
        ("printed.json", '{\n  "count": 2,\n  "data": [\n{"e": "a", "y": 1}, {"e": "b", "y": 2.5}\n]\n}\n'),
        ("columns.json", '{"e": ["a", "b"], "y": [1, 2.5]}'),
        ("hourly.JSON", '{"units": {"y": "K"}, "hourly": {"e": ["a", "b"], "y": [1, 2.5]}}'),
    ],
)
def test_json_is_read_as_programs_export_it(tmp_path: Path, name: str, text: str) -> None:
    path = write(tmp_path / name, text)
    assert list(Recording(path)) == [{"e": "a", "y": 1}, {"e": "b", "y": 2.5}]
    assert count_rows(path) == 2
    assert [frame.rows() for frame in read_recording(path)] == [[("a", 1.0), ("b", 2.5)]]


def test_a_single_line_is_an_event_whatever_lists_it_has(tmp_path: Path) -> None:
    event = {"e": "a", "sensors": [{"name": "temp", "value": 1}, {"name": "load", "value": 2}]}
    path = write(tmp_path / "one.jsonl", json.dumps(event))
    assert list(Recording(path)) == [event]
    assert count_rows(path) == 1


def test_answers_of_prometheus_are_readings_in_the_order_of_their_times(tmp_path: Path) -> None:
    series = [
        {"metric": {"__name__": n, "instance": "a"}, "values": [[1, y], [2, "NaN"]]}
        for n, y in (("x", "1"), ("y", "2"))
    ]
    answer = {"status": "success", "data": {"resultType": "matrix", "result": series}}
    path = write(tmp_path / "answer.json", json.dumps(answer))
    rows = list(Recording(path))
    assert [(row["time"], row["__name__"], row["value"]) for row in rows[:2]] == [(1, "x", 1.0), (1, "y", 2.0)]
    assert [(row["time"], row["instance"]) for row in rows[2:]] == [(2, "a")] * 2
    assert math.isnan(rows[2]["value"])


def test_json_beside_tables_describes_them(tmp_path: Path) -> None:
    write(tmp_path / "1.csv", "e,y\na,1\n")
    write(tmp_path / "about.json", '{"unit": {"y": "K"}}')
    assert [row["e"] for row in Recording(tmp_path)] == ["a"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", "[1, 2]", ["a.json: item 1", "found int", "list of objects"]),
        ("a.json", '[{"a": 1},\n{"a":}]', ["a.json:2", "not JSON", "character 6"]),
        ("a.json", '{"a": {"0": 1}, "b": {"0": 2}}', ["a.json", "without a list of objects", "a, b"]),
        ("a.json", '{"a": [{"y": 1}], "b": [{"y": 1}]}', ["a.json", "several tables (a, b)"]),
        (
            "a.json",
            '{"data": {"resultType": "matrix", "result": [{"values": [[1, "2"]]}]}}',
            ["a.json", "a matrix", "metric"],
        ),
        ("a.json", "[]", ["a.json", "no rows"]),
        ("a.json", "7", ["a.json", "found int"]),
        ("a.doc", "x", ["a.doc", "unknown kind of file", ".parquet"]),
        ("a.xlsx", "x", ["a.xlsx", "not a sound sheet", "CSV"]),
        ("a.csv", "", ["a.csv", "the file is empty"]),
        ("a.csv", "a,b\n", ["a.csv", "no rows"]),
        ("a.csv", "a,b\n1,2\n1,2,3\n", ["a.csv:3", "3 cells", "names 2"]),
        ("a.csv", "a,a\n1,2\n", ["a.csv:1", "twice"]),
        ("a.csv", 'a,b\n1,2\n"1,2\n3,4\n', ["a.csv:3", "quote", "never closed"]),
        ("a.csv", b"a,b\n1,2\nM\x81 nchen,2\n", ["a.csv:3", "not cp1252", "--read encoding="]),
        ("a.jsonl", "\n\n", ["a.jsonl", "no rows"]),
        ("a.jsonl", '{"a": 1}\n{"a":\n', ["a.jsonl:2", "not JSON"]),
        ("a.jsonl", '{"a": 1}\n[1]\n', ["a.jsonl:2", "found list"]),
        ("a.parquet", "no parquet", ["a.parquet", "Parquet"]),
    ],
)
def test_refusals_name_file_line_and_cure(tmp_path: Path, name: str, content: str | bytes, words: list[str]) -> None:
    path = write(tmp_path / name, content)
    for read in (Recording, read_recording):
        with pytest.raises(RecordingError) as caught:
            list(read(path))
        assert all(word in str(caught.value) for word in words), caught.value


def test_an_unfinished_last_line_is_left_out_and_named(tmp_path: Path) -> None:
    """As of a file that is still written, or of a program that was killed: tables read on, too."""
    path = write(tmp_path / "a.jsonl", '{"a": 1}\n{"a": 2}\n{"a":')
    assert list(Recording(path)) == [{"a": 1}, {"a": 2}]
    assert Recording(path).count() == 2
    assert Recording(path).describe() == "a.jsonl:3 left out, an unfinished line at its end"
    whole = write(tmp_path / "b.jsonl", '{"a": 1}\n{"a": 2}')
    assert (Recording(whole).count(), Recording(whole).describe()) == (2, "")


def test_missing_files_folders_and_empty_parquet(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="no such file"):
        count_rows(tmp_path / "none.csv.gz")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(RecordingError, match="is a folder"):
        list(Recording(tmp_path / "folder.csv"))
    pl.DataFrame({"a": []}).write_parquet(tmp_path / "empty.parquet")
    with pytest.raises(RecordingError, match="no rows"):
        list(Recording(tmp_path / "empty.parquet"))


def test_columns_are_looked_for_in_the_rows_that_are_read(tmp_path: Path) -> None:
    """A later row may be broken, or have a column that the first ones lack: it is not read."""
    path = write(tmp_path / "a.jsonl", '{"e": 1, "t": 2, "y": 3}\n{"e": 1, "t": 2, "y": 3, "x": 4}\nbroken\n')
    text = "source: {{brokers: a, topic: t}}\nevent: {{entity: e, timestamp: t, target: y, features: [{}], lags: 1}}\n"
    without, needing = parse_config(text.format("")), parse_config(text.format("x"))
    Recording(path, 1).check_columns(without)
    Recording(path, 2).check_columns(needing)
    with pytest.raises(ConfigError, match="x"):
        Recording(path, 1).check_columns(needing)
    with pytest.raises(RecordingError, match="not JSON"):
        Recording(path).check_columns(without)


@pytest.mark.parametrize("name", ["a.csv.gz", "a.jsonl.gz"])
def test_broken_archives(tmp_path: Path, name: str) -> None:
    whole = gzip.compress(b'{"a": 1}\n' * 50_000 if "jsonl" in name else b"a,b\n" + b"1,2\n" * 50_000)
    path = tmp_path / name
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RecordingError, match="ends too early"):
        list(Recording(path))
    path.write_bytes(b"a,b\n1,2\n")
    with pytest.raises(RecordingError, match="not a sound gzip file"):
        list(Recording(path))
    path.write_bytes(whole[:20] + b"\x00" * 10 + whole[30:])
    with pytest.raises(RecordingError, match="gzip"):
        list(Recording(path))


def test_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "a\n1\n")
    assert list(Recording(path)) == [{"a": 1}]
    write(path, "a\nx\ny\n")
    assert list(Recording(path)) == [{"a": "x"}, {"a": "y"}]


cells = st.text(st.sampled_from(string.ascii_letters + string.digits + ' ,;"\n.-é'), max_size=8)


def readings(cell: str) -> Iterator[float]:
    """The numbers that a cell may be: with a point or a comma, thousands apart or not, with a unit or without."""
    found = WITH_UNIT.fullmatch(cell)
    for text in [cell] if found is None else [cell, found["number"]]:
        for thousands, point in (("_", "."), (",", "."), (".", ","), (" ", "."), (" ", ",")):
            with contextlib.suppress(ValueError):
                yield float(text.replace(thousands, "").replace(point, "."))


@given(st.lists(st.tuples(cells, cells, st.integers()), min_size=1, max_size=30))
@example([("0", "", 0), ("NONE", "", 0)])
@example([("", "0 A", 0)])
@example([("", ";0;", 0)])
def test_every_row_of_any_csv_is_accounted_for(tmp_path_factory: pytest.TempPathFactory, table: list[tuple]) -> None:
    path = tmp_path_factory.mktemp("any") / "any.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
        writer.writerow(["first", "second", "third"])
        writer.writerows(table)
    try:
        found = list(Recording(path))
    except RecordingError as refused:
        if "correct it" not in str(refused):  # numbers with a point beside others with a comma
            raise
        return
    assert len(found) == count_rows(path) == len(table)
    for row, (first, second, third) in zip(found, table, strict=True):
        assert float(row["third"]) == pytest.approx(third)
        for value, cell in ((row["first"], first), (row["second"], second)):
            nothing = value is None and cell.strip().lower() in {"", *MISSING}
            assert nothing or value == cell or pytest.approx(float(value)) in [*readings(cell)]


def test_the_bundled_recording() -> None:
    data = files("ssm_stream.data")
    path = Path(str(data / "parking_birmingham.csv.gz"))
    found = list(Recording(path))
    assert len(found) == count_rows(path) == 19_932
    assert list(found[0]) == ["entity", "ts", "capacity", "hour", "dow", "target"]
    assert len({row["entity"] for row in found}) == 16
    order = [(row["ts"], row["entity"]) for row in found]
    assert order == sorted(order)
    note = (data / "LICENCE-parking.txt").read_text(encoding="utf-8")
    assert all(
        word in note for word in ("Open Government Licence", "Creative Commons Attribution 4.0", "19,932", "BHM")
    )
