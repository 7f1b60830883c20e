"""The text of the pilot report, a YAML file a language: key → text with names to fill in."""

from __future__ import annotations

import functools

from ssm_stream.evaluate.report.texts import Language, read_texts


@functools.cache
def words(language: Language) -> dict[str, str]:
    """Return the texts of a language by key; `str.format` fills them in."""
    return read_texts("ssm_stream.evaluate.pilot", f"words.{language}.yaml")
