"""Sizes that keep a room readable: modules of a folder, lines of a module, parameters of a function."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
MAX_MODULES, MAX_LINES, MAX_PARAMETERS = 22, 400, 8
CORE = ROOT / "ssm_stream" / "core"
"""The native core, whose functions in Python follow the compiled ones."""


def modules() -> list[Path]:
    """The modules of the package and of the flows, without the core."""
    found = [path for name in ("ssm_stream", "flows") for path in sorted((ROOT / name).rglob("*.py"))]
    return [path for path in found if CORE not in path.parents]


def place(path: Path, line: int = 1) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def functions(path: Path) -> Iterator[tuple[int, str, int]]:
    """Line, name and number of parameters (without `self` and `cls`) of each function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            given = node.args
            names = [each.arg for each in [*given.posonlyargs, *given.args, *given.kwonlyargs]]
            yield node.lineno, node.name, len(names) - (names[:1] in (["self"], ["cls"]))


def test_a_folder_has_few_modules() -> None:
    counts = Counter(path.parent for path in modules() if path.name != "__init__.py")
    assert {place(folder): n for folder, n in counts.items() if n > MAX_MODULES} == {}


def test_a_module_is_short() -> None:
    lines = {place(path): path.read_text().count("\n") for path in modules()}
    assert {name: n for name, n in lines.items() if n > MAX_LINES} == {}


def test_a_function_has_few_parameters() -> None:
    found = [(place(path, line), name, n) for path in modules() for line, name, n in functions(path)]
    assert [each for each in found if each[2] > MAX_PARAMETERS] == []
