"""`ssm-stream state`: what the recovery directory keeps; as a file and back; afresh; and how two states differ."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import orjson
import typer

from ssm_stream.cli.errors import reported
from ssm_stream.config import ConfigError, load_config

if TYPE_CHECKING:
    from ssm_stream.engine.entity_report import EntityReport
    from ssm_stream.recovery.comparison import StateDifference
    from ssm_stream.recovery.reader import EntityList, Position, StoredState

app = typer.Typer(no_args_is_help=True, help="See, move, compare and reset what a flow has learned.")
ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


class Order(StrEnum):
    """What entities are sorted by."""

    NAME = "name"
    LAST = "last"
    EVENTS = "events"
    SHARD = "shard"


@app.command("ls")
def ls(
    config: ConfigFile,
    by: Annotated[Order, typer.Option("--sort", help="Latest and most first.")] = Order.NAME,
    limit: Annotated[int, typer.Option("-n", "--limit", min=0, help="Entities that are shown; 0: all.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List the shards, positions and entities of the recovery directory, whether or not a process runs on it.

    Example: ssm-stream state ls monitor.yaml --sort last --limit 10
    """
    from ssm_stream.engine.snapshot_format import StateError
    from ssm_stream.recovery.bytewax_db import RecoveryError
    from ssm_stream.recovery.reader import list_entities, require_directory, with_state
    from ssm_stream.recovery.settings_files import require_stored_features

    with reported(RecoveryError, StateError):
        loaded = load_config(config)
        like = require_stored_features(loaded)
        stored, found = with_state(
            require_directory(loaded),
            lambda stored: (stored, list_entities(stored, like, by=by.value, limit=limit or None)),
        )
    positions = stored.positions(loaded)
    if as_json:
        _write_json(_ls_json(stored, positions, found))
    else:
        _print_ls(stored, positions, found)


@app.command("audit")
def check_audit(config: ConfigFile, as_json: AsJson = False) -> None:
    """Hold the audit's records to their hashes, to each other, and to what was said of the same offset before.

    Exit code 1 where one is missing, was altered, or says another thing.

    Example: ssm-stream state audit monitor.yaml
    """
    from ssm_stream.ops.audit import AuditError, verify_audit

    with reported(AuditError, OSError):
        loaded = load_config(config)
        if loaded.audit.directory is None:
            raise ConfigError("audit.directory: null; without one nothing is recorded")
        found = verify_audit(loaded.audit.directory)
    if as_json:
        _write_json({**found._asdict(), "ok": not found.faults, "faults": [fault._asdict() for fault in found.faults]})
    else:
        again = f", {found.again} of them after a restart that did an epoch again" if found.again else ""
        typer.echo(f"{found.lines:,} records of {found.shards} shards{again}")
        typer.echo(f"{found.hashes:,} hashes of the states of {found.entities:,} entities")
        for fault in found.faults:
            typer.echo(f"{fault.file}:{fault.line}: {fault.text}")
        typer.echo("unbroken" if not found.faults else f"broken: {len(found.faults)} faults")
    raise typer.Exit(1 if found.faults else 0)


@app.command()
def show(
    config: ConfigFile,
    entity: Annotated[str, typer.Argument(help="Name of the entity.", show_default=False)],
    source: Annotated[
        int | None, typer.Option(help="Partition of the entity, for the names of categories. Default: the first.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Weights that are shown.")] = 12,
    as_json: AsJson = False,
) -> None:
    """Show what is known of one entity: clock, usual error, interval, open episodes, weights and state hash.

    Example: ssm-stream state show monitor.yaml press-1
    """
    from ssm_stream.engine.snapshot_format import StateError
    from ssm_stream.recovery.bytewax_db import RecoveryError
    from ssm_stream.recovery.reader import find_entity, require_directory, with_state
    from ssm_stream.recovery.settings_files import require_stored_features

    with reported(RecoveryError, StateError):
        loaded = load_config(config)
        like = require_stored_features(loaded)
        found = with_state(require_directory(loaded), lambda stored: find_entity(stored, entity, like, source))
    if as_json:
        _write_json(found.as_json())
        return
    hashes = ", ".join(f"{value} (partition {at})" for at, value in found.hashes.items())
    typer.echo(f"{found.entity} in shard {found.shard}, {found.bytes:,} bytes, state hash {hashes}")
    for facts in found.targets:
        _print_facts(facts, top)


@app.command("export")
def export(
    config: ConfigFile,
    file: Annotated[Path, typer.Argument(help="File to write.", show_default=False)],
) -> None:
    """Write the whole state, of all shards with its positions, into one file; a process may run meanwhile.

    Example: ssm-stream state export monitor.yaml monitor.state
    """
    from ssm_stream.engine.snapshot_format import StateError
    from ssm_stream.recovery.bytewax_db import RecoveryError
    from ssm_stream.recovery.export import export_state
    from ssm_stream.recovery.settings_files import require_stored_features

    with reported(RecoveryError, StateError, OSError):
        done = export_state(require_stored_features(load_config(config)), file)
    when = f" (process {done.owner} goes on from there)" if done.owner else ""
    typer.echo(f"{file}: {done.shards} shards, {done.size:,} bytes, as of the start of epoch {done.epoch}{when}")


@app.command("import")
def import_(
    config: ConfigFile,
    file: Annotated[Path, typer.Argument(help="What `export` wrote.", show_default=False)],
    force: Annotated[bool, typer.Option("--force", help="Move aside what the directory keeps.")] = False,
) -> None:
    """Fill the recovery directory from an export: the next start goes on from its positions, to the bit.

    Example: ssm-stream state import monitor.yaml monitor.state
    """
    from ssm_stream.engine.snapshot_format import StateError
    from ssm_stream.recovery.bytewax_db import RecoveryError
    from ssm_stream.recovery.export import import_state

    with reported(RecoveryError, StateError, OSError):
        loaded = load_config(config)
        done = import_state(loaded, file, force=force)
    if done.aside is not None:
        typer.echo(f"what was there is in {done.aside}")
    typer.echo(f"{loaded.recovery.directory}: {done.shards} shards; a start goes on with epoch {done.epoch}")


