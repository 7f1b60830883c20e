"""`ssm-stream explain`: explains a prediction, or reproduces an alert to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import orjson
import typer

from ssm_stream.cli.errors import FAILED, report_errors
from ssm_stream.cli.inputs import AsJson, ConfigFile, open_recording, with_option_groups
from ssm_stream.cli.terminal.console import counting_bar, new_table, output, print_json, print_table
from ssm_stream.config import ConfigError, load_config

if TYPE_CHECKING:
    from ssm_stream.engine.explain import Explanation
    from ssm_stream.flow.reproduce_alert import AlertId, ReproducedAlert

HISTORY = 120
"""Earlier events of the entity on an HTML page."""


class EntityOptions(NamedTuple):
    """Options for an entity."""

    recording: Annotated[
        Path | None, typer.Option(help="For an entity: recording (CSV, CSV.gz, JSON lines, Parquet) of its events.")
    ] = None
    row: Annotated[
        int | None, typer.Option(min=1, help="Row whose prediction is explained. Default: the entity's last.")
    ] = None
    target: Annotated[str | None, typer.Option(help="Target that is explained, of several. Default: the first.")] = None


class AlertOptions(NamedTuple):
    """Options for an alert."""

    alert: Annotated[
        Path | None, typer.Option(help="For an alert: its message, as JSON. Default: read it from the alerts topic.")
    ] = None
    state: Annotated[
        Path | None,
        typer.Option(help="For an alert: an export (state export) made before it, if the topic begins later."),
    ] = None


@with_option_groups
def explain(
    config: ConfigFile,
    what: Annotated[
        str, typer.Argument(metavar="ENTITY|ALERT_ID", help="Name of an entity, or id of an alert.", show_default=False)
    ],
    entity_options: EntityOptions,
    alert_options: AlertOptions,
    top: Annotated[int, typer.Option(min=1, help="Number of inputs and heads in the tables.")] = 12,
    html: Annotated[Path | None, typer.Option(help="Write a page with charts of the weights to this file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Explain a prediction: base, weight and contribution of each input, heads, gate, and the share of the fleet.

    For an entity, the production engine runs over the recording up to the row. Base, constant, contributions and the
    rest (embedding, ferns, log space and attention, which are not linear) add up to the prediction.

    For an alert, the events of its partition are read from the topic again, from the beginning or from an exported
    state, and processed by the production engine. The reproduced alert is compared with the sent one byte by byte, and
    the states with the audit, if there is one. Exit code 1 if something differs.

    Examples: ssm-stream explain examples/soft-sensor.yaml PUMP-3 --recording examples/plant.csv.gz

    ssm-stream explain examples/soft-sensor.yaml plant-events-0-6248-drift --html alert.html
    """
    from ssm_stream.flow.reproduce_alert import parse_alert_id

    recording = entity_options.recording
    id_ = parse_alert_id(what) if recording is None else None
    if id_ is not None:
        _explain_alert(config, id_, alert_options, top, html, as_json=as_json)
        return
    if recording is None:
        raise typer.BadParameter(
            f"{what!r} is not the id of an alert (TOPIC-PARTITION-OFFSET-KIND); for an entity, give its events by "
            "--recording"
        )
    from ssm_stream.engine.explain import UnknownEntityError, explain_recorded
    from ssm_stream.evaluate.recordings import RecordingError

    with report_errors(RecordingError, OSError):
        loaded, rows = open_recording(load_config(config), recording)
        history_size = HISTORY if html is not None else 0
        try:
            found, history = explain_recorded(
                loaded, rows, what, entity_options.row, entity_options.target, history_size
            )
        except UnknownEntityError as error:
            raise typer.BadParameter(str(error)) from None
        if html is not None:
            from ssm_stream.evaluate.report.explain import explain_html, explanation_section, history_section

            sections = [explanation_section(found), history_section([*history, found])]
            page = explain_html(f"{what}: why", "", None, [s for s in sections if s is not None])
            html.write_text(page, encoding="utf-8")
            typer.echo(f"wrote {html}", err=True)
    if as_json:
        print_json(found.as_json())
    else:
        _print(found, top)


