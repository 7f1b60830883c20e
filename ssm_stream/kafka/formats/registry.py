"""Confluent's schema registry: schemas by id, and their registration. It is waited for as a broker is.

A schema never changes, so each is requested once a process, whatever the number of partitions.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import structlog

from ssm_stream.config import Config, Registry
from ssm_stream.config.client_properties import REDACTED
from ssm_stream.kafka.client import STOP, BrokerError

if TYPE_CHECKING:
    from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

LOG = structlog.get_logger("ssm_stream.registry")
T = TypeVar("T")
FIRST_PAUSE, MAX_PAUSE = 0.1, 2.0
"""Seconds between two requests to a registry that does not answer."""
RETRY_UNKNOWN = 10.0
"""Seconds after which a schema that was not there is requested again."""
MAX_UNKNOWN = 1000
"""Ids of schemas that are not there that are kept: bounded, so that unlimited distinct ids cannot exhaust memory."""
NOT_FOUND = (40401, 40402, 40403)
"""The registry's own codes for a subject, a version and a schema that it does not have."""
TRANSIENT = (408, 429)
EXTRA = "pip install 'ssm-stream[registry]'"


class RegistryError(BrokerError):
    """The schema registry cannot be used. The text has the reason and the cure."""


class UnknownSchemaError(ValueError):
    """The registry has no such schema: the messages that name it are dead letters.

    is_answer: it is the registry's answer; False: nothing is at the address, as in a registry that has no GUIDs
    """

    def __init__(self, text: str, *, is_answer: bool) -> None:
        super().__init__(text)
        self.is_answer = is_answer


class FetchedSchema(NamedTuple):
    """A schema of the registry.

    kind: AVRO, PROTOBUF or JSON
    references: name and text of the schemas that it refers to, each after those that it refers to itself
    """

    kind: str
    text: str
    references: tuple[tuple[str, str], ...] = ()


