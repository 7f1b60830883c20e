"""The text of the pilot report, a YAML file a language: key → text with names to fill in."""

from __future__ import annotations

import functools
from importlib.resources import files
from typing import Literal

import yaml

Language = Literal["en", "ja"]
LANGUAGES: tuple[Language, ...] = ("en", "ja")


@functools.cache
def words(language: Language) -> dict[str, str]:
    """Return the texts of a language by key; `str.format` fills them in."""
    text = files("ssm_stream.evaluate.pilot").joinpath(f"words.{language}.yaml").read_text(encoding="utf-8")
    found: dict[str, str] = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return found
