"""POST requests, and what their failures mean: that it may work later, or that the receiver will never take it.

A thread keeps its connection to a receiver. Proxies are those of the environment; through one, each request has a
connection of its own.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from importlib.metadata import version
from typing import NamedTuple
from urllib.parse import urlsplit

TIMEOUT = 10.0
"""Seconds in which a receiver must answer."""
REFUSALS = (400, 405, 406, 410, 411, 413, 414, 415, 422, 431)
"""Status codes by which a receiver refuses a message for what it is; others may pass, a wrong login or path too."""
MAX_REASON = 300
"""Characters of a receiver's answer that are kept."""
MAX_ANSWER = 65_536
"""Bytes of an answer that are read to keep the connection."""


class SendError(RuntimeError):
    """A message was not taken; sending it again may work. retry_after: seconds that the receiver names, if it does"""

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class RefusedError(RuntimeError):
    """The receiver will not take this message, however often it is sent."""


class _Answer(NamedTuple):
    status: int
    retry_after: str | None
    text: bytes


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect of a POST would become a GET: it is an error."""

    def redirect_request(self, *_: object) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)
_LOCAL = threading.local()
_AGENT = {"User-Agent": f"ssm-stream/{version('ssm-stream')}"}


def post(url: str, body: bytes, headers: Mapping[str, str]) -> None:
    """Send a POST request.

    Raises:
        SendError: it failed, and may work later.
        RefusedError: the receiver refuses the content.
    """
    where = ""
    try:
        where = urlsplit(url).netloc.rpartition("@")[2]
        answer = _direct(url, body, {**_AGENT, **headers}) if not _proxied(url) else _opened(url, body, headers)
    except (OSError, http.client.HTTPException) as error:
        raise SendError(f"{where}: {getattr(error, 'reason', None) or error or type(error).__name__}") from None
    except ValueError as error:  # its text has the address or the header, which may be secrets
        raise SendError(f"{where}: no request can have this address or header ({type(error).__name__})") from None
    if 200 <= answer.status < 300:
        return
    text = " ".join(answer.text.decode("utf-8", "replace").split())[:MAX_REASON]
    reason = f"{where}: HTTP {answer.status} {text}".strip()
    if answer.status in REFUSALS:
        raise RefusedError(reason)
    raise SendError(reason, _seconds(answer.retry_after))


@functools.lru_cache(1000)
def _proxied(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(parts.netloc)


@functools.cache
def _context() -> ssl.SSLContext:
    return ssl.create_default_context()


def _direct(url: str, body: bytes, headers: dict[str, str]) -> _Answer:
    """Send over the thread's connection. One that the receiver has closed meanwhile is opened again."""
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    kept: dict[str, http.client.HTTPConnection] = _LOCAL.__dict__.setdefault("kept", {})
    where = f"{parts.scheme}://{parts.netloc}"
    connection = kept.pop(where, None)
    if connection is not None:
        with contextlib.suppress(ConnectionError, http.client.RemoteDisconnected, http.client.CannotSendRequest):
            return _exchange(connection, path, body, headers, where)
    host, port = parts.hostname or "", parts.port
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT, context=_context())
    else:
        connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
    return _exchange(connection, path, body, headers, where)


def _exchange(
    connection: http.client.HTTPConnection, path: str, body: bytes, headers: dict[str, str], where: str
) -> _Answer:
    """Send a request and return its answer; keep the connection where that is possible."""
    reusable = False
    try:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        text = answer.read(MAX_ANSWER)
        reusable = answer.isclosed() and not answer.will_close
        return _Answer(answer.status, answer.headers["Retry-After"], text[: 4 * MAX_REASON])
    finally:
        if reusable:
            _LOCAL.kept[where] = connection
        else:
            connection.close()


def _opened(url: str, body: bytes, headers: Mapping[str, str]) -> _Answer:
    """Send through the proxy of the environment."""
    request = urllib.request.Request(url, body, {**_AGENT, **headers}, method="POST")
    try:
        with _OPENER.open(request, timeout=TIMEOUT) as answer:
            return _Answer(answer.status, None, answer.read(4 * MAX_REASON))
    except urllib.error.HTTPError as error:
        with error:
            return _Answer(error.code, error.headers["Retry-After"], error.read(4 * MAX_REASON))


def _seconds(retry_after: str | None) -> float | None:
    with contextlib.suppress(TypeError, ValueError):
        return max(float(retry_after or ""), 0.0)
    return None
