"""`ssm-stream state`: lists, exports, imports, resets, primes and compares the states of flows."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssm_stream.cli.errors import FAILED, report_errors
from ssm_stream.cli.inputs import AsJson, ConfigFile, DryRun, require_writable
from ssm_stream.cli.terminal.console import print_json
from ssm_stream.cli.terminal.printable import echo, printable
from ssm_stream.cli.terminal.state_view import ls_json, print_difference, print_ls, print_report
from ssm_stream.config import ConfigError, load_config

if TYPE_CHECKING:
    from ssm_stream.recovery.prime import Priming

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="List, export, import, reset, prime and compare what a flow has learned.",
)


class Order(StrEnum):
    """Orders of a list of entities."""

    NAME = "name"
    LAST = "last"
    EVENTS = "events"
    SHARD = "shard"


@app.command("ls")
def ls(
    config: ConfigFile,
    by: Annotated[Order, typer.Option("--sort", help="Order; times and numbers descending.")] = Order.NAME,
    limit: Annotated[int, typer.Option("-n", "--limit", min=0, help="Number of entities in the list; 0: all.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List the shards, positions and entities of a state, whether or not a process runs on it.

    Example: ssm-stream state ls examples/soft-sensor.yaml --sort last --limit 10
    """
    from ssm_stream.engine.snapshot_format import StateError
    from ssm_stream.recovery.bytewax_db import RecoveryError
    from ssm_stream.recovery.exclusions import read_rewinds
    from ssm_stream.recovery.reader import list_entities
    from ssm_stream.recovery.resume.gaps import read_gaps
    from ssm_stream.recovery.settings_files import require_stored_features
    from ssm_stream.recovery.store.reading import kept_states, with_stored_state

    with report_errors(RecoveryError, StateError):
        loaded = load_config(config)
        like = require_stored_features(loaded)
        stored, found, kept, rewinds, gaps = with_stored_state(
            loaded,
            lambda stored: (
                stored,
                list_entities(stored, like, by=by.value, limit=limit or None),
                kept_states(loaded, stored),
                read_rewinds(stored.directory),
                read_gaps(stored.directory),
            ),
        )
    positions = stored.positions(loaded)
    if as_json:
        rows = {"generations": kept.as_json(), "rewinds": [each.to_json() for each in rewinds]}
        rows["gaps"] = [each._asdict() for each in gaps]
        print_json({**ls_json(stored, positions, found), **rows})
    else:
        print_ls(stored, positions, found, [kept.text, *(each.text for each in rewinds), *(each.text for each in gaps)])


@app.command("audit")
def check_audit(config: ConfigFile, as_json: AsJson = False) -> None:
    """Check the hash chain of the audit's records, and that records of the same offset agree.

    Exit code 0: they do; 1: a record is missing or altered, or contradicts another.

    Example: ssm-stream state audit examples/soft-sensor.yaml
    """
    from ssm_stream.ops.audit import AuditError
    from ssm_stream.recovery.bytewax_db import RecoveryError
    from ssm_stream.recovery.group.audit import verify

    with report_errors(AuditError, RecoveryError, OSError):
        loaded = load_config(config)
        if loaded.audit.directory is None:
            raise ConfigError("audit.directory: null, so nothing is recorded: name a directory")
        found = verify(loaded)
    if as_json:
        print_json({**found._asdict(), "ok": not found.faults, "faults": [fault._asdict() for fault in found.faults]})
    else:
        why = "from epochs that a restart repeated" if loaded.state.store is None else "of epochs that do not count"
        again = f", {found.again} of them {why}" if found.again else ""
        primed = f", {found.primed} of them of examples (state prime)" if found.primed else ""
        parts = "shards" if loaded.state.store is None else "partitions"
        echo(f"{found.lines:,} records of {found.shards} {parts}{again}{primed}")
        echo(f"{found.hashes:,} hashes of the states of {found.entities:,} entities")
        for fault in found.faults:
            echo(f"{fault.file}:{fault.line}: {fault.text}")
        echo("unbroken" if not found.faults else f"broken: {len(found.faults)} faults")
    raise typer.Exit(1 if found.faults else 0)


