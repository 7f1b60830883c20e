"""Arguments and options that several commands share, and the configurations and recordings that they name."""

from __future__ import annotations

import functools
import sys
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from inspect import Parameter, Signature, signature
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, get_type_hints

import typer

from ssm_stream.cli.errors import report_errors
from ssm_stream.cli.terminal.printable import echo
from ssm_stream.config import Config, ConfigError, load_config

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ssm_stream.evaluate.recordings import FileOptions, Recording
    from ssm_stream.evaluate.true_events import TrueEvent
    from ssm_stream.ingest.events import RefusedDocument

KINDS = "CSV, Excel, JSON lines, Parquet, packed or not, or a folder of them"
ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML configuration file.", show_default=False)]
RecordingFile = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help=f"Recording: {KINDS}.",
        show_default=False,
    ),
]
FileOrTopic = Annotated[
    Path | None,
    typer.Argument(
        metavar="FILE",
        help=f"Recording: {KINDS}; or give --topic.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and change nothing.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Read only the first rows.", show_default=False)]


def _partitions(text: str | int) -> int:
    from ssm_stream.evaluate.topic_partitions import parse_partitions

    try:
        return parse_partitions(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


Partitions = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        parser=_partitions,
        show_default=False,
        help="Partitions that the topic would have: pools are as in production; N:crc32 where producers are "
        "librdkafka's (Python, C, Go, .NET), not Java's. Default: those of --topic or of a recorded topic, else 1.",
    ),
]


OneTarget = Annotated[
    str | None,
    typer.Option(
        "--target",
        metavar="PATH",
        help="Of several targets only this one, with its share of the alarm budgets.",
        show_default=False,
    ),
]


class Reading(NamedTuple):
    """How FILE is read, where that is not detected."""

    read: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="How FILE is read, in place of what is detected: delimiter, decimal, dates, encoding, header, sheet, "
            "tags. Repeatable.",
            show_default=False,
        ),
    ] = None
    every: Annotated[
        str | None,
        typer.Option(help="FILE has no times: so much lies between two rows, such as 1s or 5m.", show_default=False),
    ] = None

    def options(self) -> FileOptions:
        """Return the options of the reader.

        Raises:
            ConfigError: one of them is not valid.
        """
        from ssm_stream.config.quantities import DURATION, UNITS
        from ssm_stream.evaluate.recordings import parse_options

        if self.every is None:
            return parse_options(self.read or [])
        if (found := DURATION.match(self.every)) is None or not float(found[1]):
            raise ConfigError(f"--every: found {self.every!r}; write a length of time such as 1s, 500ms or 5m")
        return parse_options(self.read or [], float(found[1]) * UNITS[found[2]])

    def arguments(self) -> list[str]:
        """Return the arguments that give these options."""
        every = [] if self.every is None else ["--every", self.every]
        return [*(each for text in self.read or [] for each in ("--read", text)), *every]


DETECTED = Reading()
NO_SOURCE = {"source": {"brokers": "-", "topic": "recording"}}
"""In place of the section where a file is read, not a topic."""


def load_with_stored_features(config: Path, *, exclusions: bool = True) -> Config:
    """Load a configuration; `event.features: auto` is replaced by the features selected for its state, if any.

    exclusions: with what rewinds excluded from its state, as planned stops of the file
    """
    from ssm_stream.recovery.bytewax_db import RecoveryError
    from ssm_stream.recovery.settings_files import with_stored_features

    with report_errors(RecoveryError):
        return with_stored_features(load_config(config), exclusions=exclusions)


def load_for(config: Path, file: Path | None) -> Config:
    """Load a configuration for a recording: of a file, `source` may be absent, as no topic is read.

    file: of the recording; None: a topic
    """
    return load_config(config, None if file is None else NO_SOURCE)


def open_recording(
    config: Config, file: Path, limit: int | None = None, reading: Reading = DETECTED
) -> tuple[Config, Recording]:
    """The rows of a recording, and the configuration with features, and without `alerts.shadow`.

    `event.features: auto` is replaced by the features selected from the first rows, which are printed; so is how the
    file is read, if not as it stands.

    Raises:
        ConfigError: a configured column is missing, or no column can be an input.
        RecordingError: the file cannot be read.
    """
    from ssm_stream.autoconfig.feature_selection import SAMPLE, select_features
    from ssm_stream.evaluate.recordings import Recording
    from ssm_stream.evaluate.recordings.context_files import find_facts

    rows = Recording(file, limit, reading.options().of_event(config.event))
    print_reading(rows)
    rows.check_columns(config)
    if missing := find_facts(config, file)[1]:
        raise ConfigError("\n".join(missing))
    if config.alerts.shadow:
        echo("alerts.shadow is on: judged is what would be sent without it", err=True)
        config = config.without_shadow()
    if config.event.features != "auto":
        return config, rows
    selection = select_features(config, list(islice(rows, SAMPLE)))
    echo("\n".join(selection.lines()), err=True)
    return selection.config, rows


def print_reading(rows: Recording) -> str:
    """Print how a file is read, if not as it stands, and return it."""
    text = rows.describe()
    if not text:
        return ""
    sentence = f"{rows.path.name} is read with: {text}"
    echo(sentence, err=True)
    return sentence


def one_target(config: Config, path: str | None) -> Config:
    """Return the configuration of one of several targets alone; None: the configuration.

    Raises:
        ConfigError: the path is no target.
    """
    from ssm_stream.evaluate.chosen_targets import alone, choose_targets

    return alone(config, choose_targets(config, [path])[0]) if path is not None else config


