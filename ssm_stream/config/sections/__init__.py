"""The sections of the file as pydantic models: the one place where a setting is named, typed, bounded and explained."""

from ssm_stream.config.sections.alerts import Alerts, Anomaly, Drift, TeamBudget
from ssm_stream.config.sections.base import ConfigError, Section
from ssm_stream.config.sections.derive import Derived
from ssm_stream.config.sections.event import MAX_NAME_LENGTH, Event
from ssm_stream.config.sections.kafka import Sinks, Source
from ssm_stream.config.sections.labels import Labels
from ssm_stream.config.sections.model import Model
from ssm_stream.config.sections.notify import Notify
from ssm_stream.config.sections.process import Audit, Ops, Recovery, State
from ssm_stream.config.sections.registry import Registry
from ssm_stream.config.sections.targets import ALL

__all__ = [
    "ALL",
    "MAX_NAME_LENGTH",
    "Alerts",
    "Anomaly",
    "Audit",
    "ConfigError",
    "Derived",
    "Drift",
    "Event",
    "Labels",
    "Model",
    "Notify",
    "Ops",
    "Recovery",
    "Registry",
    "Section",
    "Sinks",
    "Source",
    "State",
    "TeamBudget",
]
