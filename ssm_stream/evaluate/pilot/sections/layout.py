"""A section of the page that is laid out from data: sentences, and tables whose cells name figures of the report."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple


class Figure(NamedTuple):
    """A figure of the report. path: in `report.json`; how: the method of `Format` that writes it"""

    path: str
    how: str = "number"


Cell = Figure | str
"""A figure, or text in the language of the page."""


class Table(NamedTuple):
    """A table of a section.

    key: of its caption's text; columns: keys of their texts; rows: the first cell is the row's name
    left: columns of text, besides the first; caption: in place of the text of the key
    """

    key: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    left: Sequence[int] = ()
    caption: str = ""


class Section(NamedTuple):
    """A section of the page.

    key: of its title's text, and where its figures stand in `report.json`
    text, notes: sentences above and below the tables
    """

    key: str
    text: Sequence[str]
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()


def jq_path(path: str) -> str:
    """Return a path of the report as jq has it.

    >>> jq_path("what_if.points.3.alarms")
    '.what_if.points[3].alarms'
    """
    return re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", f".{path}")
