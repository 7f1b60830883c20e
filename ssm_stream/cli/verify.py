"""`ssm-stream verify`: certifies on a recording that the model is gradient descent and recovers from changes."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from ssm_stream.cli.errors import FAILED, report_errors
from ssm_stream.cli.inputs import (
    AsJson,
    ConfigFile,
    FileOrTopic,
    Limit,
    open_recording,
    require_one_target,
    require_writable,
    rows_to_read,
    with_option_groups,
)
from ssm_stream.cli.language import Lang, language
from ssm_stream.cli.terminal.console import checks_table, output, print_table, share_bar
from ssm_stream.cli.topic.options import FromTopic, file_or_topic
from ssm_stream.config import load_config

MISSED = 3
"""Exit code: the model computes what it should, but a recovery is missed."""


@with_option_groups
def verify(
    config: ConfigFile,
    where: FromTopic,
    file: FileOrTopic = None,
    out: Annotated[Path, typer.Option(help="Write the certificate (HTML) to this file.")] = Path("verify.html"),
    as_json: AsJson = False,
    limit: Limit = None,
    tolerance: Annotated[
        float, typer.Option(min=0.0, help="Largest relative deviation of the kernel that passes.")
    ] = 1e-3,
    lang: Lang = None,
) -> None:
    """Prove on a recording that the model is gradient descent, that it learns, and that it recovers from changes.

    Exit code 0: heads, gates and predictions agree with explicit gradient descent, and no recovery is missed. 1: they
    do not agree, or the recording cannot be read. 2: a wrong call. 3: they agree, but after an injected change the
    error was not back within 150 events of the entity.

    A recovery that the recording cannot show is named with the reason and changes no exit code. Neither does a model
    that is no better than its start, which the verdict names.

    Example: ssm-stream verify examples/soft-sensor.yaml examples/plant.csv.gz --out certificate.html
    """
    # Importing the evaluation takes a second, which `ssm-stream --help` must not.
    from ssm_stream.evaluate.recordings import RecordingError
    from ssm_stream.verify.certificate import file_facts
    from ssm_stream.verify.certificate import verify as run_verify
    from ssm_stream.verify.replay import NothingToVerifyError

    require_writable(out, "--out")
    chosen = language(lang)
    console, bar = output(error=True), share_bar()
    with report_errors(RecordingError, NothingToVerifyError, OSError), ExitStack() as stack:
        loaded = load_config(config)
        require_one_target(loaded, "verify")
        recording = stack.enter_context(file_or_topic(loaded, file, where))
        loaded, rows = open_recording(loaded, recording, limit)
        with bar:
            task = bar.add_task("engine", total=rows_to_read(rows))
            result = run_verify(
                loaded,
                rows,
                tolerance,
                on_rows=lambda count: bar.advance(task, count),
                advance=lambda part, done: bar.update(task, description=part, completed=done, total=1.0),
                language=chosen,
            )
        out.write_text(result.html(file_facts(config, recording)), encoding="utf-8")
    if as_json:
        content = {**result.as_json(), "report": str(out)}
        sys.stdout.write(json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n")
    else:
        print_table(checks_table(result.checks, result.words))
    for line in result.warnings:
        console.print(f"- {line}", markup=False)
    verdict = result.verdict
    console.print(verdict.text, style=None if verdict.ok else "bold red", markup=False)
    console.print(result.words("written", file=out), markup=False)
    if not verdict.ok:
        raise typer.Exit(MISSED if verdict.kernel else FAILED)
