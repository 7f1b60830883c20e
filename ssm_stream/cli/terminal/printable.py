"""Text that may come from a topic or a file, as a terminal gets it: what could draw there is escaped."""

from __future__ import annotations

import unicodedata

import typer


def printable(text: str) -> str:
    """A name without characters that control a terminal or break a line: each as Python writes it (`\\x1b`)."""
    return text if text.isprintable() else "".join(c if _is_shown(c) else repr(c)[1:-1] for c in text)


def printable_lines(text: str) -> str:
    """A text of several lines, each as `printable`."""
    return "\n".join(map(printable, text.split("\n")))


def echo(text: str, *, err: bool = False) -> None:
    """Print a text on standard output or error, as `printable_lines`."""
    typer.echo(printable_lines(text), err=err)


def _is_shown(c: str) -> bool:
    return c.isprintable() or unicodedata.category(c) == "Zs"  # the wide space of Japanese names
