"""The error around a change of coefficients, as one picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from adaptation_run import BACK, BLOCK, Everybody, Figures
from adaptation_streams import Array, Stream

BEFORE, AFTER = 100, 400
"""Events of the picture, before and after the change."""
LINES = {
    "ssm-stream": ("ssm-stream", "#1a73e8", 2.2),
    "frozen": ("frozen model (LightGBM)", "#9aa0a6", 1.4),
    "nightly": ("retrained every night (LightGBM)", "#e8710a", 1.4),
    "sliding": ("retrained every 50 events on the last 500 (LightGBM)", "#f9ab00", 1.4),
    "River": ("River's best", "#188038", 1.4),
}


def curve(stream: Stream, one: Figures) -> Array:
    """Mean of the last `BLOCK` errors of one learner around the change, by the noise's own error."""
    at = int(stream.counted[: stream.at].sum())
    mean = np.convolve(one.curve, np.ones(BLOCK) / BLOCK, "valid")
    own = stream.noise[stream.counted][:at].mean()
    first = at - BEFORE - BLOCK + 1
    out: Array = mean[first : first + BEFORE + AFTER] / own
    return out


def draw(streams: list[Stream], found: dict[str, Everybody], path: Path) -> None:
    """The mean over the streams, the variant of each learner that was best in hindsight."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.hashsalt": "adaptation", "svg.fonttype": "none"})
    from matplotlib import pyplot

    chosen = [stream for stream in streams if stream.kind == "coefficients" and not stream.past]
    figure, axes = pyplot.subplots(figsize=(7.2, 3.4))
    since = np.arange(-BEFORE, AFTER)
    for name, (label, colour, width) in reversed(LINES.items()):
        errors = [min(found[one.name][name].values(), key=lambda figures: figures.mae) for one in chosen]
        mean = np.mean([curve(stream, one) for stream, one in zip(chosen, errors, strict=True)], axis=0)
        axes.plot(since[::4], mean[::4], color=colour, linewidth=width, label=label)
    axes.axhline(BACK, color="#5f6368", linewidth=0.8, linestyle=":")
    axes.text(AFTER, BACK * 1.03, f"{BACK:g} × the noise", ha="right", va="bottom", fontsize=7, color="#5f6368")
    axes.axvline(0, color="#5f6368", linewidth=0.8)
    axes.set(yscale="log", xlim=(-BEFORE, AFTER), xlabel="events since all 8 coefficients changed")
    axes.set_ylabel(f"error, mean of {BLOCK}, in units of the noise", fontsize=8)
    axes.set_yticks([1, 2, 5, 10, 20], ["1", "2", "5", "10", "20"])
    axes.minorticks_off()
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(
        handles[::-1], labels[::-1], fontsize=7, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False
    )
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)
