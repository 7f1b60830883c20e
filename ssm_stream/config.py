"""The YAML file, as pydantic models: the one place where a setting is named, typed, bounded and explained.

`load_config(path)` reads the file, fills `${ENV}`, `${ENV:-default}` and `${file:/path}` placeholders, refuses unknown
keys (naming the nearest right one) and returns a frozen `Config`. Every failure is a `ConfigError` whose text names the
file, the line, the key, what was found (never a secret) and what would be right.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import os
import re
import types
import typing
import zoneinfo
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PrivateAttr,
    SecretStr,
    ValidationError,
    model_validator,
)

from ssm_stream import deprecated, properties
from ssm_stream.model import weights

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
DURATION = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*$")
BUDGET = re.compile(r"^\s*(\d+(?:\.\d+)?)\s+per\s+(?:(\d+)\s+events?|(\d+(?:\.\d+)?\s*(?:ms|s|m|h|d)))\s*$")
PLACEHOLDER = re.compile(r"\$\{(?:file:(?!-)([^}]*)|([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?)\}")
LARGEST_FILE = 65_536
"""Bytes of a file that stands for a value: a password, a key, a chain of certificates."""


class ConfigError(ValueError):
    """The configuration cannot be used. The text is meant for the person who wrote the file."""


def _seconds(value: object) -> object:
    if isinstance(value, str):
        found = DURATION.match(value)
        if not found:
            raise ValueError(f"found {value!r}; write a duration such as '500ms', '30s', '5m', '6h' or '30d'")
        return float(found[1]) * UNITS[found[2]]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"found {value!r}; write a duration such as '30s' or '30d'")
    return float(value)


Duration = Annotated[
    float,
    Field(gt=0, allow_inf_nan=False),
    BeforeValidator(
        _seconds,
        json_schema_input_type=Annotated[float, Field(gt=0)] | Annotated[str, Field(pattern=DURATION.pattern)],
    ),
]
"""Seconds. In the file: '500ms', '30s', '5m', '6h', '30d', or a number of seconds."""


class Budget(BaseModel):
    """How many false alarms an entity may raise: `count` in `events` events, or in `seconds` of event time."""

    model_config = ConfigDict(frozen=True)
    text: str
    events: float = Field(default=0.0, description="mean events between false alarms; 0 where the budget is in time")
    seconds: float = Field(
        default=0.0, description="mean seconds between false alarms; 0 where the budget is in events"
    )

    def shared(self, m: int) -> Budget:
        """What each of m may use of it, so that together they keep it; the text stays that of the whole."""
        return self.model_copy(update={"events": m * self.events, "seconds": m * self.seconds})


def _budget(value: object) -> object:
    if not isinstance(value, str) or not (found := BUDGET.match(value)) or float(found[1]) <= 0:
        raise ValueError(f"found {value!r}; write a budget such as '1 per 10000 events' or '1 per 30d'")
    count = float(found[1])
    if found[2]:
        gap = int(found[2]) / count
        if gap < 20:
            raise ValueError(f"found {value!r}; a budget below one alarm in 20 events cannot be told from noise")
        return Budget(text=value.strip(), events=gap)
    return Budget(text=value.strip(), seconds=typing.cast(float, _seconds(found[3])) / count)


AlarmBudget = Annotated[
    Budget,
    BeforeValidator(_budget, json_schema_input_type=Annotated[str, Field(pattern=BUDGET.pattern)]),
    PlainSerializer(lambda budget: budget.text, return_type=str),
]


class Forgetting(BaseModel):
    """A half-life: in events of the learner, or in seconds of event time (the other is 0)."""

    model_config = ConfigDict(frozen=True)
    text: str
    events: float = 0.0
    seconds: float = 0.0


EVENTS = re.compile(r"^\s*(\d+(?:\.\d+)?)\s+events?\s*$")


def _half_life(value: object) -> object:
    if isinstance(value, str):
        if found := EVENTS.match(value):
            if float(found[1]) < 1:
                raise ValueError(f"found {value!r}; a half-life is at least 1 event")
            return Forgetting(text=value.strip(), events=float(found[1]))
        if found := DURATION.match(value):
            seconds = float(found[1]) * UNITS[found[2]]
            if seconds > 0:
                return Forgetting(text=value.strip(), seconds=seconds)
    raise ValueError(f"found {value!r}; write a half-life such as '500 events' or '6h'")


HalfLife = Annotated[
    Forgetting,
    BeforeValidator(
        _half_life, json_schema_input_type=Annotated[str, Field(pattern=f"{EVENTS.pattern}|{DURATION.pattern}")]
    ),
    PlainSerializer(lambda half_life: half_life.text, return_type=str),
]


class Ahead(BaseModel):
    """How far ahead a prediction looks: so many events of its entity, or seconds of event time (the other is 0)."""

    model_config = ConfigDict(frozen=True)
    text: str
    events: int = 0
    seconds: float = 0.0


MOST_PENDING = 4096
AHEAD = re.compile(r"^\s*(\d+)(\s+events?)?\s*$")


def _ahead(value: object) -> object:
    if isinstance(value, str):
        if found := AHEAD.match(value):
            value = int(found[1])
        elif found := DURATION.match(value):
            seconds = float(found[1]) * UNITS[found[2]]
            return Ahead(text=value.strip(), seconds=seconds)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_PENDING:
        return Ahead(text=f"{value} events" if value else "0", events=value)
    raise ValueError(
        f"found {value!r}; write 0, a number of events such as '5 events' (at most {MOST_PENDING}), or a duration such "
        "as '1h'"
    )


Horizon = Annotated[
    Ahead,
    BeforeValidator(
        _ahead,
        json_schema_input_type=Annotated[int, Field(ge=0, le=MOST_PENDING)]
        | Annotated[str, Field(pattern=f"{AHEAD.pattern}|{DURATION.pattern}")],
    ),
    PlainSerializer(lambda ahead: ahead.text, return_type=str),
]
KafkaProperties = dict[str, str | int | float | bool]


class Section(BaseModel):
    """A section of the file: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def _brokers(value: object) -> object:
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        value = ",".join(value)
    if isinstance(value, str) and "@" in value:
        raise ValueError("found a user in it (@); write host:port, and who logs in as sasl.* properties in `kafka`")
    return value


