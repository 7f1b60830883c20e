"""Who may open the page, and who may change something by it.

On loopback it is open, to requests that name a loopback host: another site's name that leads to 127.0.0.1 (DNS
rebinding) is refused. Elsewhere, and wherever a token is set, it is asked for once and remembered as a cookie.
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
"""Set by the page's own requests; another site's would have to be allowed to set it, and nothing here allows that."""


class Refusal(NamedTuple):
    """An HTTP status, and why, in words."""

    status: str
    why: str


class HttpAuth:
    """The rules for one server.

    ops: with address and token; port: that it listens at
    make: a token, where others reach the address and none is set
    """

    def __init__(self, ops: Ops, port: int, *, generate: bool = True) -> None:
        self.generated_token: str | None = None
        """The token that was made, where one is needed and none is set."""
        token = None if ops.token is None else ops.token.get_secret_value()
        if token is None and generate and ops.open_to_others:
            token = self.generated_token = secrets.token_urlsafe(24)
        self._token = token
        self.cookie = f"ssm_stream_ui_{port}"
        # The token itself is not what browsers keep: other services on the host see their cookies.
        self._mark = "" if token is None else hmac.new(token.encode(), b"ssm-stream ui", hashlib.sha256).hexdigest()

    @property
    def needs_token(self) -> bool:
        """Whether one is asked for."""
        return self._token is not None

    def is_token(self, token: str) -> bool:
        """Whether this is the token; takes the same time whatever is wrong with it."""
        return self._token is not None and hmac.compare_digest(token.encode(), self._token.encode())

    def set_cookie(self) -> str:
        """The header's value after the token was shown."""
        return f"{self.cookie}={self._mark}; Path=/; HttpOnly; SameSite=Lax"

    def check_host(self, environ: WSGIEnvironment) -> Refusal | None:
        """A request that came by another name than that of this machine, where no token protects the page."""
        if self._token is None and not _loopback(environ.get("HTTP_HOST", "")):
            return Refusal(
                "403 Forbidden",
                "this page answers to localhost, 127.0.0.1 and [::1] only; set ops.token to open it by another name",
            )
        return None

    def has_cookie(self, environ: WSGIEnvironment) -> bool:
        """Whether the request shows the cookie, where one is needed."""
        if self._token is None:
            return True
        for part in environ.get("HTTP_COOKIE", "")[:8192].split(";"):
            name, _, value = part.strip().partition("=")
            if name == self.cookie and hmac.compare_digest(value.encode(), self._mark.encode()):
                return True
        return False

    def is_authorized(self, environ: WSGIEnvironment) -> bool:
        """Whether the request shows the token as programs do (`Authorization: Bearer`), or the cookie."""
        kind, _, token = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        return self.has_cookie(environ) or (kind.lower() == "bearer" and self.is_token(token.strip()))

    def check_change(self, environ: WSGIEnvironment) -> Refusal | None:
        """A request to change something that does not come from the page itself."""
        if (refused := self.check_origin(environ)) is not None:
            return refused
        if environ.get(HEADER) != "1" or environ.get("CONTENT_TYPE", "").partition(";")[0] != "application/json":
            return Refusal(
                "403 Forbidden", "a change comes from the page itself: JSON, with the header X-Ssm-Stream: 1"
            )
        return None

    def check_origin(self, environ: WSGIEnvironment) -> Refusal | None:
        """A request that another site has made the browser send."""
        origin, host = environ.get("HTTP_ORIGIN"), environ.get("HTTP_HOST", "")
        site = environ.get("HTTP_SEC_FETCH_SITE", "same-origin")
        if (origin is not None and origin.partition("://")[2] != host) or site not in ("same-origin", "none"):
            return Refusal("403 Forbidden", "a change comes from the page itself, not from another site")
        return None


def _loopback(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname if len(host) < 300 and host.isprintable() else None
        return name is not None and (name.rstrip(".") == "localhost" or ipaddress.ip_address(name).is_loopback)
    except ValueError:
        return False
