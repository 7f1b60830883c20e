"""The certificate that `verify` writes: one HTML file, nothing to fetch."""

from __future__ import annotations

from collections.abc import Sequence

from ssm_stream.evaluate.report.numbers import number
from ssm_stream.evaluate.report.render import render
from ssm_stream.evaluate.report.section import Check, Section

KERNEL = "verify kernel"


def kernel_ok(checks: Sequence[Check]) -> bool:
    """Whether the kernel is gradient descent: every check of part (a) is met."""
    return all(check.ok for check in checks if check.name.startswith(KERNEL))


def verdict(checks: Sequence[Check], events: int, entities: int) -> str:
    """The result of the checks, in one or two sentences."""
    value = {check.name: check for check in checks}
    largest = value[f"{KERNEL}: weights, largest relative deviation"]
    median = value[f"{KERNEL}: weights, median relative deviation"]
    over = f"over {events:,} learned events of {entities:,} {'entity' if entities == 1 else 'entities'}"
    missed = [check for check in checks if not check.ok]
    if not kernel_ok(checks):
        failed = "; ".join(
            f"{c.name.removeprefix(KERNEL + ': ')} {number(c.value)}, bar {c.bar:g}"
            for c in missed
            if c.name.startswith(KERNEL)
        )
        return f"Not verified: the production kernel deviates from gradient descent {over} ({failed})."
    proven = (
        f"Verified: {over} the production kernel's weights are those of explicit gradient descent, to "
        f"{number(largest.value)} at the largest and {number(median.value)} in the median."
    )
    if not missed:
        return f"{proven} All {len(checks)} checks are met."
    names = "; ".join(c.name.removeprefix("verify ") for c in missed)
    return f"{proven} Of the other checks, {len(missed)} of {len(checks)} in all are missed: {names}."


def certificate_html(sections: Sequence[Section], facts: Sequence[tuple[str, str]], verdict: str) -> str:
    """Return the page. facts: name and value of what was verified, with what"""
    checks = [check for section in sections for check in section.checks]
    return render(
        "certificate.html.j2",
        title="ssm-stream certificate: the state is gradient descent",
        sections=sections,
        verdict=verdict,
        facts=facts,
        checks=checks,
        ok=kernel_ok(checks),
    )
