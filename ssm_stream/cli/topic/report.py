"""`ssm-stream report`: writes a page for a team's weekly meeting from what the topics hold."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from ssm_stream.cli.errors import report_errors
from ssm_stream.cli.inputs import AsJson, ConfigFile, load_with_stored_features, require_writable
from ssm_stream.cli.language import Lang, language
from ssm_stream.cli.terminal.console import print_json
from ssm_stream.cli.terminal.output_file import write_output
from ssm_stream.cli.terminal.printable import echo
from ssm_stream.cli.topic.options import read_time
from ssm_stream.config import ConfigError
from ssm_stream.ingest.timestamps import MIN_MS

MIN_PERIOD = 60_000
"""Shortest period, ms."""


def report(
    config: ConfigFile,
    since: Annotated[
        str, typer.Option(help="Begin of the period: 7d (so long ago) or 2026-01-31T12:00, by the time of events.")
    ] = "7d",
    until: Annotated[str | None, typer.Option(help="Its end, as --since. Default: now.", show_default=False)] = None,
    out: Annotated[Path, typer.Option(help="Write the page to this file.")] = Path("report.html"),
    lang: Lang = None,
    as_json: AsJson = False,
) -> None:
    """Write an HTML report on a week, or any time, from the topics: alerts, feedback, budget, errors, silence.

    It compares the period with as long a time before it. It reads alerts, suppressed ones, feedback, planned stops and
    hourly summaries (sinks.summaries), whichever process wrote them, in no consumer group; the flow may run or not.

    Exit code 0: written; 1: the broker or the disk failed; 2: the call is wrong.

    Examples: ssm-stream report monitor.yaml --since 7d --out report.html

    ssm-stream report monitor.yaml --since 2026-01-26 --until 2026-02-02 --lang ja
    """
    from ssm_stream.evaluate.report.period.figures import figures
    from ssm_stream.evaluate.report.period.page import lead, page
    from ssm_stream.evaluate.report.period.words import words
    from ssm_stream.flow.period import read_period, topics_of
    from ssm_stream.kafka.client import BrokerError
    from ssm_stream.recovery.bytewax_db import RecoveryError

    loaded = load_with_stored_features(config, exclusions=False)
    with report_errors(BrokerError, RecoveryError, OSError):
        require_writable({"--out": out}, config)
        begin, end = read_time(loaded, since, "--since"), read_time(loaded, until, "--until")
        end = int(time.time() * 1000) if end is None else end
        assert begin is not None
        if end - begin < MIN_PERIOD:
            raise ConfigError("--since: it is not before --until by a minute at least")
        if 2 * begin - end < MIN_MS:
            raise ConfigError(
                f"--since: found {since!r}, and the report compares with as long a time before it, which is before the "
                "year 2; write a shorter period, such as 30d"
            )
        period, text = read_period(loaded, begin, end), words(language(lang))
        found = figures(loaded, period)
        write_output("--out", out, page(found, topics_of(loaded), text))
    if as_json:
        print_json(found)
    else:
        echo(lead(found, text))
        if not found["alerts"]["started"] and not found["has"]["summaries"]:
            echo("nothing in these topics is of this time: --since and --until go by the time of events", err=True)
    echo(f"report: {out}", err=True)
