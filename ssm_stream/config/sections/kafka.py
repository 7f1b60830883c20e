"""The sections `source` and `sinks`: Kafka topics and clients."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator

from ssm_stream.config.quantities import Duration
from ssm_stream.config.sections.base import KafkaProperties, Path, Section, Topic

BROKER = re.compile(r"(?:\w+://)?(?:\[[^\]]*\]|[^:\[\]]*):([^:]*)")
"""A server with a port: a name, or an address, IPv6 in brackets."""
NO_BROKER = re.compile(r"^$|[\s\0;]")
"""What no server is: nothing, or several with something else than a comma between them."""


def _brokers(value: object) -> object:
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        value = ",".join(value)
    if isinstance(value, str) and "@" in value:
        raise ValueError("found a user in it (@); write host:port, and put the login into `kafka` as sasl.* properties")
    for each in value.split(",") if isinstance(value, str) else ():
        if NO_BROKER.search(each.strip()):
            raise ValueError(
                f"found {each!r} among the servers; write host:port, such as kafka-1:9092, with commas between several"
            )
        found = BROKER.fullmatch(each.strip())
        if found is not None and not (found[1].isdecimal() and 0 < int(found[1]) < 1 << 16):
            raise ValueError(f"found the port {found[1]!r} in {each.strip()!r}; write host:port, such as kafka-1:9092")
    return value


def _some(partitions: list[int]) -> list[int]:
    if not partitions:
        raise ValueError("found []; name the partitions to read, such as [0, 1], or leave partitions out to read all")
    return partitions


Partitions = Annotated[
    list[Annotated[int, Field(ge=0)]], AfterValidator(_some), Field(json_schema_extra={"minItems": 1})
]


TOPIC_STEP = 1_000_000
"""Distance of the numbers of the same partition of two topics, see `Source.number`."""


class Context(Section):
    """Slowly changing facts of an entity (its product, its recipe), which its events or rows have as of their time."""

    topic: Topic
    """Their topic: one object for what holds from its time on, in JSON or in the format of the schema that it names. It
    is read whole at every start: keep what the oldest events to be read again need (compaction keeps the latest fact of
    each key only)."""
    columns: Annotated[list[Path], Field(min_length=1, max_length=64)]
    """Paths of the facts. Events, or the rows of readings and windows, have columns of these names, to be used as
    features, categories or in conditions; a field of the same name in the event is not read."""
    entity: Path | None = None
    """Path of the entity. Default: as `event.entity`, with `event.tag` `entity`; a message without it is of the entity
    that is its key."""
    timestamp: Path | None = None
    """Path of the time from which on it holds. Default: as `event.timestamp`; a message without it holds from its Kafka
    timestamp on."""
    max_age: Duration | None = None
    """How long a fact holds if no other follows. Default: until the next."""
    grace: Duration = 1.0
    """How much later than its time a fact may come on the topic: events wait so long, those of the past do not. A fact
    that comes later is a dead letter; the events that it is late for never have it, and later ones do."""


def _one_of_two(schema: dict[str, Any]) -> None:
    schema["required"].remove("topic")
    without = {"required": ["topic"], "properties": {"topics": {"type": "null"}}}
    schema["oneOf"] = [without, {"required": ["topics"], "properties": {"topics": {"type": "array"}}}]


class Source(Section):
    """Where events come from."""

    model_config = ConfigDict(json_schema_extra=_one_of_two)

    brokers: Annotated[str, BeforeValidator(_brokers, json_schema_input_type=str | list[str]), Field(min_length=1)]
    """Bootstrap servers, `host:port`, a list or comma-separated."""
    topic: Topic
    """The events topic. Key it by entity: then replay and rescaling give the same bits."""
    topics: Annotated[list[Topic], Field(min_length=1, max_length=100)] | None = None
    """In place of `topic`: several events topics whose messages are of one layout. The events of an entity belong into
    one of them. More may be added at the end of the list; the state goes on."""
    repartition: Topic | None = None
    """A topic that is not keyed by entity, so that an entity's messages are in several of its partitions. `run` copies
    its messages, exactly once and unchanged, into the partition of `topic` that belongs to their entity, and reads
    them there. Null: `topic` is keyed by entity, or producers see to it."""
    partitions: Partitions | None = None
    """Read only these partitions, of each topic, so that several independent processes can share a topic. Default:
    all."""
    assignment: Literal["manual", "group"] = "manual"
    """`manual`: this process reads `partitions`. `group`: all processes with this file share the topic, as consumers of
    one group do; each partition goes on where it was, with what it had learned, wherever it moves. Needs `state.store`
    and a topic that is keyed by entity."""
    start: Literal["earliest", "latest"] = "earliest"
    """Where to begin when there is no recovery state."""
    group: str | None = None
    """Consumer group that positions are committed to. With `assignment: manual` for lag tools only, never read back.
    Default: `ssm-stream-TOPIC`; with `assignment: group`, `ssm-stream-TOPIC-` and a digest of what the flow watches and
    where its results go."""
    batch: Annotated[int, Field(ge=1, le=100_000)] = 4000
    """Messages taken from the broker at a time; where more wait, up to eight times as many."""
    wait: Duration = 30.0
    """How long to wait for a broker that does not answer, at start and while running, before stopping with an error."""
    on_gap: Literal["stop", "resume"] = "stop"
    """What to do where the state's position is gone (retention passed it, the topic was made anew, a consumer group of
    `exactly_once` was deleted): stop with the number of missing offsets, or go on at the earliest that is left, with
    all that was learned. `ssm-stream state resume` does the latter by hand."""
    context: Annotated[list[Context], Field(max_length=16)] = []
    """Topics of slowly changing facts, such as the product or recipe of a machine, which its events have as of their
    time; with `event.layout: readings` or `event.aggregate`, its rows as of theirs."""
    kafka: Annotated[KafkaProperties, Field(repr=False)] = {}
    """librdkafka properties for every client (TLS, SASL, …), as in its CONFIGURATION.md. Secrets (passwords, keys) only
    as `${NAME}`, from the environment, or `${file:/path}`. A message with more bytes than `max.partition.fetch.bytes`
    (1 MiB) is a dead letter, and is not parsed."""

    @model_validator(mode="after")
    def _usable_size(self) -> Source:
        try:
            self.max_message_bytes  # noqa: B018
        except (TypeError, ValueError):
            raise ValueError("kafka: max.partition.fetch.bytes is no whole number of bytes, such as 1048576") from None
        return self

    @property
    def context_columns(self) -> list[str]:
        """The columns of the context topics."""
        return [column for each in self.context for column in each.columns]

    @model_validator(mode="before")
    @classmethod
    def _first_topic(cls, given: Any) -> Any:
        """Fill in `topic`, the first of `topics`."""
        names = given.get("topics") if isinstance(given, dict) else None
        if not isinstance(names, list) or not names:
            return given
        if given.get("topic", names[0]) != names[0]:
            raise ValueError("topic: found together with `topics`; write one of the two")
        if twice := sorted({str(name) for name in names if names.count(name) > 1}):
            raise ValueError(f"topics: found {twice} twice; name each topic once")
        return {**given, "topic": names[0]}

    @model_validator(mode="after")
    def _one_process_copies(self) -> Source:
        for name in ("topics", "partitions") if self.repartition is not None else ():
            if getattr(self, name) is not None:
                raise ValueError(
                    f"repartition: found together with `{name}`; one process copies one topic into another: leave "
                    f"{name} out"
                )
        return self

    @property
    def group_id(self) -> str:
        """The consumer group."""
        return self.group or f"ssm-stream-{self.topic}"

    @property
    def max_message_bytes(self) -> int:
        """Bytes of the largest message that is parsed: as many as are fetched of a partition at a time."""
        names = ("max.partition.fetch.bytes", "fetch.message.max.bytes")
        return int(next((self.kafka[name] for name in names if name in self.kafka), 1_048_576))

    @property
    def names(self) -> list[str]:
        """The events topics."""
        return self.topics or [self.topic]

    @property
    def each(self) -> list[Source]:
        """The settings that read each of the events topics alone, in the group of them all."""
        if len(self.names) == 1:
            return [self]
        return [self.model_copy(update={"topic": n, "topics": None, "group": self.group_id}) for n in self.names]

    def number(self, topic: str | None, partition: int) -> int:
        """Return the number of a topic's partition: with one topic the partition itself.

        It is the source that a state is kept by, and stands in the names of pools, in the audit, and in the
        acknowledgements of planned stops.

        topic: one that is no events topic, or None, counts as the first
        """
        names = self.names
        return (names.index(topic) if topic in names else 0) * TOPIC_STEP + partition

    def place(self, number: int) -> tuple[str, int]:
        """Return the topic and the partition that have a number."""
        at, partition = divmod(number, TOPIC_STEP)
        return self.names[min(at, len(self.names) - 1)], partition


class Sinks(Section):
    """Where results go. Each flow has topics of its own: give flows on one broker different names. Of topics that flows
    share, the report, the page and assistants show what is of the flow's own events topics; summaries do not show whose
    they are, and consumers get all."""

    writers: ClassVar[int] = 4  # the most producers: no setting, as a recovery state continues with those that it has

    predictions: Topic | None = "predictions"
    """Topic of one prediction an event; null: none."""
    alerts: Topic | None = "alerts"
    """Topic of anomaly and drift alerts; null: none."""
    suppressed: Topic | None = None
    """Topic of the alerts that are withheld from `alerts`, with `suppressed_by`: those that a fleet alert replaces,
    those of planned stops (`alerts.maintenance`), and all with `alerts.shadow`. Null: they are not written."""
    summaries: Topic | None = None
    """Topic of one summary an entity and hour: events, errors, episodes, silence; `ssm-stream report` reads it. It
    is compacted; `ssm-stream doctor --create-topics` makes it so. Null: none are written."""
    dead_letters: Topic = "dead-letters"
    """Topic of the messages that could not be used, untouched, with the reason in the headers."""
    kafka: Annotated[KafkaProperties, Field(repr=False)] = {}
    """librdkafka properties of the producers, on top of `source.kafka`."""
    format: Literal["json", "avro"] = "json"
    """Predictions and alerts are JSON or Avro. With a `schema_registry` their schemas are registered there, and each
    message begins with its schema's id, as Confluent's clients read and write it; `avro` needs one."""

    @property
    def topics(self) -> list[str]:
        """The output topics, without those that are off."""
        named = (self.predictions, self.alerts, self.suppressed, self.summaries, self.dead_letters)
        return [topic for topic in named if topic]
