"""Alerts as the topic has them, and receivers that speak the protocols of what notify sends to."""

from __future__ import annotations

import http.server
import itertools
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import orjson
from brokers import Kafka
from patience import SLOWER

from ssm_stream.config import Config, parse_config

NUMBERS = itertools.count()


def alert(entity: str = "pump-3", phase: str = "started", kind: str = "anomaly", **more: Any) -> dict[str, Any]:
    """The content of an alert of a topic `events`."""
    now, number = int(time.time() * 1000), next(NUMBERS)
    own = more.pop("id", f"events-0-{number}-{kind}")
    found = {
        "entity": entity, "scope": "entity", "kind": kind, "phase": phase, "severity": "warning", "ts": now,
        "summary": f"{entity}: temp is 92, expected 70 ± 4 (since 06:10).", "score": 1.5, "since": now,
        "ended_by": "recovered" if phase == "recovered" else None, "episode": own, "id": own,
        "source": {"topic": "events", "partition": 0, "offset": number},
    }  # fmt: skip
    return {**found, **more}


def next_phase(before: dict[str, Any], phase: str, **more: Any) -> dict[str, Any]:
    """A later message of the same episode."""
    return {**alert(before["entity"], phase, before["kind"], episode=before["episode"]), **more}


def send(kafka: Kafka, topic: str, alerts: list[dict[str, Any]], partition: int | None = 0) -> None:
    kafka.produce(topic, [(each["entity"], orjson.dumps(each)) for each in alerts], partition)


def config(kafka: Kafka, alerts: str, notify: str, sections: str = "", letters: str = "letters") -> Config:
    """A configuration whose alerts are on that topic. The name of the events topic is in the name of the groups."""
    inner, _, more = sections.partition("|")
    return parse_config(
        f"source: {{brokers: '{kafka.bootstrap_servers}', topic: events, group: g-{alerts}, wait: 15s}}\n"
        f"event: {{entity: e, timestamp: t, features: [a]}}\nsinks: {{alerts: {alerts}, dead_letters: {letters}"
        f", predictions: null}}\nalerts: {{control: true{inner}}}\n{more}\nnotify:\n  address: null\n{notify}"
    )


class Request(NamedTuple):
    """What a receiver got. at: when, s since 1970; accepted: whether it answered so"""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float
    accepted: bool

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


class Receiver:
    """A local HTTP server that keeps what it gets. status: of the answer to the n-th request"""

    def __init__(self, status: Callable[[int], int] = lambda n: 200, port: int = 0) -> None:
        self.requests: list[Request] = []
        self.status, self._lock, self._count = status, threading.Lock(), 0
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                with receiver._lock:
                    status = receiver.status(receiver._count)
                    receiver._count += 1
                    headers = {name.lower(): value for name, value in self.headers.items()}
                    request = Request(self.path, headers, body, time.time(), status < 300)
                    receiver.requests.append(request)
                self.send_response(status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def accepted(self) -> list[Request]:
        with self._lock:
            return [request for request in self.requests if request.accepted]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def until(condition: Callable[[], Any], seconds: float = 20.0, what: str = "") -> Any:
    """Wait until something holds, and return it."""
    deadline = time.monotonic() + SLOWER * seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, what or "it did not happen in time"
        time.sleep(0.02)
    return found