class Source(Section):
    """Where events come from."""

    brokers: Annotated[str, BeforeValidator(_brokers, json_schema_input_type=str | list[str]), Field(min_length=1)]
    """Bootstrap servers, `host:port`, a list or comma-separated."""
    topic: Annotated[str, Field(min_length=1, max_length=249, pattern=r"^[A-Za-z0-9._-]+$")]
    """The events topic. Key it by entity: then replay and rescaling give the same bits."""
    partitions: list[Annotated[int, Field(ge=0)]] | None = None
    """Read only these partitions (several independent processes share a topic so). Default: all."""
    start: Literal["earliest", "latest"] = "earliest"
    """Where to begin when there is no recovery state."""
    group: str | None = None
    """Group that positions are committed to, for lag tools; never read back. Default: `ssm-stream-TOPIC`."""
    batch: Annotated[int, Field(ge=1, le=100_000)] = 4000
    """Most messages taken from the broker at a time."""
    wait: Duration = 30.0
    """How long to wait for a broker at start, and for a silent one while running, before stopping with an error."""
    kafka: Annotated[KafkaProperties, Field(repr=False)] = {}
    """librdkafka properties for every client (TLS, SASL, …), as in its CONFIGURATION.md. Secrets (passwords, keys) only
    as `${NAME}`, from the environment, or `${file:/path}`."""

    @property
    def group_id(self) -> str:
        return self.group or f"ssm-stream-{self.topic}"


MOST_TARGETS = 64
LONGEST_NAME = 512
"""Characters of an entity's or a category's name."""


def _targets(value: object) -> object:
    paths: list[Any] = value if isinstance(value, list) else [value]
    if not all(isinstance(path, str) and path for path in paths) or not 1 <= len(paths) <= MOST_TARGETS:
        found = repr(value) if len(repr(value)) <= 60 else f"{len(paths)} entries"
        raise ValueError(f"found {found}; write a path such as 'temp', or a list of 1 to {MOST_TARGETS} paths")
    if len(set(paths)) != len(paths):
        twice = sorted({path for path in paths if paths.count(path) > 1})
        raise ValueError(f"found {twice} twice; name each target once")
    # One in a list is the same as one without: the same messages, state and hash.
    return paths[0] if len(paths) == 1 else paths


Targets = Annotated[
    str | list[str],
    BeforeValidator(
        _targets,
        json_schema_input_type=Annotated[str, Field(min_length=1)]
        | Annotated[
            list[Annotated[str, Field(min_length=1)]],
            Field(min_length=1, max_length=MOST_TARGETS, json_schema_extra={"uniqueItems": True}),
        ],
    ),
]
"""Paths; with one, the path itself."""


