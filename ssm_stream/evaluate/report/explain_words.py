"""The text of `explain` by language: a YAML file each, and the engine's names of inputs and heads."""

from __future__ import annotations

import functools
import re
from importlib.resources import files
from typing import Literal

import yaml

Language = Literal["en", "ja"]
LANGUAGES: tuple[Language, ...] = ("en", "ja")
SCOPE = re.compile(r"(fleet|entity|norm): (.+)")
NAMES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("log", re.compile(r"(?P<name>.+), log space")),
    ("change.from", re.compile(r"change\((?P<name>.+), (?P<k>\d+)\)")),
    ("change", re.compile(r"change\((?P<name>.+)\)")),
    ("lag", re.compile(r"lag(?P<k>\d+)-lag(?P<next>\d+)")),
    ("another", re.compile(r"(?P<name>.+)=another")),
    ("unknown.of", re.compile(r"(?P<name>.+) unknown")),
    ("moments.half_life", re.compile(r"moments, half-life (?P<of>.+)")),
    ("moments", re.compile(r"moments, decay (?P<of>.+)")),
    ("proximal", re.compile(r"proximal, step (?P<of>.+)")),
    ("attention", re.compile(r"attention (?P<of>\d+)")),
)
"""Names that the engine makes of others: key of the text, and what it is filled in with."""


class Words:
    """The texts of one language. texts: by key"""

    def __init__(self, language: Language, texts: dict[str, str]) -> None:
        self.language, self.texts = language, texts

    def __call__(self, key: str, **values: object) -> str:
        """Return a text with its names filled in.

        Raises:
            KeyError: there is no such text, or it has a name that is not among the values.
        """
        return self.texts[key].format(**values)

    def name(self, name: str) -> str:
        """Return an input's or a head's name; a column keeps its own."""
        if (scoped := SCOPE.fullmatch(name)) is not None:
            return self(f"scope.{scoped[1]}", name=self.name(scoped[2]))
        if (found := self.texts.get(f"name.{name}")) is not None:
            return found
        for key, pattern in NAMES:
            if (match := pattern.fullmatch(name)) is not None:
                values = match.groupdict()
                return self(key, **values | ({"name": self.name(values["name"])} if "name" in values else {}))
        column, _, value = name.partition("=")
        return f"{self.name(column)}={value}" if value and f"name.{column}" in self.texts else name


@functools.cache
def words(language: Language) -> Words:
    """Return the texts of a language."""
    text = files("ssm_stream.evaluate.report").joinpath(f"explain_words.{language}.yaml").read_text(encoding="utf-8")
    return Words(language, yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
