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

import hashlib
import json
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import safetensors.numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssm_stream.config import Config
from ssm_stream.core import kernel, shapes
from ssm_stream.core.features import FeaturePlan, calendar_columns
from ssm_stream.core.frozen_weights import Weights, bounds, digest, save, untrained
from ssm_stream.core.shapes import PLAIN, Heads, Learner, LearnerParams
from ssm_stream.engine.engine import Engine
from ssm_stream.ingest.events import Events
from ssm_stream.reference import learner
from ssm_stream.reference.state import Meta
from ssm_stream.training import streams as tasks

Floats = NDArray[np.float64]
T_ = TypeVar("T_")
ERROR_CLIP = 5.0  # of a stream's usual error: what one event may cost
REACH = 4.0  # largest offset
CLIP = 1.0  # largest norm of a gradient
ADAM = (0.9, 0.98)
HELD_BACK = 982_451_653  # first number of the seeds that no training stream has
HISTORY = "history"
LEAST = 100  # events with a target that either part of a history needs


class TrainingError(ValueError):
    """Training cannot go on; the text says why and what to do."""


class Setting(NamedTuple):
    """name; past targets used; entities a pool; events attended to in training and in validation."""

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


class Batch(NamedTuple):
    """B streams of T events: e, y, ts (B, T); u (B, T, C); steps (B, T, 2) hour and weekday. E entities a pool."""

    e: NDArray[np.int64]
    u: Floats
    y: Floats
    ts: Floats
    steps: NDArray[np.int64]
    entities: int


class History(NamedTuple):
    """The user's own recording: the first `split` events train, the others validate."""

    config: Config
    events: Events
    split: int


class Row(NamedTuple):
    """One line of the table: MAE in mean absolute deviations of the target, geometric mean over the streams."""

    kind: str
    streams: int
    untrained: float
    start: float
    trained: float


class Result(NamedTuple):
    """weights: the best, or the start; better: is it not the start? score: of `weights`; updates, rounds done;
    reason: why it ended; rows: by kind of stream and by setting; curve: (updates, loss, score) a round."""

    weights: Weights
    better: bool
    score: float
    updates: int
    rounds: int
    reason: str
    rows: list[Row]
    curve: list[tuple[int, float, float]]


# Parameters.


class Offsets:
    """The weights as a function of one vector of offsets (n,)."""

    def __init__(self, start: Weights) -> None:
        self.start = start
        self.shapes = {name: array.shape for name, array in start._asdict().items()}
        self.size = sum(array.size for array in start)
        self._parts: dict[str, tuple[Tensor, Tensor, Tensor, Tensor, Tensor]] = {}
        for name, array in start._asdict().items():
            low, high = (np.broadcast_to(bound, array.shape) for bound in bounds(name))
            both, half = np.isfinite(high), np.isfinite(low) & ~np.isfinite(high)
            least, width = np.where(np.isfinite(low), low, 0.0), np.where(both, high - low, 1.0)
            with np.errstate(divide="ignore", invalid="ignore"):
                share = (array - least) / width
                at = np.where(both, np.log(share / (1.0 - share)), np.where(half, np.log(array - least), array))
            self._parts[name] = tuple(map(torch.as_tensor, (at, both, half, least, width)))  # type: ignore[assignment]

    def tensors(self, offset: Tensor) -> dict[str, Tensor]:
        """The weights by name, differentiable."""
        out, first = {}, 0
        for name, shape in self.shapes.items():
            count = math.prod(shape)
            at, both, half, least, width = self._parts[name]
            z = at + offset[first : first + count].reshape(shape)
            out[name] = torch.where(both, least + width * torch.sigmoid(z), torch.where(half, least + torch.exp(z), z))
            first += count
        return out

    def weights(self, offset: Tensor) -> Weights:
        """The weights as arrays; those of offset 0 are the start, bit by bit."""
        if not bool(offset.any()):
            return self.start
        with torch.no_grad():
            return Weights(**{name: part.numpy().copy() for name, part in self.tensors(offset).items()})


