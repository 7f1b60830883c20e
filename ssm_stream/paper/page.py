"""The report on the paper's experiments: one HTML file, nothing to fetch."""

from __future__ import annotations

from collections.abc import Sequence

from ssm_stream.evaluate.report.render import render
from ssm_stream.evaluate.report.section import Section


def report_html(sections: Sequence[Section], description: str) -> str:
    """Return the page. description: one line on the run, such as device and versions"""
    checks = [check for section in sections for check in section.checks]
    missed = [check.name for check in checks if not check.ok]
    verdict = f"{len(missed)} of {len(checks)} checks are missed: {'; '.join(missed)}."
    return render(
        "paper.html.j2",
        title="State space models learn in context by gradient descent: measured",
        sections=sections,
        verdict=verdict if missed else f"All {len(checks)} checks are met.",
        description=description,
        checks=checks,
    )
