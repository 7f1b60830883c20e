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
    from ssm_stream.evaluate.notebook import Engine, plot, select_features

__all__ = ["Config", "ConfigError", "Engine", "load_config", "parse_config", "plot", "select_features"]

_NOTEBOOK = ("Engine", "plot", "select_features")


def __getattr__(name: str) -> Any:
    # Imported at first use: the command line must not pay for the engine at every start.
    if name in __all__:
        return getattr(
            importlib.import_module(f"{__name__}.{'evaluate.notebook' if name in _NOTEBOOK else 'config'}"), name
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
