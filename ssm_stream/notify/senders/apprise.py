"""Messages to people through Apprise."""

from __future__ import annotations

import copy
import importlib
import logging
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any, Protocol
from urllib.parse import unquote

from ssm_stream.config import ConfigError
from ssm_stream.config.client_properties import REDACTED
from ssm_stream.config.sections.notify import Target
from ssm_stream.notify.charts.charts import Chart
from ssm_stream.notify.rendering import Text
from ssm_stream.notify.senders.http import SendError

MIN_SECRET = 6
"""Characters of a part of the URL from which on it is taken for a secret."""
LOGGER = logging.getLogger("apprise")
CAUSES = ("Socket Exception", "I/O Exception", "Response Details")
"""Begins of the lines by which Apprise gives the cause of a failure, for those who debug it."""
MAX_REASON = 300
"""Characters of a reason, the last ones, and of a line of it."""
RECIPIENTS = ("targets", "channels", "rooms", "users")
"""Where services of Apprise have those whom a URL names: Slack in channels, Matrix in rooms, Rocket.Chat in all but the
first, others in targets alone."""
PARTLY = "SMTP recipient"
"""Of the line that Apprise logs where a mail server has taken a message, but refused one who gets a copy."""


class _Lines(logging.Handler):
    """Keeps what Apprise logs of one call, also in its own threads: warnings, and on lower levels their cause.

    Attributes:
        found: the lines
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        line = " ".join(record.getMessage().split())
        if _CALL.get() is self and (record.levelno >= logging.WARNING or line.startswith(CAUSES)):
            self.found.append(line[:MAX_REASON])

    def __enter__(self) -> _Lines:
        self._before = _CALL.set(self)
        LOGGER.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        LOGGER.removeHandler(self)
        _CALL.reset(self._before)


_CALL: ContextVar[_Lines | None] = ContextVar("call", default=None)


class PeopleSender(Protocol):
    """Sends a text to people."""

    max_length: int
    """Characters of a body that the service takes."""

    takes_charts: bool
    """Whether the service takes pictures."""

    def send(self, text: Text, *, urgent: bool, charts: Sequence[Chart] = (), again: bool = False) -> None:
        """Send a message, with pictures. again: the last one, which those who have it do not get twice

        Raises:
            SendError: it was not taken; PartlySentError: by some of its recipients.
        """


class PartlySentError(SendError):
    """Some of the recipients have the message, others do not."""


class AppriseSender:
    """Sends through the service of a URL of Apprise.

    Raises:
        ConfigError: Apprise is not installed, or it does not take the URL.
    """

    def __init__(self, name: str, target: Target) -> None:
        assert target.apprise is not None
        self._url = target.apprise.get_secret_value()
        try:
            self._apprise: Any = importlib.import_module("apprise")
        except ImportError:
            raise ConfigError(
                f"notify.targets: {name} is sent to through Apprise, which is not installed: pip install "
                "'ssm-stream[notify]'"
            ) from None
        LOGGER.propagate = False  # its lines may hold secrets: only `_Lines` has them
        LOGGER.setLevel(logging.DEBUG)
        service = self._apprise.Apprise.instantiate(self._url)
        if service is None:
            raise ConfigError(
                f"notify.targets: {name}: Apprise does not take the URL, which begins with {target.service}: write one "
                "such as slack://… or mailto://…; https://github.com/caronc/apprise/wiki lists services and their URLs"
            )
        self._notifiers = [self._notifier(each) for each in _by_recipient(service)]
        self._lacking: dict[int, str] = {}
        """The recipients who have the last message, and why it did not reach all that they stand for."""
        # Of other services the host of the URL may be a token.
        host = getattr(service, "smtp_host", None)
        self._where = "" if not host else f"{host}:{service.port}: " if service.port else f"{host}: "
        self.max_length = int(service.body_maxlen)
        self.takes_charts = bool(getattr(service, "attachment_support", False))

    def _attachments(self, charts: Sequence[Chart]) -> Any:
        """Return pictures as Apprise takes them; None without any."""
        if not charts:
            return None
        memory = importlib.import_module("apprise.attachment.memory")
        attached = self._apprise.AppriseAttachment()
        for chart in charts:
            attached.add(memory.AttachMemory(content=chart.content, name=chart.name, mimetype="image/png"))
        return attached

    def _notifier(self, service: Any) -> Any:
        """Return what sends to a service: only this converts plain text to what it takes, where that is HTML."""
        found = self._apprise.Apprise()
        found.add(service)
        return found

    def send(self, text: Text, *, urgent: bool, charts: Sequence[Chart] = (), again: bool = False) -> None:
        """Send a message, with pictures. again: the last one, which those who have it do not get twice

        Raises:
            SendError: it was not taken; PartlySentError: by some of its recipients.
        """
        if not again:
            self._lacking = {}
        failed = list[str]()
        for i, notifier in enumerate(self._notifiers):
            if i in self._lacking:
                continue
            reason, partly = self._send_by(notifier, text, urgent=urgent, charts=charts)
            if not reason or partly:
                self._lacking[i] = reason
            else:
                failed.append(reason)
        failed += filter(None, self._lacking.values())
        if failed and self._lacking:
            some = f"{len(failed)} of {len(self._notifiers)} recipients do not have it, or not all of their copies: "
            raise PartlySentError(some + failed[0])
        if failed:
            raise SendError(failed[0])

    def _send_by(self, notifier: Any, text: Text, *, urgent: bool, charts: Sequence[Chart]) -> tuple[str, bool]:
        """Send a message to one recipient; return why it failed, empty if it did not, and whether some have it."""
        kind = self._apprise.NotifyType.FAILURE if urgent else self._apprise.NotifyType.INFO
        with _Lines() as lines:
            try:
                more = {} if (attached := self._attachments(charts)) is None else {"attach": attached}
                body, title = text.body or text.title, text.title
                taken = notifier.notify(
                    body=body, title=title, notify_type=kind, body_format=self._apprise.NotifyFormat.TEXT, **more
                )
            except Exception as error:  # noqa: BLE001 - of a hundred plugins and their libraries
                return self._redact(f"{type(error).__name__}: {error}"), False
        if taken:
            return "", False
        reason = self._redact(" ".join(lines.found)[-MAX_REASON:] or "Apprise did not deliver it")
        return f"{self._where}{reason}", any(PARTLY in line for line in lines.found)

    def _redact(self, text: str) -> str:
        """Return the text without the parts of the URL, as they are written or meant."""
        rest = self._url.partition("://")[2]
        written = {rest, *_words(rest)}
        for part in sorted(written | set(map(unquote, written)), key=len, reverse=True):
            if len(part) >= MIN_SECRET:
                text = text.replace(part, REDACTED)
        return text


def _by_recipient(service: Any) -> list[Any]:
    """Return a service as one for each of its recipients: to Apprise, all of them together have a message or not."""
    lists = {name: found for name in RECIPIENTS if isinstance(found := getattr(service, name, None), list)}
    if "targets" in lists:
        lists = {"targets": lists["targets"]}
    recipients = [(name, each) for name, found in lists.items() for each in found]
    if len(recipients) < 2:
        return [service]
    found = []
    for name, each in recipients:
        one = copy.copy(service)
        for other in lists:
            setattr(one, other, [each] if other == name else [])
        found.append(one)
    return found


def _words(url: str) -> list[str]:
    """Return the parts of a URL between its marks."""
    for mark in ":@?&=#":
        url = url.replace(mark, "/")
    return url.split("/")
