"""How long and on what the frozen weights are trained."""

from __future__ import annotations

from typing import NamedTuple


class TrainingError(ValueError):
    """Training cannot go on; the text names the cause and the cure."""


class Setting(NamedTuple):
    """A learner that is trained: past targets, entities a pool, how many events late its labels are (0: never)."""

    name: str
    lags: int
    entities: int
    delay: int = 0


SETTINGS = (
    Setting("past", 8, 1),
    Setting("no past", 0, 1),
    Setting("pool", 8, 4),
    Setting("pool, no past", 0, 4),
    Setting("fleet", 8, 50),
    Setting("fleet, no past", 0, 50),
    Setting("late", 8, 1, 10),
    Setting("late, no past", 0, 1, 10),
    Setting("very late, no past", 0, 1, 100),
)


class Recipe(NamedTuple):
    """How long and on what to train.

    rounds: most generations of candidates; minutes: most time, None for no limit; seed: of streams and candidates
    candidates: of a round; spread: of the first ones' offsets, a standard deviation
    events: of a training stream; features: their number, in turns
    burn_in: first events of a stream that do not count, as many more as labels are late
    every: rounds between two judgements of the mean candidate; patience: judgements without a better one before the end
    held_streams: of each kind; held_events: their length; held_burn_in
    """

    rounds: int = 120
    minutes: float | None = None
    seed: int = 0
    candidates: int = 14
    spread: float = 0.15
    events: int = 700
    features: tuple[int, ...] = (2, 4, 8)
    burn_in: int = 50
    every: int = 5
    patience: int = 6
    held_streams: int = 2
    held_events: int = 1500
    held_burn_in: int = 50
    settings: tuple[Setting, ...] = SETTINGS


QUICK = Recipe(rounds=4, candidates=6, every=2, events=300, held_streams=1, held_events=600, settings=SETTINGS[:3])
