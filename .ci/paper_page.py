"""Writes docs/paper.md and its pictures from docs/paper.json, the figures of the full run of `ssm-stream paper`.

    python .ci/paper_page.py              # the page from the figures
    python .ci/paper_page.py --run        # runs what is not in the cache, renews the figures, and writes the page
    python .ci/paper_page.py --finished   # renews the figures from what is in the cache already, and writes the page

No figure stands on the page that is not in docs/paper.json, and none there that a run did not give.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from ssm_stream.evaluate.report.chart import WIDE, draw, plot_of
from ssm_stream.evaluate.report.numbers import number
from ssm_stream.evaluate.report.section import Chart, Section, Table

ROOT = Path(__file__).parent.parent
DATA = ROOT / "docs" / "paper.json"
PAGE = ROOT / "docs" / "paper.md"
PICTURES = ROOT / "docs" / "img"
CACHE = ROOT / ".ssm-stream" / "paper"
DIGITS = 6
COLOURS = ("#1f6feb", "#d1570a", "#2a8f4f", "#8250df", "#b8236b", "#5a6572", "#0f8b8d", "#9a6b00")
"""Those of the reports, `c0` to `c7` of style.css."""

CHAPTERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Equivalence: the state is the gradient", ("equalities",)),
    (
        "Training: the layer finds gradient descent by itself",
        ("closed-form", "trained-scalar", "trained-vector", "sizes", "out-of-distribution"),
    ),
    ("More than one step", ("steps", "second-order")),
    ("Tasks that are not linear", ("sine", "classification")),
    ("What gates and window are for", ("ablations", "sliding-window")),
    ("Other layers with the same window", ("baselines",)),
    ("Time and memory over lengths", ("lengths",)),
    ("Guideline: error and cost", ("guideline",)),
)
HEAD = """<!-- Written by `python .ci/paper_page.py` from docs/paper.json: change them there. -->
# From the paper: measured

The paper (*State-space models can learn in-context by gradient descent*, arXiv 2410.11687) says that one state space
layer with an input gate, an output gate and a sliding window of three tokens computes a step of gradient descent.
This page is the full run of `ssm-stream paper`, which trains that layer, compares it with explicit gradient descent,
with layers that lack a part, and with attention. [model.md](model.md) has the mathematics,
[from-paper.md](from-paper.md) the way from this layer to the learner that runs in production.

A loss is ½ of the mean squared error at the query. Unless a chapter says otherwise: ten inputs, uniform in (−½, ½),
normal weights, ten examples, no noise. Predictors of one table are tested on the same fresh tasks.
"""
LEFT_OUT = {("trained-vector", "Trained parameters beside predicted ones")}
"""Tables that show again what one before them does; the report of the command has them."""
MISSING = "*`{name}` is not in these figures yet: `python .ci/paper_page.py --run` runs it and adds it.*"


def sections(data: dict[str, Any]) -> dict[str, Section]:
    """Return the finished experiments by name."""
    return {name: Section.from_json(content) for name, content in data["sections"].items()}


def rounded(value: Any) -> Any:
    """Return JSON content with its numbers to DIGITS digits: a run on another machine differs beyond them."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def collect(run: bool) -> dict[str, Any]:
    """Return the figures of the full plan: of all pieces, or of those in the cache."""
    from ssm_stream.paper.report import cache_file, describe_device, full_plan, load, run_plan

    plan = full_plan()
    if not run:
        plan = [piece for piece in plan if load(cache_file(CACHE, piece, "cpu")) is not None]
    done = run_plan(plan, "cpu", CACHE, True, report, lambda _: None)
    processor = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).is_file():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        processor = names[0] if names else processor
    found = {piece.name: {**section.as_json(), "seconds": 0.0} for piece, section in zip(plan, done, strict=True)}
    return rounded({"run": f"{describe_device('cpu')}, {processor}, {os.cpu_count()} cores", "sections": found})