@app.command()
def show(
    config: ConfigFile,
    entity: Annotated[str, typer.Argument(help="Name of the entity.", show_default=False)],
    source: Annotated[
        int | None,
        typer.Option(help="Source partition, for the names of categories. Default: the first."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Number of weights in the list.")] = 12,
    as_json: AsJson = False,
) -> None:
    """Print the state of one entity: clock, usual error, interval, open episodes, weights and state hash.

    Example: ssm-stream state show examples/soft-sensor.yaml PUMP-3
    """
    from ssm_stream.engine.snapshot_format import StateError
    from ssm_stream.recovery.bytewax_db import RecoveryError
    from ssm_stream.recovery.reader import find_entity
    from ssm_stream.recovery.settings_files import require_stored_features
    from ssm_stream.recovery.store.reading import with_stored_state

    with report_errors(RecoveryError, StateError):
        loaded = load_config(config)
        like = require_stored_features(loaded)
        found = with_stored_state(loaded, lambda stored: find_entity(stored, entity, like, source))
    if as_json:
        print_json(found.as_json())
        return
    hashes = ", ".join(f"{value} (partition {at})" for at, value in found.hashes.items())
    echo(f"{printable(found.entity)} in shard {found.shard}, {found.bytes:,} bytes, state hash {hashes}")
    if found.primed is not None:
        echo(
            f"primed with {found.primed['examples']:,} examples of {found.primed['file']} at {found.primed['at']} by "
            f"{found.primed['by']} (SHA-256 {found.primed['sha256'][:16]}…)"
        )
    for report in found.targets:
        print_report(report, top)


@app.command("export")
def export(
    config: ConfigFile,
    file: Annotated[Path, typer.Argument(help="File to write.", show_default=False)],
) -> None:
    """Write the whole state, with all shards and positions, to one file; a process may run meanwhile.

    Example: ssm-stream state export examples/soft-sensor.yaml monitor.state
    """
    from ssm_stream.engine.snapshot_format import StateError
    from ssm_stream.recovery.bytewax_db import RecoveryError
    from ssm_stream.recovery.export import export_state
    from ssm_stream.recovery.settings_files import require_stored_features

    with report_errors(RecoveryError, StateError, OSError):
        loaded = load_config(config)
        require_writable({"FILE": file}, config)
        done = export_state(require_stored_features(loaded), file)
    when = f" (process {done.owner} continues from there)" if done.owner else ""
    if loaded.state.store is not None:
        echo(f"{file}: {done.shards} partitions, {done.size:,} bytes, as the group's members have committed them")
    else:
        echo(f"{file}: {done.shards} shards, {done.size:,} bytes, as of the start of epoch {done.epoch}{when}")


@app.command("import")
def import_(
    config: ConfigFile,
    file: Annotated[Path, typer.Argument(help="File that `export` wrote.", show_default=False)],
    force: Annotated[bool, typer.Option("--force", help="Move the present state aside first.")] = False,
) -> None:
    """Fill the recovery directory, or a group's store, from an export: the next start continues with the same bits.

    The flow must be stopped, in a group all of its members.

    Example: ssm-stream state import examples/soft-sensor.yaml monitor.state
    """
    from ssm_stream.engine.snapshot_format import StateError
    from ssm_stream.kafka.client import BrokerError
    from ssm_stream.recovery.bytewax_db import RecoveryError
    from ssm_stream.recovery.group.transfer import import_state

    with report_errors(BrokerError, RecoveryError, StateError, OSError):
        loaded = load_config(config)
        done = import_state(loaded, file, force=force)
    if done.aside is not None:
        echo(f"the former state is in {done.aside}")
    parts = "shards" if loaded.state.store is None else "partitions"
    echo(f"{done.place}: {done.parts} {parts}; the next start {done.goes_on}")


@app.command()
def reset(
    config: ConfigFile,
    entity: Annotated[str | None, typer.Argument(help="Reset only this entity.", show_default=False)] = None,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Reset without a confirmation.")] = False,
    dry: DryRun = False,
) -> None:
    """Start anew: move the whole state aside, or delete one entity from it.

    The flow must be stopped, in a group all of its members.

    Example: ssm-stream state reset examples/soft-sensor.yaml PUMP-3
    """
    from ssm_stream.engine.snapshot_format import StateError
    from ssm_stream.kafka.client import BrokerError
    from ssm_stream.recovery.bytewax_db import RecoveryError
    from ssm_stream.recovery.group.reset import reset_entity, reset_state

    with report_errors(BrokerError, RecoveryError, StateError):
        loaded = load_config(config)
        what = (
            f"the state in {loaded.recovery.directory or loaded.state.store}"
            if entity is None
            else f"the state of {entity!r}"
        )
        if entity is None:
            reset_state(loaded, dry=True)
        else:
            reset_entity(loaded, entity, dry=True)
        if dry:
            echo(f"would reset {what}")
            return
        if not yes and not typer.confirm(f"reset {what}?"):
            raise typer.Exit(FAILED)
        if entity is None:
            echo(f"moved to {reset_state(loaded)}: the next start begins at source.start")
        else:
            shard, part = reset_entity(loaded, entity), "shard" if loaded.state.store is None else "partition"
            echo(f"{entity!r} ({part} {shard}) starts anew; what other entities have learned from it stays")


@app.command()
def prime(
    config: ConfigFile,
    entity: Annotated[str, typer.Argument(help="Name of the entity; it may be new.", show_default=False)],
    file: Annotated[
        Path,
        typer.Argument(
            help="Examples of one entity: CSV, CSV.gz, JSON lines or Parquet, in their order.", show_default=False
        ),
    ],
    source: Annotated[
        int | None,
        typer.Option(
            help="Source partition of its events. Default: the one that Kafka's Java clients choose for its name.",
            show_default=False,
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Prime without a confirmation.")] = False,
    dry: Annotated[bool, typer.Option("--dry-run", help="Print what would be learned, and change nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Give a new product, or an overhauled machine, chosen examples: its learner learns them, as if they had come next.

    No prediction and no alert is sent. The audit and `state show` have the file's hash, the number, time and user.

    Example: ssm-stream state prime examples/soft-sensor.yaml PUMP-8 FILE --dry-run
    """
    from ssm_stream.engine.snapshot_format import StateError
    from ssm_stream.evaluate.recordings import RecordingError
    from ssm_stream.recovery.bytewax_db import RecoveryError
    from ssm_stream.recovery.prime import prime_entity
    from ssm_stream.recovery.settings_files import require_stored_features

    with report_errors(RecoveryError, RecordingError, StateError, OSError):
        loaded = require_stored_features(load_config(config))
        if dry or not yes:
            found = prime_entity(loaded, entity, file, source=source, dry=True)
        if not dry and not yes:
            echo(_describe_priming(found, done=False), err=True)
            if not typer.confirm(f"prime {entity!r}?", err=True):
                raise typer.Exit(FAILED)
        if not dry:
            found = prime_entity(loaded, entity, file, source=source)
    if as_json:
        print_json({**found.as_json(), "done": not dry})
    else:
        echo(_describe_priming(found, done=not dry))


@app.command()
def diff(
    first: Annotated[Path, typer.Argument(help="Configuration, recovery directory or export.", show_default=False)],
    second: Annotated[Path, typer.Argument(help="Configuration, recovery directory or export.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Compare two states entity by entity.

    Exit code 0: they are equal; 1: they differ.

    Example: ssm-stream state diff examples/soft-sensor.yaml monitor.state
    """
    from ssm_stream.engine.snapshot_format import StateError
    from ssm_stream.recovery.bytewax_db import RecoveryError
    from ssm_stream.recovery.comparison import compare, hash_state

    with report_errors(RecoveryError, StateError, OSError):
        found = compare(hash_state(first), hash_state(second))
    if as_json:
        print_json({**found._asdict(), "changes": [change._asdict() for change in found.changes]})
    else:
        print_difference(found, first, second)
    if found.any:
        raise typer.Exit(FAILED)


def _describe_priming(found: Priming, *, done: bool) -> str:
    """Return what was learned, or would be, a sentence a line."""
    what = "is new" if found.new else "has a state already, on top of which it learns"
    lines = [
        f"{found.entity!r} (shard {found.shard}, partition {found.source}) {what}",
        f"{'learned' if done else 'would learn'} {found.examples:,} examples of {found.record['file']} (SHA-256 "
        f"{found.record['sha256'][:16]}…)",
    ]
    for each in found.errors:
        change = f"{each.first:.4g} over the first {found.compared}, {each.last:.4g} over the last {found.compared}"
        lines.append(f"mean error of {each.target} meanwhile: {change}")
    if done:
        lines.append(f"state hash {found.hash}" + ("; the audit has a record of it" if found.audited else ""))
    return "\n".join(lines)