@app.command()
def reset(
    config: ConfigFile,
    entity: Annotated[str | None, typer.Argument(help="Only this entity.", show_default=False)] = None,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")] = False,
    dry: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
) -> None:
    """Start afresh: move the whole directory aside, or let one entity begin anew.

    Example: ssm-stream state reset monitor.yaml press-1
    """
    from ssm_stream.engine.snapshot_format import StateError
    from ssm_stream.recovery.bytewax_db import RecoveryError
    from ssm_stream.recovery.reset import reset_entity, reset_state

    with reported(RecoveryError, StateError):
        loaded = load_config(config)
        what = f"all that {loaded.recovery.directory} keeps" if entity is None else f"what is known of {entity!r}"
        if entity is None:
            reset_state(loaded, dry=True)
        else:
            reset_entity(loaded, entity, dry=True)
        if dry:
            typer.echo(f"would reset {what}")
            return
        if not yes and not typer.confirm(f"reset {what}?"):
            raise typer.Exit(1)
        if entity is None:
            typer.echo(f"moved to {reset_state(loaded)}: the next start begins at source.start")
        else:
            shard = reset_entity(loaded, entity)
            typer.echo(f"{entity!r} (shard {shard}) starts afresh; what it has taught others stays")


@app.command()
def diff(
    first: Annotated[Path, typer.Argument(help="Configuration, recovery directory or export.", show_default=False)],
    second: Annotated[Path, typer.Argument(help="The same, of the other.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Compare two states entity by entity; exit code 1 where they differ.

    Example: ssm-stream state diff monitor.yaml monitor.state
    """
    from ssm_stream.engine.snapshot_format import StateError
    from ssm_stream.recovery.bytewax_db import RecoveryError
    from ssm_stream.recovery.comparison import compare, hash_state

    with reported(RecoveryError, StateError, OSError):
        found = compare(hash_state(first), hash_state(second))
    if as_json:
        _write_json({**found._asdict(), "changes": [change._asdict() for change in found.changes]})
    else:
        _print_difference(found, first, second)
    if found.any:
        raise typer.Exit(1)


def _write_json(content: Any) -> None:
    sys.stdout.write(orjson.dumps(content, option=orjson.OPT_INDENT_2).decode() + "\n")


def _ls_json(stored: StoredState, positions: list[Position], found: EntityList) -> dict[str, Any]:
    return {
        "directory": str(stored.directory),
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


def _print_ls(stored: StoredState, positions: list[Position], found: EntityList) -> None:
    from rich.console import Console
    from rich.table import Table

    from ssm_stream.engine.entity_report import iso_seconds

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    process = "no process runs on it" if stored.owner is None else f"process {stored.owner} runs on it"
    size = sum(each.size for chain in stored.chains.values() for each in chain)
    console.print(f"{stored.directory}: epoch {stored.epoch}, {process}", markup=False)
    console.print(f"{len(stored.chains)} shards, {found.total:,} entities, {size:,} bytes", markup=False)
    for topic, partition, offset in positions:
        console.print(f"  {topic} partition {partition}: next offset {offset:,}", markup=False)
    table = Table(show_edge=False)
    for name in ("entity", "shard", "last labelled", "events", "bytes", "open", "hash"):
        justify: Literal["left", "right"] = "right" if name in ("events", "bytes") else "left"
        table.add_column(name, justify=justify, no_wrap=name != "entity", overflow="fold")
    for shard, line in found.lines:
        cells = (shard, iso_seconds(line.last) or "never", f"{line.n:,}", f"{line.bytes:,}", ", ".join(line.open))
        table.add_row(line.entity, *cells, line.hash)
    console.print(table, markup=False)
    if found.total > len(found.lines):
        console.print(f"and {found.total - len(found.lines):,} more (--limit 0 shows all)", markup=False)


def _print_facts(facts: EntityReport, top: int) -> None:
    from ssm_stream.engine.entity_report import iso_seconds

    rows = [
        ("target", facts.target),
        ("labelled events", f"{facts.n:,}"),
        ("last of them", iso_seconds(facts.last) or "never"),
        ("watermark then", iso_seconds(facts.watermark) or "none"),
        ("mean gap", f"{facts.gap:.6g} s"),
        ("usual error", f"{facts.error:.6g}"),
        ("interval", f"± {facts.half_width:.6g}"),
    ]
    for episode in facts.episodes:
        since = f"since {iso_seconds(episode.since)}, {episode.events:,} events, highest score {episode.peak:.3g}"
        rows.append((f"open {episode.kind}", since))
    for name, weight in list(facts.weights.items())[:top]:
        rows.append((f"weight of {name}", f"{weight:+.4g}"))
    if len(facts.weights) > top:
        rows.append(("", f"and {len(facts.weights) - top} more weights"))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        typer.echo(f"  {name:{width}}  {value}")


def _print_difference(found: StateDifference, first: Path, second: Path) -> None:
    typer.echo(f"the same in both: {found.same:,}")
    for said, names in (
        (f"only in {first}", found.only_first),
        (f"only in {second}", found.only_second),
        ("differ", found.differ),
    ):
        shown = ", ".join(names[:20]) + (f" and {len(names) - 20:,} more" if len(names) > 20 else "")
        typer.echo(f"{said}: {len(names):,}" + (f": {shown}" if names else ""))
    for change in found.changes:
        typer.echo(f"made with another setting: {change.text}")