def report(line: str) -> None:
    """Write a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def cell(value: str | float) -> str:
    """Return a cell of a Markdown table."""
    return number(value).replace("|", "\\|")


def table_text(table: Table) -> Iterator[str]:
    """Yield the lines of a table."""
    if table.title:
        yield from (f"**{table.title}**", "")
    yield f"| {' | '.join(cell(column) for column in table.columns)} |"
    yield f"|{'---|' * len(table.columns)}"
    for row in table.rows:
        yield f"| {' | '.join(cell(value) for value in row)} |"
    yield ""
    if table.note:
        yield from (table.note, "")


def picture(chart: Chart) -> str | None:
    """Return a chart as a file of its own, with its legend below; None if there is nothing to draw."""
    plot = plot_of(chart)
    drawn = draw(plot)
    if drawn is None:
        return None
    legend = chart.legend()
    height = WIDE.height + 20 * -(-len(legend) // 2) + 8
    right, floor = WIDE.width - WIDE.right, WIDE.height - WIDE.bottom
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE.width} {height}" width="{WIDE.width}" '
        f'font-family="system-ui, sans-serif" font-size="11" fill="#57606a" role="img" '
        f'aria-label="{escape(chart.title)}">',
        f'<rect width="{WIDE.width}" height="{height}" rx="8" fill="#fff"/>',
    ]
    for y, label in drawn.y_ticks:
        out.append(f'<path stroke="#d8dee4" d="M{WIDE.left} {y:.1f}H{right}"/>')
        out.append(f'<text x="{WIDE.left - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    for x, label in drawn.x_ticks:
        out.append(f'<path stroke="#57606a" d="M{x:.1f} {floor}v4"/>')
        out.append(f'<text x="{x:.1f}" y="{floor + 16}" text-anchor="middle">{label}</text>')
    middle = (WIDE.left + right) / 2, (WIDE.top + floor) / 2
    out += [
        f'<path stroke="#57606a" d="M{WIDE.left} {floor}H{right}"/>',
        f'<text x="{middle[0]:.0f}" y="{WIDE.height - 8}" text-anchor="middle">{escape(chart.x)}</text>',
        f'<text transform="translate(14 {middle[1]:.0f}) rotate(-90)" text-anchor="middle">{escape(chart.y)}</text>',
    ]
    for style, path, dots in drawn.lines:
        out.append(f'<path {stroke(style)} d="{path}"/>')
        colour = COLOURS[int(style[1])]
        out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in dots]
    for index, (style, name) in enumerate(legend):
        x, y = WIDE.left + index % 2 * (right - WIDE.left) // 2, WIDE.height + 8 + 20 * (index // 2)
        out.append(f'<path {stroke(style)} d="M{x} {y}h24"/>')
        out.append(f'<text x="{x + 30}" y="{y + 4}">{escape(name)}</text>')
    return "\n".join([*out, "</svg>\n"])


def stroke(style: str) -> str:
    """Return the attributes of a line."""
    dashes = ' stroke-dasharray="5 4"' if "dashed" in style else ""
    return f'fill="none" stroke="{COLOURS[int(style[1])]}" stroke-width="1.8"{dashes}'


def in_short(found: dict[str, Section]) -> Iterator[str]:
    """Yield the verdict on the checks, and the first paragraph's figures of what is finished."""
    checks = [check for section in found.values() for check in section.checks]
    missed = [f"{check.name} is {number(check.value)}, bar {check.bar_text}" for check in checks if not check.ok]
    yield f"**{len(checks) - len(missed)} of {len(checks)} checks are met.**" + (
        f" Missed: {'; '.join(missed)}." if missed else ""
    )
    yield ""


def when_which(found: dict[str, Section]) -> Iterator[str]:
    """Yield the guideline: what to take, and the figures of this run that say so."""
    yield from ("## When which", "", "| you have | take | measured here |", "|---|---|---|")
    for have, take, name, title, text in ADVICE:
        section = found.get(name)
        table = next((each for each in section.tables if each.title.startswith(title)), None) if section else None
        if table is None:
            continue
        last = dict(zip(table.columns, table.rows[-1], strict=True))
        values = {str(column): cell(value) for column, value in last.items()}
        yield f"| {have} | {take} | {text.format_map(values)} |"
    yield ""


