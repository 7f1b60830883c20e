"""The checkpoint of a training: written after every round, read to go on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy

from ssm_stream.core.frozen_weights import Weights, digest, untrained
from ssm_stream.training.batches import Floats
from ssm_stream.training.history import History
from ssm_stream.training.recipe import Recipe, TrainingError


class Progress(NamedTuple):
    """Where training stands after a round; what a checkpoint holds.

    losses (rounds, candidates): of all candidates so far, from which the search goes on as it was
    best (n,): offsets of the best mean candidate; score: its; stale: judgements since
    curve: (rounds, mean loss, score) a judgement
    """

    losses: Floats
    best: Floats
    score: float
    stale: int
    curve: list[tuple[int, float, float]]

    @property
    def rounds(self) -> int:
        """How many there have been."""
        return len(self.losses)


def no_progress(recipe: Recipe, size: int) -> Progress:
    """What training begins with; size: of the offsets."""
    return Progress(np.zeros((0, recipe.candidates)), np.zeros(size), 1.0, 0, [])


def training_key(recipe: Recipe, start: Weights, histories: Sequence[History]) -> str:
    """Hash of all that a checkpoint must agree on: everything but how long to train."""
    content = [str(recipe._replace(rounds=0, minutes=None, patience=0)), digest(start), digest(untrained())]
    for history in histories:
        events = history.events
        content += [history.config.hash, str(history.split), hashlib.sha256(events.target.tobytes()).hexdigest()]
        content.append(hashlib.sha256(events.features.tobytes()).hexdigest())
    return hashlib.sha256("\n".join(content).encode()).hexdigest()[:12]


def save_progress(progress: Progress, path: Path, key: str) -> None:
    """Write a checkpoint, whole or not at all."""
    vectors = {"losses": progress.losses, "best": progress.best}
    about = {name: getattr(progress, name) for name in ("score", "stale", "curve")}
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(safetensors.numpy.save(vectors, metadata={"progress": json.dumps({"key": key, **about})}))
    part.replace(path)


def load_progress(path: Path, key: str, size: int) -> Progress:
    """Read what `save_progress` wrote. size: of the offsets

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
    if found != key or progress.best.shape != (size,):
        raise TrainingError(f"{path}: a checkpoint of another training (seed, recipe, start or history differ); {cure}")
    return progress
