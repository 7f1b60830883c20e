"""Makes the exports of this folder: twenty files and folders as people export them, of invented data.

    python tests/exports/make.py            # writes them next to this file

The data is a plant of pumps whose load moves flow, pressure and temperature. `EXPORTS` says what each export holds as
plain rows, so that a test can compare. Everything is deterministic, so a second run changes nothing.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

HERE = Path(__file__).parent
START = datetime(2026, 2, 3, 6, 16)
Row = dict[str, Any]
Event = tuple[str | None, datetime, dict[str, float]]


class Export(NamedTuple):
    """An export and what it holds.

    make: returns the content of each of its files; entity: column with its name, None: one machine; timestamp: column
    with the time; rows: returns entity, time and values by column of each event
    """

    name: str
    make: Callable[[], dict[str, bytes]]
    entity: str | None
    timestamp: str
    rows: Callable[[], list[Event]]


def pump(seed: int, n: int, start: datetime = START, step: timedelta = timedelta(minutes=1)) -> Iterator[Row]:
    """Yield n rows of one pump: a load with a day and noise, and what follows it."""
    rng, level = random.Random(seed), 0.0
    for i in range(n):
        time = start + i * step
        level = 0.98 * level + rng.gauss(0, 0.4)
        load = 60 + 8 * math.sin(2 * math.pi * (time.hour * 60 + time.minute) / 1440) + level
        yield {
            "time": time,
            "load": round(load, 2),
            "flow": round(12 * load + rng.gauss(0, 4), 1),
            "pressure": round(900 + 8 * load + rng.gauss(0, 5), 1),
            "temp": round(20 + 0.5 * load + rng.gauss(0, 0.3), 2),
        }


def fleet(pumps: int, n: int, **settings: Any) -> Iterator[tuple[str, Row]]:
    """Yield the rows of several pumps, in the order of time."""
    for rows in zip(*(pump(seed, n, **settings) for seed in range(1, pumps + 1)), strict=True):
        for number, row in enumerate(rows, 1):
            yield f"PUMP-{number}", row


def german(value: float, digits: int = 2) -> str:
    """Return 1234.5 as 1.234,50."""
    return f"{value:,.{digits}f}".replace(",", " ").replace(".", ",").replace(" ", ".")


def table(rows: list[list[str]], delimiter: str, end: str = "\r\n") -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator=end).writerows(rows)
    return out.getvalue()


def packed(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


VALUES = ("load", "flow", "pressure", "temp")


# 1 to 6: spreadsheets.


def excel_de() -> dict[str, bytes]:
    """Semicolons, decimal comma, points in thousands, day first, cp1252, a title above and units below the names."""
    rows = [
        ["Export Kläranlage Süd, Linie 2", "", "", "", "", ""],
        ["Zeit", "Pumpe", "Last", "Durchfluß", "Druck", "Temp"],
    ]
    rows.append(["", "", "%", "m³/h", "mbar", "°C"])
    rows += [
        [r["time"].strftime("%d.%m.%Y %H:%M"), name, german(r["load"]), german(r["flow"], 1), german(r["pressure"], 1),
         german(r["temp"])]
        for name, r in fleet(3, 300)
    ]  # fmt: skip
    return {"excel_de.csv": table(rows, ";").encode("cp1252")}


def us_ampm() -> dict[str, bytes]:
    """Month first, AM and PM, commas between thousands in quotes."""
    rows = [["Timestamp", "Load", "Flow", "Pressure", "Temperature"]]
    rows += [
        [f"{t.month}/{t.day}/{t.year} {t:%I:%M:%S %p}".replace(" 0", " "), f"{r['load']:.2f}", f"{r['flow']:,.1f}",
         f"{r['pressure']:,.1f}", f"{r['temp']:.2f}"]
        for r in pump(1, 900) for t in [r["time"]]
    ]  # fmt: skip
    return {"us_ampm.csv": table(rows, ",").encode()}


def unicode_text() -> dict[str, bytes]:
    """Excel's "Unicode text": UTF-16, tabs, decimal comma."""
    rows = [["Datum", "Pumpe", "Last", "Durchfluss", "Druck", "Temperatur °C"]]
    rows += [
        [r["time"].strftime("%d.%m.%Y %H:%M:%S"), name, *(str(r[key]).replace(".", ",") for key in VALUES)]
        for name, r in fleet(2, 300)
    ]
    return {"unicode_text.txt": table(rows, "\t").encode("utf-16")}


