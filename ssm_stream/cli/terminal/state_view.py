"""Prints what `ssm-stream state` reads of a state."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssm_stream.cli.terminal.console import new_table, output, print_table
from ssm_stream.cli.terminal.printable import echo, printable

if TYPE_CHECKING:
    from ssm_stream.engine.entity_report import EntityReport
    from ssm_stream.recovery.comparison import StateDifference
    from ssm_stream.recovery.reader import EntityList, Position, StoredState


def ls_json(stored: StoredState, positions: list[Position], found: EntityList) -> dict[str, Any]:
    """Return the content of `state ls --json`."""
    return {
        "directory": stored.place,
        "process": stored.owner,
        "epoch": stored.epoch,
        "positions": [position._asdict() for position in positions],
        "shards": {
            shard: {"files": len(chain), "bytes": sum(each.size for each in chain), "latest": chain[-1].name}
            for shard, chain in stored.chains.items()
        },
        "total": found.total,
        "entities": [{"shard": shard, **line.as_json()} for shard, line in found.lines],
    }


def print_ls(stored: StoredState, positions: list[Position], found: EntityList, more: list[str]) -> None:
    """Print a state: positions, then entities. more: further lines"""
    from ssm_stream.engine.entity_report import iso_seconds

    console = output()
    process = "no process runs on it" if stored.owner is None else f"process {stored.owner} runs on it"
    size = sum(each.size for chain in stored.chains.values() for each in chain)
    about = "as its members have committed it" if stored.by_partition else f"epoch {stored.epoch}, {process}"
    console.print(f"{stored.place}: {about}", markup=False)
    parts = "partitions" if stored.by_partition else "shards"
    console.print(f"{len(stored.chains)} {parts}, {found.total:,} entities, {size:,} bytes", markup=False)
    for topic, partition, offset in positions:
        console.print(f"  {topic} partition {partition}: next offset {offset:,}", markup=False)
    for text in more:
        console.print(text, markup=False)
    columns = ("entity", "shard", "last labelled", "events", "bytes", "open", "hash")
    table = new_table(columns, fold=("entity", "open"), text=("shard", "last labelled", "hash"))
    for shard, line in found.lines:
        cells = (shard, iso_seconds(line.last) or "never", f"{line.n:,}", f"{line.bytes:,}", ", ".join(line.open))
        table.add_row(line.entity, *cells, line.hash)
    print_table(table, console)
    if found.total > len(found.lines):
        console.print(f"and {found.total - len(found.lines):,} more (--limit 0 shows all)", markup=False)


def print_report(report: EntityReport, top: int) -> None:
    """Print the state of an entity. top: number of weights"""
    from ssm_stream.engine.entity_report import iso_seconds

    rows = [
        ("target", report.target),
        ("labelled events", f"{report.n:,}"),
        ("last of them", iso_seconds(report.last) or "never"),
        ("watermark then", iso_seconds(report.watermark) or "none"),
        ("mean gap", f"{report.gap:.6g} s"),
        ("usual error", f"{report.error:.6g}"),
        ("interval", f"± {report.half_width:.6g}"),
    ]
    for episode in report.episodes:
        since = f"since {iso_seconds(episode.since)}, {episode.events:,} events, highest score {episode.peak:.3g}"
        rows.append((f"open {episode.kind}", since))
    if report.trial:
        part = f"{report.trial.share:.0%} of a prediction is from a learner that began anew"
        rows.append(("changed inputs", f"on trial: {part}; {report.trial.events_left:,} labelled events to go"))
    for name, weight in list(report.weights.items())[:top]:
        rows.append((f"weight of {name}", f"{weight:+.4g}"))
    if len(report.weights) > top:
        rows.append(("", f"and {len(report.weights) - top} more weights"))
    rows = [(printable(name), printable(value)) for name, value in rows]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        echo(f"  {name:{width}}  {value}")


def print_difference(found: StateDifference, first: Path, second: Path) -> None:
    """Print how two states differ."""
    echo(f"the same in both: {found.same:,}")
    for title, names in (
        (f"only in {first}", found.only_first),
        (f"only in {second}", found.only_second),
        ("differ", found.differ),
    ):
        shown = ", ".join(map(printable, names[:20])) + (f" and {len(names) - 20:,} more" if len(names) > 20 else "")
        echo(f"{title}: {len(names):,}" + (f": {shown}" if names else ""))
    for change in found.changes:
        echo(f"made with another setting: {change.text}")
