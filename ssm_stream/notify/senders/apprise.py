"""Messages to people through Apprise."""

from __future__ import annotations

import copy
import importlib
import logging
from collections.abc import Sequence
from typing import Any, Protocol

from ssm_stream.config import ConfigError
from ssm_stream.config.client_properties import REDACTED
from ssm_stream.config.sections.notify import Target
from ssm_stream.notify.charts.charts import Chart
from ssm_stream.notify.rendering import Text
from ssm_stream.notify.senders.http import SendError

MIN_SECRET = 6
"""Characters of a part of the URL from which on it is taken for a secret."""
PARTLY = "SMTP recipient"
"""Of the line that Apprise logs where a mail server has taken a message, but refused one who gets a copy."""


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
        logging.getLogger("apprise").addHandler(logging.NullHandler())
        service = self._apprise.Apprise.instantiate(self._url)
        if service is None:
            raise ConfigError(
                f"notify.targets: {name}: Apprise does not take the URL, which begins with {target.service}: write one "
                "such as slack://… or mailto://…; https://github.com/caronc/apprise/wiki lists services and their URLs"
            )
        self._notifiers = [self._notifier(each) for each in _by_recipient(service)]
        self._lacking: dict[int, str] = {}
        """The recipients who have the last message, and why it did not reach all that they stand for."""
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
        with self._apprise.LogCapture(level=logging.WARNING, fmt="%(message)s") as lines:
            try:
                more = {} if (attached := self._attachments(charts)) is None else {"attach": attached}
                body, title = text.body or text.title, text.title
                taken = notifier.notify(
                    body=body, title=title, notify_type=kind, body_format=self._apprise.NotifyFormat.TEXT, **more
                )
            except Exception as error:  # noqa: BLE001 - of a hundred plugins and their libraries
                return self._redact(f"{type(error).__name__}: {error}"), False
            reason = " ".join(lines.getvalue().split())
        if taken:
            return "", False
        return self._redact(reason[-300:] or "Apprise did not deliver it"), PARTLY in reason

    def _redact(self, text: str) -> str:
        """Return the text without the parts of the URL."""
        rest = self._url.partition("://")[2]
        for part in sorted({rest, *_words(rest)}, key=len, reverse=True):
            if len(part) >= MIN_SECRET:
                text = text.replace(part, REDACTED)
        return text


def _by_recipient(service: Any) -> list[Any]:
    """Return a service as one for each of its recipients: Apprise says of all of them together that it failed."""
    recipients = getattr(service, "targets", None)
    if not isinstance(recipients, list) or len(recipients) < 2:
        return [service]
    found = []
    for each in recipients:
        found.append(copy.copy(service))
        found[-1].targets = [each]
    return found


def _words(url: str) -> list[str]:
    """Return the parts of a URL between its marks."""
    for mark in ":@?&=#":
        url = url.replace(mark, "/")
    return url.split("/")
