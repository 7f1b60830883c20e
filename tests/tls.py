"""A Kafka listener with TLS and users in front of a broker that has neither: a proxy, SASL.

The proxy ends TLS, answers the client's SASL requests itself (noida-db lets anyone in), and passes all else on. Where
the broker tells its own address, the proxy puts its own there, so that clients stay with it.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from certificates import LOOPBACK, Issued

SASL_HANDSHAKE, SASL_AUTHENTICATE, API_VERSIONS = 17, 36, 18
REFUSED = 58  # the protocol's SASL_AUTHENTICATION_FAILED
UNSUPPORTED = 33
HASHES = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}
LARGEST = 100_000_000  # bytes of a request, as brokers have it


class Refusal(Exception):  # noqa: N818
    """The user may not come in."""


class Login:
    """The server's side of one login. mechanism: which; users: name → password (of OAUTHBEARER: subject → anything)"""

    def __init__(self, mechanism: str, users: Mapping[str, str]) -> None:
        self.done, self._users = False, users
        steps = {"PLAIN": self._plain, "OAUTHBEARER": self._token}
        self.step: Callable[[bytes], bytes] = steps.get(mechanism, self._first)
        self._hash = HASHES.get(mechanism, "")

    def _plain(self, said: bytes) -> bytes:
        _, user, password = said.decode().split("\0")
        if self._users.get(user) != password:
            raise Refusal(f"no user {user!r} with that password")
        self.done = True
        return b""

    def _token(self, said: bytes) -> bytes:
        token = next(part[12:] for part in said.split(b"\1") if part.startswith(b"auth=Bearer"))
        claims = token.split(b".")[1]
        subject = json.loads(base64.urlsafe_b64decode(claims + b"=" * (-len(claims) % 4)))["sub"]
        if subject not in self._users:
            raise Refusal(f"no user {subject!r}")
        self.done = True
        return b""

    def _first(self, said: bytes) -> bytes:
        """RFC 5802."""
        self._bare = said.split(b",", 2)[2]
        fields = dict(part.split(b"=", 1) for part in self._bare.split(b","))
        user = fields[b"n"].decode()
        if user not in self._users:
            raise Refusal(f"no user {user!r}")
        salt, rounds = os.urandom(16), 4096
        self._salted = hashlib.pbkdf2_hmac(self._hash, self._users[user].encode(), salt, rounds)
        nonce = fields[b"r"] + base64.b64encode(os.urandom(12))
        self._told = b"r=%b,s=%b,i=%d" % (nonce, base64.b64encode(salt), rounds)
        self.step = self._last
        return self._told

    def _last(self, said: bytes) -> bytes:
        without, _, proof = said.rpartition(b",p=")
        message = b",".join([self._bare, self._told, without])
        client = self._mac(self._salted, b"Client Key")
        signature = self._mac(hashlib.new(self._hash, client).digest(), message)
        if bytes(a ^ b for a, b in zip(client, signature, strict=True)) != base64.b64decode(proof):
            raise Refusal("wrong password")
        self.done = True
        return b"v=" + base64.b64encode(self._mac(self._mac(self._salted, b"Server Key"), message))

    def _mac(self, key: bytes, message: bytes) -> bytes:
        return hmac.new(key, message, self._hash).digest()


class Proxy:
    """Listens on loopback in front of a broker there.

    Args:
        port: of the broker
        served: the proxy's own certificate; None: no TLS
        clients: certificate of the authority that clients need one of; None: they need none
        users: name → password, for every mechanism; None: anyone may come in

    Attributes:
        served: requests that were passed on; refused: what was said to those who may not come in
    """

    def __init__(
        self,
        port: int,
        served: Issued | None = None,
        *,
        clients: Path | None = None,
        users: Mapping[str, str] | None = None,
    ) -> None:
        self._broker, self._users = port, users
        self._context: ssl.SSLContext | None = None
        if served is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(served.certificate, served.key)
        if clients is not None:
            assert self._context is not None
            self._context.load_verify_locations(clients)
            self._context.verify_mode = ssl.CERT_REQUIRED
        self.passed_on, self.refused = 0, list[str]()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port: int = self._listener.getsockname()[1]
        self.bootstrap_servers = f"{LOOPBACK}:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(client.close)
            try:
                if self._context is not None:
                    client = self._context.wrap_socket(client, server_side=True)
                    stack.callback(client.close)
                broker = socket.create_connection((LOOPBACK, self._broker))
            except OSError as error:  # ssl.SSLError is one
                self.refused.append(str(error))
                return
            stack.callback(broker.close)
            self._open |= {client, broker}
            stack.callback(lambda: self._open.difference_update({client, broker}))
            threading.Thread(target=self._answers, args=(broker, client), daemon=True).start()
            with contextlib.suppress(OSError, Refusal):
                self._requests(client, broker)
            for end in (client, broker):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _requests(self, client: socket.socket, broker: socket.socket) -> None:
        login: Login | None = None
        inside = self._users is None
        while (frame := _frame(client)) is not None:
            kind, version, number = struct.unpack(">hhi", frame[:8])
            body = frame[10 + max(struct.unpack(">h", frame[8:10])[0], 0) :]
            if self._users is not None and kind == SASL_HANDSHAKE:
                mechanism = body[2:].decode()
                known = mechanism in (*HASHES, "PLAIN", "OAUTHBEARER")
                login = Login(mechanism, self._users)
                _send(client, struct.pack(">ihi", number, 0 if known else UNSUPPORTED, 1) + _text("PLAIN"))
            elif self._users is not None and kind == SASL_AUTHENTICATE:
                assert login is not None
                lifetime = struct.pack(">q", 0) if version else b""
                try:
                    answer = login.step(body[4:])
                except Refusal as error:
                    self.refused.append(str(error))
                    _send(client, struct.pack(">ih", number, REFUSED) + _text("not let in") + _blob(b"") + lifetime)
                    raise
                inside = login.done
                _send(client, struct.pack(">ihh", number, 0, -1) + _blob(answer) + lifetime)
            elif inside or kind == API_VERSIONS:
                self.passed_on += inside
                _send(broker, frame)
            else:
                raise Refusal(f"request {kind} before a login")

    def _answers(self, broker: socket.socket, client: socket.socket) -> None:
        there, here = (LOOPBACK.encode() + struct.pack(">i", port) for port in (self._broker, self.port))
        with contextlib.suppress(OSError):
            while (frame := _frame(broker)) is not None:
                _send(client, frame.replace(there, here))

    def close(self) -> None:
        self._listener.close()
        for end in list(self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _frame(peer: socket.socket) -> bytes | None:
    """The next request or answer, without its length; None at the end, or where this is not Kafka's protocol."""
    head = _exactly(peer, 4)
    size = 0 if head is None else int.from_bytes(head, "big")
    return _exactly(peer, size) if 0 < size <= LARGEST else None


def _exactly(peer: socket.socket, size: int) -> bytes | None:
    found = bytearray()
    while len(found) < size:
        piece = peer.recv(min(size - len(found), 1 << 16))
        if not piece:
            return None
        found += piece
    return bytes(found)


def _send(peer: socket.socket, frame: bytes) -> None:
    peer.sendall(struct.pack(">i", len(frame)) + frame)


def _text(text: str) -> bytes:
    return struct.pack(">h", len(text)) + text.encode()


def _blob(content: bytes) -> bytes:
    return struct.pack(">i", len(content)) + content
