"""An issuer of tokens for OAUTHBEARER by OpenID Connect, on a loopback port. The tokens are not signed."""

from __future__ import annotations

import base64
import http.server
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from certificates import LOOPBACK

LIFETIME = 600


def unsigned(subject: str, lifetime: int = LIFETIME) -> str:
    """Return a token of that user, as Kafka's unsecured validator takes them: no third part."""

    def part(content: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")

    now = int(time.time())
    claims = {"sub": subject, "iat": now - max(0, -lifetime) - 1, "exp": now + lifetime}
    return f"{part({'alg': 'none'})}.{part(claims)}."


class Issuer(http.server.ThreadingHTTPServer):
    """Gives tokens to those who know the secret. lifetime: seconds from now to the end of a token, may be negative"""

    def __init__(self, secret: str) -> None:
        super().__init__((LOOPBACK, 0), Answer)
        self.secret, self.lifetime = secret, LIFETIME

    @property
    def properties(self) -> dict[str, Any]:
        """librdkafka's, without the client's secret."""
        return {
            "sasl.mechanism": "OAUTHBEARER",
            "sasl.oauthbearer.method": "oidc",
            "sasl.oauthbearer.token.endpoint.url": f"http://{LOOPBACK}:{self.server_port}/token",
        }


class Answer(http.server.BaseHTTPRequestHandler):
    server: Issuer

    def do_POST(self) -> None:
        said = self.headers.get("Authorization", "").removeprefix("Basic ")
        user, _, secret = base64.b64decode(said).decode().partition(":")
        good = secret == self.server.secret
        # The client is told that all is well: the broker is to find an old token.
        token = {"access_token": unsigned(user, self.server.lifetime), "expires_in": LIFETIME}
        body = json.dumps(token if good else {"error": "invalid_client"})
        self.send_response(200 if good else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def issuer(secret: str) -> Iterator[Issuer]:
    with Issuer(secret) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