class Event(Section):
    """How a JSON event (or a row of a file) is read. Paths may be dotted: `payload.sensor.temp`."""

    entity: Annotated[str, Field(min_length=1)]
    """Path of the name of the machine, sensor, service or line (text or whole number)."""
    entity_default: Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)] | None = None
    """Name for events (and labels) that have none at `entity`: for a topic of one machine. Default: they are dead
    letters."""
    timestamp: Annotated[str, Field(min_length=1)]
    """Path of the event's time."""
    timestamp_format: Literal["auto", "s", "ms", "us", "ns", "iso"] = "auto"
    """`auto`: text is ISO 8601; a number is seconds, milli-, micro- or nanoseconds since 1970 by its size."""
    time_zone: str = "UTC"
    """Zone of ISO times without an offset, and of the calendar features."""
    max_bytes: Annotated[int, Field(ge=100, le=1_000_000_000)] = 1_048_576
    """A larger message is a dead letter, and is not looked into."""
    framed: bool = False
    """Events and labels may begin with a schema registry's frame, a zero byte and four bytes of id, which is skipped;
    what follows is JSON."""
    features: Literal["auto"] | list[Annotated[str, Field(min_length=1)]] = []
    """Paths of the numeric inputs. A missing or null feature counts as unknown, not as zero. A column of 3 to 32 whole
    numbers is also read as a category, until it shows something else. `auto`: picked from the first events at start."""
    categories: list[Annotated[str, Field(min_length=1)]] = []
    """Paths of inputs that are names (text, numbers or true/false): each of the first 32 values is an input of its own,
    later ones share one."""
    target: Targets = "target"
    """Path of the number to predict, or a list of up to 64: each is predicted by itself, with past values of its own;
    alerts are by entity. Missing or null in an event: it is predicted, not learned."""
    lags: Annotated[int, Field(ge=0, le=64)] = 8
    """Past targets used as inputs. 0: a soft sensor that must not lean on the last measurement."""
    differences: bool | None = None
    """Use each feature's change since the entity's last event as an input too. Default: where `lags` is 1 or more; what
    tells the target's next step says little about its level."""
    feature_lags: Annotated[int, Field(ge=0, le=16)] = 0
    """Past events whose features are inputs too, each as its difference from the present value; the first of them is
    the change of `differences`. For effects that arrive some events later."""
    calendar: Literal["auto"] | list[Literal["hour", "weekday", "hour_cycle", "weekday_cycle"]] = "auto"
    """Inputs made from the event's time: hour of day and day of week, a step each or as smooth cycles. `auto`: steps,
    where events come often enough to have a day and the columns do not say the same already."""

    @property
    def changes(self) -> bool:
        """Whether the features' changes are inputs."""
        return self.feature_lags > 0 or (self.lags > 0 if self.differences is None else self.differences)

    @model_validator(mode="after")
    def _usable(self) -> Event:
        try:
            zoneinfo.ZoneInfo(self.time_zone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"time_zone: found {self.time_zone!r}; write an IANA name such as 'Asia/Tokyo'") from error
        picked_later = self.features == "auto"
        columns = self.categories if picked_later else self.columns
        if not picked_later and not columns and not self.lags and not self.calendar:
            raise ValueError("nothing to predict from; name features, or set lags to 1 or more")
        if len(set(columns)) != len(columns):
            twice = sorted({f for f in columns if columns.count(f) > 1})
            raise ValueError(f"features: {twice} named twice; name each once")
        for target in self.targets:
            if target in columns:
                which = "the target" if len(self.targets) == 1 else "a target"
                raise ValueError(f"features: {target!r} is {which}; it may not be a feature")
        return self

    @property
    def targets(self) -> list[str]:
        """`target` as a list."""
        return [self.target] if isinstance(self.target, str) else self.target

    @property
    def numbers(self) -> list[str]:
        """`features` as a list.

        Raises:
            ConfigError: `auto`, and `ssm_stream.pick` has not picked yet.
        """
        if self.features == "auto":
            raise ConfigError("event.features: auto is not picked yet; pick from the first events, or list the paths")
        return self.features

    @property
    def columns(self) -> list[str]:
        """Paths of the columns of `Events.features`: `features`, then `categories`. Raises as `numbers`."""
        return [*self.numbers, *self.categories]


class Model(Section):
    """The learner. The defaults are meant to be left alone."""

    horizon: Horizon = Ahead(text="0")
    """What is predicted: `0`, the event's own target; `5 events`, the target of its entity's fifth event from it; `1h`,
    the target one hour later (of the first event then or up to half the horizon after)."""
    warmup: Annotated[int, Field(ge=10, le=100_000)] = 100
    """Labelled events of an entity before it may raise an alert."""
    interval: Annotated[float, Field(ge=0.5, le=0.999)] = 0.9
    """Share of targets that the prediction interval is to cover in the long run."""
    profile: Literal["fast", "accurate"] = "fast"
    """`accurate` adds attention over the last `window` events: smaller errors at several times the cost."""
    half_lives: list[HalfLife] | None = None
    """How fast the moment heads forget: `500 events`, or a time such as `6h`. Default: those of the weights."""
    heads: list[Literal["moments", "proximal", "embedding", "fern", "attention", "gd"]] | None = None
    """The heads that answer, for comparisons. Default: all of the profile; `gd` is the paper's one-step layer."""
    gate: Literal["learned", "equal"] = "learned"
    """How the heads' answers are mixed: by what they were worth so far, or all alike (for comparisons)."""
    fleet: bool = True
    """Learn from all entities of a shard together; a new one starts from what the others taught."""
    log_space: bool = True
    """While no target is negative, some heads also answer on a log scale."""
    window: Annotated[int, Field(ge=128, le=512)] = 512
    """Events that the heads of `accurate` attend to."""
    weights: Path | None = None
    """File of frozen meta-parameters, as `ssm-stream train` writes it; `untrained`: those that training starts from.
    Default: those of the package."""

    @model_validator(mode="after")
    def _heads(self) -> Model:
        if self.heads is not None and not self.heads:
            raise ValueError("heads: no head left; name at least one, or leave the key out")
        if self.half_lives is not None and not self.half_lives:
            raise ValueError("half_lives: no head left; give at least one, or leave the key out")
        return self


Learning = Literal["adapt", "slow", "hold"]