def shift_jis() -> dict[str, bytes]:
    """Shift_JIS, times as 2026/02/03 6:16, marks for missing values."""
    rows = [["日時", "設備", "負荷", "流量", "圧力", "温度"]]
    rows += [
        [f"{t.year}/{t.month:02d}/{t.day:02d} {t.hour}:{t.minute:02d}", name.replace("PUMP-", "ポンプ"), str(r["load"]),
         "-" if i % 50 == 49 else str(r["flow"]), str(r["pressure"]), str(r["temp"])]
        for i, (name, r) in enumerate(fleet(2, 300)) for t in [r["time"]]
    ]  # fmt: skip
    return {"shift_jis.csv": table(rows, ",").encode("cp932")}


def date_and_time() -> dict[str, bytes]:
    """A byte order mark, date and time of day in columns of their own, a semicolon at the end of each line."""
    rows = [["Date", "Time", "Asset", "Load", "Flow", "Pressure", "Temp", ""]]
    rows += [
        [f"{r['time']:%d/%m/%Y}", f"{r['time']:%H:%M:%S}", name, *(str(r[key]) for key in VALUES), ""]
        for name, r in fleet(2, 300, start=datetime(2026, 2, 11, 20))
    ]
    return {"date_and_time.csv": table(rows, ";").encode("utf-8-sig")}


def workbook() -> dict[str, bytes]:
    """Excel: a cover sheet, and a sheet with a title, empty lines, units and true dates."""
    import xlsxwriter

    out = io.BytesIO()
    book = xlsxwriter.Workbook(out, {"in_memory": True})
    book.set_properties({"created": datetime(2026, 1, 1)})
    book.add_worksheet("Cover").write(0, 0, "Monthly report")
    sheet, as_time = book.add_worksheet("Trend"), book.add_format({"num_format": "dd.mm.yyyy hh:mm"})
    sheet.write(0, 0, "Trend of line 2")
    for j, (name, unit) in enumerate(zip(("Time", *VALUES), ("", "%", "m3/h", "mbar", "°C"), strict=True)):
        sheet.write(2, j, name)
        sheet.write(3, j, unit)
    for i, row in enumerate(pump(1, 400), 4):
        sheet.write_datetime(i, 0, row["time"], as_time)
        for j, key in enumerate(VALUES, 1):
            sheet.write_number(i, j, row[key])
    book.close()
    return {"workbook.xlsx": out.getvalue()}


# 7 to 10: local times, other dates.


BERLIN = ZoneInfo("Europe/Berlin")
CHANGE = datetime(2026, 10, 24, 22, tzinfo=UTC)


def clocks_back() -> dict[str, bytes]:
    """Local times over the night in which the hour from two to three comes twice."""
    rows = [["zeit", "pumpe", *VALUES]]
    for name, r in fleet(2, 300, start=datetime(2026, 10, 23), step=timedelta(minutes=15)):
        local = r["time"].replace(tzinfo=UTC).astimezone(BERLIN)
        rows.append([f"{local:%d.%m.%Y %H:%M}", name, *(str(r[key]).replace(".", ",") for key in VALUES)])
    return {"clocks_back.csv": table(rows, ";").encode()}


def month_names() -> dict[str, bytes]:
    """Names of months, Swiss apostrophes between thousands, pipes."""
    rows = [["Sample Time", "load", "flow", "pressure", "temp"]]
    rows += [
        [f"{r['time']:%d-%b-%Y %H:%M:%S}.000", *(f"{r[key]:,.2f}".replace(",", "'") for key in VALUES)]
        for r in pump(1, 600)
    ]
    return {"month_names.txt": table(rows, "|").encode()}


def sql_result() -> dict[str, bytes]:
    """What a database's shell prints: a rule below the names, NULL, and the number of rows at the end."""
    rows = [["recorded_at", "machine", *VALUES], ["-" * 11, "-" * 7, *("-" * len(name) for name in VALUES)]]
    rows += [
        [
            f"{r['time']:%Y-%m-%d %H:%M:%S}.000",
            name,
            *("NULL" if (i, key) == (7, "load") else str(r[key]) for key in VALUES),
        ]
        for i, (name, r) in enumerate(fleet(2, 250))
    ]
    return {"sql_result.txt": (table(rows, "\t") + "\r\n(500 rows affected)\r\n").encode()}


def logger() -> dict[str, bytes]:
    """A data logger: its own line above the names, units and kinds of values below, NAN in quotes."""
    rows = [["TOA5", "CR1000", "CR1000", "1234", "OS", "CPU:pump.CR1", "4711", "Min1"]]
    rows += [
        ["TIMESTAMP", "RECORD", *VALUES],
        ["TS", "RN", "%", "m3/h", "mbar", "Deg C"],
        ["", "", "Avg", "Avg", "Avg", "Avg"],
    ]
    rows += [
        [
            f"{r['time']:%Y-%m-%d %H:%M:%S}",
            str(i),
            *("NAN" if (i, key) == (9, "flow") else str(r[key]) for key in VALUES),
        ]
        for i, r in enumerate(pump(1, 600))
    ]
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerows(rows)
    return {"logger.dat": out.getvalue().encode()}


