"""The YAML file, as pydantic models.

`load_config(path)` reads the file, fills `${ENV}`, `${ENV:-default}` and `${file:/path}` placeholders, refuses unknown
keys (naming the nearest right one) and returns a frozen `Config`. Every failure is a `ConfigError` whose text names the
file, the line, the key, what was found (never a secret) and what would be right.
"""

from ssm_stream.config.config import Config, config_schema
from ssm_stream.config.file import LARGEST_FILE, load_config, parse_config, read_config
from ssm_stream.config.quantities import DURATION, MOST_PENDING, UNITS, Ahead, Budget
from ssm_stream.config.sections import (
    LONGEST_NAME,
    Anomaly,
    ConfigError,
    Drift,
    Event,
    Labels,
    Model,
    Ops,
    Registry,
    Section,
    Source,
    State,
)

__all__ = [
    "DURATION",
    "LARGEST_FILE",
    "LONGEST_NAME",
    "MOST_PENDING",
    "UNITS",
    "Ahead",
    "Anomaly",
    "Budget",
    "Config",
    "ConfigError",
    "Drift",
    "Event",
    "Labels",
    "Model",
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
