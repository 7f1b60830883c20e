"""HTTP server of a process: `/healthz`, `/readyz`, `/metrics`, `/config`, and the live page below `/ui/`."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIEnvironment

import orjson
import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import ThreadingWSGIServer, make_wsgi_app

from ssm_stream.config import Config, ConfigError
from ssm_stream.ops.health import Health
from ssm_stream.ops.http_auth import HttpAuth
from ssm_stream.ops.metrics import Metrics
from ssm_stream.ops.observers import MountedSite

LOG = structlog.get_logger("ssm_stream.ops")
Answer = tuple[str, str, bytes]
"""Status, content type, body."""
JSON = "application/json"
PROTECTED = ("/metrics", "/config")
"""Paths that need the token, if one is set; health probes have none."""


class Registered(Protocol):
    """Metrics of a process."""

    registry: CollectorRegistry


class Readiness(Protocol):
    """Health of a process."""

    def as_json(self) -> dict[str, Any]:
        """Return the body of `/readyz`, with `ready`."""


class _Answering(ServerHandler):
    """Logs no traceback for a client that has disconnected or does not read its stream."""

    def log_exception(self, exc_info: Any) -> None:
        if not isinstance(exc_info[1], OSError):
            super().log_exception(exc_info)


class _Quiet(WSGIRequestHandler):
    """Logs no requests."""

    # A client that connects and sends nothing must not hold a thread for ever.
    timeout = 10.0

    def log_message(self, *_: Any) -> None:
        pass

    def handle(self) -> None:
        """Handle a request as the base class does, with another handler."""
        self.raw_requestline = self.rfile.readline(65537)
        if len(self.raw_requestline) > 65536:
            self.requestline = self.request_version = self.command = ""
            self.send_error(414)
            return
        if not self.parse_request():
            return
        handler = _Answering(
            self.rfile,
            self.wfile,  # type: ignore[arg-type]
            self.get_stderr(),
            self.get_environ(),
            multithread=True,
        )
        handler.request_handler = self  # type: ignore[attr-defined]
        handler.run(self.server.get_app())  # type: ignore[attr-defined]


class _Server(ThreadingWSGIServer):
    daemon_threads = True


class _Server6(_Server):
    address_family = socket.AF_INET6


class OpsServer:
    """Serves until `close`, or the end of the process.

    config: with the address; process: number of this one in a cluster

    Raises:
        ConfigError: the server cannot listen on the address.
    """

    def __init__(
        self,
        config: Config,
        metrics: Registered,
        health: Readiness,
        site: MountedSite | None = None,
        process: int = 0,
    ) -> None:
        assert config.ops.address is not None
        host, _, port = config.ops.address.rpartition(":")
        self._config, self._health, self._site = config, health, site
        self._metrics: Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]] = make_wsgi_app(metrics.registry)
        self._pages: dict[str, Callable[[], Answer]] = {
            "/healthz": lambda: ("200 OK", JSON, b'{"alive":true}'),
            "/readyz": self._readyz,
            "/config": self._show_config,
        }
        self._host = host = host.strip("[]")
        kind: type[WSGIServer] = _Server6 if ":" in host else _Server
        try:
            self._server = make_server(host, int(port) + process, self._answer, kind, _Quiet)
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"ops.address: cannot listen on {host}:{int(port) + process}: {_reason(error)}; give this process "
                "another address, or null for none"
            ) from error
        self.port = self._server.server_port
        self._auth = HttpAuth(config.ops, self.port, generate=False)
        if self._site is not None:
            self._site.open(self.port)
        self._thread = threading.Thread(target=self._server.serve_forever, name="ops", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        if self._site is not None:
            self._site.close()
        # The loop checks every half second whether to end, and at once at a connection: without one, the end of every
        # run would wait for it.
        ending = threading.Thread(target=self._server.shutdown, name="ops-end")
        ending.start()
        with contextlib.suppress(OSError):
            socket.create_connection((self._host, self.port), 1.0).close()
        ending.join()
        self._server.server_close()
        self._thread.join()

    def _answer(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path, method = environ.get("PATH_INFO", "/"), environ["REQUEST_METHOD"]
        if self._site is not None and (path in ("/", "/ui") or path.startswith("/ui/")):
            return self._site(environ, start)
        if method not in ("GET", "HEAD"):
            return _send(start, ("405 Method Not Allowed", JSON, b'{"error":"only GET and HEAD"}'))
        if path in PROTECTED and not self._auth.is_authorized(environ):
            return _send(
                start,
                ("401 Unauthorized", JSON, b'{"error":"send the token of ops.token: Authorization: Bearer TOKEN"}'),
                more=[("WWW-Authenticate", 'Bearer realm="ssm-stream"')],
            )
        if path == "/metrics":
            return self._metrics(environ, start)
        page = self._pages.get(path)
        if page is None:
            content = {"error": f"nothing at {path[:100]}", "paths": [*self._pages, "/metrics"]}
            return _send(start, ("404 Not Found", JSON, orjson.dumps(content)))
        return _send(start, page(), empty=method == "HEAD")

    def _readyz(self) -> Answer:
        content = self._health.as_json()
        return "200 OK" if content["ready"] else "503 Service Unavailable", JSON, orjson.dumps(content)

    def _show_config(self) -> Answer:
        content = {"config_hash": self._config.hash, **self._config.redacted()}
        return "200 OK", JSON, orjson.dumps(content, option=orjson.OPT_INDENT_2)


class _PageToCome:
    """In place of the live page while a process starts."""

    def open(self, port: int) -> None:
        """There is nothing to open."""

    def close(self) -> None:
        """There is nothing to close."""

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        return _send(start, ("503 Service Unavailable", JSON, b'{"error":"the process is starting"}'))


def _send(
    start: StartResponse, answer: Answer, *, empty: bool = False, more: Sequence[tuple[str, str]] = ()
) -> list[bytes]:
    status, kind, body = answer
    headers = {"Content-Type": kind, "Content-Length": str(len(body)), "Cache-Control": "no-store"}
    start(status, [*headers.items(), ("X-Content-Type-Options", "nosniff"), *more])
    return [] if empty else [body]


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return "another process listens on it"
    return str(getattr(error, "strerror", None) or error)


def serve(
    config: Config, metrics: Metrics, health: Health, site: MountedSite | None = None, process: int = 0
) -> OpsServer | None:
    """Start the configured server; returns None if none is configured.

    If the address is the default one and taken, a process runs without a server and logs that.

    Raises:
        ConfigError: the server cannot listen on the address.
    """
    if config.ops.address is None:
        return None
    if config.ops.open_to_others and config.ops.token is None:
        LOG.warning(
            "ops_open_to_others", address=config.ops.address, why="no login and no encryption: see docs/security.md"
        )
    try:
        server = OpsServer(config, metrics, health, site, process)
    except ConfigError as error:
        if "address" in config.ops.model_fields_set or site is not None:
            raise
        LOG.warning("ops_not_served", error=str(error))
        return None
    LOG.info("ops_served", address=f"{config.ops.address.rpartition(':')[0]}:{server.port}")
    return server


@contextlib.contextmanager
def probes_of_a_start(config: Config, process: int = 0) -> Iterator[None]:
    """Answer probes and scrapes, not ready, until the block ends: a start may wait for its brokers for as long as
    `source.wait`. Without a word if the address cannot be had: `serve` reports that."""
    server = None
    if config.ops.address is not None:
        metrics = Metrics(config)
        health = Health(metrics, 1)  # of no reader: no check is true
        metrics.ready = lambda: health.ready
        with contextlib.suppress(ConfigError):
            server = OpsServer(config, metrics, health, _PageToCome(), process)
    try:
        yield
    finally:
        if server is not None:
            server.close()
