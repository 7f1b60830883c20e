"""The YAML file, as pydantic models.

`load_config(path)` reads the file, fills `${ENV}`, `${ENV:-default}` and `${file:/path}` placeholders, rejects unknown
keys (naming those that are known there) and returns a frozen `Config`. Every failure is a `ConfigError` whose text has
the file, the line, the key, what was found (never a secret) and what is expected.
"""

from ssm_stream.config.config import Config, config_schema
from ssm_stream.config.file import MAX_FILE_BYTES, load_config, parse_config, read_config
from ssm_stream.config.quantities import DURATION, MAX_PENDING, UNITS, Budget
from ssm_stream.config.sections import (
    ALL,
    MAX_NAME_LENGTH,
    Alerts,
    Anomaly,
    ConfigError,
    Derived,
    Drift,
    Event,
    Labels,
    Model,
    Notify,
    Ops,
    Registry,
    Section,
    Source,
    State,
)

__all__ = [
    "ALL",
    "DURATION",
    "MAX_FILE_BYTES",
    "MAX_NAME_LENGTH",
    "MAX_PENDING",
    "UNITS",
    "Alerts",
    "Anomaly",
    "Budget",
    "Config",
    "ConfigError",
    "Derived",
    "Drift",
    "Event",
    "Labels",
    "Model",
    "Notify",
    "Ops",
    "Registry",
    "Section",
    "Source",
    "State",
    "config_schema",
    "load_config",
    "parse_config",
    "read_config",
]