def _explain_alert(
    config: Path, id_: AlertId, options: AlertOptions, top: int, html: Path | None, *, as_json: bool
) -> None:
    from ssm_stream.engine.snapshot_format import StateError
    from ssm_stream.flow.reproduce_alert import NotReproducibleError, read_sent_alert, reproduce_alert
    from ssm_stream.kafka.client import BrokerError
    from ssm_stream.ops.audit import AuditError, entity_hashes, primings
    from ssm_stream.recovery.bytewax_db import RecoveryError
    from ssm_stream.recovery.settings_files import with_stored_features

    with report_errors(AuditError, BrokerError, NotReproducibleError, RecoveryError, StateError, OSError):
        loaded = with_stored_features(load_config(config))
        if loaded.event.features == "auto":
            raise ConfigError("event.features: auto, and no features have been selected yet: there can be no alert")
        sent = options.alert.read_bytes() if options.alert is not None else read_sent_alert(loaded, id_)
        if sent is not None and (found_id := orjson.loads(sent).get("id")) != id_.text:
            raise ConfigError(f"--alert: {options.alert} holds the alert {found_id!r}, not {id_.text!r}")
        audit: dict[int, dict[str, str]] = {}
        primed: list[dict[str, Any]] = []
        if loaded.audit.directory is not None and loaded.audit.directory.exists():
            entity = None if sent is None else orjson.loads(sent).get("entity")
            audit = entity_hashes(loaded.audit.directory, id_.partition, loaded.hash, entity)
            primed = primings(loaded.audit.directory, loaded.hash)
        with counting_bar() as bar:
            task = bar.add_task("reading the topic again", total=None)
            found = reproduce_alert(
                loaded,
                id_,
                sent,
                state=options.state,
                history=HISTORY if html is not None else 0,
                audit=list(audit.items()),
                on_progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
        if html is not None:
            html.write_text(_page(found), encoding="utf-8")
            typer.echo(f"wrote {html}", err=True)
    if as_json:
        print_json(found.as_json())
    else:
        _print_alert(found, top)
    if found.same is False or found.broken:
        for each in primed:
            typer.echo(
                f"note: {each['entity']!r} was primed with {each['file']} at {each['at']} (the audit), which the topic "
                "does not have: name an export from between then and the alert by --state",
                err=True,
            )
        raise typer.Exit(FAILED)


def _page(found: ReproducedAlert) -> str:
    from ssm_stream.evaluate.report.explain import alert_section, explain_html, explanation_section, history_section

    sections = [alert_section(found.replayed)]
    if found.explanation is not None:
        sections.append(explanation_section(found.explanation))
    over_time = history_section(found.history)
    if over_time is not None:
        sections.append(over_time)
    return explain_html(f"{found.id.text}: why", found.verdict, found.same, sections)


def _print_alert(found: ReproducedAlert, top: int) -> None:
    from ssm_stream.cli.terminal.alert_text import describe_alert

    console = output()
    console.print(describe_alert(found.replayed), markup=False)
    style = "" if found.same is None else "green" if found.same and not found.broken else "bold red"
    console.print(found.verdict, style=style, markup=False)
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
    console = output()
    console.print(
        f"{found.entity} at {found.when}, after {found.n:,} labelled events: yhat {found.yhat:.6g}", markup=False
    )
    console.print(f"{found.fleet:.0%} of the prediction is learned from other entities")
    table = new_table(("part", "value", "weight", "contribution"), fold=("part",))
    table.add_row("base", "", "", f"{found.base:.6g}")
    table.add_row("constant", "", "", f"{found.constant:+.4g}")
    for part in found.parts[:top]:
        value = "unknown" if part.value is None else f"{part.value:.5g}"
        table.add_row(part.feature, value, f"{part.weight:+.4g}", f"{part.contribution:+.4g}")
    others = found.parts[top:]
    if others:
        total = sum(part.contribution for part in others)
        table.add_row(f"{len(others)} other inputs", "", "", f"{total:+.4g}")
    table.add_row("rest (not linear)", "", "", f"{found.rest:+.4g}")
    table.add_section()
    table.add_row("yhat", "", "", f"{found.yhat:.6g}")
    if found.y is not None:
        table.add_row("target", "", "", f"{found.y:.6g}")
        table.add_row("residual", "", "", f"{found.y - found.yhat:+.4g}")
    print_table(table, console)
    for name, text in found.derived.items():
        console.print(f"{name} = {text}", markup=False)
    heads = new_table(("head", "answer", "gate"), fold=("head",))
    for answer in found.answers[:top]:
        heads.add_row(answer.head, f"{answer.answer:.6g}", f"{answer.weight:+.3f}")
    if found.answers[top:]:
        total = sum(answer.weight for answer in found.answers[top:])
        heads.add_row(f"{len(found.answers) - top} other heads", "", f"{total:+.3f}")
    print_table(heads, console)
