"""`ssm-stream dlq`: counts dead letters, prints them, and sends them back after their cause is fixed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from ssm_stream.autoconfig.feature_selection import with_columns
from ssm_stream.cli.errors import report_errors
from ssm_stream.cli.inputs import AsJson, ConfigFile, load_with_stored_features
from ssm_stream.cli.terminal.console import counting_bar, new_table, output, print_json, print_table
from ssm_stream.cli.terminal.printable import echo, printable
from ssm_stream.config import DURATION, UNITS, Config, ConfigError
from ssm_stream.ingest.timestamps import in_range, iso_to_ms

if TYPE_CHECKING:
    from collections import Counter

    from ssm_stream.kafka.redrive import RedriveReport

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="markdown", help="Count dead letters, print one, or send them back."
)
Since = Annotated[str | None, typer.Option(help="Only letters since then: 2h, 7d, or ISO 8601.", show_default=False)]
MAX_SHOWN = 2000
"""Bytes of a value that are printed."""
DECODING = "event", "labels"
"""Sections by which a message is read, or is a dead letter."""


@app.command()
def ls(
    config: ConfigFile,
    since: Since = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the last N letters of each partition.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Count the dead letters by topic, stage and reason, with first and last time and the last one's text.

    Example: ssm-stream dlq ls examples/soft-sensor.yaml --since 1d
    """
    from ssm_stream.engine.entity_report import iso_seconds
    from ssm_stream.kafka.client import BrokerError
    from ssm_stream.kafka.dead_letter_topic import DeadLetterTopic, LetterFilter, group_letters

    with report_errors(BrokerError):
        loaded = load_with_stored_features(config)
        letters = DeadLetterTopic(loaded)
        letters.update_offsets()
        with counting_bar() as bar:
            task = bar.add_task("reading", total=None)
            groups, foreign = group_letters(
                letters,
                LetterFilter(since=parse_since(since)),
                limit,
                lambda done: bar.update(task, completed=done, total=letters.size()),
            )
    if as_json:
        print_json(
            {"topic": loaded.sinks.dead_letters, "groups": [group.as_json() for group in groups], "foreign": foreign}
        )
        return
    columns = ("topic", "stage", "reason", "letters", "redriven", "first", "last", "last one: place and why")
    table = new_table(columns, fold=("topic", columns[-1]), text=("stage", "reason", "first", "last"))
    for group in groups:
        table.add_row(
            group.topic, group.stage, group.fault, f"{group.count:,}", f"{group.redriven:,}", iso_seconds(group.first),
            iso_seconds(group.last), f"{group.sample['place']}  {printable(group.sample['reason'])}",
        )  # fmt: skip
    console = output()
    if groups:
        print_table(table, console)
    else:
        console.print(f"topic {loaded.sinks.dead_letters} holds no dead letter", markup=False)
    if foreign:
        console.print(f"[dim]messages on the topic that are not dead letters of ssm-stream: {foreign:,}[/dim]")


