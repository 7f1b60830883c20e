"""Tables, progress bars and JSON, as all commands print them.

A table never cuts a name or a figure. Where standard output is not a terminal, lines are as long as their content;
where the terminal is too narrow for a row, each row becomes lines of `column: value`.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Literal

import orjson
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from ssm_stream.cli.terminal.printable import printable, printable_lines

if TYPE_CHECKING:
    from ssm_stream.evaluate.report.section import Check
    from ssm_stream.verify.words import Words

WIDE = 10_000
"""Characters of a line where the output is not a terminal."""
FOLDED = 16
"""Characters that a folded column has at least."""
SECONDS_A_LINE = 10
"""Between the lines of progress where there is no terminal for a bar."""
MIN_SHARE = 0.5
"""Percent of the work from which on the time that is left can be estimated."""
MAX_SECONDS = 600
"""Up to which a duration is given in seconds."""


class _Terminal(Console):
    """A console that escapes what could draw on the terminal in every text that it is given."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable_lines(text), **options)


class _Rows(Table):
    """A table whose cells of plain text are a line each, with what could draw on the terminal escaped."""

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
        super().add_row(*(printable(cell) if isinstance(cell, str) else cell for cell in cells), **options)


class _Bar(Progress):
    """A progress bar that is a line every SECONDS_A_LINE where it cannot be drawn, as in a pipe or a log file."""

    _lines = 0
    of_all_work = False
    """Whether a task with a total is all of the work, so that the time left follows from its share."""

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        self._print_line(task_id)

    def update(self, task_id: TaskID, **changes: Any) -> None:
        super().update(task_id, **changes)
        self._print_line(task_id)

    def _print_line(self, task_id: TaskID) -> None:
        began = self._tasks[next(iter(self._tasks))].start_time
        if not self.disable or began is None:
            return
        seconds, task = self.get_time() - began, self._tasks[task_id]
        if (lines := int(seconds // SECONDS_A_LINE)) > self._lines:
            self._lines = lines
            done = f"{task.completed:,.0f}" if task.total is None else f"{task.percentage:.0f} %"
            left = ""
            if self.of_all_work and task.total is not None and task.percentage >= MIN_SHARE:
                left = f", {_duration(seconds * (100.0 - task.percentage) / task.percentage)} to go"
            text = f"{task.description}: {done} after {_duration(seconds)}{left}"
            self.console.print(text, markup=False, soft_wrap=True)


def output(*, error: bool = False) -> Console:
    """Standard output or error: as wide as the terminal or COLUMNS, else without a limit."""
    stream = sys.stderr if error else sys.stdout
    wide = not stream.isatty() and not os.environ.get("COLUMNS")
    return _Terminal(stderr=error, width=WIDE if wide else None, highlight=False)


def new_table(
    columns: Sequence[str],
    *,
    fold: Collection[str] = (),
    text: Collection[str] = (),
    lines: bool = True,
    title: str | None = None,
) -> Table:
    """A table with these columns, of figures but for the named ones.

    Args:
        fold: text that is folded where the console is narrow
        text: other text
        lines: draw lines between the columns and below the header
    """
    table = _Rows(title=title, title_justify="left", show_edge=False)
    if not lines:
        _drop_lines(table)
    for name in columns:
        justify: Literal["left", "right"] = "left" if name in fold or name in text else "right"
        table.add_column(name, justify=justify, no_wrap=name not in fold, overflow="fold")
    return table


def print_table(table: Table, console: Console | None = None) -> None:
    """Print a table in the widest layout that the console has room for."""
    console = console or output()
    if not _fits(table, console):
        _drop_lines(table)
    console.print(table if _fits(table, console) else _records(table), markup=False)


def _fits(table: Table, console: Console) -> bool:
    """Return True if there is room for all columns, those that may be folded with at least FOLDED characters."""
    unlimited = console.options.update(max_width=WIDE, markup=False)
    needed = console.measure(table, options=unlimited).maximum
    for column in table.columns:
        if not column.no_wrap:
            cells = (column.header, *column.cells)
            natural = max((cell_len(line) for cell in cells for line in str(cell).splitlines()), default=0)
            column.min_width = min(natural, FOLDED)
            needed -= natural - column.min_width
    return needed <= console.width


def _drop_lines(table: Table) -> None:
    table.box, table.padding, table.pad_edge = None, (0, 2, 0, 0), False


def _records(table: Table) -> Table:
    """The rows of a table as lines of column and value, with an empty line between rows."""
    records = Table.grid(padding=(0, 1))
    records.add_column(style="dim", overflow="fold")
    records.add_column(overflow="fold")
    columns = [(str(column.header), list(column.cells)) for column in table.columns]
    for row in range(table.row_count):
        if row:
            records.add_row()
        for name, cells in columns:
            if str(cell := cells[row]):
                records.add_row(Text(name), cell)
    return records


def print_json(content: Any) -> None:
    """Print an indented JSON document."""
    sys.stdout.write(orjson.dumps(content, option=orjson.OPT_INDENT_2).decode() + "\n")


def counting_bar() -> Progress:
    """A progress bar for a number of items; lines now and then where standard error is not a terminal."""
    return _bar(MofNCompleteColumn(), TimeRemainingColumn())


def share_bar(*, of_all_work: bool = False) -> Progress:
    """A progress bar for a share of the work; lines now and then where standard error is not a terminal.

    of_all_work: the share is not that of a part, so that the time left can be estimated
    """
    bar = _bar(TaskProgressColumn(), TimeElapsedColumn(), *([TimeRemainingColumn()] if of_all_work else []))
    bar.of_all_work = of_all_work
    return bar


def _duration(seconds: float) -> str:
    """Return a duration in seconds, in minutes or in hours."""
    if seconds <= MAX_SECONDS:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds <= 60 * MAX_SECONDS else f"{seconds / 3600:.0f} h"


def _bar(*columns: Any) -> _Bar:
    console = output(error=True)
    description = TextColumn("{task.description}", markup=False)
    return _Bar(description, BarColumn(), *columns, console=console, disable=not console.is_terminal, transient=True)


def format_number(value: float | None, form: str = ".4g") -> str:
    """A number, or a dash for None."""
    return "–" if value is None else format(value, form)


def checks_table(checks: Sequence[Check], words: Words | None = None) -> Table:
    """Measured values and their bounds. words: of another language; None: English"""
    name, measured, bar, result = (
        [words(f"check.{key}") for key in ("name", "value", "bar", "result")]
        if words
        else ["check", "value", "bar", "ok"]
    )
    title, met, missed = (
        (words("section.checks"), words("check.met"), words("check.missed")) if words else ("Checks", "yes", "no")
    )
    table = new_table((name, measured, bar, result), fold=(name,), text=(result,), title=title)
    for check in checks:
        ok = Text(met, "green") if check.ok else Text(missed, "bold red")
        shown = words.check(check) if words else check.name
        table.add_row(
            shown, "∞" if check.value == math.inf else f"{check.value:.4g}", f"{check.relation} {check.bar:g}", ok
        )
    return table
