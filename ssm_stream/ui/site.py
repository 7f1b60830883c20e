"""The live page over HTTP: its files, the stream of updates, and the actions of people.

A stream is server-sent events, a thread each, so their number is bounded. It begins with everything it shows, so that a
browser that reconnects, to this process or a new one, needs no earlier state.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterable, Iterator
from functools import cached_property
from importlib import resources
from typing import Any
from urllib.parse import parse_qsl
from wsgiref.types import StartResponse, WSGIEnvironment

import orjson
import structlog

from ssm_stream.ops.http_auth import HttpAuth, Refusal
from ssm_stream.ui.actions import PageActions
from ssm_stream.ui.json_api import JsonApi, QueryError
from ssm_stream.ui.live_page import LivePage
from ssm_stream.ui.planned_stops import StopsView
from ssm_stream.ui.views import AlertView, EntityView, EpisodesView, FleetView, parse_int

LOG = structlog.get_logger("ssm_stream.ui")
KINDS = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}
MAX_STREAMS = 16
RATES = (1, 60)
"""Updates a second that a browser may request, at least and at most."""
RATE = 40
LAGGING_WAIT = 0.1
"""Minimum seconds between two updates while the dataflow lags: it needs the CPU."""
HEARTBEAT = 3.0
"""Seconds without an update after which a heartbeat is sent."""
MAX_BODY = 4096
WRONG_TOKEN_DELAY = 0.5
"""Seconds until a wrong token is refused."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = [
    ("Content-Security-Policy", POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    # With "no-referrer" a form would be sent with an origin of null, as another site's may be.
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
]
JSON = "application/json"
Answer = Iterable[bytes]


