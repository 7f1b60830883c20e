"""The text of the report on a period, a YAML file a language: key → text with names to fill in."""

from __future__ import annotations

import functools
from datetime import datetime

from ssm_stream.evaluate.report.texts import Language, Texts, read_texts


class Words(Texts):
    """The texts of one language. texts: by key"""

    def count(self, n: int, noun: str) -> str:
        """Return a number with its noun, in singular or plural."""
        return self(f"{noun}.one" if n == 1 else f"{noun}.more", n=f"{n:,}")

    def rule(self, rule: str) -> str:
        """Return the name of a rule; a later release may have one without a name here."""
        return self.texts.get(f"rule.{rule}", rule)

    def compared(self, now: float, before: float) -> str:
        """Return how a number compares with that of the period before."""
        if now == before:
            return self("as_before")
        return self("more_than" if now > before else "less_than", before=f"{before:,}")

    def entity(self, name: str) -> str:
        """Return an entity's name; `*` stands for many at once."""
        return self("many") if name == "*" else name

    def hours(self, hours: float) -> str:
        """Return a time in its largest unit."""
        if hours >= 48:
            return self("days", n=f"{hours / 24:.1f}")
        return self("hours", n=f"{hours:.1f}") if hours >= 1 else self("minutes", n=f"{hours * 60:.0f}")

    def time(self, iso: str) -> str:
        """Return a time to the minute."""
        return f"{datetime.fromisoformat(iso):%Y-%m-%d %H:%M}"

    def percent(self, share: float | None) -> str:
        """Return a share in percent."""
        return self("unknown") if share is None else f"{share:.0%}"


@functools.cache
def words(language: Language) -> Words:
    """Return the texts of a language."""
    return Words(language, read_texts("ssm_stream.evaluate.report.period", f"words.{language}.yaml"))
