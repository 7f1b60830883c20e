"""The text of the certificate, a YAML file a language: key → text with names to fill in."""

from __future__ import annotations

import functools
from importlib.resources import files
from typing import Literal

import yaml

from ssm_stream.evaluate.report.section import Check

Language = Literal["en", "ja"]
LANGUAGES: tuple[Language, ...] = ("en", "ja")


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

    def check(self, check: Check) -> str:
        """Return the name of a check in this language; `--json` has it in English always."""
        return self.texts.get(check.name, check.name)

    def sentences(self, sentences: list[str]) -> str:
        """Return a paragraph."""
        return self.texts["between"].join(sentences)

    def listed(self, parts: list[str]) -> str:
        """Return several texts as one, such as `a, b and c`."""
        *most, last = parts or [""]
        return self.texts["last"].join([self.texts["listed"].join(most), last]) if most else last


@functools.cache
def words(language: Language) -> Words:
    """Return the texts of a language."""
    text = files("ssm_stream.verify").joinpath(f"words.{language}.yaml").read_text(encoding="utf-8")
    return Words(language, yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