# 11 to 15: historians.


def wide_tags() -> dict[str, bytes]:
    """A column a tag."""
    names = [f"PUMP-{i}.{key.upper()}" for i in (1, 2, 3) for key in VALUES]
    rows = [["Time", "AMBIENT", *names]]
    for row in zip(*(pump(seed, 300) for seed in (1, 2, 3)), strict=True):
        values = [str(r[key]).replace(".", ",") for r in row for key in VALUES]
        rows.append([row[0]["time"].strftime("%d.%m.%Y %H:%M"), "21,5", *values])
    return {"wide_tags.csv": table(rows, ";").encode()}


def wide_quality() -> dict[str, bytes]:
    """A column a tag, each with a column of its quality; packed."""
    keys = ("load", "temp")
    names = [f"Plant1/P{i}/{key}{end}" for i in (1, 2) for key in keys for end in ("", ".Q")]
    rows = [["Timestamp", *names]]
    for k, row in enumerate(zip(*(pump(seed, 400) for seed in (1, 2)), strict=True)):
        cells = [f"{row[0]['time']:%Y-%m-%dT%H:%M:%S}Z"]
        for r in row:
            for key in keys:
                bad = key == "load" and k % 40 == 39
                cells += ["0" if bad else str(r[key]), "Bad" if bad else "Good"]
        rows.append(cells)
    return {"wide_quality.csv.gz": packed(table(rows, ",").encode())}


def readings() -> dict[str, bytes]:
    """A line a reading: tag, time, value, quality."""
    rows = [["TagName", "TimeStamp", "Value", "Quality"]]
    for i, (name, r) in enumerate(fleet(2, 150)):
        for k, key in enumerate(VALUES):
            time = r["time"] + timedelta(seconds=k)
            rows.append(
                [
                    f"{name}.{key.upper()}",
                    f"{time:%Y-%m-%d %H:%M:%S}",
                    str(r[key]),
                    "Bad" if i % 30 == 29 and k == 1 else "Good",
                ]
            )
    return {"readings.csv": table(rows, ",").encode()}


def quality() -> dict[str, bytes]:
    """A column of flags for each value: 192 is good."""
    rows = [["ts", "pump", *(name for key in VALUES for name in (key, f"{key}_quality"))]]
    for i, (name, r) in enumerate(fleet(2, 300)):
        cells = [f"{r['time']:%Y-%m-%dT%H:%M:%S}", name]
        for key in VALUES:
            bad = key == "flow" and i % 30 == 29
            cells += ["0.0" if bad else str(r[key]), "0" if bad else "192"]
        rows.append(cells)
    return {"quality.csv": table(rows, ",").encode()}


def comments() -> dict[str, bytes]:
    """Comments above the names, which are one themselves; times in milliseconds; packed with Zstandard."""
    import zstandard

    lines = ["# exported by gateway 4.2", "# site: Lund", "# ts_ms,pump,load,flow,pressure,temp"]
    for name, r in fleet(2, 300):
        ms = int(r["time"].replace(tzinfo=UTC).timestamp() * 1000)
        lines.append(",".join([str(ms), name, *(str(r[key]) for key in VALUES)]))
    data = zstandard.ZstdCompressor(level=9).compress("\n".join([*lines, ""]).encode())
    return {"comments.csv.zst": data}


# 16 to 20: folders, labels, no times.


def days() -> dict[str, bytes]:
    """A folder with a file a day, whose dates alone do not show which number is the day."""
    out: dict[str, bytes] = {}
    rows = list(fleet(2, 600, start=datetime(2026, 3, 1), step=timedelta(minutes=10)))
    for day in sorted({r["time"].date() for _, r in rows}):
        held = [
            [f"{r['time']:%d/%m/%Y %H:%M}", name, *(str(r[key]) for key in VALUES)]
            for name, r in rows if r["time"].date() == day
        ]  # fmt: skip
        out[f"days/trend-{day.day}.csv"] = table([["time", "pump", *VALUES], *held], ",").encode()
    return out


def machines() -> dict[str, bytes]:
    """A folder with a file a machine, which only the name of the file names."""
    out: dict[str, bytes] = {}
    for seed in (1, 2, 3):
        rows = [[f"{r['time']:%Y-%m-%d %H:%M:%S}", *(str(r[key]) for key in VALUES)] for r in pump(seed, 300)]
        out[f"machines/pump-{seed}.csv"] = table([["time", *VALUES], *rows], ",").encode()
    return out


