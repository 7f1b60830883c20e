"""Schema registries: Apicurio, where there is one, and one in the test's process, which fails on demand and has GUIDs.

The latter is the part of Confluent's REST interface that clients use, over real HTTP.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import threading
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from brokers import free_port

START_TIMEOUT = 180.0
"""Seconds that Apicurio may take to start; 10 on a machine with nothing else to do."""
QUICK = "-XX:TieredStopAtLevel=1"
"""It is compiled quickly rather than well: half of the CPU for what tests ask of it."""


def registry_obstacle() -> str | None:
    """Return why there is no real registry; None if there is one."""
    home = os.environ.get("SCHEMA_REGISTRY_HOME")
    if home is None:
        return "no schema registry: SCHEMA_REGISTRY_HOME names no folder with one"
    if not (Path(home) / "registry").is_file():
        return f"no schema registry: {home} (SCHEMA_REGISTRY_HOME) has no `registry` to start"
    return None if shutil.which("java") else "no schema registry: there is no Java to run it"


@contextmanager
def real_registry() -> Iterator[str]:
    """The URL of a new Apicurio on a free loopback port; it is stopped at the end."""
    port = free_port()
    process = subprocess.Popen(
        [str(Path(os.environ["SCHEMA_REGISTRY_HOME"]) / "registry"), str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={"JAVA_TOOL_OPTIONS": QUICK, **os.environ},
    )  # fmt: skip
    url, deadline = f"http://127.0.0.1:{port}/apis/ccompat/v7", time.monotonic() + START_TIMEOUT
    try:
        while True:
            try:
                urllib.request.urlopen(f"{url}/subjects", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, f"the registry ended with {process.returncode}"
                assert time.monotonic() < deadline, f"the registry did not start within {START_TIMEOUT:.0f} s"
                time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait(30)


class FakeRegistry:
    """Subjects and their schemas; ids count from 100 on, and each has a GUID.

    login: user:password that is asked for, if any
    refused: subjects whose schemas are not compatible with a new one
    failing: an HTTP status that all requests are answered with, so many times; delay: seconds before each answer
    """

    def __init__(self, login: str = "") -> None:
        self.subjects: dict[str, list[int]] = {}
        self.schemas: dict[int, dict[str, Any]] = {}
        self.refused: set[str] = set()
        self.login = login
        self.asked: list[str] = []
        self.failing: tuple[int, int] | None = None
        self.delay = 0.0
        self.url = ""

    def add(self, subject: str, schema: str, kind: str = "AVRO") -> int:
        """Register a schema, and return its id."""
        body = {"schema": schema, "schemaType": kind}
        return int(self.answer("POST", f"/subjects/{subject}/versions", body, self._authorization())[1]["id"])

    def guid(self, number: int) -> uuid.UUID:
        """The GUID of the schema with this id."""
        return uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(self.schemas[number]))

    def _described(self, number: int) -> dict[str, Any]:
        return {"id": number, "guid": str(self.guid(number)), **self.schemas[number]}

    def _authorization(self) -> str:
        return f"Basic {base64.b64encode(self.login.encode()).decode()}"

    def answer(self, method: str, path: str, body: dict[str, Any], authorization: str) -> tuple[int, Any]:
        """Status and content."""
        self.asked.append(f"{method} {path}")
        time.sleep(self.delay)
        if self.failing is not None:
            status, times = self.failing
            self.failing = (status, times - 1) if times > 1 else None
            return status, {"error_code": status * 100 + 1, "message": "It fails on demand"}
        if self.login and authorization != self._authorization():
            return 401, {"error_code": 401, "message": "Unauthorized"}
        if path == "/schemas/types":
            return 200, ["JSON", "PROTOBUF", "AVRO"]
        if found := re.fullmatch(r"/schemas/guids/([0-9a-f-]{36})", path):
            for number in self.schemas:
                if str(self.guid(number)) == found[1]:
                    return 200, self._described(number)
            return 404, {"error_code": 40403, "message": "Schema not found"}
        if method == "GET" and (found := re.fullmatch(r"/subjects/([^/]+)/versions/(latest|-1|\d+)", path)):
            numbers = self.subjects.get(found[1], [])
            version = len(numbers) if found[2] in ("latest", "-1") else int(found[2])
            if not 0 < version <= len(numbers):
                return 404, {"error_code": 40402, "message": "Version not found"}
            number = numbers[version - 1]
            return 200, {"subject": found[1], "version": version, **self._described(number)}
        if found := re.fullmatch(r"/schemas/ids/(\d+)", path):
            if (number := int(found[1])) not in self.schemas:
                return 404, {"error_code": 40403, "message": "Schema not found"}
            return 200, self._described(number)
        if found := re.fullmatch(r"/subjects/([^/]+)(/versions)?", path):
            subject = found[1]
            schema = {"schema": body["schema"], "schemaType": body.get("schemaType") or "AVRO"}
            if body.get("references"):
                schema["references"] = body["references"]
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
            return 200, {"subject": subject, "version": version, **self._described(number)}
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
            with suppress(BrokenPipeError):  # a client that waits no longer
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