class Anomaly(Section):
    """Alerts on single events that do not fit."""

    enabled: bool = True
    budget: AlarmBudget = Budget(text="1 per 10000 events", events=10_000)
    """False alarms allowed per entity: `1 per 10000 events`, or `1 per 30d` of event time."""
    channels: list[Literal["residual", "novelty", "levels"]] = ["residual", "novelty", "levels"]
    """What is looked at; the budget is shared among them. `residual`: a target far from its prediction; `novelty`: a
    target unlike all that the entity showed, or showed at this hour of the week; `levels`: features and
    target whose means have moved, where there are features."""
    direction: Literal["both", "above", "below"] = "both"
    """Which side of the prediction counts, in every channel."""
    min_deviation: Annotated[float, Field(ge=0)] = 0.0
    """Smallest |y − yhat| that counts, in the target's unit."""
    min_deviation_relative: Annotated[float, Field(ge=0)] = 0.0
    """Smallest |y − yhat| that counts, as a share of |yhat|."""
    consecutive: Annotated[int, Field(ge=1, le=1000)] = 1
    """Anomalous events in a row before an alert starts."""
    recover_after: Annotated[int, Field(ge=1, le=100_000)] = 10
    """Normal events in a row that end an episode."""
    cooldown: Annotated[int, Field(ge=0, le=1_000_000)] = 50
    """Events after an episode's end in which no new one of this kind starts."""
    learn: Learning = "adapt"
    """What an open episode does to learning: `adapt`, nothing; `slow`, one event in eight is learned; `hold`, none is,
    so that a fault does not become the new normal, however long it lasts."""


class Drift(Section):
    """Alerts on a changed relation between inputs and target."""

    enabled: bool = True
    budget: AlarmBudget = Budget(text="1 per 10000 events", events=10_000)
    """False alarms allowed per entity: `1 per 10000 events`, or `1 per 30d` of event time."""
    cooldown: Annotated[int, Field(ge=0, le=1_000_000)] = 100
    """Events after an episode's end in which no new one of this kind starts."""
    learn: Learning = "adapt"
    """What an open episode does to learning: `adapt`, nothing; `slow`, one event in eight is learned; `hold`, none is:
    the model stays at the relation from before the change, and the episode lasts until the errors fit it again."""


Topic = Annotated[str, Field(min_length=1, max_length=249, pattern=r"^[A-Za-z0-9._-]+$")]


class FleetAlerts(Section):
    """What happens to many entities at once is one alert. Only where they learn together (`model.fleet`)."""

    enabled: bool = True
    share: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Share of a pool's labelled entities whose episodes of a kind must be open at once …"""
    least: Annotated[int, Field(ge=2, le=1_000_000)] = 3
    """… and how many at least."""


class Feedback(Section):
    """What operators say of alerts: `{"id": ALERT_ID, "true": true}`, or false. It is counted, nothing else changes."""

    topic: Topic
    """Topic of the feedback; key it by `id`, so that what was said last of an alert is known."""


class Alerts(Section):
    """When to call a person."""

    anomaly: Anomaly = Anomaly()
    drift: Drift = Drift()
    fleet: FleetAlerts = FleetAlerts()
    feedback: Feedback | None = None
    """Null: none is read."""
    ongoing_every: Annotated[int, Field(ge=1, le=1_000_000)] = 500
    """An open episode is reported again (`ongoing`) after so many events of its entity."""
    critical: Annotated[float, Field(gt=1)] = 3.0
    """Score from which an alert's severity is `critical`; below it is `warning`."""
    contributions: Annotated[int, Field(ge=0, le=100)] = 5
    """Features named in an alert, the weightiest first."""


class Labels(Section):
    """Targets that arrive later than their events. Without this section they come with the events."""

    topic: Topic | None = None
    """Topic of the labels; null: they come on the events topic, told apart by `when`."""
    when: Annotated[str, Field(min_length=1)] | None = None
    """On the events topic, a message that has this path is a label, any other an event."""
    entity: Annotated[str, Field(min_length=1)] | None = None
    """Path of the entity in a label. Default: as `event.entity`."""
    timestamp: Annotated[str, Field(min_length=1)] | None = None
    """Path, in a label, of the time of the event that it belongs to. Default: as `event.timestamp`."""
    id: Annotated[str, Field(min_length=1)] | None = None
    """Path, in a label, of the id of the event that it belongs to: labels are joined by it, not by their time."""
    event_id: Annotated[str, Field(min_length=1)] | None = None
    """Path of the id in an event. Default: as `id`."""
    target: Annotated[str, Field(min_length=1)] | None = None
    """Path of the target in a label. Default: as `event.target`."""
    wait: Duration = 86400.0
    """An event waits for its label until one of its entity is so much newer; so does a label for its event."""
    pending: Annotated[int, Field(ge=1, le=MOST_PENDING)] = 256
    """Most events back, of its entity, that a label may belong to."""

    @model_validator(mode="after")
    def _usable(self) -> Labels:
        if self.topic is None and self.when is None:
            raise ValueError("name the `topic` of the labels, or the path that tells one from an event (`when`)")
        if self.topic is not None and self.when is not None:
            raise ValueError("`when` is for labels on the events topic; leave it out, or set topic: null")
        if self.id is not None and self.timestamp is not None:
            raise ValueError("found `id` and `timestamp`; labels are joined by one of them: leave the other out")
        if self.event_id is not None and self.id is None:
            raise ValueError("`event_id` goes with `id`, the path of the id in a label")
        return self


