"""A schema registry in the test's process: the part of Confluent's REST interface that clients use, over real HTTP."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FakeRegistry:
    """Subjects and their schemas; ids count from 100 on. login: user:password that is asked for, if any; refused:
    subjects whose schemas are not compatible with a new one"""

    def __init__(self, login: str = "") -> None:
        self.subjects: dict[str, list[int]] = {}
        self.schemas: dict[int, dict[str, Any]] = {}
        self.refused: set[str] = set()
        self.login = login
        self.asked: list[str] = []
        self.url = ""

    def answer(self, method: str, path: str, body: dict[str, Any], authorization: str) -> tuple[int, dict[str, Any]]:
        """Status and content."""
        self.asked.append(f"{method} {path}")
        if self.login and authorization != f"Basic {base64.b64encode(self.login.encode()).decode()}":
            return 401, {"error_code": 401, "message": "Unauthorized"}
        if found := re.fullmatch(r"/schemas/ids/(\d+)", path):
            schema = self.schemas.get(int(found[1]))
            return (200, schema) if schema else (404, {"error_code": 40403, "message": "Schema not found"})
        if found := re.fullmatch(r"/subjects/([^/]+)(/versions)?", path):
            subject = found[1]
            schema = {"schema": body["schema"], "schemaType": body.get("schemaType", "AVRO")}
            number = next((n for n in self.subjects.get(subject, []) if self.schemas[n] == schema), None)
            if number is None and not found[2]:
                return 404, {"error_code": 40401, "message": f"Subject '{subject}' not found."}
            if number is None and subject in self.refused:
                return 409, {"error_code": 409, "message": "Schema being registered is incompatible"}
            if number is None:
                number = next((n for n, known in self.schemas.items() if known == schema), 100 + len(self.schemas))
                self.schemas[number] = schema
                self.subjects.setdefault(subject, []).append(number)
            version = self.subjects[subject].index(number) + 1
            return 200, {"id": number, "subject": subject, "version": version, **schema}
        return 404, {"error_code": 404, "message": f"no {path} here"}


@contextmanager
def fake_registry(login: str = "") -> Iterator[FakeRegistry]:
    """One that listens on a free loopback port."""
    registry = FakeRegistry(login)

    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(size) or b"{}")
            path = self.path.partition("?")[0]
            status, content = registry.answer(self.command, path, body, self.headers.get("Authorization", ""))
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = _any

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            return None

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        registry.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield registry
        server.shutdown()
        thread.join()
