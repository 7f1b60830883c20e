"""The frozen meta-parameters: how fast the heads forget, how far they step, how the gates judge.

They are the same for every stream; `ssm-stream train` learns them on synthetic streams, production only reads them.
"""

from __future__ import annotations

import hashlib
import json
import math
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray


class Weights(NamedTuple):
    """Meta-parameters of the learner. Decays are per event.

    moment_decay, moment_ridge, moment_huber (M,): of the moment heads, the slowest first; the first one's decay, ridge
        and bound also serve its twin in log space
    proximal_step (H,): of the quick proximal heads; slow_step, embedding_step (): of the others
    surprise (3,): strength, threshold and rate of the surprise gate: where the fast mean of |error| exceeds the slow
        one by more than the threshold (on a log scale), all moment heads but the first forget; strength 0 turns it off
    frequency (R,), phase (R,): of the random-feature embedding; frequency in turns per deviation, before the division
        by the root of the number of inputs
    poly_decay (2,): of the regret gates; soft (2, 4): sharpness, decay, prior events, fixed share of the loss gates
    sweep_decay, sweep_ridge, sweep_huber (2,): of the stacking gates; top_decay (): of the gate over the gates
    product_decay, product_ridge, product_huber (): of the moment heads on products
    """

    moment_decay: NDArray[np.float64]
    moment_ridge: NDArray[np.float64]
    moment_huber: NDArray[np.float64]
    proximal_step: NDArray[np.float64]
    slow_step: NDArray[np.float64]
    embedding_step: NDArray[np.float64]
    surprise: NDArray[np.float64]
    frequency: NDArray[np.float64]
    phase: NDArray[np.float64]
    poly_decay: NDArray[np.float64]
    soft: NDArray[np.float64]
    sweep_decay: NDArray[np.float64]
    sweep_ridge: NDArray[np.float64]
    sweep_huber: NDArray[np.float64]
    top_decay: NDArray[np.float64]
    product_decay: NDArray[np.float64]
    product_ridge: NDArray[np.float64]
    product_huber: NDArray[np.float64]


RANDOM = 64  # features of the embedding


