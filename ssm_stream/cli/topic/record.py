"""`ssm-stream record`: writes what the events topic holds to a recording."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ssm_stream.cli.errors import report_errors
from ssm_stream.cli.inputs import AsJson, ConfigFile, require_writable
from ssm_stream.cli.terminal.console import print_json
from ssm_stream.cli.terminal.printable import echo
from ssm_stream.cli.topic import options
from ssm_stream.cli.topic.options import Since, Until, default_name, describe
from ssm_stream.config import ConfigError, load_config


def record(
    config: ConfigFile,
    since: Since = None,
    until: Until = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the recording to this file. Default: TOPIC.parquet.", show_default=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the events that the topic holds to a Parquet file, in the order of their messages.

    All fields are kept, nested ones as columns with dotted names, and where each message was. Only committed messages
    are read, in no consumer group. --since and --until go by the messages' timestamps. The file appears when it is
    complete; after Ctrl-C there is none. Facts that rows get (source.context) become files next to it.

    Exit code 0: written; 1: the broker or the disk failed, or there is no event; 2: the call is wrong.

    Examples: ssm-stream record monitor.yaml --since 7d --out week.parquet

    ssm-stream backtest monitor.yaml week.parquet
    """
    with report_errors(OSError):
        loaded = load_config(config)
        path = out or Path(default_name(loaded))
        if path.suffix.lower() != ".parquet":
            raise typer.BadParameter(f"found {path}; a recording is Parquet: name it .parquet", param_hint="--out")
        require_writable({"--out": path}, config)
        if path.exists() and not force:
            raise ConfigError(f"{path} exists and is not overwritten: --out names another file, --force overwrites it")
        recorded = options.record(loaded, path, since, until)
    for name, count in recorded.facts.items():
        echo(f"{count:,} facts → {path.with_name(name)}", err=True)
    size = path.stat().st_size
    echo(describe(loaded, recorded), err=True)
    if as_json:
        print_json(
            {
                "file": str(path),
                "topic": loaded.source.topic,
                "rows": recorded.rows,
                "columns": recorded.columns,
                "messages": recorded.messages,
                "partitions": recorded.partitions,
                "unreadable": dict(recorded.unreadable),
                "first_ms": recorded.first,
                "last_ms": recorded.last,
                "facts": {str(path.with_name(name)): count for name, count in recorded.facts.items()},
                "bytes": size,
                "seconds": round(recorded.seconds, 3),
                "events_per_s": round(recorded.events_per_s, 1),
            }
        )
    else:
        echo(
            f"{recorded.rows:,} rows of {recorded.columns} columns → {path}, {size / 1e6:,.1f} MB, in "
            f"{recorded.seconds:.1f} s, {recorded.events_per_s:,.0f} events/s"
        )