def meta_of(p: LearnerParams, offsets: Offsets, offset: Tensor) -> Meta:
    """The learner's meta-parameters at an offset."""
    tensors = offsets.tensors(offset)
    if not p.R:
        tensors |= {"frequency": tensors["frequency"][:0], "phase": tensors["phase"][:0]}
    tensors["proximal_step"] = tensors["proximal_step"][: p.prox]
    if (p.half_life > 0).any() or len(p.decay) != len(tensors["moment_decay"]):
        del tensors["moment_decay"], tensors["moment_ridge"], tensors["moment_huber"]
    return learner.new_meta(p, offsets.start)._replace(**tensors)


# Streams.


def plan_of(setting: Setting, features: int) -> FeaturePlan:
    names = tuple(f"x{i}" for i in range(features))
    return FeaturePlan(names, lags=setting.lags, differences=setting.lags > 0)


def params_of(setting: Setting, features: int, weights: Weights, wide: bool = False) -> LearnerParams:
    window = setting.wide if wide else setting.window
    return shapes.learner_params(plan_of(setting, features), weights, Heads(attention=window))


def batch_of(streams: tasks.Streams, entities: int) -> Batch:
    return Batch(streams.e, streams.x, streams.y, streams.ts, np.zeros((*streams.y.shape, 2), np.int64), entities)


def training_batch(recipe: Recipe, number: int, setting: int) -> Batch:
    """Streams of a round and a setting."""
    seed = (recipe.seed, number, setting)
    kinds = tasks.kinds_for((*seed, 1), recipe.streams)
    entities = recipe.settings[setting].entities
    return batch_of(tasks.draw((*seed, 2), kinds, recipe.events, recipe.features, entities), entities)


def fused(p: LearnerParams, batch: Batch) -> Floats:
    """Predictions (B, T) of the production kernel, each stream a pool of its own."""
    B, T = batch.y.shape
    E = batch.entities
    state = Learner(
        shapes.new_entities(p, B * E),
        shapes.new_pools(p, B),
        shapes.new_heads(p, B, p.L),
        shapes.new_heads(p, B if E > 1 else 0, p.N),
    )
    pools = np.repeat(np.arange(B), T)
    out = np.empty(B * T)
    at, want = kernel.run(
        p, state, shapes.new_scratch(p), pools, pools * E + batch.e.ravel(), batch.u.reshape(B * T, -1),
        batch.steps.reshape(B * T, 2), batch.ts.ravel(), batch.y.ravel(), 0, out,
    )  # fmt: skip
    if want != kernel.ENOUGH:
        raise AssertionError(f"the kernel stopped at event {at}: the arrays were made too small")
    return out.reshape(B, T)


def usual(error: Floats, burn_in: int) -> Floats:
    """(B,) what the start misses by: mean of |error| (B, T), of which each counts for at most ERROR_CLIP medians."""
    late = np.abs(error)[:, burn_in:]
    most = ERROR_CLIP * np.nanmedian(late, 1, keepdims=True)
    mean: Floats = np.nanmean(np.minimum(late, np.where(most > 0, most, np.inf)), 1)
    return mean


def _event(batch: Batch, t: int) -> learner.Event:
    e, u, steps, ts = (torch.from_numpy(part[:, t]) for part in (batch.e, batch.u, batch.steps, batch.ts))
    return learner.Event(e, u, steps, ts)


def detached(part: T_) -> T_:
    """A state without its past."""
    if isinstance(part, Tensor):
        return cast(T_, part.detach())
    if isinstance(part, tuple) and hasattr(part, "_fields"):
        return cast(T_, type(part)(*map(detached, part)))
    return part


