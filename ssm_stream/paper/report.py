"""The paper's experiments as a plan of cached pieces: what runs in `--quick` and in full, and with which settings.

Each experiment is a function from settings and context to a `Section`. Its result is stored under a key made of its
settings, the device and the code that computes it, so that a run that was stopped goes on where it was, and a changed
experiment runs again.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from ssm_stream.evaluate.report.section import Section
from ssm_stream.paper.compare import AblationSettings, BaselineSettings, ablations, baselines
from ssm_stream.paper.equalities import EqualitySettings, equalities
from ssm_stream.paper.experiment import Context
from ssm_stream.paper.guideline import GuidelineSettings, guideline
from ssm_stream.paper.lengths import LengthSettings, lengths
from ssm_stream.paper.linear import (
    ClosedFormSettings,
    OodSettings,
    SizesSettings,
    TrainedSettings,
    closed_form,
    out_of_distribution,
    sizes,
    trained,
)
from ssm_stream.paper.nonlinear import ClassificationSettings, SineSettings, classification, sine
from ssm_stream.paper.sliding_window import WindowSettings, sliding_window
from ssm_stream.paper.steps import SecondOrderSettings, StepsSettings, second_order, steps

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class Experiment:
    """A named piece of the plan."""

    name: str
    """Also the start of its file's name in the cache."""
    settings: dict[str, Any]
    """Everything that the result depends on, besides code and device."""
    run: Callable[[Context], Section]
    share: float
    """Roughly its part of the time, for the progress bar: seconds on one core."""
    module: str = ""
    """Where its function is defined."""


def experiment(
    name: str, share: float, function: Callable[[Settings, Context], Section], settings: Settings
) -> Experiment:
    """Bind a function to its settings, a frozen dataclass."""
    values: dict[str, Any] = asdict(settings)  # type: ignore[call-overload]
    return Experiment(name, values, lambda context: function(settings, context), share, function.__module__)


def quick_plan() -> list[Experiment]:
    """Everything without training at smaller counts, the scalar case trained, one ablation."""
    return [
        experiment("equalities", 8, equalities, EqualitySettings()),
        experiment("closed-form", 4, closed_form, ClosedFormSettings(sizes=(5, 10, 20))),
        experiment("trained-scalar", 8, trained, TrainedSettings()),
        experiment("steps", 14, steps, StepsSettings(learned=(2, 3, 4), trained=(), count=40_000)),
        experiment("out-of-distribution", 6, out_of_distribution, OodSettings(trained=None)),
        experiment("ablations", 4, ablations, AblationSettings(ablations=("linear input",))),
    ]


def full_plan() -> list[Experiment]:
    """All of the paper's experiments and the questions that it left open."""
    return [
        experiment("equalities", 8, equalities, EqualitySettings()),
        experiment("closed-form", 10, closed_form, ClosedFormSettings()),
        experiment("trained-scalar", 8, trained, TrainedSettings()),
        experiment("trained-vector", 9, trained, TrainedSettings(m=10)),
        experiment("sizes", 60, sizes, SizesSettings()),
        experiment("steps", 120, steps, StepsSettings()),
        experiment("out-of-distribution", 22, out_of_distribution, OodSettings()),
        experiment("ablations", 10, ablations, AblationSettings()),
        experiment("baselines", 70, baselines, BaselineSettings()),
        experiment("second-order", 30, second_order, SecondOrderSettings()),
        experiment("sine", 35, sine, SineSettings()),
        experiment("classification", 10, classification, ClassificationSettings()),
        experiment("sliding-window", 100, sliding_window, WindowSettings()),
        experiment("lengths", 40, lengths, LengthSettings()),
        experiment("guideline", 110, guideline, GuidelineSettings()),
    ]


# --- cache ------------------------------------------------------------------------------------------------------------


def code_digest(module: str) -> str:
    """Hash of a module of this package and of those that it imports: what the results of its experiments depend on."""
    here = Path(__file__).resolve().parent
    digest, waiting, found = hashlib.sha256(), [module.rpartition(".")[2]], set[str]()
    while waiting:
        name = waiting.pop()
        if name not in found and (path := here / f"{name}.py").is_file():
            found.add(name)
            waiting += re.findall(
                r"^from ssm_stream\.paper\.(\w+) import", path.read_text(encoding="utf-8"), re.MULTILINE
            )
    for name in sorted(found):
        digest.update((here / f"{name}.py").read_bytes())
    return digest.hexdigest()


def cache_file(folder: Path, piece: Experiment, device: str) -> Path:
    """Where the piece's result is stored: name and a hash of settings, device, code and torch's version."""
    key = json.dumps(
        [piece.settings, device, code_digest(piece.module), torch.__version__], sort_keys=True, default=list
    )
    return folder / f"{piece.name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"


def load(path: Path) -> Section | None:
    """A stored result; None if it is missing or incomplete."""
    try:
        return Section.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        return None


def store(path: Path, section: Section) -> None:
    """Write a result so that an interrupted write leaves no half of it. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.part")
    partial.write_text(json.dumps(section.as_json()), encoding="utf-8")
    partial.replace(path)


# --- run --------------------------------------------------------------------------------------------------------------


def pick_device(name: str) -> str:
    """`auto` takes a GPU where torch has one. Raises ValueError for `cuda` without one and for unknown names."""
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"unknown device {name!r}: take auto, cpu or cuda")
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ValueError("no GPU that torch can use: take --device cpu")
    return "cuda" if available and name != "cpu" else "cpu"


def describe_device(device: str, cpu: str = "CPU, one thread") -> str:
    """The device by name, with the versions of torch and Python, for the report's first line. cpu: its name"""
    name = "GPU " + torch.cuda.get_device_name() if device == "cuda" else cpu
    return f"{name}, torch {torch.__version__}, Python {platform.python_version()}"


def run_plan(
    plan: Sequence[Experiment],
    device: str,
    cache: Path,
    resume: bool,
    notify: Callable[[str], None],
    advance: Callable[[float], None],
) -> list[Section]:
    """Run what the cache does not hold, in order.

    notify takes a line for every experiment, advance the fraction of the plan that is done. Raises OSError where the
    cache cannot be written and FloatingPointError where a training run diverges.
    """
    # The matrices are small: a second thread costs more than it gives, and one keeps sums in the same order everywhere.
    torch.set_num_threads(1)
    total = sum(piece.share for piece in plan)
    done = 0.0
    sections = []
    for piece in plan:
        path = cache_file(cache, piece, device)
        section = load(path) if resume else None
        if section is None:
            begin = time.perf_counter()
            start, share = done, piece.share

            def part(fraction: float, start: float = start, share: float = share) -> None:
                advance((start + share * fraction) / total)

            section = piece.run(Context(device, part))
            section.seconds = time.perf_counter() - begin
            store(path, section)
            notify(f"{piece.name}: {section.seconds:.1f} s")
        else:
            notify(f"{piece.name}: from the cache")
        done += piece.share
        advance(done / total)
        sections.append(section)
    return sections
