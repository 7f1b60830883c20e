"""`verify`: what holds of the model on a recording of the user's own. Section 3 of `docs/model.md`.

Parts: (a) the production model is gradient descent, (b) it learns in context, (c) it recovers from changes, (d) the
paper's construction; and whether the inputs carry the gradient. Each is a section; (a), (c) and the equalities of (d)
decide whether the recording is verified.
"""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ssm_stream.config import Config
from ssm_stream.evaluate.report.section import Check, Section
from ssm_stream.evaluate.report.texts import Language
from ssm_stream.reference import has_torch
from ssm_stream.verify.construction import construction_section
from ssm_stream.verify.context import context_section
from ssm_stream.verify.excitation import excitation_section
from ssm_stream.verify.kernel import kernel_section
from ssm_stream.verify.recovery import Outcome, recovery_section
from ssm_stream.verify.replay import compare, replay
from ssm_stream.verify.report import Verdict, certificate_html, judge
from ssm_stream.verify.words import Words, words

TOLERANCE = 1e-3


@dataclass(frozen=True)
class Verification:
    """The sections, the figures of each part for the JSON, what they are about, and the judgement of each recovery."""

    sections: list[Section]
    figures: dict[str, Any]
    recording: dict[str, Any]
    outcomes: list[Outcome]
    warnings: list[str]
    """What the user should change in the inputs."""
    words: Words

    @property
    def checks(self) -> list[Check]:
        """Of all sections, in their order."""
        return [check for section in self.sections for check in section.checks]

    @property
    def verdict(self) -> Verdict:
        """Whether the recording is verified, and why not."""
        kernel, r = self.figures["kernel"], self.recording
        attention = not kernel["attention_compared"]
        return judge(self.checks, self.outcomes, kernel["events"], r["entities"], attention, self.words)

    def as_json(self) -> dict[str, Any]:
        """checks (rows of name, value, relation, bar, ok), ok, kernel_ok, recovery_missed, recovery_not_judged,
        warnings, verdict, recording, and the figures of each part."""
        verdict = self.verdict
        return {
            "checks": [check.row() for check in self.checks],
            "ok": verdict.ok,
            "kernel_ok": verdict.kernel,
            "recovery_missed": list(verdict.missed),
            "recovery_not_judged": {outcome.name: outcome.why for outcome in self.outcomes if outcome.check is None},
            "warnings": self.warnings,
            "verdict": verdict.text,
            "recording": self.recording,
            **self.figures,
        }

    def html(self, facts: Iterable[tuple[str, str]]) -> str:
        """The certificate. facts: further rows about the recording: key of their name in the words, and value"""
        return certificate_html(self.sections, fact_rows(self, facts), self.verdict, self.words)


def fact_rows(found: Verification, facts: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return name and value of what was verified, with what. facts: as of `Verification.html`"""
    r, w = found.recording, found.words
    refused = ", ".join(f"{fault} {count:,}" for fault, count in r["refused"].items()) or w("fact.refused.none")
    seconds = sum(section.seconds for section in found.sections)
    numbers = {name: f"{r[name]:,}" for name in ("events", "labelled", "entities", "heads", "inputs", "pools")}
    return [
        *((w(f"fact.{name}"), value) for name, value in facts),
        (w("fact.events"), w("fact.events.value", **numbers)),
        (w("fact.refused"), refused),
        (w("fact.model"), w("fact.model.value", **numbers)),
        (w("fact.configuration"), r["config_hash"]),
        (w("fact.versions"), _versions()),
        (w("fact.made"), w("fact.made.value", at=f"{datetime.now(UTC):%Y-%m-%d %H:%M}", seconds=f"{seconds:.0f}")),
    ]


def file_facts(config: Path, file: Path) -> list[tuple[str, str]]:
    """Name and SHA-256 of the recording, and the configuration's name, each with the key of its name in the words.

    Raises:
        OSError: the recording cannot be read.
    """
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return [("recording", file.name), ("digest", digest), ("file", config.name)]


def _versions() -> str:
    names = ["ssm-stream", "numpy", *(["torch"] if has_torch() else [])]
    packages = ", ".join(f"{name} {version(name)}" for name in names)
    return f"{packages}, Python {platform.python_version()} on {platform.machine()}"


def verify(
    config: Config,
    rows: Iterable[dict[str, Any]],
    tolerance: float = TOLERANCE,
    on_rows: Callable[[int], None] = lambda _: None,
    advance: Callable[[str, float], None] = lambda _part, _fraction: None,
    language: Language = "en",
) -> Verification:
    """All parts over the rows (dicts, one an event), as production would take them.

    Args:
        config: of the pilot; the model is the production model that it describes
        rows: in the order of the recording
        tolerance: bar of the largest relative deviation of the kernel
        on_rows: takes the number of rows of each batch that the engine has done
        advance: takes the part that runs now and the fraction of it that is done
        language: of the certificate and the verdict

    Raises:
        NothingToVerifyError: no entity has two labelled events.
        RecordingError: the rows come from a file that cannot be read.
    """
    began, w = time.perf_counter(), words(language)
    run = replay(config, rows, on_rows)
    recorder, distances = compare(run, lambda fraction: advance("kernel", fraction))
    seen, deviation, frozen = recorder.seen, recorder.deviation, recorder.frozen
    sections: list[Section] = []
    figures: dict[str, Any] = {}

    def add(part: str, made: tuple[Section, Any]) -> None:
        nonlocal began
        section, figures[part] = made
        section.seconds = time.perf_counter() - began
        began = time.perf_counter()
        sections.append(section)
        advance(part, 1.0)

    add("kernel", kernel_section(run, seen, deviation, distances, tolerance, w))
    add("in_context", context_section(run, seen, w))
    excitation, found, advice = excitation_section(run, seen, w)
    add("excitation", (excitation, found))
    recovery, outcomes, rows_of_changes = recovery_section(
        run, frozen, seen.yhat, w, lambda fraction: advance("recovery", fraction)
    )
    add("recovery", (recovery, rows_of_changes))
    add("construction", construction_section(run, seen, w))
    recording = {
        "events": len(run.y),
        "labelled": int(run.labelled.sum()),
        "entities": len(set(run.names)),
        "refused": run.refused,
        "pools": len(set(run.pools.tolist())),
        "inputs": run.params.L,
        "heads": len(figures["kernel"]["heads"]),
        "config_hash": config.hash,
    }
    return Verification(sections, figures, recording, outcomes, advice, w)
