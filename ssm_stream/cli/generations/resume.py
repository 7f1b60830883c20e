"""`ssm-stream state resume`: lets a state go on where its position is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ssm_stream.cli.errors import report_errors
from ssm_stream.cli.generations.confirmation import Change, carry_out
from ssm_stream.cli.inputs import AsJson, ConfigFile, DryRun
from ssm_stream.cli.terminal.console import print_json
from ssm_stream.cli.terminal.printable import echo
from ssm_stream.config import load_config

if TYPE_CHECKING:
    from ssm_stream.recovery.resume.plan import Plan


def resume(
    config: ConfigFile,
    since: Annotated[
        str,
        typer.Option(
            "--from",
            help="earliest that the broker has, latest, or the time of a message, ISO 8601.",
            show_default=False,
        ),
    ],
    anew: Annotated[
        bool, typer.Option("--anew", help="The events topics were made anew, though they hold the positions by now.")
    ] = False,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Resume without a confirmation.")] = False,
    dry: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Go on with all that was learned where the position is gone: retention passed it, the topic was made anew, or a
    consumer group of exactly_once was deleted.

    Every entity's state stays. Printed is how many offsets are missing, by partition. The next `run` goes on from
    there, exactly once. A partition whose position the broker still has stays there with --from earliest, and never
    goes back: its events would be learned twice.

    The first prediction of each entity after the gap has the field `gap`. The flow must be stopped; --dry-run may be
    used while it runs. Unattended: `source.on_gap: resume`.

    Examples: ssm-stream state resume examples/soft-sensor.yaml --from earliest --dry-run

    ssm-stream state resume examples/soft-sensor.yaml --from 2026-03-02T06:00
    """
    from ssm_stream.engine.snapshot_format import StateError
    from ssm_stream.kafka.client import BrokerError
    from ssm_stream.recovery.bytewax_db import RecoveryError
    from ssm_stream.recovery.resume.plan import read_request
    from ssm_stream.recovery.resume.resume import plan_resume
    from ssm_stream.recovery.resume.resume import resume as resume_state

    with report_errors(BrokerError, RecoveryError, StateError, OSError):
        loaded = load_config(config)
        request = read_request(loaded, since, anew=anew)
        change = Change(
            plan=lambda: plan_resume(loaded, request),
            apply=lambda: resume_state(loaded, request),
            describe=_describe,
            possible=lambda found: not found.empty,
            question="resume?",
        )
        plan, owner = carry_out(change, yes=yes, dry=dry)
    if as_json:
        print_json({**plan.as_json(), "process": owner, "done": not dry and not plan.empty})
    else:
        echo(_describe(plan, owner, not dry))


def _describe(plan: Plan, owner: str | None, done: bool) -> str:
    """Return what was done, or would be, a sentence a line."""
    lines = [each.text for each in plan.places]
    for each in plan.markers:
        was = "none" if each.was is None else f"{each.was:,}"
        lines.append(
            f"marker of writer {each.writer}, {each.topic} partition {each.partition}: {was} on the broker, "
            f"{'is now' if done else 'would be'} {each.to:,}"
        )
    if any(each.anew for each in plan.places):
        lines.append("earlier states that are kept for a rewind go: their positions are those of the former topic")
    if plan.empty:
        lines.append("nothing to do: the next start goes on (ssm-stream run)")
    else:
        lines.append(
            f"what was learned {'has stayed' if done else 'stays'}, of every entity; the next start goes on from "
            f"there{'' if done else ', once this is done without --dry-run'} (ssm-stream run)"
        )
    if owner is not None:
        lines.append(f"process {owner} runs on the state: stop it first")
    return "\n".join(lines)
