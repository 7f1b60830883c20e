"""Messages to people through Apprise."""

from __future__ import annotations

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


class PeopleSender(Protocol):
    """Sends a text to people."""

    max_length: int
    """Characters of a body that the service takes."""

    takes_charts: bool
    """Whether the service takes pictures."""

    def send(self, text: Text, *, urgent: bool, charts: Sequence[Chart] = ()) -> None:
        """Send a message, with pictures.

        Raises:
            SendError: it was not taken.
        """


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
        # Not the service itself: only this one converts plain text to what the service takes, where that is HTML.
        self._notifier = self._apprise.Apprise()
        self._notifier.add(service)
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

    def send(self, text: Text, *, urgent: bool, charts: Sequence[Chart] = ()) -> None:
        """Send a message, with pictures.

        Raises:
            SendError: it was not taken.
        """
        kind = self._apprise.NotifyType.FAILURE if urgent else self._apprise.NotifyType.INFO
        with self._apprise.LogCapture(level=logging.WARNING, fmt="%(message)s") as lines:
            try:
                more = {} if (attached := self._attachments(charts)) is None else {"attach": attached}
                body, title = text.body or text.title, text.title
                taken = self._notifier.notify(
                    body=body, title=title, notify_type=kind, body_format=self._apprise.NotifyFormat.TEXT, **more
                )
            except Exception as error:  # noqa: BLE001 - of a hundred plugins and their libraries
                raise SendError(self._redact(f"{type(error).__name__}: {error}")) from None
            reason = " ".join(lines.getvalue().split())
        if not taken:
            raise SendError(self._redact(reason[-300:] or "Apprise did not deliver it"))

    def _redact(self, text: str) -> str:
        """Return the text without the parts of the URL."""
        rest = self._url.partition("://")[2]
        for part in sorted({rest, *_words(rest)}, key=len, reverse=True):
            if len(part) >= MIN_SECRET:
                text = text.replace(part, REDACTED)
        return text


def _words(url: str) -> list[str]:
    """Return the parts of a URL between its marks."""
    for mark in ":@?&=#":
        url = url.replace(mark, "/")
    return url.split("/")