def chunk_loss(
    p: LearnerParams, meta: Meta, state: learner.State, batch: Batch, unit: Floats, events: range, burn_in: int
) -> tuple[Tensor, learner.State]:
    """Mean over streams and events of min(|error| / unit, ERROR_CLIP), and the state after.

    unit (B,): a stream's usual error, so that every stream counts alike
    """
    scale = torch.from_numpy(np.where(unit > 0, unit, 1.0))
    total, count = torch.zeros((), dtype=torch.float64), 0
    for t in events:
        event, y = _event(batch, t), torch.from_numpy(batch.y[:, t])
        answer = learner.predict(p, meta, state, event)
        if t >= burn_in:
            known = ~y.isnan()
            error = (answer.yhat - torch.where(known, y, 0.0)).abs() / scale
            total = total + torch.where(known, error.clamp_max(ERROR_CLIP), 0.0).sum()
            count += int(known.sum())
        state = learner.learn(p, meta, state, event, answer, y)
    return total / max(count, 1), state


# Validation.


class Validation:
    """Streams held back, the same for every training; errors are those of the production kernel."""

    def __init__(self, recipe: Recipe, history: History | None) -> None:
        self.recipe, self.history = recipe, history
        kinds = tasks.KINDS * recipe.held_streams
        self.batches = [
            batch_of(
                tasks.draw((HELD_BACK, i), kinds, recipe.held_events, recipe.features, setting.entities),
                setting.entities,
            )
            for i, setting in enumerate(recipe.settings)
        ]
        self.kinds = np.array([*(kinds * len(recipe.settings)), *([HISTORY] if history else [])])
        names = [setting.name for setting in recipe.settings for _ in kinds]
        self.settings = np.array([*names, *([HISTORY] if history else [])])
        targets = [y[recipe.held_burn_in :] for batch in self.batches for y in batch.y]
        if history:
            targets.append(history.events.target[history.split :])
        self.deviation = np.array([np.nanmean(np.abs(y - np.nanmedian(y))) for y in targets])
        # The user's own history counts as much as all other streams together.
        self.share = np.full(len(self.kinds), 1.0)
        if history:
            self.share[-1] = len(self.kinds) - 1
        self.share /= self.share.sum()

    def judge(self, weights: Weights) -> Floats:
        """(n,) mean absolute error of a candidate on each stream held back, the user's own history last."""
        recipe, out = self.recipe, []
        for setting, batch in zip(recipe.settings, self.batches, strict=True):
            p = params_of(setting, recipe.features, weights, wide=True)
            out += np.abs(fused(p, batch) - batch.y)[:, recipe.held_burn_in :].mean(1).tolist()
        if self.history:
            out.append(history_error(self.history, weights))
        return np.array(out)

    def score(self, judged: Floats, start: Floats) -> float:
        """Geometric mean of MAE / MAE of the start."""
        least = 1e-9 * self.deviation + 1e-300
        ratio = np.log((judged + least) / (start + least))
        return float(np.exp((self.share * ratio).sum()))

    def rows(self, plain: Floats, start: Floats, best: Floats) -> list[Row]:
        """By kind of stream, then by setting, then all."""
        relative = [(judged + 1e-300) / (self.deviation + 1e-300) for judged in (plain, start, best)]

        def row(name: str, chosen: NDArray[np.bool_]) -> Row:
            means = (float(np.exp(np.log(part[chosen]).mean())) for part in relative)
            return Row(name, int(chosen.sum()), *means)

        out = [row(kind, self.kinds == kind) for kind in tasks.KINDS]
        if self.history:
            out.append(row(HISTORY, self.kinds == HISTORY))
        out += [row(f"({setting.name})", self.settings == setting.name) for setting in self.recipe.settings]
        return [*out, row("all", np.ones(len(self.kinds), bool))]


def history_error(history: History, weights: Weights) -> float:
    """MAE of the production engine on the part of the history that validates, after it has learned the rest."""
    with tempfile.TemporaryDirectory(prefix="ssm-stream-") as folder:
        path = Path(folder) / "candidate.safetensors"
        save(weights, path, {})
        model = history.config.model.model_copy(update={"weights": path})
        engine = Engine(history.config.model_copy(update={"model": model}))
    predictions, _ = engine.process(history.events)
    error = np.abs(predictions.yhat - history.events.target)[history.split :]
    return float(np.nanmean(error))


