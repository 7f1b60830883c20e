"""`verify`: what holds of the model on a recording of the user's own. Section 3 of `docs/model.md`.

Four parts: (a) the production kernel is gradient descent, (b) it learns in context, (c) it recovers from changes, (d)
the paper's construction. Each is a section with checks; only (a) decides whether the recording is verified.
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
from ssm_stream.reference import has_torch
from ssm_stream.verify.construction import construction_section
from ssm_stream.verify.context import context_section
from ssm_stream.verify.kernel import kernel_section
from ssm_stream.verify.recovery import recovery_section
from ssm_stream.verify.replay import compare, replay
from ssm_stream.verify.report import certificate_html, kernel_ok, verdict

TOLERANCE = 1e-3


@dataclass(frozen=True)
class Verification:
    """The sections, the figures of each part for the JSON, and what they are about."""

    sections: list[Section]
    figures: dict[str, Any]
    recording: dict[str, Any]

    @property
    def checks(self) -> list[Check]:
        """Of all sections, in their order."""
        return [check for section in self.sections for check in section.checks]

    @property
    def ok(self) -> bool:
        """Whether part (a) is met: the kernel is gradient descent."""
        return kernel_ok(self.checks)

    @property
    def verdict(self) -> str:
        """The result of the checks, as a sentence."""
        return verdict(self.checks, self.figures["kernel"]["events"], self.recording["entities"])

    def as_json(self) -> dict[str, Any]:
        """checks (rows of name, value, relation, bar, ok), ok, verdict, recording, and the figures of each part."""
        rows = [check.row() for check in self.checks]
        return {"checks": rows, "ok": self.ok, "verdict": self.verdict, "recording": self.recording, **self.figures}

    def html(self, facts: Iterable[tuple[str, str]]) -> str:
        """The certificate. facts: further rows about the recording."""
        r = self.recording
        refused = ", ".join(f"{fault} {count:,}" for fault, count in r["refused"].items()) or "none"
        seconds = sum(section.seconds for section in self.sections)
        rows = [
            *facts,
            ("events", f"{r['events']:,}, of them {r['labelled']:,} with a target; entities: {r['entities']:,}"),
            ("rows refused", refused),
            (
                "model",
                f"{r['heads']} heads on {r['inputs']} inputs, {r['pools']} {'pool' if r['pools'] == 1 else 'pools'}",
            ),
            ("configuration", r["config_hash"]),
            ("versions", _versions()),
            ("made", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, in {seconds:.0f} s"),
        ]
        return certificate_html(self.sections, rows, self.verdict)


def file_facts(config: Path, file: Path) -> list[tuple[str, str]]:
    """Name and SHA-256 of the recording, and the configuration's name.

    Raises:
        OSError: the recording cannot be read.
    """
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return [("recording", file.name), ("its SHA-256", digest), ("configuration file", config.name)]


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
) -> Verification:
    """All four parts over the rows (dicts, one an event), as production would take them.

    Args:
        config: of the pilot; the model is the production model that it describes
        rows: in the order of the recording
        tolerance: bar of the largest relative deviation of the kernel
        on_rows: takes the number of rows of each batch that the engine has done
        advance: takes the part that runs now and the fraction of it that is done

    Raises:
        NothingToVerifyError: no entity has two labelled events.
        RecordingError: the rows come from a file that cannot be read.
    """
    began = time.perf_counter()
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

    add("kernel", kernel_section(run, seen, deviation, distances, tolerance))
    add("in_context", context_section(run, seen))
    add("recovery", recovery_section(run, frozen, seen.yhat, lambda fraction: advance("recovery", fraction)))
    add("construction", construction_section(run, seen))
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
    return Verification(sections, figures, recording)
