"""The texts of a report by language: YAML files, key → text with names to fill in."""

from __future__ import annotations

from importlib.resources import files
from typing import Literal

import yaml

Language = Literal["en", "ja"]
LANGUAGES: tuple[Language, ...] = ("en", "ja")


def read_texts(package: str, name: str) -> dict[str, str]:
    """Return the content of a YAML file of a package."""
    text = files(package).joinpath(name).read_text(encoding="utf-8")
    found: dict[str, str] = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return found


class Texts:
    """The texts of one language. texts: by key"""

    def __init__(self, language: Language, texts: dict[str, str]) -> None:
        self.language, self.texts = language, texts

    def __call__(self, key: str, **values: object) -> str:
        """Return a text with its names filled in.

        Raises:
            KeyError: there is no such text, or it has a name that is not among the values.
        """
        return self.texts[key].format(**values)