def labels() -> dict[str, bytes]:
    """Columns that are not known when an event comes: a rare flag, a copy of the target, a sum with it."""
    rows = [["time", "pump", *VALUES, "temp_f", "heat_total", "EVENT"]]
    for i, (name, r) in enumerate(fleet(2, 400)):
        values = [str(r[key]) for key in VALUES]
        leaks = [f"{32 + 1.8 * r['temp']:.3f}", f"{r['temp'] + r['load']:.2f}", str(int(i in range(500, 512)))]
        rows.append([f"{r['time']:%Y-%m-%d %H:%M:%S}", name, *values, *leaks])
    return {"labels.csv": table(rows, ",").encode()}


def many_signals() -> dict[str, bytes]:
    """A matrix of signals none of which stands out."""
    rng = random.Random(5)
    rows = [["t", "V101", "V102", "V103", "V104", "V105", "V106"]]
    for r in pump(1, 800):
        own = [r["load"], r["flow"], r["pressure"], r["temp"], 3 + rng.gauss(0, 0.1), 7 + rng.gauss(0, 0.2)]
        rows.append([f"{r['time']:%Y%m%d%H%M%S}", *(f"{value:.3f}" for value in own)])
    return {"many_signals.csv": table(rows, ",").encode()}


def no_times() -> dict[str, bytes]:
    """No column is a time: nobody can know how far rows are apart."""
    return {
        "no_times.csv": table([list(VALUES), *([str(r[key]) for key in VALUES] for r in pump(1, 600))], ",").encode()
    }


def truth(
    pumps: int | None, n: int, names: tuple[str, ...] = VALUES, label: str = "PUMP-{}", **settings: Any
) -> Callable[[], list[Event]]:
    """Return what an export holds. pumps: None: one machine that the rows do not name; names: of its columns"""

    def rows() -> list[Event]:
        found = fleet(pumps, n, **settings) if pumps else ((None, row) for row in pump(1, n, **settings))
        return [
            (
                label.format(name[5:]) if name else None,
                row["time"],
                {new: row[key] for new, key in zip(names, VALUES, strict=True)},
            )
            for name, row in found
        ]

    return rows


UPPER = tuple(key.upper() for key in VALUES)
QUARTER = timedelta(minutes=15)
EXPORTS = (
    Export("excel_de.csv", excel_de, "Pumpe", "Zeit", truth(3, 300, ("Last", "Durchfluß", "Druck", "Temp"))),
    Export("us_ampm.csv", us_ampm, None, "Timestamp", truth(None, 900, ("Load", "Flow", "Pressure", "Temperature"))),
    Export("unicode_text.txt", unicode_text, "Pumpe", "Datum",
           truth(2, 300, ("Last", "Durchfluss", "Druck", "Temperatur °C"))),
    Export("shift_jis.csv", shift_jis, "設備", "日時", truth(2, 300, ("負荷", "流量", "圧力", "温度"), "ポンプ{}")),
    Export("date_and_time.csv", date_and_time, "Asset", "Date Time",
           truth(2, 300, ("Load", "Flow", "Pressure", "Temp"), start=datetime(2026, 2, 11, 20))),
    Export("workbook.xlsx", workbook, None, "Time", truth(None, 400)),
    Export("clocks_back.csv", clocks_back, "pumpe", "zeit", truth(2, 300, start=datetime(2026, 10, 23), step=QUARTER)),
    Export("month_names.txt", month_names, None, "Sample Time", truth(None, 600)),
    Export("sql_result.txt", sql_result, "machine", "recorded_at", truth(2, 250)),
    Export("logger.dat", logger, None, "TIMESTAMP", truth(None, 600)),
    Export("wide_tags.csv", wide_tags, "entity", "Time", truth(3, 300, UPPER)),
    Export("wide_quality.csv.gz", wide_quality, "entity", "Timestamp", truth(2, 400, label="Plant1/P{}")),
    Export("readings.csv", readings, "TagName", "TimeStamp", truth(2, 150, UPPER)),
    Export("quality.csv", quality, "pump", "ts", truth(2, 300)),
    Export("comments.csv.zst", comments, "pump", "ts_ms", truth(2, 300)),
    Export("days", days, "pump", "time", truth(2, 600, start=datetime(2026, 3, 1), step=timedelta(minutes=10))),
    Export("machines", machines, "file", "time", truth(3, 300, label="pump-{}")),
    Export("labels.csv", labels, "pump", "time", truth(2, 400)),
    Export("many_signals.csv", many_signals, None, "t", truth(None, 800, ("V101", "V102", "V103", "V104"))),
    Export("no_times.csv", no_times, None, "time", truth(None, 600)),
)  # fmt: skip


def main() -> None:
    """Write all exports next to this file."""
    for export in EXPORTS:
        for name, data in export.make().items():
            path = HERE / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)


if __name__ == "__main__":
    main()
