"""`ssm-stream state rename-feature`: gives an input or a target of a stored state another name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ssm_stream.cli.errors import FAILED, report_errors
from ssm_stream.cli.inputs import AsJson, ConfigFile, DryRun
from ssm_stream.cli.terminal.console import print_json
from ssm_stream.cli.terminal.printable import echo
from ssm_stream.config import Config, load_config

if TYPE_CHECKING:
    from ssm_stream.recovery.rename_feature import Renamed


def rename_feature(
    config: ConfigFile,
    old: Annotated[str, typer.Argument(help="Path of the input or target in the state.", show_default=False)],
    new: Annotated[str, typer.Argument(help="Its new path in the events.", show_default=False)],
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Rename without a confirmation.")] = False,
    dry: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Give an input or a target of the stored state another name: what was learned of it stays, to the bit.

    For a field that is called otherwise in the events from now on. Stop the flow, rename, write the new name in the
    file, before or after, and start again. Without this, the old one would leave and the new one start at zero.

    Example: ssm-stream state rename-feature examples/soft-sensor.yaml fluid_temp fluid_temperature --dry-run
    """
    from ssm_stream.engine.snapshot_format import StateError
    from ssm_stream.recovery.bytewax_db import RecoveryError
    from ssm_stream.recovery.rename_feature import rename_feature as rename

    with report_errors(RecoveryError, StateError, OSError):
        loaded = load_config(config)
        if dry or not yes:
            found = rename(loaded, old, new, dry=True)
        if not dry and not yes:
            echo(_describe(found, loaded, done=False), err=True)
            if not typer.confirm(f"rename {old!r}?", err=True):
                raise typer.Exit(FAILED)
        if not dry:
            found = rename(loaded, old, new)
    if as_json:
        print_json({**found._asdict(), "done": not dry})
    else:
        echo(_describe(found, loaded, done=not dry))


def _describe(found: Renamed, config: Config, *, done: bool) -> str:
    """Return what was renamed, or would be, a sentence a line."""
    verb = "renamed" if done else "would rename"
    lines = [
        f"{verb} {found.old!r} to {found.new!r} in {', '.join(found.where)} of the state, {found.shards} shards",
        f"what was learned stays to the bit (arrays {found.arrays})",
    ]
    event = config.event
    features = [] if event.features == "auto" else [*event.features, *event.targets]
    if found.old in [*features, *event.categories, *(event.inputs or [])]:
        lines.append(f"write {found.new!r} in the file in place of {found.old!r} before the next start")
    return "\n".join(lines)
