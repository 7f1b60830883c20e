"""Names and docstrings use the field's words: none of speech and the senses, one term for one thing (docs/glossary.md).

python tests/test_words.py ssm_stream/kafka     # what a folder still has
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BANNED = frozenset([
    "tell", "tells", "told", "teller", "telling", "say", "says", "said",
    "saying", "saw", "heard", "hears", "hear", "heed", "heeds", "know",
    "knows", "knew", "look", "looks", "looked", "looking", "want", "wants",
    "wanted", "ask", "asks", "asked", "asking", "loud", "silent", "dear",
    "beside", "around", "took",
])  # fmt: skip
"""Words that are in no name and in no docstring: a function is called by what it does, not by speech or the senses."""
PREFIXES = ("MOST_", "LEAST_", "LONGEST_", "LARGEST_", "SHORTEST_", "SMALLEST_")
"""Of constants: MAX_ and MIN_ are the words."""
PHRASES = ("of late", "where there is none", "one that is too many", "one too many", "every now and again")
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
PROSE = re.compile(r"[A-Za-z]+")
CODE = re.compile(r"`[^`]*`")


def tokens(name: str) -> list[str]:
    """The words of an identifier, in lower case."""
    return [word.lower() for word in WORD.findall(name)]


def names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of each function, class, parameter and variable that a module defines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and text of each docstring, those below constants and attributes among them."""
    for node in ast.walk(tree):
        for child in getattr(node, "body", []) if not isinstance(node, ast.Lambda | ast.IfExp) else []:
            value = child.value if isinstance(child, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield value.lineno, value.value


def findings(path: Path) -> list[str]:
    """What a module has of the words above, each with its line."""
    tree = ast.parse(path.read_text())
    place = path.relative_to(ROOT).as_posix()
    found = set[tuple[int, str]]()
    for word in tokens(path.stem):
        if word in BANNED:
            found.add((1, f"module {path.stem}"))
    for line, name in names(tree):
        if BANNED & set(tokens(name)) or name.lstrip("_").startswith(PREFIXES):
            found.add((line, f"name {name}"))
    for line, text in docstrings(tree):
        prose = CODE.sub("", text)
        for word in sorted(BANNED & {w.lower() for w in PROSE.findall(prose)}):
            found.add((line, f"docstring has {word!r}"))
        flat = " ".join(prose.split()).lower()
        for phrase in PHRASES:
            if phrase in flat:
                found.add((line, f"docstring has {phrase!r}"))
    return [f"{place}:{line}: {what}" for line, what in sorted(found)]


def modules(folder: Path) -> list[Path]:
    """All modules below a folder."""
    return sorted(folder.rglob("*.py"))


DONE: tuple[str, ...] = (
    "autoconfig",
    "cli",
    "config",
    "contract",
    "core",
    "engine",
    "evaluate",
    "flow",
    "ingest",
    "kafka",
    "mcp",
    "notify",
    "operators",
    "ops",
    "paper",
    "recovery",
    "reference",
    "training",
    "ui",
    "verify",
)
"""Folders that hold the rules: all of them."""


@pytest.mark.parametrize("folder", DONE)
def test_words(folder: str) -> None:
    found = [line for path in modules(ROOT / "ssm_stream" / folder) for line in findings(path)]
    assert not found, "\n".join(found)


if __name__ == "__main__":
    every = [line for folder in sys.argv[1:] for path in modules((ROOT / folder).resolve()) for line in findings(path)]
    sys.stdout.write("\n".join([*every, f"{len(every)} findings\n"]))
