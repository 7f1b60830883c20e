"""The command line that repeats the command that runs."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from enum import Enum
from typing import Any

import typer


def command_line(context: typer.Context, **instead: Any) -> str:
    """Return the command that runs, with its arguments and the options that differ from their defaults.

    instead: values by parameter, such as the language that the locale decided
    """
    words, options = ["ssm-stream", context.info_name or ""], list[str]()
    for parameter in context.command.params:
        name = parameter.name or ""
        value = instead.get(name, context.params.get(name))
        if value is None or (value == parameter.get_default(context) and name not in instead):
            continue
        if parameter.param_type_name == "argument":
            words += _texts(value)
        elif isinstance(value, bool):
            options += [parameter.opts[0] if value else (parameter.secondary_opts or [""])[0]]
        else:
            options += [part for text in _texts(value) for part in (parameter.opts[0], text)]
    return shlex.join([*words, *filter(None, options)])


def _texts(value: Any) -> list[str]:
    """Return the value of a parameter as it is typed, one text for each time that it was given."""
    values: Iterable[Any] = value if isinstance(value, list | tuple) else [value]
    return [str(each.value) if isinstance(each, Enum) else str(each) for each in values]
