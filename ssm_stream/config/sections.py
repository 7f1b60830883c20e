"""The sections of the file as pydantic models: the one place where a setting is named, typed, bounded and explained."""

from __future__ import annotations

import zoneinfo
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    model_validator,
)

from ssm_stream.config.quantities import MOST_PENDING, Ahead, AlarmBudget, Budget, Duration, HalfLife, Horizon


class ConfigError(ValueError):
    """The configuration cannot be used. The text is meant for the person who wrote the file."""


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
        selected_later = self.features == "auto"
        columns = self.categories if selected_later else self.columns
        if not selected_later and not columns and not self.lags and not self.calendar:
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
            ConfigError: `auto`, and `autoconfig.feature_selection` has not filled them in yet.
        """
        if self.features == "auto":
            raise ConfigError(
                "event.features: found auto, and none are selected yet; select them from the first events, or list "
                "the paths"
            )
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
