"""Names of the learner's heads and answers, in the order of the core."""

from __future__ import annotations

from typing import NamedTuple

from ssm_stream.core.shapes import LearnerParams


class HeadNames(NamedTuple):
    """Names of a pooled scope's heads by kind; quick and slow are the proximal ones."""

    moments: list[str]
    quick: list[str]
    slow: list[str]
    waves: list[str]


def head_names(p: LearnerParams) -> HeadNames:
    """Such as `moments, decay 0.999`."""
    moments = [
        f"moments, half-life {life / 1000:g} s" if life else f"moments, decay {decay:g}"
        for decay, life in zip(p.decay.tolist(), p.half_life.tolist(), strict=True)
    ]
    return HeadNames(
        moments[: p.M],
        [f"proximal, step {step:.3g}" for step in p.steps.tolist()[: p.prox]],
        [f"proximal, step {p.slow_step:.3g}"] if p.prox else [],
        ["embedding"] if p.R else [],
    )


def answer_names(p: LearnerParams, many: bool) -> list[str]:
    """Names of the answers, (T,), in the kernel's order. many: whether the pool has several entities"""
    bases = ["running mean"] + (["last target"] if p.lags else [])
    bases += ["usual at this hour", "usual at this hour of the week"] if p.seasons else []
    moments, quick, slow, waves = head_names(p)
    pooled = (moments if p.moments else []) + quick + slow + waves
    pooled += (["ferns"] if p.fern else []) + (["gd"] if p.gd else [])
    pooled += [f"{name}, log space" for name in quick + waves] if p.log else []
    if p.window:
        count = 4 + (p.lags > 0) + (3 if p.log else 0)
        pooled += [f"attention {i + 1}" for i in range(count)]
    names = bases + [f"fleet: {name}" for name in pooled]
    if many:
        names += [f"entity: {name}" for name in quick + slow] + [f"norm: {name}" for name in pooled]
    return names