ADVICE = (
    ("a stream without end, one event at a time", "the state space layer: cost and state stay", "guideline",
     "Memory a sequence",
     "a new event after {events so far}: {GD-SSM, µs an event} µs and {GD-SSM, bytes} bytes, attention "
     "{attention, µs an event} µs and {attention cache, bytes} bytes"),
    ("long recordings to predict at once", "the state space layer by chunks", "lengths",
     "All predictions of a sequence, ms",
     "all predictions of {examples N} examples: {state space, chunks} ms by chunks, {attention, fused} ms by "
     "fused attention"),
    ("little memory for long sequences", "chunks, or the event-by-event form; not the parallel scan", "lengths",
     "All predictions of a sequence, MiB",
     "at {examples N} examples {state space, chunks} MiB by chunks, {state space, parallel} by the parallel "
     "scan, {attention, fused} by fused attention"),
    ("long sequences to train on, and little memory", "fused attention, or chunks computed again on the way back",
     "lengths", "A training step on all predictions, MiB",
     "a training step on {examples N} examples: {state space, chunks} MiB by chunks, {attention, fused} by "
     "fused attention"),
    ("a linear relation", "least squares, or several steps; one step is far from it", "guideline",
     "Loss, linear regression",
     "loss at N = {N} with noise: ridge {ridge, the optimum}, four steps {GD-SSM, 4 layers}, one step {GD-SSM,"
     " 1 layer}, softmax attention {softmax attention}"),
    ("a curved relation and a short history", "the better of the two on your data", "guideline",
     "Loss, sine waves",
     "sine waves, N = {N}: softmax attention with MLP {softmax attention with MLP}, the layer with MLP {GD-SSM"
     " with MLP}"),
)  # fmt: skip


def page(data: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """Return the page and its pictures by name of file."""
    found, lines, pictures = sections(data), [HEAD], dict[str, str]()
    planned = sum(len(names) for _, names in CHAPTERS)
    lines += [
        f"{len(found)} of the {planned} experiments of the full run, each at its full size. {data['run']}; times are "
        "processor times of one thread.",
        "",
    ]
    lines += in_short(found)
    lines += when_which(found)
    for title, names in CHAPTERS:
        lines += [f"## {title}", ""]
        for name in names:
            if name not in found:
                lines += [MISSING.format(name=name), ""]
                continue
            section = found[name]
            if len(names) > 1:
                lines += [f"### {section.title}", ""]
            for paragraph in section.text:
                if paragraph not in lines:  # the recipe is that of several experiments
                    lines += [paragraph, ""]
            for table in section.tables:
                if (name, table.title) not in LEFT_OUT:
                    lines += table_text(table)
            for index, chart in enumerate(section.charts):
                drawn = picture(chart)
                if drawn is not None:
                    file = f"paper-{name}{index + 1 if len(section.charts) > 1 else ''}.svg"
                    pictures[file] = drawn
                    lines += [f"![{chart.title}](img/{file})", ""]
    lines += [
        "## Reproduce", "",
        "    ssm-stream paper                      # the whole run; stopped, it goes on where it was", "",
        "    python .ci/paper_page.py --run        # in a clone: the same, then this page", "",
        "Training is seeded and runs on one thread, so losses repeat; times are those of the machine above.", "",
    ]  # fmt: skip
    return "\n".join(lines), pictures


def main(arguments: list[str]) -> None:
    """Write the figures if asked to, then page and pictures."""
    if {"--run", "--finished"} & set(arguments):
        data = collect(run="--run" in arguments)
        DATA.write_text(json.dumps(data, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
    text, pictures = page(json.loads(DATA.read_text(encoding="utf-8")))
    PAGE.write_text(text, encoding="utf-8")
    for old in PICTURES.glob("paper-*.svg"):
        if old.name not in pictures:
            old.unlink()
    for name, drawn in pictures.items():
        (PICTURES / name).write_text(drawn, encoding="utf-8")
    size = len(text) + sum(map(len, pictures.values()))
    report(f"{PAGE.relative_to(ROOT)}, {len(pictures)} pictures, {size:,} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
