"""The views of the gates, and the top gate over them, in 64-bit floats; symbols in `gates.py`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ssm_stream.core.constants import DIFFERENCE_HALF, LEVEL_CLIP, VIEW_BEND, VIEW_DECAY
from ssm_stream.core.shapes import ANSWER, AT_DIFFERENCE, AT_LEVEL, HOURS, LEVELS, VIEWED, VIEWS, G
from ssm_stream.verify.gating.regrets import by_regret, learn_sums, regrets, shares_of, with_shared
from ssm_stream.verify.reference import Array

EVERY = np.ones(1, np.bool_)


class Situation(NamedTuple):
    """hour: of the day; level, difference: places between 0 and LEVELS − 1."""

    hour: int
    level: float
    difference: float


def level_of(mean: float, scale: tuple[float, float]) -> float:
    """Return the place of the experts' mean by mean and deviation of the pool's targets."""
    z = float(np.clip((mean - scale[0]) / scale[1], -LEVEL_CLIP, LEVEL_CLIP)) if scale[1] > 0 else 0.0
    return 0.5 * (LEVELS - 1) * (1.0 + z / (1.0 + abs(z)))


def difference_of(made: Array, unit: float) -> float:
    """Return the place by the gates' mean distance from their mean, in usual errors. made (G,)"""
    off = float(np.abs(made - made.mean()).mean())
    return (LEVELS - 1) * (off / (off + DIFFERENCE_HALF * unit) if unit > 0 else 1.0)


class Views:
    """What the gates of a pool were worth, by situation.

    lately (2, G): decayed regrets and their squares; hours (24, 2, G), levels, differences (LEVELS, 2, G): the same by
    situation; top (2, VIEWS): of the views
    """

    def __init__(self) -> None:
        self.lately, self.hours = np.zeros((2, G)), np.zeros((HOURS, 2, G))
        self.levels, self.differences = np.zeros((2, LEVELS, 2, G))
        self.top = np.zeros((2, VIEWS))

    def weights(self, own: Array, at: Situation) -> Array:
        """(G,) weights of the gates in the top gate's answer. own (2, G): of the entity"""
        sums = np.stack(
            [
                self.lately,
                with_shared(self.hours[at.hour, None], np.ones(1), self.lately),
                with_shared(own[None], np.ones(1), self.lately),
                with_shared(self.differences, shares_of(at.difference), self.lately),
                with_shared(self.levels, shares_of(at.level), self.lately),
            ]
        )
        views = by_regret(sums[:, 0], sums[:, 1], EVERY)
        return np.asarray(by_regret(self.top[0], self.top[1], EVERY) @ views)

    def learn(self, made: Array, own: Array, y: float, unit: float, hour: int, decays: tuple[float, float]) -> None:
        """Judge gates and views by target y.

        made (MADE,): what gates and views answered, and where; own (2, G): of the entity, learns, too; decays: of
            `lately` and of the top gate
        """
        views = made[VIEWED : VIEWED + VIEWS]
        r = regrets(views, made[None, :G], y, unit, VIEW_BEND)
        lately, of_hour, of_entity, difference, level = np.stack([r, r * r], 1)
        self.lately = decays[0] * self.lately + lately
        learn_sums(self.hours[hour, None], np.ones(1), VIEW_DECAY, of_hour)
        learn_sums(own[None], np.ones(1), VIEW_DECAY, of_entity)
        learn_sums(self.differences, shares_of(made[AT_DIFFERENCE]), VIEW_DECAY, difference)
        learn_sums(self.levels, shares_of(made[AT_LEVEL]), VIEW_DECAY, level)
        r = regrets(made[ANSWER : ANSWER + 1], views[None], y, unit, VIEW_BEND)[0]
        self.top = decays[1] * self.top + np.stack([r, r * r])
