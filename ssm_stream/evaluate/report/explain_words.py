"""The text of `explain` by language: a YAML file each, and the engine's names of inputs and heads."""

from __future__ import annotations

import functools
import re

from ssm_stream.evaluate.report.texts import Language, Texts, read_texts

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


class Words(Texts):
    """The texts of one language. texts: by key"""

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

    def value(self, value: float | None, reading: float | None) -> float | str:
        """Return an input's value for a table; one that was taken in the place of a reading, with that."""
        shown = self("unknown") if value is None else value
        if reading is None:
            return shown
        return self("reading", value=shown if isinstance(shown, str) else f"{shown:.5g}", reading=f"{reading:.5g}")


@functools.cache
def words(language: Language) -> Words:
    """Return the texts of a language."""
    return Words(language, read_texts("ssm_stream.evaluate.report", f"explain_words.{language}.yaml"))
