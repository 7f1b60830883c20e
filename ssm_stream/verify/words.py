"""The text of the certificate, a YAML file a language: key → text with names to fill in."""

from __future__ import annotations

import functools

from ssm_stream.evaluate.report.section import Check
from ssm_stream.evaluate.report.texts import Language, Texts, read_texts


class Words(Texts):
    """The texts of one language. texts: by key"""

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
    return Words(language, read_texts("ssm_stream.verify", f"words.{language}.yaml"))
