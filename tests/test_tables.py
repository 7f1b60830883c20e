"""Tables of the command line: no name and no figure is cut, whatever the width."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from ssm_stream.cli.errors import exit_with
from ssm_stream.cli.terminal.console import counting_bar, new_table, output, print_table, share_bar
from ssm_stream.cli.terminal.printable import echo
from ssm_stream.config import ConfigError

LONG = "press-line-7/station-0042-with-a-long-name"
TIME = "2026-03-02T11:43:00Z"
REASON = "3-24938  temp: found 'n/a' (str), expected a number; correct the producer"
TABLES: dict[str, tuple[list[str], dict[str, Any], list[str]]] = {
    "backtest": (
        ["entity", "events", "MAE", "naive", "ratio", "cover", "width", "anomaly", "drift"],
        {"fold": ["entity"]},
        [LONG, "1,234,567", "0.001234", "12345.6", "0.123", "89.7%", "1.234e+05", "1234", "99"],
    ),
    "state ls": (
        ["entity", "shard", "last labelled", "events", "bytes", "open", "hash"],
        {"fold": ["entity", "open"], "text": ["shard", "last labelled", "hash"]},
        [LONG, "00003", TIME, "1,234,567", "12,345", "anomaly, drift", "0123456789ab"],
    ),
    "dlq ls": (
        ["topic", "stage", "reason", "letters", "redriven", "first", "last", "place and why"],
        {"fold": ["topic", "place and why"], "text": ["stage", "reason", "first", "last"]},
        ["press-events", "decode", "WrongType", "1,234", "12", TIME, TIME, REASON],
    ),
}


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 10_000])
@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("lines", [True, False])
def test_nothing_is_cut(name: str, width: int, lines: bool) -> None:
    columns, kinds, cells = TABLES[name]
    table = new_table(columns, **kinds, lines=lines)
    table.add_row(*cells)
    table.add_row(*cells)
    file = io.StringIO()
    print_table(table, Console(width=width, file=file))
    text = file.getvalue()
    assert all(len(line) <= width for line in text.splitlines())
    assert "…" not in text
    letters = "".join(c for c in text if c not in " │┃━╇\n")
    for column, cell in zip(columns, cells, strict=True):
        if column not in kinds["fold"]:
            assert text.count(cell) >= 2
    if width in (40, 10_000):  # records, or one line a row: folded text is in one piece
        assert letters.count(cells[-1].replace(" ", "")) == 2
        assert letters.count(cells[0].replace(" ", "")) == 2


@pytest.mark.parametrize("width", [24, 40, 80, 10_000])
def test_brackets_are_text(width: int) -> None:
    """An entity may have any name, also one that looks like an instruction to the terminal."""
    table = new_table(["entity", "MAE"], fold=["entity"])
    for name in ("[/x]", "[bold]press[/]", "[red"):
        table.add_row(name, "0.0123")
    file = io.StringIO()
    print_table(table, Console(width=width, file=file))
    assert all(name in file.getvalue() for name in ("[/x]", "[bold]press[/]", "[red"))


@pytest.mark.parametrize("width", [40, 10_000])
def test_names_cannot_draw_on_the_terminal(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters of a name are escaped in rows, lines and errors, and break no row."""
    name, wide = "m\x1b[31mred\n1\u202e", "プレス\u3000一"
    table = new_table(["entity", "MAE"], fold=["entity"])
    table.add_row(name, "0.0123")
    table.add_row(wide, "0.0123")
    file = io.StringIO()
    print_table(table, Console(width=width, file=file))
    output().print(f"row {name}", markup=False)
    echo(f"entity {name} {wide}")
    exit_with(ConfigError(f"entity {name}"), 2)
    out, err = capsys.readouterr()
    shown = file.getvalue() + out + err
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert file.getvalue().replace(" ", "").count(r"m\x1b[31mred\n1\u202e") == 1
    assert wide in out


@pytest.mark.parametrize("width", [42, 48])
def test_a_cell_of_several_lines_is_as_wide_as_the_longest(width: int) -> None:
    table = new_table(["check", "value"], fold=["check"])
    table.add_row(Text("ten digits\nten digits"), "a figure of thirty characters!")
    file = io.StringIO()
    print_table(table, Console(width=width, file=file))
    assert file.getvalue().split("\n")[0].split() in (["check", "value"], ["check", "┃", "value"]), "no records"
    assert "a figure of thirty characters!" in file.getvalue()


def test_without_a_terminal_a_line_has_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert output().width > 1000
    monkeypatch.setenv("COLUMNS", "60")
    assert output().width == 60


def test_a_piped_backtest_has_whole_names_and_figures(tmp_path: Path) -> None:
    config, recording = tmp_path / "m.yaml", tmp_path / "r.csv"
    config.write_text(
        "source: {brokers: 'a:1', topic: t}\nevent: {entity: e, timestamp: t, target: y, features: [x]}\n"
    )
    rows = [f"{LONG}-{i % 3},{1_700_000_000 + i},{i % 7},{i % 5}" for i in range(300)]
    recording.write_text("\n".join(["e,t,y,x", *rows]) + "\n")
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    command = [sys.executable, "-m", "ssm_stream", "backtest", str(config), str(recording)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert "…" not in done.stdout
    assert [done.stdout.count(f"{LONG}-{i}") for i in range(3)] == [1, 1, 1]


def test_where_no_bar_can_be_drawn_a_line_comes_every_ten_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    for bar, total, each in ((share_bar(), 1.0, 0.1), (counting_bar(), None, 1000)):
        now[0], bar.get_time = 0.0, lambda: now[0]
        with bar:
            task = bar.add_task("engine", total=total)
            for second in range(1, 25):
                now[0] = second
                bar.advance(task, each / 4)
            bar.update(task, description="report")
    lines = [
        "engine: 25 % after 10 s",
        "engine: 50 % after 20 s",
        "engine: 2,500 after 10 s",
        "engine: 5,000 after 20 s",
    ]
    out, err = capsys.readouterr()
    assert (out, err.splitlines()) == ("", lines)


def test_a_share_of_all_work_has_the_time_to_go(capsys: pytest.CaptureFixture[str]) -> None:
    now, bar = [0.0], share_bar(of_all_work=True)
    bar.get_time = lambda: now[0]
    with bar:
        task = bar.add_task("engine", total=None)
        for second, done, total in ((11, 500, None), (20, 0.001, 4), (30, 1, 4), (1_500, 2, 4), (40_000, 3, 4)):
            now[0] = second
            bar.update(task, description=f"part {done}", completed=done, total=total)
    assert capsys.readouterr().err.splitlines() == [
        "part 500: 500 after 11 s",
        "part 0.001: 0 % after 20 s",
        "part 1: 25 % after 30 s, 90 s to go",
        "part 2: 50 % after 25 min, 25 min to go",
        "part 3: 75 % after 11 h, 222 min to go",
    ]