class Registry(Section):
    """Confluent's schema registry, or one with its REST interface."""

    url: Annotated[str, Field(pattern=r"^https?://[^@\s]+$")]
    """Where it is, `http://registry:8081`; a login goes into `properties`."""
    properties: Annotated[KafkaProperties, Field(repr=False), PlainSerializer(lambda given: sorted(given))] = {}
    """Properties of confluent-kafka's registry client, such as `basic.auth.user.info` or `ssl.ca.location`. What lets
    one in may only stand there as `${NAME}`, from the environment, or `${file:/path}`."""
    register_schemas: bool = True
    """Register the schemas at start. false: they must be there."""


class Sinks(Section):
    """Where results go."""

    predictions: Topic | None = "predictions"
    """Topic of one prediction an event; null: none."""
    alerts: Topic | None = "alerts"
    """Topic of anomaly and drift alerts; null: none."""
    dead_letters: Topic = "dead-letters"
    """Topic of the messages that could not be used, untouched, with the reason in the headers."""
    writers: Annotated[int, Field(ge=1, le=64)] = 4
    """Producers; fixed for the life of the recovery state, whatever the number of workers."""
    kafka: Annotated[KafkaProperties, Field(repr=False)] = {}
    """librdkafka properties of the producers, on top of `source.kafka`."""
    schema_registry: Registry | None = None
    """Where the JSON Schemas of predictions and alerts are registered; each message then begins with its schema's id,
    as Confluent's clients read and write it. Null: plain JSON. Needs the extra `registry`."""


class State(Section):
    """Where an entity's state lives."""

    shards: Annotated[int, Field(ge=1, le=4096)] = 1
    """Parts that the entities are spread over; fixed for the life of the recovery state. Workers share them: as many as
    the most workers there will be. Entities learn from each other within a shard and a partition of the source."""
    ttl: Duration | None = 90 * 86400.0
    """An entity silent for this long (event time) starts afresh, and its memory is freed; null: never."""
    max_entities: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    """Most entities that are known at once, of each shard and partition of the source; null: no limit."""
    when_full: Literal["refuse", "evict"] = "refuse"
    """What happens to a new entity then: its events are dead letters, until one of the others was silent for `ttl`
    (`refuse`); or the one silent for longest makes room, and starts afresh should it come back (`evict`)."""


class Recovery(Section):
    """What survives a crash."""

    directory: Path | None = Path("ssm-stream-state")
    """Folder of the snapshots; null: none, every start begins at `source.start`."""
    epoch_interval: Duration | None = None
    """Time between snapshots: at most so much is done again after a crash. Default: 10s; with `delivery: exactly_once`
    1s, as consumers see results when their epoch ends."""


class Audit(Section):
    """A record of every entity's state after each epoch, for whoever must show what was known when."""

    directory: Path | None = None
    """Folder of the records, a file a shard; null: none. Needs a recovery.directory."""


SHORTEST_TOKEN = 16
LOOPBACK = ("127.", "localhost:", "[::1]:")


def _token(token: SecretStr) -> SecretStr:
    if len(token.get_secret_value()) < SHORTEST_TOKEN:
        raise ValueError(f"a token has at least {SHORTEST_TOKEN} characters")
    return token


class Ops(Section):
    """What the process tells of itself: health and metrics over HTTP, and a line in the log now and then."""

    address: Annotated[str, Field(pattern=r"^(\[[0-9a-fA-F:.]+\]|[^\s:\[\]]+):\d{1,5}$")] | None = "127.0.0.1:9464"
    """`host:port` of `/healthz`, `/readyz`, `/metrics` and `/config`, without encryption or login; null: none. In a
    cluster, process N listens on port + N."""
    engine_metrics: bool = False
    """Bytewax's own metrics on `/metrics` too. Its server, which they come from, listens on all interfaces."""
    self_check: bool = True
    """After the start, once, compare the compiled kernel with its definition, in a process of low priority."""
    log_every: Duration | None = 60.0
    """Time between lines in the log that say how far the flow is; null: none."""
    traces: Annotated[str, Field(pattern=r"^https?://\S+$")] | None = None
    """Where OpenTelemetry traces go, by OTLP over HTTP, such as `http://localhost:4318/v1/traces`; null: nowhere. Needs
    the extra `otel`."""
    traces_share: Annotated[float, Field(gt=0, le=1)] = 0.01
    """Share of the batches that are traced."""
    ui: bool = False
    """Serve the live page at `/ui/` of `address`, as `run --ui` does."""
    token: Annotated[SecretStr, AfterValidator(_token)] | None = None
    """Who asks for the metrics or the configuration (`Authorization: Bearer TOKEN`), or opens the page, has to show
    this: 16 characters or more, only as `${NAME}` or `${file:/path}`. Health is open. Null: none; but for the page, no
    token on loopback; elsewhere one is made at each start, and logged."""

    @model_validator(mode="after")
    def _usable(self) -> Ops:
        if self.address is not None and not 1 <= int(self.address.rpartition(":")[2]) <= 65535:
            raise ValueError(f"address: found {self.address!r}; a port is a number from 1 to 65535")
        if self.ui and self.address is None:
            raise ValueError("ui: true needs an `address` to be served at; found null")
        return self

    @property
    def open_to_others(self) -> bool:
        """Whether other machines may reach the address."""
        return self.address is not None and not self.address.startswith(LOOPBACK)


