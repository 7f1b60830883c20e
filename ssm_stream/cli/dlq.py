"""`ssm-stream dlq`: dead letters counted, looked at, and sent back once what was wrong is put right."""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from ssm_stream.autoconfig.feature_selection import with_columns
from ssm_stream.cli.errors import load_with_stored_features, reported
from ssm_stream.config import DURATION, UNITS, Config, ConfigError

if TYPE_CHECKING:
    from collections import Counter

    from ssm_stream.kafka.dead_letters import DeadLetter
    from ssm_stream.kafka.redrive import RedriveReport

app = typer.Typer(no_args_is_help=True, help="Dead letters: count them, look at one, send them back.")
File = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file.", show_default=False)]
Since = Annotated[str | None, typer.Option(help="Only letters from then on: 2h, 7d, or ISO 8601.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]
SHOWN = 2000
"""Bytes of a value that are shown."""


class LetterError(RuntimeError):
    """There is no such letter."""


@app.command()
def ls(
    config: File,
    since: Since = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the last N of each partition.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Count the dead letters by topic, stage and reason, with the time and a sample of the last of each.

    Example: ssm-stream dlq ls monitor.yaml --since 1d
    """
    from ssm_stream.kafka.client import BrokerError
    from ssm_stream.kafka.dead_letter_topic import DeadLetterTopic, LetterFilter, group_letters

    with reported(BrokerError):
        loaded = load_with_stored_features(config)
        letters = DeadLetterTopic(loaded)
        letters.update_offsets()
        with _bar("reading") as bar:
            groups, foreign = group_letters(
                letters, LetterFilter(since=_moment(since)), limit, lambda done: bar(done, letters.size())
            )
    if as_json:
        _json({"topic": loaded.sinks.dead_letters, "groups": [group.as_json() for group in groups], "foreign": foreign})
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(show_edge=False)
    for name in ("topic", "stage", "reason", "letters", "redriven", "first", "last", "last one: place and why"):
        table.add_column(name, justify="right" if name in ("letters", "redriven") else "left", overflow="fold")
    for group in groups:
        table.add_row(
            group.topic, group.stage, group.fault, f"{group.count:,}", f"{group.redriven:,}", _when(group.first),
            _when(group.last), f"{group.sample['place']}  {_plain(group.sample['reason'])}",
        )  # fmt: skip
    console = Console()
    console.print(table if groups else f"topic {loaded.sinks.dead_letters} holds no dead letter", markup=False)
    if foreign:
        console.print(f"[dim]messages on the topic that are no dead letters of ssm-stream: {foreign:,}[/dim]")


@app.command()
def show(
    config: File,
    which: Annotated[
        str,
        typer.Argument(
            help="PARTITION-OFFSET on the dead-letter topic, or TOPIC-PARTITION-OFFSET of the message itself.",
            show_default=False,
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Print a dead letter whole, and what the present configuration makes of it.

    Example: ssm-stream dlq show monitor.yaml 0-17
    """
    from ssm_stream.kafka.client import BrokerError
    from ssm_stream.kafka.redrive import check_letter

    with reported(BrokerError, LetterError):
        loaded, auto = _decodable(load_with_stored_features(config))
        letter = _find(loaded, which)
        ours, refusal = check_letter(loaded, letter)
    if not ours:
        now = f"topic {letter.topic} is not read by this configuration"
    elif refusal is not None:
        now = f"{refusal.fault}: {refusal.reason}"
    else:
        now = "it would be read" + (" (its inputs are not looked at: they are not picked yet)" if auto else "")
    message = letter.message
    content: dict[str, Any] = {
        "place": letter.place,
        "origin": letter.origin,
        "time": _when(message.timestamp()[1]),
        "stage": letter.stage,
        "fault": letter.fault,
        "reason": letter.reason,
        "truncated_from_bytes": letter.truncated,
        "key": _readable(message.key()),
        "headers": [[name, _readable(value)] for name, value in letter.own_headers],
        "value": _readable(message.value()),
        "now": {"read": ours and refusal is None, "fault": refusal.fault if refusal else None, "told": now},
    }
    if as_json:
        _json(content)
        return
    for name in ("place", "origin", "time", "stage", "fault", "reason", "key"):
        typer.echo(f"{name:<8} {_plain(str(content[name]))}")
    for name, header in content["headers"]:
        typer.echo(f"header   {_plain(name)}: {_plain(str(header))}")
    if letter.truncated is not None:
        typer.echo(
            f"value    the head only, of {letter.truncated:,} bytes; the message itself stands at {letter.origin}"
        )
    typer.echo(f"now      {_plain(now)}")
    typer.echo(_pretty(message.value()))


@app.command()
def redrive(
    config: File,
    yes: Annotated[bool, typer.Option("--yes", help="Send; without it, only say what would be sent.")] = False,
    reason: Annotated[
        list[str] | None, typer.Option(help="Only letters with this fault, such as WrongType; again for more.")
    ] = None,
    stage: Annotated[
        list[str] | None, typer.Option(help="Only letters of this stage: decode, admit, label, feedback.")
    ] = None,
    since: Since = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Send at most so many.", show_default=False)] = None,
    failing: Annotated[bool, typer.Option("--failing", help="Send those, too, that would be refused again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send dead letters back to the topics and partitions that they came from, each at most once.

    Those that the present configuration would refuse again stay, and so do those whose value was cut. A receipt on the
    dead-letter topic, in one transaction with the message, says that a letter was sent: no later run sends it again.

    Example: ssm-stream dlq redrive monitor.yaml --reason WrongType --yes
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
            raise typer.BadParameter(f"{name}: {unknown[0]!r} is none; there are: {', '.join(sorted(known))}")
    with reported(BrokerError):
        loaded, auto = _decodable(load_with_stored_features(config))
        chosen = LetterFilter(tuple(reason or ()), tuple(stage or ()), _moment(since))
        with _bar("redrive") as bar:
            report = send_back(loaded, chosen, send=yes, failing_too=failing, limit=limit, on_progress=bar)
    if as_json:
        _json({"topic": loaded.sinks.dead_letters, "dry_run": not yes, **report.as_json()})
        return
    for line in _lines(report, yes, failing):
        typer.echo(line)
    if auto:
        typer.echo("note: features are not picked yet (event.features: auto), so inputs were not looked at", err=True)


def _lines(report: RedriveReport, sent: bool, failing: bool) -> Iterator[str]:
    def told(counts: Counter[str]) -> str:
        return ", ".join(f"{fault} {count:,}" for fault, count in counts.most_common())

    total = report.sent.total()
    yield f"{'sent back' if sent else 'would be sent back':<20} {total:>9,}  {told(report.sent)}".rstrip()
    if report.failing:
        stay = (
            "sent all the same"
            if failing and sent
            else "counted above"
            if failing
            else "they stay; --failing sends them"
        )
        count = report.failing.total()
        yield f"{'would fail again':<20} {count:>9,}  {told(report.failing)} ({stay})"
    rest = {
        "sent back before": (report.already, ""),
        "cut short": (report.truncated, "not sent: the whole message stands at its place in its topic (dlq show)"),
        "without a partition": (report.missing, "their topic has fewer partitions now"),
        "of other flows": (report.foreign, "or no dead letters of ssm-stream"),
    }
    for name, (count, words) in rest.items():
        if count:
            yield f"{name:<20} {count:>9,}  {words}".rstrip()
    if not sent:
        yield "nothing was sent: --yes sends"


def _decodable(config: Config) -> tuple[Config, bool]:
    """The configuration, and whether it has no inputs, as they are not picked yet."""
    if config.event.features != "auto":
        return config, False
    return with_columns(config, [], config.event.categories), True


def _find(config: Config, which: str) -> DeadLetter:
    from ssm_stream.kafka.dead_letter_topic import DeadLetterTopic
    from ssm_stream.kafka.dead_letters import parse_dead_letter, parse_receipt

    found = re.fullmatch(r"(?:(.+)-)?(\d+)-(\d+)", which)
    if not found:
        raise ConfigError(f"found {which!r}; write PARTITION-OFFSET, or TOPIC-PARTITION-OFFSET of the message itself")
    letters = DeadLetterTopic(config)
    letters.update_offsets()
    topic = config.sinks.dead_letters
    if found[1] not in (None, topic):
        some = letters.find_by_origin(which)
        if not some:
            raise LetterError(f"topic {topic}: no dead letter of {which}; ssm-stream dlq ls shows what there is")
        return some[-1]
    message = letters.find(int(found[2]), int(found[3]))
    if message is None:
        raise LetterError(f"topic {topic} has no message at partition {found[2]}, offset {found[3]}, or not any more")
    letter = parse_dead_letter(message)
    if letter is None:
        what = "the receipt of a redrive" if parse_receipt(message) else "no dead letter of ssm-stream"
        raise LetterError(f"topic {topic}, partition {found[2]}, offset {found[3]}: {what}")
    return letter


def _moment(since: str | None) -> int | None:
    """`--since` in ms since 1970."""
    if since is None:
        return None
    if found := DURATION.match(since):
        return int((time.time() - float(found[1]) * UNITS[found[2]]) * 1000)
    try:
        when = datetime.fromisoformat(since)
    except ValueError:
        raise ConfigError(f"--since: found {since!r}; write a duration such as 2h or 7d, or ISO 8601") from None
    return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1000)


def _when(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _plain(text: str) -> str:
    """A text from outside as it may go to a terminal: control characters are escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _readable(value: str | bytes | None) -> str | None:
    if value is None or isinstance(value, str):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return f"0x{value.hex()}"


def _pretty(value: str | bytes | None) -> str:
    """A value for the eye: JSON indented, other text, or hexadecimal with the text beside it."""
    if value is None:
        return "(null)"
    raw = value.encode() if isinstance(value, str) else value
    if len(raw) <= SHOWN:
        with contextlib.suppress(orjson.JSONDecodeError):
            return orjson.dumps(orjson.loads(raw), option=orjson.OPT_INDENT_2).decode()
    head = raw[:SHOWN]
    more = f"\n… {len(raw) - len(head):,} more bytes (--json has all)" if len(raw) > len(head) else ""
    try:
        return "\n".join(map(_plain, head.decode().splitlines())) + more
    except UnicodeDecodeError:
        rows = [head[i : i + 16] for i in range(0, len(head), 16)]
        shown = [
            f"{16 * i:06x}  {row.hex(' '):<47}  {''.join(chr(b) if 32 <= b < 127 else '.' for b in row)}"
            for i, row in enumerate(rows)
        ]
        return "\n".join(shown) + more


def _json(content: dict[str, Any]) -> None:
    sys.stdout.write(orjson.dumps(content, option=orjson.OPT_INDENT_2).decode() + "\n")


@contextlib.contextmanager
def _bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda done, total: None
        return
    with Progress(TextColumn(name), BarColumn(), MofNCompleteColumn(), console=console, transient=True) as progress:
        task = progress.add_task(name, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
