"""The HTTP server of running processes: health, metrics, and what the live page shows of an entity."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlencode

import orjson

from ssm_stream.config import Config

TIMEOUT = 0.8
"""Seconds that a process has to answer."""
MAX_BYTES = 8 * 2**20
OF_FLOW = ("source", "topic"), ("source", "brokers"), ("sinks", "dead_letters")
"""Settings by which a running process is known to be of the same flow."""
UNREACHABLE = (OSError, http.client.HTTPException, ValueError)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect, which would carry the token elsewhere."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class Response(NamedTuple):
    """The answer of a process. status: of HTTP; 0: it is not reachable, and `text` is the reason"""

    url: str
    status: int
    text: str

    def json(self) -> dict[str, Any]:
        """Return its JSON object; empty if it is none."""
        try:
            found = orjson.loads(self.text)
        except orjson.JSONDecodeError:
            return {}
        return found if isinstance(found, dict) else {}


class ProcessClient:
    """Requests to the processes of a flow.

    Args:
        config: with the token, and the address of the one process, or the first
        urls: of the processes; none: that address
    """

    def __init__(self, config: Config, urls: Sequence[str] = ()) -> None:
        address = config.ops.address
        own = [] if address is None else [f"http://{address.replace('0.0.0.0', '127.0.0.1').replace('[::]', '[::1]')}"]
        self.urls = [url.rstrip("/") for url in urls] or own
        self._token = None if config.ops.token is None else config.ops.token.get_secret_value()
        self._opener = urllib.request.build_opener(_NoRedirects())

    def get(self, url: str, path: str, **query: str) -> Response:
        """Return the answer of one process."""
        text = f"?{urlencode(query)}" if query else ""
        headers = {} if self._token is None else {"Authorization": f"Bearer {self._token}"}
        try:
            with self._opener.open(
                urllib.request.Request(f"{url}{path}{text}", headers=headers), timeout=TIMEOUT
            ) as got:
                return Response(url, got.status, got.read(MAX_BYTES).decode("utf-8", "replace"))
        except urllib.error.HTTPError as error:
            return Response(url, error.code, error.read(65_536).decode("utf-8", "replace"))
        except UNREACHABLE as error:
            return Response(url, 0, f"not reachable: {getattr(error, 'reason', None) or error}")


def running_settings(config: Config) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the address and the settings of each process that answers at `ops.address` and is of the same flow."""
    client, own = ProcessClient(config), config.redacted()
    for url in client.urls:
        running = client.get(url, "/config").json()
        if all(running.get(part, {}).get(key) == own[part][key] for part, key in OF_FLOW):
            yield url, running
