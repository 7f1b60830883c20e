"""librdkafka's properties in the configuration: which are secret, which are forbidden, which need each other.

`find_problems` checks a section's properties before any client exists; `security_warnings` lists those that work and
protect less than they seem to. Values of secrets are in neither.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.util
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

Properties = Mapping[str, str | int | float | bool]

SECRET = re.compile(r"password|passphrase|secret|key\.pem$|user\.info$|auth\.token$|^token$", re.IGNORECASE)
"""Properties whose value is a secret: it may be in no configuration file, log line or error."""
MAYBE_SECRET = re.compile(r"oauthbearer\.config$", re.IGNORECASE)
"""Properties that may hold a secret."""
USERINFO = re.compile(r"(?<=://)[^/@\s]+(?=@)")
REDACTED = "***"

MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")
MECHANISM = ("sasl.mechanism", "sasl.mechanisms")
FILES = (
    "ssl.ca.location", "ssl.certificate.location", "ssl.key.location", "ssl.keystore.location", "ssl.crl.location",
    "https.ca.location", "sasl.oauthbearer.assertion.private.key.file", "sasl.oauthbearer.assertion.file",
    "sasl.oauthbearer.assertion.jwt.template.file",
)  # fmt: skip
"""Properties that name a file, or a folder."""

_POSITIONS = "positions are kept in the recovery state and committed for lag tools: leave it out"
_TRANSACTIONS = "delivery: exactly_once sets it for each writer: leave it out"
_CODE = "it makes the client load or run the file it names, and a configuration may not execute code: leave it out"
FORBIDDEN = {
    "bootstrap.servers": "name the servers in source.brokers",
    "metadata.broker.list": "name the servers in source.brokers",
    "group.id": "name the group in source.group",
    "group.instance.id": "no group is joined, partitions are assigned: leave it out",
    "auto.offset.reset": "set source.start",
    "enable.auto.commit": _POSITIONS,
    "auto.commit.enable": _POSITIONS,
    "auto.commit.interval.ms": _POSITIONS,
    "enable.auto.offset.store": _POSITIONS,
    "enable.partition.eof": "the source sets it: leave it out",
    "isolation.level": "only committed messages are read: leave it out",
    "transactional.id": _TRANSACTIONS,
    "transaction.timeout.ms": _TRANSACTIONS,
    "delivery.report.only.error": "the sink sets it: leave it out",
    "plugin.library.paths": _CODE,
    "ssl.engine.location": _CODE,
    "ssl.engine.id": _CODE,
    "sasl.kerberos.kinit.cmd": _CODE,
    "test.mock.num.brokers": "it replaces the brokers with a mock cluster: leave it out, or try `ssm-stream demo`",
}
"""Properties that ssm-stream sets itself, or that no file may set → what to do instead."""


def is_secret(name: str) -> bool:
    """Return whether a property's value is a secret."""
    return SECRET.search(name) is not None


def is_redacted(name: str) -> bool:
    """Return whether a property's value is never shown."""
    return is_secret(name) or MAYBE_SECRET.search(name) is not None