class Config(Section):
    """The whole file. `source` and `event` are needed; the rest has defaults."""

    delivery: Literal["at_least_once", "exactly_once"] = "at_least_once"
    """After a crash, some messages may stand twice on the output topics, with the same id (`at_least_once`); or none
    does, for consumers with `isolation.level: read_committed` (`exactly_once`)."""
    source: Source
    event: Event
    model: Model = Model()
    labels: Labels | None = None
    alerts: Alerts = Alerts()
    sinks: Sinks = Sinks()
    state: State = State()
    recovery: Recovery = Recovery()
    audit: Audit = Audit()
    ops: Ops = Ops()
    _renamed: tuple[str, ...] = PrivateAttr(())

    @property
    def deprecations(self) -> tuple[str, ...]:
        """What its file has that the next minor version will refuse, in words."""
        return self._renamed

    @model_validator(mode="after")
    def _topics(self) -> Config:
        named = [self.source.topic, self.sinks.predictions, self.sinks.alerts, self.sinks.dead_letters]
        named += [self.labels.topic] if self.labels else []
        named += [self.alerts.feedback.topic] if self.alerts.feedback else []
        topics = [t for t in named if t is not None]
        if len(set(topics)) != len(topics):
            raise ValueError(f"sinks: the topics {topics} must all differ, the source's included")
        if self.labels and (self.model.horizon.events or self.model.horizon.seconds):
            raise ValueError(
                f"model.horizon: found {self.model.horizon.text!r} beside `labels`; a horizon needs targets that come "
                "with the events: leave one of the two out"
            )
        if self.delivery == "exactly_once" and self.recovery.directory is None:
            raise ValueError(
                "delivery: found 'exactly_once' with recovery.directory: null; what was delivered belongs to a state: "
                "name a recovery.directory"
            )
        if self.audit.directory is not None and self.recovery.directory is None:
            raise ValueError(
                f"audit.directory: found {str(self.audit.directory)!r} with recovery.directory: null; an audit is of "
                "the states that are kept: name a recovery.directory"
            )
        if self.labels and len(self.event.targets) > 1:
            raise ValueError(
                f"event.target: found {len(self.event.targets)} targets beside `labels`; labels bring one target: run "
                "one flow per target, each with its own `labels` and recovery.directory, or leave `labels` out"
            )
        return self

    @property
    def epoch_interval(self) -> float:
        """Time between snapshots, s."""
        return self.recovery.epoch_interval or (1.0 if self.delivery == "exactly_once" else 10.0)

    @property
    def writers(self) -> int:
        """Producers: a shard has one, so that more than shards would only stand idle."""
        return min(self.sinks.writers, self.state.shards)

    def for_target(self, target: str) -> Config:
        """The configuration of one of the targets alone: with several, it has its share of the alarm budgets."""
        m = len(self.event.targets)
        if m == 1:
            return self
        alerts = self.alerts
        anomaly = alerts.anomaly.model_copy(update={"budget": alerts.anomaly.budget.shared(m)})
        drift = alerts.drift.model_copy(update={"budget": alerts.drift.budget.shared(m)})
        # Made anew, not copied: a copy would keep the hash.
        return Config(
            **{name: getattr(self, name) for name in type(self).model_fields if name not in ("event", "alerts")},
            event=self.event.model_copy(update={"target": target}),
            alerts=alerts.model_copy(update={"anomaly": anomaly, "drift": drift}),
        )

    def shown(self) -> dict[str, Any]:
        """All settings as JSON has them, for whoever looks: of Kafka properties the names only, as values may be
        secrets."""
        content = self.model_dump(mode="json")
        content["source"]["kafka"] = sorted(self.source.kafka)
        content["sinks"]["kafka"] = sorted(self.sinks.kafka)
        return content

    @functools.cached_property
    def deciding(self) -> dict[str, Any]:
        """All settings that decide what the numbers are (not where events come from or go to), as JSON has them.

        Of a file of weights the content counts, not the name.

        Raises:
            WeightsError: the file of weights cannot be read.
        """
        deciding = self.model_dump(mode="json", include={"event", "model", "alerts", "state", "labels"})
        del deciding["alerts"]["feedback"]
        if self.labels is None:
            del deciding["labels"]
        if not self.event.feature_lags:
            del deciding["event"]["feature_lags"]  # states from before this setting keep their hash
        # Limits may be changed while the state lives: who was let in is told the same.
        for section, limits in (
            ("event", ["entity_default", "framed", "max_bytes"]),
            ("state", ["max_entities", "when_full"]),
        ):
            for name in limits:
                del deciding[section][name]
        deciding["model"]["weights"] = weights.content_digest(self.model.weights)
        return deciding

    @functools.cached_property
    def hash(self) -> str:
        """12 hex digits over `deciding`. Raises as that."""
        return hashlib.sha256(orjson.dumps(self.deciding, option=orjson.OPT_SORT_KEYS)).hexdigest()[:12]


