"""ssm-stream: watch production with an in-context state-space model per entity.

For notebooks and scripts: `from ssm_stream import Engine, load_config, picked, plot` (see
`ssm_stream.evaluate.notebook`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssm_stream.config import load_config
    from ssm_stream.evaluate.notebook import Engine, picked, plot

__all__ = ["Engine", "load_config", "picked", "plot"]


def __getattr__(name: str) -> Any:
    # Only when somebody asks: the command line must not pay for it at every start.
    if name == "load_config":
        from ssm_stream.config import load_config

        return load_config
    if name in __all__:
        from ssm_stream.evaluate import notebook

        return getattr(notebook, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
