"""What a resume would do: where each partition goes on, how many offsets are missing, and which markers are set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from ssm_stream.config import Config, ConfigError
from ssm_stream.ingest.timestamps import in_range, iso_to_ms
from ssm_stream.kafka.client import with_topic
from ssm_stream.kafka.cluster import Cluster
from ssm_stream.kafka.producer import Marker
from ssm_stream.kafka.topic_reader import Span, open_topic
from ssm_stream.kafka.transactional_producer import read_writer_markers
from ssm_stream.recovery.positions import Positions
from ssm_stream.recovery.reader import StoredState

EARLIEST, LATEST = "earliest", "latest"


class Request(NamedTuple):
    """Where to go on.

    text: as it was given; since: `EARLIEST`, `LATEST`, or ms since 1970
    anew: the events topics were made anew, also where they hold the positions by now
    """

    text: str
    since: str | int
    anew: bool = False


def read_request(config: Config, text: str, *, anew: bool = False) -> Request:
    """Return a request from the text of the command.

    Raises:
        ConfigError: it is no time.
    """
    if text in (EARLIEST, LATEST):
        return Request(text, text, anew)
    try:
        return Request(text, in_range(iso_to_ms(text, ZoneInfo(config.event.time_zone))), anew)
    except (ValueError, OverflowError):
        raise ConfigError(
            f"--from: found {text!r}; write earliest, latest or a time such as 2026-08-10T06:00"
        ) from None


class Place(NamedTuple):
    """Where a partition goes on.

    position: where the state continues; begin, end: of what the broker holds
    to: where the next run begins to read; anew: the topic is another than the one that the state has read
    gone: the other topic has no such partition, whose position goes
    """

    topic: str
    partition: int
    position: int
    begin: int
    end: int
    to: int
    anew: bool
    gone: bool = False

    @property
    def moved(self) -> bool:
        """Whether something is missing, or the topic is another one."""
        return self.anew or self.to != self.position

    @property
    def missing(self) -> int | None:
        """Offsets between the last event that was learned and the next; None: unknown, as the topic was made anew."""
        return None if self.anew else self.to - self.position

    @property
    def text(self) -> str:
        """Return it as a line."""
        where = f"{self.topic} partition {self.partition}"
        if self.gone:
            return f"{where}: gone, as the topic was made anew with fewer; the position {self.position:,} goes, too"
        if self.anew:
            return (
                f"{where}: made anew (the state continues at {self.position:,}, the topic ends at {self.end:,}); an "
                f"unknown number of offsets is missing; goes on at {self.to:,}"
            )
        if not self.moved:
            return f"{where}: nothing is missing; goes on at {self.to:,}"
        return (
            f"{where}: {self.missing:,} offsets are missing ({self.position:,} to {self.to:,}); goes on at {self.to:,}"
        )


class MarkerMove(NamedTuple):
    """A marker of `delivery: exactly_once` that is set. was: None: the broker has none"""

    writer: str
    topic: str
    partition: int
    was: int | None
    to: int


class Plan(NamedTuple):
    """A resume. rows: the markers in the state, by writer, as they will be"""

    request: Request
    places: list[Place]
    markers: list[MarkerMove]
    rows: dict[str, Marker]

    @property
    def moved(self) -> list[Place]:
        """The partitions that do not simply go on."""
        return [each for each in self.places if each.moved]

    @property
    def empty(self) -> bool:
        """Whether nothing needs to be done."""
        return not self.moved and not self.markers

    def as_json(self) -> dict[str, Any]:
        """Return it for `--json`."""
        return {
            "from": self.request.text,
            "partitions": [{**each._asdict(), "missing": each.missing} for each in self.places],
            "markers": [each._asdict() for each in self.markers],
        }


def make_plan(config: Config, stored: StoredState, request: Request, cluster: Cluster, *, markers: bool = True) -> Plan:
    """Return what a resume would do. markers: whether those of the broker are read, with `delivery: exactly_once`

    Raises:
        BrokerError: the broker refuses, or does not answer.
    """
    exactly = config.delivery == "exactly_once"
    kept = _markers_of(stored) if exactly else {}
    positions: Positions = {(topic, partition): offset for topic, partition, offset in stored.positions(config)}
    there = read_writer_markers(config, positions) if exactly and markers else {}
    places = list(_places(config, positions, request, there, cluster))
    new = {(each.topic, each.partition): each.to for each in places if each.anew}
    gone = {(each.topic, each.partition) for each in places if each.gone}
    rows = {
        writer: {at: new.get(at, offset) for at, offset in own.items() if at not in gone}
        for writer, own in kept.items()
    }
    moves = []
    if exactly and markers:
        for writer in sorted({*kept, *there}):
            own, seen = rows.get(writer, {}), there.get(writer, {})
            for at in sorted({*own, *seen} - gone):
                to = new.get(at, max(own.get(at, 0), seen.get(at, 0)))
                if to != seen.get(at):
                    moves.append(MarkerMove(writer, *at, seen.get(at), to))
    return Plan(request, places, moves, rows)


def _markers_of(stored: StoredState) -> dict[str, Marker]:
    """Return the markers in the state, by writer."""
    return {
        row.key: dict(row.value) for row in stored.rows if isinstance(row.value, dict) and row.step.endswith("sink")
    }


def _places(
    config: Config, positions: Positions, request: Request, markers: dict[str, Marker], cluster: Cluster
) -> Iterator[Place]:
    only = config.source.partitions
    for topic in sorted({topic for topic, _ in positions}):
        existing = set(cluster.partitions_of(topic))
        mine = {partition: offset for (name, partition), offset in positions.items() if name == topic}
        source = with_topic(config.source, topic)
        with open_topic(source) as reader:
            spans = reader.spans(sorted(existing & mine.keys()))
            since = (
                reader.spans(sorted(existing & mine.keys()), since=request.since)
                if isinstance(request.since, int)
                else spans
            )
        ends = {
            at: max([offset, *(own.get((topic, at), 0) for own in markers.values())]) for at, offset in mine.items()
        }
        anew = any(ends[at] > span.end for at, span in spans.items()) or bool(mine.keys() - existing)
        anew = anew or (request.anew and topic in config.source.names)
        for partition, position in sorted(mine.items()):
            span = spans.get(partition, Span(0, 0))
            to = _target(position, span, since.get(partition, span), request, anew=anew)
            # One that is not read may be gone: it counts once it is read again.
            if anew or only is None or topic not in config.source.names or partition in only:
                yield Place(topic, partition, position, span.begin, span.end, to, anew, partition not in existing)


def _target(position: int, span: Span, since: Span, request: Request, *, anew: bool) -> int:
    """Return where a partition goes on: never before what was learned, as long as the topic is the same."""
    first = span.end if request.since == LATEST else since.begin
    if anew:
        return first
    if request.since == EARLIEST:
        return max(position, span.begin)
    return max(position, span.begin, first)
