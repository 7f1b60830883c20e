"""What every experiment of the paper runs with, and how it reports on its checks."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import torch

from ssm_stream.evaluate.report.section import Check


@dataclass(frozen=True)
class Context:
    """What an experiment runs with besides its settings."""

    device: str
    """`cpu` or `cuda`."""
    advance: Callable[[float], None]
    """Takes the fraction of the experiment that is done."""

    def generator(self, seed: int) -> torch.Generator:
        """A seeded generator on the device."""
        return torch.Generator(self.device).manual_seed(seed)

    def part(self, index: int, parts: int) -> Callable[[float], None]:
        """`advance` for part `index` of equal `parts`."""
        return lambda fraction: self.advance((index + fraction) / parts)


def relative(value: float, target: float) -> float:
    """|value/target − 1|."""
    return abs(value / target - 1.0)


def within(verb: str, checks: Sequence[Check]) -> str:
    """A sentence on a set of checks: '`verb` in all 4 cases' or which of them fail."""
    missed = [check for check in checks if not check.ok]
    if not missed:
        return f"{verb} in {'all ' if len(checks) > 1 else ''}{len(checks)} of {len(checks)} checks."
    names = "; ".join(f"{c.name} is {c.value:.4g}, bar {c.relation} {c.bar:g}" for c in missed)
    return f"{verb} in {len(checks) - len(missed)} of {len(checks)} checks. Missed: {names}."


def seconds(call: Callable[[], object], repeats: int) -> float:
    """Median seconds of processor time of a call, after two calls to warm up: other programs do not count."""
    times = []
    for _ in range(repeats + 2):
        begin = time.process_time()
        call()
        times.append(time.process_time() - begin)
    return median(times[2:])
