"""What the keys of the file mean: the docstrings of the models' attributes.

They are read from the source when a schema is made. By pydantic they would be read at each start of a command, and take
longer than the models.
"""

from __future__ import annotations

import ast
import functools
import inspect
import sys
from itertools import pairwise
from typing import Any

from pydantic import BaseModel

from ssm_stream.config.sections import Section


def descriptions(model: type[BaseModel]) -> dict[str, str]:
    """The docstring of each attribute that has one, by the attribute's name."""
    found = dict[str, str]()
    for each in reversed(model.__mro__):
        found |= _of_module(each.__module__).get(each.__name__, {}) if issubclass(each, Section) else {}
    return found


def describe(schema: dict[str, Any]) -> None:
    """Add the descriptions to the schema of `Section`s, in the order of keys that pydantic has."""
    models = _below(Section)
    for title, part in [(schema["title"], schema), *schema.get("$defs", {}).items()]:
        if (model := models.get(title)) is None:
            continue
        for name, text in descriptions(model).items():
            key = model.model_fields[name].alias or name
            part["properties"][key] = _with_description(part["properties"][key], text)


def _with_description(field: dict[str, Any], text: str) -> dict[str, Any]:
    before = {name: value for name, value in field.items() if name < "description"}
    return {**before, "description": text, **field}


def _below(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    found = dict[str, type[BaseModel]]()
    for each in model.__subclasses__():
        found |= {each.__name__: each} | _below(each)
    return found


@functools.cache
def _of_module(name: str) -> dict[str, dict[str, str]]:
    """Class → attribute → docstring."""
    tree = ast.parse(inspect.getsource(sys.modules[name]))
    return {each.name: _of_class(each) for each in tree.body if isinstance(each, ast.ClassDef)}


def _of_class(tree: ast.ClassDef) -> dict[str, str]:
    found = dict[str, str]()
    for attribute, below in pairwise(tree.body):
        match attribute, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = inspect.cleandoc(text)
    return found
