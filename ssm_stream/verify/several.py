"""Several targets verified one by one: a line for each with its worst deviation, one verdict, one certificate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from ssm_stream.config import Config
from ssm_stream.evaluate.report.numbers import number
from ssm_stream.evaluate.report.section import Cell, Check, Section, Table
from ssm_stream.verify.certificate import Verification, fact_rows
from ssm_stream.verify.recovery import SOON
from ssm_stream.verify.replay import NothingToVerifyError
from ssm_stream.verify.report import WHOLE, Verdict, certificate_html, is_decisive
from ssm_stream.verify.words import Words

COLUMNS = ("target", "largest", "median", "worst", "recovery", "result")


@dataclass(frozen=True)
class Verifications:
    """The verification of each target.

    by_target: by path; nothing: why there is none, by path; words: of the certificate
    config_hash: of the configuration with all targets
    """

    by_target: dict[str, Verification]
    nothing: dict[str, str]
    words: Words
    config_hash: str = ""

    @property
    def verdict(self) -> Verdict:
        """Whether all targets are verified, and why not. missed: recoveries as `TARGET: NAME`"""
        w, verdicts = self.words, {path: each.verdict for path, each in self.by_target.items()}
        good = [path for path, each in verdicts.items() if each.ok]
        path, worst = max(
            ((path, worst_deviation(each)) for path, each in self.by_target.items()), key=lambda item: _share(item[1])
        )
        sentences = [
            w("several.verdict", good=len(good), count=len(verdicts)),
            w("several.worst", value=number(worst.value), bar=f"{worst.bar:g}", check=_short(worst, w), target=path),
        ]
        sentences += [f"{path}: {each.text}" for path, each in verdicts.items() if not each.kernel]
        late: dict[str, list[str]] = {}
        for path, each in verdicts.items():
            for name in each.missed if each.kernel else ():
                late.setdefault(name, []).append(path)
        if late:
            named = [f"{w(f'change.{name}.name')} ({', '.join(paths)})" for name, paths in late.items()]
            sentences.append(w("recovery.some_missed", soon=SOON, changes=w.listed(named)))
        if self.nothing:
            sentences.append(w("several.nothing", targets=w.listed(list(self.nothing))))
        missed = [f"{path}: {name}" for path, each in verdicts.items() for name in each.missed]
        return Verdict(all(each.kernel for each in verdicts.values()), tuple(missed), w.sentences(sentences))

    @property
    def warnings(self) -> list[str]:
        """What the user should change in the inputs; of which targets, if not of all."""
        found: dict[str, list[str]] = {}
        for path, each in self.by_target.items():
            for line in each.warnings:
                found.setdefault(line, []).append(path)
        return [
            line if len(paths) == len(self.by_target) else f"{', '.join(paths)}: {line}"
            for line, paths in found.items()
        ]

    def lines(self) -> list[list[Cell]]:
        """Return a row a target, by `COLUMNS`; the one with the worst deviation first."""
        w, rows = self.words, list[list[Cell]]()
        ranked = sorted(self.by_target.items(), key=lambda item: -_share(worst_deviation(item[1])))
        for path, each in ranked:
            value = {check.name: check.value for check in each.checks}
            verdict, worst = each.verdict, worst_deviation(each)
            judged = [outcome for outcome in each.outcomes if outcome.check is not None]
            recovery = f"{len(judged) - len(verdict.missed)} / {len(judged)}" if judged else "–"
            rows.append(
                [
                    path, number(value[f"{WHOLE}, largest deviation"]), number(value[f"{WHOLE}, median deviation"]),
                    f"{_short(worst, w)}: {number(worst.value)}, {worst.bar_text}", recovery,
                    w("check.met" if verdict.ok else "check.missed"),
                ]
            )  # fmt: skip
        for path, why in self.nothing.items():
            rows.append([path, "–", "–", why, "–", "–"])
        return rows

    def as_json(self) -> dict[str, Any]:
        """Return what `Verification.as_json` has, of all targets, and `by_target` of each."""
        verdict = self.verdict
        return {
            "checks": [
                replace(check, name=f"{path}: {check.name}").row()
                for path, each in self.by_target.items()
                for check in each.checks
            ],
            "ok": verdict.ok,
            "kernel_ok": verdict.kernel,
            "recovery_missed": list(verdict.missed),
            "warnings": self.warnings,
            "verdict": verdict.text,
            "nothing_to_verify": self.nothing,
            "by_target": {path: each.as_json() for path, each in self.by_target.items()},
        }

    def html(self, facts: Iterable[tuple[str, str]]) -> str:
        """Return the certificate: a line a target, then the sections of each. facts: as of `Verification.html`"""
        w = self.words
        titles = column_names(w)
        note = w("several.note", soon=SOON)
        overview = Section(w("several.title"), tables=[Table("", titles, self.lines(), note)])
        sections = [overview]
        for path, each in self.by_target.items():
            sections += [replace(section, title=f"{path} · {section.title}") for section in each.sections]
        checks = [
            replace(worst_deviation(each), name=f"{path} · {w.check(worst_deviation(each))}")
            for path, each in self.by_target.items()
        ]
        one = next(iter(self.by_target.values()))
        together = replace(one, sections=sections, recording={**one.recording, "config_hash": self.config_hash})
        # Each target has a model with inputs of its own.
        rows = [row for row in fact_rows(together, facts) if row[0] != w("fact.model")]
        return certificate_html(sections, rows, self.verdict, w, checks)


def verify_targets(config: Config, paths: list[str], of: Callable[[str], Verification], words: Words) -> Verifications:
    """Return the verification of each target.

    Args:
        config: with all targets
        paths: of those that are verified
        of: verifies one
        words: of the certificate

    Raises:
        NothingToVerifyError: there is nothing to verify of any of them.
    """
    found, nothing = dict[str, Verification](), dict[str, str]()
    error: NothingToVerifyError | None = None
    for path in paths:
        try:
            found[path] = of(path)
        except NothingToVerifyError as raised:
            nothing[path], error = str(raised), raised
    if not found and error is not None:
        raise error
    return Verifications(found, nothing, words, config.hash)


def column_names(words: Words) -> list[str]:
    """Return the names of `COLUMNS`."""
    return [words("several.worst.title" if name == "worst" else f"several.{name}") for name in COLUMNS]


def worst_deviation(found: Verification) -> Check:
    """Return the check of the computation that is nearest to its bar, or furthest beyond it."""
    return max((check for check in found.checks if is_decisive(check)), key=_share)


def _share(check: Check) -> float:
    """Return the value over its bar."""
    if check.bar == 0.0 or not check.ok:
        return 0.0 if check.ok else math.inf if math.isnan(check.value) else 1e9 + check.value
    return check.value / check.bar


def _short(check: Check, words: Words) -> str:
    return words.check(check).removeprefix("verify ")
