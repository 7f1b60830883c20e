"""The sections `state`, `recovery`, `audit` and `ops`: what a running process keeps, and what it reports."""

from __future__ import annotations

import pathlib
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from ssm_stream.config.quantities import Duration
from ssm_stream.config.sections.base import File, Section, nonempty_file

MIN_TOKEN_LENGTH = 16
LOOPBACK = ("127.", "localhost:", "[::1]:")
OBJECT_STORES = ("s3", "gs", "az")
"""Schemes of the URLs of object stores."""


def _store(place: object) -> object:
    """Return a folder as a path, and the URL of an object store as text."""
    nonempty_file(place)
    if not isinstance(place, str) or "://" not in place:
        return pathlib.Path(place) if isinstance(place, str) else place
    scheme, _, rest = place.partition("://")
    if scheme == "file":
        return pathlib.Path(rest)
    if scheme not in OBJECT_STORES or not rest.strip("/"):
        known = ", ".join(f"{each}://BUCKET/PREFIX" for each in OBJECT_STORES)
        raise ValueError(f"found {place!r}; write a folder, or one of {known}")
    return place.rstrip("/")


class State(Section):
    """Where an entity's state lives."""

    shards: Annotated[int, Field(ge=1, le=4096)] = 1
    """Parts that the entities are spread over; fixed for the life of the recovery state. Workers share them: as many as
    the most workers there will be. Entities learn from each other within a shard and a partition of the source."""
    ttl: Duration | None = 90 * 86400.0
    """An entity without events for this long (event time) starts afresh, and its memory is freed with the next
    snapshot; null: never."""
    max_entities: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    """Most entities that have a state at once, of each shard and partition of the source; null: no limit."""
    when_full: Literal["refuse", "evict"] = "refuse"
    """What happens to a new entity then. `refuse`: its events are dead letters until one of the others has had no
    events for `ttl`. `evict`: the one with the oldest last event makes room, and starts afresh should it come back."""
    store: Annotated[pathlib.Path | str | None, BeforeValidator(_store)] = None
    """With `source.assignment: group`: where the partitions' states are, for all processes: a folder, or the URL of an
    object store, `s3://BUCKET/PREFIX` (also `gs://`, `az://`), which needs the extra `store`; null: none."""


class Recovery(Section):
    """What survives a crash."""

    directory: File | None = pathlib.Path("ssm-stream-state")
    """Folder of the snapshots; null: none, every start begins at `source.start`."""
    epoch_interval: Duration | None = None
    """Time between snapshots: at most so much is done again after a crash. Default: 10s; with `delivery: exactly_once`
    1s, as consumers see results when their epoch ends."""
    keep: Duration | None = 7 * 86400.0
    """How long earlier states are kept, for `ssm-stream state rewind`: all of the last hour (one every ten minutes),
    one an hour for a day, then one a day; together in a quarter of the free disk at most. Null: none."""


class Audit(Section):
    """A record of every entity's state after each epoch, for proof of what was predicted from what."""

    directory: File | None = None
    """Folder of the records, a file a shard; null: none. Needs a recovery.directory. With `source.assignment: group` a
    name in the store, such as `audit`: the records move with their partition."""


def _token(token: SecretStr) -> SecretStr:
    if len(token.get_secret_value()) < MIN_TOKEN_LENGTH:
        raise ValueError(f"a token has at least {MIN_TOKEN_LENGTH} characters")
    return token


class Ops(Section):
    """Health and metrics over HTTP, progress in the log, traces and the live page."""

    address: Annotated[str, Field(pattern=r"^(\[[0-9a-fA-F:.]+\]|[^\s:\[\]]+):\d{1,5}$")] | None = "127.0.0.1:9464"
    """`host:port` of `/healthz`, `/readyz`, `/metrics` and `/config`, without encryption or login; null: none. In a
    cluster, process N listens on port + N."""
    traces: Annotated[str, Field(pattern=r"^https?://\S+$")] | None = None
    """Where OpenTelemetry traces go, by OTLP over HTTP, such as `http://localhost:4318/v1/traces`; null: nowhere. Needs
    the extra `otel`. One batch in a hundred is traced, or the share in `OTEL_TRACES_SAMPLER_ARG`."""
    ui: bool = False
    """Serve the live page at `/ui/` of `address`, as `run --ui` does."""
    token: Annotated[SecretStr, AfterValidator(_token)] | None = None
    """Bearer token (`Authorization: Bearer TOKEN`) for the metrics, the configuration and the live page: 16 characters
    or more, only as `${NAME}` or `${file:/path}`. Health needs none. Null: none; but for the page, no token on
    loopback; elsewhere one is made at each start, and logged."""

    @model_validator(mode="after")
    def _usable(self) -> Ops:
        if self.address is not None and not 1 <= int(self.address.rpartition(":")[2]) <= 65535:
            raise ValueError(f"address: found {self.address!r}; a port is a number from 1 to 65535")
        if self.ui and self.address is None:
            raise ValueError("ui: true needs an `address` to be served at; found null")
        return self

    @property
    def open_to_others(self) -> bool:
        """Whether other machines may reach the address."""
        return self.address is not None and not self.address.startswith(LOOPBACK)
