"""The order of names as people count: press-9 before press-10."""

from __future__ import annotations

import re
from typing import Any

DIGITS = re.compile(r"(\d+)")


def natural_key(name: str) -> list[Any]:
    """Return a key that sorts press-9 before press-10."""
    return [part.casefold() if i % 2 == 0 else int(part[:300]) for i, part in enumerate(DIGITS.split(name))]
