"""Changes that `verify` injects into copies of a recording: of a coefficient, of a sensor's offset, and noise."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.verify.record import Frozen
from ssm_stream.verify.reference import Array
from ssm_stream.verify.replay import Replay

COEFFICIENT = 2.0
"""Injected weight: standard deviations of the target for one of the feature."""
OFFSET = 3.0
"""Injected sensor offset, in standard deviations."""
GAIN = 2.0
"""Injected gain of the target about its mean, where the events have no features."""
MIN_MOVES = 0.1
"""Standard deviation of the feature after the change, as a part of that before, without which it shows nothing."""
SEED = 20_240


class Change(NamedTuple):
    """An injected change and the columns u (n, C) and targets y (n,) that hold it.

    name: coefficient, offset or noise; text: key of its description in the words, with `values`
    gain: multiple of the uninjected error that the change itself makes of it
    always: columns and targets that hold it from the first event on
    why: key of the reason for which the recording cannot show the recovery; empty if it can
    """

    name: str
    text: str
    values: dict[str, str]
    u: Array
    y: Array
    always: tuple[Array, Array]
    gain: float = 1.0
    why: str = ""


def since_change(run: Replay) -> NDArray[np.int64]:
    """(n,) labelled events since the middle of the life; negative before."""
    since: NDArray[np.int64] = run.seen - run.middle[run.lives]
    return since


def moments(run: Replay, values: Array, use: NDArray[np.bool_]) -> tuple[Array, Array]:
    """(E,) mean and deviation of a column (n,) over those of each life's events that are in `use` and known."""
    use = use & ~np.isnan(values)
    lives, E = run.lives[use], len(run.names)
    count = np.maximum(np.bincount(lives, minlength=E), 1)
    mean = np.bincount(lives, values[use], E) / count
    variance = np.bincount(lives, (values[use] - mean[lives]) ** 2, E) / count
    return mean, np.sqrt(variance)


def injected_changes(run: Replay, frozen: Frozen, error: Array, soon: int) -> list[Change]:
    """Return the three changes, from the middle of each life on.

    frozen: of the uninjected run, for what each input moves; error (n,): absolute error of the uninjected run;
    soon: events after the change in which the recovery is judged
    """
    since, lives = since_change(run), run.lives
    before, after = since < 0, since >= 0
    y_mean, y_size = moments(run, run.y, before)
    usual = moments(run, error, before)[0]
    normal = np.random.default_rng(SEED).standard_normal(len(run.y))
    # The mean of |a + b| of normal a, b with equal spread s is s √2 √(2/π); doubling the error takes a spread of √3.
    noise = math.sqrt(3.0) * math.sqrt(math.pi / 2.0) * usual[lives] * normal
    flat = "" if (y_size > 0).any() else "flat_target"
    # On a constant target the usual error is that of the first events alone.
    why = flat if (usual > 0).any() else "exact"
    noisy = _on_target(run, "noise", "change.noise", {}, run.y + noise, why=why)
    if not run.plan.features:
        gained = y_mean[lives] + GAIN * (run.y - y_mean[lives])
        raised = run.y + OFFSET * y_size[lives]
        return [
            _on_target(run, "coefficient", "change.gain", {"gain": f"{GAIN:g}"}, gained, GAIN, flat),
            _on_target(run, "offset", "change.raised", {"offset": f"{OFFSET:g}"}, raised, why=flat),
            noisy,
        ]
    j, size, moves = _feature_to_change(run, frozen, soon)
    column, feature = run.u[:, j], run.plan.features[j]
    mean = moments(run, column, before)[0]
    z = np.nan_to_num((column - mean[lives]) / np.where(size > 0, size, np.inf)[lives])
    flat_feature = "" if (size > 0).any() else "flat_feature"
    still = flat_feature or ("still_feature" if not moves else "")
    shifted = run.u.copy()
    shifted[:, j] = column + OFFSET * size[lives]
    values = {"feature": feature, "coefficient": f"{COEFFICIENT:g}", "offset": f"{OFFSET:g}"}
    turned = run.y + COEFFICIENT * z * y_size[lives]
    offset = np.where(after[:, None], shifted, run.u)
    return [
        _on_target(run, "coefficient", "change.coefficient", values, turned, why=flat or still),
        Change("offset", "change.offset", values, offset, run.y, (shifted, run.y), why=flat or flat_feature),
        noisy,
    ]  # fmt: skip


def _on_target(
    run: Replay, name: str, text: str, values: dict[str, str], y: Array, gain: float = 1.0, why: str = ""
) -> Change:
    """A change of the target. y (n,): with it from the first event on"""
    return Change(name, text, values, run.u, np.where(since_change(run) >= 0, y, run.y), (run.u, y), gain, why)


def _feature_to_change(run: Replay, frozen: Frozen, soon: int) -> tuple[int, Array, bool]:
    """The feature that moves the predictions most, its deviation (E,) before the change, and whether it moves after it.

    One that varies before and after the change comes first, then one that varies before.
    """
    since = since_change(run)
    sizes, moves = [], []
    for j in range(len(run.plan.features)):
        before, after = (moments(run, run.u[:, j], use)[1] for use in (since < 0, (since >= 0) & (since < soon)))
        sizes.append(before)
        moves.append(bool((after > MIN_MOVES * before).any() and (before > 0).any()))
    ranks = [(moves[j], bool((sizes[j] > 0).any()), float(frozen.moved[:, j].sum())) for j in range(len(sizes))]
    j = max(range(len(ranks)), key=ranks.__getitem__)
    return j, sizes[j], moves[j]
