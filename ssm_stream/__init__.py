"""ssm-stream: predictions, anomaly and drift alerts for streams of events, by a state-space model per entity.

The public interface, for notebooks and scripts (docs/notebook.md); the command line is `ssm-stream`.

    from ssm_stream import Engine, plot

    result = Engine("monitor.yaml").run(frame)
    plot(result, "press-7")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssm_stream.config import Config, ConfigError, load_config, parse_config
    from ssm_stream.core.own_channels import ChannelEvent
    from ssm_stream.estimators import AnomalyDetector, Regressor
    from ssm_stream.evaluate.document_engine import Prediction, Results
    from ssm_stream.evaluate.notebook import Engine, plot, select_features

_MODULES = {
    "AnomalyDetector": "estimators",
    "ChannelEvent": "core.own_channels",
    "Config": "config",
    "ConfigError": "config",
    "Engine": "evaluate.notebook",
    "Prediction": "evaluate.document_engine",
    "Regressor": "estimators",
    "Results": "evaluate.document_engine",
    "load_config": "config",
    "parse_config": "config",
    "plot": "evaluate.notebook",
    "select_features": "evaluate.notebook",
}
"""Public name → its module, imported at first use: the command line must not pay for the engine at every start."""

__all__ = [
    "AnomalyDetector",
    "ChannelEvent",
    "Config",
    "ConfigError",
    "Engine",
    "Prediction",
    "Regressor",
    "Results",
    "load_config",
    "parse_config",
    "plot",
    "select_features",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
