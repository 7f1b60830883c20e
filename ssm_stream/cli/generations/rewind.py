"""`ssm-stream state rewind`: sets a state back, and forgets stretches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from ssm_stream.cli.errors import report_errors
from ssm_stream.cli.generations.confirmation import Change, carry_out
from ssm_stream.cli.inputs import AsJson, ConfigFile, DryRun
from ssm_stream.cli.terminal.console import print_json
from ssm_stream.cli.terminal.printable import echo
from ssm_stream.config import load_config

if TYPE_CHECKING:
    from ssm_stream.recovery.rewind.plan import Plan

WITHOUT, SEPARATOR = "--without", "\x1f"


class RewindCommand(TyperCommand):
    """A command whose option `--without` has three values and may be repeated."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Join the values of each `--without` before the arguments are parsed."""
        joined, left = list[str](), list(args)
        while left:
            joined.append(left.pop(0))
            if joined[-1] == WITHOUT and len(left) >= 3:
                joined.append(SEPARATOR.join(left[:3]))
                del left[:3]
        return super().parse_args(ctx, joined)


def rewind(
    config: ConfigFile,
    to: Annotated[
        str,
        typer.Option(help="Time of events, ISO 8601, from which on all that was learned goes.", show_default=False),
    ],
    without: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ENTITY FROM TO",
            help="A stretch that is not learned again, of an entity or a pattern; may be repeated.",
            show_default=False,
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Rewind without a confirmation.")] = False,
    dry: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Forget an incident: go back to an earlier state, and learn what came after it again, without some stretches.

    The state becomes the newest kept one (recovery.keep) that has learned nothing from --to on. The next `run` reads
    on from there, sends no prediction and no alert a second time, and does not learn the stretches: they are planned
    stops from then on. Alerts that are open for consumers, and that the new state does not have, end
    (`ended_by: rewind`).

    Printed are the events to be read again, how long that takes, and whether the broker still has them. The flow must
    be stopped, in a group all of its members; --dry-run may be used while it runs.

    Examples: ssm-stream state rewind examples/soft-sensor.yaml --to 2026-03-02T06:00 --dry-run

    ssm-stream state rewind examples/soft-sensor.yaml --to 2026-03-02 --without PUMP-3 2026-03-02 2026-03-03
    """
    from ssm_stream.engine.snapshot_format import StateError
    from ssm_stream.kafka.client import BrokerError
    from ssm_stream.recovery.bytewax_db import RecoveryError
    from ssm_stream.recovery.group.rewind import plan_rewind
    from ssm_stream.recovery.group.rewind import rewind as rewind_state
    from ssm_stream.recovery.rewind.plan import read_request
    from ssm_stream.recovery.settings_files import require_stored_features

    stretches = [_stretch(each) for each in without or []]
    with report_errors(BrokerError, RecoveryError, StateError, OSError):
        loaded = require_stored_features(load_config(config))
        request = read_request(loaded, to, stretches)
        change = Change(
            plan=lambda: plan_rewind(loaded, request),
            apply=lambda: rewind_state(loaded, request),
            describe=_describe,
            possible=lambda found: not found.lost,
            question="rewind?",
        )
        plan, owner = carry_out(change, yes=yes, dry=dry)
    if as_json:
        print_json({**plan.as_json(), "process": owner, "done": not dry})
    else:
        echo(_describe(plan, owner, not dry))


def _stretch(text: str) -> tuple[str, str, str]:
    parts = text.split(SEPARATOR)
    if len(parts) != 3:
        raise typer.BadParameter(f"found {text!r}; write {WITHOUT} ENTITY FROM TO", param_hint=WITHOUT)
    return parts[0], parts[1], parts[2]


def _describe(plan: Plan, owner: str | None, done: bool) -> str:
    """Return what was done, or would be, a sentence a line."""
    from ssm_stream.ingest.timestamps import ms_to_iso

    made, time = plan.generation, plan.generation.time
    learned = "before the first event" if time is None else f"which has learned events up to {ms_to_iso(time)}"
    taken = ms_to_iso(made.taken - made.taken % 1000)
    lines = [f"{'went' if done else 'would go'} back to the state of {taken}, {learned}"]
    for each in plan.partitions:
        lost = (
            "" if not each.lost else f"; THE BROKER NO LONGER HAS {each.lost:,} of them (it begins at {each.first:,})"
        )
        lines.append(
            f"  {each.topic} partition {each.partition}: {each.end - each.begin:,} messages to be read again, from "
            f"{each.begin:,} to {each.end:,}{lost}"
        )
    lines += [f"  not learned: {each.entities} from {each.begin} to {each.end}" for each in plan.request.excluded]
    if plan.seconds is not None and plan.rate is not None:
        lines.append(
            f"reading these {plan.events:,} takes about {_lasts(plan.seconds)} ({plan.rate:,.0f} a second, measured on "
            "the first of them, one worker); none of their results is sent again"
        )
    if plan.lost:
        lines.append("so it is refused: choose a later time, or begin anew (ssm-stream state reset)")
    if owner is not None:
        group = "(partitions " in owner
        lines.append(
            f"members of the group run on the state: {owner}: stop them first"
            if group
            else f"process {owner} runs on the state: stop it first"
        )
    if done:
        lines.append("the next start reads from there (ssm-stream run)")
    return "\n".join(lines)


def _lasts(seconds: float) -> str:
    if seconds < 120:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
