"""The report on the paper's experiments: one HTML file, nothing to fetch."""

from __future__ import annotations

from collections.abc import Sequence

from ssm_stream.evaluate.report.render import render
from ssm_stream.evaluate.report.section import Section
from ssm_stream.evaluate.report.texts import Language
from ssm_stream.paper.words import words


def report_html(sections: Sequence[Section], description: str, language: Language = "en") -> str:
    """Return the page. description: one line on the run, such as device and versions"""
    text = words(language)
    checks = [check for section in sections for check in section.checks]
    missed = [text.check(check) for check in checks if not check.ok]
    names = text("between").join(missed)
    verdict = text("missed", missed=len(missed), n=len(checks), names=names)
    return render(
        "paper.html.j2",
        title=text("title"),
        language=language,
        words=text,
        sections=[text.section(section) for section in sections],
        verdict=verdict if missed else text("all_met", n=len(checks)),
        description=description,
        checks=checks,
    )