class SchemaRegistry:
    """One registry, for all threads of a process. wait: seconds that it is waited for, `source.wait`"""

    def __init__(self, settings: Registry, wait: float) -> None:
        self.settings, self._wait = settings, wait
        self._lock = threading.RLock()
        self._opened: SchemaRegistryClient | None = None
        self._schemas: dict[int | str, FetchedSchema] = {}
        self._unknown: dict[int | str, tuple[float, str]] = {}
        self._registered: dict[tuple[str, str, str], int] = {}

    def fetch(self, key: int | str) -> FetchedSchema:
        """Return a schema by its id, or by its GUID.

        Raises:
            UnknownSchemaError: the registry has none.
            RegistryError: the registry refuses, or does not answer for `source.wait` seconds.
        """
        with self._lock:
            if (found := self._schemas.get(key)) is not None:
                return found
            since, reason = self._unknown.get(key, (0.0, ""))
            if reason and time.monotonic() - since < RETRY_UNKNOWN:
                raise UnknownSchemaError(reason, is_answer=True)
            try:
                found = self._fetch(key)
            except UnknownSchemaError as error:
                if len(self._unknown) >= MAX_UNKNOWN:
                    self._unknown.clear()
                self._unknown[key] = (time.monotonic(), str(error))
                raise
            self._unknown.pop(key, None)
            self._schemas[key] = found
            return found

    def _fetch(self, key: int | str) -> FetchedSchema:
        where = f"{'GUID' if isinstance(key, str) else 'id'} {key}"

        def request(client: SchemaRegistryClient) -> Schema:
            return client.get_schema_by_guid(key) if isinstance(key, str) else client.get_schema(key)

        schema = self._request(f"schema {where}", request)
        references: dict[str, str] = {}
        self._resolve(schema, references)
        return FetchedSchema((schema.schema_type or "AVRO").upper(), schema.schema_str or "", tuple(references.items()))

    def _resolve(self, schema: Schema, found: dict[str, str], above: tuple[str, ...] = ()) -> None:
        """Add the schemas that a schema refers to, those first that they refer to."""
        for each in schema.references or ():
            name = str(each.name)
            if name in found or name in above:
                continue
            subject, version = str(each.subject), int(each.version or -1)

            def request(client: SchemaRegistryClient, subject: str = subject, version: int = version) -> Schema:
                return client.get_version(subject, version).schema

            inner = self._request(f"subject {subject} version {version}", request)
            self._resolve(inner, found, (*above, name))
            found[name] = inner.schema_str or ""

    def latest(self, subject: str) -> tuple[int, FetchedSchema]:
        """Return the latest schema of a subject, with its id. Raises as `fetch`."""

        def request(client: SchemaRegistryClient) -> int:
            return int(client.get_latest_version(subject).schema_id or 0)

        key = self._request(f"subject {subject}", request)
        return key, self.fetch(key)

    def register(self, subject: str, text: str, kind: str) -> int:
        """Return the id of the schema of a subject: registered, or with `register_schemas: false` found.

        Raises:
            RegistryError: the registry does not answer, refuses, or lacks the schema.
        """
        with self._lock:
            key = (subject, text, kind)
            if key not in self._registered:
                number = self._registered[key] = self._register(subject, text, kind)
                self._schemas[number] = FetchedSchema(kind, text)
            return self._registered[key]

    def _register(self, subject: str, text: str, kind: str) -> int:
        from confluent_kafka.schema_registry import Schema

        def request(client: SchemaRegistryClient) -> int:
            schema = Schema(text, kind)
            if self.settings.register_schemas:
                return int(client.register_schema(subject, schema))
            return int(client.lookup_schema(subject, schema).schema_id or 0)

        try:
            return self._request(f"subject {subject}", request)
        except UnknownSchemaError as error:
            if not error.is_answer:
                raise self._no_registry(str(error)) from None
            cure = "register it: ssm-stream schema prediction (alert) prints it; or set register_schemas: true"
            raise RegistryError(str(error), cure) from None

    def check(self) -> list[str]:
        """Return the kinds of schemas that the registry has: it answers, and lets this user in.

        Raises:
            RegistryError: it does not.
        """

        def request(client: SchemaRegistryClient) -> list[str]:
            return [str(kind) for kind in client.get_schema_types()]

        try:
            return self._request("", request)
        except UnknownSchemaError as error:
            raise self._no_registry(str(error).removeprefix(f"{self._where()}: ")) from None

    def _where(self, what: str = "") -> str:
        return f"schema registry {self.settings.url}{f', {what}' if what else ''}"

    def _client(self) -> SchemaRegistryClient:
        with self._lock:
            if self._opened is None:
                self._opened = self._open()
            return self._opened

    def _open(self) -> SchemaRegistryClient:
        try:
            from confluent_kafka.schema_registry import SchemaRegistryClient
        except ImportError as error:
            raise RegistryError(
                f"schema_registry: the client of the schema registry is not installed ({error.name})",
                f"install it: {EXTRA}; or leave schema_registry out",
            ) from None
        # Requests are repeated here: the client's own repetition cannot be stopped.
        defaults = {"timeout": max(self._wait / 3, 0.5), "max.retries": 0}
        try:
            return SchemaRegistryClient({**defaults, **self.settings.properties, "url": self.settings.url})
        except Exception as error:  # noqa: BLE001  # of properties, and of files that they name
            reason = self._redact(str(error) or type(error).__name__)
            raise RegistryError(
                f"schema_registry.properties: {reason}",
                "correct schema_registry.properties; their names are those of confluent-kafka's SchemaRegistryClient",
            ) from None

    def _request(self, what: str, request: Callable[[SchemaRegistryClient], T]) -> T:
        """Return the registry's answer; repeat the request until `source.wait` is over if it is away, slow or broken.

        Raises:
            UnknownSchemaError: it does not have what is requested.
            RegistryError: it refuses, or gives no answer in time.
        """
        from confluent_kafka.schema_registry.error import SchemaRegistryError

        client = self._client()
        where = self._where(what)
        began, pause, reported = time.monotonic(), FIRST_PAUSE, False
        while True:
            try:
                answer = request(client)
            except SchemaRegistryError as error:
                reason = self._refusal(error, where)
            except Exception as error:  # noqa: BLE001  # the client lets the errors of its HTTP library through
                reason = self._failure(error, where)
            else:
                if reported:
                    LOG.info("registry_back", url=self.settings.url, away_s=round(time.monotonic() - began, 1))
                return answer
            if time.monotonic() - began + pause >= self._wait or STOP.is_set():
                seconds = f"{time.monotonic() - began:.0f} s (source.wait)"
                cure = "start the registry, or correct schema_registry (url, properties)"
                raise RegistryError(f"{where}: no answer for {seconds}: {reason}", cure)
            if not reported:
                LOG.warning("registry_away", url=self.settings.url, what=what or "schema types", error=reason)
                reported = True
            STOP.wait(pause)
            pause = min(2 * pause, MAX_PAUSE)

    def _refusal(self, error: Any, where: str) -> str:
        """Return the reason of an answer after which the request is repeated.

        Raises:
            UnknownSchemaError, RegistryError: of one that stays.
        """
        status, reason = int(error.http_status_code), self._redact(str(error.error_message or "without a reason"))
        text = f"{reason} (HTTP {status})"
        if status == 404:
            raise UnknownSchemaError(f"{where}: {text}", is_answer=error.error_code in NOT_FOUND)
        if status < 500 and status not in TRANSIENT:
            raise RegistryError(f"{where}: {text}", _cure(status))
        return text

    def _failure(self, error: Exception, where: str) -> str:
        """Return the reason of a request that failed.

        Raises:
            RegistryError: of one that would fail again.
        """
        reason = self._redact(str(error) or type(error).__name__)
        if "CERTIFICATE_VERIFY_FAILED" in reason:
            cure = "name the authority that signed it in schema_registry.properties: ssl.ca.location"
            raise RegistryError(f"{where}: {reason}", cure)
        if isinstance(error, ValueError | KeyError | TypeError | AttributeError):
            raise self._no_registry(f"its answer cannot be read: {reason}")
        return reason

    def _no_registry(self, reason: str) -> RegistryError:
        cure = "correct schema_registry.url; of Apicurio it ends with /apis/ccompat/v7"
        return RegistryError(f"{self._where()}: no schema registry is there: {reason}", cure)

    def _redact(self, text: str) -> str:
        for value in self.settings.properties.values():
            if isinstance(value, str) and len(value) > 2:
                text = text.replace(value, REDACTED)
        return text[:500]


def _cure(status: int) -> str:
    if status in (401, 403):
        return (
            "give the login in schema_registry.properties (basic.auth.user.info: ${NAME}), or the user the right to "
            "the subject"
        )
    if status == 409:
        return (
            "the messages have changed in a way that the subject's compatibility forbids: write to another topic, or "
            "change the compatibility"
        )
    return "see the registry's log"


_OPEN: dict[tuple[Any, ...], SchemaRegistry] = {}
_LOCK = threading.Lock()


def open_registry(config: Config) -> SchemaRegistry:
    """Return the registry of a configuration that has one; the same for all of a process."""
    settings = config.schema_registry
    assert settings is not None
    key = (settings.url, settings.register_schemas, config.source.wait, *sorted(settings.properties.items()))
    with _LOCK:
        if key not in _OPEN:
            _OPEN[key] = SchemaRegistry(settings, config.source.wait)
        return _OPEN[key]
