"""`ssm-stream verify`: certifies on a recording that the model is gradient descent and recovers from changes."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, NamedTuple

import orjson
import typer

from ssm_stream.cli.errors import FAILED, report_errors
from ssm_stream.cli.inputs import (
    AsJson,
    ConfigFile,
    FileOrTopic,
    Limit,
    open_recording,
    require_writable,
    rows_to_read,
    with_option_groups,
)
from ssm_stream.cli.language import Lang, language
from ssm_stream.cli.terminal.console import checks_table, new_table, output, print_table, share_bar
from ssm_stream.cli.terminal.output_file import write_output
from ssm_stream.cli.topic.options import FromTopic, file_or_topic
from ssm_stream.config import load_config

MISSED = 3
"""Exit code: the model computes what it should, but a recovery is missed."""
KERNEL_SHARE = 0.95
"""Of the work on a target, most of which is the kernel against its reference."""
PARTS_DONE = {"engine": 0.0, "construction": 1.0}
"""Share of the work on a target that is done at its first part, and at its last one."""


class How(NamedTuple):
    """What is verified, and how strictly."""

    limit: Limit = None
    target: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH", help="Of several targets only this one. Repeatable.", show_default=False),
    ] = None
    tolerance: Annotated[float, typer.Option(min=0.0, help="Largest relative deviation of the kernel that passes.")] = (
        1e-3
    )
    lang: Lang = None


@with_option_groups
def verify(
    config: ConfigFile,
    where: FromTopic,
    how: How,
    file: FileOrTopic = None,
    out: Annotated[Path, typer.Option(help="Write the certificate (HTML) to this file.")] = Path("verify.html"),
    as_json: AsJson = False,
) -> None:
    """Prove on a recording that the model is gradient descent, that it learns, and that it recovers from changes.

    Exit code 0: heads, gates and predictions agree with explicit gradient descent, and no recovery is missed. 1: they
    do not agree, or the recording cannot be read. 2: a wrong call. 3: they agree, but after an injected change the
    error was not back within 150 events of the entity.

    With several targets each is verified by itself, as its model is one: a line for each, and one certificate.

    A recovery that the recording cannot show is named with the reason and changes no exit code. Neither does a model
    that is no better than its start, which the verdict names. A configuration with `model.horizon` is refused.

    Example: ssm-stream verify examples/soft-sensor.yaml examples/plant.csv.gz --out certificate.html
    """
    # Importing the evaluation takes a second, which `ssm-stream --help` must not.
    from ssm_stream.evaluate.chosen_targets import alone, choose_targets
    from ssm_stream.evaluate.recordings import RecordingError
    from ssm_stream.verify.certificate import Verification, file_facts
    from ssm_stream.verify.certificate import verify as run_verify
    from ssm_stream.verify.replay import NothingToVerifyError
    from ssm_stream.verify.several import Verifications, column_names, verify_targets
    from ssm_stream.verify.words import words

    require_writable({"--out": out}, config, file)
    limit, target, tolerance, chosen = how.limit, how.target, how.tolerance, language(how.lang)
    console = output(error=True)
    with report_errors(RecordingError, NothingToVerifyError, OSError), ExitStack() as stack:
        loaded = load_config(config)
        paths = choose_targets(loaded, target or ())
        recording = stack.enter_context(file_or_topic(loaded, file, where))
        loaded, rows = open_recording(loaded, recording, limit)
        bar = share_bar(of_all_work=len(paths) > 1)

        def of_one(path: str) -> Verification:
            task = bar.add_task("engine", total=rows_to_read(rows))
            return run_verify(
                alone(loaded, path),
                rows,
                tolerance,
                on_rows=lambda count: bar.advance(task, count),
                advance=lambda part, done: bar.update(task, description=part, completed=done, total=1.0),
                language=chosen,
            )

        def of_several(path: str) -> Verification:
            number = paths.index(path)

            def advance(part: str, done: float) -> None:
                share = PARTS_DONE.get(part, KERNEL_SHARE * (done if part == "kernel" else 1.0))
                described = f"target {number + 1} of {len(paths)}, {path}: {part}"
                bar.update(whole, description=described, completed=number + share)

            advance("engine", 0.0)
            return run_verify(alone(loaded, path), rows, tolerance, advance=advance, language=chosen)

        found: Verification | Verifications
        with bar:
            if len(paths) > 1:
                whole = bar.add_task("verify", total=len(paths))
                found = verify_targets(loaded, paths, of_several, words(chosen))
            else:
                found = of_one(paths[0])
        write_output("--out", out, found.html(file_facts(config, recording)))
    if as_json:
        content = {**found.as_json(), "report": str(out)}
        sys.stdout.write(orjson.dumps(content).decode() + "\n")  # what is not finite as null
    elif isinstance(found, Verifications):
        names = column_names(found.words)
        table = new_table(names, fold=(names[0], names[3]), text=(names[3], names[5]))
        for cells in found.lines():
            table.add_row(*map(str, cells))
        print_table(table)
    else:
        print_table(checks_table(found.checks, found.words))
    for line in found.warnings:
        console.print(f"- {line}", markup=False)
    verdict = found.verdict
    console.print(verdict.text, style=None if verdict.ok else "bold red", markup=False)
    console.print(found.words("written", file=out), markup=False)
    if not verdict.ok:
        raise typer.Exit(MISSED if verdict.kernel else FAILED)
