"""What commands say on standard error: one clear text with the right exit code, and what takes a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from ssm_stream.config import Config, ConfigError, load_config
from ssm_stream.kernels.frozen_weights import WeightsError
from ssm_stream.reference import TorchMissingError

JOB_FAILED, BAD_USAGE = 1, 2
USAGE_ERRORS = (ConfigError, WeightsError, TorchMissingError)


def say_if_kernels_are_to_be_compiled() -> None:
    """Say on standard error why nothing will be seen for a while, where that is so."""
    from ssm_stream.kernels.cache import NOTICE, are_compiled

    if not are_compiled():
        typer.echo(NOTICE, err=True)


@contextlib.contextmanager
def reported(*expected: type[Exception]) -> Iterator[None]:
    """Turn a wrong configuration, a wrong file of weights or a missing extra into exit code 2, expected errors into 1.

    Anything else is a bug and shows.

    Bytewax wraps what an operator raises: the first known error in the chain of causes is the one to tell.
    """
    try:
        yield
    except Exception as error:  # the boundary that reports; what it does not know is raised again
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, (*USAGE_ERRORS, *expected)):
                code = BAD_USAGE if isinstance(cause, USAGE_ERRORS) else JOB_FAILED
                typer.secho(f"error: {cause}", err=True, fg=typer.colors.RED)
                raise typer.Exit(code) from None
            cause = cause.__cause__ or cause.__context__
        raise


def load_with_stored_features(config: Path) -> Config:
    """The file's configuration, `with_stored_features`."""
    from ssm_stream.recovery.bytewax_db import RecoveryError
    from ssm_stream.recovery.settings_files import with_stored_features

    with reported(RecoveryError):
        return with_stored_features(load_config(config))


def with_picked(config: Config, rows: Iterator[Any]) -> tuple[Config, Iterator[Any]]:
    """Where the file says `features: auto`, with what is picked from the first rows, which is said; and all rows.

    Raises:
        ConfigError: nothing can be picked from them.
    """
    if config.event.features != "auto":
        return config, rows
    from ssm_stream.autoconfig.feature_selection import select_features_ahead

    selection, rows = select_features_ahead(config, rows)
    typer.echo("\n".join(selection.lines()), err=True)
    return selection.config, rows


def require_one_target(config: Config, command: str) -> None:
    """Refuse several targets where a command looks at one.

    Raises:
        ConfigError: there are several.
    """
    if len(paths := config.event.targets) > 1:
        raise ConfigError(
            f"event.target: found {len(paths)} targets, {command} looks at one: name one of them, in a copy of the file"
        )
