"""The way from a client of confluent-kafka to the C library under it, for the calls that take a batch.

The native core is a plugin of the library (`plugin.library.paths`), which is how librdkafka lets others see its
clients: no private structure of either package is touched. Where the library is not found, or is none of version 2,
everything goes through confluent-kafka message by message, with the same results.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from typing import Any

import confluent_kafka  # loads the library, which the core looks for in the process

from ssm_stream.core import native

PLUGINS = "plugin.library.paths"
SWITCH = "SSM_STREAM_CLIENT"
"""An environment variable: `python` reads and produces message by message, to rule this way out as the cause of a
fault."""


@functools.cache
def is_available() -> bool:
    """Return True if batches go past the interpreter."""
    assert confluent_kafka.libversion()
    return os.environ.get(SWITCH) != "python" and native.librdkafka_version() > 0 and ";" not in native.__file__


def with_plugin(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return the properties of a client that `latest_client` can return."""
    if not is_available():
        return dict(properties)
    others = properties.get(PLUGINS)
    return {**properties, PLUGINS: f"{others};{native.__file__}" if others else native.__file__}


def latest_client() -> int:
    """Return the number of the client that this thread has made just now, by which the core uses it; 0: it cannot."""
    return native.take_latest_client() if is_available() else 0
