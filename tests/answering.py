"""A process's HTTP server, as a command asks it, which gives fixed answers."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class served:  # noqa: N801
    """A process's HTTP server that gives fixed answers; yields the Authorization headers that came."""

    def __init__(self, port: int, answers: dict[str, bytes]) -> None:
        self.seen = seen = list[str]()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                seen.append(self.headers["Authorization"])
                self.send_response(200)
                self.end_headers()
                self.wfile.write(answers[self.path.partition("?")[0]])

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)

    def __enter__(self) -> list[str]:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self.seen

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
