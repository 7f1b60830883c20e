"""librdkafka's properties in the configuration: which are secret, which are the product's own, what goes together.

`faults` looks at a section's properties before any client exists, and says of each that cannot be right what would be;
`weaknesses` says of those that work and protect less than they seem to. Values of secrets are in neither.
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
"""Properties whose value is a secret: it may stand in no file that is shown around, in no log and in no error."""
HIDDEN_TOO = re.compile(r"oauthbearer\.config$", re.IGNORECASE)
"""Properties that may hold a secret, or not."""
USERINFO = re.compile(r"(?<=://)[^/@\s]+(?=@)")
HIDDEN = "***"

MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")
MECHANISM = ("sasl.mechanism", "sasl.mechanisms")
READABLE = (
    "ssl.ca.location", "ssl.certificate.location", "ssl.key.location", "ssl.keystore.location", "ssl.crl.location",
    "https.ca.location", "sasl.oauthbearer.assertion.private.key.file", "sasl.oauthbearer.assertion.file",
    "sasl.oauthbearer.assertion.jwt.template.file",
)  # fmt: skip
"""Properties that name a file, or a folder."""

_POSITIONS = "positions live in the recovery state, and lag tools are told of them: leave it out"
_TRANSACTIONS = "delivery: exactly_once sets it for each writer: leave it out"
_CODE = "it makes the client run or load what the file names, and a configuration may not execute code: leave it out"
REFUSED = {
    "bootstrap.servers": "name the servers in source.brokers",
    "metadata.broker.list": "name the servers in source.brokers",
    "group.id": "name the group in source.group",
    "group.instance.id": "no group is joined, partitions are assigned: leave it out",
    "auto.offset.reset": "say where to begin in source.start",
    "enable.auto.commit": _POSITIONS,
    "auto.commit.enable": _POSITIONS,
    "auto.commit.interval.ms": _POSITIONS,
    "enable.auto.offset.store": _POSITIONS,
    "enable.partition.eof": "the source needs to know the end of a partition: leave it out",
    "isolation.level": "only what was committed is read: leave it out",
    "transactional.id": _TRANSACTIONS,
    "transaction.timeout.ms": _TRANSACTIONS,
    "delivery.report.only.error": "the sink needs to hear of every failure, and of no success: leave it out",
    "plugin.library.paths": _CODE,
    "ssl.engine.location": _CODE,
    "ssl.engine.id": _CODE,
    "sasl.kerberos.kinit.cmd": _CODE,
    "test.mock.num.brokers": "it replaces the brokers by a mock cluster: leave it out, or try `ssm-stream demo`",
}
"""Properties that the product needs for itself, or that no file may set, and what to do instead."""


def secret(name: str) -> bool:
    """Whether a property's value is a secret."""
    return SECRET.search(name) is not None


def hidden(name: str) -> bool:
    """Whether a property's value is not shown."""
    return secret(name) or HIDDEN_TOO.search(name) is not None