@app.command()
def show(
    config: ConfigFile,
    which: Annotated[
        str,
        typer.Argument(
            help="PARTITION-OFFSET on the dead-letter topic, or TOPIC-PARTITION-OFFSET of the message itself.",
            show_default=False,
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Print a whole dead letter, and the result of decoding it under the present configuration.

    Example: ssm-stream dlq show examples/soft-sensor.yaml 0-17
    """
    from ssm_stream.engine.entity_report import iso_seconds
    from ssm_stream.kafka.client import BrokerError
    from ssm_stream.kafka.dead_letter_topic import DeadLetterTopic, LetterError
    from ssm_stream.kafka.redrive import check_letter

    with report_errors(BrokerError, LetterError):
        loaded, auto = _decodable(load_with_stored_features(config))
        letter = DeadLetterTopic(loaded).find_letter(which)
        ours, refusal = check_letter(loaded, letter)
    read: bool | None = ours and refusal is None
    if letter.truncated is not None:  # what is left of the value has other faults
        now, read, refusal = f"not known, as the value was cut: the whole message is at {letter.origin}", None, None
    elif not ours:
        now = f"topic {letter.topic} is not read by this configuration"
    elif refusal is not None:
        now = f"{refusal.fault}: {refusal.reason}"
    else:
        now = "it would be read" + (" (its inputs are not checked: no features are selected yet)" if auto else "")
    message = letter.message
    content: dict[str, Any] = {
        "place": letter.place,
        "origin": letter.origin,
        "time": iso_seconds(message.timestamp()[1]),
        "stage": letter.stage,
        "fault": letter.fault,
        "reason": letter.reason,
        "truncated_from_bytes": letter.truncated,
        "key": _readable(message.key()),
        "headers": [[name, _readable(value)] for name, value in letter.own_headers],
        "value": _readable(message.value()),
        "now": {"read": read, "fault": refusal.fault if refusal else None, "told": now},
    }
    if as_json:
        print_json(content)
        return
    for name in ("place", "origin", "time", "stage", "fault", "reason", "key"):
        echo(f"{name:<8} {printable(str(content[name]))}")
    for name, header in content["headers"]:
        echo(f"header   {printable(name)}: {printable(str(header))}")
    if letter.truncated is not None:
        echo(f"value    only the first bytes, of {letter.truncated:,}; the whole message is at {letter.origin}")
    echo(f"now      {printable(now)}")
    echo(_format_value(message.value()))


@app.command()
def redrive(
    config: ConfigFile,
    yes: Annotated[bool, typer.Option("--yes", help="Send; without it, only print what would be sent.")] = False,
    reason: Annotated[
        list[str] | None, typer.Option(help="Only letters with this fault, such as WrongType. Repeatable.")
    ] = None,
    stage: Annotated[
        list[str] | None,
        typer.Option(help="Only letters of this stage, such as decode, label or notify. Repeatable."),
    ] = None,
    since: Since = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Send at most N letters.", show_default=False)] = None,
    failing: Annotated[bool, typer.Option("--failing", help="Also send letters that would be refused again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send dead letters back to the topics and partitions that they came from, each at most once.

    Letters that the present configuration would refuse again are not sent, nor those whose value was cut. A receipt on
    the dead-letter topic, in one transaction with the message, marks a letter as sent: no later run sends it again.

    Example: ssm-stream dlq redrive examples/soft-sensor.yaml --reason WrongType --yes
    """
    from ssm_stream.contract.message_schemas import FAULTS
    from ssm_stream.kafka.client import BrokerError
    from ssm_stream.kafka.dead_letter_topic import LetterFilter
    from ssm_stream.kafka.redrive import redrive as send_back

    for name, given, known in (
        ("--reason", reason, {fault for faults in FAULTS.values() for fault in faults}),
        ("--stage", stage, set(FAULTS)),
    ):
        if unknown := sorted(set(given or ()) - known):
            raise typer.BadParameter(f"{name}: found {unknown[0]!r}; known: {', '.join(sorted(known))}")
    with report_errors(BrokerError):
        loaded, auto = _decodable(load_with_stored_features(config))
        chosen = LetterFilter(tuple(reason or ()), tuple(stage or ()), parse_since(since))
        if doubt := _not_applied(loaded):
            echo(f"warning: {doubt}", err=True)
        with counting_bar() as bar:
            task = bar.add_task("redrive", total=None)

            def on_progress(done: int, total: int) -> None:
                bar.update(task, completed=done, total=total)

            report = send_back(loaded, chosen, send=yes, failing_too=failing, limit=limit, on_progress=on_progress)
    if as_json:
        print_json({"topic": loaded.sinks.dead_letters, "dry_run": not yes, **report.as_json()})
        return
    for line in _lines(report, yes, failing):
        echo(line)
    if auto:
        echo("note: no features are selected yet (event.features: auto), so inputs were not checked", err=True)


def _not_applied(config: Config) -> str:
    """Return that the process at `ops.address` reads events otherwise than the file; empty if it does not, is another
    flow's, or does not answer."""
    from ssm_stream.mcp.process_client import running_settings

    own = config.redacted()
    for url, running in running_settings(config):
        if any(running.get(part) != own[part] for part in DECODING):
            return (
                f"the process at {url} runs with another `event` or `labels` than the file (config hash "
                f"{running.get('config_hash')}), by which letters are judged here: what it still refuses comes back as "
                "a dead letter. Start it again with the file first, or see `config_refused` in its log"
            )
    return ""


def _lines(report: RedriveReport, sent: bool, failing: bool) -> Iterator[str]:
    def by_fault(counts: Counter[str]) -> str:
        return ", ".join(f"{fault} {count:,}" for fault, count in counts.most_common())

    total = report.sent.total()
    yield f"{'sent back' if sent else 'would be sent back':<20} {total:>9,}  {by_fault(report.sent)}".rstrip()
    if report.failing:
        stay = "sent, too" if failing and sent else "counted above" if failing else "not sent; --failing sends them"
        count = report.failing.total()
        yield f"{'would fail again':<20} {count:>9,}  {by_fault(report.failing)} ({stay})"
    rest = {
        "sent back before": (report.already, ""),
        "copies": (report.copies, "second letters of the same messages, which a crash leaves: not sent"),
        "cut short": (report.truncated, "not sent: the whole message is at its origin (dlq show)"),
        "without a partition": (report.missing, "their topic has fewer partitions now"),
        "of other flows": (report.foreign, "or not dead letters of ssm-stream"),
    }
    for name, (count, words) in rest.items():
        if count:
            yield f"{name:<20} {count:>9,}  {words}".rstrip()
    if not sent:
        yield "nothing was sent: --yes sends"


def _decodable(config: Config) -> tuple[Config, bool]:
    """A configuration that can decode, and whether it has no features, as none are selected yet."""
    if config.event.features != "auto":
        return config, False
    return with_columns(config, [], config.event.categories), True


def parse_since(since: str | None) -> int | None:
    """The time of `--since`, in ms since 1970.

    Raises:
        ConfigError: it is neither a duration nor a time.
    """
    if since is None:
        return None
    try:
        if found := DURATION.match(since):
            return in_range((time.time() - float(found[1]) * UNITS[found[2]]) * 1000)
        return in_range(iso_to_ms(since))
    except (ValueError, OverflowError):
        raise ConfigError(f"--since: found {since!r}; write a duration such as 2h or 7d, or ISO 8601") from None


def _readable(value: str | bytes | None) -> str | None:
    if value is None or isinstance(value, str):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return f"0x{value.hex()}"


def _format_value(value: str | bytes | None) -> str:
    """A value as indented JSON, as text, or as a hexadecimal dump."""
    if value is None:
        return "(null)"
    raw = value.encode() if isinstance(value, str) else value
    if len(raw) <= MAX_SHOWN:
        with contextlib.suppress(orjson.JSONDecodeError):
            return orjson.dumps(orjson.loads(raw), option=orjson.OPT_INDENT_2).decode()
    head = raw[:MAX_SHOWN]
    more = f"\n… {len(raw) - len(head):,} more bytes (--json prints all)" if len(raw) > len(head) else ""
    try:
        return head.decode() + more
    except UnicodeDecodeError:
        rows = [head[i : i + 16] for i in range(0, len(head), 16)]
        shown = [
            f"{16 * i:06x}  {row.hex(' '):<47}  {''.join(chr(b) if 32 <= b < 127 else '.' for b in row)}"
            for i, row in enumerate(rows)
        ]
        return "\n".join(shown) + more
