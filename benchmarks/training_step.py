"""A training step of the paper's layer: parallel form against the same model with a Python loop over time.

Both forms hold the same parameters, see the same batch and give the same loss and gradients, which is checked before
anything is timed. A step is forward, backward and the Adam update, on the loss of the query's prediction. Times are
medians of interleaved repeats in one process.

    python benchmarks/training_step.py [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from ssm_stream.paper.gdssm import GDSSM
from ssm_stream.paper.tasks import LinearTasks

BAR = 10.0
CASES = ((64, 10), (64, 64), (64, 256), (16, 256), (16, 1024))
"""(batch, example pairs) with ten inputs. The first is the paper's own size, the bar is for some hundred events.

What the loop pays is a fixed price an event, so the ratio grows with the length and falls with the batch: with 64
sequences side by side on one core both forms are bound by arithmetic, and the parallel form gains less.
"""
MEASURED = (16, 256)


def parallel(layer: GDSSM, tokens: Tensor) -> Tensor:
    """The state after the last event as one weighted sum."""
    return layer.predict_query(tokens)


def every_prefix(layer: GDSSM, tokens: Tensor) -> Tensor:
    """All states by the prefix scan."""
    return layer(tokens)[:, -1]


def loop(layer: GDSSM, tokens: Tensor) -> Tensor:
    """One event after the other."""
    return layer.recurrent(tokens)[:, -1]


def training_step(
    layer: GDSSM, form: Callable[[GDSSM, Tensor], Tensor], tokens: Tensor, target: Tensor
) -> Callable[[], Tensor]:
    """A closure that does one update and returns the loss."""
    optimiser = torch.optim.Adam(layer.parameters(), lr=1e-4)

    def step() -> Tensor:
        optimiser.zero_grad()
        loss = 0.5 * (form(layer, tokens) - target).square().mean()
        torch.autograd.backward(loss)
        optimiser.step()
        return loss.detach()

    return step


def measure(batch: int, pairs: int, repeats: int) -> dict[str, float]:
    """Median milliseconds of a step for every form."""
    tasks = LinearTasks(pairs=pairs, m=10).draw(batch, torch.Generator().manual_seed(1))
    torch.manual_seed(2)
    first = GDSSM(10)
    steps = {}
    losses = {}
    for form in (parallel, every_prefix, loop):
        layer = GDSSM(10)
        layer.load_state_dict(first.state_dict())
        steps[form.__name__] = training_step(layer, form, tasks.tokens, tasks.target)
        losses[form.__name__] = [float(steps[form.__name__]()) for _ in range(3)]
    for name, values in losses.items():
        worst = max(abs(a / b - 1) for a, b in zip(values, losses["loop"], strict=True))
        if worst > 1e-4:
            raise SystemExit(f"{name} and loop differ by {worst:.1e} of the loss: they are not the same model")
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            begin = time.perf_counter()
            step()
            times[name].append(1e3 * (time.perf_counter() - begin))
    return {name: median(values) for name, values in times.items()}


def main() -> int:
    """Measure all cases; exit code 1 when the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object with the checks")
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)  # as `ssm-stream paper` trains
    out = sys.stderr if options.json else sys.stdout
    print("milliseconds a training step, ten inputs, CPU, one thread", file=out)
    print(f"{'batch':>6} {'pairs':>6} {'parallel':>10} {'prefixes':>10} {'loop':>10} {'loop/parallel':>14}", file=out)
    cases = []
    for batch, pairs in CASES:
        took = measure(batch, pairs, options.repeats)
        ratio = took["loop"] / took["parallel"]
        cases.append({"batch": batch, "pairs": pairs, **took, "ratio": ratio})
        numbers = " ".join(f"{took[name]:>10.2f}" for name in ("parallel", "every_prefix", "loop"))
        print(f"{batch:>6} {pairs:>6} {numbers} {ratio:>14.1f}", file=out)
    value = next(case["ratio"] for case in cases if (case["batch"], case["pairs"]) == MEASURED)
    name = f"training step: Python loop / parallel form, batch {MEASURED[0]}, {MEASURED[1]} pairs"
    check = {"name": name, "value": value, "relation": ">=", "bar": BAR, "ok": value >= BAR}
    print(f"{name}: {value:.1f}, bar >= {BAR:g}: {'ok' if check['ok'] else 'MISSED'}", file=out)
    if options.json:
        print(json.dumps({"checks": [check], "cases": cases}))
    return 0 if check["ok"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
