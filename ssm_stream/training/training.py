"""Meta-training of the frozen weights: a search by the production learner itself, over many short streams.

The learner learns each stream in context; what is trained here is how it does so. A round draws streams of every
setting anew, and candidates near the mean of the search; each candidate predicts all of these streams, and CMA-ES
(Hansen and Ostermeier, 2001; package `cma`) moves the mean, the spread and the correlations of the search by their
ranks. A gradient would flow through the torch definition, and through as many events as are kept in memory only: it
sees neither what a decay is worth over a thousand events nor labels that come a hundred events late. Every few rounds
the mean is judged on longer streams held back; the best is kept, and the start where none is better.
See `docs/training.md`.

Glossary
    setting    how the learner is set up: with or without past targets, one entity or several, late labels
    loss       mean over the streams of a round of the logarithm of MAE / MAE of the start, each within ±1, twice where
               it is worse; and the pull
    score      the same of the streams held back, as a factor; below 1 is better than the start
    pull       what an offset has to gain: what hardly matters on these streams stays as it was, for others may
    offset     what is trained, see `Offsets`; 0 is the start
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssm_stream.config import ConfigError
from ssm_stream.core.frozen_weights import Weights, digest, untrained
from ssm_stream.training import streams
from ssm_stream.training.batches import Floats, mean_errors, training_batch
from ssm_stream.training.checkpoint import load_progress, no_progress, save_progress, training_key
from ssm_stream.training.history import History, stretch, stretch_error
from ssm_stream.training.offsets import Offsets
from ssm_stream.training.recipe import Recipe
from ssm_stream.training.validation import Row, Validation, loss_of

REACH = 4.0  # largest offset
WORST = 1.0  # largest loss of a stream, a factor e
PULL = 3e-4  # per squared offset: a number that is e times as large has to gain 0.03 %


class Result(NamedTuple):
    """The outcome of a training.

    weights: the best, or the start; better: whether they are not the start; score: of `weights`; rounds done;
    reason: why it ended; rows: by kind of stream and by setting; curve: (rounds, loss, score) a judgement
    """

    weights: Weights
    better: bool
    score: float
    rounds: int
    reason: str
    rows: list[Row]
    curve: list[tuple[int, float, float]]


def train(
    recipe: Recipe,
    start: Weights,
    histories: Sequence[History] = (),
    checkpoint: Path | None = None,
    resume: bool = False,
    notify: Callable[[str], None] = lambda _: None,
    advance: Callable[[float], None] = lambda _: None,
) -> Result:
    """Train from `start`; equal arguments give equal weights where no time limit ends it.

    Args:
        recipe: how long, on what
        start: where to begin, and what is kept where nothing better is found
        histories: the user's own recording, as further streams; one for each of its targets
        checkpoint: written after every round; resume: go on from it where it is there
        notify: takes a line a judgement; advance: takes the fraction done

    Raises:
        ConfigError: the package `cma` is not installed.
        TrainingError: a checkpoint of another training.
    """
    begin = time.monotonic()
    offsets = Offsets(start)
    search = _search(recipe, offsets.size)
    validation = Validation(recipe, histories)
    at_start = validation.judge(start)
    progress, key = no_progress(recipe, offsets.size), training_key(recipe, start, histories)
    if resume and checkpoint is not None and checkpoint.exists():
        progress = load_progress(checkpoint, key, offsets.size)
        notify(f"going on after {progress.rounds} rounds, score {progress.score:.4f}")
    for losses in progress.losses:  # the search is where it was once it is told the same
        search.tell(search.ask(), losses.tolist())
    limit = 60 * recipe.minutes if recipe.minutes else math.inf
    reason = f"{recipe.rounds} rounds done"
    while progress.rounds < recipe.rounds:
        if progress.stale >= recipe.patience:
            reason = f"{recipe.patience} judgements without a better candidate"
            break
        if time.monotonic() - begin >= limit:
            reason = f"{recipe.minutes:g} minutes are over"
            break
        losses = _round(recipe, offsets, histories, search, progress.rounds)
        progress = progress._replace(losses=np.vstack([progress.losses, losses]))
        if progress.rounds % recipe.every == 0 or progress.rounds == recipe.rounds:
            mean = _mean(search)
            score = validation.score(validation.judge(offsets.weights(mean)), at_start) * math.exp(_pull(mean))
            better = score < progress.score
            progress = progress._replace(
                best=mean if better else progress.best,
                score=min(score, progress.score),
                stale=0 if better else progress.stale + 1,
                curve=[*progress.curve, (progress.rounds, float(losses.mean()), score)],
            )
            notify(f"round {progress.rounds}: loss {losses.mean():+.4f}, score {score:.4f}")
        if checkpoint is not None:
            save_progress(progress, checkpoint, key)
        advance(min(1.0, max(progress.rounds / recipe.rounds, (time.monotonic() - begin) / limit)))
    advance(1.0)
    best = offsets.weights(progress.best)
    better = progress.score < 1.0
    rows = validation.rows(validation.judge(untrained()), at_start, validation.judge(best))
    return Result(best, better, progress.score, progress.rounds, reason, rows, progress.curve)


def _search(recipe: Recipe, size: int) -> Any:
    """The search, with random numbers of its own."""
    try:
        import cma
    except ImportError:
        raise ConfigError("train needs the extra `train`: pip install 'ssm-stream[train]'") from None
    rng = np.random.default_rng((recipe.seed, 1))
    options = {"popsize": recipe.candidates, "seed": np.nan, "randn": lambda *n: rng.standard_normal(n), "verbose": -9}
    return cma.CMAEvolutionStrategy(np.zeros(size), recipe.spread, options)


def _mean(search: Any) -> Floats:
    return np.clip(np.asarray(search.mean, np.float64), -REACH, REACH)


def _pull(offset: Floats) -> float:
    return PULL * float(offset @ offset)


def _round(recipe: Recipe, offsets: Offsets, histories: Sequence[History], search: Any, number: int) -> Floats:
    """Streams of every setting, and (candidates,) losses on them, which the search learns."""
    batches = [(each, training_batch(recipe, number, i)) for i, each in enumerate(recipe.settings)]
    # Of many targets some take their turn, so that a round is not of the user's own history alone.
    count = min(len(histories), len(recipe.settings))
    own = [histories[(number * count + i) % len(histories)] for i in range(count)]
    parts = [(each, stretch(recipe, each, number)) for each in own]

    def errors(weights: Weights) -> Floats:
        found = [mean_errors(setting, batch, weights, recipe.burn_in) for setting, batch in batches]
        # A stretch of the user's own counts as much as all streams of a setting.
        mine = [[stretch_error(recipe, each, events, weights)] * len(streams.KINDS) for each, events in parts]
        return np.concatenate([*found, *mine])

    least = 1e-300
    start = errors(offsets.start) + least
    candidates = search.ask()
    losses = np.empty(len(candidates))
    for i, offset in enumerate(candidates):
        found = errors(offsets.weights(np.clip(offset, -REACH, REACH))) + least
        losses[i] = np.nanmean(np.clip(loss_of(found, start), -WORST, WORST)) + _pull(offset)
    search.tell(candidates, losses.tolist())
    return losses


def make_card(result: Result, recipe: Recipe, start: Weights, history: str | None = None) -> dict[str, Any]:
    """The metadata of the file of weights.

    Args:
        result, recipe, start: of `train`
        history: the name of the user's own recording
    """
    return {
        "trained": result.better,
        "weights": digest(result.weights),
        "start": digest(start),
        "trained_on": {
            "streams": list(streams.KINDS),
            "settings": [setting.name for setting in recipe.settings],
            "history": history,
            "recipe": {name: value for name, value in recipe._asdict().items() if name != "settings"},
        },
        "rounds": result.rounds,
        "ended": result.reason,
        "score": result.score,
        "errors": [row._asdict() for row in result.rows],
        "curve": [list(point) for point in result.curve],
    }
