"""How long and on what the frozen weights are trained."""

from __future__ import annotations

from typing import NamedTuple


class TrainingError(ValueError):
    """Training cannot go on; the text names the cause and the cure."""


class Setting(NamedTuple):
    """A learner that is trained: past targets, entities a pool, window of attention in training and in validation."""

    name: str
    lags: int
    entities: int
    window: int
    wide: int


SETTINGS = (
    Setting("past", 8, 1, 0, 0),
    Setting("no past", 0, 1, 0, 0),
    Setting("pool", 8, 3, 0, 0),
    Setting("attention", 8, 1, 128, 512),
    Setting("attention, no past", 0, 1, 128, 512),
)


class Recipe(NamedTuple):
    """How long and on what to train.

    updates: most steps of Adam; minutes: most time, None for no limit; seed: of the training streams
    streams B, events T, chunk, features F: of a batch; T a multiple of chunk
    burn_in: first events of a stream that do not count
    rate: of Adam
    patience: rounds without a better candidate before stopping
    held_streams: of each kind; held_events: their length; held_burn_in
    """

    updates: int = 400
    minutes: float | None = None
    seed: int = 0
    streams: int = 26
    events: int = 384
    chunk: int = 64
    features: int = 6
    burn_in: int = 16
    rate: float = 0.03
    patience: int = 5
    held_streams: int = 3
    held_events: int = 1500
    held_burn_in: int = 50
    settings: tuple[Setting, ...] = SETTINGS


QUICK = Recipe(updates=12, streams=13, events=128, held_streams=1, held_events=400, settings=SETTINGS[:3])
