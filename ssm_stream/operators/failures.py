"""Errors of a running dataflow as one sentence.

Bytewax passes an exception through Rust: it prints the frames of Rust, and Python those of all causes. For an error
whose text is for the user, both are left out: what is not Python's own is muted on standard error while Rust unwinds,
log lines go on, and the process ends with the text alone. A caller that catches the exception gets what Bytewax raises.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TextIO

from ssm_stream.config import ConfigError
from ssm_stream.core.own_channels import ChannelError
from ssm_stream.engine.snapshot_format import StateError
from ssm_stream.kafka.client import BrokerError, given_up
from ssm_stream.kafka.formats.registry import RegistryError
from ssm_stream.kafka.transactional_producer import MarkerError
from ssm_stream.ops.audit import AuditError
from ssm_stream.recovery.bytewax_db import RecoveryError


class ItemError(TypeError):
    """An item of a stream is not what the step takes; the text names the step, the item and the cure."""


EXPECTED: tuple[type[Exception], ...] = (BrokerError, ChannelError, ConfigError, ItemError, MarkerError, RegistryError)
EXPECTED += (AuditError, RecoveryError, StateError)
"""Errors whose text is for the user."""
MUTED = 30.0
"""Seconds for which standard error is muted at most: until all workers have ended."""
RELATED = 10.0
"""Seconds within which an error of Bytewax comes from the one that was reported."""

_LOCK = threading.Lock()
_STDERR = 2
_saved: tuple[int, TextIO | None] | None = None
_cause: tuple[Exception, float] | None = None
_before = sys.excepthook


@contextmanager
def explained() -> Iterator[None]:
    """Report an expected error that is raised inside the block by its text alone, if it ends the process."""
    try:
        yield
    except EXPECTED as error:
        report(error)
        raise
    except Exception as error:
        if (found := given_up(error)) is not None:
            report(found)
            raise found from error
        raise


@contextmanager
def explained_build() -> Iterator[None]:
    """`explained`, for what is called before the dataflow runs."""
    try:
        yield
    except EXPECTED as error:
        _explain_at_exit(error)
        raise


def report(error: Exception) -> None:
    """Have the process end with the text of this error, if nothing catches it. Call it before raising the error."""
    _explain_at_exit(error)
    _mute_stderr()


def reported(error: BaseException) -> Exception | None:
    """Return the expected error from which an error of Bytewax comes; None: there is none.

    Of several workers, Bytewax raises an error without its cause.
    """
    for each in _causes(error):
        if isinstance(each, EXPECTED):
            return each
    with _LOCK:
        bare = type(error).__name__ in ("BytewaxRuntimeError", "PanicException")
        return _cause[0] if bare and _cause is not None else None


def forget() -> None:
    """Forget the error that was reported: the dataflow runs again in this process."""
    global _cause
    restore_stderr()
    with _LOCK:
        if _cause is not None:
            _cause, sys.excepthook = None, _before


def _explain_at_exit(error: Exception) -> None:
    global _cause, _before
    with _LOCK:
        now = time.monotonic()
        if _cause is not None and now - _cause[1] < RELATED:
            return  # of another worker, which fails with the first
        before, printed = sys.excepthook, list[bool]()
        if _cause is None:
            _before = before
        _cause = (error, now)

        def hook(kind: type[BaseException], raised: BaseException, trace: TracebackType | None) -> None:
            restore_stderr()
            # Of several workers, Bytewax raises an error without its cause.
            bare = kind.__name__ == "BytewaxRuntimeError" and time.monotonic() - now < RELATED
            if not bare and error not in _causes(raised):
                before(kind, raised, trace)
            elif not printed:  # Bytewax calls the hook for some errors before it raises them
                printed.append(True)
                print(f"error: {error}", file=sys.stderr)  # noqa: T201

        sys.excepthook = hook


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _mute_stderr() -> None:
    global _saved
    with _LOCK:
        if _saved is not None:
            return
        try:
            sys.stderr.flush()
            python = _python_stderr()
            _saved = os.dup(_STDERR), python
            if python is not None:  # for the log
                sys.stderr = os.fdopen(os.dup(_STDERR), "w", buffering=1, encoding=python.encoding, errors="replace")
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, _STDERR)
            os.close(null)
        except (OSError, ValueError, AttributeError):
            return  # standard error is closed
    timer = threading.Timer(MUTED, restore_stderr)
    timer.daemon = True
    timer.start()


def _python_stderr() -> TextIO | None:
    """Return Python's standard error; None if it is something else than the process's."""
    with suppress(OSError, ValueError, AttributeError):
        if sys.stderr.fileno() == _STDERR:
            return sys.stderr
    return None


def restore_stderr() -> None:
    """End the muting of standard error, if it is muted."""
    global _saved
    with _LOCK:
        if _saved is not None:
            saved, python = _saved
            os.dup2(saved, _STDERR)
            os.close(saved)
            if python is not None:
                sys.stderr.flush()
                sys.stderr = python
            _saved = None
