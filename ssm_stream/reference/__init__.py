"""The definition of the learner in torch. This package itself loads no torch, which is an extra."""

from __future__ import annotations

import importlib.util


class TorchMissingError(ImportError):
    """torch is not installed; the text names the command that installs it."""


def has_torch() -> bool:
    """Return whether torch is installed, without loading it."""
    return importlib.util.find_spec("torch") is not None


def require_torch(command: str) -> None:
    """Check that torch is installed, without loading it.

    Raises:
        TorchMissingError: it is not.
    """
    if not has_torch():
        raise TorchMissingError(
            f"{command} needs torch, which is not installed: pip install 'ssm-stream[torch]', "
            "or in a clone pip install -e '.[torch]'"
        )