def as_text(value: str | int | float | bool) -> str:
    """A value as librdkafka reads it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def faults(properties: Properties, *, exactly_once: bool = False) -> list[tuple[str, str]]:
    """(property, what is wrong with it and what to do) of all that cannot work.

    Args:
        properties: all that a client gets from the file
        exactly_once: the product's own transactions depend on some of them
    """
    found = [*_refused(properties, exactly_once=exactly_once), *_unknown(properties)]
    if not found:  # what goes together is told once each by itself is right
        found = [*_transport(properties), *_sasl(properties), *_certificates(properties)]
    return found


def weaknesses(properties: Properties) -> list[str]:
    """What works, and protects less than it seems to."""
    found = []
    protocol = protocol_of(properties)
    if protocol.endswith("SSL") and _is(properties, "enable.ssl.certificate.verification", "false", "0", "f"):
        found.append("enable.ssl.certificate.verification: false: the broker may be anyone's; name its CA instead")
    elif protocol.endswith("SSL") and _is(properties, "ssl.endpoint.identification.algorithm", "none"):
        found.append("ssl.endpoint.identification.algorithm: none: any host with a certificate of that CA is believed")
    if protocol == "SASL_PLAINTEXT" and mechanism_of(properties) in ("PLAIN", "OAUTHBEARER"):
        found.append("security.protocol: SASL_PLAINTEXT: what proves who we are goes over the wire in the clear")
    if _is(properties, "enable.sasl.oauthbearer.unsecure.jwt", "true", "1", "t"):
        found.append("enable.sasl.oauthbearer.unsecure.jwt: true: tokens are unsigned, anyone can make them")
    return found


def _is(properties: Properties, name: str, *values: str) -> bool:
    return name in properties and as_text(properties[name]).strip().lower() in values


def protocol_of(properties: Properties) -> str:
    """`security.protocol`, in capitals."""
    return as_text(properties.get("security.protocol", "PLAINTEXT")).strip().upper()


def mechanism_of(properties: Properties) -> str:
    """The SASL mechanism, empty where none is named."""
    return next((as_text(properties[name]).strip() for name in MECHANISM if name in properties), "")


def _refused(properties: Properties, *, exactly_once: bool) -> Iterator[tuple[str, str]]:
    for name in properties:
        if name in REFUSED:
            yield name, f"this may not be set here; {REFUSED[name]}"
    for name in ("acks", "request.required.acks"):
        if _is(properties, name, "0"):
            yield (
                name,
                "found 0, with which losses would go unnoticed; set it to all, or leave it out",
            )
        elif exactly_once and name in properties and not _is(properties, name, "all", "-1"):
            yield name, f"found {properties[name]!r} with delivery: exactly_once, which needs all; leave it out"
    if exactly_once and _is(properties, "enable.idempotence", "false", "0", "f"):
        yield "enable.idempotence", "found false with delivery: exactly_once, which needs it; leave it out"


def _unknown(properties: Properties) -> Iterator[tuple[str, str]]:
    """What librdkafka does not know, or whose value it does not take; asked without making a client."""
    library = _Settings.open()
    if library is None:
        return
    for name, value in properties.items():
        if name in REFUSED:
            continue
        text = "x" if secret(name) else as_text(value)
        if "\0" in name or "\0" in text:
            yield name, "a zero byte cannot be part of it"
            continue
        said = library.refusal(name, text)
        if said is not None:
            why = USERINFO.sub(HIDDEN, said) if not hidden(name) else "librdkafka does not take it"
            yield name, f"{why}; the names and values are in librdkafka's CONFIGURATION.md"


def _transport(properties: Properties) -> Iterator[tuple[str, str]]:
    """Settings of a protection that security.protocol does not switch on: silently, there would be none."""
    protocol = protocol_of(properties)
    if not protocol.startswith("SASL_"):
        for name in sorted(properties):
            if name.startswith(("sasl.", "enable.sasl.")):
                yield name, f"set, but security.protocol is {protocol}, which logs in nowhere; {_instead('SASL_SSL')}"
                break
    if not protocol.endswith("SSL"):
        for name in sorted(properties):
            if name.startswith(("ssl.", "enable.ssl.")):
                better = "SASL_SSL" if protocol.startswith("SASL_") else "SSL"
                yield name, f"set, but security.protocol is {protocol}, which encrypts nothing; {_instead(better)}"
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
    """How a property is to be set."""
    example = re.sub(r"[^A-Z]+", "_", f"KAFKA_{name.rpartition('.')[2]}".upper())
    return f"set {name}: ${{{example}}}" + (f", or ${{file:/run/secrets/{example.lower()}}}" if secret(name) else "")


def _or(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _tokens(properties: Properties, name: str) -> Iterator[tuple[str, str]]:
    """Where the tokens of OAUTHBEARER come from."""
    if not _is(properties, "sasl.oauthbearer.method", "oidc"):
        if not _is(properties, "enable.sasl.oauthbearer.unsecure.jwt", "true", "1", "t"):
            yield (
                name,
                "found 'OAUTHBEARER' without a place to get tokens from; set sasl.oauthbearer.method: oidc, "
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
        yield "sasl.oauthbearer.token.endpoint.url", "the secret would go there in the clear; use an https:// address"


def _certificates(properties: Properties) -> Iterator[tuple[str, str]]:
    for name in READABLE:
        if name not in properties or (name.endswith("ca.location") and _is(properties, name, "probe")):
            continue
        path = Path(as_text(properties[name]))
        why = _unreadable(path, folder_too=name.endswith("ca.location"))
        if why:
            yield name, f"{path}: {why}; correct the path, or let this user read it"
    if "ssl.keystore.location" in properties:
        return
    key = next((n for n in ("ssl.key.location", "ssl.key.pem") if n in properties), None)
    certificate = next((n for n in ("ssl.certificate.location", "ssl.certificate.pem") if n in properties), None)
    if key and not certificate:
        yield key, "a key without its certificate; set ssl.certificate.location or ssl.certificate.pem too"
    if certificate and not key:
        yield certificate, "a certificate without its key; set ssl.key.location or ssl.key.pem too"


def _unreadable(path: Path, *, folder_too: bool) -> str | None:
    """Why a file cannot be read."""
    try:
        if path.is_dir():
            return None if folder_too else "is a folder"
        if not path.exists():
            return "there is no such file"
    except OSError as error:
        return error.strerror or str(error)
    return None if os.access(path, os.R_OK) else "no permission to read it"


def library_files() -> list[str]:
    """Where confluent-kafka's own librdkafka may be, without importing it; last, the system's."""
    found = importlib.util.find_spec("confluent_kafka")
    package = Path(found.origin).parent if found and found.origin else Path()
    # The wheels for Linux carry it beside the package, those for macOS inside; a source build uses the system's.
    bundled = [*package.parent.glob("confluent_kafka.libs/librdkafka*"), *package.glob(".dylibs/librdkafka*.dylib")]
    return [name for name in [*map(str, sorted(bundled)), ctypes.util.find_library("rdkafka")] if name]


class _Settings:
    """librdkafka's own look at properties: settings without a client."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._new, self._set, self._destroy = (
            library.rd_kafka_conf_new, library.rd_kafka_conf_set, library.rd_kafka_conf_destroy,
        )  # fmt: skip
        pointer, text = ctypes.c_void_p, ctypes.c_char_p
        self._new.restype, self._new.argtypes = pointer, []
        self._set.restype, self._set.argtypes = ctypes.c_int, [pointer, text, text, pointer, ctypes.c_size_t]
        self._destroy.restype, self._destroy.argtypes = None, [pointer]

    @classmethod
    def open(cls) -> _Settings | None:
        """None where the library cannot be had this way: then the clients tell, when they are made."""
        for file in library_files():
            try:
                return cls(ctypes.CDLL(file))
            except (OSError, AttributeError):
                continue
        return None

    def refusal(self, name: str, value: str) -> str | None:
        """What librdkafka says against a value; None where it takes it."""
        settings, reason = self._new(), ctypes.create_string_buffer(512)
        try:
            outcome = self._set(settings, name.encode(), value.encode(), reason, len(reason))
        finally:
            self._destroy(settings)
        return reason.value.decode(errors="replace").rstrip(".") if outcome else None