def as_text(value: str | int | float | bool) -> str:
    """Return a value as librdkafka reads it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def find_problems(properties: Properties, *, exactly_once: bool = False) -> list[tuple[str, str]]:
    """Return (property, what is wrong and the cure) of each property that cannot work.

    Args:
        properties: all that a client gets from the file
        exactly_once: whether transactions are used, which need some of them
    """
    found = [*_forbidden(properties, exactly_once=exactly_once), *_unknown(properties)]
    if not found:  # combinations are checked once each property is valid by itself
        found = [*_transport(properties), *_sasl(properties), *_certificates(properties)]
    return found


def security_warnings(properties: Properties) -> list[str]:
    """Return a sentence for each property that works and protects less than it seems to."""
    found = []
    protocol = protocol_of(properties)
    if protocol.endswith("SSL") and _is(properties, "enable.ssl.certificate.verification", "false", "0", "f"):
        found.append("enable.ssl.certificate.verification: false: the broker is not authenticated; name its CA instead")
    elif protocol.endswith("SSL") and _is(properties, "ssl.endpoint.identification.algorithm", "none"):
        found.append("ssl.endpoint.identification.algorithm: none: any host with a certificate of that CA is accepted")
    if protocol == "SASL_PLAINTEXT" and mechanism_of(properties) in ("PLAIN", "OAUTHBEARER"):
        found.append("security.protocol: SASL_PLAINTEXT: the credentials are sent unencrypted")
    if _is(properties, "enable.sasl.oauthbearer.unsecure.jwt", "true", "1", "t"):
        found.append("enable.sasl.oauthbearer.unsecure.jwt: true: tokens are unsigned, so that anyone can make them")
    return found


def _is(properties: Properties, name: str, *values: str) -> bool:
    return name in properties and as_text(properties[name]).strip().lower() in values


def protocol_of(properties: Properties) -> str:
    """Return `security.protocol`, in capitals."""
    return as_text(properties.get("security.protocol", "PLAINTEXT")).strip().upper()


def mechanism_of(properties: Properties) -> str:
    """Return the SASL mechanism, empty if none is set."""
    return next((as_text(properties[name]).strip() for name in MECHANISM if name in properties), "")


def _forbidden(properties: Properties, *, exactly_once: bool) -> Iterator[tuple[str, str]]:
    for name in properties:
        if name in FORBIDDEN:
            yield name, f"it may not be set here; {FORBIDDEN[name]}"
    for name in ("acks", "request.required.acks"):
        if _is(properties, name, "0"):
            yield (
                name,
                "found 0, with which lost messages would go unnoticed; set it to all, or leave it out",
            )
        elif exactly_once and name in properties and not _is(properties, name, "all", "-1"):
            yield name, f"found {properties[name]!r} with delivery: exactly_once, which needs all; leave it out"
    if exactly_once and _is(properties, "enable.idempotence", "false", "0", "f"):
        yield "enable.idempotence", "found false with delivery: exactly_once, which needs it; leave it out"


def _unknown(properties: Properties) -> Iterator[tuple[str, str]]:
    """Yield the properties, or values, that librdkafka rejects; no client is made for it."""
    library = _LibrdkafkaConf.open()
    if library is None:
        return
    for name, value in properties.items():
        if name in FORBIDDEN:
            continue
        text = "x" if is_secret(name) else as_text(value)
        if "\0" in name or "\0" in text:
            yield name, "it has a zero byte; remove it"
            continue
        reason = library.rejection(name, text)
        if reason is not None:
            shown = USERINFO.sub(REDACTED, reason) if not is_redacted(name) else "librdkafka does not take it"
            yield name, f"{shown}; the names and values are in librdkafka's CONFIGURATION.md"


def _transport(properties: Properties) -> Iterator[tuple[str, str]]:
    """Yield settings of a protection that security.protocol does not switch on, and that would have no effect."""
    protocol = protocol_of(properties)
    if not protocol.startswith("SASL_"):
        for name in sorted(properties):
            if name.startswith(("sasl.", "enable.sasl.")):
                yield name, f"set, but security.protocol is {protocol}, without a login; {_instead('SASL_SSL')}"
                break
    if not protocol.endswith("SSL"):
        for name in sorted(properties):
            if name.startswith(("ssl.", "enable.ssl.")):
                better = "SASL_SSL" if protocol.startswith("SASL_") else "SSL"
                yield name, f"set, but security.protocol is {protocol}, without encryption; {_instead(better)}"
                break


def _instead(protocol: str) -> str:
    return f"set security.protocol: {protocol}, or leave it out"


def _sasl(properties: Properties) -> Iterator[tuple[str, str]]:
    if not protocol_of(properties).startswith("SASL_"):
        return
    mechanism = mechanism_of(properties)
    name = next((name for name in MECHANISM if name in properties), "security.protocol")
    if not mechanism:
        yield name, f"found {protocol_of(properties)} without sasl.mechanism; set it to {_or(MECHANISMS)}"
    elif mechanism == "GSSAPI":
        yield name, f"found 'GSSAPI', which would run kinit as a command; use {_or(MECHANISMS)}"
    elif mechanism not in MECHANISMS:
        near = f"; write {mechanism.upper()}" if mechanism.upper() in MECHANISMS else f"; use {_or(MECHANISMS)}"
        yield name, f"found {mechanism!r}{near}"
    elif mechanism == "OAUTHBEARER":
        yield from _tokens(properties, name)
    else:
        for needed in ("sasl.username", "sasl.password"):
            if not as_text(properties.get(needed, "")):
                yield name, f"found {mechanism!r} without {needed}; {_source(needed)}"


def _source(name: str) -> str:
    """Return how to set a property."""
    example = re.sub(r"[^A-Z]+", "_", f"KAFKA_{name.rpartition('.')[2]}".upper())
    return f"set {name}: ${{{example}}}" + (f", or ${{file:/run/secrets/{example.lower()}}}" if is_secret(name) else "")


def _or(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _tokens(properties: Properties, name: str) -> Iterator[tuple[str, str]]:
    """Yield what OAUTHBEARER lacks to get its tokens."""
    if not _is(properties, "sasl.oauthbearer.method", "oidc"):
        if not _is(properties, "enable.sasl.oauthbearer.unsecure.jwt", "true", "1", "t"):
            yield (
                name,
                "found 'OAUTHBEARER' without a source of tokens; set sasl.oauthbearer.method: oidc, "
                "sasl.oauthbearer.token.endpoint.url, sasl.oauthbearer.client.id and sasl.oauthbearer.client.secret",
            )
        return
    if not _is(properties, "sasl.oauthbearer.metadata.authentication.type", "azure_imds", "azure"):
        needed = ["sasl.oauthbearer.token.endpoint.url"]
        if properties.get("sasl.oauthbearer.grant.type", "client_credentials") == "client_credentials":
            needed += ["sasl.oauthbearer.client.id", "sasl.oauthbearer.client.secret"]
        for each in needed:
            other = each.replace("bearer.client.", "bearer.client.credentials.client.")  # both names are librdkafka's
            if not as_text(properties.get(each, properties.get(other, ""))):
                yield name, f"found 'OAUTHBEARER' with oidc and without {each}; {_source(each)}"
    url = as_text(properties.get("sasl.oauthbearer.token.endpoint.url", "https://"))
    if not url.lower().startswith(("https://", "http://127.0.0.1", "http://localhost", "http://[::1]")):
        yield "sasl.oauthbearer.token.endpoint.url", "the secret would be sent unencrypted; use an https:// address"


def _certificates(properties: Properties) -> Iterator[tuple[str, str]]:
    for name in FILES:
        if name not in properties or (name.endswith("ca.location") and _is(properties, name, "probe")):
            continue
        path = Path(as_text(properties[name]))
        why = _unreadable(path, folder_too=name.endswith("ca.location"))
        if why:
            yield name, f"{path}: {why}; correct the path, or give this user permission to read it"
    if "ssl.keystore.location" in properties:
        return
    key = next((n for n in ("ssl.key.location", "ssl.key.pem") if n in properties), None)
    certificate = next((n for n in ("ssl.certificate.location", "ssl.certificate.pem") if n in properties), None)
    if key and not certificate:
        yield key, "found a key without its certificate; set ssl.certificate.location or ssl.certificate.pem too"
    if certificate and not key:
        yield certificate, "found a certificate without its key; set ssl.key.location or ssl.key.pem too"


def _unreadable(path: Path, *, folder_too: bool) -> str | None:
    """Return why a file cannot be read; None if it can."""
    try:
        if path.is_dir():
            return None if folder_too else "is a folder"
        if not path.exists():
            return "there is no such file"
    except OSError as error:
        return error.strerror or str(error)
    return None if os.access(path, os.R_OK) else "no permission to read it"


def librdkafka_paths() -> Iterator[str]:
    """Yield the paths where confluent-kafka's own librdkafka may be, without importing it; last, the system's."""
    found = importlib.util.find_spec("confluent_kafka")
    package = Path(found.origin).parent if found and found.origin else Path()
    # The wheels for Linux carry it beside the package, those for macOS inside; a source build uses the system's.
    bundled = [*package.parent.glob("confluent_kafka.libs/librdkafka*"), *package.glob(".dylibs/librdkafka*.dylib")]
    yield from map(str, sorted(bundled))
    if system := ctypes.util.find_library("rdkafka"):  # starts compiler and linker: not before the others have failed
        yield system


class _LibrdkafkaConf:
    """librdkafka's own check of properties: a `rd_kafka_conf_t` without a client."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._new, self._set, self._destroy = (
            library.rd_kafka_conf_new, library.rd_kafka_conf_set, library.rd_kafka_conf_destroy,
        )  # fmt: skip
        pointer, text = ctypes.c_void_p, ctypes.c_char_p
        self._new.restype, self._new.argtypes = pointer, []
        self._set.restype, self._set.argtypes = ctypes.c_int, [pointer, text, text, pointer, ctypes.c_size_t]
        self._destroy.restype, self._destroy.argtypes = None, [pointer]

    @classmethod
    def open(cls) -> _LibrdkafkaConf | None:
        """Return None if the library cannot be loaded this way: the clients then check, when they are made."""
        for file in librdkafka_paths():
            try:
                return cls(ctypes.CDLL(file))
            except (OSError, AttributeError):
                continue
        return None

    def rejection(self, name: str, value: str) -> str | None:
        """Return why librdkafka rejects a value; None if it takes it."""
        settings, reason = self._new(), ctypes.create_string_buffer(512)
        try:
            outcome = self._set(settings, name.encode(), value.encode(), reason, len(reason))
        finally:
            self._destroy(settings)
        return reason.value.decode(errors="replace").rstrip(".") if outcome else None
