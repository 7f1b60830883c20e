"""The certificate that `verify` writes: one HTML file, nothing to fetch."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from ssm_stream.evaluate.report.html import STYLE, check_rows, number, section_html
from ssm_stream.evaluate.report.section import Check, Section

KERNEL = "verify kernel"
OWN_STYLE = """
figure{width:560px;max-width:100%}td.word{text-align:right}td.word:first-child,td.fact{text-align:left}
td.fact{overflow-wrap:anywhere}nav{columns:1;margin-top:1rem}
"""


def kernel_ok(checks: Sequence[Check]) -> bool:
    """Whether the kernel is gradient descent: every check of part (a) is met."""
    return all(check.ok for check in checks if check.name.startswith(KERNEL))


def verdict(checks: Sequence[Check], events: int, entities: int) -> str:
    """What the checks say, in one or two sentences."""
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


def certificate_html(sections: Sequence[Section], said: str, facts: Sequence[tuple[str, str]]) -> str:
    """The page. said: the verdict; facts: what was verified, with what."""
    checks = [check for section in sections for check in section.checks]
    rows = "".join(f"<tr><td>{escape(k)}</td><td class=fact>{escape(v)}</td></tr>" for k, v in facts)
    links = "".join(f'<li><a href="#s{i}">{escape(s.title)}</a></li>' for i, s in enumerate(sections))
    chapters = "".join(section_html(section, f"s{i}") for i, section in enumerate(sections))
    tone = "ok" if kernel_ok(checks) else "miss"
    title = "ssm-stream certificate: the state is gradient descent"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}{OWN_STYLE}</style></head><body><h1>{title}</h1>"
        f'<p class="lead {tone}">{escape(said)}</p>'
        f"<div class=scroll><table><tbody>{rows}</tbody></table></div><h3>All checks</h3>{check_rows(checks)}"
        f"<nav><ol>{links}</ol></nav>{chapters}</body></html>\n"
    )
