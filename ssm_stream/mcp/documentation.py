"""The documentation: its pages, and a search over their sections."""

from __future__ import annotations

import functools
import math
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import ssm_stream

WORD = re.compile(r"[a-z0-9_]+|[぀-ヿ一-鿿]")
HEADING = re.compile(r"^#{1,3} +(.+?) *$", re.M)
EXCERPT = 600
"""Characters of an excerpt."""


class Part(NamedTuple):
    """A section of a page. words: how often each is in it, those of the heading more"""

    page: str
    heading: str
    text: str
    words: Counter[str]


def folder() -> Path:
    """Return the folder of the documentation: within the package, or at the top of a checkout."""
    package = Path(ssm_stream.__file__ or "").parent
    installed = package / "data" / "docs"
    return installed if installed.exists() else package.parent / "docs"


@functools.cache
def pages() -> dict[str, str]:
    """Return the text of each page by its name, such as `alerts.md` or `config/alerts.md`."""
    top = folder()
    return {path.relative_to(top).as_posix(): path.read_text(encoding="utf-8") for path in sorted(top.rglob("*.md"))}


@functools.cache
def _parts() -> list[Part]:
    found = []
    for page, text in pages().items():
        begins = [match.start() for match in HEADING.finditer(text)] or [0]
        for begin, end in zip(begins, [*begins[1:], len(text)], strict=True):
            section = text[begin:end].strip()
            heading = (HEADING.match(section) or ["", page])[1]
            words = Counter(WORD.findall(section.lower()))
            words.update(dict.fromkeys(WORD.findall(f"{heading} {page}".lower()), 8))
            found.append(Part(page, heading, section, words))
    return found


def search(query: str, most: int, language: str = "en") -> list[Part]:
    """Return the sections that match a query best, by BM25. language: `en`, or `ja` for the pages in Japanese"""
    parts = [part for part in _parts() if part.page.endswith(".ja.md") == (language == "ja")]
    terms = set(WORD.findall(query.lower()))
    mean = sum(part.words.total() for part in parts) / max(len(parts), 1)
    weight = {}
    for term in terms:
        n = sum(term in part.words for part in parts)
        weight[term] = math.log(1 + (len(parts) - n + 0.5) / (n + 0.5))

    def score(part: Part) -> float:
        length = 0.25 + 0.75 * part.words.total() / mean
        return sum(weight[term] * 2.5 * (n := part.words[term]) / (n + 1.5 * length) for term in terms)

    scored = [(score(part), part) for part in parts]
    return [part for value, part in sorted(scored, key=lambda each: -each[0])[:most] if value > 0]