def load_config(path: str | Path) -> Config:
    """Read, fill in and check a YAML file.

    Raises:
        ConfigError: no such file, not YAML, a placeholder without a value, an unknown key, or a wrong value.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    return parse_config(text, str(path))


def parse_config(text: str, name: str = "config") -> Config:
    """`load_config` on the file's text; `name` stands in the messages.

    Raises:
        ConfigError: as `load_config`.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is None:
            raise ConfigError(f"{name}: the file is empty; the least it needs is a `source` and an `event` section")
        _refuse_odd_keys(root, name, ())
        raw = _load(text, name)
    except yaml.YAMLError as error:
        # Its own text quotes the line, which may hold what nobody is to see.
        raise ConfigError(f"{name}: not valid YAML: {_yaml_fault(error, text)}") from None
    except RecursionError:
        raise ConfigError(f"{name}: nested too deeply; sections are at most three levels deep") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{name}: found {type(raw).__name__} at the top; write sections such as `source:`")
    _refuse_literal_secrets(raw, name, root)
    read: list[str] = []
    raw, renamed = deprecated.renew(_fill(raw, name, root, (), read))
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(_without(read, _explain(error, name, root))) from None  # the cause would show the values
    if told := _kafka_faults(config, name, root):
        raise ConfigError(_without(read, told))
    try:
        weights.load(config.model.weights)
    except weights.WeightsError as error:
        where = f"{_place(name, root, ('model', 'weights'))}: model.weights"
        raise ConfigError(f"{where}: {error}") from error
    config._renamed = tuple(renamed)
    return config


def _yaml_fault(error: yaml.YAMLError, text: str) -> str:
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return str(error).partition("\n")[0]
    line, column = error.problem_mark.line, error.problem_mark.column
    said = f"{error.context}, {error.problem}" if error.context else str(error.problem)
    lines = text.splitlines()
    if line < len(lines) and properties.SECRET.search(lines[line]):
        said = re.sub(r"'[^']*'|\"[^\"]*\"", properties.HIDDEN, said)
    return f"line {line + 1}, column {column + 1}: {said}"


