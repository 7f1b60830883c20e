"""A bucket of an object store, by obstore: S3 and what speaks it, Google Cloud Storage, Azure Blob Storage.

A put is atomic, and what was put is read at once. Files that several members may write at the same time are put under a
condition: that there is none yet, or that it is still the one that was read. Addresses and credentials come from the
environment, as the SDKs of these stores have them, or from the machine's role.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import structlog

from ssm_stream.config import ConfigError
from ssm_stream.kafka.client import STOP
from ssm_stream.recovery.bytewax_db import RecoveryError
from ssm_stream.recovery.store.blobs import Blob, StoreAwayError

LOG = structlog.get_logger("ssm_stream.store")
T = TypeVar("T")
ANSWER, TRIES = 30.0, 0.5
"""Seconds in which an answer has to come, and between two tries while the store is away."""
PART = 32 << 20
"""Bytes from which a file goes in parts."""
AT_ONCE = 16
"""Files that are read or written at once."""
ASIDE = "aside"
"""Where former states are, below the flow's prefix: a store has no folders to rename."""
CHANGES = 10
"""Attempts to change a file that others change, too."""
CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the role of the machine or pod; AWS_REGION; and for another "
    "store than Amazon's AWS_ENDPOINT_URL",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or the service account of the machine or pod",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or the identity of the machine or pod",
}
RIGHTS = "it must list, read, write and delete below the prefix"


