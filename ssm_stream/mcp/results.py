"""The answers of the tools."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field


class Answer(BaseModel):
    """An answer. as_of: time of the last event that came; notes: what limits the answer"""

    as_of: str | None = Field(default=None, description="Time of the last event that the view has, ISO 8601")
    notes: list[str] = Field(default=[], description="What limits this answer; read them before you rely on it")


class Page(Answer):
    """A part of a longer list."""

    total: int = Field(description="Number of matches")
    offset: int = 0
    next_offset: int | None = Field(
        default=None, description="Pass it as `offset` for the next page; null: this is the last"
    )


class Prediction(BaseModel):
    """The last prediction of one target of an entity."""

    entity: str
    target: str | None = Field(default=None, description="Only with several targets")
    time: str
    y: float | None = Field(description="The measured value; null: the event had none")
    yhat: float | None = Field(description="The prediction, made before y was used")
    yhat_lower: float | None
    yhat_upper: float | None
    anomaly_score: float | None = Field(description="Above 1 is anomalous; 0 while warming up")
    warmup: bool = Field(description="Too few events so far for alerts")
    labelled_events: int | None = Field(default=None, description="Events with a measured value before this one")
    fleet_share: float | None = Field(default=None, description="Share of the prediction learned from other entities")
    in_planned_stop: bool = False
    idle: bool = False
    id: str | None = None


class AlertLine(BaseModel):
    """An alert episode in short."""

    id: str = Field(description="Of its `started`; pass it to get_alert")
    entity: str = Field(description="`*`: many entities at once")
    kind: str
    severity: str | None
    open: bool = Field(description="Whether it goes on")
    since: str
    last_report: str
    ended_by: str | None = None
    score: float | None = Field(default=None, description="The highest so far; above 1 is beyond the budget")
    summary: str | None = None
    entities: int | None = Field(default=None, description="Of a fleet alert: entities whose episode is open")
    suppressed_by: str | None = Field(default=None, description="Not null: withheld from the alerts topic, and why")
    verdict: bool | None = Field(default=None, description="An operator called it true or false")
    acknowledged_by: str | None = None


class EntityLine(BaseModel):
    """An entity in short. Its values are of the target with the highest score."""

    entity: str
    time: str
    target: str | None = None
    y: float | None
    yhat: float | None
    anomaly_score: float | None
    warmup: bool
    seconds_since_last_event: float = Field(description="By the clock of the flow")
    open_alerts: list[str] = Field(default=[], description="Kinds of its open alerts, without those that are withheld")


class Entities(Page):
    """Entities, a page of them."""

    entities: list[EntityLine]


class Alerts(Page):
    """Alert episodes, a page of them."""

    alerts: list[AlertLine]


class PredictionList(Answer):
    """The last predictions of some entities."""

    predictions: list[Prediction]
    unknown: list[str] = Field(default=[], description="Names without a prediction in the view")


class RecentPredictions(BaseModel):
    """The last predictions of one target: columns of equal length, oldest first."""

    target: str | None
    columns: dict[str, list[Any]]
    mean_absolute_error: float | None
    share_inside_interval: float | None


class EntityDetails(Answer):
    """All about one entity."""

    entity: str
    known: bool
    similar_names: list[str] = Field(default=[], description="Where it is not known")
    predictions: list[Prediction] = []
    recent: list[RecentPredictions] = []
    open_alerts: list[AlertLine] = []
    past_alerts: list[AlertLine] = Field(default=[], description="The latest first, ten at most")
    limits: list[str] = Field(default=[], description="Fixed limits that hold for it")
    planned_stops: list[dict[str, Any]] = []


class AlertDetails(Answer):
    """One alert episode with its evidence."""

    alert: AlertLine
    explanation: list[str] = Field(description="Why it was raised, in sentences")
    message: dict[str, Any] = Field(description="Its last message that has an explanation, as on the topic")
    at_the_same_time: list[AlertLine] = Field(description="Episodes that overlap with it, those nearest in begin first")
    reproduce: str = Field(description="Command that makes the alert again from the events, to the bit")


class LiveExplanation(Answer):
    """Why an entity is predicted so, by the newest event that its process has explained."""

    entity: str
    explanation: list[str] = Field(description="In sentences; empty: see the notes")
    parts: dict[str, Any] = Field(description="yhat = base + constant + contributions + rest")


class Count(BaseModel):
    """Alerts of one group."""

    group: str
    alerts: int
    open: int
    critical: int
    called_true: int
    called_false: int


class AlertCounts(Answer):
    """Alerts by group, the largest group first."""

    since: str | None
    by: str
    alerts: int
    groups: list[Count]
    groups_left_out: int = 0


class TopicState(BaseModel):
    """How far a topic is read."""

    topic: str
    loaded: bool
    messages_read: int
    last_message_at: str | None
    messages_left_out: int = Field(description="As more came than could be read")
    error: str | None


class Overview(Answer):
    """The flow at a glance."""

    events_topic: str
    targets: list[str]
    release: str
    config_hash: str | None
    clock: str = Field(description="Time of the flow: the wall clock, or of the last event of a recording")
    entities: int
    entities_in_warmup: int
    entities_above_1: int = Field(description="Whose last anomaly score is above 1")
    open_alerts: int
    open_alerts_by_kind: dict[str, int]
    open_critical: int
    worst: list[EntityLine] = Field(description="The five with the highest last scores")
    newest_alerts: list[AlertLine]
    topics: list[TopicState]
    files: bool = Field(description="Whether validate, init, backtest and tune may be used")


class Stops(Answer):
    """Planned stops."""

    announced: list[dict[str, Any]] = Field(description="Those that are not over, by their begin")
    in_the_file: list[dict[str, Any]]


class ProcessHealth(BaseModel):
    """One running process."""

    url: str
    reachable: bool
    ready: bool | None = None
    details: dict[str, Any] = {}
    error: str | None = None


class Health(Answer):
    """The running processes."""

    processes: list[ProcessHealth]


class Metric(BaseModel):
    """One metric of one process."""

    url: str
    name: str
    kind: str
    help: str
    samples: list[dict[str, Any]]


class Metrics(Page):
    """Metrics, a page of them."""

    metrics: list[Metric]
    errors: list[str] = []


class Configuration(Answer):
    """The configuration that the flow runs with, without secrets."""

    config_hash: str | None
    settings: dict[str, Any]
    warnings: list[str]


class Section(BaseModel):
    """A section of the documentation."""

    page: str
    heading: str
    excerpt: str


class Sections(Answer):
    """Sections that match a search, the best first."""

    sections: list[Section]


class DocumentPart(Answer):
    """A part of a page of the documentation."""

    page: str
    text: str
    offset: int
    next_offset: int | None
    headings: list[str]


class FileList(Page):
    """Files that the tools may read."""

    files: list[dict[str, Any]]


class Validation(Answer):
    """What is wrong with a configuration file."""

    valid: bool
    errors: list[str]
    warnings: list[str] = []
    config_hash: str | None = None
    settings: dict[str, Any] = Field(default={}, description="All settings, defaults filled in, without secrets")
    state: dict[str, Any] | None = Field(default=None, description="What the change means for the state that exists")


class CommandResult(Answer):
    """What a command of ssm-stream printed."""

    command: str
    exit_code: int
    seconds: float
    result: dict[str, Any] = Field(description="Its JSON; long lists are cut, with a note in their place")
    messages: list[str]
    file: str | None = Field(default=None, description="The file that it would write; nothing is written")