class Stretches:
    """The part of the user's own history that trains, as streams: stretches of it that begin anywhere."""

    def __init__(self, recipe: Recipe, history: History, start: Weights) -> None:
        config, model, split = history.config, history.config.model, history.split
        engine = Engine(config)
        events = history.events
        first = events.take(np.arange(split))
        self.error = engine.process(first)[0].yhat - first.target
        cycles, self.steps = calendar_columns(engine.plan, first.ts)
        self.u = np.hstack([first.features, cycles])
        self.first, self.fleet, self.recipe = first, model.fleet, recipe
        self.length = min(recipe.events, split)
        names = model.heads or ["moments", "proximal", "embedding", "fern"]
        attends = "attention" in names or (model.heads is None and model.profile == "accurate")
        heads = Heads(
            "moments" in names, "proximal" in names, "embedding" in names, "fern" in names, PLAIN if attends else 0,
            "gd" in names, model.log_space, model.gate == "learned",
        )  # fmt: skip
        lives = model.half_lives
        half_lives = tuple((life.events, life.seconds) for life in lives) if lives else None
        self.p = shapes.learner_params(engine.plan, start, heads, half_lives, engine.params.K)

    def batch(self, number: int) -> tuple[Batch, Floats]:
        """Streams of a round, and their usual errors (B,)."""
        recipe, first, length = self.recipe, self.first, self.length
        rng = np.random.default_rng((recipe.seed, number, len(recipe.settings)))
        rows = max(1, min(recipe.streams // 3, len(first.target) // length))
        at = rng.integers(0, len(first.target) - length + 1, rows)[:, None] + np.arange(length)
        e = np.zeros(at.shape, np.int64)
        for b in range(rows if self.fleet else 0):
            known: dict[str, int] = {}
            e[b] = [known.setdefault(first.entity[i], len(known)) for i in at[b].tolist()]
        batch = Batch(e, self.u[at], first.target[at], first.ts[at].astype(float), self.steps[at], int(e.max()) + 1)
        return batch, usual(self.error[at], recipe.burn_in)


# The loop.


class Progress(NamedTuple):
    """Where training stands after a round; what a checkpoint holds. Vectors (n,) of offsets; curve (rounds, 3)."""

    offset: Floats
    mean: Floats
    square: Floats
    best: Floats
    score: float
    stale: int
    updates: int
    rounds: int
    curve: list[tuple[int, float, float]]


def _key(recipe: Recipe, start: Weights, history: History | None) -> str:
    """What a checkpoint must agree on: everything but how long to train."""
    content = [str(recipe._replace(updates=0, minutes=None, patience=0)), digest(start), digest(untrained())]
    if history:
        events = history.events
        content += [history.config.hash, str(history.split), hashlib.sha256(events.target.tobytes()).hexdigest()]
        content.append(hashlib.sha256(events.features.tobytes()).hexdigest())
    return hashlib.sha256("\n".join(content).encode()).hexdigest()[:12]


def save_progress(progress: Progress, path: Path, key: str) -> None:
    vectors = {name: getattr(progress, name) for name in ("offset", "mean", "square", "best")}
    about = {name: getattr(progress, name) for name in ("score", "stale", "updates", "rounds", "curve")}
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(safetensors.numpy.save(vectors, metadata={"progress": json.dumps({"key": key, **about})}))
    part.replace(path)


def load_progress(path: Path, key: str, size: int) -> Progress:
    """What `save_progress` wrote.

    Raises:
        TrainingError: damaged, or of another training.
    """
    cure = "delete it, or leave out --resume, to begin anew"
    try:
        data = path.read_bytes()
        vectors: dict[str, Any] = safetensors.numpy.load(data)
        about = json.loads(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]["progress"])
        found = about.pop("key")
        about["curve"] = [(int(n), float(loss), float(score)) for n, loss, score in about["curve"]]
        progress = Progress(**vectors, **about)
    except (OSError, safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{path}: not a checkpoint of training: {error}; {cure}") from error
    if found != key or progress.offset.shape != (size,):
        raise TrainingError(f"{path}: a checkpoint of another training (seed, recipe, start or history differ); {cure}")
    return progress


def train(
    recipe: Recipe,
    start: Weights,
    history: History | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    notify: Callable[[str], None] = lambda _: None,
    advance: Callable[[float], None] = lambda _: None,
) -> Result:
    """Train from `start`; equal arguments give equal weights where no time limit ends it.

    Args:
        recipe: how long, on what
        start: where to begin, and what is kept where nothing better is found
        history: the user's own recording, as further streams
        checkpoint: written after every round; resume: go on from it where it is there
        notify: told a line a round; advance: told the fraction done

    Raises:
        TrainingError: a checkpoint of another training; a gradient of which nothing is finite.
    """
    begin = time.monotonic()
    torch.set_num_threads(1)
    offsets = Offsets(start)
    validation = Validation(recipe, history)
    at_start = validation.judge(start)
    zeros = np.zeros(offsets.size)
    progress = Progress(zeros, zeros, zeros, zeros, 1.0, 0, 0, 0, [])
    key = _key(recipe, start, history)
    if resume and checkpoint is not None and checkpoint.exists():
        progress = load_progress(checkpoint, key, offsets.size)
        notify(f"going on after {progress.updates} updates, score {progress.score:.4f}")

    stretches = Stretches(recipe, history, start) if history else None
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
    stretches: Stretches | None,
    progress: Progress,
    over: Callable[[], bool],
    report: Callable[[int], None],
) -> tuple[Progress, Floats, float]:
    """Streams of every setting to their end, in turns, an update a chunk; the mean offset and the mean loss."""
    lanes: list[tuple[LearnerParams, Batch, Floats]] = []
    for i, setting in enumerate(recipe.settings):
        p, batch = params_of(setting, recipe.features, offsets.start), training_batch(recipe, progress.rounds, i)
        lanes.append((p, batch, usual(fused(p, batch) - batch.y, recipe.burn_in)))
    if stretches:
        lanes.append((stretches.p, *stretches.batch(progress.rounds)))
    states = [learner.new_state(p, len(batch.y), batch.entities) for p, batch, _ in lanes]
    offset, mean, square = (torch.from_numpy(part) for part in (progress.offset, progress.mean, progress.square))
    total, losses, updates = torch.zeros_like(offset), [], progress.updates
    for first in range(0, recipe.events, recipe.chunk):
        for i, (p, batch, unit) in enumerate(lanes):
            last = min(first + recipe.chunk, batch.y.shape[1])
            if first >= last or updates >= recipe.updates or over():
                continue
            here = offset.clone().requires_grad_()
            meta = meta_of(p, offsets, here)
            loss, state = chunk_loss(p, meta, states[i], batch, unit, range(first, last), recipe.burn_in)
            (gradient,) = torch.autograd.grad(loss, here)
            states[i] = detached(state)
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
    """What the file of weights says of itself.

    Args:
        result, recipe, start: of `train`
        history: the name of the user's own recording
    """
    return {
        "trained": result.better,
        "weights": digest(result.weights),
        "start": digest(start),
        "trained_on": {
            "streams": list(tasks.KINDS),
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


def read_history(config: Config, events: Events, share: float = 0.7) -> History:
    """The first share of the events trains, the rest validates.

    Raises:
        TrainingError: too few events with a target.
    """
    split = int(share * len(events))
    known = np.isfinite(events.target)
    if known[:split].sum() < LEAST or known[split:].sum() < LEAST:
        found = f"{int(known[:split].sum())} and {int(known[split:].sum())}"
        raise TrainingError(
            f"history: {found} events with a target in the parts that train and validate; each needs {LEAST}"
        )
    return History(config, events, split)
