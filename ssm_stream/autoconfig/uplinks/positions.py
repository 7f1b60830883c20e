"""Where a machine is: a latitude and its longitude are known by their names, as a pair."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ssm_stream.autoconfig.columns import Column, name_words, word_set

LATITUDES = word_set("lat latitude breitengrad")
LONGITUDES = word_set("lon lng long longitude längengrad laengengrad")
MAX_LATITUDE, MAX_LONGITUDE = 90.0, 180.0
POSITION = (
    "a position: where the machine is, not how it works; it goes wherever it drives, and stands still as it stands. "
    "Name it under features if the place matters"
)


def find_positions(found: Mapping[str, Column]) -> dict[str, str]:
    """Return path → why of latitudes and longitudes, each with the other in the same object and with the same words.

    `lat` alone may be a latency.
    """
    pairs = dict[tuple[str, ...], dict[bool, str]]()
    for path, column in found.items():
        parent, _, own = path.rpartition(".")
        words = name_words(own)
        is_latitude = not LATITUDES.isdisjoint(words)
        if not is_latitude and LONGITUDES.isdisjoint(words):
            continue
        most = MAX_LATITUDE if is_latitude else MAX_LONGITUDE
        numbers = column.numbers[~np.isnan(column.numbers)]
        if column.kind == "number" and len(numbers) and bool(np.all(np.abs(numbers) <= most)):
            others = tuple(word for word in words if word not in LATITUDES | LONGITUDES)
            pairs.setdefault((parent, *others), {})[is_latitude] = path
    return {path: POSITION for pair in pairs.values() if len(pair) == 2 for path in pair.values()}
