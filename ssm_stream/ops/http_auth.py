"""Authentication of HTTP requests: by a token, or on loopback by the host that the request names.

On loopback without a token only requests that name a loopback host pass, so that another site's name that resolves to
127.0.0.1 (DNS rebinding) is refused. With a token, a browser shows it once and a cookie from then on.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from typing import NamedTuple
from urllib.parse import urlsplit
from wsgiref.types import WSGIEnvironment

from ssm_stream.config import Ops

HEADER = "HTTP_X_SSM_STREAM"
"""Set by the page's own requests; a browser lets no other site set it without CORS, which is never granted."""


class Refusal(NamedTuple):
    """A refused request: the HTTP status and the reason."""

    status: str
    reason: str


class HttpAuth:
    """The rules for one server.

    Args:
        ops: address and token
        port: of the server
        generate: make a token if other machines reach the address and none is set
    """

    def __init__(self, ops: Ops, port: int, *, generate: bool = True) -> None:
        self.generated_token: str | None = None
        """The token that was made because one is needed and none is set."""
        token = None if ops.token is None else ops.token.get_secret_value()
        if token is None and generate and ops.open_to_others:
            token = self.generated_token = secrets.token_urlsafe(24)
        self._token = token
        self.cookie = f"ssm_stream_ui_{port}"
        # The cookie is not the token itself: other services on the host see it.
        self._cookie_value = (
            "" if token is None else hmac.new(token.encode(), b"ssm-stream ui", hashlib.sha256).hexdigest()
        )

    @property
    def needs_token(self) -> bool:
        """Whether requests need a token."""
        return self._token is not None

    def is_token(self, token: str) -> bool:
        """Return whether this is the token, in constant time."""
        return self._token is not None and hmac.compare_digest(token.encode(), self._token.encode())

    def set_cookie(self) -> str:
        """Return the value of `Set-Cookie` for a request with the token."""
        return f"{self.cookie}={self._cookie_value}; Path=/; HttpOnly; SameSite=Lax"

    def check_host(self, environ: WSGIEnvironment) -> Refusal | None:
        """Refuse a request that names another host than this machine, if no token protects the page."""
        if self._token is None and not _loopback(environ.get("HTTP_HOST", "")):
            return Refusal(
                "403 Forbidden",
                "this page is served to localhost, 127.0.0.1 and [::1] only; set ops.token to open it by another name",
            )
        return None

    def has_cookie(self, environ: WSGIEnvironment) -> bool:
        """Return whether the request has the cookie, or needs none."""
        if self._token is None:
            return True
        for part in environ.get("HTTP_COOKIE", "")[:8192].split(";"):
            name, _, value = part.strip().partition("=")
            if name == self.cookie and hmac.compare_digest(value.encode(), self._cookie_value.encode()):
                return True
        return False

    def is_authorized(self, environ: WSGIEnvironment) -> bool:
        """Return whether the request has the token (`Authorization: Bearer`) or the cookie."""
        kind, _, token = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        return self.has_cookie(environ) or (kind.lower() == "bearer" and self.is_token(token.strip()))

    def check_change(self, environ: WSGIEnvironment) -> Refusal | None:
        """Refuse a request to change something that does not come from the page itself."""
        if (refused := self.check_origin(environ)) is not None:
            return refused
        if environ.get(HEADER) != "1" or environ.get("CONTENT_TYPE", "").partition(";")[0] != "application/json":
            return Refusal(
                "403 Forbidden", "only the page itself may change something: send JSON with the header X-Ssm-Stream: 1"
            )
        return None

    def check_origin(self, environ: WSGIEnvironment) -> Refusal | None:
        """Refuse a request that another site has made the browser send."""
        origin, host = environ.get("HTTP_ORIGIN"), environ.get("HTTP_HOST", "")
        site = environ.get("HTTP_SEC_FETCH_SITE", "same-origin")
        if (origin is not None and origin.partition("://")[2] != host) or site not in ("same-origin", "none"):
            return Refusal("403 Forbidden", "only the page itself may change something, not another site")
        return None


def _loopback(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname if len(host) < 300 and host.isprintable() else None
        return name is not None and (name.rstrip(".") == "localhost" or ipaddress.ip_address(name).is_loopback)
    except ValueError:
        return False