class EventCount:
    """Counts the rows of a recording that are events, to name the reason where none is.

    Args:
        config: by which the rows are read
        name: of the recording
    """

    def __init__(self, config: Config, name: str) -> None:
        self._config, self._name = config, name
        self._rows, self._events, self._passed, self._reason = 0, 0, 0, ""
        self._first: int | None = None

    def add(self, ts: NDArray[np.int64], refused: Sequence[RefusedDocument], height: int, passed: int) -> None:
        """Count the next rows.

        Args:
            ts: times of those that are events, (n,), ms since 1970
            refused: those that are not
            height: their number
            passed: those of other entities or signals
        """
        events = len(ts)
        if events and self._first is None:
            self._first = int(ts[0])
        if refused and not self._reason:
            self._reason = f"row {self._rows + refused[0].position + 1}: {refused[0].reason}"
        self._rows, self._events, self._passed = self._rows + height, self._events + events, self._passed + passed

    def describe_none(self) -> str:
        """Return in a sentence that no row is an event, and the first reason; an empty text if one is."""
        if self._events:
            return ""
        reason = self._reason or "no event is made of them"
        if self._passed and not self._reason:
            readings = self._config.event.layout == "readings"
            reason = "they are readings of other signals" if readings else "they are of other entities (event.only)"
        return f"{self._name}: none of {self._rows:,} rows is an event; {reason}"

    def describe_unit(self) -> str:
        """Return in a sentence that times are probably in another unit than the configured one; else an empty text."""
        from ssm_stream.ingest.timestamps import EPOCH, find_other_unit

        event = self._config.event
        if self._first is None or not (other := find_other_unit(self._first, event.timestamp_format)):
            return ""
        read = (EPOCH + timedelta(milliseconds=self._first)).date()
        return f"the first event is of {read} by `{event.timestamp}`: {other}"


def rows_to_read(rows: Recording) -> int | None:
    """The number of rows for a progress bar; None where standard error is not a terminal, so that none is shown."""
    return rows.count() if sys.stderr.isatty() else None


def read_labels(
    path: Path, config: Config, rows: Recording, entities: Collection[str] | None, unjudged: Collection[str] = ()
) -> list[TrueEvent]:
    """Return the true events of a file of labels; print which signals of theirs nobody watches.

    entities: of the recording; None: not known yet, so that any name will do
    unjudged: targets whose events are skipped, as another one is chosen

    Raises:
        RecordingError: see `read_true_events`.
    """
    from ssm_stream.evaluate.true_events import read_true_events

    is_recorded = functools.cache(functools.partial(rows.has_signal, config))
    events = read_true_events(path, config, entities, unjudged, is_recorded)
    watched = {*config.event.targets, *config.event.numbers, ""}
    for signal, count in Counter(event.signal for event in events if event.signal not in watched).items():
        role = "a category, and no target" if signal in config.event.categories else "no target and no input"
        named = f"{count} true event{'s' * (count > 1)} of `{signal}`, which is {role}"
        echo(f"{path.name}: {named}: missed, unless an alarm without a signal finds it", err=True)
    return events


def partitions_of(config: Config, rows: Recording, given: int | None) -> int:
    """Return the partitions by which entities are pooled: those given, else those of a recorded topic, else one."""
    return given or rows.partitions(config) or 1


def require_writable(outputs: Mapping[str, Path | None], *inputs: Path | None) -> None:
    """Refuse an output file that cannot be written, that is another output, too, or that is an input or a part of one.

    Args:
        outputs: option → its file, if it is given
        inputs: files and folders, where they are given

    Raises:
        BadParameter: names the option and the cause.
    """
    written: dict[Path, str] = {}
    for option, path in outputs.items():
        if path is None or (path.exists() and not path.is_dir() and not path.is_file()):  # such as /dev/null
            continue
        if path.is_dir() or not path.absolute().parent.is_dir():
            raise typer.BadParameter(f"cannot write {path}: not a file in an existing folder", param_hint=option)
        if (other := written.setdefault(path.resolve(), option)) != option:
            raise typer.BadParameter(f"{path} is the file of {other}, too: name another", param_hint=option)
        for given in inputs:
            if given is not None and given.exists() and (why := _why_input(path, given)):
                raise typer.BadParameter(f"{path} {why}: name another", param_hint=option)


def _why_input(path: Path, given: Path) -> str:
    """Return in words how an output is an input that is there, or a part of one; an empty text if it is none."""
    from ssm_stream.evaluate.recordings.exports.folder import recordings_in, would_be_read

    files = recordings_in(given) if given.is_dir() else [given]
    if path.exists() and any(path.samefile(each) for each in files):
        return "is an input file and is not overwritten"
    if given.is_dir() and path.resolve().parent == given.resolve() and would_be_read(path, files):
        return f"would be read as a file of {given}"
    return ""


def with_option_groups(command: Callable[..., None]) -> Callable[..., None]:
    """The command with each parameter that is a NamedTuple replaced by the options that are its fields."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if hasattr(kind, "_fields")}
    options: list[Parameter] = []
    for name in signature(command).parameters:
        if name not in groups:
            default = signature(command).parameters[name].default
            options.append(Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=hints[name]))
            continue
        group = groups[name]
        kinds, defaults = get_type_hints(group, include_extras=True), group._field_defaults
        options += [
            Parameter(field, Parameter.KEYWORD_ONLY, default=defaults[field], annotation=kinds[field])
            for field in group._fields
        ]

    @functools.wraps(command)
    def call(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{field: values.pop(field) for field in group._fields})
        command(**values)

    call.__signature__ = Signature(options)  # type: ignore[attr-defined]
    call.__annotations__ = {option.name: option.annotation for option in options}
    return call