class Site:
    """The WSGI application of a live page, for the paths `/` and `/ui`; `open` it before the first request."""

    def __init__(self, page: LivePage) -> None:
        self.page = page
        self._actions, self._api = PageActions(page), JsonApi(page)
        self._streams = StreamCounter(page)

    def open(self, port: int) -> None:
        """Set up authentication for a server that listens on this port, and log the page's address."""
        ops = self.page.config.ops
        self.auth = HttpAuth(ops, port)
        token = "" if self.auth.generated_token is None else f"?token={self.auth.generated_token}"
        LOG.info("ui_served", url=f"http://{(ops.address or '').rpartition(':')[0]}:{port}/ui/{token}")

    def close(self) -> None:
        """End the streams."""
        self.page.close()

    @cached_property
    def _files(self) -> dict[str, tuple[str, bytes]]:
        """Return path → content type and content."""
        found = {}
        for file in (resources.files("ssm_stream.ui") / "web").iterdir():
            kind = KINDS.get(file.name.rpartition(".")[2])
            if kind is not None and file.is_file():
                found[f"/ui/{file.name}"] = (kind, file.read_bytes())
        found["/ui/"] = found["/ui/index.html"]
        return found

    @cached_property
    def assets(self) -> str:
        """Return a hash of the files, so that a page of another release reloads itself."""
        digest = hashlib.sha256()
        for path, (_, content) in sorted(self._files.items()):
            digest.update(path.encode() + content)
        return digest.hexdigest()[:12]

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Answer:
        path, method = environ.get("PATH_INFO", "/"), environ["REQUEST_METHOD"]
        if (refused := self.auth.check_host(environ)) is not None:
            return _refuse(start, refused)
        query = _fields(environ.get("QUERY_STRING", ""))
        if method == "POST" and path == "/ui/login":
            return self._login(environ, start)
        if method == "POST" and path in self._actions.paths:
            return self._act(path, environ, start)
        if method not in ("GET", "HEAD"):
            return _refuse(start, Refusal("405 Method Not Allowed", "only GET and HEAD, and POST for what people do"))
        if path in self._api.paths:
            return self._answer(path, query, environ, start)
        if "token" in query:
            return self._open(start, query["token"])
        if path in ("/", "/ui"):
            return _redirect(start, "/ui/")
        file = self._files.get(path)
        if not self.auth.has_cookie(environ):
            # The login form needs its style; the files hold no secrets.
            if file is not None and not file[0].startswith("text/html"):
                return _send(start, "200 OK", *file)
            if file is not None:
                return _send(start, "401 Unauthorized", *self._files["/ui/login.html"])
            return _refuse(start, Refusal("401 Unauthorized", "open the page with its token first: /ui/?token=…"))
        if file is not None:
            return _send(start, "200 OK", *file, empty=method == "HEAD")
        if path == "/ui/stream" and method == "GET":
            return self._stream(start, query)
        return _refuse(start, Refusal("404 Not Found", f"nothing at {path[:100]}"))

    def _answer(self, path: str, query: dict[str, str], environ: WSGIEnvironment, start: StartResponse) -> Answer:
        """Answer another program, which sends the token as a header."""
        if not self.auth.is_authorized(environ):
            return _refuse(start, Refusal("401 Unauthorized", "send the token: Authorization: Bearer TOKEN"))
        try:
            content = self._api(path, query)
        except QueryError as error:
            return _refuse(start, Refusal("400 Bad Request", str(error)))
        body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
        return _send(start, "200 OK", JSON, body, empty=environ["REQUEST_METHOD"] == "HEAD")

    # The token.

    def _open(self, start: StartResponse, token: str) -> Answer:
        if not self.auth.needs_token:
            return _redirect(start, "/ui/")
        if not self.auth.is_token(token):
            time.sleep(WRONG_TOKEN_DELAY)
            return _send(start, "401 Unauthorized", *self._files["/ui/login.html"])
        return _redirect(start, "/ui/", ("Set-Cookie", self.auth.set_cookie()))

    def _login(self, environ: WSGIEnvironment, start: StartResponse) -> Answer:
        if (refused := self.auth.check_origin(environ)) is not None:
            return _refuse(start, refused)
        form = _fields((_body(environ) or b"").decode(errors="replace"))
        return self._open(start, form.get("token", "").strip())

    # Actions.

    def _act(self, path: str, environ: WSGIEnvironment, start: StartResponse) -> Answer:
        """Do what a request of the page itself demands, if whoever sent it has the right to."""
        if (refused := self.auth.check_change(environ)) is not None:
            return _refuse(start, refused)
        if not self.auth.has_cookie(environ):
            return _refuse(start, Refusal("401 Unauthorized", "open the page with its token first: /ui/?token=…"))
        body = _body(environ)
        if body is None:
            return _refuse(start, Refusal("413 Content Too Large", f"more than {MAX_BODY} bytes, or no length"))
        found = self._actions(path, body)
        if isinstance(found, Refusal):
            return _refuse(start, found)
        return _send(start, "200 OK", JSON, orjson.dumps(found))

    # The stream.

    def _stream(self, start: StartResponse, query: dict[str, str]) -> Answer:
        if not self._streams.enter():
            more = ("Retry-After", "5")
            return _refuse(
                start, Refusal("503 Service Unavailable", f"{MAX_STREAMS} browsers are connected already"), more
            )
        start(
            "200 OK",
            [("Content-Type", "text/event-stream; charset=utf-8"), ("Cache-Control", "no-store"), *HEADERS],
        )
        return Stream(self.page, self.assets, query, self._streams)


class StreamCounter:
    """Counts the open streams."""

    def __init__(self, page: LivePage) -> None:
        self.page = page
        self._lock = threading.Lock()
        self._open = 0

    def enter(self) -> bool:
        """Count one more and return True; False if there are too many."""
        with self._lock:
            if self._open >= MAX_STREAMS or self.page.closed.is_set():
                return False
            self._open += 1
            self.page.set_viewers(self._open)
            return True

    def leave(self) -> None:
        """Count one less."""
        with self._lock:
            self._open -= 1
            self.page.set_viewers(self._open)


