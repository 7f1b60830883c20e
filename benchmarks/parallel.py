"""One long history: the linear heads by chunks of events, beside the same recurrences event by event.

    python benchmarks/parallel.py [--rows N] [--device cuda] [--json]

Three recurrences of `ssm_stream.paper.parallel` over one entity: decayed moments (the last state), the delta rule, and
the proximal head with clipped errors (answers of every event and the last state). Each runs as a loop in Python over
torch tensors (on a share of the rows, scaled up), as a loop compiled by numba, and by chunks; 64-bit, one thread. The
three must agree.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssm_stream.paper.parallel import decayed_moments, delta_rule, proximal_steps

SIZES = (8, 16, 64)
DECAY, STEP, CLIP = 0.999, 0.3, 3.0
CHUNKS = (32, 64, 128)
LOOP_ROWS = 20_000
EXACT = 1e-10
Floats = NDArray[np.float64]


class History(NamedTuple):
    """x (N, D), q (N,), steps (N,): a drifting linear target with heavy tails, so that some errors are clipped."""

    x: Floats
    q: Floats
    steps: Floats


def history(N: int, D: int) -> History:
    rng = np.random.default_rng(D)
    x = rng.normal(size=(N, D))
    x[:, 0] = 1.0
    slow = np.sin(np.arange(N)[:, None] / N * np.arange(1, D + 1))
    q = (x * slow).sum(1) / math.sqrt(D) + 0.3 * rng.standard_t(3, N)
    return History(x, q, proximal_steps(torch.from_numpy(x)[None], STEP)[0].numpy())


@numba.njit  # type: ignore[untyped-decorator]
def compiled_moments(x: Floats, q: Floats, decay: float) -> tuple[Floats, Floats]:
    N, D = x.shape
    S, P = np.zeros((D, D)), np.zeros(D)
    for t in range(N):
        for i in range(D):
            P[i] = decay * P[i] + q[t] * x[t, i]
            for j in range(D):
                S[i, j] = decay * S[i, j] + x[t, i] * x[t, j]
    return S, P


@numba.njit  # type: ignore[untyped-decorator]
def compiled_rule(x: Floats, q: Floats, steps: Floats, decay: float, clip: float) -> tuple[Floats, Floats]:
    N, D = x.shape
    W, said = np.zeros(D), np.empty(N)
    for t in range(N):
        answer = 0.0
        for i in range(D):
            answer += W[i] * x[t, i]
        said[t] = answer
        rate = steps[t] * min(max(q[t] - answer, -clip), clip)
        for i in range(D):
            W[i] = decay * W[i] + rate * x[t, i]
    return said, W


def looped_moments(x: Tensor, q: Tensor, decay: float) -> tuple[Tensor, Tensor]:
    S, P = x.new_zeros(x.shape[1], x.shape[1]), x.new_zeros(x.shape[1])
    for t in range(len(q)):
        S = decay * S + torch.outer(x[t], x[t])
        P = decay * P + q[t] * x[t]
    return S, P


def looped_rule(x: Tensor, q: Tensor, steps: Tensor, decay: float, clip: float) -> tuple[Tensor, Tensor]:
    W, said = x.new_zeros(x.shape[1]), torch.empty_like(q)
    for t in range(len(q)):
        said[t] = W @ x[t]
        W = decay * W + steps[t] * (q[t] - said[t]).clamp(-clip, clip) * x[t]
    return said, W


def timed(form: Callable[[], Any], device: str) -> tuple[float, Any]:
    """Seconds of processor (on CUDA: of the clock), and the result."""
    clock = time.perf_counter if device == "cuda" else time.process_time
    begin = clock()
    result = form()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - begin, result


def measure(rule: str, D: int, rows: int, device: str) -> dict[str, Any]:
    """Seconds of each form over `rows` rows; by chunks at the best of a few lengths."""
    h = history(rows, D)
    x, q, steps = (torch.from_numpy(part)[None].to(device) for part in h)
    some = [part[0, : min(LOOP_ROWS, rows)] for part in (x, q, steps)]
    zero = x.new_zeros(1, D)
    decay, clip = {"moments": (DECAY, math.inf), "delta rule": (DECAY, math.inf), "proximal": (1.0, CLIP)}[rule]

    def by_chunks(x: Tensor, q: Tensor, steps: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
        if rule == "moments":
            return decayed_moments(x, q, torch.ones_like(q), decay, x.new_zeros(1, D, D), zero)
        learned = delta_rule(x, q, steps, zero, decay, clip, chunk)
        return learned.said, learned.W

    def compiled(n: int) -> tuple[Floats, Floats]:
        if rule == "moments":
            return compiled_moments(h.x[:n], h.q[:n], decay)  # type: ignore[no-any-return]
        return compiled_rule(h.x[:n], h.q[:n], h.steps[:n], decay, clip)  # type: ignore[no-any-return]

    def looped() -> tuple[Tensor, Tensor]:
        return looped_moments(*some[:2], decay) if rule == "moments" else looped_rule(*some, decay, clip)

    loop, exact = timed(looped, device)
    compiled(10)
    fused, expected = timed(lambda: compiled(rows), "cpu")
    agree(rule, exact, tuple(map(torch.from_numpy, compiled(len(some[1])))))
    took = {}
    for chunk in CHUNKS if rule != "moments" else (0,):  # a weighted sum of all
        took[chunk], found = timed(lambda chunk=chunk: by_chunks(x, q, steps, chunk), device)
        agree(rule, tuple(part[0] for part in found), tuple(map(torch.from_numpy, expected)))
    best = min(took, key=took.__getitem__)
    return {
        "rule": rule, "d": D, "rows": rows, "device": device, "loop": loop * rows / len(some[1]), "numba": fused,
        "chunks": took[best], "chunk": best, "by_chunk": took,
    }  # fmt: skip


def agree(rule: str, found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    for mine, other in zip(found, expected, strict=True):
        worst = float((mine.cpu() - other).abs().max() / other.abs().max())
        if worst > EXACT:
            raise SystemExit(f"{rule}: the forms differ by {worst:.1e} of the largest number: not the same recurrence")


def main() -> int:
    """Print seconds of all forms; exit code 1 where chunks are not faster than the loop in Python."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object with the checks")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device: found cuda; torch sees no GPU here: use cpu")
    torch.set_num_threads(1)
    out = sys.stderr if options.json else sys.stdout
    print(f"seconds for {options.rows:,} rows of one entity, 64-bit, one thread, {options.device}", file=out)
    print(
        f"{'':>12} {'d':>4} {'loop':>9} {'numba':>9} {'chunks':>9} {'of':>5} {'loop/chunks':>12} {'numba/chunks':>13}",
        file=out,
    )
    rows, checks = [], []
    for rule in ("moments", "delta rule", "proximal"):
        for D in SIZES:
            row = measure(rule, D, options.rows, options.device)
            rows.append(row)
            ratio = row["loop"] / row["chunks"]
            numbers = " ".join(f"{row[name]:>9.3f}" for name in ("loop", "numba", "chunks"))
            print(
                f"{rule:>12} {D:>4} {numbers} {row['chunk']:>5} {ratio:>12.1f} {row['numba'] / row['chunks']:>13.2f}",
                file=out,
            )
            name = f"{rule}, d = {D}: Python loop / chunks"
            checks.append({"name": name, "value": ratio, "relation": ">=", "bar": 1.0, "ok": ratio >= 1.0})
    if options.json:
        print(json.dumps({"checks": checks, "rows": rows}))
    return 0 if all(check["ok"] for check in checks) else 1


if __name__ == "__main__":
    raise SystemExit(main())
