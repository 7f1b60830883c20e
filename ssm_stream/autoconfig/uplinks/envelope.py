"""What a message has of a machine but its measurements: where it is, and the radio link by which it sends.

A latitude and its longitude are known by their names, as a pair; the link by the form of the uplinks that
servers of LoRaWAN send: ChirpStack and The Things Stack.
"""

from __future__ import annotations

import re
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
LINKS = {
    ("deviceInfo.devEui", "object."): re.compile(
        "(dr|adr|fPort|fCnt|confirmed|devAddr|deviceInfo[.]devEui)$|(txInfo|rxInfo)[.[]"
    ),
    ("end_device_ids.dev_eui", "uplink_message.decoded_payload."): re.compile(
        r"end_device_ids\.(dev|join)_(eui|addr)$|uplink_message\.((f_port|f_cnt|consumed_airtime|confirmed)$|(settings|rx_metadata|network_ids)[.[])"
    ),
}
"""Of each form: a path that all uplinks have, the parent of what is measured, and the paths of the link."""
LINK = "of the radio link, not of what is measured: name it under features or categories if it matters"


def link_reason(path: str, found: Mapping[str, Column]) -> str | None:
    """Return why a column is of the radio link of an uplink; None if it is not. found: path → column"""
    for (name, parent), paths in LINKS.items():
        if paths.match(path) and name in found and any(other.startswith(parent) for other in found):
            return LINK
    return None


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