class ObjectBlobs:
    """The objects below a prefix.

    url: of bucket and prefix; wait: seconds for which calls wait for a store that is away

    Raises:
        ConfigError: the extra is missing.
        RecoveryError: the URL is none.
    """

    def __init__(self, url: str, wait: float) -> None:
        try:
            import obstore
            from obstore.store import from_url
        except ImportError:
            raise ConfigError(f"state.store: {url} needs the extra `store`: pip install 'ssm-stream[store]'") from None
        self.place, self._wait, self._obstore = url, wait, obstore
        endpoint = os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT") or ""
        options: Any = {"timeout": f"{ANSWER:.0f}s", "connect_timeout": "5s"}
        if endpoint.startswith("http://") and url.startswith("s3:"):
            options["allow_http"] = True
        retries: Any = {"max_retries": 0, "retry_timeout": timedelta(seconds=1)}  # `_call` tries again
        try:
            self._store: Any = from_url(url, client_options=options, retry_config=retries)
        except Exception as error:  # obstore's, of many types
            raise RecoveryError(f"state.store: {url}: {_first_line(error)}") from error
        self._pool = ThreadPoolExecutor(AT_ONCE, "objects")

    def draft(self, name: str) -> Path:
        return Path(tempfile.mkdtemp(prefix="ssm-stream-")) / name

    def publish(self, draft: Path, key: str) -> None:
        try:
            self._call(f"write {key}", lambda: self._obstore.put(self._store, key, draft, chunk_size=PART))
        finally:
            shutil.rmtree(draft.parent, ignore_errors=True)

    def write(self, key: str, content: bytes) -> None:
        self._call(f"write {key}", lambda: self._obstore.put(self._store, key, content))

    def create(self, key: str, content: bytes) -> bool:
        return self._put_if(key, content, "create")

    def _put_if(self, key: str, content: bytes, mode: Any) -> bool:
        """Put a file under a condition; return whether it held."""
        lost = self._obstore.exceptions.AlreadyExistsError, self._obstore.exceptions.PreconditionError

        def put() -> bool:
            try:
                self._obstore.put(self._store, key, content, mode=mode)
                return True
            except lost:
                return False

        return self._call(f"write {key}", put)

    def update(self, key: str, change: Callable[[bytes | None], bytes | None]) -> None:
        for _ in range(CHANGES):
            before, mode = self._read(key)
            content = change(before)
            if content is None or self._put_if(key, content, mode):
                return
        raise StoreAwayError(f"state.store: {self.place}/{key}: other members change it all the time: try again")

    def read(self, key: str) -> bytes | None:
        return self._read(key)[0]

    def _read(self, key: str) -> tuple[bytes | None, Any]:
        """Return a file, and the condition under which it is still the same."""

        def get() -> tuple[bytes | None, Any]:
            try:
                found = self._obstore.get(self._store, key)
                mode = {name: found.meta[name] for name in ("e_tag", "version") if found.meta.get(name)}
                return bytes(found.bytes()), mode
            except FileNotFoundError as error:
                if _no_bucket(error):
                    raise
                return None, "create"

        return self._call(f"read {key}", get)

    def find(self, prefix: str) -> list[Blob]:
        def found() -> list[Blob]:
            rows = (row for page in self._store.list(prefix or None) for row in page)
            return sorted(Blob(row["path"], row["size"], row["last_modified"].timestamp()) for row in rows)

        return self._call(f"list {prefix}", found)

    def delete(self, keys: Iterable[str]) -> None:
        some = list(keys)
        if some:
            self._call(f"delete {some[0]}", lambda: self._delete(some))

    def replace(self, keys: Iterable[str], name: str, size: int) -> None:
        self.delete(keys)

    def _delete(self, keys: list[str]) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._obstore.delete(self._store, keys)

    def move_aside(self, stamp: str) -> str:
        for each in self.find(""):
            if not each.key.startswith(f"{ASIDE}/"):
                self._call(f"move {each.key}", lambda key=each.key: self._move(key, f"{ASIDE}/{stamp}/{key}"))  # type: ignore[misc]
        return f"{self.place}/{ASIDE}/{stamp}"

    def _move(self, key: str, target: str) -> None:
        self._obstore.copy(self._store, key, target)
        self._obstore.delete(self._store, [key])

    @contextlib.contextmanager
    def fetch(self, folder: str, names: Sequence[str]) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="ssm-stream-") as temporary:
            local = Path(temporary)
            list(self._pool.map(lambda name: self._fetch(f"{folder}/{name}", local / name), names))
            yield local

    def _fetch(self, key: str, path: Path) -> None:
        def get() -> None:
            try:
                found = self._obstore.get(self._store, key)
            except FileNotFoundError as error:
                if _no_bucket(error):
                    raise
                return
            with path.open("wb") as file:
                for block in found.stream(min_chunk_size=1 << 20):
                    file.write(block)

        self._call(f"read {key}", get)

    def free(self) -> int | None:
        return None

    def drafts(self, older: float) -> list[Path]:
        return []

    def _call(self, what: str, call: Callable[[], T]) -> T:
        """Return the result of a call; while the store is away, try again.

        Raises:
            RecoveryError: it refuses.
            StoreAwayError: it has been away for as long as `source.wait`, or the process ends.
        """
        deadline, away = time.monotonic() + self._wait, False
        while True:
            try:
                found = call()
            except Exception as error:  # of many types
                refused = self._explain(what, error)
                if not isinstance(refused, StoreAwayError) or time.monotonic() > deadline or STOP.is_set():
                    raise refused from error
                if not away:
                    LOG.warning("store_away", error=str(refused), wait_s=self._wait)
                away = True
                STOP.wait(TRIES)
                continue
            if away:
                LOG.info("store_back", store=self.place)
            return found

    def _explain(self, what: str, error: Exception) -> RecoveryError:
        """Return the error with the cure."""
        known, text = self._obstore.exceptions, _first_line(error)
        scheme = self.place.partition(":")[0]
        where = f"state.store: {self.place}: cannot {what}"
        if isinstance(error, RecoveryError):
            return error
        if _no_bucket(error):
            return RecoveryError(f"{where}: there is no such bucket or container: create it, or correct the URL")
        if isinstance(error, known.PermissionDeniedError | known.UnauthenticatedError) or "credential" in text.lower():
            return RecoveryError(
                f"{where}: access is denied ({text}): check {CREDENTIALS.get(scheme, 'the credentials')}; {RIGHTS}"
            )
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError | ConnectionError | TimeoutError):
            return RecoveryError(f"{where}: {error}: drafts are in {tempfile.gettempdir()} (TMPDIR)")
        if isinstance(error, known.NotSupportedError | known.UnknownConfigurationKeyError | known.InvalidPathError):
            return RecoveryError(f"{where}: {text}")
        return StoreAwayError(
            f"{where}: it does not answer as a store does ({text}): is it up, and is the address right "
            f"({CREDENTIALS.get(scheme, '')})?"
        )


def _first_line(error: BaseException) -> str:
    """Return what obstore reports without the source of its error."""
    text = str(error).split("\n\nDebug source")[0].replace("\n", " ").strip()
    return text if len(text) <= 300 else f"{text[:300]}…"


def _no_bucket(error: BaseException) -> bool:
    text = str(error)
    return any(each in text for each in ("NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist"))
