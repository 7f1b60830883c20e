"""The section `alerts`: when to call a person."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from ssm_stream.config.quantities import Budget, BudgetSetting, Duration, Lasting, LastingSetting, format_duration
from ssm_stream.config.sections.base import Path, Section, Topic
from ssm_stream.config.sections.conditions import EntityPattern, Test, value_text
from ssm_stream.config.sections.maintenance import Control, Maintenance
from ssm_stream.config.sections.own_parts import BUILT_IN, require_part

LIMIT, SILENCE, STUCK = "limit", "silence", "stuck"
"""Kinds of the alerts of fixed limits, of what stops coming, and of signals that repeat one value."""
Learning = Literal["adapt", "slow", "hold"]
AbsorbAfter = Annotated[int, Field(ge=20, le=1000)] | None


def _channel(value: str) -> str:
    if value == "shape":
        raise ValueError("found 'shape', which is a part of `novelty`; choose `novelty`")
    if value not in BUILT_IN["channel"]:
        require_part("channel", value)
    return value


class Anomaly(Section):
    """Alerts on single events that do not fit."""

    enabled: bool = True
    budget: BudgetSetting = Budget(text="1 per 10000 events", events=10_000)
    """False alarms allowed per entity: `1 per 10000 events`, or `1 per 30d` of event time."""
    channels: list[Annotated[str, AfterValidator(_channel)]] = ["residual", "novelty", "levels"]
    """What is tested; the budget is shared among them. `residual`: a target far from its prediction; `novelty`: a
    target unlike all earlier ones of the entity, or those at this hour of the week, and, where the target has a
    period, a cycle of another shape (`shape`); `levels`: features and target whose means have moved, where there are
    features; or the name of an own part that is installed."""
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
    absorb_after: AbsorbAfter = None
    """Events after which an episode ends as absorbed: what has lasted so long is the new normal. Null: a third of the
    budget's events, at least 100 and at most 1,000."""
    learn: Learning = "adapt"
    """What an open episode does to learning: `adapt`, nothing; `slow`, one event in eight is learned; `hold`, none is.
    A hold begins at an entity's 4,000th event at the earliest, lasts 500 events at most, and with `lags` no longer
    than until it has cost as much as 500 usual errors."""


class Drift(Section):
    """Alerts on a changed relation between inputs and target."""

    enabled: bool = True
    budget: BudgetSetting = Budget(text="1 per 10000 events", events=10_000)
    """False alarms allowed per entity: `1 per 10000 events`, or `1 per 30d` of event time."""
    cooldown: Annotated[int, Field(ge=0, le=1_000_000)] = 100
    """Events after an episode's end in which no new one of this kind starts."""
    absorb_after: AbsorbAfter = None
    """Events after which an episode ends as absorbed, as for anomalies."""
    learn: Learning = "adapt"
    """What an open episode does to learning: `adapt`, nothing; `slow`, one event in eight is learned; `hold`, none is,
    within the bounds that anomalies have: the model stays at the relation from before the change."""


class FleetAlerts(Section):
    """One alert for an event that affects many entities. Only where they learn together (`model.fleet`)."""

    enabled: bool = True
    share: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Share of a pool's labelled entities that must have an open episode of a kind at the same time …"""
    min_entities: Annotated[int, Field(ge=2, le=1_000_000)] = 3
    """… and the smallest number of them."""
    wait: Annotated[int, Field(ge=0, le=1000)] = 1
    """Events of each entity, in the mean over the pool, by which an entity's `started` waits for others, so that one
    cause is one alert from the first entity on; it does not wait where the pool has too few entities. 0: not at all."""


class Silence(Section):
    """Alerts on entities that stop coming, and on columns of them that stop having a value."""

    after: Literal["auto"] | Duration = "auto"
    """`auto`: a gap far longer than the entity's gaps so far, by the budget of `anomaly`; or a time such as `10m`, the
    same for all. Time is that of the other entities' events on the same partition: where none comes, none passes."""
    columns: bool = True
    """Columns, too: one without a value for many more events than usual."""


class Feedback(Section):
    """Operators' verdicts on alerts: `{"id": ALERT_ID, "true": true}`, or false. They are counted, nothing else
    changes."""

    topic: Topic
    """Topic of the feedback; key it by `id`, so that the last verdict on an alert counts."""


class TeamBudget(Section):
    """False alarms that a team accepts from the whole deployment, in place of the `budget` of `anomaly` and `drift`.
    Both kinds and all entities (and targets) get equal shares of it, in event time."""

    alerts: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """False alarms …"""
    per: Duration
    """… in so much event time, …"""
    entities: Annotated[int, Field(ge=1, le=1_000_000_000)]
    """… of so many entities. A fixed number: with the number of those that live, an entity's alerts would depend on
    which others there are."""

    @property
    def text(self) -> str:
        """`20 per 7d for 250 entities`."""
        return f"{self.alerts:.15g} per {format_duration(self.per)} for {self.entities} entities"

    def share(self, kinds: int) -> Budget:
        """Return the budget of one entity and kind (Bonferroni: all together keep the whole under any dependence)."""
        return Budget(text=self.text, seconds=self.per * self.entities * kinds / self.alerts)

    def scaled(self, factor: float) -> TeamBudget:
        """Return the budget that allows `factor` times as many false alarms."""
        return self.model_copy(update={"alerts": self.alerts * factor})