def _properties_in(raw: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Path → the properties of a client that stand there."""
    for path in (("source", "kafka"), ("sinks", "kafka"), ("sinks", "schema_registry", "properties")):
        inside = raw
        for key in path:
            inside = inside.get(key) if isinstance(inside, dict) else None
        if inside is not None:
            yield path, inside


def _written_secrets(raw: dict[Any, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Path of a secret → what stands there."""
    for place, given in _properties_in(raw):
        for key, value in given.items() if isinstance(given, dict) else ():
            if properties.secret(str(key)):
                yield (*place, str(key)), value
    ops = raw.get("ops")
    if isinstance(ops, dict):
        yield ("ops", "token"), ops.get("token")


def _refuse_literal_secrets(raw: dict[Any, Any], name: str, root: yaml.Node) -> None:
    """A file is copied, committed and shown around: a secret may only be named in it."""
    for path, value in _written_secrets(raw):
        # What a placeholder has as a default stands in the file, too.
        written = PLACEHOLDER.sub(lambda found: found[3] or "", value) if isinstance(value, str) else value
        if written not in ("", None):
            raise ConfigError(
                f"{_place(name, root, path)}: {_dotted(path)}: a secret may not stand in the file; write "
                "${NAME}, from the environment, or ${file:/path}, from a file"
            )


def _without(contents: list[str], text: str) -> str:
    """Text that shows nothing of what came from files."""
    for content in contents:
        text = text.replace(content, properties.HIDDEN).replace(repr(content)[1:-1], properties.HIDDEN)
    return text


def _kafka_faults(config: Config, name: str, root: yaml.Node) -> str:
    """What is wrong with the properties of the clients, all at once; empty where nothing is."""
    exact, lines = config.delivery == "exactly_once", list[str]()
    common, of_producers = config.source.kafka, config.sinks.kafka
    for section, together in (("source", common), ("sinks", {**common, **of_producers})):
        if section == "sinks" and (lines or not of_producers):
            break
        for key, told in properties.faults(together, exactly_once=exact):
            home = section if section == "source" or key in of_producers else "source"
            path = (home, "kafka", key)
            lines.append(f"{_place(name, root, path)}: {_dotted(path)}: {told}")
    return "\n".join(dict.fromkeys(lines))


def _load(text: str, name: str) -> Any:
    try:
        return yaml.safe_load(text)
    except ValueError as error:  # PyYAML does not wrap what it cannot make, such as the date 2026-13-01
        raise ConfigError(f"{name}: a value cannot be read: {error}; put it in quotes") from error


def _refuse_odd_keys(node: yaml.Node, name: str, above: tuple[yaml.Node, ...]) -> None:
    """Keys that stand twice, keys that are no text, and aliases that hold themselves."""
    where = f"{name}:{node.start_mark.line + 1}"
    if any(node is one for one in above):
        raise ConfigError(f"{where}: an alias (*) refers to what it stands in; write the value out")
    above = (*above, node)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            line = f"{name}:{key.start_mark.line + 1}"
            if not isinstance(key, yaml.ScalarNode):
                raise ConfigError(f"{line}: a key must be text, not a list or a mapping")
            if key.value in seen:
                raise ConfigError(f"{line}: the key `{key.value}` stands twice; keep one")
            seen.add(key.value)
            _refuse_odd_keys(value, name, above)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_odd_keys(value, name, above)


def _fill(value: Any, name: str, root: yaml.Node, path: tuple[str | int, ...], read: list[str]) -> Any:
    """Placeholders are filled in values after parsing, so that what a variable holds cannot change the structure.

    read: gets the contents of the files, which no message may show
    """
    if isinstance(value, dict):
        return {str(k): _fill(v, name, root, (*path, str(k)), read) for k, v in value.items()}
    if isinstance(value, list):
        return [_fill(v, name, root, (*path, i), read) for i, v in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replace(found: re.Match[str]) -> str:
        where = f"{_place(name, root, path)}: {_dotted(path)}"
        if found[2] is None:
            read.append(_content(found[1], where))
            return read[-1]
        content = os.environ.get(found[2]) or found[3]
        if content is None:
            cure = f"export it, or write ${{{found[2]}:-default}}"
            if properties.secret(str(path[-1])):
                cure = "export it, or write ${file:/path}"
            raise ConfigError(f"{where}: the environment variable {found[2]} is not set; {cure}")
        return content

    return PLACEHOLDER.sub(replace, value)


def _content(file: str, where: str) -> str:
    """Text of the file that stands for a value.

    Raises:
        ConfigError: it is none, or cannot be read.
    """
    path, fault = Path(file), ""
    try:
        if not path.is_absolute():
            fault = "write the whole path, from /"
        elif not path.exists():
            fault = "there is no such file"
        elif not path.is_file():
            fault = "this is no file"  # reading a pipe might never end
        else:
            with path.open("rb") as opened:
                content = opened.read(LARGEST_FILE + 1)
            if len(content) > LARGEST_FILE:
                fault = f"the file has more than {LARGEST_FILE} bytes; it is to hold one value"
            elif not (text := content.decode().rstrip("\r\n")):
                fault = "the file is empty"
            elif "\0" in text:
                fault = "the file has a zero byte in it; it is to hold text"
    except OSError as error:
        fault = f"the file cannot be read: {error.strerror or error}"
    except UnicodeDecodeError:
        fault = "the file is no UTF-8 text"
    except ValueError as error:
        fault = f"this is no path: {error}"
    if fault:
        raise ConfigError(f"{where}: ${{file:{file}}}: {fault}")
    return text


def _dotted(path: tuple[str | int, ...]) -> str:
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).lstrip(".") or "(top)"


def _place(name: str, root: yaml.Node, path: tuple[str | int, ...]) -> str:
    """`file:line` of the deepest node on the path that the file has."""
    node, line = root, root.start_mark.line
    for part in path:
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if found is None:
                break
            line, node = found[0].start_mark.line, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line
        else:
            break
    return f"{name}:{line + 1}"


def _keys_of(path: tuple[str | int, ...]) -> list[str]:
    """The keys that the section at `path` knows."""
    section: Any = Config
    for part in path:
        field = section.model_fields.get(str(part)) if _is_section(section) else None
        if field is None:
            return []
        options = [field.annotation, *typing.get_args(field.annotation)]
        section = next((o for o in options if _is_section(o)), None)
    return sorted(section.model_fields) if _is_section(section) else []


def _is_section(kind: object) -> bool:
    return isinstance(kind, type) and not isinstance(kind, types.GenericAlias) and issubclass(kind, Section)


def _is_kind(part: str | int) -> bool:
    """Whether a part of an error's place is pydantic's name of a validator or an alternative, and no key."""
    return isinstance(part, str) and part.startswith(("function-", "constrained-", "literal[", "list["))


def _explain(error: ValidationError, name: str, root: yaml.Node) -> str:
    lines = []
    for item in error.errors():
        loc = item["loc"]
        # An unknown key comes last, and may itself look like one of pydantic's own parts.
        key = len(loc) - 1 if item["type"] == "extra_forbidden" else None
        path = tuple(part for i, part in enumerate(loc) if i == key or not _is_kind(part))
        where = f"{_place(name, root, path)}: {_dotted(path)}"
        if item["type"] == "extra_forbidden":
            known = _keys_of(path[:-1])
            near = difflib.get_close_matches(str(path[-1]), known, n=1, cutoff=0.5)
            cure = f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(known)}"
            lines.append(f"{where}: unknown key; {cure}")
        elif item["type"] == "missing":
            lines.append(f"{where}: missing; it has no default")
        else:
            text = item["msg"].removeprefix("Value error, ")
            secret = {"kafka", "properties", "token"}.intersection(path)
            shown = not isinstance(item["input"], dict) and not secret
            found = f" (found {item['input']!r})" if shown and "found" not in text else ""
            lines.append(f"{where}: {text}{found}")
    return "\n".join(dict.fromkeys(lines))


def config_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the file."""
    schema = Config.model_json_schema(mode="validation")
    for part in schema["$defs"].values():
        for field in part["properties"].values():
            if isinstance(default := field.get("default"), dict) and "text" in default:
                field["default"] = default["text"]  # as the file has it: pydantic shows what it was read into
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "ssm-stream configuration", **schema}
