"""The sections `source` and `sinks`: Kafka topics and clients."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from ssm_stream.config.quantities import Duration
from ssm_stream.config.sections.base import KafkaProperties, Section, Topic


def _brokers(value: object) -> object:
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        value = ",".join(value)
    if isinstance(value, str) and "@" in value:
        raise ValueError("found a user in it (@); write host:port, and put the login into `kafka` as sasl.* properties")
    return value


class Source(Section):
    """Where events come from."""

    brokers: Annotated[str, BeforeValidator(_brokers, json_schema_input_type=str | list[str]), Field(min_length=1)]
    """Bootstrap servers, `host:port`, a list or comma-separated."""
    topic: Topic
    """The events topic. Key it by entity: then replay and rescaling give the same bits."""
    partitions: list[Annotated[int, Field(ge=0)]] | None = None
    """Read only these partitions, so that several independent processes can share a topic. Default: all."""
    start: Literal["earliest", "latest"] = "earliest"
    """Where to begin when there is no recovery state."""
    group: str | None = None
    """Consumer group that positions are committed to, for lag tools; never read back. Default: `ssm-stream-TOPIC`."""
    batch: Annotated[int, Field(ge=1, le=100_000)] = 4000
    """Most messages taken from the broker at a time."""
    wait: Duration = 30.0
    """How long to wait for a broker that does not answer, at start and while running, before stopping with an error."""
    kafka: Annotated[KafkaProperties, Field(repr=False)] = {}
    """librdkafka properties for every client (TLS, SASL, …), as in its CONFIGURATION.md. Secrets (passwords, keys) only
    as `${NAME}`, from the environment, or `${file:/path}`."""

    @property
    def group_id(self) -> str:
        """The consumer group."""
        return self.group or f"ssm-stream-{self.topic}"


class Sinks(Section):
    """Where results go."""

    predictions: Topic | None = "predictions"
    """Topic of one prediction an event; null: none."""
    alerts: Topic | None = "alerts"
    """Topic of anomaly and drift alerts; null: none."""
    suppressed: Topic | None = None
    """Topic of the alerts that are withheld from `alerts`, with `suppressed_by`: those that a fleet alert replaces,
    those of planned stops (`alerts.maintenance`), and all with `alerts.shadow`. Null: they are not written."""
    summaries: Topic | None = None
    """Topic of one summary an entity and hour: events, errors, episodes, silence; reports over weeks read it. It is
    compacted; `ssm-stream doctor --create-topics` makes it so. Null: none are written."""
    dead_letters: Topic = "dead-letters"
    """Topic of the messages that could not be used, untouched, with the reason in the headers."""
    writers: Annotated[int, Field(ge=1, le=64)] = 4
    """Producers; fixed for the life of the recovery state, whatever the number of workers."""
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
