"""Errors on standard error, each as one text or line of the log with the right exit code."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import typer

from ssm_stream.cli.terminal.printable import printable_lines
from ssm_stream.config import ConfigError
from ssm_stream.core.frozen_weights import WeightsError
from ssm_stream.core.own_channels import ChannelError
from ssm_stream.reference import TorchMissingError

FAILED, BAD_USAGE = 1, 2
"""Exit codes: the command failed; the configuration or the call is wrong."""
USAGE_ERRORS = (ConfigError, WeightsError, TorchMissingError)


@contextlib.contextmanager
def report_errors(*expected: type[Exception], as_json: bool = False) -> Iterator[None]:
    """Turn a wrong configuration, a wrong file of weights or a missing extra into exit code 2, expected errors into 1.

    The error of an anomaly channel that another package brings is always expected.

    Any other exception is a bug and is raised as it is. Bytewax wraps what an operator raises: the first known error in
    the chain of causes is reported.

    as_json: write a line of the log, which is JSON
    """
    try:
        yield
    except Exception as error:  # unknown ones are raised again
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, (*USAGE_ERRORS, ChannelError, *expected)):
                code = BAD_USAGE if isinstance(cause, USAGE_ERRORS) else FAILED
                raise (log_exit(cause, code) if as_json else exit_with(cause, code)) from None
            cause = cause.__cause__ or cause.__context__
        raise


def log_exit(error: BaseException, code: int) -> typer.Exit:
    """Log an error as the last line and return the exception that ends the command with that exit code."""
    import structlog

    cure = getattr(error, "cure", None)
    text = str(error) if cure is None else getattr(error, "found", str(error))
    structlog.get_logger("ssm_stream").error(
        "failed", error=text, **({} if cure is None else {"cure": cure}), exit_code=code
    )
    return typer.Exit(code)


def exit_with(error: BaseException, code: int) -> typer.Exit:
    """Print an error and return the exception that ends the command with that exit code."""
    typer.secho(f"error: {printable_lines(str(error))}", err=True, fg=typer.colors.RED)
    return typer.Exit(code)