class Stream:
    """The updates of one browser, until it disconnects or the process ends."""

    def __init__(self, page: LivePage, assets: str, query: dict[str, str], counter: StreamCounter) -> None:
        self.page, self._assets, self._counter = page, assets, counter
        self._wait = 1.0 / parse_int(query.get("rate"), RATE, *RATES)
        view, entity = query.get("view"), None
        self._views: list[FleetView | EntityView | EpisodesView | StopsView | AlertView] = []
        if view == "entity":
            entity = self._add_entity(query)
        elif view == "alert":
            alert = AlertView(page.alert_episodes, query.get("id", ""))
            self._views.append(alert)
            if (series := alert.series(page.config.event.targets)) is not None:
                self._add_entity({**query, "name": series[0], "target": str(series[1])})
        elif view == "stops":
            self._views.append(StopsView(page.stops, page.clock))
        elif view not in ("alerts", "report"):
            self._views.append(FleetView(page.cache, page.names, query))
        everything = view in ("alerts", "alert", "entity")
        self._views.append(EpisodesView(page.alert_episodes, entity, everything=everything))
        self._left = False

    def _add_entity(self, query: dict[str, str]) -> str:
        """Add the views of the entity that a query names, and return its name."""
        page = self.page
        shown = EntityView(page.cache, page.followed, query, page.limits_of)
        self._views += [shown, StopsView(page.stops, page.clock, shown.name, shown.reach)]
        return shown.name

    def __iter__(self) -> Iterator[bytes]:
        page, sent_stats = self.page, -1
        yield b"retry: 1000\n" + message(
            {"hello": {**page.info(), "assets": self._assets}, "rates": page.process_stats.rates()}
        )
        due = last_sent = time.monotonic()
        while not page.closed.is_set():
            page.refresh()
            content: dict[str, Any] = {}
            for view in self._views:
                content |= view.next()
            stats = page.stats()
            if page.process_stats.number != sent_stats:
                sent_stats = page.process_stats.number
                content["pulse"] = stats
            now = time.monotonic()
            if content:
                last_sent = now
                yield message(content)
            elif now - last_sent > HEARTBEAT:
                last_sent = now
                yield message({"beat": 1})
            due = max(due + (max(self._wait, LAGGING_WAIT) if page.cache.lagging else self._wait), time.monotonic())
            page.closed.wait(max(due - time.monotonic(), 0.001))

    def close(self) -> None:
        """Leave the counter; the server calls this at the end of the response."""
        if not self._left:
            self._left = True
            self._counter.leave()


def message(content: dict[str, Any]) -> bytes:
    """Return a server-sent event: JSON has no line breaks."""
    return b"data: " + orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n\n"


def _fields(text: str) -> dict[str, str]:
    """Return the fields of a query or a form; none if there are too many."""
    try:
        return dict(parse_qsl(text[:MAX_BODY], keep_blank_values=True, max_num_fields=20))
    except ValueError:
        return {}


def _body(environ: WSGIEnvironment) -> bytes | None:
    """Return the body of a request; None if it is too long or has no length."""
    try:
        length = int(environ.get("CONTENT_LENGTH") or -1)
    except ValueError:
        return None
    if not 0 <= length <= MAX_BODY:
        return None
    body: bytes = environ["wsgi.input"].read(length)
    return body


def _send(
    start: StartResponse, status: str, kind: str, body: bytes, *more: tuple[str, str], empty: bool = False
) -> list[bytes]:
    length = ("Content-Length", str(len(body)))
    start(status, [("Content-Type", kind), length, ("Cache-Control", "no-cache"), *HEADERS, *more])
    return [] if empty else [body]


def _refuse(start: StartResponse, refused: Refusal, *more: tuple[str, str]) -> list[bytes]:
    return _send(start, refused.status, JSON, orjson.dumps({"error": refused.reason}), *more)


def _redirect(start: StartResponse, to: str, *more: tuple[str, str]) -> list[bytes]:
    return _send(start, "303 See Other", JSON, b"{}", ("Location", to), *more)
