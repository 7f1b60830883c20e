"""The figures of throughput.py as one picture, a panel for each part that was measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

COLOURS = {"passthrough": "#9aa0a6", "default": "#1a73e8", "plain": "#8ab4f8", "quix": "#e8710a", "bytewax": "#f9ab00"}
Axes = Any


def bars(axes: Axes, report: dict[str, Any]) -> None:
    """Events a second of every client."""
    rows = list(reversed(report["rows"]))
    speeds = [row["events_per_s"] / 1000 for row in rows]
    axes.barh([row["title"] for row in rows], speeds, color=[COLOURS[row["name"]] for row in rows])
    for at, (row, speed) in enumerate(zip(rows, speeds, strict=True)):
        axes.text(speed, at, f" {speed:,.0f} k ({row['of_passthrough']:.2f})", va="center", fontsize=8)
    axes.set(title="Topic to topic (of the ceiling)", xlabel="thousand events/s", xlim=(0, 1.35 * max(speeds)))


def latency(axes: Axes, report: dict[str, Any]) -> None:
    """Distribution of the time from produce to prediction."""
    for row in report["latency"].values():
        quantiles = {float(q): ms for q, ms in row["quantiles_ms"].items()}
        style = "-" if row["configuration"] == "default" else "--"
        label = f"{row['rate']:,} events/s, {row['configuration']}"
        axes.plot([max(ms, 1) for ms in quantiles.values()], [q / 100 for q in quantiles], style, label=label)
    axes.axhline(0.99, color="#9aa0a6", linewidth=0.8)
    axes.set(title="From produce to prediction", xlabel="ms", ylabel="share of events", xscale="log", ylim=(0, 1.02))
    axes.legend(fontsize=7, loc="lower right")


def stages(axes: Axes, report: dict[str, Any]) -> None:
    """Cost of each step, beside each other."""
    found, wire = report["stages"]["by_configuration"], report["stages"]
    steps = [step for step in found["default"] if not step.startswith(("snapshot", " "))]
    for at, one in enumerate(found.values()):
        left = 0.0
        parts = {"consume": wire["consume_us"], **{step: one[step] for step in steps}, "produce": wire["produce_us"]}
        for number, (step, cost) in enumerate(parts.items()):
            axes.barh(at, max(cost, 0), left=left, color=f"C{number}", label=step if at == 0 else None)
            left += max(cost, 0)
    axes.set(title="Cost by stage", xlabel="µs an event", yticks=range(len(found)), yticklabels=list(found))
    axes.set_ylim(-0.6, len(found) + 0.6)
    axes.legend(fontsize=7, ncols=2, loc="upper right")


def growing(axes: Axes, at: list[int]) -> None:
    """A logarithmic axis with the points themselves as its marks."""
    axes.set_xscale("log")
    axes.set_xticks(at, labels=[f"{value:,}" for value in at])
    axes.minorticks_off()


def curve(kind: str, title: str) -> Callable[[Axes, dict[str, Any]], None]:
    """µs an event over a quantity that grows; over entities the memory of one as well."""

    def draw(axes: Axes, report: dict[str, Any]) -> None:
        points = {int(at): one for at, one in report["growth"][kind].items()}
        axes.plot(list(points), [one["us"] for one in points.values()], "o-", color=COLOURS["default"])
        axes.set(title=title, xlabel=kind, ylabel="µs an event", yscale="log" if kind == "batches" else "linear")
        growing(axes, list(points))
        if kind != "batches":
            axes.set_ylim(0, 1.15 * max(one["us"] for one in points.values()))
        if kind == "entities":
            told = {at: one for at, one in points.items() if at >= 1000}
            beside = axes.twinx()
            kilobytes = [[one[name] / 1000 for one in told.values()] for name in ("resident", "bytes")]
            beside.plot(list(told), kilobytes[0], "s--", color=COLOURS["quix"], label="resident")
            beside.plot(list(told), kilobytes[1], ":", color=COLOURS["quix"], label="state")
            beside.set(ylabel="kB an entity", ylim=(0, 1.3 * max(map(max, kilobytes))))
            beside.legend(fontsize=7, loc="lower right")

    return draw


def shards(axes: Axes, report: dict[str, Any]) -> None:
    """µs an event over the number of shards."""
    points = {int(at): cost for at, cost in report["shards"].items()}
    axes.plot(list(points), list(points.values()), "o-", color=COLOURS["default"])
    axes.set(title="Shards, decode to encode", xlabel="shards", ylabel="µs an event")
    growing(axes, list(points))
    axes.set_ylim(0, 1.15 * max(points.values()))


def draw(report: dict[str, Any], file: Path) -> None:
    """Write the picture; the file's ending says how (png, svg, pdf).

    Raises:
        ImportError: matplotlib is not installed (`bench` extra).
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    growth = report.get("growth", {})
    panels = [panel for name, panel in (("rows", bars), ("latency", latency), ("stages", stages)) if report.get(name)]
    titles = {"entities": "Entities", "features": "Features", "batches": "Events a batch"}
    panels += [curve(kind, title) for kind, title in titles.items() if len(growth.get(kind, {})) > 1]
    panels += [shards] if report.get("shards") else []
    across = min(4, max(len(panels), 1))
    down = max(-(-len(panels) // across), 1)
    figure, axes = pyplot.subplots(down, across, figsize=(5.2 * across, 3.8 * down), squeeze=False)
    for each in axes.flat[len(panels) :]:
        each.axis("off")
    for panel, each in zip(panels, axes.flat, strict=False):
        panel(each, report)
    figure.tight_layout()
    figure.savefig(file, dpi=120)
