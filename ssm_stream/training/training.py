"""Meta-training of the frozen weights: back-propagation through time over many short streams. `docs/training.md`.

The learner (`learner.py`) learns each stream in context; what is trained here is how it does so. Streams are run in
batches, `chunk` events at a time; the gradient of a chunk's loss flows through the states inside the chunk (truncated
back-propagation through time) and moves the weights by one step of Adam. Candidates, the mean weights of a round, are
judged by the production kernel on longer streams held back; the best is kept, and the start where none is better.

Glossary
    setting    how the learner is set up: with or without past targets, one entity or several, attention
    round      one batch of streams of every setting, run to its end; then a candidate is judged
    score      geometric mean over the streams held back of MAE / MAE of the start; below 1 is better than the start
    offset     what is trained: a number an element of the weights, added to its logarithm (where bounded below), its
               logit (where bounded on both sides) or itself; 0 is the start
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ssm_stream.core.frozen_weights import Weights, digest, untrained
from ssm_stream.core.shapes import LearnerParams
from ssm_stream.reference import learner
from ssm_stream.training import streams
from ssm_stream.training.batches import (
    Batch,
    Floats,
    chunk_loss,
    detach,
    predict_with_kernel,
    setting_params,
    training_batch,
    usual_error,
)
from ssm_stream.training.checkpoint import Progress, load_progress, save_progress, training_key
from ssm_stream.training.history import History, Stretches
from ssm_stream.training.offsets import Offsets, meta_parameters
from ssm_stream.training.recipe import Recipe, TrainingError
from ssm_stream.training.validation import Row, Validation

REACH = 4.0  # largest offset
CLIP = 1.0  # largest norm of a gradient
ADAM = (0.9, 0.98)


class Result(NamedTuple):
    """The outcome of a training.

    weights: the best, or the start; better: whether they are not the start; score: of `weights`; updates, rounds done;
    reason: why it ended; rows: by kind of stream and by setting; curve: (updates, loss, score) a round
    """

    weights: Weights
    better: bool
    score: float
    updates: int
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
        notify: takes a line a round; advance: takes the fraction done

    Raises:
        TrainingError: a checkpoint of another training; a gradient of which nothing is finite.
    """
    begin = time.monotonic()
    torch.set_num_threads(1)
    offsets = Offsets(start)
    validation = Validation(recipe, histories)
    at_start = validation.judge(start)
    zeros = np.zeros(offsets.size)
    progress = Progress(zeros, zeros, zeros, zeros, 1.0, 0, 0, 0, [])
    key = training_key(recipe, start, histories)
    if resume and checkpoint is not None and checkpoint.exists():
        progress = load_progress(checkpoint, key, offsets.size)
        notify(f"going on after {progress.updates} updates, score {progress.score:.4f}")

    stretches = [Stretches(recipe, each, start) for each in histories]
    limit = 60 * recipe.minutes if recipe.minutes else math.inf

    def over() -> bool:
        return time.monotonic() - begin >= limit

    def report(updates: int) -> None:
        advance(min(1.0, max(updates / max(recipe.updates, 1), (time.monotonic() - begin) / limit)))

    reason = f"{recipe.updates} updates done"
    while progress.updates < recipe.updates:
        if progress.stale >= recipe.patience:
            reason = f"{recipe.patience} rounds without a better candidate"
            break
        if over():
            reason = f"{recipe.minutes:g} minutes are over"
            break
        progress, candidate, loss = _round(recipe, offsets, stretches, progress, over, report)
        score = validation.score(validation.judge(offsets.weights(torch.from_numpy(candidate))), at_start)
        if score < progress.score:
            progress = progress._replace(best=candidate, score=score, stale=0)
        else:
            progress = progress._replace(stale=progress.stale + 1)
        progress.curve.append((progress.updates, loss, score))
        notify(f"round {progress.rounds}: {progress.updates} updates, loss {loss:.4f}, score {score:.4f}")
        if checkpoint is not None and not over():
            save_progress(progress, checkpoint, key)
    advance(1.0)
    best = offsets.weights(torch.from_numpy(progress.best))
    better = progress.score < 1.0
    rows = validation.rows(validation.judge(untrained()), at_start, validation.judge(best))
    return Result(best, better, progress.score, progress.updates, progress.rounds, reason, rows, progress.curve)


def _round(
    recipe: Recipe,
    offsets: Offsets,
    stretches: Sequence[Stretches],
    progress: Progress,
    over: Callable[[], bool],
    report: Callable[[int], None],
) -> tuple[Progress, Floats, float]:
    """Streams of every setting to their end, in turns, an update a chunk; the mean offset and the mean loss."""
    lanes: list[tuple[LearnerParams, Batch, Floats]] = []
    for i, setting in enumerate(recipe.settings):
        p, batch = setting_params(setting, recipe.features, offsets.start), training_batch(recipe, progress.rounds, i)
        lanes.append((p, batch, usual_error(predict_with_kernel(p, batch) - batch.y, recipe.burn_in)))
    # Of many targets some take their turn, so that a round is not of the user's own history alone.
    count = min(len(stretches), len(recipe.settings))
    for i in range(count):
        each = stretches[(progress.rounds * count + i) % len(stretches)]
        lanes.append((each.p, *each.batch(progress.rounds)))
    states = [learner.new_state(p, len(batch.y), batch.entities) for p, batch, _ in lanes]
    offset, mean, square = (torch.from_numpy(part) for part in (progress.offset, progress.mean, progress.square))
    total, losses, updates = torch.zeros_like(offset), [], progress.updates
    for first in range(0, recipe.events, recipe.chunk):
        for i, (p, batch, unit) in enumerate(lanes):
            last = min(first + recipe.chunk, batch.y.shape[1])
            if first >= last or updates >= recipe.updates or over():
                continue
            here = offset.clone().requires_grad_()
            meta = meta_parameters(p, offsets, here)
            loss, state = chunk_loss(p, meta, states[i], batch, unit, range(first, last), recipe.burn_in)
            (gradient,) = torch.autograd.grad(loss, here)
            states[i] = detach(state)
            # Attention divides by the distance of the nearest key, which may be nothing while few keys are held: then
            # some elements have no derivative, and stay.
            usable = gradient.isfinite()
            if not bool(usable.any()):
                raise TrainingError(f"the gradient of update {updates + 1} is not finite; try another --seed")
            gradient = torch.where(usable, gradient, 0.0)
            updates += 1
            gradient = gradient * (CLIP / gradient.norm().clamp_min(CLIP))
            mean = ADAM[0] * mean + (1.0 - ADAM[0]) * gradient
            square = ADAM[1] * square + (1.0 - ADAM[1]) * gradient.square()
            step = mean / (1.0 - ADAM[0] ** updates) / ((square / (1.0 - ADAM[1] ** updates)).sqrt() + 1e-8)
            offset = (offset - recipe.rate * step).clamp(-REACH, REACH)
            total = total + offset
            losses.append(float(loss.detach()))
            report(updates)
    done = updates - progress.updates
    progress = progress._replace(
        offset=offset.numpy(), mean=mean.numpy(), square=square.numpy(), updates=updates, rounds=progress.rounds + 1
    )
    return progress, (total / max(done, 1)).numpy(), float(np.mean(losses)) if losses else math.nan


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
        "updates": result.updates,
        "rounds": result.rounds,
        "ended": result.reason,
        "score": result.score,
        "errors": [row._asdict() for row in result.rows],
        "curve": [list(point) for point in result.curve],
    }
