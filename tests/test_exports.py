"""Exports as people make them: `init` and `backtest` take them without an option, and read what they hold."""

from __future__ import annotations

import gzip
import importlib.util
import json
import math
import re
import shlex
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from brokers import MockKafka
from typer.testing import CliRunner

from ssm_stream.cli.app import app
from ssm_stream.config import Event, load_config
from ssm_stream.evaluate.recordings import Recording, RecordingError, count_rows, parse_options, read_recording
from ssm_stream.ingest.events import EventReader
from ssm_stream.ingest.rows.stage import read_rows
from ssm_stream.ingest.timestamps import parse_iso_time

FOLDER = Path(__file__).parent / "exports"
REFUSED = "no_times.csv"
"""The one of the twenty for which an option is needed."""


def _made() -> Any:
    spec = importlib.util.spec_from_file_location("exports_make", FOLDER / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["exports_make"] = module
    spec.loader.exec_module(module)
    return module


MAKE = _made()
EXPORTS = {export.name: export for export in MAKE.EXPORTS}


def ssm_stream(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_there_are_twenty_and_they_are_what_the_script_makes() -> None:
    assert len(EXPORTS) == 20
    for export in EXPORTS.values():
        for name, data in export.make().items():
            if name.endswith((".xlsx", ".gz", ".zst")):  # how they are packed depends on the version of the library
                assert (FOLDER / name).stat().st_size < 100_000
            else:
                assert (FOLDER / name).read_bytes() == data, f"{name}: run tests/exports/make.py"


@pytest.mark.parametrize("name", [name for name in EXPORTS if name != REFUSED])
def test_init_and_backtest_take_it_without_an_option(name: str, tmp_path: Path) -> None:
    export, out = EXPORTS[name], tmp_path / "monitor.yaml"
    made = ssm_stream("init", FOLDER / name, "--out", out)
    assert made.exit_code == 0, made.stderr
    result = ssm_stream("backtest", out, FOLDER / name, "--json")
    assert result.exit_code == 0, result.stderr
    assert ssm_stream("validate", out, FOLDER / name).exit_code == 0
    found, rows = json.loads(result.stdout), export.rows()
    assert (found["events"], found["entities"]) == (len(rows), len({entity for entity, _, _ in rows}))
    assert sum(found["refused"].values()) == (1 if name == "sql_result.txt" else 0)
    event = load_config(out).event
    assert event.timestamp == export.timestamp
    assert event.entity == export.entity or (export.entity is None and event.entity_default)
    assert found["coverage"] > 0.8


@pytest.mark.parametrize("name", [name for name in EXPORTS if name not in (REFUSED, "readings.csv")])
def test_it_is_read_as_what_it_holds(name: str, tmp_path: Path) -> None:
    """Entities, times and values are those from which the export was made."""
    export, out = EXPORTS[name], tmp_path / "monitor.yaml"
    assert ssm_stream("init", FOLDER / name, "--out", out).exit_code == 0
    config = load_config(out)
    recording = Recording(FOLDER / name).of_event(config.event)
    rows = [row for row in recording if row.get(config.event.entity) is not None or export.entity is None]
    expected = export.rows()
    if name == "machines":
        expected = sorted(expected, key=lambda each: each[0])
    events, refused = EventReader(config.event).read(rows)
    assert not refused
    assert len(rows) == len(expected)
    times = [int(time.replace(tzinfo=UTC).timestamp() * 1000) for _, time, _ in expected]
    assert events.ts.tolist() == times
    for row, (entity, _, values) in zip(rows, expected, strict=True):
        if entity is not None:
            assert row[export.entity] == entity
        for path, value in values.items():
            flag = config.event.quality.columns.get(path) if config.event.quality else None
            if path in row and row[path] is not None and (flag is None or row[flag] in ("Good", 192)):
                assert row[path] == pytest.approx(value, abs=1e-9)


def test_readings_become_rows(tmp_path: Path) -> None:
    """A row at the signal that comes last of those that come together, with the others of the same minute."""
    out = tmp_path / "monitor.yaml"
    assert ssm_stream("init", FOLDER / "readings.csv", "--out", out).exit_code == 0
    event = load_config(out).event
    assert event.tag is not None
    assert (event.layout, event.tag.pattern, event.value) == ("readings", "{entity}.{signal}", "Value")
    assert event.targets == ["TEMP", "FLOW", "LOAD", "PRESSURE"]
    events, refused = read_rows(event, list(Recording(FOLDER / "readings.csv")))
    assert not refused
    expected = EXPORTS["readings.csv"].rows()
    assert events.entity == [entity for entity, _, _ in expected]
    for i, (found, (_, _, values)) in enumerate(zip(events.target.tolist(), expected, strict=True)):
        row = [values[path] for path in event.targets]
        if i % 30 == 29:
            assert math.isnan(found[1]), "its quality is bad"
            row[1] = found[1]
        assert found == pytest.approx(row, nan_ok=True)


def test_what_cannot_be_known_is_refused_with_the_cure_that_works(tmp_path: Path) -> None:
    file, out = FOLDER / REFUSED, tmp_path / "monitor.yaml"
    told = ssm_stream("init", file, "--out", out)
    assert told.exit_code == 2
    cure = re.search(r"--every \S+?(?=[.,;]? )", told.stderr)
    assert cure is not None, told.stderr
    made = ssm_stream("init", file, "--out", out, *shlex.split(cure[0]))
    assert made.exit_code == 0, made.stderr
    following = next(line for line in made.stderr.splitlines() if "ssm-stream backtest" in line)
    result = ssm_stream(*shlex.split(following)[1:], "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["events"] == 600
    missing = ssm_stream("backtest", out, file)
    assert missing.exit_code == 2
    assert "--every" in missing.stderr


def test_rows_are_not_counted_in_place_of_times(tmp_path: Path) -> None:
    """Whatever `init` takes with `--every`, the command that it prints takes, too."""
    out = tmp_path / "monitor.yaml"
    for kind in ("csv", "jsonl"):
        file = tmp_path / f"line.{kind}"
        rows = [
            {"time": f"2026-02-03T{i // 60:02d}:{i % 60:02d}:00Z", "load": i % 7, "temp": i % 11} for i in range(99)
        ]
        pl.DataFrame(rows).write_csv(file) if kind == "csv" else pl.DataFrame(rows).write_ndjson(file)
        told = ssm_stream("init", file, "--out", out, "--every", "5m")
        assert (told.exit_code, out.exists()) == (2, False)
        assert "--every: the file has times of its own, `time`; leave the option out" in told.stderr
    without = tmp_path / "without.csv"
    pl.DataFrame(rows).with_columns(pl.col("time").str.head(10).alias("installed")).drop("time").write_csv(without)
    for file, cure in ((tmp_path / "line.csv", ["--timestamp", "time_"]), (without, [])):
        made = ssm_stream("init", file, "--out", out, "--force", "--every", "5m", *cure)
        assert made.exit_code == 0, made.stderr
        following = next(line for line in made.stderr.splitlines() if "ssm-stream backtest" in line)
        assert ssm_stream(*shlex.split(following)[1:]).exit_code == 0


def test_replay_sends_plain_rows(mock_kafka: MockKafka, tmp_path: Path) -> None:
    mock_kafka.create_topic("excel_de", 1)
    out = tmp_path / "monitor.yaml"
    made = ssm_stream("init", FOLDER / "excel_de.csv", "--out", out, "--brokers", mock_kafka.bootstrap_servers)
    assert made.exit_code == 0, made.stderr
    sent = ssm_stream("replay", out, FOLDER / "excel_de.csv", "--limit", 10)
    assert sent.exit_code == 0, sent.stderr
    assert "decimal comma" in sent.stderr
    first = min(mock_kafka.read("excel_de", 10), key=lambda message: message.offset() or 0)
    assert json.loads(first.value() or b"") == {
        "Zeit": "2026-02-03T06:16:00", "Pumpe": "PUMP-1", "Last": 68.5, "Durchfluß": 827.7, "Druck": 1448.3,
        "Temp": 54.02,
    }  # fmt: skip
    assert first.key() == b"PUMP-1"


# Single rules.


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def table(header: str, rows: list[str]) -> str:
    return "\n".join([header, *rows, ""])


def test_which_number_is_the_day_is_decided_by_all_dates_or_asked_for(tmp_path: Path) -> None:
    one_day = table("time,y", [f"02/03/2026 {hour:02d}:00,{hour}" for hour in range(24)])
    file = write(tmp_path / "one.csv", one_day)
    with pytest.raises(RecordingError, match=r"one.csv:2: `time` holds '02/03/2026 00:00'.*--read dates=day-first or"):
        list(Recording(file))
    for order, time in (("day-first", "2026-03-02T00:00:00"), ("month-first", "2026-02-03T00:00:00")):
        assert next(iter(Recording(file, options=parse_options([f"dates={order}"]))))["time"] == time
    late = [f"0{1 + i // 500}/02/2026 {i % 24:02d}:00,1" for i in range(1000)] + ["13/02/2026 00:00,1"]
    file = write(tmp_path / "late.csv", table("time,y", late))
    assert next(iter(Recording(file)))["time"] == "2026-02-01T00:00:00", "the last row shows it"


@pytest.mark.parametrize(
    ("dates", "separators", "order"),
    [
        (("26{0}02{0}27", "26{0}02{0}28", "26{0}03{0}01"), "/-.", "year-first"),
        (("09{0}02{0}03", "09{0}02{0}04", "09{0}02{0}05"), "/-.", "year-first"),
        (("26{0}03{0}01", "26{0}02{0}28", "26{0}02{0}27"), "/", "year-first"),
        (("99{0}02{0}03",), "/-.", "year-first"),
        (("03{0}02{0}26", "04{0}02{0}26", "05{0}02{0}26"), "/-.", "day-first"),
        (("02{0}27{0}26", "02{0}28{0}26", "03{0}01{0}26"), "/-", "month-first"),
        (("28{0}02{0}26",), ".", "day-first"),
        (("28{0}02{0}2026", "28{0}02{0}2027"), "/-.", "day-first"),
        (("26{0}02{0}03",), "/-", None),
        (("28{0}02{0}26",), "/-", None),
        (("26{0}01{0}01", "26{0}02{0}01", "26{0}03{0}01"), "/-", None),
    ],
)
def test_a_year_of_two_digits_may_come_first(
    tmp_path: Path, dates: tuple[str, ...], separators: str, order: str | None
) -> None:
    """Read wrongly, days that follow each other jump by years; where nothing shows it, the file is refused."""
    for separator in separators:
        rows = [f"{date.format(separator)} {hour:02d}:00,{hour}" for date in dates for hour in range(24)]
        file = write(tmp_path / "a.csv", table("time,y", rows))
        if order is None:
            with pytest.raises(RecordingError, match=r"which number is the day: give .* --read dates=year-first"):
                list(Recording(file))
            assert next(iter(Recording(file, options=parse_options(["dates=year-first"]))))["time"].startswith("202")
        else:
            assert order in Recording(file).describe()


def test_a_date_that_does_not_fit_is_refused_with_its_line(tmp_path: Path) -> None:
    rows = [f"{13 + i % 10}.02.2026 06:00;1" for i in range(2000)]
    rows[1500] = "02.13.2026 06:00;1"
    file = write(tmp_path / "a.csv", table("time;y", rows))
    with pytest.raises(RecordingError, match=r"a.csv:1502: `time` holds '02.13.2026 06:00'.* no date.*; correct it$"):
        count_rows(file)


def test_a_number_in_another_notation_is_refused_with_its_line(tmp_path: Path) -> None:
    rows = [f"{i},{i}.5" for i in range(3000)]
    rows[2500] = '2500,"2500,25"'
    file = write(tmp_path / "a.csv", table("time,y", rows))
    with pytest.raises(RecordingError, match=r"a.csv:2502: `y` holds '2500,25', while .* decimal point.*; correct it$"):
        list(Recording(file))
    rows = [f"{i};{i},5" for i in range(3000)]
    rows[2500] = "2500;2500.25"
    with pytest.raises(RecordingError, match=r"a.csv:2502: `y` holds '2500.25', while .* decimal comma"):
        list(Recording(write(file, table("time;y", rows))))
    rows = [f'{i},{37.5 + i},"+17{i},1","9{i},1"' for i in range(9)]
    with pytest.raises(
        RecordingError, match=r"a.csv:2: `y` holds '37.5'.* decimal comma \(`z`: '\+170,1'\); correct it$"
    ):
        list(Recording(write(file, table("time,y,z,x", rows))))


def test_a_cure_is_named_where_the_file_can_be_read_with_it(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", table("time;y;z", [f"{i};{i},5;1.500" for i in range(9)]))
    with pytest.raises(RecordingError, match=r"`y` holds '0,5', while .*, or leave the option out$"):
        list(Recording(file, options=parse_options(["decimal=point"])))
    assert next(iter(Recording(file))) == {"time": 0, "y": 0.5, "z": 1500}
    file = write(file, table("time;y", [f"02/{i}/2026 06:00;1" for i in (3, 14, 15)]))
    with pytest.raises(
        RecordingError, match=r"'02/14/2026 06:00'.* no date.*; correct it, or give --read dates=month-fi"
    ):
        list(Recording(file, options=parse_options(["dates=day-first"])))
    with pytest.raises(RecordingError, match=r"'02/3/2026 06:00'.* no date.*--read dates=month-first$"):
        list(Recording(file, options=parse_options(["dates=year-first"])))
    file = write(file, table("time;y", [f"{day} 06:00;1" for day in ("13/02/2026", "02/14/2026", "01/02/2026")]))
    with pytest.raises(RecordingError, match=r"'02/14/2026 06:00', which is no date.*; correct it$"):
        list(Recording(file))


@pytest.mark.parametrize(
    ("names", "form", "step"),
    [
        ("Date;Time", "%d/%m/%Y;%H.%M", 900),
        ("Day;Clock", "%Y-%m-%d;%H.%M", 900),
        ("Datum;Uhrzeit", "%d.%m.%Y;%H.%M.%S", 1),
        ("pvm;klo", "%d.%m.%Y;%-H.%M", 3600),
        ("Date;T", "%d/%m/%Y;%I:%M%p", 900),
    ],
)
def test_times_of_day_with_dots_or_half_a_word_join_the_date(tmp_path: Path, names: str, form: str, step: int) -> None:
    """Their dots are no decimal points, next to numbers with a comma."""
    times = [datetime(2026, 2, 13) + timedelta(seconds=step * i) for i in range(300)]
    rows = [f"{each:{form}}".replace("AM", "a").replace("PM", "p") + f";{20 + i % 7},5" for i, each in enumerate(times)]
    found = list(Recording(write(tmp_path / "a.csv", table(f"{names};y", rows))))
    assert [datetime.fromisoformat(row[names.replace(";", " ")]) for row in found] == times
    assert found[1]["y"] == 21.5


@pytest.mark.parametrize(
    "column",
    [
        [f"{7 * i % 9}.{i % 60:02d}" for i in range(99)],
        [f"{i / 4:.2f}" for i in range(99)],
        [f"{i % 24:02d}.75" for i in range(99)],
    ],
)
def test_numbers_next_to_a_date_stay_numbers(tmp_path: Path, column: list[str]) -> None:
    rows = [f"{13 + i // 24}.02.2026;{cell}" for i, cell in enumerate(column)]
    for name in ("Time", "y"):
        found = list(Recording(write(tmp_path / "a.csv", table(f"Datum;{name}", rows))))
        assert [row[name] for row in found] == [float(cell) for cell in column]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1,234", "0,500"], [1.234, 0.5]),
        (["1,234", "987"], [1234, 987]),
        (["1,234.5", "987.25"], [1234.5, 987.25]),
        (["1.234,5", "987,25"], [1234.5, 987.25]),
        (["1.234.567,5", "1,5"], [1234567.5, 1.5]),
        (["1 234,5", "2,5"], [1234.5, 2.5]),
        (["1'234.5", "2.5"], [1234.5, 2.5]),
        (["-1,5e3", "+2,5"], [-1500.0, 2.5]),
        (["1.234", "2.500"], [1.234, 2.5]),
        (["1.140", "987", "985"], [1140, 987, 985]),
        (["1.140", "987", "0.5"], [1.14, 987, 0.5]),
        (["1.140", "1500", "987", "985"], [1.14, 1500, 987, 985]),
        (["1.140", "0"], [1.14, 0]),
        (["1.140", "2", *["2.500"] * 40], [1.14, 2, *[2.5] * 40]),
        (["+  23.4", "-   1.5", "7"], [23.4, -1.5, 7]),
        (["+  23,4", "\u2212 1,5"], [23.4, -1.5]),
        (["$0.05", "-$1.50", "$ 1,234.00"], [0.05, -1.5, 1234]),
        (["€1.234,5", "€ 2"], [1234.5, 2]),
        (["1.234.567", "1.234.568"], [1234567, 1234568]),
        (["1,234,567", "1,234,568"], [1234567, 1234568]),
    ],
)
def test_notations_of_numbers(tmp_path: Path, cells: list[str], expected: list[float]) -> None:
    file = write(tmp_path / "a.csv", table("time;y", [f"2026-01-01;{cell}" for cell in cells]))
    assert [row["y"] for row in Recording(file)] == expected
    assert next(read_recording(file))["y"].to_list() == expected


def test_blanks_after_a_sign_may_come_late_and_currencies_must_be_in_all_cells(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", table("time,y", [f"{i},{i}.5" for i in range(3000)] + ["3000,+  0.5"]))
    assert list(Recording(file))[-1]["y"] == 0.5
    file = write(tmp_path / "b.csv", table("time,y", ["1,$2", "2,3", "3,€4"]))
    assert [row["y"] for row in Recording(file)] == ["$2", "3", "€4"]
    file = write(tmp_path / "c.csv", table("time,y", ["1,$2.5", "2,n/a", "3,"]))
    assert [row["y"] for row in Recording(file)] == [2.5, None, None]
    assert "units in cells ($)" in Recording(file).describe()


@pytest.mark.parametrize("sign", [" €", "€"])
def test_a_sign_of_currency_may_follow_the_numbers(tmp_path: Path, sign: str) -> None:
    rows = [f"2026-02-{1 + i:02d};{1000 + i};{i + 0.5:.2f}{sign}".replace(".", ",") for i in range(28)]
    recording = Recording(write(tmp_path / "a.csv", table("Datum;Verbrauch;Kosten", rows)))
    assert list(recording)[4] == {"Datum": "2026-02-05", "Verbrauch": 1004, "Kosten": 4.5}
    assert "units in cells (€)" in recording.describe()


@pytest.mark.parametrize("sign", [".", ","])
@pytest.mark.parametrize("late", [False, True])
def test_thousands_are_those_of_the_whole_file(tmp_path: Path, sign: str, late: bool) -> None:
    """Whether thousands or only smaller numbers come in the first rows."""
    numbers = [700 + i for i in range(800)] if late else [1500 - i for i in range(800)]
    cells = [f"2026-01-01;{f'{number:,}'.replace(',', sign)};60" for number in numbers]
    recording = Recording(write(tmp_path / "a.csv", table("time;y;load", cells)))
    assert [row["y"] for row in recording] == numbers
    assert "has decimals" not in recording.describe()


def test_what_may_be_thousands_is_refused_or_said(tmp_path: Path) -> None:
    rows = [f"2026-01-01;{cell}" for cell in ["2", "1.140", "3.500"]]
    file = write(tmp_path / "a.csv", table("time;y", rows))
    with pytest.raises(RecordingError, match=r"a.csv:3: `y` holds '1.140'.*--read decimal=comma or --read decimal=poi"):
        list(Recording(file))
    for given, expected in (("comma", [2, 1140, 3500]), ("point", [2, 1.14, 3.5])):
        assert [row["y"] for row in Recording(file, options=parse_options([f"decimal={given}"]))] == expected
    for cell, cure in (("1.140", "comma"), ("1,140", "point")):
        said = Recording(write(file, table("time;y", [f"2026-01-01;{cell}"]))).describe()
        assert f"{cell} has decimals (if these are thousands: --read decimal={cure})" in said


def test_numbers_of_a_sheet_have_no_notation(tmp_path: Path) -> None:
    """Next to texts of numbers with a comma, and where a number happens to have three decimals."""
    xlsxwriter = pytest.importorskip("xlsxwriter")

    def rows(y: list[object], z: list[object], *given: str) -> list[tuple[object, object]]:
        file = tmp_path / f"{len(list(tmp_path.iterdir()))}.xlsx"
        with xlsxwriter.Workbook(file) as book:
            sheet = book.add_worksheet()
            for i, cells in enumerate([("t", "y", "z"), *zip(["2026-01-01"] * len(y), y, z, strict=True)]):
                for j, cell in enumerate(cells):
                    (sheet.write_string if isinstance(cell, str) else sheet.write_number)(i, j, cell)
        return [(row["y"], row["z"]) for row in Recording(file, options=parse_options(given))]

    for given in ([], ["decimal=comma"]):
        assert rows([50.625, 2.5, 7], ["0,600", "1.234,5", "8,5"], *given) == [(50.625, 0.6), (2.5, 1234.5), (7, 8.5)]
    with pytest.raises(RecordingError, match=r"`z` holds '0,600', while the other numbers have a decimal point"):
        rows([50.625, 2.5], ["0,600", "8,5"], "decimal=point")
    assert rows([1.125, 2, 3], [987, 985, 1]) == [(1.125, 987), (2, 985), (3, 1)]
    assert rows([1.125, 2.25, 3.5], ["1.140", "987", "985"]) == [(1.125, 1140), (2.25, 987), (3.5, 985)]
    with pytest.raises(RecordingError, match=r"`z` holds '0.600', while the other numbers have a decimal comma"):
        rows([50.5, 2.5], ["0.600", "8.5"], "decimal=comma")


def test_units_in_cells(tmp_path: Path) -> None:
    text = table(
        "time;load;temp;line", [f"2026-01-01;4{i},5 %;1.02{i},5 °C;{i} A" for i in range(9)] + ["2026-01-02;n/a;;x"]
    )
    rows = list(Recording(write(tmp_path / "a.csv", text)))
    assert rows[1] == {"time": "2026-01-01", "load": 41.5, "temp": 1021.5, "line": "1 A"}
    assert (rows[9]["load"], rows[9]["temp"]) == (None, None)


@pytest.mark.parametrize("share", [2, 20])
def test_a_cell_of_blanks_is_empty(tmp_path: Path, share: int) -> None:
    """Whether few or most are: the column has numbers, and no row is refused for them."""
    cells = ["      " if i % 20 < share else f"  {i % 7}.5" for i in range(60)] + ['"  "', "\t", "\u00a0", "  4.5"]
    file = write(tmp_path / "a.csv", table("time,  T, y", [f"2026-01-01,{cell}, 7" for cell in cells]))
    recording = Recording(file)
    assert [row["T"] for row in recording] == [float(cell) if "5" in cell else None for cell in cells]
    assert recording.describe() == ""


def test_blanks_between_cells(tmp_path: Path) -> None:
    lines = [f"  03.02.2026 06:{i:02d}:00   {i},5   7" for i in range(60)]
    file = write(tmp_path / "a.txt", table("  date       time      load  temp", lines))
    rows = list(Recording(file))
    assert rows[7] == {"date time": "2026-02-03T06:07:00", "load": 7.5, "temp": 7}
    assert len(rows) == count_rows(file) == 60
    one = write(tmp_path / "b.csv", table("a name", ["x y", "z w"]))
    assert list(Recording(one)) == [{"a name": "x y"}, {"a name": "z w"}]


def test_a_preamble_as_wide_as_the_table_is_not_the_header(tmp_path: Path) -> None:
    rows = [f"03.02.2026 06:{i:02d};{i},5;7" for i in range(60)]
    for above in (["Standort;Werk A;Nord"], ["Anlage;Linie;A", "Gerät;Logger;B", "Stand;03.02.2026;x"]):
        for below in ([], [";°C;%"]):
            text = table("\n".join([*above, "Zeit;Temp;Last"]), [*below, *rows])
            found = list(Recording(write(tmp_path / "a.csv", text)))
            assert found[0] == {"Zeit": "2026-02-03T06:00:00", "Temp": 0.5, "Last": 7}
            assert len(found) == 60
    for names, below in (
        ("TIMESTAMP;T1;T2", "TS;Deg C;Avg"),
        ("Zeit;T1;T2", "Datum;Vorlauf;Ventil"),
        ("A;B;C", "x;y;z"),
    ):
        file = write(tmp_path / "b.csv", table(names, [below, *rows]))
        assert list(next(iter(Recording(file)))) == names.split(";")


READINGS = [f"2026-02-03 06:{i:02d};{20 + i % 7}.5;{i % 11}" for i in range(60)]


@pytest.mark.parametrize(
    ("above", "names", "told"),
    [
        # Wider than the rows: a line about the file, with its values below.
        (["Zähler;Art;Beginn;Datum bis;Einheit", "0912;Lastgang;2026-02-03;2026-02-04;W"], "Zeit;Temp;Last", "line 3"),
        # Names that repeat, above those that do not.
        ([";SN: 21;SN: 21", ";SB 4000;SB 4000", ";2100070;2100070"], "Zeit;Temp;Last", "line 4"),
        (["***Head***", "Unit;Time;Time", "X0;0;0", "***End***;;"], "Zeit;Temp;Last", "line 5"),
        # A comment, with a sign of comments or nothing below, or units.
        (["# Station A; B", "#"], "# Zeit;Temp;Last\n#", "line 3"),
        (["# Station A; B"], "# Zeit;Temp;Last\n", "line 2"),
        ([], "#Zeit;Temp;Last\n#min;C;C", ""),
    ],
)
def test_the_names_are_those_above_the_rows(tmp_path: Path, above: list[str], names: str, told: str) -> None:
    recording = Recording(write(tmp_path / "a.csv", table("\n".join([*above, names]), READINGS)))
    rows = list(recording)
    assert [name.strip("#") for name in rows[0]] == ["Zeit", "Temp", "Last"]
    assert len(rows) == 60
    assert told in recording.describe()


def test_a_wide_header_above_short_rows_stays_the_header(tmp_path: Path) -> None:
    rows = [f"2026-02-03 06:{i:02d};{i}.5" + (";x;y;z" if i == 9 else ";a" if i % 20 == 3 else "") for i in range(60)]
    rows[30] = "off;on"
    found = list(Recording(write(tmp_path / "a.csv", table("Zeit;Temp;State;From;To", rows))))
    assert (len(found), list(found[0])) == (60, ["Zeit", "Temp", "State", "From", "To"])


@pytest.mark.parametrize(
    ("header", "names"),
    [
        (";Oil;Oil\nZeit;in;out", ["Zeit", "in", "out"]),
        (";Oil;\nZeit;in;in", ["Zeit", "Oil in", "in"]),
        ("Hi;Low;Low\nZeit;Out;In\nmin;°C;°C", ["Zeit", "Out", "In"]),
        ("Wind;Wind;Low\nDate;Out;Out", ["Wind Date", "Wind Out", "Low Out"]),
        ("Wind;Wind;Low\nDate;Out;Out\nmin;°C;°C", ["Wind Date", "Wind Out", "Low Out"]),
        (";Oil;Oil\nZeit;in;in", None),
        ("Zeit;in;in", None),
    ],
)
def test_names_that_repeat_take_those_above_them(tmp_path: Path, header: str, names: list[str] | None) -> None:
    file = write(tmp_path / "a.csv", table(header, READINGS))
    if names is not None:
        assert list(next(iter(Recording(file, options=parse_options(["tags=none"]))))) == names
        assert ("and the one above it" in Recording(file).describe()) == any(" " in name for name in names)
        return
    line = header.count("\n") + 1
    with pytest.raises(RecordingError, match=rf"a.csv:{line}: the columns \['in'\] stand twice.*--read header=none"):
        list(Recording(file))
    rows = list(Recording(file, options=parse_options(["header=none"])))
    assert rows[-1] == {"column_1": "2026-02-03 06:59", "column_2": 23.5, "column_3": 4}


def test_merged_cells_above_the_names_are_part_of_them(tmp_path: Path) -> None:
    rows = [f"{row};{i}.5;7" for i, row in enumerate(READINGS)]
    file = write(tmp_path / "a.csv", table(";P1;;P2;\nZeit;in;out;in;out", rows))
    found = list(Recording(file, options=parse_options(["tags=none"])))
    assert list(found[0]) == ["Zeit", "P1 in", "P1 out", "P2 in", "P2 out"]


@pytest.mark.parametrize(
    ("header", "names"),
    [
        ("Zeit;P1;;P2;\n;in;out;in;out\n;°C;A;°C;A", ["Zeit", "P1 in", "P1 out", "P2 in", "P2 out"]),
        ("Zeit;P1;;P2;\n;in;out;in;out", ["Zeit", "P1 in", "P1 out", "P2 in", "P2 out"]),
        ("Zeit;P1;;P2;\n;°C;;°C;A", ["Zeit", "P1", "column_3", "P2", "column_5"]),
        ("Zeit;P1;P2;P3;P4\n;in;out;in;out", ["Zeit", "P1", "P2", "P3", "P4"]),
    ],
)
def test_names_below_merged_cells_are_part_of_them(tmp_path: Path, header: str, names: list[str]) -> None:
    rows = [f"{row};{i}.5;7" for i, row in enumerate(READINGS)]
    recording = Recording(write(tmp_path / "a.csv", table(header, rows)), options=parse_options(["tags=none"]))
    found = list(recording)
    assert (list(found[0]), len(found)) == (names, 60)
    assert ("header in line 2 and the one above it" in recording.describe()) == ("P1 in" in names)


def test_the_mark_of_utf8_before_text_in_another_encoding_is_no_name(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(b"\xef\xbb\xbf" + table("Zeit;Öl;Last", READINGS).encode("cp1252"))
    assert list(next(iter(Recording(file)))) == ["Zeit", "Öl", "Last"]


def test_an_empty_file_and_one_of_names_alone_are_named_as_that(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"a\.csv: the file is empty"):
        list(Recording(write(tmp_path / "a.csv", "")))
    with pytest.raises(RecordingError, match=r"b\.csv: no rows below the names"):
        list(Recording(write(tmp_path / "b.csv", "a,b\n")))


def test_numbers_in_several_units_are_named(tmp_path: Path) -> None:
    rows = [
        f"2026-02-03 06:{i:02d},{900 + i} ms,{i}.5 %" if i % 9 else f"2026-02-03 06:{i:02d},1.02 s,7.5 %"
        for i in range(60)
    ]
    recording = Recording(write(tmp_path / "a.csv", table("Time,p99,busy", rows)))
    assert list(recording)[1] == {"Time": "2026-02-03 06:01", "p99": "901 ms", "busy": 1.5}
    assert "`p99` is text, as its numbers have several units (s, ms): export it in one" in recording.describe()
    assert recording.describe().count("is text") == 1


def test_names_that_come_again_are_no_rows(tmp_path: Path) -> None:
    names = "Zeit;Pumpe;Temp"
    rows = [f"2026-02-03 06:{i:02d};P-1;{20 + i % 7}.5" for i in range(60)]
    lines = [*rows[:20], names, *rows[20:40], "\ufeff" + names, *rows[40:]]
    recording = Recording(write(tmp_path / "a.csv", table(names, lines)))
    found = list(recording)
    assert (len(found), {row["Pumpe"] for row in found}, recording.count()) == (60, {"P-1"}, 60)
    assert "left out further down: 2 lines with the names again" in recording.describe()


def test_tables_of_influxdb_in_one_file_are_one(tmp_path: Path) -> None:
    above = ["#group,false,false,true,false", "#datatype,string,long,dateTime:RFC3339,double", "#default,_result,,,"]
    lines: list[str] = []
    for k in range(2):
        lines += [*above, ",result,table,_time,_value"]
        lines += [f",,{k},2026-02-03T06:{i:02d}:00Z,{20 + i % 7}.5" for i in range(60)] + [""]
    recording = Recording(write(tmp_path / "a.csv", "\n".join(lines)))
    found = list(recording)
    assert (len(found), [row["table"] for row in found[59:61]]) == (120, [0, 1])
    assert "4 lines with the names again" in recording.describe()


@pytest.mark.parametrize("header", ["# Station A\n# {}\n# units unknown", "Titel\nWerk\n{}"])
def test_a_header_that_is_not_found_is_named(tmp_path: Path, header: str) -> None:
    names = "Zeit;Temp;Last" if header.startswith("#") else "Zeit;1;2"
    file = write(tmp_path / "a.csv", table(header.format(names), READINGS))
    with pytest.raises(RecordingError, match=r"no header: the rows below have 3 cells.*give --read header=") as caught:
        list(Recording(file))
    cure = re.search("header=[0-9]+", str(caught.value))
    assert cure is not None
    assert list(next(iter(Recording(file, options=parse_options([cure[0]]))))) == names.split(";")


@pytest.mark.parametrize("sign", [";", " ", "\t"])
def test_numbers_without_a_header_are_refused_with_the_cure_that_works(tmp_path: Path, sign: str) -> None:
    rows = [sign.join([f"{i / 2}", f"{20 + i % 7}.25", "1"]) for i in range(60)]
    file, out = write(tmp_path / "a.txt", "\n".join([*rows, ""])), tmp_path / "monitor.yaml"
    refused = ssm_stream("init", file, "--out", out)
    assert refused.exit_code == 1
    assert "a.txt:1: no header: the line holds values (0.0, 20.25, 1, …)" in refused.stderr
    assert "--read header=none" in refused.stderr
    made = ssm_stream("init", file, "--out", out, "--read", "header=none", "--every", "1s")
    assert made.exit_code == 0, made.stderr
    assert "sampled 60 rows" in made.stderr
    for names in ("0{}1{}2", "400{}450{}500"):
        named = write(tmp_path / "b.csv", table(names.replace("{}", ";"), [row.replace(sign, ";") for row in rows]))
        assert list(next(iter(Recording(named)))) == names.split("{}"), "whole numbers that grow are names"


def test_a_notation_that_appears_late_is_still_found(tmp_path: Path) -> None:
    rows = [f"{i};{i}" for i in range(2000)] + ["2000;0,5"]
    assert list(Recording(write(tmp_path / "a.csv", table("time;y", rows))))[-1]["y"] == 0.5


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("03.02.2026 06:16", "2026-02-03T06:16:00"),
        ("3.2.26 6:16:07,5", "2026-02-03T06:16:07.5"),
        ("2026/02/03 06:16:07", "2026-02-03T06:16:07"),
        ("2026-02-03 6:16", "2026-02-03T06:16:00"),
        ("02/28/2026 12:05 AM", "2026-02-28T00:05:00"),
        ("2/28/2026 12:05:01 p.m.", "2026-02-28T12:05:01"),
        ("03-Feb-26 06:16:00", "2026-02-03T06:16:00"),
        ("3. März 2026 06:16", "2026-03-03T06:16:00"),
        ("Feb 3, 2026 6:16 PM", "2026-02-03T18:16:00"),
        ("20260203061607", "2026-02-03T06:16:07"),
        ("2026年2月3日 6時16分", "2026-02-03T06:16:00"),
        ("13/02/2026 06:16:07 +0100", "2026-02-13T06:16:07+01:00"),
        ("03.02.2026", "2026-02-03"),
        ("Di, 03.02.2026 06:16:07", "2026-02-03T06:16:07"),
        ("2026-02-03 06:16:07 CET", "2026-02-03T06:16:07+01:00"),
        ("03-Feb-26 6:16:00 PM CST", "2026-02-03T18:16:00-06:00"),
        ("02/28/2026 12:05p MDT", "2026-02-28T12:05:00-06:00"),
        ("28.02.26 1:05a", "2026-02-28T01:05:00"),
        ("28.02.2026 24:00", "2026-03-01T00:00:00"),
        ("31/12/2026 24:00:00,0 +0100", "2027-01-01T00:00:00.0+01:00"),
        ("202602282400", "2026-03-01T00:00:00"),
        ("2026-02-28 24:00 CET", "2026-03-01T00:00:00+01:00"),
    ],
)
def test_forms_of_times(tmp_path: Path, cell: str, expected: str) -> None:
    file = write(tmp_path / "a.csv", table("time|y", [f"{cell}|1", f"{cell}|2"]))
    assert [row["time"] for row in Recording(file)] == [expected, expected]
    assert datetime.fromisoformat(expected)


def test_the_end_of_a_day_is_the_beginning_of_the_next(tmp_path: Path) -> None:
    """Also in ISO 8601 and in two columns; what is no time of day stays as it stands in the file."""
    days = [datetime(2026, 10, 1) + timedelta(days=i // 24, hours=1 + i % 24) for i in range(960)]
    for form, end in (("%d.%m.%Y;%H:%M", ";24:00"), ("%Y-%m-%d %H:%M", " 24:00"), ("%Y%m%d;%H%M", ";2400")):
        rows = [
            f"{each:{form}};1" if each.hour else f"{each - timedelta(days=1):{form.partition(end[0])[0]}}{end};1"
            for each in days
        ]
        names = "Tag;Zeit;y" if ";" in form else "Zeit;y"
        file = write(tmp_path / "a.csv", table(names, rows))
        name = "Tag Zeit" if ";" in form else "Zeit"
        event = Event.model_validate(
            {"entity": "-", "entity_default": "-", "timestamp": name, "target": "y", "time_zone": "Europe/Berlin"}
        )
        events, refused = EventReader(event).read(list(Recording(file).of_event(event)))
        assert not refused
        expected = [int(each.replace(tzinfo=ZoneInfo("Europe/Berlin")).timestamp() * 1000) for each in days]
        assert events.ts.tolist() == expected
    file = write(tmp_path / "b.csv", table("Zeit;y", ["03.02.2026 23:00;1"] * 99 + ["03.02.2026 24:30;1"]))
    assert list(Recording(file))[-1]["Zeit"] == "03.02.2026 24:30"


@pytest.mark.parametrize(
    ("date", "first", "name"), [("%d.%m.%Y", 1, "Hora"), ("%Y-%m-%d", 0, "Hr"), ("%Y%m%d", 1, "HH")]
)
def test_an_hour_of_the_day_belongs_to_its_date(tmp_path: Path, date: str, first: int, name: str) -> None:
    """As what it is called; and where nothing else is a time, so that no minute is lost."""
    hours = [datetime(2026, 10, 1) + timedelta(hours=first + i) for i in range(480)]
    cells = [(f"{each - timedelta(hours=first):{date}}", str(each.hour or 24 * first)) for each in hours]
    file = tmp_path / "a.csv"
    meters = [f"{meter};{day};{hour};1" for meter in "ab" for day, hour in cells]
    rows = list(Recording(write(file, table(f"meter;date;{name};y", meters))))
    assert [parse_iso_time(row[f"date {name}"]).replace(tzinfo=None) for row in rows] == hours * 2
    for other, values in ((name, "0"), ("Minute", "0"), ("Minute", "30"), ("read at", "2026-10-01T00:00:00Z")):
        names = f"date;{'kWh' if other == name else name};{other};y"
        lines = [f"{day};{hour};{values};1" for day, hour in cells]
        assert f"date {name}" not in next(iter(Recording(write(file, table(names, lines)))))


MINUTES = [datetime(2026, 2, 3, 0, 0) + timedelta(minutes=5 * i) for i in range(400)]


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
@pytest.mark.parametrize(
    ("forms", "named"),
    [
        ({"Date": "%Y%m%d", "Time": "%H%M%S"}, "Date Time"),
        ({"Date": "%Y%m%d", "Time": "%H%M"}, "Date Time"),
        ({"Stamp": "%Y%m%d%H%M%S"}, "Stamp"),
        ({"Stamp": "%Y%m%d%H%M"}, "Stamp"),
    ],
)
@pytest.mark.parametrize("padded", [False, True])
def test_times_as_whole_numbers(tmp_path: Path, suffix: str, forms: dict[str, str], named: str, padded: bool) -> None:
    """A configuration reads them as what they are, and no number since 1970 is mistaken for one."""
    texts = {name: [each.strftime(form) for each in MINUTES] for name, form in forms.items()}
    columns = texts if padded else {name: [int(text) for text in column] for name, column in texts.items()}
    file = written(tmp_path / f"a.{suffix}", {**columns, "y": [20 + math.sin(i / 9) for i in range(400)]})
    out = tmp_path / "monitor.yaml"
    made = ssm_stream("init", file, "--out", out)
    assert made.exit_code == 0, made.stderr
    event = load_config(out).event
    assert (event.timestamp, event.timestamp_format, event.entity_default) == (named, "iso", "a")
    assert ssm_stream("validate", out, file).exit_code == 0
    events, refused = EventReader(event).read(list(Recording(file).of_event(event)))
    assert not refused
    assert events.ts.tolist() == [int(each.replace(tzinfo=UTC).timestamp() * 1000) for each in MINUTES]
    found = json.loads(ssm_stream("backtest", out, file, "--json").stdout)
    assert (found["events"], found["refused"]) == (400, {})


def written(path: Path, columns: dict[str, list[Any]]) -> Path:
    frame = pl.DataFrame(columns)
    {".csv": frame.write_csv, ".parquet": frame.write_parquet, ".jsonl": frame.write_ndjson}[path.suffix](path)
    return path


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_dates_with_the_hour_alone_are_no_seconds(tmp_path: Path, suffix: str) -> None:
    """Of the years 2033 to 2036; next to a time such numbers may be those of batches, and stay."""
    hours = [datetime(2026, 1, 31) + timedelta(hours=i) for i in range(60)]
    for end in ("00", "24"):
        numbers = [int(f"{hour - timedelta(days=end == '24' and not hour.hour):%Y%m%d%H}") for hour in hours]
        numbers = [number + 24 * (end == "24" and number % 100 == 0) for number in numbers]
        file = written(tmp_path / f"a{end}.{suffix}", {"at": numbers, "y": list(range(60))})
        assert [row["at"] for row in Recording(file)] == [hour.isoformat() for hour in hours]
    columns = {"ts": [1_770_076_800 + 300 * i for i in range(60)], "batch": [2026020301 + i // 20 for i in range(60)]}
    assert next(iter(Recording(written(tmp_path / f"b.{suffix}", columns)))) == {
        "ts": 1_770_076_800,
        "batch": 2026020301,
    }
    seconds = {"ts": [2_026_020_320 + i for i in range(60)]}
    assert next(iter(Recording(written(tmp_path / f"c.{suffix}", seconds)))) == {"ts": 2_026_020_320}


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_numbers_that_are_no_dates_stay_as_they_are(tmp_path: Path, suffix: str) -> None:
    days = [20260203 + i // 200 for i in range(400)]
    rows = range(400)
    for columns in (
        {"ts": [1_770_076_800 * unit + 300 * unit * i for i in rows], "batch": [20260203 + i // 99 for i in rows]}
        for unit in (1, 10**3, 10**6, 10**9)
    ):
        expected = dict(zip(columns, next(zip(*columns.values(), strict=True)), strict=True))
        assert next(iter(Recording(written(tmp_path / f"a.{suffix}", columns)))) == expected
    for column in (
        [1000 + i * 7 % 50 for i in rows],  # goes up and down
        [1000 + 100 * (i // 40) for i in rows],  # some levels
        [i % 60 for i in rows],
        [1000 + i for i in rows],  # no minutes from 60 on
    ):
        file = written(tmp_path / f"b.{suffix}", {"day": days, "y": column})
        assert next(iter(Recording(file))) == {"day": 20260203, "y": column[0]}
    daily = [int((datetime(2026, 1, 1) + timedelta(days=i)).strftime("%Y%m%d")) for i in rows]
    file = written(tmp_path / f"c.{suffix}", {"day": daily, "y": list(rows)})
    assert list(Recording(file))[31] == {"day": "2026-02-01", "y": 31}


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
@pytest.mark.parametrize(
    ("step", "decimals"), [(300, 4), (60, 5), (300, 6), (10, 6), (1, 8), (300, 12), (3600, 12), (0.5, 12)]
)
def test_days_of_spreadsheets(tmp_path: Path, suffix: str, step: float, decimals: int) -> None:
    times = [datetime(2026, 2, 3) + timedelta(seconds=step * i) for i in range(300)]
    days = [round((each - datetime(1899, 12, 30)) / timedelta(days=1), decimals) for each in times]
    y = [20 + math.sin(i / 9) for i in range(300)]
    file, out = written(tmp_path / f"a.{suffix}", {"Zeit": days, "y": y}), tmp_path / "monitor.yaml"
    made = ssm_stream("init", file, "--out", out)
    assert made.exit_code == 0, made.stderr
    assert "dates as days of a spreadsheet" in made.stderr
    event = load_config(out).event
    assert (event.timestamp, event.timestamp_format) == ("Zeit", "iso")
    events, refused = EventReader(event).read(list(Recording(file).of_event(event)))
    assert not refused
    assert events.ts.tolist() == [int(each.replace(tzinfo=UTC).timestamp() * 1000) for each in times]


@pytest.mark.parametrize(
    "numbers",
    [
        [46056 + i for i in range(300)],  # days, or seconds
        [46056 + i / 4 for i in range(300)],
        [46056 + i / 80 for i in range(300)],
        [46056 + i * 0.0012345 for i in range(300)],
    ],
)
def test_what_may_be_days_or_seconds_is_refused(tmp_path: Path, numbers: list[float]) -> None:
    file = written(tmp_path / "a.csv", {"time": numbers, "y": [20 + math.sin(i / 9) for i in range(300)]})
    for chosen in ([], ["--timestamp", "time"]):
        refused = ssm_stream("init", file, "--out", tmp_path / "monitor.yaml", *chosen)
        assert refused.exit_code == 2
        assert "days as spreadsheets count them, or seconds" in refused.stderr
    file = written(file, {"time": [each - numbers[0] for each in numbers], "y": list(range(300))})
    assert ssm_stream("init", file, "--out", tmp_path / "monitor.yaml").exit_code == 0, "from 0 on they are seconds"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    file = write(tmp_path / "a.csv", table("Größe,ts", ["1.5,2026-01-01", "2.5,2026-01-02"]), encoding)
    assert list(next(iter(Recording(file)))) == ["Größe", "ts"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252"])
@pytest.mark.parametrize("packed", [False, True])
def test_lines_may_end_in_cr_alone(tmp_path: Path, encoding: str, packed: bool) -> None:
    rows = [f"2026-01-01T00:{i // 60 % 60:02d}:{i % 60:02d};ä{i}" for i in range(3000)]
    data = table("Zeit;y", rows).replace("\n", "\r").encode(encoding)
    file = tmp_path / ("a.csv.gz" if packed else "a.csv")
    file.write_bytes(gzip.compress(data) if packed else data)
    found = list(Recording(file))
    assert (len(found), found[0], found[-1]["y"]) == (3000, {"Zeit": "2026-01-01T00:00:00", "y": "ä0"}, "ä2999")


def test_an_encoding_that_shows_late_is_found(tmp_path: Path) -> None:
    text = table("name,y", [*(f"a,{i}" for i in range(60_000)), "Köln,1"])
    assert list(Recording(write(tmp_path / "a.csv", text, "cp1252")))[-1]["name"] == "Köln"
    japanese = table("name,y", [*(f"a,{i}" for i in range(60_000)), "ポンプ,1"])
    assert list(Recording(write(tmp_path / "b.csv", japanese, "cp932")))[-1]["name"] == "ポンプ"


def test_options_take_the_place_of_what_is_detected(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", "x;y\n1,5;2\n")
    options = parse_options(["delimiter=comma", "header=none"])
    assert [list(row) for row in Recording(file, options=options)] == [["column_1", "column_2"]] * 2
    wrong = (
        "delimiter=,,",
        "decimal=;",
        "dates=iso",
        "encoding=none",
        "header=x",
        "tags=a",
        "sheet=",
        "delimter=;",
        "x",
    )
    for text in (*wrong, "sheet=", "delimter=;", "x"):
        with pytest.raises(ValueError, match="--read"):
            parse_options([text])


def test_tags_are_columns_where_the_configuration_names_them(tmp_path: Path) -> None:
    rows = [f"2026-01-01T00:00:{i:02d},{i},{i + 1},{i + 2},{i + 3}" for i in range(60)]
    file = write(tmp_path / "a.csv", table("t,P-1.a,P-1.b,P-2.a,P-2.b", rows))
    assert list(next(iter(Recording(file)))) == ["t", "entity", "a", "b"]
    assert count_rows(file) == len(list(Recording(file))) == 120
    config = tmp_path / "c.yaml"
    config.write_text(
        "source: {brokers: a, topic: t}\nevent: {entity: e, entity_default: x, timestamp: t, target: P-1.a}\n"
    )
    assert len(list(Recording(file).of_event(load_config(config).event))) == 60
    assert len(list(Recording(file, options=parse_options(["tags=none"])))) == 60
    named = write(tmp_path / "b.csv", table("t,temp_in,temp_out,flow_in,flow_out", rows))
    assert list(next(iter(Recording(named)))) == ["t", "temp_in", "temp_out", "flow_in", "flow_out"]
    given = Recording(named, options=parse_options(["tags={signal}_{entity}"]))
    assert list(next(iter(given))) == ["t", "entity", "temp", "flow"]


@pytest.mark.parametrize(
    ("names", "entities"),
    [
        ("TI-101 TI-102 FI-101 FI-102 PI-101 PI-102", []),
        ("T_1 T_2 F_1 F_2", []),
        ("I_L1 I_L2 I_L3 U_L1 U_L2 U_L3", []),
        ("U.a U.b I.a I.b", []),
        ("10-TI-101 10-TI-102 10-FI-101 10-FI-102", []),
        ("TIC101.PV TIC101.SP FIC101.PV FIC101.SP", []),
        ("TI_101A TI_101B FI_101A FI_101B", []),
        ("pump1_temp pump1_flow pump2_temp pump2_flow", ["pump1", "pump2"]),
        ("pump1_t1 pump1_t2 pump2_t1 pump2_t2", ["pump1", "pump2"]),
        ("A_temp A_flow B_temp B_flow", ["A", "B"]),
        ("P101.TEMP P101.FLOW C101.TEMP C101.FLOW", ["P101", "C101"]),
        ("PLC1.40001 PLC1.40002 PLC2.40001 PLC2.40002", ["PLC1", "PLC2"]),
        ("TIC101.PV TIC101.SP TIC102.PV TIC102.SP", ["TIC101", "TIC102"]),
    ],
)
def test_instruments_are_no_machines(tmp_path: Path, names: str, entities: list[str]) -> None:
    rows = [",".join(map(str, [2000 + i, *range(i, i + names.count(" ") + 1)])) for i in range(9)]
    file = write(tmp_path / "a.csv", table(f"t,{names.replace(' ', ',')}", rows))
    found = list(Recording(file))
    assert sorted({row["entity"] for row in found if "entity" in row}) == sorted(entities)
    assert entities or list(found[0]) == ["t", *names.split()]


def test_tags_of_parquet_are_rows_too(tmp_path: Path) -> None:
    frame = pl.DataFrame({"t": range(60), "P-1.a": [1.5] * 60, "P-1.b": range(60), "P-2.a": [None, 2.5] * 30})
    frame.write_parquet(tmp_path / "a.parquet")
    recording = Recording(tmp_path / "a.parquet")
    rows = list(recording)
    assert rows[:2] == [
        {"t": 0, "entity": "P-1", "a": 1.5, "b": 0},
        {"t": 1, "entity": "P-1", "a": 1.5, "b": 1},
    ]
    assert rows[2] == {"t": 1, "entity": "P-2", "a": 2.5, "b": None}
    assert recording.count() == len(rows) == 90
    assert "a column a tag" in recording.describe()


def test_files_of_one_folder_have_one_decimal_sign(tmp_path: Path) -> None:
    write(tmp_path / "a1.csv", "t,y\n1,2.5\n")
    write(tmp_path / "a2.csv", "t;y\n2;2,5\n")
    with pytest.raises(RecordingError, match=r"a2.csv:2: `y` holds '2,5'.*must have the same decimal sign: export"):
        list(Recording(tmp_path))


def test_a_folder_of_other_tables_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a1.csv", "t,y\n1,2\n")
    write(tmp_path / "a2.csv", "t,z\n1,2\n")
    with pytest.raises(RecordingError, match=r"a2.csv: other columns than a1.csv: y, z"):
        list(Recording(tmp_path))
    with pytest.raises(RecordingError, match="folder without a recording"):
        list(Recording(tmp_path / ".." / tmp_path.name / "none" if (tmp_path / "none").mkdir() else tmp_path / "none"))


def _times(first: int, n: int, value: str = "1.5") -> str:
    """Rows of six hours from a day of January 2026 on."""
    return table("t,y", [f"2026-01-{first + i // 4:02d}T{i % 4 * 6:02d}:00:00,{value}" for i in range(n)])


@pytest.mark.parametrize(
    ("files", "machines"),
    [
        ({"a-1": _times(1, 80), "a-2": _times(6, 80)}, True),
        ({"a-1": _times(1, 40), "a-2": "t,y\n", "a-3": _times(1, 40)}, True),
        ({"a-1": _times(1, 40), "a-2": _times(11, 40)}, False),
        ({"a-1": _times(1, 41), "a-2": _times(11, 40)}, False),
        ({"a-1": _times(1, 40) + "(40 rows),\n", "a-2": _times(3, 40)}, True),
        ({f"a-{i}": _times(i, 4) for i in range(1, 10)}, False),
        ({f"a-{i}": table("t,y", [f"{1770000000 + 60 * j},{j}.5" for j in range(9)]) for i in (1, 2)}, True),
    ],
)
def test_files_of_the_same_time_are_machines(tmp_path: Path, files: dict[str, str], machines: bool) -> None:
    for name, text in files.items():
        write(tmp_path / f"{name}.csv", text)
    for size in (1, 50_000):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("ssm_stream.evaluate.recordings.exports.table.SCANNED", size)
            rows = list(Recording(tmp_path))
        named = {row["file"] for row in rows} if "file" in rows[0] else set()
        assert named == ({name for name, text in files.items() if text.count("\n") > 1} if machines else set())
