"""POST requests, and what their failures mean: that it may work later, or that the receiver will never take it."""

from __future__ import annotations

import contextlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Mapping
from importlib.metadata import version
from urllib.parse import urlsplit

TIMEOUT = 10.0
"""Seconds that a receiver may be quiet."""
REFUSALS = (400, 405, 406, 410, 411, 413, 414, 415, 422, 431)
"""Status codes by which a receiver refuses a message for what it is; others may pass, a wrong login or path too."""
MAX_REASON = 300
"""Characters of a receiver's answer that are kept."""


class SendError(RuntimeError):
    """A message was not taken; sending it again may work. retry_after: seconds that the receiver names, if it does"""

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class RefusedError(RuntimeError):
    """The receiver will not take this message, however often it is sent."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect of a POST would become a GET: it is an error."""

    def redirect_request(self, *_: object) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


def post(url: str, body: bytes, headers: Mapping[str, str], timeout: float = TIMEOUT) -> None:
    """Send a POST request; proxies are those of the environment.

    Raises:
        SendError: it failed, and may work later.
        RefusedError: the receiver refuses the content.
    """
    agent = {"User-Agent": f"ssm-stream/{version('ssm-stream')}"}
    request = urllib.request.Request(url, body, {**agent, **headers}, method="POST")
    where = urlsplit(url).netloc.rpartition("@")[2]
    try:
        with _OPENER.open(request, timeout=timeout) as answer:
            answer.read(65_536)
    except urllib.error.HTTPError as error:
        reason = f"{where}: HTTP {error.code} {_text(error)}".strip()
        if error.code in REFUSALS:
            raise RefusedError(reason) from None
        raise SendError(reason, _retry_after(error)) from None
    except (OSError, http.client.HTTPException) as error:
        raise SendError(f"{where}: {getattr(error, 'reason', None) or error or type(error).__name__}") from None


def _text(error: urllib.error.HTTPError) -> str:
    content = b""
    with contextlib.suppress(OSError, http.client.HTTPException):
        content = error.read(4 * MAX_REASON)
    error.close()
    text = " ".join(content.decode("utf-8", "replace").split())[:MAX_REASON]
    return text or str(error.reason)


def _retry_after(error: urllib.error.HTTPError) -> float | None:
    with contextlib.suppress(TypeError, ValueError):
        return max(float(error.headers["Retry-After"]), 0.0)
    return None
