"""`ssm-stream explain`: explains a prediction, or reproduces an alert to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import orjson
import typer

from ssm_stream.cli.errors import FAILED, report_errors
from ssm_stream.cli.inputs import AsJson, ConfigFile, load_for, open_recording, require_writable, with_option_groups
from ssm_stream.cli.language import Lang, language
from ssm_stream.cli.terminal.console import counting_bar, print_json
from ssm_stream.cli.terminal.output_file import write_output
from ssm_stream.cli.terminal.printable import echo
from ssm_stream.config import Config, ConfigError, load_config

if TYPE_CHECKING:
    from ssm_stream.evaluate.report.explain_words import Words
    from ssm_stream.flow.alert_id import AlertId
    from ssm_stream.flow.reproduce_alert import ReproducedAlert

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
    lang: Lang = None,
) -> None:
    """Explain a prediction: base, weight and contribution of each input, heads, gate, and the share of the fleet.

    For an entity, the production engine runs over the recording up to the row, and learns late labels at theirs.
    Products of inputs (`speed × flow`) are inputs, too. Base, constant, contributions and the rest (embedding, log
    space and attention, which are not linear) add up to the prediction.

    For an alert, the events of its partition are read from the topic again, from the beginning or from an exported
    state, and processed by the production engine. The reproduced alert is compared with the sent one byte by byte, and
    the states with the audit, if there is one. ALERT_ID is the `id` of its message. Exit code 1 if something differs.

    The language is that of the terminal and the page; `--json` and the messages keep their own.

    Examples: ssm-stream explain examples/soft-sensor.yaml PUMP-3 --recording examples/plant.csv.gz

    ssm-stream explain examples/soft-sensor.yaml ALERT_ID --html alert.html
    """
    from ssm_stream.evaluate.report.explain_words import words
    from ssm_stream.flow.alert_id import parse_alert_id

    text = words(language(lang))
    recording = entity_options.recording
    require_writable({"--html": html}, config, recording, alert_options.alert, alert_options.state)
    id_ = parse_alert_id(what) if recording is None else None
    if id_ is not None:
        _explain_alert(config, id_, alert_options, top, html, text=text, as_json=as_json)
        return
    if recording is None:
        raise typer.BadParameter(
            f"{what!r} is not the id of an alert (TOPIC-PARTITION-OFFSET-KIND); for an entity, give its events by "
            "--recording"
        )
    from ssm_stream.engine.explain import UnknownEntityError, explain_recorded
    from ssm_stream.evaluate.recordings import RecordingError
    from ssm_stream.evaluate.recordings.context_files import recorded_facts

    with report_errors(RecordingError, OSError):
        loaded, rows = open_recording(load_for(config, recording), recording)
        history_size = HISTORY if html is not None else 0
        first, *others = loaded.event.targets
        if others and entity_options.target is None:
            echo(f"explained is `{first}`, the first of {len(others) + 1} targets; --target names another: "
                 f"{', '.join(others)}", err=True)  # fmt: skip
        of_fleet = _row_of_fleet(what, recording)
        try:
            found, history = explain_recorded(
                loaded,
                rows,
                what if of_fleet is None else None,
                entity_options.row if of_fleet is None else of_fleet,
                entity_options.target,
                history_size,
                recorded_facts(loaded, rows),
            )
        except UnknownEntityError as error:
            raise typer.BadParameter(f"{error}{_cure(what, recording, loaded)}") from None
        if of_fleet is not None:
            echo(f"explained is {found.entity!r} in row {of_fleet}, the last of the alert's entities, whose values its "
                 "sentence has; for another, give its name", err=True)  # fmt: skip
        if html is not None:
            from ssm_stream.evaluate.report.explain import explain_html, explanation_section, history_section

            own = text.language
            sections = [explanation_section(found, own), history_section([*history, found], own)]
            shown = [section for section in sections if section is not None]
            write_output("--html", html, explain_html(text("why", what=what), "", None, shown, own))
            typer.echo(text("wrote", file=html), err=True)
    if as_json:
        print_json(found.as_json())
        return
    from ssm_stream.cli.terminal.explanation import print_explanation

    print_explanation(found, top, text)


def _row_of_fleet(what: str, recording: Path) -> int | None:
    """Return the row of an alert on many entities that a backtest of this file has raised; None of anything else."""
    from ssm_stream.flow.alert_id import parse_alert_id

    id_ = parse_alert_id(what)
    return id_.offset + 1 if id_ is not None and id_.is_fleet and id_.topic == recording.name else None


def _cure(what: str, recording: Path, config: Config) -> str:
    """Return how to explain the row of an alert of a backtest or a pilot report, whose id has the row for its offset.

    An id of a backtest begins with the file's name, one of a pilot report with the topic's, as those of `run` do.
    """
    from ssm_stream.flow.alert_id import parse_alert_id

    id_ = parse_alert_id(what)
    if id_ is None or id_.topic not in {recording.name, *config.source.names}:
        return ""
    target = ", and its `target` by --target" if len(config.event.targets) > 1 else ""
    how = f"name the alert's `entity`, with --row {id_.offset + 1}{target}"
    if id_.topic == recording.name:
        return f". This is the id of an alert of a backtest: {how}"
    return f". If it is the id of an alert of a pilot report on this file, {how}; of a live run, leave --recording out"


def _explain_alert(
    config: Path, id_: AlertId, options: AlertOptions, top: int, html: Path | None, *, text: Words, as_json: bool
) -> None:
    from ssm_stream.engine.snapshot_format import StateError
    from ssm_stream.flow.reproduce_alert import NotReproducibleError, reproduce_alert
    from ssm_stream.flow.sent_alert import read_alert_file, read_sent_alert
    from ssm_stream.kafka.client import BrokerError
    from ssm_stream.ops.audit import AuditError, entity_hashes, primings
    from ssm_stream.recovery.bytewax_db import RecoveryError
    from ssm_stream.recovery.exclusions import as_sent, with_exclusions
    from ssm_stream.recovery.settings_files import with_stored_features

    with report_errors(AuditError, BrokerError, NotReproducibleError, RecoveryError, StateError, OSError):
        loaded = with_stored_features(load_config(config), exclusions=False)
        if loaded.event.features == "auto":
            raise ConfigError("event.features: auto, and no features have been selected yet: there can be no alert")
        sent = read_sent_alert(loaded, id_) if options.alert is None else read_alert_file(loaded, id_, options.alert)
        # What was excluded when it was sent: a rewind since then has changed what it would be now.
        loaded = with_exclusions(loaded) if sent is None else as_sent(loaded, orjson.loads(sent).get("config_hash"))
        audit: dict[int, dict[str, str]] = {}
        primed: list[dict[str, Any]] = []
        if loaded.audit.directory is not None and loaded.audit.directory.exists():
            entity = None if sent is None else orjson.loads(sent).get("entity")
            source = loaded.source.number(id_.topic, id_.partition)
            audit = entity_hashes(loaded.audit.directory, source, loaded.hash, entity)
            primed = primings(loaded.audit.directory, loaded.hash)
        with counting_bar() as bar:
            task = bar.add_task(text("reading"), total=None)
            found = reproduce_alert(
                loaded,
                id_,
                sent,
                state=options.state,
                history=HISTORY if html is not None else 0,
                audit=list(audit.items()),
                on_progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
            summary: str = found.replayed["summary"]
            if loaded.alerts.language != text.language and not (as_json and html is None):
                # The sentence follows from the state at the event, which only another pass has in the other language.
                again = reproduce_alert(loaded, id_, sent, state=options.state, language=text.language)
                summary = again.replayed["summary"]
        if html is not None:
            write_output("--html", html, _page(found, summary, text))
            typer.echo(text("wrote", file=html), err=True)
    if as_json:
        print_json(found.as_json())
    else:
        from ssm_stream.cli.terminal.explanation import print_alert

        print_alert(found, summary, top, text)
    if found.same is False or found.broken:
        for each in primed:
            typer.echo(
                f"note: {each['entity']!r} was primed with {each['file']} at {each['at']} (the audit), which the topic "
                "does not have: name an export from between then and the alert by --state",
                err=True,
            )
        raise typer.Exit(FAILED)


def _page(found: ReproducedAlert, summary: str, text: Words) -> str:
    from ssm_stream.cli.terminal.explanation import verdict
    from ssm_stream.evaluate.report.explain import alert_section, explain_html, explanation_section, history_section

    language = text.language
    sections = [alert_section({**found.replayed, "summary": summary}, language)]
    if found.explanation is not None:
        sections.append(explanation_section(found.explanation, language))
    over_time = history_section(found.history, language)
    if over_time is not None:
        sections.append(over_time)
    return explain_html(text("why", what=found.id.text), verdict(found, text), found.same, sections, language)
