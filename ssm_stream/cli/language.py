"""The language of what a command writes: as given, else by locale."""

from __future__ import annotations

import os
from typing import Annotated, Literal

import typer

Lang = Annotated[Literal["en", "ja"] | None, typer.Option("--lang", help="en or ja. Default: by locale.")]


def language(given: Literal["en", "ja"] | None) -> Literal["en", "ja"]:
    """Return the given language, else Japanese if the locale is, else English."""
    if given is not None:
        return given
    # As POSIX has it: the first that is set decides.
    locale = next((value for name in ("LC_ALL", "LC_MESSAGES", "LANG") if (value := os.environ.get(name))), "")
    return "ja" if locale.lower().startswith("ja") else "en"
