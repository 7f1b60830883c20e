"""The file as a whole: the conditions between its sections, and the settings that a model state depends on."""

from __future__ import annotations

import functools
import hashlib
from typing import Any, Literal
from zoneinfo import ZoneInfo

import orjson
from pydantic import model_validator

from ssm_stream.config.descriptions import describe
from ssm_stream.config.group_assignment import with_group
from ssm_stream.config.row_columns import check_row_columns
from ssm_stream.config.sections import (
    Alerts,
    Audit,
    Event,
    Labels,
    Model,
    Notify,
    Ops,
    Recovery,
    Registry,
    Section,
    Sinks,
    Source,
    State,
)
from ssm_stream.config.sections.event import READING_SETTINGS
from ssm_stream.config.sections.maintenance import as_time
from ssm_stream.config.sections.model import Embedding
from ssm_stream.config.sections.registry import OF_REGISTRY
from ssm_stream.core import frozen_weights


class Config(Section):
    """The whole file. `source` and `event` are needed; the rest has defaults."""

    delivery: Literal["at_least_once", "exactly_once"] = "at_least_once"
    """After a crash, some messages may be on the output topics twice, with the same id (`at_least_once`), or none is,
    for consumers with `isolation.level: read_committed` (`exactly_once`)."""
    source: Source
    event: Event
    model: Model = Model()
    labels: Labels | None = None
    alerts: Alerts = Alerts()
    sinks: Sinks = Sinks()
    schema_registry: Registry | None = None
    """Null: JSON without the ids of schemas. Needs the extra `registry`."""
    state: State = State()
    recovery: Recovery = Recovery()
    audit: Audit = Audit()
    ops: Ops = Ops()
    notify: Notify | None = None

    @model_validator(mode="after")
    def _topics(self) -> Config:
        topics = [*self.source.names, *self.sinks.topics]
        topics += [self.source.repartition] if self.source.repartition else []
        topics += [self.labels.topic] if self.labels and self.labels.topic else []
        topics += [self.alerts.feedback.topic] if self.alerts.feedback else []
        topics += [self.control_topic] if self.control_topic else []
        topics += [each.topic for each in self.source.context]
        if len(set(topics)) != len(topics):
            raise ValueError(f"sinks: the topics {topics} must all differ, the source's included")
        if self.labels and (self.model.horizon.events or self.model.horizon.seconds):
            raise ValueError(
                f"model.horizon: found {self.model.horizon.text!r} with `labels`; a horizon needs targets that "
                "come with the events: leave one of the two out"
            )
        if self.source.repartition and self.event.features == "auto":
            raise ValueError(
                "source.repartition: found with event.features: auto, which reads the topic before anything is copied "
                "there; list the features"
            )
        grouped = self.source.assignment == "group"
        if grouped:
            with_group(self)
        elif self.state.store is not None:
            raise ValueError("state.store: found without source.assignment: group; the state is in recovery.directory")
        if self.delivery == "exactly_once" and self.recovery.directory is None and not grouped:
            raise ValueError(
                "delivery: found 'exactly_once' with recovery.directory: null; the positions that were delivered "
                "are kept with the state: name a recovery.directory"
            )
        if self.audit.directory is not None and self.recovery.directory is None and self.state.store is None:
            raise ValueError(
                f"audit.directory: found {str(self.audit.directory)!r} with recovery.directory: null; an audit "
                "records the saved states: name a recovery.directory"
            )
        if self.labels and self.event.makes_rows:
            cure = "where the target is a signal like any other; leave labels out, and send its values as readings"
            raise ValueError(
                f"labels: found with event.layout: readings, {cure}"
                if self.event.aggregate is None
                else "labels: found with event.aggregate, whose target is a column of the window; leave labels out"
            )
        leaks = [name for name, each in self.event.derive.items() if each.uses(self.event.targets)]
        if self.labels and leaks:
            raise ValueError(
                f"event.derive.{leaks[0]}: found a target with `labels`, which bring it after its event; leave it out"
            )
        if self.labels and len(self.event.targets) > 1:
            raise ValueError(
                f"event.target: found {len(self.event.targets)} targets with `labels`; labels bring one target: "
                "run one flow per target, each with its own `labels` and recovery.directory, or leave `labels` out"
            )
        if self.notify and self.sinks.alerts is None:
            raise ValueError("notify: found with sinks.alerts: null; alerts are read from that topic: name one")
        self._check_registry()
        self._check_context()
        self._check_limits()
        self._check_stuck()
        self._check_maintenance()
        return self

    def _check_registry(self) -> None:
        if self.schema_registry is not None:
            return
        for key, value in (("event.format", self.event.format), ("sinks.format", self.sinks.format)):
            if value in OF_REGISTRY:
                raise ValueError(
                    f"{key}: found {value!r} without a schema registry; write where it is, such as schema_registry: "
                    "{url: 'http://registry:8081'}"
                )

    def _check_maintenance(self) -> None:
        for i, window in enumerate(self.alerts.maintenance):
            if self.labels and window.learn == "hold":
                raise ValueError(
                    f"alerts.maintenance: entry {i + 1} has learn: hold (the default) together with `labels`, which "
                    "come after the window and by themselves; write learn: adapt, and send no labels for the window"
                )
            zone = ZoneInfo(window.time_zone or self.event.time_zone)
            if window.begin and window.end and as_time(window.begin, zone) >= as_time(window.end, zone):
                raise ValueError(f"alerts.maintenance: entry {i + 1} ends before it begins: {window.text}")

    def _check_context(self) -> None:
        """Check that the columns of context topics are inputs, and of one topic each."""
        columns, event = self.source.context_columns, self.event
        if twice := sorted({path for path in columns if columns.count(path) > 1}):
            raise ValueError(f"source.context: {twice} is a column of two topics; name each column once")
        if wrong := [path for path in columns if path in (event.entity, event.timestamp, *event.targets)]:
            raise ValueError(f"source.context: {wrong} is the entity, the time or a target of the events; leave it out")
        if event.features == "auto":
            used = {*event.categories, *event.derive}
        else:
            used = {*event.read_numbers, *event.categories, *event.context}
        used |= {limit.column for limit in self.alerts.limits}
        if unused := [path for path in columns if path not in used]:
            raise ValueError(
                f"source.context: {unused} is used by nothing; name it in event.features, event.categories or a "
                "condition"
            )
        if columns and event.makes_rows:
            object.__setattr__(self, "event", event.with_facts(columns))
        check_row_columns(self.event)

    def _check_limits(self) -> None:
        event = self.event
        object.__setattr__(self, "event", event.with_limits(limit.column for limit in self.alerts.limits))
        if event.aggregate is not None:
            limited = [limit.column for limit in self.alerts.limits if limit.column not in event.facts]
            event.aggregate.check(("alerts.limits", column) for column in limited)
            if (rule := self.silence_rule) is not None:
                object.__setattr__(self, "event", self.event.with_silence(rule))
        for i, limit in enumerate(self.alerts.limits):
            if limit.column in (event.entity, event.timestamp):
                raise ValueError(
                    f"alerts.limits: entry {i + 1} is on {limit.column!r}, the entity or the time of the event; name a "
                    "column with a value (`entities` chooses the machines)"
                )
            if self.labels and limit.column in event.targets:
                raise ValueError(
                    f"alerts.limits: entry {i + 1} is on the target {limit.column!r}, which `labels` bring after its "
                    "event; set limits on columns of the events"
                )

    def _check_stuck(self) -> None:
        watched, event = self.alerts.stuck, self.event
        if isinstance(watched, bool) or event.features == "auto":
            return
        columns = [*event.numbers, *event.targets]
        if unknown := [path for path in watched if path not in columns]:
            raise ValueError(
                f"alerts.stuck: found {unknown[0]!r}, which is no input that is a number, and no target; choose among "
                f"{', '.join(columns)}"
            )

    @property
    def silence_rule(self) -> tuple[float, float, float] | None:
        """The rule of `alerts.silence`: one false alarm in so many events, or in so many ms; or after so many ms, where
        that is not 0. None without it."""
        silence, budget = self.alerts.silence, self.alerts.anomaly.budget
        if silence is None:
            return None
        # The entity shares the budget with its columns.
        columns = len(self.event.numbers) + len(self.event.targets) if silence.columns or self.alerts.stuck else 0
        after = 0.0 if silence.after == "auto" else 1000.0 * silence.after
        return (1 + 2 * columns) * budget.events, (1 + 2 * columns) * 1000.0 * budget.seconds, after

    @property
    def control_topic(self) -> str | None:
        """Topic on which planned stops are announced; None without one."""
        control = self.alerts.control
        return None if control is None else control.topic or f"{self.source.topic}-control"

    @property
    def epoch_interval(self) -> float:
        """Time between snapshots, s."""
        return self.recovery.epoch_interval or (1.0 if self.delivery == "exactly_once" else 10.0)

    @property
    def writers(self) -> int:
        """Number of producers: at most one a shard, as more would be idle."""
        return min(self.sinks.writers, self.state.shards)

    def replace(self, **sections: Any) -> Config:
        """Return a configuration with other sections: not a copy, which would keep the hash."""
        return Config(**{name: getattr(self, name) for name in type(self).model_fields} | sections)

    def without_registry(self) -> Config:
        """Return the configuration for what neither reads nor writes a message: documents in, JSON out."""
        if self.schema_registry is None:
            return self
        sinks = self.sinks.model_copy(update={"format": "json"})
        event = self.event.model_copy(update={"format": "json"}) if self.event.format in OF_REGISTRY else self.event
        return self.replace(event=event, sinks=sinks, schema_registry=None)

    def without_shadow(self) -> Config:
        """Return the configuration as it is without `alerts.shadow`: for those who judge the alerts."""
        if not self.alerts.shadow:
            return self
        return self.replace(alerts=self.alerts.model_copy(update={"shadow": False}))

    def for_target(self, target: str) -> Config:
        """Return the configuration of one of the targets alone, with its share of the alarm budgets: where an event has
        values of all targets, otherwise more (`Events.share`).
        """
        m = len(self.event.targets)
        if m == 1:
            return self
        alerts = self.alerts
        anomaly = alerts.anomaly.model_copy(update={"budget": alerts.anomaly.budget.split(m)})
        drift = alerts.drift.model_copy(update={"budget": alerts.drift.budget.split(m)})
        return self.replace(
            event=self.event.for_target(target),
            alerts=alerts.model_copy(
                update={
                    "anomaly": anomaly,
                    "drift": drift,
                    "limits": [],
                    "silence": None,
                    "stuck": False,
                    "maintenance": [],
                    "control": None,
                }
            ),
        )

    def harmful_combinations(self) -> list[str]:
        """Return a sentence for each combination of settings that is known to do harm, with the cure."""
        found = []
        for kind, rule in (("anomaly", self.alerts.anomaly), ("drift", self.alerts.drift)):
            if rule.enabled and rule.learn != "adapt" and self.event.lags > 0:
                found.append(
                    f"alerts.{kind}.learn: {rule.learn} with event.lags: {self.event.lags}: a model with past targets "
                    "has learned most faults before the alarm, and predicts worse while it is held; set event.lags: 0, "
                    "or learn: adapt"
                )
        silence = self.alerts.silence
        if self.event.quality is not None and (silence is None or not silence.columns):
            without = "without alerts.silence" if silence is None else "with alerts.silence: {columns: false}"
            cure = "set alerts.silence: {after: auto}" if silence is None else "set columns: true if they seldom do"
            found.append(
                f"event.quality {without}: flags that stay bad for long raise no alert, their columns are only "
                f"unknown; {cure}"
            )
        if self.alerts.shadow and self.sinks.suppressed is None:
            found.append(
                "alerts.shadow: true without sinks.suppressed: the alerts are written nowhere; name a topic for them, "
                "such as sinks: {suppressed: alerts-shadow}"
            )
        if self.alerts.has_stops and self.sinks.suppressed is None:
            name = "maintenance" if self.alerts.maintenance else "control"
            found.append(
                f"alerts.{name} without sinks.suppressed: what is withheld is written nowhere; name a topic for "
                "it, such as sinks: {suppressed: alerts-suppressed}"
            )
        anomaly = self.alerts.anomaly
        if anomaly.enabled and anomaly.absorb_after is not None and anomaly.recover_after >= anomaly.absorb_after:
            found.append(
                f"alerts.anomaly.recover_after: {anomaly.recover_after} with absorb_after: {anomaly.absorb_after}: no "
                "episode recovers before it is absorbed; set recover_after lower"
            )
        return found

    def redacted(self) -> dict[str, Any]:
        """Return all settings as JSON; of Kafka properties the names only, as values may be secrets."""
        content = self.model_dump(mode="json")
        content["source"]["kafka"] = sorted(self.source.kafka)
        content["sinks"]["kafka"] = sorted(self.sinks.kafka)
        return content

    @functools.cached_property
    def model_settings(self) -> dict[str, Any]:
        """The settings that change predictions or alerts, as JSON values; `runtime_settings` has the others.

        A file of weights is represented by a digest of its content, not by its name.

        Raises:
            WeightsError: the file of weights cannot be read.
        """
        settings = self.model_dump(mode="json", include={"event", "model", "alerts", "state", "labels"})
        # Alerts are the same wherever they go, and their config hash whatever is announced while the flow runs.
        del settings["alerts"]["feedback"], settings["alerts"]["shadow"], settings["alerts"]["control"]
        # States from when these were settings, or had another place, keep their hash.
        settings["alerts"] |= {
            name: getattr(self.alerts, name) for name in ("ongoing_every", "critical", "contributions")
        }
        del settings["model"]["tuning"]
        settings["model"] |= self.model.tuned.model_dump(mode="json")
        # States from before these settings keep their hash.
        if self.alerts.language == "en":
            del settings["alerts"]["language"]
        if self.alerts.budget is None:
            del settings["alerts"]["budget"]
        for name in ("limits", "silence", "stuck", "maintenance"):
            if not getattr(self.alerts, name):
                del settings["alerts"][name]
        for kind, rule in (("anomaly", self.alerts.anomaly), ("drift", self.alerts.drift)):
            if rule.absorb_after is None:
                del settings["alerts"][kind]["absorb_after"]
        if self.alerts.fleet.wait == type(self.alerts.fleet).model_fields["wait"].default:
            del settings["alerts"]["fleet"]["wait"]
        if self.labels is None:
            del settings["labels"]
        if self.event.inputs is None:
            del settings["event"]["inputs"]
        if not self.event.feature_lags:
            del settings["event"]["feature_lags"]
        if self.event.layout == "events":
            for name in ("layout", *READING_SETTINGS):
                del settings["event"][name]
        for name in ("derive", "when", "quality", "holidays", "aggregate"):
            if not getattr(self.event, name):
                del settings["event"][name]
        if self.event.holidays:
            del settings["event"]["holidays"]["of"]  # the days alone count, wherever they come from
        if self.model.tuned.embedding == Embedding():
            del settings["model"]["embedding"]
        del settings["state"]["store"]
        # Limits may be changed while the state lives: entities with a state are predicted as before.
        for section, limits in (
            ("event", ["entity_default", "format", "only"]),
            ("state", ["max_entities", "when_full"]),
        ):
            for name in limits:
                del settings[section][name]
        settings["model"]["weights"] = frozen_weights.content_digest(self.model.weights)
        return settings

    @functools.cached_property
    def hash(self) -> str:
        """12 hex digits of the SHA-256 of `model_settings`, which may raise `WeightsError`."""
        return settings_hash(self.model_settings)


def settings_hash(settings: dict[str, Any]) -> str:
    """12 hex digits of the SHA-256 of `Config.model_settings`."""
    return hashlib.sha256(orjson.dumps(settings, option=orjson.OPT_SORT_KEYS)).hexdigest()[:12]


def config_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the file."""
    schema = Config.model_json_schema(mode="validation")
    describe(schema)
    for part in schema["$defs"].values():
        for field in part["properties"].values():
            if isinstance(default := field.get("default"), dict) and "text" in default:
                field["default"] = default["text"]  # as the file has it: pydantic shows what it was read into
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "ssm-stream configuration", **schema}
