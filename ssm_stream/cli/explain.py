"""`ssm-stream explain`: why the engine predicts what it does for an entity, or an alert made again to the bit."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from ssm_stream.cli.errors import reported, say_if_kernels_are_to_be_compiled, with_picked
from ssm_stream.config import ConfigError, load_config

if TYPE_CHECKING:
    from ssm_stream.engine.explain import Explanation
    from ssm_stream.flow.reproduce_alert import AlertId, ReproducedAlert

HISTORY = 120
"""Earlier events of the entity that a page shows."""


def explain(
    config: Annotated[Path, typer.Argument(help="YAML file.", show_default=False)],
    what: Annotated[
        str, typer.Argument(metavar="ENTITY|ALERT_ID", help="An entity's name, or an alert's id.", show_default=False)
    ],
    recording: Annotated[
        Path | None,
        typer.Option(help="Of an entity: CSV, CSV.gz, JSON lines or Parquet, the events up to then."),
    ] = None,
    row: Annotated[
        int | None, typer.Option(min=1, help="Explain the prediction of this row. Default: the entity's last.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Which target, where there are several. Default: the first.")
    ] = None,
    alert: Annotated[
        Path | None, typer.Option(help="Of an alert: its message as JSON. Default: from the alerts topic.")
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(help="Of an alert: an export (state export) from before it, where the topic begins later."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Inputs and heads that are shown.")] = 12,
    html: Annotated[Path | None, typer.Option(help="Write a page with charts of the weights over time, too.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
) -> None:
    """Take a prediction apart: base, each input's weight and contribution, heads, gate, and what rests on the fleet.

    Of an entity: the production engine runs over the recording up to the event. Base, constant, contributions and the
    rest (what bends: embedding, ferns, log space, attention) add up to the prediction.

    Of an alert: the events of its partition are read from the topic again, from the beginning or an exported state, and
    go through the production engine; the alert that comes of them is compared with the one that was sent, byte by byte,
    and the states on the way with the audit, where there is one. Exit code 1 where something differs.

    Examples: ssm-stream explain configs/forecast-fleet.yaml BHMBCCMKT01 --recording parking.csv.gz

    ssm-stream explain monitor.yaml press-events-3-24938-drift --html alert.html
    """
    from ssm_stream.flow.reproduce_alert import parse_alert_id

    wanted = parse_alert_id(what) if recording is None else None
    if wanted is not None:
        _alert(config, wanted, alert, state, top, html, as_json=as_json)
        return
    if recording is None:
        raise typer.BadParameter(
            f"{what!r} is no alert's id (TOPIC-PARTITION-OFFSET-KIND); of an entity, give its events by --recording"
        )
    from ssm_stream.engine.explain import UnknownEntityError, explain_recorded
    from ssm_stream.evaluate.recordings import recording as recordings

    with reported(recordings.RecordingError, OSError):
        loaded = load_config(config)
        rows: Iterator[dict[str, Any]] = recordings.rows(recording)
        loaded, rows = with_picked(loaded, rows)
        say_if_kernels_are_to_be_compiled()
        try:
            found, history = explain_recorded(loaded, rows, what, row, target, HISTORY if html is not None else 0)
        except UnknownEntityError as error:
            raise typer.BadParameter(str(error)) from None
        if html is not None:
            from ssm_stream.evaluate.report.explain import explain_html, explanation_section, history_section

            sections = [explanation_section(found), history_section([*history, found])]
            page = explain_html(f"{what}: why", "", None, [s for s in sections if s is not None])
            html.write_text(page, encoding="utf-8")
            typer.echo(f"wrote {html}", err=True)
    if as_json:
        sys.stdout.write(orjson.dumps(found.as_json(), option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        _print(found, top)


def _alert(
    config: Path, wanted: AlertId, alert: Path | None, state: Path | None, top: int, html: Path | None, *, as_json: bool
) -> None:
    from rich.progress import Progress

    from ssm_stream.engine.snapshot_format import StateError
    from ssm_stream.flow.reproduce_alert import NotReproducibleError, read_sent_alert, reproduce_alert
    from ssm_stream.kafka.client import BrokerError
    from ssm_stream.ops.audit import AuditError, entity_hashes
    from ssm_stream.recovery.bytewax_db import RecoveryError
    from ssm_stream.recovery.settings_files import with_stored_features

    with reported(AuditError, BrokerError, NotReproducibleError, RecoveryError, StateError, OSError):
        loaded = with_stored_features(load_config(config))
        if loaded.event.features == "auto":
            raise ConfigError("event.features: auto: nothing is picked yet, so that no alert can have come of it")
        say_if_kernels_are_to_be_compiled()
        sent = alert.read_bytes() if alert is not None else read_sent_alert(loaded, wanted)
        if sent is not None and (id_ := orjson.loads(sent).get("id")) != wanted.text:
            raise ConfigError(f"--alert: {alert} holds the alert {id_!r}, not {wanted.text!r}")
        audit: dict[int, dict[str, str]] = {}
        if loaded.audit.directory is not None and loaded.audit.directory.exists():
            entity = None if sent is None else orjson.loads(sent).get("entity")
            audit = entity_hashes(loaded.audit.directory, wanted.partition, loaded.hash, entity)
        with Progress(transient=True, disable=not sys.stderr.isatty(), console=_errors()) as bar:
            task = bar.add_task("reading the topic again", total=None)
            found = reproduce_alert(
                loaded,
                wanted,
                sent,
                state=state,
                history=HISTORY if html is not None else 0,
                audit=list(audit.items()),
                on_progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
        if html is not None:
            html.write_text(_page(found), encoding="utf-8")
            typer.echo(f"wrote {html}", err=True)
    if as_json:
        sys.stdout.write(orjson.dumps(_as_json(found), option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        _print_alert(found, top)
    if found.same is False or found.broken:
        raise typer.Exit(1)


def _errors() -> Any:
    from rich.console import Console

    return Console(stderr=True)


def verdict(found: ReproducedAlert) -> str:
    """What the replay has shown, in words."""
    replayed = found.replayed
    of = f"{found.events:,} events of {found.id.topic}, partition {found.id.partition}, from offset {found.first}"
    hashes = f"config hash {replayed['config_hash']}, state hash {replayed['state_hash']}"
    audit = ""
    if found.audited:
        agree = found.audited - len(found.broken)
        audit = f" The audit's records on the way: {agree} of {found.audited} agree."
    if found.same is None:
        return f"Made again from {of} ({hashes}); the message itself was not at hand to compare with.{audit}"
    if found.same:
        return f"Made again to the same bits from {of}: {hashes}.{audit}"
    names = ", ".join(difference.path for difference in found.differences[:8]) or "the order of its fields"
    return f"Not the same: made again from {of}, it differs in {names}.{audit}"


def _as_json(found: ReproducedAlert) -> dict[str, Any]:
    return {
        "id": found.id.text,
        "same": found.same,
        "verdict": verdict(found),
        "sent": found.sent,
        "replayed": found.replayed,
        "differences": [difference._asdict() for difference in found.differences],
        "first_offset": found.first,
        "events": found.events,
        "seconds": found.seconds,
        "audited": found.audited,
        "broken": [audited._asdict() for audited in found.broken],
        "explanation": None if found.explanation is None else found.explanation.as_json(),
        "history": [each.as_json() for each in found.history],
    }


def _page(found: ReproducedAlert) -> str:
    from ssm_stream.evaluate.report.explain import alert_section, explain_html, explanation_section, history_section

    sections = [alert_section(found.replayed)]
    if found.explanation is not None:
        sections.append(explanation_section(found.explanation))
    over_time = history_section(found.history)
    if over_time is not None:
        sections.append(over_time)
    return explain_html(f"{found.id.text}: why", verdict(found), found.same, sections)


def _print_alert(found: ReproducedAlert, top: int) -> None:
    from rich.console import Console

    from ssm_stream.cli.live import alert_words

    console = Console(highlight=False)
    console.print(alert_words(found.replayed), markup=False)
    style = "" if found.same is None else "green" if found.same and not found.broken else "bold red"
    console.print(verdict(found), style=style, markup=False)
    for difference in found.differences:
        text = f"  {difference.path}: sent {difference.sent}, made again {difference.replayed}"
        console.print(text, style="red", markup=False)
    for change in found.replayed.get("weight_change") or []:
        words = f"  weight of {change['feature']}: {change['before']:+.4g} → {change['after']:+.4g}"
        console.print(words, markup=False)
    if found.explanation is not None:
        console.print()
        _print(found.explanation, top)


def _print(found: Explanation, top: int) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.print(
        f"{found.entity} at {found.when}, after {found.n:,} labelled events: yhat {found.yhat:.6g}", markup=False
    )
    console.print(f"{found.fleet:.0%} of the prediction rests on what other entities taught")
    table = Table(show_edge=False)
    for name in ("part", "value", "weight", "contribution"):
        table.add_column(name, justify="left" if name == "part" else "right")
    table.add_row("base", "", "", f"{found.base:.6g}")
    table.add_row("constant", "", "", f"{found.constant:+.4g}")
    for part in found.parts[:top]:
        value = "unknown" if part.value is None else f"{part.value:.5g}"
        table.add_row(part.feature, value, f"{part.weight:+.4g}", f"{part.contribution:+.4g}")
    others = found.parts[top:]
    if others:
        total = sum(part.contribution for part in others)
        table.add_row(f"{len(others)} other inputs", "", "", f"{total:+.4g}")
    table.add_row("rest (what bends)", "", "", f"{found.rest:+.4g}")
    table.add_section()
    table.add_row("yhat", "", "", f"{found.yhat:.6g}")
    if found.y is not None:
        table.add_row("target", "", "", f"{found.y:.6g}")
        table.add_row("residual", "", "", f"{found.y - found.yhat:+.4g}")
    console.print(table)
    heads = Table(show_edge=False)
    for name in ("head", "answer", "gate"):
        heads.add_column(name, justify="left" if name == "head" else "right")
    for answer in found.answers[:top]:
        heads.add_row(answer.head, f"{answer.answer:.6g}", f"{answer.weight:+.3f}")
    if found.answers[top:]:
        total = sum(answer.weight for answer in found.answers[top:])
        heads.add_row(f"{len(found.answers) - top} other heads", "", f"{total:+.3f}")
    console.print(heads)
