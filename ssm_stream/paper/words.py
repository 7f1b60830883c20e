"""The text of the report on the paper by language: YAML files, and what the experiments wrote in English, translated.

The experiments write English next to their figures, and results are cached as they wrote them. `sections.ja.yaml` has
their sentences with `#` for each number, so that any run, a cached one too, can be shown in Japanese. A sentence that
it does not have stays as it is.
"""

from __future__ import annotations

import functools
import re
from dataclasses import replace

from ssm_stream.evaluate.report.section import Cell, Chart, Check, Section, Table
from ssm_stream.evaluate.report.texts import Language, Texts, read_texts

NUMBER = re.compile(r"(?<![#\w])[−-]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[−+-]?\d+)?|\d+(?:,\d{3})*(?:\.\d+)?(?:e[−+-]?\d+)?")
SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9])")
NAME = re.compile(r"\{([a-z]+)\}")
LISTS = ("; ", ", ")
"""What separates the items of a list."""


def read_yaml(name: str) -> dict[str, str]:
    """Return the content of a file of this package."""
    return read_texts("ssm_stream.paper", name)


class Words(Texts):
    """The texts of one language.

    Args:
        language: of the report
        texts: by key
        sentences: of the experiments, by their English with `#` for each number; none in English
    """

    def __init__(self, language: Language, texts: dict[str, str], sentences: dict[str, str]) -> None:
        super().__init__(language, texts)
        self._whole = {key: text for key, text in sentences.items() if not NAME.search(key)}
        self._patterns = [(_pattern(key), text) for key, text in sentences.items() if NAME.search(key)]

    def check(self, check: Check) -> str:
        """Return the name of a check in this language; `--json` has it in English always."""
        return self.translate(check.name)

    def translate(self, text: str) -> str:
        """Return a text of an experiment in this language, sentence by sentence."""
        if self.language == "en":
            return text
        parts = SENTENCE.split(text)
        return "".join(self._find(part) or part for part in parts)

    def section(self, section: Section) -> Section:
        """Return a section in this language; the names of its checks stay, as `check` translates them."""
        if self.language == "en":
            return section
        return replace(
            section,
            title=self.translate(section.title),
            text=[self.translate(paragraph) for paragraph in section.text],
            tables=[self._table(table) for table in section.tables],
            charts=[self._chart(chart) for chart in section.charts],
        )

    def _table(self, table: Table) -> Table:
        def cell(value: Cell) -> Cell:
            return self.translate(value) if isinstance(value, str) else value

        rows = [[cell(value) for value in row] for row in table.rows]
        columns = [self.translate(column) for column in table.columns]
        return Table(self.translate(table.title), columns, rows, self.translate(table.note))

    def _chart(self, chart: Chart) -> Chart:
        series = [replace(each, name=self.translate(each.name)) for each in chart.series]
        title, x, y = (self.translate(text) for text in (chart.title, chart.x, chart.y))
        return replace(chart, title=title, x=x, y=y, series=series)

    def _find(self, text: str) -> str | None:
        """Return the translation of one sentence or name; None if there is none."""
        numbers = NUMBER.findall(text)
        key = NUMBER.sub("#", text)
        if (whole := self._whole.get(key)) is not None:
            return whole.format(*numbers)
        for pattern, translation in self._patterns:
            match = pattern.fullmatch(text)
            if match is not None:
                names = {name: self._listed(value) for name, value in match.groupdict().items() if name[0] != "_"}
                given = [match[name] for name in match.groupdict() if name[0] == "_"]
                return translation.format(*given, **names)
        return None

    def _listed(self, text: str) -> str:
        """Return a name, or a list of names, each translated if it can be."""
        if (found := self._find(text)) is not None:
            return found
        for separator in LISTS:
            if separator in text:
                return self.texts["between"].join(self._listed(item) for item in text.split(separator))
        return text


def _pattern(key: str) -> re.Pattern[str]:
    """Return the expression of a key: `#` is a number, a name in braces any text."""
    out, count = "", 0
    for part in re.split(r"(#|\{[a-z]+\})", key):
        if part == "#":
            out += rf"(?P<_{count}>[−-]?\d+(?:,\d{{3}})*(?:\.\d+)?(?:e[−+-]?\d+)?)"
            count += 1
        elif NAME.fullmatch(part):
            # A name ends with its sentence, and with its item of a list.
            any_text = ".+?" if part == "{items}" else "(?:(?!; |[.!?] [A-Z]).)+?"
            out += f"(?P<{part[1:-1]}>{any_text})"
        else:
            out += re.escape(part)
    return re.compile(out)


@functools.cache
def words(language: Language) -> Words:
    """Return the texts of a language."""
    sentences = {} if language == "en" else read_yaml(f"sections.{language}.yaml")
    return Words(language, read_yaml(f"words.{language}.yaml"), sentences)