def untrained() -> Weights:
    """Set by hand, from experience with the methods: what training starts from."""
    rng = np.random.default_rng(2)
    half = np.where(np.arange(RANDOM) < RANDOM // 2, 1.0, 2.0)
    return Weights(
        moment_decay=np.array([0.999, 0.97]),
        moment_ridge=np.array([1.0, 10.0]),
        moment_huber=np.array([1.0, 1.0]),
        proximal_step=np.array([0.3, 0.9]),
        slow_step=np.array(0.05),
        embedding_step=np.array(0.3),
        surprise=np.array([3.0, 0.4, 0.1]),
        frequency=half / (2 * np.pi),
        phase=rng.uniform(0, 1, RANDOM),
        poly_decay=np.array([0.97, 0.9995]),
        soft=np.array([[2.0, 0.9, 3.0, 1e-3], [0.3, 0.98, 3.0, 1e-3]]),
        sweep_decay=np.array([0.97, 0.999]),
        sweep_ridge=np.array([3.0, 3.0]),
        sweep_huber=np.array([1.5, 1.5]),
        top_decay=np.array(0.998),
        product_decay=np.array(0.9993),
        product_ridge=np.array(0.6),
        product_huber=np.array(1.27),
    )


def digest(weights: Weights) -> str:
    """12 hex digits over the meta-parameters."""
    content = hashlib.sha256()
    for array in weights:
        content.update(np.ascontiguousarray(array, np.float64).tobytes())
    return content.hexdigest()[:12]


class WeightsError(ValueError):
    """A file of weights that cannot be used; the text names the file, the tensor, what was found and the cure."""


CURE = "name a file that `ssm-stream train` of this release wrote, or take `model.weights` out for the package's own"
UNTRAINED = "untrained"  # stands for `untrained()` where a file is named
SHIPPED = Path(__file__).resolve().parent.parent / "data" / "weights.safetensors"
FORMAT = "ssm-stream weights 3"
MOST = 1 << 24  # bytes of a file; that of the package has some 4,000

Bound = tuple[float, float]
ABOVE, SHARE, STEP, FREE = (0.0, math.inf), (0.0, 1.0), (0.0, 2.0), (-math.inf, math.inf)
BOUNDS: dict[str, Bound | tuple[Bound, ...]] = {
    "moment_decay": SHARE, "moment_ridge": ABOVE, "moment_huber": ABOVE, "proximal_step": STEP, "slow_step": STEP,
    "embedding_step": STEP, "surprise": (ABOVE, ABOVE, SHARE),
    "frequency": ABOVE, "phase": FREE, "poly_decay": SHARE, "soft": (ABOVE, SHARE, ABOVE, SHARE),
    "sweep_decay": SHARE, "sweep_ridge": ABOVE, "sweep_huber": ABOVE, "top_decay": SHARE,
    "product_decay": SHARE, "product_ridge": ABOVE, "product_huber": ABOVE,
}  # fmt: skip
"""Between which two numbers each meta-parameter lies, neither of them included; a tuple is by the last dimension.

The strength of the surprise gate alone may be 0 (off). A step of 2 or more would make a gradient head grow without end.
"""


def bounds(name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Least and greatest of a meta-parameter, of a shape that broadcasts to its own."""
    low, high = np.array(BOUNDS[name], np.float64).T
    return low, high


def save(weights: Weights, path: Path, card: dict[str, Any]) -> None:
    """Write the weights as 64-bit safetensors with a card (JSON); equal content gives equal bytes.

    The file appears under its name when it is complete.

    Raises:
        WeightsError: weights that `load` would refuse; nothing is written.
        OSError: the file cannot be written.
    """
    tensors = {name: np.array(array, np.float64) for name, array in weights._asdict().items()}
    _checked(tensors, path)
    # One key only: metadata of safetensors has no fixed order.
    about = json.dumps({"format": FORMAT, **card}, ensure_ascii=False, sort_keys=True)
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(safetensors.numpy.save(tensors, metadata={"card": about}))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def load(path: Path | None) -> Weights:
    """The weights of a file; of the package where none is named; set by hand where the name is `untrained`.

    Raises:
        WeightsError: no file, no safetensors, tensors missing or too many, of another shape or type, not finite, or out
            of bounds.
    """
    if path is None:
        return Weights(*(array.copy() for array in _shipped()))
    if str(path) == UNTRAINED:
        return untrained()
    return _checked(_read(path)[0], path)


@cache
def _shipped() -> Weights:
    """The weights of the package, read once: every engine has them."""
    return _checked(_read(SHIPPED)[0], SHIPPED) if SHIPPED.exists() else untrained()


def card(path: Path | None) -> dict[str, Any]:
    """The description that a file of weights carries: `format`, what it was trained on, its scores; {} without a file.

    Raises:
        WeightsError: as `load`, or a card that is no JSON object.
    """
    path = SHIPPED if path is None else path
    if str(path) == UNTRAINED or (path == SHIPPED and not path.exists()):
        return {}
    return _read(path)[1]


def content_digest(path: Path | None) -> str | None:
    """What a configuration that names this file depends on: 12 hex digits of its bytes; the word `untrained`; None.

    Raises:
        WeightsError: the file cannot be read.
    """
    if path is None or str(path) == UNTRAINED:
        return None if path is None else UNTRAINED
    return hashlib.sha256(_bytes(path)).hexdigest()[:12]


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > MOST:
            raise WeightsError(f"{path}: {path.stat().st_size:,} bytes are too many for weights; {CURE}")
        return path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}; {CURE}") from error


def _read(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Tensors and card of a file, unchecked but for the format."""
    data = _bytes(path)
    try:
        tensors = safetensors.numpy.load(data)
        size = int.from_bytes(data[:8], "little")
        about = json.loads(json.loads(data[8 : 8 + size]).get("__metadata__", {}).get("card", "{}"))
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: not a safetensors file of weights: {error}; {CURE}") from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        found = about.get("format") if isinstance(about, dict) else about
        raise WeightsError(f"{path}: found format {found!r}, this release reads {FORMAT!r}; {CURE}")
    return tensors, about


def _checked(tensors: dict[str, NDArray[Any]], path: Path) -> Weights:
    expected = untrained()._asdict()
    if missing := [name for name in expected if name not in tensors]:
        raise WeightsError(f"{path}: without the tensors {', '.join(missing)}; {CURE}")
    if extra := sorted(set(tensors) - set(expected)):
        raise WeightsError(f"{path}: found the unknown tensors {', '.join(extra)}; {CURE}")
    for name, like in expected.items():
        array = tensors[name]
        if array.shape != like.shape or array.dtype != np.float64:
            raise WeightsError(
                f"{path}: {name}: found shape {list(array.shape)} of {array.dtype}, "
                f"want {list(like.shape)} of float64; {CURE}"
            )
        low, high = (np.broadcast_to(bound, array.shape) for bound in bounds(name))
        inside = np.isfinite(array) & (array > low) & (array < high)
        if name == "surprise":
            inside[0] |= array[0] == 0.0
        if not inside.all():
            at = tuple(int(i) for i in np.argwhere(~inside)[0])
            place = f"{name}{list(at)}" if at else name
            raise WeightsError(
                f"{path}: {place}: found {array[at]!r}, want a finite number between {low[at]} and {high[at]}; {CURE}"
            )
    return Weights(**tensors)
