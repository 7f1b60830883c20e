"""Why a broker's certificate is refused: librdkafka reports every reason in the same, misleading words."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl

from ssm_stream.config import Source
from ssm_stream.config.client_properties import as_text

PORT = 9092
TIMEOUT = 2.0
"""Seconds for the handshake with one broker."""


def certificate_fault(source: Source) -> str | None:
    """Return why the certificate of one of the bootstrap servers is refused; None if no fault is found."""
    try:
        context = _ssl_context(source)
    except (OSError, ValueError):  # ssl.SSLError is an OSError; librdkafka has reported it
        return None
    for server in source.brokers.split(","):
        address = server.strip().rpartition("://")[2]
        host, _, port = address.rpartition(":") if ":" in address.rpartition("]")[2] else (address, "", "")
        host = host.strip("[]")
        try:
            with contextlib.ExitStack() as stack:
                plain = stack.enter_context(socket.create_connection((host, int(port or PORT)), TIMEOUT))
                stack.enter_context(context.wrap_socket(plain, server_hostname=host))
        except ssl.SSLCertVerificationError as error:
            return f"the certificate of {address} is not trusted: {error.verify_message}"
        except (OSError, ValueError):
            continue
    return None


def _ssl_context(source: Source) -> ssl.SSLContext:
    """Return a context with librdkafka's authorities and strictness."""
    kafka = source.kafka
    context = ssl.create_default_context()
    place, text = as_text(kafka.get("ssl.ca.location", "probe")), as_text(kafka.get("ssl.ca.pem", ""))
    if place != "probe" or text:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        folder = os.path.isdir(place)
        if place != "probe":
            context.load_verify_locations(None if folder else place, place if folder else None, text or None)
        else:
            context.load_verify_locations(cadata=text)
    context.check_hostname = as_text(kafka.get("ssl.endpoint.identification.algorithm", "https")) != "none"
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # on by default from Python 3.13; librdkafka has it off
    return context