class Limit(Test):
    """A fixed limit on a column: an alert from the first event on, whatever the model expects. It begins when the
    value has been beyond the limit for long enough, and ends when it no longer is; it has no budget."""

    column: Path
    """Path of the value. An event in which it is missing or null changes nothing."""
    lasts: Annotated[LastingSetting, Field(alias="for")] = Lasting(text="1 event")
    """How long it must last before the alert starts: `3 events` of the entity in a row, or `5m` of event time."""
    entities: EntityPattern = "*"
    """Entities that it holds for: a name, or a pattern such as `pump-*`."""
    severity: Literal["warning", "critical"] = "critical"
    """Of its alerts."""

    @property
    def text(self) -> str:
        """`temp above 90`: names the limit in messages."""
        parts = [f"{word} {bound:.15g}" for word, bound in self.bounds.items()]
        if self.one_of is not None:
            parts.insert(0, " or ".join(map(value_text, self.one_of)))
        return f"{self.column} {' and '.join(parts)}"

    @model_serializer
    def _as_written(self) -> dict[str, Any]:
        own = {"column": self.column, "for": self.lasts.text, "entities": self.entities, "severity": self.severity}
        return self._tests() | own


def _switch(value: object) -> object:
    return {} if value is True else None if value is False else value


def _stuck(value: object) -> object:
    if isinstance(value, dict) and value:
        raise ValueError(f"found {value}; write true or false, or a list of columns: it has no settings")
    return True if value == {} else False if value == [] else value


def _feedback(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError(f"found {str(value).lower()}; write {{topic: NAME}}, the topic of the verdicts, or null")
    return value


class Alerts(Section):
    """When to call a person."""

    # Not settings: an open episode is reported again (`ongoing`) after so many events of its entity, the score from
    # which the severity is `critical`, and the features that an alert names at most.
    ongoing_every: ClassVar[int] = 500
    critical: ClassVar[float] = 3.0
    contributions: ClassVar[int] = 5

    budget: TeamBudget | None = None
    """Null: `anomaly` and `drift` each have a budget for an entity."""
    shadow: bool = False
    """Withhold all alerts: they go to `sinks.suppressed`, with `suppressed_by: shadow`, and none to `sinks.alerts`. For
    a trial that calls nobody. An episode goes on where it began: one that began in the shadow ends there, one that was
    sent before still gets its `recovered`."""
    anomaly: Anomaly = Anomaly()
    drift: Drift = Drift()
    fleet: FleetAlerts = FleetAlerts()
    limits: list[Limit] = []
    """Fixed limits in addition to the model: a column, and the values that are beyond the limit."""
    silence: Silence | None = None
    """Null: none."""
    stuck: Annotated[bool | list[Path], BeforeValidator(_stuck)] = False
    """Alert on a signal that repeats one value for many more events than it ever did, by the budget of `anomaly`: on
    every input and target, or on those of a list, such as `[temp, flow]`."""
    maintenance: list[Maintenance] = []
    """Planned stops: windows of time in which alerts are not raised, but kept as suppressed."""
    control: Annotated[Control | None, BeforeValidator(_switch, json_schema_input_type=Control | bool | None)] = None
    """Null or false: no such topic is read. Only `ssm-stream run` reads it."""
    feedback: Annotated[Feedback | None, BeforeValidator(_feedback, json_schema_input_type=Feedback | None)] = None
    """Null: none is read."""
    language: Literal["en", "ja"] = "en"
    """Language of `summary`, the alert as a sentence: English or Japanese. Its times are in `event.time_zone`."""

    @property
    def has_stops(self) -> bool:
        """Whether there may be planned stops."""
        return bool(self.maintenance) or self.control is not None

    def with_team_budget(self, budget: TeamBudget) -> Alerts:
        """Return the section with another budget in place of the team's."""
        return Alerts.model_validate({**self.model_dump(), "budget": budget})

    @model_validator(mode="after")
    def _distinct_limits(self) -> Alerts:
        seen = dict[tuple[str, str], int]()
        for i, limit in enumerate(self.limits):
            if (first := seen.setdefault((limit.text, limit.entities), i)) != i:
                raise ValueError(f"limits: found {limit.text!r} twice, as entries {first + 1} and {i + 1}; keep one")
        return self

    @model_validator(mode="after")
    def _share_budget(self) -> Alerts:
        """Give both kinds their shares of the team's budget, as their own budgets."""
        if self.budget is None:
            return self
        kinds: dict[str, Anomaly | Drift] = {"anomaly": self.anomaly, "drift": self.drift}
        share = self.budget.share(max(sum(section.enabled for section in kinds.values()), 1))
        for name, section in kinds.items():
            if section.budget.text == share.text:
                continue  # it has its share already: a section is validated again with each new configuration
            if "budget" in section.model_fields_set:
                raise ValueError(
                    f"budget: found together with {name}.budget ({section.budget.text!r}); the budget of the team "
                    f"({share.text}) replaces those of both kinds: leave alerts.budget or alerts.{name}.budget out"
                )
            # Sections are frozen for their users.
            object.__setattr__(self, name, section.model_copy(update={"budget": share}))
        return self

    @model_serializer(mode="wrap")
    def _without_shares(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Return the section as the file has it: the budgets of the kinds follow from the team's."""
        content: dict[str, Any] = serialize(self)
        if self.budget is not None:
            for name in ("anomaly", "drift"):
                if isinstance(content.get(name), dict):
                    content[name].pop("budget", None)
        return content
