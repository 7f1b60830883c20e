"""VUS-PR: the volume under the surface of precision, recall and width of the buffer at the ends of labelled ranges.

    python benchmarks/vus.py                                   # what thoughtless scores reach
    python benchmarks/vus.py --package build/vus/bin/python    # beside package vus; exit 1 if they differ

Paparrizos, Boniol, Palpanas, Tsay, Elmore, Franklin, *Volume Under the Surface* (PVLDB 15, 2022), as package vus 0.0.6
computes it (version "opt", its default). For each buffer of w = 0 … W rows, labels fall off on both sides of a range as
√(1 − distance / w) over w / 2 rows, and count there where the score is over the threshold. Recall is the sum of labels
over the threshold, by the mean of all labels with and without the buffer, times the share of ranges with a row over it.
The area of precision over recall is taken at 250 thresholds, the mean of it over all w. A score that orders the rows at
random reaches somewhat more than the share of labelled rows. No threshold is chosen, nothing is point-adjusted.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

WINDOW, THRESHOLDS = 100, 250
Spans = list[tuple[int, int]]

PACKAGE = """
import json, sys
import numpy as np
from vus.utils.metrics import metricor
out = []
for labels, scores, window in json.load(sys.stdin):
    found = metricor().RangeAUC_volume_opt(np.array(labels), np.array(scores), window)
    out.append(float(found[-1]))
print(json.dumps(out))
"""


def ranges(labels: Flags) -> Spans:
    """First and last row of each labelled range."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], labels, [False]]).astype(np.int8)))
    return [(int(a), int(b) - 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def joined(spans: Spans, reach: int, count: int) -> Spans:
    """Ranges with `reach` rows on both sides; those that meet are one."""
    out: Spans = []
    for first, last in spans:
        if out and first - reach <= out[-1][1]:
            out[-1] = (out[-1][0], last + reach)
        else:
            out.append((max(first - reach, 0), last + reach))
    return [(first, min(last, count - 1)) for first, last in out]


def buffers(spans: Spans, window: int, labels: Flags) -> Floats:
    """Label (n,) of the rows beside the ranges, 0 elsewhere."""
    weight = np.zeros(len(labels))
    reach = window // 2
    for first, last in spans:
        after = np.arange(last + 1, min(last + reach + 1, len(labels)))
        weight[after] += np.sqrt(1.0 - (after - last) / window)
        before = np.arange(max(first - reach, 0), first)
        weight[before] += np.sqrt(1.0 - (first - before) / window)
    return np.where(labels, 0.0, np.minimum(weight, 1.0))


def vus_pr(labels: Flags, scores: Floats, window: int = WINDOW, thresholds: int = THRESHOLDS) -> float | None:
    """labels, scores (n,): the larger, the more anomalous. None without a labelled row."""
    if not labels.any():
        return None
    n, spans = len(labels), ranges(labels)
    falling = np.argsort(-scores, kind="stable")
    at = np.linspace(0, n - 1, thresholds).astype(int)
    ranked = -scores[falling]
    over = np.searchsorted(ranked, ranked[at], side="right")  # rows over each threshold, ties among them
    limits = -ranked[at]
    hits = np.concatenate([[0.0], np.cumsum(labels[falling])])[over]
    areas = []
    for width in range(window + 1):
        near = buffers(spans, width, labels)
        extra = np.concatenate([[0.0], np.cumsum(near[falling])])[over]
        peaks = [scores[first : last + 1].max() for first, last in joined(spans, width // 2, n)]
        existence = (np.array(peaks)[:, None] >= limits).mean(0)
        recall = np.minimum((hits + extra) / (labels.sum() + extra / 2.0), 1.0) * existence
        precision = (hits + extra) / over
        areas.append(float(np.diff(recall, prepend=0.0) @ precision))
    return float(np.mean(areas))


def cases(count: int = 20) -> list[tuple[Flags, Floats, int]]:
    """Random streams with ranges near each other, at the ends and of one row, and scores with ties."""
    made = []
    for seed in range(count):
        g = np.random.default_rng(seed)
        n = int(g.integers(300, 900))
        labels = np.zeros(n, bool)
        for _ in range(int(g.integers(1, 6))):
            at = int(g.integers(0, n))
            labels[at : at + int(g.integers(1, 40))] = True
        scores = g.normal(size=n) + g.uniform(0, 2) * labels
        made.append((labels, scores.round(1) if seed % 2 else scores, int(g.integers(0, 60))))
    return made


def compared(python: str) -> float:
    """The largest difference from the package, as an interpreter has it."""
    told = json.dumps([(labels.astype(int).tolist(), scores.tolist(), w) for labels, scores, w in cases()])
    done = subprocess.run([python, "-c", PACKAGE], input=told, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{python}: {done.stderr.strip().splitlines()[-1]}")
    found = [vus_pr(*case) for case in cases()]
    return max(abs(a - b) for a, b in zip(json.loads(done.stdout), found, strict=True) if b is not None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", metavar="PYTHON", help="an interpreter that has the package vus")
    options = parser.parse_args()
    if options.package:
        worst = compared(options.package)
        print(f"largest difference from the package: {worst:.2g}")
        sys.exit(worst > 1e-9)
    for name, make in (("random", lambda g, y: g.normal(size=len(y))), ("the labels", lambda g, y: y * 1.0)):
        g = np.random.default_rng(0)
        found = [vus_pr(labels, make(g, labels), w) for labels, _, w in cases()]
        share = np.mean([labels.mean() for labels, *_ in cases()])
        print(f"{name}: {np.mean([one for one in found if one is not None]):.3f}, labelled {share:.3f}")


if __name__ == "__main__":
    main()
