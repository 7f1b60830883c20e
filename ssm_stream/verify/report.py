"""The verdict of `verify`, and the certificate that it writes: one HTML file, nothing to fetch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from ssm_stream.evaluate.report.numbers import number
from ssm_stream.evaluate.report.render import render
from ssm_stream.evaluate.report.section import Check, Section
from ssm_stream.verify.recovery import SOON, Outcome
from ssm_stream.verify.words import Words

KERNEL = "verify kernel"
EQUAL = "verify equal"
WHOLE = f"{KERNEL}: the whole prediction"


class Verdict(NamedTuple):
    """kernel: whether the model computes what it should; missed: recoveries that missed the bar; text: sentences"""

    kernel: bool
    missed: tuple[str, ...]
    text: str

    @property
    def ok(self) -> bool:
        """Whether the recording is verified: no recovery is missed either."""
        return self.kernel and not self.missed


def is_decisive(check: Check) -> bool:
    """Whether the check holds the computation to its definition: kernel, gates, or construction."""
    return check.name.startswith((KERNEL, EQUAL))


def judge(
    checks: Sequence[Check], outcomes: Sequence[Outcome], events: int, entities: int, attention: bool, words: Words
) -> Verdict:
    """Return the verdict. attention: whether its corrections, which are not compared, are in the prediction"""
    over = words(
        "verdict.over", events=f"{events:,}", entities=f"{entities:,}",
        entities_word=words("verdict.entity" if entities == 1 else "verdict.entities"),
    )  # fmt: skip
    wrong = [check for check in checks if is_decisive(check) and not check.ok]
    missed = [(outcome.name, outcome.check) for outcome in outcomes if outcome.check and not outcome.check.ok]
    names = tuple(name for name, _ in missed)
    unjudged = _unjudged(outcomes, words)
    if wrong:
        failed = "; ".join(
            words("verdict.failed", check=_short(check, words), value=number(check.value), bar=f"{check.bar:g}")
            for check in wrong
        )
        sentences = [words("verdict.kernel", over=over, failed=failed)]
        if missed:
            listed = words.listed([words(f"change.{name}.name") for name in names])
            sentences.append(words("recovery.some_missed", soon=SOON, changes=listed))
        return Verdict(False, names, words.sentences([*sentences, *unjudged]))
    value = {check.name: check.value for check in checks}
    proven = {
        "over": over, "but": words("verdict.but") if attention else "",
        "largest": number(value[f"{WHOLE}, largest deviation"]),
        "median": number(value[f"{WHOLE}, median deviation"]),
    }  # fmt: skip
    met = [words(f"change.{outcome.name}.name") for outcome in outcomes if outcome.check and outcome.check.ok]
    recovered = [words("verdict.recovered", soon=SOON, changes=words.listed(met))] if met else []
    if missed:
        listed = words.listed([words(f"change.{name}.name") for name in names])
        later = words.listed([_events(check, words) for _, check in missed])
        first = words("verdict.recovery", changes=listed, soon=SOON, events=later, **proven)
    else:
        first = words("verdict.proven", **proven)
    others = [c for c in checks if not c.ok and not is_decisive(c) and not c.name.startswith("verify recovery")]
    listed = "; ".join(
        words("verdict.check", check=_short(c, words), value=number(c.value), bar=f"{c.bar:g}") for c in others
    )
    last = [words("verdict.missed", checks=listed)] if others else []
    return Verdict(True, names, words.sentences([first, *recovered, *unjudged, *last]))


def _unjudged(outcomes: Sequence[Outcome], words: Words) -> list[str]:
    """A sentence for each change whose recovery the recording cannot show, or one for all if the reason is the same."""
    reasons = {outcome.why for outcome in outcomes}
    if len(outcomes) > 1 and len(reasons) == 1 and "" not in reasons:
        return [words("verdict.all_unjudged", why=outcomes[0].why)]
    return [
        words("verdict.unjudged", change=words(f"change.{outcome.name}.name"), why=outcome.why)
        for outcome in outcomes
        if outcome.why
    ]


def _events(check: Check, words: Words) -> str:
    if not math.isfinite(check.value):
        return words("verdict.events.never")
    return words("verdict.events.back", events=f"{int(check.value):,}")


def _short(check: Check, words: Words) -> str:
    return words.check(check).removeprefix("verify ")


def certificate_html(
    sections: Sequence[Section],
    facts: Sequence[tuple[str, str]],
    verdict: Verdict,
    words: Words,
    checks: Sequence[Check] | None = None,
) -> str:
    """Return the page.

    Args:
        facts: name and value of what was verified, with what
        checks: at its head, the worst of each target; None: those of all sections
    """
    return render(
        "certificate.html.j2",
        title=words("title"),
        language=words.language,
        sections=sections,
        verdict=verdict.text,
        facts=facts,
        checks=[check for section in sections for check in section.checks] if checks is None else checks,
        checks_title=words("checks" if checks is None else "several.checks"),
        ok=verdict.ok,
        words=words,
    )
