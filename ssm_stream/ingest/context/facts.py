"""What joins the facts of context topics to the rows of readings and windows."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config import ConfigError


class JoinFacts(Protocol):
    """Returns what holds at the time of each row."""

    def __call__(
        self, entity: list[str], ts: NDArray[np.int64], came: NDArray[np.int64] | None
    ) -> tuple[NDArray[np.float64], dict[float, str]]:
        """Return the columns (n, k) of `source.context` in its order, codes of texts among them, and their texts.

        Args:
            entity, ts: of n rows, ms
            came: (n,) when the broker got the message that caused each row, ms; not positive, or None: unknown
        """
        ...


def absent_facts(
    entity: list[str], ts: NDArray[np.int64], came: NDArray[np.int64] | None
) -> tuple[NDArray[np.float64], dict[float, str]]:
    """Raise ConfigError: it is not known where the facts are."""
    raise ConfigError(
        "source.context: found where messages come without the facts of that topic; run the flow, or read a recording "
        "of it (ssm-stream record)"
    )


def unknown_facts(columns: int) -> JoinFacts:
    """Return what joins so many columns that are unknown: for those who only count rows."""

    def join(
        entity: list[str], ts: NDArray[np.int64], came: NDArray[np.int64] | None
    ) -> tuple[NDArray[np.float64], dict[float, str]]:
        return np.full((len(entity), columns), np.nan), {}

    return join
